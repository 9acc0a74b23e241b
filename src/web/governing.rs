//! Which declared objects govern a workload, a service or an edge.
//!
//! In: what is declared. Out: objects, those that name it before those for a namespace or the whole mesh. Whom each object
//! governs is found out once for each time that anything declared changes.

use std::sync::Arc;

use parking_lot::Mutex;

use super::State;
use crate::changes::{Ends, Governs, Party};
use crate::graph::{Edge, Node, ServiceGraph};
use crate::mesh::{Index, Kind, ResourceId, Snapshot};

/// Most objects of one answer.
const SHOWN_MAX: usize = 12;

/// Objects and whom they govern, of one state of what is declared. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Governing(Arc<Mutex<Option<Known>>>);

#[derive(Clone, Debug)]
struct Known {
    of: Arc<Snapshot>,
    objects: Arc<Vec<(ResourceId, Governs)>>,
}

/// An object that governs what is asked about.
pub(super) struct Object {
    pub(super) id: ResourceId,
    /// What of it makes it count here.
    pub(super) reach: &'static str,
}

impl State {
    /// The objects that govern a node or an edge of a graph, those first that name it; and how many more there are.
    pub(super) async fn governing(&self, graph: &ServiceGraph, id: &str) -> (Vec<Object>, usize) {
        let Some(ends) = Owned::of(graph, id) else { return (Vec::new(), 0) };
        let (snapshot, known) = (self.declared.current(), self.governing.clone());
        let config = self.declared.config();
        let (root, domain) = (config.root_namespace.clone(), config.cluster_domain.clone());
        let found = tokio::task::spawn_blocking(move || {
            let objects = known.of(&snapshot, &root, &domain);
            choose(&objects, &ends.borrowed())
        });
        found.await.unwrap_or_default()
    }
}

impl Governing {
    fn of(&self, snapshot: &Arc<Snapshot>, root: &str, domain: &str) -> Arc<Vec<(ResourceId, Governs)>> {
        let mut held = self.0.lock();
        if let Some(Known { of, objects }) = &*held
            && Arc::ptr_eq(of, snapshot)
        {
            return Arc::clone(objects);
        }
        let index = Index::new(snapshot, root, domain);
        let resources = snapshot.iter().filter(|resource| steers(resource.id.kind));
        let objects: Arc<Vec<_>> =
            Arc::new(resources.map(|resource| (resource.id.clone(), Governs::of(&index, resource))).collect());
        *held = Some(Known { of: Arc::clone(snapshot), objects: Arc::clone(&objects) });
        objects
    }
}

/// Whether an object of that kind says anything about traffic.
fn steers(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Pod
            | Kind::Namespace
            | Kind::Secret
            | Kind::Node
            | Kind::EndpointSlice
            | Kind::ConfigMap
            | Kind::ServiceAccount
    )
}

fn choose(objects: &[(ResourceId, Governs)], ends: &Ends<'_>) -> (Vec<Object>, usize) {
    let reach = |governs: &Governs| match () {
        () if governs.everything => "the whole mesh",
        () if !governs.namespaces.is_empty() => "its namespace",
        () => "names it",
    };
    let mut found: Vec<Object> = objects
        .iter()
        .filter(|(_, governs)| governs.covers(ends))
        .map(|(id, governs)| Object { id: id.clone(), reach: reach(governs) })
        .collect();
    // Stable: by kind and name within each reach.
    found.sort_by_key(|one| ["names it", "its namespace"].iter().position(|reach| *reach == one.reach).unwrap_or(2));
    let more = found.len().saturating_sub(SHOWN_MAX);
    found.truncate(SHOWN_MAX);
    (found, more)
}

/// The ends of an edge, or a node as both, held for another thread.
struct Owned {
    parties: [Held; 2],
    services: Vec<(String, Option<String>)>,
}

#[derive(Clone)]
struct Held {
    name: Option<String>,
    app: Option<String>,
    version: Option<String>,
    namespace: Option<String>,
}

impl Owned {
    fn of(graph: &ServiceGraph, id: &str) -> Option<Self> {
        let held = |node: &Node| Held {
            name: Some(node.name.to_string()),
            app: node.app.as_deref().map(str::to_owned),
            version: node.version.as_deref().map(str::to_owned),
            namespace: node.namespace.as_deref().map(str::to_owned),
        };
        let services = |edge: &Edge| {
            let owned = |(name, namespace): &(Arc<str>, Option<Arc<str>>)| {
                (name.to_string(), namespace.as_deref().map(str::to_owned))
            };
            edge.services.iter().map(owned).collect::<Vec<_>>()
        };
        if let Some(edge) = graph.edge(id) {
            let parties = [held(graph.node(&edge.source)?), held(graph.node(&edge.target)?)];
            return Some(Self { parties, services: services(edge) });
        }
        let node = graph.node(id)?;
        let mut called: Vec<_> = graph.edges.iter().filter(|edge| *edge.target == *id).flat_map(services).collect();
        if id.starts_with("service:") || id.starts_with("host:") {
            called.push((node.name.to_string(), node.namespace.as_deref().map(str::to_owned)));
        }
        called.sort_unstable();
        called.dedup();
        Some(Self { parties: [held(node), held(node)], services: called })
    }

    fn borrowed(&self) -> Ends<'_> {
        let [source, destination] = &self.parties;
        Ends {
            source: source.borrowed(),
            destination: destination.borrowed(),
            services: self.services.iter().map(|(name, namespace)| (name.as_str(), namespace.as_deref())).collect(),
        }
    }
}

impl Held {
    fn borrowed(&self) -> Party<'_> {
        let Self { name, app, version, namespace } = self;
        Party {
            name: name.as_deref(),
            app: app.as_deref(),
            version: version.as_deref(),
            namespace: namespace.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_it_stands_before_what_holds_for_all() {
        let id = |name: &str| ResourceId { kind: Kind::DestinationRule, namespace: "shop".into(), name: name.into() };
        let service = |name: &str| [(name.to_owned(), "shop".to_owned())].into();
        let objects = [
            (id("all"), Governs { everything: true, ..Governs::default() }),
            (id("shop"), Governs { namespaces: ["shop".to_owned()].into(), ..Governs::default() }),
            (id("cart"), Governs { services: service("cart"), ..Governs::default() }),
            (id("stock"), Governs { services: service("stock"), ..Governs::default() }),
        ];
        let party = Party { name: Some("cart-v1"), namespace: Some("shop"), ..Party::default() };
        let ends = Ends { source: party, destination: party, services: vec![("cart", Some("shop"))] };
        let (found, more) = choose(&objects, &ends);
        let found: Vec<(&str, &str)> = found.iter().map(|one| (&*one.id.name, one.reach)).collect();
        assert_eq!(found, [("cart", "names it"), ("shop", "its namespace"), ("all", "the whole mesh")]);
        assert_eq!(more, 0);
    }
}
