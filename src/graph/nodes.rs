//! What node of a view an end becomes: its id, kind and names.
//!
//! In: one end. Out: a [`Node`] without traffic. Knows the names by which gateways, waypoints and databases go.

use std::sync::Arc;

use crate::model::workload::{Service, Workload};

use super::health::Health;
use super::resolve::{World, special};
use super::types::{Node, NodeKind, NodeTraffic, View};

/// The node of a workload in a view; `called` is the service it was called as.
pub(super) fn workload_node(world: &World, id: usize, called: Option<&Service>, view: View) -> Node {
    let workload = &world.workloads[id];
    let Workload { cluster, namespace, name, app, version } = workload;
    let name = name.as_deref().unwrap_or("unknown");
    let app_name = app.as_deref().unwrap_or(name);
    let (cluster_text, namespace_text) = (cluster.as_deref(), namespace.as_deref());
    let kind = workload_kind(workload);
    let or_app = if kind == NodeKind::Workload { NodeKind::App } else { kind };
    let mut node = match view {
        View::Workload => new_node(kind, "workload", [cluster_text, namespace_text, Some(name), None], name),
        View::App => new_node(or_app, "app", [cluster_text, namespace_text, Some(app_name), None], app_name),
        View::VersionedApp => {
            let parts = [cluster_text, namespace_text, Some(app_name), Some(version.as_deref().unwrap_or(""))];
            new_node(or_app, "app", parts, app_name)
        }
        View::Service => {
            let called = called.filter(|s| s.name.as_deref().is_some_and(|name| special(name).is_none()));
            match called.or(world.service_of[id].as_ref()) {
                Some(service) => service_node(service),
                None => {
                    let kind = if kind == NodeKind::Workload { NodeKind::Service } else { kind };
                    new_node(kind, "service", [None, namespace_text, Some(app_name), None], app_name)
                }
            }
        }
    };
    if view != View::Service {
        (node.cluster, node.namespace) = (cluster.clone(), namespace.clone());
        (node.app, node.version) = (app.clone(), version.clone());
    }
    if node.namespace.is_none() {
        node.namespace.clone_from(namespace);
    }
    node
}

fn workload_kind(workload: &Workload) -> NodeKind {
    let name = workload.name.as_deref().unwrap_or_default();
    let app = workload.app.as_deref().unwrap_or_default();
    if name == "waypoint" || name.ends_with("-waypoint") {
        NodeKind::Waypoint
    } else if [name, app].iter().any(|text| text.contains("ingressgateway") || text.contains("egressgateway"))
        || name.ends_with("-gateway-istio")
        || name.ends_with("-gateway")
        || name == "gateway"
    {
        NodeKind::Gateway
    } else if is_database(name) {
        NodeKind::Database
    } else {
        NodeKind::Workload
    }
}

/// Whether the first word of a name or host is that of a database or cache.
fn is_database(name: &str) -> bool {
    const DATABASES: [&str; 18] = [
        "postgres",
        "postgresql",
        "mysql",
        "mariadb",
        "redis",
        "valkey",
        "memcached",
        "mongodb",
        "mongo",
        "cassandra",
        "elasticsearch",
        "opensearch",
        "cockroachdb",
        "clickhouse",
        "etcd",
        "mssql",
        "dynamodb",
        "oracle",
    ];
    const PORTS: [&str; 7] = [":5432", ":3306", ":6379", ":27017", ":9042", ":1433", ":11211"];
    let word = name.split(['-', '.', ':', '_']).next().unwrap_or_default();
    DATABASES.contains(&word) || PORTS.iter().any(|port| name.ends_with(port))
}

/// The node of a caller known by its identity only.
pub(super) fn identity_node(principal: &Arc<str>) -> Node {
    // spiffe://DOMAIN/ns/NS/sa/SA, or SA.NS.serviceaccount.identity.…
    let (namespace, account) = match principal.strip_prefix("spiffe://") {
        Some(path) => {
            let part = |key: &str| path.split('/').skip_while(|part| *part != key).nth(1);
            (part("ns"), part("sa"))
        }
        None => {
            let mut parts = principal.split('.');
            let account = parts.next();
            (parts.next(), account)
        }
    };
    let name = account.unwrap_or(principal);
    let mut node = new_node(NodeKind::Identity, "identity", [None, namespace, Some(name), None], name);
    node.namespace = namespace.map(Arc::from);
    node
}

/// The node of a service no known workload answered for, or of a host.
pub(super) fn service_node(service: &Service) -> Node {
    let Service { name, namespace, host } = service;
    let text = name.as_deref().or(host.as_deref()).unwrap_or("unknown");
    if let Some(kind) = special(text) {
        return new_node(kind, kind.as_str(), [None, None, Some(text), None], text);
    }
    let address = host.as_deref().unwrap_or(text);
    let outside = address.contains('.') && !address.contains(".svc");
    let kind = match (is_database(text) || is_database(address), namespace) {
        (true, None) => NodeKind::Database,
        (true, _) if outside => NodeKind::Database,
        (_, None) => NodeKind::External,
        _ if outside => NodeKind::External,
        _ => NodeKind::Service,
    };
    let prefix = if kind == NodeKind::Service { "service" } else { "host" };
    let mut node = new_node(kind, prefix, [None, namespace.as_deref(), Some(text), None], text);
    node.namespace.clone_from(namespace);
    node
}

/// A node without traffic; `parts` are cluster, namespace, name, version.
pub(super) fn new_node(kind: NodeKind, prefix: &str, parts: [Option<&str>; 4], name: &str) -> Node {
    Node {
        id: stable_id(prefix, parts),
        kind,
        cluster: parts[0].map(Arc::from),
        namespace: parts[1].map(Arc::from),
        name: name.into(),
        app: None,
        version: None,
        inbound: NodeTraffic::default(),
        outbound: NodeTraffic::default(),
        health: Health::default(),
    }
}

/// `prefix:cluster/namespace/name[/version]`, every other byte than `A–Z a–z 0–9 . _ -` percent-encoded, and a hash in
/// place of the tail of what is very long.
fn stable_id(prefix: &str, parts: [Option<&str>; 4]) -> Arc<str> {
    const LONG: usize = 200;
    let mut id = String::from(prefix);
    for (i, part) in parts.iter().enumerate() {
        if i == 3 && part.is_none() {
            break;
        }
        id.push(if i == 0 { ':' } else { '/' });
        for byte in part.unwrap_or_default().bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
                id.push(char::from(byte));
            } else {
                id.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    if id.len() > LONG {
        let hash = crate::model::fnv1a(id.bytes());
        let mut end = LONG - 18;
        while id.as_bytes()[end - 2..end].contains(&b'%') {
            end -= 1; // never half of an encoded byte
        }
        id.truncate(end);
        id.push_str(&format!("-{hash:016x}"));
    }
    id.into()
}
