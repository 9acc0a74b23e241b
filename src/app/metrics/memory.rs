//! How much memory each module's data take.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Parts;
use crate::series::HeadStats;
use crate::telemetry::{Kind, Metrics};

/// Of each module that holds much, about; the rest of the process is code, connections and work under way.
///
/// `sizes` are those of the memory tier.
pub(super) fn add(metrics: &mut Metrics, parts: &Parts, sizes: Arc<Mutex<HeadStats>>) {
    let (head, rollup) = (parts.head.clone(), parts.rollup.clone());
    let (live, live_logs) = (parts.live.clone(), parts.live_logs.clone());
    let targets = parts.scrape_status.clone();
    let each = move || {
        let (series, journal) = {
            let sizes = sizes.lock();
            (sizes.bytes, sizes.journal_bytes)
        };
        let bytes = [
            ("series", series),
            ("journal", journal),
            ("scrape", targets.remembered_bytes()),
            ("exemplars", head.exemplars().size_bytes()),
            ("rollup", rollup.size_bytes()),
            ("traces", live.size_bytes()),
            ("access_logs", live_logs.size_bytes()),
        ];
        bytes.map(|(module, bytes)| (module.to_owned(), bytes as f64)).into()
    };
    let help = "Bytes that a module's data take in memory, about.";
    metrics.add_each(Kind::Gauge, ("module_memory_bytes", "module"), help, each);
}
