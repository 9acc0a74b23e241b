//! Records of every kind: what they tell, that they survive being stored, what the task makes of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::model::span::hex;
use crate::model::workload::Reporter;
use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp};
use crate::series::{self, Head, Queryable, Select};

const AT_NS: u64 = 1_768_471_200_000_000_000;

/// The record of a resource's attributes, a body and attributes.
fn record(resource: &[(&str, &str)], body: &str, attributes: &[(&str, &str)]) -> Option<AccessRecord> {
    let reader = Reader::new(&[]);
    let mut session = reader.begin(4096);
    let mut of_resource = Fields::default();
    resource.iter().for_each(|(name, value)| of_resource.take(name, *value));
    let origin = session.origin(&of_resource);
    let mut fields = Fields::default();
    let is_line = session.read_body(body, &mut fields);
    attributes.iter().for_each(|(name, value)| fields.take(name, *value));
    session.record(Stamp { at_ns: AT_NS, ..Stamp::default() }, &fields, (&origin, is_line))
}

/// A line in Istio's text format.
fn line(code: &str, flags: &str, details: &str, cluster: &str) -> String {
    format!(
        "[2026-01-15T10:00:00.000Z] \"GET /pay HTTP/1.1\" {code} {flags} {details} - \"-\" 0 19 12 10 \"-\" \"curl/8\" \
         \"r-1\" \"cart:8080\" \"10.0.0.7:8080\" {cluster} 10.0.0.1:1 10.96.0.1:8080 10.0.0.1:34402 - default\n"
    )
}

const FRONTEND: [(&str, &str); 1] =
    [("node_name", "sidecar~10.0.0.1~frontend-v1-6f89b6c557-sg2bc.shop~shop.svc.cluster.local")];
const OUTBOUND: &str = "outbound|8080||cart.shop.svc.cluster.local";

#[test]
fn a_sidecars_line_tells_both_ends_and_the_outcome() {
    let record = record(
        &FRONTEND,
        &line("503", "UF,URX", "upstream_reset_before_response_started{connection_timeout}", OUTBOUND),
        &[],
    );
    let record = record.unwrap();
    assert_eq!(ends_of(&record), ["shop/frontend-v1", "", "shop/cart"]);
    assert_eq!((record.code, record.reason, record.reporter), (503, Reason::ConnectTimeout, Reporter::Source));
    assert_eq!((record.duration_ms, record.upstream_ms, record.response_bytes), (Some(12), Some(10), 19));
    assert_eq!(record.detail(Detail::Path), Some("/pay"));
    assert_eq!(record.detail(Detail::ForwardedFor), None);
}

#[test]
fn a_denied_request_names_policy_rule_and_the_callers_certificate() {
    let cart = [
        ("k8s.pod.name", "cart-v1-6f89b6c557-sg2bc"),
        ("k8s.namespace.name", "shop"),
        ("service.istio.io/canonical-name", "cart"),
    ];
    let body =
        line("403", "-", "rbac_access_denied_matched_policy[ns[shop]-policy[deny-get]-rule[0]]", "inbound|8080||");
    let peer = [("downstream_peer", "spiffe://cluster.local/ns/shop/sa/frontend")];
    let record = record(&cart, &body, &peer).unwrap();
    assert_eq!(ends_of(&record), ["shop/frontend", "shop/cart-v1", "shop/cart"]);
    assert_eq!(
        (record.reason, record.policy.as_deref(), record.rule),
        (Reason::RbacDenied, Some("shop/deny-get"), Some(0))
    );
    assert_eq!(record.reporter, Reporter::Destination);
}

#[test]
fn json_bodies_and_attributes_tell_the_same_as_text() {
    let as_text = record(&FRONTEND, &line("404", "NR", "route_not_found", "-"), &[]).unwrap();
    assert_eq!(ends_of(&as_text), ["shop/frontend-v1", "", "cart"], "the host that was asked for");
    let json = r#"{"start_time":"2026-01-15T10:00:00.000Z","method":"GET","path":"/pay","protocol":"HTTP/1.1","response_code":404,
        "response_flags":"NR","response_code_details":"route_not_found","connection_termination_details":null,"bytes_received":0,
        "bytes_sent":19,"duration":12,"upstream_service_time":"10","user_agent":"curl/8","request_id":"r-1",
        "authority":"cart:8080","upstream_host":"10.0.0.7:8080","upstream_cluster":null,"upstream_local_address":"10.0.0.1:1",
        "downstream_local_address":"10.96.0.1:8080","downstream_remote_address":"10.0.0.1:34402","route_name":"default",
        "unknown":{"nested":[1,2]},"other":[{}]}"#;
    assert_eq!(record(&FRONTEND, json, &[]).unwrap(), as_text);
    let attributes: Vec<(&str, &str)> = vec![
        ("http.request.method", "GET"),
        ("url.path", "/pay"),
        ("network.protocol.name", "HTTP/1.1"),
        ("http.response.status_code", "404"),
        ("response_flags", "NR"),
        ("response_code_details", "route_not_found"),
        ("bytes_received", "0"),
        ("bytes_sent", "19"),
        ("duration", "12"),
        ("upstream_service_time", "10"),
        ("user_agent", "curl/8"),
        ("request_id", "r-1"),
        ("authority", "cart:8080"),
        ("server.address", "10.0.0.7:8080"),
        ("upstream_cluster", "-"),
        ("upstream_local_address", "10.0.0.1:1"),
        ("downstream_local_address", "10.96.0.1:8080"),
        ("downstream_remote_address", "10.0.0.1:34402"),
        ("route_name", "default"),
    ];
    assert_eq!(record(&FRONTEND, "", &attributes).unwrap(), as_text);
}

#[test]
fn what_is_no_access_log_is_left_to_others() {
    assert_eq!(record(&[], "user logged in", &[]), None);
    assert_eq!(record(&[], r#"{"level":"info","duration":12,"method":"GET","status":200}"#, &[]), None);
    assert_eq!(record(&[], "", &[("http.request.method", "GET"), ("http.response.status_code", "200")]), None);
    assert_eq!(record(&[], "{\"response_flags\":", &[]), None);
    // But a line of a format is one even when it says nothing, and so is all of a log of that name.
    let nothing =
        "[2026-01-15T10:00:00.000Z] \"- - -\" 0 - - - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" - - - - - -";
    assert_eq!(record(&[], nothing, &[]).unwrap().reason, Reason::Closed);
    assert!(record(&[("log_name", "otel_envoy_accesslog")], "", &[("response_code", "200")]).is_some());
}

#[test]
fn waypoints_and_gateways_stand_where_they_stand() {
    let waypoint = [("node_id", "waypoint~10.0.0.3~waypoint-6f89b6c557-sg2bc.shop~shop.svc.cluster.local")];
    let peer = [("downstream_peer", "spiffe://cluster.local/ns/web/sa/frontend")];
    let body = line("200", "-", "via_upstream", "inbound-vip|80|http|cart.shop.svc.cluster.local");
    let seen = record(&waypoint, &body, &peer).unwrap();
    assert_eq!(
        (seen.reporter, ends_of(&seen)),
        (Reporter::Waypoint, ["web/frontend".into(), String::new(), "shop/cart".into()])
    );
    let gateway = [("node_id", "router~10.0.0.3~gw-6f89b6c557-sg2bc.istio-system~istio-system.svc.cluster.local")];
    let seen = record(&gateway, &line("403", "-", "rbac_access_denied_matched_policy[none]", "-"), &[]).unwrap();
    assert_eq!((seen.reporter, seen.reason), (Reporter::Source, Reason::RbacNotAllowed));
    assert_eq!(ends_of(&seen)[0], "istio-system/gw");
}

#[test]
fn ids_come_from_the_record_or_from_its_headers() {
    let parent = ("traceparent", "00-7ffa505b8e9a17e6e48a222bf9a2b527-dad83bd909d0c495-01");
    let seen = record(&FRONTEND, &line("200", "-", "via_upstream", OUTBOUND), &[parent]).unwrap();
    assert_eq!(seen.trace_id.map(|id| hex(&id)).as_deref(), Some("7ffa505b8e9a17e6e48a222bf9a2b527"));
    assert_eq!(seen.span_id.map(|id| hex(&id)).as_deref(), Some("dad83bd909d0c495"));
    for odd in ["", "00-0-0", "00-00000000000000000000000000000000-dad83bd909d0c495-01", "00-é", "-"] {
        let seen = record(&FRONTEND, &line("200", "-", "via_upstream", OUTBOUND), &[("traceparent", odd)]).unwrap();
        assert_eq!((seen.trace_id, seen.span_id), (None, None), "{odd}");
    }
    let b3 = [("x-b3-traceid", "a1"), ("x-b3-spanid", "dad83bd909d0c495")];
    let seen = record(&FRONTEND, &line("200", "-", "via_upstream", OUTBOUND), &b3).unwrap();
    assert_eq!(seen.trace_id.map(|id| id[15]), Some(0xa1), "64-bit ids are padded");
}

#[test]
fn long_texts_are_cut_at_a_character_and_counted() {
    let reader = Reader::new(&[]);
    let mut session = reader.begin(9);
    let mut fields = Fields::default();
    fields.take("path", "ééééééé");
    fields.take("response_flags", "-");
    fields.take("response_code", "200");
    let record = session.record(Stamp::default(), &fields, (&Origin::default(), false)).unwrap();
    assert_eq!((record.detail(Detail::Path), session.cut), (Some("éééé"), 1));
}

fn many() -> Vec<AccessRecord> {
    let kinds = [
        line("200", "-", "via_upstream", OUTBOUND),
        line("503", "UH", "no_healthy_upstream", OUTBOUND),
        line("403", "-", "rbac_access_denied_matched_policy[ns[shop]-policy[deny-get]-rule[0]]", "inbound|8080||"),
        line("404", "NR", "route_not_found", "-"),
    ];
    let records = (0..400_u64).map(|at| {
        let id = format!("00-{:032x}-{:016x}-01", at + 1, at + 1);
        let mut seen = record(&FRONTEND, &kinds[at as usize % 4], &[("traceparent", &id)]).unwrap();
        seen.at_ns += at * 1_000_000;
        seen.grpc_status = (at % 3 == 0).then_some(14);
        seen
    });
    records.collect()
}

#[test]
fn a_batch_gives_back_what_it_took_and_says_what_is_in_it() {
    let records = many();
    let batch = encode_batch(&records).unwrap();
    assert_eq!(decode_batch(&batch.bytes).unwrap(), records);
    assert_eq!((batch.from_ns, batch.to_ns, batch.record_count), (AT_NS, AT_NS + 399_000_000, 400));
    let of_part = |part: &AccessLogPart| (part.source.clone(), part.service.clone(), part.code, part.record_count);
    assert_eq!(batch.parts.len(), 4);
    assert_eq!(of_part(&batch.parts[1]), ("shop/frontend-v1".into(), "shop/cart".into(), 503, 100));
    assert!(batch.parts.iter().all(|part| part.trace_hashes.len() == 100 && part.trace_hashes.is_sorted()));
    assert!(batch.bytes.len() / records.len() < 40, "{} bytes for {} records", batch.bytes.len(), records.len());
    assert_eq!(encode_batch::<AccessRecord>(&[]), None);
}

#[test]
fn damaged_batches_are_refused_without_a_panic() {
    let whole = encode_batch(&many()).unwrap().bytes;
    for cut in [0, 3, 4, 20, whole.len() - 1] {
        assert!(decode_batch(&whole[..cut]).is_err(), "{cut}");
    }
    assert!(matches!(decode_batch(b"MSB1"), Err(crate::traces::BatchError::Magic { .. })));
}

proptest! {
    #[test]
    fn any_bytes_behind_the_magic_are_read_or_refused(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = b"MAL1".to_vec();
        bytes.extend(zstd::bulk::compress(&plain, 1).unwrap());
        let _ = decode_batch(&bytes);
    }

    #[test]
    fn any_text_is_a_record_or_none(body in "\\PC{0,300}", key in "[a-z_.]{1,20}", value in "\\PC{0,40}") {
        let _ = record(&FRONTEND, &body, &[(&key, &value), ("response_flags", &value), ("response_code", &value)]);
        let _ = record(&[("node_id", &value)], &line(&value, &value, &value, &value), &[("upstream_cluster", &value)]);
    }
}

#[test]
fn the_ring_keeps_the_newest_and_answers_by_edge_reason_code_and_trace() {
    let records: Vec<_> = many().into_iter().map(std::sync::Arc::new).collect();
    let live = Live::new(100, usize::MAX);
    live.push(&records);
    assert_eq!(live.len(), 100);
    let all = Filter { to_ns: u64::MAX, limit: 1000, ..Filter::default() };
    let count = |filter: Filter| live.matching(&filter).len();
    assert_eq!(count(all.clone()), 100);
    assert_eq!(live.matching(&all)[0].at_ns, AT_NS + 399_000_000, "latest first");
    assert_eq!(count(Filter { source: Some("frontend-v1".into()), ..all.clone() }), 75);
    assert_eq!(count(Filter { destination: Some("shop/cart".into()), ..all.clone() }), 50);
    assert_eq!(count(Filter { destination: Some("cart.shop.svc.cluster.local".into()), ..all.clone() }), 50);
    assert_eq!(count(Filter { reason: Some(Reason::NoHealthyUpstream), ..all.clone() }), 25);
    assert_eq!(count(Filter { failures_only: true, ..all.clone() }), 75);
    assert_eq!(count(Filter { codes: codes_of("4xx"), ..all.clone() }), 50);
    assert_eq!(count(Filter { trace: records[399].trace_id, ..all.clone() }), 1);
    assert_eq!(count(Filter { from_ns: AT_NS + 390_000_000, ..all.clone() }), 10);
    assert_eq!(count(Filter { limit: 7, ..all }), 7);
    let small = Live::new(1000, 10_000);
    small.push(&records);
    assert!(small.len() < 20 && !small.is_empty(), "{} records in 10,000 bytes", small.len());
}

#[test]
fn statuses_are_asked_for_one_by_one_or_by_class() {
    for (text, codes) in [
        ("403", Some((403, 403))),
        ("5xx", Some((500, 599))),
        ("0", Some((0, 0))),
        ("xx", None),
        ("12xx", None),
        ("1000", None),
        ("-1", None),
        ("", None),
    ] {
        assert_eq!(codes_of(text), codes, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_become_series_live_records_and_batches() {
    let now = Timestamp::from_millis(1_768_471_200_000);
    let clock = Clock::starting_at(now);
    let head = Head::new(series::Config::default());
    let (records_in, records) = mpsc::channel(4);
    let (batches_in, mut batches) = mpsc::channel(4);
    let config = Config { batch_records: 300, ..Config::default() };
    let pipeline = Pipeline::new(config, records, (head.clone(), batches_in), clock);
    let (live, counters) = (pipeline.live(), pipeline.counters());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(pipeline.run(shutdown.clone()));
    records_in.send(many()).await.unwrap();
    assert_eq!(batches.recv().await.unwrap().record_count, 300, "a full batch");
    assert_eq!(batches.recv().await.unwrap().record_count, 100, "the others when they have waited");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!((live.len(), counters.records.load(Relaxed)), (400, 400));
    let wanted = vec![Matcher::equal(METRIC_NAME, "meshscope_access_log_requests_total")];
    let selection = head.select(Select::new(wanted, now, now + Duration::from_secs(60))).await.unwrap();
    assert_eq!(selection.series.len(), 4);
    let denied = Labels::from_pairs([
        (METRIC_NAME, "meshscope_access_log_requests_total"),
        ("reporter", "destination"),
        ("destination_workload", "frontend-v1"),
        ("destination_workload_namespace", "shop"),
        ("destination_service_namespace", "shop"),
        ("response_code", "403"),
        ("reason", "rbac_denied"),
        ("policy", "shop/deny-get"),
    ]);
    let found = selection.series.iter().find(|series| series.labels == denied);
    let found = found.unwrap_or_else(|| panic!("{:?}", selection.series.iter().map(|s| &s.labels).collect::<Vec<_>>()));
    assert_eq!(found.values.last(), Some(&100.0));
    shutdown.cancel();
    task.await.unwrap();
    assert_eq!(counters.lost_batches.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_records_are_kept_but_not_counted_and_a_store_that_is_away_holds_up_the_queue() {
    let clock = Clock::starting_at(Timestamp::from_millis(1_768_471_200_000));
    let (records_in, records) = mpsc::channel(1);
    let (batches_in, batches) = mpsc::channel(1);
    let config = Config { batch_records: 400, pending_batches: 2, series_limit: 4, ..Config::default() };
    let pipeline = Pipeline::new(config, records, (Head::new(series::Config::default()), batches_in), clock);
    let (live, counters) = (pipeline.live(), pipeline.counters());
    let task = tokio::spawn(pipeline.run(CancellationToken::new()));
    let mut taken = 0;
    while tokio::time::timeout(Duration::from_secs(5), records_in.send(many())).await.is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 4, "one in the channel to the store, two before it, one in the queue");
    assert_eq!(live.len(), 1200);
    assert_eq!(counters.uncounted_records.load(Relaxed), 600, "two of four label sets have a place");
    drop(batches);
    task.await.unwrap();
    assert!(counters.lost_batches.load(Relaxed) >= 2, "and what is lost is counted");
}
