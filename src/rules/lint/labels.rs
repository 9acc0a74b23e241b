//! Which labels the result of an expression can have, and templates that ask for others.
//!
//! In: nodes. Out: [`LabelSet`]. What is scraped may have any label, so only aggregations and matchings narrow it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::codes;
use super::walk::{Subject, called};
use crate::model::MatchOp;
use crate::promql::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Group, Kind, Node, ValueKind, VectorSelector};
use crate::rules::definition::AlertingRule;

/// The labels that series can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LabelSet {
    /// These at most.
    Only(BTreeSet<String>),
    /// Any but these.
    AllBut(BTreeSet<String>),
}

impl LabelSet {
    fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    fn any() -> Self {
        Self::AllBut(BTreeSet::new())
    }

    pub fn can_have(&self, label: &str) -> bool {
        match self {
            Self::Only(labels) => labels.contains(label),
            Self::AllBut(labels) => !labels.contains(label),
        }
    }

    /// The same and this one.
    fn with(mut self, label: &str) -> Self {
        match &mut self {
            Self::Only(labels) => drop(labels.insert(label.to_owned())),
            Self::AllBut(labels) => drop(labels.remove(label)),
        }
        self
    }

    pub fn without(mut self, label: &str) -> Self {
        match &mut self {
            Self::Only(labels) => drop(labels.remove(label)),
            Self::AllBut(labels) => drop(labels.insert(label.to_owned())),
        }
        self
    }

    /// Of these, those that the set has.
    pub fn of(&self, labels: &[String]) -> Self {
        Self::Only(labels.iter().filter(|label| self.can_have(label)).cloned().collect())
    }

    /// What either has.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a.union(&b).cloned().collect()),
            (Self::AllBut(a), Self::AllBut(b)) => Self::AllBut(a.intersection(&b).cloned().collect()),
            (Self::AllBut(lacks), Self::Only(has)) | (Self::Only(has), Self::AllBut(lacks)) => {
                Self::AllBut(lacks.difference(&has).cloned().collect())
            }
        }
    }
}

/// The labels that the node's result can have. The depth is bounded by the caller.
pub(super) fn of(node: &Node) -> LabelSet {
    match &node.kind {
        Kind::Number { .. } | Kind::Text(_) => LabelSet::none(),
        Kind::Selector(_) => LabelSet::any(),
        Kind::Subquery(subquery) => of(&subquery.inner),
        Kind::Paren(inner) | Kind::Unary { inner, .. } => of(inner),
        Kind::Aggregate(aggregate) => of_aggregate(aggregate),
        Kind::Binary(binary) => of_binary(binary),
        Kind::Call { args, .. } => of_call(node, args),
    }
}

fn of_aggregate(aggregate: &Aggregate) -> LabelSet {
    let inner = of(&aggregate.inner);
    use AggregateOp::{Bottomk, CountValues, LimitRatio, Limitk, Topk};
    match aggregate.op {
        Topk | Bottomk | Limitk | LimitRatio => return inner,
        _ => {}
    }
    let kept = match aggregate.without {
        true => aggregate.grouping.iter().fold(inner, |set, label| set.without(label)),
        false => inner.of(&aggregate.grouping),
    };
    match (aggregate.op, aggregate.param.as_ref().and_then(text)) {
        (CountValues, Some(label)) => kept.with(&label),
        (CountValues, None) => LabelSet::any(),
        _ => kept,
    }
}

fn of_binary(binary: &Binary) -> LabelSet {
    let is_vector = |node: &Node| node.value == ValueKind::Vector;
    let (left, right) = (of(&binary.left), of(&binary.right));
    match (is_vector(&binary.left), is_vector(&binary.right)) {
        (true, false) => return left,
        (false, true) => return right,
        (false, false) => return LabelSet::none(),
        (true, true) => {}
    }
    match binary.op {
        BinaryOp::And | BinaryOp::Unless => return left,
        BinaryOp::Or => return left.or(right),
        _ => {}
    }
    let matching = &binary.matching;
    let include = |set: LabelSet| matching.include.iter().fold(set, |set, label| set.with(label));
    match matching.group {
        Group::ManyToOne => include(left),
        Group::OneToMany => include(right),
        Group::OneToOne if matching.on => left.or(right).of(&matching.labels),
        Group::OneToOne => matching.labels.iter().fold(left, |set, label| set.without(label)),
    }
}

fn of_call(node: &Node, args: &[Node]) -> LabelSet {
    let first = || args.first().map_or_else(LabelSet::none, of);
    match called(node).unwrap_or_default() {
        "absent" | "absent_over_time" => match args.first().map(|arg| &arg.unwrapped().kind) {
            Some(Kind::Selector(selector)) => of_absent(selector),
            _ => LabelSet::none(),
        },
        "vector" | "scalar" | "time" | "pi" => LabelSet::none(),
        "label_replace" | "label_join" => match args.get(1).and_then(text) {
            Some(label) => first().with(&label),
            None => LabelSet::any(),
        },
        "histogram_quantile" => args.get(1).map_or_else(LabelSet::any, of).without("le"),
        "histogram_fraction" => args.get(2).map_or_else(LabelSet::any, of).without("le"),
        "quantile_over_time" => args.get(1).map_or_else(LabelSet::any, of),
        "info" => LabelSet::any(),
        _ => first(),
    }
}

/// The labels that `absent` can tell: those it is told.
fn of_absent(selector: &VectorSelector) -> LabelSet {
    let told = selector.matchers.iter().filter(|m| m.op == MatchOp::Equal && &*m.name != crate::model::METRIC_NAME);
    LabelSet::Only(told.map(|m| m.name.to_string()).collect())
}

fn text(node: &Node) -> Option<String> {
    match &node.unwrapped().kind {
        Kind::Text(text) => Some(text.value.clone()),
        _ => None,
    }
}

/// Texts of an alert that name labels which the expression has dropped.
pub(super) fn templates(subject: &mut Subject<'_>, rule: &AlertingRule) {
    let set = of(rule.expr.root());
    let mut missing: BTreeSet<(String, String)> = BTreeSet::new();
    for (name, text) in rule.labels.iter().chain(&rule.annotations) {
        let missed = labels_named(text.written()).into_iter().filter(|label| !set.can_have(label));
        missing.extend(missed.map(|label| (label, name.clone())));
    }
    for (label, place) in missing {
        let has = match &set {
            LabelSet::Only(labels) if labels.is_empty() => "none".to_owned(),
            LabelSet::Only(labels) => labels.iter().cloned().collect::<Vec<_>>().join(", "),
            LabelSet::AllBut(labels) => format!("all but {}", labels.iter().cloned().collect::<Vec<_>>().join(", ")),
        };
        let message = format!(
            "`{place}` names the label {label}, which the expression drops, so the text has a hole there; labels of the result: {has}"
        );
        subject.report(codes::TEMPLATE_LABEL, message, None);
    }
}

/// Labels of the sample that a text names. In a text with queries `.Labels` may be those of another sample.
fn labels_named(text: &str) -> BTreeSet<String> {
    static NAMED: LazyLock<[Option<Regex>; 2]> = LazyLock::new(|| {
        [r#"\$labels\.([A-Za-z_][A-Za-z0-9_]*)|index\s+\$labels\s+"([^"]+)""#, r"\$?\.Labels\.([A-Za-z_][A-Za-z0-9_]*)"]
            .map(|pattern| Regex::new(pattern).ok())
    });
    if !text.contains("{{") {
        return BTreeSet::new();
    }
    let own = !["range", "query", "with"].iter().any(|word| text.contains(word));
    let of = |regex: &Regex| -> Vec<String> {
        let found = regex.captures_iter(text);
        found.filter_map(|c| c.get(1).or_else(|| c.get(2))).map(|m| m.as_str().to_owned()).collect()
    };
    let mut named: BTreeSet<String> = NAMED[0].iter().flat_map(of).collect();
    if own {
        named.extend(NAMED[1].iter().flat_map(of));
    }
    named
}
