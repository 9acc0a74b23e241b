//! Who the two ends of each report are: one workload under one name, whoever reports it.
//!
//! In: reports. Out: their [`Ends`]. What is resolved:
//! - a cluster that one side does not know, app and version that one side does not know;
//! - a Linkerd caller known by identity only, when one workload has that identity;
//! - the endpoints of spans, when one workload of the proxies' reports fits;
//! - requests that no workload answered (UH, NR, NC…), when one workload only answers for the service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::workload::{EdgeKey, MeshKind, Protocol, Reporter, Service, Workload};

use super::sum::{FastMap, Report};
use super::types::{NodeKind, View};

/// One end of a report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum End {
    /// A workload, by its place in [`World::workloads`].
    Workload(u32),
    /// A caller of which only the identity is known.
    Identity(Arc<str>),
    /// A caller without a proxy, or a called one of which nothing is known, in that cluster.
    Unknown(Option<Arc<str>>),
    /// A service no workload answered for, a host outside, a passthrough or black hole.
    Service(Service),
}

/// Both ends of a report; `None` when the report is a part of others' and must not be drawn by itself.
pub(super) type Ends = Option<(End, End)>;

type Place = (Option<Arc<str>>, Arc<str>);

/// Everything the reports together say of workloads.
#[derive(Default)]
pub(super) struct World {
    /// Sorted by namespace, name, cluster.
    pub(super) workloads: Vec<Workload>,
    /// The service each workload answers for most, if any.
    pub(super) service_of: Vec<Option<Service>>,
    by_place: FastMap<Place, Vec<u32>>,
    by_app: FastMap<Place, Vec<u32>>,
    by_bare_name: FastMap<Arc<str>, Vec<u32>>,
    by_principal: FastMap<Arc<str>, BTreeSet<u32>>,
    answering: FastMap<Place, BTreeSet<u32>>,
    callers: FastMap<(u32, bool), BTreeSet<u32>>,
    /// Source and destination of each report, found once: finding is what costs.
    named: Vec<(Option<u32>, Option<u32>)>,
    /// Versions of one app are one, so any of them can stand for what none of them answered.
    apps_are_one: bool,
}

impl World {
    /// Learns all that is known of workloads.
    pub(super) fn new(reports: &[Report<'_>], view: View) -> Self {
        let mut world = Self { apps_are_one: view == View::App, ..Self::default() };
        world.learn_workloads(reports.iter().filter(|report| report.key.mesh != MeshKind::Traces));
        world.learn_span_workloads(reports);
        world.learn_relations(reports);
        world
    }

    fn learn_workloads<'r>(&mut self, reports: impl Iterator<Item = &'r Report<'r>>) {
        let mut places: BTreeMap<Place, BTreeMap<Option<Arc<str>>, Workload>> = BTreeMap::new();
        for report in reports {
            for workload in [&report.key.source, &report.key.destination] {
                let Some(name) = &workload.name else { continue };
                let clusters = places.entry((workload.namespace.clone(), Arc::clone(name))).or_default();
                let known = clusters.entry(workload.cluster.clone()).or_insert_with(|| workload.clone());
                known.app = known.app.take().or_else(|| workload.app.clone());
                known.version = known.version.take().or_else(|| workload.version.clone());
            }
        }
        for clusters in places.into_values() {
            // One side may not know the cluster: with one known, they are the same workload.
            let mut found: Vec<Workload> = clusters.into_values().collect();
            if found.len() == 2 && found[0].cluster.is_none() {
                let nameless = found.remove(0);
                let known = &mut found[0];
                known.app = known.app.take().or(nameless.app);
                known.version = known.version.take().or(nameless.version);
            }
            found.into_iter().for_each(|workload| self.add_workload(workload));
        }
    }

    /// Endpoints of spans that no proxy report knows become workloads of their own.
    fn learn_span_workloads(&mut self, reports: &[Report<'_>]) {
        let mut new: BTreeSet<Workload> = BTreeSet::new();
        for report in reports.iter().filter(|report| report.key.mesh == MeshKind::Traces) {
            for workload in [&report.key.source, &report.key.destination] {
                if (workload.name.is_some() || workload.app.is_some()) && self.find(workload).is_none() {
                    let name = workload.name.clone().or_else(|| workload.app.clone());
                    new.insert(Workload { name, ..workload.clone() });
                }
            }
        }
        for workload in new {
            if self.find(&workload).is_none() {
                self.add_workload(workload);
            }
        }
    }

    fn add_workload(&mut self, workload: Workload) {
        let Some(name) = workload.name.clone() else { return };
        let id = self.workloads.len() as u32;
        self.by_place.entry((workload.namespace.clone(), Arc::clone(&name))).or_default().push(id);
        if let Some(app) = &workload.app {
            self.by_app.entry((workload.namespace.clone(), Arc::clone(app))).or_default().push(id);
            if *app != name {
                self.by_bare_name.entry(Arc::clone(app)).or_default().push(id);
            }
        }
        self.by_bare_name.entry(name).or_default().push(id);
        self.workloads.push(workload);
        self.service_of.push(None);
    }

    /// The workload meant: by namespace and name, then app, then (without namespace) by any name that is unique.
    fn find(&self, workload: &Workload) -> Option<u32> {
        let name = workload.name.as_ref().or(workload.app.as_ref())?;
        let agree = |a: &Option<Arc<str>>, b: &Option<Arc<str>>| a.is_none() || b.is_none() || a == b;
        let place = (workload.namespace.clone(), Arc::clone(name));
        if let Some(ids) = self.by_place.get(&place) {
            // That very place in that very cluster is it, whatever version each side has heard of.
            let known = |id: &u32| &self.workloads[*id as usize].cluster;
            let same = ids.iter().find(|id| *known(id) == workload.cluster).copied();
            if let Some(found) = same.or_else(|| only(ids, |id| agree(known(&id), &workload.cluster))) {
                return Some(found);
            }
        }
        let fits = |id: u32| {
            let known = &self.workloads[id as usize];
            agree(&known.cluster, &workload.cluster) && agree(&known.version, &workload.version)
        };
        if let Some(found) = self.by_app.get(&place).and_then(|ids| only(ids, fits)) {
            return Some(found);
        }
        if workload.namespace.is_some() {
            return None;
        }
        self.by_bare_name.get(name).and_then(|ids| only(ids, fits))
    }

    fn learn_relations(&mut self, reports: &[Report<'_>]) {
        let mut answered: FastMap<u32, BTreeMap<Service, f64>> = FastMap::default();
        self.named = reports.iter().map(|r| (self.named(&r.key.source), self.named(&r.key.destination))).collect();
        let named = std::mem::take(&mut self.named);
        for (Report { key, traffic }, (source, destination)) in reports.iter().zip(named.iter().copied()) {
            for (principal, id) in [(&key.source_principal, source), (&key.destination_principal, destination)] {
                if let (Some(principal), Some(id)) = (principal, id) {
                    self.by_principal.entry(Arc::clone(principal)).or_default().insert(id);
                }
            }
            let Some(destination) = destination else { continue };
            if let (Some(source), Reporter::Source | Reporter::Waypoint) = (source, key.reporter) {
                self.callers.entry((destination, key.protocol == Protocol::Tcp)).or_default().insert(source);
            }
            if let Some(name) = &key.service.name
                && special(name).is_none()
            {
                let place = (key.service.namespace.clone(), Arc::clone(name));
                self.answering.entry(place).or_default().insert(destination);
                let service = Service { host: None, ..key.service.clone() };
                *answered.entry(destination).or_default().entry(service).or_default() += traffic.requests();
            }
        }
        self.named = named;
        for (id, services) in answered {
            // The first of equals in name order, so that an idle mesh has the same graph.
            let mut best: Option<(Service, f64)> = None;
            for (service, requests) in services {
                if best.as_ref().is_none_or(|(_, most)| requests > *most) {
                    best = Some((service, requests));
                }
            }
            self.service_of[id as usize] = best.map(|(service, _)| service);
        }
    }

    fn named(&self, workload: &Workload) -> Option<u32> {
        (workload.name.is_some() || workload.app.is_some()).then(|| self.find(workload)).flatten()
    }

    /// The two ends of the report at that place.
    pub(super) fn ends(&self, at: usize, key: &EdgeKey) -> Ends {
        let (source, destination) = self.named[at];
        let destination = destination.map_or_else(|| self.unanswered(key), End::Workload);
        let source = match (source, &key.source_principal) {
            (Some(id), _) => End::Workload(id),
            (None, Some(principal)) => self.identified(key, principal, &destination)?,
            (None, None) => End::Unknown(key.source.cluster.clone()),
        };
        Some((source, destination))
    }

    /// A caller by identity. `None` when its client reports count already and nobody can say which of them it is.
    fn identified(&self, key: &EdgeKey, principal: &Arc<str>, destination: &End) -> Option<End> {
        if let Some(ids) = self.by_principal.get(principal)
            && ids.len() == 1
            && let Some(id) = ids.first()
        {
            return Some(End::Workload(*id));
        }
        let End::Workload(destination) = destination else { return Some(End::Identity(Arc::clone(principal))) };
        let callers = self.callers.get(&(*destination, key.protocol == Protocol::Tcp));
        let mut of_namespace = callers.into_iter().flatten().filter(|id| {
            key.source.namespace.is_some() && self.workloads[**id as usize].namespace == key.source.namespace
        });
        match (of_namespace.next(), of_namespace.next()) {
            (None, _) => Some(End::Identity(Arc::clone(principal))),
            (Some(only), None) => Some(End::Workload(*only)),
            _ => None,
        }
    }

    /// What was called where no workload is named.
    fn unanswered(&self, key: &EdgeKey) -> End {
        let Some(name) = key.service.name.as_ref().or(key.service.host.as_ref()) else {
            return End::Unknown(key.destination.cluster.clone());
        };
        if key.mesh == MeshKind::Traces
            && let Some(id) = self.named_in_span(name, &key.service)
        {
            return End::Workload(id);
        }
        let place = (key.service.namespace.clone(), Arc::clone(name));
        if let Some(ids) = self.answering.get(&place)
            && let Some(first) = ids.first()
            && (ids.len() == 1 || (self.apps_are_one && self.are_one_app(ids)))
        {
            return End::Workload(*first);
        }
        End::Service(key.service.clone())
    }
}

impl World {
    /// The workload that a span's peer name means: `postgres`, `postgres.shop`, `postgres.shop.svc.cluster.local:5432`.
    fn named_in_span(&self, name: &str, service: &Service) -> Option<u32> {
        let host = name.rsplit_once(':').map_or(name, |(host, _port)| host);
        let mut parts = host.split('.');
        let (first, second, third) = (parts.next()?, parts.next(), parts.next());
        let namespace = match (second, third) {
            (None, _) => service.namespace.clone(),
            (Some(namespace), None | Some("svc")) => Some(Arc::from(namespace)),
            _ => return None, // a host outside
        };
        self.find(&Workload { namespace, name: Some(first.into()), ..Workload::default() })
    }

    fn are_one_app(&self, ids: &BTreeSet<u32>) -> bool {
        let app = |id: &u32| {
            let workload = &self.workloads[*id as usize];
            (&workload.cluster, &workload.namespace, &workload.app)
        };
        let mut apps = ids.iter().map(app);
        apps.next().is_some_and(|first| first.2.is_some() && apps.all(|other| other == first))
    }
}

/// The one of `ids` that fits; `None` when none or several do.
fn only(ids: &[u32], fits: impl Fn(u32) -> bool) -> Option<u32> {
    let mut fitting = ids.iter().copied().filter(|id| fits(*id));
    match (fitting.next(), fitting.next()) {
        (Some(found), None) => Some(found),
        _ => None,
    }
}

/// The kind of Istio's special service names.
pub(super) fn special(name: &str) -> Option<NodeKind> {
    if name == "BlackHoleCluster" {
        Some(NodeKind::BlackHole)
    } else if name == "PassthroughCluster" || name.starts_with("InboundPassthrough") {
        Some(NodeKind::Passthrough)
    } else {
        None
    }
}
