//! The numbers of what is sent to other servers: samples by remote write, alerts to Alertmanagers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::forward;
use crate::notify::{AlertmanagerCounters, AlertmanagerStatus};
use crate::telemetry::{Kind, Metrics};

/// Samples sent by remote write, by name of the remote.
pub(super) fn add_remotes(metrics: &mut Metrics, status: &forward::Status) {
    let mut add = |kind, name, help, read: fn(&forward::Counters) -> f64| {
        let status = status.clone();
        let each = move || status.remotes().into_iter().map(|(name, counters)| (name, read(&counters))).collect();
        metrics.add_each(kind, (name, "remote"), help, each);
    };
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    let help = "Samples that wait to be sent by remote write.";
    add(gauge, "remote_write_pending_samples", help, |c| of(&c.unpacked_samples) + of(&c.packed_samples));
    let help = "Samples in the journal that the process before did not send, still to be sent.";
    add(gauge, "remote_write_journal_samples", help, |c| of(&c.journal_samples));
    let help = "Journal entries trimmed before they were sent.";
    add(counter, "remote_write_missed_journal_entries", help, |c| of(&c.missed_entries));
    let help = "Samples sent a second time after a start and refused: the receiver has them.";
    add(counter, "remote_write_repeated_samples", help, |c| of(&c.repeated_samples));
    add(counter, "remote_write_sent_samples", "Samples that the receiver took.", |c| of(&c.sent_samples));
    add(counter, "remote_write_failed_samples", "Samples refused for good.", |c| of(&c.failed_samples));
    add(counter, "remote_write_retried_samples", "Samples sent again.", |c| of(&c.retried_samples));
    let help = "Samples dropped because too many waited, or their batch could not be read.";
    add(counter, "remote_write_dropped_samples", help, |c| of(&c.dropped_backlog) + of(&c.dropped_unreadable));
    let help = "Samples dropped because they were older than sample_age_limit.";
    add(counter, "remote_write_too_old_samples", help, |c| of(&c.dropped_too_old));
    let help = "Samples not taken before the remote was removed.";
    add(counter, "remote_write_abandoned_samples", help, |c| of(&c.dropped_shutdown));
    add(counter, "remote_write_sent_bytes", "Bytes of requests that were taken.", |c| of(&c.sent_bytes));
    add(counter, "remote_write_sent_exemplars", "Exemplars that the receiver took.", |c| of(&c.sent_exemplars));
    let help = "Exemplars dropped because too many waited for a sample of their series.";
    add(counter, "remote_write_dropped_exemplars", help, |c| of(&c.dropped_exemplars));
    add(counter, "remote_write_sent_metadata", "Metrics whose metadata was taken.", |c| of(&c.sent_metadata));
    add(counter, "remote_write_failed_metadata", "Metrics whose metadata was not taken.", |c| of(&c.failed_metadata));
    let help = "Time of the newest sample that came, Unix time.";
    add(gauge, "remote_write_newest_timestamp_seconds", help, |c| c.newest_in_ms.load(Relaxed) as f64 / 1000.0);
    let help = "Time of the newest sample that was taken, Unix time.";
    add(gauge, "remote_write_newest_sent_timestamp_seconds", help, |c| c.newest_sent_ms.load(Relaxed) as f64 / 1000.0);
    add(gauge, "remote_write_shards", "Requests that may be under way at once.", |c| of(&c.shards));
}

/// Alerts sent to Alertmanagers, by address.
pub(super) fn add_alertmanagers(metrics: &mut Metrics, status: &AlertmanagerStatus) {
    let mut add = |kind, name, help, read: fn(&AlertmanagerCounters) -> f64| {
        let status = status.clone();
        let each =
            move || status.counters_of_active().into_iter().map(|(url, counters)| (url, read(&counters))).collect();
        metrics.add_each(kind, (name, "alertmanager"), help, each);
    };
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    add(counter, "alertmanager_sent_alerts", "Alerts sent, taken or not.", |c| of(&c.sent));
    add(counter, "alertmanager_failed_alerts", "Of these the ones that were not taken.", |c| of(&c.errors));
    add(counter, "alertmanager_dropped_alerts", "Alerts never sent: too many waited.", |c| of(&c.dropped));
    add(gauge, "alertmanager_queue_length", "Alerts that wait.", |c| of(&c.queue_length));
    add(counter, "alertmanager_requests", "Requests.", |c| of(&c.requests));
    add(counter, "alertmanager_request_seconds", "Time that requests took.", |c| of(&c.request_time_us) / 1e6);
    let capacity = AlertmanagerStatus::QUEUE_CAPACITY as f64;
    let help = "Most alerts that wait for each Alertmanager.";
    metrics.add(Kind::Gauge, ("alertmanager_queue_capacity", None), help, move || capacity);
    let known = status.clone();
    let help = "Alertmanagers that alerts are sent to.";
    metrics.add(Kind::Gauge, ("alertmanagers_discovered", None), help, move || known.active().len() as f64);
    let known = status.clone();
    let help = "Alerts that came while Alertmanagers were configured but none was found.";
    metrics.add(Kind::Counter, ("alertmanager_unsent_alerts", None), help, move || known.unsent() as f64);
}

fn of(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}
