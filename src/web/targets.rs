//! The page of scrape targets: what is scraped, how it goes, why it fails.

use askama::Template;
use axum::response::Response;

use super::State;
use super::ask::Shared;
use super::format;
use super::frame::{Frame, render};
use crate::scrape::{Health, TargetStatus};
use crate::upstream::Upstream;

/// Dropped targets shown.
const DROPPED_SHOWN: usize = 50;

#[derive(Template)]
#[template(path = "targets.html")]
struct Page {
    frame: Frame,
    jobs: Vec<JobRows>,
    problems: Vec<String>,
    dropped: usize,
    dropped_shown: Vec<String>,
    up: usize,
    down: usize,
    samples: String,
    /// The engine elsewhere that has the metrics, when there is one.
    upstream: Option<String>,
}

struct JobRows {
    name: String,
    up: usize,
    targets: Vec<Row>,
}

struct Row {
    url: String,
    health: &'static str,
    class: &'static str,
    error: Option<String>,
    labels: Vec<(String, String)>,
    last: String,
    took: String,
    samples: u64,
    interval: String,
}

pub(super) async fn page(Shared(state): Shared<State>) -> Response {
    let now = state.clock.now();
    let targets = state.scrape.targets();
    let discovered = state.scrape.discovered();
    let of = |health: Health| targets.iter().filter(|target| target.health == health).count();
    let (up, down) = (of(Health::Up), of(Health::Down));
    let per_second: f64 = (targets.iter())
        .map(|target| target.samples_kept as f64 / target.target.interval.as_secs_f64().max(0.001))
        .sum();
    let mut jobs: Vec<JobRows> = Vec::new();
    for target in &targets {
        let name = &target.target.job.name;
        if jobs.last().is_none_or(|job| job.name != *name) {
            jobs.push(JobRows { name: name.clone(), up: 0, targets: Vec::new() });
        }
        if let Some(job) = jobs.last_mut() {
            job.up += usize::from(target.health == Health::Up);
            job.targets.push(row(target, now));
        }
    }
    let page = Page {
        frame: Frame::new(&state, "targets"),
        jobs,
        problems: discovered.problems.iter().map(|p| format!("{}: {}", p.job, p.message)).collect(),
        dropped: discovered.dropped_count,
        dropped_shown: discovered.dropped.iter().take(DROPPED_SHOWN).map(|d| d.discovered_labels.to_string()).collect(),
        up,
        down,
        samples: format::rate(per_second),
        upstream: state.upstream.as_ref().map(Upstream::shown),
    };
    render(&page)
}

fn row(status: &TargetStatus, now: crate::model::Timestamp) -> Row {
    Row {
        url: status.target.url.clone(),
        health: status.health.as_str(),
        class: match status.health {
            Health::Up => "healthy",
            Health::Down => "failure",
            Health::Unknown => "idle",
        },
        error: status.last_error.clone(),
        labels: status.target.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        last: format::ago(status.last_scrape, now),
        took: format::latency(status.last_scrape.map(|_| status.last_duration.as_secs_f64() * 1000.0)),
        samples: status.samples_kept,
        interval: format::span(status.target.interval),
    }
}
