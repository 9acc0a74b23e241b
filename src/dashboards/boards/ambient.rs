//! Ambient mode: what ztunnels carry (connections) and what waypoints serve (requests). Never added: a call through a
//! waypoint is seen by both layers.

use super::super::{
    calls::Calls,
    frame::{Board, any_of},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bad_below, blue, lines, stat},
};

const NO_ZTUNNEL: &str = "no ztunnel is scraped (port 15020)";
const NO_WAYPOINT: &str = "no waypoint reports: is one scraped (port 15020)?";
/// What ztunnels count at the client's node. They are told by the names of their pods, which every scrape configuration
/// adds; the label `app` is there only where the labels of pods are copied.
const FROM_CLIENTS: &str = r#"pod=~"ztunnel-.*", reporter="source", destination_cluster=~"$cluster", destination_service_namespace=~"$namespace""#;
/// And at the server's.
const AT_SERVERS: &str = r#"pod=~"ztunnel-.*", reporter="destination", destination_cluster=~"$cluster", destination_workload_namespace=~"$namespace""#;
const WAYPOINT: &str =
    r#"reporter="waypoint", destination_cluster=~"$cluster", destination_service_namespace=~"$namespace""#;

/// See the module.
pub(in super::super) fn ambient() -> Dashboard {
    let mut panels: Vec<Panel> = overview();
    panels.extend(ztunnel());
    let mut panels: Vec<Panel> = panels.into_iter().map(|panel| panel.when_empty(NO_ZTUNNEL)).collect();
    panels.extend(waypoint().into_iter().map(|panel| panel.when_empty(NO_WAYPOINT)));
    Board {
        uid: "meshscope-ambient",
        title: "Ztunnel and waypoint",
        description: "Ambient mode: connections that ztunnels carry, requests that waypoints serve, what is denied or fails.",
        tag: "ambient",
        page: "/graph",
        variables: vec![
            any_of(
                ("cluster", "Cluster"),
                "Cluster of the called workload",
                "label_values(istio_tcp_connections_opened_total, destination_cluster)",
            ),
            any_of(
                ("namespace", "Namespace"),
                "Namespace of the called service",
                "label_values(istio_tcp_connections_opened_total, destination_service_namespace)",
            ),
        ],
    }
    .with(panels)
}

fn tcp(counter: &str, matchers: &str, by: &str) -> String {
    let sum = if by.is_empty() { "sum".to_owned() } else { format!("sum by ({by})") };
    format!("{sum} (rate({counter}{{{matchers}}}[$__rate_interval]))")
}

fn overview() -> Vec<Panel> {
    let (opened, failed) = ("istio_tcp_connections_opened_total", "istio_tcp_connections_failed_total");
    let all = tcp(opened, AT_SERVERS, "");
    let secured = tcp(opened, &format!(r#"{AT_SERVERS}, connection_security_policy="mutual_tls""#), "");
    vec![
        stat(("Ztunnels", "Ztunnels that are scraped."), "none", blue())
            .query(r#"sum(istio_build{component="ztunnel"})"#, ""),
        stat(("Connections", "Connections opened a second."), "ops", blue()).query(tcp(opened, FROM_CLIENTS, ""), ""),
        stat(("Failed", "Connections that could not be made, a second."), "ops", bad_above(0.001, 1.0))
            .query(tcp(failed, FROM_CLIENTS, ""), ""),
        stat(("mTLS share", "Share of connections that arrive over HBONE."), "percentunit", bad_below(0.95, 1.0))
            .query(format!("({secured} or 0 * {all}) / {all}"), ""),
    ]
}

fn ztunnel() -> Vec<Panel> {
    let edge = "source_workload, destination_service_name";
    let name = "{{source_workload}} {{destination_service_name}}";
    vec![
        lines(("Connections by edge", "Connections opened a second, as the client's ztunnel counts them."), "ops")
            .query(tcp("istio_tcp_connections_opened_total", FROM_CLIENTS, edge), name),
        lines(("Failed by reason", "Connections that could not be made, by response flag: DENY is a policy."), "ops")
            .query(
                tcp("istio_tcp_connections_failed_total", FROM_CLIENTS, "response_flags, destination_service_name"),
                "{{response_flags}} {{destination_service_name}}",
            ),
        lines(("Denied at the server", "Connections that a policy denied, by caller."), "ops").query(
            tcp(
                "istio_tcp_connections_failed_total",
                &format!(r#"{AT_SERVERS}, response_flags=~"DENY|NETWORK_POLICY""#),
                "source_workload, destination_workload",
            ),
            "{{source_workload}} {{destination_workload}}",
        ),
        lines(("Bytes", "Bytes a second that ztunnels carry; received is what clients sent."), "Bps")
            .query(
                tcp("istio_tcp_received_bytes_total", FROM_CLIENTS, "destination_service_name"),
                "received {{destination_service_name}}",
            )
            .query(
                tcp("istio_tcp_sent_bytes_total", FROM_CLIENTS, "destination_service_name"),
                "sent {{destination_service_name}}",
            ),
        lines(("DNS", "Names that ztunnels were asked, a second."), "ops")
            .query("sum by (pod) (rate(istio_dns_requests_total[$__rate_interval]))", "{{pod}}"),
        lines(("Control plane", "Streams to istiod that ended, a second, by reason."), "ops")
            .query("sum by (reason) (rate(istio_xds_connection_terminations_total[$__rate_interval]))", "{{reason}}"),
        lines(("Proxies in ztunnel", "Workloads that each ztunnel serves."), "none")
            .query("sum by (pod) (workload_manager_active_proxy_count)", "{{pod}}"),
        lines(("Memory of ztunnels", "What each ztunnel holds."), "bytes").query(
            r#"sum by (pod) (container_memory_working_set_bytes{pod=~"ztunnel-.*", container="istio-proxy"})"#,
            "{{pod}}",
        ),
    ]
}

fn waypoint() -> Vec<Panel> {
    // The reporter is in the matchers: a waypoint's report alone, whatever sidecars say.
    const CALLS: Calls = Calls::only(WAYPOINT);
    let service = "destination_service_name, destination_service_namespace";
    let name = "{{destination_service_name}}.{{destination_service_namespace}}";
    vec![
        lines(("Waypoint requests", "Requests a second that waypoints serve, by service."), "reqps")
            .query(CALLS.requests(service), name),
        lines(("Waypoint errors", "Share of them that failed."), "percentunit").query(CALLS.error_share(service), name),
        lines(("Waypoint latency", "95th percentile, by service."), "ms").query(CALLS.quantile("0.95", service), name),
        lines(("Waypoint flags", "Why waypoints refused, lost or changed calls."), "reqps").query(
            CALLS.rate("istio_requests_total", r#"response_flags!="-""#, "response_flags, destination_service_name"),
            "{{response_flags}} {{destination_service_name}}",
        ),
    ]
}
