//! `metadata`: type, help and unit of metrics, as the targets' pages say.

use std::collections::BTreeMap;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::State;
use super::encode::success;
use super::error::ApiError;
use super::params::Params;

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    r#type: &'static str,
    unit: String,
    help: String,
}

pub(super) async fn metadata(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let per_metric = params.get("limit_per_metric").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let wanted = params.get("metric");
    let mut families: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for target in state.scrape.metadata() {
        for metric in target.metrics.iter().filter(|metric| wanted.is_none_or(|wanted| wanted == metric.name)) {
            let entry = Entry { r#type: metric.kind.as_str(), unit: metric.unit.clone(), help: metric.help.clone() };
            let entries = families.entry(metric.name.clone()).or_default();
            if !entries.contains(&entry) && (per_metric == 0 || entries.len() < per_metric) {
                entries.push(entry);
            }
        }
    }
    if limit > 0 {
        families = families.into_iter().take(limit).collect();
    }
    Ok(success(families))
}
