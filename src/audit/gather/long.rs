//! Asks a server who called whom in a longer time than the window, slice by slice.
//!
//! In: a [`Source`] and how long. Out: a [`Past`], as the service makes it of its own edges. Invariant: slices are asked from
//! the newest to the oldest, so that what passes while it is asked is counted twice rather than missed; one that is not
//! answered makes the whole unknown, never silent.

use std::time::Duration;

use super::fold::Fold;
use super::{Source, questions};
use crate::audit::past::Past;

/// Longest slice: more would be too many samples for one query of a large mesh.
const SLICE: Duration = Duration::from_secs(86_400);
/// Most slices; those of longer times are longer.
const SLICES_MAX: u32 = 32;

/// Who called whom in the last `span`.
///
/// # Errors
/// Says what was asked and why it was not answered.
pub async fn gather_past(source: &Source, span: Duration) -> Result<Past, String> {
    let slice = SLICE.max(span / SLICES_MAX);
    let ask = async |query: &str| source.ask(query).await.map_err(|reason| format!("{reason} (asked: {query})"));
    let reached = ask(&questions::covered((span - span / 10).as_secs())).await?;
    let mut past = Past::told(span, reached.iter().any(|row| row.value > 0.0));
    let mut ago = Duration::ZERO;
    while past.covered && ago < span {
        let length = slice.min(span - ago);
        for (question, query) in questions::slice(length.as_secs(), ago.as_secs()) {
            let mut fold = Fold::new(length, length);
            fold.take(&question, ask(&query).await?);
            fold.done().calls.iter().for_each(|one| past.add_calls(one));
        }
        ago += length;
    }
    Ok(past)
}
