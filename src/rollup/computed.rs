//! Edges from increments that were computed elsewhere: by an engine that holds the counters and adds them up.
//!
//! In: a metric's name, labels and what the series rose by in a window. Out: one sum for each edge and window, with the
//! same edges, outcomes and buckets as increments counted here. Invariant: what counts no traffic of an edge is left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Counted, Counting, counting};
use crate::model::workload::{EdgeKey, LatencyHistogram, Outcome};
use crate::model::{EdgeMinute, Labels, Timestamp};

/// Labels that tell the edge of one of Istio's series.
const ISTIO: &str = "reporter, request_protocol, source_cluster, source_workload, source_workload_namespace, \
    source_canonical_service, source_app, source_canonical_revision, source_version, source_principal, \
    destination_cluster, destination_workload, destination_workload_namespace, destination_canonical_service, \
    destination_app, destination_canonical_revision, destination_version, destination_principal, destination_service, \
    destination_service_name, destination_service_namespace, connection_security_policy";
/// And of Linkerd's.
const LINKERD: &str = "direction, peer, cluster, namespace, deployment, statefulset, daemonset, rollout, cronjob, k8s_job, \
    job_name, replicationcontroller, replicaset, dst_deployment, dst_statefulset, dst_daemonset, dst_rollout, \
    dst_cronjob, dst_job, dst_replicationcontroller, dst_replicaset, dst_service, dst_namespace, authority, target_addr, \
    target_port, server_id, client_id, tls, authz_name, route_name, app_kubernetes_io_name, app, k8s_app, \
    app_kubernetes_io_version, version";

/// Sums of edges in the making.
#[derive(Default)]
pub struct Computed {
    cells: HashMap<(Timestamp, EdgeKey), Cell>,
}

#[derive(Default)]
struct Cell {
    requests: HashMap<Outcome, f64>,
    /// Cumulative, by the bound's bits: bounds are not negative, so bits rise with them.
    buckets: BTreeMap<u64, f64>,
    rest: Rest,
}

#[derive(Default)]
struct Rest {
    latency_sum_ms: f64,
    request_bytes: f64,
    response_bytes: f64,
    request_messages: f64,
    response_messages: f64,
    closed: f64,
}

impl Computed {
    /// The metrics that count traffic of edges, Istio's and Linkerd's.
    pub const METRICS: [&str; 18] = [
        "istio_requests_total",
        "istio_request_duration_milliseconds_bucket",
        "istio_request_duration_milliseconds_sum",
        "istio_request_bytes_sum",
        "istio_response_bytes_sum",
        "istio_request_messages_total",
        "istio_response_messages_total",
        "istio_tcp_received_bytes_total",
        "istio_tcp_sent_bytes_total",
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
        "response_total",
        "response_latency_ms_bucket",
        "response_latency_ms_sum",
        "tcp_open_total",
        "tcp_close_total",
        "tcp_read_bytes_total",
        "tcp_write_bytes_total",
    ];

    /// The PromQL of what the edges of a metric rose by in a range, with all labels that [`Computed::add`] reads.
    pub fn query(metric: &str, range: Duration) -> String {
        let edge = if metric.starts_with("istio_") { ISTIO } else { LINKERD };
        let more = match metric {
            "istio_requests_total" => ", response_code, grpc_response_status, response_flags",
            "istio_tcp_connections_closed_total" => ", response_flags",
            "response_total" => ", status_code, grpc_status, grpc_status_code, classification, error",
            "tcp_close_total" => ", errno",
            _ if metric.ends_with("_bucket") => ", le",
            _ => "",
        };
        // An empty bucket counts: without it the next one's lower bound would not be known.
        let only = if metric.ends_with("_bucket") { "" } else { " > 0" };
        format!("sum by ({edge}{more}) (increase({metric}[{}ms])){only}", range.as_millis())
    }

    /// Adds what a series of these labels, its name among them, rose by in the window that begins at `window`.
    pub fn add(&mut self, window: Timestamp, labels: &Labels, increment: f64) {
        let Some(Counting { edge, counted }) = counting(labels) else { return };
        if !increment.is_finite() || increment < 0.0 {
            return;
        }
        let cell = self.cells.entry((window, edge)).or_default();
        match counted {
            Counted::Requests(outcome) => *cell.requests.entry(outcome).or_default() += increment,
            Counted::LatencyBucket(bound) if bound >= 0.0 => {
                *cell.buckets.entry(bound.to_bits()).or_default() += increment
            }
            Counted::LatencyBucket(_) => {}
            Counted::LatencySum => cell.rest.latency_sum_ms += increment,
            Counted::RequestBytes => cell.rest.request_bytes += increment,
            Counted::ResponseBytes => cell.rest.response_bytes += increment,
            Counted::RequestMessages => cell.rest.request_messages += increment,
            Counted::ResponseMessages => cell.rest.response_messages += increment,
            Counted::Closed(outcome) => {
                cell.rest.closed += increment;
                if let Some(outcome) = outcome {
                    *cell.requests.entry(outcome).or_default() += increment;
                }
            }
        }
    }

    /// The sums of all edges that did anything, by window.
    pub fn into_sums(self) -> Vec<EdgeMinute> {
        let mut sums: Vec<EdgeMinute> =
            self.cells.into_iter().filter_map(|((window, edge), cell)| sum(window, edge, cell)).collect();
        sums.sort_by_key(|sum| sum.minute);
        sums
    }
}

fn sum(window: Timestamp, edge: EdgeKey, Cell { requests, buckets, rest }: Cell) -> Option<EdgeMinute> {
    let mut requests: Vec<(Outcome, f64)> = requests.into_iter().filter(|(_, count)| *count > 0.0).collect();
    requests.sort_by(|(a, _), (b, _)| (&a.code, &a.grpc_status, &a.flags).cmp(&(&b.code, &b.grpc_status, &b.flags)));
    let latency = histogram(&buckets, rest.latency_sum_ms);
    let Rest { latency_sum_ms: _, request_bytes, response_bytes, request_messages, response_messages, closed } = rest;
    let others = request_bytes + response_bytes + request_messages + response_messages + closed;
    let did_something = !requests.is_empty() || latency.counts.iter().any(|count| *count > 0.0) || others > 0.0;
    did_something.then(|| EdgeMinute {
        requests,
        latency,
        request_bytes,
        response_bytes,
        request_messages,
        response_messages,
        connections_closed: closed,
        ..EdgeMinute::empty(window, edge)
    })
}

/// Counts between bounds, of counts up to them. What is said of no bound but `+Inf` says nothing of latency.
fn histogram(buckets: &BTreeMap<u64, f64>, sum_ms: f64) -> LatencyHistogram {
    let bounds_ms: Arc<[f64]> =
        buckets.keys().map(|bits| f64::from_bits(*bits)).filter(|bound| bound.is_finite()).collect();
    let total = buckets.get(&f64::INFINITY.to_bits());
    let (Some(_), false) = (total, bounds_ms.is_empty()) else {
        return LatencyHistogram { sum_ms, ..LatencyHistogram::default() };
    };
    let mut before = 0.0_f64;
    let counts = buckets.values().map(|upto| {
        // Extrapolated bucket by bucket, so a difference may come out below zero.
        let part = (upto - before).max(0.0);
        before = before.max(*upto);
        part
    });
    LatencyHistogram { counts: counts.collect(), bounds_ms, sum_ms }
}

#[cfg(test)]
mod tests {
    use super::super::{istio, linkerd};
    use super::*;

    fn istio_labels(metric: &str, more: &[(&str, &str)]) -> Labels {
        let edge = [
            ("__name__", metric),
            ("reporter", "source"),
            ("source_workload", "web"),
            ("source_workload_namespace", "shop"),
            ("destination_workload", "api"),
            ("destination_workload_namespace", "shop"),
            ("destination_service_name", "api"),
            ("destination_service_namespace", "shop"),
            ("request_protocol", "http"),
        ];
        Labels::from_pairs(edge.into_iter().chain(more.iter().copied()))
    }

    #[test]
    fn increments_make_the_edges_that_counting_here_makes() {
        let at = Timestamp::from_millis(60_000);
        let mut computed = Computed::default();
        let requests = |code| istio_labels("istio_requests_total", &[("response_code", code), ("response_flags", "-")]);
        computed.add(at, &requests("200"), 90.0);
        computed.add(at, &requests("503"), 10.0);
        computed.add(at, &requests("404"), f64::NAN);
        for (bound, upto) in [("0.5", 0.0), ("5", 60.0), ("10", 99.0), ("+Inf", 100.0)] {
            let labels = istio_labels("istio_request_duration_milliseconds_bucket", &[("le", bound)]);
            computed.add(at, &labels, upto);
        }
        computed.add(at, &istio_labels("istio_request_duration_milliseconds_sum", &[]), 450.0);
        computed.add(at, &istio_labels("istio_request_bytes_sum", &[]), 5000.0);
        computed.add(at, &Labels::from_pairs([("__name__", "up")]), 1.0);
        let sums = computed.into_sums();
        assert_eq!(sums.len(), 1, "{sums:?}");
        let sum = &sums[0];
        assert_eq!((sum.minute, sum.latency.total(), sum.request_bytes), (at, 100.0, 5000.0));
        assert_eq!(sum.edge.source.name.as_deref(), Some("web"));
        assert_eq!(sum.edge.service.name.as_deref(), Some("api"));
        let outcomes: Vec<(&str, f64)> = sum.requests.iter().map(|(outcome, count)| (&*outcome.code, *count)).collect();
        assert_eq!(outcomes, [("200", 90.0), ("503", 10.0)]);
        assert_eq!(
            (&sum.latency.bounds_ms[..], &sum.latency.counts[..]),
            (&[0.5, 5.0, 10.0][..], &[0.0, 60.0, 39.0, 1.0][..])
        );
        assert_eq!(sum.latency.sum_ms, 450.0);
    }

    #[test]
    fn an_edge_that_did_nothing_is_none() {
        let mut computed = Computed::default();
        let idle = istio_labels("istio_request_duration_milliseconds_bucket", &[("le", "+Inf")]);
        computed.add(Timestamp::from_millis(0), &idle, 0.0);
        assert_eq!(computed.into_sums(), []);
    }

    #[test]
    fn every_metric_that_is_counted_is_asked_for_in_promql_that_reads_its_labels() {
        let istio = istio::COUNTED.iter().map(|name| format!("istio_{name}"));
        let all: Vec<String> = istio.chain(linkerd::COUNTED.iter().map(|name| (*name).to_owned())).collect();
        assert_eq!(all, Computed::METRICS);
        for metric in all {
            let query = Computed::query(&metric, Duration::from_secs(300));
            assert!(query.contains(&format!("(increase({metric}[300000ms]))")), "{query}");
        }
    }
}
