//! The memory tier as its users see it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{Labels, MatchOp, Matcher, Timestamp, is_stale, stale_marker};

const START: i64 = 1_700_000_000_000 / 7_200_000 * 7_200_000; // a window's start

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

fn labels(metric: &str, pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied().chain([("__name__", metric)]))
}

fn head() -> Head {
    Head::new(Config::default())
}

fn head_with(window_s: u64, out_of_order_s: u64) -> Head {
    Head::new(Config {
        memory_window: Duration::from_secs(window_s).into(),
        out_of_order_window: Duration::from_secs(out_of_order_s).into(),
        ..Config::default()
    })
}

/// All samples by label text, as bits.
type Content = BTreeMap<String, Vec<(i64, u64)>>;

async fn content_of(store: &dyn Queryable, from: Timestamp, to: Timestamp) -> Content {
    content_told(store.select(Select::new(Vec::new(), from, to)).await.unwrap().series)
}

/// The same, read family by family.
async fn families_of(store: &dyn Queryable, from: Timestamp, to: Timestamp) -> Content {
    let hint = SelectHint { families: true, ..SelectHint::default() };
    content_told(store.select(Select { hint, ..Select::new(Vec::new(), from, to) }).await.unwrap().into_series())
}

fn content_told(all: Vec<SeriesSamples>) -> Content {
    let mut content = Content::new();
    for series in all {
        assert_eq!(series.times.len(), series.values.len());
        assert!(series.times.windows(2).all(|pair| pair[0] < pair[1]), "times rise: {series:?}");
        let samples =
            series.times.iter().zip(&series.values).map(|(t, v)| (t.as_millis() - START, v.to_bits())).collect();
        assert!(content.insert(series.labels.to_string(), samples).is_none(), "each label set once");
    }
    content
}

fn content(store: &dyn Queryable) -> Content {
    content_between(store, Timestamp::MIN, Timestamp::MAX)
}

fn content_between(store: &dyn Queryable, from: Timestamp, to: Timestamp) -> Content {
    let content = block_on(content_of(store, from, to));
    assert!(content == block_on(families_of(store, from, to)), "families are those of the series");
    content
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn series_of(head: &Head, matchers: Vec<Matcher>) -> Vec<String> {
    let mut found: Vec<String> = block_on(head.series(vec![matchers], Timestamp::MIN, Timestamp::MAX))
        .unwrap()
        .iter()
        .map(Labels::to_string)
        .collect();
    found.sort();
    found
}

#[test]
fn returns_what_was_appended_over_many_frames() {
    let head = head();
    let refs: Vec<SeriesRef> = (0..130).map(|i| head.intern(&labels("m", &[("i", &i.to_string())])).unwrap()).collect();
    for row in 0..1000_i64 {
        let batch: Vec<(SeriesRef, f64)> =
            refs.iter().enumerate().map(|(i, r)| (*r, (row * (i as i64 % 7)) as f64)).collect();
        assert_eq!(head.append_at(at(row * 5000), &batch).accepted, 130);
    }
    let found = content_between(&head, at(1_000_000), at(2_000_000));
    assert_eq!(found.len(), 130);
    for i in 0..130_i64 {
        let wanted: Vec<(i64, u64)> = (200..=400).map(|row| (row * 5000, ((row * (i % 7)) as f64).to_bits())).collect();
        assert_eq!(found[&format!("m{{i=\"{i}\"}}")], wanted);
    }
    let stats = head.stats();
    assert_eq!((stats.series, stats.samples, stats.groups), (130, 130_000, 1));
    assert_eq!((stats.min_time, stats.max_time), (Some(at(0)), Some(at(999 * 5000))));
}

#[test]
fn series_scraped_together_share_one_time_column() {
    let head = head();
    let refs: Vec<SeriesRef> = (0..3).map(|i| head.intern(&labels("m", &[("i", &i.to_string())])).unwrap()).collect();
    for row in 0..40 {
        head.append_at(at(row * 5000), &refs.iter().map(|r| (*r, 1.0)).collect::<Vec<_>>());
    }
    let found = block_on(head.select(Select::new(Vec::new(), at(0), at(200_000)))).unwrap().series;
    assert!(found.iter().all(|series| std::sync::Arc::ptr_eq(&series.times, &found[0].times)));
}

#[test]
fn tells_duplicates_conflicts_and_old_samples() {
    let head = head();
    let a = head.intern(&labels("a", &[])).unwrap();
    assert_eq!(head.append_at(at(10), &[(a, 1.0)]).accepted, 1);
    assert_eq!(head.append_at(at(10), &[(a, 1.0)]), Appended { duplicates: 1, ..Appended::default() });
    assert_eq!(head.append_at(at(10), &[(a, 2.0)]), Appended { conflicting: 1, ..Appended::default() });
    assert_eq!(head.append_at(at(9), &[(a, 2.0)]), Appended { out_of_order: 1, ..Appended::default() });
    let twice = head.append_at(at(20), &[(a, 2.0), (a, 2.0), (a, 3.0)]);
    assert_eq!(twice, Appended { accepted: 1, duplicates: 1, conflicting: 1, ..Appended::default() });
    assert_eq!(head.append_at(Timestamp::from_millis(i64::MAX), &[(a, 2.0)]).out_of_order, 1);
    assert_eq!(content(&head)["a"], [(10, 1_f64.to_bits()), (20, 2_f64.to_bits())]);
}

#[test]
fn takes_late_samples_within_the_window() {
    let head = head_with(10_800, 60);
    let (a, b) = (head.intern(&labels("a", &[])).unwrap(), head.intern(&labels("b", &[])).unwrap());
    for row in 0..100 {
        head.append_at(at(row * 1000), &[(a, row as f64), (b, row as f64)]);
    }
    assert_eq!(head.append_at(at(60_500), &[(a, 7.0)]).accepted, 1, "between rows of a packed frame");
    assert_eq!(head.append_at(at(60_500), &[(a, 7.0)]).duplicates, 1);
    assert_eq!(head.append_at(at(60_500), &[(a, 8.0)]).conflicting, 1);
    assert_eq!(head.append_at(at(60_000), &[(a, 60.0)]).duplicates, 1);
    assert_eq!(head.append_at(at(98_500), &[(b, 9.0)]).accepted, 1, "between the newest rows");
    assert_eq!(head.append_at(at(38_999), &[(a, 7.0)]).out_of_order, 1);
    let found = content(&head);
    assert_eq!((found["a"].len(), found["b"].len()), (101, 101));
    assert!(found["a"].contains(&(60_500, 7_f64.to_bits())) && found["b"].contains(&(98_500, 9_f64.to_bits())));
}

#[test]
fn keeps_stale_markers_and_series_that_come_and_go() {
    let head = head();
    let (a, b) = (head.intern(&labels("a", &[])).unwrap(), head.intern(&labels("b", &[])).unwrap());
    for row in 0..50 {
        let mut batch = vec![(a, 1.0)];
        match row % 10 {
            0..5 => batch.push((b, 2.0)),
            5 => batch.push((b, stale_marker())),
            _ => {}
        }
        assert_eq!(head.append_at(at(row * 1000), &batch).accepted, batch.len());
    }
    let found = content(&head);
    assert_eq!((found["a"].len(), found["b"].len()), (50, 30));
    assert_eq!(found["b"].iter().filter(|(_, bits)| is_stale(f64::from_bits(*bits))).count(), 5);
}

#[test]
fn keeps_nan_payloads_and_reads_the_one_reserved_pattern_as_nan() {
    let head = head();
    let a = head.intern(&labels("a", &[])).unwrap();
    let patterns = [0x7ff0_0000_0000_0002, 0x7ff8_0000_0000_0001, 0xfff8_0000_0000_1234, super::frame::ABSENT];
    for (row, bits) in (0_i64..).zip(patterns) {
        assert_eq!(head.append_at(at(row), &[(a, f64::from_bits(bits))]).accepted, 1);
    }
    let found: Vec<u64> = content(&head)["a"].iter().map(|(_, bits)| *bits).collect();
    assert_eq!(found, [patterns[0], patterns[1], patterns[2], f64::NAN.to_bits()]);
}

#[test]
fn series_with_times_of_their_own_end_up_in_small_groups() {
    let head = head();
    let refs: Vec<SeriesRef> = (0..40).map(|i| head.intern(&labels("m", &[("i", &i.to_string())])).unwrap()).collect();
    let all: Vec<Row> = refs.iter().map(|series| Row { series: *series, at: at(0), value: 0.0 }).collect();
    assert_eq!(head.append(&all).accepted, 40, "by chance at one time");
    for row in 1..60_i64 {
        let own: Vec<Row> = (0_i64..)
            .zip(&refs)
            .map(|(i, series)| Row { series: *series, at: at(row * 15_000 + i * 97), value: row as f64 })
            .collect();
        assert_eq!(head.append(&own).accepted, 40);
    }
    let found = content(&head);
    assert!(found.len() == 40 && found.values().all(|samples| samples.len() == 60));
    let stats = head.stats();
    assert!(stats.groups > 20, "{} groups", stats.groups);
    // A row of all 40 for each of the 2,400 times would be 768,000 bytes.
    assert!(stats.bytes - stats.index_bytes < 80_000, "{} bytes of samples", stats.bytes - stats.index_bytes);
}

#[test]
fn rows_report_vanished_series_by_their_place() {
    let head = head();
    let a = head.intern(&labels("a", &[])).unwrap();
    let row = |series, ms| Row { series, at: at(ms), value: 1.0 };
    let unknown = SeriesRef(77);
    let appended = head.append(&[row(unknown, 9), row(a, 5), row(unknown, 1), row(a, 3)]);
    assert_eq!((appended.accepted, appended.vanished), (2, vec![0, 2]));
}

#[test]
fn refuses_series_past_the_limit_and_finds_known_ones() {
    let head = Head::new(Config { series_limit: 1, ..Config::default() });
    let a = head.intern(&labels("a", &[])).unwrap();
    assert!(matches!(head.intern(&labels("b", &[])), Err(AppendError::SeriesLimit { limit: 1 })));
    assert_eq!(head.intern(&labels("a", &[])).unwrap(), a);
    assert_eq!(head.labels(a), Some(labels("a", &[])));
}

#[test]
fn garbage_collection_drops_old_samples_and_ended_series() {
    let head = head_with(600, 0);
    let keep: Vec<SeriesRef> =
        (0..100).map(|i| head.intern(&labels("keep", &[("i", &i.to_string())])).unwrap()).collect();
    let gone: Vec<SeriesRef> =
        (0..50).map(|i| head.intern(&labels("gone", &[("le", &i.to_string())])).unwrap()).collect();
    let unused = head.intern(&labels("unused", &[("x", "y")])).unwrap();
    for row in 0..1000 {
        let mut batch: Vec<(SeriesRef, f64)> = keep.iter().map(|r| (*r, row as f64)).collect();
        if row < 10 {
            batch.extend(gone.iter().map(|r| (*r, 1.0)));
        }
        head.append_at(at(row * 5000), &batch);
        head.collect_garbage(at(row * 5000));
    }
    let stats = head.stats();
    assert_eq!(stats.series, 100);
    assert!(stats.samples <= 100 * (120 + 128 + 16), "{} samples", stats.samples);
    assert_eq!(head.complete_from(), at(999 * 5000 - 600_000));
    assert_eq!((head.labels(gone[0]), head.labels(unused)), (None, None));
    let found = content_between(&head, head.complete_from(), Timestamp::MAX);
    assert_eq!(found["keep{i=\"7\"}"].len(), 121);
    assert_eq!(block_on(head.label_values("__name__".into(), vec![], at(0), at(9_999_999))).unwrap(), ["keep"]);

    let again = head.append_at(at(5_000_000), &[(keep[0], 1.0), (gone[0], 1.0)]);
    assert_eq!((again.accepted, again.vanished), (1, vec![1]));
    let reborn = head.intern(&labels("gone", &[("le", "0")])).unwrap();
    assert_ne!(reborn, gone[0], "references are not reused");
    assert_eq!(head.append_at(at(5_000_000), &[(reborn, 1.0)]).accepted, 1);
    assert_eq!(content(&head)["gone{le=\"0\"}"], [(5_000_000, 1_f64.to_bits())]);
    head.collect_garbage(at(100_000_000));
    head.collect_garbage(at(100_000_000));
    let stats = head.stats();
    assert_eq!((stats.series, stats.samples, stats.groups), (0, 0, 0));
}

#[test]
fn series_that_come_and_go_leave_no_memory_behind() {
    let head = head_with(600, 0);
    let mut next = 0;
    let mut deploy = |series: usize| -> Vec<SeriesRef> {
        next += 1;
        let pod = format!("pod-{next}");
        (0..series).map(|i| head.intern(&labels("m", &[("pod", &pod), ("i", &i.to_string())])).unwrap()).collect()
    };
    let run = |series: &[SeriesRef], from_s: i64, to_s: i64| {
        for second in (from_s..to_s).step_by(5) {
            let batch: Vec<(SeriesRef, f64)> = series.iter().map(|series| (*series, second as f64)).collect();
            assert_eq!(head.append_at(at(second * 1000), &batch).vanished, [0; 0]);
            if second % 60 == 0 {
                head.collect_garbage(at(second * 1000));
            }
        }
    };
    let steady = deploy(500);
    run(&steady, 0, 1500);
    let quiet = head.stats().bytes;
    // Ten times as many, all new, come and go; and then pods are replaced again and again.
    let burst = [deploy(5000), steady.clone()].concat();
    run(&burst, 1500, 1800);
    let high = head.stats().bytes;
    run(&steady, 1800, 3600);
    let after = head.stats();
    assert_eq!(after.series, 500);
    assert!(high > 4 * quiet && after.bytes < quiet * 3 / 2, "{quiet} bytes, then {high}, then {}", after.bytes);
    let mut sizes = Vec::new();
    for round in 0..12 {
        run(&deploy(500), 3600 + round * 600, 4200 + round * 600);
        sizes.push(head.stats().bytes);
    }
    let (early, late) = (sizes[4], sizes[11]);
    assert!(late < early + early / 10, "grows with each deploy: {sizes:?}");
    // A reference of the burst names nobody, although its place was given back and made anew.
    assert!(burst[..5000].iter().all(|series| head.labels(*series).is_none()));
}

#[test]
fn matchers_select_what_they_say_with_absent_labels_as_empty() {
    let head = head();
    let all = [
        labels("a", &[("x", "1"), ("le", "5")]),
        labels("a", &[("x", "2"), ("le", "10")]),
        labels("a", &[("y", "1")]),
        labels("b", &[("x", "1"), ("y", "2")]),
        labels("b", &[]),
        Labels::from_pairs([("x", "web-1")]),
        Labels::from_pairs([("Upper", "1"), ("le", "+Inf"), ("z", "9")]),
    ];
    for (i, labels) in all.iter().enumerate() {
        let series = head.intern(labels).unwrap();
        assert_eq!(head.labels(series).as_ref(), Some(labels));
        head.append_at(at(i as i64), &[(series, 1.0)]);
    }
    let values = ["", "1", "2", "a", "a|b", ".*", ".+", "web-.*", "5|10", "1|", "zz"];
    let names = ["__name__", "x", "y", "le", "missing"];
    let mut matchers = Vec::new();
    for name in names {
        for value in values {
            for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
                matchers.push(Matcher::new(op, name, value).unwrap());
            }
        }
    }
    for (i, first) in matchers.iter().enumerate() {
        let pair = vec![first.clone(), matchers[(i * 37 + 11) % matchers.len()].clone()];
        let mut wanted: Vec<String> =
            all.iter().filter(|l| pair.iter().all(|m| m.matches_labels(l))).map(Labels::to_string).collect();
        wanted.sort();
        assert_eq!(series_of(&head, pair.clone()), wanted, "{pair:?}");
    }
}

#[test]
fn answers_label_queries() {
    let head = head();
    for (i, (metric, le)) in [("a", "5"), ("a", "10"), ("b", "")].into_iter().enumerate() {
        let series = head.intern(&labels(metric, &[("le", le), ("pod", &format!("p{i}"))])).unwrap();
        head.append_at(at(0), &[(series, 1.0)]);
    }
    let of = |matcher: &[Matcher]| if matcher.is_empty() { vec![] } else { vec![matcher.to_vec()] };
    let names = |m: &[Matcher]| block_on(head.label_names(of(m), at(0), at(1))).unwrap();
    let values = |name: &str, m: &[Matcher]| block_on(head.label_values(name.into(), of(m), at(0), at(1))).unwrap();
    assert_eq!(names(&[]), ["__name__", "le", "pod"]);
    assert_eq!(names(&[Matcher::equal("__name__", "b")]), ["__name__", "pod"]);
    assert_eq!(values("le", &[]), ["10", "5"]);
    assert_eq!(values("pod", &[Matcher::equal("__name__", "a")]), ["p0", "p1"]);
    assert_eq!(values("__name__", &[Matcher::equal("pod", "p2")]), ["b"]);
    assert!(block_on(head.label_names(vec![], at(5), at(6))).unwrap().is_empty(), "after the newest sample");
    assert!(block_on(head.series(vec![], at(1), at(9))).unwrap().is_empty());
    let several = vec![vec![Matcher::equal("le", "5")], vec![Matcher::equal("__name__", "a")]];
    assert_eq!(block_on(head.series(several, at(0), at(0))).unwrap().len(), 2, "each once");
    let top = head.cardinality(2);
    assert_eq!(top.series_by_metric, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(top.values_by_label, [("pod".to_owned(), 3), ("__name__".to_owned(), 2)]);
    assert_eq!(top.series_by_pair, [("__name__=a".to_owned(), 2), ("__name__=b".to_owned(), 1)]);
}

#[test]
fn a_series_twice_in_a_batch_that_makes_it_move_again_has_not_vanished() {
    let head = head();
    let refs: Vec<SeriesRef> =
        (0..100).map(|i| head.intern(&labels("m", &[("i", &format!("{i:02}"))])).unwrap()).collect();
    let ones = |refs: &[SeriesRef]| refs.iter().map(|series| (*series, 1.0)).collect::<Vec<_>>();
    head.append_at(at(0), &ones(&refs));
    head.append_at(at(1000), &ones(&refs[..20])); // too few for the group: they move to another
    head.append_at(at(3000), &ones(&refs[1..20])); // that group goes on without the first
    // The first is in order, but its group is past that time and makes no row for so few: it moves once more.
    let (moving, behind) = (refs[0], refs[1]);
    let batch = [(behind, 5.0), (moving, 1.0), (moving, 2.0), (moving, 1.0), (behind, 6.0)];
    let wanted = Appended { accepted: 1, duplicates: 1, conflicting: 1, out_of_order: 2, vanished: vec![] };
    assert_eq!(head.append_at(at(2000), &batch), wanted);
    let again = Appended { duplicates: 2, conflicting: 1, out_of_order: 2, ..Appended::default() };
    assert_eq!(head.append_at(at(2000), &batch), again);
    let bits = 1_f64.to_bits();
    assert_eq!(content(&head)["m{i=\"00\"}"], [(0, bits), (1000, bits), (2000, bits)]);
    assert_eq!(content(&replayed(&drain(&head))), content(&head));
}

#[test]
fn of_a_series_twice_in_a_batch_the_first_sample_counts_in_any_order() {
    let head = head();
    let refs: Vec<SeriesRef> =
        (0..300).map(|i| head.intern(&labels("m", &[("i", &format!("{i:03}"))])).unwrap()).collect();
    head.append_at(at(0), &refs.iter().map(|series| (*series, 0.0)).collect::<Vec<_>>());
    for step in 1..12_usize {
        // Three samples of each series, each time in another order, so that some lie where they are expected, others not.
        let stride = [1, 7, 11, 13, 17, 899][step % 6];
        let batch: Vec<(SeriesRef, f64)> =
            (0..900).map(|i| (refs[i * stride % 900 / 3], [1.0, 2.0, 1.0][i * stride % 3])).collect();
        let mut firsts: BTreeMap<SeriesRef, f64> = BTreeMap::new();
        let mut wanted = Appended { accepted: 300, ..Appended::default() };
        for (series, value) in &batch {
            match firsts.get(series) {
                None => drop(firsts.insert(*series, *value)),
                Some(first) if first == value => wanted.duplicates += 1,
                Some(_) => wanted.conflicting += 1,
            }
        }
        let now = step as i64 * 1000;
        assert_eq!(head.append_at(at(now), &batch), wanted, "stride {stride}");
        let stored: Vec<u64> = content(&head).values().map(|samples| samples[step].1).collect();
        assert_eq!(stored, firsts.values().map(|value| value.to_bits()).collect::<Vec<_>>(), "stride {stride}");
    }
}

#[test]
fn stops_at_the_sample_limit() {
    let head = head();
    let a = head.intern(&labels("a", &[])).unwrap();
    (0..100).for_each(|i| drop(head.append_at(at(i), &[(a, 0.0)])));
    let select = |sample_limit| Select { sample_limit, ..Select::new(vec![], at(0), at(99)) };
    assert!(block_on(head.select(select(100))).is_ok());
    assert!(matches!(block_on(head.select(select(99))), Err(QueryError::TooManySamples)));
}

#[test]
fn appends_and_queries_run_at_once() {
    let head = head();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let head = head.clone();
                scope.spawn(move || {
                    for row in 0..300_i64 {
                        let mut missing: Vec<i64> = (0..20 + row / 10).collect();
                        while !missing.is_empty() {
                            let named = |i: &i64| labels("m", &[("w", &writer.to_string()), ("i", &i.to_string())]);
                            let batch: Vec<(SeriesRef, f64)> =
                                missing.iter().map(|i| (head.intern(&named(i)).unwrap(), row as f64)).collect();
                            let appended = head.append_at(at(row * 1000), &batch);
                            assert_eq!(appended.accepted + appended.vanished.len(), batch.len());
                            missing = appended.vanished.iter().map(|i| missing[*i]).collect();
                        }
                    }
                })
            })
            .collect();
        let (reader_head, done) = (head.clone(), &done);
        scope.spawn(move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let whole = (Timestamp::MIN, Timestamp::MAX);
                let one_by_one = block_on(content_of(&reader_head, whole.0, whole.1));
                let by_family = block_on(families_of(&reader_head, whole.0, whole.1));
                for samples in one_by_one.values().chain(by_family.values()) {
                    let first = samples[0].0;
                    let steady = samples
                        .iter()
                        .enumerate()
                        .all(|(i, (t, v))| *t == first + i as i64 * 1000 && f64::from_bits(*v) == (*t / 1000) as f64);
                    assert!(steady, "a prefix of what was written");
                }
                reader_head.collect_garbage(at(0));
            }
        });
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    assert_eq!(head.stats().samples, 3 * (0..300).map(|row| 20 + row / 10).sum::<u64>());
}

// === Journal ===

fn drain(head: &Head) -> Vec<JournalBatch> {
    std::iter::from_fn(|| head.drain_journal()).collect()
}

fn replayed(batches: &[JournalBatch]) -> Head {
    let head = head();
    for batch in batches {
        assert_eq!(head.replay(&batch.bytes), Ok(batch.sample_count));
    }
    head
}

#[test]
fn a_replayed_journal_is_what_was_before() {
    let head = head_with(10_800, 100);
    let mut batches = Vec::new();
    for row in 0..400_i64 {
        let mut batch = Vec::new();
        for i in 0..(20 + row / 20) {
            let name = labels("m", &[("i", &i.to_string()), ("le", &(i % 3).to_string())]);
            batch.push((head.intern(&name).unwrap(), [row as f64, 0.1 * row as f64, 5.0, f64::NAN][i as usize % 4]));
        }
        head.append_at(at(row * 15_000), &batch);
        if row % 50 == 30 {
            head.append_at(at(row * 15_000 - 7), &batch[..1]);
        }
        if row % 10 == 0 {
            batches.extend(drain(&head));
        }
    }
    batches.extend(drain(&head));
    let epochs: Vec<usize> = (0..batches.len()).filter(|i| batches[*i].starts_epoch).collect();
    assert!(epochs.len() >= 5 && epochs[0] == 0, "{epochs:?}");
    let again = replayed(&batches);
    assert_eq!(content(&again), content(&head));
    assert_eq!(again.complete_from(), head.complete_from());
    assert!(again.drain_journal().is_none(), "not journaled again");
    for batch in &batches {
        assert_eq!(again.replay(&batch.bytes), Ok(0), "a second time adds nothing");
    }
    assert_eq!(content(&again), content(&head));

    let tail = &batches[epochs[2]..];
    let trimmed = replayed(tail);
    assert_eq!(trimmed.stats().samples as usize, tail.iter().map(|b| b.sample_count).sum::<usize>());
    let gap = &batches[epochs[2] + 1];
    assert!(matches!(
        super::Head::new(Config::default()).replay(&gap.bytes),
        Err(ReplayError::Gap { sequence: 1, .. })
    ));
}

#[test]
fn damaged_journal_batches_are_refused_and_harm_no_later_epoch() {
    let head = head();
    let a = head.intern(&labels("a", &[])).unwrap();
    head.append_at(at(0), &[(a, 1.0)]);
    let batch = head.drain_journal().unwrap();
    let restored = Head::new(Config::default());
    assert!(matches!(restored.replay(b"nonsense"), Err(ReplayError::Unknown(_))));
    for cut in 4..batch.bytes.len() {
        assert!(restored.replay(&batch.bytes[..cut]).is_err(), "cut at {cut}");
        let mut flipped = batch.bytes.clone();
        flipped[cut] ^= 0x10;
        let _ = restored.replay(&flipped);
    }
    assert!(restored.replay(&batch.bytes).is_ok());
    assert_eq!(content(&restored), content(&head));
}

#[test]
fn a_full_journal_drops_its_oldest_epochs_and_counts_them() {
    let limit = 40_000;
    let head = Head::new(Config { journal_limit_bytes: crate::units::ByteSize(limit), ..Config::default() });
    let refs: Vec<SeriesRef> = (0..500).map(|i| head.intern(&labels("m", &[("i", &i.to_string())])).unwrap()).collect();
    let mut noise = 1_u64;
    for row in 0..600_i64 {
        let batch: Vec<(SeriesRef, f64)> = refs
            .iter()
            .map(|r| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (*r, f64::from_bits(noise >> 2))
            })
            .collect();
        head.append_at(at(row * 1000), &batch);
        if row % 3 == 0
            && let Some(batch) = head.drain_journal()
        {
            head.return_journal(batch); // PostgreSQL is away
        }
        assert!(head.stats().journal_bytes <= limit as usize + (1 << 20));
    }
    assert!(head.counters().journal_dropped_batches.load(std::sync::atomic::Ordering::Relaxed) > 0);
    let left = drain(&head);
    assert!(left.iter().map(|b| b.bytes.len()).sum::<usize>() <= limit as usize);
    replayed(&left);
    head.append_at(at(10_000_000), &refs.iter().map(|r| (*r, 1.0)).collect::<Vec<_>>());
    assert_eq!(head.drain_journal().unwrap().sample_count, 500);
}

// === Chunks ===

#[test]
fn closed_blocks_hold_each_sample_once_until_marked() {
    let head = head_with(36_000, 0);
    let (a, b) = (head.intern(&labels("a", &[])).unwrap(), head.intern(&labels("b", &[])).unwrap());
    for row in 0..1000 {
        head.append_at(at(1_800_000 + row * 15_000), &[(a, row as f64), (b, 0.0)]);
    }
    let cut = at(2 * 7_200_000);
    let blocks = head.closed_blocks(cut);
    assert_eq!(blocks, head.closed_blocks(cut), "the same until marked");
    assert_eq!(blocks.len(), 2, "one label set, two windows");
    let mut found = Vec::new();
    for closed in &blocks {
        assert_eq!((closed.labels.clone(), closed.block.len()), (Labels::empty(), 2));
        let member = &closed.block[&("a".to_owned(), String::new())];
        assert!(member.times.iter().all(|at| at.floor_to(CHUNK_WINDOW) == closed.window));
        found.extend(member.times.iter().copied().zip(member.values.iter().copied()));
    }
    let wanted = (14_400_000 - 1_800_000) / 15_000;
    assert_eq!(found, (0..wanted).map(|row| (at(1_800_000 + row * 15_000), row as f64)).collect::<Vec<_>>());
    head.mark_chunked(cut);
    assert!(head.closed_blocks(cut).is_empty());
    let rest = head.closed_blocks(Timestamp::MAX.min(at(99 * 7_200_000)));
    let rest: usize = rest.iter().flat_map(|closed| closed.block.values()).map(|member| member.values.len()).sum();
    assert_eq!(rest as i64, 2 * (1000 - wanted));
}

// === Tiers ===

#[test]
fn tiers_meet_without_a_gap_or_a_double() {
    let (memory, history) = (head_with(1000, 0), head_with(99_000, 0));
    let series = |head: &Head| ["a", "b"].map(|name| head.intern(&labels(name, &[])).unwrap());
    let [(ma, mb), (ha, hb)] = [&memory, &history].map(|head| series(head).into());
    for row in 0..1000_i64 {
        memory.append_at(at(row * 5000), &[(ma, row as f64), (mb, 1.0)]);
        if row < 900 {
            history.append_at(at(row * 5000), &[(ha, row as f64), (hb, -1.0)]);
        }
        memory.collect_garbage(at(row * 5000));
    }
    let old = history.intern(&labels("old", &[])).unwrap();
    history.append_at(at(4_500_000), &[(old, 1.0)]);
    let tiered = Tiered::new(memory.clone(), std::sync::Arc::new(history));
    let found = content(&tiered);
    assert_eq!(found["a"], (0..1000).map(|row| (row * 5000, (row as f64).to_bits())).collect::<Vec<_>>());
    let seam = memory.complete_from().as_millis() - START;
    assert!(found["b"].iter().filter(|(t, _)| *t >= seam).all(|(_, v)| *v == 1_f64.to_bits()), "memory wins");
    assert_eq!(found["b"].len(), 1000);
    assert!(!found.contains_key("old"), "history is not asked past the seam");
    let recent = content_between(&tiered, memory.complete_from(), Timestamp::MAX);
    assert_eq!(recent, content_between(&memory, memory.complete_from(), Timestamp::MAX));
    let names = block_on(tiered.label_values("__name__".into(), vec![], at(0), at(9_000_000))).unwrap();
    assert_eq!(names, ["a", "b", "old"]);
    assert_eq!(block_on(tiered.series(vec![], at(0), at(9_000_000))).unwrap().len(), 2);
}

struct Away;

impl Queryable for Away {
    fn select(&self, _: Select) -> futures_util::future::BoxFuture<'_, Result<Selection, QueryError>> {
        Box::pin(async { Err(QueryError::Unavailable { store: "PostgreSQL", reason: "connection refused".into() }) })
    }
    fn series(
        &self,
        _: Vec<Vec<Matcher>>,
        _: Timestamp,
        _: Timestamp,
    ) -> futures_util::future::BoxFuture<'_, Result<Vec<Labels>, QueryError>> {
        Box::pin(async { Err(QueryError::Unavailable { store: "PostgreSQL", reason: "connection refused".into() }) })
    }
}

#[test]
fn memory_answers_alone_with_a_warning_while_history_is_away() {
    let memory = head();
    let a = memory.intern(&labels("a", &[])).unwrap();
    memory.append_at(at(1000), &[(a, 1.0)]);
    let tiered = Tiered::new(memory, std::sync::Arc::new(Away));
    let select = |from| block_on(tiered.select(Select::new(vec![], from, at(2000)))).unwrap();
    let reaching = select(at(0));
    assert_eq!(reaching.series.len(), 1);
    assert_eq!(
        reaching.warnings,
        [format!("history before {} is not available: PostgreSQL: connection refused", at(1000))]
    );
    assert!(select(at(1000)).warnings.is_empty(), "history is not asked");
    assert_eq!(block_on(tiered.series(vec![], at(0), at(2000))).unwrap().len(), 1);
    assert_eq!(block_on(tiered.label_names(vec![], at(0), at(2000))).unwrap(), ["__name__"]);
}

// === Properties ===

/// One append: time step, and for each series (in an order) a value or nothing.
type Step = (i64, Vec<(usize, f64)>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value =
        prop_oneof![4 => Just(1.0), 4 => (0..50_u32).prop_map(f64::from), 1 => Just(stale_marker()), 1 => any::<f64>()];
    let every =
        prop::collection::vec(value.clone(), 12).prop_map(|values| values.into_iter().enumerate().collect::<Vec<_>>());
    let some = prop::collection::vec((0..12_usize, value), 1..12);
    let step = prop_oneof![6 => Just(1000_i64), 2 => 1..3000_i64, 1 => -20_000..0_i64, 1 => Just(0)];
    prop::collection::vec((step, prop_oneof![3 => every, 1 => some]), 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn memory_and_replay_agree_with_plain_lists(steps in steps(), window_s in prop::sample::select(vec![0_u64, 5, 1000]), split: prop::sample::Index) {
        let head = head_with(10_800, window_s);
        let refs: Vec<SeriesRef> = (0..12).map(|i| head.intern(&labels("m", &[("i", &format!("{i:02}"))])).unwrap()).collect();
        let mut plain: BTreeMap<usize, BTreeMap<i64, u64>> = BTreeMap::new();
        let (mut now, split, mut batches) = (0, split.index(steps.len()), Vec::new());
        for (i, (step, samples)) in steps.iter().enumerate() {
            now += step;
            let mut wanted = Appended::default();
            for (series, value) in samples {
                let known = plain.entry(*series).or_default();
                let newest = known.last_key_value().map_or(i64::MIN / 2, |(at, _)| *at);
                match known.get(&now) {
                    _ if newest - now > window_s as i64 * 1000 => wanted.out_of_order += 1,
                    Some(bits) if *bits == value.to_bits() => wanted.duplicates += 1,
                    Some(_) => wanted.conflicting += 1,
                    None => {
                        known.insert(now, value.to_bits());
                        wanted.accepted += 1;
                    }
                }
            }
            let batch: Vec<(SeriesRef, f64)> = samples.iter().map(|(series, value)| (refs[*series], *value)).collect();
            prop_assert_eq!(head.append_at(at(now), &batch), wanted, "step {} at {}", i, now);
            if i == split {
                batches.extend(drain(&head));
            }
        }
        let wanted: Content = plain.into_iter().filter(|(_, known)| !known.is_empty())
            .map(|(i, known)| (format!("m{{i=\"{i:02}\"}}"), known.into_iter().collect())).collect();
        prop_assert_eq!(&content(&head), &wanted);
        batches.extend(drain(&head));
        prop_assert_eq!(&content(&replayed(&batches)), &wanted);
        let (from, to) = (at(now / 3), at(now / 2));
        let inside: Content = wanted.into_iter().map(|(name, mut samples)| {
            samples.retain(|(t, _)| *t >= now / 3 && *t <= now / 2);
            (name, samples)
        }).filter(|(_, samples)| !samples.is_empty()).collect();
        prop_assert_eq!(content_between(&head, from, to), inside.clone());
        prop_assert_eq!(block_on(head.series(vec![], from, to)).unwrap().len(), inside.len());
    }
}
