//! The first page: how the mesh is, in one line of words, and where to look.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::alerts::{self, Row};
use super::ask::{Asked, Shared, link};
use super::drawing::label;
use super::frame::{Frame, render};
use super::range::{self, Range};
use super::subject::rows::node_address;
use super::{State, error, format, mesh};
use crate::audit::{self, Score};
use crate::graph::{Node, ServiceGraph, View};
use crate::model::{Severity, Timestamp};
use crate::scrape::Health;

/// What "now" is on this page: short enough that an incident shows at once and is gone when it is over.
const RANGE: std::time::Duration = std::time::Duration::from_secs(5 * 60);
/// Most edges that are counted.
const EDGES_MAX: usize = 50_000;
/// What the charts show unless told.
pub(super) const RANGE_DEFAULT: &str = "30m";
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
    charts: [Chart; 4],
    scorecard: Scorecard,
    /// Of the charts: seconds, end in seconds since 1970 (empty: now), in words.
    range_seconds: u64,
    until: String,
    span: String,
    /// What "now" is.
    at: String,
}

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    range: Option<String>,
    at: Option<String>,
}

/// The guide's checklist and pitfalls as the audit sees them.
#[derive(Default)]
struct Scorecard {
    rows: Vec<ScoreRow>,
    /// The mean of what can be measured.
    mean: String,
    /// When, or why there is none.
    said: String,
    findings: Vec<(&'static str, &'static str, usize)>,
}

struct ScoreRow {
    title: &'static str,
    score: String,
    width: u8,
    class: &'static str,
    why: String,
    next: String,
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

/// The golden signals: traffic, errors, latency, saturation. Istio's series, and where there are none Linkerd's.
const CHARTS: [Chart; 4] = [
    Chart {
        title: "Requests by service",
        query: "topk(6, sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\"}[1m])) or label_replace(sum by (dst_service) (rate(response_total{direction=\"outbound\",dst_service!=\"\"}[1m])), \"destination_service_name\", \"$1\", \"dst_service\", \"(.+)\"))",
        unit: "per second",
        short_unit: "/s",
        legend: "destination_service_name",
        empty: "No requests in this range.",
    },
    Chart {
        title: "Errors by service",
        query: "(sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\",response_code=~\"5..|0\"}[1m])) or label_replace(sum by (dst_service) (rate(response_total{direction=\"outbound\",dst_service!=\"\",classification=\"failure\"}[1m])), \"destination_service_name\", \"$1\", \"dst_service\", \"(.+)\")) > 0",
        unit: "per second",
        short_unit: "/s",
        legend: "destination_service_name",
        empty: "No errors in this range.",
    },
    Chart {
        title: "p95 latency by service",
        query: "topk(6, histogram_quantile(0.95, sum by (le, destination_service_name) (rate(istio_request_duration_milliseconds_bucket{reporter=~\"source|waypoint\"}[1m]))) or label_replace(histogram_quantile(0.95, sum by (le, dst_service) (rate(response_latency_ms_bucket{direction=\"outbound\",dst_service!=\"\"}[1m]))), \"destination_service_name\", \"$1\", \"dst_service\", \"(.+)\"))",
        unit: "milliseconds",
        short_unit: " ms",
        legend: "destination_service_name",
        empty: "No requests in this range.",
    },
    Chart {
        title: "Turned away by limits",
        query: "sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\",response_flags=~\".*(UO|RL|URX|RLSE).*\"}[1m])) > 0",
        unit: "per second",
        short_unit: "/s",
        legend: "destination_service_name",
        empty: "No call was turned away by a connection pool, a limit of rate or of tries.",
    },
];

pub(super) async fn page(Shared(state): Shared<State>, Asked(asked): Asked<Address>) -> Response {
    let now = state.clock.now();
    let asked = range::Query { range: asked.range, at: asked.at };
    let charted = match asked.read(RANGE_DEFAULT, now) {
        Ok(range) => range,
        Err(message) => return error::bad_request(&state, "overview", message),
    };
    let range = Range { from: charted.to - RANGE, ..charted.clone() };
    let look = mesh::Look { view: View::default(), idle: false, edges_max: EDGES_MAX };
    let (graph, warning) = match mesh::build(&state, &range, look).await {
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
        frame: Frame::new(&state, "overview").warn(warning).warn(charted.before_retention(
            "edges",
            state.retention.edge_hours,
            "edge_hours",
        )),
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
        scorecard: scorecard(&state.audit, now),
        range_seconds: charted.to.since(charted.from).as_secs(),
        until: if charted.live { String::new() } else { charted.to.as_secs_f64().to_string() },
        span: format::span(charted.to.since(charted.from)),
        at: if charted.live { String::new() } else { charted.to.to_string() },
    };
    render(&page)
}

/// The scores of the whole mesh, the lowest first.
fn scorecard(board: &audit::Board, now: Timestamp) -> Scorecard {
    let Some(latest) = board.latest() else {
        let said = match board.is_on() {
            true => "The first audit is under way.",
            false => {
                "Nothing that is declared is read, so nothing is audited: name a folder, or let the cluster be watched, \
                      in the block mesh of the configuration."
            }
        };
        return Scorecard { said: said.to_owned(), ..Scorecard::default() };
    };
    let mut scores: Vec<&Score> = latest.scorecard.scores.iter().filter(|one| one.namespace.is_none()).collect();
    scores.sort_by_key(|one| (one.score.is_none(), one.score));
    let measured: Vec<u64> = scores.iter().filter_map(|one| one.score).map(u64::from).collect();
    let counts =
        [(Severity::Error, ["error", "errors"], "failure"), (Severity::Warning, ["warning", "warnings"], "degraded")];
    let count = |severity| {
        latest.report.findings.iter().filter(|one| one.severity == severity && one.suppressed.is_none()).count()
    };
    Scorecard {
        mean: match measured.len() as u64 {
            0 => "–".to_owned(),
            n => format!("{} of 100", measured.iter().sum::<u64>() / n),
        },
        said: format!("audited {}, {} objects", format::ago(Some(latest.at), now), latest.report.objects),
        findings: counts
            .map(|(severity, [one, many], class)| {
                let found = count(severity);
                (if found == 1 { one } else { many }, class, found)
            })
            .into(),
        rows: scores.into_iter().map(score_row).collect(),
    }
}

fn score_row(one: &Score) -> ScoreRow {
    ScoreRow {
        title: one.item.title,
        score: one.score.map_or_else(|| "–".to_owned(), |score| score.to_string()),
        width: one.score.unwrap_or(0),
        class: match one.score {
            None => "idle",
            Some(90..) => "healthy",
            Some(60..) => "degraded",
            Some(_) => "failure",
        },
        why: format::visible(&one.evidence.join("; "), 300),
        next: format::visible(&one.next, 300),
    }
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
