//! The expression tree that the evaluator walks: resolved, typed, every node with its place in the query.
//!
//! Invariant: a tree that [`super::parse`] returns is well typed; the evaluator relies on it.

use std::sync::Arc;

use super::functions::Function;
use crate::model::Matcher;

/// What an expression yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// One number at each time.
    Scalar,
    /// One sample of each series at each time.
    Vector,
    /// Samples of each series over a range.
    Matrix,
    /// A text.
    String,
}

impl ValueKind {
    /// The name in the HTTP API's `resultType`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }

    /// The name in Prometheus' documentation and error texts.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }
}

/// First and one past the last byte of a node in the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// The time that an `@` modifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// `@ start()`: the first time of the query.
    Start,
    /// `@ end()`: the last time of the query.
    End,
    /// `@ 1609746000`, in milliseconds since the epoch.
    Millis(i64),
}

/// A text literal. Prometheus' strings are bytes, ours are UTF-8, so what is not is kept aside to be refused by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    pub value: String,
    pub not_utf8: Option<Vec<u8>>,
}

impl Text {
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(value) => Self { value, not_utf8: None },
            Err(error) => {
                let bytes = error.into_bytes();
                Self { value: String::from_utf8_lossy(&bytes).into_owned(), not_utf8: Some(bytes) }
            }
        }
    }

    /// Go's `%q`.
    pub fn quoted(&self) -> String {
        super::lex::quote_bytes(self.not_utf8.as_deref().unwrap_or(self.value.as_bytes()))
    }
}

/// One node and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    pub span: Span,
    pub value: ValueKind,
    /// Whether it has the same result at every step, so that it is evaluated once.
    pub fixed: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Number { value: f64, is_duration: bool },
    Text(Text),
    Selector(Box<VectorSelector>),
    Subquery(Box<Subquery>),
    Paren(Box<Node>),
    Unary { negative: bool, inner: Box<Node> },
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call { function: &'static Function, args: Vec<Node> },
}

/// `name{matchers}[range] @ at offset offset`.
#[derive(Clone, Debug)]
pub(crate) struct VectorSelector {
    /// Which selector of the expression; from 0, without gaps.
    pub id: usize,
    pub name: Option<String>,
    pub matchers: Arc<[Matcher]>,
    pub range_ms: Option<i64>,
    pub offset_ms: i64,
    pub at: Option<At>,
    pub written: Option<Box<Written>>,
}

/// Durations that are expressions, as they are printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Written {
    pub range: Option<String>,
    pub step: Option<String>,
    pub offset: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Subquery {
    pub inner: Node,
    pub range_ms: i64,
    pub step_ms: Option<i64>,
    pub offset_ms: i64,
    pub at: Option<At>,
    pub written: Option<Box<Written>>,
}

/// Operators bind to the left, so that a long `a or b or c …` is a tree with a deep left side: what walks the tree goes
/// down it in a loop ([`Node::chain`]), and so does its end.
#[derive(Debug)]
pub(crate) struct Binary {
    pub op: BinaryOp,
    pub left: Node,
    pub right: Node,
    pub return_bool: bool,
    pub matching: Matching,
}

/// How the series of both sides of a binary operator find each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Matching {
    pub on: bool,
    pub labels: Vec<String>,
    pub group: Group,
    /// Labels copied from the "one" side.
    pub include: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Group {
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
}

#[derive(Debug)]
pub(crate) struct Aggregate {
    pub op: AggregateOp,
    pub inner: Node,
    pub param: Option<Node>,
    pub without: bool,
    pub grouping: Vec<String>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($variant),* }
        impl $name {
            /// As written in a query.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
            /// The operator of that text.
            pub fn of_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words!(
    /// Operators between two expressions.
    BinaryOp {
        Add = "+", Sub = "-", Mul = "*", Div = "/", Mod = "%", Pow = "^", Atan2 = "atan2",
        Equal = "==", NotEqual = "!=", Less = "<", Greater = ">", LessEqual = "<=", GreaterEqual = ">=",
        And = "and", Or = "or", Unless = "unless",
    }
);

words!(
    /// Aggregation operators.
    AggregateOp {
        Sum = "sum", Avg = "avg", Count = "count", Min = "min", Max = "max", Group = "group", Stddev = "stddev",
        Stdvar = "stdvar", Topk = "topk", Bottomk = "bottomk", CountValues = "count_values", Quantile = "quantile",
        Limitk = "limitk", LimitRatio = "limit_ratio",
    }
);

impl BinaryOp {
    /// The operator that a lower-case word means.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::of_text(word).filter(|_| word.starts_with(|c: char| c.is_ascii_alphabetic()))
    }

    /// Binding strength; higher binds tighter.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            op if op.is_comparison() => 3,
            Self::Add | Self::Sub => 4,
            Self::Pow => 6,
            _ => 5,
        }
    }

    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | Greater | LessEqual | GreaterEqual)
    }

    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl AggregateOp {
    /// The aggregation that a lower-case word means.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::of_text(word)
    }

    /// What its parameter is, when it has one.
    pub fn parameter(self) -> Option<ValueKind> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => Some(ValueKind::Scalar),
            Self::CountValues => Some(ValueKind::String),
            _ => None,
        }
    }

    pub fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

impl Drop for Binary {
    /// Takes a chain apart from its last operator to its first, instead of recursing once for each.
    fn drop(&mut self) {
        let nothing = || Kind::Number { value: 0.0, is_duration: false };
        let mut next = std::mem::replace(&mut self.left.kind, nothing());
        while let Kind::Binary(binary) = &mut next {
            next = std::mem::replace(&mut binary.left.kind, nothing());
        }
    }
}

impl Node {
    /// The leftmost operand of a chain of operators, and the operators above it from the first to the last. Of any other
    /// node itself and none.
    pub fn chain(&self) -> (&Node, Vec<(&Node, &Binary)>) {
        let (mut first, mut links) = (self, Vec::new());
        while let Kind::Binary(binary) = &first.kind {
            links.push((first, &**binary));
            first = &binary.left;
        }
        links.reverse();
        (first, links)
    }

    /// The node inside any parentheses.
    pub fn unwrapped(&self) -> &Node {
        match &self.kind {
            Kind::Paren(inner) => inner.unwrapped(),
            _ => self,
        }
    }

    /// Levels of nodes from here down, each operator of a chain counted.
    pub fn levels(&self) -> usize {
        1 + match &self.kind {
            Kind::Number { .. } | Kind::Text(_) | Kind::Selector(_) => 0,
            Kind::Subquery(subquery) => subquery.inner.levels(),
            Kind::Paren(inner) | Kind::Unary { inner, .. } => inner.levels(),
            Kind::Binary(_) => {
                let (first, links) = self.chain();
                let count = links.len();
                let of_right = |(i, (_, binary)): (usize, &(&Node, &Binary))| binary.right.levels() + count - i - 1;
                let deepest = links.iter().enumerate().map(of_right).max().unwrap_or(0);
                deepest.max(first.levels() + count - 1)
            }
            Kind::Aggregate(aggregate) => {
                aggregate.inner.levels().max(aggregate.param.as_ref().map_or(0, Node::levels))
            }
            Kind::Call { args, .. } => args.iter().map(Node::levels).max().unwrap_or(0),
        }
    }

    /// Whether a subquery is below, whose steps are not among those asked for.
    pub fn has_subquery(&self) -> bool {
        match &self.kind {
            Kind::Number { .. } | Kind::Text(_) | Kind::Selector(_) => false,
            Kind::Subquery(_) => true,
            Kind::Paren(inner) | Kind::Unary { inner, .. } => inner.has_subquery(),
            Kind::Binary(_) => {
                let (first, links) = self.chain();
                first.has_subquery() || links.iter().any(|(_, binary)| binary.right.has_subquery())
            }
            Kind::Aggregate(aggregate) => {
                aggregate.inner.has_subquery() || aggregate.param.as_ref().is_some_and(Node::has_subquery)
            }
            Kind::Call { args, .. } => args.iter().any(Node::has_subquery),
        }
    }

    /// Calls `visit` with every selector below, left to right.
    pub fn each_selector<'a>(&'a self, visit: &mut impl FnMut(&'a VectorSelector)) {
        match &self.kind {
            Kind::Number { .. } | Kind::Text(_) => {}
            Kind::Selector(selector) => visit(selector),
            Kind::Subquery(subquery) => subquery.inner.each_selector(visit),
            Kind::Paren(inner) | Kind::Unary { inner, .. } => inner.each_selector(visit),
            Kind::Binary(_) => {
                let (first, links) = self.chain();
                first.each_selector(visit);
                links.iter().for_each(|(_, binary)| binary.right.each_selector(visit));
            }
            Kind::Aggregate(aggregate) => {
                if let Some(param) = &aggregate.param {
                    param.each_selector(visit);
                }
                aggregate.inner.each_selector(visit);
            }
            Kind::Call { args, .. } => args.iter().for_each(|arg| arg.each_selector(visit)),
        }
    }
}
