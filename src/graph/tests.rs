//! Tests of the graph on a small shop mesh built from edge minutes, and on hostile and large input.
#![allow(clippy::unwrap_used, reason = "tests")]

mod questions;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use super::find::Expression;
use super::health::Status;
use super::*;
use crate::model::workload::{
    EdgeKey, LatencyHistogram, MeshKind, Outcome, Protocol, Reporter, Security, Service, Workload,
};
use crate::model::{EdgeMinute, Timestamp};

const FROM: i64 = 600_000;

fn text(value: &str) -> Option<Arc<str>> {
    (!value.is_empty()).then(|| Arc::from(value))
}

/// `namespace/app-version`; an empty text is a caller without a proxy.
fn workload(place: &str) -> Workload {
    let Some((namespace, name)) = place.split_once('/') else { return Workload::default() };
    let (app, version) = name.rsplit_once('-').map_or((name, ""), |(app, version)| (app, version));
    let (app, version) = if version.starts_with('v') { (app, version) } else { (name, "") };
    Workload { cluster: None, namespace: text(namespace), name: text(name), app: text(app), version: text(version) }
}

fn key(reporter: Reporter, protocol: Protocol, source: &str, destination: &str, service: &str) -> EdgeKey {
    let security = match reporter {
        Reporter::Destination | Reporter::Waypoint if source.is_empty() => Security::Plaintext,
        Reporter::Destination | Reporter::Waypoint => Security::MutualTls,
        _ => Security::Unknown,
    };
    let (name, namespace) = service.split_once('.').unwrap_or((service, ""));
    EdgeKey {
        mesh: if reporter == Reporter::Trace { MeshKind::Traces } else { MeshKind::Istio },
        reporter,
        protocol,
        source: workload(source),
        destination: workload(destination),
        service: Service {
            name: text(name),
            namespace: text(namespace),
            host: text(namespace).map(|_| format!("{name}.{namespace}.svc.cluster.local").into()),
        },
        source_principal: None,
        destination_principal: None,
        security,
    }
}

#[test]
fn reports_come_in_the_order_of_their_keys_wherever_their_texts_lie() {
    let plain = key(Reporter::Source, Protocol::Http, "shop/a-v1", "shop/b-v1", "b.shop");
    let changes: [fn(&mut EdgeKey); 18] = [
        |_| {},
        |key| key.mesh = MeshKind::Linkerd,
        |key| key.reporter = Reporter::Destination,
        |key| key.protocol = Protocol::Tcp,
        |key| key.source.cluster = text("z"),
        |key| key.source.namespace = text("z"),
        |key| key.source.name = None,
        |key| key.source.app = text("z"),
        |key| key.source.version = text("z"),
        |key| key.destination.cluster = text("z"),
        |key| key.destination.name = text("z"),
        |key| key.destination.version = None,
        |key| key.service.name = text("z"),
        |key| key.service.namespace = None,
        |key| key.service.host = text("z"),
        |key| key.source_principal = text("z"),
        |key| key.destination_principal = text("z"),
        |key| key.security = Security::Plaintext,
    ];
    let mut keys = Vec::new();
    for change in changes {
        for base in [&plain, &key(Reporter::Source, Protocol::Http, "shop/a-v1", "shop/b-v1", "b.shop")] {
            let mut other = base.clone();
            change(&mut other);
            keys.push(other);
        }
    }
    let minutes: Vec<EdgeMinute> = keys.iter().map(|key| minute(FROM, key.clone(), &[("200", "", 1.0)])).collect();
    let at = Timestamp::from_millis;
    let reports = sum::reports(&minutes, at(FROM), at(FROM + 60_000));
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), changes.len());
    assert_eq!(reports.iter().map(|report| report.key).collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
}

fn outcome(code: &str, grpc_status: &str, flags: &str) -> Outcome {
    Outcome { code: code.into(), grpc_status: grpc_status.into(), flags: flags.into() }
}

/// One minute; `requests` are code, flags, count.
fn minute(at: i64, edge: EdgeKey, requests: &[(&str, &str, f64)]) -> EdgeMinute {
    let total: f64 = requests.iter().map(|(_, _, count)| count).sum();
    let latency = if edge.protocol == Protocol::Tcp {
        LatencyHistogram::default()
    } else {
        let counts = vec![total * 0.5, total * 0.4, total * 0.1, 0.0];
        LatencyHistogram { bounds_ms: [10.0, 100.0, 1000.0].into(), counts, sum_ms: total * 40.0 }
    };
    EdgeMinute {
        requests: requests.iter().map(|(code, flags, count)| (outcome(code, "", flags), *count)).collect(),
        latency,
        request_bytes: total * 10.0,
        response_bytes: total * 100.0,
        ..EdgeMinute::empty(Timestamp::from_millis(at), edge)
    }
}

fn options(view: View) -> GraphOptions {
    let (from, to) = (Timestamp::from_millis(FROM), Timestamp::from_millis(FROM + 120_000));
    GraphOptions { view, ..GraphOptions::new(from, to) }
}

/// A shop: gateway → web → cart → pay (both sidecars report), cart → db (TCP), an outside caller that only pay sees,
/// two versions of pay, an egress, requests no workload answered, spans, an idle edge, an ambient part.
fn shop() -> Vec<EdgeMinute> {
    use Protocol::{Http, Tcp};
    use Reporter::{Destination, Source, Trace, Waypoint};
    let mut minutes = Vec::new();
    for at in [FROM, FROM + 60_000] {
        let mut add = |reporter, protocol, ends: [&str; 3], requests: &[(&str, &str, f64)]| {
            minutes.push(minute(at, key(reporter, protocol, ends[0], ends[1], ends[2]), requests));
        };
        add(Source, Http, ["istio-system/istio-ingressgateway", "shop/web-v1", "web.shop"], &[("200", "-", 600.0)]);
        add(
            Destination,
            Http,
            ["istio-system/istio-ingressgateway", "shop/web-v1", "web.shop"],
            &[("200", "-", 600.0)],
        );
        add(Source, Http, ["shop/web-v1", "shop/cart-v1", "cart.shop"], &[("200", "-", 300.0)]);
        add(Destination, Http, ["shop/web-v1", "shop/cart-v1", "cart.shop"], &[("200", "-", 300.0)]);
        // Most errors arise before pay sees the request; some requests no workload answered.
        add(Source, Http, ["shop/cart-v1", "shop/pay-v1", "pay.shop"], &[("200", "-", 60.0), ("503", "UF,URX", 30.0)]);
        add(Destination, Http, ["shop/cart-v1", "shop/pay-v1", "pay.shop"], &[("200", "-", 90.0)]);
        add(Source, Http, ["shop/cart-v1", "shop/pay-v2", "pay.shop"], &[("200", "-", 8.0), ("200", "DI", 2.0)]);
        add(Source, Http, ["shop/cart-v1", "", "pay.shop"], &[("503", "UH", 10.0)]);
        add(Destination, Http, ["", "shop/pay-v1", "pay.shop"], &[("200", "-", 12.0)]);
        add(Source, Tcp, ["shop/cart-v1", "shop/postgres", "postgres.shop"], &[("", "", 6.0)]);
        add(Source, Tcp, ["shop/web-v1", "", "PassthroughCluster"], &[("", "", 3.0)]);
        add(Trace, Http, ["shop/cart", "shop/mail", ""], &[("200", "", 30.0)]);
        add(Trace, Http, ["shop/web", "shop/cart", ""], &[("200", "", 30.0)]);
        // Ambient: the waypoint's L7 report, ztunnel's L4 reports of the same and of the hops.
        add(Waypoint, Http, ["amb/front", "amb/back", "back.amb"], &[("200", "-", 120.0)]);
        add(Source, Tcp, ["amb/front", "amb/back", "back.amb"], &[("", "", 4.0)]);
        add(Destination, Tcp, ["amb/front", "amb/back", "back.amb"], &[("", "", 4.0)]);
        add(Source, Tcp, ["amb/front", "amb/waypoint", ""], &[("", "", 4.0)]);
        add(Source, Tcp, ["amb/waypoint", "amb/back", ""], &[("", "", 4.0)]);
    }
    minutes.push(minute(0, key(Source, Http, "shop/web-v1", "shop/old-v1", "old.shop"), &[("200", "-", 5.0)]));
    minutes
}

fn linkerd(
    reporter: Reporter,
    source: Workload,
    destination: Workload,
    principals: [&str; 2],
    count: f64,
) -> EdgeMinute {
    let edge = EdgeKey {
        mesh: MeshKind::Linkerd,
        reporter,
        protocol: Protocol::Http,
        source,
        destination,
        service: Service::default(),
        source_principal: text(principals[0]),
        destination_principal: text(principals[1]),
        security: Security::MutualTls,
    };
    minute(FROM, edge, &[("200", "-", count)])
}

/// One line for each edge: what a golden needs.
fn digest(graph: &ServiceGraph) -> String {
    let mut text = String::new();
    for edge in &graph.edges {
        let _ = write!(text, "{} {} by {}", edge.id, edge.protocol.as_str(), edge.reporter.as_str());
        if let Some(requests) = &edge.requests {
            let _ = write!(
                text,
                " {:.2}/s err {:.3} share {:.2}",
                requests.rate, requests.error_ratio, edge.share_of_outbound
            );
        }
        if let Some(connections) = &edge.connections {
            let _ = write!(text, " conn {:.2}/s", connections.opened_rate);
        }
        if let Some(share) = edge.mtls.share {
            let _ = write!(text, " mtls {share:.1}");
        }
        let _ = writeln!(text, " {} {}", edge.evidence.as_str(), edge.health.status.as_str());
    }
    text
}

fn golden(view: View, expect: &str) {
    let graph = build(&shop(), &options(view));
    let expect: String = expect
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(digest(&graph), expect, "\n{}", digest(&graph));
}

#[test]
fn the_shop_by_workload() {
    golden(
        View::Workload,
        "
        unknown://>workload:/shop/pay-v1 http by destination 0.20/s err 0.000 share 1.00 mtls 0.0 metrics healthy
        workload:/amb/front>workload:/amb/back http by waypoint 2.00/s err 0.000 share 1.00 conn 0.07/s mtls 1.0 metrics healthy
        workload:/istio-system/istio-ingressgateway>workload:/shop/web-v1 http by source 10.00/s err 0.000 share 1.00 mtls 1.0 metrics healthy
        workload:/shop/cart-v1>service:/shop/pay http by source 0.17/s err 1.000 share 0.07 metrics failure
        workload:/shop/cart-v1>workload:/shop/mail http by trace 0.50/s err 0.000 share 0.21 traces healthy
        workload:/shop/cart-v1>workload:/shop/pay-v1 http by source 1.50/s err 0.333 share 0.64 mtls 1.0 metrics failure
        workload:/shop/cart-v1>workload:/shop/pay-v2 http by source 0.17/s err 0.000 share 0.07 metrics healthy
        workload:/shop/cart-v1>workload:/shop/postgres tcp by source conn 0.10/s metrics healthy
        workload:/shop/web-v1>passthrough://PassthroughCluster tcp by source conn 0.05/s metrics healthy
        workload:/shop/web-v1>workload:/shop/cart-v1 http by source 5.00/s err 0.000 share 1.00 mtls 1.0 both healthy
        ",
    );
}

#[test]
fn the_shop_by_app() {
    golden(
        View::App,
        "
        app:/amb/front>app:/amb/back http by waypoint 2.00/s err 0.000 share 1.00 conn 0.07/s mtls 1.0 metrics healthy
        app:/istio-system/istio-ingressgateway>app:/shop/web http by source 10.00/s err 0.000 share 1.00 mtls 1.0 metrics healthy
        app:/shop/cart>app:/shop/mail http by trace 0.50/s err 0.000 share 0.21 traces healthy
        app:/shop/cart>app:/shop/pay http by source 1.83/s err 0.370 share 0.79 mtls 1.0 metrics failure
        app:/shop/cart>app:/shop/postgres tcp by source conn 0.10/s metrics healthy
        app:/shop/web>app:/shop/cart http by source 5.00/s err 0.000 share 1.00 mtls 1.0 both healthy
        app:/shop/web>passthrough://PassthroughCluster tcp by source conn 0.05/s metrics healthy
        unknown://>app:/shop/pay http by destination 0.20/s err 0.000 share 1.00 mtls 0.0 metrics healthy
        ",
    );
}

#[test]
fn the_shop_by_service() {
    golden(
        View::Service,
        "
        service:/amb/front>service:/amb/back http by waypoint 2.00/s err 0.000 share 1.00 conn 0.07/s mtls 1.0 metrics healthy
        service:/istio-system/istio-ingressgateway>service:/shop/web http by source 10.00/s err 0.000 share 1.00 mtls 1.0 metrics healthy
        service:/shop/cart>service:/shop/mail http by trace 0.50/s err 0.000 share 0.21 traces healthy
        service:/shop/cart>service:/shop/pay http by source 1.83/s err 0.370 share 0.79 mtls 1.0 metrics failure
        service:/shop/cart>service:/shop/postgres tcp by source conn 0.10/s metrics healthy
        service:/shop/web>passthrough://PassthroughCluster tcp by source conn 0.05/s metrics healthy
        service:/shop/web>service:/shop/cart http by source 5.00/s err 0.000 share 1.00 mtls 1.0 both healthy
        unknown://>service:/shop/pay http by destination 0.20/s err 0.000 share 1.00 mtls 0.0 metrics healthy
        ",
    );
}

fn edge<'g>(graph: &'g ServiceGraph, id: &str) -> &'g Edge {
    graph.edge(id).unwrap_or_else(|| panic!("no edge {id}\n{}", digest(graph)))
}

const PAY: &str = "workload:/shop/cart-v1>workload:/shop/pay-v1";

#[test]
fn an_edge_tells_codes_flags_latency_and_what_the_two_sides_disagree_on() {
    let graph = build(&shop(), &options(View::Workload));
    let pay = edge(&graph, PAY);
    let requests = pay.requests.as_ref().unwrap();
    assert_eq!((requests.count, requests.errors, requests.latency.p50_ms), (180.0, 60.0, Some(10.0)));
    assert_eq!((requests.latency.p95_ms, requests.latency.average_ms), (Some(550.0), Some(40.0)));
    assert_eq!(requests.outcomes[1].words.as_deref().unwrap(), flags::words("UF,URX").unwrap());
    assert_eq!(pay.health.reason, "33% of 180 requests ended with 5xx, from 10% on is a failure");
    assert_eq!(
        pay.disagreement.as_deref().unwrap(),
        "the caller reports 33% errors, the called workload only 0%: they arise between the two (network, mTLS, routing \
         or circuit breaking); most often: upstream connect failure (mTLS mismatch, refused), retry/TCP connect attempts \
         used up (UF,URX)"
    );
    // 90 a minute reached pay of the 60 sent on: its proxy tried again.
    assert_eq!(pay.retry_amplification, Some(1.5));
    assert_eq!(pay.mtls, MutualTls { share: Some(1.0), evidence: MutualTlsEvidence::Reported });
    let v2 = edge(&graph, "workload:/shop/cart-v1>workload:/shop/pay-v2");
    assert_eq!(v2.requests.as_ref().unwrap().injected, 4.0);
    assert_eq!(v2.mtls.evidence, MutualTlsEvidence::Nobody);
    // Two workloads answer for pay, so what nobody answered is the service's.
    let unanswered = edge(&graph, "workload:/shop/cart-v1>service:/shop/pay");
    assert_eq!(unanswered.health.status, Status::Failure);
    assert_eq!(graph.node("service:/shop/pay").unwrap().kind, NodeKind::Service);
}

#[test]
fn no_edge_adds_both_sides_and_layers_stay_apart() {
    let graph = build(&shop(), &options(View::Workload));
    let ambient = edge(&graph, "workload:/amb/front>workload:/amb/back");
    assert_eq!((ambient.reporter, ambient.protocol), (Reporter::Waypoint, Protocol::Http));
    assert_eq!(ambient.requests.as_ref().unwrap().count, 240.0);
    assert_eq!(ambient.connections.as_ref().unwrap().opened, 8.0);
    assert!(graph.nodes.iter().all(|node| node.kind != NodeKind::Waypoint));
    let with_hops = build(&shop(), &GraphOptions { include_waypoints: true, ..options(View::Workload) });
    assert_eq!(with_hops.edges.len(), graph.edges.len() + 2);
    // Only pay's side knows the caller without a proxy.
    let outside = edge(&graph, "unknown://>workload:/shop/pay-v1");
    assert_eq!((outside.reporter, outside.mtls.share), (Reporter::Destination, Some(0.0)));
    let counted = 2.0 * (600.0 + 300.0 + 90.0 + 10.0 + 10.0 + 12.0 + 30.0 + 120.0);
    assert!((graph.totals.rate - counted / 120.0).abs() < 1e-9);
}

#[test]
fn a_sidecar_that_calls_through_a_waypoint_is_counted_once() {
    let edge_of = |reporter| key(reporter, Protocol::Http, "a/x", "a/y", "y.a");
    let minutes = [
        minute(FROM, edge_of(Reporter::Source), &[("200", "-", 90.0), ("503", "UF", 10.0)]),
        minute(FROM, edge_of(Reporter::Waypoint), &[("200", "-", 90.0), ("503", "UF", 10.0)]),
        minute(FROM, edge_of(Reporter::Destination), &[("200", "-", 180.0)]),
    ];
    let graph = build(&minutes, &options(View::Workload));
    let only = edge(&graph, "workload:/a/x>workload:/a/y");
    assert_eq!((only.reporter, only.requests.as_ref().unwrap().count), (Reporter::Source, 100.0));
    assert_eq!(only.retry_amplification, Some(2.0));
    assert_eq!(only.reporters, [Reporter::Source, Reporter::Destination, Reporter::Waypoint]);
}

#[test]
fn a_range_that_starts_within_a_minute_counts_that_minute_and_its_time() {
    let minutes = [minute(FROM, key(Reporter::Source, Protocol::Http, "a/x", "a/y", "y.a"), &[("200", "-", 60.0)])];
    let (from, to) = (Timestamp::from_millis(FROM + 30_000), Timestamp::from_millis(FROM + 60_000));
    assert_eq!(build(&minutes, &GraphOptions::new(from, to)).totals.rate, 1.0);
}

#[test]
fn passthrough_names_the_hosts_that_were_meant() {
    let mut passed = key(Reporter::Source, Protocol::Http, "a/x", "", "PassthroughCluster");
    passed.service.host = text("api.example.com");
    let graph = build(&[minute(FROM, passed, &[("200", "-", 60.0)])], &options(View::Workload));
    assert_eq!(graph.edges[0].services, [("api.example.com".into(), None)]);
    assert_eq!(graph.nodes[0].kind, NodeKind::Passthrough);
}

#[test]
fn idle_edges_show_only_when_asked_for() {
    let hidden = build(&shop(), &options(View::Workload));
    assert_eq!((hidden.idle_hidden, hidden.totals.idle_edges), (1, 0));
    let shown = build(&shop(), &GraphOptions { include_idle: true, ..options(View::Workload) });
    let idle = edge(&shown, "workload:/shop/web-v1>workload:/shop/old-v1");
    assert_eq!(
        (idle.idle, idle.health.status, idle.health.reason.as_str()),
        (true, Status::Idle, "no traffic in this range")
    );
}

#[test]
fn nodes_have_kinds_and_health_with_reasons() {
    let graph = build(&shop(), &options(View::Workload));
    let kind = |id: &str| graph.node(id).unwrap_or_else(|| panic!("no node {id}")).kind;
    assert_eq!(kind("workload:/istio-system/istio-ingressgateway"), NodeKind::Gateway);
    assert_eq!(kind("workload:/shop/postgres"), NodeKind::Database);
    assert_eq!(kind("passthrough://PassthroughCluster"), NodeKind::Passthrough);
    assert_eq!(kind("unknown://"), NodeKind::Unknown);
    let cart = graph.node("workload:/shop/cart-v1").unwrap();
    assert_eq!(cart.health.status, Status::Degraded); // it calls something that fails
    assert!(cart.health.reason.starts_with("outbound: "), "{}", cart.health.reason);
    let pay = graph.node("workload:/shop/pay-v1").unwrap();
    assert_eq!((pay.health.status, pay.inbound.edges), (Status::Failure, 2));
}

#[test]
fn requests_nobody_answered_go_to_the_only_workload_of_the_service() {
    let minutes = [
        minute(FROM, key(Reporter::Source, Protocol::Http, "a/x-v1", "a/y-v1", "y.a"), &[("200", "-", 10.0)]),
        minute(FROM, key(Reporter::Source, Protocol::Http, "a/x-v1", "", "y.a"), &[("503", "UH", 30.0)]),
    ];
    let graph = build(&minutes, &options(View::Workload));
    let [only] = graph.edges.as_slice() else { panic!("{}", digest(&graph)) };
    assert_eq!((only.requests.as_ref().unwrap().count, only.health.status), (40.0, Status::Failure));
}

#[test]
fn linkerd_callers_known_by_identity_become_their_workload_or_stay_an_identity() {
    let place =
        |namespace: &str, name: &str| Workload { namespace: text(namespace), name: text(name), ..Workload::default() };
    let identity = "web.shop.serviceaccount.identity.linkerd.cluster.local";
    let stranger = "job.batch.serviceaccount.identity.linkerd.cluster.local";
    let minutes = [
        linkerd(Reporter::Source, place("shop", "front"), place("shop", "web"), ["", identity], 60.0),
        linkerd(Reporter::Source, place("shop", "web"), place("shop", "cart"), ["", ""], 60.0),
        linkerd(Reporter::Destination, place("shop", ""), place("shop", "cart"), [identity, ""], 60.0),
        linkerd(Reporter::Destination, place("batch", ""), place("shop", "cart"), [stranger, ""], 6.0),
    ];
    let graph = build(&minutes, &options(View::Workload));
    let ids: Vec<&str> = graph.edges.iter().map(|edge| &*edge.id).collect();
    let expect = [
        "identity:/batch/job>workload:/shop/cart",
        "workload:/shop/front>workload:/shop/web",
        "workload:/shop/web>workload:/shop/cart",
    ];
    assert_eq!(ids, expect);
    let cart = &graph.edges[2];
    assert_eq!((cart.requests.as_ref().unwrap().count, cart.reporter), (60.0, Reporter::Source));
    assert!(cart.requests.as_ref().unwrap().latency.first_byte);
    assert_eq!(cart.mtls.share, Some(1.0));
}

#[test]
fn spans_join_the_workloads_proxies_know_and_only_fill_gaps() {
    let graph = build(&shop(), &options(View::Workload));
    let joined = edge(&graph, "workload:/shop/web-v1>workload:/shop/cart-v1");
    assert_eq!((joined.evidence, joined.requests.as_ref().unwrap().count), (Evidence::Both, 600.0));
    let filled = edge(&graph, "workload:/shop/cart-v1>workload:/shop/mail");
    assert_eq!((filled.evidence, filled.reporter), (Evidence::Traces, Reporter::Trace));
}

#[test]
fn a_spans_database_is_the_workload_its_name_means_or_a_host() {
    let span = |peer: &str| {
        let mut edge = key(Reporter::Trace, Protocol::Tcp, "shop/cart-v1", "", "");
        edge.service.name = text(peer);
        minute(FROM, edge, &[("", "", 57.0), ("0", "", 3.0)])
    };
    let proxy =
        minute(FROM, key(Reporter::Source, Protocol::Tcp, "shop/cart-v1", "shop/postgres", ""), &[("", "", 6.0)]);
    for peer in ["postgres", "postgres.shop", "postgres.shop.svc.cluster.local:5432"] {
        let graph = build(&[proxy.clone(), span(peer)], &options(View::Workload));
        let [only] = graph.edges.as_slice() else { panic!("{}", digest(&graph)) };
        let (requests, connections) = (only.requests.as_ref().unwrap(), only.connections.as_ref().unwrap());
        assert_eq!((requests.count, requests.errors, connections.opened), (60.0, 3.0, 6.0));
        assert_eq!((only.evidence, only.protocol), (Evidence::Both, Protocol::Tcp));
    }
    let graph = build(&[proxy, span("redis.eu.example.com:6379")], &options(View::Workload));
    assert_eq!(graph.node("host://redis.eu.example.com%3A6379").unwrap().kind, NodeKind::Database);
}

#[test]
fn traffic_that_cannot_be_judged_is_not_idle() {
    let faults = minute(FROM, key(Reporter::Source, Protocol::Http, "a/x", "a/y", "y.a"), &[("503", "FI", 90.0)]);
    let mut stream = minute(FROM, key(Reporter::Source, Protocol::Tcp, "a/x", "a/z", "z.a"), &[]);
    stream.request_bytes = 5000.0;
    let graph = build(&[faults, stream], &options(View::Workload));
    assert_eq!((graph.edges.len(), graph.totals.idle_edges, graph.totals.error_ratio), (2, 0, None));
    for health in graph.edges.iter().map(|edge| &edge.health).chain(graph.nodes.iter().map(|node| &node.health)) {
        assert_eq!(health.status, Status::Healthy, "{health}");
    }
    assert_eq!(graph.edges[0].requests.as_ref().unwrap().injected, 90.0);
}

#[test]
fn the_configuration_is_read_over_its_defaults() {
    let read = |text: &str| serde_json::from_str::<Config>(text);
    assert_eq!(read("{}").unwrap(), Config::default());
    let config = read(r#"{"health": {"min_requests": 5, "client_error": {"degraded": 20, "failure": 50}}}"#).unwrap();
    let expect = health::Tolerance { degraded: 20.0, failure: Some(50.0) };
    assert_eq!((config.health.min_requests, config.health.client_error), (5.0, expect));
    assert!(read(r#"{"health": {"min_request": 5}}"#).is_err());
}

#[test]
fn an_empty_mesh_says_why() {
    let graph = build(&[], &options(View::App));
    assert!(graph.empty_because.as_deref().unwrap().starts_with("no traffic of a mesh"));
    assert_eq!(layout::layout(&graph, &layout::Options::default()), layout::Layout::default());
    let idle = [minute(0, key(Reporter::Source, Protocol::Http, "a/x", "a/y", "y.a"), &[("200", "-", 1.0)])];
    let graph = build(&idle, &options(View::App));
    assert!(graph.empty_because.as_deref().unwrap().starts_with("1 edges had no traffic"));
    let inverted = GraphOptions::new(Timestamp::from_millis(FROM), Timestamp::from_millis(0));
    assert!(build(&shop(), &inverted).edges.is_empty());
}

#[test]
fn hostile_names_keep_apart_and_make_safe_ids() {
    let long = "x".repeat(4096);
    let names = [
        "🛒".to_owned(),
        "\"><script>alert(1)</script>".to_owned(),
        "مرحبا\u{202e}".to_owned(),
        "a\nb".to_owned(),
        "a/b".to_owned(),
        "%2F'".to_owned(),
        long.clone(),
        format!("{long}y"),
        "é".repeat(2000),
    ];
    let minutes: Vec<EdgeMinute> = names
        .iter()
        .map(|name| {
            let mut edge = key(Reporter::Source, Protocol::Http, "a/x", "", "");
            edge.destination = Workload { namespace: text(name), name: text(name), ..Workload::default() };
            minute(FROM, edge, &[("200", name, 1.0), (name, name, 2.0)])
        })
        .collect();
    for view in [View::App, View::VersionedApp, View::Workload, View::Service] {
        let graph = build(&minutes, &options(view));
        assert_eq!((graph.nodes.len(), graph.edges.len()), (names.len() + 1, names.len()));
        for node in &graph.nodes {
            let safe = |b: u8| b.is_ascii_alphanumeric() || b"._-%:/".contains(&b);
            assert!(node.id.bytes().all(safe) && node.id.len() <= 200, "{}", node.id);
        }
        let drawn = layout::layout(&graph, &layout::Options::default());
        assert!(drawn.nodes.iter().all(|node| node.width <= 220.0));
        Expression::parse("name = \"🛒\" or flag = '🛒'").unwrap().find(&graph);
    }
}

// === layout ===

fn check_layout(graph: &ServiceGraph) -> layout::Layout {
    let drawn = layout::layout(graph, &layout::Options::default());
    assert_eq!((drawn.nodes.len(), drawn.edges.len()), (graph.nodes.len(), graph.edges.len()));
    let mut boxes: Vec<&layout::NodeBox> = drawn.nodes.iter().collect();
    boxes.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
    for (i, a) in boxes.iter().enumerate() {
        assert!(a.x >= -0.01 && a.y >= -0.01 && a.x + a.width <= drawn.width + 0.01, "{a:?}");
        assert!(a.y + a.height <= drawn.height + 0.01, "{a:?} of {}", drawn.height);
        for b in boxes[i + 1..].iter().take_while(|b| b.x < a.x + a.width) {
            assert!(a.y + a.height <= b.y + 0.01 || b.y + b.height <= a.y + 0.01, "{a:?} covers {b:?}");
        }
    }
    for path in &drawn.edges {
        assert!(path.points.len() >= 2 && path.curves().count() == path.points.len() - 1);
        let inside = |p: &layout::Point| p.x >= 0.0 && p.y >= -0.01 && p.x <= drawn.width && p.y <= drawn.height;
        assert!(path.points.iter().all(inside), "{path:?}");
    }
    drawn
}

#[test]
fn the_layout_flows_from_left_to_right_without_overlap() {
    let graph = build(&shop(), &options(View::Workload));
    let drawn = check_layout(&graph);
    let x = |id: &str| drawn.nodes.iter().find(|node| &*node.id == id).unwrap().x;
    assert!(x("workload:/istio-system/istio-ingressgateway") < x("workload:/shop/web-v1"));
    assert!(x("workload:/shop/web-v1") < x("workload:/shop/cart-v1"));
    assert!(x("workload:/shop/cart-v1") < x("workload:/shop/pay-v1"));
    for (path, edge) in drawn.edges.iter().zip(&graph.edges) {
        assert_eq!(path.id, edge.id);
        let target = drawn.nodes.iter().find(|node| node.id == edge.target).unwrap();
        let end = path.points.last().unwrap();
        assert_eq!(end.x, target.x);
        assert!(end.y >= target.y && end.y <= target.y + target.height);
    }
}

/// A mesh of layers with `edges` random calls, mostly forward, some back.
fn large(services: usize, edges: usize) -> Vec<EdgeMinute> {
    let mut state = 42_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut pairs = BTreeSet::new();
    while pairs.len() < edges {
        let (a, b) = (random(services), random(services));
        pairs.insert(if random(10) > 0 { (a.min(b), a.max(b)) } else { (a, b) });
    }
    let name = |i: usize| format!("ns{}/svc{i:03}-v1", i % 20);
    let mut minutes = Vec::new();
    for (a, b) in pairs {
        for reporter in [Reporter::Source, Reporter::Destination] {
            let service = format!("svc{b:03}.ns{}", b % 20);
            let edge = key(reporter, Protocol::Http, &name(a), &name(b), &service);
            minutes.push(minute(FROM, edge, &[("200", "-", 50.0), ("503", "UF", 1.0)]));
        }
    }
    minutes
}

#[test]
fn five_hundred_services_and_five_thousand_edges_build_and_lay_out() {
    let minutes = large(500, 5000);
    let start = std::time::Instant::now();
    let graph = build(&minutes, &options(View::Workload));
    let built = start.elapsed();
    assert_eq!((graph.nodes.len(), graph.edges.len()), (500, 5000));
    let start = std::time::Instant::now();
    let drawn = check_layout(&graph);
    println!("built in {built:?}, laid out in {:?}, {:.0} × {:.0}", start.elapsed(), drawn.width, drawn.height);
    let kinds = [layout::boxes::BoxKind::Namespace];
    let (framed, _) = layout::boxes::boxed(&graph, &layout::Options::default(), &kinds);
    println!("in frames {:.0} × {:.0}", framed.width, framed.height);
    for whole in [&drawn, &framed] {
        let shape = whole.width / whole.height;
        assert!(
            (0.5..3.0).contains(&shape),
            "a deep mesh is {:.0} × {:.0}, no screen's shape",
            whole.width,
            whole.height
        );
    }
    let capped = build(&minutes, &GraphOptions { edge_limit: 100, ..options(View::Workload) });
    assert_eq!((capped.edges.len(), capped.edges_left_out), (100, 4900));
}

#[test]
fn equal_topology_gives_equal_positions_whatever_the_traffic_and_order() {
    let minutes = large(60, 150);
    let first = build(&minutes, &options(View::Workload));
    let mut busier: Vec<EdgeMinute> = minutes.into_iter().rev().collect();
    busier.iter_mut().for_each(|m| m.requests = vec![(outcome("500", "", "-"), 9000.0)]);
    let second = build(&busier, &options(View::Workload));
    assert_eq!(layout::topology(&first), layout::topology(&second));
    let draw = |graph: &ServiceGraph| layout::layout(graph, &layout::Options::default());
    assert_eq!(draw(&first), draw(&second));
    let mut shuffled = first.clone();
    shuffled.nodes.reverse();
    shuffled.edges.reverse();
    let mut third = draw(&shuffled);
    third.nodes.reverse();
    third.edges.reverse();
    assert_eq!(draw(&first), third);
}

#[test]
fn a_new_leaf_moves_the_others_little() {
    let minutes = shop();
    let before = build(&minutes, &options(View::Workload));
    let mut more = minutes;
    more.push(minute(
        FROM,
        key(Reporter::Source, Protocol::Http, "shop/cart-v1", "shop/tax-v1", "tax.shop"),
        &[("200", "-", 5.0)],
    ));
    let after = build(&more, &options(View::Workload));
    assert_ne!(layout::topology(&before), layout::topology(&after));
    let (old, new) = (check_layout(&before), check_layout(&after));
    for node in &old.nodes {
        let moved = new.nodes.iter().find(|other| other.id == node.id).unwrap();
        assert!((moved.x - node.x).abs() < 60.0 && (moved.y - node.y).abs() < 80.0, "{node:?} → {moved:?}");
    }
}

// === walks and expressions ===

#[test]
fn focus_and_blast_radius_walk_the_edges() {
    let graph = build(&shop(), &options(View::Workload));
    let hurt = walk::blast_radius(&graph, "workload:/shop/pay-v2");
    let names: Vec<(&str, usize)> = hurt.iter().map(|(id, hops)| (&**id, *hops)).collect();
    let expect = [
        ("workload:/istio-system/istio-ingressgateway", 3),
        ("workload:/shop/cart-v1", 1),
        ("workload:/shop/web-v1", 2),
    ];
    assert_eq!(names, expect);
    let near = walk::focus(&graph, "workload:/shop/web-v1", 1);
    assert_eq!((near.nodes.len(), near.edges.len()), (4, 3));
    assert!(walk::focus(&graph, "workload:/shop/none", 3).nodes.is_empty());
    let system = walk::touching(&graph, &["istio-system"]);
    assert_eq!((system.nodes.len(), system.edges.len()), (2, 1));
}

#[test]
fn expressions_find_nodes_and_edges() {
    let graph = build(&shop(), &options(View::Workload));
    let check = |text: &str, nodes: usize, edges: usize| {
        let found = Expression::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).find(&graph);
        assert_eq!((found.nodes.len(), found.edges.len()), (nodes, edges), "{text}: {found:?}");
    };
    let (all_nodes, all_edges) = (graph.nodes.len(), graph.edges.len());
    check("errors > 30% and rate >= 90/m", 0, 1);
    check("!healthy and kind != workload", 1, 0);
    check("mtls < 100%", 0, 1);
    check("mtls", 0, 4);
    check("name = cart*", 1, 6);
    check("name = 'cart*'", 1, 6);
    check("namespace = amb", 2, 1);
    check("p99 > 0.5s or p99 <= 500ms", 0, 8); // all with a request layer
    check("not (p99 > 0.5s or p99 <= 500ms)", 0, 0);
    check("flag = UF or flag = UH", 0, 2);
    check("source = web* AND target = cart*", 0, 1);
    check("health = idle or not health = idle", all_nodes, all_edges);
    check("gateway", 1, 0);
    check("injected", 0, 1);
    check("retries > 1.4", 0, 1);
    let hidden = Expression::parse("namespace = amb or database").unwrap().hide(&graph);
    assert!(
        hidden.nodes.iter().all(|node| node.namespace.as_deref() != Some("amb") && node.kind != NodeKind::Database)
    );
}

#[test]
fn broken_expressions_say_where_and_what() {
    let check = |text: &str, position: usize, message: &str| {
        let error = Expression::parse(text).unwrap_err();
        assert_eq!((error.position, error.message.as_str()), (position, message), "{text}");
    };
    check("", 0, "expected a field like `rate`, `errors`, `name`, or a word like `healthy`");
    check("rate > ", 7, "expected a number");
    check("rate > fast", 7, "`fast` is no number, write `10`, `10/s`, `600/m` or `5k`");
    check("errors > 3ms", 9, "`ms` is no unit here, write `1%`");
    check("eror > 3", 0, "`eror` is no field or word; the nearest is `errors`");
    check("(healthy", 8, "expected `)`");
    check("healthy healthy", 8, "expected `and`, `or` or the end");
    check("name > 3", 5, "`name` is a text: compare it with `=` or `!=`");
    check("name = \"cart", 7, "this quote is never closed with \"");
    check("rate", 4, "`rate` needs a comparison, like `rate = …`");
    check("é and idle", 0, "`é` is no field or word; the nearest is `out`");
    assert_eq!(Expression::parse(&"(".repeat(4000)).unwrap_err().message, "nested too deeply");
    assert_eq!(Expression::parse(&"!".repeat(5000)).unwrap_err().message, "the expression is too long");
    assert!(Expression::parse(&vec!["idle"; 500].join(" or ")).is_ok());
}
