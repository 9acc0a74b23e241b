//! `metadata` and `targets/metadata`: type, help and unit of metrics, as the targets' pages say, and what senders say.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::State;
use super::encode::{label_map, success};
use super::error::ApiError;
use super::params::{Params, parse_matchers};
use crate::model::{Labels, Matcher};
use crate::upstream::Metadata;

#[derive(Serialize, PartialEq, Eq)]
struct Entry {
    r#type: Cow<'static, str>,
    unit: String,
    help: String,
}

/// By metric name; each different text once.
pub(super) async fn metadata(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.plain_limit("limit")?.unwrap_or(usize::MAX);
    let per_metric = params.plain_limit("limit_per_metric")?.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let wanted = params.get("metric");
    let mut families: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for target in state.scrape.metadata() {
        for metric in target.metrics.iter().filter(|metric| wanted.is_none_or(|wanted| wanted == metric.name)) {
            let entry =
                Entry { r#type: metric.kind.as_str().into(), unit: metric.unit.clone(), help: metric.help.clone() };
            let entries = families.entry(metric.name.clone()).or_default();
            if !entries.contains(&entry) && entries.len() < per_metric {
                entries.push(entry);
            }
        }
    }
    for metric in state.push.metadata().into_iter().filter(|metric| wanted.is_none_or(|wanted| wanted == metric.name)) {
        let entry = Entry { r#type: metric.kind.as_str().into(), unit: metric.unit, help: metric.help };
        let entries = families.entry(metric.name).or_default();
        if !entries.contains(&entry) && entries.len() < per_metric {
            entries.push(entry);
        }
    }
    if let Some(upstream) = &state.upstream {
        for (name, theirs) in upstream.metadata(wanted).await? {
            let entries = families.entry(name).or_default();
            for Metadata { kind, unit, help } in theirs {
                let entry = Entry { r#type: kind.into(), unit, help };
                if !entries.contains(&entry) && entries.len() < per_metric {
                    entries.push(entry);
                }
            }
        }
    }
    Ok(success(families.into_iter().take(limit).collect::<BTreeMap<_, _>>()))
}

#[derive(Serialize)]
struct TargetEntry {
    #[serde(serialize_with = "label_map")]
    target: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<String>,
    r#type: &'static str,
    help: String,
    unit: String,
}

/// By target; the metric's name is left out when the asker named it.
pub(super) async fn of_targets(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.plain_limit("limit")?.unwrap_or(usize::MAX);
    let matchers: Vec<Matcher> = match params.get("match_target") {
        None | Some("{}") => Vec::new(),
        Some(text) => parse_matchers(text).map_err(|error| error.of_parameter("match_target"))?,
    };
    let wanted = params.get("metric");
    let mut entries = Vec::new();
    for of_target in state.scrape.metadata() {
        let labels = &of_target.target.labels;
        if !matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
            continue;
        }
        let metrics = of_target.metrics.iter().filter(|metric| wanted.is_none_or(|wanted| wanted == metric.name));
        entries.extend(metrics.take(limit.saturating_sub(entries.len())).map(|metric| TargetEntry {
            target: labels.clone(),
            metric: wanted.is_none().then(|| metric.name.clone()),
            r#type: metric.kind.as_str(),
            help: metric.help.clone(),
            unit: metric.unit.clone(),
        }));
    }
    Ok(success(entries))
}
