//! What the reports of the two sides say together: retries, and where errors come from.
//!
//! In: what caller and called report of one edge. Out: a ratio, a sentence (reference/mesh.md §2 #7, #15).

use super::flags;
use super::health::{count, percent};
use super::sum::Traffic;

/// Requests each side must have reported before the two are compared.
const ENOUGH: f64 = 30.0;

/// Requests the server saw for each one the client sent on; `None` unless both report enough.
///
/// What the client's proxy answered by itself (no route, circuit breaker, injected abort) was never sent.
pub(super) fn retry_amplification(client: &Traffic<'_>, server: &Traffic<'_>) -> Option<f64> {
    let sent = client.requests() - client.count_where(flags::is_never_sent);
    (sent >= ENOUGH && server.requests() >= ENOUGH).then(|| server.requests() / sent)
}

/// One sentence on how the reports differ; `None` when they agree or are too small.
///
/// `server_reports_others`: the called workload reports requests of other callers, so its silence means something.
pub(super) fn disagreement(
    client: &Traffic<'_>,
    server: Option<&Traffic<'_>>,
    server_reports_others: bool,
    hangups_are_errors: bool,
) -> Option<String> {
    let sent = client.requests();
    if sent < ENOUGH {
        return None;
    }
    let client_errors = client.tally(hangups_are_errors).error_ratio().unwrap_or(0.0);
    let Some(server) = server.filter(|server| !server.is_idle()) else {
        return (server_reports_others && client_errors >= 0.05).then(|| {
            format!(
                "the caller reports {} errors and the called workload has seen none of its requests: network, mTLS, \
                 routing or circuit breaking between them{}",
                percent(client_errors),
                top_flags(client)
            )
        });
    };
    let server_errors = server.tally(hangups_are_errors).error_ratio().unwrap_or(0.0);
    if client_errors >= 0.05 && server_errors < client_errors / 3.0 {
        return Some(format!(
            "the caller reports {} errors, the called workload only {}: they arise between the two (network, mTLS, \
             routing or circuit breaking){}",
            percent(client_errors),
            percent(server_errors),
            top_flags(client)
        ));
    }
    if server_errors >= 0.05 && client_errors < server_errors / 3.0 {
        return Some(format!(
            "the called workload reports {} errors, the caller only {}: retries hide them from the caller",
            percent(server_errors),
            percent(client_errors)
        ));
    }
    if client_errors >= 0.05 && server_errors >= 0.05 {
        return Some(format!(
            "both sides report errors (caller {}, called workload {}): the application itself answers with them",
            percent(client_errors),
            percent(server_errors)
        ));
    }
    let reached = sent - client.count_where(flags::is_never_sent);
    (reached >= ENOUGH && server.requests() < 0.7 * reached).then(|| {
        format!(
            "the called workload reports {} of the {} requests the caller sent: some of its proxies are not scraped",
            count(server.requests()),
            count(reached)
        )
    })
}

/// `; most often: upstream connect failure (UF)`.
fn top_flags(client: &Traffic<'_>) -> String {
    let mut failures: Vec<(&str, f64)> = Vec::new();
    for (outcome, count) in &client.outcomes {
        if flags::words(&outcome.flags).is_some() && !flags::is_injected(outcome) {
            failures.push((&outcome.flags, *count));
        }
    }
    failures.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    match failures.first() {
        Some((top, _)) => format!("; most often: {} ({top})", flags::words(top).unwrap_or_default()),
        None => String::new(),
    }
}
