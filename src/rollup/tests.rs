//! Tests of the rollup: labels to edges, increments to minutes, bounds, and the fixture pages.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::stale_marker;
use crate::model::workload::{MeshKind, Protocol, Reporter, Security};

mod restart;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn series(name: &str, pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().chain([("__name__", name)]).collect()
}

fn istio_series(name: &str, more: &[(&str, &str)]) -> Labels {
    let base = [
        ("reporter", "source"),
        ("source_workload", "cart-v1"),
        ("source_workload_namespace", "shop"),
        ("source_canonical_service", "cart"),
        ("destination_workload", "pay-v1"),
        ("destination_workload_namespace", "shop"),
        ("destination_service_name", "pay"),
        ("destination_service_namespace", "shop"),
        ("destination_service", "pay.shop.svc.cluster.local"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("connection_security_policy", "unknown"),
    ];
    series(name, &base.iter().chain(more).copied().collect::<Vec<_>>())
}

fn total(minutes: &[EdgeMinute]) -> f64 {
    minutes.iter().flat_map(|minute| &minute.requests).map(|(_, count)| count).sum()
}

#[test]
fn the_first_sample_counts_nothing_and_the_next_ones_their_increase() {
    let rollup = Rollup::default();
    let slot = rollup.slot(&istio_series("istio_requests_total", &[])).unwrap();
    for (second, value) in [(0, 1000.0), (15, 1010.0), (30, 4.0), (45, 4.0), (50, 6.0)] {
        rollup.observe(at(second), &[(slot, value)]);
    }
    let minutes = rollup.recent(at(0));
    assert_eq!((minutes.len(), total(&minutes)), (1, 16.0)); // 10, then a restart at 4, then 2
    assert_eq!(rollup.counters().resets.load(Ordering::Relaxed), 1);
    let edge = &minutes[0].edge;
    assert_eq!((edge.mesh, edge.reporter, edge.protocol), (MeshKind::Istio, Reporter::Source, Protocol::Http));
    assert_eq!((edge.source.name.as_deref(), edge.source.app.as_deref()), (Some("cart-v1"), Some("cart")));
    assert_eq!(minutes[0].requests[0].0.code.as_ref(), "200");
}

#[test]
fn a_series_new_on_a_known_target_counts_from_zero() {
    let rollup = Rollup::default();
    let slot = rollup.slot_since(&istio_series("istio_requests_total", &[("response_code", "503")]), at(15)).unwrap();
    rollup.observe(at(30), &[(slot, 7.0)]);
    assert_eq!(total(&rollup.recent(at(0))), 7.0);
}

#[test]
fn an_increment_across_a_boundary_is_split_by_time_and_sums_up() {
    let rollup = Rollup::default();
    let slot = rollup.slot(&istio_series("istio_requests_total", &[])).unwrap();
    rollup.observe(at(50), &[(slot, 0.0)]);
    rollup.observe(at(190), &[(slot, 140.0)]);
    let minutes = rollup.recent(at(0));
    let counts: Vec<f64> = minutes.iter().map(|minute| minute.requests[0].1).collect();
    assert_eq!(counts, [10.0, 60.0, 60.0, 10.0]);
    rollup.observe(at(240), &[(slot, 190.0)]); // a sample on the boundary belongs to the minute it ends
    assert_eq!(rollup.recent(at(180)).len(), 1);
    assert_eq!(total(&rollup.recent(at(0))), 190.0);
}

#[test]
fn a_stale_marker_ends_a_run_without_a_reset() {
    let observed = |samples: &[(i64, f64)]| {
        let rollup = Rollup::default();
        let slot = rollup.slot(&istio_series("istio_requests_total", &[])).unwrap();
        for (second, value) in samples {
            rollup.observe(at(*second), &[(slot, *value)]);
        }
        total(&rollup.recent(Timestamp::from_millis(0)))
    };
    let stale = stale_marker();
    assert_eq!(observed(&[(0, 10.0), (15, stale), (30, 14.0)]), 4.0);
    assert_eq!(observed(&[(0, 10.0), (15, stale), (30, stale), (45, 3.0)]), 3.0);
    assert_eq!(observed(&[(0, 10.0), (15, stale), (400, 500.0), (415, 501.0)]), 1.0); // away longer than MAX_GAP
    assert_eq!(observed(&[(0, stale), (15, 9.0), (30, 9.0)]), 0.0);
    assert_eq!(observed(&[(0, 1.0), (15, f64::NAN), (20, f64::INFINITY), (25, -4.0), (30, 3.0)]), 2.0);
}

#[test]
fn tcp_bytes_are_named_from_the_servers_side() {
    let rollup = Rollup::default();
    let open = |name: &str, flags: &str| {
        rollup
            .slot_since(&istio_series(name, &[("request_protocol", "tcp"), ("response_flags", flags)]), at(0))
            .unwrap()
    };
    let batch = [
        (open("istio_tcp_received_bytes_total", "-"), 100.0),
        (open("istio_tcp_sent_bytes_total", "-"), 9000.0),
        (open("istio_tcp_connections_opened_total", "-"), 5.0),
        (open("istio_tcp_connections_closed_total", "DC"), 2.0),
        (open("istio_tcp_connections_closed_total", "UF,URX"), 1.0),
    ];
    rollup.observe(at(10), &batch);
    let minutes = rollup.recent(at(0));
    let [minute] = minutes.as_slice() else { panic!("{minutes:?}") };
    assert_eq!((minute.request_bytes, minute.response_bytes, minute.connections_closed), (100.0, 9000.0, 3.0));
    let by_flags: BTreeMap<&str, f64> = minute.requests.iter().map(|(o, count)| (&*o.flags, *count)).collect();
    assert_eq!(by_flags, BTreeMap::from([("", 5.0), ("UF,URX", 1.0)]));
    assert_eq!(minute.edge.protocol, Protocol::Tcp);
}

fn observe_buckets(rollup: &Rollup, pod: &str, buckets: &[(&str, f64)], second: i64) {
    let batch: Vec<_> = buckets
        .iter()
        .map(|(le, value)| {
            let labels = istio_series("istio_request_duration_milliseconds_bucket", &[("pod", pod), ("le", le)]);
            (rollup.slot_since(&labels, at(0)).unwrap(), *value)
        })
        .collect();
    rollup.observe(at(second), &batch);
}

#[test]
fn histograms_come_out_non_cumulative_and_merge_on_common_bounds() {
    let rollup = Rollup::default();
    observe_buckets(&rollup, "a", &[("10", 1.0), ("100", 3.0), ("+Inf", 4.0)], 5);
    observe_buckets(&rollup, "b", &[("10", 1.0), ("100", 3.0), ("+Inf", 4.0)], 6);
    let latency = rollup.recent(at(0))[0].latency.clone();
    assert_eq!((&*latency.bounds_ms, latency.counts), ([10.0, 100.0].as_slice(), vec![2.0, 4.0, 2.0]));
    observe_buckets(&rollup, "c", &[("50", 2.0), ("100", 3.0), ("+Inf", 4.0)], 7);
    let latency = rollup.recent(at(0))[0].latency.clone();
    assert_eq!((&*latency.bounds_ms, latency.counts), ([100.0].as_slice(), vec![9.0, 3.0]));
}

#[test]
fn minutes_edges_and_outcomes_are_bounded_and_what_is_refused_is_counted() {
    let config = Config { keep: Duration::from_secs(120).into(), edge_limit: 2, outcome_limit: 2, ..Config::default() };
    let rollup = Rollup::new(config);
    let slot = |workload: &str, code: &str| {
        let more = [("source_workload", workload), ("response_code", code)];
        rollup.slot_since(&istio_series("istio_requests_total", &more), at(0))
    };
    let codes: Vec<_> = ["200", "201", "500", "503"].iter().map(|code| (slot("a", code).unwrap(), 1.0)).collect();
    rollup.observe(at(10), &codes);
    let mut ended: Vec<String> =
        rollup.recent(at(0))[0].requests.iter().map(|(o, n)| format!("{}={n}", o.code)).collect();
    ended.sort();
    assert_eq!(ended, ["200=1", "201=1", "5xx=2"]);
    let second = slot("b", "200").unwrap();
    assert_eq!(slot("c", "200"), None);
    assert_eq!(rollup.size(), Size { edges: 2, slots: 5, minutes: 1 });
    for (slot, _) in codes {
        rollup.release(slot);
    }
    rollup.release(second);
    rollup.release(second); // twice is harmless
    assert_eq!(rollup.size(), Size { edges: 1, slots: 0, minutes: 1 }); // the minute still needs the first edge
    rollup.advance(at(400));
    rollup.observe(at(400), &[(second, 5.0)]);
    assert_eq!(rollup.size(), Size { edges: 0, slots: 0, minutes: 0 });
    let counters = rollup.counters();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((read(&counters.edges_refused), read(&counters.outcomes_folded)), (1, 2));
    assert_eq!(read(&counters.samples_ignored), 1);
}

#[test]
fn minutes_added_join_what_was_scraped_and_cannot_move_the_window() {
    let rollup = Rollup::default();
    let slot = rollup.slot_since(&istio_series("istio_requests_total", &[]), at(0)).unwrap();
    rollup.observe(at(30), &[(slot, 5.0)]);
    let mut minute = rollup.recent(at(0))[0].clone();
    minute.latency = crate::model::workload::LatencyHistogram {
        bounds_ms: [1.0, 2.0].into(),
        counts: vec![1.0, 2.0, 2.0],
        sum_ms: 9.0,
    };
    rollup.add(minute.clone());
    let joined = rollup.recent(at(0));
    assert_eq!((joined.len(), total(&joined)), (1, 10.0));
    assert_eq!(joined[0].latency, minute.latency);
    rollup.add(EdgeMinute { minute: at(86_400), ..minute.clone() });
    rollup.add(EdgeMinute { minute: at(-86_400), ..minute });
    assert_eq!(rollup.recent(at(0)), joined);
    assert_eq!(rollup.counters().minutes_missed.load(Ordering::Relaxed), 2);
}

#[test]
fn only_a_clock_moves_the_window_far() {
    let rollup = Rollup::default();
    let slot = |code: &str| rollup.slot(&istio_series("istio_requests_total", &[("response_code", code)])).unwrap();
    let (good, stray) = (slot("200"), slot("500"));
    rollup.observe(at(1_000_000), &[(good, 1.0), (stray, 1.0)]);
    for elsewhere in [0, 9_000_000_000, 2_000_000] {
        rollup.observe(at(elsewhere), &[(stray, 5.0 + elsewhere as f64)]);
    }
    rollup.observe(at(1_000_010), &[(good, 2.0)]);
    assert_eq!(total(&rollup.recent(at(0))), 1.0);
    assert_eq!(rollup.counters().minutes_missed.load(Ordering::Relaxed), 3);
    rollup.advance(at(100));
    rollup.observe(at(100), &[(good, 5.0)]);
    rollup.observe(at(110), &[(good, 6.0)]);
    assert_eq!(total(&rollup.recent(at(0))), 4.0);
    assert_eq!(rollup.size().minutes, 1);
    // Without a caller of `advance`, persistence convinces.
    for second in 0..40 {
        rollup.observe(at(5_000_000 + second), &[(good, 10.0 + second as f64)]);
    }
    assert_eq!(total(&rollup.recent(at(5_000_000 - 60))), 9.0);
}

#[test]
fn linkerd_outbound_is_the_callers_report_and_inbound_the_called_workloads() {
    let outbound = series(
        "response_total",
        &[
            ("direction", "outbound"),
            ("namespace", "shop"),
            ("deployment", "cart"),
            ("dst_deployment", "pay"),
            ("dst_namespace", "shop"),
            ("dst_service", "pay"),
            ("server_id", "pay.shop.serviceaccount.identity.linkerd.cluster.local"),
            ("authority", "pay.shop.svc.cluster.local:8080"),
            ("tls", "true"),
            ("classification", "failure"),
            ("status_code", "200"),
            ("grpc_status", "UNAVAILABLE"),
        ],
    );
    let Counting { edge, counted } = counting(&outbound).unwrap();
    assert_eq!((edge.mesh, edge.reporter, edge.security), (MeshKind::Linkerd, Reporter::Source, Security::MutualTls));
    assert_eq!((edge.source.name.as_deref(), edge.destination.name.as_deref()), (Some("cart"), Some("pay")));
    assert_eq!(edge.service.name.as_deref(), Some("pay"));
    let Counted::Requests(outcome) = counted else { panic!("{counted:?}") };
    assert_eq!((&*outcome.code, &*outcome.grpc_status, &*outcome.flags), ("200", "14", "-"));

    let inbound = series(
        "response_total",
        &[
            ("direction", "inbound"),
            ("namespace", "shop"),
            ("statefulset", "pay"),
            ("client_id", "cart.front.serviceaccount.identity.linkerd.cluster.local"),
            ("tls", "true"),
            ("target_port", "8080"),
            ("classification", "failure"),
            ("status_code", "404"),
        ],
    );
    let Counting { edge, counted } = counting(&inbound).unwrap();
    assert_eq!((edge.reporter, edge.destination.name.as_deref()), (Reporter::Destination, Some("pay")));
    assert_eq!((edge.source.namespace.as_deref(), edge.source.name), (Some("front"), None));
    let Counted::Requests(outcome) = counted else { panic!("{counted:?}") };
    assert_eq!((&*outcome.code, &*outcome.flags), ("404", "failure"));

    for (name, value) in [("target_port", "4191"), ("authz_name", "probe"), ("direction", "sideways")] {
        assert_eq!(counting(&inbound.with(name, value)), None, "{name}={value}");
    }
    assert_eq!(counting(&inbound.with("__name__", "request_total")), None);
}

#[test]
fn unknown_is_none_and_special_clusters_keep_their_names() {
    let labels = istio_series(
        "istio_requests_total",
        &[
            ("source_workload", "unknown"),
            ("destination_service_name", "PassthroughCluster"),
            ("reporter", "waypoint"),
            ("request_protocol", "grpc"),
            ("grpc_response_status", "14"),
            ("connection_security_policy", "mutual_tls"),
        ],
    );
    let edge = counting(&labels).unwrap().edge;
    assert_eq!((edge.source.name, edge.service.name.as_deref()), (None, Some("PassthroughCluster")));
    assert_eq!(
        (edge.reporter, edge.protocol, edge.security),
        (Reporter::Waypoint, Protocol::Grpc, Security::MutualTls)
    );
    for name in ["istio_requests_created", "istio_build", "istio_request_duration_milliseconds_count", "up", ""] {
        assert_eq!(counting(&istio_series(name, &[("le", "1")])), None, "{name}");
    }
    assert_eq!(counting(&istio_series("istio_request_duration_milliseconds_bucket", &[("le", "x")])), None);
}

#[test]
fn bare_addresses_make_no_edges_of_their_own() {
    let service = |pairs: &[(&str, &str)]| {
        let more = [("direction", "outbound"), ("peer", "dst"), ("tls", "no_identity"), ("deployment", "cart")];
        counting(&series("tcp_open_total", &[&more, pairs].concat())).unwrap().edge.service.host
    };
    assert_eq!(service(&[("target_addr", "10.1.2.3:5432")]).as_deref(), Some("*:5432"));
    assert_eq!(service(&[("target_addr", "[::1]:6379")]).as_deref(), Some("*:6379"));
    assert_eq!(service(&[("authority", "api.example.com:443")]).as_deref(), Some("api.example.com:443"));
    for address in ["10.1.2.3", "10.1.2.3:80", "::1"] {
        let labels = istio_series("istio_requests_total", &[("destination_service", address)]);
        assert_eq!(counting(&labels).unwrap().edge.service.host, None, "{address}");
    }
}

#[test]
fn the_configuration_is_read_over_its_defaults() {
    assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
    let config: Config = serde_json::from_str(r#"{"keep": "30m", "edge_limit": 7}"#).unwrap();
    assert_eq!((config.keep.as_millis(), config.edge_limit, config.outcome_limit), (1_800_000, 7, 128));
    assert!(serde_json::from_str::<Config>(r#"{"keeps": "30m"}"#).is_err());
}

// === the fixture pages ===

/// Reads `name{label="value",…} number` lines, enough for the fixtures.
fn parse_line(line: &str) -> Option<(Labels, f64)> {
    if line.starts_with('#') || line.trim().is_empty() {
        return None;
    }
    let (head, value) = line.trim().rsplit_once(' ')?;
    let (name, mut rest) = head.split_once('{').map_or((head, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    while let Some((label, tail)) = rest.split_once("=\"") {
        let (text, tail) = tail.split_once('"')?;
        pairs.push((label.trim_matches([',', ' ']).to_owned(), text.to_owned()));
        rest = tail;
    }
    Some((Labels::from_pairs(pairs), value.parse().ok()?))
}

/// All of a page counted as if its target had been seen at zero.
fn minutes_of_page(path: &str, target: &[(&str, &str)]) -> Option<Vec<EdgeMinute>> {
    let file = format!("{}/../shared/fixtures/expositions/{path}", env!("CARGO_MANIFEST_DIR"));
    let Ok(page) = std::fs::read_to_string(&file) else {
        println!("fixtures absent: {file}");
        return None;
    };
    let rollup = Rollup::default();
    let batch: Vec<_> = page
        .lines()
        .filter_map(parse_line)
        .filter_map(|(labels, value)| {
            let labels = labels.iter().chain(target.iter().copied()).collect();
            Some((rollup.slot_since(&labels, at(0))?, value))
        })
        .collect();
    rollup.observe(at(15), &batch);
    Some(rollup.recent(at(0)))
}

#[test]
fn istio_fixture_pages_give_their_edges() {
    let requests = |minutes: &[EdgeMinute]| (minutes.len(), total(minutes));
    if let Some(minutes) = minutes_of_page("istio/mesh-1.1.requests.prom", &[]) {
        // 29 series with 29 sets of labels but code and flags; the sums are those of awk over the page.
        assert_eq!(requests(&minutes), MESH_1_1, "{minutes:#?}");
    }
    if let Some(minutes) = minutes_of_page("istio/ztunnel-1.24.connections.prom", &[]) {
        assert_eq!(requests(&minutes), ZTUNNEL);
        assert!(minutes.iter().all(|m| m.edge.protocol == Protocol::Tcp && m.edge.security == Security::MutualTls));
    }
    if let Some(minutes) = minutes_of_page("istio/ingressgateway-2025-02.derived.prom", &[]) {
        let [minute] = minutes.as_slice() else { panic!("{minutes:#?}") };
        assert_eq!(minute.edge.source.name.as_deref(), Some("istio-ingressgateway"));
        assert_eq!((minute.requests.len(), minute.latency.bounds_ms.len()), (2, 19));
        assert_eq!(minute.latency.total(), total(&minutes));
    }
    for page in ["istio/all-labels.prom", "istio/waypoint-minimal.prom"] {
        if let Some(minutes) = minutes_of_page(page, &[]) {
            assert_eq!(minutes, [], "no reporter that is known, so nothing to attribute");
        }
    }
}

const MESH_1_1: (usize, f64) = (29, 94.0);
const ZTUNNEL: (usize, f64) = (14, 5200.0);

#[test]
fn the_linkerd_fixture_page_gives_its_edge() {
    let target = [("namespace", "linkerd-opaque-ports-test"), ("deployment", "client")];
    let Some(minutes) = minutes_of_page("linkerd/proxy-sample.prom", &target) else { return };
    let [minute] = minutes.as_slice() else { panic!("{minutes:#?}") };
    assert_eq!((minute.edge.protocol, minute.edge.security), (Protocol::Tcp, Security::MutualTls));
    assert_eq!(minute.edge.destination.name.as_deref(), Some("opaque-pod"));
    assert_eq!((total(&minutes), minute.request_bytes, minute.response_bytes), (1.0, 3763.0, 8323.0));
}

// === property: minutes equal a recomputation from the raw samples ===

#[derive(Clone, Debug)]
enum Event {
    Count(u32),
    Restart(u32),
    Stale,
    Missed,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..500_u32).prop_map(Event::Count),
        1 => (0..50_u32).prop_map(Event::Restart),
        1 => Just(Event::Stale),
        1 => Just(Event::Missed),
    ]
}

/// Cumulative truth by time: straight lines between the samples of a run, flat elsewhere.
fn recompute(samples: &[(i64, f64)], minute_ms: i64) -> f64 {
    let (mut last, mut stale, mut sum): (Option<(i64, f64)>, bool, f64) = (None, false, 0.0);
    for &(t, v) in samples {
        if crate::model::is_stale(v) {
            stale = true;
            continue;
        }
        if let Some((t0, v0)) = last.filter(|(t0, _)| !stale || t - t0 <= MAX_GAP.as_millis() as i64) {
            let gained = if v < v0 { v } else { v - v0 };
            let overlap = (t.min(minute_ms + 60_000) - t0.max(minute_ms)).max(0);
            sum += gained * overlap as f64 / (t - t0) as f64;
        }
        (last, stale) = (Some((t, v)), false);
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn minutes_equal_a_recomputation_from_raw_samples(
        runs in prop::collection::vec(prop::collection::vec((1..40_000_i64, event()), 1..25), 1..6),
    ) {
        // Each run is one series; labels change from run to run: code, then the caller.
        let rollup = Rollup::new(Config { keep: Duration::from_secs(7200).into(), ..Config::default() });
        let mut truth: BTreeMap<(i64, String, String), f64> = BTreeMap::new();
        let mut all: Vec<(i64, usize, f64)> = Vec::new();
        let names: Vec<(String, String)> = (0..runs.len()).map(|i| (format!("w{}", i / 2), format!("20{}", i % 2))).collect();
        for (i, run) in runs.iter().enumerate() {
            let (mut t, mut value, mut samples) = (0, 100.0, Vec::new());
            for (step, event) in run {
                t += step;
                match event {
                    Event::Count(by) => value += f64::from(*by),
                    Event::Restart(to) => value = f64::from(*to),
                    Event::Stale | Event::Missed => {}
                }
                match event {
                    Event::Missed => {}
                    Event::Stale => samples.push((t, stale_marker())),
                    _ => samples.push((t, value)),
                }
            }
            for minute in (0..=t).step_by(60_000) {
                *truth.entry((minute, names[i].0.clone(), names[i].1.clone())).or_default() += recompute(&samples, minute);
            }
            all.extend(samples.iter().map(|(t, v)| (*t, i, *v)));
        }
        all.sort_by_key(|(t, i, _)| (*t, *i));
        let slots: Vec<SlotId> = names.iter().map(|(source, code)| {
            let more = [("source_workload", source.as_str()), ("response_code", code.as_str())];
            rollup.slot(&istio_series("istio_requests_total", &more)).unwrap()
        }).collect();
        for (t, i, value) in all {
            rollup.observe(Timestamp::from_millis(t), &[(slots[i], value)]);
        }
        let mut counted: BTreeMap<(i64, String, String), f64> = BTreeMap::new();
        for minute in rollup.recent(at(0)) {
            for (outcome, count) in &minute.requests {
                let source = minute.edge.source.name.as_deref().unwrap_or_default().to_owned();
                *counted.entry((minute.minute.as_millis(), source, outcome.code.to_string())).or_default() += count;
            }
        }
        for (key, expect) in &truth {
            let seen = counted.remove(key).unwrap_or(0.0);
            prop_assert!((seen - expect).abs() < 1e-6, "{:?}: {} but {} from raw samples", key, seen, expect);
        }
        prop_assert!(counted.values().all(|count| *count == 0.0), "{:?}", counted);
    }
}
