//! The service graph of a page's range. In: the range and how to look. Out: the graph, built off the async threads.
//!
//! Rates are per second of the range, or of the time since the first traffic when the mesh is younger than the range:
//! an hour's graph of a mesh that was first scraped a minute ago shows its real rates, not a sixtieth of them.

use std::time::Duration;

use axum::response::Response;

use super::State;
use super::error;
use super::range::Range;
use crate::graph::{self, GraphOptions, ServiceGraph, View};
use crate::model::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Ranges from this length on may be answered from rows of hours, so they begin with an hour.
const HOURS_FROM: Duration = Duration::from_secs(6 * 3600);

/// What the graph was built from and why some of it may be missing.
pub(super) struct Built {
    pub(super) graph: ServiceGraph,
    pub(super) warning: Option<String>,
}

/// Builds the graph of a range. With `idle`, edges that had traffic in the hour before it are in it too.
///
/// # Errors
/// The page that says what went wrong.
pub(super) async fn build(state: &State, range: &Range, view: View, idle: bool) -> Result<Built, Response> {
    let from = match range.to.since(range.from) >= HOURS_FROM {
        true => range.from.floor_to(HOUR),
        false => range.from.floor_to(MINUTE),
    };
    let before = if idle { HOUR } else { 5 * MINUTE };
    let (minutes, warning) = state.archive.edges(from - before, range.to, state.clock.now()).await;
    let options = GraphOptions {
        view,
        include_idle: idle,
        thresholds: state.thresholds,
        ..GraphOptions::new(observed_from(minutes.iter().map(|minute| minute.minute), from), range.to)
    };
    // A day of a large mesh is many minutes to add up.
    let built = tokio::task::spawn_blocking(move || graph::build(&minutes, &options)).await;
    match built {
        Ok(graph) => Ok(Built { graph, warning }),
        Err(reason) => Err(error::internal(&format!("the graph could not be built: {reason}"))),
    }
}

/// The start of the range, or of the first minute with traffic when there was none before.
fn observed_from(minutes: impl Iterator<Item = Timestamp>, from: Timestamp) -> Timestamp {
    minutes.min().map_or(from, |first| first.max(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_a_young_mesh_are_of_its_own_age() {
        let at = |minute: i64| Timestamp::from_millis(1_763_834_400_000 + minute * 60_000);
        for (minutes, expected) in [(vec![], 0), (vec![3, 2, 4], 2), (vec![-1, 3], 0), (vec![0, 4], 0)] {
            assert_eq!(observed_from(minutes.iter().map(|minute| at(*minute)), at(0)), at(expected), "{minutes:?}");
        }
    }
}
