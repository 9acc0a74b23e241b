//! The tree of a query.
//!
//! Made by `parser`, read by `evaluate`, `metrics` and `needs`. Invariant: its depth is bounded by the parser.

use super::value::Value;

/// Where an attribute is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// On the span, then on its resource.
    Any,
    /// On the span.
    Span,
    /// On the resource.
    Resource,
    /// On the events of the span; any of them.
    Event,
    /// On the links of the span; any of them.
    Link,
    /// On the instrumentation scope, of which only the name is kept.
    Instrumentation,
}

/// What a span or its trace has without attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in TraceQL")]
pub enum Intrinsic {
    Duration,
    Name,
    Status,
    StatusMessage,
    Kind,
    ChildCount,
    Parent,
    ParentId,
    SpanId,
    TraceId,
    TraceDuration,
    RootName,
    RootServiceName,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
}

/// Names of intrinsics and what they mean; the first of each is the one that answers carry.
pub(super) const INTRINSICS: &[(&str, Intrinsic)] = &[
    ("duration", Intrinsic::Duration),
    ("span:duration", Intrinsic::Duration),
    ("name", Intrinsic::Name),
    ("span:name", Intrinsic::Name),
    ("status", Intrinsic::Status),
    ("span:status", Intrinsic::Status),
    ("statusMessage", Intrinsic::StatusMessage),
    ("span:statusMessage", Intrinsic::StatusMessage),
    ("kind", Intrinsic::Kind),
    ("span:kind", Intrinsic::Kind),
    ("childCount", Intrinsic::ChildCount),
    ("span:childCount", Intrinsic::ChildCount),
    ("parent", Intrinsic::Parent),
    ("span:parentID", Intrinsic::ParentId),
    ("span:id", Intrinsic::SpanId),
    ("trace:id", Intrinsic::TraceId),
    ("traceDuration", Intrinsic::TraceDuration),
    ("trace:duration", Intrinsic::TraceDuration),
    ("rootName", Intrinsic::RootName),
    ("trace:rootName", Intrinsic::RootName),
    ("rootServiceName", Intrinsic::RootServiceName),
    ("trace:rootService", Intrinsic::RootServiceName),
    ("nestedSetLeft", Intrinsic::NestedSetLeft),
    ("nestedSetRight", Intrinsic::NestedSetRight),
    ("nestedSetParent", Intrinsic::NestedSetParent),
    ("event:name", Intrinsic::EventName),
    ("event:timeSinceStart", Intrinsic::EventTimeSinceStart),
    ("link:traceID", Intrinsic::LinkTraceId),
    ("link:spanID", Intrinsic::LinkSpanId),
    ("instrumentation:name", Intrinsic::InstrumentationName),
];

/// Something that is read of a span.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// An attribute by its name; `of_parent` reads the parent span.
    Named {
        /// Where.
        scope: Scope,
        /// Its name.
        name: String,
        /// Of the parent of the span.
        of_parent: bool,
    },
    /// An intrinsic.
    Intrinsic(Intrinsic),
}

impl Attribute {
    /// The name alone, as answers of a search have it: `http.method`, `status`.
    pub fn name(&self) -> &str {
        match self {
            Self::Named { name, .. } => name,
            Self::Intrinsic(intrinsic) => intrinsic.name(),
        }
    }

    /// As it is written in a query, which is the name of a label: `resource.service.name`.
    pub fn written(&self) -> String {
        match self {
            Self::Intrinsic(intrinsic) => intrinsic.name().to_owned(),
            Self::Named { scope, name, of_parent } => {
                let parent = if *of_parent { "parent." } else { "" };
                let scope = match scope {
                    Scope::Any if *of_parent => "",
                    Scope::Any => ".",
                    Scope::Span => "span.",
                    Scope::Resource => "resource.",
                    Scope::Event => "event.",
                    Scope::Link => "link.",
                    Scope::Instrumentation => "instrumentation.",
                };
                format!("{parent}{scope}{name}")
            }
        }
    }
}

impl Intrinsic {
    /// Its name.
    pub fn name(self) -> &'static str {
        INTRINSICS.iter().find(|(_, intrinsic)| *intrinsic == self).map_or("", |(name, _)| name)
    }
}

/// Operators within a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    And,
    Or,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Regex,
    NotRegex,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

/// An expression over one span.
#[derive(Clone, Debug)]
pub(super) enum Field {
    Static(Value),
    Attribute(Attribute),
    Not(Box<Field>),
    Negative(Box<Field>),
    Binary(Operator, Box<Field>, Box<Field>),
    /// Whether one of the texts matches, or with `negated` none.
    Matches {
        field: Box<Field>,
        regex: regex::Regex,
        negated: bool,
    },
}

/// How the spans of two sets stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Child,
    Descendant,
    Parent,
    Ancestor,
    Sibling,
}

/// What a structural operator returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The right spans that stand so to a left one.
    Plain,
    /// The right spans that do not.
    Negated,
    /// The spans of both sides that stand so to each other.
    Union,
}

/// An expression that makes one set of spans of another.
#[derive(Clone, Debug)]
pub(super) enum SpansetExpr {
    Filter(Field),
    Pipeline(Vec<Stage>),
    And(Box<SpansetExpr>, Box<SpansetExpr>),
    Or(Box<SpansetExpr>, Box<SpansetExpr>),
    Structural { relation: Relation, form: Form, left: Box<SpansetExpr>, right: Box<SpansetExpr> },
}

/// Sums over the spans of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Count,
    Avg,
    Max,
    Min,
    Sum,
}

/// A number or duration of a whole set of spans.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Static(Value),
    Aggregate(Aggregate, Option<Field>),
    Binary(Operator, Box<Scalar>, Box<Scalar>),
}

/// One step of a pipeline.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Spanset(SpansetExpr),
    Scalar {
        operator: Operator,
        left: Scalar,
        right: Scalar,
    },
    By(Field, Attribute),
    Coalesce,
    /// What it names is in [`Query::mentioned`].
    Select,
}

/// What a metrics function makes of the spans of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Rate,
    Count,
    Min,
    Max,
    Avg,
    Sum,
    Quantile,
    Histogram,
}

/// The last stage of a metrics query.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) function: Function,
    pub(super) field: Option<Attribute>,
    pub(super) quantiles: Vec<f64>,
    pub(super) by: Vec<Attribute>,
}

/// A query that was understood.
#[derive(Clone, Debug)]
pub struct Query {
    pub(super) stages: Vec<Stage>,
    pub(super) metrics: Option<Metrics>,
    /// What is read of spans, in order of first mention, each once.
    pub(super) mentioned: Vec<Attribute>,
}

impl Query {
    /// Whether it makes series and not traces.
    pub fn is_metrics(&self) -> bool {
        self.metrics.is_some()
    }

    /// What the query reads of spans; answers show it of each span.
    pub fn mentioned(&self) -> &[Attribute] {
        &self.mentioned
    }
}
