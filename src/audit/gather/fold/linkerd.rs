//! Linkerd's answers as calls, backends and denials.
//!
//! In: rows of [`super::super::questions`]. Out: entries of the [`Observed`](crate::audit::Observed). The caller's proxy
//! knows the workload it calls, the called one's the caller's identity only; who is encrypted is taken from the called side,
//! as of Istio, so that no call counts twice.

use super::super::questions::{Question, RouteCount};
use super::{Fold, Row};
use crate::audit::observed::{Backend, Calls, Denied, End, RouteCalls, Side, Teller};
use crate::model::GRPC_STATUSES;
use crate::model::workload::{LINKERD_DESTINATION_OWNERS, LINKERD_OWNERS, MeshKind};

/// Caller, called service, whether a profile steered, route.
pub(super) type RouteKey = (End, (String, String), bool, (String, String));

/// Requests of a route with what attempts say of retries: those of a profile are not counted themselves.
pub(super) fn finished(mut one: RouteCalls, attempts: f64) -> RouteCalls {
    if one.profile {
        one.retries = (attempts - one.requests).max(0.0);
    }
    one
}

/// The route that a row tells of.
fn route_key(what: RouteCount, row: &Row) -> Option<RouteKey> {
    use RouteCount::{ProfileAttempts, ProfileHeldBack, ProfileRequests};
    let from = own(row);
    if matches!(what, ProfileRequests | ProfileAttempts | ProfileHeldBack) {
        let dst = row.text("dst");
        let name = dst.rsplit_once(':').map_or(dst.as_str(), |(name, _)| name);
        let (service, rest) = name.split_once('.')?;
        let (namespace, _) = rest.split_once(".svc")?;
        return Some((from, (namespace.to_owned(), service.to_owned()), true, (String::new(), row.text("rt_route"))));
    }
    let place = |name: &str| match row.text(name) {
        text if text.is_empty() => from.namespace.clone(),
        text => text,
    };
    let service = (place("parent_namespace"), row.text("parent_name"));
    let route = match row.text("route_kind").as_str() {
        "default" => Default::default(),
        _ => (place("route_namespace"), row.text("route_name")),
    };
    Some((from, service, false, route))
}

/// The workload whose proxy told.
fn own(row: &Row) -> End {
    let workload = LINKERD_OWNERS.iter().map(|name| row.text(name)).find(|text| !text.is_empty());
    End { namespace: row.text("namespace"), workload: workload.unwrap_or_default(), ..End::default() }
}

/// The caller by its identity, `SA.NS.serviceaccount.identity.linkerd.cluster.local`.
fn client(row: &Row) -> End {
    let principal = row.text("client_id");
    let mut parts = principal.split('.').skip(1);
    let (namespace, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let namespace = if kind == "serviceaccount" { namespace.to_owned() } else { String::new() };
    End { namespace, principal, ..End::default() }
}

/// The called host in a cluster's own words, where it has one.
fn host(row: &Row) -> String {
    let (service, namespace) = (row.text("dst_service"), row.text("dst_namespace"));
    if !service.is_empty() && !namespace.is_empty() {
        return format!("{service}.{namespace}.svc.cluster.local");
    }
    let authority = row.text("authority");
    let name = authority.rsplit_once(':').map_or(authority.as_str(), |(name, _)| name);
    // On the called side an authority is the caller's free text unless it names a service.
    if name.contains(".svc.") { name.to_owned() } else { String::new() }
}

/// `0` to `16`; some releases wrote their names.
fn grpc(text: &str) -> Option<u8> {
    let named = GRPC_STATUSES.iter().position(|name| *name == text).and_then(|at| u8::try_from(at).ok());
    named.or_else(|| text.parse().ok())
}

fn security(row: &Row) -> &'static str {
    match row.text("tls").as_str() {
        "true" => "mutual_tls",
        // TLS of the application's own passes through.
        "opaque" | "" => "",
        _ => "none",
    }
}

impl Fold {
    pub(super) fn linkerd(&mut self, question: &Question, row: &Row) {
        let key = format!("linkerd {:?}", row.labels);
        if *question == Question::RecentLinkerd {
            if let Some(&at) = self.places.get(&key) {
                self.observed.calls[at].recent = row.value;
            }
            return;
        }
        let grpc = grpc(&row.text("grpc_status"));
        let is_outbound = row.text("direction") == "outbound";
        let (side, from, to, security) = match is_outbound {
            true => {
                let workload = LINKERD_DESTINATION_OWNERS.iter().map(|name| row.text(name));
                let to = End {
                    namespace: row.text("dst_namespace"),
                    workload: workload.into_iter().find(|text| !text.is_empty()).unwrap_or_default(),
                    principal: row.text("server_id"),
                    ..End::default()
                };
                (Side::Client, own(row), to, "")
            }
            false => (Side::Server, client(row), own(row), security(row)),
        };
        self.places.insert(key, self.observed.calls.len());
        self.observed.calls.push(Calls {
            mesh: MeshKind::Linkerd,
            side,
            from,
            to,
            host: host(row),
            protocol: if grpc.is_some() { "grpc" } else { "http" }.to_owned(),
            code: Some(row.text("status_code").parse().unwrap_or(0)),
            grpc,
            flags: String::new(),
            security: security.to_owned(),
            count: row.value,
            recent: 0.0,
        });
    }

    pub(super) fn backend(&mut self, question: &Question, row: &Row) {
        let key = format!("{:?}", row.labels);
        if *question == Question::RecentBackends {
            if let Some(&at) = self.backends.get(&key) {
                self.observed.backends[at].calls.recent += row.value;
            }
            return;
        }
        if let Some(&at) = self.backends.get(&key) {
            // HTTP and gRPC of one route.
            self.observed.backends[at].calls.count += row.value;
            return;
        }
        // Routes and backends of the caller's own namespace are at times told without one.
        let place = |text: String| if text.is_empty() { row.text("namespace") } else { text };
        let (namespace, workload) = (place(row.text("backend_namespace")), row.text("backend_name"));
        self.backends.insert(key, self.observed.backends.len());
        self.observed.backends.push(Backend {
            route: (place(row.text("route_namespace")), row.text("route_name")),
            calls: Calls {
                mesh: MeshKind::Linkerd,
                side: Side::Client,
                from: own(row),
                host: format!("{workload}.{namespace}.svc.cluster.local"),
                to: End { namespace, workload, ..End::default() },
                protocol: "http".to_owned(),
                code: None,
                grpc: None,
                flags: String::new(),
                security: String::new(),
                count: row.value,
                recent: 0.0,
            },
        });
    }

    pub(super) fn linkerd_denied(&mut self, row: &Row) {
        let to = own(row);
        let name = [row.text("authz_name"), row.text("srv_name")].into_iter().find(|text| !text.is_empty());
        let policy = name.map(|name| format!("{}/{name}", to.namespace)).unwrap_or_default();
        self.observed.denied.push(Denied {
            teller: Teller::Linkerd,
            from: client(row),
            to,
            policy,
            rule: None,
            reason: "denied".to_owned(),
            count: row.value,
        });
    }

    pub(super) fn linkerd_port(&mut self, row: &Row) {
        let (one, port) = (own(row), row.text("target_port").parse());
        if let (Ok(port), false) = (port, one.workload.is_empty()) {
            self.observed.ports.entry((one.namespace, one.workload)).or_default().insert(port);
        }
    }

    pub(super) fn linkerd_route(&mut self, what: RouteCount, row: &Row) {
        let Some(key) = route_key(what, row) else { return };
        let (one, attempts) = self.routes.entry(key.clone()).or_insert_with(|| {
            let (from, service, profile, route) = key;
            (RouteCalls { from, service, profile, route, ..RouteCalls::default() }, 0.0)
        });
        match what {
            RouteCount::Requests | RouteCount::ProfileRequests => {
                one.requests += row.value;
                // A profile's timeout answers 504, a route's tells of itself.
                let error = row.text("error").to_ascii_lowercase();
                if error.contains("timeout") || (one.profile && row.text("status_code") == "504") {
                    one.timeouts += row.value;
                }
            }
            RouteCount::Retries => one.retries += row.value,
            RouteCount::HeldBack | RouteCount::ProfileHeldBack => one.held_back += row.value,
            RouteCount::Limited => one.limited += row.value,
            RouteCount::ProfileAttempts => *attempts += row.value,
        }
    }
}
