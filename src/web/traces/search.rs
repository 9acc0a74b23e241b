//! The search for traces: a form, a plot of what took how long when, and a list. In: an address. Out: a page.

use std::net::SocketAddr;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use crate::model::Timestamp;
use crate::model::span::hex;
use crate::persist::TraceQuery;
use crate::store::TraceSummary;
use crate::web::ask::{Asked, Shared, given};
use crate::web::frame::{Frame, render};
use crate::web::{State, error, format, range};

/// What the page shows unless told.
pub(in crate::web) const RANGE_DEFAULT: &str = "1h";
const RANGES: [&str; 4] = ["15m", "1h", "6h", "24h"];
const LIMIT: usize = 100;
/// Names of the orders, and the same for people.
const ORDERS: [(&str, &str); 3] = [("", "newest first"), ("errors", "errors first"), ("slowest", "slowest first")];
/// Where the dots of the plot lie, pixels from its top.
const PLOT: std::ops::Range<f64> = 12.0..150.0;

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::web) struct Address {
    service: Option<String>,
    operation: Option<String>,
    min: Option<String>,
    errors: Option<String>,
    order: Option<String>,
    range: Option<String>,
    at: Option<String>,
}

#[derive(Template)]
#[template(path = "traces.html")]
pub(super) struct SearchPage {
    pub(super) frame: Frame,
    pub(super) services: Vec<(String, bool)>,
    pub(super) operation: String,
    pub(super) min: String,
    pub(super) errors: bool,
    pub(super) orders: Vec<(&'static str, &'static str, bool)>,
    pub(super) ranges: Vec<(&'static str, bool)>,
    pub(super) plot: Option<Plot>,
    pub(super) traces: Vec<Found>,
    pub(super) spans_seen: u64,
    pub(super) otlp: [SocketAddr; 2],
    pub(super) full: bool,
}

pub(super) struct Found {
    id: String,
    short_id: String,
    root: String,
    operation: String,
    services: usize,
    spans: u64,
    errors: u64,
    took: String,
    width: f64,
    ago: String,
    exact: String,
}

/// What took how long when: one dot for each trace found, durations on a logarithmic scale.
pub(super) struct Plot {
    pub(super) dots: Vec<Dot>,
    /// The longest and the shortest duration.
    pub(super) longest: String,
    pub(super) shortest: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// One trace in the plot.
pub(super) struct Dot {
    pub(super) id: String,
    /// Percent of the width.
    pub(super) x: f64,
    /// Pixels from the top.
    pub(super) y: f64,
    pub(super) error: bool,
    pub(super) words: String,
}

pub(in crate::web) async fn search(Shared(state): Shared<State>, Asked(asked): Asked<Address>) -> Response {
    let now = state.clock.now();
    let (range, query) = match asked.query(now) {
        Ok(read) => read,
        Err(message) => return error::bad_request(&state, "traces", message),
    };
    let (mut found, warning) = state.archive.search_traces(&query).await;
    let order = asked.order.as_deref().unwrap_or_default();
    match order {
        "errors" => found.sort_by_key(|trace| (trace.error_count == 0, std::cmp::Reverse(trace.start_ns))),
        "slowest" => found.sort_by_key(|trace| std::cmp::Reverse(took(trace))),
        _ => {}
    }
    let longest = found.iter().map(took).max().unwrap_or(1).max(1);
    let plot = (!found.is_empty()).then(|| plot(&found, (range.from, range.to)));
    let traces: Vec<Found> = found.into_iter().map(|trace| row(trace, longest, now)).collect();
    let asked_service = asked.service.as_deref().unwrap_or_default();
    let services = state.archive.services(range.from, range.to).await;
    let chosen = |name: String| {
        let chosen = name == asked_service;
        (name, chosen)
    };
    let page = SearchPage {
        frame: Frame::new(&state, "traces").warn(warning).warn(range.before_retention(
            "spans",
            state.retention.spans,
            "spans",
        )),
        services: services.into_iter().map(chosen).collect(),
        orders: ORDERS.map(|(name, words)| (name, words, name == order)).into(),
        operation: asked.operation.unwrap_or_default(),
        min: asked.min.unwrap_or_default(),
        errors: asked.errors.is_some(),
        ranges: RANGES.map(|text| (text, text == range.text)).into(),
        full: traces.len() >= LIMIT,
        plot,
        traces,
        spans_seen: state.otlp.accepted_spans.load(std::sync::atomic::Ordering::Relaxed),
        otlp: state.otlp_addresses,
    };
    render(&page)
}

impl Address {
    fn query(&self, now: Timestamp) -> Result<(range::Range, TraceQuery), String> {
        let range = range::Query { range: self.range.clone(), at: self.at.clone() }.read(RANGE_DEFAULT, now)?;
        let min = given(self.min.as_deref()).map(str::parse::<crate::units::PromDuration>).transpose();
        let min = min.map_err(|wrong| format!("min: {wrong}"))?;
        if let Some(order) = given(self.order.as_deref())
            && !ORDERS.iter().any(|(name, _)| *name == order)
        {
            return Err(format!("order: {order:?} is none: use errors or slowest"));
        }
        let query = TraceQuery {
            from: range.from,
            to: range.to,
            service: given(self.service.as_deref()).map(str::to_owned),
            operation: given(self.operation.as_deref()).map(str::to_owned),
            duration_min: min.map(crate::units::PromDuration::get),
            errors_only: self.errors.is_some(),
            limit: LIMIT,
        };
        Ok((range, query))
    }
}

fn took(trace: &TraceSummary) -> u64 {
    trace.end_ns.saturating_sub(trace.start_ns)
}

fn row(trace: TraceSummary, longest_ns: u64, now: Timestamp) -> Found {
    let (id, took) = (hex(&trace.trace_id), took(&trace));
    let at = Timestamp::from_nanos(trace.start_ns);
    Found {
        short_id: id[..8].to_owned(),
        id,
        root: trace.root_service.map_or_else(|| "(root not seen)".to_owned(), |service| service.to_string()),
        operation: trace.root_name.map_or_else(String::new, |name| name.to_string()),
        services: trace.services.len(),
        spans: trace.span_count,
        errors: trace.error_count,
        took: format::nanos(took),
        width: (took as f64 / longest_ns as f64 * 100.0).max(1.0),
        ago: format::ago(Some(at), now),
        exact: at.to_string(),
    }
}

pub(super) fn plot(found: &[TraceSummary], (from, to): (Timestamp, Timestamp)) -> Plot {
    // A microsecond and less are one: a logarithm has no zero.
    let size = |trace: &TraceSummary| (took(trace).max(1000) as f64).ln();
    let longest = found.iter().map(size).fold(f64::MIN, f64::max);
    let shortest = found.iter().map(size).fold(f64::MAX, f64::min);
    let span_ms = (to.as_millis() - from.as_millis()).max(1) as f64;
    let dot = |trace: &TraceSummary| {
        let at = Timestamp::from_nanos(trace.start_ns);
        let share = if longest > shortest { (size(trace) - shortest) / (longest - shortest) } else { 0.5 };
        let root = trace.root_service.as_deref().unwrap_or("(root not seen)");
        let errors = if trace.error_count > 0 { ", with errors" } else { "" };
        Dot {
            id: hex(&trace.trace_id),
            x: ((at.as_millis() - from.as_millis()) as f64 / span_ms * 100.0).clamp(0.0, 100.0),
            y: PLOT.end - share * (PLOT.end - PLOT.start),
            error: trace.error_count > 0,
            words: format!("{root}, {} at {at}{errors}", format::nanos(took(trace))),
        }
    };
    let bound = |pick: fn(u64, u64) -> u64| found.iter().map(took).reduce(pick).unwrap_or_default();
    let clock = |at: Timestamp| at.to_chrono().format("%m-%d %H:%M:%S").to_string();
    Plot {
        dots: found.iter().map(dot).collect(),
        longest: format::nanos(bound(u64::max)),
        shortest: format::nanos(bound(u64::min)),
        from: clock(from),
        to: clock(to),
    }
}
