//! What the dispatcher is doing, for pages and APIs.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::model::{Alert, Labels, Timestamp};

/// Attempts kept for the page.
const ATTEMPTS_KEPT: usize = 200;

/// One group as it stands.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// Name of the receiver.
    pub receiver: String,
    /// Labels that make the group.
    pub labels: Labels,
    /// Its alerts, with whether a silence or another alert mutes each.
    pub alerts: Vec<(Alert, bool)>,
    /// When it is looked at next.
    pub next_flush: Timestamp,
}

/// The outcome of one delivery.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// Name of the receiver.
    pub receiver: String,
    /// Alertmanager's group key.
    pub group_key: String,
    /// Why it was told.
    pub reason: &'static str,
    /// Alerts told as firing.
    pub firing: usize,
    /// Alerts told as resolved.
    pub resolved: usize,
    /// Tries it took.
    pub tries: u32,
    /// `None` when it was delivered.
    pub error: Option<String>,
}

/// Read handle of the dispatcher. Clones share it.
#[derive(Clone, Default)]
pub struct Status(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    groups: Vec<GroupStatus>,
    attempts: VecDeque<Attempt>,
}

impl Status {
    /// The groups, as of the last change.
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.0.read().groups.clone()
    }

    /// The last deliveries, newest first.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.0.read().attempts.iter().rev().cloned().collect()
    }

    pub(super) fn set_groups(&self, groups: Vec<GroupStatus>) {
        self.0.write().groups = groups;
    }

    pub(super) fn push(&self, attempt: Attempt) {
        let mut inner = self.0.write();
        if inner.attempts.len() == ATTEMPTS_KEPT {
            inner.attempts.pop_front();
        }
        inner.attempts.push_back(attempt);
    }
}
