//! The questions, as PromQL.
//!
//! Names and traps are those of Istio's and Envoy's metrics: flags like UH, NC and DI are told by the caller's side only,
//! `connection_security_policy` by the called side only, limits of connection pools hold for each proxy. Linkerd's stand in
//! `linkerd`.

mod linkerd;

use std::collections::BTreeSet;
use std::time::Duration;

/// Whether a server has series that stand for taking spans, be there any or not.
pub(super) const TAKES_SPANS: &str = "count({__name__=~\"traces_spanmetrics_calls_total|meshscope_.+\"})";

/// Labels whose cost is asked at most: each is three questions over all series of requests.
const LABELS_MAX: usize = 8;
/// Ends of requests, as access logs call them, that a policy made.
const DENIALS: &str = "rbac_denied|rbac_not_allowed|jwt_denied|ext_authz_denied";

/// What a query asks for; its answer is folded by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Requests of the window.
    Requests,
    /// Requests of its last part.
    RecentRequests,
    /// Connections of TCP.
    Connections,
    /// Median and 99th percentile of durations.
    Quantile50,
    Quantile99,
    /// When versions were first and last called.
    FirstSeen,
    LastSeen,
    /// What time it is there.
    Now,
    /// Whether there was traffic when the window began.
    Covered,
    /// A statistic of upstream clusters.
    Upstream(Statistic),
    /// Something of each proxy.
    Proxy(Trait),
    /// Versions of control planes.
    ControlPlane,
    /// Seconds that the root certificate holds.
    Root,
    Rejects,
    Convergence,
    Targets,
    TargetsDown,
    RequestSeries,
    /// Series without a standard label.
    Missing(&'static str),
    /// Spans by service and kind.
    Spans,
    /// Spans of clients that began a trace, by service.
    Roots,
    /// Responses as Linkerd's proxies count them.
    Linkerd,
    RecentLinkerd,
    /// Requests of routes to their backends.
    Backends,
    RecentBackends,
    /// Requests that Linkerd's policies denied.
    LinkerdDenied,
    /// Ports at which Linkerd's workloads were called.
    LinkerdPorts,
    /// What became of requests that routes of Linkerd steered.
    LinkerdRoutes(RouteCount),
    /// Requests that policies denied, as access logs tell.
    Denied,
    /// Records of access logs.
    Records,
    /// What a label costs: series that have it, its values, series there were without it.
    LabelSeries(String),
    LabelValues(String),
    LabelWithout(String),
}

/// A statistic of upstream clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statistic {
    ConnectionsPeak,
    RequestsPeak,
    PendingPeak,
    PendingOverflow,
    ConnectionOverflow,
    Ejections,
    Retries,
}

/// What is counted of the requests of a route of Linkerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteCount {
    /// Those that the application made, by their end.
    Requests,
    Retries,
    HeldBack,
    Limited,
    /// The same under a ServiceProfile; attempts are requests and retries together.
    ProfileRequests,
    ProfileAttempts,
    ProfileHeldBack,
}

/// What is known of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trait {
    Version,
    Concurrency,
    Certificate,
    Cpu,
    Memory,
    Throttled,
    Request,
    Limit,
    Denied,
}

const ENDS: &str = "reporter, source_workload, source_workload_namespace, source_principal, source_version, \
    destination_workload, destination_workload_namespace, destination_principal, destination_version, \
    destination_canonical_revision, destination_service, request_protocol, response_flags, connection_security_policy";

/// Labels by which the past tells calls apart.
const PAST_ENDS: &str = "reporter, source_principal, destination_workload, destination_workload_namespace, \
    destination_version, destination_canonical_revision, destination_service";

/// Labels without which edges, errors or mTLS cannot be told.
pub(super) const STANDARD_LABELS: [&str; 7] = [
    "reporter",
    "response_code",
    "response_flags",
    "source_workload",
    "destination_workload",
    "destination_service",
    "connection_security_policy",
];

/// All questions about a window of these seconds, and its last part; `labels` are those of requests whose cost is asked.
pub(super) fn all(window: Duration, recent: Duration, labels: &BTreeSet<String>) -> Vec<(Question, String)> {
    let (w, r) = (window.as_secs(), recent.as_secs());
    let step = (w / 60).max(30);
    let mut asked = calls(w, r, step);
    asked.extend(upstreams(w));
    asked.extend(proxies(w));
    asked.extend(whole(w));
    asked.extend(linkerd::all(w, r));
    asked.extend(logs(w));
    asked.extend(labels.iter().take(LABELS_MAX).flat_map(|label| cost(label)));
    asked
}

/// What access logs tell of denials.
fn logs(w: u64) -> [(Question, String); 2] {
    let denied = format!(
        "sum by (source_workload, source_workload_namespace, destination_workload, destination_workload_namespace, \
         policy, rule, reason) (increase(meshscope_access_log_requests_total{{reason=~\"{DENIALS}\"}}[{w}s])) > 0"
    );
    let records = format!("sum(increase(meshscope_access_log_requests_total[{w}s])) > 0");
    [(Question::Denied, denied), (Question::Records, records)]
}

/// What a label costs now. Its name is one that Prometheus takes (`overridden`).
fn cost(label: &str) -> [(Question, String); 3] {
    let with = format!("istio_requests_total{{{label}!=\"\"}}");
    [
        (Question::LabelSeries(label.to_owned()), format!("count({with})")),
        (Question::LabelValues(label.to_owned()), format!("count(count by ({label}) ({with}))")),
        (Question::LabelWithout(label.to_owned()), format!("count(count without ({label}) ({with}))")),
    ]
}

fn calls(w: u64, r: u64, step: u64) -> Vec<(Question, String)> {
    let quantile = |q: &str| {
        format!(
            "histogram_quantile({q}, sum by (le, reporter, source_workload, source_workload_namespace, \
             destination_service) (rate(istio_request_duration_milliseconds_bucket[{w}s])))"
        )
    };
    let requests = |range: u64| {
        format!("sum by ({ENDS}, response_code, grpc_response_status) (increase(istio_requests_total[{range}s])) > 0")
    };
    let seen = |which: &str| {
        format!(
            "time() - {which}_over_time(timestamp(sum by (destination_service, destination_version) \
             (increase(istio_requests_total{{reporter=~\"source|waypoint\"}}[{}s])) > 0)[{w}s:{step}s])",
            step.max(120)
        )
    };
    vec![
        (Question::Requests, requests(w)),
        (Question::RecentRequests, requests(r)),
        (Question::Connections, format!("sum by ({ENDS}) (increase(istio_tcp_connections_opened_total[{w}s])) > 0")),
        (Question::Quantile50, quantile("0.5")),
        (Question::Quantile99, quantile("0.99")),
        (Question::FirstSeen, seen("min")),
        (Question::LastSeen, seen("max")),
        (Question::Covered, covered(w - w / 10)),
        (Question::Now, "vector(time())".to_owned()),
    ]
}

/// Who called whom in `length` seconds that ended `ago` seconds ago, by no more labels than that needs.
pub(super) fn slice(length: u64, ago: u64) -> [(Question, String); 3] {
    let asked = |metric: &str| format!("sum by ({PAST_ENDS}) (increase({metric}{})) > 0", range(length, ago));
    [
        (Question::Requests, asked("istio_requests_total")),
        (Question::Connections, asked("istio_tcp_connections_opened_total")),
        (Question::Linkerd, linkerd::responses(length, ago)),
    ]
}

/// `[300s]`, or `[300s] offset 60s`.
fn range(length: u64, ago: u64) -> String {
    if ago == 0 { format!("[{length}s]") } else { format!("[{length}s] offset {ago}s") }
}

/// Whether either mesh had counted something so many seconds ago.
pub(super) fn covered(ago: u64) -> String {
    let linkerd = "response_total{direction=~\"inbound|outbound\"}";
    format!("count(istio_requests_total offset {ago}s) or count({linkerd} offset {ago}s)")
}

fn upstreams(w: u64) -> impl Iterator<Item = (Question, String)> {
    use Statistic::*;
    const STATISTICS: [(Statistic, &str, bool); 7] = [
        (ConnectionsPeak, "envoy_cluster_upstream_cx_active", false),
        (RequestsPeak, "envoy_cluster_upstream_rq_active", false),
        (PendingPeak, "envoy_cluster_upstream_rq_pending_active", false),
        (PendingOverflow, "envoy_cluster_upstream_rq_pending_overflow", true),
        (ConnectionOverflow, "envoy_cluster_upstream_cx_overflow", true),
        (Ejections, "envoy_cluster_outlier_detection_ejections_enforced_total", true),
        (Retries, "envoy_cluster_upstream_rq_retry", true),
    ];
    STATISTICS.into_iter().map(move |(statistic, name, is_counter)| {
        let (joined, over) = if is_counter { ("sum", "increase") } else { ("max", "max_over_time") };
        let query = format!(
            "{joined} by (namespace, pod, cluster_name) ({over}({name}{{cluster_name=~\"outbound.*\"}}[{w}s]))"
        );
        (Question::Upstream(statistic), query)
    })
}

fn proxies(w: u64) -> impl Iterator<Item = (Question, String)> {
    let of_proxy = "container=\"istio-proxy\"";
    let by = "by (namespace, pod)";
    let periods = |which: &str| format!("sum {by} (increase(container_cpu_cfs_{which}_total{{{of_proxy}}}[{w}s]))");
    let resource =
        |which: &str| format!("max by (namespace, pod, resource) (kube_pod_container_resource_{which}{{{of_proxy}}})");
    [
        (Trait::Version, "max by (namespace, pod, tag) (istio_build{component=\"proxy\"})".to_owned()),
        (Trait::Concurrency, format!("max {by} (envoy_server_concurrency)")),
        (Trait::Certificate, "min by (namespace, pod, resource_name) (istio_agent_cert_expiry_seconds)".to_owned()),
        (Trait::Cpu, format!("sum {by} (rate(container_cpu_usage_seconds_total{{{of_proxy}}}[{w}s]))")),
        (Trait::Memory, format!("max {by} (max_over_time(container_memory_working_set_bytes{{{of_proxy}}}[{w}s]))")),
        (Trait::Throttled, format!("{} / {}", periods("throttled_periods"), periods("periods"))),
        (Trait::Request, resource("requests")),
        (Trait::Limit, resource("limits")),
        (Trait::Denied, format!("sum {by} (increase(envoy_http_rbac{{authz_enforce_result=\"denied\"}}[{w}s]))")),
    ]
    .into_iter()
    .map(|(what, query)| (Question::Proxy(what), query))
}

fn whole(w: u64) -> Vec<(Question, String)> {
    let mut asked = vec![
        (Question::ControlPlane, "max by (tag) (istio_build{component=\"pilot\"})".to_owned()),
        (Question::Root, "min(citadel_server_root_cert_expiry_timestamp) - time()".to_owned()),
        (Question::Rejects, format!("sum(increase(pilot_total_xds_rejects[{w}s]))")),
        (
            Question::Convergence,
            format!("histogram_quantile(0.99, sum by (le) (rate(pilot_proxy_convergence_time_bucket[{w}s])))"),
        ),
        (Question::Targets, "count(up)".to_owned()),
        (Question::TargetsDown, "count(up == 0)".to_owned()),
        (Question::RequestSeries, "count(istio_requests_total)".to_owned()),
        (Question::Spans, format!("sum by (service, span_kind) (increase(traces_spanmetrics_calls_total[{w}s])) > 0")),
        (
            Question::Roots,
            format!(
                "sum by (service) (increase(meshscope_traces_root_spans_total{{span_kind=\"SPAN_KIND_CLIENT\"}}[{w}s])) > 0"
            ),
        ),
    ];
    let missing =
        |label: &'static str| (Question::Missing(label), format!("count(istio_requests_total{{{label}=\"\"}})"));
    asked.extend(STANDARD_LABELS.map(missing));
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_promql() {
        let labels = BTreeSet::from(["request_path".to_owned()]);
        let asked = all(Duration::from_secs(3_600), Duration::from_secs(300), &labels);
        assert!(asked.len() > 40);
        for (question, query) in asked.into_iter().chain(slice(86_400, 0)).chain(slice(86_400, 86_400)) {
            let parsed = crate::promql::parse(&query);
            assert!(parsed.is_ok(), "{question:?}: {query}: {parsed:?}");
        }
    }
}
