//! `changes`: how what is declared changed, and what that did to the traffic.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::{Limit, Time};
use crate::api::State;
use crate::api::encode::go_time;
use crate::api::error::ApiError;
use crate::changes::{Change, Effect, FieldChange, kind_key, kind_of_key};
use crate::store::ChangeQuery;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// How far back unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// Changes.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChangeList")]
pub(super) struct Listed<'a> {
    /// The changes.
    changes: Vec<ChangeJson<'a>>,
}

/// One generation of an object and how it differs from the one before.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Change")]
pub(super) struct ChangeJson<'a> {
    /// When it was written, where the cluster says so; else when it was seen.
    time: String,
    /// Its kind, with the group where two have one of that name.
    kind: String,
    /// Its API group; empty: the core group.
    group: &'static str,
    /// Its namespace; empty for kinds of the whole cluster.
    namespace: &'a str,
    /// Its name.
    name: &'a str,
    /// What happened.
    #[schemars(extend("enum" = ["first", "created", "changed", "deleted"]))]
    action: &'static str,
    /// Where it is declared.
    #[schemars(extend("enum" = ["files", "cluster"]))]
    origin: &'static str,
    /// metadata.generation; where no cluster counts, the revision.
    generation: u64,
    /// Our own count of its generations, from 1.
    revision: u64,
    /// Who wrote it, as managedFields says.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<&'a str>,
    /// The fields that differ.
    fields: Vec<FieldJson<'a>>,
    /// Fields beyond those.
    fields_left_out: usize,
    /// Whom it governs, in words; known of the last day's changes.
    governs: Vec<String>,
    /// What it did to the traffic, the gravest first; absent: not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    effects: Option<Vec<EffectJson<'a>>>,
}

/// A field that is another.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FieldChange")]
pub(super) struct FieldJson<'a> {
    /// Where: `spec.http[0].route[1].weight`.
    path: &'a str,
    /// What stood there; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a str>,
    /// What stands there; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
}

/// What a change did to one edge.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ChangeEffect")]
struct EffectJson<'a> {
    /// The sentence.
    text: String,
    /// What was measured.
    #[schemars(extend("enum" = ["5xx", "failures", "4xx", "p95"]))]
    measure: &'static str,
    /// The caller.
    source: &'a str,
    /// The service called.
    target: &'a str,
    /// A share, or milliseconds, before.
    before: f64,
    /// The same after.
    after: f64,
    /// How long after the change, in whole minutes.
    delay_seconds: u64,
    /// That the change made it.
    probability: f64,
    /// Requests before.
    requests_before: f64,
    /// Requests after.
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

/// Which changes.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Which {
    /// First time: seconds since the epoch or RFC 3339; a day before the end unless told.
    from: Option<Time>,
    /// Last time; now unless told.
    to: Option<Time>,
    /// Only objects of this namespace.
    namespace: Option<String>,
    /// Only objects of this kind: VirtualService.
    kind: Option<String>,
    /// Only objects of this name.
    name: Option<String>,
    /// Most changes, from 1 to 1000; 100 unless told.
    limit: Option<Limit<LIMIT_MAX>>,
}

/// Changes, the newest first.
pub(super) async fn list(state: State, asked: Which) -> Outcome<Listed<'static>> {
    let to = asked.to.map_or_else(|| state.clock.now(), |to| to.0);
    let from = asked.from.map_or(to - RANGE_DEFAULT, |from| from.0);
    if from > to {
        return Err(ApiError::parameter("from", "it is later than `to`"));
    }
    let kind = asked.kind.as_deref().map(|text| {
        let known = kind_of_key(text).map(kind_key);
        known.ok_or_else(|| {
            ApiError::parameter("kind", format!("{text:?} is no kind; write it as in YAML: VirtualService"))
        })
    });
    let query = ChangeQuery {
        from,
        to,
        namespace: asked.namespace,
        kind: kind.transpose()?,
        name: asked.name,
        limit: asked.limit.map_or(LIMIT_DEFAULT, |limit| limit.0),
    };
    let (found, warning) = state.changes.search(&query).await;
    let warnings: Vec<String> = warning.into_iter().collect();
    Ok(Answer::with(Listed { changes: found.iter().map(|one| ChangeJson::from(&**one)).collect() }, &warnings))
}
