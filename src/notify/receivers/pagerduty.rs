//! PagerDuty, over Events API v2: one incident for each group, opened, updated and resolved under one key.
//!
//! In: a notification. Out: the event as Alertmanager writes it. The routing key is not part of what is recorded: it is
//! added when the event is sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::config::{PagerdutyConfig, PagerdutyImage, PagerdutyLink};
use super::post::{Address, Post, SendError, json_text, read_secret};
use super::templates::{About, Text};
use super::typed::Typed;
use super::{NOT_SUPPORTED, Parts, group_hash, truncated};
use crate::notify::core::Notification;
use crate::units::Secret;

const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Longest summary that PagerDuty takes.
const SUMMARY_CHARS_MAX: usize = 1024;
/// Largest event that PagerDuty takes.
const EVENT_BYTES_MAX: usize = 512_000;

/// One checked service.
pub(in crate::notify) struct Pagerduty {
    send_resolved: bool,
    key: Key,
    /// In the order client, client_url, description, source, severity, class, component, group.
    texts: [Text; 8],
    details: Vec<(String, Typed)>,
    images: Vec<[Text; 3]>,
    links: Vec<[Text; 2]>,
    post: Post,
}

enum Key {
    Given(Secret),
    File(PathBuf),
}

#[derive(Serialize)]
struct Event {
    dedup_key: String,
    event_action: &'static str,
    payload: Payload,
    #[serde(skip_serializing_if = "String::is_empty")]
    client: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_url: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
}

#[derive(Serialize)]
struct Payload {
    summary: String,
    source: String,
    severity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    class: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    component: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    custom_details: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Image {
    src: String,
    alt: String,
    href: String,
}

#[derive(Serialize)]
struct Link {
    href: String,
    text: String,
}

impl Pagerduty {
    pub(super) fn new(config: &PagerdutyConfig, parts: &Parts<'_>) -> Result<Self, String> {
        if config.service_key.is_some() || config.service_key_file.is_some() {
            return Err(format!("service_key (Events API v1) {NOT_SUPPORTED}; use routing_key"));
        }
        let key = match (&config.routing_key, &config.routing_key_file) {
            (Some(key), None) => Key::Given(key.clone()),
            (None, Some(file)) => Key::File(file.clone()),
            (None, None) => return Err("missing service or routing key in PagerDuty config: one of routing_key or routing_key_file must be configured".to_owned()),
            (Some(_), Some(_)) => return Err("at most one of routing_key & routing_key_file must be configured".to_owned()),
        };
        let url = config.url.clone().or_else(|| parts.globals.pagerduty_url.clone()).unwrap_or_else(|| URL.to_owned());
        let address = Address::new("url", Some(Secret::from(url)), None)?;
        let of = |key: &str, written: &str| parts.templates.text(key, written);
        let or = |given: &String, default: &str| if given.is_empty() { default.to_owned() } else { given.clone() };
        let texts = [
            of("client", &config.client)?,
            of("client_url", &config.client_url)?,
            of("description", &config.description)?,
            of("source", &or(&config.source, &config.client))?,
            of("severity", &or(&config.severity, "error"))?,
            of("class", &config.class)?,
            of("component", &config.component)?,
            of("group", &config.group)?,
        ];
        let mut details: BTreeMap<&str, serde_json::Value> = [
            ("firing", "{{ .Alerts.Firing | toJson }}".into()),
            ("resolved", "{{ .Alerts.Resolved | toJson }}".into()),
            ("num_firing", "{{ .Alerts.Firing | len }}".into()),
            ("num_resolved", "{{ .Alerts.Resolved | len }}".into()),
        ]
        .into();
        details.extend(config.details.iter().map(|(name, text)| (name.as_str(), text.clone())));
        let detail = |(name, written): (&str, serde_json::Value)| {
            Ok((name.to_owned(), Typed::new(parts.templates, "details", &written)?))
        };
        let image = |i: &PagerdutyImage| Ok([of("images", &i.src)?, of("images", &i.alt)?, of("images", &i.href)?]);
        let link = |l: &PagerdutyLink| Ok([of("links", &l.href)?, of("links", &l.text)?]);
        Ok(Self {
            send_resolved: config.send_resolved,
            key,
            texts,
            details: details.into_iter().map(detail).collect::<Result<_, String>>()?,
            images: config.images.iter().map(image).collect::<Result<_, String>>()?,
            links: config.links.iter().map(link).collect::<Result<_, String>>()?,
            post: Post::new(address, config.http_config.as_ref(), config.timeout, parts)?,
        })
    }

    pub(super) fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    pub(super) fn render(&self, notification: &Notification, about: &About) -> Result<String, String> {
        let run = |text: &Text| text.run(about);
        let [client, client_url, description, source, severity, class, component, group] = &self.texts;
        let mut images = Vec::new();
        for [src, alt, href] in &self.images {
            let image = Image { src: run(src)?, alt: run(alt)?, href: run(href)? };
            images.extend((!image.src.is_empty()).then_some(image));
        }
        let mut links = Vec::new();
        for [href, text] in &self.links {
            let link = Link { href: run(href)?, text: run(text)? };
            links.extend((!link.href.is_empty()).then_some(link));
        }
        let detail = |(name, value): &(String, Typed)| Ok((name.clone(), value.run(about)?));
        let fires = notification.alerts.iter().any(|(_, fires)| *fires);
        let mut event = Event {
            dedup_key: group_hash(&notification.group_key),
            event_action: if fires { "trigger" } else { "resolve" },
            payload: Payload {
                summary: truncated(&run(description)?, SUMMARY_CHARS_MAX),
                source: run(source)?,
                severity: run(severity)?,
                class: run(class)?,
                component: run(component)?,
                group: run(group)?,
                custom_details: self.details.iter().map(detail).collect::<Result<_, String>>()?,
            },
            client: run(client)?,
            client_url: run(client_url)?,
            images,
            links,
        };
        let text = json_text(&event)?;
        if text.len() <= EVENT_BYTES_MAX {
            return Ok(text);
        }
        let reason = "Custom details have been removed because the original event exceeds the maximum size of 512KB";
        event.payload.custom_details = [("error".to_owned(), reason.into())].into();
        json_text(&event)
    }

    /// One attempt; too many requests and 5xx are worth another.
    pub(super) async fn send(&self, body: &str) -> Result<(), SendError> {
        let key = match &self.key {
            Key::Given(key) => key.reveal().to_owned(),
            Key::File(file) => read_secret("routing_key_file", file).await?,
        };
        if key.is_empty() {
            return Err(SendError::Final("the routing key is empty".to_owned()));
        }
        let rest = body.strip_prefix('{').unwrap_or(body);
        let keyed = format!("{{\"routing_key\":{},{rest}", serde_json::Value::from(key));
        self.post.json(keyed).await?.check(&[429])
    }
}
