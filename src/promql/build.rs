//! Joins the tree that `promql-parser` makes of the plain form with the facts of the survey.
//!
//! Invariant: facts stand in the order in which nodes end, and the tree is walked in that order, so that each node
//! takes exactly one fact. A mismatch is a defect of ours and is reported as one, never guessed around.

use promql_parser::parser::{self, BinModifier, LabelModifier, VectorMatchCardinality};

use super::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Group, Kind, Matching, Node, Span, Subquery, ValueKind, VectorSelector,
    Written,
};
use super::error::ParseError;
use super::functions::Rule;
use super::info;
use super::survey::{Durations, Fact, Leaf, Length, Piece, Survey};
use crate::model::{METRIC_NAME, Matcher};

/// A tree and what is known of it.
pub(super) struct Built {
    pub root: Node,
    /// The first use of something experimental.
    pub experimental: Option<ParseError>,
    pub durations: Durations,
    pub nodes: usize,
}

/// Builds the tree of `query`; `experimental` as for [`super::survey::survey`].
///
/// # Errors
/// The first syntax or type error.
pub(super) fn build(query: &str, experimental: bool) -> Result<Built, ParseError> {
    let Survey { pieces, whole, experimental, durations } = super::survey::survey(query, experimental)?;
    let mut builder = Builder { facts: Vec::new().into_iter(), pieces: Vec::with_capacity(pieces.len()), selectors: 0 };
    let nodes = whole.facts.len() + pieces.iter().map(|piece| piece.facts.len()).sum::<usize>();
    for piece in pieces {
        let node = builder.piece(query, piece)?;
        builder.pieces.push(Some(node));
    }
    Ok(Built { root: builder.piece(query, whole)?, experimental, durations, nodes })
}

struct Builder {
    facts: std::vec::IntoIter<Fact>,
    /// Nodes of the pieces so far, each until the piece that refers to it takes it.
    pieces: Vec<Option<Node>>,
    selectors: usize,
}

impl Builder {
    fn piece(&mut self, query: &str, Piece { facts, plain }: Piece) -> Result<Node, ParseError> {
        let tree = parser::parse(&plain).map_err(|message| ParseError::new(query, 0, message))?;
        self.facts = facts.into_iter();
        let node = self.node(&tree).filter(|_| self.facts.next().is_none());
        node.ok_or_else(|| {
            ParseError::new(query, 0, format!("cannot read the shape of this expression (read as{plain})"))
        })
    }

    fn node(&mut self, expr: &parser::Expr) -> Option<Node> {
        use parser::Expr::{
            Aggregate, Binary, Call, MatrixSelector, NumberLiteral, Paren, StringLiteral, Subquery, Unary,
            VectorSelector,
        };
        match expr {
            NumberLiteral(_) | StringLiteral(_) | VectorSelector(_) | MatrixSelector(_) => self.leaf(),
            Paren(paren) => self.paren(paren),
            // The crate drops a unary plus; the survey writes it as a minus and knows better.
            Unary(unary) => self.unary(unary),
            Binary(binary) => self.binary(binary),
            Aggregate(aggregate) => self.aggregate(aggregate),
            Call(call) => self.call(call),
            Subquery(subquery) => self.subquery(subquery),
            parser::Expr::Extension(_) => None,
        }
    }

    fn finish(fact: &Fact, kind: Kind, fixed: bool) -> Node {
        Node { kind, span: fact.span, value: fact.value, fixed }
    }

    fn leaf(&mut self) -> Option<Node> {
        let fact = self.facts.next()?;
        let (kind, fixed) = match &fact.leaf {
            Leaf::Piece(at) => return self.pieces.get_mut(*at)?.take(),
            Leaf::Number(value, is_duration) => (Kind::Number { value: *value, is_duration: *is_duration }, true),
            Leaf::Text(text) => (Kind::Text(text.clone()), true),
            Leaf::Selector { name, matchers, range, time } => {
                self.selectors += 1;
                let selector = VectorSelector {
                    id: self.selectors - 1,
                    name: name.clone(),
                    matchers: matchers.as_slice().into(),
                    range_ms: range.as_ref().map(|range| range.ms),
                    offset_ms: time.offset.as_ref().map_or(0, |offset| offset.ms),
                    at: time.at,
                    written: written(range.as_ref(), None, time.offset.as_ref()),
                };
                (Kind::Selector(Box::new(selector)), time.at.is_some())
            }
            _ => return None,
        };
        Some(Self::finish(&fact, kind, fixed))
    }

    fn paren(&mut self, paren: &parser::ParenExpr) -> Option<Node> {
        let inner = self.node(&paren.expr)?;
        let fact = self.facts.next().filter(|fact| matches!(fact.leaf, Leaf::Tree))?;
        let fixed = inner.fixed;
        Some(Self::finish(&fact, Kind::Paren(Box::new(inner)), fixed))
    }

    fn unary(&mut self, unary: &parser::UnaryExpr) -> Option<Node> {
        let inner = self.node(&unary.expr)?;
        let fact = self.facts.next()?;
        let Leaf::Unary { negative } = fact.leaf else { return None };
        let fixed = inner.fixed;
        Some(Self::finish(&fact, Kind::Unary { negative, inner: Box::new(inner) }, fixed))
    }

    fn binary(&mut self, binary: &parser::BinaryExpr) -> Option<Node> {
        let (left, right) = (self.node(&binary.lhs)?, self.node(&binary.rhs)?);
        let fact = self.facts.next().filter(|fact| matches!(fact.leaf, Leaf::Tree))?;
        let op = BinaryOp::of_text(&binary.op.to_string())?;
        let return_bool = binary.modifier.as_ref().is_some_and(|modifier| modifier.return_bool);
        // Beside a scalar it means nothing, and Prometheus forgets it.
        let vectors = left.value == ValueKind::Vector && right.value == ValueKind::Vector;
        let matching = binary.modifier.as_ref().filter(|_| vectors).map(matching_of).unwrap_or_default();
        let fixed = left.fixed && right.fixed;
        let binary = Binary { op, left, right, return_bool, matching };
        Some(Self::finish(&fact, Kind::Binary(Box::new(binary)), fixed))
    }

    fn aggregate(&mut self, aggregate: &parser::AggregateExpr) -> Option<Node> {
        let param = match &aggregate.param {
            Some(param) => Some(self.node(param)?),
            None => None,
        };
        let inner = self.node(&aggregate.expr)?;
        let fact = self.facts.next().filter(|fact| matches!(fact.leaf, Leaf::Tree))?;
        let op = AggregateOp::of_word(&aggregate.op.to_string())?;
        let (without, grouping) = match &aggregate.modifier {
            Some(LabelModifier::Exclude(labels)) => (true, labels.labels.clone()),
            Some(LabelModifier::Include(labels)) => (false, labels.labels.clone()),
            None => (false, Vec::new()),
        };
        let fixed = inner.fixed && param.as_ref().is_none_or(|param| param.fixed);
        let aggregate = Aggregate { op, inner, param, without, grouping };
        Some(Self::finish(&fact, Kind::Aggregate(Box::new(aggregate)), fixed))
    }

    fn call(&mut self, call: &parser::Call) -> Option<Node> {
        let mut args: Vec<Node> = call.args.args.iter().map(|arg| self.node(arg)).collect::<Option<_>>()?;
        let fact = self.facts.next()?;
        let Leaf::Call(function) = fact.leaf else { return None };
        if function.rule == Rule::Info && args.len() == 1 {
            args.push(self.default_info());
        }
        let fixed = !function.depends_on_step() && args.iter().all(|arg| arg.fixed);
        Some(Self::finish(&fact, Kind::Call { function, args }, fixed))
    }

    /// The selector that `info(v)` means; its empty span says that nobody wrote it.
    fn default_info(&mut self) -> Node {
        self.selectors += 1;
        let selector = VectorSelector {
            id: self.selectors - 1,
            name: Some(info::DEFAULT_METRIC.to_owned()),
            matchers: [Matcher::equal(METRIC_NAME, info::DEFAULT_METRIC)].into(),
            range_ms: None,
            offset_ms: 0,
            at: None,
            written: None,
        };
        let kind = Kind::Selector(Box::new(selector));
        Node { kind, span: Span::default(), value: ValueKind::Vector, fixed: false }
    }

    fn subquery(&mut self, subquery: &parser::SubqueryExpr) -> Option<Node> {
        let inner = self.node(&subquery.expr)?;
        let fact = self.facts.next()?;
        let Leaf::Subquery { range, step, time } = &fact.leaf else { return None };
        let subquery = Subquery {
            inner,
            range_ms: range.ms,
            step_ms: step.as_ref().map(|step| step.ms),
            offset_ms: time.offset.as_ref().map_or(0, |offset| offset.ms),
            at: time.at,
            written: written(Some(range), step.as_ref(), time.offset.as_ref()),
        };
        Some(Self::finish(&fact, Kind::Subquery(Box::new(subquery)), time.at.is_some()))
    }
}

/// How durations are printed where one of them is an expression.
fn written(range: Option<&Length>, step: Option<&Length>, offset: Option<&Length>) -> Option<Box<Written>> {
    let text = |length: Option<&Length>| length.and_then(|length| length.written.clone());
    let written = Written { range: text(range), step: text(step), offset: text(offset) };
    (written != Written::default()).then(|| Box::new(written))
}

fn matching_of(modifier: &BinModifier) -> Matching {
    let (on, labels) = match &modifier.matching {
        Some(LabelModifier::Include(labels)) => (true, labels.labels.clone()),
        Some(LabelModifier::Exclude(labels)) => (false, labels.labels.clone()),
        None => (false, Vec::new()),
    };
    let (group, include) = match &modifier.card {
        VectorMatchCardinality::ManyToOne(labels) => (Group::ManyToOne, labels.labels.clone()),
        VectorMatchCardinality::OneToMany(labels) => (Group::OneToMany, labels.labels.clone()),
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => (Group::OneToOne, Vec::new()),
    };
    Matching { on, labels, group, include }
}
