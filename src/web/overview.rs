//! The first page: how the mesh is, in one line of words, and where to look.

use askama::Template;
use axum::response::Response;

use super::alerts::{self, Row};
use super::ask::{Shared, link};
use super::drawing::label;
use super::frame::{Frame, render};
use super::range::Range;
use super::subject::rows::node_address;
use super::{State, format, mesh};
use crate::graph::{Node, ServiceGraph, View};
use crate::scrape::Health;

/// What "now" is on this page: short enough that an incident shows at once and is gone when it is over.
const RANGE: std::time::Duration = std::time::Duration::from_secs(5 * 60);
const WORKLOADS_SHOWN: usize = 8;
const ALERTS_SHOWN: usize = 8;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    sentence: String,
    class: &'static str,
    tiles: Vec<(&'static str, String, &'static str)>,
    alerts: Vec<Group>,
    alerts_left: usize,
    worst: Vec<Worst>,
    empty: Option<String>,
    charts: [Chart; 3],
}

/// Alerts of one name in one state: the first of them, and how many more there are.
struct Group {
    first: Row,
    more: usize,
}

struct Worst {
    name: String,
    namespace: String,
    class: &'static str,
    reason: String,
    rate: String,
    errors: String,
    href: String,
}

/// A chart that the script draws from the query API.
struct Chart {
    title: &'static str,
    query: &'static str,
    unit: &'static str,
    short_unit: &'static str,
    legend: &'static str,
    empty: &'static str,
}

const CHARTS: [Chart; 3] = [
    Chart {
        title: "Requests by service",
        query: "topk(6, sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\"}[1m])))",
        unit: "per second",
        short_unit: "/s",
        legend: "destination_service_name",
        empty: "No requests in the last 30 minutes.",
    },
    Chart {
        title: "Errors by service",
        query: "sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\",response_code=~\"5..|0\"}[1m])) > 0",
        unit: "per second",
        short_unit: "/s",
        legend: "destination_service_name",
        empty: "No errors in the last 30 minutes.",
    },
    Chart {
        title: "p95 latency by service",
        query: "topk(6, histogram_quantile(0.95, sum by (le, destination_service_name) (rate(istio_request_duration_milliseconds_bucket{reporter=~\"source|waypoint\"}[1m]))))",
        unit: "milliseconds",
        short_unit: " ms",
        legend: "destination_service_name",
        empty: "No requests in the last 30 minutes.",
    },
];

pub(super) async fn page(Shared(state): Shared<State>) -> Response {
    let now = state.clock.now();
    let range = Range { from: now - RANGE, to: now, text: String::new(), live: true, now };
    let (graph, warning) = match mesh::build(&state, &range, View::default(), false).await {
        Ok(mesh::Built { graph, warning }) => (graph, warning),
        Err(page) => return page,
    };
    let alerts = alerts::rows(&state);
    let firing = alerts.iter().filter(|alert| alert.state == "firing").count();
    let targets = state.scrape.targets();
    let down = targets.iter().filter(|target| target.health == Health::Down).count();
    let (sentence, class) = sentence(&graph, firing, down);
    let mut alerts = groups(alerts);
    let alerts_left = alerts.len().saturating_sub(ALERTS_SHOWN);
    alerts.truncate(ALERTS_SHOWN);
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), format::percent);
    let page = Page {
        frame: Frame::new(&state, "overview").warn(warning),
        sentence,
        class,
        tiles: vec![
            ("Requests", format::rate(graph.totals.rate), "/graph"),
            ("Errors", share(graph.totals.error_ratio), "/graph"),
            ("Mutual TLS", share(graph.totals.mtls_share), "/graph"),
            ("Firing alerts", firing.to_string(), "/alerts"),
            ("Workloads", graph.totals.nodes.to_string(), "/graph"),
            ("Targets up", format!("{}/{}", targets.len() - down, targets.len()), "/targets"),
        ],
        alerts,
        alerts_left,
        worst: worst(&graph),
        empty: graph.empty_because.clone(),
        charts: CHARTS,
    };
    render(&page)
}

/// How the mesh is, in words, and the class that colours them.
fn sentence(graph: &ServiceGraph, firing: usize, down: usize) -> (String, &'static str) {
    let totals = &graph.totals;
    let many = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    let mut troubles = Vec::new();
    if firing > 0 {
        troubles.push(format!("{} firing", many(firing, "alert")));
    }
    if totals.failed_edges > 0 {
        troubles.push(format!("{} failing", many(totals.failed_edges, "call path")));
    }
    if totals.degraded_edges > 0 {
        troubles.push(format!("{} degraded", many(totals.degraded_edges, "call path")));
    }
    if down > 0 {
        troubles.push(format!("{} not answering", many(down, "target")));
    }
    let class = match () {
        () if firing > 0 || totals.failed_edges > 0 => "failure",
        () if !troubles.is_empty() => "degraded",
        () if totals.edges == 0 => "idle",
        () => "healthy",
    };
    let sentence = match (troubles.is_empty(), totals.edges) {
        (true, 0) => "No traffic has been seen in the last five minutes.".to_owned(),
        (true, 1) => "The mesh is healthy: 1 call path carries traffic and it does not fail.".to_owned(),
        (true, edges) => {
            format!("The mesh is healthy: {} carry traffic and none of them fails.", many(edges, "call path"))
        }
        (false, _) => format!("{}.", troubles.join(", ")),
    };
    (sentence, class)
}

/// One row for all alerts of one name in one state, in the order of their first.
fn groups(alerts: Vec<Row>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for alert in alerts {
        match groups.iter_mut().find(|group| group.first.name == alert.name && group.first.state == alert.state) {
            Some(group) => group.more += 1,
            None => groups.push(Group { first: alert, more: 0 }),
        }
    }
    groups
}

fn worst(graph: &ServiceGraph) -> Vec<Worst> {
    let mut nodes: Vec<&Node> = graph.nodes.iter().filter(|node| node.inbound.edges > 0).collect();
    let badness = |node: &Node| (node.health.status, node.inbound.error_ratio.unwrap_or(0.0), node.inbound.rate);
    nodes.sort_by(|a, b| badness(b).partial_cmp(&badness(a)).unwrap_or(std::cmp::Ordering::Equal));
    nodes
        .into_iter()
        .take(WORKLOADS_SHOWN)
        .map(|node| Worst {
            name: label(node),
            namespace: node.namespace.as_deref().unwrap_or_default().to_owned(),
            class: node.health.status.as_str(),
            reason: node.health.reason.clone(),
            rate: if node.inbound.rate > 0.0 {
                format::rate(node.inbound.rate)
            } else {
                format::bytes_rate(node.inbound.bytes_per_second)
            },
            errors: node.inbound.error_ratio.map_or_else(|| "–".to_owned(), format::percent),
            href: node_address(node, None, None).unwrap_or_else(|| link("graph", &[("select", &node.id)])),
        })
        .collect()
}

#[cfg(test)]
mod tests;
