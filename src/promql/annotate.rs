//! Warnings and infos of an evaluation, each once, with the place they are about.

use std::collections::HashSet;

use super::ast::Span;
use super::error::line_and_column;

/// Most different texts of each sort that are kept; past it they are no longer collected.
const TEXT_LIMIT: usize = 100;

#[derive(Default)]
pub(super) struct Annotations {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
    seen: HashSet<String>,
}

impl Annotations {
    /// `PromQL warning: message (line:column)`.
    pub fn warn(&mut self, query: &str, message: String, span: Span) {
        let text = located(query, "PromQL warning: ", &message, span);
        self.add_warning(text);
    }

    /// `PromQL info: message (line:column)`.
    pub fn inform(&mut self, query: &str, message: String, span: Span) {
        let text = located(query, "PromQL info: ", &message, span);
        if self.infos.len() < TEXT_LIMIT && self.seen.insert(text.clone()) {
            self.infos.push(text);
        }
    }

    /// A warning that is complete as it is (a store's).
    pub fn add_warning(&mut self, text: String) {
        if self.warnings.len() < TEXT_LIMIT && self.seen.insert(text.clone()) {
            self.warnings.push(text);
        }
    }
}

fn located(query: &str, prefix: &str, message: &str, span: Span) -> String {
    let (line, column) = line_and_column(query, span.start);
    format!("{prefix}{message} ({line}:{column})")
}

/// A number as Go's `%g` and `%v` print it: the fewest digits, with an exponent from a million on.
pub(super) fn short_number(value: f64) -> String {
    if value.is_nan() || value.is_infinite() {
        return super::value::format_value(value);
    }
    let text = format!("{value:e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    if power.parse().is_ok_and(|power| (-4..6).contains(&power)) {
        return value.to_string();
    }
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}
