//! What is asked of Linkerd's metrics.
//!
//! In: a window. Out: queries. The proxies' own metrics as viz' scrape configuration relabels them (own pod's `namespace`,
//! `deployment` …): reference/mesh.md §3.10. `response_total` is a common name, so a label that only Linkerd has must be
//! there too.

use super::Question;
use crate::model::workload::{LINKERD_DESTINATION_OWNERS, LINKERD_OWNERS};

/// All questions about the last `w` seconds, and the last `r` of them.
pub(super) fn all(w: u64, r: u64) -> Vec<(Question, String)> {
    let own = LINKERD_OWNERS.join(", ");
    let other = LINKERD_DESTINATION_OWNERS.join(", ");
    let responses = |range: u64| {
        format!(
            "sum by (direction, namespace, {own}, {other}, dst_namespace, dst_service, authority, client_id, server_id, \
             tls, status_code, grpc_status) (increase(response_total{{direction=~\"inbound|outbound\", \
             route_name!=\"probe\", authz_name!=\"probe\", target_port!=\"4191\"}}[{range}s])) > 0"
        )
    };
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
        (Question::Linkerd, responses(w)),
        (Question::RecentLinkerd, responses(r)),
        (Question::LinkerdDenied, denied),
    ];
    asked.extend(backends(w).map(|query| (Question::Backends, query)));
    asked.extend(backends(r).map(|query| (Question::RecentBackends, query)));
    asked
}
