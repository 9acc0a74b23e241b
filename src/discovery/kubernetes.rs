//! Targets of `kubernetes_sd_configs`: which watches the jobs need, and the targets of what the watches hold.
//!
//! In: [`KubernetesSdConfig`]s. Out: addresses with the meta labels of Prometheus 3.5. Invariant: one watch for each
//! cluster, kind, namespace and selector, however many jobs ask for it; targets are made of what was last known.

mod config;
mod endpoints;
mod ingress;
mod node;
mod objects;
mod pod;
mod service;
mod slices;
mod texts;

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::{AttachMetadata, KubernetesSdConfig, Namespaces, Role, Selector};

use super::Group;
use crate::http_client::Reach;
use crate::kubernetes::{self, Client, ClusterConfig, Counters, Follower, ObjectName, Query, Reflection, Resource};
use crate::model::Labels;
use objects::{EndpointSlice, Endpoints, Ingress, Node, Pod, Service};

/// A list of targets: each stands alone, with all its labels.
pub(super) type Found = Vec<(Group, Labels)>;

/// The watches that the jobs of a configuration need.
#[derive(Debug)]
pub(super) struct Watches {
    clusters: Vec<Cluster>,
    pods: Shelf<Pod>,
    services: Shelf<Service>,
    endpoints: Shelf<Endpoints>,
    slices: Shelf<EndpointSlice>,
    nodes: Shelf<Node>,
    ingresses: Shelf<Ingress>,
    tasks: JoinSet<()>,
    changed: Arc<Notify>,
    counters: Arc<Counters>,
    reach: Reach,
}

#[derive(Debug)]
struct Cluster {
    id: usize,
    config: ClusterConfig,
    client: Arc<Client>,
    is_wanted: bool,
}

/// The watches of one kind of object.
#[derive(Debug)]
struct Shelf<T>(HashMap<(usize, Query), Watch<T>>);

#[derive(Debug)]
struct Watch<T> {
    reflection: Reflection<T>,
    stop: CancellationToken,
    is_wanted: bool,
}

/// What is known of one namespace, or of all, for one entry.
struct View {
    pods: Option<Reflection<Pod>>,
    services: Option<Reflection<Service>>,
    nodes: Option<Reflection<Node>>,
}

/// The objects beside those of the role, from which labels are taken too.
pub(super) struct Beside<'a> {
    pods: Option<&'a kubernetes::Held<Pod>>,
    services: Option<&'a kubernetes::Held<Service>>,
    nodes: Option<&'a kubernetes::Held<Node>>,
}

impl<'a> Beside<'a> {
    fn pod(&self, namespace: &str, name: &str) -> Option<&'a Arc<Pod>> {
        let name = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
        self.pods?.objects.get(&name)
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&'a Arc<Service>> {
        let name = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
        self.services?.objects.get(&name)
    }

    /// The node, when the entry asks for nodes' labels.
    fn node(&self, name: Option<&str>) -> Option<&'a Arc<Node>> {
        let name = ObjectName { namespace: String::new(), name: name?.to_owned() };
        self.nodes?.objects.get(&name)
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Shelf<T> {
    fn want(&mut self, key: (usize, Query), start: impl FnOnce(Query) -> (CancellationToken, Reflection<T>)) {
        let query = key.1.clone();
        let watch = self.0.entry(key).or_insert_with(|| {
            let (stop, reflection) = start(query);
            Watch { reflection, stop, is_wanted: true }
        });
        watch.is_wanted = true;
    }

    fn forget(&mut self) {
        self.0.values_mut().for_each(|watch| watch.is_wanted = false);
    }

    fn sweep(&mut self) {
        self.0.retain(|_, watch| {
            if !watch.is_wanted {
                watch.stop.cancel();
            }
            watch.is_wanted
        });
    }

    fn get(&self, key: (usize, Query)) -> Option<Reflection<T>> {
        self.0.get(&key).map(|watch| watch.reflection.clone())
    }
}

const PODS: Resource = Resource { group: "", version: "v1", plural: "pods" };
const SERVICES: Resource = Resource { group: "", version: "v1", plural: "services" };
const ENDPOINTS: Resource = Resource { group: "", version: "v1", plural: "endpoints" };
const NODES: Resource = Resource { group: "", version: "v1", plural: "nodes" };
const SLICES: Resource = Resource { group: "discovery.k8s.io", version: "v1", plural: "endpointslices" };
const INGRESSES: Resource = Resource { group: "networking.k8s.io", version: "v1", plural: "ingresses" };

impl Default for Watches {
    fn default() -> Self {
        Self {
            clusters: Vec::new(),
            pods: Shelf(HashMap::new()),
            services: Shelf(HashMap::new()),
            endpoints: Shelf(HashMap::new()),
            slices: Shelf(HashMap::new()),
            nodes: Shelf(HashMap::new()),
            ingresses: Shelf(HashMap::new()),
            tasks: JoinSet::new(),
            changed: Arc::default(),
            counters: Arc::default(),
            reach: Reach::default(),
        }
    }
}

impl Watches {
    /// What the watches did so far.
    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Told when the targets may be others.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Only API servers that `reach` leaves open are asked.
    pub(super) fn reach(&mut self, reach: &Reach) {
        self.reach = reach.clone();
    }

    /// Starts the watches that the entries need, keeps those that run, ends the others.
    pub(super) fn follow<'a>(&mut self, configs: impl Iterator<Item = &'a KubernetesSdConfig>) {
        self.clusters.iter_mut().for_each(|cluster| cluster.is_wanted = false);
        self.pods.forget();
        self.services.forget();
        self.endpoints.forget();
        self.slices.forget();
        self.nodes.forget();
        self.ingresses.forget();
        for config in configs {
            let (id, client) = self.cluster(config.cluster());
            for namespace in namespaces(config, &client).unwrap_or_default() {
                self.want(config, id, &client, namespace.as_deref());
            }
        }
        self.pods.sweep();
        self.services.sweep();
        self.endpoints.sweep();
        self.slices.sweep();
        self.nodes.sweep();
        self.ingresses.sweep();
        self.clusters.retain(|cluster| cluster.is_wanted);
        while self.tasks.try_join_next().is_some() {}
    }

    fn cluster(&mut self, config: ClusterConfig) -> (usize, Arc<Client>) {
        let next = self.clusters.iter().map(|cluster| cluster.id + 1).max().unwrap_or(0);
        let at = self.clusters.iter().position(|cluster| cluster.config == config).unwrap_or_else(|| {
            let client = Arc::new(Client::new(config.clone()).reaching(self.reach.clone()));
            self.clusters.push(Cluster { id: next, config, client, is_wanted: true });
            self.clusters.len() - 1
        });
        let cluster = &mut self.clusters[at];
        cluster.is_wanted = true;
        (cluster.id, Arc::clone(&cluster.client))
    }

    fn want(&mut self, config: &KubernetesSdConfig, id: usize, client: &Arc<Client>, namespace: Option<&str>) {
        macro_rules! watch {
            ($shelf:ident, $role:expr, $resource:expr, $namespace:expr) => {{
                let key = (id, query(config, $role, $resource, $namespace));
                let (tasks, counters, changed) = (&mut self.tasks, &self.counters, &self.changed);
                self.$shelf.want(key, |query| start(tasks, client, query, counters, changed));
            }};
        }
        match config.role {
            Role::Pod => watch!(pods, Role::Pod, PODS, namespace),
            Role::Service => watch!(services, Role::Service, SERVICES, namespace),
            Role::Endpoints => watch!(endpoints, Role::Endpoints, ENDPOINTS, namespace),
            Role::EndpointSlice => watch!(slices, Role::EndpointSlice, SLICES, namespace),
            Role::Node => watch!(nodes, Role::Node, NODES, None),
            Role::Ingress => watch!(ingresses, Role::Ingress, INGRESSES, namespace),
        }
        if matches!(config.role, Role::Endpoints | Role::EndpointSlice) {
            watch!(pods, Role::Pod, PODS, namespace);
            watch!(services, Role::Service, SERVICES, namespace);
        }
        if config.attaches_nodes() {
            watch!(nodes, Role::Node, NODES, None);
        }
    }

    /// The targets of one entry now, and why they may be old or none.
    pub(super) fn found(&self, config: &KubernetesSdConfig, targets: &mut Found, problems: &mut Vec<String>) {
        let wanted = config.cluster();
        let Some(cluster) = self.clusters.iter().find(|cluster| cluster.config == wanted) else { return };
        let namespaces = match namespaces(config, &cluster.client) {
            Ok(namespaces) => namespaces,
            Err(error) => return problems.push(format!("kubernetes_sd_configs: {error}")),
        };
        for namespace in namespaces {
            let namespace = namespace.as_deref();
            let key = |role, resource, namespace| (cluster.id, query(config, role, resource, namespace));
            let beside = matches!(config.role, Role::Endpoints | Role::EndpointSlice);
            let view = View {
                pods: self.pods.get(key(Role::Pod, PODS, namespace)).filter(|_| beside),
                services: self.services.get(key(Role::Service, SERVICES, namespace)).filter(|_| beside),
                nodes: self.nodes.get(key(Role::Node, NODES, None)).filter(|_| config.attaches_nodes()),
            };
            match config.role {
                Role::Pod => view.add(self.pods.get(key(Role::Pod, PODS, namespace)), pod::add, targets, problems),
                Role::Service => {
                    let services = self.services.get(key(Role::Service, SERVICES, namespace));
                    view.add(services, service::add, targets, problems);
                }
                Role::Endpoints => {
                    let endpoints = self.endpoints.get(key(Role::Endpoints, ENDPOINTS, namespace));
                    view.add(endpoints, endpoints::add, targets, problems);
                }
                Role::EndpointSlice => {
                    let slices = self.slices.get(key(Role::EndpointSlice, SLICES, namespace));
                    view.add(slices, slices::add, targets, problems);
                }
                Role::Node => view.add(self.nodes.get(key(Role::Node, NODES, None)), node::add, targets, problems),
                Role::Ingress => {
                    let ingresses = self.ingresses.get(key(Role::Ingress, INGRESSES, namespace));
                    view.add(ingresses, ingress::add, targets, problems);
                }
            }
        }
    }
}

impl View {
    /// Adds the targets of all objects. As in Prometheus, there are none before everything needed was read once.
    fn add<T>(
        &self,
        objects: Option<Reflection<T>>,
        add: fn(&T, &Beside<'_>, &mut Found),
        targets: &mut Found,
        problems: &mut Vec<String>,
    ) {
        let Some(objects) = objects else { return };
        let held = objects.read();
        let (pods, services, nodes) = (
            self.pods.as_ref().map(Reflection::read),
            self.services.as_ref().map(Reflection::read),
            self.nodes.as_ref().map(Reflection::read),
        );
        let mut synced = held.is_synced;
        let mut tell = |is_synced: bool, problem: &Option<Arc<kubernetes::Error>>| {
            synced &= is_synced;
            let told = problem.iter().map(|problem| format!("kubernetes_sd_configs: {problem}"));
            problems.extend(told);
        };
        tell(true, &held.problem);
        pods.iter().for_each(|held| tell(held.is_synced, &held.problem));
        services.iter().for_each(|held| tell(held.is_synced, &held.problem));
        nodes.iter().for_each(|held| tell(held.is_synced, &held.problem));
        if synced {
            let beside = Beside { pods: pods.as_deref(), services: services.as_deref(), nodes: nodes.as_deref() };
            held.objects.values().for_each(|object| add(object, &beside, targets));
        }
    }
}

fn start<T: DeserializeOwned + Send + Sync + 'static>(
    tasks: &mut JoinSet<()>,
    client: &Arc<Client>,
    query: Query,
    counters: &Arc<Counters>,
    changed: &Arc<Notify>,
) -> (CancellationToken, Reflection<T>) {
    let stop = CancellationToken::new();
    let (follower, reflection) = Follower::new(Arc::clone(client), query, Arc::clone(counters), Arc::clone(changed));
    tasks.spawn(follower.run(stop.clone()));
    (stop, reflection)
}

fn query(config: &KubernetesSdConfig, role: Role, resource: Resource, namespace: Option<&str>) -> Query {
    let selector = config.selectors.iter().find(|selector| selector.role == role);
    let text = |pick: fn(&Selector) -> &String| selector.map(pick).cloned().unwrap_or_default();
    Query {
        resource,
        namespace: namespace.map(str::to_owned),
        label_selector: text(|selector| &selector.label),
        field_selector: text(|selector| &selector.field),
    }
}

/// The namespaces an entry looks into; `None` among them: all.
fn namespaces(config: &KubernetesSdConfig, client: &Client) -> Result<Vec<Option<String>>, kubernetes::Error> {
    if config.role == Role::Node {
        return Ok(vec![None]);
    }
    let Namespaces { own_namespace, names } = &config.namespaces;
    let mut all: Vec<Option<String>> = names.iter().cloned().map(Some).collect();
    if *own_namespace {
        all.extend(client.namespace()?.map(Some));
    }
    all.sort();
    all.dedup();
    Ok(if names.is_empty() && !own_namespace { vec![None] } else { all })
}

/// How often targets are made anew at most, however often objects change.
pub(super) const SETTLE_TIME: std::time::Duration = std::time::Duration::from_millis(500);
