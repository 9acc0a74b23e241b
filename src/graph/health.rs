//! Whether an edge or node is well, with the reason in one sentence.
//!
//! Kiali's tolerances (reference/mesh.md §4) with what it lacks: no verdict without enough requests, and a ratio must
//! exceed its threshold with confidence (Wilson score interval), so one failure of one request is no outage.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::find::matches;
use super::flags::Class;

/// Verdict, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// No traffic.
    #[default]
    Idle,
    /// Traffic within tolerance, or too little to judge.
    Healthy,
    /// Some tolerance is exceeded.
    Degraded,
    /// Failing.
    Failure,
}

impl Status {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failure => "failure",
        }
    }
}

/// Verdict and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Verdict.
    pub status: Status,
    /// Why, in one sentence.
    pub reason: String,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status.as_str(), self.reason)
    }
}

/// From how many percent of the requests on a class of outcomes is degraded or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Degraded from this many percent on; 0 means from the first.
    pub degraded: f64,
    /// A failure from this many percent on; absent means never.
    pub failure: Option<f64>,
}

impl Tolerance {
    const fn new(degraded: f64, failure: Option<f64>) -> Self {
        Self { degraded, failure }
    }
}

/// When traffic is degraded or failing. Percentages are of requests without injected faults.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// 5xx answers. Default 0 / 10.
    pub server_error: Tolerance,
    /// 4xx answers. Default 10 / never: callers' faults page nobody.
    pub client_error: Tolerance,
    /// gRPC errors. Default 0 / 10.
    pub grpc_error: Tolerance,
    /// Requests without an answer. Default 0 / 10.
    pub no_response: Tolerance,
    /// TCP connections that failed, of those opened. Default 0 / 10.
    pub failed_connection: Tolerance,
    /// Fewer requests in the range than this are not judged … Default 30.
    pub min_requests: f64,
    /// … unless at least this many of them failed. Default 5.
    pub min_failures: f64,
    /// Standard deviations of confidence that a failure threshold is really passed. Default 1.96 (97.5 %).
    pub confidence_z: f64,
    /// Degraded from this 95 % latency on, in milliseconds. Default never.
    pub p95_degraded_ms: Option<f64>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            server_error: Tolerance::new(0.0, Some(10.0)),
            client_error: Tolerance::new(10.0, None),
            grpc_error: Tolerance::new(0.0, Some(10.0)),
            no_response: Tolerance::new(0.0, Some(10.0)),
            failed_connection: Tolerance::new(0.0, Some(10.0)),
            min_requests: 30.0,
            min_failures: 5.0,
            confidence_z: 1.96,
            p95_degraded_ms: None,
        }
    }
}

/// Other tolerances for some services, as the configuration has them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    /// Namespace of the called service or workload; `*` stands for any text. Default: any.
    pub namespace: Option<String>,
    /// Name of the called service, workload or app; `*` stands for any text. Default: any.
    pub name: Option<String>,
    /// What differs from `graph.health`.
    pub health: Changed,
}

/// Thresholds that differ; those absent stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Changed {
    /// 5xx answers.
    pub server_error: Option<Tolerance>,
    /// 4xx answers.
    pub client_error: Option<Tolerance>,
    /// gRPC errors.
    pub grpc_error: Option<Tolerance>,
    /// Requests without an answer.
    pub no_response: Option<Tolerance>,
    /// TCP connections that failed.
    pub failed_connection: Option<Tolerance>,
    /// Fewer requests in the range than this are not judged …
    pub min_requests: Option<f64>,
    /// … unless at least this many of them failed.
    pub min_failures: Option<f64>,
    /// Standard deviations of confidence that a failure threshold is really passed.
    pub confidence_z: Option<f64>,
    /// Degraded from this 95 % latency on, in milliseconds.
    pub p95_degraded_ms: Option<f64>,
}

impl Changed {
    fn of(&self, all: &Thresholds) -> Thresholds {
        Thresholds {
            server_error: self.server_error.unwrap_or(all.server_error),
            client_error: self.client_error.unwrap_or(all.client_error),
            grpc_error: self.grpc_error.unwrap_or(all.grpc_error),
            no_response: self.no_response.unwrap_or(all.no_response),
            failed_connection: self.failed_connection.unwrap_or(all.failed_connection),
            min_requests: self.min_requests.unwrap_or(all.min_requests),
            min_failures: self.min_failures.unwrap_or(all.min_failures),
            confidence_z: self.confidence_z.unwrap_or(all.confidence_z),
            p95_degraded_ms: self.p95_degraded_ms.or(all.p95_degraded_ms),
        }
    }
}

/// Thresholds for all, and for those that have their own. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    all: Thresholds,
    own: Arc<[Own]>,
}

/// What holds for those whose namespace and name fit the patterns.
#[derive(Clone, Debug, PartialEq)]
struct Own {
    namespace: Option<String>,
    name: Option<String>,
    thresholds: Thresholds,
}

impl Rules {
    /// `all` for those that no override fits.
    pub fn new(all: Thresholds, overrides: &[Override]) -> Self {
        let own = overrides.iter().map(|one| Own {
            namespace: one.namespace.clone(),
            name: one.name.clone(),
            thresholds: one.health.of(&all),
        });
        Self { all, own: own.collect() }
    }

    /// What holds for a called service or workload of that namespace, by any of its names.
    pub fn of<'a>(&self, namespace: Option<&str>, names: impl Iterator<Item = &'a str> + Clone) -> &Thresholds {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| matches(pattern, text));
        let fitting = self.own.iter().find(|own| {
            fits(&own.namespace, namespace.unwrap_or_default())
                && (own.name.is_none() || names.clone().any(|text| fits(&own.name, text)))
        });
        fitting.map_or(&self.all, |own| &own.thresholds)
    }
}

impl From<Thresholds> for Rules {
    fn from(all: Thresholds) -> Self {
        Self { all, own: Arc::default() }
    }
}

/// Requests by what they amounted to, injected faults left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// All.
    pub requests: f64,
    /// 5xx.
    pub server_errors: f64,
    /// 4xx and hang-ups.
    pub client_errors: f64,
    /// gRPC errors.
    pub grpc_errors: f64,
    /// Unanswered.
    pub no_responses: f64,
    /// TCP connections opened.
    pub connections: f64,
    /// TCP connections that failed.
    pub failed_connections: f64,
}

impl Tally {
    /// Counts `count` requests of a class.
    pub fn add(&mut self, class: Class, count: f64) {
        self.requests += count;
        match class {
            Class::Success => {}
            Class::ClientError => self.client_errors += count,
            Class::ServerError => self.server_errors += count,
            Class::GrpcError => self.grpc_errors += count,
            Class::NoResponse => self.no_responses += count,
        }
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Self) {
        let Self { requests, server_errors, client_errors, grpc_errors, no_responses, connections, failed_connections } =
            other;
        self.requests += requests;
        self.server_errors += server_errors;
        self.client_errors += client_errors;
        self.grpc_errors += grpc_errors;
        self.no_responses += no_responses;
        self.connections += connections;
        self.failed_connections += failed_connections;
    }

    /// 5xx, gRPC errors and unanswered requests.
    pub fn errors(&self) -> f64 {
        self.server_errors + self.grpc_errors + self.no_responses
    }

    /// Errors per request; `None` without requests.
    pub fn error_ratio(&self) -> Option<f64> {
        (self.requests > 0.0).then(|| self.errors() / self.requests)
    }
}

/// Judges a tally. `p95_ms` is the latency of the same requests.
pub fn judge(tally: &Tally, p95_ms: Option<f64>, thresholds: &Thresholds) -> Health {
    if tally.requests <= 0.0 && tally.connections <= 0.0 && tally.failed_connections <= 0.0 {
        return Health { status: Status::Idle, reason: "no traffic in this range".to_owned() };
    }
    let (requests, connections) = (tally.requests, tally.connections.max(tally.failed_connections));
    let lines = [
        (tally.server_errors, requests, thresholds.server_error, "requests ended with 5xx"),
        (tally.grpc_errors, requests, thresholds.grpc_error, "calls ended with a gRPC error"),
        (tally.no_responses, requests, thresholds.no_response, "requests got no response"),
        (tally.failed_connections, connections, thresholds.failed_connection, "connections failed"),
        (tally.client_errors, requests, thresholds.client_error, "requests ended with 4xx"),
    ];
    let mut worst = Health { status: Status::Healthy, reason: String::new() };
    for (failed, all, tolerance, what) in lines {
        let found = judge_line(failed, all, tolerance, thresholds);
        if found.0 > worst.status {
            let reason = format!("{} of {} {what}{}", percent(failed / all), count(all), found.1);
            worst = Health { status: found.0, reason };
        }
    }
    if let (Some(p95), Some(limit)) = (p95_ms, thresholds.p95_degraded_ms)
        && worst.status < Status::Degraded
        && p95 >= limit
        && requests >= thresholds.min_requests
    {
        worst.status = Status::Degraded;
        worst.reason = format!("95 % of requests take up to {p95:.0} ms, from {limit:.0} ms on is degraded");
    }
    if worst.reason.is_empty() {
        worst.reason = healthy_reason(tally, thresholds);
    }
    worst
}

fn judge_line(failed: f64, all: f64, tolerance: Tolerance, thresholds: &Thresholds) -> (Status, String) {
    let enough = all >= thresholds.min_requests || failed >= thresholds.min_failures;
    if failed <= 0.0 || !enough {
        return (Status::Healthy, String::new());
    }
    let sure_percent = 100.0 * wilson_lower_bound(failed, all, thresholds.confidence_z);
    match tolerance.failure {
        Some(limit) if sure_percent >= limit && sure_percent > 0.0 => {
            return (Status::Failure, format!(", from {} on is a failure", percent(limit / 100.0)));
        }
        _ => {}
    }
    if tolerance.degraded <= 0.0 {
        (Status::Degraded, ", any is degraded".to_owned())
    } else if sure_percent >= tolerance.degraded {
        (Status::Degraded, format!(", from {} on is degraded", percent(tolerance.degraded / 100.0)))
    } else {
        (Status::Healthy, String::new())
    }
}

fn healthy_reason(tally: &Tally, thresholds: &Thresholds) -> String {
    let failed = tally.errors();
    if tally.requests <= 0.0 {
        format!("{} connections opened, none failed enough to judge", count(tally.connections))
    } else if failed > 0.0 {
        let needed = thresholds.min_requests;
        format!("{} of {} requests failed, too few to judge (needs {needed})", count(failed), count(tally.requests))
    } else if tally.client_errors > 0.0 {
        format!(
            "{} of {} requests ended with 4xx, within tolerance",
            percent(tally.client_errors / tally.requests),
            count(tally.requests)
        )
    } else {
        format!("all {} requests succeeded", count(tally.requests))
    }
}

/// Lower end of the Wilson score interval of the ratio `part / all`: what the true ratio is at least, with the
/// confidence of `z` standard deviations.
pub fn wilson_lower_bound(part: f64, all: f64, z: f64) -> f64 {
    if all <= 0.0 {
        return 0.0;
    }
    let (p, z2) = ((part / all).clamp(0.0, 1.0), z * z);
    let centre = p + z2 / (2.0 * all);
    let half = z * (p * (1.0 - p) / all + z2 / (4.0 * all * all)).sqrt();
    ((centre - half) / (1.0 + z2 / all)).clamp(0.0, 1.0)
}

/// A ratio as percent with as many digits as tell something.
pub(super) fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    match percent {
        p if p >= 10.0 || p.fract() == 0.0 => format!("{p:.0}%"),
        p if p >= 0.1 => format!("{p:.1}%"),
        p => format!("{p:.2}%"),
    }
}

/// A count without the fractions that spreading over minutes makes.
pub(super) fn count(count: f64) -> String {
    if count > 0.0 && count < 0.5 { "under 1".to_owned() } else { format!("{count:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(requests: f64, class: Class, failed: f64) -> Tally {
        let mut tally = Tally::default();
        tally.add(Class::Success, requests - failed);
        tally.add(class, failed);
        tally
    }

    #[test]
    fn verdicts_need_traffic_and_confidence() {
        let check = |tally: Tally, status: Status, reason: &str| {
            let health = judge(&tally, None, &Thresholds::default());
            assert_eq!((health.status, health.reason.as_str()), (status, reason));
        };
        check(Tally::default(), Status::Idle, "no traffic in this range");
        check(tally(100.0, Class::Success, 0.0), Status::Healthy, "all 100 requests succeeded");
        check(
            tally(1.0, Class::ServerError, 1.0),
            Status::Healthy,
            "1 of 1 requests failed, too few to judge (needs 30)",
        );
        check(
            tally(6.0, Class::ServerError, 6.0),
            Status::Failure,
            "100% of 6 requests ended with 5xx, from 10% on is a failure",
        );
        check(
            tally(1000.0, Class::ServerError, 5.0),
            Status::Degraded,
            "0.5% of 1000 requests ended with 5xx, any is degraded",
        );
        // 12 % measured on 50 requests may well be under 10 % in truth.
        check(
            tally(50.0, Class::NoResponse, 6.0),
            Status::Degraded,
            "12% of 50 requests got no response, any is degraded",
        );
        check(
            tally(5000.0, Class::NoResponse, 600.0),
            Status::Failure,
            "12% of 5000 requests got no response, from 10% on is a failure",
        );
        check(
            tally(1000.0, Class::ClientError, 900.0),
            Status::Degraded,
            "90% of 1000 requests ended with 4xx, from 10% on is degraded",
        );
        check(
            tally(1000.0, Class::ClientError, 50.0),
            Status::Healthy,
            "5% of 1000 requests ended with 4xx, within tolerance",
        );
        check(
            tally(100.0, Class::GrpcError, 50.0),
            Status::Failure,
            "50% of 100 calls ended with a gRPC error, from 10% on is a failure",
        );
        let tcp = Tally { connections: 40.0, failed_connections: 40.0, ..Tally::default() };
        check(tcp, Status::Failure, "100% of 40 connections failed, from 10% on is a failure");
    }

    #[test]
    fn the_first_override_that_fits_counts_and_changes_only_what_it_names() {
        let all = Thresholds { min_requests: 7.0, ..Thresholds::default() };
        let tolerant = Changed { server_error: Some(Tolerance::new(5.0, None)), ..Changed::default() };
        let slow = Changed { p95_degraded_ms: Some(1.0), ..Changed::default() };
        let rules = Rules::new(
            all,
            &[
                Override { namespace: Some("shop".into()), name: Some("pay*".into()), health: tolerant },
                Override { namespace: Some("sh*".into()), name: None, health: slow },
            ],
        );
        let found = |namespace: &str, names: &[&str]| *rules.of(Some(namespace), names.iter().copied());
        let payment = found("shop", &["x", "payment"]);
        assert_eq!((payment.server_error.degraded, payment.min_requests), (5.0, 7.0));
        assert_eq!(found("shop", &["cart"]).p95_degraded_ms, Some(1.0));
        assert_eq!(found("other", &["payment"]), all);
    }

    #[test]
    fn slow_is_degraded_only_when_asked_for() {
        let slow = Thresholds { p95_degraded_ms: Some(500.0), ..Thresholds::default() };
        let calls = tally(100.0, Class::Success, 0.0);
        assert_eq!(judge(&calls, Some(800.0), &slow).status, Status::Degraded);
        assert_eq!(judge(&calls, Some(499.0), &slow).status, Status::Healthy);
        assert_eq!(judge(&calls, Some(800.0), &Thresholds::default()).status, Status::Healthy);
    }

    #[test]
    fn wilson_bound_matches_known_values() {
        // R: prop.test / binom::binom.wilson(10, 100) lower = 0.05522914; (1, 1) = 0.20654…
        assert!((wilson_lower_bound(10.0, 100.0, 1.959_964) - 0.055_229).abs() < 1e-5);
        assert!((wilson_lower_bound(1.0, 1.0, 1.959_964) - 0.206_543).abs() < 1e-5);
        assert_eq!(wilson_lower_bound(0.0, 50.0, 1.96), 0.0);
        assert_eq!(wilson_lower_bound(3.0, 0.0, 1.96), 0.0);
    }
}
