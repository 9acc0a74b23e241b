//! The webhook integration: payload version 4, byte for byte as Alertmanager writes it, and one attempt to deliver it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::config::WebhookConfig;
use super::core::Notification;
use super::plan::PlanError;
use crate::http_client;
use crate::model::{Alert, Labels, Timestamp};
use crate::units::Secret;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer's body that are put into an error.
const ANSWER_EXCERPT_CHARS: usize = 200;

/// One checked endpoint.
pub(super) struct Webhook {
    pub(super) send_resolved: bool,
    max_alerts: usize,
    timeout: Duration,
    address: Address,
    client: http_client::Client,
}

enum Address {
    Given(Secret),
    File(PathBuf),
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// Worth another try: no answer, or 5xx.
    #[error("{0}")]
    Recoverable(String),
    /// Another try would get the same answer.
    #[error("{0}")]
    Final(String),
}

impl Webhook {
    pub(super) fn new(receiver: &str, index: usize, config: &WebhookConfig) -> Result<Self, PlanError> {
        let wrong = |reason: String| PlanError::Webhook { receiver: receiver.to_owned(), index, reason };
        let address = match (&config.url, &config.url_file) {
            (Some(url), None) => {
                let parsed = reqwest::Url::parse(url.reveal()).map_err(|error| wrong(format!("url: {error}")))?;
                if !["http", "https"].contains(&parsed.scheme()) {
                    return Err(wrong(format!("url: the scheme {:?} is not http or https", parsed.scheme())));
                }
                Address::Given(url.clone())
            }
            (None, Some(file)) => Address::File(file.clone()),
            (None, None) => return Err(wrong("one of url or url_file must be given".to_owned())),
            (Some(_), Some(_)) => return Err(wrong("at most one of url and url_file may be given".to_owned())),
        };
        (config.http_config.validate()).map_err(|source| PlanError::Http {
            receiver: receiver.to_owned(),
            index,
            source,
        })?;
        let client = http_client::Client::new(config.http_config.clone());
        let timeout = if config.timeout.is_zero() { DEFAULT_TIMEOUT } else { config.timeout.get() };
        Ok(Self { send_resolved: config.send_resolved, max_alerts: config.max_alerts, timeout, address, client })
    }

    /// The payload as it goes over the wire, with its final newline.
    pub(super) fn payload(&self, notification: &Notification, external_url: &str) -> String {
        let kept = match self.max_alerts {
            0 => notification.alerts.len(),
            most => most.min(notification.alerts.len()),
        };
        let payload = Payload::of(notification, kept, external_url);
        // A payload of texts and numbers always serialises.
        let mut text = serde_json::to_string(&payload).unwrap_or_default();
        text.push('\n');
        text
    }

    /// One attempt. Network errors and 5xx are worth another; any other answer but 2xx is final for this flush.
    pub(super) async fn send(&self, payload: &str) -> Result<(), SendError> {
        let url = match &self.address {
            Address::Given(url) => url.reveal().to_owned(),
            Address::File(file) => tokio::fs::read_to_string(file)
                .await
                .map_err(|error| SendError::Recoverable(format!("read url_file {}: {error}", file.display())))?
                .trim()
                .to_owned(),
        };
        let request = (self.client.request(reqwest::Method::POST, &url))
            .map_err(|error| SendError::Recoverable(error.to_string()))?
            .timeout(self.timeout)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .header(reqwest::header::USER_AGENT, concat!("meshscope/", env!("CARGO_PKG_VERSION")))
            .body(payload.to_owned());
        let answer = request.send().await.map_err(|error| SendError::Recoverable(network_reason(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body: String = answer.text().await.unwrap_or_default().chars().take(ANSWER_EXCERPT_CHARS).collect();
        let reason = format!("unexpected status code {status}: {}", body.trim());
        Err(if status.is_server_error() { SendError::Recoverable(reason) } else { SendError::Final(reason) })
    }
}

/// The cause of a network error without its address, which may hold a token.
fn network_reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer within the timeout".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("cannot deliver: {cause}")
}

#[derive(Serialize)]
struct Payload {
    receiver: String,
    status: &'static str,
    alerts: Vec<AlertPayload>,
    notification_reason: &'static str,
    #[serde(rename = "groupLabels", serialize_with = "label_map")]
    group_labels: Labels,
    #[serde(rename = "commonLabels", serialize_with = "label_map")]
    common_labels: Labels,
    #[serde(rename = "commonAnnotations", serialize_with = "label_map")]
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: String,
    version: &'static str,
    #[serde(rename = "groupKey")]
    group_key: String,
    #[serde(rename = "truncatedAlerts")]
    truncated_alerts: usize,
}

#[derive(Serialize)]
struct AlertPayload {
    status: &'static str,
    #[serde(serialize_with = "label_map")]
    labels: Labels,
    #[serde(serialize_with = "label_map")]
    annotations: Labels,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "endsAt")]
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

impl Payload {
    fn of(notification: &Notification, kept: usize, external_url: &str) -> Self {
        let alerts = &notification.alerts[..kept];
        Self {
            receiver: quote_meta(&notification.receiver),
            status: status_text(alerts.iter().any(|(_, fires)| *fires)),
            alerts: alerts.iter().map(|(alert, fires)| AlertPayload::of(alert, *fires)).collect(),
            notification_reason: notification.reason,
            group_labels: notification.group_labels.clone(),
            common_labels: common(alerts.iter().map(|(alert, _)| &alert.labels)),
            common_annotations: common(alerts.iter().map(|(alert, _)| &alert.annotations)),
            external_url: external_url.to_owned(),
            version: "4",
            group_key: notification.group_key.clone(),
            truncated_alerts: notification.alerts.len() - kept,
        }
    }
}

impl AlertPayload {
    fn of(alert: &Alert, fires: bool) -> Self {
        Self {
            status: status_text(fires),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: go_time(alert.fired_at.unwrap_or(alert.active_at)),
            // A firing alert carries Go's zero time: nobody knows yet when it ends.
            ends_at: if fires { "0001-01-01T00:00:00Z".to_owned() } else { go_time(alert.ends_at()) },
            generator_url: alert.generator_url.clone(),
            fingerprint: format!("{:016x}", alert.labels.fingerprint()),
        }
    }
}

fn status_text(fires: bool) -> &'static str {
    if fires { "firing" } else { "resolved" }
}

/// The pairs that all sets share.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::empty() };
    sets.fold(first.clone(), |shared, labels| {
        shared.iter().filter(|(name, value)| labels.get(name) == Some(value)).collect()
    })
}

fn label_map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

/// A time as Go prints it in RFC 3339: no more digits of the second than needed, UTC.
pub fn go_time(at: Timestamp) -> String {
    let text = at.to_chrono().format("%Y-%m-%dT%H:%M:%S%.3f").to_string();
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Go's `regexp.QuoteMeta`, which Alertmanager applies to the receiver's name.
fn quote_meta(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut quoted, c| {
        if r"\.+*?()|[]{}^$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
        quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_times_and_names_as_go_does() {
        let check = |ms, expect: &str| assert_eq!(go_time(Timestamp::from_millis(ms)), expect);
        check(1_763_835_040_000, "2025-11-22T18:10:40Z");
        check(1_763_835_040_120, "2025-11-22T18:10:40.12Z");
        assert_eq!(quote_meta("team.x-1 (b)"), r"team\.x-1 \(b\)");
    }
}
