//! What changed of what is declared, whom it governs, and what it did to the traffic.
//!
//! In: objects before and after, edge minutes around the moment. Out: [`Change`]s: fields before → after, [`Governs`],
//! [`Effect`]s with a probability. Pure. Invariants: what is written by a cluster for itself (status, versions) is no
//! change; what looks like a secret is covered before anything is compared or kept. Knows no PostgreSQL and no HTTP.

mod diff;
mod edges;
mod effect;
mod governs;
mod normal;
mod step;
mod stored;
mod written;

use std::fmt;
use std::time::Duration;

pub use diff::{FieldChange, diff};
pub use edges::{EdgeSeries, Gathering};
pub use effect::{AFTER, BEFORE, Effect, Measure, effects};
pub use governs::{Ends, Governs, Party};
pub use normal::{Normal, is_tracked, normal};
pub use step::{Step, step};
pub use stored::{effects_from, effects_json, fields_from, fields_json};
pub use written::yaml;

use crate::declared::Origin;
use crate::mesh::{KINDS, Kind, ResourceId};
use crate::model::Timestamp;

/// Fields that a sentence names.
const FIELDS_NAMED: usize = 2;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was there when meshscope first looked: no change.
    First,
    /// It is new.
    Created,
    /// Fields are others.
    Changed,
    /// It is gone.
    Deleted,
}

impl Action {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::First, Self::Created, Self::Changed, Self::Deleted].into_iter().find(|one| one.as_str() == name)
    }
}

/// One generation of one object, and how it differs from the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When it was written, where the cluster says so; else when it was seen.
    pub at: Timestamp,
    /// Of what.
    pub id: ResourceId,
    /// Where it is declared.
    pub origin: Origin,
    /// What happened.
    pub action: Action,
    /// Our own count of its generations, from 1.
    pub revision: u64,
    /// `metadata.generation`; where no cluster counts, the same as `revision`.
    pub generation: u64,
    /// Who wrote it, as `managedFields` says: `helm`, `kubectl-client-side-apply`.
    pub writer: Option<String>,
    /// The fields that differ.
    pub fields: Vec<FieldChange>,
    /// Fields beyond those.
    pub fields_left_out: usize,
    /// What it did to the traffic, the surest first; none: it was not judged yet.
    pub effects: Option<Vec<Effect>>,
    /// Whom it governs.
    pub governs: Governs,
}

impl Change {
    /// `DestinationRule shop/cart, generation 7`.
    pub fn what(&self) -> String {
        format!("{}, generation {}", self.id, self.generation)
    }

    /// The fields in one line: `spec.host a → b; and 3 more`.
    pub fn summary(&self) -> String {
        let named: Vec<String> = self.fields.iter().take(FIELDS_NAMED).map(ToString::to_string).collect();
        let more = self.fields.len() - named.len() + self.fields_left_out;
        match (self.action, named.is_empty(), more) {
            (Action::First | Action::Created | Action::Deleted, ..) | (Action::Changed, true, _) => String::new(),
            (Action::Changed, false, 0) => named.join("; "),
            (Action::Changed, false, more) => format!("{}; and {more} more", named.join("; ")),
        }
    }
}

/// How a kind is called in addresses and in the database: `VirtualService`; where two groups have a kind of that name, the
/// later one of [`KINDS`] with its group: `Gateway.gateway.networking.k8s.io`.
pub fn kind_key(kind: Kind) -> String {
    let info = kind.info();
    match Kind::named(info.name).next() {
        Some(first) if first.kind == kind => info.name.to_owned(),
        _ => format!("{}.{}", info.name, info.group),
    }
}

/// The kind of such a name; also by its plural, in any case, and with its group.
pub fn kind_of_key(key: &str) -> Option<Kind> {
    let (name, group) = key.split_once('.').map_or((key, None), |(name, group)| (name, Some(group)));
    let is = |info: &&crate::mesh::KindInfo| {
        let named = info.name.eq_ignore_ascii_case(name) || info.plural.eq_ignore_ascii_case(name);
        named && group.is_none_or(|group| info.group.eq_ignore_ascii_case(group))
    };
    KINDS.iter().find(is).map(|info| info.kind)
}

/// `2 min`, `40 s`: how long after something.
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds < 100 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_key() {
        for info in KINDS {
            assert_eq!(kind_of_key(&kind_key(info.kind)), Some(info.kind), "{}", kind_key(info.kind));
        }
        assert_eq!(kind_key(Kind::Gateway), "Gateway");
        assert_eq!(kind_key(Kind::KubernetesGateway), "Gateway.gateway.networking.k8s.io");
        assert_eq!(kind_of_key("destinationrules"), Some(Kind::DestinationRule));
        assert_eq!(kind_of_key("Nonsense"), None);
        assert_eq!(kind_of_key("Gateway.example.org"), None);
    }
}
