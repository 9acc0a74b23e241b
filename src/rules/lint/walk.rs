//! The rule under the lens, and the way through its expression.
//!
//! In: a rule. Out: [`Subject`], which takes findings; [`each`], which visits nodes with what stands above them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::codes::Code;
use super::{Finding, Options};
use crate::model::Matcher;
use crate::promql;
use crate::promql::ast::{BinaryOp, Kind, Node, Span, VectorSelector};
use crate::rules::definition::{AlertingRule, Rule, RuleGroup};

/// A code, its message, and what to write where.
type Edits = (Code, String, Vec<(Span, String)>);

/// One rule, and where its findings go.
pub(super) struct Subject<'a> {
    pub group: &'a RuleGroup,
    pub rule: &'a Rule,
    pub options: &'a Options,
    query: Arc<str>,
    findings: &'a mut Vec<Finding>,
    /// What is wrong in several places of the expression and is told once: message, and what to write where.
    edits: BTreeMap<&'static str, Edits>,
}

impl<'a> Subject<'a> {
    pub fn new(group: &'a RuleGroup, rule: &'a Rule, options: &'a Options, findings: &'a mut Vec<Finding>) -> Self {
        Self { group, rule, options, query: rule.expr().query(), findings, edits: BTreeMap::new() }
    }

    /// The expression.
    pub fn root(&self) -> &'a Node {
        self.rule.expr().root()
    }

    pub fn alert(&self) -> Option<&'a AlertingRule> {
        match self.rule {
            Rule::Alerting(rule) => Some(rule),
            Rule::Recording(_) => None,
        }
    }

    /// Notes a finding.
    pub fn report(&mut self, code: Code, message: impl Into<String>, fix: Option<String>) {
        self.findings.push(finding(self.group, self.rule, code, message.into(), fix));
    }

    /// Notes that the text of a node should be another; all such places of a rule are one finding with one fix.
    pub fn edit(&mut self, code: Code, message: String, node: &Node, text: String) {
        let (_, _, edits) = self.edits.entry(code.name).or_insert_with(|| (code, message, Vec::new()));
        edits.push((node.span, text));
    }

    /// Reports the edits.
    pub fn finish(mut self) {
        for (code, message, mut edits) in std::mem::take(&mut self.edits).into_values() {
            edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
            let mut text = self.query.to_string();
            for (span, by) in &edits {
                if text.get(span.start..span.end).is_some() {
                    text.replace_range(span.start..span.end, by);
                }
            }
            let places = match edits.len() {
                1 => String::new(),
                count => format!(" (in {count} places)"),
            };
            self.report(code, format!("{message}{places}"), written(&text));
        }
    }

    /// The expression with a part of it replaced; none when that would not parse.
    pub fn replaced(&self, span: Span, text: &str) -> Option<String> {
        let (before, after) = (self.query.get(..span.start)?, self.query.get(span.end..)?);
        written(&format!("{before}{text}{after}"))
    }
}

/// A finding about a rule.
pub(super) fn finding(group: &RuleGroup, rule: &Rule, code: Code, message: String, fix: Option<String>) -> Finding {
    Finding {
        code: code.name,
        severity: code.severity,
        file: group.file.clone(),
        line: rule.line(),
        group: group.name.clone(),
        rule: rule.name().to_owned(),
        message,
        fix,
    }
}

/// The expression as it is printed; none when it does not parse.
pub(super) fn written(query: &str) -> Option<String> {
    promql::parse(query).ok().map(|expr| expr.pretty())
}

/// The nodes right below.
pub(super) fn children(node: &Node) -> Vec<&Node> {
    match &node.kind {
        Kind::Number { .. } | Kind::Text(_) | Kind::Selector(_) => Vec::new(),
        Kind::Subquery(subquery) => vec![&subquery.inner],
        Kind::Paren(inner) | Kind::Unary { inner, .. } => vec![inner],
        Kind::Binary(binary) => vec![&binary.left, &binary.right],
        Kind::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.inner]).collect(),
        Kind::Call { args, .. } => args.iter().collect(),
    }
}

/// Visits all nodes, each with those above it, the nearest last. The depth is bounded by the caller.
pub(super) fn each<'a>(root: &'a Node, visit: &mut impl FnMut(&'a Node, &[&'a Node])) {
    fn go<'a>(node: &'a Node, above: &mut Vec<&'a Node>, visit: &mut impl FnMut(&'a Node, &[&'a Node])) {
        visit(node, above);
        above.push(node);
        for child in children(node) {
            go(child, above, visit);
        }
        above.pop();
    }
    go(root, &mut Vec::new(), visit);
}

/// Whether some node at or below satisfies `wanted`.
pub(super) fn any<'a>(root: &'a Node, wanted: impl Fn(&'a Node) -> bool) -> bool {
    let mut found = false;
    each(root, &mut |node, _| found |= wanted(node));
    found
}

/// All selectors at or below.
pub(super) fn selectors(root: &Node) -> Vec<&VectorSelector> {
    let mut found = Vec::new();
    root.each_selector(&mut |selector| found.push(selector));
    found
}

/// The name of the function that the node calls.
pub(super) fn called(node: &Node) -> Option<&'static str> {
    match &node.kind {
        Kind::Call { function, .. } => Some(function.name),
        _ => None,
    }
}

/// Whether the node calls `rate`, `increase` or `irate`.
pub(super) fn is_rate(node: &Node) -> bool {
    matches!(called(node), Some("rate" | "increase" | "irate"))
}

/// The operands of a chain of `and`s: what must all hold.
pub(super) fn conjuncts(node: &Node) -> Vec<&Node> {
    let node = node.unwrapped();
    match &node.kind {
        Kind::Binary(binary) if binary.op == BinaryOp::And => {
            let mut all = conjuncts(&binary.left);
            all.extend(conjuncts(&binary.right));
            all
        }
        _ => vec![node],
    }
}

/// The number that the node is.
pub(super) fn number(node: &Node) -> Option<f64> {
    match &node.unwrapped().kind {
        Kind::Number { value, .. } => Some(*value),
        Kind::Unary { negative: true, inner } => number(inner).map(|value| -value),
        _ => None,
    }
}

/// The metric that a selector names.
pub(super) fn metric(selector: &VectorSelector) -> Option<&str> {
    selector.name.as_deref().or_else(|| {
        let named = |m: &&Matcher| &*m.name == crate::model::METRIC_NAME && m.op == crate::model::MatchOp::Equal;
        selector.matchers.iter().find(named).map(|m| &*m.value)
    })
}

/// The selector with other matchers.
pub(super) fn with_matchers(selector: &VectorSelector, matchers: Vec<Matcher>) -> VectorSelector {
    VectorSelector { matchers: matchers.into(), ..selector.clone() }
}
