//! Changes for readers: the last day's in memory, all others in PostgreSQL.
//!
//! Invariant: what memory holds is bounded; while PostgreSQL is away the answer is what memory knows, with the reason.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde_json::Value as Json;

use crate::changes::{Action, Change, Effect, Governs, effects_from, fields_from, kind_key, kind_of_key};
use crate::declared::Origin;
use crate::mesh::{Index, ResourceId};
use crate::model::Timestamp;
use crate::persist::Archive;
use crate::store::{ChangeQuery, Store, StoredGeneration};

/// Changes that memory holds, and for how long.
pub(super) const RECENT_MAX: usize = 2_000;
pub(super) const RECENT_AGE: Duration = Duration::from_secs(24 * 3600);

/// Reads changes wherever they are. Clones share it.
#[derive(Clone)]
pub struct ChangeBook(Arc<Shared>);

struct Shared {
    store: Store,
    archive: Archive,
    /// The newest last.
    recent: RwLock<VecDeque<Arc<Change>>>,
}

/// One generation with what it declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// How it came.
    pub change: Change,
    /// As declared, secrets covered; none: it was deleted, or what is stored is damaged.
    pub body: Option<Json>,
}

/// The key of an object in the database: `cluster/kind/namespace/name`, with no name of a cluster while there is one.
pub(super) fn resource_key(id: &ResourceId) -> String {
    format!("/{}/{}/{}", kind_key(id.kind), id.namespace, id.name)
}

impl ChangeBook {
    pub(super) fn new(store: Store, archive: Archive) -> Self {
        Self(Arc::new(Shared { store, archive, recent: RwLock::default() }))
    }

    /// Changes from `from` on that memory holds, the newest first.
    pub fn recent(&self, from: Timestamp) -> Vec<Arc<Change>> {
        self.0.recent.read().iter().rev().filter(|change| change.at >= from).cloned().collect()
    }

    /// Changes, the newest first, and why some may be missing.
    pub async fn search(&self, query: &ChangeQuery) -> (Vec<Arc<Change>>, Option<String>) {
        let (stored, warning) = match self.0.archive.read(self.0.store.search_changes(query)).await {
            Ok(stored) => (stored, None),
            Err(reason) => (Vec::new(), Some(format!("Of changes only those of this process are shown: {reason}."))),
        };
        let fits = |change: &&Arc<Change>| {
            let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
            change.at >= query.from
                && change.at <= query.to
                && is(&query.namespace, &change.id.namespace)
                && is(&query.kind, &kind_key(change.id.kind))
                && is(&query.name, &change.id.name)
        };
        let mut found: Vec<Arc<Change>> = self.0.recent.read().iter().filter(fits).cloned().collect();
        // Memory knows whom a change governs; the database what is older.
        let known: HashSet<(ResourceId, Timestamp)> = found.iter().map(|one| (one.id.clone(), one.at)).collect();
        let stored = stored.into_iter().filter_map(|one| change_from(&one));
        found.extend(stored.filter(|one| !known.contains(&(one.id.clone(), one.at))).map(Arc::new));
        found.sort_by(|one, other| other.at.cmp(&one.at).then_with(|| one.id.cmp(&other.id)));
        found.truncate(query.limit);
        (found, warning)
    }

    /// The generations of an object, the newest first.
    ///
    /// # Errors
    /// Why the database does not answer.
    pub async fn history(&self, id: &ResourceId, limit: usize) -> Result<Vec<Generation>, String> {
        let stored = self.0.archive.read(self.0.store.resource_history(&resource_key(id), limit)).await?;
        let generation = |one: StoredGeneration| {
            let body = one.body.as_deref().and_then(|body| serde_json::from_str(body).ok());
            Some(Generation { change: change_from(&one)?, body })
        };
        Ok(stored.into_iter().filter_map(generation).collect())
    }

    pub(super) fn add(&self, change: Change) {
        if change.action == Action::First {
            return;
        }
        let mut recent = self.0.recent.write();
        if recent.iter().any(|one| one.at == change.at && one.id == change.id) {
            return;
        }
        let place = recent.partition_point(|one| one.at <= change.at);
        let oldest = change.at - RECENT_AGE;
        recent.insert(place, Arc::new(change));
        while recent.len() > RECENT_MAX || recent.front().is_some_and(|one| one.at < oldest) {
            recent.pop_front();
        }
    }

    /// Changes of the process before.
    pub(super) fn take_up(&self, stored: Vec<StoredGeneration>) {
        stored.iter().filter_map(change_from).for_each(|change| self.add(change));
    }

    /// Finds out whom the changes govern that were taken up.
    pub(super) fn complete(&self, index: &Index<'_>) {
        let mut recent = self.0.recent.write();
        for change in recent.iter_mut().filter(|change| change.governs.is_nobody()) {
            let ResourceId { kind, namespace, name } = &change.id;
            if let Some(resource) = index.mesh.get(*kind, namespace, name) {
                let governs = Governs::of(index, resource);
                *change = Arc::new(Change { governs, ..Change::clone(change) });
            }
        }
    }

    /// Says what a change did to the traffic; whether that is news.
    pub(super) fn judged(&self, id: &ResourceId, at: Timestamp, effects: &[Effect]) -> bool {
        let mut recent = self.0.recent.write();
        let Some(change) = recent.iter_mut().find(|one| one.at == at && one.id == *id) else { return false };
        if change.effects.as_deref() == Some(effects) {
            return false;
        }
        *change = Arc::new(Change { effects: Some(effects.to_vec()), ..Change::clone(change) });
        true
    }
}

/// A stored row as a change; none for kinds and actions that this binary does not know.
fn change_from(stored: &StoredGeneration) -> Option<Change> {
    let kind = kind_of_key(&stored.kind)?;
    let (fields, fields_left_out) = stored.fields.as_ref().map(fields_from).unwrap_or_default();
    Some(Change {
        at: stored.seen_at,
        id: ResourceId { kind, namespace: stored.namespace.clone().unwrap_or_default(), name: stored.name.clone() },
        origin: if stored.origin == Origin::Files.as_str() { Origin::Files } else { Origin::Cluster },
        action: Action::from_name(&stored.action)?,
        revision: stored.revision,
        generation: stored.generation.unwrap_or(stored.revision),
        writer: stored.writer.clone(),
        fields,
        fields_left_out,
        effects: stored.effects.as_ref().map(effects_from),
        governs: Governs::default(),
    })
}
