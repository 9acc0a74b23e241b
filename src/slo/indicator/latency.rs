//! Latency: the share of requests that take longer than a bound of the histogram.

use std::time::Duration;

use super::super::config::{LatencyConfig, Mesh, SloConfig, tidy};
use super::{Indicator, Ratio, Selected, excluding};
use crate::units::PromDuration;

/// Envoy's default bounds in milliseconds; the one of half a millisecond cannot be written.
const ISTIO_MS: [u64; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
];
/// linkerd2-proxy's, in milliseconds.
const LINKERD_MS: [u64; 25] = [
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000,
    30_000, 40_000, 50_000,
];
/// Those of linkerd2-proxy's metrics of HTTP routes.
const LINKERD_ROUTE_MS: [u64; 4] = [50, 500, 1_000, 10_000];

pub(super) fn indicator(config: &LatencyConfig, written: &SloConfig, selected: Selected) -> Result<Indicator, String> {
    let threshold = config.threshold.ok_or("latency has no `threshold`, such as 250ms")?;
    let (metric, defaults, is_seconds): (_, &[u64], _) = match (written.mesh, selected.is_route) {
        (Mesh::Linkerd, true) => ("outbound_http_route_request_duration_seconds", &LINKERD_ROUTE_MS, true),
        (Mesh::Linkerd, false) => ("response_latency_ms", &LINKERD_MS, false),
        _ => ("istio_request_duration_milliseconds", &ISTIO_MS, false),
    };
    check_bound(threshold, config, defaults)?;
    let bound = threshold.get().as_secs_f64() * if is_seconds { 1.0 } else { 1000.0 };
    let text = tidy(bound);
    // Prometheus 3 writes whole bounds with a zero behind, what is scraped has none.
    let bound = match text.contains('.') {
        true => format!("le=\"{text}\""),
        false => format!("le=~\"{text}(\\\\.0)?\""),
    };
    let kept = excluding(config.exclude.as_ref(), written.mesh)?;
    let rate = |more: String| {
        let more: Vec<String> = kept.iter().cloned().chain([more]).collect();
        selected.sum(&format!("rate({}[5m])", selected.series(&format!("{metric}_bucket"), &more)))
    };
    let (total, good) = (rate("le=\"+Inf\"".to_owned()), rate(bound));
    let errors = format!("clamp_min({total} - {good}, 0)");
    let Selected { group, about, .. } = selected;
    Ok(Indicator {
        kind: "latency",
        about,
        bad: format!("slower than {threshold}"),
        ratio: Ratio::Counted { total, errors, absent_is_zero: false },
        group,
    })
}

/// The share below a threshold is known only where a bucket ends.
fn check_bound(threshold: PromDuration, config: &LatencyConfig, defaults: &[u64]) -> Result<(), String> {
    let own: Vec<Duration> = config.bounds.iter().map(|bound| bound.get()).collect();
    let mut bounds = match own.is_empty() {
        true => defaults.iter().copied().map(Duration::from_millis).collect(),
        false => own,
    };
    bounds.sort_unstable();
    if threshold.is_zero() {
        return Err("a latency threshold of 0s lets no request be in time".to_owned());
    }
    if bounds.contains(&threshold.get()) {
        return Ok(());
    }
    let below = bounds.iter().rev().find(|bound| **bound < threshold.get());
    let above = bounds.iter().find(|bound| **bound > threshold.get());
    let nearest: Vec<String> =
        below.into_iter().chain(above).map(|bound| PromDuration::from(*bound).to_string()).collect();
    let whose = if config.bounds.is_empty() { "by default" } else { "by `bounds`" };
    let mend = match config.bounds.is_empty() {
        true => ", or list the proxies' own under `latency.bounds` if they have others",
        false => "",
    };
    Err(format!(
        "latency.threshold: {threshold} is no bound of the histogram's buckets {whose}, so the share below it is not \
         known; the nearest are {}{mend}",
        nearest.join(" and ")
    ))
}
