//! `silences/preview`: which alerts a silence would mute, before it is made.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use crate::api::State;
use crate::api::error::ApiError;
use crate::model::Labels;
use crate::notify::{go_time, parse_matchers};

/// Alerts that are named one by one; the others are counted.
const SHOWN_MAX: usize = 200;

/// What a silence would mute.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SilencePreview")]
pub(super) struct Preview {
    /// Alerts that it would mute.
    matched: usize,
    /// All alerts.
    total: usize,
    /// The first 200 of them.
    alerts: Vec<Muted>,
}

/// One alert.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PreviewedAlert")]
struct Muted {
    /// Its labels.
    #[serde(serialize_with = "map")]
    #[schemars(with = "BTreeMap<String, String>")]
    labels: Labels,
    /// Since when.
    starts_at: String,
    /// Who would be told.
    receivers: Vec<String>,
    /// Whether something mutes it already.
    suppressed: bool,
}

fn map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

/// A silence to be.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Asked {
    /// One or several matchers, all of which must hold; may be repeated.
    matcher: Vec<String>,
}

/// What the matchers would mute now.
pub(super) async fn preview(state: State, asked: Asked) -> Outcome<Preview> {
    let mut matchers = Vec::new();
    for text in &asked.matcher {
        matchers.extend(parse_matchers(text).map_err(|error| ApiError::parameter("matcher", error))?);
    }
    if matchers.iter().all(crate::model::Matcher::matches_empty) {
        return Err(ApiError::parameter("matcher", "at least one matcher must not match the empty string"));
    }
    let all = state.notify.alerts();
    let total = all.len();
    let mut muted: Vec<_> =
        all.into_iter().filter(|one| matchers.iter().all(|m| m.matches_labels(&one.alert.labels))).collect();
    let matched = muted.len();
    muted.truncate(SHOWN_MAX);
    let alerts = muted.into_iter().map(|one| Muted {
        suppressed: !(one.silenced_by.is_empty() && one.inhibited_by.is_empty()),
        starts_at: go_time(one.alert.fired_at.unwrap_or(one.alert.active_at)),
        receivers: one.receivers,
        labels: one.alert.labels,
    });
    Ok(Answer::new(Preview { matched, total, alerts: alerts.collect() }))
}
