//! Objectives as rule groups: recorded ratios, budgets and burn rates, and alerts over several windows.
//!
//! In: [`Slos`]. Out: [`RuleGroup`]s. Pure. Invariant: each event is read once from the mesh's own series, over five
//! minutes; all longer windows are made of what was recorded of it.
//!
//! Windows and factors: Google's SRE workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".

use std::sync::Arc;
use std::time::Duration;

use super::config::{SeverityConfig, Slo, Slos, Window, tidy};
use super::indicator::{Indicator, Ratio};
use super::names::{
    BUDGET, COVERED, CURRENT_BURN, DAYS, ERRORS, ERRORS_PIECE, ID_LABEL, INFO, OBJECTIVE, PERIOD_BURN, RATIO,
    REMAINING, SERVICE_LABEL, SEVERITY_LABEL, SLO_LABEL, TOTAL, TOTAL_PIECE, WINDOW_LABEL,
};
use crate::promql;
use crate::rules::{AlertingRule, RecordingRule, Rule, RuleGroup, Text};

/// What stands for the rule file of the generated groups.
pub const FILE: &str = "slos";
/// The alert that wakes somebody.
pub const ALERT_FAST: &str = "ErrorBudgetBurnFast";
/// The alert that somebody looks at during the day.
pub const ALERT_SLOW: &str = "ErrorBudgetBurnSlow";

/// Most services of one objective; an objective that matches more fails and says so.
const INSTANCES_MAX: usize = 5_000;
/// Time between two pieces, and the range of their rate.
const PIECE: Duration = Duration::from_secs(300);
/// Events in the short window below which nobody is alerted, unless told.
const MIN_EVENTS: u32 = 30;
/// A threshold stays below 1, so that an alert can fire at all whatever the objective is.
const THRESHOLD_MAX: f64 = 0.9;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// Two windows that both burn too fast: the long one says that it matters, the short one that it goes on.
struct Pair {
    short: (&'static str, u64),
    long: (&'static str, u64),
    /// Percent of the budget that is gone when the long window is full of it.
    percent: f64,
}

const PAGE: [Pair; 2] = [
    Pair { short: ("5m", 5 * MINUTE), long: ("1h", HOUR), percent: 2.0 },
    Pair { short: ("30m", 30 * MINUTE), long: ("6h", 6 * HOUR), percent: 5.0 },
];
const TICKET: [Pair; 2] = [
    Pair { short: ("2h", 2 * HOUR), long: ("1d", 24 * HOUR), percent: 10.0 },
    Pair { short: ("6h", 6 * HOUR), long: ("3d", 72 * HOUR), percent: 10.0 },
];

/// How many times faster than allowed the budget burns when `percent` of it goes in `long`: 14.4 for 2 % of 30 days in an
/// hour. Never below 1, at which the budget just lasts for its window.
pub fn factor(window: Window, percent: f64, long: Duration) -> f64 {
    let share = percent / 100.0 * window.get().as_secs_f64() / long.as_secs_f64();
    (share.max(1.0) * 1e6).round() / 1e6
}

/// The rule groups of all objectives. `interval` is `global.evaluation_interval`.
pub fn groups(slos: &Slos, interval: Duration) -> Vec<Arc<RuleGroup>> {
    slos.iter().flat_map(|slo| Writer::new(slo, interval).groups()).map(Arc::new).collect()
}

struct Writer<'a> {
    slo: &'a Slo,
    /// `{sloth_slo="name"}`.
    own: String,
    interval: Duration,
    line: usize,
}

impl<'a> Writer<'a> {
    fn new(slo: &'a Slo, interval: Duration) -> Self {
        let own = format!("{{{SLO_LABEL}=\"{}\"}}", slo.name);
        // A sample is found for five minutes, so what rules of another group read must be younger.
        Self { slo, own, interval: interval.min(Duration::from_secs(MINUTE)), line: 0 }
    }

    fn groups(mut self) -> [RuleGroup; 4] {
        let interval = self.interval;
        let most = |times: u32, limit: u64| (interval * times).min(Duration::from_secs(limit));
        let now = self.now();
        let pieces = self.pieces();
        let windows = self.windows();
        let budget = self.budget();
        [
            self.group("", interval, now),
            self.group(":pieces", PIECE, pieces),
            self.group(":windows", most(2, 2 * MINUTE), windows),
            self.group(":budget", most(8, 4 * MINUTE), budget),
        ]
    }

    fn group(&self, part: &str, interval: Duration, rules: Vec<Rule>) -> RuleGroup {
        RuleGroup {
            name: format!("slo:{}{part}", self.slo.name),
            file: FILE.to_owned(),
            interval,
            query_offset: None,
            limit: INSTANCES_MAX,
            rules,
        }
    }

    /// What is known of the last hour, and the alert that wakes.
    fn now(&mut self) -> Vec<Rule> {
        let own = self.own.clone();
        let (total, errors) = match &self.slo.indicator.ratio {
            Ratio::Counted { total, errors, absent_is_zero } => {
                let none = match absent_is_zero {
                    true => format!(" or on ({}) {TOTAL}{own} * 0", self.slo.indicator.group.join(", ")),
                    false => String::new(),
                };
                (total.clone(), format!("({errors}){none}"))
            }
            // Every five minutes weigh the same.
            Ratio::Share { share } => (format!("{share} * 0 + 1"), format!("clamp_max({share}, 1)")),
        };
        let indicator = &self.slo.indicator;
        let (total, errors) = (placed(&self.slo.name, indicator, &total), placed(&self.slo.name, indicator, &errors));
        let mut rules = vec![
            self.record(TOTAL, &total, &[]),
            self.record(ERRORS, &errors, &[]),
            self.ratio("5m", &format!("{ERRORS}{own} / ({TOTAL}{own} > 0)")),
        ];
        rules.extend(["30m", "1h"].map(|window| self.window(window, (ERRORS, TOTAL))));
        let burn = format!("max without ({WINDOW_LABEL}) ({RATIO}5m{own}) / {}", self.budget_text());
        rules.push(self.record(CURRENT_BURN, &burn, &[]));
        rules.extend(self.alert(ALERT_FAST, "page", &PAGE));
        rules
    }

    /// What longer windows are made of.
    fn pieces(&mut self) -> Vec<Rule> {
        let own = self.own.clone();
        [(TOTAL_PIECE, TOTAL), (ERRORS_PIECE, ERRORS)]
            .map(|(piece, rate)| self.record(piece, &format!("{rate}{own}"), &[]))
            .into()
    }

    fn windows(&mut self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = ["2h", "6h", "1d", "3d"]
            .into_iter()
            .map(|window| self.window(window, (ERRORS_PIECE, TOTAL_PIECE)))
            .collect();
        rules.extend(self.alert(ALERT_SLOW, "ticket", &TICKET));
        rules
    }

    /// The whole window, and what is configured.
    fn budget(&mut self) -> Vec<Rule> {
        let (own, window) = (self.own.clone(), self.slo.window);
        let text = window.text();
        let seconds = window.get().as_secs();
        // The first piece comes within five minutes; until then what was recorded of the last hour speaks.
        let ratio = format!(
            "sum_over_time({ERRORS_PIECE}{own}[{text}]) / (sum_over_time({TOTAL_PIECE}{own}[{text}]) > 0) \
             or max without ({WINDOW_LABEL}) ({RATIO}1h{own})"
        );
        let covered = format!(
            "clamp_max(count_over_time({TOTAL_PIECE}{own}[{text}]) * {} / {seconds}, 1) \
             or count_over_time({TOTAL}{own}[1h]) * {} / {seconds}",
            PIECE.as_secs(),
            tidy(self.interval.as_secs_f64()),
        );
        let whole = format!("{RATIO}{text}");
        let burn = format!("max without ({WINDOW_LABEL}) ({whole}{own}) / {}", self.budget_text());
        // Without events nothing is spent; without a series of bad ones nothing is known.
        let remaining = format!("1 - {PERIOD_BURN}{own} * {COVERED}{own} or last_over_time({ERRORS}{own}[1h]) * 0 + 1");
        let constant = |value: String| format!("{COVERED}{own} * 0 + {value}");
        let objective = tidy(self.slo.objective.percent() / 100.0);
        vec![
            self.ratio(&text, &ratio),
            self.record(COVERED, &covered, &[]),
            self.record(PERIOD_BURN, &burn, &[]),
            self.record(REMAINING, &remaining, &[]),
            self.record(OBJECTIVE, &constant(objective), &[]),
            self.record(BUDGET, &constant(self.budget_text()), &[]),
            self.record(DAYS, &constant(window.days().to_string()), &[]),
            self.info(),
        ]
    }

    fn info(&mut self) -> Rule {
        let Slo { labels, owner, objective, indicator, .. } = self.slo;
        let percent = tidy(objective.percent());
        let mut all: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if !owner.is_empty() {
            all.push(("owner", owner));
        }
        all.extend([
            ("sloth_objective", percent.as_str()),
            ("sloth_spec", "meshscope"),
            ("sloth_indicator", indicator.kind),
        ]);
        let expr = format!("{COVERED}{} * 0 + 1", self.own);
        self.record(INFO, &expr, &all)
    }

    /// The share of bad events over a window, weighed by events.
    fn window(&mut self, window: &str, (errors, total): (&str, &str)) -> Rule {
        let own = self.own.clone();
        let expr = format!("sum_over_time({errors}{own}[{window}]) / (sum_over_time({total}{own}[{window}]) > 0)");
        self.ratio(window, &expr)
    }

    fn ratio(&mut self, window: &str, expr: &str) -> Rule {
        self.record(&format!("{RATIO}{window}"), expr, &[(WINDOW_LABEL, window)])
    }

    fn record(&mut self, name: &str, expr: &str, labels: &[(&str, &str)]) -> Rule {
        self.line += 1;
        let mut all: Vec<(String, String)> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.push((SLO_LABEL.to_owned(), self.slo.name.clone()));
        if self.slo.indicator.group.is_empty() {
            all.extend([SERVICE_LABEL, ID_LABEL].map(|label| (label.to_owned(), self.slo.name.clone())));
        }
        all.sort();
        let expr = parsed(expr);
        Rule::Recording(RecordingRule {
            name: name.to_owned(),
            query: expr.to_string(),
            expr,
            labels: all,
            line: self.line,
        })
    }

    fn budget_text(&self) -> String {
        tidy(self.slo.objective.budget())
    }

    /// `None` when it is switched off.
    fn alert(&mut self, name: &str, kind: &str, pairs: &[Pair; 2]) -> Option<Rule> {
        let alerting = &self.slo.alerting;
        let (config, severity, hold) = match kind {
            "page" => (&alerting.page, "critical", MINUTE),
            _ => (&alerting.ticket, "warning", 15 * MINUTE),
        };
        let SeverityConfig { enabled, severity: given, labels, r#for } = config;
        if !enabled {
            return None;
        }
        self.line += 1;
        let expr = parsed(&pairs.iter().map(|pair| self.burns(pair)).collect::<Vec<_>>().join(" or "));
        let owner = Some(("owner".to_owned(), self.slo.owner.clone())).filter(|(_, owner)| !owner.is_empty());
        let mut all: std::collections::BTreeMap<String, String> = self.slo.labels.clone();
        all.extend(labels.clone());
        all.extend(owner);
        all.insert("severity".to_owned(), given.clone().unwrap_or_else(|| severity.to_owned()));
        all.insert(SEVERITY_LABEL.to_owned(), kind.to_owned());
        // Where all windows burn the labels of the series say whose they are; a constant expression would not.
        all.insert(SLO_LABEL.to_owned(), self.slo.name.clone());
        let text = |text: String| Text::parse(name, &text).unwrap_or(Text::Plain(text));
        Some(Rule::Alerting(AlertingRule {
            name: name.to_owned(),
            query: expr.to_string(),
            expr,
            hold: r#for.map_or(Duration::from_secs(hold), |hold| hold.get()),
            keep_firing_for: Duration::ZERO,
            labels: all.into_iter().map(|(name, value)| (name, text(value))).collect(),
            annotations: self
                .annotations(name, kind)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), text(value)))
                .collect(),
            line: self.line,
        }))
    }

    /// Both windows above the pair's threshold, and enough events in the short one.
    fn burns(&self, pair: &Pair) -> String {
        let own = &self.own;
        let Pair { short: (short, seconds), long: (long, long_seconds), percent } = pair;
        let factor = factor(self.slo.window, *percent, Duration::from_secs(*long_seconds));
        let budget = self.slo.objective.budget();
        let threshold = match factor * budget <= THRESHOLD_MAX {
            true => format!("({} * {})", tidy(factor), self.budget_text()),
            false => tidy(THRESHOLD_MAX),
        };
        let above = |window: &str| format!("max without ({WINDOW_LABEL}) ({RATIO}{window}{own}) > {threshold}");
        let min_events = match &self.slo.indicator.ratio {
            Ratio::Counted { .. } => self.slo.alerting.min_events.unwrap_or(MIN_EVENTS),
            Ratio::Share { .. } => 0,
        };
        let enough = match (min_events, *seconds) {
            (0, _) => String::new(),
            (events, 300) => format!(" and {TOTAL}{own} * {seconds} >= {events}"),
            (events, ..=HOUR) => format!(" and avg_over_time({TOTAL}{own}[{short}]) * {seconds} >= {events}"),
            (events, _) => format!(" and avg_over_time({TOTAL_PIECE}{own}[{short}]) * {seconds} >= {events}"),
        };
        format!("({} and {}{enough})", above(short), above(long))
    }

    fn annotations(&self, name: &str, kind: &str) -> Vec<(&'static str, String)> {
        let Slo { name: slo, description, objective, window, indicator, .. } = self.slo;
        let speed = if kind == "page" { "fast" } else { "steadily" };
        let text = format!(
            "The objective {slo} asks for {}% good events over {}d; bad is: {}.{}{description}",
            tidy(objective.percent()),
            window.days(),
            indicator.bad,
            if description.is_empty() { "" } else { " " },
        );
        vec![
            ("description", text),
            ("runbook_url", format!("docs/runbooks/{name}.md")),
            (
                "summary",
                format!(
                    "{{{{ $labels.{SERVICE_LABEL} }}}} burns the error budget of {slo} {speed}: {{{{ $value | humanizePercentage }}}} of its events are bad"
                ),
            ),
        ]
    }
}

/// With labels that say what it is about and that are unique among all objectives.
fn placed(slo: &str, indicator: &Indicator, expr: &str) -> String {
    if indicator.group.is_empty() {
        return expr.to_owned();
    }
    let group: Vec<String> = indicator.group.iter().map(|label| format!("\"{label}\"")).collect();
    let service = format!("label_join({expr}, \"{SERVICE_LABEL}\", \"/\", {})", group.join(", "));
    format!("label_replace({service}, \"{ID_LABEL}\", \"{slo}:$1\", \"{SERVICE_LABEL}\", \"(.*)\")")
}

fn parsed(expr: &str) -> promql::Expr {
    promql::parse(expr).expect("invariant: what was checked as a configuration makes rules that parse")
}

#[cfg(test)]
mod tests;
