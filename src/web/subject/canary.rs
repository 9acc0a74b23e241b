//! How one version of a service fares beside the others: what a canary is watched for.
//!
//! In: versions with rates and errors, and for how long. Out: a sentence, or that there is too little to tell. Pure.

use super::story::Version;
use crate::web::format;

/// Fewer requests than this of either side say nothing.
const REQUESTS_MIN: f64 = 30.0;
/// Standard deviations by which shares of errors must differ, so that chance explains it less than once in a thousand.
const DEVIATIONS_MIN: f64 = 3.29;
/// A 95th percentile that is so many times the others' counts as slower.
const SLOWER_MIN: f64 = 1.5;

/// What is said of a version, and its class.
pub(super) fn verdict(one: &Version, all: &[Version], seconds: f64) -> (String, &'static str) {
    if all.len() < 2 {
        return (String::new(), "");
    }
    let others = || all.iter().filter(|other| other.node.id != one.node.id);
    let (own, rest) = (one.rate * seconds, others().map(|other| other.rate).sum::<f64>() * seconds);
    if own < REQUESTS_MIN || rest < REQUESTS_MIN {
        return ("too few requests to compare".to_owned(), "idle");
    }
    let errors = others().map(|other| other.rate * other.error_ratio).sum::<f64>() * seconds;
    let (share, usual) = (one.error_ratio, errors / rest);
    let both = (share * own + errors) / (own + rest);
    let deviation = (both * (1.0 - both) * (1.0 / own + 1.0 / rest)).sqrt();
    let slowest = others().filter_map(|other| other.p95_ms).fold(0.0, f64::max);
    let slower = one.p95_ms.filter(|own| slowest > 0.0 && *own >= slowest * SLOWER_MIN);
    match (share - usual, slower) {
        (more, _) if deviation > 0.0 && more > deviation * DEVIATIONS_MIN => {
            (format!("fails more often: {}, the others {}", format::percent(share), format::percent(usual)), "failure")
        }
        (_, Some(own)) => (
            format!("slower: p95 {}, the others {}", format::latency(Some(own)), format::latency(Some(slowest))),
            "degraded",
        ),
        (less, _) if deviation > 0.0 && -less > deviation * DEVIATIONS_MIN => {
            (format!("fails less often: {}, the others {}", format::percent(share), format::percent(usual)), "healthy")
        }
        _ => ("as the others".to_owned(), "healthy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::health::Health;
    use crate::graph::{Node, NodeKind, NodeTraffic};

    fn version(name: &str, rate: f64, error_ratio: f64, p95_ms: f64) -> Version {
        let node = Node {
            id: name.into(),
            kind: NodeKind::Workload,
            cluster: None,
            namespace: None,
            name: name.into(),
            app: None,
            version: None,
            inbound: NodeTraffic::default(),
            outbound: NodeTraffic::default(),
            health: Health::default(),
        };
        Version { node, rate, share: 0.0, error_ratio, p95_ms: Some(p95_ms) }
    }

    #[test]
    fn a_version_is_judged_by_the_others_and_not_by_chance() {
        for (old, new, expected) in [
            ((9.0, 0.001, 20.0), (1.0, 0.05, 20.0), "fails more often: 5.0%, the others 0.10%"),
            ((9.0, 0.001, 20.0), (1.0, 0.002, 20.0), "as the others"),
            ((9.0, 0.001, 20.0), (1.0, 0.001, 90.0), "slower: p95 90 ms, the others 20 ms"),
            ((9.0, 0.10, 20.0), (1.0, 0.01, 20.0), "fails less often: 1.0%, the others 10.0%"),
            ((9.0, 0.0, 20.0), (0.01, 1.0, 20.0), "too few requests to compare"),
            ((9.0, 0.0, 20.0), (9.0, 0.0, 20.0), "as the others"),
        ] {
            let all = [version("old", old.0, old.1, old.2), version("new", new.0, new.1, new.2)];
            assert_eq!(verdict(&all[1], &all, 600.0).0, expected);
        }
        let alone = [version("old", 9.0, 0.5, 20.0)];
        assert_eq!(verdict(&alone[0], &alone, 600.0).0, "");
    }
}
