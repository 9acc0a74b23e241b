//! The block `slos`, checked while it is read, so that each mistake has its line.
//!
//! In: YAML. Out: [`Slos`]. Invariant: every [`Slo`] makes rules that parse: names, labels, selectors and queries are
//! valid, and what a mesh cannot answer is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::indicator::{Indicator, Ratio};
use super::selector::{EdgeSelector, RouteSelector, ServiceSelector};
use crate::units::PromDuration;

/// Most objectives of one configuration; each may cover many services.
const SLOS_MAX: usize = 1_000;
/// Most characters of a name: it becomes a label of every series.
const NAME_CHARS_MAX: usize = 100;
const DAY: Duration = Duration::from_secs(86_400);

/// All objectives of a configuration, their names unique.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "Vec<Slo>")]
pub struct Slos(pub(super) Vec<Slo>);

/// One objective, checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "SloConfig")]
pub struct Slo {
    /// Unique; of letters, digits and `-_.`.
    pub name: String,
    /// What it means to people.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// Labels of its alerts and of its info series.
    pub labels: BTreeMap<String, String>,
    /// The share of good events that is aimed at.
    pub objective: Objective,
    /// Over which time.
    pub window: Window,
    /// What counts as an event and which are bad.
    pub indicator: Indicator,
    /// When it alerts.
    pub alerting: AlertingConfig,
}

/// One entry of `slos` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SloConfig {
    /// Unique; of letters, digits and `-_.`.
    pub name: String,
    /// What it means to people.
    pub description: String,
    /// Who answers for it: the label `owner`.
    pub owner: String,
    /// Labels of its alerts and of its info series.
    pub labels: BTreeMap<String, String>,
    /// Percent of events that are to be good, such as 99.9.
    pub objective: Option<Objective>,
    /// Over which time; 30d unless told.
    pub window: Window,
    /// Whose metrics: `istio`, `ambient` or `linkerd`.
    pub mesh: Mesh,
    /// Whose report counts: `client` or `server`.
    pub view: View,
    /// Every service that matches, `NAMESPACE/SERVICE`.
    pub service: Option<ServiceSelector>,
    /// Every edge that matches, `NAMESPACE/WORKLOAD -> NAMESPACE/SERVICE`.
    pub edge: Option<EdgeSelector>,
    /// Every route that matches, `NAMESPACE/SERVICE/ROUTE`.
    pub route: Option<RouteSelector>,
    /// Istio: the label that says the route; `request_operation` unless told.
    pub route_label: Option<String>,
    /// What counts as an event and which are bad; availability unless told.
    pub indicator: IndicatorConfig,
    /// When it alerts.
    pub alerting: AlertingConfig,
}

/// Exactly one kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndicatorConfig {
    /// Requests that do not fail.
    pub availability: Option<AvailabilityConfig>,
    /// Requests that are answered in time.
    pub latency: Option<LatencyConfig>,
    /// TCP connections that are opened (ambient: as ztunnel counts them).
    pub connections: Option<ConnectionsConfig>,
    /// PromQL for events and for the bad or the good ones.
    pub events: Option<EventsConfig>,
    /// PromQL for the share of bad events.
    pub error_ratio: Option<ErrorRatioConfig>,
}

/// Requests that do not fail.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AvailabilityConfig {
    /// Which response codes are errors: `500`, `5xx`, `0` for no response. Istio: 5xx and 0 unless told; Linkerd: what the
    /// proxy classifies as a failure.
    pub error_codes: Option<Vec<String>>,
    /// Which gRPC statuses are errors, 1 to 16; 2, 4, 12, 13, 14 and 15, which are the server's fault, unless told.
    pub error_grpc_statuses: Option<Vec<u8>>,
    /// Which requests do not count at all; both unless told.
    pub exclude: Option<Vec<Excluded>>,
}

/// Requests that are answered in time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyConfig {
    /// Answers after this long are late. It must be a bound of the histogram's buckets.
    pub threshold: Option<PromDuration>,
    /// The bounds of the histogram, where the proxies have other ones than theirs by default.
    pub bounds: Vec<PromDuration>,
    /// Which requests do not count at all; both unless told.
    pub exclude: Option<Vec<Excluded>>,
}

/// TCP connections: nothing to set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionsConfig {}

/// PromQL for events and for the bad or the good ones.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// All events per second; `{{.window}}` stands for the range.
    pub total: String,
    /// The bad ones; or `good`.
    pub errors: String,
    /// The good ones; or `errors`.
    pub good: String,
    /// One objective for each combination of these labels.
    pub group_by: Vec<String>,
}

/// PromQL for the share of bad events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorRatioConfig {
    /// From 0 to 1; `{{.window}}` stands for the range.
    pub query: String,
    /// One objective for each combination of these labels.
    pub group_by: Vec<String>,
}

/// When an objective alerts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertingConfig {
    /// The budget burns fast: somebody is woken.
    pub page: SeverityConfig,
    /// It burns slowly: somebody looks at it at work.
    pub ticket: SeverityConfig,
    /// Fewer events than this in the short window alert nobody. Default 30.
    pub min_events: Option<u32>,
}

/// One severity.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeverityConfig {
    /// Whether it alerts at all. Default true.
    pub enabled: bool,
    /// The label `severity`; `critical` for pages and `warning` for tickets unless told.
    pub severity: Option<String>,
    /// Further labels of the alert.
    pub labels: BTreeMap<String, String>,
    /// How long it must hold; 1m for pages and 15m for tickets unless told.
    pub r#for: Option<PromDuration>,
}

impl Default for SeverityConfig {
    fn default() -> Self {
        Self { enabled: true, severity: None, labels: BTreeMap::new(), r#for: None }
    }
}

/// Whose metrics tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mesh {
    /// Istio with sidecars, gateways, and waypoints where there are some.
    #[default]
    Istio,
    /// Istio in ambient mode: waypoints for requests, ztunnel for connections.
    Ambient,
    /// Linkerd.
    Linkerd,
}

/// Whose report counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// That of the callers' proxies: it sees open circuit breakers, failed connections and timeouts.
    #[default]
    Client,
    /// That of the called side.
    Server,
}

/// Requests that do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excluded {
    /// Delayed or aborted by a fault injection (flags DI, FI).
    InjectedFaults,
    /// The caller hung up (flag DC).
    ClientCancelled,
}

/// A share of good events, above 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Objective(f64);

impl TryFrom<f64> for Objective {
    type Error = String;

    fn try_from(percent: f64) -> Result<Self, String> {
        match percent {
            100.0 => Err(
                "an objective of 100 leaves no error budget, so every error breaks it; write one below, such as 99.99"
                    .to_owned(),
            ),
            p if p > 0.0 && p < 1.0 => Err(format!(
                "the objective is in percent: {p} would allow nearly all to fail; did you mean {}?",
                tidy(p * 100.0)
            )),
            p if (1.0..=99.9999).contains(&p) => Ok(Self(p)),
            p => Err(format!("an objective of {p} is no percentage between 1 and 99.9999, such as 99.9")),
        }
    }
}

impl Objective {
    /// In percent, such as 99.9.
    pub fn percent(self) -> f64 {
        self.0
    }

    /// The share of bad events that is allowed, such as 0.001.
    pub fn budget(self) -> f64 {
        // A decimal text has no binary noise: 1 - 0.999 does.
        tidy((100.0 - self.0) / 100.0).parse().unwrap_or((100.0 - self.0) / 100.0)
    }
}

/// A number without binary noise in its last digits.
pub(super) fn tidy(value: f64) -> String {
    let text = format!("{value:.10}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Whole days, from 7 to 90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PromDuration")]
pub struct Window(PromDuration);

impl Default for Window {
    fn default() -> Self {
        Self(PromDuration::from(DAY * 30))
    }
}

impl TryFrom<PromDuration> for Window {
    type Error = String;

    fn try_from(window: PromDuration) -> Result<Self, String> {
        let seconds = window.get().as_secs_f64();
        match seconds % DAY.as_secs_f64() == 0.0 && (DAY * 7..=DAY * 90).contains(&window.get()) {
            true => Ok(Self(window)),
            false => {
                Err(format!("a window of {window} is not offered; write whole days from 7d to 90d, such as 28d or 30d"))
            }
        }
    }
}

impl Window {
    /// Its length.
    pub fn get(self) -> Duration {
        self.0.get()
    }

    /// As Prometheus writes it: `30d`, `4w`.
    pub fn text(self) -> String {
        self.0.to_string()
    }

    /// In days.
    pub fn days(self) -> u64 {
        self.get().as_secs() / DAY.as_secs()
    }
}

impl TryFrom<Vec<Slo>> for Slos {
    type Error = String;

    fn try_from(slos: Vec<Slo>) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        if slos.len() > SLOS_MAX {
            return Err(format!(
                "{} objectives, of at most {SLOS_MAX}; a glob covers many services in one",
                slos.len()
            ));
        }
        match slos.iter().find(|slo| !names.insert(slo.name.as_str())) {
            Some(twice) => Err(format!("the name {:?} is given to two objectives; names are unique", twice.name)),
            None => Ok(Self(slos)),
        }
    }
}

impl Slos {
    /// In the order written.
    pub fn iter(&self) -> std::slice::Iter<'_, Slo> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<SloConfig> for Slo {
    type Error = String;

    fn try_from(written: SloConfig) -> Result<Self, String> {
        let name = check_name(&written.name)?;
        let about = |problem: String| format!("objective {name:?}: {problem}");
        let objective = written.objective.ok_or_else(|| about("it has no `objective`, such as 99.9".to_owned()))?;
        for text in [&written.description, &written.owner] {
            if text.contains("{{") {
                return Err(about("a description or owner is no template: it must not hold \"{{\"".to_owned()));
            }
        }
        let indicator = Indicator::new(&written).map_err(about)?;
        let group = indicator.group_labels();
        let alerting = written.alerting;
        for labels in [&written.labels, &alerting.page.labels, &alerting.ticket.labels] {
            check_labels(labels, &group).map_err(about)?;
        }
        for severity in [&alerting.page.severity, &alerting.ticket.severity] {
            if severity.as_deref() == Some("") {
                return Err(about("an empty severity; write `enabled: false` to switch it off".to_owned()));
            }
        }
        if matches!(indicator.ratio, Ratio::Share { .. }) && alerting.min_events.is_some_and(|events| events > 0) {
            let problem = "alerting.min_events needs to know how many events there are; an error_ratio does not say it";
            return Err(about(format!("{problem}: use the indicator `events`")));
        }
        let SloConfig { name, description, owner, labels, window, .. } = written;
        Ok(Self { name, description, owner, labels, objective, window, indicator, alerting })
    }
}

fn check_name(name: &str) -> Result<String, String> {
    let unfit = |c: &char| !(c.is_ascii_alphanumeric() || "-_.".contains(*c));
    match name.chars().find(unfit) {
        _ if name.is_empty() => Err("an objective has no `name`".to_owned()),
        _ if name.len() > NAME_CHARS_MAX => Err(format!("the name {name:?} has more than {NAME_CHARS_MAX} characters")),
        Some(c) => Err(format!("the name {name:?} holds {c:?}; names are of letters, digits and -_.")),
        None => Ok(name.to_owned()),
    }
}

/// Labels that the rules set themselves cannot be given.
fn check_labels(labels: &BTreeMap<String, String>, group: &[String]) -> Result<(), String> {
    for (name, value) in labels {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(letters) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("{name:?} is not a valid label name"));
        }
        let own = matches!(name.as_str(), "alertname" | "severity" | "owner") || name.starts_with("sloth_");
        if own || name.starts_with("__") || group.iter().any(|label| label == name) {
            return Err(format!("the label {name:?} is set by the rules themselves"));
        }
        if value.contains("{{") {
            return Err(format!("the label {name:?} is no template: it must not hold \"{{{{\""));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
