//! The words of the first page.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::graph::Totals;

#[test]
fn the_sentence_names_every_trouble_and_the_worst_gives_the_colour() {
    for (edges, failed, degraded, firing, down, class, expected) in [
        (0, 0, 0, 0, 0, "idle", "No traffic has been seen in the last five minutes."),
        (1, 0, 0, 0, 0, "healthy", "The mesh is healthy: 1 call path carries traffic and it does not fail."),
        (7, 0, 0, 0, 0, "healthy", "The mesh is healthy: 7 call paths carry traffic and none of them fails."),
        (7, 0, 1, 0, 0, "degraded", "1 call path degraded."),
        (7, 2, 1, 1, 0, "failure", "1 alert firing, 2 call paths failing, 1 call path degraded."),
        (0, 0, 0, 0, 3, "degraded", "3 targets not answering."),
    ] {
        let totals = Totals { edges, failed_edges: failed, degraded_edges: degraded, ..Totals::default() };
        let graph = ServiceGraph { totals, ..ServiceGraph::default() };
        assert_eq!(sentence(&graph, firing, down), (expected.to_owned(), class));
    }
}
