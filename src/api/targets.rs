//! `targets` and `scrape_pools`: what is scraped, how it goes, what relabelling dropped.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::State;
use super::encode::{go_time, label_map, success};
use super::params::Params;
use crate::model::Labels;
use crate::scrape::{self, TargetStatus};
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
    answer(&state.scrape, &params).await
}

/// The same of a process that does nothing but scrape.
pub(super) async fn targets_of(Shared(scrape): Shared<scrape::Status>, params: Params) -> Response {
    answer(&scrape, &params).await
}

async fn answer(scrape: &scrape::Status, params: &Params) -> Response {
    let hostname = super::status::hostname().await;
    let wanted = params.get("state").map(str::to_ascii_lowercase);
    let is_wanted = |kind: &str| wanted.as_deref().is_none_or(|wanted| wanted == "any" || wanted == kind);
    let pool = params.get("scrapePool");
    let of_pool = |job: &str| pool.is_none_or(|pool| pool == job);
    let statuses = scrape.targets();
    let discovered = scrape.discovered();
    let mut targets = Targets { active_targets: Vec::new(), dropped_targets: Vec::new(), dropped_target_counts: None };
    if is_wanted("active") {
        targets.active_targets =
            statuses.iter().filter(|s| of_pool(&s.target.job.name)).map(|status| active(status, &hostname)).collect();
    }
    if is_wanted("dropped") {
        let mut counts: BTreeMap<String, usize> = pools(scrape).into_iter().map(|pool| (pool, 0)).collect();
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

/// Names of the scrape jobs, those that have found no target included.
pub(super) async fn scrape_pools(Shared(state): Shared<State>) -> Response {
    success(Pools { scrape_pools: pools(&state.scrape) })
}

fn pools(scrape: &scrape::Status) -> BTreeSet<String> {
    let discovered = scrape.discovered();
    discovered.jobs.iter().cloned().collect()
}

/// The URL under which others reach a target: one on this machine by the machine's name, as in Prometheus.
fn global_url(url: &str, hostname: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|_| !hostname.is_empty()) else { return url.to_owned() };
    let local = ["127.0.0.1", "localhost", "[::1]"].into_iter();
    let found =
        local.filter_map(|host| rest.strip_prefix(host)).find(|rest| rest.starts_with([':', '/']) || rest.is_empty());
    found.map_or_else(|| url.to_owned(), |rest| format!("{scheme}://{hostname}{rest}"))
}

fn active(status: &TargetStatus, hostname: &str) -> Active {
    let target = &status.target;
    Active {
        discovered_labels: target.discovered_labels.clone(),
        labels: target.labels.clone(),
        scrape_pool: target.job.name.clone(),
        scrape_url: target.url.clone(),
        global_url: global_url(&target.url, hostname),
        last_error: status.last_error.clone().unwrap_or_default(),
        last_scrape: go_time(status.last_scrape),
        last_scrape_duration: status.last_duration.as_secs_f64(),
        health: status.health.as_str(),
        scrape_interval: PromDuration::from(target.interval).to_string(),
        scrape_timeout: PromDuration::from(target.timeout).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_on_this_machine_are_shown_by_its_name() {
        let check = |url: &str, expect: &str| assert_eq!(global_url(url, "vm"), expect);
        check("http://127.0.0.1:9090/metrics", "http://vm:9090/metrics");
        check("https://localhost/metrics", "https://vm/metrics");
        check("http://[::1]:1/", "http://vm:1/");
        check("http://localhost.example:1/", "http://localhost.example:1/");
        check("http://10.0.0.1:1/", "http://10.0.0.1:1/");
        assert_eq!(global_url("http://localhost/", ""), "http://localhost/");
    }
}
