//! Linkerd's proxy metrics: which edge a series counts, and what of it.
//!
//! In: the labels of one series as viz' scrape configuration relabels it (own pod's `namespace`, `deployment`…). Out:
//! [`Counting`]: outbound series are the caller's report, inbound series the called workload's. Facts:
//! reference/mesh.md §3.3, §3.10. Latency is to the first byte (`MeshKind::latency_is_first_byte`).

use std::sync::Arc;

use crate::model::workload::{
    EdgeKey, LINKERD_DESTINATION_OWNERS, LINKERD_OWNERS, MeshKind, Outcome, Protocol, Reporter, Security, Service,
    Workload,
};
use crate::model::{GRPC_STATUSES, Labels};

use super::{Counted, Counting, bucket_bound, is_address, known};

/// The proxy's own admin port: scrapes of it are not traffic of the mesh.
const ADMIN_PORT: &str = "4191";

/// Names that [`counting`] knows.
pub(super) const COUNTED: [&str; 7] = [
    "response_total",
    "response_latency_ms_bucket",
    "response_latency_ms_sum",
    "tcp_open_total",
    "tcp_close_total",
    "tcp_read_bytes_total",
    "tcp_write_bytes_total",
];

/// What the series counts; `None` for series that count no traffic of an edge.
pub(super) fn counting(name: &str, labels: &Labels) -> Option<Counting> {
    let counted = match name {
        // `request_total` counts at the start and knows no outcome.
        "response_total" => Counted::Requests(outcome(labels)),
        "response_latency_ms_bucket" => Counted::LatencyBucket(bucket_bound(labels)?),
        "response_latency_ms_sum" => Counted::LatencySum,
        "tcp_open_total" => Counted::Requests(Outcome { code: "".into(), grpc_status: "".into(), flags: "".into() }),
        "tcp_close_total" => Counted::Closed(failed_close(labels)),
        "tcp_read_bytes_total" | "tcp_write_bytes_total" => bytes(name, labels),
        _ => return None,
    };
    let outbound = match labels.get("direction")? {
        "outbound" => true,
        "inbound" => false,
        _ => return None,
    };
    let protocol = if name.starts_with("tcp_") {
        // The proxy has two connections for each of the application's; the other one is to its own pod.
        if labels.value("peer") != if outbound { "dst" } else { "src" } {
            return None;
        }
        Protocol::Tcp
    } else {
        // The latency series has no gRPC status, so one protocol for both keeps the edge whole; outcomes tell gRPC.
        Protocol::Http
    };
    let edge = if outbound { outbound_edge(labels, protocol) } else { inbound_edge(labels, protocol)? };
    let names_someone = edge.source != Workload::default() || edge.destination != Workload::default();
    names_someone.then_some(Counting { edge, counted })
}

fn outbound_edge(labels: &Labels, protocol: Protocol) -> EdgeKey {
    let name = known(labels, "dst_service");
    let authority = known(labels, "authority").or_else(|| known(labels, "target_addr"));
    EdgeKey {
        mesh: MeshKind::Linkerd,
        reporter: Reporter::Source,
        protocol,
        source: own_workload(labels),
        destination: Workload {
            cluster: None,
            namespace: known(labels, "dst_namespace"),
            name: LINKERD_DESTINATION_OWNERS.iter().find_map(|owner| known(labels, owner)),
            app: None,
            version: None,
        },
        service: match (name, authority) {
            (None, Some(authority)) if known(labels, "dst_namespace").is_none() => from_authority(&authority),
            (name, _) => Service { name, namespace: known(labels, "dst_namespace"), host: None },
        },
        source_principal: None,
        destination_principal: known(labels, "server_id"),
        security: security(labels),
    }
}

fn inbound_edge(labels: &Labels, protocol: Protocol) -> Option<EdgeKey> {
    let probe = labels.value("authz_name") == "probe" || labels.value("route_name") == "probe";
    if probe || labels.value("target_port") == ADMIN_PORT {
        return None;
    }
    let client = known(labels, "client_id");
    Some(EdgeKey {
        mesh: MeshKind::Linkerd,
        reporter: Reporter::Destination,
        protocol,
        source: Workload { namespace: client.as_deref().and_then(namespace_of_identity), ..Workload::default() },
        destination: own_workload(labels),
        service: known(labels, "authority").map(|authority| in_cluster(&authority)).unwrap_or_default(),
        source_principal: client,
        destination_principal: None,
        security: security(labels),
    })
}

/// The workload whose proxy this is, by the labels the scrape put on.
fn own_workload(labels: &Labels) -> Workload {
    let app = ["app_kubernetes_io_name", "app", "k8s_app"].iter().find_map(|name| known(labels, name));
    let version = ["app_kubernetes_io_version", "version"].iter().find_map(|name| known(labels, name));
    Workload {
        cluster: known(labels, "cluster"),
        namespace: known(labels, "namespace"),
        name: LINKERD_OWNERS.iter().find_map(|owner| known(labels, owner)),
        app,
        version,
    }
}

/// `SA.NS.serviceaccount.identity.linkerd.cluster.local` → `NS`.
fn namespace_of_identity(identity: &str) -> Option<Arc<str>> {
    let mut parts = identity.split('.');
    let (_account, namespace, kind) = (parts.next()?, parts.next()?, parts.next()?);
    (kind == "serviceaccount").then(|| Arc::from(namespace))
}

/// A service of the cluster by its DNS name, else the authority as a host.
fn from_authority(authority: &Arc<str>) -> Service {
    let service = in_cluster(authority);
    if service.name.is_some() {
        return service;
    }
    let host = match authority.rsplit_once(':') {
        Some((_, port)) if is_address(authority) => Arc::from(format!("*:{port}")), // the port says what it may be
        _ => Arc::clone(authority),
    };
    Service { host: Some(host), ..Service::default() }
}

/// A service of the cluster by its DNS name; nothing for any other authority, which is the caller's free text.
fn in_cluster(authority: &str) -> Service {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _port)| host);
    let mut parts = host.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(namespace), Some("svc")) => {
            Service { name: Some(name.into()), namespace: Some(namespace.into()), host: Some(host.into()) }
        }
        _ => Service::default(),
    }
}

fn security(labels: &Labels) -> Security {
    match labels.value("tls") {
        "true" => Security::MutualTls,
        "opaque" | "" => Security::Unknown, // the proxy passed TLS through without ending it
        _ => Security::Plaintext,           // no_identity, disabled, loopback
    }
}

fn bytes(name: &str, labels: &Labels) -> Counted {
    // Read from the caller or written to the called workload: on its way there.
    let to_called = (name == "tcp_read_bytes_total") == (labels.value("peer") == "src");
    if to_called { Counted::RequestBytes } else { Counted::ResponseBytes }
}

fn outcome(labels: &Labels) -> Outcome {
    let grpc = labels.get("grpc_status").or_else(|| labels.get("grpc_status_code")).unwrap_or("");
    let code = labels.get("status_code").unwrap_or("0");
    let error = labels.value("error");
    let failed_by_code = code == "0" || code.starts_with('5') || !matches!(grpc, "" | "0" | "OK");
    let flags = match labels.value("classification") {
        _ if !error.is_empty() => error,
        "failure" if !failed_by_code => "failure",
        "success" if failed_by_code => "success",
        _ => "-",
    };
    Outcome { code: code.into(), grpc_status: grpc_number(grpc).into(), flags: flags.into() }
}

/// Linkerd writes gRPC statuses as numbers; some releases wrote their names.
fn grpc_number(status: &str) -> &str {
    const NUMBERS: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    GRPC_STATUSES.iter().position(|name| *name == status).map_or(status, |at| NUMBERS[at])
}

fn failed_close(labels: &Labels) -> Option<Outcome> {
    labels.get("errno").filter(|errno| !errno.is_empty()).map(|errno| Outcome {
        code: "".into(),
        grpc_status: "".into(),
        flags: errno.into(),
    })
}
