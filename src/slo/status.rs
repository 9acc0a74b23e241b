//! How objectives fare, read from what their rules recorded.
//!
//! In: the objectives in force, the series, the state of the rules. Out: [`Report`]. What was read is kept for some
//! seconds, the history of budgets for longer, so that many readers cost no more than one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::config::{Slo, Slos};
use super::forecast::Forecast;
use super::generate::FILE;
use super::names::{COVERED, ID_LABEL, RATIO, REMAINING, SERVICE_LABEL, SEVERITY_LABEL, SLO_LABEL, TOTAL};
use super::selector::quoted;
use crate::model::{AlertState, METRIC_NAME, Timestamp};
use crate::promql::{self, Engine, QueryOptions, Value};
use crate::rules;
use crate::series::{Queryable, SeriesSamples};

/// How long what was read is shown again.
const KEPT: Duration = Duration::from_secs(4);
/// How long histories are.
const HISTORIES_KEPT: Duration = Duration::from_secs(120);
/// Most histories that are read; the first of the list have one.
const HISTORIES_MAX: usize = 300;
/// Points of a history.
const POINTS: u32 = 96;
/// Shortest time that a history shows.
const HISTORY_MIN: Duration = Duration::from_secs(600);
/// Windows whose burn rate is told.
const WINDOWS: [&str; 5] = ["5m", "1h", "6h", "1d", "3d"];

/// Reads how objectives fare. Copies read the same.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    slos: Arc<Slos>,
    report: Option<Arc<Report>>,
    histories: Option<(Timestamp, Arc<Histories>)>,
}

type Histories = BTreeMap<String, Vec<(Timestamp, f64)>>;

/// All objectives at one time.
#[derive(Debug, Default)]
pub struct Report {
    /// When it was read.
    pub at: Timestamp,
    /// Objectives, each for each service it covers; the gravest first.
    pub instances: Vec<Instance>,
    /// Objectives that cover nothing, and why.
    pub without: Vec<(String, String)>,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// One objective of one service.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The objective, as configured.
    pub slo: Arc<Slo>,
    /// Unique among all.
    pub id: String,
    /// What it is about, `payments/cart`.
    pub service: String,
    /// The labels of the mesh that tell it apart.
    pub labels: Vec<(String, String)>,
    /// How grave it is.
    pub state: State,
    /// The share of the budget that is left; below 0 when it is overspent.
    pub remaining: Option<f64>,
    /// The share of the window of which there are measurements.
    pub covered: f64,
    /// How fast the budget burns, by window.
    pub burn: Vec<BurnRate>,
    /// Events per second over five minutes.
    pub events_per_second: Option<f64>,
    /// What becomes of the budget.
    pub forecast: Forecast,
    /// The window whose burn rate the forecast goes on with.
    pub forecast_by: Option<&'static str>,
    /// Its alerts.
    pub firing: Vec<Firing>,
    /// The share that was left, over the window or as long as it is measured.
    pub history: Vec<(Timestamp, f64)>,
}

/// How fast the budget burns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurnRate {
    /// Over which time.
    pub window: &'static str,
    /// 1 uses the budget up in one window of the objective; `None` without events.
    pub rate: Option<f64>,
}

/// An alert of an objective that is pending or fires.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// Its name.
    pub alert: String,
    /// `page` or `ticket`.
    pub kind: String,
    /// Its label `severity`.
    pub severity: String,
    /// Whether it fires yet.
    pub is_firing: bool,
    /// Since when its condition holds.
    pub since: Timestamp,
}

/// How grave it is, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There were no events in the last five minutes.
    Idle,
    /// Its budget has not been reckoned yet.
    New,
    /// The budget lasts.
    Healthy,
    /// Nothing is known of bad events.
    Unknown,
    /// It burns slowly: the ticket fires.
    Ticket,
    /// There is no budget left.
    Exhausted,
    /// It burns fast: the page fires.
    Page,
}

impl State {
    /// All, the gravest first.
    pub const ALL: [Self; 7] =
        [Self::Page, Self::Exhausted, Self::Ticket, Self::Unknown, Self::Healthy, Self::New, Self::Idle];

    /// The name in the API and in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::New => "new",
            Self::Healthy => "healthy",
            Self::Unknown => "unknown",
            Self::Ticket => "ticket",
            Self::Exhausted => "exhausted",
            Self::Page => "page",
        }
    }
}

impl Board {
    /// Puts other objectives in force.
    pub fn define(&self, slos: Slos) {
        *self.0.lock() = Held { slos: Arc::new(slos), ..Held::default() };
    }

    /// The objectives in force.
    pub fn slos(&self) -> Arc<Slos> {
        Arc::clone(&self.0.lock().slos)
    }

    /// How all objectives fare, at most some seconds ago.
    pub async fn report(
        &self,
        engine: &Engine,
        store: &dyn Queryable,
        rules: &rules::Status,
        now: Timestamp,
    ) -> Arc<Report> {
        let slos = {
            let held = self.0.lock();
            if let Some(report) = held.report.as_ref().filter(|report| now < report.at + KEPT && now >= report.at) {
                return Arc::clone(report);
            }
            Arc::clone(&held.slos)
        };
        if slos.is_empty() {
            return Arc::new(Report { at: now, ..Report::default() });
        }
        let reader = Reader { engine, store, now };
        let mut report = reader.read(&slos, rules).await;
        let histories = match self.histories(now) {
            Some(histories) => histories,
            None => {
                let read = reader.histories(&mut report).await;
                self.keep(&slos, |held| held.histories = Some((now, Arc::clone(&read))));
                read
            }
        };
        for instance in &mut report.instances {
            instance.history = histories.get(&instance.id).cloned().unwrap_or_default();
            if let Some(left) = instance.remaining {
                instance.history.push((now, left));
            }
        }
        let report = Arc::new(report);
        self.keep(&slos, |held| held.report = Some(Arc::clone(&report)));
        report
    }

    fn histories(&self, now: Timestamp) -> Option<Arc<Histories>> {
        let held = self.0.lock();
        let (at, histories) = held.histories.as_ref()?;
        (now < *at + HISTORIES_KEPT).then(|| Arc::clone(histories))
    }

    /// Keeps what was read, unless other objectives were put in force meanwhile.
    fn keep(&self, slos: &Arc<Slos>, change: impl FnOnce(&mut Held)) {
        let mut held = self.0.lock();
        if Arc::ptr_eq(&held.slos, slos) {
            change(&mut held);
        }
    }
}

struct Reader<'a> {
    engine: &'a Engine,
    store: &'a dyn Queryable,
    now: Timestamp,
}

/// What was recorded of one id: metric name (with the window of a ratio) to value.
#[derive(Default)]
struct Recorded {
    slo: String,
    service: String,
    labels: Vec<(String, String)>,
    values: BTreeMap<String, f64>,
}

impl Reader<'_> {
    async fn read(&self, slos: &Slos, rules: &rules::Status) -> Report {
        let mut report = Report { at: self.now, ..Report::default() };
        let query = format!("{{__name__=~\"{COVERED}|{REMAINING}|{TOTAL}|{RATIO}.+\"}}");
        let recorded = match self.recorded(&query).await {
            Ok(recorded) => recorded,
            Err(problem) => {
                report.warnings.push(problem);
                BTreeMap::new()
            }
        };
        let mut firing = alerts(rules);
        let by_name: BTreeMap<&str, Arc<Slo>> =
            slos.iter().map(|slo| (slo.name.as_str(), Arc::new(slo.clone()))).collect();
        let mut seen = BTreeSet::new();
        for (id, recorded) in recorded {
            let Some(slo) = by_name.get(recorded.slo.as_str()) else { continue };
            seen.insert(slo.name.clone());
            let firing = firing.remove(&id).unwrap_or_default();
            report.instances.push(instance(slo, id, recorded, firing));
        }
        let grave =
            |one: &Instance| (std::cmp::Reverse(one.state), one.remaining.map_or(i64::MAX, |left| (left * 1e6) as i64));
        report.instances.sort_by(|a, b| grave(a).cmp(&grave(b)).then_with(|| a.id.cmp(&b.id)));
        let without = slos.iter().filter(|slo| !seen.contains(&slo.name));
        report.without = without.map(|slo| (slo.name.clone(), self.why_without(slo, rules))).collect();
        report
    }

    async fn recorded(&self, query: &str) -> Result<BTreeMap<String, Recorded>, String> {
        let expr = promql::parse(query).map_err(|error| error.to_string())?;
        let answer = self.engine.instant(self.store, &expr, self.now, &QueryOptions::default()).await;
        let answer = answer.map_err(|error| format!("the recorded series cannot be read: {error}"))?;
        let Value::Vector(samples) = answer.value else { return Ok(BTreeMap::new()) };
        let mut found: BTreeMap<String, Recorded> = BTreeMap::new();
        for sample in samples {
            let labels = &sample.labels;
            let one = found.entry(labels.value(ID_LABEL).to_owned()).or_default();
            if one.slo.is_empty() {
                one.slo = labels.value(SLO_LABEL).to_owned();
                one.service = labels.value(SERVICE_LABEL).to_owned();
                let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME && !name.starts_with("sloth_"));
                one.labels = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            }
            one.values.insert(labels.metric_name().to_owned(), sample.value);
        }
        Ok(found)
    }

    /// Why an objective covers nothing.
    fn why_without(&self, slo: &Slo, rules: &rules::Status) -> String {
        let prefix = format!("slo:{}", slo.name);
        let groups = rules.groups();
        let own = (groups.iter()).filter(|group| {
            group.file == FILE && (group.name == prefix || group.name.starts_with(&format!("{prefix}:")))
        });
        let mut evaluated = false;
        for group in own {
            evaluated |= group.name == prefix && group.last_evaluation.is_some();
            if let Some(error) = group.rules.iter().find_map(|rule| rule.last_error.clone()) {
                return format!("its rules cannot be evaluated: {error}");
            }
        }
        match (evaluated, slo.indicator.about.is_empty()) {
            (false, _) => "its rules have not been evaluated yet".to_owned(),
            (true, true) => "its PromQL finds no series".to_owned(),
            (true, false) => {
                format!(
                    "no series match {}; names and mesh are right once the service has had calls",
                    slo.indicator.about
                )
            }
        }
    }

    /// What was left of each budget, since it is measured.
    async fn histories(&self, report: &mut Report) -> Arc<Histories> {
        let mut histories = Histories::new();
        let mut by_window: BTreeMap<Duration, (f64, Vec<&str>)> = BTreeMap::new();
        for instance in report.instances.iter().take(HISTORIES_MAX) {
            let (covered, ids) = by_window.entry(instance.slo.window.get()).or_default();
            *covered = covered.max(instance.covered);
            ids.push(&instance.id);
        }
        let mut problems = Vec::new();
        for (window, (covered, ids)) in by_window {
            let length = window.mul_f64(covered.clamp(0.0, 1.0)).max(HISTORY_MIN);
            match self.history(&ids, length).await {
                Ok(found) => histories.extend(found),
                Err(problem) => problems.push(problem),
            }
        }
        report.warnings.extend(problems);
        Arc::new(histories)
    }

    async fn history(&self, ids: &[&str], length: Duration) -> Result<Histories, String> {
        let names: Vec<String> = ids.iter().map(|id| regex::escape(id)).collect();
        let query = format!("{REMAINING}{{{ID_LABEL}=~{}}}", quoted(&names.join("|")));
        let expr = promql::parse(&query).map_err(|error| format!("the history of budgets: {error}"))?;
        let (start, step) = (self.now - length, (length / POINTS).max(Duration::from_secs(1)));
        let answer = self.engine.range(self.store, &expr, start, self.now, step, &QueryOptions::default()).await;
        let answer = answer.map_err(|error| format!("the history of budgets cannot be read: {error}"))?;
        let Value::Matrix(series) = answer.value else { return Ok(Histories::new()) };
        let points = |one: SeriesSamples| {
            let id = one.labels.value(ID_LABEL).to_owned();
            let points = one.times.iter().zip(&one.values).filter(|(_, left)| left.is_finite());
            (id, points.map(|(at, left)| (*at, *left)).collect())
        };
        Ok(series.into_iter().map(points).collect())
    }
}

/// What the rules say of one objective of one service.
fn instance(slo: &Arc<Slo>, id: String, recorded: Recorded, firing: Vec<Firing>) -> Instance {
    let value = |name: &str| recorded.values.get(name).copied().filter(|value| value.is_finite());
    let budget = slo.objective.budget();
    let burn =
        WINDOWS.map(|window| BurnRate { window, rate: value(&format!("{RATIO}{window}")).map(|ratio| ratio / budget) });
    let (remaining, events) = (value(REMAINING), value(TOTAL));
    // Six hours even out what comes and goes; where there are none yet, what there is.
    let by =
        ["6h", "1h", "5m"].into_iter().find_map(|window| burn.iter().find(|b| b.window == window && b.rate.is_some()));
    let pages = |kind: &str| firing.iter().any(|one| one.is_firing && one.kind == kind);
    let has_events = events.is_some_and(|events| events > 0.0);
    let state = match remaining {
        _ if pages("page") => State::Page,
        Some(left) if left <= 0.0 => State::Exhausted,
        _ if pages("ticket") => State::Ticket,
        _ if !has_events => State::Idle,
        None if value(COVERED).is_none() => State::New,
        None => State::Unknown,
        _ => State::Healthy,
    };
    Instance {
        slo: Arc::clone(slo),
        id,
        service: recorded.service,
        labels: recorded.labels,
        state,
        remaining,
        covered: value(COVERED).unwrap_or(0.0),
        forecast: Forecast::of(remaining, by.and_then(|burn| burn.rate), slo.window.get()),
        forecast_by: by.map(|burn| burn.window),
        burn: burn.into(),
        events_per_second: events,
        firing,
        history: Vec::new(),
    }
}

/// Pending and firing alerts of objectives by id.
fn alerts(rules: &rules::Status) -> BTreeMap<String, Vec<Firing>> {
    let mut found: BTreeMap<String, Vec<Firing>> = BTreeMap::new();
    let groups = rules.groups();
    let ours = groups.iter().filter(|group| group.file == FILE).flat_map(|group| &group.rules);
    for rule in ours {
        for alert in rule.alerting.iter().flat_map(|alerting| &alerting.alerts) {
            if !matches!(alert.state, AlertState::Pending | AlertState::Firing) {
                continue;
            }
            found.entry(alert.labels.value(ID_LABEL).to_owned()).or_default().push(Firing {
                alert: rule.name.clone(),
                kind: alert.labels.value(SEVERITY_LABEL).to_owned(),
                severity: alert.labels.value("severity").to_owned(),
                is_firing: alert.state == AlertState::Firing,
                since: alert.active_at,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests;
