//! What changed since another range, as rows of the graph page.
//!
//! In: the range shown and the other. Out: rows, worst first; nothing when the other cannot be read.

use super::Address;
use crate::graph::compare::{Change, compare};
use crate::graph::{Edge, ServiceGraph, View};
use crate::web::ask::given;
use crate::web::drawing::label;
use crate::web::range::{Range, read_time};
use crate::web::subject::rows::edge_page;
use crate::web::{State, format, mesh};

/// Most rows; the other changes are counted.
const ROWS_MAX: usize = 200;
/// Most edges of either range.
const EDGES_MAX: usize = 20_000;

/// The changes between two ranges.
pub(super) struct Changes {
    /// End of the other range.
    pub(super) until: String,
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

/// The range to compare with, as long as the one shown: right before it for `1`, else until the time that is given.
///
/// # Errors
/// What is wrong with the time.
pub(super) fn other_range(compare: Option<&str>, range: &Range) -> Result<Option<Range>, String> {
    let length = range.to.since(range.from);
    let until = match given(compare) {
        None => return Ok(None),
        Some("1") => range.from,
        Some(text) => read_time(text)
            .ok_or_else(|| format!("compare: {text:?} is neither 1 nor a time (like 2026-01-31 12:00, in UTC)"))?,
    };
    if until > range.now {
        return Err(format!("compare: {until} is in the future"));
    }
    Ok(Some(Range { from: until - length, to: until, live: false, ..range.clone() }))
}

/// Compares two ranges, the earlier one first.
pub(super) async fn between(
    state: &State,
    asked: &Address,
    (before, after): (&Range, &Range),
    view: View,
) -> Option<Changes> {
    let look = mesh::Look { view, idle: false, edges_max: EDGES_MAX };
    let until = format::moment(before.to);
    let before = mesh::build(state, before, look).await.ok()?.graph;
    let after = mesh::build(state, after, look).await.ok()?.graph;
    let asked = asked.clone();
    let made = tokio::task::spawn_blocking(move || rows(&before, &after, &asked)).await.ok()?;
    Some(Changes { until, ..made })
}

fn rows(before: &ServiceGraph, after: &ServiceGraph, asked: &Address) -> Changes {
    let found = compare(before, after);
    let count = |change: Change| found.edges.iter().filter(|one| one.change == change).count();
    let name = |id: &str| after.node(id).or(before.node(id)).map(label).unwrap_or_default();
    let rate = |edge: Option<&Edge>| edge.map_or_else(|| "–".to_owned(), super::detail::busy);
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
            sentence: format::sentence(&one.sentence),
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
    Changes { until: String::new(), said, rows: rows.collect() }
}
