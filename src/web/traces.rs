//! Pages of traces: the search and its results, and one trace as a waterfall.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use askama::Template;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, given};
use super::frame::{Frame, render};
use super::logs::{self, LogRow};
use super::{State, error, format, range};
use crate::access_logs::{AccessRecord, Detail};
use crate::model::Timestamp;
use crate::model::span::{AttributeValue, Span, SpanKind, SpanStatus, hex, trace_id_from_hex};
use crate::model::workload::Reporter;
use crate::persist::TraceQuery;
use crate::traces::{Row, waterfall};

const RANGES: [&str; 4] = ["15m", "1h", "6h", "24h"];
const LIMIT: usize = 100;
/// Most spans of one trace that are drawn.
const ROWS_MAX: usize = 3000;

/// What the URL of the search says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    service: Option<String>,
    operation: Option<String>,
    min: Option<String>,
    errors: Option<String>,
    range: Option<String>,
    at: Option<String>,
}

#[derive(Template)]
#[template(path = "traces.html")]
struct SearchPage {
    frame: Frame,
    services: Vec<(String, bool)>,
    operation: String,
    min: String,
    errors: bool,
    ranges: Vec<(&'static str, bool)>,
    traces: Vec<Found>,
    spans_seen: u64,
    otlp: [SocketAddr; 2],
    full: bool,
}

struct Found {
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

#[derive(Template)]
#[template(path = "trace.html")]
struct TracePage {
    frame: Frame,
    id: String,
    title: String,
    started: String,
    took: String,
    services: usize,
    spans: usize,
    errors: usize,
    ticks: Vec<Tick>,
    rows: Vec<Bar>,
    records: Vec<LogRow>,
    notes: Vec<String>,
}

/// Where the duration of a bar is written.
#[derive(Debug, PartialEq)]
struct BarLabel {
    /// Percent of the track.
    at: f64,
    /// Pixels from there.
    shift: i32,
    anchor: &'static str,
    class: &'static str,
}

/// One mark of the axis of time.
struct Tick {
    at: u32,
    anchor: &'static str,
    text: String,
}

struct Bar {
    service: String,
    name: String,
    kind: &'static str,
    depth: usize,
    left: f64,
    width: f64,
    took: String,
    label: BarLabel,
    offset: String,
    error: bool,
    critical: bool,
    facts: Vec<(String, String)>,
    records: Vec<LogRow>,
}

pub(super) async fn search(Shared(state): Shared<State>, Asked(asked): Asked<Address>) -> Response {
    let now = state.clock.now();
    let range = range::Query { range: asked.range.clone(), at: asked.at.clone() };
    let range = match range.read("1h", now) {
        Ok(range) => range,
        Err(message) => return error::bad_request(&state, "traces", message),
    };
    let min = match given(asked.min.as_deref()).map(str::parse::<crate::units::PromDuration>).transpose() {
        Ok(min) => min.map(crate::units::PromDuration::get),
        Err(wrong) => return error::bad_request(&state, "traces", format!("min: {wrong}")),
    };
    let query = TraceQuery {
        from: range.from,
        to: range.to,
        service: given(asked.service.as_deref()).map(str::to_owned),
        operation: given(asked.operation.as_deref()).map(str::to_owned),
        duration_min: min,
        errors_only: asked.errors.is_some(),
        limit: LIMIT,
    };
    let (found, warning) = state.archive.search_traces(&query).await;
    let longest = found.iter().map(|trace| trace.end_ns.saturating_sub(trace.start_ns)).max().unwrap_or(1).max(1);
    let traces = found.into_iter().map(|trace| {
        let (id, took) = (hex(&trace.trace_id), trace.end_ns.saturating_sub(trace.start_ns));
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
            width: (took as f64 / longest as f64 * 100.0).max(1.0),
            ago: format::ago(Some(at), now),
            exact: at.to_string(),
        }
    });
    let traces: Vec<Found> = traces.collect();
    let asked_service = asked.service.as_deref().unwrap_or_default();
    let services = state.archive.services(range.from, range.to).await;
    let page = SearchPage {
        frame: Frame::new(&state, "traces").warn(warning),
        services: services
            .into_iter()
            .map(|name| {
                let chosen = name == asked_service;
                (name, chosen)
            })
            .collect(),
        operation: asked.operation.unwrap_or_default(),
        min: asked.min.unwrap_or_default(),
        errors: asked.errors.is_some(),
        ranges: RANGES.map(|text| (text, text == range.text)).into(),
        full: traces.len() >= LIMIT,
        traces,
        spans_seen: state.otlp.accepted_spans.load(std::sync::atomic::Ordering::Relaxed),
        otlp: state.otlp_addresses,
    };
    render(&page)
}

pub(super) async fn trace(Shared(state): Shared<State>, id: Result<Path<String>, PathRejection>) -> Response {
    let id = match id {
        Ok(Path(id)) => id,
        Err(reason) => return error::bad_request(&state, "traces", reason.body_text()),
    };
    let Some(trace_id) = trace_id_from_hex(&id) else {
        return error::bad_request(&state, "traces", format!("{id:?} is not a trace id: up to 32 hexadecimal digits"));
    };
    let ((spans, warning), (records, of_records)) =
        tokio::join!(state.archive.trace(trace_id), state.archive.access_logs_of(trace_id));
    if spans.is_empty() && records.is_empty() {
        let why = warning.unwrap_or_else(|| "it was never received, or is older than traces are kept".to_owned());
        return error::missing(&state, "traces", format!("There is no trace {id}: {why}."));
    }
    let frame = Frame::new(&state, "traces").warn(warning).warn(of_records);
    render(&trace_page(frame, &id, &spans, &records))
}

fn trace_page(frame: Frame, id: &str, spans: &[Span], records: &[Arc<AccessRecord>]) -> TracePage {
    let fall = waterfall(spans);
    let (mut of_spans, records) = beside(spans, records);
    let total = fall.duration_ns.max(1) as f64;
    let mut services: Vec<&str> = spans.iter().map(|span| &*span.service).collect();
    services.sort_unstable();
    services.dedup();
    let mut notes = Vec::new();
    if fall.orphans > 0 {
        notes.push(format!("{} spans name a parent that never arrived: the trace may be incomplete.", fall.orphans));
    }
    if fall.omitted > 0 || fall.rows.len() > ROWS_MAX {
        notes.push(format!("Only the first {} spans are drawn.", fall.rows.len().min(ROWS_MAX)));
    }
    if fall.repeated > 0 {
        notes.push(format!("{} spans arrived more than once and are shown once.", fall.repeated));
    }
    let title = fall.rows.first().map(|row| {
        let root = &spans[row.span];
        format!("{}: {}", root.service, root.name)
    });
    if spans.is_empty() {
        notes.push("No span of this trace is kept: it was not sampled, or its spans went elsewhere.".to_owned());
    }
    TracePage {
        frame,
        id: id.to_owned(),
        title: title.unwrap_or_default(),
        started: format::moment(Timestamp::from_nanos(fall.start_ns)),
        took: format::nanos(fall.duration_ns),
        services: services.len(),
        spans: spans.len(),
        errors: spans.iter().filter(|span| span.status == SpanStatus::Error).count(),
        ticks: ticks(fall.duration_ns),
        rows: fall
            .rows
            .iter()
            .take(ROWS_MAX)
            .map(|row| bar(row, &spans[row.span], total, of_spans.remove(&row.span).unwrap_or_default()))
            .collect(),
        records,
        notes,
    }
}

fn ticks(duration_ns: u64) -> Vec<Tick> {
    let anchor = |at| match at {
        0 => "start",
        100 => "end",
        _ => "middle",
    };
    let tick = |at: u32| Tick { at, anchor: anchor(at), text: format::nanos(duration_ns / 100 * u64::from(at)) };
    [0, 25, 50, 75, 100].map(tick).into()
}

/// Right of the bar while there is room, else left of it, else in it.
fn bar_label(left: f64, width: f64) -> BarLabel {
    let right = (left + width).min(100.0);
    match () {
        () if right <= 85.0 => BarLabel { at: right, shift: 5, anchor: "start", class: "beside" },
        () if left >= 15.0 => BarLabel { at: left, shift: -5, anchor: "end", class: "beside" },
        () => BarLabel { at: right, shift: -6, anchor: "end", class: "within" },
    }
}

/// The records that belong to a span, by its place, and those that belong to none.
///
/// A record names its span where Envoy fills that in, or by the `traceparent` that it sent on. Else `x-request-id`, which is
/// on the record and on the span that the same proxy made of the request.
fn beside(spans: &[Span], records: &[Arc<AccessRecord>]) -> (HashMap<usize, Vec<LogRow>>, Vec<LogRow>) {
    let (mut of_spans, mut others): (HashMap<usize, Vec<LogRow>>, Vec<LogRow>) = Default::default();
    for record in records {
        let by_id = || spans.iter().position(|span| record.span_id == Some(span.span_id));
        let by_request = || {
            let wanted = record.detail(Detail::RequestId)?;
            let kind = if record.reporter == Reporter::Source { SpanKind::Client } else { SpanKind::Server };
            let is_its = |span: &Span| span.kind == kind && span.text("guid:x-request-id") == Some(wanted);
            let mut found = spans.iter().enumerate().filter(|(_, span)| is_its(span)).map(|(at, _)| at);
            // Several proxies may have passed the same id on: then nothing tells whose record it is.
            found.next().filter(|_| found.next().is_none())
        };
        match by_id().or_else(by_request) {
            Some(at) => of_spans.entry(at).or_default().push(logs::row(record)),
            None => others.push(logs::row(record)),
        }
    }
    (of_spans, others)
}

fn bar(row: &Row, span: &Span, total_ns: f64, records: Vec<LogRow>) -> Bar {
    let left = row.offset_ns as f64 / total_ns * 100.0;
    let width = row.duration_ns as f64 / total_ns * 100.0;
    Bar {
        service: span.service.to_string(),
        name: span.name.to_string(),
        kind: span.kind.as_str().trim_start_matches("SPAN_KIND_"),
        depth: row.depth.min(30),
        left,
        width: width.max(0.15),
        took: format::nanos(row.duration_ns),
        label: bar_label(left, width),
        offset: format::nanos(row.offset_ns),
        error: span.status == SpanStatus::Error,
        critical: row.critical,
        facts: facts(row, span),
        records,
    }
}

/// What a span says of itself, in the order of telling: itself, what happened, its attributes, its resource's.
fn facts(row: &Row, span: &Span) -> Vec<(String, String)> {
    let mut facts = vec![
        ("span id".to_owned(), hex(&span.span_id)),
        ("started".to_owned(), format!("+{}", format::nanos(row.offset_ns))),
    ];
    if !span.status_message.is_empty() {
        facts.push(("status".to_owned(), span.status_message.to_string()));
    }
    if row.skew_ns != 0 {
        facts.push((
            "clock".to_owned(),
            format!("moved by {} to fit its parent", format::nanos(row.skew_ns.unsigned_abs())),
        ));
    }
    for event in &span.events {
        let at = format::nanos(event.at_ns.saturating_sub(span.start_ns));
        let details = event.attributes.iter().map(|(name, value)| format!(" {name}={}", text(value)));
        facts.push((format!("event +{at}"), std::iter::once(event.name.to_string()).chain(details).collect()));
    }
    facts.extend(span.links.iter().map(|link| ("linked trace".to_owned(), hex(&link.trace_id))));
    facts.extend(
        span.attributes.iter().chain(&span.resource.attributes).map(|(name, value)| (name.to_string(), text(value))),
    );
    facts
}

fn text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::String(text) | AttributeValue::Json(text) => text.to_string(),
        AttributeValue::Bool(value) => value.to_string(),
        AttributeValue::Int(value) => value.to_string(),
        AttributeValue::Double(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
