//! What the receivers and the pipeline of access logs count.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::access_logs::Counters;
use crate::otlp;
use crate::telemetry::{Kind, Metrics};

pub(super) fn add(metrics: &mut Metrics, counters: &Arc<Counters>, receivers: &Arc<otlp::Counters>) {
    let help = "Access log records accepted.";
    metrics.count("otlp_accepted_log_records", help, receivers, |c| &c.accepted_log_records);
    let help = "Log records of requests refused to be sent again.";
    metrics.count("otlp_refused_log_records", help, receivers, |c| &c.refused_log_records);
    for reason in otlp::LogRejection::ALL {
        let (counters, label) = (Arc::clone(receivers), Some(("reason", reason.as_str())));
        let read = move || counters.rejected_log_records(reason) as f64;
        metrics.add(Kind::Counter, ("otlp_rejected_log_records", label), "Log records not taken, by reason.", read);
    }
    for what in otlp::LogTrim::ALL {
        let (counters, label) = (Arc::clone(receivers), Some(("what", what.as_str())));
        let read = move || counters.trimmed_log_records(what) as f64;
        let help = "What was cut or mended on accepted log records.";
        metrics.add(Kind::Counter, ("otlp_trimmed_log_records", label), help, read);
    }
    metrics.count("access_logs_records", "Access log records taken from the queue.", counters, |c| &c.records);
    metrics.count("access_logs_batches", "Batches of them made for the store.", counters, |c| &c.batches);
    metrics.count("access_logs_batch_bytes", "Bytes of those batches.", counters, |c| &c.batch_bytes);
    let help = "Batches lost because the store was away at shutdown.";
    metrics.count("access_logs_lost_batches", help, counters, |c| &c.lost_batches);
    let help = "Records that the series do not count, because of access_logs.series_limit.";
    metrics.count("access_logs_uncounted_records", help, counters, |c| &c.uncounted_records);
    let help = "Samples made of records that memory did not take.";
    metrics.count("access_logs_refused_samples", help, counters, |c| &c.refused_samples);
    let waiting = Arc::clone(counters);
    let read = move || waiting.pending_batches.load(Ordering::Relaxed) as f64;
    metrics.add(Kind::Gauge, ("access_logs_pending_batches", None), "Batches of records waiting for the store.", read);
}
