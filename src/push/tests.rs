//! Bodies as senders write them, good and bad, and what is in memory then.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;
use prost::encoding::encode_varint;

use super::remote::{Version, Written, write};
use super::{Closed, Config, Intake, SampleError};
use crate::clock::Clock;
use crate::model::{Labels, Matcher, STALE_NAN_BITS, Timestamp};
use crate::rollup::Rollup;
use crate::scrape::exposition::MetricKind;
use crate::series::{self, Exemplar, Head, Queryable, Select};
use crate::units::PromDuration;
use crate::wire::{put_bytes, put_double, put_varint};

const NOW_MS: i64 = 1_700_000_000_000;

type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

fn sample(at: i64, value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    put_double(1, value, &mut out);
    put_varint(2, at as u64, &mut out);
    out
}

fn v1_series(labels: &[(&[u8], &[u8])], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        put_bytes(1, name, &mut label);
        put_bytes(2, value, &mut label);
        put_bytes(1, &label, &mut series);
    }
    for (at, value) in samples {
        put_bytes(2, &sample(*at, *value), &mut series);
    }
    let mut request = Vec::new();
    put_bytes(1, &series, &mut request);
    request
}

fn named<'a>(name: &'a str, rest: &[(&'a str, &'a str)]) -> Vec<(&'a [u8], &'a [u8])> {
    let pairs = std::iter::once(("__name__", name)).chain(rest.iter().copied());
    pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

fn plain_v1(name: &str, samples: &[(i64, f64)]) -> Vec<u8> {
    v1_series(&named(name, &[("a", "b")]), samples)
}

fn intake_with(series: series::Config) -> Intake {
    let clock = Clock::starting_at(Timestamp::from_millis(NOW_MS));
    let past: super::PastWriter = std::sync::Arc::new(|_| Box::pin(async { Ok(()) }));
    Intake::new(Config::default(), Head::new(series), Rollup::default(), clock, Some(past))
}

fn intake() -> Intake {
    intake_with(series::Config::default())
}

fn v1(intake: &Intake, bodies: &[Vec<u8>]) -> Written {
    write(intake, Version::V1, &bodies.concat()).unwrap()
}

fn stored(intake: &Intake, name: &str) -> Vec<(i64, u64)> {
    let select = Select::new(vec![Matcher::equal("__name__", name)], Timestamp::MIN, Timestamp::MAX);
    let found = futures_util::FutureExt::now_or_never(intake.0.head.select(select)).unwrap().unwrap();
    let samples = |one: &series::SeriesSamples| {
        one.times.iter().zip(&one.values).map(|(at, value)| (at.as_millis(), value.to_bits())).collect::<Vec<_>>()
    };
    found.series.iter().flat_map(samples).collect()
}

#[tokio::test]
async fn samples_of_known_and_new_series_are_there_at_once() {
    let intake = intake();
    let stale = f64::from_bits(STALE_NAN_BITS);
    let written =
        v1(&intake, &[plain_v1("x", &[(NOW_MS, 1.0), (NOW_MS + 1, f64::NAN)]), plain_v1("y", &[(NOW_MS, 7.0)])]);
    assert_eq!((written.samples, written.problems.len()), (3, 0));
    let written = v1(&intake, &[plain_v1("x", &[(NOW_MS + 2, stale)]), plain_v1("y", &[(NOW_MS, 7.0)])]);
    assert_eq!((written.samples, written.problems.len()), (2, 0), "the same sample again is fine");
    let expect = [(NOW_MS, 1_f64.to_bits()), (NOW_MS + 1, f64::NAN.to_bits()), (NOW_MS + 2, STALE_NAN_BITS)];
    assert_eq!(stored(&intake, "x"), expect);
    // Labels in another order, with an empty one, name the same series.
    let twisted = [(&b"a"[..], &b"b"[..]), (b"zz", b""), (b"__name__", b"x")];
    v1(&intake, &[v1_series(&twisted, &[(NOW_MS + 3, 5.0)])]);
    assert_eq!(stored(&intake, "x").len(), 4);
    assert_eq!(intake.0.head.stats().series, 2);
}

#[tokio::test]
async fn a_bad_sample_says_why_and_keeps_out_no_other() {
    let cases: [(&str, i64, f64, Duration, SampleError); 6] = [
        ("older", -1, 2.0, Duration::ZERO, SampleError::OutOfOrder),
        ("other value", 0, 2.0, Duration::ZERO, SampleError::Duplicate { at_ms: NOW_MS, existing: 1.0, offered: 2.0 }),
        ("ahead", 601_000, 2.0, Duration::ZERO, SampleError::TooFarAhead),
        ("before memory", -4 * 3_600_000, 2.0, Duration::ZERO, SampleError::OutOfBounds),
        ("beyond the window", -7_200_000, 2.0, Duration::from_secs(3600), SampleError::TooOld),
        ("beyond window and memory", -5 * 3_600_000, 2.0, Duration::from_secs(3600), SampleError::TooOld),
    ];
    for (what, by, value, window, expect) in cases {
        let intake = intake_with(series::Config {
            out_of_order_window: PromDuration::from(window),
            ..series::Config::default()
        });
        v1(&intake, &[plain_v1("x", &[(NOW_MS, 1.0)])]);
        let bodies = [
            plain_v1("good", &[(NOW_MS + by.min(0) / 100, 1.0)]),
            plain_v1("x", &[(NOW_MS + by, value), (NOW_MS + 5, 3.0)]),
        ];
        let written = v1(&intake, &bodies);
        assert_eq!((written.samples, written.problems), (2, vec![expect.to_string()]), "{what}");
        assert_eq!(stored(&intake, "good").len(), 1, "{what}");
        let x: Vec<i64> = stored(&intake, "x").iter().map(|(at, _)| at - NOW_MS).collect();
        assert_eq!(x, [0, 5], "{what}");
    }
}

#[tokio::test]
async fn samples_within_the_window_go_to_memory_or_to_history() {
    let window = PromDuration::from(Duration::from_secs(365 * 86_400));
    let intake = intake_with(series::Config { out_of_order_window: window, ..series::Config::default() });
    let hour = 3_600_000;
    v1(&intake, &[plain_v1("x", &[(NOW_MS, 1.0)])]);
    let written =
        v1(&intake, &[plain_v1("x", &[(NOW_MS - 30 * hour, 2.0), (NOW_MS - hour, 3.0), (NOW_MS - 31 * hour, 4.0)])]);
    assert_eq!((written.samples, written.problems.len(), written.past.len()), (3, 0, 1));
    let times: Vec<i64> = written.past[0].times.iter().map(|at| (at.as_millis() - NOW_MS) / hour).collect();
    assert_eq!(times, [-31, -30]);
    assert_eq!(written.past[0].labels, Labels::from_pairs([("__name__", "x"), ("a", "b")]));
    assert_eq!(stored(&intake, "x").len(), 2);
    // What memory takes for a window that is in chunks already is merged there by memory itself.
    intake.0.head.mark_chunked(Timestamp::from_millis(NOW_MS - hour));
    let written = v1(&intake, &[plain_v1("x", &[(NOW_MS - 2 * hour, 2.0), (NOW_MS - 1, 3.0)])]);
    assert_eq!((written.samples, written.past.len()), (2, 0));
}

#[tokio::test]
async fn bad_labels_are_refused_alone_and_in_prometheus_words() {
    let many: Vec<(String, String)> = (0..300).map(|i| (format!("l{i:03}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let long = "v".repeat(20_000);
    let cases: [(&str, Pairs<'_>, Option<&str>); 7] = [
        ("no name", vec![(b"a", b"b")], None),
        ("empty name", named("", &[("a", "b")]), None),
        ("no label name", named("x", &[("", "b")]), None),
        ("not UTF-8", vec![(b"__name__", b"x"), (b"a", b"\xff")], None),
        ("twice", named("x", &[("a", "b"), ("a", "c")]), None),
        ("many", named("x", &many), Some("label limit exceeded (number of labels: 301, push.labels_per_series: 256)")),
        (
            "long",
            named("x", &[("a", &long)]),
            Some("label value too long (length: 20000, push.label_value_bytes: 16384)"),
        ),
    ];
    for (what, labels, told) in cases {
        let intake = intake();
        let written = v1(&intake, &[v1_series(&labels, &[(NOW_MS, 1.0)]), plain_v1("good", &[(NOW_MS, 1.0)])]);
        assert_eq!(written.samples, 1, "{what}");
        assert_eq!(stored(&intake, "good").len(), 1, "{what}");
        match told {
            None => assert_eq!(written.problems, [] as [&str; 0], "{what}: 1.0 passes over it"),
            Some(told) => assert!(written.problems[0].starts_with(told), "{what}: {:?}", written.problems),
        }
        assert_eq!(intake.counters().refused_series.load(std::sync::atomic::Ordering::Relaxed), 1, "{what}");
    }
}

/// References, samples and the bytes of further fields.
type V2Series<'a> = (&'a [u64], &'a [(i64, f64)], Vec<u8>);

/// A request of 2.0: symbols, and series as references, samples and further fields.
fn v2_request(symbols: &[&str], series: &[V2Series<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    symbols.iter().for_each(|symbol| put_bytes(4, symbol.as_bytes(), &mut out));
    for (references, samples, rest) in series {
        let (mut one, mut packed) = (Vec::new(), Vec::new());
        references.iter().for_each(|reference| encode_varint(*reference, &mut packed));
        put_bytes(1, &packed, &mut one);
        samples.iter().for_each(|(at, value)| put_bytes(2, &sample(*at, *value), &mut one));
        one.extend_from_slice(rest);
        put_bytes(5, &one, &mut out);
    }
    out
}

#[tokio::test]
async fn version_two_counts_what_is_stored_and_names_each_mistake() {
    let symbols = ["", "__name__", "x_bucket", "a", "b", "trace_id", "t1", "Help of x."];
    let (mut rest, mut exemplar, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(1, &[5, 6], &mut exemplar);
    put_double(2, 0.5, &mut exemplar);
    put_varint(3, NOW_MS as u64, &mut exemplar);
    put_bytes(4, &exemplar, &mut rest);
    put_varint(1, 3, &mut metadata);
    put_varint(3, 7, &mut metadata);
    put_bytes(5, &metadata, &mut rest);
    let mut histogram = Vec::new();
    put_bytes(3, &[], &mut histogram);
    let good: &[u64] = &[1, 2, 3, 4];
    let request = v2_request(
        &symbols,
        &[
            (good, &[(NOW_MS, 1.0), (NOW_MS, 2.0)], rest),
            (&[1, 2, 3], &[(NOW_MS, 1.0)], vec![]),
            (&[1, 99], &[(NOW_MS, 1.0)], vec![]),
            (&[3, 4], &[(NOW_MS, 1.0)], vec![]),
            (&[1, 2, 3, 4, 3, 6], &[(NOW_MS, 1.0)], vec![]),
            (&[1, 4], &[], vec![]),
            (&[1, 6], &[], histogram),
            (&[1, 4], &[(NOW_MS, 9.0)], vec![]),
        ],
    );
    let intake = intake();
    let written = write(&intake, Version::V2, &request).unwrap();
    assert_eq!((written.samples, written.histograms, written.exemplars), (2, 0, 1));
    let mut told = written.problems.clone();
    told.sort();
    let mut expect = vec![
        "parsing labels for series [1, 2, 3]: invalid labelRefs length 3",
        "parsing labels for series [1, 99]: labelRefs 1 (value) = 99 outside of symbols table (size 8)",
        "invalid metric name or labels, got {a=\"b\"}",
        "invalid labels for series, labels {__name__=\"x_bucket\", a=\"b\", a=\"t1\"}, duplicated label a",
        "native histograms are disabled for series {__name__=\"t1\"}",
        "duplicate sample for timestamp 1700000000000; overrides not allowed: existing 1, new value 2 for series {__name__=\"x_bucket\", a=\"b\"}",
    ];
    expect.sort_unstable();
    assert_eq!(told, expect);
    let metadata = intake.metadata();
    assert_eq!(
        (metadata[0].name.as_str(), metadata[0].kind, metadata[0].help.as_str()),
        ("x", MetricKind::Histogram, "Help of x.")
    );
    let found = intake.0.head.exemplars().select(&[vec![]], Timestamp::MIN, Timestamp::MAX);
    let expect =
        Exemplar { labels: Labels::from_pairs([("trace_id", "t1")]), value: 0.5, at: Timestamp::from_millis(NOW_MS) };
    assert_eq!(found[0].exemplars, [expect]);
}

#[tokio::test]
async fn nothing_is_taken_after_the_end() {
    let intake = intake();
    intake.close();
    let error = write(&intake, Version::V1, &plain_v1("x", &[(NOW_MS, 1.0)])).unwrap_err();
    assert_eq!(error.to_string(), "meshscope is stopping: send again later");
    assert!(stored(&intake, "x").is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let intake = intake();
    let body = [plain_v1("x", &[(NOW_MS, 1.0)]), plain_v1("y", &[(NOW_MS, 1.0)])].concat();
    for cut in 1..body.len() {
        let first = plain_v1("x", &[(NOW_MS, 1.0)]).len();
        if cut != first {
            assert!(write(&intake, Version::V1, &body[..cut]).is_err(), "{cut}");
        }
    }
    assert_eq!((stored(&intake, "x").len(), stored(&intake, "y").len()), (0, 0));
    let many = [0x12, 0].repeat(1_000_001);
    let mut request = Vec::new();
    put_bytes(1, &many, &mut request);
    let error = write(&intake, Version::V1, &request).unwrap_err().to_string();
    assert_eq!(error, "the request has more than 1000000 samples and exemplars: send smaller requests");
}

#[tokio::test]
async fn counters_of_a_mesh_that_are_sent_count_for_its_edges() {
    let intake = intake();
    let labels = named(
        "istio_requests_total",
        &[
            ("reporter", "source"),
            ("source_workload", "web"),
            ("source_workload_namespace", "shop"),
            ("destination_workload", "cart"),
            ("destination_workload_namespace", "shop"),
            ("destination_service", "cart.shop.svc.cluster.local"),
            ("request_protocol", "http"),
            ("response_code", "200"),
        ],
    );
    for (at, value) in [(0, 100.0), (15_000, 130.0), (15_000, 999.0), (30_000, 160.0)] {
        v1(&intake, &[v1_series(&labels, &[(NOW_MS + at, value)])]);
    }
    let minutes = intake.0.rollup.recent(Timestamp::MIN);
    let requests: f64 = minutes.iter().flat_map(|minute| &minute.requests).map(|(_, count)| count).sum();
    assert_eq!(requests, 60.0, "neither the past before the first sample nor a refused one");
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..300), second: bool) {
        let _ = write(&intake(), if second { Version::V2 } else { Version::V1 }, &body);
    }
}

#[test]
fn a_counter_that_is_new_on_a_target_counts_from_its_first_value_when_a_scraper_sends_it() {
    let requests = |of_scraper: bool| {
        let intake = intake();
        let send = |second: i64, samples: &[(&str, f64)]| {
            intake
                .store(|batch| -> Result<(), Closed> {
                    if of_scraper {
                        batch.of_scraper();
                    }
                    for (code, value) in samples {
                        let target = [("instance", "i"), ("job", "j")];
                        let edge = [("reporter", "source"), ("response_code", *code), ("source_workload", "web")];
                        let all = match *code {
                            "" => named("up", &target),
                            _ => named(
                                "istio_requests_total",
                                &[&[("destination_workload", "api")], &target[..], &edge[..]].concat(),
                            ),
                        };
                        let series = batch.series(&all).expect("a good series");
                        batch.sample(series, Timestamp::from_millis(NOW_MS - 60_000 + second * 1000), *value);
                    }
                    Ok(())
                })
                .expect("stored");
        };
        // What was there at the first scrape says nothing; what appears later began at zero.
        send(0, &[("200", 1000.0), ("", 1.0)]);
        send(1, &[("200", 1010.0), ("503", 7.0), ("", 1.0)]);
        send(2, &[("200", 1010.0), ("503", 9.0), ("", 1.0)]);
        let minutes = intake.0.rollup.recent(Timestamp::MIN);
        minutes.iter().flat_map(|minute| &minute.requests).map(|(_, count)| count).sum::<f64>().round()
    };
    assert_eq!((requests(true), requests(false)), (19.0, 12.0));
}
