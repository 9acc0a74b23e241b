//! A webhook receiver that prints each notification in a line or two, as somebody's chat bot would show it.
//!
//! In: `POST /webhook` with Alertmanager's version 4 body. Out: lines on standard output, counters. A body it cannot read
//! is refused with 400 and the reason.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::post,
};
use serde::Deserialize;

/// Largest accepted body.
const BODY_LIMIT_BYTES: usize = 1024 * 1024;
/// Alerts shown of one notification; the rest are counted in words.
const ALERTS_SHOWN: usize = 4;

/// What arrived.
#[derive(Debug, Default)]
pub struct Counters {
    /// Notifications read.
    pub received: AtomicU64,
    /// Notifications that said `firing`.
    pub firing: AtomicU64,
    /// Bodies refused.
    pub refused: AtomicU64,
}

/// Alertmanager's webhook body, version 4; unknown fields are ignored, as the format allows additions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    status: String,
    receiver: String,
    alerts: Vec<Notified>,
    #[serde(default)]
    truncated_alerts: u64,
    #[serde(default)]
    group_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Notified {
    status: String,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The receiver's route.
pub fn router(counters: Arc<Counters>) -> Router {
    Router::new().route("/webhook", post(receive)).layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES)).with_state(counters)
}

async fn receive(State(counters): State<Arc<Counters>>, body: Bytes) -> (StatusCode, String) {
    match describe(&body) {
        Ok((text, firing)) => {
            counters.received.fetch_add(1, Ordering::Relaxed);
            counters.firing.fetch_add(u64::from(firing), Ordering::Relaxed);
            super::say(&text);
            (StatusCode::OK, String::new())
        }
        Err(error) => {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            let reason = format!("not an alertmanager version 4 body: {error}");
            tracing::warn!("the demo's webhook refused a body: {reason}");
            (StatusCode::BAD_REQUEST, reason)
        }
    }
}

/// The notification as text, and whether it is firing.
fn describe(body: &[u8]) -> Result<(String, bool), serde_json::Error> {
    let message: Message = serde_json::from_slice(body)?;
    let Message { status, receiver, mut alerts, truncated_alerts, group_labels } = message;
    let firing = status == "firing";
    // Alertmanager keeps resolved alerts in a group that fires again; those that fire come first.
    alerts.sort_by_key(|alert| alert.status != "firing");
    let still = alerts.iter().filter(|alert| alert.status == "firing").count();
    let name = group_labels
        .get("alertname")
        .or_else(|| alerts.first().and_then(|alert| alert.labels.get("alertname")))
        .map_or("alerts", String::as_str);
    let mut text =
        format!("[{}] {} {}:", one_line(&receiver), if firing { "FIRING" } else { "RESOLVED" }, one_line(name));
    let counts =
        [(still as u64, "firing"), ((alerts.len() - still) as u64, "resolved"), (truncated_alerts, "truncated")];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(" {count} {what}")).collect();
    text.push_str(&counts.join(","));
    let count = alerts.len() as u64 + truncated_alerts;
    for alert in alerts.iter().take(ALERTS_SHOWN) {
        let words = alert.annotations.get("summary").or_else(|| alert.annotations.get("description"));
        let words = words.cloned().unwrap_or_else(|| labels(&alert.labels));
        // A String takes any text: the result carries nothing.
        let _ = write!(text, "\n    {} {}", one_line(&alert.status), one_line(&words));
    }
    if count > ALERTS_SHOWN as u64 {
        let _ = write!(text, "\n    and {} more", count - ALERTS_SHOWN as u64);
    }
    Ok((text, firing))
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

/// Text from elsewhere goes to a terminal: control characters (line breaks, escape sequences) become spaces.
fn one_line(text: &str) -> String {
    text.chars().take(300).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const BODY: &str = r#"{"version":"4","groupKey":"{}:{alertname=\"CatalogErrors\"}","truncatedAlerts":0,"status":"firing",
        "receiver":"terminal","groupLabels":{"alertname":"CatalogErrors"},"commonLabels":{},"commonAnnotations":{},
        "externalURL":"http://127.0.0.1:7070","alerts":[{"status":"firing","labels":{"alertname":"CatalogErrors",
        "service":"catalog"},"annotations":{"summary":"catalog fails\u001b[31m 34% of calls"},
        "startsAt":"2030-01-01T00:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"","fingerprint":"00"}]}"#;

    #[test]
    fn prints_a_notification_in_two_lines_without_control_characters() {
        let (text, firing) = describe(BODY.as_bytes()).unwrap();
        assert!(firing);
        assert_eq!(text, "[terminal] FIRING CatalogErrors: 1 firing\n    firing catalog fails [31m 34% of calls");
    }

    #[test]
    fn many_alerts_are_cut_and_counted() {
        let alert = r#"{"status":"resolved","labels":{"service":"a"}}"#;
        let body = format!(
            r#"{{"status":"resolved","receiver":"r","alerts":[{}],"truncatedAlerts":3}}"#,
            [alert; 6].join(",")
        );
        let (text, firing) = describe(body.as_bytes()).unwrap();
        assert!(!firing);
        assert!(text.starts_with("[r] RESOLVED alerts: 6 resolved, 3 truncated\n    resolved service=a\n"), "{text}");
        assert!(text.ends_with("and 5 more"), "{text}");
    }

    #[test]
    fn alerts_that_fire_come_first() {
        let body = r#"{"status":"firing","receiver":"r","alerts":[{"status":"resolved","labels":{"service":"a"}},
            {"status":"firing","labels":{"service":"b"}}]}"#;
        let (text, _) = describe(body.as_bytes()).unwrap();
        let expected = "[r] FIRING alerts: 1 firing, 1 resolved\n    firing service=b\n    resolved service=a";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn takes_good_bodies_and_refuses_bad_ones_over_a_socket() {
        let counters = Arc::new(Counters::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, router(counters.clone())).into_future());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        assert_eq!(client.post(&url).body(BODY).send().await.unwrap().status(), 200);
        let answer = client.post(&url).body("{\"alerts\":1}").send().await.unwrap();
        assert_eq!(answer.status(), 400);
        assert!(answer.text().await.unwrap().contains("version 4"));
        let seen = [&counters.received, &counters.firing, &counters.refused].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(seen, [1, 1, 1]);
        server.abort();
    }
}
