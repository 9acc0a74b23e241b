//! Istio's standard metrics: which edge a series counts, and what of it.
//!
//! In: the labels of one `istio_*` series. Out: [`Counting`]. Facts: reference/mesh.md §3.1, §3.2, §3.8
//! (istio/proxy `istio_stats.cc`, ztunnel `metrics.rs`).

use crate::model::Labels;
use crate::model::workload::{EdgeKey, MeshKind, Outcome, Protocol, Reporter, Security, Service, Workload};

use super::{Counted, Counting, bucket_bound, is_address, known};

/// Names after `istio_` that [`counting`] knows.
pub(super) const COUNTED: [&str; 11] = [
    "requests_total",
    "request_duration_milliseconds_bucket",
    "request_duration_milliseconds_sum",
    "request_bytes_sum",
    "response_bytes_sum",
    "request_messages_total",
    "response_messages_total",
    "tcp_received_bytes_total",
    "tcp_sent_bytes_total",
    "tcp_connections_opened_total",
    "tcp_connections_closed_total",
];

/// What the series `istio_<name>` counts; `None` for series that count no traffic of an edge.
pub(super) fn counting(name: &str, labels: &Labels) -> Option<Counting> {
    let (counted, tcp) = counted(name, labels)?;
    Some(Counting { edge: edge(labels, tcp)?, counted })
}

/// What it counts, and whether of TCP connections.
pub(super) fn counted(name: &str, labels: &Labels) -> Option<(Counted, bool)> {
    Some(match name {
        "requests_total" => (Counted::Requests(outcome(labels)), false),
        "request_duration_milliseconds_bucket" => (Counted::LatencyBucket(bucket_bound(labels)?), false),
        "request_duration_milliseconds_sum" => (Counted::LatencySum, false),
        "request_bytes_sum" => (Counted::RequestBytes, false),
        "response_bytes_sum" => (Counted::ResponseBytes, false),
        "request_messages_total" => (Counted::RequestMessages, false),
        "response_messages_total" => (Counted::ResponseMessages, false),
        // Named from the server's side whoever reports (istio#32399): "received" is what the caller sent.
        "tcp_received_bytes_total" => (Counted::RequestBytes, true),
        "tcp_sent_bytes_total" => (Counted::ResponseBytes, true),
        "tcp_connections_opened_total" => (Counted::Requests(no_outcome()), true),
        "tcp_connections_closed_total" => (Counted::Closed(failed_close(labels)), true),
        // `_count` repeats the +Inf bucket.
        _ => return None,
    })
}

/// The edge whose traffic it counts: told by the other labels, whatever the name and the bucket.
pub(super) fn edge(labels: &Labels, tcp: bool) -> Option<EdgeKey> {
    let reporter = match labels.get("reporter")? {
        "source" => Reporter::Source,
        "destination" => Reporter::Destination,
        "waypoint" => Reporter::Waypoint,
        _ => return None,
    };
    let protocol = match labels.value("request_protocol") {
        _ if tcp => Protocol::Tcp,
        "grpc" => Protocol::Grpc,
        _ => Protocol::Http,
    };
    let edge = EdgeKey {
        mesh: MeshKind::Istio,
        reporter,
        protocol,
        source: workload(labels, &SOURCE),
        destination: workload(labels, &DESTINATION),
        service: Service {
            name: known(labels, "destination_service_name"),
            namespace: known(labels, "destination_service_namespace"),
            // Of a passthrough it may be the address dialled.
            host: known(labels, "destination_service").filter(|host| !is_address(host)),
        },
        source_principal: known(labels, "source_principal"),
        destination_principal: known(labels, "destination_principal"),
        security: Security::from_name(labels.value("connection_security_policy")),
    };
    // Labels stripped by a Telemetry override or by relabelling leave an edge from nobody to nowhere.
    let names_someone = edge.source != Workload::default()
        || edge.destination != Workload::default()
        || edge.service != Service::default();
    names_someone.then_some(edge)
}

/// Label names of one end, so that no text is built for each series.
struct End {
    cluster: &'static str,
    namespace: &'static str,
    name: &'static str,
    app: [&'static str; 2],
    version: [&'static str; 2],
}

const SOURCE: End = End {
    cluster: "source_cluster",
    namespace: "source_workload_namespace",
    name: "source_workload",
    app: ["source_canonical_service", "source_app"],
    version: ["source_canonical_revision", "source_version"],
};

const DESTINATION: End = End {
    cluster: "destination_cluster",
    namespace: "destination_workload_namespace",
    name: "destination_workload",
    app: ["destination_canonical_service", "destination_app"],
    version: ["destination_canonical_revision", "destination_version"],
};

fn workload(labels: &Labels, end: &End) -> Workload {
    let either = |names: &[&str; 2]| known(labels, names[0]).or_else(|| known(labels, names[1]));
    Workload {
        cluster: known(labels, end.cluster),
        namespace: known(labels, end.namespace),
        name: known(labels, end.name),
        app: either(&end.app),
        version: either(&end.version),
    }
}

fn outcome(labels: &Labels) -> Outcome {
    Outcome {
        code: labels.value("response_code").into(),
        // "" unless gRPC; a failed gRPC call has code 200 and its failure here.
        grpc_status: labels.value("grpc_response_status").into(),
        flags: labels.value("response_flags").into(),
    }
}

fn no_outcome() -> Outcome {
    Outcome { code: "".into(), grpc_status: "".into(), flags: "".into() }
}

/// Only the close says how a connection went. A caller that hangs up (`DC`) is how connections end.
fn failed_close(labels: &Labels) -> Option<Outcome> {
    match labels.value("response_flags") {
        "" | "-" | "DC" => None,
        flags => Some(Outcome { flags: flags.into(), ..no_outcome() }),
    }
}
