//! The numbers of who may connect to the listeners, what they may do, and where requests of our own may lead.

use std::sync::atomic::Ordering::Relaxed;

use crate::access::{self, Gate};
use crate::http_client::Reaches;
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

/// Of the listener of pages and APIs.
pub(super) fn add_gate(metrics: &mut Metrics, gate: &Gate) {
    let mut add = |name, help, read: fn(&access::Counters) -> u64| {
        let gate = gate.clone();
        metrics.add(Kind::Counter, (name, None), help, move || read(gate.counters()) as f64);
    };
    let help = "Requests that the role of who asked does not allow, or the lists of the trusted proxy.";
    add("access_forbidden_requests", help, |counters| counters.forbidden.load(Relaxed));
    let help = "Changes refused because a page of another site, or under another name, asked for them.";
    add("access_cross_site_requests", help, |counters| counters.cross_site.load(Relaxed));
    let help = "Requests of clients past web.rate_limit.";
    add("access_client_limited_requests", help, |counters| counters.limited.load(Relaxed));
    let help = "Requests with the headers of the trusted proxy that came from elsewhere; the headers were ignored.";
    add("access_ignored_proxy_headers", help, |counters| counters.ignored_proxy_headers.load(Relaxed));
    let help = "Clients that web.rate_limit tells apart now.";
    let gate = gate.clone();
    metrics.add(Kind::Gauge, ("access_limited_clients", None), help, move || gate.clients() as f64);
}

/// Of each kind of outgoing request.
pub(super) fn add_outgoing(metrics: &mut Metrics, outgoing: &Reaches) {
    let outgoing = outgoing.clone();
    let each = move || outgoing.all().map(|reach| (reach.purpose().to_owned(), reach.refused() as f64)).into();
    let help = "Addresses that security.outgoing kept requests from, by its key.";
    metrics.add_each(Kind::Counter, ("outgoing_refused_addresses", "purpose"), help, each);
}
