//! The queues of this process: what waits in each, what it has lost, and what it does when it is full.
//!
//! In: the text of `/metrics`. Out: rows. Invariant: every queue of ARCHITECTURE.md's table whose losses are counted is here.

use super::{bytes, format};

/// A queue as the table of ARCHITECTURE.md has it. Series are without the prefix `meshscope_`.
struct Queue {
    name: &'static str,
    /// What waits in it, where that is counted.
    waiting: Option<&'static str>,
    /// What was lost or refused because it was full.
    lost: &'static str,
    full: &'static str,
    /// The block of the configuration that bounds it.
    key: &'static str,
}

const QUEUES: [Queue; 19] = [
    Queue {
        name: "Journal, to PostgreSQL",
        waiting: Some("journal_waiting_bytes"),
        lost: "journal_dropped_samples_total",
        full: "the oldest samples go",
        key: "storage.journal_limit_bytes",
    },
    Queue {
        name: "Edge minutes, to PostgreSQL",
        waiting: Some("persist_pending_items{part=\"rollups\"}"),
        lost: "rollup_unwritten_dropped_total",
        full: "the oldest go",
        key: "rollup.unwritten_limit",
    },
    Queue {
        name: "Spans and access log records, from OTLP",
        waiting: None,
        lost: "otlp_refused_requests_total{reason=\"queue_full\"}",
        full: "the client is told to retry",
        key: "",
    },
    Queue {
        name: "OTLP requests that PostgreSQL does not have yet",
        waiting: None,
        lost: "otlp_refused_requests_total{reason=\"not_stored\"}",
        full: "the client is told to retry",
        key: "otlp.max_waiting_requests",
    },
    Queue {
        name: "Batches of spans",
        waiting: Some("traces_pending_batches"),
        lost: "traces_lost_batches_total",
        full: "no more spans are taken; lost only at shutdown",
        key: "traces.pending_batches",
    },
    Queue {
        name: "Batches of access log records",
        waiting: Some("access_logs_pending_batches"),
        lost: "access_logs_lost_batches_total",
        full: "no more records are taken; lost only at shutdown",
        key: "access_logs.pending_batches",
    },
    Queue {
        name: "Alerts, from the rules",
        waiting: None,
        lost: "rule_alerts_not_taken_total",
        full: "rules send them again at the next evaluation",
        key: "",
    },
    Queue {
        name: "Alerts for Alertmanagers elsewhere",
        waiting: Some("alertmanager_queue_length"),
        lost: "alertmanager_dropped_alerts_total",
        full: "the oldest go",
        key: "alerting",
    },
    Queue {
        name: "Alerts that others post",
        waiting: None,
        lost: "posted_alerts_refused_total",
        full: "new ones are refused with a reason",
        key: "",
    },
    Queue {
        name: "Deliveries, to the outbox",
        waiting: None,
        lost: "notifications_unrecorded_total",
        full: "sent after two seconds without a record",
        key: "",
    },
    Queue {
        name: "Changes of alerts, to the history",
        waiting: Some("persist_pending_items{part=\"alerts\"}"),
        lost: "rule_transitions_dropped_total",
        full: "lost to the history",
        key: "",
    },
    Queue {
        name: "Changes of what is declared, to the history",
        waiting: Some("persist_pending_items{part=\"changes\"}"),
        lost: "persist_dropped_items_total{part=\"changes\"}",
        full: "the oldest go",
        key: "",
    },
    Queue {
        name: "Samples sent on by remote write",
        waiting: Some("remote_write_pending_samples"),
        lost: "remote_write_dropped_samples_total",
        full: "the oldest go",
        key: "remote_write",
    },
    Queue {
        name: "Series in memory",
        waiting: None,
        lost: "head_refused_series_total",
        full: "new series are refused",
        key: "storage.series_limit",
    },
    Queue {
        name: "Memory of the process",
        waiting: None,
        lost: "safe_mode_dropped_samples_total",
        full: "samples that no rule reads are not stored",
        key: "storage.memory_limit",
    },
    Queue {
        name: "Edges in memory",
        waiting: None,
        lost: "rollup_refused_total{reason=\"edge_limit\"}",
        full: "series of further edges do not count",
        key: "rollup.edge_limit",
    },
    Queue {
        name: "Scrapes and pages under way",
        waiting: None,
        lost: "scrape_failures_total",
        full: "they wait within their timeout; all failed scrapes are counted here",
        key: "scrape.concurrency",
    },
    Queue {
        name: "Requests of one client",
        waiting: None,
        lost: "access_client_limited_requests_total",
        full: "refused (429)",
        key: "web.rate_limit",
    },
    Queue {
        name: "Passwords to be checked",
        waiting: None,
        lost: "access_limited_requests_total",
        full: "refused (429)",
        key: "",
    },
];

/// A queue as the page shows it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    pub(super) waiting: String,
    pub(super) lost: String,
    pub(super) has_lost: bool,
    pub(super) full: &'static str,
}

/// The rows of the table, those that lost something first.
pub(super) fn rows(metrics: &str) -> Vec<Row> {
    let row = |queue: &Queue| {
        let lost = sum(metrics, queue.lost);
        let shown = |series: &str, number: f64| match series.contains("_bytes") {
            true => bytes(number as u64),
            false => format::count(number),
        };
        let text = |series: &str| sum(metrics, series).map_or_else(|| "–".to_owned(), |number| shown(series, number));
        Row {
            name: queue.name,
            key: queue.key,
            waiting: queue.waiting.map_or_else(|| "–".to_owned(), text),
            lost: text(queue.lost),
            has_lost: lost.is_some_and(|lost| lost > 0.0),
            full: queue.full,
        }
    };
    let mut rows: Vec<Row> = QUEUES.iter().map(row).collect();
    rows.sort_by_key(|row| !row.has_lost);
    rows
}

/// The sum of the points of a series; `None` where this process has none (an Alertmanager that is not configured, say).
fn sum(metrics: &str, series: &str) -> Option<f64> {
    let point = |line: &str| {
        let (name, number) = line.strip_prefix("meshscope_")?.rsplit_once(' ')?;
        let is_it = name == series || name.strip_prefix(series).is_some_and(|rest| rest.starts_with('{'));
        if is_it { number.parse::<f64>().ok() } else { None }
    };
    metrics.lines().filter_map(point).fold(None, |sum, number| Some(sum.unwrap_or(0.0) + number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_that_counts_its_losses_is_named() {
        let text = include_str!("../../../ARCHITECTURE.md");
        let table =
            text.split_once("| Queue | Capacity |").map(|(_, rest)| rest.split("\n\n").next()).unwrap_or_default();
        let named: Vec<&str> =
            table.unwrap_or_default().split("`meshscope_").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        assert!(named.len() > 15, "{named:?}");
        for counter in named {
            let is_it = |series: &str| series.split('{').next() == Some(counter);
            assert!(
                QUEUES.iter().any(|queue| is_it(queue.lost) || queue.waiting.is_some_and(is_it)),
                "{counter} of ARCHITECTURE.md is not on the page"
            );
        }
    }

    #[test]
    fn points_are_added_up_and_what_is_not_there_is_not_zero() {
        let metrics = "# HELP meshscope_x_total X 7\nmeshscope_alertmanager_queue_length{url=\"a b\"} 3\n\
                       meshscope_alertmanager_queue_length{url=\"c\"} 4\nmeshscope_journal_waiting_bytes 2048\n\
                       meshscope_journal_dropped_samples_total 5\n\
                       meshscope_otlp_refused_requests_total{reason=\"queue_full\"} 2\n\
                       meshscope_otlp_refused_requests_total{reason=\"not_stored\"} 0\n";
        let rows = rows(metrics);
        let of = |name: &str| rows.iter().find(|row| row.name.starts_with(name)).map(|row| (&*row.waiting, &*row.lost));
        assert_eq!(of("Journal"), Some(("2.0 KiB", "5")));
        assert_eq!(of("Alerts for Alertmanagers"), Some(("7", "–")));
        assert_eq!(of("Spans and access"), Some(("–", "2")));
        assert_eq!(of("OTLP requests"), Some(("–", "0")));
        assert!(rows[0].has_lost && rows[1].has_lost && !rows[2].has_lost, "losses stand first");
    }
}
