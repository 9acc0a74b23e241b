//! Exemplars on their way to one receiver.
//!
//! In: those that the memory tier keeps, from when the remote was made on. Out: each beside a sample of its series, since
//! remote write 2.0 takes none alone. Invariant: what waits is bounded; past the limit all of it goes and is counted.

use std::collections::HashMap;

use super::series::{Member, Sample};
use crate::model::Labels;
use crate::series::{self, Exemplar};

/// Most exemplars that wait for a sample of their series.
const WAITING_MAX: usize = 10_000;

/// What waits for one receiver.
#[derive(Default)]
pub(super) struct Waiting {
    /// How many had come when it was last looked.
    seen: u64,
    by_hash: HashMap<u64, (Member, Vec<Exemplar>)>,
    count: usize,
}

impl Waiting {
    /// Waits for what comes from now on.
    pub(super) fn from_now(kept: &series::Exemplars) -> Self {
        Self { seen: kept.total(), ..Self::default() }
    }

    /// Takes what has come; `as_sent` says how a series is sent. How many had to go.
    pub(super) fn take_new(&mut self, kept: &series::Exemplars, as_sent: impl Fn(&Labels) -> Option<Member>) -> usize {
        let (new, seen) = kept.since(self.seen);
        self.seen = seen;
        for (series, exemplar) in new {
            let Some(member) = as_sent(&series) else { continue };
            let (_, exemplars) = self.by_hash.entry(member.hash).or_insert_with(|| (member, Vec::new()));
            exemplars.push(exemplar);
            self.count += 1;
        }
        if self.count <= WAITING_MAX {
            return 0;
        }
        self.by_hash = HashMap::new();
        std::mem::take(&mut self.count)
    }

    /// Gives exemplars to the first samples of their series.
    pub(super) fn attach(&mut self, samples: &mut [Sample]) {
        for sample in samples {
            if self.by_hash.is_empty() {
                return;
            }
            let is_its = |(member, _): &(Member, Vec<Exemplar>)| *member == *sample.series;
            if self.by_hash.get(&sample.series.hash).is_some_and(is_its)
                && let Some((_, exemplars)) = self.by_hash.remove(&sample.series.hash)
            {
                self.count -= exemplars.len();
                sample.exemplars = Some(exemplars.into());
            }
        }
    }
}
