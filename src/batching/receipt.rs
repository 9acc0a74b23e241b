//! What a sender is told of its request: one verdict, when the last part of it is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tokio::sync::watch;

/// What became of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The store has them: they outlive this process.
    Stored,
    /// They will never be stored; sending them again would not help.
    Refused,
    /// They are not stored, and may be when they are sent again.
    Lost,
}

/// One part of a request. Its clones are further parts. A part that is dropped without a verdict is lost.
#[derive(Debug)]
pub struct Receipt {
    request: Arc<Request>,
    verdict: Verdict,
}

/// Where the verdict comes out. Clones hear the same.
#[derive(Clone, Debug)]
pub struct Waiting(watch::Receiver<Option<Verdict>>);

#[derive(Debug)]
struct Request {
    worst: AtomicU8,
    tell: Option<watch::Sender<Option<Verdict>>>,
}

impl Receipt {
    /// The first part of a request, and where its verdict comes out.
    pub fn new() -> (Self, Waiting) {
        let (tell, told) = watch::channel(None);
        (Self::of(Some(tell)), Waiting(told))
    }

    /// For items that nobody waits for.
    pub fn unwatched() -> Self {
        Self::of(None)
    }

    fn of(tell: Option<watch::Sender<Option<Verdict>>>) -> Self {
        let request = Arc::new(Request { worst: AtomicU8::new(Verdict::Stored as u8), tell });
        Self { request, verdict: Verdict::Lost }
    }

    /// Says what became of this part. The sender hears the worst verdict when all parts have theirs.
    pub fn settle(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Clone for Receipt {
    fn clone(&self) -> Self {
        Self { request: Arc::clone(&self.request), verdict: Verdict::Lost }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // The count of the `Arc` orders this before the last drop, which reads it.
        self.request.worst.fetch_max(self.verdict as u8, Relaxed);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let worst = [Verdict::Stored, Verdict::Refused].into_iter().find(|one| *one as u8 == *self.worst.get_mut());
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(Some(worst.unwrap_or(Verdict::Lost))); // the sender may have left
        }
    }
}

impl Waiting {
    /// Waits for the verdict.
    pub async fn verdict(mut self) -> Verdict {
        self.0.wait_for(Option::is_some).await.ok().and_then(|verdict| *verdict).unwrap_or(Verdict::Lost)
    }

    /// The verdict, when it is there.
    pub fn settled(&self) -> Option<Verdict> {
        *self.0.borrow()
    }
}
