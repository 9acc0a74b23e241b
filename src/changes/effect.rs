//! What a change did to the traffic: steps of failures, of 4xx and of latency on the edges that it governs.
//!
//! In: the edges' minutes around the change. Out: [`Effect`]s, the surest and largest first. Invariant: nothing is told of
//! little traffic, of small steps, or of steps that may as well have come by chance.

use std::fmt;
use std::time::Duration;

use super::edges::{EdgeSeries, Minute};
use super::step::{Step, step};
use crate::model::workload::LatencyHistogram;

/// How long before a change its traffic is looked at.
pub const BEFORE: Duration = Duration::from_secs(30 * 60);
/// How long after it.
pub const AFTER: Duration = Duration::from_secs(15 * 60);

/// The probability, before anything is looked at, that a change touches an edge that it governs: one in ten, as changes of
/// configuration fail (DORA's change failure rate of well-run teams is 5 to 15 %).
const PRIOR: f64 = 0.1;
/// From which probability on an effect is told.
const TOLD: f64 = 0.8;
/// The least step of a share that is told, and by how much the larger share must exceed the smaller one.
const SHARE_STEP_MIN: f64 = 0.01;
const SHARE_RATIO_MIN: f64 = 1.5;
/// A request counts as slow beyond the bound that at most this share exceeded before.
const SLOW_SHARE: f64 = 0.05;
/// The least rise of the share of slow requests, and of the 95 % latency, that is told.
const SLOW_STEP_MIN: f64 = 0.1;
const LATENCY_RATIO_MIN: f64 = 1.3;
/// Most effects of one change that are kept.
const EFFECTS_MAX: usize = 50;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Share of requests answered with 5xx.
    ServerErrors,
    /// Share of requests that failed: 5xx, no answer, gRPC errors.
    Failures,
    /// Share of requests answered with 4xx.
    ClientErrors,
    /// 95 % latency in milliseconds.
    Latency,
}

impl Measure {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerErrors => "5xx",
            Self::Failures => "failures",
            Self::ClientErrors => "4xx",
            Self::Latency => "p95",
        }
    }

    /// The measure of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::ServerErrors, Self::Failures, Self::ClientErrors, Self::Latency];
        all.into_iter().find(|one| one.as_str() == name)
    }
}

/// One thing that a change did to one edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// What was measured.
    pub measure: Measure,
    /// The caller, `web.shop`.
    pub source: String,
    /// The service called.
    pub target: String,
    /// A share, or milliseconds, before.
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// How long after the change, in whole minutes.
    pub delay: Duration,
    /// That the change made it, and not chance or one of the other changes of those minutes.
    pub probability: f64,
    /// Requests before and after.
    pub requests: (f64, f64),
}

impl Effect {
    /// Whether it made things worse.
    pub fn is_worse(&self) -> bool {
        self.after > self.before
    }

    fn value(&self, value: f64) -> String {
        match self.measure {
            Measure::Latency if value >= 1000.0 => format!("{:.1} s", value / 1000.0),
            Measure::Latency => format!("{value:.0} ms"),
            _ if value >= 0.0995 => format!("{:.0} %", value * 100.0),
            _ if value > 0.0 => format!("{:.1} %", value * 100.0),
            _ => "0 %".to_owned(),
        }
    }
}

/// `5xx on web.shop → cart.shop rose from 0.2 % to 34 %, 2 minutes later (probability 0.97)`
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measure, source, target, before, after, delay, probability, .. } = self;
        let what = match measure {
            Measure::ServerErrors => "5xx",
            Measure::Failures => "failures",
            Measure::ClientErrors => "4xx",
            Measure::Latency => "p95",
        };
        let moved = if self.is_worse() { "rose" } else { "fell" };
        let later = match delay.as_secs() / 60 {
            0 => "in the same minute".to_owned(),
            1 => "1 minute later".to_owned(),
            minutes => format!("{minutes} minutes later"),
        };
        let (before, after) = (self.value(*before), self.value(*after));
        let probability = probability.clamp(0.0, 0.99);
        write!(
            f,
            "{what} on {source} → {target} {moved} from {before} to {after}, {later} (probability {probability:.2})"
        )
    }
}

/// What a change at the minute `change` of the series did. `rivals` says how many changes that govern an edge came in the
/// same minutes, this one among them: they share the blame.
pub fn effects(edges: &[EdgeSeries], change: usize, rivals: impl Fn(&EdgeSeries) -> usize) -> Vec<Effect> {
    // Of the edges that a change of the whole mesh governs most are not touched by it.
    let prior = PRIOR / (edges.len().max(1) as f64).sqrt();
    let mut found: Vec<Effect> = Vec::new();
    for edge in edges {
        let shared = rivals(edge).max(1) as f64;
        let of_edge = [failures(edge, change, prior), client_errors(edge, change, prior), latency(edge, change, prior)];
        found.extend(of_edge.into_iter().flatten().map(|mut effect| {
            effect.probability /= shared;
            effect
        }));
    }
    found.sort_by(|one, other| {
        let weight = |effect: &Effect| (effect.is_worse(), effect.probability * (effect.after - effect.before).abs());
        let (one, other) = (weight(one), weight(other));
        other.0.cmp(&one.0).then_with(|| other.1.total_cmp(&one.1))
    });
    found.truncate(EFFECTS_MAX);
    found
}

fn column(edge: &EdgeSeries, of: impl Fn(&Minute) -> f64) -> Vec<f64> {
    edge.minutes.iter().map(of).collect()
}

fn effect(edge: &EdgeSeries, measure: Measure, change: usize, found: Step) -> Effect {
    Effect {
        measure,
        source: edge.source.clone(),
        target: edge.target.clone(),
        before: found.before,
        after: found.after,
        delay: Duration::from_secs(60) * u32::try_from(found.at - change).unwrap_or(0),
        probability: found.probability,
        requests: found.requests,
    }
}

/// A share that made a step large enough to be told.
fn share(edge: &EdgeSeries, bad: &[f64], (change, prior): (usize, f64)) -> Option<Step> {
    let found = step(bad, &column(edge, |minute| minute.requests), change, prior)?;
    let (low, high) = (found.before.min(found.after), found.before.max(found.after));
    let large = high - low >= SHARE_STEP_MIN && high >= low * SHARE_RATIO_MIN;
    (large && found.probability >= TOLD).then_some(found)
}

fn failures(edge: &EdgeSeries, change: usize, prior: f64) -> Option<Effect> {
    let found = share(edge, &column(edge, |minute| minute.failures), (change, prior))?;
    let sum = |of: fn(&Minute) -> f64| edge.minutes.iter().map(of).sum::<f64>();
    let mostly = sum(|minute| minute.server_errors) >= 0.8 * sum(|minute| minute.failures);
    let measure = if mostly { Measure::ServerErrors } else { Measure::Failures };
    Some(effect(edge, measure, change, found))
}

fn client_errors(edge: &EdgeSeries, change: usize, prior: f64) -> Option<Effect> {
    let found = share(edge, &column(edge, |minute| minute.client_errors), (change, prior))?;
    Some(effect(edge, Measure::ClientErrors, change, found))
}

/// Latency as the share of requests slower than a bound that few exceeded before.
fn latency(edge: &EdgeSeries, change: usize, prior: f64) -> Option<Effect> {
    let before = merged(&edge.minutes[..change.min(edge.minutes.len())]);
    let bound = slow_bound(&before)?;
    let (mut slow, mut all) = (Vec::new(), Vec::new());
    for minute in &edge.minutes {
        // A minute whose buckets have no such bound tells nothing.
        let known = minute.latency.bounds_ms.iter().position(|one| *one == bound);
        slow.push(known.map_or(0.0, |at| minute.latency.counts.iter().skip(at + 1).sum()));
        all.push(if known.is_some() { minute.latency.total() } else { 0.0 });
    }
    let found = step(&slow, &all, change, prior).filter(|step| step.probability >= TOLD)?;
    if found.after - found.before < SLOW_STEP_MIN {
        return None;
    }
    let p95 = |minutes: &[Minute]| merged(minutes).quantile(0.95);
    let (before, after) = (p95(&edge.minutes[..found.at])?, p95(&edge.minutes[found.at..])?);
    let told = effect(edge, Measure::Latency, change, Step { before, after, ..found });
    (after >= before * LATENCY_RATIO_MIN).then_some(told)
}

fn merged(minutes: &[Minute]) -> LatencyHistogram {
    let mut all = LatencyHistogram::default();
    minutes.iter().for_each(|minute| all.merge(&minute.latency));
    all
}

fn slow_bound(before: &LatencyHistogram) -> Option<f64> {
    let total = before.total();
    let mut below = 0.0;
    for (bound, count) in before.bounds_ms.iter().zip(&before.counts) {
        below += count;
        if total > 0.0 && total - below <= total * SLOW_SHARE {
            return Some(*bound);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{Gathering, Governs};
    use crate::graph::testing::calls;
    use crate::model::workload::{EdgeKey, Outcome, Reporter, Service, Workload};
    use crate::model::{EdgeMinute, Timestamp};

    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn edge(reporter: Reporter, source: &str, service: &str, answered: bool) -> EdgeKey {
        let workload =
            |name: &str| Workload { name: Some(name.into()), namespace: Some("shop".into()), ..Workload::default() };
        EdgeKey {
            reporter,
            service: Service { name: Some(service.into()), namespace: Some("shop".into()), host: None },
            ..calls(workload(source), if answered { workload(service) } else { Workload::default() })
        }
    }

    /// A minute of 100 requests: so many of them with a code, so many slow.
    fn minute(at: usize, key: EdgeKey, bad: (&str, f64), slow: f64) -> EdgeMinute {
        let outcome = |code: &str| Outcome { code: code.into(), grpc_status: "".into(), flags: "-".into() };
        let mut one = EdgeMinute::empty(START + Duration::from_secs(60) * u32::try_from(at).expect("small"), key);
        one.requests = vec![(outcome("200"), 100.0 - bad.1), (outcome(bad.0), bad.1)];
        one.latency = LatencyHistogram {
            bounds_ms: [10.0, 100.0, 1000.0].into(),
            counts: vec![100.0 - slow, 0.0, slow, 0.0],
            sum_ms: 1.0,
        };
        one
    }

    fn found(minutes: &[EdgeMinute], rivals: usize) -> Vec<String> {
        let governs = Governs { services: [("cart".to_owned(), "shop".to_owned())].into(), ..Governs::default() };
        let mut gathering = Gathering::new(governs, START, 45);
        gathering.add(minutes);
        effects(&gathering.finish(), 30, |_| rivals).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_change_did_is_said_in_one_sentence() {
        let source = |at: usize, bad: (&str, f64), slow: f64| {
            minute(at, edge(Reporter::Source, "web", "cart", bad.0 != "503" || bad.1 == 0.0), bad, slow)
        };
        let rising = |code: &'static str| -> Vec<EdgeMinute> {
            (0..45).map(|at| source(at, (code, if at >= 32 { 34.0 } else { 0.0 }), 0.0)).collect()
        };
        let text = found(&rising("503"), 1);
        assert_eq!(text.len(), 1, "{text:?}");
        assert!(
            text[0].starts_with("5xx on web.shop → cart.shop rose from 0 % to 34 %, 2 minutes later (probability 0.9"),
            "{text:?}"
        );
        assert!(found(&rising("403"), 1)[0].starts_with("4xx on web.shop → cart.shop rose"), "denied calls");
        assert!(found(&rising("0"), 1)[0].starts_with("failures on"), "no answer");
        let shared = found(&rising("503"), 2);
        assert!(shared[0].ends_with("(probability 0.48)"), "two changes share the blame: {shared:?}");

        let slower: Vec<EdgeMinute> =
            (0..45).map(|at| source(at, ("503", 0.0), if at >= 30 { 60.0 } else { 1.0 })).collect();
        let text = found(&slower, 1);
        assert!(text.len() == 1 && text[0].starts_with("p95 on web.shop → cart.shop rose from"), "{text:?}");
        let mended: Vec<EdgeMinute> =
            (0..45).map(|at| source(at, ("500", if at < 31 { 50.0 } else { 0.0 }), 0.0)).collect();
        assert!(found(&mended, 1)[0].contains("fell from 50 % to 0 %, 1 minute later"), "{:?}", found(&mended, 1));
    }

    #[test]
    fn of_two_reports_one_counts_and_other_edges_do_not() {
        let mut minutes = Vec::new();
        for at in 0..45 {
            let failing = if at >= 30 { 50.0 } else { 0.0 };
            minutes.push(minute(at, edge(Reporter::Source, "web", "cart", true), ("500", 0.0), 0.0));
            minutes.push(minute(at, edge(Reporter::Destination, "web", "cart", true), ("500", failing), 0.0));
            minutes.push(minute(at, edge(Reporter::Source, "web", "till", true), ("500", failing), 0.0));
        }
        assert_eq!(found(&minutes, 1), [] as [&str; 0], "the client saw no failure");
        assert_eq!(found(&[], 1), [] as [&str; 0]);
    }
}
