//! A parsed expression, cheap to clone and to keep.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ast::{AggregateOp, Kind, Node, ValueKind};
use super::build::Built;
use super::error::ParseError;
use super::functions::Rule;
use super::survey::Durations;
use super::table::Grid;
use super::{build, plan, print, tree};
use crate::model::Matcher;

pub use super::ast::At;

/// Longest query, in bytes.
pub const QUERY_LIMIT_BYTES: usize = 64 * 1024;
/// Levels of the deepest tree that is given as JSON.
pub const TREE_LEVELS_MAX: usize = 192;

/// Parts of the language that Prometheus 3.5 has behind flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `--enable-feature=promql-experimental-functions`
    pub experimental_functions: bool,
    /// `--enable-feature=promql-duration-expr`
    pub duration_expressions: bool,
}

/// A parsed, typed expression.
#[derive(Clone)]
pub struct Expr(Arc<Parsed>);

struct Parsed {
    query: Arc<str>,
    root: Arc<Node>,
    experimental: Option<ParseError>,
    durations: Durations,
    nodes: usize,
}

/// One selector of an expression, for those who check expressions rather than run them.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// The metric name, when one is written or an `=` matcher on `__name__` says it.
    pub name: Option<String>,
    /// All matchers, the name's included.
    pub matchers: Vec<Matcher>,
    /// Range of a range selector.
    pub range: Option<Duration>,
    /// `offset`, negative when it looks ahead.
    pub offset_ms: i64,
    /// `@`.
    pub at: Option<At>,
}

/// Parses a query, whatever it uses; [`Expr::check_enabled`] says whether that is enabled.
///
/// # Errors
/// The first syntax or type error, with Prometheus' text and place; also for a query of more than
/// [`QUERY_LIMIT_BYTES`] or nested too deep.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    read(query, true)
}

/// Parses a query that may use `features`.
///
/// # Errors
/// As [`parse`], and for what is not enabled: the one that Prometheus finds first.
pub fn parse_enabled(query: &str, features: Features) -> Result<Expr, ParseError> {
    let expr = read(query, features.experimental_functions)?;
    expr.check_enabled(features)?;
    Ok(expr)
}

fn read(query: &str, experimental: bool) -> Result<Expr, ParseError> {
    if query.len() > QUERY_LIMIT_BYTES {
        let message = format!("query of {} bytes is longer than {QUERY_LIMIT_BYTES}", query.len());
        return Err(ParseError::new(query, 0, message));
    }
    let Built { root, experimental, durations, nodes } = build::build(query, experimental)?;
    Ok(Expr(Arc::new(Parsed { query: query.into(), root: Arc::new(root), experimental, durations, nodes })))
}

/// Why a text is no series selector with nothing around it, in Prometheus' words; `None` when it is one as far as its
/// tokens tell, or when what is wrong stands within its braces, of which [`parse`] tells.
pub fn around_selector(text: &str) -> Option<ParseError> {
    use super::lex::{Kind as Token, tokens};
    let tokens = tokens(text);
    let is_name = |kind: &Token| {
        matches!(kind, Token::Identifier | Token::MetricIdentifier | Token::Aggregator(_) | Token::Keyword(_))
    };
    let mut at = usize::from(is_name(&tokens[0].kind));
    if tokens[at].kind == Token::LeftBrace {
        at = tokens.iter().position(|token| token.kind == Token::RightBrace)? + 1;
    } else if at == 0 && matches!(tokens[0].kind, Token::End | Token::Error(_)) {
        return None;
    }
    let next = tokens.get(at).filter(|token| !matches!(token.kind, Token::End | Token::Error(_)))?;
    Some(ParseError::new(text, next.start, format!("unexpected {}", next.describe(text))))
}

impl Expr {
    /// What it yields.
    pub fn kind(&self) -> ValueKind {
        self.0.root.value
    }

    /// Whether it puts the samples of an instant query in an order: `sort` and its like, `topk` and `bottomk`, outermost.
    pub fn has_order(&self) -> bool {
        let mut node = &*self.0.root;
        while let Kind::Paren(inner) = &node.kind {
            node = inner;
        }
        match &node.kind {
            Kind::Aggregate(one) => matches!(one.op, AggregateOp::Topk | AggregateOp::Bottomk),
            Kind::Call { function, .. } => {
                use Rule::{Sort, SortByLabel, SortByLabelDesc, SortDesc};
                matches!(function.rule, Sort | SortDesc | SortByLabel | SortByLabelDesc)
            }
            _ => false,
        }
    }

    /// The text it was parsed from.
    pub fn query(&self) -> Arc<str> {
        Arc::clone(&self.0.query)
    }

    /// Printed over several lines where one would be longer than 100 characters, as `promtool promql format` does.
    pub fn pretty(&self) -> String {
        print::pretty(&self.0.root)
    }

    /// As a JSON tree, in the shape of Prometheus' `/api/v1/parse_query`.
    ///
    /// # Errors
    /// When the tree is deeper than readers of JSON follow: a chain of more than 192 operators.
    pub fn tree(&self) -> Result<serde_json::Value, ParseError> {
        if self.0.root.levels() > TREE_LEVELS_MAX {
            let message = format!("expression is deeper than {TREE_LEVELS_MAX} levels, too deep for a tree");
            return Err(ParseError::new(&self.0.query, 0, message));
        }
        Ok(tree::tree(&self.0.root))
    }

    /// How many nodes it has: what evaluating it costs at each step even without samples.
    pub(super) fn nodes(&self) -> usize {
        self.0.nodes
    }

    /// Refuses what `features` leave out.
    ///
    /// # Errors
    /// The first use of something that is not enabled, or a mistake in something that is.
    pub fn check_enabled(&self, features: Features) -> Result<(), ParseError> {
        let Parsed { experimental, durations, .. } = &*self.0;
        let refused = [
            experimental.as_ref().filter(|_| !features.experimental_functions),
            durations.used.as_ref().filter(|_| !features.duration_expressions),
            durations.invalid.as_ref(),
        ];
        match refused.into_iter().flatten().next() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Why it cannot be run although it can be read: a duration expression that comes to nothing a range can be.
    pub(super) fn unusable(&self) -> Option<&str> {
        self.0.durations.unusable.as_deref()
    }

    /// The selector that the whole expression is, without range, offset or `@`: what `match[]` takes.
    pub fn as_selector(&self) -> Option<Selector> {
        let Kind::Selector(_) = &self.0.root.kind else { return None };
        self.selectors().pop().filter(|one| one.range.is_none() && one.offset_ms == 0 && one.at.is_none())
    }

    /// All selectors, left to right.
    pub fn selectors(&self) -> Vec<Selector> {
        let mut selectors = Vec::new();
        self.0.root.each_selector(&mut |selector| {
            let named = selector.matchers.iter().find(|matcher| {
                &*matcher.name == crate::model::METRIC_NAME && matcher.op == crate::model::MatchOp::Equal
            });
            selectors.push(Selector {
                name: selector.name.clone().or_else(|| named.map(|matcher| matcher.value.to_string())),
                matchers: selector.matchers.to_vec(),
                range: selector.range_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())),
                offset_ms: selector.offset_ms,
                at: selector.at,
            });
        });
        selectors
    }

    /// How far before the time of an evaluation the expression reads: ranges, offsets and subqueries together, `lookback`
    /// where a selector has no range. What `@` fixes is not counted.
    pub fn reach(&self, lookback: Duration) -> Duration {
        let lookback_ms = i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX);
        let asked = plan::Asked { grid: Grid { start: 0, step: 0, steps: 1 }, end_ms: 0 };
        let (wants, _) = plan::wants(&self.0.root, asked, lookback_ms, 60_000);
        let earliest = wants.iter().map(|want| want.from).min().unwrap_or(0).min(0);
        Duration::from_millis(earliest.unsigned_abs() + 1)
    }

    /// The value of an expression that is just a number.
    pub fn as_number(&self) -> Option<f64> {
        match self.0.root.unwrapped().kind {
            Kind::Number { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The tree, for those who read it rather than run it.
    pub(crate) fn root(&self) -> &Node {
        &self.0.root
    }

    pub(super) fn root_arc(&self) -> Arc<Node> {
        Arc::clone(&self.0.root)
    }
}

/// As Prometheus' `Expr.String()`.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.root.fmt(f)
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({self})")
    }
}
