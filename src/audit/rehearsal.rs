//! Traffic written down instead of scraped, gathered as real traffic is: for the test grid and for `--explain`.
//!
//! In: `load` blocks in the language of Prometheus' tests. Out: an [`Observed`] of the hour that ends with them. Invariant:
//! it goes through the same questions and engine as what a mesh tells.

use std::sync::Arc;
use std::time::Duration;

use super::gather::{Source, gather};
use super::observed::Observed;
use crate::model::Timestamp;
use crate::promql::testlang::{Point, parse_series};
use crate::promql::{self, Engine};
use crate::series::{self, Head, Row};
use crate::units::PromDuration;

/// When what is written down begins.
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// How long the window is that is looked at.
const WINDOW: Duration = Duration::from_secs(3_600);

/// What the last hour of a script saw: `load 1m`, then series with their values, one line each.
///
/// # Errors
/// Says which line cannot be read.
pub async fn rehearse(script: &str) -> Result<Observed, String> {
    let forever = PromDuration::from(Duration::from_secs(10 * 86_400));
    let head = Head::new(series::Config { memory_window: forever, ..series::Config::default() });
    let end = load(&head, script)?;
    let engine = Arc::new(Engine::new(promql::Config::default()));
    let source = Source::Own { engine, series: Arc::new(head), at: end };
    let observed = gather(&source, WINDOW).await.map_err(|error| error.to_string())?;
    match observed.gaps.first() {
        Some(gap) => Err(gap.clone()),
        None => Ok(observed),
    }
}

/// Appends all series; returns the time of the last sample.
fn load(head: &Head, script: &str) -> Result<Timestamp, String> {
    let (mut step, mut end) = (Duration::from_secs(60), START);
    for (at, line) in script.lines().enumerate() {
        let line = line.trim();
        let wrong = |reason: String| format!("line {}: {reason}", at + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(written) = line.strip_prefix("load ") {
            let read: Result<PromDuration, _> = written.trim().parse();
            step = read.map_err(|error| wrong(error.to_string()))?.get();
            continue;
        }
        let (labels, points) = parse_series(line).map_err(wrong)?;
        let series = head.intern(&labels).map_err(|error| wrong(error.to_string()))?;
        let mut rows = Vec::with_capacity(points.len());
        for (i, point) in points.iter().enumerate() {
            let at = START + step * u32::try_from(i).unwrap_or(u32::MAX);
            end = end.max(at);
            if let Point::Value(value) = point {
                rows.push(Row { series, at, value: *value });
            }
        }
        head.append(&rows);
    }
    Ok(end)
}
