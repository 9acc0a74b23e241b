//! What every match of a query needs of one span, so that an index can find candidates.
//!
//! In: a query. Out: [`Needs`], all of which hold together at one span of every trace that matches. Pure. Invariant: a
//! need is never more than the query asks; what cannot be said of one span is left out.

use super::ast::{Attribute, Field, Form, Intrinsic, Operator, Query, Scope, SpansetExpr, Stage};
use super::value::Value;
use crate::model::span::SpanStatus;

/// Conditions that one span of a matching trace satisfies together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// `service.name` of its resource.
    pub service: Option<String>,
    /// Its name.
    pub operation: Option<String>,
    /// It failed.
    pub error: bool,
    /// It takes at least this long, nanoseconds.
    pub duration_ns_min: Option<u64>,
    /// Attributes of the span or its resource, with the text of their value.
    pub attributes: Vec<(String, String)>,
}

impl Needs {
    fn weight(&self) -> usize {
        let Self { service, operation, error, duration_ns_min, attributes } = self;
        2 * usize::from(service.is_some())
            + 2 * usize::from(operation.is_some())
            + usize::from(*error)
            + usize::from(duration_ns_min.is_some())
            + 2 * attributes.len()
    }
}

impl Query {
    /// What every match needs of one span.
    pub fn needs(&self) -> Needs {
        of_stages(&self.stages)
    }
}

/// The strictest stage: all of them see spans of the first.
fn of_stages(stages: &[Stage]) -> Needs {
    let sets = stages.iter().filter_map(|stage| match stage {
        Stage::Spanset(expr) => Some(of_spanset(expr)),
        _ => None,
    });
    sets.reduce(stricter).unwrap_or_default()
}

fn stricter(a: Needs, b: Needs) -> Needs {
    if b.weight() > a.weight() { b } else { a }
}

fn of_spanset(expr: &SpansetExpr) -> Needs {
    match expr {
        SpansetExpr::Filter(field) => {
            let mut needs = Needs::default();
            of_field(field, &mut needs);
            needs
        }
        SpansetExpr::Pipeline(stages) => of_stages(stages),
        SpansetExpr::And(left, right) => stricter(of_spanset(left), of_spanset(right)),
        SpansetExpr::Or(..) => Needs::default(),
        // A negation returns right spans even where there is no left one.
        SpansetExpr::Structural { form: Form::Negated, right, .. } => of_spanset(right),
        SpansetExpr::Structural { left, right, .. } => stricter(of_spanset(left), of_spanset(right)),
    }
}

fn of_field(field: &Field, needs: &mut Needs) {
    let Field::Binary(operator, left, right) = field else { return };
    if *operator == Operator::And {
        of_field(left, needs);
        of_field(right, needs);
        return;
    }
    let (attribute, value, operator) = match (&**left, &**right) {
        (Field::Attribute(attribute), Field::Static(value)) => (attribute, value, *operator),
        (Field::Static(value), Field::Attribute(attribute)) => (attribute, value, turned(*operator)),
        _ => return,
    };
    match (attribute, value, operator) {
        (Attribute::Intrinsic(Intrinsic::Status), Value::Status(SpanStatus::Error), Operator::Equal) => {
            needs.error = true;
        }
        (Attribute::Intrinsic(Intrinsic::Name), Value::String(name), Operator::Equal) => {
            needs.operation = Some(name.to_string());
        }
        (
            Attribute::Intrinsic(Intrinsic::Duration),
            value,
            Operator::Greater | Operator::GreaterEqual | Operator::Equal,
        ) => {
            let least = value.number().filter(|ns| *ns > 0.0).map_or(0, |ns| ns as u64);
            needs.duration_ns_min = needs.duration_ns_min.max(Some(least)).filter(|least| *least > 0);
        }
        (Attribute::Named { scope, name, of_parent: false }, value, Operator::Equal) => match (scope, value) {
            (Scope::Resource, Value::String(service)) if name == "service.name" => {
                needs.service = Some(service.to_string());
            }
            (Scope::Any | Scope::Span | Scope::Resource, Value::String(_) | Value::Int(_) | Value::Bool(_)) => {
                needs.attributes.push((name.clone(), value.text()));
            }
            _ => {}
        },
        _ => {}
    }
}

fn turned(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessEqual => Operator::GreaterEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterEqual => Operator::LessEqual,
        other => other,
    }
}
