//! The expressions of Find and Hide: `rate > 10 and errors > 1%`, `!healthy`, `name = cart* or namespace = shop`.
//!
//! In: a text and a graph. Out: the nodes and edges it is true of, or an error with its position.
//!
//! Grammar: comparisons `field op value` with `= != < <= > >=`, words that are true or false by themselves (`healthy`),
//! `not`/`!`, `and`, `or`, parentheses. Text may hold `*`; values with spaces stand in quotes. Ratios are in percent with
//! or without `%`; latencies in milliseconds unless `s` follows; bytes and rates per second, `k`, `M`, `G` multiply. A
//! comparison whose field an element does not have is neither true nor false there, so `not` does not make it true.

mod complete;
mod parse;

use std::sync::Arc;

use super::health::Status;
use super::types::{Edge, Node, NodeKind, ServiceGraph};

pub use complete::{Completion, complete};

/// Why an expression cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {}: {message}", position + 1)]
pub struct FindError {
    /// Characters before the place.
    pub position: usize,
    /// What is wrong there and what would be right.
    pub message: String,
}

/// A read expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Term);

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Not(Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    Is(Word),
    Number(NumberField, Op, f64),
    Text(TextField, bool, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Status(Status),
    Kind(NodeKind),
    Injected,
    Disagreeing,
    Dead,
    MutualTls,
}

const WORDS: &[(&str, Word)] = &[
    ("healthy", Word::Status(Status::Healthy)),
    ("degraded", Word::Status(Status::Degraded)),
    ("failure", Word::Status(Status::Failure)),
    ("idle", Word::Status(Status::Idle)),
    ("injected", Word::Injected),
    ("disagreeing", Word::Disagreeing),
    ("dead", Word::Dead),
    ("mtls", Word::MutualTls),
    ("workload", Word::Kind(NodeKind::Workload)),
    ("service", Word::Kind(NodeKind::Service)),
    ("unknown", Word::Kind(NodeKind::Unknown)),
    ("passthrough", Word::Kind(NodeKind::Passthrough)),
    ("blackhole", Word::Kind(NodeKind::BlackHole)),
    ("external", Word::Kind(NodeKind::External)),
    ("gateway", Word::Kind(NodeKind::Gateway)),
    ("waypoint", Word::Kind(NodeKind::Waypoint)),
    ("database", Word::Kind(NodeKind::Database)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberField {
    Rate,
    Out,
    Errors,
    ClientErrors,
    MutualTls,
    Share,
    Average,
    P50,
    P90,
    P95,
    P99,
    Bytes,
    Connections,
    Retries,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Percent,
    Milliseconds,
    Plain,
}

const NUMBERS: &[(&str, NumberField, Unit)] = &[
    ("rate", NumberField::Rate, Unit::Plain),
    ("out", NumberField::Out, Unit::Plain),
    ("errors", NumberField::Errors, Unit::Percent),
    ("4xx", NumberField::ClientErrors, Unit::Percent),
    ("mtls", NumberField::MutualTls, Unit::Percent),
    ("share", NumberField::Share, Unit::Percent),
    ("avg", NumberField::Average, Unit::Milliseconds),
    ("p50", NumberField::P50, Unit::Milliseconds),
    ("p90", NumberField::P90, Unit::Milliseconds),
    ("p95", NumberField::P95, Unit::Milliseconds),
    ("p99", NumberField::P99, Unit::Milliseconds),
    ("bytes", NumberField::Bytes, Unit::Plain),
    ("connections", NumberField::Connections, Unit::Plain),
    ("retries", NumberField::Retries, Unit::Plain),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextField {
    Name,
    Namespace,
    App,
    Version,
    Cluster,
    Kind,
    Health,
    Source,
    Target,
    Protocol,
    Reporter,
    Evidence,
    Service,
    Code,
    Flag,
    SourcePrincipal,
    TargetPrincipal,
}

const TEXTS: &[(&str, TextField)] = &[
    ("name", TextField::Name),
    ("namespace", TextField::Namespace),
    ("app", TextField::App),
    ("version", TextField::Version),
    ("cluster", TextField::Cluster),
    ("kind", TextField::Kind),
    ("health", TextField::Health),
    ("source", TextField::Source),
    ("target", TextField::Target),
    ("protocol", TextField::Protocol),
    ("reporter", TextField::Reporter),
    ("evidence", TextField::Evidence),
    ("service", TextField::Service),
    ("code", TextField::Code),
    ("flag", TextField::Flag),
    ("sourceprincipal", TextField::SourcePrincipal),
    ("targetprincipal", TextField::TargetPrincipal),
];

/// What an expression is true of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Ids of nodes, sorted.
    pub nodes: Vec<Arc<str>>,
    /// Ids of edges, sorted by source and target.
    pub edges: Vec<Arc<str>>,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// With the position and what would be right there.
    pub fn parse(text: &str) -> Result<Self, FindError> {
        parse::term(text).map(Self)
    }

    /// Whether it is true of a node.
    pub fn matches_node(&self, node: &Node) -> bool {
        eval(&self.0, &|term| of_node(term, node)) == Some(true)
    }

    /// Whether it is true of an edge between these two nodes.
    pub fn matches_edge(&self, edge: &Edge, source: &Node, target: &Node) -> bool {
        eval(&self.0, &|term| of_edge(term, edge, [source, target])) == Some(true)
    }

    /// Everything in the graph it is true of.
    pub fn find(&self, graph: &ServiceGraph) -> Found {
        let nodes =
            graph.nodes.iter().filter(|node| self.matches_node(node)).map(|node| Arc::clone(&node.id)).collect();
        let edges = graph.edges.iter().filter(|edge| {
            let ends = graph.node(&edge.source).zip(graph.node(&edge.target));
            ends.is_some_and(|(source, target)| self.matches_edge(edge, source, target))
        });
        Found { nodes, edges: edges.map(|edge| Arc::clone(&edge.id)).collect() }
    }

    /// The graph without what it is true of: those nodes and their edges, those edges, and nodes left without edges.
    pub fn hide(&self, graph: &ServiceGraph) -> ServiceGraph {
        let Found { nodes, edges } = self.find(graph);
        let hidden = |id: &Arc<str>| nodes.binary_search(id).is_ok();
        let gone: std::collections::HashSet<&Arc<str>> = edges.iter().collect();
        let mut rest = graph.clone();
        rest.edges.retain(|e| !gone.contains(&e.id) && !hidden(&e.source) && !hidden(&e.target));
        let ends: std::collections::HashSet<&Arc<str>> =
            rest.edges.iter().flat_map(|e| [&e.source, &e.target]).collect();
        rest.nodes.retain(|node| ends.contains(&node.id));
        rest
    }
}

fn eval(term: &Term, leaf: &impl Fn(&Term) -> Option<bool>) -> Option<bool> {
    match term {
        Term::Not(inner) => eval(inner, leaf).map(|value| !value),
        Term::And(a, b) => match (eval(a, leaf), eval(b, leaf)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Term::Or(a, b) => match (eval(a, leaf), eval(b, leaf)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        _ => leaf(term),
    }
}

fn of_node(term: &Term, node: &Node) -> Option<bool> {
    match term {
        Term::Is(Word::Status(status)) => Some(node.health.status == *status),
        Term::Is(Word::Kind(kind)) => Some(node.kind == *kind),
        Term::Is(Word::Dead) => Some(node.is_dead()),
        Term::Number(field, op, value) => {
            let traffic = &node.inbound;
            let number = match field {
                NumberField::Rate => traffic.rate,
                NumberField::Out => node.outbound.rate,
                NumberField::Errors => traffic.error_ratio? * 100.0,
                NumberField::Bytes => traffic.bytes_per_second,
                NumberField::Connections => traffic.connection_rate,
                _ => return None,
            };
            Some(compare(number, *op, *value))
        }
        Term::Text(field, equal, pattern) => Some(matches(pattern, node_text(*field, node)?) == *equal),
        _ => None,
    }
}

fn node_text(field: TextField, node: &Node) -> Option<&str> {
    Some(match field {
        TextField::Name => &node.name,
        TextField::Namespace => node.namespace.as_deref().unwrap_or_default(),
        TextField::App => node.app.as_deref().unwrap_or_default(),
        TextField::Version => node.version.as_deref().unwrap_or_default(),
        TextField::Cluster => node.cluster.as_deref().unwrap_or_default(),
        TextField::Kind => node.kind.as_str(),
        TextField::Health => node.health.status.as_str(),
        _ => return None,
    })
}

fn of_edge(term: &Term, edge: &Edge, ends: [&Node; 2]) -> Option<bool> {
    match term {
        Term::Is(word) => match word {
            Word::Status(status) => Some(edge.health.status == *status),
            Word::Injected => Some(edge.requests.as_ref()?.injected > 0.0),
            Word::Disagreeing => Some(edge.disagreement.is_some()),
            Word::MutualTls => Some(edge.mtls.share? >= 1.0),
            Word::Kind(_) | Word::Dead => None,
        },
        Term::Number(field, op, value) => Some(compare(edge_number(*field, edge)?, *op, *value)),
        Term::Text(field, equal, pattern) => {
            let any =
                |mut texts: &mut dyn Iterator<Item = &str>| Iterator::any(&mut texts, |text| matches(pattern, text));
            let found = match field {
                TextField::Source => matches(pattern, &ends[0].name),
                TextField::Target => matches(pattern, &ends[1].name),
                TextField::Health => matches(pattern, edge.health.status.as_str()),
                TextField::Protocol => matches(pattern, edge.protocol.as_str()),
                TextField::Reporter => matches(pattern, edge.reporter.as_str()),
                TextField::Evidence => matches(pattern, edge.evidence.as_str()),
                TextField::Service => any(&mut edge.services.iter().map(|(name, _)| &**name)),
                TextField::Code => {
                    any(&mut edge.requests.iter().flat_map(|r| &r.outcomes).map(|share| &*share.outcome.code))
                }
                TextField::Flag => {
                    let requests = edge.requests.iter().flat_map(|r| &r.outcomes);
                    let shares = requests.chain(edge.connections.iter().flat_map(|c| &c.failures));
                    any(&mut shares.flat_map(|share| super::flags::split(&share.outcome.flags)))
                }
                TextField::SourcePrincipal => any(&mut edge.source_principals.iter().map(|p| &**p)),
                TextField::TargetPrincipal => any(&mut edge.destination_principals.iter().map(|p| &**p)),
                TextField::Kind => return None,
                // Of an edge: of either end.
                _ => ends.iter().any(|node| node_text(*field, node).is_some_and(|text| matches(pattern, text))),
            };
            Some(found == *equal)
        }
        _ => None,
    }
}

fn edge_number(field: NumberField, edge: &Edge) -> Option<f64> {
    let requests = edge.requests.as_ref();
    match field {
        NumberField::Rate | NumberField::Out => Some(edge.rate()),
        NumberField::Errors => Some(requests?.error_ratio * 100.0),
        NumberField::ClientErrors => Some(requests?.client_error_ratio * 100.0),
        NumberField::MutualTls => Some(edge.mtls.share? * 100.0),
        NumberField::Share => Some(edge.share_of_outbound * 100.0),
        NumberField::Average => requests?.latency.average_ms,
        NumberField::P50 => requests?.latency.p50_ms,
        NumberField::P90 => requests?.latency.p90_ms,
        NumberField::P95 => requests?.latency.p95_ms,
        NumberField::P99 => requests?.latency.p99_ms,
        NumberField::Bytes => Some(edge.bytes_per_second()),
        NumberField::Connections => Some(edge.connections.as_ref()?.opened_rate),
        NumberField::Retries => edge.retry_amplification,
    }
}

fn compare(number: f64, op: Op, value: f64) -> bool {
    match op {
        Op::Equal => number == value,
        Op::NotEqual => number != value,
        Op::Less => number < value,
        Op::AtMost => number <= value,
        Op::Greater => number > value,
        Op::AtLeast => number >= value,
    }
}

/// `*` stands for any text. Linear for one star, and never more than pattern × text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    (p, t) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
