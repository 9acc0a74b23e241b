//! Reads rules as somebody would who has been woken by them: what never fires, what fires forever, what counts twice.
//!
//! In: rule groups or files, [`Options`], and what series exist ([`Seen`]) when somebody knows. Out: [`Finding`]s with a
//! code, a place, the reason in one sentence and, where it can be written, the expression as it should be. Sync and pure
//! but for [`lint_file`], which reads its file, and [`observe`], which asks a store for names. Invariant: an expression
//! offered as a fix parses. The codes are explained in `docs/lint.md`.

mod codes;
mod counters;
mod labels;
mod matching;
mod names;
mod ratios;
mod seen;
mod selectors;
mod set;
mod shape;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use codes::{CODES, Code};
pub use names::{ISTIO_LABELS, ISTIO_METRICS, metric_of_series};
pub use seen::{Seen, observe, wanted};

pub use crate::model::Severity;

use self::walk::Subject;
use super::definition::{Rule, RuleGroup};
use super::file::{self, FileProblem, ParsedFile};
use super::load;
use crate::promql::Features;
use crate::yaml::Node;

/// Whoever writes an expression that needs a flag has set it.
const READ: file::ReadOptions = file::ReadOptions {
    interval: Duration::from_secs(60),
    features: Features { experimental_functions: true, duration_expressions: true },
    ignore_unknown_fields: false,
};

/// Deepest expression that is looked at; deeper ones are the work of generators.
const LEVELS_MAX: usize = 192;

/// What the linter must know besides the rules.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time between two samples of a series. Default 1 m, Prometheus' own.
    pub scrape_interval: Duration,
    /// How long samples are kept. Default 400 d, as `storage.retention.five_minutes`.
    pub retention: Duration,
    /// What series exist, when that is known.
    pub seen: Option<Seen>,
}

impl Default for Options {
    fn default() -> Self {
        Self { scrape_interval: Duration::from_secs(60), retention: Duration::from_secs(400 * 86_400), seen: None }
    }
}

/// One thing that is wrong, or doubtful, about one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which kind; `docs/lint.md` explains each.
    pub code: &'static str,
    /// How grave.
    pub severity: Severity,
    /// The rule file's path.
    pub file: String,
    /// Line of the rule, from 1.
    pub line: usize,
    /// Name of the group.
    pub group: String,
    /// Name of the alert or of the recorded metric.
    pub rule: String,
    /// Why, in one sentence.
    pub message: String,
    /// The expression (or the name) as it should be, when it can be written.
    pub fix: Option<String>,
}

/// `alerts.yaml:12: error [counter-compared] mesh/HighErrorRate: …`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, severity, file, line, group, rule, message, fix } = self;
        write!(f, "{file}:{line}: {severity} [{code}] {group}/{rule}: {message}")?;
        match fix {
            Some(fix) => write!(f, "\n  instead: {}", fix.replace('\n', "\n           ")),
            None => Ok(()),
        }
    }
}

/// What the linter says of one file.
#[derive(Debug, Default)]
pub struct Linted {
    /// In the order of the file.
    pub findings: Vec<Finding>,
    /// Faults, for which the file would be refused.
    pub problems: Vec<FileProblem>,
    /// How many rules were looked at.
    pub rules: usize,
}

/// Looks at the rules of one file.
pub fn lint_file(path: &Path, options: &Options) -> Linted {
    let name = path.display().to_string();
    match load::read(path) {
        Ok(text) => lint_text(&name, &text, options),
        Err(message) => {
            Linted { problems: vec![FileProblem { file: name, line: 0, column: 0, message }], ..Linted::default() }
        }
    }
}

/// Looks at the rules of a file called `name`.
pub fn lint_text(name: &str, text: &str, options: &Options) -> Linted {
    linted(name, file::parse(name, text, READ), options)
}

/// Looks at the rules of one PrometheusRule that was read already, of a file called `name`.
pub fn lint_object(name: &str, node: &Node, options: &Options) -> Linted {
    linted(name, file::parse_object(name, node, READ), options)
}

fn linted(name: &str, parsed: ParsedFile, options: &Options) -> Linted {
    let groups: Vec<&RuleGroup> = parsed.groups.iter().collect();
    let mut findings = lint(&groups, options);
    // A PrometheusRule's groups are filed under the object; people look for the file.
    findings.iter_mut().for_each(|finding| name.clone_into(&mut finding.file));
    let rules = groups.iter().map(|group| group.rules.len()).sum();
    Linted { findings, problems: parsed.problems, rules }
}

/// As [`wanted`], for files; those that cannot be read want nothing.
pub fn wanted_of_files(files: &[PathBuf]) -> BTreeMap<String, BTreeSet<String>> {
    let texts = files.iter().filter_map(|path| load::read(path).ok().map(|text| (path.display().to_string(), text)));
    let groups: Vec<RuleGroup> = texts.flat_map(|(name, text)| file::parse(&name, &text, READ).groups).collect();
    wanted(&groups.iter().collect::<Vec<_>>())
}

/// Looks at groups that were read already, each rule by itself and all together.
pub fn lint(groups: &[&RuleGroup], options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    for group in groups {
        for rule in &group.rules {
            let mut subject = Subject::new(group, rule, options, &mut findings);
            check(&mut subject);
            subject.finish();
        }
    }
    set::duplicates(groups, &mut findings);
    findings.sort_by(|a, b| {
        (&a.file, a.line, std::cmp::Reverse(a.severity), a.code).cmp(&(
            &b.file,
            b.line,
            std::cmp::Reverse(b.severity),
            b.code,
        ))
    });
    findings.dedup();
    findings
}

fn check(subject: &mut Subject<'_>) {
    shape::check(subject);
    let root = subject.root();
    if root.levels() > LEVELS_MAX {
        let message = format!(
            "the expression is deeper than {LEVELS_MAX} levels, so nobody can read it and it was not looked at"
        );
        subject.report(codes::TOO_DEEP, message, None);
        return;
    }
    counters::check(subject);
    selectors::check(subject);
    ratios::check(subject);
    matching::check(subject);
    if let Rule::Alerting(rule) = subject.rule {
        labels::templates(subject, rule);
    }
}

#[cfg(test)]
mod tests;
