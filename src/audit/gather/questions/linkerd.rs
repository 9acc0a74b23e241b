//! What is asked of Linkerd's metrics.
//!
//! In: a window. Out: queries. The proxies' own metrics as viz' scrape configuration relabels them (own pod's `namespace`,
//! `deployment` …): reference/mesh.md §3.10. `response_total` is a common name, so a label that only Linkerd has must be
//! there too.

use super::{Question, RouteCount, range};
use crate::model::workload::{LINKERD_DESTINATION_OWNERS, LINKERD_OWNERS};

/// All questions about the last `w` seconds, and the last `r` of them.
pub(super) fn all(w: u64, r: u64) -> Vec<(Question, String)> {
    let own = LINKERD_OWNERS.join(", ");
    let backends = |range: u64| {
        let of = |protocol: &str| {
            format!(
                "sum by (namespace, {own}, route_namespace, route_name, backend_namespace, backend_name) \
                 (increase(outbound_{protocol}_route_backend_requests_total{{backend_name!=\"\"}}[{range}s])) > 0"
            )
        };
        [of("http"), of("grpc")]
    };
    let denied = format!(
        "sum by (namespace, {own}, client_id, authz_name, srv_name, tls) \
         (increase(inbound_http_authz_deny_total[{w}s])) > 0"
    );
    let mut asked = vec![
        (Question::Linkerd, responses(w, 0)),
        (Question::RecentLinkerd, responses(r, 0)),
        (Question::LinkerdDenied, denied),
    ];
    asked.extend(backends(w).map(|query| (Question::Backends, query)));
    asked.extend(backends(r).map(|query| (Question::RecentBackends, query)));
    let ports = format!(
        "count by (namespace, {own}, target_port) (increase(response_total{{direction=\"inbound\", \
         route_name!=\"probe\", authz_name!=\"probe\", target_port!~\"4191|\"}}[{w}s]) > 0)"
    );
    asked.push((Question::LinkerdPorts, ports));
    asked.extend(routes(w, &own).into_iter().map(|(count, query)| (Question::LinkerdRoutes(count), query)));
    asked
}

/// Responses in `length` seconds that ended `ago` seconds ago.
pub(super) fn responses(length: u64, ago: u64) -> String {
    let (own, other) = (LINKERD_OWNERS.join(", "), LINKERD_DESTINATION_OWNERS.join(", "));
    format!(
        "sum by (direction, namespace, {own}, {other}, dst_namespace, dst_service, authority, client_id, server_id, \
         tls, status_code, grpc_status) (increase(response_total{{direction=~\"inbound|outbound\", \
         route_name!=\"probe\", authz_name!=\"probe\", target_port!=\"4191\"}}{})) > 0",
        range(length, ago)
    )
}

/// What routes and ServiceProfiles did: linkerd.io/2/reference/retries, …/timeouts, and the proxy's `route_*` metrics.
fn routes(w: u64, own: &str) -> Vec<(RouteCount, String)> {
    let route = format!("namespace, {own}, parent_namespace, parent_name, route_kind, route_namespace, route_name");
    let mut asked = Vec::new();
    for protocol in ["http", "grpc"] {
        let of = |metric: &str, by: &str| {
            format!("sum by ({by}) (increase(outbound_{protocol}_route_{metric}_total{{parent_name!=\"\"}}[{w}s])) > 0")
        };
        asked.extend([
            (RouteCount::Requests, of("request_statuses", &format!("{route}, error"))),
            (RouteCount::Retries, of("retry_requests", &route)),
            (RouteCount::HeldBack, of("retry_overflow", &route)),
            (RouteCount::Limited, of("retry_limit_exceeded", &route)),
        ]);
    }
    let profile = format!("namespace, {own}, dst, rt_route");
    let of = |metric: &str, chosen: &str, by: &str| {
        format!("sum by ({by}) (increase(route_{metric}_total{{direction=\"outbound\", dst!=\"\"{chosen}}}[{w}s])) > 0")
    };
    asked.extend([
        (RouteCount::ProfileRequests, of("response", "", &format!("{profile}, status_code, error"))),
        (RouteCount::ProfileAttempts, of("actual_response", "", &profile)),
        (RouteCount::ProfileHeldBack, of("retryable", ", skipped=\"no_budget\"", &profile)),
    ]);
    asked
}
