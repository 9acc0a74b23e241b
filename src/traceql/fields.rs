//! One trace as queries read it: the tree of its spans, and the value of an expression at a span.
//!
//! In: spans in any order, any parents. Out: values. Pure. Invariant: a cycle of parents, a missing parent or a span id
//! that occurs twice ends nothing: such spans are read, their place in the tree is unknown.

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Attribute, Field, Intrinsic, Operator, Scope};
use super::value::Value;
use crate::model::Span;
use crate::model::span::{Attributes, SpanId, hex};

/// The spans of one trace.
pub struct Trace<'a> {
    /// As given.
    pub spans: &'a [Span],
    /// Place of the parent of each.
    pub(super) parents: Vec<Option<u32>>,
    /// Places from the roots down, parents before children. Spans of a cycle are not among them.
    pub(super) order: Vec<u32>,
    /// Nested set numbers (left, right) as Tempo gives them; zero for spans of a cycle.
    nested: Vec<(i64, i64)>,
    child_count: Vec<i64>,
    root: Option<u32>,
    start_ns: u64,
    end_ns: u64,
}

impl<'a> Trace<'a> {
    /// Finds out who is whose parent.
    pub fn new(spans: &'a [Span]) -> Self {
        let mut by_id: HashMap<SpanId, u32> = HashMap::with_capacity(spans.len());
        for (at, span) in (0_u32..).zip(spans) {
            by_id.entry(span.span_id).or_insert(at);
        }
        let parent_of = |span: &Span| by_id.get(&span.parent_id?).copied();
        let parents: Vec<Option<u32>> = spans.iter().map(parent_of).collect();
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); spans.len()];
        for (at, parent) in (0_u32..).zip(&parents) {
            if let Some(parent) = parent {
                children[*parent as usize].push(at);
            }
        }
        let roots = (0_u32..).zip(&parents).filter(|(_, parent)| parent.is_none()).map(|(at, _)| at);
        let (mut order, mut nested, mut number) = (Vec::with_capacity(spans.len()), vec![(0, 0); spans.len()], 0);
        for root in roots {
            let mut open: Vec<(u32, usize)> = Vec::new();
            let mut enter = Some(root);
            loop {
                if let Some(at) = enter.take() {
                    number += 1;
                    nested[at as usize].0 = number;
                    order.push(at);
                    open.push((at, 0));
                }
                let Some((at, next)) = open.last_mut() else { break };
                match children[*at as usize].get(*next) {
                    Some(child) => {
                        *next += 1;
                        enter = Some(*child);
                    }
                    None => {
                        number += 1;
                        nested[*at as usize].1 = number;
                        open.pop();
                    }
                }
            }
        }
        let root = (0_u32..).zip(spans).filter(|(_, span)| span.parent_id.is_none()).min_by_key(|(_, s)| s.start_ns);
        Self {
            root: root.map(|(at, _)| at),
            child_count: children.iter().map(|children| children.len() as i64).collect(),
            start_ns: spans.iter().map(|span| span.start_ns).min().unwrap_or(0),
            end_ns: spans.iter().map(Span::end_ns).max().unwrap_or(0),
            spans,
            parents,
            order,
            nested,
        }
    }

    /// The span without a parent, the first of several.
    pub fn root(&self) -> Option<&Span> {
        self.root.map(|at| &self.spans[at as usize])
    }

    /// Its first start, nanoseconds since the epoch.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// From its first start to its last end, nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// What that span has under that name: one value, several of events, links and lists, or none.
    pub fn values(&self, at: usize, attribute: &Attribute) -> Vec<Value> {
        let mut out = Vec::new();
        match attribute {
            Attribute::Intrinsic(intrinsic) => self.intrinsic(at, *intrinsic, &mut out),
            Attribute::Named { scope, name, of_parent } => {
                let at = if *of_parent { self.parents[at].map(|parent| parent as usize) } else { Some(at) };
                if let Some(at) = at {
                    named(&self.spans[at], *scope, name, &mut out);
                }
            }
        }
        out
    }

    fn intrinsic(&self, at: usize, intrinsic: Intrinsic, out: &mut Vec<Value>) {
        let span = &self.spans[at];
        let nanos = |ns: u64| Value::Duration(i64::try_from(ns).unwrap_or(i64::MAX));
        let text = |text: &Arc<str>| Value::String(Arc::clone(text));
        let id = |id: &[u8]| Value::String(hex(id).into());
        out.push(match intrinsic {
            Intrinsic::Duration => nanos(span.duration_ns),
            Intrinsic::Name => text(&span.name),
            Intrinsic::Status => Value::Status(span.status),
            Intrinsic::StatusMessage => text(&span.status_message),
            Intrinsic::Kind => Value::Kind(span.kind),
            Intrinsic::ChildCount => Value::Int(self.child_count[at]),
            Intrinsic::Parent | Intrinsic::ParentId => match span.parent_id {
                Some(parent) => id(&parent),
                None if intrinsic == Intrinsic::Parent => Value::Nil,
                None => Value::String("".into()),
            },
            Intrinsic::SpanId => id(&span.span_id),
            Intrinsic::TraceId => id(&span.trace_id),
            Intrinsic::TraceDuration => nanos(self.duration_ns()),
            Intrinsic::RootName => self.root().map_or(Value::Nil, |root| text(&root.name)),
            Intrinsic::RootServiceName => self.root().map_or(Value::Nil, |root| text(&root.service)),
            Intrinsic::NestedSetLeft => Value::Int(self.nested[at].0),
            Intrinsic::NestedSetRight => Value::Int(self.nested[at].1),
            // Tempo says -1 of a root.
            Intrinsic::NestedSetParent => {
                Value::Int(self.parents[at].map_or(-1, |parent| self.nested[parent as usize].0))
            }
            Intrinsic::InstrumentationName => text(&span.scope),
            Intrinsic::EventName => return out.extend(span.events.iter().map(|event| text(&event.name))),
            Intrinsic::EventTimeSinceStart => {
                let since = |at_ns: u64| nanos(at_ns.saturating_sub(span.start_ns));
                return out.extend(span.events.iter().map(|event| since(event.at_ns)));
            }
            Intrinsic::LinkTraceId => return out.extend(span.links.iter().map(|link| id(&link.trace_id))),
            Intrinsic::LinkSpanId => return out.extend(span.links.iter().map(|link| id(&link.span_id))),
        });
    }

    /// Whether a condition holds at a span.
    pub(super) fn holds(&self, at: usize, field: &Field) -> bool {
        match field {
            Field::Binary(Operator::And, left, right) => self.holds(at, left) && self.holds(at, right),
            Field::Binary(Operator::Or, left, right) => self.holds(at, left) || self.holds(at, right),
            Field::Binary(operator, left, right) if is_comparison(*operator) => {
                any_compares(*operator, &self.evaluate(at, left), &self.evaluate(at, right))
            }
            Field::Not(inner) => !self.holds(at, inner),
            Field::Matches { field, regex, negated } => {
                let values = self.evaluate(at, field);
                let mut texts = values.iter().filter_map(|value| match value {
                    Value::String(text) => Some(regex.is_match(text)),
                    _ => None,
                });
                // Of several values one must match; of a negation there must be one, and none may match.
                match negated {
                    false => texts.any(|matches| matches),
                    true => texts.next().is_some_and(|first| !first) && !texts.any(|matches| matches),
                }
            }
            other => matches!(self.evaluate(at, other).first(), Some(Value::Bool(true))),
        }
    }

    /// The values of an expression at a span: none when it reads what is not there.
    pub(super) fn evaluate(&self, at: usize, field: &Field) -> Vec<Value> {
        match field {
            Field::Static(value) => vec![value.clone()],
            Field::Attribute(attribute) => self.values(at, attribute),
            Field::Negative(inner) => self.evaluate(at, inner).iter().filter_map(negative).collect(),
            Field::Binary(operator, left, right) if is_arithmetic(*operator) => {
                let (left, right) = (self.evaluate(at, left), self.evaluate(at, right));
                let both = left.first().zip(right.first());
                both.and_then(|(left, right)| arithmetic(*operator, left, right)).into_iter().collect()
            }
            condition => vec![Value::Bool(self.holds(at, condition))],
        }
    }
}

/// The attribute of that name in that scope.
fn named(span: &Span, scope: Scope, name: &str, out: &mut Vec<Value>) {
    let find = |attributes: &Attributes, out: &mut Vec<Value>| {
        let found = attributes.iter().find(|(known, _)| &**known == name);
        if let Some((_, value)) = found {
            Value::list(value, out);
        }
        found.is_some()
    };
    match scope {
        Scope::Any => {
            _ = find(&span.attributes, out) || find(&span.resource.attributes, out);
        }
        Scope::Span => _ = find(&span.attributes, out),
        Scope::Resource => _ = find(&span.resource.attributes, out),
        Scope::Event => span.events.iter().for_each(|event| _ = find(&event.attributes, out)),
        Scope::Link => span.links.iter().for_each(|link| _ = find(&link.attributes, out)),
        Scope::Instrumentation => {}
    }
}

fn is_arithmetic(operator: Operator) -> bool {
    use Operator::{Add, Divide, Modulo, Multiply, Power, Subtract};
    matches!(operator, Add | Subtract | Multiply | Divide | Modulo | Power)
}

fn is_comparison(operator: Operator) -> bool {
    !is_arithmetic(operator) && !matches!(operator, Operator::And | Operator::Or)
}

/// Compares what two expressions have. Nothing equals `nil`; of several values one must hold, for `!=` all.
fn any_compares(operator: Operator, left: &[Value], right: &[Value]) -> bool {
    let is_nil = |values: &[Value]| values.is_empty() || values == [Value::Nil];
    let asks_nil = |values: &[Value]| values == [Value::Nil];
    if asks_nil(left) || asks_nil(right) {
        let both = is_nil(left) && is_nil(right);
        return match operator {
            Operator::Equal => both,
            Operator::NotEqual => is_nil(left) != is_nil(right),
            _ => false,
        };
    }
    let mut pairs = left.iter().flat_map(|left| right.iter().map(move |right| (left, right)));
    match operator {
        Operator::NotEqual => {
            !left.is_empty() && !right.is_empty() && pairs.all(|(left, right)| compares(operator, left, right))
        }
        _ => pairs.any(|(left, right)| compares(operator, left, right)),
    }
}

/// Compares two values.
pub(super) fn compares(operator: Operator, left: &Value, right: &Value) -> bool {
    let Some(order) = left.compare(right) else { return false };
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterEqual => order.is_ge(),
        _ => false,
    }
}

fn negative(value: &Value) -> Option<Value> {
    match value {
        Value::Int(number) => Some(Value::Int(number.wrapping_neg())),
        Value::Float(number) => Some(Value::Float(-number)),
        Value::Duration(ns) => Some(Value::Duration(ns.wrapping_neg())),
        _ => None,
    }
}

/// Calculates. Whole numbers stay whole but for division; a duration stays one unless two are divided.
pub(super) fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Option<Value> {
    let (a, b) = (left.number()?, right.number()?);
    let number = match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Modulo => a % b,
        Operator::Power => a.powf(b),
        _ => return None,
    };
    let durations = [left, right].map(|value| matches!(value, Value::Duration(_)));
    Some(match durations {
        [true, true] if operator == Operator::Divide => Value::Float(number),
        [false, false] => match (left, right) {
            (Value::Int(_), Value::Int(_)) if number.fract() == 0.0 && number.abs() < 9e15 => Value::Int(number as i64),
            _ => Value::Float(number),
        },
        _ => Value::Duration(number as i64),
    })
}
