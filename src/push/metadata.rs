//! What senders say about their metrics: kind, help, unit. The last word counts.
//!
//! Invariant: never more than [`METRICS_MAX`] metrics, and no longer texts than [`TEXT_BYTES_MAX`].

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::scrape::exposition::MetricKind;

/// Most metrics remembered; further ones are not.
const METRICS_MAX: usize = 20_000;
/// Longest text; a longer help is cut.
const TEXT_BYTES_MAX: usize = 1024;

/// What is known of one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushedMetadata {
    /// Name of its family.
    pub name: String,
    /// Kind.
    pub kind: MetricKind,
    /// What it means.
    pub help: String,
    /// Its unit.
    pub unit: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct MetadataTable(Mutex<BTreeMap<String, PushedMetadata>>);

impl MetadataTable {
    pub(super) fn set(&self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        let mut known = self.0.lock();
        let cut = |text: &str| text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        if let Some(old) = known.get_mut(name) {
            if old.kind != kind || old.help != help || old.unit != unit {
                (old.kind, old.help, old.unit) = (kind, cut(help), cut(unit));
            }
        } else if known.len() < METRICS_MAX && !name.is_empty() && name.len() <= TEXT_BYTES_MAX {
            let new = PushedMetadata { name: name.to_owned(), kind, help: cut(help), unit: cut(unit) };
            known.insert(name.to_owned(), new);
        }
    }

    pub(super) fn all(&self) -> Vec<PushedMetadata> {
        self.0.lock().values().cloned().collect()
    }
}
