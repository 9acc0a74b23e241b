//! Who a span speaks for: workload, called service, protocol and outcome, from mesh and Kubernetes attributes.
//!
//! Pure. Sources, in this order: Kubernetes resource attributes, Istio's `node_id` and `istio.*` tags (mesh.md §3.7),
//! `service.name`. What is not said stays `None`.

use std::sync::Arc;

use crate::model::span::{AttributeValue, SpanKind, SpanStatus};
use crate::model::workload::{Outcome, Protocol, Service};
use crate::model::{Span, Workload};

/// Letters of the random parts of Kubernetes names (`k8s.io/apimachinery/pkg/util/rand`).
const POD_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whose side of a call a span tells of, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Who {
    /// `service.name`.
    pub(super) service: Arc<str>,
    /// Who made this span, or whom its waypoint stands for.
    pub(super) workload: Workload,
    pub(super) failed: bool,
    pub(super) messaging: bool,
    /// Made by a mesh proxy (`component=proxy`).
    pub(super) proxy: bool,
    /// Made by a gateway or waypoint, which is a workload of its own.
    pub(super) gateway: bool,
    /// Made by a mesh proxy that says neither node nor pod: Envoy's span of a call upstream.
    pub(super) nameless: bool,
    /// Name of the database, when this is a call of one.
    pub(super) database: Option<Arc<str>>,
    /// Name of the other side, when this side gives it.
    pub(super) peer: Option<Arc<str>>,
    /// The other side, when a waypoint gives it.
    pub(super) peer_workload: Option<Workload>,
    /// What was asked for.
    pub(super) called: Service,
    pub(super) protocol: Protocol,
    pub(super) outcome: Outcome,
}

/// Attributes of interest, gathered in one pass. Later attributes do not replace earlier ones.
#[derive(Default)]
struct Known<'a> {
    node_id: Option<&'a str>,
    proxy: bool,
    canonical_service: Option<&'a str>,
    canonical_revision: Option<&'a str>,
    istio_namespace: Option<&'a str>,
    istio_cluster: Option<&'a str>,
    upstream_cluster: Option<&'a str>,
    response_flags: Option<&'a str>,
    http_status: Option<u64>,
    grpc_status: Option<u64>,
    grpc: bool,
    http: bool,
    peer_service: Option<&'a str>,
    server_address: Option<&'a str>,
    peer_address: Option<&'a str>,
    peer_port: Option<u64>,
    db_system: Option<&'a str>,
    db_name: Option<&'a str>,
    messaging: bool,
    source: Remote<'a>,
    destination: Remote<'a>,
    deployment: Option<&'a str>,
    pod: Option<&'a str>,
    namespace: Option<&'a str>,
    cluster: Option<&'a str>,
    service_namespace: Option<&'a str>,
    service_version: Option<&'a str>,
}

/// What a waypoint says of one side of the call it forwards (`istio.source_*`, `istio.destination_*`).
#[derive(Default)]
struct Remote<'a> {
    workload: Option<&'a str>,
    namespace: Option<&'a str>,
    cluster: Option<&'a str>,
    canonical_service: Option<&'a str>,
    canonical_revision: Option<&'a str>,
}

/// Whom a call-like span speaks for. Meant for kinds client, server, producer and consumer. Of attributes it depends on those
/// only that [`is_read`] names, or that `super::sides` knows to say something by their presence.
pub(super) fn who(span: &Span) -> Who {
    let known = Known::of(span);
    let node = known.node_id.and_then(NodeId::parse);
    let gateway = node.as_ref().is_some_and(|node| matches!(node.role, "router" | "waypoint"));
    let waypoint = node.as_ref().is_some_and(|node| node.role == "waypoint");
    let own = known.workload(span, node.as_ref());
    // A waypoint's server span stands for the workload behind it, and knows the caller, who has no proxy of its own. Its
    // client span is the other half of the same hop: alone it is no call.
    let stands_in = waypoint && span.kind == SpanKind::Server;
    let workload = known.destination.workload().filter(|_| stands_in).unwrap_or(own);
    let peer_workload = known.source.workload().filter(|_| stands_in);
    let outbound = known.upstream_cluster.and_then(called_service).filter(|_| span.kind == SpanKind::Client);
    let peer = (known.peer_service.or(known.db_name).or(known.db_system).map(Arc::from))
        .or_else(|| peer_workload.as_ref().and_then(|_| known.source.service_name()))
        .or_else(|| outbound.as_ref().filter(|_| known.proxy && !waypoint).and_then(service_label));
    Who {
        service: Arc::clone(&span.service),
        failed: span.status == SpanStatus::Error,
        messaging: known.messaging || matches!(span.kind, SpanKind::Producer | SpanKind::Consumer),
        proxy: known.proxy,
        gateway,
        nameless: known.proxy && node.is_none() && known.deployment.or(known.pod).is_none(),
        database: known.database().filter(|_| span.kind == SpanKind::Client),
        peer,
        called: outbound.unwrap_or_else(|| known.service_of(span, &workload)),
        workload,
        peer_workload,
        protocol: known.protocol(),
        outcome: known.outcome(span),
    }
}

/// Whom a span speaks for, and the service that it calls, when it is the calling side of a call.
pub fn speaks_for(span: &Span) -> (Workload, Option<Arc<str>>) {
    let who = who(span);
    let calls = matches!(span.kind, SpanKind::Client | SpanKind::Producer);
    (who.workload, who.called.name.or(who.peer).filter(|_| calls))
}

/// Whether the value of that attribute may say whom a span speaks for.
pub(super) fn is_read(name: &str) -> bool {
    let mut known = Known::default();
    known.slot(name).is_some()
        || known.number_slot(name).is_some()
        || matches!(name, "component" | "rpc.system" | "rpc.system.name")
}

/// Istio's node id: `sidecar~10.1.2.3~reviews-v1-6f89b6c557-sg2bc.bookinfo~bookinfo.svc.cluster.local`.
pub(crate) struct NodeId<'a> {
    /// `sidecar`, `router`, `waypoint`, `ztunnel`.
    pub(crate) role: &'a str,
    /// The proxy's pod.
    pub(crate) pod: &'a str,
    /// Its namespace.
    pub(crate) namespace: &'a str,
}

impl<'a> NodeId<'a> {
    /// The parts of a node id; `None` for a text that is none.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('~');
        let (role, _address, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (pod, namespace) = name.rsplit_once('.')?; // a pod name may hold dots, a namespace may not
        (!pod.is_empty() && !namespace.is_empty()).then_some(Self { role, pod, namespace })
    }
}

/// The workload a pod of that name belongs to: the name without the parts that Kubernetes added.
pub fn workload_of_pod(pod: &str) -> &str {
    let random = |part: &str, length: std::ops::RangeInclusive<usize>| {
        length.contains(&part.len()) && part.bytes().all(|byte| POD_LETTERS.contains(&byte))
    };
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) && last.len() < 5 {
        return rest; // stateful set
    }
    if !random(last, 5..=5) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((name, template_hash)) if random(template_hash, 6..=10) => name, // replica set of a deployment
        _ => rest,                                                            // daemon set, job
    }
}

/// Host and Kubernetes service of an outbound Envoy cluster: `outbound|9080|v1|reviews.bookinfo.svc.cluster.local`.
pub(crate) fn called_service(cluster: &str) -> Option<Service> {
    if matches!(cluster, "PassthroughCluster" | "BlackHoleCluster") {
        return Some(Service { name: Some(Arc::from(cluster)), ..Service::default() });
    }
    let mut parts = cluster.split(['|']);
    // Gateways of some versions write `outbound_.9080_._.host` for SNI routing.
    let host = match (parts.next()?, parts.nth(2)) {
        ("outbound", Some(host)) => host,
        (sni, None) if sni.starts_with("outbound_.") => sni.rsplit("_.").next()?,
        _ => return None,
    };
    (!host.is_empty()).then(|| service_of_host(host))
}

/// A Kubernetes service, when the host is one, or else just the host.
pub(crate) fn service_of_host(host: &str) -> Service {
    let mut labels = host.split('.');
    let (name, namespace) = match (labels.next(), labels.next(), labels.next()) {
        (Some(name), Some(namespace), Some("svc")) => (name, Some(Arc::from(namespace))),
        _ => (host, None),
    };
    Service { name: Some(Arc::from(name)), namespace, host: Some(Arc::from(host)) }
}

/// The name that Istio's proxies give to the same service in `service.name`: `reviews.bookinfo`.
fn service_label(service: &Service) -> Option<Arc<str>> {
    match (&service.name, &service.namespace) {
        (Some(name), Some(namespace)) => Some(format!("{name}.{namespace}").into()),
        (name, _) => name.clone(),
    }
}

impl Remote<'_> {
    fn workload(&self) -> Option<Workload> {
        self.workload.map(|name| Workload {
            cluster: said(self.cluster),
            namespace: said(self.namespace),
            name: said(Some(name)),
            app: said(self.canonical_service),
            version: said(self.canonical_revision),
        })
    }

    fn service_name(&self) -> Option<Arc<str>> {
        let name = self.canonical_service.or(self.workload)?;
        Some(self.namespace.map_or_else(|| Arc::from(name), |namespace| format!("{name}.{namespace}").into()))
    }
}

/// Istio writes `unknown`, Envoy `-`, for what it does not know.
fn said(text: Option<&str>) -> Option<Arc<str>> {
    known_text(text).map(Arc::from)
}

/// The text, unless it says that nothing is known.
pub(crate) fn known_text(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !matches!(*text, "" | "-" | "unknown"))
}

impl<'a> Known<'a> {
    fn of(span: &'a Span) -> Self {
        let mut known = Self::default();
        for (name, value) in span.attributes.iter().chain(&span.resource.attributes) {
            match value {
                AttributeValue::String(text) => known.text(name, text),
                AttributeValue::Int(number) => known.number(name, u64::try_from(*number).ok()),
                _ => {}
            }
        }
        known
    }

    /// Where the text of that attribute goes.
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        Some(match name {
            "node_id" => &mut self.node_id,
            "istio.canonical_service" => &mut self.canonical_service,
            "istio.canonical_revision" => &mut self.canonical_revision,
            "istio.namespace" => &mut self.istio_namespace,
            "istio.cluster_id" => &mut self.istio_cluster,
            "upstream_cluster.name" | "upstream_cluster" => &mut self.upstream_cluster,
            "response_flags" => &mut self.response_flags,
            "peer.service" => &mut self.peer_service,
            "server.address" | "net.peer.name" => &mut self.server_address,
            "network.peer.address" | "net.sock.peer.addr" => &mut self.peer_address,
            "db.system" | "db.system.name" => &mut self.db_system,
            "db.namespace" | "db.name" => &mut self.db_name,
            "istio.source_workload" => &mut self.source.workload,
            "istio.source_namespace" => &mut self.source.namespace,
            "istio.source_cluster_id" => &mut self.source.cluster,
            "istio.source_canonical_service" => &mut self.source.canonical_service,
            "istio.source_canonical_revision" => &mut self.source.canonical_revision,
            "istio.destination_workload" => &mut self.destination.workload,
            "istio.destination_namespace" => &mut self.destination.namespace,
            "istio.destination_cluster_id" => &mut self.destination.cluster,
            "istio.destination_canonical_service" => &mut self.destination.canonical_service,
            "istio.destination_canonical_revision" => &mut self.destination.canonical_revision,
            "k8s.deployment.name"
            | "k8s.statefulset.name"
            | "k8s.daemonset.name"
            | "k8s.cronjob.name"
            | "k8s.job.name" => &mut self.deployment,
            "k8s.pod.name" => &mut self.pod,
            "k8s.namespace.name" => &mut self.namespace,
            "k8s.cluster.name" => &mut self.cluster,
            "service.namespace" => &mut self.service_namespace,
            "service.version" => &mut self.service_version,
            _ => return None,
        })
    }

    fn text(&mut self, name: &str, text: &'a str) {
        match self.slot(name) {
            Some(slot) if slot.is_none() && !text.is_empty() => *slot = Some(text),
            Some(_) => {}
            None => self.protocol_text(name, text),
        }
    }

    /// Attributes that say what is carried. Envoy writes its numbers as text.
    fn protocol_text(&mut self, name: &str, text: &str) {
        match name {
            "component" => self.proxy = text == "proxy",
            "rpc.system" | "rpc.system.name" => self.grpc |= text == "grpc",
            "http.method" | "http.request.method" | "http.protocol" => self.http = true,
            _ if name.starts_with("grpc.") => {
                self.grpc = true;
                self.number(name, text.parse().ok());
            }
            _ if name.starts_with("messaging.") => self.messaging = true,
            _ => self.number(name, text.parse().ok()),
        }
    }

    /// Where the number of that attribute goes.
    fn number_slot(&mut self, name: &str) -> Option<&mut Option<u64>> {
        Some(match name {
            "http.status_code" | "http.response.status_code" => &mut self.http_status,
            "grpc.status_code" | "rpc.grpc.status_code" => &mut self.grpc_status,
            "network.peer.port" | "server.port" | "net.peer.port" => &mut self.peer_port,
            _ => return None,
        })
    }

    fn number(&mut self, name: &str, number: Option<u64>) {
        if let Some(slot) = self.number_slot(name) {
            *slot = slot.or(number);
        }
    }

    fn workload(&self, span: &Span, node: Option<&NodeId<'a>>) -> Workload {
        // A proxy without enrichment names itself `app.namespace`.
        let split = span.service.split_once('.').filter(|_| self.proxy);
        let pod = node.map(|node| node.pod).or(self.pod);
        let name = self.deployment.or_else(|| pod.map(workload_of_pod)).or(self.canonical_service);
        let by_service = split.map_or(&*span.service, |(app, _)| app);
        let namespace = (self.namespace.or_else(|| node.map(|node| node.namespace)))
            .or(self.istio_namespace)
            .or(self.service_namespace)
            .or_else(|| split.map(|(_, namespace)| namespace));
        Workload {
            cluster: said(self.istio_cluster.or(self.cluster)),
            namespace: said(namespace),
            name: said(name.or(Some(by_service))),
            app: said(self.canonical_service.or(Some(by_service))),
            version: said(self.canonical_revision.or(self.service_version)),
        }
    }

    /// The service on the called side, by its own span: its app in its namespace.
    fn service_of(&self, span: &Span, workload: &Workload) -> Service {
        if matches!(span.kind, SpanKind::Server | SpanKind::Consumer) {
            return Service { name: workload.app.clone(), namespace: workload.namespace.clone(), host: None };
        }
        self.server_address.map(service_of_host).unwrap_or_default()
    }

    /// Name of the called database; the order is Tempo's.
    fn database(&self) -> Option<Arc<str>> {
        let system = self.db_system?;
        let address = || {
            let address = self.peer_address?;
            Some(self.peer_port.map_or_else(|| Arc::from(address), |port| format!("{address}:{port}").into()))
        };
        let name = self.peer_service.or(self.server_address).map(Arc::from).or_else(address);
        Some(name.unwrap_or_else(|| Arc::from(self.db_name.unwrap_or(system))))
    }

    fn protocol(&self) -> Protocol {
        match () {
            () if self.grpc => Protocol::Grpc,
            // A call of a database or a queue has no HTTP outcome.
            () if !self.http && (self.db_system.is_some() || self.messaging) => Protocol::Tcp,
            () => Protocol::Http,
        }
    }

    /// The outcome as a proxy's metrics would have it. A failure that names no status is code 0: no right response.
    fn outcome(&self, span: &Span) -> Outcome {
        let failed = span.status == SpanStatus::Error;
        let text = |number: Option<u64>| number.map_or_else(|| Arc::from(""), |number| number.to_string().into());
        let code = match (self.http_status, failed && self.grpc_status.is_none_or(|status| status == 0)) {
            (Some(status), _) => status.to_string().into(),
            (None, true) => Arc::from("0"),
            (None, false) => Arc::from(""),
        };
        Outcome { code, grpc_status: text(self.grpc_status), flags: Arc::from(self.response_flags.unwrap_or("")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_workload_of_a_pod_name() {
        let check = |pod, workload| assert_eq!(workload_of_pod(pod), workload);
        check("productpage-v1-6f89b6c557-sg2bc", "productpage-v1");
        check("istio-ingressgateway-79788cd94-wgmsp", "istio-ingressgateway");
        check("kafka-0", "kafka");
        check("fluentbit-x7k2p", "fluentbit");
        check("web", "web");
        check("my-app", "my-app");
        check("-", "-");
    }

    #[test]
    fn reads_node_ids_and_clusters_and_survives_odd_ones() {
        let node = NodeId::parse("router~10.0.0.1~gw-79788cd94-wgmsp.istio-system~istio-system.svc.cluster.local");
        assert!(node.is_some_and(|n| (n.role, n.pod, n.namespace) == ("router", "gw-79788cd94-wgmsp", "istio-system")));
        for odd in ["", "~~~", "sidecar~1~pod", "sidecar~1~.ns~x", "sidecar"] {
            assert!(NodeId::parse(odd).is_none(), "{odd:?}");
        }
        let name = |cluster| called_service(cluster).and_then(|service| service_label(&service));
        assert_eq!(name("outbound|9080|v1|reviews.bookinfo.svc.cluster.local").as_deref(), Some("reviews.bookinfo"));
        assert_eq!(name("outbound_.9080_._.reviews.bookinfo.svc.cluster.local").as_deref(), Some("reviews.bookinfo"));
        assert_eq!(name("outbound|443||api.example.com").as_deref(), Some("api.example.com"));
        assert_eq!(name("PassthroughCluster").as_deref(), Some("PassthroughCluster"));
        assert_eq!(name("inbound|9080||"), None);
        assert_eq!(name("||||||"), None);
    }
}
