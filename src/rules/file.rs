//! Reads one rule file: Prometheus' own form, and PrometheusRule objects of the Prometheus operator.
//!
//! In: file name and text. Out: [`ParsedFile`]. Pure. Invariant: a group is in it only if its whole document is without
//! fault; every fault says file, line and column in Prometheus' words (`model/rulefmt`).

mod fields;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use self::fields::{Fields, Scalars};
use super::definition::{AlertingRule, Pairs, RecordingRule, Rule, RuleGroup};
use super::expand::Text;
use crate::promql::{self, Features};
use crate::yaml::{self, Node, Value};

/// Something wrong in a rule file, or left out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// The file's path.
    pub file: String,
    /// 1-based line and column; 0 when the file as a whole is meant.
    pub line: usize,
    /// 1-based column.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// `file: 12:9: group "g", rule 3, "Name": could not parse expression: 1:5: parse error: …`.
impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message } = self;
        match line {
            0 => write!(f, "{file}: {message}"),
            _ => write!(f, "{file}: {line}:{column}: {message}"),
        }
    }
}

/// What a rule file holds.
#[derive(Debug, Default)]
pub struct ParsedFile {
    /// Groups of the documents that are without fault.
    pub groups: Vec<RuleGroup>,
    /// Faults of the refused documents.
    pub problems: Vec<FileProblem>,
    /// What was left out without harm.
    pub warnings: Vec<FileProblem>,
}

/// How rule files are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadOptions {
    /// For groups that name none: `global.evaluation_interval`. Default 1m.
    pub interval: Duration,
    /// What of the language expressions may use. Default: none of what Prometheus has behind flags.
    pub features: Features,
    /// Whether fields that nobody knows are no faults. Default false.
    pub ignore_unknown_fields: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        let (interval, features) = (Duration::from_secs(60), Features::default());
        Self { interval, features, ignore_unknown_fields: false }
    }
}

/// Parses a rule file.
///
/// A plain rule file is refused as a whole; of several PrometheusRule objects in one file only the faulty are. All
/// documents of a file are read (Prometheus reads the first and leaves the others out without a word).
pub fn parse(file: &str, text: &str, options: ReadOptions) -> ParsedFile {
    let mut parsed = ParsedFile::default();
    let documents = match yaml::documents(text) {
        Ok(documents) => documents,
        Err(problem) => {
            let yaml::Problem { line, column, message, .. } = problem;
            parsed.problems.push(FileProblem {
                file: file.to_owned(),
                line,
                column,
                message: format!("yaml: {message}"),
            });
            return parsed;
        }
    };
    let mut reader = Reader { path: file, file: file.to_owned(), options, operator: false, problems: Vec::new() };
    let (mut groups, mut names) = (Vec::new(), BTreeSet::new());
    for document in &documents {
        if document.get("kind").is_some() || document.get("apiVersion").is_some() {
            object(file, (document, None), options, &mut parsed);
        } else {
            groups.extend(reader.document(document, &mut names));
        }
    }
    reader.finish(groups, &mut parsed);
    parsed
}

/// Reads one PrometheusRule (or a list of them) that was parsed already.
pub fn parse_object(file: &str, node: &Node, options: ReadOptions) -> ParsedFile {
    let mut parsed = ParsedFile::default();
    object(file, (node, None), options, &mut parsed);
    parsed
}

fn problem(file: &str, node: &Node, message: impl Into<String>) -> FileProblem {
    FileProblem { file: file.to_owned(), line: node.line, column: node.column, message: message.into() }
}

/// One Kubernetes object; a `List` holds several. Items of a `PrometheusRuleList` need not say what they are: they are
/// of its version, `listed`.
fn object(file: &str, (node, listed): (&Node, Option<&str>), options: ReadOptions, parsed: &mut ParsedFile) {
    let text = |key: &str| node.get(key).and_then(Node::as_str);
    let kind = text("kind").or(listed.map(|_| "PrometheusRule")).unwrap_or_default();
    let version = text("apiVersion").or(listed).unwrap_or_default();
    if kind == "List" || kind == "PrometheusRuleList" {
        let listed = (kind != "List").then_some(version);
        for item in node.get("items").map(Node::items).unwrap_or_default() {
            object(file, (item, listed), options, parsed);
        }
        return;
    }
    if kind != "PrometheusRule" {
        parsed.warnings.push(problem(file, node, format!("a {kind:?} holds no rules; it is left out")));
        return;
    }
    if version != "monitoring.coreos.com/v1" {
        let message = format!("PrometheusRule of apiVersion {version:?}; known is \"monitoring.coreos.com/v1\"");
        parsed.problems.push(problem(file, node, message));
        return;
    }
    let metadata = |key: &str| node.get("metadata").and_then(|of| of.get(key)).and_then(Node::as_str);
    let pieces: Vec<&str> = ["namespace", "name", "uid"].into_iter().filter_map(metadata).collect();
    let key = if pieces.is_empty() { file.to_owned() } else { pieces.join("-") };
    let mut reader = Reader { path: file, file: key, options, operator: true, problems: Vec::new() };
    let groups = match node.get("spec") {
        Some(spec) => reader.document(spec, &mut BTreeSet::new()),
        None => {
            reader.fault(node, "PrometheusRule without a spec");
            Vec::new()
        }
    };
    reader.finish(groups, parsed);
}

struct Reader<'a> {
    /// The file that problems name.
    path: &'a str,
    /// The file that groups name.
    file: String,
    options: ReadOptions,
    /// Whether the text is a PrometheusRule, which takes a little more than a rule file.
    operator: bool,
    problems: Vec<FileProblem>,
}

/// Where a rule stands, for messages.
struct Place<'a> {
    group: &'a str,
    number: usize,
    name: &'a str,
}

impl Reader<'_> {
    fn fault(&mut self, node: &Node, message: impl Into<String>) {
        self.problems.push(problem(self.path, node, message));
    }

    fn rule_fault(&mut self, node: &Node, place: &Place<'_>, message: &str) {
        let Place { group, number, name } = place;
        self.fault(node, format!("group {group:?}, rule {number}, {name:?}: {message}"));
    }

    fn finish(self, groups: Vec<RuleGroup>, parsed: &mut ParsedFile) {
        match self.problems.is_empty() {
            true => parsed.groups.extend(groups),
            false => parsed.problems.extend(self.problems),
        }
    }

    fn document(&mut self, node: &Node, names: &mut BTreeSet<String>) -> Vec<RuleGroup> {
        let mut fields = Fields::of(node, "rulefmt.RuleGroups", &mut self.problems, self.path);
        let groups = fields.list("groups");
        fields.finish(&["groups"], self.options.ignore_unknown_fields);
        // Go's YAML leaves nulls out of a list.
        groups.iter().filter(|node| !is_null(node)).filter_map(|node| self.group(node, names)).collect()
    }

    fn group(&mut self, node: &Node, names: &mut BTreeSet<String>) -> Option<RuleGroup> {
        const KNOWN: [&str; 7] =
            ["name", "interval", "query_offset", "limit", "labels", "rules", "partial_response_strategy"];
        let known = if self.operator { &KNOWN[..] } else { &KNOWN[..6] };
        let (operator, lenient) = (self.operator, self.options.ignore_unknown_fields);
        let mut fields = Fields::of(node, "rulefmt.RuleGroup", &mut self.problems, self.path);
        let name = fields.text("name").unwrap_or_default();
        let interval = fields.duration("interval", operator);
        let query_offset = fields.duration("query_offset", operator);
        let limit = fields.count("limit");
        let labels = fields.scalars("labels");
        let rules = fields.list("rules");
        fields.finish(known, lenient);
        if name.is_empty() {
            self.fault(node, "Groupname must not be empty");
        }
        if !names.insert(name.clone()) {
            self.fault(node, format!("groupname: \"{name}\" is repeated in the same file"));
        }
        for (key, _, at) in &labels {
            if !is_label_name(key) {
                self.fault(at, format!("invalid label name: {key}"));
            }
        }
        let rules: Vec<Option<Rule>> = (rules.iter().filter(|rule| !is_null(rule)).enumerate())
            .map(|(i, rule)| self.rule(rule, (&name, i + 1), &labels))
            .collect();
        Some(RuleGroup {
            name,
            file: self.file.clone(),
            interval: interval.filter(|interval| !interval.is_zero()).unwrap_or(self.options.interval),
            query_offset,
            limit,
            rules: rules.into_iter().collect::<Option<_>>()?,
        })
    }

    fn rule(&mut self, node: &Node, (group, number): (&str, usize), group_labels: &Scalars<'_>) -> Option<Rule> {
        const KNOWN: [&str; 7] = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
        let (operator, lenient) = (self.operator, self.options.ignore_unknown_fields);
        let before = self.problems.len();
        let mut fields = Fields::of(node, "rulefmt.Rule", &mut self.problems, self.path);
        let [record, alert, expr] = ["record", "alert", "expr"].map(|key| fields.text(key).unwrap_or_default());
        let hold = fields.duration("for", operator);
        let keep_firing_for = fields.duration("keep_firing_for", operator);
        let (labels, annotations) = (fields.scalars("labels"), fields.scalars("annotations"));
        fields.finish(&KNOWN, lenient);
        let place = Place { group, number, name: if alert.is_empty() { &record } else { &alert } };
        let at = |key: &str| node.get(key).unwrap_or(node);
        match (record.is_empty(), alert.is_empty()) {
            (false, false) => {
                self.rule_fault(at("alert"), &place, "only one of 'record' and 'alert' must be set");
            }
            (true, true) => self.rule_fault(node, &place, "one of 'record' or 'alert' must be set"),
            _ => {}
        }
        let parsed = if expr.is_empty() {
            self.rule_fault(at("expr"), &place, "field 'expr' must be set in rule");
            None
        } else {
            let parsed = promql::parse_enabled(&expr, self.options.features);
            parsed.map_err(|e| self.rule_fault(at("expr"), &place, &format!("could not parse expression: {e}"))).ok()
        };
        let unfit = [
            ("annotations", !annotations.is_empty()),
            ("for", hold.is_some_and(|d| !d.is_zero())),
            ("keep_firing_for", keep_firing_for.is_some_and(|d| !d.is_zero())),
        ];
        if !record.is_empty() {
            self.recording_faults(node, &place, &record, &unfit);
        }
        self.name_faults(&place, &labels, &annotations);
        // The texts of a recording rule are no templates.
        let texts = if record.is_empty() { self.texts(&place, &labels, &annotations) } else { None };
        let expr = parsed.filter(|_| self.problems.len() == before)?;
        let query = expr.to_string();
        if !record.is_empty() {
            let labels =
                merged(group_labels, labels.iter().map(|(k, v, _)| (k.clone(), v.clone())), |text| text.to_owned());
            return Some(Rule::Recording(RecordingRule { name: record, expr, query, labels, line: node.line }));
        }
        let (labels, annotations) = texts?;
        let labels = merged(group_labels, labels.into_iter(), |text| {
            Text::parse(&alert, text).unwrap_or_else(|_| Text::Plain(text.to_owned()))
        });
        Some(Rule::Alerting(AlertingRule {
            name: alert,
            expr,
            query,
            hold: hold.unwrap_or_default(),
            keep_firing_for: keep_firing_for.unwrap_or_default(),
            labels,
            annotations,
            line: node.line,
        }))
    }

    fn recording_faults(&mut self, node: &Node, place: &Place<'_>, record: &str, unfit: &[(&str, bool)]) {
        let at = node.get("record").unwrap_or(node);
        for (field, _) in unfit.iter().filter(|(_, given)| *given) {
            self.rule_fault(at, place, &format!("invalid field '{field}' in recording rule"));
        }
        if record.contains(['{', '}']) {
            let message = format!("braces present in the recording rule name; should it be in expr?: {record}");
            self.rule_fault(at, place, &message);
        }
    }

    fn name_faults(&mut self, place: &Place<'_>, labels: &Scalars<'_>, annotations: &Scalars<'_>) {
        for (name, _, at) in labels.iter().filter(|(name, ..)| !is_label_name(name)) {
            self.rule_fault(at, place, &format!("invalid label name: {name}"));
        }
        for (name, _, at) in annotations.iter().filter(|(name, ..)| name.is_empty()) {
            self.rule_fault(at, place, &format!("invalid annotation name: {name}"));
        }
    }

    /// Parses the texts of labels and annotations.
    fn texts(&mut self, place: &Place<'_>, labels: &Scalars<'_>, annotations: &Scalars<'_>) -> Option<TextPairs> {
        let before = self.problems.len();
        let mut parse = |what: &str, pairs: &Scalars<'_>| {
            let mut texts = Vec::with_capacity(pairs.len());
            for (name, value, at) in pairs {
                match Text::parse(place.name, value) {
                    Ok(text) => texts.push((name.clone(), text)),
                    Err(error) => self.rule_fault(at, place, &format!("{what} {name:?}: {error}")),
                }
            }
            texts.sort_by(|a, b| a.0.cmp(&b.0));
            texts
        };
        let texts = (parse("label", labels), parse("annotation", annotations));
        (self.problems.len() == before).then_some(texts)
    }
}

type TextPairs = (Vec<(String, Text)>, Vec<(String, Text)>);

/// The group's labels overridden by the rule's, in name order.
fn merged<T>(
    group: &Scalars<'_>,
    rule: impl Iterator<Item = (String, T)>,
    make: impl Fn(&str) -> T,
) -> Vec<(String, T)> {
    let mut all: std::collections::BTreeMap<String, T> =
        group.iter().map(|(name, value, _)| (name.clone(), make(value))).collect();
    all.extend(rule);
    all.into_iter().collect()
}

/// Prometheus 3 takes any text but `__name__`.
fn is_label_name(name: &str) -> bool {
    !name.is_empty() && name != "__name__"
}

/// The labels of a rule as a map would print them, for [`super::check()`].
pub(super) fn pairs_text(pairs: &Pairs) -> String {
    pairs.iter().map(|(name, value)| format!("\t{name}: {value}\n")).collect()
}

/// Whether the node is a null, which Go's YAML takes for "not given".
fn is_null(node: &Node) -> bool {
    node.value == Value::Null
}

#[cfg(test)]
mod tests;
