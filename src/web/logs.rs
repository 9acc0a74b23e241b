//! The page of access logs: which requests ended how, by edge, reason, status and time, with links to trace and edge.

use std::net::SocketAddr;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, given, link};
use super::frame::{Frame, render};
use super::{State, error, format, range};
use crate::access_logs::{AccessRecord, Detail, Filter, Reason, codes_of, ends_of};
use crate::graph::flags;
use crate::model::Timestamp;
use crate::model::span::{hex, trace_id_from_hex};

/// What the page shows unless told.
pub(super) const RANGE_DEFAULT: &str = "1h";
const RANGES: [&str; 5] = ["15m", "1h", "6h", "24h", "2d"];
const LIMIT: usize = 200;
/// Most characters of one text of a record.
const TEXT_MAX: usize = 400;

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    source: Option<String>,
    destination: Option<String>,
    reason: Option<String>,
    code: Option<String>,
    trace: Option<String>,
    range: Option<String>,
    at: Option<String>,
}

#[derive(Template)]
#[template(path = "logs.html")]
struct Page {
    frame: Frame,
    source: String,
    destination: String,
    code: String,
    trace: String,
    at: String,
    reasons: Vec<(&'static str, &'static str, bool)>,
    ranges: Vec<(&'static str, bool)>,
    totals: Vec<Total>,
    rows: Vec<LogRow>,
    records_seen: u64,
    otlp: [SocketAddr; 2],
    full: bool,
}

/// How many of the records shown ended like that.
struct Total {
    words: &'static str,
    href: String,
    count: usize,
    class: &'static str,
}

/// One record as pages show it.
pub(super) struct LogRow {
    pub(super) at: String,
    pub(super) exact: String,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) edge: String,
    pub(super) graph: String,
    pub(super) request: String,
    pub(super) code: String,
    pub(super) class: &'static str,
    pub(super) words: &'static str,
    pub(super) policy: String,
    pub(super) flags: String,
    pub(super) took: String,
    pub(super) reporter: &'static str,
    pub(super) trace: String,
    pub(super) facts: Vec<(&'static str, String)>,
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(asked): Asked<Address>) -> Response {
    let now = state.clock.now();
    let range = range::Query { range: asked.range.clone(), at: asked.at.clone() };
    let read = range.read(RANGE_DEFAULT, now).and_then(|range| {
        let old = range.before_retention("access logs", state.retention.access_logs, "access_logs");
        Ok((asked.filter(&range)?, range.text, old))
    });
    let (filter, text, old) = match read {
        Ok(read) => read,
        Err(message) => return error::bad_request(&state, "logs", message),
    };
    let (found, warning) = state.archive.access_logs(&filter).await;
    let records_seen = state.otlp.accepted_log_records.load(std::sync::atomic::Ordering::Relaxed);
    let page = Page {
        frame: Frame::new(&state, "logs").warn(warning).warn(old),
        totals: asked.totals(&found),
        rows: found.iter().map(|record| row(record)).collect(),
        records_seen,
        otlp: state.otlp_addresses,
        full: found.len() >= LIMIT,
        ..asked.page(&text)
    };
    render(&page)
}

impl Address {
    fn filter(&self, range: &range::Range) -> Result<Filter, String> {
        let text = |text: &Option<String>| given(text.as_deref()).map(|text| text.trim().to_owned());
        let reason = match given(self.reason.as_deref()) {
            None | Some("failures") => None,
            Some(name) => Some(Reason::from_name(name).ok_or_else(|| format!("reason: {name:?} is none of the list"))?),
        };
        let codes = |text: &str| {
            codes_of(text).ok_or_else(|| format!("code: {text:?} is no status: use 403, or a class such as 5xx"))
        };
        let trace = |id: &str| {
            trace_id_from_hex(id).ok_or_else(|| format!("trace: {id:?} is not a trace id: up to 32 hexadecimal digits"))
        };
        Ok(Filter {
            source: text(&self.source),
            destination: text(&self.destination),
            reason,
            failures_only: self.reason.as_deref() == Some("failures"),
            codes: text(&self.code).as_deref().map(codes).transpose()?,
            trace: text(&self.trace).as_deref().map(trace).transpose()?,
            from_ns: range.from.as_nanos(),
            to_ns: range.to.as_nanos(),
            limit: LIMIT,
        })
    }

    /// The form as it was sent, over no records.
    fn page(&self, range: &str) -> Page {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let asked = self.reason.as_deref().unwrap_or_default();
        let reasons = Reason::ALL.iter().map(|reason| (reason.as_str(), reason.words()));
        let reasons = [("failures", "all that went wrong")].into_iter().chain(reasons);
        Page {
            frame: Frame::around("logs", 0),
            source: text(&self.source),
            destination: text(&self.destination),
            code: text(&self.code),
            trace: text(&self.trace),
            at: text(&self.at),
            reasons: reasons.map(|(name, words)| (name, words, name == asked)).collect(),
            ranges: RANGES.map(|text| (text, text == range)).into(),
            totals: Vec::new(),
            rows: Vec::new(),
            records_seen: 0,
            otlp: [SocketAddr::from(([127, 0, 0, 1], 4317)); 2],
            full: false,
        }
    }

    /// Reasons among the records, the most frequent first, each with this page's address narrowed to it.
    fn totals(&self, found: &[std::sync::Arc<AccessRecord>]) -> Vec<Total> {
        let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let total = |reason: Reason, count| {
            let own = [&self.source, &self.destination, &self.code, &self.trace, &self.range, &self.at].map(text);
            let names = ["source", "destination", "code", "trace", "range", "at"];
            let kept = names.into_iter().zip(own.iter().map(String::as_str)).chain([("reason", reason.as_str())]);
            Total { words: reason.words(), href: link("logs", &kept.collect::<Vec<_>>()), count, class: class(reason) }
        };
        let counts = Reason::ALL.iter().map(|reason| (*reason, found.iter().filter(|r| r.reason == *reason).count()));
        let mut totals: Vec<Total> =
            counts.filter(|(_, count)| *count > 0).map(|(reason, count)| total(reason, count)).collect();
        totals.sort_by_key(|total| std::cmp::Reverse(total.count));
        totals
    }
}

fn class(reason: Reason) -> &'static str {
    match reason {
        reason if reason.is_good() => "healthy",
        Reason::Upstream4xx | Reason::CallerGone | Reason::FaultDelay => "degraded",
        _ => "failure",
    }
}

/// One record for a table.
pub(super) fn row(record: &AccessRecord) -> LogRow {
    let text = |detail| record.detail(detail).unwrap_or_default();
    let visible = |text: &str| format::visible(text, TEXT_MAX);
    let [source, destination, service] = ends_of(record);
    // Where no name is known, the address is better than nothing.
    let or_address = |name: &str, detail| if name.is_empty() { visible(text(detail)) } else { visible(name) };
    let called = if service.is_empty() { &destination } else { &service };
    let at = Timestamp::from_nanos(record.at_ns);
    let known = [source.as_str(), called.as_str()];
    let edge =
        if known.contains(&"") { String::new() } else { link("logs", &[("source", &source), ("destination", called)]) };
    let namespace = record.service.namespace.as_deref().or(record.destination.namespace.as_deref());
    let grpc = record.grpc_status.filter(|status| *status > 0).map(|status| format!(" gRPC {status}"));
    let rule = record.rule.map_or_else(String::new, |rule| format!(", rule {rule}"));
    LogRow {
        at: at.to_chrono().format("%m-%d %H:%M:%S%.3f").to_string(),
        exact: at.to_string(),
        source: or_address(&source, Detail::DownstreamRemote),
        destination: or_address(called, Detail::UpstreamHost),
        edge,
        graph: namespace.map_or_else(String::new, |namespace| link("graph", &[("namespace", namespace)])),
        request: visible(&format!("{} {}{}", text(Detail::Method), text(Detail::Authority), text(Detail::Path))),
        code: format!("{}{}", record.code, grpc.unwrap_or_default()),
        class: class(record.reason),
        words: record.reason.words(),
        policy: record.policy.as_deref().map(|policy| format!("{}{rule}", visible(policy))).unwrap_or_default(),
        flags: flags::words(&record.flags).map(|words| visible(&words)).unwrap_or_default(),
        took: record.duration_ms.map_or_else(|| "–".to_owned(), |ms| format::latency(Some(ms as f64))),
        reporter: record.reporter.as_str(),
        trace: record.trace_id.map(|id| hex(&id)).unwrap_or_default(),
        facts: facts(record),
    }
}

/// All that a record says, for those who open it.
fn facts(record: &AccessRecord) -> Vec<(&'static str, String)> {
    let known =
        |name: &'static str, text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| (name, text));
    let [source, destination, service] = ends_of(record);
    let own = [
        known("caller", Some(source)),
        known("called workload", Some(destination)),
        known("called service", Some(service)),
        known("reported by", Some(record.reporter.as_str().to_owned())),
        known("response_flags", Some(record.flags.to_string())),
        known("upstream service time", record.upstream_ms.map(|ms| format!("{ms} ms"))),
        known("bytes", Some(format!("{} in, {} out", record.request_bytes, record.response_bytes))),
        known("span id", record.span_id.map(|id| hex(&id))),
    ];
    let details = record.details.iter().map(|(detail, text)| (detail.as_str(), text.to_string()));
    let facts = own.into_iter().flatten().chain(details);
    facts.map(|(name, text)| (name, format::visible(&text, TEXT_MAX))).collect()
}

#[cfg(test)]
mod tests;
