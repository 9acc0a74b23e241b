//! What is declared for a workload, a service or an edge: which objects govern it, and what holds by them.
//!
//! In: what is declared. Out: objects, those that name it before those for a namespace or the whole mesh; settings with the
//! object of each. Invariant: what is declared is indexed at most once for a question, and not at all where the same was
//! asked since anything declared changed.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::State;
use crate::changes::{Ends, Governs, Party};
use crate::declared;
use crate::graph::{Edge, Node, ServiceGraph};
use crate::mesh::effective::{Applied, applied_to_edge, applied_to_workload};
use crate::mesh::{Index, Kind, ResourceId, Snapshot};

/// Most objects of one answer.
const SHOWN_MAX: usize = 12;
/// Services of one edge that are looked at.
const SERVICES_MAX: usize = 4;
/// Subjects of which it is kept what holds: pages that are open ask again every few seconds.
const HELD_MAX: usize = 64;

/// What is known of one state of what is declared. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Governing(Arc<Mutex<Option<Known>>>);

#[derive(Debug)]
struct Known {
    of: Arc<Snapshot>,
    objects: Arc<Vec<(ResourceId, Governs)>>,
    /// What holds for whom, the newest first.
    holds: VecDeque<(Subject, Arc<Holds>)>,
}

/// Namespace and name.
pub(super) type Name = (String, String);

/// Whom settings must mean to hold for the subject of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// Services that are called.
    pub(super) services: Vec<Name>,
    /// The workload that calls, of an edge.
    pub(super) caller: Option<Name>,
    /// The workload that is called, or that the page is about.
    pub(super) workload: Option<Name>,
}

/// What holds for a subject.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Settings, under what they are about.
    pub(super) applied: Vec<(String, Vec<Applied>)>,
    /// The hosts of its services.
    pub(super) hosts: Vec<String>,
    /// What runs the workload.
    pub(super) workload: Option<ResourceId>,
}

/// An object that governs what is asked about.
pub(super) struct Object {
    pub(super) id: ResourceId,
    /// What of it makes it count here.
    pub(super) reach: &'static str,
}

/// All that is declared for a subject.
#[derive(Default)]
pub(super) struct Told {
    pub(super) snapshot: Arc<Snapshot>,
    /// Those first that name it.
    pub(super) objects: Vec<Object>,
    /// Objects that are left out.
    pub(super) objects_more: usize,
    pub(super) holds: Arc<Holds>,
}

impl State {
    /// What is declared for a node or an edge of a graph, whom settings call `subject`.
    pub(super) async fn governing(&self, (graph, id): (&ServiceGraph, &str), subject: Subject) -> Told {
        let (snapshot, known, ends) = (self.declared.current(), self.governing.clone(), Owned::of(graph, id));
        let config = self.declared.config().clone();
        // The index of a large mesh takes some milliseconds.
        let told = tokio::task::spawn_blocking(move || {
            let (objects, holds) = known.ask(&snapshot, &config, &subject);
            let (objects, objects_more) = ends.map(|ends| choose(&objects, &ends.borrowed())).unwrap_or_default();
            Told { snapshot, objects, objects_more, holds }
        });
        told.await.unwrap_or_default()
    }

    /// Whom an object governs; `None` when it is not declared.
    pub(super) async fn governed(&self, snapshot: &Arc<Snapshot>, id: &ResourceId) -> Option<Governs> {
        let (snapshot, known, id) = (Arc::clone(snapshot), self.governing.clone(), id.clone());
        let config = self.declared.config().clone();
        let told = tokio::task::spawn_blocking(move || {
            let resource = snapshot.get(id.kind, &id.namespace, &id.name)?;
            let objects = known.objects(&snapshot);
            let held = objects.iter().flat_map(|objects| &**objects).find(|(one, _)| *one == id);
            held.map(|(_, governs)| governs.clone()).or_else(|| {
                let index = Index::new(&snapshot, &config.root_namespace, &config.cluster_domain);
                Some(Governs::of(&index, resource))
            })
        });
        told.await.unwrap_or_default()
    }
}

impl Governing {
    /// All objects, when they are known.
    fn objects(&self, snapshot: &Arc<Snapshot>) -> Option<Arc<Vec<(ResourceId, Governs)>>> {
        let held = self.0.lock();
        held.as_ref().filter(|known| Arc::ptr_eq(&known.of, snapshot)).map(|known| Arc::clone(&known.objects))
    }

    fn ask(
        &self,
        snapshot: &Arc<Snapshot>,
        config: &declared::Config,
        subject: &Subject,
    ) -> (Arc<Vec<(ResourceId, Governs)>>, Arc<Holds>) {
        let mut held = self.0.lock();
        let known = held.take().filter(|known| Arc::ptr_eq(&known.of, snapshot));
        let asked = known.as_ref().and_then(|known| known.holds.iter().find(|(one, _)| one == subject));
        let asked = asked.map(|(_, holds)| Arc::clone(holds));
        let (known, holds) = match (known, asked) {
            (Some(known), Some(holds)) => (known, holds),
            (known, _) => {
                let index = Index::new(snapshot, &config.root_namespace, &config.cluster_domain);
                let mut known = known.unwrap_or_else(|| Known::of(snapshot, &index));
                let holds = Arc::new(Holds::of(&index, subject));
                known.holds.push_front((subject.clone(), Arc::clone(&holds)));
                known.holds.truncate(HELD_MAX);
                (known, holds)
            }
        };
        let objects = Arc::clone(&known.objects);
        *held = Some(known);
        (objects, holds)
    }
}

impl Known {
    fn of(snapshot: &Arc<Snapshot>, index: &Index<'_>) -> Self {
        let resources = snapshot.iter().filter(|resource| steers(resource.id.kind));
        let objects = resources.map(|resource| (resource.id.clone(), Governs::of(index, resource))).collect();
        Self { of: Arc::clone(snapshot), objects: Arc::new(objects), holds: VecDeque::new() }
    }
}

impl Holds {
    fn of(index: &Index<'_>, subject: &Subject) -> Self {
        let labels = |name: &Name| index.workload(&name.0, &name.1).map(|one| one.labels.clone()).unwrap_or_default();
        let mut applied: Vec<(String, Vec<Applied>)> = Vec::new();
        for service in subject.services.iter().take(SERVICES_MAX) {
            // Of a service the page tells what holds for callers of its own namespace.
            let from = subject.caller.as_ref();
            let (namespace, own) =
                from.map_or((service.0.as_str(), Default::default()), |from| (&from.0, labels(from)));
            let rows = applied_to_edge(index, namespace, &own, &host(index, service));
            let whose =
                from.map_or(format!("callers in {namespace}"), |(namespace, name)| format!("{namespace}/{name}"));
            applied.push((format!("What holds when {whose} call {}", service.1), rows));
        }
        if let Some(workload) = &subject.workload {
            let rows = applied_to_workload(index, &workload.0, &labels(workload));
            applied.push((format!("What holds for {}/{}", workload.0, workload.1), rows));
        }
        applied.retain(|(_, rows)| !rows.is_empty());
        let workload = subject.workload.as_ref().and_then(|one| index.workload(&one.0, &one.1));
        Self {
            applied,
            hosts: subject.services.iter().map(|one| host(index, one)).collect(),
            workload: workload.map(|one| one.resource.id.clone()),
        }
    }
}

fn host(index: &Index<'_>, (namespace, name): &Name) -> String {
    // A name with dots is that of a host already.
    if name.contains('.') { name.clone() } else { format!("{name}.{namespace}.svc.{}", index.domain) }
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
    use crate::mesh::Input;

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

    #[test]
    fn what_was_asked_before_is_known_until_anything_declared_changes() {
        let read = |mode: &str| {
            let text = format!(
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                 metadata: {{name: default, namespace: shop}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
            );
            Arc::new(Snapshot::read(&[Input { name: "a.yaml".into(), text }], "default"))
        };
        let (known, config, strict) = (Governing::default(), declared::Config::default(), read("STRICT"));
        let subject = |name: &str| Subject { workload: Some(("shop".into(), name.into())), ..Subject::default() };
        let mode = |snapshot: &Arc<Snapshot>, name: &str| {
            let (objects, holds) = known.ask(snapshot, &config, &subject(name));
            assert_eq!(objects.len(), 1);
            (holds.applied[0].1[0].value.clone(), Arc::as_ptr(&holds))
        };
        let (first, again) = (mode(&strict, "cart"), mode(&strict, "cart"));
        assert_eq!((first.0.as_str(), first.1), ("STRICT", again.1));
        for at in 0..HELD_MAX {
            assert_eq!(mode(&strict, &format!("other-{at}")).0, "STRICT");
        }
        let held = || known.0.lock().as_ref().map(|known| known.holds.len());
        assert_eq!(held(), Some(HELD_MAX));
        assert_eq!(mode(&read("PERMISSIVE"), "cart").0, "PERMISSIVE");
        assert_eq!(held(), Some(1));
    }
}
