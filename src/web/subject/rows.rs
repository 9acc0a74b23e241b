//! Rows, facts and addresses of the pages of services, workloads and edges.
//!
//! In: a [`Story`]. Out: bounded texts and links whose values are percent-encoded whatever they hold.

use super::story::{Story, Subject, Version, Window};
use super::{Address, canary, given, label, link};
use crate::graph::health::Health;
use crate::graph::{Edge, MutualTlsEvidence, Node, NodeKind, OutcomeShare, walk};
use crate::model::Timestamp;
use crate::model::span::hex;
use crate::store::TraceSummary;
use crate::web::{drawing, format, governing};

/// Longest name that is shown.
const NAME_CHARS: usize = 160;

/// A number with its name.
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
}

/// One edge of a node: who is at its other end.
pub(super) struct Call {
    pub(super) other: String,
    pub(super) other_href: Option<String>,
    pub(super) href: String,
    pub(super) health: &'static str,
    pub(super) reason: String,
    pub(super) protocol: &'static str,
    pub(super) rate: String,
    pub(super) share: String,
    pub(super) errors: String,
    pub(super) p50: String,
    pub(super) p95: String,
    pub(super) p99: String,
    pub(super) mtls: String,
}

/// One version of a service.
pub(super) struct VersionRow {
    pub(super) name: String,
    pub(super) href: Option<String>,
    pub(super) version: String,
    pub(super) health: &'static str,
    pub(super) rate: String,
    pub(super) share: String,
    pub(super) width: f64,
    pub(super) errors: String,
    pub(super) p95: String,
    /// How it fares beside the others, and the class of that.
    pub(super) verdict: (String, &'static str),
}

/// One way requests ended.
pub(super) struct Code {
    pub(super) what: String,
    pub(super) words: String,
    pub(super) share: String,
    pub(super) width: f64,
    pub(super) class: &'static str,
    pub(super) count: String,
}

/// Somebody whom a failure hurts.
pub(super) struct Hurt {
    pub(super) name: String,
    pub(super) href: Option<String>,
    pub(super) share: String,
    pub(super) width: f64,
    pub(super) rate: String,
    pub(super) hops: usize,
}

/// One trace.
pub(super) struct TraceRow {
    pub(super) href: String,
    pub(super) name: String,
    pub(super) took: String,
    pub(super) errors: u64,
    pub(super) ago: String,
    pub(super) exact: String,
}

/// `namespace/name` as people read it.
pub(super) fn place(namespace: Option<&str>, name: &str) -> String {
    let name = format::visible(name, NAME_CHARS);
    match namespace {
        Some(namespace) => format!("{}/{name}", format::visible(namespace, NAME_CHARS)),
        None => name,
    }
}

// === addresses ===

/// A part of a path: everything but letters, digits, `_`, `-` and a dot among them is percent-encoded.
fn segment(text: &str) -> String {
    let only_dots = text.chars().all(|c| c == '.');
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'_' | b'-' => encoded.push(char::from(byte)),
            b'.' if !only_dots => encoded.push('.'),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The page of a subject.
pub(super) fn address(subject: &Subject, parameters: &[(&str, &str)]) -> String {
    let of = |kind: &str, namespace: &Option<String>, name: &str| {
        format!("{kind}/{}/{}", segment(namespace.as_deref().unwrap_or("-")), segment(name))
    };
    let page = match subject {
        Subject::Service(namespace, name) => of("service", namespace, name),
        Subject::Workload(namespace, name) => of("workload", namespace, name),
        Subject::Edge(id) | Subject::Shown(_, id) => format!("edge/{}", segment(id)),
    };
    link(&page, parameters)
}

/// The page of a node; `None` for one that has none: callers without a proxy, apps.
pub(in crate::web) fn node_address(node: &Node, range: Option<&str>, at: Option<&str>) -> Option<String> {
    let (namespace, name) = (node.namespace.as_deref().map(str::to_owned), node.name.to_string());
    let subject = match node.id.split(':').next()? {
        "workload" => Subject::Workload(namespace, name),
        "service" | "host" => Subject::Service(namespace, name),
        _ => return None,
    };
    Some(address(&subject, &[("range", range.unwrap_or_default()), ("at", at.unwrap_or_default())]))
}

/// The page of an edge.
pub(in crate::web) fn edge_page(id: &str, range: Option<&str>, at: Option<&str>) -> String {
    let parameters = [("range", range.unwrap_or_default()), ("at", at.unwrap_or_default())];
    address(&Subject::Edge(id.to_owned()), &parameters)
}

pub(super) fn edge_address(id: &str, asked: &Address) -> String {
    edge_page(id, asked.range.as_deref(), asked.at.as_deref())
}

fn address_of(node: &Node, asked: &Address) -> Option<String> {
    node_address(node, asked.range.as_deref(), asked.at.as_deref())
}

// === what is told ===

/// Id of the node that is called: the node itself, the target of an edge.
pub(super) fn called(story: &Story) -> &str {
    story.graph.edge(&story.id).map_or(&story.id, |edge| &edge.target)
}

/// Kind, title, place and health.
pub(super) fn heading(story: &Story) -> (&'static str, String, String, Health) {
    let name = |id: &str| story.graph.node(id).map(label).unwrap_or_default();
    if let Some(edge) = story.graph.edge(&story.id) {
        let title = format!("{} → {}", name(&edge.source), name(&edge.target));
        let namespaces = [&edge.source, &edge.target]
            .map(|id| story.graph.node(id).and_then(|node| node.namespace.as_deref()).unwrap_or("no namespace"));
        let place = format!("{} · {} → {}", edge.protocol.as_str(), namespaces[0], namespaces[1]);
        return ("Edge", title, format::visible(&place, NAME_CHARS), edge.health.clone());
    }
    let Some(node) = story.graph.node(&story.id) else {
        return ("Node", String::new(), String::new(), Health::default());
    };
    let kind = match node.kind {
        NodeKind::Gateway => "Gateway",
        NodeKind::Waypoint => "Waypoint",
        NodeKind::Database => "Database",
        NodeKind::External => "External host",
        NodeKind::Workload => "Workload",
        _ => "Service",
    };
    let parts = [
        node.cluster.as_deref().map(|cluster| format!("cluster {cluster}")),
        node.namespace.as_deref().map(|namespace| format!("namespace {namespace}")),
        node.app.as_deref().filter(|app| **app != *node.name).map(|app| format!("app {app}")),
        node.version.as_deref().map(|version| format!("version {version}")),
    ];
    let place = parts.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    (kind, label(node), format::visible(&place, 2 * NAME_CHARS), node.health.clone())
}

/// Names by which alerts may speak of it.
pub(super) fn names(story: &Story) -> Vec<String> {
    let node = story.graph.node(called(story));
    let names = node.into_iter().flat_map(|node| [Some(&node.name), node.app.as_ref()]).flatten();
    names.map(|name| name.to_string()).filter(|name| !name.is_empty()).collect()
}

/// Whom what is declared must mean to concern the subject.
pub(super) fn declared_for(subject: &Subject, story: &Story) -> governing::Subject {
    let named = |node: &Node| Some((node.namespace.as_deref()?.to_owned(), node.name.to_string()));
    let workload = |id: &str| story.graph.node(id).filter(|node| node.id.starts_with("workload:")).and_then(named);
    // What a graph shows as a service is called by that name.
    let shown = matches!(subject, Subject::Shown(..)).then(|| story.graph.node(&story.id)).flatten();
    let service = shown.filter(|node| node.id.starts_with("service:")).and_then(named).into_iter().collect();
    match (subject, story.graph.edge(&story.id)) {
        (_, Some(edge)) => governing::Subject {
            services: edge
                .services
                .iter()
                .filter_map(|(name, namespace)| Some((namespace.as_deref()?.to_owned(), name.to_string())))
                .collect(),
            caller: workload(&edge.source),
            workload: workload(&edge.target),
        },
        (Subject::Service(Some(namespace), name), None) => {
            governing::Subject { services: vec![(namespace.clone(), name.clone())], ..governing::Subject::default() }
        }
        _ => governing::Subject { services: service, workload: workload(&story.id), caller: None },
    }
}

/// The service under which its spans are.
pub(super) fn trace_service(story: &Story) -> Option<String> {
    let node = story.graph.node(called(story))?;
    let app = node.app.as_deref().unwrap_or(&node.name);
    Some(node.namespace.as_deref().map_or_else(|| app.to_owned(), |namespace| format!("{app}.{namespace}")))
}

pub(super) fn facts(story: &Story) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &'static str, value: String| facts.push(Fact { name, value });
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), format::percent);
    if let Some(edge) = story.graph.edge(&story.id) {
        edge_facts(edge, &mut add);
        return facts;
    }
    if let Some(node) = story.graph.node(&story.id) {
        add("Requests in", format::rate(node.inbound.rate));
        add("Errors in", ratio(node.inbound.error_ratio));
        add("Requests out", format::rate(node.outbound.rate));
        add("Errors out", ratio(node.outbound.error_ratio));
        add("Callers", node.inbound.edges.to_string());
        add("Called", node.outbound.edges.to_string());
        if node.inbound.connection_rate > 0.0 {
            add("Connections in", format::rate(node.inbound.connection_rate));
        }
    }
    facts
}

fn edge_facts(edge: &Edge, add: &mut impl FnMut(&'static str, String)) {
    if let Some(requests) = &edge.requests {
        add("Requests", format::rate(requests.rate));
        add("Errors", format::percent(requests.error_ratio));
        add("4xx", format::percent(requests.client_error_ratio));
        let latency = requests.latency;
        for (name, ms) in
            [("p50", latency.p50_ms), ("p90", latency.p90_ms), ("p95", latency.p95_ms), ("p99", latency.p99_ms)]
        {
            add(name, format::latency(ms));
        }
        if requests.injected > 0.0 {
            add("Faults injected", format::percent(requests.injected / requests.count.max(1.0)));
        }
    }
    if let Some(connections) = &edge.connections {
        add("Connections opened", format::rate(connections.opened_rate));
        add("Connections failed", format::number(connections.failed));
    }
    add("Bytes", format::bytes_rate(edge.bytes_per_second()));
    add("Share of the caller's calls", format::percent(edge.share_of_outbound));
    let mtls = match (edge.mtls.share, edge.mtls.evidence) {
        (Some(share), MutualTlsEvidence::Principal) => format!("{} (by identity)", format::percent(share)),
        (Some(share), _) => format::percent(share),
        (None, _) => "not known".to_owned(),
    };
    add("Mutual TLS", mtls);
    if let Some(times) = edge.retry_amplification {
        add("Tries per request", format!("{times:.2}"));
    }
    add("Layers", drawing::layers(edge).to_owned());
    add("Reported by", edge.reporters.iter().map(|reporter| reporter.as_str()).collect::<Vec<_>>().join(", "));
    add("Seen in", drawing::source_mark(edge).to_owned());
    for (name, list) in
        [("Caller identity", &edge.source_principals), ("Called identity", &edge.destination_principals)]
    {
        if !list.is_empty() {
            let all = list.iter().take(4).map(|text| format::visible(text, NAME_CHARS)).collect::<Vec<_>>();
            add(name, all.join(", "));
        }
    }
}

pub(super) fn call(edge: &Edge, story: &Story, asked: &Address) -> Call {
    let other = if *edge.target == *story.id { &edge.source } else { &edge.target };
    let node = story.graph.node(other);
    let latency = edge.requests.as_ref().map(|requests| requests.latency).unwrap_or_default();
    Call {
        other: node.map(label).unwrap_or_default(),
        other_href: node.and_then(|node| address_of(node, asked)),
        href: edge_address(&edge.id, asked),
        health: edge.health.status.as_str(),
        reason: edge.health.reason.clone(),
        protocol: edge.protocol.as_str(),
        rate: if edge.requests.is_some() {
            format::rate(edge.rate())
        } else {
            format::bytes_rate(edge.bytes_per_second())
        },
        share: format::percent(edge.share_of_outbound),
        errors: edge.requests.as_ref().map_or_else(|| "–".to_owned(), |r| format::percent(r.error_ratio)),
        p50: format::latency(latency.p50_ms),
        p95: format::latency(latency.p95_ms),
        p99: format::latency(latency.p99_ms),
        mtls: edge.mtls.share.map_or_else(|| "?".to_owned(), format::percent),
    }
}

/// A version as a row; `all` are those of the service, over so many seconds.
pub(super) fn version(version: &Version, (all, seconds): (&[Version], f64), asked: &Address) -> VersionRow {
    VersionRow {
        name: label(&version.node),
        href: address_of(&version.node, asked),
        version: version.node.version.as_deref().map_or_else(|| "–".to_owned(), |text| format::visible(text, 60)),
        health: version.node.health.status.as_str(),
        rate: format::rate(version.rate),
        share: format::percent(version.share),
        width: (version.share * 100.0).clamp(0.5, 100.0),
        errors: format::percent(version.error_ratio),
        p95: format::latency(version.p95_ms),
        verdict: canary::verdict(version, all, seconds),
    }
}

pub(super) fn code(share: &OutcomeShare) -> Code {
    let outcome = &share.outcome;
    let mut what = if outcome.code.is_empty() { "TCP".to_owned() } else { outcome.code.to_string() };
    if !outcome.grpc_status.is_empty() {
        what = format!("{what} grpc {}", outcome.grpc_status);
    }
    if !["", "-"].contains(&&*outcome.flags) {
        what = format!("{what} {}", outcome.flags);
    }
    Code {
        what: format::visible(&what, NAME_CHARS),
        words: share.words.clone().map(|words| format::visible(&words, NAME_CHARS)).unwrap_or_default(),
        share: format::percent(share.share),
        width: (share.share * 100.0).clamp(0.5, 100.0),
        class: if share.class.is_error() { "failure" } else { "healthy" },
        count: format::count(share.count.round()),
    }
}

pub(super) fn hurt(hurt: &walk::Hurt, story: &Story, asked: &Address) -> Option<Hurt> {
    let node = story.graph.node(&hurt.node)?;
    Some(Hurt {
        name: label(node),
        href: address_of(node, asked),
        share: format::percent(hurt.share),
        width: (hurt.share * 100.0).clamp(0.5, 100.0),
        rate: format::rate(hurt.rate),
        hops: hurt.hops,
    })
}

pub(super) fn trace(trace: &TraceSummary, now: Timestamp) -> TraceRow {
    let at = Timestamp::from_nanos(trace.start_ns);
    let root = trace.root_service.as_deref().unwrap_or("–");
    let name = trace.root_name.as_deref().unwrap_or("its root has not been seen");
    TraceRow {
        href: format!("/traces/{}", hex(&trace.trace_id)),
        name: format::visible(&format!("{root} {name}"), NAME_CHARS),
        took: format::nanos(trace.end_ns.saturating_sub(trace.start_ns)),
        errors: trace.error_count,
        ago: format::ago(Some(at), now),
        exact: at.to_string(),
    }
}

/// Time, rate, errors, 50 %, 95 %, 99 % of one window.
pub(super) fn numbers(window: &Window) -> [String; 6] {
    let quantile = |q: f64| format::latency(window.histogram.quantile(q));
    let rate = if window.rate_in > 0.0 { window.rate_in } else { window.rate_out };
    [
        format::moment(window.from),
        format::rate(rate),
        window.error_ratio.map_or_else(|| "–".to_owned(), format::percent),
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
    ]
}

/// Ways on from here.
pub(super) fn links(story: &Story, asked: &Address) -> Vec<(&'static str, String)> {
    let (range, at) = (asked.range.as_deref().unwrap_or_default(), asked.at.as_deref().unwrap_or_default());
    let view = match story.id.split(':').next() {
        Some("service" | "host") => "service",
        Some("app") => "app",
        _ => "",
    };
    let mut links =
        vec![("Graph", link("graph", &[("select", &story.id), ("view", view), ("range", range), ("at", at)]))];
    let nodes = match story.graph.edge(&story.id) {
        Some(edge) => vec![("Caller", &edge.source), ("Called", &edge.target)],
        None => Vec::new(),
    };
    for (name, id) in nodes {
        links.extend(story.graph.node(id).and_then(|node| address_of(node, asked)).map(|href| (name, href)));
    }
    if let Some(service) = trace_service(story) {
        links.push(("Traces", link("traces", &[("service", &service), ("range", given(Some(range)).unwrap_or("1h"))])));
    }
    if let Some(node) = story.graph.node(called(story)) {
        let by = if node.id.starts_with("workload:") { "destination_workload" } else { "destination_service_name" };
        let query = format!(
            "sum by (response_code) (rate(istio_requests_total{{reporter=~\"source|waypoint\",{by}={:?}}}[1m]))",
            &*node.name
        );
        links.push(("Explore", link("explore", &[("query", &query)])));
    }
    links
}
