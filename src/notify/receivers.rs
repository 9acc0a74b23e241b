//! The kinds of receivers: each makes the text that is recorded and sends it.
//!
//! In: the blocks of a receiver, a notification. Out: one text for each integration, and attempts to deliver it. Invariant:
//! what is sent after a restart is what was recorded before it; secrets are added when a text is sent and are in no record.

pub(super) mod config;
mod email;
mod pagerduty;
pub(super) mod post;
mod slack;
pub(super) mod templates;
mod typed;
pub(super) mod webhook;

use config::{Globals, ReceiverConfig};
use email::Email;
use pagerduty::Pagerduty;
use post::SendError;
use slack::Slack;
use templates::{About, Templates};
use webhook::Webhook;

use super::core::Notification;
use crate::http_client::Reach;

/// What the blocks of receivers share.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) globals: &'a Globals,
    pub(super) templates: &'a Templates,
    pub(super) reach: &'a Reach,
}

/// One checked way to tell one receiver.
pub(super) enum Integration {
    Webhook(Webhook),
    Slack(Slack),
    Pagerduty(Pagerduty),
    Email(Email),
}

/// In the reason of what is a warning.
const NOT_SUPPORTED: &str = "is not supported: nobody is told that way";

/// What is wrong with one block of a receiver.
pub(super) struct Problem {
    /// `slack_configs[0]`.
    pub(super) place: String,
    pub(super) reason: String,
    /// Whether it is only something that is not offered, as in a pasted file: the rest works.
    pub(super) is_warning: bool,
}

impl Integration {
    /// All of a receiver: webhooks first, so that their numbers stay when other kinds are added.
    pub(super) fn of_receiver(config: &ReceiverConfig, parts: &Parts<'_>) -> (Vec<Self>, Vec<Problem>) {
        let mut made = Vec::new();
        let mut problems = Vec::new();
        let mut take = |kind: &str, index: usize, one: Result<Self, String>| match one {
            Ok(one) => made.push(one),
            Err(reason) => {
                let is_warning = reason.contains(NOT_SUPPORTED);
                problems.push(Problem { place: format!("{kind}_configs[{index}]"), reason, is_warning });
            }
        };
        for (i, block) in config.webhook_configs.iter().enumerate() {
            take("webhook", i, Webhook::new(block, parts).map(Self::Webhook));
        }
        for (i, block) in config.slack_configs.iter().enumerate() {
            take("slack", i, Slack::new(block, parts).map(Self::Slack));
        }
        for (i, block) in config.pagerduty_configs.iter().enumerate() {
            take("pagerduty", i, Pagerduty::new(block, parts).map(Self::Pagerduty));
        }
        for (i, block) in config.email_configs.iter().enumerate() {
            take("email", i, Email::new(block, parts).map(Self::Email));
        }
        (made, problems)
    }

    /// `webhook`, `slack`, `pagerduty` or `email`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Pagerduty(_) => "pagerduty",
            Self::Email(_) => "email",
        }
    }

    /// Whether it is told when alerts are resolved.
    pub(super) fn send_resolved(&self) -> bool {
        match self {
            Self::Webhook(one) => one.send_resolved(),
            Self::Slack(one) => one.send_resolved(),
            Self::Pagerduty(one) => one.send_resolved(),
            Self::Email(one) => one.send_resolved(),
        }
    }

    /// What is recorded and sent. An error is that of a template, and final.
    pub(super) fn render(&self, notification: &Notification, external_url: &str) -> Result<String, String> {
        let about = || About::new(notification, external_url);
        match self {
            Self::Webhook(one) => one.render(notification, external_url),
            Self::Slack(one) => one.render(&about()),
            Self::Pagerduty(one) => one.render(notification, &about()),
            Self::Email(one) => one.render(notification, &about()),
        }
    }

    /// One attempt to deliver what was rendered.
    pub(super) async fn send(&self, body: &str) -> Result<(), SendError> {
        match self {
            Self::Webhook(one) => one.send(body).await,
            Self::Slack(one) => one.send(body).await,
            Self::Pagerduty(one) => one.send(body).await,
            Self::Email(one) => one.send(body).await,
        }
    }
}

/// No more characters than that, the last one an ellipsis when some are left out (Alertmanager's `TruncateInRunes`).
fn truncated(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// SHA-256 of a group key in hexadecimal, by which Alertmanager names incidents.
fn group_hash(group_key: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, group_key.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
