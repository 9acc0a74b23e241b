//! One alert: what a rule found wrong, since when, and what to tell people.

use super::{Labels, Timestamp};

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// The expression no longer returns it; kept a while so that receivers learn it is resolved.
    Inactive,
    /// The expression returns it, but not yet for the rule's `for`.
    Pending,
    /// People are being told.
    Firing,
}

impl AlertState {
    /// The name that the `ALERTS` series and the API use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert of one alerting rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Identity: result labels, rule labels, `alertname`.
    pub labels: Labels,
    /// What to tell people; not part of the identity.
    pub annotations: Labels,
    /// Where it is in its life.
    pub state: AlertState,
    /// The expression's latest value.
    pub value: f64,
    /// When the expression first returned it.
    pub active_at: Timestamp,
    /// When it began to fire.
    pub fired_at: Option<Timestamp>,
    /// When it stopped.
    pub resolved_at: Option<Timestamp>,
    /// Since when `keep_firing_for` alone holds it up.
    pub keep_firing_since: Option<Timestamp>,
    /// Until when a receiver may believe it without hearing again (`endsAt` of a firing alert).
    pub valid_until: Timestamp,
    /// Link to the expression on our Explore page.
    pub generator_url: String,
}

impl Alert {
    /// When a receiver should believe that the alert ends: when it was resolved, or until when it is known to hold.
    pub fn ends_at(&self) -> Timestamp {
        self.resolved_at.unwrap_or(self.valid_until)
    }
}

/// One change of an alert's state, as the history page shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertTransition {
    /// When the evaluation saw it.
    pub at: Timestamp,
    /// Rule file and group, `file;group`.
    pub group: String,
    /// The alert's labels.
    pub labels: Labels,
    /// Its annotations at that time.
    pub annotations: Labels,
    /// State before.
    pub from: AlertState,
    /// State after.
    pub to: AlertState,
    /// The expression's value.
    pub value: f64,
}
