//! The numbers of who may connect to the listeners.

use std::sync::atomic::Ordering::Relaxed;

use crate::telemetry::{Kind, Metrics};
use crate::web_config::{Counters, Guard};

/// Of each listener, by the key of its file without what all have in common.
pub(super) fn add(metrics: &mut Metrics, guards: &[Guard]) {
    let mut add = |kind, name, help, read: fn(&Counters) -> f64| {
        let guards = guards.to_vec();
        let listener = |guard: &Guard| guard.status().key.trim_end_matches(".config_file").to_owned();
        let each = move || guards.iter().map(|guard| (listener(guard), read(guard.counters()))).collect();
        metrics.add_each(kind, (name, "listener"), help, each);
    };
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    let help = "Requests without a valid password or token, by listener.";
    add(counter, "access_unauthorized_requests", help, |c| c.unauthorized.load(Relaxed) as f64);
    let help = "Requests past rate_limit, or while too many passwords were checked, by listener.";
    add(counter, "access_limited_requests", help, |c| c.limited.load(Relaxed) as f64);
    let help = "TLS handshakes that failed, by listener.";
    add(counter, "access_failed_handshakes", help, |c| c.failed_handshakes.load(Relaxed) as f64);
    let help =
        "1 while the files of access are in force as they are, 0 while a change of them is refused, by listener.";
    add(gauge, "access_config_last_reload_successful", help, |c| {
        f64::from(u8::from(!c.last_read_failed.load(Relaxed)))
    });
    let help = "When the files of access that are in force were read, Unix time, by listener.";
    add(gauge, "access_config_last_reload_success_timestamp_seconds", help, |c| c.read_at_seconds.load(Relaxed) as f64);
}
