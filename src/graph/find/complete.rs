//! What may stand next in a Find or Hide expression.
//!
//! In: the text before the cursor, and a graph for the names in it. Out: [`Completion`]s, the likeliest first. Never an
//! error: of a text that is wrong already, what could stand at its last word is offered.

use std::collections::BTreeSet;

use super::parse::{Token, tokens};
use super::{NUMBERS, TEXTS, TextField, Unit, WORDS};
use crate::graph::ServiceGraph;
use crate::graph::types::NodeKind;

/// Most completions.
const COMPLETIONS_MAX: usize = 40;

/// One way on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What to write.
    pub text: String,
    /// What it means.
    pub detail: String,
    /// Characters of the text before which it is to be written: it replaces what follows up to the cursor.
    pub from: usize,
}

/// What a text waits for at its end.
enum Expected<'a> {
    Operand,
    Operator(&'a str),
    Value(&'a str),
    Connective,
}

/// Ways on from `before`, the text up to the cursor.
pub fn complete(before: &str, graph: &ServiceGraph) -> Vec<Completion> {
    let (all, end) = (tokens(before).unwrap_or_default(), before.chars().count());
    // The word under the cursor is being written.
    let written = match all.last() {
        Some((at, Token::Word(word))) if !before.ends_with(char::is_whitespace) => Some((*at, word.clone())),
        _ => None,
    };
    let done = &all[..all.len() - usize::from(written.is_some())];
    let (from, typed) = written.unwrap_or((end, String::new()));
    let typed = typed.to_lowercase();
    let offers: Vec<(String, String)> = match expected(done) {
        Expected::Operand => operands(),
        Expected::Operator(field) => operators(field),
        Expected::Value(field) => values(field, graph),
        Expected::Connective => {
            vec![("and".to_owned(), "both are true".to_owned()), ("or".to_owned(), "one of them is true".to_owned())]
        }
    };
    let rank = |text: &str| match text.to_lowercase() {
        text if text.starts_with(&typed) => Some(0),
        text if text.contains(&typed) => Some(1),
        _ => None,
    };
    let mut ranked: Vec<(usize, (String, String))> =
        offers.into_iter().filter_map(|offer| Some((rank(&offer.0)?, offer))).collect();
    ranked.sort_by_key(|(rank, _)| *rank); // stable: within a rank the order stays
    let completion = |(_, (text, detail))| Completion { text, detail, from };
    ranked.into_iter().map(completion).filter(|one| one.text.to_lowercase() != typed).take(COMPLETIONS_MAX).collect()
}

fn expected(done: &[(usize, Token)]) -> Expected<'_> {
    let word = |at: usize| match done.get(at) {
        Some((_, Token::Word(word))) => Some(word.as_str()),
        _ => None,
    };
    let is_connective = |word: &str| ["and", "or", "not"].iter().any(|known| word.eq_ignore_ascii_case(known));
    let Some(last) = done.len().checked_sub(1) else { return Expected::Operand };
    match &done[last].1 {
        Token::Open | Token::Bang => Expected::Operand,
        Token::Op(_) => Expected::Value(last.checked_sub(1).and_then(word).unwrap_or_default()),
        Token::Close | Token::Quoted(_) => Expected::Connective,
        Token::Word(word) if is_connective(word) => Expected::Operand,
        Token::Word(_) if last > 0 && matches!(done[last - 1].1, Token::Op(_)) => Expected::Connective,
        Token::Word(word) if WORDS.iter().any(|(known, _)| word.eq_ignore_ascii_case(known)) && !is_field(word) => {
            Expected::Connective
        }
        Token::Word(word) => Expected::Operator(word),
    }
}

fn is_field(word: &str) -> bool {
    let name = word.to_ascii_lowercase();
    NUMBERS.iter().any(|(known, ..)| *known == name) || TEXTS.iter().any(|(known, _)| *known == name)
}

fn operands() -> Vec<(String, String)> {
    let numbers = NUMBERS.iter().map(|(name, _, unit)| {
        let example = match unit {
            Unit::Percent => "a share, like 1%",
            Unit::Milliseconds => "a latency, like 500ms",
            Unit::Plain => "a number, like 10 or 5k",
        };
        ((*name).to_owned(), example.to_owned())
    });
    let texts = TEXTS.iter().map(|(name, _)| ((*name).to_owned(), "a text, perhaps with *".to_owned()));
    let words = WORDS.iter().map(|(name, _)| ((*name).to_owned(), "true or false by itself".to_owned()));
    let not = std::iter::once(("not".to_owned(), "the opposite".to_owned()));
    numbers.chain(texts).chain(words).chain(not).collect()
}

fn operators(field: &str) -> Vec<(String, String)> {
    let is_number = NUMBERS.iter().any(|(known, ..)| field.eq_ignore_ascii_case(known));
    let all: &[(&str, &str)] =
        &[("=", "is"), ("!=", "is not"), (">", "more than"), ("<", "less than"), (">=", "at least"), ("<=", "at most")];
    let of = if is_number { all } else { &all[..2] };
    of.iter().map(|(text, detail)| ((*text).to_owned(), (*detail).to_owned())).collect()
}

/// Values that occur in the graph.
fn values(field: &str, graph: &ServiceGraph) -> Vec<(String, String)> {
    if let Some((_, _, unit)) = NUMBERS.iter().find(|(known, ..)| field.eq_ignore_ascii_case(known)) {
        let (values, detail): (&[&str], &str) = match unit {
            Unit::Percent => (&["1%", "5%", "100%"], "percent"),
            Unit::Milliseconds => (&["100ms", "500ms", "1s"], "milliseconds unless told"),
            Unit::Plain => (&["1", "10", "1k"], "per second"),
        };
        return values.iter().map(|value| ((*value).to_owned(), detail.to_owned())).collect();
    }
    let Some((_, field)) = TEXTS.iter().find(|(known, _)| field.eq_ignore_ascii_case(known)) else { return Vec::new() };
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut add = |text: Option<&str>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            found.insert(text.to_owned());
        }
    };
    for node in &graph.nodes {
        match field {
            TextField::Name | TextField::Source | TextField::Target => add(Some(&node.name)),
            TextField::Namespace => add(node.namespace.as_deref()),
            TextField::App => add(node.app.as_deref()),
            TextField::Version => add(node.version.as_deref()),
            TextField::Cluster => add(node.cluster.as_deref()),
            TextField::Kind => add(Some(NodeKind::as_str(node.kind))),
            TextField::Health => add(Some(node.health.status.as_str())),
            _ => {}
        }
    }
    for edge in &graph.edges {
        let outcomes = edge.requests.iter().flat_map(|requests| &requests.outcomes);
        match field {
            TextField::Protocol => add(Some(edge.protocol.as_str())),
            TextField::Reporter => add(Some(edge.reporter.as_str())),
            TextField::Evidence => add(Some(edge.evidence.as_str())),
            TextField::Service => edge.services.iter().for_each(|(name, _)| add(Some(name))),
            TextField::Code => outcomes.for_each(|share| add(Some(&share.outcome.code))),
            TextField::Flag => {
                outcomes.flat_map(|share| crate::graph::flags::split(&share.outcome.flags)).for_each(|f| add(Some(f)));
            }
            TextField::SourcePrincipal => edge.source_principals.iter().for_each(|p| add(Some(p))),
            TextField::TargetPrincipal => edge.destination_principals.iter().for_each(|p| add(Some(p))),
            _ => {}
        }
    }
    found.into_iter().map(|text| (quoted(&text), "in this graph".to_owned())).collect()
}

/// A value as it must be written to be read as one.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "()=<>!\"'".contains(c));
    match text.contains('"') {
        _ if plain => text.to_owned(),
        true => format!("'{text}'"),
        false => format!("\"{text}\""),
    }
}
