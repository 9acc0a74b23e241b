//! How much memory the pages under way may take together, so that many huge pages at once cannot exhaust it.
//!
//! Invariant: every page may have its first mebibyte whatever others hold, so huge pages never fail small ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What every page may have without asking.
const FREE_BYTES: u64 = 1 << 20;

/// What is left of the memory for pages. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct PageMemory {
    used: Arc<AtomicU64>,
    limit_bytes: u64,
}

/// What one scrape holds; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: PageMemory,
    bytes: u64,
}

impl PageMemory {
    /// Memory of that many bytes.
    pub fn new(limit_bytes: u64) -> Self {
        Self { used: Arc::default(), limit_bytes }
    }

    /// A scrape that holds nothing yet.
    pub fn reserve(&self) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }
}

impl Reservation {
    /// Makes sure that the scrape may hold `bytes` in all.
    ///
    /// # Errors
    /// The limit, when pages under way already hold too much.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), u64> {
        let wanted = bytes.saturating_sub(FREE_BYTES);
        let more = wanted.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let limit_bytes = self.memory.limit_bytes;
        let take = |used: u64| used.checked_add(more).filter(|used| *used <= limit_bytes);
        match self.memory.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => {
                self.bytes = wanted;
                Ok(())
            }
            Err(_) => Err(limit_bytes),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pages_share_the_limit_and_small_ones_always_fit() {
        let memory = PageMemory::new(10 << 20);
        let (mut first, mut second) = (memory.reserve(), memory.reserve());
        assert_eq!((first.grow_to(8 << 20), second.grow_to(4 << 20)), (Ok(()), Ok(())));
        assert_eq!((second.grow_to(5 << 20), second.grow_to(3 << 20)), (Err(10 << 20), Ok(())));
        assert_eq!((memory.reserve().grow_to(1 << 20), memory.reserve().grow_to(2 << 20)), (Ok(()), Err(10 << 20)));
        drop(first);
        assert_eq!((second.grow_to(11 << 20), second.grow_to(12 << 20)), (Ok(()), Err(10 << 20)));
        drop(second);
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }
}
