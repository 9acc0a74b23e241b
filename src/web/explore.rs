//! The page for PromQL: a query, its answer as a table, and as a plot when scripts run.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared};
use super::frame::{Frame, render};
use super::{State, error, range};
use crate::promql::{self, Answer, QueryOptions, Value, format_value};

const RANGES: [&str; 6] = ["15m", "30m", "1h", "3h", "6h", "24h"];
/// Most series in the table.
const ROWS_MAX: usize = 500;

/// Queries to begin with.
const EXAMPLES: [(&str, &str); 4] = [
    (
        "Requests by service",
        "sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\"}[1m]))",
    ),
    (
        "Error share by service",
        "sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\",response_code=~\"5..|0\"}[1m])) / sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\"}[1m]))",
    ),
    (
        "p99 by workload",
        "histogram_quantile(0.99, sum by (le, destination_workload) (rate(istio_request_duration_milliseconds_bucket{reporter=~\"source|waypoint\"}[1m])))",
    ),
    ("Targets that are down", "up == 0"),
];

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    query: Option<String>,
    range: Option<String>,
    at: Option<String>,
}

#[derive(Template)]
#[template(path = "explore.html")]
struct Page {
    frame: Frame,
    query: String,
    ranges: Vec<(&'static str, bool)>,
    range_seconds: u64,
    until: String,
    error: Option<String>,
    notes: Vec<String>,
    rows: Vec<(String, String)>,
    omitted: usize,
    answered: bool,
    examples: Vec<(&'static str, &'static str)>,
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(asked): Asked<Address>) -> Response {
    let range = range::Query { range: asked.range, at: asked.at };
    let range = match range.read("30m", state.clock.now()) {
        Ok(range) => range,
        Err(message) => return error::bad_request(&state, "explore", message),
    };
    let query = asked.query.unwrap_or_default();
    let mut page = Page {
        frame: Frame::new(&state, "explore"),
        query: query.clone(),
        ranges: RANGES.map(|text| (text, text == range.text)).into(),
        range_seconds: range.to.since(range.from).as_secs(),
        until: if range.live { String::new() } else { range.to.as_secs_f64().to_string() },
        error: None,
        notes: vec![],
        rows: vec![],
        omitted: 0,
        answered: false,
        examples: EXAMPLES.into(),
    };
    if query.trim().is_empty() {
        return render(&page);
    }
    let answer = match promql::parse(&query) {
        Ok(expr) => state
            .engine
            .instant(&*state.series, &expr, range.to, &QueryOptions::default())
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(answer) => {
            page.notes = answer.warnings.iter().chain(&answer.infos).cloned().collect();
            page.rows = rows(&answer);
            page.omitted = page.rows.len().saturating_sub(ROWS_MAX);
            page.rows.truncate(ROWS_MAX);
            page.answered = true;
        }
        Err(error) => page.error = Some(error),
    }
    render(&page)
}

fn rows(answer: &Answer) -> Vec<(String, String)> {
    match &answer.value {
        Value::Scalar { value, .. } => vec![("scalar".to_owned(), format_value(*value))],
        Value::String { value, .. } => vec![("string".to_owned(), value.to_string())],
        Value::Vector(samples) => samples.iter().map(|s| (s.labels.to_string(), format_value(s.value))).collect(),
        Value::Matrix(series) => (series.iter())
            .map(|one| {
                let last = one.values.last().copied().map(format_value).unwrap_or_default();
                (one.labels.to_string(), format!("{last} ({} samples)", one.values.len()))
            })
            .collect(),
    }
}
