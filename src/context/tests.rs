//! What is said of alerts, from edge minutes, spans and exemplars that are put into memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::changes::{Action, Effect, FieldChange, Governs, Measure};
use crate::declared::Origin;
use crate::graph::testing::calls;
use crate::mesh::{Kind, ResourceId};
use crate::model::span::{AttributeValue, Resource, SpanKind, SpanStatus, trace_id_from_hex};
use crate::model::workload::{EdgeKey, LatencyHistogram, Outcome, Reporter, Service, Workload};
use crate::model::{AlertState, EdgeMinute, Span};
use crate::series::{self, Exemplar};

const NOW: Timestamp = Timestamp::from_millis(1_763_835_000_000);
const URL: &str = "https://mesh.example.org/scope";

fn workload(name: &str) -> Workload {
    let (name, app) = (Some(name.into()), name.split("-v").next().map(Arc::from));
    match name.as_deref() {
        Some("") => Workload::default(),
        _ => Workload { namespace: Some("shop".into()), name, app, ..Workload::default() },
    }
}

/// One minute of `source` that calls `service` of the namespace shop, where `destination` answers or nobody does.
fn minute((source, destination, service): (&str, &str, &str), requests: &[(&str, &str, f64)]) -> EdgeMinute {
    reported(Reporter::Source, (source, destination, service), requests)
}

fn reported(
    reporter: Reporter,
    (source, destination, service): (&str, &str, &str),
    requests: &[(&str, &str, f64)],
) -> EdgeMinute {
    let key = EdgeKey {
        reporter,
        service: Service { name: Some(service.into()), namespace: Some("shop".into()), host: None },
        ..calls(workload(source), workload(destination))
    };
    let outcome = |(code, flags, count): &(&str, &str, f64)| {
        (Outcome { code: (*code).into(), grpc_status: "".into(), flags: (*flags).into() }, *count)
    };
    EdgeMinute {
        requests: requests.iter().map(outcome).collect(),
        latency: LatencyHistogram { bounds_ms: [100.0, 200.0].into(), counts: vec![50.0, 50.0, 0.0], sum_ms: 1.0 },
        ..EdgeMinute::empty((NOW - Duration::from_secs(60)).floor_to(Duration::from_secs(60)), key)
    }
}

fn span(trace: u8, service: &str, status: SpanStatus, start_ago_s: u64, duration_ms: u64) -> Span {
    Span {
        trace_id: [trace; 16],
        span_id: [trace; 8],
        parent_id: None,
        kind: SpanKind::Server,
        service: service.into(),
        name: "GET /".into(),
        start_ns: (NOW - Duration::from_secs(start_ago_s)).as_millis() as u64 * 1_000_000,
        duration_ns: duration_ms * 1_000_000,
        status,
        status_message: "".into(),
        // As Istio's proxies name themselves: app and namespace in one.
        attributes: vec![("component".into(), AttributeValue::String("proxy".into()))].into(),
        resource: Arc::new(Resource::default()),
        scope: "".into(),
        events: vec![],
        links: vec![],
    }
}

fn alert(labels: &[(&str, &str)]) -> Alert {
    Alert {
        labels: Labels::from_pairs(labels.iter().copied()).with("alertname", "Errors"),
        annotations: Labels::from_pairs([("summary", "s"), (OPT_IN, "on")]),
        state: AlertState::Firing,
        value: 1.0,
        active_at: NOW,
        fired_at: Some(NOW),
        resolved_at: None,
        keep_firing_since: None,
        valid_until: NOW + Duration::from_secs(240),
        generator_url: String::new(),
    }
}

fn context(config: Config, minutes: Vec<EdgeMinute>, spans: &[Span]) -> Context {
    let (rollup, live) = (Rollup::default(), Live::new(1_000, 1 << 20));
    rollup.advance(NOW);
    minutes.into_iter().for_each(|minute| rollup.add(minute));
    live.push(spans);
    let head = Head::new(series::Config::default());
    Context::new(
        config,
        Inputs {
            rollup,
            live,
            head,
            changes: Arc::new(|_| Vec::new()),
            health: Rules::default(),
            external_url: URL.to_owned(),
        },
    )
}

fn patient() -> Config {
    Config { time_limit: Duration::from_secs(5).into(), ..Config::default() }
}

async fn told(context: &Context, alert: Alert, fires: bool) -> Labels {
    context.annotate(vec![(alert, fires)], NOW).await.remove(0).0.annotations
}

const CART: [(&str, &str); 2] = [("destination_service_name", "cart"), ("destination_service_namespace", "shop")];

#[tokio::test]
async fn an_alert_says_who_fails_how_and_where_to_look() {
    let minutes = vec![
        minute(("web", "cart-v1", "cart"), &[("200", "-", 40.0), ("503", "UC", 10.0)]),
        minute(("web", "", "cart"), &[("503", "UH", 50.0)]),
        minute(("batch", "cart-v1", "cart"), &[("200", "-", 20.0), ("500", "-", 5.0)]),
        minute(("cart-v1", "redis", "redis"), &[("0", "UF,URX", 30.0), ("200", "-", 30.0)]),
        minute(("web", "other", "other"), &[("500", "-", 500.0)]),
    ];
    let spans = [
        span(1, "cart.shop", SpanStatus::Error, 20, 5),
        span(2, "cart.shop", SpanStatus::Error, 10, 5),
        span(3, "cart.shop", SpanStatus::Unset, 5, 900),
        span(4, "other.shop", SpanStatus::Error, 5, 900),
        span(5, "cart.shop", SpanStatus::Error, 4_000, 5), // before the window
    ];
    let context = context(patient(), minutes, &spans);
    let added = told(&context, alert(&CART), true).await;
    let says = |name: &str, expect: &str| assert_eq!(added.value(name), expect, "{name}");
    says("summary", "s");
    says(
        "meshscope_edges",
        "web.shop → cart-v1.shop: 60 % of 100 requests failed (92 % of the failures), p95 190 ms; \
         batch.shop → cart-v1.shop: 20 % of 25 requests failed (7.7 % of the failures), p95 190 ms",
    );
    says(
        "meshscope_flags",
        "no healthy upstream: all endpoints ejected (UH) 77 % of the failures; upstream closed connection (UC) 15 % of the \
         failures; 500 from the called workload itself (no flag) 7.7 % of the failures",
    );
    says("meshscope_fault", "no injected fault among the failures");
    says("meshscope_retries", "");
    says("meshscope_downstream", "cart-v1.shop → redis.shop: 50 % of 60 failed");
    says("meshscope_change", "");
    says("meshscope_traces", "02020202020202020202020202020202, 01010101010101010101010101010101");
    says("meshscope_trace_url", &format!("{URL}/traces/02020202020202020202020202020202"));
    let at_time = "range=15m&at=1763835000";
    let edge = "workload%3A%2Fshop%2Fweb%3Eworkload%3A%2Fshop%2Fcart-v1";
    says("meshscope_edge_url", &format!("{URL}/graph?{at_time}&select={edge}"));
    says("meshscope_traces_url", &format!("{URL}/traces?{at_time}&service=cart.shop&errors=1"));
    says("meshscope_graph_url", &format!("{URL}/graph?{at_time}&namespace=shop"));
    let fingerprint = alert(&CART).labels.fingerprint();
    says("meshscope_alert_url", &format!("{URL}/alerts/{fingerprint:016x}"));
    assert_eq!((context.counters().added.load(Relaxed), context.counters().too_late.load(Relaxed)), (1, 0));
    // The same evidence gives the same words.
    assert_eq!(told(&context, alert(&CART), true).await, added);
}

#[tokio::test]
async fn injected_faults_retries_and_timeouts_are_named() {
    let check = async |requests: &[(&str, &str, f64)], name: &str, expect: &str| {
        let context = context(patient(), vec![minute(("web", "cart-v1", "cart"), requests)], &[]);
        assert_eq!(told(&context, alert(&CART), true).await.value(name), expect, "{requests:?}");
    };
    let ok = ("200", "-", 90.0);
    let all = "an injected fault explains it: 100 % of the failures are injected (FI, DI)";
    check(&[ok, ("503", "FI", 10.0)], "meshscope_fault", all).await;
    let part = "an injected fault explains a part: 25 % of the failures are injected (FI, DI)";
    check(&[ok, ("503", "FI", 10.0), ("503", "UF", 30.0)], "meshscope_fault", part).await;
    let delay = "10 % of the requests are delayed on purpose (DI)";
    check(&[ok, ("200", "DI", 10.0)], "meshscope_fault", delay).await;
    check(&[ok], "meshscope_fault", "").await;
    let used_up = "all retries used up (URX) in 75 % of the failures; timed out (UT) in 25 % of the failures";
    check(&[ok, ("503", "UF,URX", 30.0), ("504", "UT", 10.0)], "meshscope_retries", used_up).await;
    let nobody = "no healthy upstream: no endpoint is ready, or all are ejected (UH) 100 % of the failures";
    check(&[("503", "UH", 10.0)], "meshscope_flags", nobody).await;
    let fine = "web.shop → cart-v1.shop: none of 90 requests failed (100 % of the traffic), p95 190 ms";
    check(&[ok], "meshscope_edges", fine).await;
}

#[tokio::test]
async fn retries_that_multiply_the_load_are_told_from_both_reports() {
    let hop = ("web", "cart-v1", "cart");
    let minutes = vec![
        minute(hop, &[("200", "-", 90.0), ("503", "URX", 10.0)]),
        reported(Reporter::Destination, hop, &[("200", "-", 90.0), ("503", "-", 160.0)]),
    ];
    let added = told(&context(patient(), minutes, &[]), alert(&CART), true).await;
    let expect = "cart-v1.shop saw 2.5 requests for each one that web.shop made: retries multiply the load; all retries \
                  used up (URX) in 100 % of the failures";
    assert_eq!(added.value("meshscope_retries"), expect);
    assert!(added.value("meshscope_diagnosis").contains("retries hide them from the caller"), "{added:?}");
}

#[tokio::test]
async fn labels_of_any_mesh_lead_to_the_edge() {
    let minutes = || vec![minute(("web", "cart-v1", "cart"), &[("500", "-", 10.0)])];
    for labels in [
        vec![("destination_service", "cart.shop.svc.cluster.local")],
        vec![("destination_workload", "cart-v1"), ("destination_workload_namespace", "shop")],
        vec![("source_workload", "web"), ("source_workload_namespace", "shop")],
        vec![("deployment", "web"), ("namespace", "shop"), ("dst_service", "cart"), ("dst_namespace", "shop")],
        vec![("deployment", "cart-v1"), ("namespace", "shop"), ("direction", "inbound")],
        vec![("deployment", "web"), ("namespace", "shop")],
        vec![("service", "cart"), ("namespace", "shop"), ("slo", "cart-availability")],
        vec![("pod", "cart-v1-6f89b6c557-sg2bc"), ("namespace", "shop")],
        vec![("client", "web"), ("server", "cart")],
        vec![("destination_workload_namespace", "shop")],
    ] {
        let added = told(&context(patient(), minutes(), &[]), alert(&labels), true).await;
        let expect = "web.shop → cart-v1.shop: 100 % of 10 requests failed (100 % of the failures), p95 190 ms";
        assert_eq!(added.value("meshscope_edges"), expect, "{labels:?}");
    }
    for labels in [vec![("service", "cart"), ("namespace", "other")], vec![("job", "istiod")], vec![]] {
        let added = told(&context(patient(), minutes(), &[]), alert(&labels), true).await;
        assert_eq!(added.value("meshscope_edges"), "", "{labels:?}");
        assert!(added.value("meshscope_alert_url").starts_with(URL), "{added:?}");
    }
}

#[tokio::test]
async fn without_failing_spans_the_longest_and_the_exemplars_are_examples() {
    let spans = [
        span(1, "cart.shop", SpanStatus::Unset, 20, 5),
        span(2, "cart.shop", SpanStatus::Unset, 30, 700),
        span(3, "web.shop", SpanStatus::Error, 5, 5),
    ];
    let context = context(patient(), vec![minute(("web", "cart-v1", "cart"), &[("200", "-", 10.0)])], &spans);
    let series = Labels::from_pairs([("__name__", "istio_request_duration_milliseconds_bucket"), CART[0], CART[1]]);
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let labels = Labels::from_pairs([("trace_id", id)]);
    let exemplar = Exemplar { labels, value: 0.7, at: NOW - Duration::from_secs(9) };
    context.0.inputs.head.exemplars().add(&series, exemplar).unwrap();
    let added = told(&context, alert(&CART), true).await;
    assert_eq!(added.value("meshscope_traces"), format!("02020202020202020202020202020202, {id}"));
    assert!(trace_id_from_hex(id).is_some());
    assert!(added.value("meshscope_traces_url").ends_with("service=cart.shop"), "{added:?}");
}

#[tokio::test]
async fn who_asks_for_context_gets_it_and_nobody_else() {
    let check = async |alerts: Which, annotations: &[(&str, &str)], expect: bool| {
        let context = context(Config { alerts, ..patient() }, vec![], &[]);
        let asked = Alert { annotations: Labels::from_pairs(annotations.iter().copied()), ..alert(&CART) };
        let added = told(&context, asked.clone(), true).await;
        assert_eq!(added != asked.annotations, expect, "{alerts:?} {annotations:?}");
        assert_eq!(context.of(&asked, true, NOW).await.is_some(), expect);
        assert_eq!(context.counters().added.load(Relaxed), u64::from(expect));
    };
    check(Which::Annotated, &[(OPT_IN, "on")], true).await;
    check(Which::Annotated, &[(OPT_IN, "off")], false).await;
    check(Which::Annotated, &[], false).await;
    check(Which::All, &[], true).await;
    check(Which::All, &[(OPT_IN, "off")], false).await;
    check(Which::None, &[(OPT_IN, "on")], false).await;
    // What the author of a rule wrote stays.
    let context = context(patient(), vec![minute(("web", "cart-v1", "cart"), &[("500", "-", 10.0)])], &[]);
    let mine = Alert { annotations: alert(&CART).annotations.with("meshscope_edges", "mine"), ..alert(&CART) };
    let added = told(&context, mine, true).await;
    assert_eq!((added.value("meshscope_edges"), added.value("meshscope_flags").is_empty()), ("mine", false));
}

#[tokio::test]
async fn of_an_alert_that_ended_only_links_at_its_end_are_told() {
    let context = context(patient(), vec![minute(("web", "cart-v1", "cart"), &[("500", "-", 10.0)])], &[]);
    let ended = Alert { resolved_at: Some(NOW - Duration::from_secs(100)), ..alert(&CART) };
    let added = told(&context, ended, false).await;
    assert_eq!((added.value("meshscope_edges"), added.value("meshscope_flags")), ("", ""));
    let graph = format!("{URL}/graph?range=15m&at=1763834900&namespace=shop");
    assert_eq!(added.value("meshscope_graph_url"), graph);
}

#[tokio::test]
async fn what_is_not_there_in_time_is_left_out_and_counted() {
    let config = Config { time_limit: Duration::from_millis(30).into(), ..Config::default() };
    let context = context(config, vec![], &[]);
    let (locked, is_locked) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let busy = context.clone();
    let holder = std::thread::spawn(move || {
        let _held = busy.0.gathering.lock();
        locked.send(()).unwrap();
        released.recv().unwrap();
    });
    is_locked.recv().unwrap();
    let began = std::time::Instant::now();
    let added = told(&context, alert(&CART), true).await;
    assert_eq!(added, alert(&CART).annotations);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!((context.counters().added.load(Relaxed), context.counters().too_late.load(Relaxed)), (0, 1));
    release.send(()).unwrap();
    holder.join().unwrap();
}

#[tokio::test]
async fn of_a_storm_the_first_alerts_get_context_and_all_are_told() {
    let context = context(patient(), vec![minute(("web", "cart-v1", "cart"), &[("500", "-", 10.0)])], &[]);
    let storm = (0..ALERTS_MAX + 7).map(|i| (alert(&[CART[0], CART[1], ("i", &i.to_string())]), true)).collect();
    let told = context.annotate(storm, NOW).await;
    let with = told.iter().filter(|(alert, _)| !alert.annotations.value("meshscope_edges").is_empty()).count();
    assert_eq!((told.len(), with), (ALERTS_MAX + 7, ALERTS_MAX));
    assert_eq!((context.counters().added.load(Relaxed), context.counters().too_many.load(Relaxed)), (100, 7));
}

#[test]
fn the_newest_change_of_an_edge_is_told_when_one_is_known() {
    let rollup = Rollup::default();
    rollup.advance(NOW);
    rollup.add(minute(("web", "cart-v1", "cart"), &[("500", "-", 10.0)]));
    let options = crate::graph::GraphOptions::new(NOW - Duration::from_secs(300), NOW);
    let graph = crate::graph::build(&rollup.recent(Timestamp::MIN), &options);
    let change = |kind: Kind, service: &str, generation: u64, ago_s: u64| {
        let governs = Governs { services: [(service.to_owned(), "shop".to_owned())].into(), ..Governs::default() };
        Arc::new(Change {
            at: NOW - Duration::from_secs(ago_s),
            id: ResourceId { kind, namespace: "shop".into(), name: service.into() },
            origin: Origin::Cluster,
            action: Action::Changed,
            revision: 1,
            generation,
            writer: None,
            fields: vec![FieldChange { path: "spec.n".into(), before: Some("100".into()), after: Some("1".into()) }],
            fields_left_out: 0,
            effects: None,
            governs,
        })
    };
    let subject = Subject::of(&Labels::from_pairs(CART)).unwrap();
    let said = |changes: Vec<Arc<Change>>| {
        let evidence = Evidence::new(graph.clone(), vec![], changes, NOW);
        let texts = explain::explain(&subject, &evidence).texts;
        texts.into_iter().find(|(name, _)| *name == "meshscope_change").map(|(_, text)| text)
    };
    let other = change(Kind::VirtualService, "other", 2, 10);
    let (rule, route) = (change(Kind::DestinationRule, "cart", 7, 150), change(Kind::VirtualService, "cart", 3, 200));
    let at = NOW - Duration::from_secs(150);
    let expect = format!("DestinationRule shop/cart, generation 7 changed 2 min ago ({at}): spec.n 100 → 1");
    assert_eq!(said(vec![other.clone(), rule.clone()]), Some(expect.clone()));
    let more = ". One more change of the last hour governs these calls";
    assert_eq!(said(vec![other.clone(), rule.clone(), route.clone()]), Some(format!("{expect}{more}")));
    assert_eq!(said(vec![other]), None);
    // One that made things worse is told before a newer one.
    let effect = Effect {
        measure: Measure::ServerErrors,
        source: "web.shop".into(),
        target: "cart.shop".into(),
        before: 0.0,
        after: 0.4,
        delay: Duration::from_secs(60),
        probability: 0.95,
        requests: (100.0, 100.0),
    };
    let guilty = Arc::new(Change { effects: Some(vec![effect]), ..Change::clone(&route) });
    let text = said(vec![rule, guilty]).unwrap();
    assert!(text.starts_with("VirtualService shop/cart, generation 3 changed 3 min ago"), "{text}");
    assert!(
        text.contains("spec.n 100 → 1; 5xx on web.shop → cart.shop rose from 0 % to 40 %, 1 minute later"),
        "{text}"
    );
}

#[test]
fn bounds_of_the_configuration_are_checked() {
    assert_eq!(Config::default().problems(), [] as [&str; 0]);
    let bad = Config { time_limit: Duration::from_secs(60).into(), window: Duration::ZERO.into(), ..Config::default() };
    let problems = bad.problems();
    assert!(
        problems.len() == 2 && problems[0].contains("time_limit") && problems[1].contains("window"),
        "{problems:?}"
    );
}
