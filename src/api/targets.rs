//! `targets` and `scrape_pools`: what is scraped, how it goes, what relabelling dropped.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::State;
use super::encode::{go_time, label_map, success};
use super::params::Params;
use crate::model::Labels;
use crate::scrape::TargetStatus;
use crate::units::PromDuration;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<Active>,
    dropped_targets: Vec<Dropped>,
    /// Of every pool, whichever is asked for; `null` when dropped targets are not.
    dropped_target_counts: Option<BTreeMap<String, usize>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Active {
    #[serde(serialize_with = "label_map")]
    discovered_labels: Labels,
    #[serde(serialize_with = "label_map")]
    labels: Labels,
    scrape_pool: String,
    scrape_url: String,
    global_url: String,
    last_error: String,
    last_scrape: String,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dropped {
    #[serde(serialize_with = "label_map")]
    discovered_labels: Labels,
    scrape_pool: String,
}

/// Active and dropped targets, of one pool or of all.
pub(super) async fn targets(Shared(state): Shared<State>, params: Params) -> Response {
    let wanted = params.get("state").map(str::to_ascii_lowercase);
    let is_wanted = |kind: &str| wanted.as_deref().is_none_or(|wanted| wanted == "any" || wanted == kind);
    let pool = params.get("scrapePool");
    let of_pool = |job: &str| pool.is_none_or(|pool| pool == job);
    let statuses = state.scrape.targets();
    let discovered = state.scrape.discovered();
    let mut targets = Targets { active_targets: Vec::new(), dropped_targets: Vec::new(), dropped_target_counts: None };
    if is_wanted("active") {
        targets.active_targets = statuses.iter().filter(|s| of_pool(&s.target.job.name)).map(active).collect();
    }
    if is_wanted("dropped") {
        let mut counts: BTreeMap<String, usize> = pools(&state).into_iter().map(|pool| (pool, 0)).collect();
        for dropped in &discovered.dropped {
            *counts.entry(dropped.job.clone()).or_default() += 1;
        }
        targets.dropped_target_counts = Some(counts);
        let dropped = discovered.dropped.iter().filter(|dropped| of_pool(&dropped.job));
        targets.dropped_targets = dropped
            .map(|dropped| Dropped {
                discovered_labels: dropped.discovered_labels.clone(),
                scrape_pool: dropped.job.clone(),
            })
            .collect();
    }
    success(targets)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pools {
    scrape_pools: BTreeSet<String>,
}

/// Names of the scrape jobs that have found targets.
pub(super) async fn scrape_pools(Shared(state): Shared<State>) -> Response {
    success(Pools { scrape_pools: pools(&state) })
}

fn pools(state: &State) -> BTreeSet<String> {
    let discovered = state.scrape.discovered();
    let active = discovered.active.iter().map(|target| target.job.name.clone());
    active.chain(discovered.dropped.iter().map(|dropped| dropped.job.clone())).collect()
}

fn active(status: &TargetStatus) -> Active {
    let target = &status.target;
    Active {
        discovered_labels: target.discovered_labels.clone(),
        labels: target.labels.clone(),
        scrape_pool: target.job.name.clone(),
        scrape_url: target.url.clone(),
        global_url: target.url.clone(),
        last_error: status.last_error.clone().unwrap_or_default(),
        last_scrape: go_time(status.last_scrape),
        last_scrape_duration: status.last_duration.as_secs_f64(),
        health: status.health.as_str(),
        scrape_interval: PromDuration::from(target.interval).to_string(),
        scrape_timeout: PromDuration::from(target.timeout).to_string(),
    }
}
