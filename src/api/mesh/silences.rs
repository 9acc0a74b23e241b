//! `silences/preview`: which alerts a silence would mute, before it is made.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::model::Labels;
use crate::notify::{go_time, parse_matchers};

/// Alerts that are named one by one; the others are counted.
const SHOWN_MAX: usize = 200;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Preview {
    /// Alerts that it would mute.
    matched: usize,
    /// All alerts.
    total: usize,
    alerts: Vec<Muted>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Muted {
    #[serde(serialize_with = "map")]
    labels: Labels,
    starts_at: String,
    receivers: Vec<String>,
    /// Whether something else mutes it already.
    suppressed: bool,
}

fn map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

/// What the matchers of the parameters `matcher` would mute now.
pub(super) async fn preview(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let mut matchers = Vec::new();
    for text in params.all("matcher") {
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
    Ok(success_with(&Preview { matched, total, alerts: alerts.collect() }, &[]))
}
