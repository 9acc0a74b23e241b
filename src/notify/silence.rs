//! Silences: alerts that people do not want to hear of for a while.

use crate::model::{Labels, Matcher, Timestamp};

/// Whether a silence acts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceState {
    /// Not yet.
    Pending,
    /// Now.
    Active,
    /// No longer.
    Expired,
}

/// One silence. All matchers must hold for an alert to be muted.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// Unique id.
    pub id: String,
    /// What it mutes.
    pub matchers: Vec<Matcher>,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who asked for it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

impl Silence {
    /// Whether it acts at `now`.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        match () {
            () if now < self.starts_at => SilenceState::Pending,
            () if now < self.ends_at => SilenceState::Active,
            () => SilenceState::Expired,
        }
    }

    /// Whether it mutes an alert of these labels at `now`.
    pub fn mutes(&self, labels: &Labels, now: Timestamp) -> bool {
        self.state(now) == SilenceState::Active && self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }
}
