//! Lines over time and a heat map of latencies, as SVG that needs no script.
//!
//! In: points of windows of time. Out: coordinates and words, ready for the template. Invariant: coordinates are finite
//! and inside of the drawing, whatever the values are.

use crate::model::Timestamp;
use crate::model::workload::LatencyHistogram;
use crate::web::format;

/// Size of a plot; the page stretches its width.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;
/// Most rows of a heat map.
const ROWS_MAX: usize = 24;

/// One line of a plot.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// Its look: `line-0` to `line-2`.
    pub(super) class: &'static str,
    /// Runs of points without a gap, as SVG wants them.
    pub(super) runs: Vec<String>,
    /// Its newest value, in words.
    pub(super) last: String,
}

/// Lines over one range of time.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
    /// The value at the top, in words.
    pub(super) top: String,
    /// All it says, in words.
    pub(super) summary: String,
}

/// Values of one line, by window; `None` where there is nothing to tell.
pub(super) struct Values {
    pub(super) name: &'static str,
    pub(super) values: Vec<Option<f64>>,
}

/// How a value is written.
pub(super) type Written = fn(f64) -> String;

impl Plot {
    /// Draws lines over a zero line; `None` when no line has a value.
    pub(super) fn of(title: &'static str, given: Vec<Values>, written: Written) -> Option<Self> {
        const CLASSES: [&str; 3] = ["line-0", "line-1", "line-2"];
        let finite = |value: &Option<f64>| value.filter(|value| value.is_finite());
        let all = || given.iter().flat_map(|line| line.values.iter().filter_map(finite));
        all().next()?;
        let top = all().fold(0.0, f64::max);
        let scale = if top > 0.0 { top } else { 1.0 };
        let windows = given.iter().map(|line| line.values.len()).max().unwrap_or(0).max(2);
        let point = |at: usize, value: f64| {
            let x = at as f64 / (windows - 1) as f64 * WIDTH;
            let y = HEIGHT - 2.0 - (value / scale).clamp(0.0, 1.0) * (HEIGHT - 6.0);
            format!("{x:.1},{y:.1}")
        };
        let mut words = Vec::new();
        let lines = given.iter().zip(CLASSES).map(|(line, class)| {
            let mut runs: Vec<Vec<String>> = vec![Vec::new()];
            for (at, value) in line.values.iter().enumerate() {
                match (finite(value), runs.last_mut()) {
                    (Some(value), Some(run)) => run.push(point(at, value)),
                    _ => runs.push(Vec::new()),
                }
            }
            // A point alone is a line of no length, which a round end makes a dot.
            let whole = |run: &Vec<String>| match &run[..] {
                [one] => format!("{one} {one}"),
                all => all.join(" "),
            };
            let last = line.values.iter().rev().find_map(finite).map_or_else(|| "–".to_owned(), written);
            let most = line.values.iter().filter_map(finite).fold(0.0, f64::max);
            words.push(format!("{}: {last} at last, {} at most", line.name, written(most)));
            Line { name: line.name, class, runs: runs.iter().filter(|run| !run.is_empty()).map(whole).collect(), last }
        });
        let lines = lines.collect();
        Some(Self { title, lines, top: written(top), summary: format!("{title}. {}", words.join("; ")) })
    }
}

/// One cell of a heat map: so many requests of a window took so long.
pub(super) struct Cell {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// 0 to 1, of the fullest cell.
    pub(super) opacity: String,
    pub(super) title: String,
}

/// Latencies over time.
pub(super) struct Heat {
    pub(super) cells: Vec<Cell>,
    pub(super) height: f64,
    /// Bounds of the rows, the slowest first, with their place from the top in percent.
    pub(super) slowest: String,
    pub(super) fastest: String,
    pub(super) summary: String,
}

impl Heat {
    /// Draws the histograms of windows; `None` without requests.
    pub(super) fn of(windows: &[(Timestamp, LatencyHistogram)]) -> Option<Self> {
        let mut all = LatencyHistogram::default();
        windows.iter().for_each(|(_, histogram)| all.merge(histogram));
        let first = all.counts.iter().position(|count| *count > 0.0)?;
        let last = all.counts.iter().rposition(|count| *count > 0.0)?;
        let rows = (last - first + 1).min(ROWS_MAX);
        let row_height = 14.0;
        let height = rows as f64 * row_height;
        let bound = |row: usize| all.bounds_ms.get(row).map(|ms| format::latency(Some(*ms)));
        let name = |row: usize| match (row.checked_sub(1).and_then(bound), bound(row)) {
            (_, Some(upper)) if row == 0 => format!("up to {upper}"),
            (Some(lower), Some(upper)) => format!("{lower} to {upper}"),
            (Some(lower), None) => format!("over {lower}"),
            _ => "of any length".to_owned(),
        };
        let mut cells = Vec::new();
        let width = WIDTH / windows.len().max(1) as f64;
        for (at, (time, histogram)) in windows.iter().enumerate() {
            // Under the bounds that all windows share.
            let zeros = vec![0.0; all.counts.len()];
            let mut own = LatencyHistogram { bounds_ms: all.bounds_ms.clone(), counts: zeros, sum_ms: 0.0 };
            own.merge(histogram);
            let total = own.total();
            for row in first..first + rows {
                // What is beyond the rows drawn is in the last of them.
                let count: f64 = match row == first + rows - 1 {
                    true => own.counts.iter().skip(row).sum(),
                    false => own.counts.get(row).copied().unwrap_or(0.0),
                };
                if count <= 0.0 || total <= 0.0 {
                    continue;
                }
                let share = count / total;
                cells.push(Cell {
                    x: at as f64 * width,
                    y: (first + rows - 1 - row) as f64 * row_height,
                    width,
                    height: row_height,
                    opacity: format!("{:.2}", 0.08 + 0.92 * share.clamp(0.0, 1.0).sqrt()),
                    title: format!("{}: {} took {}", format::moment(*time), format::percent(share), name(row)),
                });
            }
        }
        let median = all.quantile(0.5).map(|ms| format::latency(Some(ms))).unwrap_or_default();
        let slow = all.quantile(0.99).map(|ms| format::latency(Some(ms))).unwrap_or_default();
        Some(Self {
            cells,
            height,
            slowest: name(last),
            fastest: name(first),
            summary: format!("How long requests took, over time: half took up to {median}, 99 % up to {slow}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[Option<f64>]) -> Vec<Values> {
        vec![Values { name: "in", values: values.to_vec() }]
    }

    #[test]
    fn lines_have_gaps_where_nothing_is_known_and_stay_inside() {
        assert!(Plot::of("Rate", values(&[None, None]), format::rate).is_none());
        assert!(Plot::of("Rate", values(&[Some(f64::NAN)]), format::rate).is_none());
        let plot = Plot::of("Rate", values(&[Some(0.0), Some(10.0), None, Some(5.0)]), format::rate).expect("drawn");
        assert_eq!(plot.lines[0].runs, ["0.0,118.0 200.0,4.0", "600.0,61.0 600.0,61.0"]);
        assert_eq!((plot.top.as_str(), plot.lines[0].last.as_str()), ("10.0/s", "5.00/s"));
        assert_eq!(plot.summary, "Rate. in: 5.00/s at last, 10.0/s at most");
        let zero = Plot::of("Rate", values(&[Some(0.0)]), format::rate).expect("drawn");
        assert_eq!(zero.lines[0].runs, ["0.0,118.0 0.0,118.0"]);
    }

    #[test]
    fn a_heat_map_is_drawn_under_the_bounds_that_all_windows_share() {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let histogram = |bounds: &[f64], counts: &[f64]| LatencyHistogram {
            bounds_ms: bounds.into(),
            counts: counts.to_vec(),
            sum_ms: 1.0,
        };
        assert!(Heat::of(&[]).is_none() && Heat::of(&[(at(0), LatencyHistogram::default())]).is_none());
        let heat = Heat::of(&[
            (at(0), histogram(&[5.0, 10.0, 25.0], &[0.0, 3.0, 1.0, 0.0])),
            (at(1), LatencyHistogram::default()),
            (at(2), histogram(&[10.0, 25.0], &[0.0, 0.0, 4.0])),
        ])
        .expect("drawn");
        assert_eq!(heat.cells.len(), 3);
        assert_eq!(heat.cells[0].title, "1970-01-01 00:00:00 UTC: 75.0% took up to 10 ms");
        assert_eq!((heat.slowest.as_str(), heat.fastest.as_str()), ("over 25 ms", "up to 10 ms"));
        assert!(heat.cells.iter().all(|cell| cell.y >= 0.0 && cell.y < heat.height && cell.x < WIDTH));
    }
}
