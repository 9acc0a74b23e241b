//! Restarts: what is replayed from a journal is what was counted, and what is not written stays.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::model::{METRIC_NAME, is_stale};
use crate::series::{self, Head, JournalBatch, SeriesRef};

const MINUTE_MS: i64 = 60_000;
const GAP_MS: i64 = 300_000;
/// Series of each target: two codes of one caller, one of another.
const SERIES: [(&str, &str); 3] = [("web", "200"), ("web", "500"), ("api", "200")];

fn config() -> Config {
    Config { keep: Duration::from_secs(6 * 3600).into(), ..Config::default() }
}

fn target(number: usize) -> Labels {
    [("job", "mesh".to_owned()), ("instance", format!("pod-{number}"))].iter().map(|(n, v)| (*n, v.as_str())).collect()
}

fn labels(number: usize, of: usize) -> Labels {
    let (source, code) = SERIES[of];
    istio_series("istio_requests_total", &[("source_workload", source), ("response_code", code)])
        .merged(&target(number))
}

/// What one target shows next.
#[derive(Clone, Debug)]
enum Shown {
    /// So much more of each series; `None`: the series is not on the page.
    Page([Option<u32>; 3]),
    /// The process behind it began anew: each counts from zero.
    Restarted([Option<u32>; 3]),
    /// The page of before again, with the time of before or an earlier one.
    Late(i64),
    Failed,
}

#[derive(Clone, Debug)]
enum Step {
    Scrape {
        target: usize,
        after_ms: i64,
        shown: Shown,
    },
    Journal,
    /// Without `all`, what was not journaled is lost.
    Restart {
        all: bool,
        after_ms: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let page = || prop::array::uniform3(prop::option::weighted(0.8, 0..300_u32));
    let shown = prop_oneof![
        12 => page().prop_map(Shown::Page),
        1 => page().prop_map(Shown::Restarted),
        1 => (0..30_000_i64).prop_map(Shown::Late),
        2 => Just(Shown::Failed),
    ];
    let scrape = (0..2_usize, 1..40_000_i64, shown);
    prop_oneof![
        16 => scrape.prop_map(|(target, after_ms, shown)| Step::Scrape { target, after_ms, shown }),
        3 => Just(Step::Journal),
        2 => (any::<bool>(), 1..400_000_i64).prop_map(|(all, after_ms)| Step::Restart { all, after_ms }),
    ]
}

/// A series' samples and a target's good scrapes, as far as they are durable: what truth is computed from.
#[derive(Clone, Default)]
struct Raw {
    samples: BTreeMap<(usize, usize), Vec<(i64, f64)>>,
    good: BTreeMap<usize, Vec<i64>>,
}

impl Raw {
    /// Requests by minute, caller and code.
    fn minutes(&self) -> BTreeMap<(i64, &'static str, &'static str), f64> {
        let mut minutes = BTreeMap::new();
        for ((target, of), samples) in &self.samples {
            let (mut last, mut is_ended): (Option<(i64, f64)>, bool) = (None, false);
            for &(at, value) in samples {
                if last.is_some_and(|(before, _)| at <= before) {
                    continue;
                }
                if is_stale(value) {
                    is_ended = true;
                    continue;
                }
                let good = self.good.get(target).and_then(|good| good.iter().rev().find(|good| **good < at));
                let zero = good.filter(|good| at - **good <= GAP_MS).map(|good| (*good, 0.0));
                let before = match last {
                    Some((before, _)) if is_ended && at - before > GAP_MS => None,
                    Some(before) => Some(before),
                    None => zero,
                };
                if let Some((since, before)) = before {
                    let gained = if value < before { value } else { value - before };
                    for minute in (since.div_euclid(MINUTE_MS)..=at.div_euclid(MINUTE_MS)).map(|m| m * MINUTE_MS) {
                        let overlap = (at.min(minute + MINUTE_MS) - since.max(minute)).max(0);
                        let (source, code) = SERIES[*of];
                        *minutes.entry((minute, source, code)).or_default() +=
                            gained * overlap as f64 / (at - since) as f64;
                    }
                }
                (last, is_ended) = (Some((at, value)), false);
            }
        }
        minutes
    }
}

/// What a scrape loop knows of its target.
#[derive(Default)]
struct Loop {
    series: HashMap<usize, (SeriesRef, SlotId, bool)>,
    good_at: Option<i64>,
    is_new: bool,
}

struct Process {
    head: Head,
    rollup: Rollup,
    loops: [Loop; 2],
}

impl Process {
    fn start(journal: &[JournalBatch], now: i64) -> Self {
        let (head, rollup) = (Head::new(series::Config::default()), Rollup::new(config()));
        let mut replay = rollup.replay(Timestamp::from_millis(0));
        for batch in journal {
            let row = |at, samples: &[_]| replay.row(at, samples, |series| head.labels(series));
            head.replay_to(&batch.bytes, false, row).unwrap();
        }
        head.finish_replay();
        replay.finish(Timestamp::from_millis(now), true);
        Self { head, rollup, loops: [(); 2].map(|()| Loop { is_new: true, ..Loop::default() }) }
    }

    /// As `scrape` does it; `page`: series and values, `None` when the scrape failed.
    fn scrape(&mut self, (number, at): (usize, i64), page: Option<&[(usize, f64)]>, raw: &mut Raw) {
        let (state, up) = (&mut self.loops[number], target(number).with(METRIC_NAME, "up"));
        if std::mem::take(&mut state.is_new) {
            state.good_at = self.rollup.claim_target(&target(number)).map(Timestamp::as_millis);
        }
        let holds = |good: &i64| *good < at && at - good <= GAP_MS;
        let zero_at = state.good_at.filter(holds).map(Timestamp::from_millis);
        let (mut batch, mut increments) = (Vec::new(), Vec::new());
        for &(of, value) in page.unwrap_or_default() {
            let (series, slot, _) = *state.series.entry(of).or_insert_with(|| {
                let labels = labels(number, of);
                let slot = match zero_at {
                    Some(zero_at) => self.rollup.slot_since(&labels, zero_at),
                    None => self.rollup.slot(&labels),
                };
                (self.head.intern(&labels).unwrap(), slot.unwrap(), true)
            });
            batch.push((series, value));
            increments.push((slot, value));
            raw.samples.entry((number, of)).or_default().push((at, value));
        }
        for (of, (series, slot, is_live)) in &mut state.series {
            let is_here = page.is_some_and(|page| page.iter().any(|(other, _)| other == of));
            if *is_live && !is_here {
                batch.push((*series, stale_marker()));
                increments.push((*slot, stale_marker()));
                raw.samples.entry((number, *of)).or_default().push((at, stale_marker()));
            }
            *is_live = is_here;
        }
        batch.push((self.head.intern(&up).unwrap(), f64::from(u8::from(page.is_some()))));
        self.head.append_at(Timestamp::from_millis(at), &batch);
        self.rollup.observe(Timestamp::from_millis(at), &increments);
        if page.is_some() {
            raw.good.entry(number).or_default().push(at);
            state.good_at = Some(at);
        }
    }

    /// A page that comes again with an old time, as pages with timestamps of their own may.
    fn late(&mut self, (number, at): (usize, i64), page: &[(usize, f64)]) {
        for (of, value) in page {
            let Some((series, slot, _)) = self.loops[number].series.get(of) else { continue };
            self.head.append_at(Timestamp::from_millis(at), &[(*series, *value)]);
            self.rollup.observe(Timestamp::from_millis(at), &[(*slot, *value)]);
        }
    }

    fn minutes(&self) -> BTreeMap<(i64, String, String), f64> {
        let mut counted = BTreeMap::new();
        for minute in self.rollup.recent(Timestamp::MIN) {
            for (outcome, count) in &minute.requests {
                let source = minute.edge.source.name.as_deref().unwrap_or_default().to_owned();
                *counted.entry((minute.minute.as_millis(), source, outcome.code.to_string())).or_default() += count;
            }
        }
        counted
    }

    fn journal(&self, into: &mut Vec<JournalBatch>) {
        into.extend(std::iter::from_fn(|| self.head.drain_journal()));
    }
}

/// Runs the steps; what was counted at the end, and what the raw samples say.
fn run(steps: &[Step]) -> (Process, Raw) {
    let (mut now, mut journal, mut raw, mut durable) = (0, Vec::new(), Raw::default(), Raw::default());
    let mut process = Process::start(&journal, now);
    let (mut values, mut shown_last) = ([[100.0; 3]; 2], [const { Vec::new() }; 2]);
    let mut times = [0; 2];
    for step in steps {
        match step {
            Step::Scrape { target, after_ms, shown } => {
                now += after_ms;
                let (page, reset) = match shown {
                    Shown::Page(page) => (page, false),
                    Shown::Restarted(page) => (page, true),
                    Shown::Late(before_ms) => {
                        process.late((*target, times[*target] - before_ms), &shown_last[*target]);
                        continue;
                    }
                    Shown::Failed => {
                        process.scrape((*target, now), None, &mut raw);
                        continue;
                    }
                };
                let mut on_page = Vec::new();
                for (of, more) in page.iter().enumerate() {
                    let value = &mut values[*target][of];
                    *value = if reset { 0.0 } else { *value } + f64::from(more.unwrap_or(0));
                    on_page.extend(more.map(|_| (of, *value)));
                }
                process.scrape((*target, now), Some(&on_page), &mut raw);
                (shown_last[*target], times[*target]) = (on_page, now);
            }
            Step::Journal => {
                process.journal(&mut journal);
                durable = raw.clone();
            }
            Step::Restart { all, after_ms } => {
                if *all {
                    process.journal(&mut journal);
                    durable = raw.clone();
                }
                raw = durable.clone();
                now += after_ms;
                process = Process::start(&journal, now);
                times = [now; 2];
            }
        }
    }
    (process, raw)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn minutes_equal_the_raw_samples_whatever_happens_to_targets_and_to_us(steps in prop::collection::vec(step(), 1..60)) {
        let (process, raw) = run(&steps);
        let mut counted = process.minutes();
        for ((minute, source, code), expect) in raw.minutes() {
            let seen = counted.remove(&(minute, source.to_owned(), code.to_owned())).unwrap_or(0.0);
            prop_assert!((seen - expect).abs() < 1e-6, "{} {} {}: {} but {} from raw samples", minute, source, code, seen, expect);
        }
        prop_assert!(counted.values().all(|count| *count < 1e-6), "{:?}", counted);
    }
}

fn page(of: usize, value: f64) -> Vec<(usize, f64)> {
    vec![(of, value)]
}

#[test]
fn the_first_scrape_after_a_restart_counts_what_happened_between() {
    let (mut raw, mut journal) = (Raw::default(), Vec::new());
    let mut first = Process::start(&[], 0);
    first.scrape((0, 10_000), Some(&page(0, 100.0)), &mut raw);
    first.scrape((0, 20_000), Some(&page(0, 110.0)), &mut raw);
    first.journal(&mut journal);
    first.scrape((0, 30_000), Some(&page(0, 120.0)), &mut raw); // lost
    let mut second = Process::start(&journal, 50_000);
    assert_eq!(total(&second.rollup.recent(at(0))), 10.0);
    // A series that is new since then counted from zero.
    second.scrape((0, 50_000), Some(&[(0, 140.0), (1, 7.0)]), &mut raw);
    assert_eq!(total(&second.rollup.recent(at(0))), 47.0);
    assert_eq!(second.rollup.size().slots, 2);
}

#[test]
fn without_the_settings_of_before_a_new_series_counts_nothing_at_first() {
    let (mut raw, mut journal) = (Raw::default(), Vec::new());
    let mut first = Process::start(&[], 0);
    first.scrape((0, 10_000), Some(&page(0, 100.0)), &mut raw);
    first.journal(&mut journal);
    let (head, rollup) = (Head::new(series::Config::default()), Rollup::new(config()));
    let mut replay = rollup.replay(at(0));
    for batch in &journal {
        head.replay_to(&batch.bytes, false, |at, samples| replay.row(at, samples, |series| head.labels(series)))
            .unwrap();
    }
    replay.finish(at(20), false);
    assert_eq!(rollup.claim_target(&target(0)), None);
}

#[test]
fn slots_that_no_scrape_claims_go() {
    let (mut raw, mut journal) = (Raw::default(), Vec::new());
    let mut first = Process::start(&[], 0);
    first.scrape((0, 10_000), Some(&[(0, 1.0), (2, 1.0)]), &mut raw);
    first.journal(&mut journal);
    let mut second = Process::start(&journal, 20_000);
    second.scrape((0, 30_000), Some(&page(0, 2.0)), &mut raw);
    assert_eq!(second.rollup.size().slots, 2);
    second.rollup.advance(at(30 + 7 * 3600));
    assert_eq!(second.rollup.size().slots, 1);
    assert_eq!(second.rollup.claim_target(&target(0)), None);
}

#[test]
fn stored_minutes_are_compared_with_what_is_counted_again() {
    let (mut raw, mut journal) = (Raw::default(), Vec::new());
    let mut first = Process::start(&[], 0);
    for (second, value) in [(10, 0.0), (70, 60.0), (130, 120.0)] {
        first.scrape((0, second * 1000), Some(&page(0, value)), &mut raw);
    }
    first.journal(&mut journal);
    let mut stored = first.rollup.recent(at(0));
    stored[2].requests[0].1 = 3.0; // an older state
    // In the last second before the crash another edge was counted, and written, but not journaled.
    let mut unfounded = stored[2].clone();
    Arc::make_mut(&mut unfounded.edge).source.name = Some("gone".into());
    let mut spans = stored[0].clone();
    Arc::make_mut(&mut spans.edge).reporter = Reporter::Trace;
    let rollup = Rollup::new(config());
    let head = Head::new(series::Config::default());
    let mut replay = rollup.replay(at(0));
    for batch in &journal {
        head.replay_to(&batch.bytes, false, |at, samples| replay.row(at, samples, |series| head.labels(series)))
            .unwrap();
    }
    for (minute, expect) in stored.into_iter().chain([spans.clone()]).map(|m| (m, true)).chain([(unfounded, false)]) {
        assert_eq!(replay.take_up(minute.clone()), expect, "{minute:?}");
    }
    replay.finish(at(140), true);
    // Only what differs is to be written.
    let unwritten = rollup.unwritten(100);
    assert_eq!((unwritten.minutes.len(), unwritten.minutes[0].minute), (1, at(120)));
    assert!(rollup.recent(at(0)).contains(&spans));
}

#[test]
fn what_is_not_written_stays_within_its_limit_and_what_changes_meanwhile_is_written_again() {
    let rollup = Rollup::new(Config { keep: Duration::from_secs(120).into(), unwritten_limit: 3, ..Config::default() });
    rollup.hold_unwritten();
    let slot = rollup.slot_since(&istio_series("istio_requests_total", &[]), at(0)).unwrap();
    let count = |minute: i64| rollup.observe(at(minute * 60 + 30), &[(slot, (minute + 1) as f64)]);
    count(0);
    let first = rollup.unwritten(100);
    assert_eq!((first.minutes.len(), first.complete_until), (1, Some(at(-120))));
    rollup.observe(at(40), &[(slot, 1.5)]);
    rollup.mark_written(&first);
    assert_eq!(total(&rollup.unwritten(100).minutes), 1.5, "it has changed since");
    rollup.mark_written(&rollup.unwritten(100));
    assert_eq!(rollup.unwritten(100).minutes, []);

    (1..=5).for_each(count); // an outage
    assert_eq!(rollup.size().minutes, 6, "0 was written and has changed; 1 and 2 have left the window");
    let part = rollup.unwritten(2);
    assert_eq!((part.minutes.len(), part.complete_until), (2, Some(at(120))));
    (6..=8).for_each(count);
    let dropped = &rollup.counters().unwritten_dropped;
    assert_eq!(
        (rollup.size().minutes, dropped.load(Ordering::Relaxed)),
        (6, 3),
        "three within the window, three beyond"
    );
    let all = rollup.unwritten(100);
    assert_eq!((all.minutes.len(), all.complete_until), (6, Some(at(360))));
    rollup.mark_written(&all);
    assert_eq!((rollup.size().minutes, rollup.unwritten(100).minutes.len()), (3, 0));
}

#[test]
fn a_sample_that_is_not_newer_is_no_reset() {
    let rollup = Rollup::default();
    let slot = rollup.slot_since(&istio_series("istio_requests_total", &[]), at(0)).unwrap();
    for (second, value) in [(10, 100.0), (20, 150.0), (15, 120.0), (20, 90.0), (12, stale_marker()), (30, 160.0)] {
        rollup.observe(at(second), &[(slot, value)]);
    }
    assert_eq!(total(&rollup.recent(at(0))), 160.0);
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((read(&rollup.counters().resets), read(&rollup.counters().samples_ignored)), (0, 3));
}
