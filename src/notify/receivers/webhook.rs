//! The webhook integration: payload version 4, byte for byte as Alertmanager writes it, and one attempt to deliver it.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderName, HeaderValue};
use serde::Serialize;

use super::Parts;
use super::config::{SignatureConfig, WebhookConfig};
use super::post::{Address, Post, SendError, json_text, read_secret};
use super::templates::{About, Text};
use super::typed::Typed;
use crate::model::{Alert, Labels, Timestamp};
use crate::notify::core::Notification;

/// One checked endpoint.
pub(in crate::notify) struct Webhook {
    send_resolved: bool,
    max_alerts: usize,
    post: Post,
    method: reqwest::Method,
    content_type: String,
    body: Option<Body>,
    signature: Option<(SignatureConfig, HeaderName)>,
}

/// A body of one's own.
enum Body {
    /// As Alertmanager has it.
    Json(Typed),
    /// What is not JSON.
    Text(Text),
}

impl Body {
    fn new(written: &serde_json::Value, content_type: &str, parts: &Parts<'_>) -> Result<Self, String> {
        match (content_type.contains("json"), written) {
            (true, written) => Ok(Self::Json(Typed::new(parts.templates, "payload", written)?)),
            (false, serde_json::Value::String(text)) => Ok(Self::Text(parts.templates.text("payload", text)?)),
            (false, _) => Err(format!("payload: under the content_type {content_type:?} it must be one text")),
        }
    }
}

impl Webhook {
    pub(super) fn new(config: &WebhookConfig, parts: &Parts<'_>) -> Result<Self, String> {
        let address = Address::new("url", config.url.clone(), config.url_file.clone())?;
        let method = match config.method.as_str() {
            "POST" => reqwest::Method::POST,
            "PUT" => reqwest::Method::PUT,
            "PATCH" => reqwest::Method::PATCH,
            other => return Err(format!("method: {other:?} is not POST, PUT or PATCH")),
        };
        HeaderValue::from_str(&config.content_type)
            .map_err(|_| format!("content_type: {:?} cannot be a header", config.content_type))?;
        let signature = config.signature.clone().map(|signature| {
            if signature.secret_file.as_os_str().is_empty() {
                return Err("signature.secret_file must be given".to_owned());
            }
            let name = (signature.header.parse())
                .map_err(|_| format!("signature.header: {:?} is not a header name", signature.header))?;
            Ok((signature, name))
        });
        Ok(Self {
            send_resolved: config.send_resolved,
            max_alerts: config.max_alerts,
            post: Post::new(address, config.http_config.as_ref(), config.timeout, parts)?,
            method,
            content_type: config.content_type.clone(),
            body: config.payload.as_ref().map(|body| Body::new(body, &config.content_type, parts)).transpose()?,
            signature: signature.transpose()?,
        })
    }

    pub(super) fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    pub(super) fn render(&self, notification: &Notification, external_url: &str) -> Result<String, String> {
        match &self.body {
            None => payload(notification, self.max_alerts, external_url),
            Some(Body::Json(body)) => json_text(&body.run(&About::new(notification, external_url))?),
            Some(Body::Text(body)) => body.run(&About::new(notification, external_url)),
        }
    }

    /// One attempt. Network errors and 5xx are worth another; any other answer but 2xx is final for this flush.
    pub(super) async fn send(&self, body: &str) -> Result<(), SendError> {
        let header = match &self.signature {
            None => None,
            Some((signature, name)) => {
                let key = read_secret("signature.secret_file", &signature.secret_file).await?;
                let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let value = HeaderValue::from_str(&signed(key.as_bytes(), seconds, body))
                    .map_err(|error| SendError::Final(format!("signature: {error}")))?;
                Some((name.clone(), value))
            }
        };
        self.post.send(self.method.clone(), &self.content_type, body.to_owned(), header).await?.check(&[])
    }
}

/// `t=<seconds>,v1=<hex>`: HMAC-SHA256 over the seconds, a full stop and the body.
fn signed(key: &[u8], seconds: u64, body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let tag = ring::hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    format!("t={seconds},v1={}", super::hex(tag.as_ref()))
}

/// Payload version 4 as it goes over the wire, with its final newline; at most so many alerts, 0 for all.
pub(in crate::notify) fn payload(
    notification: &Notification,
    max_alerts: usize,
    external_url: &str,
) -> Result<String, String> {
    let kept = match max_alerts {
        0 => notification.alerts.len(),
        most => most.min(notification.alerts.len()),
    };
    json_text(&Payload::of(notification, kept, external_url))
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

pub(super) fn status_text(fires: bool) -> &'static str {
    if fires { "firing" } else { "resolved" }
}

/// The pairs that all sets share.
pub(super) fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
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
pub(super) fn quote_meta(text: &str) -> String {
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
        // As `openssl dgst -sha256 -hmac secret` says of `12.{}`.
        assert_eq!(
            signed(b"secret", 12, "{}"),
            "t=12,v1=773e3168d620c0ffe05ebb73e13b0cded4fe6220daed68d8fcb2a796f2d784dc"
        );
        assert_eq!(quote_meta("team.x-1 (b)"), r"team\.x-1 \(b\)");
    }
}
