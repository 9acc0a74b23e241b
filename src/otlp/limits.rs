//! What a request may hold, and the tally of what was rejected or cut for it.

use std::time::Duration;

use serde::Deserialize;

use super::counters::{Rejection, Trim};

/// What one request and one span may hold. What is beyond is cut or dropped, and counted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Spans, or log records, of one request; further ones are rejected. Default 50,000.
    pub spans_per_request: usize,
    /// Bytes of one span, log record or resource as received; larger ones are rejected. Default 1 MiB.
    pub span_bytes: usize,
    /// Attributes of one span, event, link, log record or resource; further ones are dropped. Default 128.
    pub attributes_per_span: usize,
    /// Bytes of names and values of the attributes of one span (its events and links included) or one resource; further
    /// ones are dropped. Default 64 KiB.
    pub attribute_bytes_per_span: usize,
    /// Bytes of one attribute value; longer text is cut. Default 4 KiB.
    pub attribute_value_bytes: usize,
    /// Bytes of an operation, service, scope or event name, an attribute name or a status message; longer text is cut.
    /// Default 1 KiB.
    pub name_bytes: usize,
    /// Events of one span. Default 128.
    pub events_per_span: usize,
    /// Links of one span. Default 128.
    pub links_per_span: usize,
    /// How far ahead of our clock a span or log record may be. Default 1 day.
    pub max_future: crate::units::PromDuration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            spans_per_request: 50_000,
            span_bytes: 1 << 20,
            attributes_per_span: 128,
            attribute_bytes_per_span: 64 << 10,
            attribute_value_bytes: 4 << 10,
            name_bytes: 1 << 10,
            events_per_span: 128,
            links_per_span: 128,
            max_future: Duration::from_secs(24 * 3600).into(),
        }
    }
}

/// What was rejected and what was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    rejected: [u64; Rejection::ALL.len()],
    trimmed: [u64; Trim::ALL.len()],
}

impl Tally {
    /// Spans rejected for that reason.
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.rejected[reason as usize]
    }

    /// Things cut of that kind.
    pub fn trimmed(&self, what: Trim) -> u64 {
        self.trimmed[what as usize]
    }

    /// Spans rejected for any reason.
    pub fn total_rejected(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// What the client should know, `None` when all is well.
    pub fn message(&self) -> Option<String> {
        let rejected = Rejection::ALL.into_iter().filter(|reason| self.rejected(*reason) > 0);
        let mut parts: Vec<String> =
            rejected.map(|reason| format!("rejected {} {}", self.rejected(reason), reason.explain())).collect();
        let trimmed = Trim::ALL.into_iter().filter(|what| self.trimmed(*what) > 0);
        parts.extend(trimmed.map(|what| format!("trimmed {} {}", self.trimmed(what), what.as_str())));
        (!parts.is_empty()).then(|| format!("spans: {}", parts.join(", ")))
    }

    pub(super) fn reject(&mut self, reason: Rejection) {
        self.rejected[reason as usize] += 1;
    }

    pub(super) fn trim(&mut self, what: Trim, count: usize) {
        self.trimmed[what as usize] += count as u64;
    }
}
