//! Selectors: matchers, ranges and subqueries, `offset` and `@`.

use super::durations::Place;
use super::{EMPTY_SELECTOR, Fact, Leaf, Parsed, Part, Surveyor, Time};
use crate::model::{METRIC_NAME, MatchOp, Matcher};
use crate::promql::ast::{At, BinaryOp, Span, Text, ValueKind};
use crate::promql::lex::{self, Keyword, Kind};
use crate::promql::print::plain_number;

impl Surveyor<'_> {
    pub(super) fn selector(&mut self, name: Option<(String, usize)>) -> Parsed<Part> {
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
        let leaf = Leaf::Selector { name, matchers, range: None, time: Time::default() };
        self.emit(span, ValueKind::Vector, 1, leaf)
    }

    pub(super) fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<()> {
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
                    let bytes = lex::unquote(self.text(&value));
                    // An expression without operators is not compiled by Prometheus, so what it holds is not looked at.
                    let compiled = matches!(op, MatchOp::Regex | MatchOp::NotRegex)
                        && bytes.iter().any(|byte| br"\.+*?()|[]{}^$".contains(byte));
                    if let (true, Err(error)) = (compiled, std::str::from_utf8(&bytes)) {
                        let rest = String::from_utf8_lossy(&bytes[error.valid_up_to()..]);
                        return Err(self.error(token.start, format!("error parsing regexp: invalid UTF-8: `{rest}`")));
                    }
                    let value = Text::from_bytes(bytes).value;
                    let matcher = Matcher::new(op, &name, &value);
                    matchers.push(matcher.map_err(|error| self.error(token.start, error.go_text()))?);
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
    pub(super) fn postfix(&mut self, mut part: Part) -> Parsed<Part> {
        loop {
            part = match self.peek().kind {
                Kind::LeftBracket => self.brackets(part)?,
                Kind::Keyword(Keyword::Offset) => self.offset(part)?,
                Kind::At => self.at(part)?,
                _ => return Ok(part),
            };
        }
    }

    pub(super) fn brackets(&mut self, part: Part) -> Parsed<Part> {
        let bracket = self.take().start;
        let range = self.positive_duration(Place::RANGE)?;
        if self.take_if(&Kind::Colon).is_some() {
            let step = match self.peek().kind {
                Kind::RightBracket => None,
                _ => Some(self.positive_duration(Place::STEP)?),
            };
            self.expect(&Kind::RightBracket, "subquery selector", "\"]\"")?;
            if part.value != ValueKind::Vector {
                let got = part.value.as_str();
                let message = format!("subquery is only allowed on instant vector, got {got} instead");
                self.type_error(part.span.start, message);
            }
            self.plain(if step.is_some() { "[1s:1s]" } else { "[1s:]" });
            let leaf = Leaf::Subquery { range, step, time: Time::default() };
            let span = Span { start: part.span.start, end: self.last_end() };
            return self.emit(span, ValueKind::Matrix, part.height + 1, leaf);
        }
        self.expect(&Kind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let end = self.last_end();
        let message = match self.facts.last_mut() {
            Some(Fact { leaf: Leaf::Selector { range: slot @ None, time, .. }, span, value }) => {
                if time.offset.is_some() {
                    "no offset modifiers allowed before range"
                } else if time.at.is_some() {
                    "no @ modifiers allowed before range"
                } else {
                    *slot = Some(range);
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

    pub(super) fn offset(&mut self, part: Part) -> Parsed<Part> {
        self.next += 1;
        let offset = self.offset_duration()?;
        let end = self.last_end();
        let message = match self.time_of_last() {
            Some((time, span)) if time.offset.is_none() => {
                time.offset = Some(offset);
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

    pub(super) fn at(&mut self, part: Part) -> Parsed<Part> {
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

    pub(super) fn at_time(&mut self, part: Part) -> Parsed<At> {
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
                if seconds.is_nan() || seconds.abs() >= i64::MAX as f64 / 1000.0 {
                    let shown = if seconds.is_finite() { format!("{seconds:.6}") } else { plain_number(seconds) };
                    let message = format!("timestamp out of bounds for @ modifier: {shown}");
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
    pub(super) fn time_of_last(&mut self) -> Option<(&mut Time, &mut Span)> {
        match self.facts.last_mut() {
            Some(Fact { leaf: Leaf::Selector { time, .. } | Leaf::Subquery { time, .. }, span, .. }) => {
                Some((time, span))
            }
            _ => None,
        }
    }
}
