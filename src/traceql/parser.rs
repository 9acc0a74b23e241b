//! Reads a query.
//!
//! In: text. Out: [`Query`], or what is not understood and where. Pure. Precedence is that of Tempo's grammar
//! (`pkg/traceql/expr.y`): `&&` and `||` bind alike, then comparisons and structural operators, then `+ -`, `!`, `* / %`,
//! `^`. Invariant: parentheses nest at most [`DEPTH_MAX`] deep and there are at most [`OPERATORS_MAX`] operators.

use super::ast::{
    Aggregate, Attribute, Field, Form, Function, INTRINSICS, Intrinsic, Metrics, Operator, Query, Relation, Scalar,
    SpansetExpr, Stage,
};
use super::lexer::{Token, tokens};
use super::value::Value;
use super::{ParseError, QUERY_LIMIT_BYTES};
use crate::model::anchored_regex;
use crate::model::span::{SpanKind, SpanStatus};

const DEPTH_MAX: usize = 50;
const OPERATORS_MAX: usize = 500;
const AND_OR: u8 = 1;
const COMPARISON: u8 = 2;
const SUM: u8 = 3;
const NOT: u8 = 4;
const PRODUCT: u8 = 5;
const POWER: u8 = 6;

/// Understands a query.
///
/// # Errors
/// When it is longer than [`QUERY_LIMIT_BYTES`], or something in it is not understood.
pub fn parse(text: &str) -> Result<Query, ParseError> {
    if text.len() > QUERY_LIMIT_BYTES {
        let message = format!("the query has {} bytes, at most {QUERY_LIMIT_BYTES} are read", text.len());
        return Err(ParseError::at(text, 0, message));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, next: 0, depth: 0, operators: 0, mentioned: Vec::new() };
    let (stages, metrics) = parser.root()?;
    parser.hints()?;
    parser.end()?;
    Ok(Query { stages, metrics, mentioned: parser.mentioned })
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
    operators: usize,
    mentioned: Vec<Attribute>,
}

type Parsed<T> = Result<T, ParseError>;

impl Parser<'_> {
    fn root(&mut self) -> Parsed<(Vec<Stage>, Option<Metrics>)> {
        let mut stages = vec![self.stage()?];
        while self.takes("|") {
            if let Some(function) = self.word().and_then(function_named) {
                let metrics = self.metrics(function)?;
                if self.peeks("|") {
                    return Err(
                        self.wrong("nothing may follow a metrics function (topk and bottomk are not supported)")
                    );
                }
                return Ok((stages, Some(metrics)));
            }
            stages.push(self.stage()?);
        }
        Ok((stages, None))
    }

    fn pipeline(&mut self) -> Parsed<Vec<Stage>> {
        let mut stages = vec![self.stage()?];
        while self.takes("|") {
            stages.push(self.stage()?);
        }
        Ok(stages)
    }

    fn stage(&mut self) -> Parsed<Stage> {
        match self.word() {
            Some("by") => {
                let field_at = self.next + 2;
                let fields = self.arguments(|parser| parser.field(0))?;
                let [field] = <[Field; 1]>::try_from(fields)
                    .map_err(|_| self.wrong_at(field_at, "by() in a search takes one expression"))?;
                let name = match &field {
                    Field::Attribute(attribute) => attribute.clone(),
                    _ => return Err(self.wrong_at(field_at, "by() takes an attribute or an intrinsic")),
                };
                Ok(Stage::By(field, name))
            }
            Some("coalesce") => {
                self.arguments(|parser| Err::<(), _>(parser.wrong("coalesce() takes nothing")))?;
                Ok(Stage::Coalesce)
            }
            Some("select") => self.attributes().map(|_| Stage::Select),
            Some(word) if function_named(word).is_some() => {
                Err(self.wrong(&format!("{word}() must be the last stage of the query, after a |")))
            }
            Some(word @ ("compare" | "topk" | "bottomk")) => Err(self.wrong(&format!("{word}() is not supported"))),
            _ if self.begins_spanset() => Ok(Stage::Spanset(self.spanset(AND_OR)?)),
            _ => self.scalar_filter(),
        }
    }

    /// Whether what follows any opening parentheses belongs to a set of spans and not to a number.
    fn begins_spanset(&self) -> bool {
        let first = self.tokens[self.next..].iter().find(|(token, _)| *token != Token::Operator("("));
        match first.map(|(token, _)| token) {
            Some(Token::Operator(operator)) => *operator == "{",
            Some(Token::Word(word)) => matches!(word.as_str(), "by" | "coalesce" | "select"),
            _ => false,
        }
    }

    fn spanset(&mut self, floor: u8) -> Parsed<SpansetExpr> {
        let mut left = self.one_spanset()?;
        loop {
            let Token::Operator(operator) = self.peek().clone() else { return Ok(left) };
            let strength = match operator {
                "&&" | "||" => AND_OR,
                _ if structural(operator).is_some() => COMPARISON,
                _ => return Ok(left),
            };
            if strength < floor {
                return Ok(left);
            }
            self.operator()?;
            let right = Box::new(self.spanset(strength + 1)?);
            let whole = Box::new(left);
            left = match (operator, structural(operator)) {
                ("&&", _) => SpansetExpr::And(whole, right),
                (_, Some((relation, form))) => SpansetExpr::Structural { relation, form, left: whole, right },
                _ => SpansetExpr::Or(whole, right),
            };
        }
    }

    fn one_spanset(&mut self) -> Parsed<SpansetExpr> {
        if self.takes("(") {
            return self.deeper(|parser| {
                let mut stages = parser.pipeline()?;
                parser.expect(")")?;
                Ok(match (stages.len(), stages.pop()) {
                    (1, Some(Stage::Spanset(only))) => only,
                    (_, last) => {
                        stages.extend(last);
                        SpansetExpr::Pipeline(stages)
                    }
                })
            });
        }
        self.expect("{")?;
        if self.takes("}") {
            return Ok(SpansetExpr::Filter(Field::Static(Value::Bool(true))));
        }
        let at = self.next;
        let field = self.field(0)?;
        if let Some(kind) = kind_of(&field).filter(|kind| !matches!(kind, Value::Bool(_))) {
            let message = format!("a filter needs a condition, this is a {}", kind.kind_name());
            return Err(self.wrong_at(at, &message));
        }
        self.expect("}")?;
        Ok(SpansetExpr::Filter(field))
    }

    // === fields ===

    fn field(&mut self, floor: u8) -> Parsed<Field> {
        let mut left = self.one_field()?;
        loop {
            let Token::Operator(text) = self.peek().clone() else { return Ok(left) };
            let Some((operator, strength)) = binary(text) else { return Ok(left) };
            if strength < floor {
                return Ok(left);
            }
            let at = self.next;
            self.operator()?;
            // Only powers group to the right.
            let right = self.deeper(|parser| parser.field(if strength == POWER { POWER } else { strength + 1 }))?;
            left = self.joined(at, text, operator, (left, right))?;
        }
    }

    fn joined(&self, at: usize, text: &str, operator: Operator, (left, right): (Field, Field)) -> Parsed<Field> {
        if matches!(operator, Operator::Regex | Operator::NotRegex) {
            let Field::Static(Value::String(pattern)) = &right else {
                return Err(self.wrong_at(at + 1, &format!("{text} needs a text in quotes on its right")));
            };
            let regex = anchored_regex(pattern).map_err(|error| self.wrong_at(at + 1, &error.to_string()))?;
            return Ok(Field::Matches { field: Box::new(left), regex, negated: operator == Operator::NotRegex });
        }
        let logical = matches!(operator, Operator::And | Operator::Or);
        let arithmetic = !logical && binary(text).is_some_and(|(_, strength)| strength > COMPARISON);
        for side in [&left, &right] {
            match kind_of(side) {
                Some(kind) if logical && !matches!(kind, Value::Bool(_)) => {
                    let message = format!("{text} needs conditions on both sides, one is a {}", kind.kind_name());
                    return Err(self.wrong_at(at, &message));
                }
                Some(kind) if arithmetic && kind.number().is_none() => {
                    let message = format!("{text} needs numbers on both sides, one is a {}", kind.kind_name());
                    return Err(self.wrong_at(at, &message));
                }
                _ => {}
            }
        }
        if let (Some(a), Some(b)) = (kind_of(&left), kind_of(&right))
            && !a.comparable(&b)
        {
            let message = format!("{text} cannot compare a {} with a {}", a.kind_name(), b.kind_name());
            return Err(self.wrong_at(at, &message));
        }
        Ok(Field::Binary(operator, Box::new(left), Box::new(right)))
    }

    fn one_field(&mut self) -> Parsed<Field> {
        let at = self.next;
        match self.peek().clone() {
            Token::Operator("(") => {
                self.next += 1;
                self.deeper(|parser| {
                    let inner = parser.field(0)?;
                    parser.expect(")")?;
                    Ok(inner)
                })
            }
            Token::Operator("!") => {
                self.operator()?;
                Ok(Field::Not(Box::new(self.deeper(|parser| parser.field(NOT))?)))
            }
            Token::Operator("-") => {
                self.operator()?;
                Ok(match self.deeper(|parser| parser.field(NOT))? {
                    Field::Static(Value::Int(number)) => Field::Static(Value::Int(number.wrapping_neg())),
                    Field::Static(Value::Float(number)) => Field::Static(Value::Float(-number)),
                    Field::Static(Value::Duration(ns)) => Field::Static(Value::Duration(ns.wrapping_neg())),
                    other => Field::Negative(Box::new(other)),
                })
            }
            Token::Attribute { .. } => Ok(Field::Attribute(self.attribute()?)),
            Token::Word(word) if static_named(&word).is_none() => match intrinsic_named(&word) {
                Some(_) => Ok(Field::Attribute(self.attribute()?)),
                None => Err(self.wrong_at(at, &unknown_word(&word))),
            },
            _ => self.static_value().map(Field::Static),
        }
    }

    fn static_value(&mut self) -> Parsed<Value> {
        let value = match self.peek() {
            Token::String(text) => Value::String(text.as_str().into()),
            Token::Int(number) => Value::Int(*number),
            Token::Float(number) => Value::Float(*number),
            Token::Duration(ns) => Value::Duration(*ns),
            Token::Word(word) => match static_named(word) {
                Some(value) => value,
                None => return Err(self.wrong(&unknown_word(word))),
            },
            _ => return Err(self.wrong("expected a value, an attribute or an intrinsic")),
        };
        self.next += 1;
        Ok(value)
    }

    fn attribute(&mut self) -> Parsed<Attribute> {
        let attribute = match self.peek().clone() {
            Token::Attribute { scope, name, of_parent } => Attribute::Named { scope, name, of_parent },
            Token::Word(word) => match intrinsic_named(&word) {
                Some(intrinsic) => Attribute::Intrinsic(intrinsic),
                None => return Err(self.wrong(&unknown_word(&word))),
            },
            _ => return Err(self.wrong("expected an attribute (span.x, resource.x, .x) or an intrinsic")),
        };
        self.next += 1;
        if !self.mentioned.contains(&attribute) {
            self.mentioned.push(attribute.clone());
        }
        Ok(attribute)
    }

    fn attributes(&mut self) -> Parsed<Vec<Attribute>> {
        let at = self.next;
        let attributes = self.arguments(Self::attribute)?;
        if attributes.is_empty() { Err(self.wrong_at(at, "expected at least one attribute")) } else { Ok(attributes) }
    }

    /// The word, then what stands in parentheses behind it, between commas.
    fn arguments<T>(&mut self, one: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.next += 1;
        self.expect("(")?;
        let mut found = Vec::new();
        if self.takes(")") {
            return Ok(found);
        }
        loop {
            found.push(one(self)?);
            if !self.takes(",") {
                self.expect(")")?;
                return Ok(found);
            }
        }
    }

    // === numbers of sets ===

    fn scalar_filter(&mut self) -> Parsed<Stage> {
        let left = self.scalar(0)?;
        let comparison = match self.peek() {
            Token::Operator(text) => binary(text).filter(|(_, strength)| *strength == COMPARISON),
            _ => None,
        };
        let Some((operator, _)) = comparison.filter(|(op, _)| !matches!(op, Operator::Regex | Operator::NotRegex))
        else {
            return Err(
                self.wrong("expected a comparison, as in count() > 2 (comparing whole pipelines is not supported)")
            );
        };
        self.operator()?;
        Ok(Stage::Scalar { operator, left, right: self.scalar(0)? })
    }

    fn scalar(&mut self, floor: u8) -> Parsed<Scalar> {
        let mut left = self.one_scalar()?;
        loop {
            let Token::Operator(text) = self.peek() else { return Ok(left) };
            let Some((operator, strength)) = binary(text).filter(|(_, strength)| *strength > COMPARISON) else {
                return Ok(left);
            };
            if strength < floor {
                return Ok(left);
            }
            self.operator()?;
            let right = self.deeper(|parser| parser.scalar(if strength == POWER { POWER } else { strength + 1 }))?;
            left = Scalar::Binary(operator, Box::new(left), Box::new(right));
        }
    }

    fn one_scalar(&mut self) -> Parsed<Scalar> {
        let word = self.word().map(str::to_owned);
        let aggregate = match word.as_deref() {
            Some("count") => Aggregate::Count,
            Some("avg") => Aggregate::Avg,
            Some("max") => Aggregate::Max,
            Some("min") => Aggregate::Min,
            Some("sum") => Aggregate::Sum,
            _ if self.takes("(") => {
                return self.deeper(|parser| {
                    let inner = parser.scalar(0)?;
                    parser.expect(")")?;
                    Ok(inner)
                });
            }
            _ if self.takes("-") => {
                let zero = Scalar::Static(Value::Int(0));
                let negated = self.deeper(Self::one_scalar)?;
                return Ok(Scalar::Binary(Operator::Subtract, Box::new(zero), Box::new(negated)));
            }
            Some(word) if static_named(word).is_none() => return Err(self.wrong(&unknown_word(word))),
            _ => return self.static_value().map(Scalar::Static),
        };
        let at = self.next;
        let mut fields = self.arguments(|parser| parser.field(0))?;
        let takes = usize::from(aggregate != Aggregate::Count);
        if fields.len() != takes {
            return Err(self.wrong_at(at, if takes == 0 { "count() takes nothing" } else { "takes one expression" }));
        }
        let field = fields.pop();
        if let Some(kind) = field.as_ref().and_then(kind_of).filter(|kind| kind.number().is_none()) {
            return Err(self.wrong_at(at, &format!("needs a number or duration, not a {}", kind.kind_name())));
        }
        Ok(Scalar::Aggregate(aggregate, field))
    }

    // === metrics ===

    fn metrics(&mut self, function: Function) -> Parsed<Metrics> {
        let at = self.next;
        self.next += 1;
        self.expect("(")?;
        let field = match function {
            Function::Rate | Function::Count => None,
            _ => Some(self.attribute()?),
        };
        let mut quantiles = Vec::new();
        while self.takes(",") {
            let quantile = match (function, self.peek()) {
                (Function::Quantile, Token::Float(number)) => Some(*number),
                (Function::Quantile, Token::Int(number)) => Some(*number as f64),
                _ => None,
            };
            let fitting = quantile.filter(|quantile| (0.0..=1.0).contains(quantile));
            quantiles.push(fitting.ok_or_else(|| self.wrong("expected a quantile between 0 and 1"))?);
            self.next += 1;
        }
        if function == Function::Quantile && (quantiles.is_empty() || quantiles.len() > 20) {
            return Err(self.wrong_at(at, "quantile_over_time needs 1 to 20 quantiles after the attribute"));
        }
        self.expect(")")?;
        let by = if self.word() == Some("by") { self.attributes()? } else { Vec::new() };
        if by.len() > 5 {
            return Err(self.wrong_at(at, "by() of a metrics function takes at most 5 attributes"));
        }
        Ok(Metrics { function, field, quantiles, by })
    }

    /// `with(sample=true)`: hints on how Tempo is to work, which change no result here.
    fn hints(&mut self) -> Parsed<()> {
        if self.word() != Some("with") {
            return Ok(());
        }
        self.arguments(|parser| {
            let known = matches!(parser.word(), Some("sample" | "exemplars" | "most_recent" | "dedupe" | "job_size"));
            if !known {
                return Err(parser.wrong("unknown hint (known: sample, exemplars, most_recent)"));
            }
            parser.next += 1;
            parser.expect("=")?;
            parser.static_value().map(drop)
        })?;
        Ok(())
    }

    // === tokens ===

    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)].0
    }

    fn peeks(&self, operator: &str) -> bool {
        matches!(self.peek(), Token::Operator(found) if *found == operator)
    }

    fn word(&self) -> Option<&str> {
        match self.peek() {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn takes(&mut self, operator: &str) -> bool {
        let found = self.peeks(operator);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, operator: &str) -> Parsed<()> {
        if self.takes(operator) { Ok(()) } else { Err(self.wrong(&format!("expected {operator}"))) }
    }

    /// Goes past an operator, and counts it.
    fn operator(&mut self) -> Parsed<()> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(self.wrong(&format!("more than {OPERATORS_MAX} operators")));
        }
        self.next += 1;
        Ok(())
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == DEPTH_MAX {
            return Err(self.wrong(&format!("nested more than {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let done = inner(self);
        self.depth -= 1;
        done
    }

    fn end(&self) -> Parsed<()> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.wrong("expected | or the end of the query")) }
    }

    /// An error at the next token, which it names.
    fn wrong(&self, message: &str) -> ParseError {
        self.wrong_at(self.next, message)
    }

    fn wrong_at(&self, token: usize, message: &str) -> ParseError {
        let (found, at) = &self.tokens[token.min(self.tokens.len() - 1)];
        let found = match found {
            Token::End => "the end of the query".to_owned(),
            Token::Operator(operator) => format!("{operator:?}"),
            Token::Word(word) => format!("{word:?}"),
            _ => self.text[*at..].split_whitespace().next().unwrap_or_default().chars().take(40).collect(),
        };
        ParseError::at(self.text, *at, format!("{message}, at {found}"))
    }
}

fn unknown_word(word: &str) -> String {
    let lower = word.to_lowercase();
    let near = INTRINSICS.iter().find(|(name, _)| name.to_lowercase() == lower);
    let hint =
        near.map_or_else(|| format!("an attribute is written .{word}"), |(name, _)| format!("did you mean {name}"));
    format!("{word:?} is not known here; {hint}")
}

fn intrinsic_named(word: &str) -> Option<Intrinsic> {
    INTRINSICS.iter().find(|(name, _)| *name == word).map(|(_, intrinsic)| *intrinsic)
}

fn function_named(word: &str) -> Option<Function> {
    Some(match word {
        "rate" => Function::Rate,
        "count_over_time" => Function::Count,
        "min_over_time" => Function::Min,
        "max_over_time" => Function::Max,
        "avg_over_time" => Function::Avg,
        "sum_over_time" => Function::Sum,
        "quantile_over_time" => Function::Quantile,
        "histogram_over_time" => Function::Histogram,
        _ => return None,
    })
}

fn static_named(word: &str) -> Option<Value> {
    Some(match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "nil" => Value::Nil,
        "error" => Value::Status(SpanStatus::Error),
        "ok" => Value::Status(SpanStatus::Ok),
        "unset" => Value::Status(SpanStatus::Unset),
        "unspecified" => Value::Kind(SpanKind::Unspecified),
        "internal" => Value::Kind(SpanKind::Internal),
        "server" => Value::Kind(SpanKind::Server),
        "client" => Value::Kind(SpanKind::Client),
        "producer" => Value::Kind(SpanKind::Producer),
        "consumer" => Value::Kind(SpanKind::Consumer),
        _ => return None,
    })
}

fn structural(operator: &str) -> Option<(Relation, Form)> {
    let (form, plain) = match operator.as_bytes().first()? {
        b'!' => (Form::Negated, &operator[1..]),
        b'&' => (Form::Union, &operator[1..]),
        _ => (Form::Plain, operator),
    };
    let relation = match plain {
        ">" => Relation::Child,
        ">>" => Relation::Descendant,
        "<" => Relation::Parent,
        "<<" => Relation::Ancestor,
        "~" => Relation::Sibling,
        _ => return None,
    };
    Some((relation, form))
}

fn binary(operator: &str) -> Option<(Operator, u8)> {
    Some(match operator {
        "&&" => (Operator::And, AND_OR),
        "||" => (Operator::Or, AND_OR),
        "=" => (Operator::Equal, COMPARISON),
        "!=" => (Operator::NotEqual, COMPARISON),
        "<" => (Operator::Less, COMPARISON),
        "<=" => (Operator::LessEqual, COMPARISON),
        ">" => (Operator::Greater, COMPARISON),
        ">=" => (Operator::GreaterEqual, COMPARISON),
        "=~" => (Operator::Regex, COMPARISON),
        "!~" => (Operator::NotRegex, COMPARISON),
        "+" => (Operator::Add, SUM),
        "-" => (Operator::Subtract, SUM),
        "*" => (Operator::Multiply, PRODUCT),
        "/" => (Operator::Divide, PRODUCT),
        "%" => (Operator::Modulo, PRODUCT),
        "^" => (Operator::Power, POWER),
        _ => return None,
    })
}

/// A value of the kind that the expression has, when that is known before a span is.
fn kind_of(field: &Field) -> Option<Value> {
    use Intrinsic as I;
    Some(match field {
        Field::Static(value) => value.clone(),
        Field::Attribute(Attribute::Named { .. }) => return None,
        Field::Attribute(Attribute::Intrinsic(intrinsic)) => match intrinsic {
            I::Duration | I::TraceDuration | I::EventTimeSinceStart => Value::Duration(0),
            I::ChildCount | I::NestedSetLeft | I::NestedSetRight | I::NestedSetParent => Value::Int(0),
            I::Status => Value::Status(SpanStatus::Unset),
            I::Kind => Value::Kind(SpanKind::Unspecified),
            I::Parent => Value::Nil,
            _ => Value::String("".into()),
        },
        Field::Negative(inner) => return kind_of(inner),
        Field::Not(_) | Field::Matches { .. } => Value::Bool(true),
        Field::Binary(operator, left, right) => match operator {
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide => {
                return kind_of(left).or_else(|| kind_of(right));
            }
            Operator::Modulo | Operator::Power => return None,
            _ => Value::Bool(true),
        },
    })
}
