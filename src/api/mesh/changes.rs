//! `changes`: how what is declared changed, and what that did to the traffic.

use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::{go_time, success_with};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::changes::{Change, Effect, FieldChange, kind_key, kind_of_key};
use crate::store::ChangeQuery;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// How far back unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(24 * 3600);

#[derive(Serialize)]
struct Listed<'a> {
    changes: Vec<ChangeJson<'a>>,
}

/// One change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChangeJson<'a> {
    time: String,
    kind: String,
    group: &'static str,
    namespace: &'a str,
    name: &'a str,
    action: &'static str,
    origin: &'static str,
    generation: u64,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<&'a str>,
    fields: Vec<FieldJson<'a>>,
    fields_left_out: usize,
    governs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effects: Option<Vec<EffectJson<'a>>>,
}

#[derive(Serialize)]
pub(super) struct FieldJson<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EffectJson<'a> {
    text: String,
    measure: &'static str,
    source: &'a str,
    target: &'a str,
    before: f64,
    after: f64,
    delay_seconds: u64,
    probability: f64,
    requests_before: f64,
    requests_after: f64,
}

impl<'a> From<&'a FieldChange> for FieldJson<'a> {
    fn from(field: &'a FieldChange) -> Self {
        let FieldChange { path, before, after } = field;
        Self { path, before: before.as_deref(), after: after.as_deref() }
    }
}

impl<'a> From<&'a Effect> for EffectJson<'a> {
    fn from(effect: &'a Effect) -> Self {
        let Effect { measure, source, target, before, after, delay, probability, requests } = effect;
        Self {
            text: effect.to_string(),
            measure: measure.as_str(),
            source,
            target,
            before: *before,
            after: *after,
            delay_seconds: delay.as_secs(),
            probability: *probability,
            requests_before: requests.0,
            requests_after: requests.1,
        }
    }
}

impl<'a> From<&'a Change> for ChangeJson<'a> {
    fn from(change: &'a Change) -> Self {
        Self {
            time: go_time(Some(change.at)),
            kind: kind_key(change.id.kind),
            group: change.id.kind.info().group,
            namespace: &change.id.namespace,
            name: &change.id.name,
            action: change.action.as_str(),
            origin: change.origin.as_str(),
            generation: change.generation,
            revision: change.revision,
            writer: change.writer.as_deref(),
            fields: change.fields.iter().map(FieldJson::from).collect(),
            fields_left_out: change.fields_left_out,
            governs: change.governs.words(),
            effects: change.effects.as_ref().map(|effects| effects.iter().map(EffectJson::from).collect()),
        }
    }
}

/// Changes, the newest first: `from`, `to`, `namespace`, `kind`, `name`, `limit`.
pub(super) async fn list(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let now = state.clock.now();
    let to = params.time("to")?.unwrap_or(now);
    let from = params.time("from")?.unwrap_or(to - RANGE_DEFAULT);
    if from > to {
        return Err(ApiError::parameter("from", "it is later than `to`"));
    }
    let kind = params.get("kind").map(|text| {
        let known = kind_of_key(text).map(kind_key);
        known.ok_or_else(|| {
            ApiError::parameter("kind", format!("{text:?} is no kind; write it as in YAML: VirtualService"))
        })
    });
    let query = ChangeQuery {
        from,
        to,
        namespace: params.get("namespace").map(str::to_owned),
        kind: kind.transpose()?,
        name: params.get("name").map(str::to_owned),
        limit: params.limit_within(LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT),
    };
    let (found, warning) = state.changes.search(&query).await;
    let warnings: Vec<String> = warning.into_iter().collect();
    Ok(success_with(Listed { changes: found.iter().map(|one| ChangeJson::from(&**one)).collect() }, &warnings))
}
