//! Durations of ranges, subquery steps and offsets: plain ones, and arithmetic on them (`[5m * 2]`, `offset (1h - 5m)`),
//! which Prometheus has behind `--enable-feature=promql-duration-expr`.
//!
//! Rules: the `duration_expr` productions of P:promql/parser/generated_parser.y and P:promql/durations.go.

use super::{DEPTH_LIMIT, Parsed, Surveyor};
use crate::promql::ast::{BinaryOp, Span};
use crate::promql::lex::{Kind, Token};
use crate::promql::print::{plain_number, seconds};

/// What may stand where a duration is needed.
const DURATION: &str = "number or duration";

/// A duration as it is used, and as it is printed where it is an expression.
#[derive(Clone, Debug, Default)]
pub(in crate::promql) struct Length {
    pub ms: i64,
    pub written: Option<String>,
}

/// Where a duration stands, for error texts.
#[derive(Clone, Copy)]
pub(super) struct Place {
    context: &'static str,
    expected: &'static str,
}

impl Place {
    pub const RANGE: Self = Self { context: "subquery selector", expected: DURATION };
    pub const STEP: Self = Self { context: "subquery selector", expected: "number or duration or \"]\"" };
    const OFFSET: Self = Self { context: "offset", expected: DURATION };
}

/// A part of a duration expression.
struct Amount {
    /// What it comes to, in seconds, or why it comes to nothing.
    seconds: Result<f64, String>,
    span: Span,
    text: String,
    /// Whether it is more than one number.
    is_expression: bool,
}

impl Surveyor<'_> {
    /// A duration above zero, inside brackets.
    pub(super) fn positive_duration(&mut self, place: Place) -> Parsed<Length> {
        let amount = self.amount(0, place)?;
        if !amount.is_expression && amount.seconds.as_ref().is_ok_and(|seconds| *seconds <= 0.0) {
            self.refuse(amount.span.start, "duration must be greater than 0")?;
        }
        Ok(self.length(amount, false))
    }

    /// The duration after `offset`: one number with or without a sign, or an expression that begins with a parenthesis.
    pub(super) fn offset_duration(&mut self) -> Parsed<Length> {
        let token = self.peek().clone();
        let signed = matches!(token.kind, Kind::Operator(BinaryOp::Add | BinaryOp::Sub));
        let number = self.tokens.get(self.next + usize::from(signed)).map(|token| &token.kind);
        if !matches!(number, Some(Kind::Number | Kind::Duration)) {
            let amount = self.amount(0, Place::OFFSET)?;
            return Ok(self.length(amount, true));
        }
        self.next += usize::from(signed);
        let amount = self.number_amount()?;
        let amount = if signed { negated(amount, &token) } else { amount };
        Ok(self.length(amount, true))
    }

    fn length(&mut self, amount: Amount, may_be_negative: bool) -> Length {
        let Span { start, end } = amount.span;
        let seconds = amount.seconds.and_then(|seconds| match amount.is_expression {
            true if seconds <= 0.0 && !may_be_negative => {
                Err(format!("{start}:{end}: duration must be greater than 0"))
            }
            // As Prometheus, which compares seconds with the most nanoseconds; what passes is held to the most below.
            true if !(-9.3e18..=9.3e18).contains(&seconds) => Err(format!("{start}:{end}: duration is out of range")),
            _ => Ok(seconds),
        });
        let seconds = seconds.unwrap_or_else(|message| {
            self.unusable.get_or_insert(message);
            1.0
        });
        let ms = match amount.is_expression {
            true => (seconds * 1000.0) as i64,
            false => (seconds * 1e9).round() as i64 / 1_000_000,
        };
        const MOST_MS: i64 = i64::MAX / 1_000_000;
        Length { ms: ms.clamp(-MOST_MS, MOST_MS), written: amount.is_expression.then_some(amount.text) }
    }

    /// An error where plain durations are concerned; where expressions are, it counts only once they are enabled.
    fn refuse(&mut self, at: usize, message: &str) -> Parsed<()> {
        // Prometheus has read what follows by now.
        if let Kind::Error(_) = self.peek().kind {
            return Err(self.unexpected("", ""));
        }
        let error = self.error(at, message);
        match self.durations {
            None => Err(error),
            Some(_) => {
                self.invalid.get_or_insert(error);
                Ok(())
            }
        }
    }

    fn needs_durations(&mut self, at: usize) {
        if self.durations.is_none() {
            self.durations = Some(self.error(at, "experimental duration expression is not enabled"));
        }
    }

    /// An expression of operators that bind at least as tight as `least`.
    fn amount(&mut self, least: u8, place: Place) -> Parsed<Amount> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            let at = self.peek().start;
            return Err(self.error(at, format!("expression is nested deeper than {DEPTH_LIMIT} levels")));
        }
        let mut left = self.first_amount(place)?;
        while let Kind::Operator(op) = self.peek().kind {
            use BinaryOp::{Add, Div, Mod, Mul, Pow, Sub};
            if !matches!(op, Add | Div | Mod | Mul | Pow | Sub) || op.precedence() < least {
                break;
            }
            let operator = self.take();
            let right = self.amount(if op == Pow { op.precedence() } else { op.precedence() + 1 }, place)?;
            self.needs_durations(left.span.start);
            left = self.combined(op, &operator, left, right)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn first_amount(&mut self, place: Place) -> Parsed<Amount> {
        let token = self.peek().clone();
        match token.kind {
            Kind::Number | Kind::Duration => self.number_amount(),
            Kind::Operator(BinaryOp::Add | BinaryOp::Sub) => {
                self.next += 1;
                let inner = self.amount(BinaryOp::Pow.precedence(), place)?;
                Ok(negated(inner, &token))
            }
            Kind::LeftParen => {
                self.next += 1;
                let inner = self.amount(0, place)?;
                self.expect(&Kind::RightParen, place.context, place.expected)?;
                self.needs_durations(inner.span.start);
                let text = if inner.is_expression { format!("({})", inner.text) } else { inner.text };
                Ok(Amount { text, ..inner })
            }
            _ => Err(self.unexpected(place.context, place.expected)),
        }
    }

    fn number_amount(&mut self) -> Parsed<Amount> {
        let token = self.take();
        let seconds = self.number(&token)?;
        if seconds.is_nan() || seconds.abs() >= i64::MAX as f64 / 1e9 {
            return Err(self.error(token.start, "duration out of range"));
        }
        let is_duration = token.kind == Kind::Duration;
        let text = if is_duration { self::seconds(seconds).to_string() } else { plain_number(seconds) };
        Ok(Amount {
            seconds: Ok(seconds),
            span: Span { start: token.start, end: token.end },
            text,
            is_expression: false,
        })
    }

    fn combined(&mut self, op: BinaryOp, operator: &Token, left: Amount, right: Amount) -> Parsed<Amount> {
        let span = Span { start: left.span.start, end: right.span.end };
        let zero = match op {
            BinaryOp::Div => Some("division by zero"),
            BinaryOp::Mod => Some("modulo by zero"),
            _ => None,
        };
        let zero = zero.filter(|_| right.seconds == Ok(0.0));
        if let Some(message) = zero.filter(|_| !right.is_expression) {
            self.refuse(operator.start, message)?;
        }
        let seconds = match (left.seconds, right.seconds) {
            (Err(message), _) | (_, Err(message)) => Err(message),
            (Ok(_), Ok(_)) if zero.is_some() => {
                Err(format!("{}:{}: {}", span.start, span.end, zero.unwrap_or_default()))
            }
            (Ok(left), Ok(right)) => Ok(match op {
                BinaryOp::Add => left + right,
                BinaryOp::Sub => left - right,
                BinaryOp::Mul => left * right,
                BinaryOp::Div => left / right,
                BinaryOp::Mod => left % right,
                _ => left.powf(right),
            }),
        };
        let text = format!("{} {} {}", left.text, op.as_str(), right.text);
        Ok(Amount { seconds, span, text, is_expression: true })
    }
}

/// The amount after a sign.
fn negated(amount: Amount, sign: &Token) -> Amount {
    let negative = sign.kind == Kind::Operator(BinaryOp::Sub);
    // Prometheus keeps no plus, and its place only of a number.
    let start = if negative || !amount.is_expression { sign.start } else { amount.span.start };
    let span = Span { start, ..amount.span };
    match negative {
        false => Amount { span, ..amount },
        true => {
            let text = match amount.text.strip_prefix('-').filter(|_| !amount.is_expression) {
                Some(positive) => positive.to_owned(),
                None => format!("-{}", amount.text),
            };
            Amount { seconds: amount.seconds.map(|seconds| -seconds), span, text, ..amount }
        }
    }
}
