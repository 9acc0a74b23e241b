//! The script: what goes wrong in the simulated mesh, when, and how it shows.
//!
//! In: time since the start. Out: the incident under way and its [`Effects`] on one edge. Pure; the cycle repeats, and
//! between two incidents the mesh is healthy.

use std::time::Duration;

/// What kind of failure an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The called workload answers 500.
    Errors,
    /// The called workload is slow.
    Latency,
    /// The caller's proxy refuses: connection pool full, then all hosts ejected.
    CircuitBreaker,
    /// Somebody left a fault injection in a VirtualService.
    FaultInjection,
}

/// One scripted incident.
#[derive(Debug)]
pub struct Incident {
    /// Short name.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub sentence: &'static str,
    /// Calling workload; empty when every caller suffers.
    pub source: &'static str,
    /// Called service.
    pub destination: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Start within the cycle.
    pub starts: Duration,
    /// How long it lasts.
    pub lasts: Duration,
}

/// After this long the script begins again.
pub const CYCLE: Duration = Duration::from_secs(1_200);

/// The incidents in the order of their start; none overlaps another.
pub static INCIDENTS: [Incident; 4] = [
    Incident {
        name: "catalog-errors",
        sentence: "a bad release of catalog answers every third request with 500",
        source: "",
        destination: "catalog",
        kind: Kind::Errors,
        starts: Duration::from_secs(45),
        lasts: Duration::from_secs(165),
    },
    Incident {
        name: "payment-slow",
        sentence: "the card network behind payment is slow: seconds where milliseconds were, some calls time out",
        source: "",
        destination: "payment",
        kind: Kind::Latency,
        starts: Duration::from_secs(330),
        lasts: Duration::from_secs(180),
    },
    Incident {
        name: "reviews-circuit-breaker",
        sentence: "reviews is overloaded: frontend's circuit breaker overflows (UO), then ejects every host (UH)",
        source: "frontend-v1",
        destination: "reviews",
        kind: Kind::CircuitBreaker,
        starts: Duration::from_secs(630),
        lasts: Duration::from_secs(180),
    },
    Incident {
        name: "recommendation-fault-left-on",
        sentence: "a fault injection was left on: a quarter of the calls to recommendation wait 2 s (DI), some abort (FI)",
        source: "frontend-v1",
        destination: "recommendation",
        kind: Kind::FaultInjection,
        starts: Duration::from_secs(930),
        lasts: Duration::from_secs(200),
    },
];

/// What an incident does to the calls of one edge; all zero (and factor 1) when nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effects {
    /// Share of calls the called workload fails.
    pub error_share: f64,
    /// How many times slower the called workload is.
    pub slow_factor: f64,
    /// Share refused by the caller's proxy because the pool is full: UO.
    pub overflow_share: f64,
    /// Share refused by the caller's proxy because no host is healthy: UH.
    pub unhealthy_share: f64,
    /// Share aborted by the caller's proxy on purpose: FI.
    pub abort_share: f64,
    /// Share delayed by the caller's proxy on purpose: DI.
    pub delay_share: f64,
}

impl Effects {
    /// Nothing is wrong.
    pub const NONE: Self = Self {
        error_share: 0.0,
        slow_factor: 1.0,
        overflow_share: 0.0,
        unhealthy_share: 0.0,
        abort_share: 0.0,
        delay_share: 0.0,
    };
    /// How long an injected delay is.
    pub const DELAY: Duration = Duration::from_secs(2);
}

/// An incident under way.
#[derive(Clone, Copy, Debug)]
pub struct Active {
    /// Which.
    pub incident: &'static Incident,
    /// For how long already.
    pub age: Duration,
    /// How often the whole script has run before.
    pub round: u64,
}

/// The script itself.
#[derive(Clone, Copy, Debug)]
pub struct Script;

impl Script {
    /// The incident under way `elapsed` after the start.
    pub fn at(elapsed: Duration) -> Option<Active> {
        let (round, within) = (elapsed.as_secs() / CYCLE.as_secs(), elapsed.as_millis() % CYCLE.as_millis());
        let within = Duration::from_millis(u64::try_from(within).unwrap_or(0));
        INCIDENTS.iter().find_map(|incident| {
            let age = within.checked_sub(incident.starts)?;
            (age < incident.lasts).then_some(Active { incident, age, round })
        })
    }

    /// The next incident to start after `elapsed`, and how long until then.
    pub fn next(elapsed: Duration) -> (&'static Incident, Duration) {
        let within = Duration::from_secs(elapsed.as_secs() % CYCLE.as_secs());
        let later = INCIDENTS.iter().find(|incident| incident.starts > within);
        match later {
            Some(incident) => (incident, incident.starts - within),
            None => (&INCIDENTS[0], CYCLE - within + INCIDENTS[0].starts),
        }
    }

    /// What the script does, `elapsed` after the start, to a call of `source` to `destination`.
    pub fn effects(elapsed: Duration, source: &str, destination: &str) -> Effects {
        match Self::at(elapsed) {
            Some(Active { incident, age, .. })
                if incident.destination == destination && (incident.source.is_empty() || incident.source == source) =>
            {
                incident.kind.effects(age)
            }
            _ => Effects::NONE,
        }
    }
}

impl Kind {
    fn effects(self, age: Duration) -> Effects {
        match self {
            Self::Errors => Effects { error_share: 0.34, ..Effects::NONE },
            Self::Latency => Effects { slow_factor: 80.0, ..Effects::NONE },
            // The pool overflows first; half a minute later outlier detection has ejected the last host, for half of
            // each minute: hosts come back, fail and are ejected again.
            Self::CircuitBreaker => {
                let ejected = age.as_secs() % 60 >= 30;
                Effects {
                    error_share: 0.15,
                    slow_factor: 12.0,
                    overflow_share: if ejected { 0.0 } else { 0.4 },
                    unhealthy_share: if ejected { 0.9 } else { 0.0 },
                    ..Effects::NONE
                }
            }
            Self::FaultInjection => Effects { delay_share: 0.25, abort_share: 0.1, ..Effects::NONE },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::topology;

    #[test]
    fn first_incident_starts_within_a_minute_and_others_every_few_minutes() {
        assert!(Script::at(Duration::ZERO).is_none(), "the mesh starts healthy");
        assert!(INCIDENTS[0].starts <= Duration::from_secs(60));
        let mut starts: Vec<Duration> = INCIDENTS.iter().map(|incident| incident.starts).collect();
        starts.push(CYCLE + starts[0]);
        for pair in starts.windows(2) {
            assert!((180..=330).contains(&(pair[1] - pair[0]).as_secs()), "{pair:?}");
        }
    }

    #[test]
    fn every_incident_recovers_before_the_next_and_recurs() {
        for incident in &INCIDENTS {
            let during = incident.starts + incident.lasts / 2;
            for round in [0, 1, 7] {
                let active = Script::at(CYCLE * round + during).expect("under way");
                assert_eq!((active.incident.name, active.round), (incident.name, u64::from(round)));
            }
            assert!(Script::at(incident.starts + incident.lasts).is_none(), "{} recovers", incident.name);
            let (next, wait) = Script::next(incident.starts + incident.lasts);
            assert_ne!(next.name, incident.name);
            assert!(wait >= Duration::from_secs(90), "time to see it resolve");
        }
    }

    #[test]
    fn incidents_touch_only_the_edge_they_name() {
        let during = Duration::from_secs(640);
        assert!(Script::effects(during, "frontend-v1", "reviews").overflow_share > 0.0);
        assert_eq!(Script::effects(during, "frontend-v1", "catalog"), Effects::NONE);
        assert_eq!(Script::effects(during, "checkout-v1", "reviews"), Effects::NONE);
        for incident in &INCIDENTS {
            assert!(topology::service_named(incident.destination).is_some());
            assert!(incident.source.is_empty() || topology::workload_named(incident.source).is_some());
        }
    }
}
