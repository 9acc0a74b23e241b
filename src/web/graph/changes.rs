//! What changed since the range before, as rows of the graph page.
//!
//! In: the range shown. Out: rows, worst first; nothing when the range before cannot be read.

use super::Address;
use crate::graph::compare::{Change, compare};
use crate::graph::{Edge, ServiceGraph, View};
use crate::web::drawing::label;
use crate::web::range::Range;
use crate::web::subject::rows::edge_page;
use crate::web::{State, format, mesh};

/// Most rows; the other changes are counted.
const ROWS_MAX: usize = 200;

/// The changes between two ranges.
pub(super) struct Changes {
    pub(super) said: String,
    pub(super) rows: Vec<Row>,
}

/// One edge that changed.
pub(super) struct Row {
    pub(super) change: &'static str,
    pub(super) class: &'static str,
    pub(super) call: String,
    pub(super) href: String,
    pub(super) sentence: String,
    pub(super) before: String,
    pub(super) after: String,
}

/// Compares the range with the one of the same length right before it.
pub(super) async fn since_before(state: &State, asked: &Address, range: &Range, view: View) -> Option<Changes> {
    let length = range.to.since(range.from);
    let before = Range { from: range.from - length, to: range.from, live: false, ..range.clone() };
    let before = mesh::build(state, &before, view, false).await.ok()?.graph;
    let after = mesh::build(state, range, view, false).await.ok()?.graph;
    let asked = asked.clone();
    tokio::task::spawn_blocking(move || rows(&before, &after, &asked)).await.ok()
}

fn rows(before: &ServiceGraph, after: &ServiceGraph, asked: &Address) -> Changes {
    let found = compare(before, after);
    let count = |change: Change| found.edges.iter().filter(|one| one.change == change).count();
    let name = |id: &str| after.node(id).or(before.node(id)).map(label).unwrap_or_default();
    let rate = |edge: Option<&Edge>| edge.map_or_else(|| "–".to_owned(), |edge| format::rate(edge.rate()));
    let rows = found.edges.iter().filter(|one| one.change != Change::Same).take(ROWS_MAX).filter_map(|one| {
        let edge = one.after.or(one.before)?;
        Some(Row {
            change: one.change.as_str(),
            class: match one.change {
                Change::Worse => "failure",
                Change::New | Change::Gone => "degraded",
                Change::Better | Change::Same => "healthy",
            },
            call: format!("{} → {}", name(&edge.source), name(&edge.target)),
            href: edge_page(&one.id, asked.range.as_deref(), asked.at.as_deref()),
            sentence: one.sentence.clone(),
            before: rate(one.before),
            after: rate(one.after),
        })
    });
    let said = format!(
        "{} worse, {} new, {} gone, {} better, {} the same",
        count(Change::Worse),
        count(Change::New),
        count(Change::Gone),
        count(Change::Better),
        count(Change::Same)
    );
    Changes { said, rows: rows.collect() }
}
