//! `alerts` and `alerts/groups`.

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::fault::Fault;
use super::filter::Filter;
use super::status::{Name, answer, instant};
use super::{State, decode};
use crate::api::params::Params;
use crate::model::Labels;
use crate::notify::AlertStatus;

/// In the order in which Alertmanager's encoder writes the fields.
#[derive(Serialize)]
struct Alert {
    #[serde(serialize_with = "map")]
    annotations: Labels,
    #[serde(rename = "endsAt")]
    ends_at: String,
    fingerprint: String,
    receivers: Vec<Name>,
    #[serde(rename = "startsAt")]
    starts_at: String,
    status: Status,
    #[serde(rename = "updatedAt")]
    updated_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
    #[serde(serialize_with = "map")]
    labels: Labels,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    inhibited_by: Vec<String>,
    muted_by: Vec<String>,
    silenced_by: Vec<String>,
    state: &'static str,
}

#[derive(Serialize)]
struct Group {
    alerts: Vec<Alert>,
    #[serde(serialize_with = "map")]
    labels: Labels,
    receiver: Name,
}

fn map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

fn fingerprint(labels: &Labels) -> String {
    format!("{:016x}", labels.fingerprint())
}

impl Alert {
    fn new(status: AlertStatus, receivers: Vec<String>, muted_by: Vec<String>) -> Self {
        let AlertStatus { alert, updated_at, receivers: _, silenced_by, inhibited_by } = status;
        let is_active = silenced_by.is_empty() && inhibited_by.is_empty() && muted_by.is_empty();
        Self {
            fingerprint: fingerprint(&alert.labels),
            ends_at: instant(alert.ends_at()),
            receivers: receivers.into_iter().map(|name| Name { name }).collect(),
            starts_at: instant(alert.fired_at.unwrap_or(alert.active_at)),
            status: Status {
                inhibited_by: inhibited_by.into_iter().map(|one| format!("{one:016x}")).collect(),
                muted_by,
                silenced_by,
                state: if is_active { "active" } else { "suppressed" },
            },
            updated_at: instant(updated_at),
            annotations: alert.annotations,
            generator_url: alert.generator_url,
            labels: alert.labels,
        }
    }
}

/// Every alert that has not ended.
pub(super) async fn list(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let filter = Filter::read(&params)?;
    let is_wanted =
        |status: &AlertStatus| status.receivers.iter().any(|name| filter.takes_receiver(name)) && filter.takes(status);
    let wanted = state.notify.alerts().into_iter().filter(is_wanted).map(|mut status| {
        let receivers = std::mem::take(&mut status.receivers);
        Alert::new(status, receivers, Vec::new())
    });
    Ok(answer(&wanted.collect::<Vec<_>>()))
}

/// Every group that holds an alert.
pub(super) async fn groups(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let filter = Filter::read(&params)?;
    let mut groups = state.notify.groups();
    groups.retain(|group| filter.takes_receiver(&group.receiver));
    let mut receivers: std::collections::HashMap<Labels, Vec<String>> = std::collections::HashMap::new();
    for group in &mut groups {
        group.alerts.retain(|status| filter.takes(status));
        for status in &group.alerts {
            receivers.entry(status.alert.labels.clone()).or_default().push(group.receiver.clone());
        }
    }
    receivers.values_mut().for_each(|names| names.sort());
    let is_wanted =
        |group: &crate::notify::GroupStatus| !group.alerts.is_empty() && (filter.muted || group.muted_by.is_empty());
    let shown = groups.into_iter().filter(is_wanted).map(|group| Group {
        alerts: (group.alerts.into_iter())
            .map(|status| {
                let names = receivers.get(&status.alert.labels).cloned().unwrap_or_default();
                Alert::new(status, names, group.muted_by.clone())
            })
            .collect(),
        labels: group.labels,
        receiver: Name { name: group.receiver },
    });
    Ok(answer(&shown.collect::<Vec<_>>()))
}

/// Takes alerts. Of a batch with invalid ones the valid ones are taken, and the answer names what is wrong.
pub(super) async fn post(Shared(state): Shared<State>, headers: HeaderMap, body: Bytes) -> Result<Response, Fault> {
    let posted = decode::alerts(&headers, &body)?;
    state.notify.post(posted).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Fault::bad(texts.join("\n"))
    })?;
    Ok(axum::http::StatusCode::OK.into_response())
}
