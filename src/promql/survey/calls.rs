//! Calls and aggregations: argument lists, counts, types, grouping labels.

use super::{EMPTY_SELECTOR, Leaf, Parsed, Part, Surveyor};
use crate::promql::ast::{AggregateOp, BinaryOp, Span, Text, ValueKind};
use crate::promql::functions::{self, Function, Rule};
use crate::promql::lex::{self, Keyword, Kind};

impl Surveyor<'_> {
    /// `(a, b)`; the place of the first is known to the caller.
    pub(super) fn arguments(&mut self) -> Parsed<Vec<Part>> {
        Ok(self.marked_arguments()?.0)
    }

    /// The arguments, and how many type errors there were when the first had been read.
    fn marked_arguments(&mut self) -> Parsed<(Vec<Part>, usize)> {
        self.expect(&Kind::LeftParen, "", "")?;
        self.plain("(");
        let (mut parts, mut mark) = (Vec::new(), self.type_errors.len());
        while self.peek().kind != Kind::RightParen {
            parts.push(self.expression(0)?);
            if parts.len() == 1 {
                mark = self.type_errors.len();
            }
            let comma = self.peek().clone();
            if comma.kind != Kind::Comma {
                break;
            }
            self.next += 1;
            self.plain(",");
            if !self.expression_follows() && !matches!(self.peek().kind, Kind::Error(_)) {
                return Err(self.error(comma.start, "trailing commas not allowed in function call args"));
            }
        }
        self.expect(&Kind::RightParen, "", "")?;
        self.plain(")");
        Ok((parts, mark))
    }

    pub(super) fn call(&mut self) -> Parsed<Part> {
        let token = self.take();
        let name = self.text(&token).to_owned();
        self.plain(&name);
        let mark = self.type_errors.len();
        let first_fact = self.facts.len();
        let args = self.arguments()?;
        let Some(function) = functions::find(&name) else {
            let message = format!("unknown function with name {}", lex::quote(&name));
            return Err(self.error(token.start, message));
        };
        if function.experimental {
            self.needs_experimental(token.start, format!("function {} is not enabled", lex::quote(&name)))?;
        }
        self.check_count(function, token.start, args.len(), mark);
        if function.rule == Rule::Info {
            self.check_info(&args, first_fact);
        }
        for (i, arg) in args.iter().enumerate() {
            let Some(want) = function.args.get(i).or(function.args.last().filter(|_| function.variadic != 0)) else {
                break;
            };
            if arg.value != *want {
                let (want, got) = (want.documented(), arg.value.documented());
                let message =
                    format!("expected type {want} in call to function {}, got {got}", lex::quote(function.name));
                self.type_error(arg.span.start, message);
            }
        }
        let height = args.iter().map(|arg| arg.height).max().unwrap_or(0) + 1;
        let span = Span { start: token.start, end: self.last_end() };
        self.emit(span, function.returns, height, Leaf::Call(function))
    }

    pub(super) fn check_count(&mut self, function: &Function, at: usize, got: usize, mark: usize) {
        let (listed, name) = (function.args.len(), lex::quote(function.name));
        let message = if function.variadic == 0 {
            (listed != got).then(|| format!("expected {listed} argument(s) in call to {name}, got {got}"))
        } else if listed - 1 > got {
            Some(format!("expected at least {} argument(s) in call to {name}, got {got}", listed - 1))
        } else {
            let most = listed - 1 + function.variadic.max(0) as usize;
            (function.variadic > 0 && most < got)
                .then(|| format!("expected at most {most} argument(s) in call to {name}, got {got}"))
        };
        if let Some(message) = message {
            let error = self.error(at, message);
            self.type_errors.insert(mark, error);
        }
    }

    /// The second argument of `info` is label matchers only, and may match everything.
    pub(super) fn check_info(&mut self, args: &[Part], first_fact: usize) {
        let Some(second) = args.get(1).copied() else { return };
        let fact = self.facts[first_fact..].iter().rfind(|fact| fact.span == second.span);
        match fact.map(|fact| &fact.leaf) {
            Some(Leaf::Selector { name: None, .. }) => {
                let place = self.error(second.span.start, EMPTY_SELECTOR);
                self.type_errors.retain(|error| *error != place);
            }
            Some(Leaf::Selector { .. }) => {
                self.type_error(second.span.start, "expected label selectors only, got vector selector instead");
            }
            _ => self.type_error(second.span.start, "expected label selectors only"),
        }
    }

    pub(super) fn aggregate(&mut self, op: AggregateOp) -> Parsed<Part> {
        let start = self.take().start;
        self.plain(op.as_str());
        self.in_aggregation += 1;
        let before = self.grouping()?;
        let first_error = self.type_errors.len();
        let (args, mark) = self.marked_arguments()?;
        self.in_aggregation -= 1;
        // To know whether a grouping follows Prometheus has read on by now.
        if !before && !self.grouping()? && matches!(self.peek().kind, Kind::Error(_)) {
            return Err(self.unexpected("", ""));
        }
        let span = Span { start, end: self.last_end() };
        if args.is_empty() {
            return Err(self.error(start, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() {
            let text = op.as_str();
            let message = format!(
                "{text}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
            );
            self.needs_experimental(start, message)?;
        }
        let (want, got) = (1 + usize::from(op.parameter().is_some()), args.len());
        if want != got {
            let message =
                format!("wrong number of arguments for aggregate expression provided, expected {want}, got {got}");
            return Err(self.error(start, message));
        }
        // Types are checked of the expression first, then of the parameter.
        let of_expression = if want > 1 { self.type_errors.split_off(mark) } else { Vec::new() };
        let of_parameter = if want > 1 { self.type_errors.split_off(first_error) } else { Vec::new() };
        self.type_errors.extend(of_expression);
        self.expect_type(args[want - 1], ValueKind::Vector, "aggregation expression");
        self.type_errors.extend(of_parameter);
        if let Some(parameter) = op.parameter() {
            self.expect_type(args[0], parameter, "aggregation parameter");
        }
        let height = args.iter().map(|arg| arg.height).max().unwrap_or(0) + 1;
        self.emit(span, ValueKind::Vector, height, Leaf::Tree)
    }

    pub(super) fn expect_type(&mut self, part: Part, want: ValueKind, context: &str) {
        if part.value != want {
            let (want, got) = (want.documented(), part.value.documented());
            self.type_error(part.span.start, format!("expected type {want} in {context}, got {got}"));
        }
    }

    /// `by (…)` or `without (…)`, when it follows.
    pub(super) fn grouping(&mut self) -> Parsed<bool> {
        let word = match self.peek().kind {
            Kind::Keyword(Keyword::By) => "by",
            Kind::Keyword(Keyword::Without) => "without",
            _ => return Ok(false),
        };
        self.next += 1;
        self.plain(word);
        self.grouping_labels()?;
        Ok(true)
    }

    pub(super) fn grouping_labels(&mut self) -> Parsed<Vec<String>> {
        self.expect(&Kind::LeftParen, "grouping opts", "\"(\"")?;
        self.plain("(");
        let mut labels = Vec::new();
        while self.peek().kind != Kind::RightParen {
            let token = self.peek().clone();
            let label = match token.kind {
                Kind::Text => Text::from_bytes(lex::unquote(self.text(&token))).value,
                Kind::Identifier
                | Kind::Keyword(_)
                | Kind::Aggregator(_)
                | Kind::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::Atan2) => {
                    self.text(&token).to_owned()
                }
                _ => return Err(self.unexpected("grouping opts", "label")),
            };
            self.next += 1;
            self.plain(&lex::quote(&label));
            labels.push(label);
            if self.take_if(&Kind::Comma).is_some() {
                self.plain(",");
            } else if self.peek().kind != Kind::RightParen {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
        self.next += 1;
        self.plain(")");
        Ok(labels)
    }
}
