//! meshscope itself: does it scrape, store, evaluate and tell in time, and what does it take.

use super::super::{
    frame::{Board, any_of},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bad_below, blue, lines, stat},
};

const NONE: &str = "no meshscope is scraped: add its own address to scrape_configs";

/// See the module.
pub(in super::super) fn meshscope() -> Dashboard {
    let mut panels = overview();
    panels.extend(input());
    panels.extend(state());
    panels.extend(output());
    Board {
        uid: "meshscope-meshscope",
        title: "meshscope itself",
        description: "Does meshscope scrape, store, evaluate and tell in time, and what does it take.",
        tag: "self",
        page: "/status",
        variables: vec![any_of(
            ("instance", "Instance"),
            "Which meshscope",
            "label_values(meshscope_build_info, instance)",
        )],
    }
    .with(panels.into_iter().map(|panel| panel.when_empty(NONE)).collect())
}

fn rate(counter: &str, by: &str) -> String {
    format!(r#"sum by ({by}) (rate({counter}{{instance=~"$instance"}}[$__rate_interval]))"#)
}

fn now(gauge: &str, by: &str) -> String {
    format!(r#"sum by ({by}) ({gauge}{{instance=~"$instance"}})"#)
}

fn overview() -> Vec<Panel> {
    vec![
        stat(("Database", "1 while PostgreSQL answers."), "none", bad_below(1.0, 1.0))
            .query(r#"min(meshscope_database_available{instance=~"$instance"})"#, ""),
        stat(
            ("Safe mode", "1 while memory is short: samples that no rule reads are not stored."),
            "none",
            bad_above(1.0, 1.0),
        )
        .query(r#"max(meshscope_safe_mode{instance=~"$instance"})"#, ""),
        stat(("Series", "Series in memory."), "short", blue()).query(now("meshscope_head_series", ""), ""),
        stat(("Samples", "Samples stored a second."), "ops", blue())
            .query(rate("meshscope_head_accepted_samples_total", ""), ""),
    ]
}

fn input() -> Vec<Panel> {
    vec![
        lines(("Targets", "Targets by health."), "none").query(now("meshscope_scrape_targets", "health"), "{{health}}"),
        lines(("Scrapes", "Scrapes a second: done, failed, begun too late."), "ops")
            .query(rate("meshscope_scrapes_total", ""), "done")
            .query(rate("meshscope_scrape_failures_total", ""), "failed")
            .query(rate("meshscope_scrape_missed_slots_total", ""), "missed"),
        lines(("Refused samples", "Samples a second that memory did not take, by reason."), "ops")
            .query(rate("meshscope_head_refused_samples_total", "reason"), "{{reason}}"),
        lines(("Spans", "Spans a second: accepted, refused to be sent again, rejected."), "ops")
            .query(rate("meshscope_otlp_accepted_spans_total", ""), "accepted")
            .query(rate("meshscope_otlp_refused_spans_total", ""), "refused")
            .query(rate("meshscope_otlp_rejected_spans_total", "reason"), "rejected {{reason}}"),
        lines(("Pushed samples", "Samples a second that others sent."), "ops")
            .query(rate("meshscope_push_samples_total", ""), "stored"),
        lines(("Series made and forgotten", "A steady rate of new series is churn."), "ops")
            .query(rate("meshscope_head_created_series_total", ""), "made")
            .query(rate("meshscope_head_removed_series_total", ""), "forgotten"),
    ]
}

fn state() -> Vec<Panel> {
    vec![
        lines(("Memory", "What the process holds, its limit, and what series take of it."), "bytes")
            .query(now("meshscope_memory_used_bytes", ""), "process")
            .query(now("meshscope_memory_limit_bytes", ""), "limit")
            .query(now("meshscope_head_bytes", ""), "series"),
        lines(
            ("Waiting for PostgreSQL", "What waits to be written, by part: it grows while PostgreSQL is away."),
            "none",
        )
        .query(now("meshscope_persist_pending_items", "part"), "{{part}}"),
        lines(("Written", "Items a second that PostgreSQL took, by part."), "ops")
            .query(rate("meshscope_persist_written_items_total", "part"), "{{part}}"),
        lines(
            ("Writes that failed and losses", "Writes that failed, items given up, samples dropped, a second."),
            "ops",
        )
        .query(rate("meshscope_persist_failures_total", "part"), "failed {{part}}")
        .query(rate("meshscope_persist_dropped_items_total", "part"), "given up {{part}}")
        .query(rate("meshscope_journal_dropped_samples_total", ""), "journal")
        .query(rate("meshscope_safe_mode_dropped_samples_total", ""), "safe mode"),
    ]
}

fn output() -> Vec<Panel> {
    vec![
        lines(("Queries", "Queries a second, those of rules too, and those that were stopped."), "ops")
            .query(rate("meshscope_promql_queries_total", ""), "done")
            .query(rate("meshscope_promql_queries_stopped_total", "reason"), "stopped {{reason}}"),
        lines(("Rules", "Rules evaluated a second, failures, rounds missed."), "ops")
            .query(rate("meshscope_rule_evaluations_total", ""), "evaluated")
            .query(rate("meshscope_rule_evaluation_failures_total", ""), "failed")
            .query(rate("meshscope_rule_group_iterations_missed_total", ""), "missed"),
        lines(("Notifications", "Notifications a second, by how they ended, and tries again."), "ops")
            .query(rate("meshscope_notifications_total", "outcome"), "{{outcome}}")
            .query(rate("meshscope_notification_retries_total", ""), "tried again"),
        lines(("Remote write", "Samples that wait to be sent on, and how far behind it is."), "none")
            .query(now("meshscope_remote_write_pending_samples", "remote"), "waiting {{remote}}")
            .query(
                r#"max(meshscope_remote_write_newest_timestamp_seconds{instance=~"$instance"} - meshscope_remote_write_newest_sent_timestamp_seconds{instance=~"$instance"})"#,
                "seconds behind",
            ),
    ]
}
