//! What a standby scrapes while another process leads: kept apart from what the leader journals, for a few minutes, so that
//! a takeover leaves no gap.
//!
//! In: scrapes. Out: at a takeover, of each target what was scraped after the last scrape that the leader journaled, as
//! batches of a journal. Invariant: the samples of one target at one time come from one process only; two clocks never
//! mix in one series but at the moment of a takeover.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher, Timestamp};
use crate::rollup::Rollup;
use crate::series::{Config, Head, JournalBatch, JournalReader, Queryable, Select, SeriesRef, Told};
use crate::units::{ByteSize, PromDuration};
use crate::{rollup, series};

/// How long samples stay that nobody but the takeover asks for.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// A scrape that both processes made at the same slot: the leader's is taken.
const SAME_SCRAPE: Duration = Duration::from_millis(500);
/// How far back the last scrape of a target is looked for.
const LOOKBACK: Duration = Duration::from_secs(300);
/// The series that says that a target was scraped.
const UP: &str = "up";

/// A target, by its labels `job` and `instance`.
type Place = (Arc<str>, Arc<str>);

/// The scrapes of a standby.
pub struct Shadow {
    /// Where they are appended.
    pub head: Head,
    /// Where its rules record, for nobody: what the leader's rules record is in the journal.
    pub recorded: Head,
    /// Where their edges are counted, for nobody: the leader's count is taken.
    pub rollup: Rollup,
    batches: Mutex<VecDeque<JournalBatch>>,
}

impl Shadow {
    /// An empty one within the same limits as the memory tier and the rollup.
    pub fn new(series: &series::Config, rollup: &rollup::Config) -> Self {
        let config = Config { memory_window: PromDuration::from(KEPT), exemplars: 0, ..series.clone() };
        let recorded = Head::new(Config { journal_limit_bytes: ByteSize(0), ..config.clone() });
        Self { head: Head::new(config), recorded, rollup: Rollup::new(rollup.clone()), batches: Mutex::default() }
    }

    /// Lets go of what the leader has journaled: whole epochs that ended before `before`. Call it every second or so.
    pub fn trim(&self, before: Timestamp) {
        let mut batches = self.batches.lock();
        while let Some(batch) = self.head.drain_journal() {
            batches.push_back(batch);
        }
        // An epoch can be read from its start only.
        while let Some(next) = batches.iter().skip(1).position(|batch| batch.starts_epoch) {
            let end = next + 1;
            if batches.range(..end).any(|batch| batch.to >= before) {
                return;
            }
            batches.drain(..end);
        }
    }

    /// What was scraped of each target after its last scrape in `leader`, the leader's samples. Of a target that is not
    /// there, what is newer than `newest`.
    pub(super) async fn unseen_by(&self, leader: &Head, newest: Timestamp) -> Result<Vec<JournalBatch>, String> {
        self.trim(Timestamp::MIN);
        let last = last_scrapes(leader, newest).await?;
        let batches: Vec<JournalBatch> = self.batches.lock().iter().cloned().collect();
        let limits = self.head.config().clone();
        let copying = tokio::task::spawn_blocking(move || {
            copy(&batches, limits, |place: &Place| last.get(place).map_or(newest, |at| *at + SAME_SCRAPE))
        });
        copying.await.map_err(|error| error.to_string())
    }
}

/// When each target was last scraped.
async fn last_scrapes(head: &Head, newest: Timestamp) -> Result<HashMap<Place, Timestamp>, String> {
    let up = Matcher::new(MatchOp::Equal, METRIC_NAME, UP).map_err(|error| error.to_string())?;
    let select = Select::new(vec![up], newest - LOOKBACK, newest + LOOKBACK);
    let selection = head.select(select).await.map_err(|error| error.to_string())?;
    let mut last = HashMap::new();
    for series in selection.series {
        if let Some(at) = series.times.last() {
            let known = last.entry(place(&series.labels)).or_insert(*at);
            *known = (*known).max(*at);
        }
    }
    Ok(last)
}

fn place(labels: &Labels) -> Place {
    (labels.value("job").into(), labels.value("instance").into())
}

/// Samples later than what `after` says of their target, as a journal of its own. Batches that cannot be read (their epoch
/// began before memory for them ended) are passed over.
fn copy(batches: &[JournalBatch], limits: Config, after: impl Fn(&Place) -> Timestamp) -> Vec<JournalBatch> {
    let copied = Head::new(Config { memory_window: PromDuration::from(Duration::from_secs(86_400)), ..limits });
    let mut reader = JournalReader::<(Labels, Timestamp), (SeriesRef, Timestamp)>::default();
    let mut row = Vec::new();
    for batch in batches {
        let read = reader.read(
            &batch.bytes,
            Told {
                block: &mut |labels| {
                    let after = after(&place(&labels));
                    (labels, after)
                },
                member: &mut |(labels, after), metric, bucket| {
                    let named = labels.with(METRIC_NAME, metric);
                    let named = if bucket.is_empty() { named } else { named.with("le", bucket) };
                    copied.intern(&named).ok().map(|series| (series, *after))
                },
                row: &mut |at, samples| {
                    row.clear();
                    let new = samples.iter().filter(|((_, after), _)| at > *after);
                    row.extend(new.map(|((series, _), value)| (*series, *value)));
                    if !row.is_empty() {
                        copied.append_at(at, &row);
                    }
                },
            },
        );
        if let Err(error) = read {
            tracing::debug!("scrapes before the takeover cannot be read: {error}");
        }
    }
    std::iter::from_fn(|| copied.drain_journal()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn labels(instance: &str, name: &str) -> Labels {
        Labels::from_pairs([(METRIC_NAME, name), ("job", "j"), ("instance", instance)])
    }

    fn scrape(head: &Head, instance: &str, at: i64, value: f64) {
        let series = |name| head.intern(&labels(instance, name)).unwrap();
        head.append_at(Timestamp::from_millis(at), &[(series("c"), value), (series(UP), 1.0)]);
    }

    #[tokio::test]
    async fn a_takeover_gets_what_the_leader_did_not_journal_of_each_target_and_nothing_twice() {
        let shadow = Shadow::new(&Config::default(), &rollup::Config::default());
        let leader = Head::new(Config::default());
        for second in 1..=10 {
            scrape(&shadow.head, "a", second * 1000 + 3, second as f64);
            scrape(&shadow.head, "b", second * 1000 + 500, second as f64);
        }
        shadow.trim(Timestamp::from_millis(4000));
        (1..=8).for_each(|second| scrape(&leader, "a", second * 1000, second as f64));
        (1..=6).for_each(|second| scrape(&leader, "b", second * 1000 + 500, second as f64));
        let unseen = shadow.unseen_by(&leader, Timestamp::from_millis(8000)).await.unwrap();
        let (merged, mut seen) = (Head::new(Config::default()), Vec::new());
        for batch in &unseen {
            merged
                .replay_to(&batch.bytes, true, |at, row| {
                    let instance = merged.labels(row[0].0).unwrap().value("instance").to_owned();
                    seen.push((instance, at.as_millis(), row.len()));
                })
                .unwrap();
        }
        seen.sort();
        let expect = [("a", 9003), ("a", 10_003), ("b", 7500), ("b", 8500), ("b", 9500), ("b", 10_500)];
        let expect: Vec<_> = expect.map(|(instance, at)| (instance.to_owned(), at, 2)).into();
        assert_eq!(seen, expect);
    }
}
