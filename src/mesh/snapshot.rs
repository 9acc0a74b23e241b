//! All objects of a mesh at one moment, found by kind, namespace and name.

use std::collections::HashMap;
use std::sync::Arc;

use super::kind::Kind;
use super::resource::{Place, Resource, ResourceId};

/// A document, or part of one, that is no object we can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Where it stands.
    pub place: Place,
    /// What is wrong and what to do.
    pub message: String,
    /// An object of a kind that is not looked at: nothing wrong with it.
    pub other_kind: bool,
}

/// Immutable once made. Objects stand in the order they were read.
#[derive(Debug, Default)]
pub struct Snapshot {
    resources: Vec<Arc<Resource>>,
    by_kind: HashMap<Kind, Vec<usize>>,
    by_id: HashMap<ResourceId, usize>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// Objects that were given again later, in another document; the last one counts, as `kubectl apply` does.
    pub repeated: Vec<(ResourceId, Place)>,
}

impl Snapshot {
    /// A snapshot of these objects; the last of two with one identity counts. Objects that another snapshot holds are
    /// shared with it.
    pub fn new<R: Into<Arc<Resource>>>(resources: impl IntoIterator<Item = R>, unread: Vec<Unread>) -> Self {
        let mut all = Self { unread, ..Self::default() };
        for resource in resources {
            let resource: Arc<Resource> = resource.into();
            match all.by_id.get(&resource.id) {
                Some(&at) => {
                    all.repeated.push((resource.id.clone(), all.resources[at].place.clone()));
                    all.resources[at] = resource;
                }
                None => {
                    let at = all.resources.len();
                    all.by_id.insert(resource.id.clone(), at);
                    all.by_kind.entry(resource.id.kind).or_default().push(at);
                    all.resources.push(resource);
                }
            }
        }
        all
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().map(|one| &**one)
    }

    /// All objects, to be held beyond the life of this snapshot.
    pub fn shared(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// All objects of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Resource> {
        self.by_kind.get(&kind).into_iter().flatten().map(|&at| &*self.resources[at])
    }

    /// The object of that kind, namespace and name.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Resource> {
        let id = ResourceId { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        self.by_id.get(&id).map(|&at| &*self.resources[at])
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}
