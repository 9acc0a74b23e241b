//! The history of a budget as a small drawing.
//!
//! Invariant: coordinates are finite and inside of the drawing, whatever the values are.

use std::time::Duration;

use crate::model::Timestamp;
use crate::web::format;

/// Its size.
const WIDTH: f64 = 220.0;
const HEIGHT: f64 = 44.0;
/// A point that is further from the one before than so many steps begins a new line …
const GAP_STEPS: f64 = 3.0;
/// … but no sooner than after this many seconds: budgets are recorded every four minutes, and histories read every two.
const GAP_SECONDS: f64 = 600.0;

/// Lines, the area below them, and what they say in words.
pub(super) struct Chart {
    pub(super) lines: Vec<String>,
    pub(super) areas: Vec<String>,
    /// Where nothing is left; below it the budget is overspent.
    pub(super) zero: f64,
    pub(super) title: String,
    /// Where what is declared for the service changed, and how.
    pub(super) marks: Vec<(String, String)>,
    /// The time it shows.
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Chart {
    /// The same with a mark for each of these changes that lies in its time.
    #[must_use]
    pub(super) fn marking(mut self, changes: impl Iterator<Item = (Timestamp, String)>) -> Self {
        let (from, to) = (self.from, self.to);
        let length = to.since(from).as_secs_f64();
        let within = changes.filter(|(at, _)| *at >= from && *at <= to);
        self.marks = within
            .map(|(at, title)| (format!("{:.1}", at.since(from).as_secs_f64() / length * WIDTH), title))
            .collect();
        self
    }

    /// Draws a history that has at least two points. The drawing shows the time that is measured, at most the window.
    pub(super) fn of(history: &[(Timestamp, f64)], window: Duration, now: Timestamp) -> Option<Self> {
        let (first, last) = (history.first()?, history.last()?);
        let length = last.0.since(first.0).as_secs_f64();
        if history.len() < 2 || length <= 0.0 {
            return None;
        }
        let low = history.iter().map(|(_, left)| *left).fold(0.0, f64::min).max(-1.0);
        let x = |at: Timestamp| (at.since(first.0).as_secs_f64() / length * WIDTH).clamp(0.0, WIDTH);
        let y = |left: f64| HEIGHT - 2.0 - (left.clamp(low, 1.0) - low) / (1.0 - low) * (HEIGHT - 4.0);
        let zero = y(0.0);
        let step = length / (history.len() - 1) as f64 * GAP_STEPS;
        let step = step.max(GAP_SECONDS);
        let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
        let mut before: Option<Timestamp> = None;
        for (at, left) in history {
            if before.is_none_or(|before| at.since(before).as_secs_f64() > step) {
                runs.push(Vec::new());
            }
            before = Some(*at);
            if let Some(run) = runs.last_mut() {
                run.push((x(*at), y(*left)));
            }
        }
        let points =
            |run: &[(f64, f64)]| run.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        let area = |run: &[(f64, f64)]| match (run.first(), run.last()) {
            (Some((from, _)), Some((to, _))) => format!("{from:.1},{zero:.1} {} {to:.1},{zero:.1}", points(run)),
            _ => String::new(),
        };
        let since = format::span(Duration::from_secs(now.since(first.0).as_secs().max(1)).min(window));
        let lowest = history.iter().map(|(_, left)| *left).fold(f64::INFINITY, f64::min);
        Some(Self {
            marks: Vec::new(),
            from: first.0,
            to: last.0,
            lines: runs.iter().map(|run| points(run)).collect(),
            areas: runs.iter().map(|run| area(run)).collect(),
            zero,
            title: format!(
                "Budget left over the last {since}: {} at first, {} now, {} at least",
                format::percent_any(first.1),
                format::percent_any(last.1),
                format::percent_any(lowest),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: &[f64]) -> Vec<(Timestamp, f64)> {
        let at = |i: usize| Timestamp::from_millis(1_763_800_000_000 + i as i64 * 600_000);
        values.iter().enumerate().map(|(i, left)| (at(i), *left)).collect()
    }

    fn drawn(values: &[f64]) -> Option<Chart> {
        let history = history(values);
        let now = history.last().map_or(Timestamp::from_millis(0), |(at, _)| *at);
        Chart::of(&history, Duration::from_secs(30 * 86_400), now)
    }

    #[test]
    fn a_budget_falls_from_the_top_and_below_zero_when_it_is_overspent() {
        assert!(drawn(&[]).is_none() && drawn(&[1.0]).is_none());
        let chart = drawn(&[1.0, 0.5, 0.0]).expect("drawn");
        assert_eq!(chart.lines, ["0.0,2.0 110.0,22.0 220.0,42.0"]);
        assert_eq!(chart.zero, 42.0);
        assert_eq!(chart.title, "Budget left over the last 20 min: 100% at first, 0% now, 0% at least");
        let chart = drawn(&[0.5, -0.5, -1e12]).expect("drawn");
        assert_eq!(chart.zero, 22.0);
        assert!(chart.lines[0].ends_with("220.0,42.0"), "{:?}", chart.lines);
    }

    #[test]
    fn a_gap_is_not_drawn_over() {
        let mut history = history(&[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]);
        history.drain(2..7);
        let now = history[3].0;
        let chart = Chart::of(&history, Duration::from_secs(86_400), now).expect("drawn");
        assert_eq!(chart.lines.len(), 1, "three steps are bridged");
        history.remove(1);
        history.insert(1, (history[0].0 + Duration::from_millis(1), 1.0));
        history.insert(2, (history[0].0 + Duration::from_millis(2), 1.0));
        history.insert(3, (history[0].0 + Duration::from_millis(3), 1.0));
        history.insert(4, (history[0].0 + Duration::from_millis(4), 1.0));
        assert_eq!(Chart::of(&history, Duration::from_secs(86_400), now).expect("drawn").lines.len(), 2);
    }
}
