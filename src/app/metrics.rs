//! Which numbers of which part stand on the page `/metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::persist::PartStatus;
use crate::rollup::Rollup;
use crate::series::Head;
use crate::telemetry::{Kind, Metrics};
use crate::{notify, otlp, rules, scrape, traces};

/// What the parts count.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) scrape: Option<Arc<scrape::Counters>>,
    pub(super) otlp: Option<Arc<otlp::Counters>>,
    pub(super) traces: Option<Arc<traces::Counters>>,
    pub(super) rules: Option<Arc<rules::Counters>>,
    pub(super) notify: Option<Arc<notify::Counters>>,
    pub(super) persist: Vec<Arc<PartStatus>>,
}

impl Parts {
    /// The page of all of them.
    pub(super) fn page(self, head: &Head, rollup: &Rollup) -> impl Fn() -> String + Send + Sync + 'static {
        let mut metrics = Metrics::default();
        let Self { scrape, otlp, traces, rules, notify, persist } = self;
        if let Some(counters) = &scrape {
            metrics.count("scrapes", "Scrapes done", counters, |c| &c.scrapes);
            metrics.count("scrape_failures", "Scrapes that failed", counters, |c| &c.failures);
            metrics.count("scrape_missed_slots", "Scrapes that did not begin in time", counters, |c| &c.missed_slots);
            metrics.count("scrape_samples", "Samples stored", counters, |c| &c.samples);
            metrics.count("scrape_page_bytes", "Bytes of pages after decompression", counters, |c| &c.page_bytes);
        }
        if let Some(counters) = &otlp {
            metrics.count("otlp_accepted_spans", "Spans accepted", counters, |c| &c.accepted_spans);
            metrics.count("otlp_refused_requests", "Requests refused because a queue was full", counters, |c| {
                &c.refused_requests
            });
            metrics.count("otlp_malformed_requests", "Requests that could not be decoded", counters, |c| {
                &c.malformed_requests
            });
        }
        if let Some(counters) = &traces {
            metrics.count("traces_batches", "Batches of spans made for the store", counters, |c| &c.batches);
            metrics.count(
                "traces_lost_batches",
                "Batches of spans lost because the store was away too long",
                counters,
                |c| &c.lost_batches,
            );
            metrics.count("traces_pairs", "Calls of which both sides were seen", counters, |c| &c.pairs);
            metrics.count("traces_expired_edges", "Sides of calls whose other side never came", counters, |c| {
                &c.expired_edges
            });
        }
        if let Some(counters) = &rules {
            metrics.count("rule_evaluations", "Rules evaluated", counters, |c| &c.evaluations);
            metrics.count("rule_evaluation_failures", "Evaluations that failed", counters, |c| &c.evaluation_failures);
            metrics.count(
                "rule_group_iterations_missed",
                "Rounds of groups that did not begin in time",
                counters,
                |c| &c.iterations_missed,
            );
            metrics.count("rule_transitions_dropped", "Changes of alert states lost to the history", counters, |c| {
                &c.transitions_dropped
            });
        }
        if let Some(counters) = &notify {
            metrics.count("notifications_delivered", "Notifications that a receiver took", counters, |c| &c.delivered);
            metrics.count("notifications_failed", "Notifications given up for their flush", counters, |c| &c.failed);
            metrics.count("notifications_retried", "Tries repeated", counters, |c| &c.retried);
            metrics.count("notifications_unrecorded", "Notifications sent without an outbox row", counters, |c| {
                &c.unrecorded
            });
        }
        add_persist(&mut metrics, &persist);
        add_memory(&mut metrics, head, rollup);
        metrics.into_page()
    }
}

fn add_persist(metrics: &mut Metrics, parts: &[Arc<PartStatus>]) {
    let names = |name: &str| -> Option<(&'static str, &'static str)> {
        Some(match name {
            "journal" => ("persist_journal_written_samples", "persist_journal_failures"),
            "chunks" => ("persist_chunks_written", "persist_chunks_failures"),
            "rollups" => ("persist_rollups_written", "persist_rollups_failures"),
            "spans" => ("persist_spans_written", "persist_spans_failures"),
            "alerts" => ("persist_alerts_written_transitions", "persist_alerts_failures"),
            "outbox" => ("persist_outbox_written_records", "persist_outbox_failures"),
            "maintenance" => ("persist_maintenance_rounds", "persist_maintenance_failures"),
            _ => return None,
        })
    };
    for part in parts {
        if let Some((written, failures)) = names(part.name) {
            metrics.count(written, "Items written to PostgreSQL", part, |p| &p.written);
            metrics.count(failures, "Writes to PostgreSQL that failed and are tried again", part, |p| &p.failures);
        }
    }
    let all = parts.to_vec();
    metrics.add(Kind::Gauge, "persist_pending", "Items that wait to be written to PostgreSQL", move || {
        all.iter().map(|part| part.pending.load(Ordering::Relaxed)).sum::<u64>() as f64
    });
}

fn add_memory(metrics: &mut Metrics, head: &Head, rollup: &Rollup) {
    let of_head = |read: fn(&crate::series::HeadStats) -> f64| {
        let head = head.clone();
        move || read(&head.stats())
    };
    metrics.add(Kind::Gauge, "head_series", "Series in memory", of_head(|s| s.series as f64));
    metrics.add(Kind::Gauge, "head_samples", "Samples in memory", of_head(|s| s.samples as f64));
    metrics.add(Kind::Gauge, "head_bytes", "Bytes of samples, series and index in memory", of_head(|s| s.bytes as f64));
    metrics.add(
        Kind::Gauge,
        "journal_waiting_bytes",
        "Bytes that wait for the journal",
        of_head(|s| s.journal_bytes as f64),
    );
    let rollup = rollup.clone();
    metrics.add(Kind::Gauge, "rollup_edges", "Edges counted in memory", move || rollup.size().edges as f64);
}
