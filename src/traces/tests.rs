//! Tests of what is made of spans: batches, live traces, derived series, edges, waterfalls.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::calls::{Call, Connection};
use super::edges::Edges;
use super::pairing::Pairing;
use super::*;
use crate::batching::{Delivery, Parcel, Receipt};
use crate::clock::Clock;
use crate::model::span::{
    AttributeValue, Attributes, Resource, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId,
};
use crate::model::workload::Protocol;
use crate::model::{MatchOp, Matcher, Span, Timestamp, Workload, is_stale, span_key};
use crate::series::{self, Head, Queryable, Select};

const SECOND_NS: u64 = 1_000_000_000;
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A span of trace 1: `service`, id, parent (0: none), kind.
pub(super) fn span(service: &str, id: u8, parent: u8, kind: SpanKind) -> Span {
    let resource = Resource { attributes: text_attributes(&[("service.name", service)]) };
    Span {
        trace_id: [1; 16],
        span_id: [id; 8],
        parent_id: (parent != 0).then_some([parent; 8]),
        kind,
        service: service.into(),
        name: "op".into(),
        start_ns: NOW.as_millis() as u64 * 1_000_000,
        duration_ns: SECOND_NS / 4,
        status: SpanStatus::Unset,
        status_message: "".into(),
        attributes: Attributes::new(),
        resource: Arc::new(resource),
        scope: "".into(),
        events: Vec::new(),
        links: Vec::new(),
    }
}

fn with(mut span: Span, attributes: &[(&str, &str)]) -> Span {
    span.attributes = text_attributes(attributes);
    span
}

fn text_attributes(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|(name, text)| (Arc::from(*name), AttributeValue::String(Arc::from(*text)))).collect()
}

// === batches ===

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let text = || "[a-zé]{0,12}".prop_map(Arc::<str>::from);
    let value = prop_oneof![
        text().prop_map(AttributeValue::String),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<i64>().prop_map(AttributeValue::Int),
        (-1e300..1e300).prop_map(AttributeValue::Double),
        text().prop_map(AttributeValue::Json),
    ];
    proptest::collection::vec((text(), value), 0..6).prop_map(Attributes::from)
}

prop_compose! {
    fn any_span()(
        (trace, id, parent) in (any::<TraceId>(), any::<SpanId>(), any::<Option<SpanId>>()),
        (kind, status) in (0_usize..6, 0_usize..3),
        (service, name, message) in ("[a-c]{0,3}", "[a-c]{0,3}", "[a-c]{0,3}"),
        (start_ns, duration_ns, at_ns) in (any::<u64>(), any::<u64>(), any::<u64>()),
        (attributes, of_resource, of_event, of_link) in
            (any_attributes(), any_attributes(), any_attributes(), any_attributes()),
    ) -> Span {
        use SpanKind::*;
        Span {
            trace_id: trace,
            span_id: id,
            parent_id: parent,
            kind: [Unspecified, Internal, Server, Client, Producer, Consumer][kind],
            service: service.clone().into(),
            name: name.into(),
            start_ns,
            duration_ns,
            status: [SpanStatus::Unset, SpanStatus::Ok, SpanStatus::Error][status],
            status_message: message.into(),
            attributes,
            resource: Arc::new(Resource { attributes: of_resource }),
            scope: service.into(),
            events: vec![SpanEvent { at_ns, name: "e".into(), attributes: of_event }],
            links: vec![SpanLink { trace_id: trace, span_id: id, attributes: of_link }],
        }
    }
}

proptest! {
    #[test]
    fn batches_read_back_as_written(spans in proptest::collection::vec(any_span(), 1..8)) {
        let batch = encode_batch(&spans, &IndexConfig::default()).unwrap();
        prop_assert_eq!(&decode_batch(&batch.bytes).unwrap(), &spans);
        prop_assert_eq!(batch.parts.iter().map(|part| part.span_count).sum::<u32>(), spans.len() as u32);
        prop_assert!(batch.keys.is_sorted_by(|a, b| a < b));
        for part in &batch.parts {
            prop_assert!(batch.keys.binary_search(&span_key::of_trace(&part.trace_id)).is_ok());
            let own = |id: &[u8; 16]| *id == part.trace_id;
            let of_trace: Vec<Span> = spans.iter().filter(|span| own(&span.trace_id)).cloned().collect();
            prop_assert_eq!(decode_traces(&batch.bytes, own).unwrap(), of_trace);
            prop_assert!(part.services.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn damaged_batches_are_errors_and_never_panic(
        spans in proptest::collection::vec(any_span(), 1..4), at in any::<usize>(), byte in any::<u8>(),
    ) {
        let bytes = codec::encode(&spans).bytes;
        prop_assert!(decode_batch(&bytes[..at % bytes.len()]).is_err());
        // Damage below the compression, where only our own checks stand.
        let mut plain = zstd::bulk::decompress(&bytes[4..], 1 << 20).unwrap();
        let at = at % plain.len();
        plain[at] = byte;
        let mut damaged = b"MSB2".to_vec();
        damaged.extend(zstd::bulk::compress(&plain, 1).unwrap());
        let _ = decode_batch(&damaged);
    }

    #[test]
    fn waterfalls_show_each_span_once(
        links in proptest::collection::vec((0_u8..8, 0_u8..8, 0_u64..100, 0_u64..100), 0..12),
    ) {
        let spans: Vec<Span> = links.iter().map(|&(id, parent, start_ns, duration_ns)| {
            Span { start_ns, duration_ns, ..span("s", id, parent, SpanKind::Internal) }
        }).collect();
        let laid = waterfall(&spans);
        let mut shown: Vec<usize> = laid.rows.iter().map(|row| row.span).collect();
        shown.sort_unstable();
        shown.dedup();
        prop_assert_eq!(shown.len(), laid.rows.len());
        prop_assert_eq!(laid.rows.len() + laid.repeated, spans.len());
        prop_assert!(laid.rows.iter().all(|row| row.offset_ns + row.duration_ns <= laid.duration_ns));
        prop_assert!(spans.is_empty() || laid.rows[0].depth == 0);
    }
}

#[test]
fn a_text_that_ends_behind_the_batch_is_damage() {
    // One text of one byte, and no more bytes.
    let bytes = [b"MSB1".to_vec(), zstd::bulk::compress(&[1, 1], 1).unwrap()].concat();
    assert!(matches!(decode_batch(&bytes), Err(BatchError::Damaged { at: 2, .. })));
}

#[test]
fn batches_of_the_first_layout_are_read() {
    let texts = ["cart", "op", "", "k", "v"];
    let mut plain = vec![texts.len() as u8];
    texts.iter().for_each(|text| plain.extend([&[text.len() as u8], text.as_bytes()].concat()));
    plain.extend([1, 1, 3, 0, 4]); // one resource: k=v
    plain.push(1); // one span: its resource, flags, ids
    plain.extend([&[0, 2 | 1 << 5][..], &[7; 16], &[8; 8], &[9; 8]].concat());
    plain.extend([0, 1, 2, 2, 20, 5]); // texts, start, duration
    plain.extend([4, 3, 0, 4, 3, 3, 6, 3, 2, 3, 5, 2]); // k="v", k=3, k=true, k= as JSON
    plain.extend([1, 2, 1, 1, 3, 1]); // one event: its time, name, k=false
    plain.extend([&[1][..], &[1; 16], &[2; 8], &[1, 3, 4], &1.5_f64.to_bits().to_le_bytes()].concat()); // one link: k=1.5
    let bytes = [b"MSB1".to_vec(), zstd::bulk::compress(&plain, 1).unwrap()].concat();
    let own = |value| Attributes::from(vec![("k".into(), value)]);
    let mut attributes = own(AttributeValue::String("v".into()));
    attributes.extend(
        [AttributeValue::Int(3), AttributeValue::Bool(true), AttributeValue::Json("".into())]
            .map(|value| ("k".into(), value)),
    );
    let span = Span {
        trace_id: [7; 16],
        span_id: [8; 8],
        parent_id: Some([9; 8]),
        kind: SpanKind::Server,
        service: "cart".into(),
        name: "op".into(),
        start_ns: 10,
        duration_ns: 5,
        status: SpanStatus::Unset,
        status_message: "".into(),
        attributes,
        resource: Arc::new(Resource { attributes: own(AttributeValue::String("v".into())) }),
        scope: "".into(),
        events: vec![SpanEvent { at_ns: 11, name: "op".into(), attributes: own(AttributeValue::Bool(false)) }],
        links: vec![SpanLink { trace_id: [1; 16], span_id: [2; 8], attributes: own(AttributeValue::Double(1.5)) }],
    };
    assert_eq!(decode_batch(&bytes).unwrap(), [span]);
    assert_eq!(decode_traces(&bytes, |id| *id == [1; 16]).unwrap(), []);
}

#[test]
fn attributes_of_events_and_links_are_stored_and_not_indexed() {
    let own = |text: &str| Attributes::from(vec![("k".into(), AttributeValue::String(text.into()))]);
    let mut spans = [span("front", 1, 0, SpanKind::Client), span("back", 2, 1, SpanKind::Server)];
    spans[0].events = vec![SpanEvent { at_ns: 1, name: "e".into(), attributes: own("of an event") }];
    spans[0].links = vec![SpanLink { trace_id: [1; 16], span_id: [2; 8], attributes: own("of both") }];
    spans[1].attributes.extend(own("of both").iter().cloned());
    let batch = encode_batch(&spans, &IndexConfig::default()).unwrap();
    assert_eq!(decode_batch(&batch.bytes).unwrap(), spans);
    let has = |text| batch.keys.contains(&span_key::of_attribute("k", text));
    assert_eq!(["of an event", "of both"].map(has), [false, true]);
}

#[test]
fn other_bytes_are_no_batch() {
    assert!(matches!(decode_batch(b""), Err(BatchError::Magic { .. })));
    assert!(matches!(decode_batch(b"MSB3xxxx"), Err(BatchError::Magic { .. })));
    assert!(matches!(decode_batch(b"MSB2xxxx"), Err(BatchError::Compression(_))));
    assert!(matches!(decode_batch(b"MSB1xxxx"), Err(BatchError::Compression(_))));
}

#[test]
fn an_index_row_sums_up_its_trace() {
    let attributes = [("http.status_code", "503"), ("guid:x-request-id", "u"), ("note", &"x".repeat(300))];
    let mut failed = with(span("back", 2, 1, SpanKind::Server), &attributes);
    (failed.status, failed.start_ns, failed.name) = (SpanStatus::Error, failed.start_ns + 10, "sub".into());
    let spans = [span("front", 1, 0, SpanKind::Client), failed];
    let batch = encode_batch(&spans, &IndexConfig::default()).unwrap();
    let [part] = &batch.parts[..] else { panic!("one trace: {:?}", batch.parts) };
    assert_eq!((part.span_count, part.error_count, part.longest_ns), (2, 1, SECOND_NS / 4));
    assert_eq!((part.root_service.as_deref(), part.root_name.as_deref()), (Some("front"), Some("op")));
    assert_eq!((part.start_ns, part.end_ns), (spans[0].start_ns, spans[1].end_ns()));
    assert_eq!((batch.from_ns, batch.to_ns), (spans[0].start_ns, spans[1].start_ns));
    let attributes = [("http.status_code", "503"), ("service.name", "front"), ("service.name", "back")];
    let mut keys = attributes.map(|(name, value)| span_key::of_attribute(name, value)).to_vec();
    let others = span_key::of_batch(&batch.parts, Vec::new());
    keys.extend(&others);
    keys.sort_unstable();
    assert_eq!(batch.keys, keys);
    let indexed = |config: IndexConfig| {
        let keys = encode_batch(&spans, &config).unwrap().keys;
        keys.into_iter().filter(|key| !others.contains(key)).collect::<Vec<_>>()
    };
    let only = IndexConfig { attributes: vec!["note".into()], value_bytes: 400, ..IndexConfig::default() };
    assert_eq!(indexed(only), [span_key::of_attribute("note", &"x".repeat(300))]);
    let capped = IndexConfig { keys_per_batch: 2, ..IndexConfig::default() };
    let cut = indexed(capped.clone());
    assert_eq!((cut.len(), cut.contains(&span_key::of_more_attributes())), (3, true));
    assert_eq!(encode_batch::<Span>(&[], &capped), None);
}

// === live ===

#[test]
fn live_spans_are_found_and_leave_oldest_first() {
    let live = Live::new(3, usize::MAX);
    for (id, (trace, service)) in (1..).zip([(1, "a"), (2, "a"), (1, "b"), (3, "b")]) {
        live.push(&[Span { trace_id: [trace; 16], ..span(service, id, 0, SpanKind::Server) }]);
    }
    assert_eq!(live.trace([1; 16]).iter().map(|span| &*span.service).collect::<Vec<_>>(), ["b"]);
    assert_eq!((live.trace([2; 16]).len(), live.trace([9; 16]).len(), live.size().0), (1, 0, 3));
    let of = |filter: Filter| live.recent(&filter).iter().map(|part| part.trace_id[0]).collect::<Vec<_>>();
    assert_eq!(of(Filter { service: Some("b".into()), ..Filter::default() }), [1, 3]);
    assert_eq!(of(Filter { errors_only: true, ..Filter::default() }), [0_u8; 0]);
    assert_eq!(of(Filter { min_duration_ns: Some(SECOND_NS), ..Filter::default() }), [0_u8; 0]);
    assert_eq!(of(Filter { limit: 1, ..Filter::default() }).len(), 1);
    let attributes = vec![("service.name".to_owned(), "a".to_owned())];
    assert_eq!(of(Filter { attributes, ..Filter::default() }), [2]);
    assert_eq!(live.services(), ["a".into(), "b".into()] as [Arc<str>; 2]);
    let bytes = span("a", 1, 0, SpanKind::Server).memory_bytes();
    let small = Live::new(100, 2 * bytes + 1);
    let many: Vec<Span> = (1..51).map(|id| span("a", id, 0, SpanKind::Server)).collect();
    assert_eq!(small.push(&many), [0_usize; 0]);
    assert_eq!(small.size(), (2, 2 * bytes));
}

#[test]
fn a_span_that_is_sent_again_is_held_once_while_it_is_held() {
    let live = Live::new(2, usize::MAX);
    let (one, other) = (span("a", 1, 0, SpanKind::Client), span("a", 1, 0, SpanKind::Server));
    assert_eq!(live.push(&[one.clone(), one.clone(), other.clone()]), [1], "the two sides of a call may share an id");
    assert_eq!(live.push(&[other]), [0]);
    assert_eq!(live.trace([1; 16]).len(), 2);
    live.push(&[span("a", 2, 0, SpanKind::Server), span("a", 3, 0, SpanKind::Server)]);
    assert_eq!(live.push(&[one]), [0_usize; 0], "it had left");
}

// === pairing ===

struct Paired {
    calls: Vec<Call>,
    expired: u64,
}

/// Observes the spans at the same time, in this order, then waits for `wait`.
fn pair(spans: &[Span]) -> Paired {
    let (mut pairing, mut calls) = (Pairing::new(Duration::from_secs(10), 100), Vec::new());
    for span in spans {
        pairing.observe(span, NOW, &mut calls);
    }
    pairing.expire(NOW + Duration::from_millis(9_999), &mut calls);
    pairing.expire(NOW + Duration::from_secs(10), &mut calls);
    assert_eq!(pairing.len(), 0, "nothing waits for ever");
    Paired { calls, expired: pairing.expired }
}

#[test]
fn pairs_calls_as_tempo_does() {
    use SpanKind::{Client, Consumer, Internal, Producer, Server};
    type Expect<'a> = (&'a str, &'a str, Connection);
    let check = |what: &str, spans: Vec<Span>, expect: &[Expect<'_>], expired: u64| {
        for spans in [spans.clone(), spans.into_iter().rev().collect()] {
            let paired = pair(&spans);
            let mut calls: Vec<Expect<'_>> =
                paired.calls.iter().map(|call| (&*call.client, &*call.server, call.connection)).collect();
            calls.sort_unstable_by_key(|(client, server, _)| (*client, *server));
            assert_eq!((calls, paired.expired), (expect.to_vec(), expired), "{what}");
        }
    };
    let (a, b) = (span("a", 1, 9, Client), span("b", 2, 1, Server));
    check("client and server", vec![a.clone(), b.clone()], &[("a", "b", Connection::Direct)], 0);
    check("a span sent twice counts once", vec![a.clone(), a.clone()], &[], 1);
    check("root server", vec![span("b", 2, 0, Server)], &[("user", "b", Connection::VirtualNode)], 0);
    let of_peer = with(span("b", 2, 0, Server), &[("peer.service", "cron")]);
    check("root server with a peer", vec![of_peer], &[("cron", "b", Connection::VirtualNode)], 0);
    check("server whose client is not traced", vec![b], &[], 1);
    check("client without an answer", vec![a.clone()], &[], 1);
    check("inner work", vec![span("a", 1, 0, Internal)], &[], 0);
    let queue = vec![span("a", 1, 0, Producer), span("b", 2, 1, Consumer)];
    check("queue", queue, &[("a", "b", Connection::Messaging)], 0);
    let peer = with(a.clone(), &[("peer.service", "legacy")]);
    check("client with a peer", vec![peer], &[("a", "legacy", Connection::VirtualNode)], 0);
    for (attributes, name) in [
        (vec![("db.system", "postgresql"), ("db.name", "orders")], "orders"),
        (
            vec![("db.system.name", "postgresql"), ("db.namespace", "orders"), ("server.address", "pg.local")],
            "pg.local",
        ),
        (
            vec![("db.system", "redis"), ("network.peer.address", "10.1.1.1"), ("network.peer.port", "6379")],
            "10.1.1.1:6379",
        ),
        (vec![("db.system", "redis"), ("peer.service", "cache"), ("server.address", "x")], "cache"),
        (vec![("db.system", "redis")], "redis"),
    ] {
        check("database", vec![with(a.clone(), &attributes)], &[("a", name, Connection::Database)], 0);
    }
}

const SIDECAR: [(&str, &str); 2] = [("component", "proxy"), ("node_id", "sidecar~10.0.0.1~a-6f89b6c557-sg2bc.ns~ns")];
const GATEWAY: [(&str, &str); 2] = [("component", "proxy"), ("node_id", "router~10.0.0.2~gw-79788cd94-wgmsp.sys~sys")];

#[test]
fn pairs_gateways_that_have_client_spans_only() {
    use SpanKind::{Client, Server};
    let named = |spans: &[Span]| {
        let paired = pair(spans);
        let mut names: Vec<String> =
            paired.calls.iter().map(|call| format!("{}>{}", call.client, call.server)).collect();
        names.sort();
        (names.join(" "), paired.expired)
    };
    let app = span("app", 1, 9, Client);
    let through = [app.clone(), with(span("gw", 2, 1, Client), &GATEWAY), span("b", 3, 2, Server)];
    assert_eq!(named(&through), ("app>gw gw>b".into(), 0));
    let egress = [with(span("a", 1, 9, Client), &SIDECAR), with(span("gw", 2, 1, Client), &GATEWAY)];
    assert_eq!(named(&egress), ("a>gw".into(), 1));
    let own_sidecar = [app, with(span("app.ns", 2, 1, Client), &SIDECAR), span("b", 3, 2, Server)];
    assert_eq!(named(&own_sidecar), ("app.ns>b".into(), 1), "a sidecar is not called by its own application");
    let unreachable =
        [SIDECAR[0], SIDECAR[1], ("upstream_cluster", "outbound|80||b.ns.svc.cluster.local"), ("response_flags", "UF")];
    assert_eq!(named(&[with(span("a", 1, 9, Client), &unreachable)]), ("a>b.ns".into(), 0));
}

/// Envoy writes `node_id` on the span of the request it took, and not on its calls upstream (seen with Envoy 1.40).
#[test]
fn calls_upstream_are_made_by_the_workload_of_the_proxys_server_span() {
    let node = |name: &str| format!("sidecar~10.4.0.9~{name}-0.shop~shop.svc.cluster.local");
    let (frontend, cart) = (node("frontend-v1"), node("cart-v1"));
    let proxy = |span, more: &[(&str, &str)]| with(span, &[&[("component", "proxy")], more].concat());
    let taken = proxy(span("frontend.shop", 1, 0, SpanKind::Server), &[("node_id", &frontend)]);
    let made = proxy(span("frontend.shop", 2, 1, SpanKind::Client), &[]);
    let answered = proxy(span("cart.shop", 3, 2, SpanKind::Server), &[("node_id", &cart)]);
    let spans = [taken, made.clone(), answered];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let paired = pair(&order.map(|index| spans[index].clone()));
        let calls: Vec<_> = (paired.calls.iter())
            .filter(|call| &*call.client == "frontend.shop")
            .map(|call| [&call.source, &call.destination].map(|workload| workload.name.clone().unwrap_or_default()))
            .collect();
        assert_eq!(calls, [["frontend-v1".into(), "cart-v1".into()]], "{order:?}");
    }
    // When that span never comes, the service's name must do.
    let alone = pair(&[made, spans[2].clone()]).calls;
    assert_eq!(alone[0].source.name.as_deref(), Some("frontend"));
}

#[test]
fn waiting_sides_are_bounded_and_the_rest_is_counted() {
    let (mut pairing, mut calls) = (Pairing::new(Duration::from_secs(10), 10), Vec::new());
    for id in 1..=200 {
        pairing.observe(&span("a", id, 0, SpanKind::Client), NOW, &mut calls);
    }
    assert_eq!((pairing.len(), pairing.dropped), (10, 190));
    // Many calls that pair at once need no room.
    for id in 201..=250 {
        pairing.observe(&span("b", 99, id, SpanKind::Server), NOW, &mut calls);
    }
    pairing.expire(NOW + Duration::from_secs(10), &mut calls);
    assert_eq!((pairing.len(), pairing.expired, calls.len()), (0, 10, 0));
    for id in 1..=200 {
        pairing.observe(&span("a", id, 9, SpanKind::Client), NOW, &mut calls);
        pairing.observe(&span("b", 255, id, SpanKind::Server), NOW, &mut calls);
    }
    assert_eq!((pairing.len(), calls.len()), (0, 200));
}

#[test]
fn a_side_is_failed_when_either_span_is() {
    let mut server = span("b", 2, 1, SpanKind::Server);
    server.status = SpanStatus::Error;
    assert!(pair(&[span("a", 1, 9, SpanKind::Client), server]).calls[0].failed);
}

/// The spans of a fixture in OTLP/JSON with text attributes only, moved to [`NOW`].
fn bookinfo() -> Option<Vec<Span>> {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/otlp/traces-istio/bookinfo-trace.derived.otlp.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("fixtures absent: {path}");
        return None;
    };
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for group in list(&file["resourceSpans"]) {
        let service = group["resource"]["attributes"][0]["value"]["stringValue"].as_str().unwrap().to_owned();
        for raw in group["scopeSpans"].as_array().unwrap().iter().flat_map(|scope| list(&scope["spans"])) {
            let id = |name: &str| {
                let hex = raw[name].as_str().filter(|hex| !hex.is_empty())?;
                Some(u64::from_str_radix(hex, 16).unwrap().to_be_bytes())
            };
            let ns = |name: &str| raw[name].as_str().unwrap().parse::<u64>().unwrap();
            let kind = if raw["kind"] == 3 { SpanKind::Client } else { SpanKind::Server };
            let attributes = list(&raw["attributes"]);
            let pairs: Vec<(&str, &str)> = attributes
                .iter()
                .map(|pair| (pair["key"].as_str().unwrap(), pair["value"]["stringValue"].as_str().unwrap()))
                .collect();
            spans.push(Span {
                span_id: id("spanId").unwrap(),
                parent_id: id("parentSpanId"),
                duration_ns: ns("endTimeUnixNano") - ns("startTimeUnixNano"),
                ..with(span(&service, 1, 0, kind), &pairs)
            });
        }
    }
    Some(spans)
}

#[test]
fn bookinfo_gives_its_four_edges_with_workloads() {
    let Some(spans) = bookinfo() else { return };
    let paired = pair(&spans);
    assert_eq!((paired.calls.len(), paired.expired), (4, 0));
    let mut edges = Edges::default();
    for call in &paired.calls {
        edges.observe(call, NOW, Duration::from_secs(900));
    }
    let edges: BTreeMap<String, _> = (edges.flush())
        .map(|edge| {
            let name = |workload: &Workload| {
                let part = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("?").to_owned();
                format!("{}.{}", part(&workload.name), part(&workload.namespace))
            };
            (format!("{}>{}", name(&edge.edge.source), name(&edge.edge.destination)), edge)
        })
        .collect();
    let names: Vec<&str> = edges.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "istio-ingressgateway.istio-system>productpage-v1.bookinfo",
            "productpage-v1.bookinfo>details-v1.bookinfo",
            "productpage-v1.bookinfo>reviews-v2.bookinfo",
            "reviews-v2.bookinfo>ratings-v1.bookinfo",
        ]
    );
    let edge = &edges["reviews-v2.bookinfo>ratings-v1.bookinfo"];
    assert_eq!(edge.edge.service.host.as_deref(), Some("ratings.bookinfo.svc.cluster.local"));
    assert_eq!(edge.edge.service.name.as_deref(), Some("ratings"));
    assert_eq!((edge.edge.destination.version.as_deref(), edge.edge.protocol), (Some("v1"), Protocol::Http));
    assert_eq!(edge.minute, NOW.floor_to(Duration::from_secs(60)));
    let (outcome, count) = &edge.requests[0];
    assert_eq!((&*outcome.code, &*outcome.flags, *count), ("200", "-", 1.0));
    assert_eq!((edge.request_bytes, edge.response_bytes), (0.0, 48.0));
    assert_eq!((edge.latency.counts.iter().sum::<f64>(), edge.latency.counts.len()), (1.0, 20));
}

#[test]
fn a_waypoint_stands_for_the_workload_behind_it() {
    let attributes = [
        ("component", "proxy"),
        ("node_id", "waypoint~10.0.0.3~waypoint-79788cd94-wgmsp.shop~shop.svc.cluster.local"),
        ("istio.source_workload", "front-v1"),
        ("istio.source_namespace", "shop"),
        ("istio.source_canonical_service", "front"),
        ("istio.destination_workload", "cart-v2"),
        ("istio.destination_namespace", "shop"),
    ];
    let paired = pair(&[with(span("waypoint.shop", 1, 0, SpanKind::Server), &attributes)]);
    let [call] = &paired.calls[..] else { panic!("one call") };
    assert_eq!((&*call.client, call.source.name.as_deref()), ("front.shop", Some("front-v1")));
    assert_eq!(call.destination.name.as_deref(), Some("cart-v2"));
}

#[test]
fn replayed_calls_do_not_enter_the_mesh_graph() {
    let mut edges = Edges::default();
    for (age, kept) in [(0, 1), (899, 1), (901, 0)] {
        let paired = pair(&[span("b", 1, 0, SpanKind::Server)]);
        edges.observe(&paired.calls[0], NOW + Duration::from_secs(age), Duration::from_secs(900));
        assert_eq!(edges.flush().count(), kept, "{age} s");
    }
    assert_eq!(edges.out_of_window, 1);
}

// === the pipeline ===

struct Running {
    spans: mpsc::Sender<Delivery<Span>>,
    batches: mpsc::Receiver<Parcel<SpanBatch>>,
    head: Head,
    live: Live,
    counters: Arc<Counters>,
    clock: Clock,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(config: Config, batches: usize) -> Running {
    let (spans, input) = mpsc::channel(4);
    let (batches_in, batches) = mpsc::channel(batches);
    let head = Head::new(series::Config::default());
    let clock = Clock::starting_at(NOW);
    let outputs = Outputs { head: head.clone(), rollup: Default::default(), batches: batches_in };
    let pipeline = Pipeline::new(config, input, outputs, clock);
    let (live, counters, shutdown) = (pipeline.live(), pipeline.counters(), CancellationToken::new());
    let task = tokio::spawn(pipeline.run(shutdown.clone()));
    Running { spans, batches, head, live, counters, clock, shutdown, task }
}

/// Spans for whose end nobody waits.
fn given(items: Vec<Span>) -> Delivery<Span> {
    Delivery { items, receipt: Receipt::unwatched() }
}

impl Running {
    /// The samples of the one series of that name and labels; empty when there is none.
    async fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(i64, f64)> {
        let equal = |name: &str, value: &str| Matcher::new(MatchOp::Equal, name, value).unwrap();
        let mut matchers = vec![equal("__name__", name)];
        matchers.extend(labels.iter().map(|(name, value)| equal(name, value)));
        let found = self.head.select(Select::new(matchers, Timestamp::MIN, Timestamp::MAX)).await.unwrap().series;
        assert!(found.len() <= 1, "{name}: {found:?}");
        let samples = found.iter().flat_map(|series| series.times.iter().zip(&series.values));
        samples.map(|(at, value)| ((at.as_millis() - NOW.as_millis()) / 1000, *value)).collect()
    }

    async fn stop(&mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap();
    }
}

fn call_spans() -> Vec<Span> {
    let mut failed = span("b", 4, 3, SpanKind::Server);
    (failed.status, failed.duration_ns) = (SpanStatus::Error, 3 * SECOND_NS);
    vec![
        span("a", 1, 9, SpanKind::Client),
        span("b", 2, 1, SpanKind::Server),
        span("a", 3, 9, SpanKind::Client),
        failed,
    ]
}

#[tokio::test(start_paused = true)]
async fn derived_series_have_tempos_names_labels_and_values() {
    let mut running = start(Config::default(), 100);
    running.spans.send(given(call_spans())).await.unwrap();
    // NOW is 5 s past a multiple of 15 s: slots at +10, +25.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let b_ok = [
        ("service", "b"),
        ("span_name", "op"),
        ("span_kind", "SPAN_KIND_SERVER"),
        ("status_code", "STATUS_CODE_UNSET"),
    ];
    let b_bad = [b_ok[0], b_ok[1], b_ok[2], ("status_code", "STATUS_CODE_ERROR")];
    let calls = running.samples("traces_spanmetrics_calls_total", &b_ok).await;
    assert_eq!(calls, [(-5, 0.0), (10, 1.0)], "a zero at the slot before");
    let at = |le: &'static str| [b_bad[0], b_bad[3], ("le", le)];
    for (le, count) in [("2.048", 0.0), ("4.096", 1.0), ("16.384", 1.0), ("+Inf", 1.0)] {
        assert_eq!(running.samples("traces_spanmetrics_latency_bucket", &at(le)).await[1].1, count, "{le}");
    }
    assert_eq!(running.samples("traces_spanmetrics_latency_sum", &b_bad).await[1].1, 3.0);
    assert_eq!(running.samples("traces_spanmetrics_latency_count", &b_bad).await[1].1, 1.0);
    let a_calls = running.samples("traces_spanmetrics_calls_total", &[("service", "a")]).await;
    assert_eq!(a_calls[1].1, 2.0);
    assert!(running.samples("traces_spanmetrics_size_total", &b_ok).await[1].1 > 50.0);
    assert_eq!(running.samples("traces_target_info", &[("job", "b")]).await, [(10, 1.0)]);
    let edge = [("client", "a"), ("server", "b"), ("connection_type", "")];
    assert_eq!(running.samples("traces_service_graph_request_total", &edge).await, [(-5, 0.0), (10, 2.0)]);
    assert_eq!(running.samples("traces_service_graph_request_failed_total", &edge).await[1].1, 1.0);
    let bucket = |le: &'static str| [edge[0], edge[1], ("le", le)];
    for (le, count) in [("0.2", 0.0), ("0.4", 1.0), ("1.6", 1.0), ("3.2", 2.0), ("+Inf", 2.0)] {
        let server = running.samples("traces_service_graph_request_server_seconds_bucket", &bucket(le)).await;
        assert_eq!(server[1].1, count, "{le}");
    }
    assert_eq!(running.samples("traces_service_graph_request_client_seconds_sum", &edge).await[1].1, 0.5);
    running.spans.send(given(vec![span("b", 5, 7, SpanKind::Server)])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let calls = running.samples("traces_spanmetrics_calls_total", &b_ok).await;
    assert_eq!(calls, [(-5, 0.0), (10, 1.0), (25, 2.0)], "cumulative");
    running.stop().await;
    let last = *running.samples("traces_spanmetrics_calls_total", &b_ok).await.last().unwrap();
    assert!(is_stale(last.1), "series end at shutdown");
    assert_eq!(running.counters.pairs.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn spans_that_are_sent_again_are_stored_again_and_counted_once() {
    let mut running = start(Config::default(), 100);
    for _ in 0..3 {
        running.spans.send(given(call_spans())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let calls = running.samples("traces_spanmetrics_calls_total", &[("service", "a")]).await;
    assert_eq!(calls.last().map(|(_, value)| *value), Some(2.0));
    assert_eq!(running.counters.repeated_spans.load(Relaxed), 8);
    assert_eq!(running.batches.recv().await.unwrap().batch.span_count, 12);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_series_without_spans_ends_and_makes_room() {
    let config = Config { span_metrics_series_limit: 20, ..Config::default() }; // room for one label set
    let mut running = start(config, 100);
    running
        .spans
        .send(given(vec![span("a", 1, 9, SpanKind::Internal), span("b", 2, 9, SpanKind::Internal)]))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(890)).await;
    assert_eq!(running.counters.span_metrics_dropped.load(Relaxed), 1);
    assert!(running.samples("traces_spanmetrics_calls_total", &[("service", "b")]).await.is_empty());
    tokio::time::sleep(Duration::from_secs(40)).await;
    let a = running.samples("traces_spanmetrics_calls_total", &[("service", "a")]).await;
    assert!(is_stale(a.last().unwrap().1), "{:?}", a.last());
    running.spans.send(given(vec![span("b", 3, 9, SpanKind::Internal)])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(running.samples("traces_spanmetrics_calls_total", &[("service", "b")]).await.last().unwrap().1, 1.0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn batches_close_by_size_or_by_time_and_hold_every_span() {
    let mut running = start(Config { batch_spans: 3, ..Config::default() }, 100);
    running.spans.send(given(call_spans())).await.unwrap();
    let first = running.batches.recv().await.unwrap().batch;
    assert_eq!((first.span_count, running.clock.now()), (3, NOW), "full at once");
    let second = running.batches.recv().await.unwrap().batch;
    assert_eq!((second.span_count, running.clock.now()), (1, NOW + Duration::from_millis(200)), "after the delay");
    let stored: Vec<Span> = [first, second].iter().flat_map(|batch| decode_batch(&batch.bytes).unwrap()).collect();
    assert_eq!(stored, call_spans());
    assert_eq!(running.live.trace([1; 16]).len(), 4);
    running.spans.send(given(call_spans())).await.unwrap();
    running.stop().await;
    let mut last = 0;
    while let Some(parcel) = running.batches.recv().await {
        last += parcel.batch.span_count;
    }
    assert_eq!(last, 4, "what was accepted before shutdown is handed over");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_input_waits_and_series_go_on() {
    let mut running = start(Config { batch_spans: 1, pending_batches: 2, ..Config::default() }, 1);
    let (mut sent, mut id) = (0, 0);
    for _ in 0..100 {
        id += 1;
        if running.spans.try_send(given(vec![span("a", id, 9, SpanKind::Internal)])).is_ok() {
            sent += 1;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((6..10).contains(&sent), "one at the store, two or three pending, four queued: {sent}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(running.samples("traces_spanmetrics_calls_total", &[("service", "a")]).await.len() >= 3);
    let mut stored = 0;
    while stored < sent {
        stored += running.batches.recv().await.unwrap().batch.span_count;
    }
    assert_eq!((stored, running.counters.batching.lost_batches.load(Relaxed)), (sent, 0), "nothing accepted is lost");
    running.stop().await;
}

// === waterfall ===

fn at(id: u8, parent: u8, start_ns: u64, duration_ns: u64) -> Span {
    Span { start_ns, duration_ns, ..span("s", id, parent, SpanKind::Internal) }
}

#[test]
fn a_waterfall_is_a_tree_in_order_of_start() {
    let spans =
        [at(3, 1, 60, 30), at(2, 1, 10, 40), at(1, 0, 0, 100), at(4, 2, 20, 10), at(5, 77, 5, 5), at(2, 1, 10, 40)];
    let laid = waterfall(&spans);
    let rows: Vec<_> = laid.rows.iter().map(|row| (row.depth, spans[row.span].span_id[0], row.offset_ns)).collect();
    assert_eq!(rows, [(0, 1, 0), (1, 2, 10), (2, 4, 20), (1, 3, 60), (0, 5, 5)]);
    assert_eq!((laid.duration_ns, laid.repeated, laid.orphans, laid.omitted), (100, 1, 1, 0));
    assert_eq!((laid.rows[0].children, laid.rows[4].orphan), (2, true));
}

#[test]
fn the_critical_path_is_what_the_end_waited_for() {
    // Root 0..100; 2 runs 10..50 beside 3 10..90; 4 after both 90..95; 5 goes on after the root ended.
    let spans =
        [at(1, 0, 0, 100), at(2, 1, 10, 40), at(3, 1, 10, 80), at(4, 1, 90, 5), at(5, 1, 50, 500), at(6, 3, 20, 5)];
    let laid = waterfall(&spans);
    let critical: Vec<u8> = laid.rows.iter().filter(|row| row.critical).map(|row| spans[row.span].span_id[0]).collect();
    assert_eq!(critical, [1, 3, 6, 4]);
}

#[test]
fn cycles_and_own_parents_are_shown() {
    let ring = [at(1, 2, 0, 10), at(2, 3, 1, 5), at(3, 1, 2, 2)];
    assert_eq!(waterfall(&ring).rows.len(), 3);
    let own = [at(1, 1, 0, 10)];
    assert_eq!(waterfall(&own).rows[0].depth, 0);
    let chain: Vec<Span> = (0..20_000_u64)
        .map(|i| Span { span_id: (i + 1).to_be_bytes(), parent_id: Some(i.to_be_bytes()), ..at(1, 0, i, 10) })
        .collect();
    let laid = waterfall(&chain);
    assert_eq!((laid.rows.len(), laid.omitted), (10_000, 10_000));
    assert_eq!(waterfall(&[]), Waterfall::default());
}

#[test]
fn clocks_of_other_hosts_are_mended() {
    let caller = Span { start_ns: 1000, duration_ns: 100, ..span("a", 1, 0, SpanKind::Client) };
    let called = Span { start_ns: 500, duration_ns: 60, ..span("b", 2, 1, SpanKind::Server) };
    let below = Span { start_ns: 510, duration_ns: 20, ..span("b", 3, 2, SpanKind::Internal) };
    let laid = waterfall(&[caller, called, below]);
    let rows: Vec<_> = laid.rows.iter().map(|row| (row.offset_ns, row.skew_ns)).collect();
    assert_eq!(rows, [(0, 0), (20, 520), (30, 520)]);
    assert_eq!((laid.start_ns, laid.duration_ns), (1000, 100));
}

// === where time went, and comparing ===

/// Service, id, parent, kind, start and duration in milliseconds.
fn timed(service: &str, (id, parent): (u8, u8), kind: SpanKind, start_ms: u64, took_ms: u64) -> Span {
    let moment = span(service, id, parent, kind);
    Span { start_ns: moment.start_ns + start_ms * 1_000_000, duration_ns: took_ms * 1_000_000, ..moment }
}

#[test]
fn the_time_of_a_call_is_the_called_application_its_own_calls_and_what_lies_between() {
    use SpanKind::{Client, Internal, Server};
    let spans = [
        timed("front", (1, 0), Server, 0, 100),
        timed("front", (2, 1), Client, 5, 80),
        timed("cart", (3, 2), Server, 10, 70),
        // Two calls that overlap (20 to 50), one below inner work (60 to 70), and one whose other side was never seen.
        timed("cart", (4, 3), Client, 20, 20),
        timed("db", (5, 4), Server, 22, 10),
        timed("cart", (6, 3), Client, 30, 20),
        timed("cart", (7, 3), Internal, 55, 20),
        timed("cart", (8, 7), Client, 60, 10),
    ];
    let fall = waterfall(&spans);
    let found: Vec<_> = (hops(&fall, &spans, 10).iter())
        .map(|hop| {
            let ms = [hop.whole_ns, hop.between_ns, hop.waiting_ns, hop.own_ns].map(|ns| ns / 1_000_000);
            assert_eq!(hop.between_ns + hop.waiting_ns + hop.own_ns, hop.whole_ns);
            (&*spans[hop.client].service, &*spans[hop.server].service, ms)
        })
        .collect();
    assert_eq!(found, [("front", "cart", [80, 10, 40, 30]), ("cart", "db", [20, 10, 0, 10])]);
    assert_eq!(hops(&fall, &spans, 1).len(), 1);
    // A server that says it took longer than its caller waited (another clock, a hang-up) leaves nothing below zero.
    let odd = [timed("a", (1, 0), Client, 0, 10), timed("b", (2, 1), Server, 0, 50), timed("b", (3, 2), Client, 0, 45)];
    assert_eq!(hops(&waterfall(&odd), &odd, 10)[0].between_ns, 0);
    assert_eq!(hops(&waterfall(&[]), &[], 10), []);
}

#[test]
fn two_traces_are_compared_operation_by_operation() {
    use SpanKind::{Client, Server};
    let first = [
        timed("front", (1, 0), Server, 0, 100),
        timed("front", (2, 1), Client, 5, 10),
        timed("front", (3, 1), Client, 20, 30),
        timed("cart", (4, 3), Server, 21, 20),
    ];
    let mut failed = timed("pay", (3, 1), Server, 30, 100);
    failed.status = SpanStatus::Error;
    let second = [timed("front", (1, 0), Server, 0, 150), timed("front", (2, 1), Client, 5, 20), failed];
    let compared = compare(&first, &second);
    let rows: Vec<_> = (compared.rows.iter())
        .map(|row| {
            let side = |side: Side| (side.spans, side.total_ns / 1_000_000, side.errors);
            (row.depth, row.service, side(row.first), side(row.second))
        })
        .collect();
    assert_eq!(
        rows,
        [
            (0, "front", (1, 100, 0), (1, 150, 0)),
            (1, "front", (2, 40, 0), (1, 20, 0)),
            (2, "cart", (1, 20, 0), (0, 0, 0)),
            (1, "pay", (0, 0, 0), (1, 100, 1)),
        ]
    );
    assert_eq!(compared.durations_ns, [100_000_000, 150_000_000]);
    assert_eq!(compare(&[], &[]).rows, []);
}

proptest! {
    #[test]
    fn every_span_shown_is_counted_once_in_a_comparison(
        links in proptest::collection::vec((0_u8..8, 0_u8..8, 0_u64..4), 0..12),
    ) {
        let spans: Vec<Span> = links.iter().map(|&(id, parent, start_ns)| {
            Span { start_ns, ..span(["a", "b"][usize::from(id % 2)], id, parent, SpanKind::Internal) }
        }).collect();
        let shown = waterfall(&spans).rows.len() as u64;
        let compared = compare(&spans, &spans);
        prop_assert_eq!(compared.rows.iter().map(|row| row.first.spans).sum::<u64>(), shown);
        prop_assert!(compared.rows.iter().all(|row| row.first == row.second));
        let _ = hops(&waterfall(&spans), &spans, 100);
    }
}
