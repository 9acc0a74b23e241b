//! Requests of spans and log records that came already: a sender that did not hear its answer sends the same bytes again.
//!
//! In: what a body hashes to. Out: where the verdict on its first coming comes out. Invariant: a request whose first coming is
//! stored, or on its way to the store, is neither counted nor stored a second time; a bounded number is remembered.

use std::collections::{HashMap, VecDeque};

use xxhash_rust::xxh64::xxh64;

use crate::batching::{Verdict, Waiting};

/// Requests remembered, the last ones: about 6 MB. At 100,000 spans a second in requests of 512 that is five minutes, longer
/// than an exporter tries again.
const REMEMBERED: usize = 1 << 16;

/// What tells a request from others: the hash of its decompressed body, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint {
    hash: u64,
    length: usize,
}

impl Fingerprint {
    /// Of that body. What is sent again by another protocol is another request.
    pub(super) fn of(body: &[u8]) -> Self {
        Self { hash: xxh64(body, 0), length: body.len() }
    }
}

/// The last requests.
#[derive(Debug, Default)]
pub(super) struct Known {
    verdicts: HashMap<Fingerprint, Waiting>,
    /// In the order they came.
    order: VecDeque<Fingerprint>,
}

impl Known {
    /// Where the verdict on the first coming of this request comes out. `None`: it is new, or what came first is lost.
    pub(super) fn verdict_of(&self, request: Fingerprint) -> Option<Waiting> {
        self.verdicts.get(&request).filter(|first| first.settled() != Some(Verdict::Lost)).cloned()
    }

    /// Remembers a request; the oldest makes room.
    pub(super) fn remember(&mut self, request: Fingerprint, verdict: Waiting) {
        if self.verdicts.insert(request, verdict).is_some() {
            return; // it keeps its place in the order
        }
        self.order.push_back(request);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.verdicts.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batching::Receipt;

    #[test]
    fn a_request_is_known_until_it_is_lost_or_many_came_after_it() {
        let mut known = Known::default();
        let first = Fingerprint::of(b"first");
        assert!(known.verdict_of(first).is_none());
        let (receipt, waiting) = Receipt::new();
        known.remember(first, waiting);
        assert!(known.verdict_of(first).is_some_and(|waiting| waiting.settled().is_none()), "on its way");
        receipt.settle(Verdict::Stored);
        assert!(known.verdict_of(first).is_some_and(|waiting| waiting.settled() == Some(Verdict::Stored)));

        let lost = Fingerprint::of(b"lost");
        known.remember(lost, Receipt::new().1); // its receipt is dropped
        assert!(known.verdict_of(lost).is_none());
        let (again, waiting) = Receipt::new();
        known.remember(lost, waiting);
        assert!(known.verdict_of(lost).is_some(), "it came again");
        again.settle(Verdict::Stored);

        for number in 0..REMEMBERED as u64 {
            known.remember(Fingerprint::of(&number.to_le_bytes()), Receipt::new().1);
        }
        assert!(known.verdict_of(first).is_none() && known.verdict_of(lost).is_none());
        assert_eq!((known.order.len(), known.verdicts.len()), (REMEMBERED, REMEMBERED));
    }
}
