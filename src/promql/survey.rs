//! Locates and validates: one pass over the tokens that finds every syntax and type error where Prometheus finds it,
//! and notes place, leaves and type of every node.
//!
//! In: query text. Out: [`Survey`]: one [`Fact`] for each node in the order in which the nodes end, and a plain form of
//! the query for `promql-parser`, in which every leaf is a placeholder. So what that crate reads differently (`1_000`,
//! RE2 expressions, `info(x, {…})`, string escapes, over-long numbers) never reaches it, and it has the last word only
//! on the shape of the tree. Error texts are those of `promql/parser/{generated_parser.y,parse.go}`.

use super::ast::{AggregateOp, At, BinaryOp, Span, Text, ValueKind};
use super::error::ParseError;
use super::functions::{self, Function, Rule};
use super::lex::{self, Keyword, Kind, Token};
use crate::model::{METRIC_NAME, MatchOp, Matcher, RegexError};
use crate::units::PromDuration;

/// Deepest tree that is accepted; the evaluator recurses once for each level.
const DEPTH_LIMIT: usize = 192;

/// What was noted of one node.
#[derive(Debug)]
pub(super) struct Fact {
    pub span: Span,
    pub value: ValueKind,
    pub leaf: Leaf,
}

/// What the plain form of the query does not say about a node.
#[derive(Debug)]
pub(super) enum Leaf {
    /// Parentheses, binary operator, aggregation: the tree says all.
    Tree,
    Number(f64, bool),
    Text(Text),
    Selector { name: Option<String>, matchers: Vec<Matcher>, range_ms: Option<i64>, time: Time },
    Subquery { range_ms: i64, step_ms: Option<i64>, time: Time },
    Unary { negative: bool },
    Call(&'static Function),
}

/// `offset` and `@` of a selector or subquery.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Time {
    pub offset_ms: Option<i64>,
    pub at: Option<At>,
}

/// What the pass found.
#[derive(Debug)]
pub(super) struct Survey {
    pub facts: Vec<Fact>,
    pub plain: String,
    /// The first use of something that Prometheus has behind `--enable-feature=promql-experimental-functions`.
    pub experimental: Option<ParseError>,
}

/// Surveys `query`.
///
/// # Errors
/// The first error, as Prometheus words it.
pub(super) fn survey(query: &str) -> Result<Survey, ParseError> {
    let tokens = lex::tokens(query);
    let mut surveyor = Surveyor {
        query,
        tokens,
        next: 0,
        facts: Vec::new(),
        plain: String::with_capacity(query.len()),
        type_errors: Vec::new(),
        experimental: None,
        in_aggregation: 0,
        depth: 0,
    };
    if surveyor.peek().kind == Kind::End {
        return Err(ParseError::new(query, 0, "no expression found in input"));
    }
    surveyor.expression(0)?;
    if surveyor.peek().kind != Kind::End {
        return Err(surveyor.unexpected("", ""));
    }
    match surveyor.type_errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(Survey { facts: surveyor.facts, plain: surveyor.plain, experimental: surveyor.experimental }),
    }
}

struct Surveyor<'a> {
    query: &'a str,
    tokens: Vec<Token>,
    next: usize,
    facts: Vec<Fact>,
    plain: String,
    /// Reported only when there is no syntax error.
    type_errors: Vec<ParseError>,
    experimental: Option<ParseError>,
    in_aggregation: usize,
    depth: usize,
}

/// One surveyed expression; its fact is the last one when it is returned.
#[derive(Clone, Copy)]
struct Part {
    span: Span,
    value: ValueKind,
    height: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl Surveyor<'_> {
    // === tokens ===

    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn take_if(&mut self, kind: &Kind) -> Option<Token> {
        (self.peek().kind == *kind).then(|| self.take())
    }

    fn text(&self, token: &Token) -> &str {
        &self.query[token.start..token.end]
    }

    /// The end of the last token taken.
    fn last_end(&self) -> usize {
        self.next.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, |token| token.end)
    }

    fn error(&self, at: usize, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, at, message)
    }

    /// The next token does not fit.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.peek();
        if let Kind::Error(message) = &token.kind {
            return self.error(token.start, message.clone());
        }
        let context = if context.is_empty() && self.in_aggregation > 0 { "aggregation" } else { context };
        let mut message = format!("unexpected {}", token.describe(self.query));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.error(token.start, message)
    }

    fn expect(&mut self, kind: &Kind, context: &str, expected: &str) -> Parsed<Token> {
        self.take_if(kind).ok_or_else(|| self.unexpected(context, expected))
    }

    fn type_error(&mut self, at: usize, message: impl Into<String>) {
        let error = self.error(at, message);
        self.type_errors.push(error);
    }

    fn emit(&mut self, span: Span, value: ValueKind, height: usize, leaf: Leaf) -> Parsed<Part> {
        if height > DEPTH_LIMIT {
            return Err(self.error(span.start, format!("expression is nested deeper than {DEPTH_LIMIT} levels")));
        }
        self.facts.push(Fact { span, value, leaf });
        Ok(Part { span, value, height })
    }

    fn plain(&mut self, text: &str) {
        self.plain.push(' ');
        self.plain.push_str(text);
    }

    // === expressions ===

    /// An expression of operators that bind at least as tight as `least`.
    fn expression(&mut self, least: u8) -> Parsed<Part> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            let at = self.peek().start;
            return Err(self.error(at, format!("expression is nested deeper than {DEPTH_LIMIT} levels")));
        }
        let mut left = self.unary()?;
        while let Kind::Operator(op) = self.peek().kind {
            if op.precedence() < least {
                break;
            }
            left = self.binary(left, op)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Part> {
        let sign = match self.peek().kind {
            Kind::Operator(BinaryOp::Sub) => true,
            Kind::Operator(BinaryOp::Add) => false,
            _ => {
                let primary = self.primary()?;
                return self.postfix(primary);
            }
        };
        let start = self.take().start;
        self.plain("-");
        let inner = self.expression(BinaryOp::Pow.precedence())?;
        let span = Span { start, end: inner.span.end };
        if let Some(Fact { leaf: Leaf::Number(value, _), span: place, .. }) = self.facts.last_mut() {
            if sign {
                *value = -*value;
            }
            *place = span;
            return Ok(Part { span, ..inner });
        }
        if !matches!(inner.value, ValueKind::Scalar | ValueKind::Vector) {
            self.type_error(
                start,
                format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    lex::quote(inner.value.documented())
                ),
            );
        }
        self.emit(span, inner.value, inner.height + 1, Leaf::Unary { negative: sign })
    }

    fn binary(&mut self, left: Part, op: BinaryOp) -> Parsed<Part> {
        let operator = self.take();
        self.plain(op.as_str());
        let return_bool = self.take_if(&Kind::Keyword(Keyword::Bool)).is_some();
        if return_bool {
            self.plain("bool");
        }
        let matching = self.matching()?;
        let least = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
        let right = self.expression(least)?;
        self.check_binary(op, operator.start, (left, right), return_bool, &matching);
        let scalar = left.value == ValueKind::Scalar && right.value == ValueKind::Scalar;
        let value = if scalar { ValueKind::Scalar } else { ValueKind::Vector };
        let span = Span { start: left.span.start, end: right.span.end };
        self.emit(span, value, left.height.max(right.height) + 1, Leaf::Tree)
    }

    fn matching(&mut self) -> Parsed<Matching> {
        let mut matching = Matching::default();
        match self.peek().kind {
            Kind::Keyword(Keyword::On) => matching.on = true,
            Kind::Keyword(Keyword::Ignoring) => {}
            _ => return Ok(matching),
        }
        self.next += 1;
        self.plain(if matching.on { "on" } else { "ignoring" });
        matching.labels = self.grouping_labels()?;
        let group = match self.peek().kind {
            Kind::Keyword(Keyword::GroupLeft) => "group_left",
            Kind::Keyword(Keyword::GroupRight) => "group_right",
            _ => return Ok(matching),
        };
        self.next += 1;
        self.plain(group);
        matching.grouped = true;
        if self.peek().kind == Kind::LeftParen {
            matching.include = self.grouping_labels()?;
        } else {
            self.plain("()");
        }
        Ok(matching)
    }

    fn check_binary(
        &mut self,
        op: BinaryOp,
        at: usize,
        (left, right): (Part, Part),
        return_bool: bool,
        matching: &Matching,
    ) {
        use ValueKind::{Scalar, Vector};
        let whole = left.span.start;
        if return_bool && !op.is_comparison() {
            self.type_error(at, "bool modifier can only be used on comparison operators");
        }
        if op.is_comparison() && !return_bool && left.value == Scalar && right.value == Scalar {
            self.type_error(at, "comparisons between scalars must use BOOL modifier");
        }
        if let Some(label) = matching.labels.iter().find(|label| matching.on && matching.include.contains(label)) {
            let label = lex::quote(label);
            self.type_error(at, format!("label {label} must not occur in ON and GROUP clause at once"));
        }
        for side in [left, right] {
            if !matches!(side.value, Scalar | Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                self.type_error(side.span.start, message);
            }
        }
        let vectors = left.value == Vector && right.value == Vector;
        if !vectors && !matching.labels.is_empty() {
            self.type_error(whole, "vector matching only allowed between instant vectors");
        }
        let op_text = lex::quote(op.as_str());
        if vectors && op.is_set() && matching.grouped {
            self.type_error(whole, format!("no grouping allowed for {op_text} operation"));
        }
        if op.is_set() && (left.value == Scalar || right.value == Scalar) {
            self.type_error(whole, format!("set operator {op_text} not allowed in binary scalar expression"));
        }
    }

    fn primary(&mut self) -> Parsed<Part> {
        let token = self.peek().clone();
        let span = Span { start: token.start, end: token.end };
        let calls = self.tokens.get(self.next + 1).is_some_and(|token| token.kind == Kind::LeftParen);
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.next += 1;
                self.plain("1");
                let value = self.number(&token)?;
                self.emit(span, ValueKind::Scalar, 1, Leaf::Number(value, token.kind == Kind::Duration))
            }
            Kind::Text => {
                self.next += 1;
                self.plain("\"\"");
                let text = Text::from_bytes(lex::unquote(self.text(&token)));
                self.emit(span, ValueKind::String, 1, Leaf::Text(text))
            }
            Kind::LeftParen => self.parenthesized(),
            Kind::Aggregator(op) if self.aggregation_follows() => self.aggregate(op),
            Kind::Aggregator(_) if !self.selector_follows() => {
                self.next += 1;
                Err(self.unexpected("aggregation", ""))
            }
            Kind::Identifier if calls => self.call(),
            Kind::LeftBrace => self.selector(None),
            Kind::Identifier
            | Kind::MetricIdentifier
            | Kind::Aggregator(_)
            | Kind::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
            | Kind::Keyword(Keyword::By | Keyword::Without | Keyword::Offset | Keyword::Start | Keyword::End) => {
                self.next += 1;
                let name = self.text(&token).to_owned();
                self.selector(Some((name, token.start)))
            }
            _ => Err(self.unexpected("", "")),
        }
    }

    fn aggregation_follows(&self) -> bool {
        self.tokens.get(self.next + 1).is_some_and(|token| {
            matches!(token.kind, Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without))
        })
    }

    /// Whether an aggregation word is used as a metric name: something follows it that may follow a selector.
    fn selector_follows(&self) -> bool {
        self.tokens.get(self.next + 1).is_none_or(|token| {
            !matches!(
                token.kind,
                Kind::Identifier
                    | Kind::MetricIdentifier
                    | Kind::Number
                    | Kind::Duration
                    | Kind::Text
                    | Kind::Aggregator(_)
            )
        })
    }

    fn number(&self, token: &Token) -> Parsed<f64> {
        let text = self.text(token);
        if token.kind == Kind::Duration {
            return self.duration_ms(token).map(|ms| ms as f64 / 1000.0);
        }
        let syntax = || format!("error parsing number: strconv.ParseFloat: parsing {}: invalid syntax", lex::quote(text));
        lex::number_value(text).ok_or_else(|| self.error(token.start, syntax()))
    }

    fn duration_ms(&self, token: &Token) -> Parsed<i64> {
        let text = self.text(token);
        let duration: PromDuration = text.parse().map_err(|_| {
            let digits_long = text.bytes().filter(u8::is_ascii_digit).count() > 9;
            let message = if digits_long { "duration out of range".to_owned() } else { bad_duration(text) };
            self.error(token.start, message)
        })?;
        if duration.get().as_nanos() > i64::MAX as u128 {
            return Err(self.error(token.start, "duration out of range"));
        }
        Ok(duration.as_millis())
    }

    fn parenthesized(&mut self) -> Parsed<Part> {
        let start = self.take().start;
        self.plain("(");
        // An error inside plain parentheses is reported by the innermost aggregation, if any: nothing to note.
        let inner = self.expression(0)?;
        let end = self.expect(&Kind::RightParen, "", "")?.end;
        self.plain(")");
        self.emit(Span { start, end }, inner.value, inner.height + 1, Leaf::Tree)
    }

    // === calls and aggregations ===

    /// `(a, b)`; the place of the first is known to the caller.
    fn arguments(&mut self) -> Parsed<Vec<Part>> {
        self.expect(&Kind::LeftParen, "", "")?;
        self.plain("(");
        let mut parts = Vec::new();
        while self.peek().kind != Kind::RightParen {
            parts.push(self.expression(0)?);
            let comma = self.peek().clone();
            if comma.kind != Kind::Comma {
                break;
            }
            self.next += 1;
            self.plain(",");
            if self.peek().kind == Kind::RightParen {
                return Err(self.error(comma.start, "trailing commas not allowed in function call args"));
            }
        }
        self.expect(&Kind::RightParen, "", "")?;
        self.plain(")");
        Ok(parts)
    }

    fn call(&mut self) -> Parsed<Part> {
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
        if function.experimental && self.experimental.is_none() {
            let message = format!("function {} is not enabled", lex::quote(&name));
            self.experimental = Some(self.error(token.start, message));
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

    fn check_count(&mut self, function: &Function, at: usize, got: usize, mark: usize) {
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
    fn check_info(&mut self, args: &[Part], first_fact: usize) {
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

    fn aggregate(&mut self, op: AggregateOp) -> Parsed<Part> {
        let start = self.take().start;
        self.plain(op.as_str());
        self.in_aggregation += 1;
        let before = self.grouping()?;
        let args = self.arguments()?;
        self.in_aggregation -= 1;
        if !before {
            self.grouping()?;
        }
        let span = Span { start, end: self.last_end() };
        if args.is_empty() {
            return Err(self.error(start, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && self.experimental.is_none() {
            let text = op.as_str();
            let message = format!(
                "{text}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
            );
            self.experimental = Some(self.error(start, message));
        }
        let (want, got) = (1 + usize::from(op.parameter().is_some()), args.len());
        if want != got {
            let message =
                format!("wrong number of arguments for aggregate expression provided, expected {want}, got {got}");
            return Err(self.error(start, message));
        }
        self.expect_type(args[want - 1], ValueKind::Vector, "aggregation expression");
        if let Some(parameter) = op.parameter() {
            self.expect_type(args[0], parameter, "aggregation parameter");
        }
        let height = args.iter().map(|arg| arg.height).max().unwrap_or(0) + 1;
        self.emit(span, ValueKind::Vector, height, Leaf::Tree)
    }

    fn expect_type(&mut self, part: Part, want: ValueKind, context: &str) {
        if part.value != want {
            let (want, got) = (want.documented(), part.value.documented());
            self.type_error(part.span.start, format!("expected type {want} in {context}, got {got}"));
        }
    }

    /// `by (…)` or `without (…)`, when it follows.
    fn grouping(&mut self) -> Parsed<bool> {
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

    fn grouping_labels(&mut self) -> Parsed<Vec<String>> {
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

    // === selectors ===

    fn selector(&mut self, name: Option<(String, usize)>) -> Parsed<Part> {
        let start = name.as_ref().map_or(self.peek().start, |(_, at)| *at);
        let mut matchers = Vec::new();
        if self.peek().kind == Kind::LeftBrace {
            self.next += 1;
            self.matchers(&mut matchers)?;
        }
        let span = Span { start, end: self.last_end() };
        let name = name.map(|(name, _)| name);
        if let Some(name) = &name {
            if let Some(twice) = matchers.iter().find(|matcher| &*matcher.name == METRIC_NAME) {
                let (first, second) = (lex::quote(name), lex::quote(&twice.value));
                self.type_error(start, format!("metric name must not be set twice: {first} or {second}"));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name));
        } else if matchers.iter().all(Matcher::matches_empty) {
            self.type_error(start, EMPTY_SELECTOR);
        }
        self.plain("x");
        let leaf = Leaf::Selector { name, matchers, range_ms: None, time: Time::default() };
        self.emit(span, ValueKind::Vector, 1, leaf)
    }

    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<()> {
        const CONTEXT: &str = "label matching";
        loop {
            let token = self.peek().clone();
            let name = match token.kind {
                Kind::RightBrace => break,
                Kind::Identifier => self.text(&token).to_owned(),
                Kind::Text => Text::from_bytes(lex::unquote(self.text(&token))).value,
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            };
            self.next += 1;
            let op = match self.peek().kind {
                Kind::Equal => Some(MatchOp::Equal),
                Kind::Operator(BinaryOp::NotEqual) => Some(MatchOp::NotEqual),
                Kind::EqualRegex => Some(MatchOp::Regex),
                Kind::NotRegex => Some(MatchOp::NotRegex),
                _ => None,
            };
            match op {
                Some(op) => {
                    self.next += 1;
                    let value = self.expect(&Kind::Text, CONTEXT, "string")?;
                    let value = Text::from_bytes(lex::unquote(self.text(&value))).value;
                    let matcher = Matcher::new(op, &name, &value);
                    matchers.push(matcher.map_err(|error| self.error(token.start, regex_text(&error)))?);
                }
                None if token.kind == Kind::Text => matchers.push(Matcher::equal(METRIC_NAME, &name)),
                None => return Err(self.unexpected(CONTEXT, "label matching operator")),
            }
            if self.take_if(&Kind::Comma).is_none() && self.peek().kind != Kind::RightBrace {
                return Err(self.unexpected(CONTEXT, "\",\" or \"}\""));
            }
        }
        self.next += 1;
        Ok(())
    }

    /// `[range]`, `[range:step]`, `offset` and `@` after an expression.
    fn postfix(&mut self, mut part: Part) -> Parsed<Part> {
        loop {
            part = match self.peek().kind {
                Kind::LeftBracket => self.brackets(part)?,
                Kind::Keyword(Keyword::Offset) => self.offset(part)?,
                Kind::At => self.at(part)?,
                _ => return Ok(part),
            };
        }
    }

    fn brackets(&mut self, part: Part) -> Parsed<Part> {
        let bracket = self.take().start;
        let range_ms = self.positive_duration("subquery or range", "number, duration, or step()")?;
        if self.take_if(&Kind::Colon).is_some() {
            let step_ms = match self.peek().kind {
                Kind::RightBracket => None,
                _ => Some(self.positive_duration("subquery selector", "number, duration, or step()")?),
            };
            self.expect(&Kind::RightBracket, "subquery selector", "\"]\"")?;
            if part.value != ValueKind::Vector {
                let got = part.value.as_str();
                let message = format!("subquery is only allowed on instant vector, got {got} instead");
                self.type_error(part.span.start, message);
            }
            self.plain(if step_ms.is_some() { "[1s:1s]" } else { "[1s:]" });
            let leaf = Leaf::Subquery { range_ms, step_ms, time: Time::default() };
            let span = Span { start: part.span.start, end: self.last_end() };
            return self.emit(span, ValueKind::Matrix, part.height + 1, leaf);
        }
        self.expect(&Kind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let end = self.last_end();
        let message = match self.facts.last_mut() {
            Some(Fact { leaf: Leaf::Selector { range_ms: range @ None, time, .. }, span, value }) => {
                if time.offset_ms.is_some() {
                    "no offset modifiers allowed before range"
                } else if time.at.is_some() {
                    "no @ modifiers allowed before range"
                } else {
                    *range = Some(range_ms);
                    (span.end, *value) = (end, ValueKind::Matrix);
                    self.plain("[1s]");
                    let span = Span { start: part.span.start, end };
                    return Ok(Part { span, value: ValueKind::Matrix, ..part });
                }
            }
            _ => "ranges only allowed for vector selectors",
        };
        Err(self.error(bracket, message))
    }

    /// A duration or number of seconds, above zero, inside brackets.
    fn positive_duration(&mut self, context: &str, expected: &str) -> Parsed<i64> {
        let at = self.peek().start;
        let ms = self.signed_duration(context, expected)?;
        if matches!(self.peek().kind, Kind::Operator(_) | Kind::LeftParen) {
            return Err(self.error(at, "experimental duration expression is not enabled"));
        }
        if ms <= 0 {
            return Err(self.error(at, "duration must be greater than 0"));
        }
        Ok(ms)
    }

    fn signed_duration(&mut self, context: &str, expected: &str) -> Parsed<i64> {
        let mut sign = 1;
        if let Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek().kind {
            self.next += 1;
            sign = if op == BinaryOp::Sub { -1 } else { 1 };
        }
        let token = self.peek().clone();
        match token.kind {
            Kind::Duration => {
                self.next += 1;
                Ok(sign * self.duration_ms(&token)?)
            }
            Kind::Number => {
                self.next += 1;
                let seconds = self.number(&token)?;
                if !(seconds.abs() < i64::MAX as f64 / 1e9) {
                    return Err(self.error(token.start, "duration out of range"));
                }
                Ok(sign * (seconds * 1000.0) as i64)
            }
            Kind::LeftParen => Err(self.error(token.start, "experimental duration expression is not enabled")),
            _ => Err(self.unexpected(context, expected)),
        }
    }

    fn offset(&mut self, part: Part) -> Parsed<Part> {
        self.next += 1;
        let offset_ms = self.signed_duration("offset", "number or duration")?;
        let end = self.last_end();
        let message = match self.time_of_last() {
            Some((time, span)) if time.offset_ms.is_none() => {
                time.offset_ms = Some(offset_ms);
                span.end = end;
                return Ok(Part { span: Span { start: part.span.start, end }, ..part });
            }
            Some(_) => "offset may not be set multiple times",
            None => {
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"
            }
        };
        Err(self.error(part.span.start, message))
    }

    fn at(&mut self, part: Part) -> Parsed<Part> {
        self.next += 1;
        let at = self.at_time(part)?;
        let end = self.last_end();
        let message = match self.time_of_last() {
            Some((time, span)) if time.at.is_none() => {
                time.at = Some(at);
                span.end = end;
                return Ok(Part { span: Span { start: part.span.start, end }, ..part });
            }
            Some(_) => "@ <timestamp> may not be set multiple times",
            None => "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        };
        Err(self.error(part.span.start, message))
    }

    fn at_time(&mut self, part: Part) -> Parsed<At> {
        const WANT: &str = "timestamp";
        let mut sign = 1.0;
        if let Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek().kind {
            self.next += 1;
            sign = if op == BinaryOp::Sub { -1.0 } else { 1.0 };
        }
        let token = self.peek().clone();
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.next += 1;
                let seconds = sign * self.number(&token)?;
                if !(seconds.abs() < i64::MAX as f64 / 1000.0) {
                    let message = format!("timestamp out of bounds for @ modifier: {seconds:.6}");
                    return Err(self.error(part.span.start, message));
                }
                Ok(At::Millis((seconds * 1000.0).round() as i64))
            }
            Kind::Keyword(word @ (Keyword::Start | Keyword::End)) => {
                self.next += 1;
                self.expect(&Kind::LeftParen, "@", WANT)?;
                self.expect(&Kind::RightParen, "@", WANT)?;
                Ok(if word == Keyword::Start { At::Start } else { At::End })
            }
            _ => Err(self.unexpected("@", WANT)),
        }
    }

    /// The modifiers of the expression that ended last, when it takes any.
    fn time_of_last(&mut self) -> Option<(&mut Time, &mut Span)> {
        match self.facts.last_mut() {
            Some(Fact { leaf: Leaf::Selector { time, .. } | Leaf::Subquery { time, .. }, span, .. }) => Some((time, span)),
            _ => None,
        }
    }
}

const EMPTY_SELECTOR: &str = "vector selector must contain at least one non-empty matcher";

#[derive(Default)]
struct Matching {
    on: bool,
    labels: Vec<String>,
    grouped: bool,
    include: Vec<String>,
}

fn bad_duration(text: &str) -> String {
    format!("not a valid duration string: {}", lex::quote(text))
}

/// As Go words the common mistakes.
fn regex_text(error: &RegexError) -> String {
    let reason = match error.reason.as_str() {
        "unclosed group" => "missing closing )",
        "unopened group" => "unexpected )",
        "unclosed character class" => "missing closing ]",
        "repetition operator missing expression" => "missing argument to repetition operator",
        other => other,
    };
    format!("error parsing regexp: {reason}: `{}`", error.pattern)
}
