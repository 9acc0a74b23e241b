//! The page of scrape targets: what is scraped, how it goes, why it fails.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::State;
use super::ask::{Asked, Shared, given};
use super::format;
use super::frame::{Frame, render};
use crate::scrape::{Health, TargetStatus};
use crate::upstream::Upstream;

/// Dropped targets shown.
const DROPPED_SHOWN: usize = 50;
/// Targets shown of all jobs; those that are down come first.
const SHOWN_MAX: usize = 500;
const STATES: [&str; 3] = ["up", "down", "unknown"];

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    q: Option<String>,
    state: Option<String>,
}

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
    q: String,
    states: Vec<(&'static str, bool)>,
    is_narrowed: bool,
    matched: usize,
    left_out: usize,
    /// The engine elsewhere that has the metrics, when there is one.
    upstream: Option<String>,
}

struct JobRows {
    name: String,
    up: usize,
    all: usize,
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

pub(super) async fn page(Shared(state): Shared<State>, Asked(asked): Asked<Address>) -> Response {
    let now = state.clock.now();
    let targets = state.scrape.targets();
    let discovered = state.scrape.discovered();
    let of = |health: Health| targets.iter().filter(|target| target.health == health).count();
    let (up, down) = (of(Health::Up), of(Health::Down));
    let per_second: f64 = (targets.iter())
        .map(|target| target.samples_kept as f64 / target.target.interval.as_secs_f64().max(0.001))
        .sum();
    let text = given(asked.q.as_deref()).map(|text| text.trim().to_lowercase());
    let wanted = given(asked.state.as_deref());
    let fits = |target: &&TargetStatus| {
        wanted.is_none_or(|wanted| target.health.as_str() == wanted)
            && text.as_deref().is_none_or(|text| has_text(target, text))
    };
    let mut chosen: Vec<&TargetStatus> = targets.iter().filter(fits).collect();
    let matched = chosen.len();
    if matched > SHOWN_MAX {
        // Of too many, those that fail are kept, each job in its order.
        let (failing, fine): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|one| one.health == Health::Down);
        chosen = failing.into_iter().chain(fine).take(SHOWN_MAX).collect();
        chosen.sort_by(|a, b| a.target.job.name.cmp(&b.target.job.name));
    }
    let mut jobs: Vec<JobRows> = Vec::new();
    for target in &chosen {
        let name = &target.target.job.name;
        if jobs.last().is_none_or(|job| job.name != *name) {
            let own = || targets.iter().filter(|one| one.target.job.name == *name);
            let up = own().filter(|one| one.health == Health::Up).count();
            jobs.push(JobRows { name: name.clone(), up, all: own().count(), targets: Vec::new() });
        }
        if let Some(job) = jobs.last_mut() {
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
        states: STATES.map(|state| (state, wanted == Some(state))).into(),
        is_narrowed: text.is_some() || wanted.is_some(),
        q: asked.q.unwrap_or_default(),
        matched,
        left_out: matched.saturating_sub(SHOWN_MAX),
        upstream: state.upstream.as_ref().map(Upstream::shown),
    };
    render(&page)
}

/// Whether its address, a label or its error has the text.
fn has_text(status: &TargetStatus, text: &str) -> bool {
    let has = |own: &str| own.to_lowercase().contains(text);
    has(&status.target.url)
        || has(&status.target.job.name)
        || status.target.labels.iter().any(|(name, value)| has(&format!("{name}={value}")))
        || status.last_error.as_deref().is_some_and(has)
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
