//! Prints expressions as Prometheus prints them: on one line (`Expr.String()`) and over several (`Expr.Pretty()`).
//!
//! Invariant: what is printed parses to the same tree. In one place that parts from Prometheus 3.5, which loses
//! `group_right` after an empty `ignoring ()`: we keep it, since the text would mean something else.

use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use super::ast::{Aggregate, At, Binary, BinaryOp, Group, Kind, Matching, Node, Subquery, VectorSelector, Written};
use super::lex::{is_plain_label, quote};
use crate::model::{METRIC_NAME, MatchOp, Matcher};
use crate::units::PromDuration;

/// Lines of more bytes are split.
const LINE_WIDTH: usize = 100;
/// What lies deeper is printed on one line: each operator of a chain indents those before it once more.
const LEVELS_MAX: usize = 192;

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Number { value, is_duration: true } if *value < 0.0 => write!(f, "-{}", seconds(-value)),
            Kind::Number { value, is_duration: true } => write!(f, "{}", seconds(*value)),
            Kind::Number { value, .. } => f.write_str(&plain_number(*value)),
            Kind::Text(text) => f.write_str(&text.quoted()),
            Kind::Selector(selector) => selector.fmt(f),
            Kind::Subquery(subquery) => write!(f, "{}{}", subquery.inner, time_suffix(subquery)),
            Kind::Paren(inner) => write!(f, "({inner})"),
            Kind::Unary { negative, inner } => write!(f, "{}{inner}", sign(*negative)),
            Kind::Binary(_) => {
                let (first, links) = self.chain();
                match (&first.kind, links.first()) {
                    // A sign would stand before the power, which binds closer (Prometheus prints it there).
                    (Kind::Number { value, is_duration: false }, Some((_, link)))
                        if *value == f64::INFINITY && link.op == BinaryOp::Pow =>
                    {
                        f.write_str("Inf")?;
                    }
                    _ => first.fmt(f)?,
                }
                links.iter().try_for_each(|(_, binary)| write!(f, " {} {}", operator(binary), binary.right))
            }
            Kind::Aggregate(aggregate) => {
                write!(f, "{}(", aggregation(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.inner)
            }
            Kind::Call { function, args } => {
                write!(f, "{}(", function.name)?;
                for (i, arg) in written(args).enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
        }
    }
}

/// Arguments that the query has; the one that `info(v)` implies has no place in it.
fn written(args: &[Node]) -> impl Iterator<Item = &Node> {
    args.iter().filter(|arg| arg.span.start < arg.span.end)
}

/// A number without exponent, as Go's `FormatFloat(v, 'f', -1, 64)`.
pub(super) fn plain_number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

pub(super) fn seconds(value: f64) -> PromDuration {
    millis((value * 1000.0).round() as i64)
}

fn millis(ms: i64) -> PromDuration {
    PromDuration::from(Duration::from_millis(ms.unsigned_abs()))
}

fn sign(negative: bool) -> &'static str {
    if negative { "-" } else { "+" }
}

fn modifiers(at: Option<At>, offset_ms: i64, written: Option<&Written>) -> String {
    let mut out = match at {
        Some(At::Start) => " @ start()".to_owned(),
        Some(At::End) => " @ end()".to_owned(),
        Some(At::Millis(ms)) => format!(" @ {:.3}", ms as f64 / 1000.0),
        None => String::new(),
    };
    if let Some(offset) = written.and_then(|written| written.offset.as_deref()) {
        out.push_str(&format!(" offset {offset}"));
    } else if offset_ms != 0 {
        let sign = if offset_ms < 0 { "-" } else { "" };
        out.push_str(&format!(" offset {sign}{}", millis(offset_ms)));
    }
    out
}

fn time_suffix(subquery: &Subquery) -> String {
    let written = subquery.written.as_deref();
    let printed = |text: Option<&String>, ms: i64| text.cloned().unwrap_or_else(|| millis(ms).to_string());
    let range = printed(written.and_then(|written| written.range.as_ref()), subquery.range_ms);
    let step = subquery.step_ms.map(|ms| printed(written.and_then(|written| written.step.as_ref()), ms));
    let modifiers = modifiers(subquery.at, subquery.offset_ms, written);
    format!("[{range}:{}]{modifiers}", step.unwrap_or_default())
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            f.write_str(name)?;
        }
        let is_name = |matcher: &&Matcher| {
            !(matcher.op == MatchOp::Equal
                && &*matcher.name == METRIC_NAME
                && self.name.as_deref() == Some(&*matcher.value))
        };
        let mut printed: Vec<String> = self.matchers.iter().filter(is_name).map(print_matcher).collect();
        printed.sort_unstable();
        if !printed.is_empty() {
            write!(f, "{{{}}}", printed.join(","))?;
        }
        let written = self.written.as_deref();
        match (written.and_then(|written| written.range.as_deref()), self.range_ms) {
            (Some(range), _) => write!(f, "[{range}]")?,
            (None, Some(range_ms)) => write!(f, "[{}]", millis(range_ms))?,
            (None, None) => {}
        }
        f.write_str(&modifiers(self.at, self.offset_ms, written))
    }
}

fn print_matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", print_label(&matcher.name), matcher.op.as_str(), quote(&matcher.value))
}

fn print_label(name: &str) -> String {
    if is_plain_label(name) { name.to_owned() } else { quote(name) }
}

fn print_labels(names: &[String]) -> String {
    names.iter().map(|name| print_label(name)).collect::<Vec<_>>().join(", ")
}

fn operator(binary: &Binary) -> String {
    let Matching { on, labels, group, include } = &binary.matching;
    let mut out = binary.op.as_str().to_owned();
    if binary.return_bool {
        out.push_str(" bool");
    }
    if *on || !labels.is_empty() || *group != Group::OneToOne {
        let word = if *on { "on" } else { "ignoring" };
        out.push_str(&format!(" {word} ({})", print_labels(labels)));
    }
    match group {
        Group::OneToOne => {}
        Group::ManyToOne => out.push_str(&format!(" group_left ({})", print_labels(include))),
        Group::OneToMany => out.push_str(&format!(" group_right ({})", print_labels(include))),
    }
    out
}

fn aggregation(aggregate: &Aggregate) -> String {
    let op = aggregate.op.as_str();
    match (aggregate.without, aggregate.grouping.as_slice()) {
        (true, labels) => format!("{op} without ({}) ", print_labels(labels)),
        (false, []) => op.to_owned(),
        (false, labels) => format!("{op} by ({}) ", print_labels(labels)),
    }
}

/// Over several lines where one would be too long.
pub(super) fn pretty(node: &Node) -> String {
    let mut out = String::new();
    pretty_into(node, 0, &mut out);
    out
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn pretty_into(node: &Node, level: usize, out: &mut String) {
    let line = node.to_string();
    let too_deep = level + node.chain().1.len() > LEVELS_MAX;
    if too_deep || line.len() <= LINE_WIDTH {
        // Prometheus does not indent a subquery that fits.
        if !matches!(node.kind, Kind::Subquery(_)) {
            indent(level, out);
        }
        out.push_str(&line);
        return;
    }
    match &node.kind {
        Kind::Number { .. } | Kind::Text(_) | Kind::Selector(_) => {
            indent(level, out);
            out.push_str(&line);
        }
        Kind::Subquery(subquery) => {
            pretty_into(&subquery.inner, level, out);
            out.push_str(&time_suffix(subquery));
        }
        Kind::Paren(inner) => pretty_block("", std::slice::from_ref(&**inner).iter(), level, out),
        Kind::Unary { negative, inner } => {
            let mut child = String::new();
            pretty_into(inner, level, &mut child);
            indent(level, out);
            out.push_str(sign(*negative));
            out.push_str(child.trim_start());
        }
        Kind::Binary(binary) => {
            pretty_into(&binary.left, level + 1, out);
            out.push('\n');
            indent(level, out);
            let _ = writeln!(out, "{}", operator(binary));
            pretty_into(&binary.right, level + 1, out);
        }
        Kind::Aggregate(aggregate) => {
            let args = aggregate.param.iter().chain(std::iter::once(&aggregate.inner));
            pretty_block(&aggregation(aggregate), args, level, out);
        }
        Kind::Call { function, args } => pretty_block(function.name, written(args), level, out),
    }
}

fn pretty_block<'a>(head: &str, args: impl Iterator<Item = &'a Node>, level: usize, out: &mut String) {
    indent(level, out);
    out.push_str(head);
    out.push_str("(\n");
    for (i, arg) in args.enumerate() {
        if i > 0 {
            out.push_str(",\n");
        }
        pretty_into(arg, level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push(')');
}
