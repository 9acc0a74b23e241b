//! The numbers of the engine that `storage.query_upstream` names.

use crate::telemetry::{Kind, Metrics};
use crate::upstream::Upstream;

/// Whether it is there, and what was asked of it.
pub(super) fn add(metrics: &mut Metrics, upstream: &Upstream) {
    let of = upstream.clone();
    let is_there = move || f64::from(u8::from(of.away().is_none()));
    metrics.add(Kind::Gauge, ("upstream_available", None), "1 while storage.query_upstream answers, else 0.", is_there);
    let counters = upstream.counters();
    let help = "Requests to the engine of storage.query_upstream.";
    metrics.count("upstream_requests", help, counters, |c| &c.requests);
    let help = "Requests to the engine of storage.query_upstream without an answer.";
    metrics.count("upstream_failed_requests", help, counters, |c| &c.failures);
    let help = "Requests that the engine of storage.query_upstream refused.";
    metrics.count("upstream_refused_requests", help, counters, |c| &c.refused);
    let help = "Bytes of answers of storage.query_upstream.";
    metrics.count("upstream_answer_bytes", help, counters, |c| &c.answer_bytes);
    let help = "Queries passed on whole to storage.query_upstream.";
    metrics.count("upstream_passed_queries", help, counters, |c| &c.passed_on);
    let help = "Queries evaluated here, on samples of our own and of storage.query_upstream.";
    metrics.count("upstream_joined_queries", help, counters, |c| &c.evaluated_here);
}
