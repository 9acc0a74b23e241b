//! `targets`: what is scraped, how it goes, what relabelling dropped.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::State;
use super::encode::{go_time, label_map, success};
use super::error::ApiError;
use super::params::Params;
use crate::model::Labels;
use crate::scrape::TargetStatus;
use crate::units::PromDuration;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<Active>,
    dropped_targets: Vec<Dropped>,
    dropped_target_counts: std::collections::BTreeMap<String, usize>,
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

pub(super) async fn targets(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let wanted = params.get("state").unwrap_or("any");
    let pool = params.get("scrapePool");
    let of_pool = |job: &str| pool.is_none_or(|pool| pool == job);
    let mut targets = Targets {
        active_targets: Vec::new(),
        dropped_targets: Vec::new(),
        dropped_target_counts: std::collections::BTreeMap::new(),
    };
    if wanted != "dropped" {
        let statuses = state.scrape.targets();
        targets.active_targets = statuses.iter().filter(|s| of_pool(&s.target.job.name)).map(active).collect();
    }
    if wanted != "active" {
        let discovered = state.scrape.discovered();
        for dropped in discovered.dropped.iter().filter(|dropped| of_pool(&dropped.job)) {
            *targets.dropped_target_counts.entry(dropped.job.clone()).or_default() += 1;
            let (discovered_labels, scrape_pool) = (dropped.discovered_labels.clone(), dropped.job.clone());
            targets.dropped_targets.push(Dropped { discovered_labels, scrape_pool });
        }
    }
    Ok(success(targets))
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
