//! Rule groups as their files define them: parsed, checked, ready to evaluate.
//!
//! In: nothing. Out: the types. Invariant: every expression and template in them parses.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::alerting::{ALERTS, ALERTS_FOR_STATE};
use super::expand::Text;
use super::file::FileProblem;
use crate::model::Labels;
use crate::promql;

/// Everything the rule files hold, and what all rules share.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// By file and name, each pair once.
    pub groups: Vec<Arc<RuleGroup>>,
    /// `global.external_labels`, which templates see.
    pub external_labels: Labels,
    /// Our own address as people reach it, without a slash at the end.
    pub external_url: String,
    /// What was refused, for the log, the pages and the API.
    pub problems: Vec<FileProblem>,
    /// What was left out without harm.
    pub warnings: Vec<FileProblem>,
}

/// Rules that are evaluated one after the other, at the same time.
#[derive(Debug)]
pub struct RuleGroup {
    /// Unique in its file.
    pub name: String,
    /// The file's path; for a PrometheusRule `<namespace>-<name>-<uid>`.
    pub file: String,
    /// Time between evaluations.
    pub interval: Duration,
    /// How far in the past the expressions are evaluated; `None` takes the global one.
    pub query_offset: Option<Duration>,
    /// Most alerts or series of one rule; 0 is no limit.
    pub limit: usize,
    /// In the order of evaluation.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug)]
pub enum Rule {
    /// Raises alerts.
    Alerting(AlertingRule),
    /// Records series.
    Recording(RecordingRule),
}

/// Names and values in name order; empty values kept, because they delete a label of the result.
pub type Pairs = Vec<(String, String)>;

/// A rule that raises an alert for each sample of its expression.
#[derive(Debug)]
pub struct AlertingRule {
    /// `alertname`.
    pub name: String,
    /// What is evaluated.
    pub expr: promql::Expr,
    /// The expression as Prometheus prints it.
    pub query: String,
    /// `for`: how long it must hold before the alert fires.
    pub hold: Duration,
    /// How long the alert fires on after the expression stopped holding.
    pub keep_firing_for: Duration,
    /// Labels to add, the group's among them; templates.
    pub labels: Vec<(String, Text)>,
    /// Annotations; templates.
    pub annotations: Vec<(String, Text)>,
    /// Where it stands in its file, from 1.
    pub line: usize,
}

/// A rule that writes the samples of its expression as series of its own.
#[derive(Debug)]
pub struct RecordingRule {
    /// The metric name to write.
    pub name: String,
    /// What is evaluated.
    pub expr: promql::Expr,
    /// The expression as Prometheus prints it.
    pub query: String,
    /// Labels to set, the group's among them.
    pub labels: Pairs,
    /// Where it stands in its file, from 1.
    pub line: usize,
}

impl RuleGroup {
    /// `file;name`, the name of the group among all.
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }

    /// For each rule, whether it reads what another rule reads too, and nothing that the group itself writes: such rules
    /// can share the samples that one of them has loaded.
    pub fn sharing(&self) -> Vec<bool> {
        let written: HashSet<&str> = (self.rules.iter())
            .flat_map(|rule| match rule {
                Rule::Alerting(_) => [ALERTS, ALERTS_FOR_STATE],
                Rule::Recording(rule) => [rule.name.as_str(); 2],
            })
            .collect();
        let read: Vec<Vec<promql::Selector>> = self.rules.iter().map(|rule| rule.expr().selectors()).collect();
        let mut readers: HashMap<String, usize> = HashMap::new();
        for selectors in &read {
            let different: HashSet<String> = selectors.iter().map(|selector| format!("{selector:?}")).collect();
            different.into_iter().for_each(|selector| *readers.entry(selector).or_default() += 1);
        }
        let foreign =
            |selector: &promql::Selector| selector.name.as_deref().is_some_and(|name| !written.contains(name));
        let shared =
            |selector: &promql::Selector| readers.get(&format!("{selector:?}")).is_some_and(|count| *count > 1);
        read.iter().map(|selectors| selectors.iter().all(foreign) && selectors.iter().any(shared)).collect()
    }

    /// Whether nothing that matters to its evaluation differs.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { name, file, interval, query_offset, limit, rules } = self;
        (name, file, interval, query_offset, limit)
            == (&other.name, &other.file, &other.interval, &other.query_offset, &other.limit)
            && rules.len() == other.rules.len()
            && rules.iter().zip(&other.rules).all(|(a, b)| a.is_same(b))
    }
}

impl Rule {
    /// The alert's or the recorded metric's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Alerting(rule) => &rule.name,
            Self::Recording(rule) => &rule.name,
        }
    }

    /// Where it stands in its file, from 1.
    pub fn line(&self) -> usize {
        match self {
            Self::Alerting(rule) => rule.line,
            Self::Recording(rule) => rule.line,
        }
    }

    /// The expression as Prometheus prints it.
    pub fn query(&self) -> &str {
        match self {
            Self::Alerting(rule) => &rule.query,
            Self::Recording(rule) => &rule.query,
        }
    }

    /// What is evaluated.
    pub fn expr(&self) -> &promql::Expr {
        match self {
            Self::Alerting(rule) => &rule.expr,
            Self::Recording(rule) => &rule.expr,
        }
    }

    /// Labels as written.
    pub fn labels(&self) -> Pairs {
        match self {
            Self::Alerting(rule) => rule.written_labels(),
            Self::Recording(rule) => rule.labels.clone(),
        }
    }

    /// Name and labels: two rules that share them are the same rule across a reload.
    pub fn identity(&self) -> (String, Pairs) {
        (self.name().to_owned(), self.labels())
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Recording(a), Self::Recording(b)) => {
                (&a.name, &a.query, &a.labels) == (&b.name, &b.query, &b.labels)
            }
            (Self::Alerting(a), Self::Alerting(b)) => {
                (&a.name, &a.query, a.hold, a.keep_firing_for) == (&b.name, &b.query, b.hold, b.keep_firing_for)
                    && a.written_labels() == b.written_labels()
                    && a.written_annotations() == b.written_annotations()
            }
            _ => false,
        }
    }
}

impl AlertingRule {
    /// Labels as written, templates unexpanded.
    pub fn written_labels(&self) -> Pairs {
        written(&self.labels)
    }

    /// Annotations as written, templates unexpanded.
    pub fn written_annotations(&self) -> Pairs {
        written(&self.annotations)
    }
}

fn written(texts: &[(String, Text)]) -> Pairs {
    texts.iter().map(|(name, text)| (name.clone(), text.written().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn rules_share_only_what_the_group_does_not_write() {
        let text = "
groups:
- name: g
  rules:
  - {record: a, expr: 'sum(rate(x[5m]))'}
  - {record: b, expr: 'rate(x[5m]) / y'}
  - {record: c, expr: 'rate(x[1m])'}
  - {record: d, expr: 'rate(x[5m]) / a'}
  - {record: e, expr: 'rate(x[5m]) / {job=\"j\"}'}
  - {alert: F, expr: 'rate(x[5m]) unless ALERTS'}
";
        let parsed = super::super::file::parse("r.yml", text, super::super::file::ReadOptions::default());
        assert_eq!(parsed.groups[0].sharing(), [true, true, false, false, false, false]);
    }
}
