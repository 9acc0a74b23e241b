//! Locates and validates: one pass over the tokens that finds every syntax and type error where Prometheus finds it,
//! and notes place, leaves and type of every node.
//!
//! In: query text. Out: [`Survey`]: one [`Fact`] for each node in the order in which the nodes end, and a plain form of
//! the query for `promql-parser`, in which every leaf is a placeholder. So what that crate reads differently (`1_000`,
//! RE2 expressions, `info(x, {…})`, string escapes, over-long numbers) never reaches it, and it has the last word only
//! on the shape of the tree. Error texts are those of `promql/parser/{generated_parser.y,parse.go}`.

mod calls;
mod durations;
mod selectors;

use super::ast::{At, BinaryOp, Span, Text, ValueKind};
use super::error::ParseError;
use super::functions::Function;
use super::lex::{self, Keyword, Kind, Token};
use crate::model::Matcher;
use crate::units::PromDuration;

/// Deepest tree that is accepted; the evaluator recurses once for each level. Chains of operators are no levels.
const DEPTH_LIMIT: usize = 192;
/// Operators of a chain that `promql-parser` is given at a time: its tree recurses once for each.
const PIECE_LENGTH: usize = 64;

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
    Selector {
        name: Option<String>,
        matchers: Vec<Matcher>,
        range: Option<Length>,
        time: Time,
    },
    Subquery {
        range: Length,
        step: Option<Length>,
        time: Time,
    },
    Unary {
        negative: bool,
    },
    Call(&'static Function),
    /// What [`Survey::pieces`] holds there.
    Piece(usize),
}

/// The beginning of a long chain of operators, cut off so that no text of many levels is left.
#[derive(Debug)]
pub(super) struct Piece {
    /// Of all nodes in it, those of earlier pieces excepted.
    pub facts: Vec<Fact>,
    pub plain: String,
}

/// `offset` and `@` of a selector or subquery.
#[derive(Clone, Debug, Default)]
pub(super) struct Time {
    pub offset: Option<Length>,
    pub at: Option<At>,
}

/// What the pass found.
#[derive(Debug)]
pub(super) struct Survey {
    /// Each may refer to earlier ones.
    pub pieces: Vec<Piece>,
    /// All the rest, which may refer to pieces.
    pub whole: Piece,
    /// The first use of something that Prometheus has behind `--enable-feature=promql-experimental-functions`.
    pub experimental: Option<ParseError>,
    /// What is behind other flags, and wrong behind them.
    pub durations: Durations,
}

/// Arithmetic on durations in a query.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// The first use, as the error it is where that is not enabled.
    pub used: Option<ParseError>,
    /// The first syntax error in one, for where they are enabled.
    pub invalid: Option<ParseError>,
    /// The first that comes to a length which cannot be: found when the query is run.
    pub unusable: Option<String>,
}

/// Surveys `query`. With `experimental` an experimental function is noted, else it is an error where it stands.
///
/// # Errors
/// The first error, as Prometheus words it.
pub(super) fn survey(query: &str, experimental: bool) -> Result<Survey, ParseError> {
    let tokens = lex::tokens(query);
    let mut surveyor = Surveyor {
        query,
        tokens,
        next: 0,
        pieces: Vec::new(),
        facts: Vec::new(),
        plain: String::with_capacity(query.len()),
        type_errors: Vec::new(),
        experimental: None,
        experimental_enabled: experimental,
        durations: None,
        invalid: None,
        unusable: None,
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
        None => Ok(Survey {
            pieces: surveyor.pieces,
            whole: Piece { facts: surveyor.facts, plain: surveyor.plain },
            experimental: surveyor.experimental,
            durations: Durations { used: surveyor.durations, invalid: surveyor.invalid, unusable: surveyor.unusable },
        }),
    }
}

struct Surveyor<'a> {
    query: &'a str,
    tokens: Vec<Token>,
    next: usize,
    pieces: Vec<Piece>,
    facts: Vec<Fact>,
    plain: String,
    /// Reported only when there is no syntax error.
    type_errors: Vec<ParseError>,
    experimental: Option<ParseError>,
    experimental_enabled: bool,
    durations: Option<ParseError>,
    invalid: Option<ParseError>,
    unusable: Option<String>,
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

pub(super) use self::durations::Length;

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

    fn needs_experimental(&mut self, at: usize, message: String) -> Parsed<()> {
        let error = self.error(at, message);
        if !self.experimental_enabled {
            return Err(error);
        }
        self.experimental.get_or_insert(error);
        Ok(())
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
        let from = (self.facts.len(), self.plain.len());
        let mut left = self.unary()?;
        // The first operand is a level below the operators that follow; those are one level together.
        let mut operators = 0_usize;
        while let Kind::Operator(op) = self.peek().kind {
            if op.precedence() < least {
                break;
            }
            left.height += usize::from(operators == 0);
            left = self.binary(left, op)?;
            operators += 1;
            if operators.is_multiple_of(PIECE_LENGTH) {
                self.cut_off(left, from);
            }
        }
        self.depth -= 1;
        Ok(left)
    }

    /// Makes a piece of all since `from`, and puts a stand-in for it.
    fn cut_off(&mut self, part: Part, (facts, plain): (usize, usize)) {
        let piece = Piece { facts: self.facts.split_off(facts), plain: self.plain.split_off(plain) };
        let leaf = Leaf::Piece(self.pieces.len());
        self.pieces.push(piece);
        self.plain(if part.value == ValueKind::Scalar { "1" } else { "x" });
        self.facts.push(Fact { span: part.span, value: part.value, leaf });
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
        self.emit(span, value, left.height.max(right.height + 1), Leaf::Tree)
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
        if self.peek().kind == Kind::LeftParen || !self.expression_follows() {
            matching.include = self.grouping_labels()?;
        } else {
            self.plain("()");
        }
        Ok(matching)
    }

    /// Whether the next token may begin an expression.
    fn expression_follows(&self) -> bool {
        use BinaryOp::{Add, And, Or, Sub, Unless};
        match self.peek().kind {
            Kind::Operator(op) => matches!(op, Add | And | Or | Sub | Unless),
            Kind::Number | Kind::Duration | Kind::Text | Kind::LeftParen | Kind::LeftBrace => true,
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregator(_) | Kind::Keyword(_) => true,
            _ => false,
        }
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
        self.tokens
            .get(self.next + 1)
            .is_some_and(|token| matches!(token.kind, Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without)))
    }

    fn number(&self, token: &Token) -> Parsed<f64> {
        let text = self.text(token);
        if token.kind == Kind::Duration {
            return self.duration_ms(token).map(|ms| ms as f64 / 1000.0);
        }
        let value = lex::number_value(text);
        // Only digits beyond what a float holds make an infinity of them.
        let reason = match value {
            Some(value) if value.is_infinite() && text.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                "value out of range"
            }
            Some(value) => return Ok(value),
            None => "invalid syntax",
        };
        let text = lex::quote(text);
        Err(self.error(token.start, format!("error parsing number: strconv.ParseFloat: parsing {text}: {reason}")))
    }

    fn duration_ms(&self, token: &Token) -> Parsed<i64> {
        let text = self.text(token);
        match text.parse::<PromDuration>() {
            Ok(duration) if duration.get().as_nanos() <= i64::MAX as u128 => Ok(duration.as_millis()),
            _ => Err(self.error(token.start, duration_fault(text))),
        }
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
}

const EMPTY_SELECTOR: &str = "vector selector must contain at least one non-empty matcher";

#[derive(Default)]
struct Matching {
    on: bool,
    labels: Vec<String>,
    grouped: bool,
    include: Vec<String>,
}

/// What is wrong with a duration that was refused; the rule is `ParseDuration` of github.com/prometheus/common/model.
fn duration_fault(text: &str) -> String {
    const UNITS: [&str; 7] = ["y", "w", "d", "h", "m", "s", "ms"];
    let invalid = || format!("not a valid duration string: {}", lex::quote(text));
    let (mut rest, mut smallest) = (text, None);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        if number.parse::<u64>().is_err() || unit.is_empty() {
            return invalid();
        }
        let Some(place) = UNITS.iter().position(|known| *known == unit) else {
            return format!("unknown unit {} in duration {}", lex::quote(unit), lex::quote(text));
        };
        if smallest.is_some_and(|smallest| place <= smallest) {
            return invalid();
        }
        smallest = Some(place);
        rest = &rest[digits + letters..];
    }
    "duration out of range".to_owned()
}
