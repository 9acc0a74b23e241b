//! Requests of spans and log records that came already: a sender that did not hear its answer sends the same bytes again.
//!
//! In: what a body hashes to. Out: where the verdict on its first coming comes out. Invariant: a request whose first coming is
//! stored, or on its way to the store, is neither counted nor stored a second time; a bounded number is remembered.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;

use crate::batching::{Verdict, Waiting};
use crate::wire::Value;

/// Requests remembered, the last ones: about 6 MB. At 100,000 spans a second in requests of 512 that is five minutes, longer
/// than an exporter tries again.
const REMEMBERED: usize = 1 << 16;

/// What tells a request from others: the hash of its decompressed body, and its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint {
    hash: u64,
    length: usize,
}

impl Fingerprint {
    /// Of that body. What is sent again by another protocol is another request.
    pub(super) fn of(body: &[u8]) -> Self {
        let mut fingerprint = Self::default();
        fingerprint.join(0, body);
        fingerprint
    }

    /// A message begins or ends: what belongs together tells requests apart too.
    pub(super) fn bound(&mut self) {
        self.join(0, &[]);
    }

    /// Takes in a part of a message as it stands.
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.join(0, bytes);
    }

    /// Takes in attributes of so many bytes by what tells their list from others.
    pub(super) fn add_list(&mut self, list: ListHash, bytes: usize) {
        self.join(0, &list.0.to_le_bytes());
        self.length += bytes;
    }

    /// Takes in a field, as it is read, in the order of the body.
    pub(super) fn add(&mut self, (number, value): (u32, Value<'_>)) {
        match value {
            Value::Bytes(bytes) => self.join(number, bytes),
            Value::Varint(bits) | Value::Fixed64(bits) => self.join(number, &bits.to_le_bytes()),
            Value::Other => self.join(number, &[]),
        }
    }

    fn join(&mut self, number: u32, bytes: &[u8]) {
        self.hash = foldhash::quality::FixedState::default().hash_one((self.hash, number, bytes));
        self.length += bytes.len();
    }
}

/// What tells a list of attributes from others of the same request, made of a number for each: the hash of its bytes where it
/// comes first, and later where it stands among those that came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ListHash(u64);

impl ListHash {
    /// Takes in the next attribute.
    pub(super) fn add(&mut self, number: u64) {
        /// As rustc hashes its own integers: for a fixed state each number gives another state, and the other way round.
        const ODD: u64 = 0xf135_7aea_2e62_a9c5;
        self.0 = (self.0.rotate_left(26) ^ number).wrapping_mul(ODD);
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
