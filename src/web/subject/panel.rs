//! What stands beside the graph for the node or edge that is selected: how it went over the range, how long its requests
//! took, its traces, access logs, alerts, findings and configuration, and whom its failure hurts.
//!
//! In: an id of the graph shown. Out: HTML that the template engine made; empty when nothing of that id is there.

use std::time::Duration;

use askama::Template;

use super::around::{self, AlertRow, Around, PANEL};
use super::plot::{Plot, Values};
use super::rows::{self, Hurt, TraceRow};
use super::story::{self, Story, Subject};
use super::{Address, MINUTE};
use crate::graph::{View, walk};
use crate::model::Timestamp;
use crate::model::workload::LatencyHistogram;
use crate::web::logs::LogRow;
use crate::web::range::Range;
use crate::web::{State, declared, format};

/// Windows of a small plot.
const WINDOWS: u32 = 24;
/// Rows of the distribution of latencies.
const ROWS_MAX: usize = 14;
const HURT_SHOWN: usize = 5;
const FINDINGS_SHOWN: usize = 8;

#[derive(Template)]
#[template(path = "panel.html")]
struct Panel {
    plots: Vec<Plot>,
    from: String,
    until: String,
    distribution: Vec<Bucket>,
    alerts: Vec<AlertRow>,
    traces: Vec<TraceRow>,
    logs: Vec<LogRow>,
    logs_href: String,
    declared: declared::Part,
    findings_left: usize,
    hurt: Vec<Hurt>,
    missing: String,
}

/// So many requests took so long.
struct Bucket {
    name: String,
    share: String,
    width: f64,
}

/// The panel of what is selected in a graph of that view.
pub(in crate::web) async fn panel(state: &State, (view, id): (View, &str), range: &Range) -> String {
    let subject = Subject::Shown(view, id.to_owned());
    let told = story::read(state, &subject, &bounds(range), state.clock.now()).await;
    let Ok((Some(story), _)) = told else { return String::new() };
    let around = around::around(state, (&subject, &story), range, PANEL).await;
    match panel_of(&story, range, around).render() {
        Ok(text) => text,
        Err(reason) => {
            tracing::error!("the panel of a selection could not be rendered: {reason}");
            String::new()
        }
    }
}

/// Whole minutes, as many windows as a small plot can show.
fn bounds(range: &Range) -> Vec<Timestamp> {
    let from = range.from.floor_to(MINUTE);
    let step = Duration::from_secs((range.to.since(from) / WINDOWS).as_secs().div_ceil(60).max(1) * 60);
    let mut bounds: Vec<Timestamp> = (0..=WINDOWS).map(|n| from + step * n).take_while(|at| *at < range.to).collect();
    bounds.push(range.to);
    bounds
}

fn panel_of(story: &Story, range: &Range, around: Around) -> Panel {
    let Around { alerts, traces, logs, logs_href, mut declared, marks, missing } = around;
    let findings_left = declared.findings_left + declared.findings.len().saturating_sub(FINDINGS_SHOWN);
    declared.findings.truncate(FINDINGS_SHOWN);
    let asked = Address { range: Some(range.text.clone()), at: (!range.live).then(|| range.to.to_string()) };
    let of = |pick: &dyn Fn(&story::Window) -> Option<f64>| story.windows.iter().map(pick).collect::<Vec<_>>();
    let rate = |window: &story::Window| {
        window.known.then_some(if window.rate_in > 0.0 { window.rate_in } else { window.rate_out })
    };
    let plots = [
        Plot::of("Requests", vec![Values { name: "rate".to_owned(), values: of(&rate) }], format::rate),
        Plot::of(
            "Errors",
            vec![Values { name: "share".to_owned(), values: of(&|window| window.error_ratio) }],
            format::percent,
        ),
        Plot::of(
            "Latency",
            vec![Values { name: "p95".to_owned(), values: of(&|w| w.histogram.quantile(0.95)) }],
            |ms| format::latency(Some(ms)),
        ),
    ];
    let plots = plots.into_iter().flatten().map(|plot| plot.marking(&marks, (range.from, range.to)));
    let hurt = walk::weighted_blast_radius(&story.graph, rows::called(story));
    let mut histogram = LatencyHistogram::default();
    story.windows.iter().for_each(|window| histogram.merge(&window.histogram));
    Panel {
        plots: plots.collect(),
        from: range.from.to_string(),
        until: range.to.to_string(),
        distribution: distribution(&histogram),
        hurt: hurt.iter().take(HURT_SHOWN).filter_map(|hurt| rows::hurt(hurt, story, &asked)).collect(),
        missing: missing.join(", "),
        alerts,
        traces,
        logs,
        logs_href,
        declared,
        findings_left,
    }
}

/// The buckets between the first and the last that hold requests; of many, neighbours together.
fn distribution(histogram: &LatencyHistogram) -> Vec<Bucket> {
    let counts = &histogram.counts;
    let first = counts.iter().position(|count| *count > 0.0);
    let (Some(first), Some(last)) = (first, counts.iter().rposition(|count| *count > 0.0)) else { return Vec::new() };
    let bound = |at: usize| histogram.bounds_ms.get(at).map(|ms| format::latency(Some(*ms)));
    let together = (last - first + 1).div_ceil(ROWS_MAX);
    let total = histogram.total();
    let mut buckets: Vec<(String, f64)> = Vec::new();
    let mut at = first;
    while at <= last {
        let end = (at + together - 1).min(last);
        let name = match (at.checked_sub(1).and_then(bound), bound(end)) {
            (None, Some(upper)) => format!("to {upper}"),
            (Some(lower), Some(upper)) => format!("{lower} – {upper}"),
            (Some(lower), None) => format!("over {lower}"),
            (None, None) => "of any length".to_owned(),
        };
        buckets.push((name, counts[at..=end].iter().sum()));
        at = end + 1;
    }
    let most = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    let shown = |(name, count): (String, f64)| Bucket {
        name,
        share: format::percent(if total > 0.0 { count / total } else { 0.0 }),
        width: if most > 0.0 { (count / most * 100.0).clamp(0.0, 100.0) } else { 0.0 },
    };
    buckets.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_buckets_stand_together_where_there_are_many() {
        let of = |bounds: &[f64], counts: &[f64]| {
            let histogram = LatencyHistogram { bounds_ms: bounds.into(), counts: counts.to_vec(), sum_ms: 1.0 };
            let rows = distribution(&histogram);
            rows.into_iter().map(|row| (row.name, row.share)).collect::<Vec<_>>()
        };
        let text = |rows: &[(&str, &str)]| {
            rows.iter().map(|(name, share)| ((*name).to_owned(), (*share).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(of(&[], &[]), []);
        assert_eq!(
            of(&[5.0, 10.0, 25.0], &[0.0, 3.0, 0.0, 1.0]),
            text(&[("5.0 ms – 10 ms", "75.0%"), ("10 ms – 25 ms", "0%"), ("over 25 ms", "25.0%")])
        );
        let bounds: Vec<f64> = (1..=30).map(|n| f64::from(n) * 10.0).collect();
        let rows = of(&bounds, &[1.0; 31]);
        assert_eq!((rows.len(), rows[0].0.as_str()), (11, "to 30 ms"));
    }
}
