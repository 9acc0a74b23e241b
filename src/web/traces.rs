//! Pages of traces: the search and its results, one trace as a waterfall, and two side by side.

mod compare;
mod search;

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;

use super::ask::Shared;
use super::frame::{Frame, render};
use super::logs::{self, LogRow};
use super::{State, error, format};
use crate::access_logs::{AccessRecord, Detail};
use crate::graph::flags;
use crate::model::Timestamp;
use crate::model::span::{AttributeValue, Span, SpanKind, SpanStatus, hex, trace_id_from_hex};
use crate::model::workload::Reporter;
use crate::traces::{Row, Waterfall, hops, waterfall};

pub(super) use compare::compare;
pub(super) use search::{RANGE_DEFAULT, search};

/// Most spans of one trace that are drawn.
const ROWS_MAX: usize = 3000;
/// Most failed spans that are listed before the waterfall.
const FAILURES_MAX: usize = 50;
/// Most calls whose time is taken apart.
const HOPS_MAX: usize = 100;

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
    failures: Vec<Failure>,
    more_failures: usize,
    rows: Vec<Bar>,
    hops: Vec<HopRow>,
    records: Vec<LogRow>,
    notes: Vec<String>,
}

/// A failed span, and where it stands in the waterfall.
struct Failure {
    anchor: String,
    service: String,
    name: String,
    why: String,
    at: String,
}

/// Where the time of one call went.
struct HopRow {
    anchor: String,
    from: String,
    to: String,
    name: String,
    whole: String,
    own: String,
    waiting: String,
    between: String,
    /// Percent of the whole: in the called application, in its own calls, between the two.
    shares: [f64; 3],
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
    anchor: String,
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

pub(super) async fn trace(Shared(state): Shared<State>, id: Result<Path<String>, PathRejection>) -> Response {
    let id = match id {
        Ok(Path(id)) => id,
        Err(reason) => return error::bad_request(&state, "traces", reason.body_text()),
    };
    let Some(trace_id) = trace_id_from_hex(&id) else {
        return error::bad_request(&state, "traces", format!("{id:?} is not a trace id: up to 32 hexadecimal digits"));
    };
    let (found, (records, of_records)) =
        tokio::join!(state.archive.trace(trace_id), state.archive.access_logs_of(trace_id));
    let (spans, warning) = found.unwrap_or_else(|unknown| (Vec::new(), Some(unknown.to_string())));
    if spans.is_empty() && records.is_empty() {
        return match warning.or(of_records) {
            Some(warning) => {
                error::unavailable(&state, "traces", format!("Whether there is a trace {id} is not known. {warning}"))
            }
            None => {
                let why = "it was never received, or is older than traces are kept";
                error::missing(&state, "traces", format!("There is no trace {id}: {why}."))
            }
        };
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
    let errors = spans.iter().filter(|span| span.status == SpanStatus::Error).count();
    TracePage {
        frame,
        id: id.to_owned(),
        title: title.unwrap_or_default(),
        started: format::moment(Timestamp::from_nanos(fall.start_ns)),
        took: format::nanos(fall.duration_ns),
        services: services.len(),
        spans: spans.len(),
        errors,
        ticks: ticks(fall.duration_ns),
        failures: failures(&fall, spans),
        more_failures: errors.saturating_sub(FAILURES_MAX),
        hops: hop_rows(&fall, spans),
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

/// Where a span stands on the page. Spans may share an id, so the row counts too.
fn anchor(row: &Row, span: &Span) -> String {
    format!("span-{}-{}", hex(&span.span_id), row.span)
}

/// The failed spans, those that failed first before those that only passed it on.
fn failures(fall: &Waterfall, spans: &[Span]) -> Vec<Failure> {
    let failed = |row: &&Row| spans[row.span].status == SpanStatus::Error;
    let mut rows: Vec<&Row> = fall.rows.iter().take(ROWS_MAX).filter(failed).collect();
    rows.sort_by_key(|row| (row.offset_ns.saturating_add(row.duration_ns), std::cmp::Reverse(row.depth)));
    let failure = |row: &Row| {
        let span = &spans[row.span];
        Failure {
            anchor: anchor(row, span),
            service: span.service.to_string(),
            name: span.name.to_string(),
            why: why(span),
            at: format::nanos(row.offset_ns.saturating_add(row.duration_ns)),
        }
    };
    rows.into_iter().take(FAILURES_MAX).map(failure).collect()
}

/// Why a span failed, as far as it says: its message, the proxy's flags in words, the status of the response.
fn why(span: &Span) -> String {
    let flags = span.text("response_flags").and_then(flags::words);
    let codes = ["http.status_code", "http.response.status_code", "grpc.status_code", "rpc.grpc.status_code"];
    let code = codes.iter().find_map(|name| Some((*name, span.attribute(name)?)));
    let code = code.map(|(name, value)| {
        let protocol = if name.contains("grpc") { "gRPC status" } else { "HTTP" };
        format!("{protocol} {}", text(value))
    });
    let message = Some(&*span.status_message).filter(|message| !message.is_empty()).map(str::to_owned);
    let all: Vec<String> = [message, flags, code].into_iter().flatten().collect();
    if all.is_empty() { "it does not say why".to_owned() } else { all.join("; ") }
}

fn hop_rows(fall: &Waterfall, spans: &[Span]) -> Vec<HopRow> {
    let anchors: HashMap<usize, String> =
        fall.rows.iter().take(ROWS_MAX).map(|row| (row.span, anchor(row, &spans[row.span]))).collect();
    let row = |hop: crate::traces::Hop| {
        let share = |ns: u64| ns as f64 / hop.whole_ns.max(1) as f64 * 100.0;
        HopRow {
            anchor: anchors.get(&hop.client).cloned().unwrap_or_default(),
            from: spans[hop.client].service.to_string(),
            to: spans[hop.server].service.to_string(),
            name: spans[hop.server].name.to_string(),
            whole: format::nanos(hop.whole_ns),
            own: format::nanos(hop.own_ns),
            waiting: format::nanos(hop.waiting_ns),
            between: format::nanos(hop.between_ns),
            shares: [share(hop.own_ns), share(hop.waiting_ns), share(hop.between_ns)],
        }
    };
    hops(fall, spans, HOPS_MAX).into_iter().map(row).collect()
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
        anchor: anchor(row, span),
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
    facts.extend(span.attributes.iter().chain(&span.resource.attributes).map(|(name, value)| {
        let words = Some(value).filter(|_| &**name == "response_flags").and_then(|flags| flags::words(&text(flags)));
        (name.to_string(), words.map_or_else(|| text(value), |words| format!("{} ({words})", text(value))))
    }));
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
