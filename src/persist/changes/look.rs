//! Compares a snapshot with the newest generation known of each object.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::book::{ChangeBook, resource_key};
use crate::changes::{Action, Change, Governs, Normal, diff, fields_json, is_tracked, kind_key, kind_of_key, normal};
use crate::declared::{self, Origin, Seen};
use crate::mesh::{Index, KINDS, Kind, Resource, ResourceId, resource_of};
use crate::model::Timestamp;
use crate::store::{ResourceHead, StoredGeneration};

/// The newest generation of each object, and which kinds were looked at before.
pub(super) struct Heads {
    all: HashMap<ResourceId, Head>,
    /// Where something new is a change and not a first sight.
    looked: HashSet<(Origin, Kind)>,
}

struct Head {
    hash: u64,
    revision: u64,
    generation: Option<u64>,
    origin: Origin,
    is_deleted: bool,
    seen_at: Timestamp,
    /// As this process last saw it.
    resource: Option<Arc<Resource>>,
}

/// What is another than it was.
#[derive(Default)]
pub(super) struct Moved {
    /// New or changed.
    now: Vec<(Arc<Resource>, Normal)>,
    /// The same, seen by this process for the first time or read again.
    same: Vec<Arc<Resource>>,
    gone: Vec<ResourceId>,
    /// Objects whose former state only the database knows.
    asked: Vec<ResourceId>,
}

impl Moved {
    /// Whether all is as it was, as after most events of pods.
    fn is_nothing(&self) -> bool {
        self.now.is_empty() && self.same.is_empty() && self.gone.is_empty()
    }

    /// The resources whose bodies are needed.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.iter().map(resource_key).collect()
    }
}

impl Heads {
    /// What is stored. Kinds that this binary does not know are left alone.
    pub(super) fn new(stored: Vec<ResourceHead>) -> Self {
        let (mut all, mut looked) = (HashMap::new(), HashSet::new());
        for head in stored {
            let ResourceHead { kind, namespace, name, seen_at, hash, is_deleted, revision, generation, .. } = head;
            let Some(kind) = kind_of_key(&kind) else { continue };
            let origin = if head.origin == Origin::Files.as_str() { Origin::Files } else { Origin::Cluster };
            match origin {
                // Files hold kinds as it comes: one that was there says that all were looked at.
                Origin::Files => looked.extend(KINDS.iter().map(|info| (origin, info.kind))),
                Origin::Cluster => drop(looked.insert((origin, kind))),
            }
            let id = ResourceId { kind, namespace: namespace.unwrap_or_default(), name };
            let head = Head { hash, revision, generation, origin, is_deleted, seen_at, resource: None };
            all.insert(id, head);
        }
        Self { all, looked }
    }

    /// What differs from what is known.
    pub(super) fn moved(&self, seen: &Seen) -> Moved {
        let mut moved = Moved::default();
        let mut here: HashSet<&ResourceId> = HashSet::new();
        for resource in seen.snapshot.shared().filter(|one| is_tracked(one.id.kind)) {
            here.insert(&resource.id);
            let head = self.all.get(&resource.id);
            let held = head.and_then(|head| head.resource.as_ref());
            if held.is_some_and(|held| Arc::ptr_eq(held, resource)) {
                continue;
            }
            let normal = normal(resource);
            match head {
                Some(head) if !head.is_deleted && head.hash == normal.hash => moved.same.push(Arc::clone(resource)),
                Some(head) => {
                    if head.resource.is_none() && !head.is_deleted {
                        moved.asked.push(resource.id.clone());
                    }
                    moved.now.push((Arc::clone(resource), normal));
                }
                None => moved.now.push((Arc::clone(resource), normal)),
            }
        }
        let is_gone = |(id, head): &(&ResourceId, &Head)| {
            !head.is_deleted && !here.contains(id) && seen.is_whole(head.origin, id.kind)
        };
        moved.gone = self.all.iter().filter(is_gone).map(|(id, _)| id.clone()).collect();
        moved.gone.sort();
        moved.asked.extend(moved.gone.iter().filter(|id| self.all[*id].resource.is_none()).cloned());
        moved
    }

    /// Takes over what moved: as rows, and as changes in the book.
    pub(super) fn take(
        &mut self,
        moved: Moved,
        (seen, config): (&Seen, &declared::Config),
        (bodies, now): (Vec<(String, String)>, Timestamp),
        book: &ChangeBook,
    ) -> Vec<StoredGeneration> {
        let bodies: HashMap<String, String> = bodies.into_iter().collect();
        let whole = KINDS.iter().flat_map(|info| [(Origin::Files, info.kind), (Origin::Cluster, info.kind)]);
        let whole: Vec<(Origin, Kind)> = whole.filter(|(origin, kind)| seen.is_whole(*origin, *kind)).collect();
        if moved.is_nothing() {
            self.looked.extend(whole);
            return Vec::new();
        }
        for resource in moved.same {
            if let Some(head) = self.all.get_mut(&resource.id) {
                head.origin = Origin::of(&resource);
                head.resource = Some(resource);
            }
        }
        let index = Index::new(&seen.snapshot, &config.root_namespace, &config.cluster_domain);
        book.complete(&index);
        let mut rows = Vec::new();
        let before = |head: Option<&Head>, id: &ResourceId| {
            let head = head.filter(|head| !head.is_deleted)?;
            match &head.resource {
                Some(resource) => Some((Arc::clone(resource), normal(resource).body)),
                None => stored(id.kind, bodies.get(&resource_key(id))?),
            }
        };
        for (resource, normal) in moved.now {
            let head = self.all.get(&resource.id);
            let before = before(head, &resource.id);
            let (change, head) = self.changed((&resource, &normal), before, (&index, seen.at, now));
            rows.push(row(&change, head.hash, Some(&normal)));
            self.all.insert(resource.id.clone(), head);
            book.add(change);
        }
        for id in moved.gone {
            let before = before(self.all.get(&id), &id);
            let Some(head) = self.all.get_mut(&id) else { continue };
            (head.is_deleted, head.revision) = (true, head.revision + 1);
            head.seen_at = seen.at.max(head.seen_at + Duration::from_millis(1));
            head.resource = None;
            let change = Change {
                at: head.seen_at,
                origin: head.origin,
                action: Action::Deleted,
                revision: head.revision,
                generation: head.generation.unwrap_or(head.revision - 1),
                writer: None,
                fields: Vec::new(),
                fields_left_out: 0,
                effects: None,
                governs: before.map(|(resource, _)| Governs::of(&index, &resource)).unwrap_or_default(),
                id,
            };
            rows.push(row(&change, head.hash, None));
            book.add(change);
        }
        self.looked.extend(whole);
        rows
    }

    /// One object that is new or changed.
    fn changed(
        &self,
        (resource, normal): (&Arc<Resource>, &Normal),
        before: Option<(Arc<Resource>, Json)>,
        (index, seen_at, now): (&Index<'_>, Timestamp, Timestamp),
    ) -> (Change, Head) {
        let (id, origin) = (resource.id.clone(), Origin::of(resource));
        let known = self.all.get(&id);
        let revision = known.map_or(1, |head| head.revision + 1);
        let action = match known {
            Some(head) if !head.is_deleted => Action::Changed,
            Some(_) => Action::Created,
            None if self.looked.contains(&(origin, id.kind)) => Action::Created,
            None => Action::First,
        };
        // The cluster says when it was written; that cannot be before the generation before, nor to come.
        let last = known.map_or(Timestamp::MIN, |head| head.seen_at);
        let written = normal.written.as_ref().filter(|_| action != Action::First);
        let at = written.map(|(_, at)| *at).filter(|at| *at > last && *at <= now).unwrap_or(seen_at);
        let at = if at > last { at } else { last + Duration::from_millis(1) };
        let (fields, fields_left_out) = match &before {
            Some((_, body)) => diff(body, &normal.body),
            None => (Vec::new(), 0),
        };
        let mut governs = match action {
            Action::First => Governs::default(),
            _ => Governs::of(index, resource),
        };
        if let Some((before, _)) = &before {
            governs = governs.and(Governs::of(index, before));
        }
        let change = Change {
            at,
            id,
            origin,
            action,
            revision,
            generation: normal.generation.unwrap_or(revision),
            writer: normal.written.as_ref().map(|(writer, _)| writer.clone()),
            fields: fields.into_iter().filter(|field| field.path != "apiVersion").collect(),
            fields_left_out,
            effects: None,
            governs,
        };
        let head = Head {
            hash: normal.hash,
            revision,
            generation: normal.generation,
            origin,
            is_deleted: false,
            seen_at: at,
            resource: Some(Arc::clone(resource)),
        };
        (change, head)
    }
}

/// An object as it was stored.
fn stored(kind: Kind, body: &str) -> Option<(Arc<Resource>, Json)> {
    let json: Json = serde_json::from_str(body).ok()?;
    let version = json["apiVersion"].as_str().map(|text| text.rsplit_once('/').map_or(text, |(_, version)| version));
    let version = version.unwrap_or_default().to_owned();
    let resource = resource_of(json.clone(), kind, &version).ok()?;
    Some((Arc::new(resource), json))
}

fn row(change: &Change, hash: u64, normal: Option<&Normal>) -> StoredGeneration {
    StoredGeneration {
        resource: resource_key(&change.id),
        kind: kind_key(change.id.kind),
        namespace: Some(change.id.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: change.id.name.clone(),
        seen_at: change.at,
        hash,
        body: normal.map(|normal| normal.body.to_string()),
        revision: change.revision,
        generation: normal.and_then(|normal| normal.generation).or_else(|| {
            // Of what is gone the last one is told.
            (normal.is_none()).then_some(change.generation)
        }),
        origin: change.origin.as_str().to_owned(),
        action: change.action.as_str().to_owned(),
        writer: change.writer.clone(),
        fields: (change.action == Action::Changed).then(|| fields_json(&change.fields, change.fields_left_out)),
        effects: None,
    }
}
