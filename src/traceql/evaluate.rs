//! Runs the pipeline of a query over one trace.
//!
//! In: a trace. Out: the sets of its spans that remain. Pure; a set without spans never remains.

use super::ast::{Aggregate, Attribute, Field, Query, Scalar, SpansetExpr, Stage};
use super::fields::{Trace, arithmetic, compares};
use super::structure::related;
use super::value::Value;

/// Groups that `by()` makes of one trace; what comes after goes into none.
const GROUPS_MAX: usize = 1000;

/// Spans that match together.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanset {
    /// Places in the trace, rising.
    pub spans: Vec<u32>,
    /// What `by()` and aggregates say of the set: `by(span.x)`, `count()`.
    pub attributes: Vec<(String, Value)>,
}

impl Query {
    /// The sets of spans of that trace that match; none when the trace does not.
    pub fn run(&self, trace: &Trace<'_>) -> Vec<Spanset> {
        let all = Spanset { spans: (0_u32..).take(trace.spans.len()).collect(), attributes: Vec::new() };
        pipeline(trace, &self.stages, vec![all])
    }
}

fn pipeline(trace: &Trace<'_>, stages: &[Stage], mut sets: Vec<Spanset>) -> Vec<Spanset> {
    for stage in stages {
        sets = match stage {
            Stage::Spanset(expr) => {
                let kept = |set: Spanset| Spanset { spans: spans(trace, expr, &set.spans), ..set };
                sets.into_iter().map(kept).collect()
            }
            Stage::Scalar { operator, left, right } => {
                let mut kept = Vec::new();
                for mut set in sets {
                    let sides = scalar(trace, left, &mut set).zip(scalar(trace, right, &mut set));
                    if sides.is_some_and(|(left, right)| compares(*operator, &left, &right)) {
                        kept.push(set);
                    }
                }
                kept
            }
            Stage::By(field, name) => sets.into_iter().flat_map(|set| groups(trace, field, name, set)).collect(),
            Stage::Coalesce => {
                let mut spans: Vec<u32> = sets.into_iter().flat_map(|set| set.spans).collect();
                spans.sort_unstable();
                spans.dedup();
                vec![Spanset { spans, attributes: Vec::new() }]
            }
            Stage::Select => sets,
        };
        sets.retain(|set| !set.spans.is_empty());
        if sets.is_empty() {
            break;
        }
    }
    sets
}

fn spans(trace: &Trace<'_>, expr: &SpansetExpr, input: &[u32]) -> Vec<u32> {
    match expr {
        SpansetExpr::Filter(Field::Static(Value::Bool(true))) => input.to_vec(),
        SpansetExpr::Filter(field) => input.iter().copied().filter(|at| trace.holds(*at as usize, field)).collect(),
        SpansetExpr::Pipeline(stages) => {
            let whole = Spanset { spans: input.to_vec(), attributes: Vec::new() };
            let left = pipeline(trace, stages, vec![whole]);
            union(left.into_iter().flat_map(|set| set.spans).collect())
        }
        SpansetExpr::And(left, right) => {
            let left = spans(trace, left, input);
            if left.is_empty() {
                return left;
            }
            let right = spans(trace, right, input);
            if right.is_empty() { right } else { union([left, right].concat()) }
        }
        SpansetExpr::Or(left, right) => union([spans(trace, left, input), spans(trace, right, input)].concat()),
        SpansetExpr::Structural { relation, form, left, right } => {
            let (left, right) = (spans(trace, left, input), spans(trace, right, input));
            related(trace, *relation, *form, &left, &right)
        }
    }
}

fn union(mut spans: Vec<u32>) -> Vec<u32> {
    spans.sort_unstable();
    spans.dedup();
    spans
}

/// One set for each value, in order of first appearance.
fn groups(trace: &Trace<'_>, field: &Field, name: &Attribute, set: Spanset) -> Vec<Spanset> {
    let mut found: Vec<(Value, Vec<u32>)> = Vec::new();
    let mut known: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for at in set.spans {
        let value = trace.evaluate(at as usize, field).into_iter().next().unwrap_or(Value::Nil);
        let place = *known.entry(format!("{value:?}")).or_insert(found.len());
        match found.get_mut(place) {
            Some((_, spans)) => spans.push(at),
            None if place < GROUPS_MAX => found.push((value, vec![at])),
            None => {}
        }
    }
    let attribute = format!("by({})", name.written());
    let with = |(value, spans)| {
        let mut attributes = set.attributes.clone();
        attributes.push((attribute.clone(), value));
        Spanset { spans, attributes }
    };
    found.into_iter().map(with).collect()
}

/// The number of a set; noted on it when it is an aggregate.
fn scalar(trace: &Trace<'_>, expr: &Scalar, set: &mut Spanset) -> Option<Value> {
    match expr {
        Scalar::Static(value) => Some(value.clone()),
        Scalar::Binary(operator, left, right) => {
            let (left, right) = (scalar(trace, left, set)?, scalar(trace, right, set)?);
            arithmetic(*operator, &left, &right)
        }
        Scalar::Aggregate(aggregate, field) => {
            let value = aggregated(trace, *aggregate, field.as_ref(), &set.spans)?;
            let inner = match field {
                Some(Field::Attribute(attribute)) => attribute.written(),
                _ => String::new(),
            };
            let name = format!("{}({inner})", format!("{aggregate:?}").to_lowercase());
            set.attributes.push((name, value.clone()));
            Some(value)
        }
    }
}

fn aggregated(trace: &Trace<'_>, aggregate: Aggregate, field: Option<&Field>, spans: &[u32]) -> Option<Value> {
    let Some(field) = field else { return Some(Value::Int(spans.len() as i64)) };
    let values = spans.iter().flat_map(|at| trace.evaluate(*at as usize, field));
    let mut numbers: Vec<f64> = Vec::new();
    let mut like = None;
    for value in values {
        if let Some(number) = value.number() {
            numbers.push(number);
            like.get_or_insert(value);
        }
    }
    let sum = || numbers.iter().sum::<f64>();
    let number = match aggregate {
        Aggregate::Count => numbers.len() as f64,
        Aggregate::Avg => sum() / numbers.len() as f64,
        Aggregate::Sum => sum(),
        Aggregate::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Aggregate::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
    };
    Some(match like? {
        Value::Duration(_) => Value::Duration(number as i64),
        Value::Int(_) if aggregate != Aggregate::Avg => Value::Int(number as i64),
        _ => Value::Float(number),
    })
}
