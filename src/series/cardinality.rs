//! What the memory tier's series are made of, and what dropping a part of it would save.
//!
//! In: the index. Out: a [`CardinalityReport`]. The index is copied in numbers under its lock and counted after, so that
//! a report holds up no scrape for longer than the copy. Invariant: savings are counted, not estimated, in series; in
//! bytes they are that share of the memory tier.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::head::Head;
use super::symbols::Hasher;

/// How long a report is good for: it walks all series, and pages ask for it again and again.
const FRESH: Duration = Duration::from_secs(15);
/// Most entries of each list.
pub const REPORT_LIMIT: usize = 1000;

/// One part of all series, and what it costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub name: String,
    /// Series it has.
    pub series: u64,
    /// Bytes of memory they take, as their share of all.
    pub bytes: u64,
}

/// One label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelShare {
    /// Its name.
    pub name: String,
    /// Its distinct values.
    pub values: u64,
    /// Bytes of those values.
    pub value_bytes: u64,
    /// Series that have it.
    pub series: u64,
    /// Series fewer if it were dropped everywhere, because that makes them equal to others.
    pub series_saved: u64,
    /// Bytes of memory they take, as their share of all.
    pub bytes_saved: u64,
}

/// What series are made of, the costliest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardinalityReport {
    /// All series.
    pub series: u64,
    /// Bytes of the memory tier.
    pub bytes: u64,
    /// By metric name; dropping the metric saves what is said.
    pub metrics: Vec<Share>,
    /// By label, those first that save most.
    pub labels: Vec<LabelShare>,
    /// By the workload that reports them (`namespace/name`; the job of what is no mesh metric).
    pub workloads: Vec<Share>,
    /// By `job instance`.
    pub targets: Vec<Share>,
}

/// The last report, and the counts of new series.
#[derive(Default)]
pub(super) struct Reports {
    last: parking_lot::Mutex<Option<(Instant, Arc<CardinalityReport>)>>,
    created: parking_lot::Mutex<std::collections::VecDeque<(Instant, u64)>>,
}

/// A label block in numbers: its labels and its series as (metric, `le`).
pub(super) struct BlockCopy {
    pub(super) pairs: Box<[(u32, u32)]>,
    pub(super) series: Vec<(u32, u32)>,
}

/// All of the index that a report needs.
pub(super) struct IndexCopy {
    pub(super) blocks: Vec<BlockCopy>,
    pub(super) texts: HashMap<u32, Arc<str>>,
}

impl Head {
    /// What series are made of; at most a quarter of a minute old. Walks all series: for blocking threads.
    pub fn cardinality_report(&self) -> Arc<CardinalityReport> {
        let mut last = self.0.reports.last.lock(); // held on purpose: one report at a time
        if let Some((at, report)) = &*last
            && at.elapsed() < FRESH
        {
            return Arc::clone(report);
        }
        let bytes = self.stats().bytes as u64;
        let copy = self.0.index.read().copy();
        let report = Arc::new(report(&copy, bytes));
        *last = Some((Instant::now(), Arc::clone(&report)));
        report
    }

    /// Notes how many series have been made so far; call it every few seconds.
    pub fn note_created_series(&self) {
        let created = self.0.counters.series_created.load(std::sync::atomic::Ordering::Relaxed);
        let (mut notes, now) = (self.0.reports.created.lock(), Instant::now());
        while notes.len() > 1 && notes[1].0 + NEW_SERIES_SPAN <= now {
            notes.pop_front();
        }
        notes.push_back((now, created));
    }

    /// New series a minute, over the last five minutes or since the start.
    pub fn new_series_per_minute(&self) -> f64 {
        let notes = self.0.reports.created.lock();
        let (Some((from, before)), Some((to, after))) = (notes.front(), notes.back()) else { return 0.0 };
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds > 0.0 { (after - before) as f64 * 60.0 / seconds } else { 0.0 }
    }
}

/// Over how long new series are counted.
const NEW_SERIES_SPAN: Duration = Duration::from_secs(300);

fn report(copy: &IndexCopy, bytes: u64) -> CardinalityReport {
    let series: u64 = copy.blocks.iter().map(|block| block.series.len() as u64).sum();
    let share = |count: u64| (u128::from(bytes) * u128::from(count) / u128::from(series.max(1))) as u64;
    let text = |symbol: u32| copy.texts.get(&symbol).map_or("", |text| &**text);
    let mut metrics: HashMap<u32, u64> = HashMap::new();
    let (mut workloads, mut targets) = (HashMap::<String, u64>::new(), HashMap::<String, u64>::new());
    for block in &copy.blocks {
        for (metric, _) in &block.series {
            *metrics.entry(*metric).or_default() += 1;
        }
        let labels: HashMap<&str, &str> = block.pairs.iter().map(|(n, v)| (text(*n), text(*v))).collect();
        let count = block.series.len() as u64;
        *workloads.entry(workload(&labels)).or_default() += count;
        let of = |name: &str| labels.get(name).copied().unwrap_or_default();
        let target = format!("{} {}", of("job"), of("instance"));
        *targets.entry(target.trim().to_owned()).or_default() += count;
    }
    let metrics = metrics.into_iter().map(|(symbol, count)| (text(symbol).to_owned(), count));
    let list = |counts: Vec<(String, u64)>| {
        let mut shares: Vec<Share> =
            counts.into_iter().map(|(name, series)| Share { name, series, bytes: share(series) }).collect();
        shares.sort_by(|a, b| b.series.cmp(&a.series).then_with(|| a.name.cmp(&b.name)));
        shares.truncate(REPORT_LIMIT);
        shares
    };
    CardinalityReport {
        series,
        bytes,
        metrics: list(metrics.collect()),
        labels: labels(copy, share),
        workloads: list(workloads.into_iter().collect()),
        targets: list(targets.into_iter().collect()),
    }
}

/// Who reports the series of a block: Istio's reporter, Linkerd's workload, else the job.
fn workload(labels: &HashMap<&str, &str>) -> String {
    let of = |name: &str| labels.get(name).copied().filter(|value| !value.is_empty());
    let side = match of("reporter") {
        Some("source" | "waypoint") => Some(("source_workload", "source_workload_namespace")),
        Some("destination") => Some(("destination_workload", "destination_workload_namespace")),
        _ => ["deployment", "statefulset", "daemonset", "workload"]
            .into_iter()
            .find(|kind| of(kind).is_some())
            .map(|kind| (kind, "namespace")),
    };
    let name = side.and_then(|(name, namespace)| Some((of(name)?, of(namespace))));
    match name {
        Some((name, Some(namespace))) => format!("{namespace}/{name}"),
        Some((name, None)) => name.to_owned(),
        None => of("job").unwrap_or("").to_owned(),
    }
}

fn labels(copy: &IndexCopy, share: impl Fn(u64) -> u64) -> Vec<LabelShare> {
    let mut blocks_with: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut values: HashMap<u32, HashSet<u32>> = HashMap::new();
    for (at, block) in copy.blocks.iter().enumerate() {
        for (name, value) in &block.pairs {
            blocks_with.entry(*name).or_default().push(at as u32);
            values.entry(*name).or_default().insert(*value);
        }
    }
    let all_hashes: Vec<u64> = copy.blocks.iter().map(|block| hash_without(block, None)).collect();
    let length = |symbol: &u32| copy.texts.get(symbol).map_or(0, |text| text.len() as u64);
    let text = |symbol: &u32| copy.texts.get(symbol).map_or_else(String::new, |text| text.to_string());
    let mut found: Vec<LabelShare> = (blocks_with.iter())
        .map(|(name, with)| {
            let saved = saved_without(copy, *name, with, &all_hashes);
            LabelShare {
                name: text(name),
                values: values[name].len() as u64,
                value_bytes: values[name].iter().map(length).sum(),
                series: with.iter().map(|at| copy.blocks[*at as usize].series.len() as u64).sum(),
                series_saved: saved,
                bytes_saved: share(saved),
            }
        })
        .collect();
    found.sort_by(|a, b| {
        (b.series_saved, b.values, b.value_bytes)
            .cmp(&(a.series_saved, a.values, a.value_bytes))
            .then_with(|| a.name.cmp(&b.name))
    });
    found.truncate(REPORT_LIMIT);
    found
}

/// How many series fewer there would be without that label: only blocks that become equal can have equal series.
fn saved_without(copy: &IndexCopy, name: u32, with: &[u32], all_hashes: &[u64]) -> u64 {
    let mut alike: HashMap<u64, Vec<u32>, Hasher> = HashMap::default();
    for at in with {
        alike.entry(hash_without(&copy.blocks[*at as usize], Some(name))).or_default().push(*at);
    }
    let has = |block: &BlockCopy| block.pairs.iter().any(|(label, _)| *label == name);
    for (at, hash) in all_hashes.iter().enumerate() {
        if let Some(equal) = alike.get_mut(hash)
            && !has(&copy.blocks[at])
        {
            equal.push(at as u32); // a block that never had the label may be what others become
        }
    }
    let mut saved = 0;
    for equal in alike.values().filter(|equal| equal.len() > 1) {
        let members = || equal.iter().flat_map(|at| copy.blocks[*at as usize].series.iter());
        let distinct: HashSet<&(u32, u32), Hasher> = members().collect();
        saved += members().count() as u64 - distinct.len() as u64;
    }
    saved
}

fn hash_without(block: &BlockCopy, name: Option<u32>) -> u64 {
    let kept: Vec<&(u32, u32)> = block.pairs.iter().filter(|(label, _)| Some(*label) != name).collect();
    Hasher::default().hash_one(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use crate::series::Config;

    fn head(series: &[&[(&str, &str)]]) -> Head {
        let head = Head::new(Config::default());
        for labels in series {
            head.intern(&Labels::from_pairs(labels.iter().copied())).expect("room");
        }
        head
    }

    #[test]
    fn says_what_each_metric_label_workload_and_target_costs() {
        let mut series: Vec<Vec<(&str, &str)>> = Vec::new();
        for pod in ["p1", "p2", "p3"] {
            for le in ["1", "+Inf"] {
                series.push(vec![("__name__", "h_bucket"), ("job", "j"), ("pod", pod), ("le", le)]);
            }
        }
        series.push(vec![("__name__", "h_bucket"), ("job", "j"), ("le", "1")]); // what the others become
        let istio = [("__name__", "r"), ("reporter", "source"), ("source_workload", "web")];
        series.push(istio.into_iter().chain([("source_workload_namespace", "shop"), ("instance", "i:1")]).collect());
        let head = head(&series.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let report = head.cardinality_report();
        let count = |list: &[Share]| list.iter().map(|s| (s.name.clone(), s.series)).collect::<Vec<_>>();
        assert_eq!(report.series, 8);
        assert_eq!(count(&report.metrics), [("h_bucket".to_owned(), 7), ("r".to_owned(), 1)]);
        assert_eq!(count(&report.workloads), [("j".to_owned(), 7), ("shop/web".to_owned(), 1)]);
        assert_eq!(count(&report.targets), [("j".to_owned(), 7), ("i:1".to_owned(), 1)]);
        let pod = &report.labels[0];
        // Without pod two series are left of seven.
        assert_eq!((pod.name.as_str(), pod.values, pod.value_bytes, pod.series, pod.series_saved), ("pod", 3, 6, 6, 5));
        assert_eq!(pod.bytes_saved, report.bytes * 5 / 8);
        assert!(report.labels[1..].iter().all(|label| label.series_saved == 0), "{:?}", report.labels);
        assert_eq!(report.metrics.iter().map(|m| m.bytes).max(), Some(report.bytes * 7 / 8));
    }

    #[tokio::test(start_paused = true)]
    async fn counts_new_series_over_the_last_five_minutes_and_keeps_a_report_a_while() {
        let head = head(&[&[("__name__", "a")]]);
        head.note_created_series();
        assert_eq!(head.new_series_per_minute(), 0.0);
        for i in 0..120 {
            head.intern(&Labels::from_pairs([("__name__", format!("m{i}"))])).expect("room");
            tokio::time::advance(Duration::from_secs(5)).await;
            head.note_created_series();
            assert_eq!(head.new_series_per_minute(), 12.0);
        }
        let report = head.cardinality_report();
        head.intern(&Labels::from_pairs([("__name__", "late")])).expect("room");
        assert!(Arc::ptr_eq(&report, &head.cardinality_report()));
        tokio::time::advance(FRESH).await;
        assert_eq!(head.cardinality_report().series, 122);
    }
}
