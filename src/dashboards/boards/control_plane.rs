//! Istio's control plane: does it reach the proxies, how fast, what is rejected, and what does it take.

use super::super::{
    frame::{Board, any_of},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bad_below, blue, heatmap, lines, stat},
};

const NONE: &str = "istiod is not scraped (port 15014)";

/// See the module.
pub(in super::super) fn control_plane() -> Dashboard {
    let mut panels = overview();
    panels.extend(pushes());
    panels.extend(validation());
    panels.extend(resources());
    let panels = panels.into_iter().map(|panel| panel.when_empty(NONE)).collect();
    Board {
        uid: "meshscope-control-plane",
        title: "Istio control plane",
        description: "Does istiod reach the proxies, how fast, what do they reject, and what does it take.",
        tag: "istio",
        page: "/status",
        variables: vec![any_of(("pod", "istiod"), "Pods of istiod", "label_values(pilot_xds, pod)")],
    }
    .with(panels)
}

fn sum(expr: &str) -> String {
    format!(r#"sum ({expr}{{pod=~"$pod"}})"#)
}

fn rate(counter: &str, by: &str) -> String {
    format!(r#"sum by ({by}) (rate({counter}{{pod=~"$pod"}}[$__rate_interval]))"#)
}

fn quantile(histogram: &str, quantile: &str) -> String {
    format!("histogram_quantile({quantile}, {})", rate(&format!("{histogram}_bucket"), "le"))
}

fn overview() -> Vec<Panel> {
    vec![
        stat(("Connected proxies", "Proxies that hold a stream to istiod."), "none", blue())
            .query(sum("pilot_xds"), ""),
        stat(
            ("Convergence p99", "How long until a change reached the slowest of a hundred proxies."),
            "s",
            bad_above(10.0, 30.0),
        )
        .query(quantile("pilot_proxy_convergence_time", "0.99"), ""),
        stat(
            ("Rejected by proxies", "Configuration that proxies refuse now, a second: they keep what they had."),
            "ops",
            bad_above(0.001, 0.1),
        )
        .query(format!("sum ({})", rate("pilot_total_xds_rejects", "type")), ""),
        stat(
            ("Root certificate", "Seconds until the root certificate expires: all proxies lose mutual TLS with it."),
            "s",
            bad_below(2_592_000.0, 7_776_000.0),
        )
        .query(r#"min(citadel_server_root_cert_expiry_timestamp{pod=~"$pod"}) - time()"#, ""),
    ]
}

fn pushes() -> Vec<Panel> {
    vec![
        lines(("Pushes by type", "Configuration sent to proxies, a second, by kind of resource."), "ops")
            .query(rate("pilot_xds_pushes", "type"), "{{type}}"),
        lines(("Push triggers", "Why istiod pushes, a second."), "ops")
            .query(rate("pilot_push_triggers", "type"), "{{type}}"),
        lines(("Events", "Changes that istiod read, a second: of configuration and of services."), "ops")
            .query(rate("pilot_k8s_cfg_events", "type, event"), "{{event}} {{type}}")
            .query(rate("pilot_k8s_reg_events", "type, event"), "{{event}} {{type}}")
            .query(rate("pilot_push_triggers", "type"), "push {{type}}"),
        lines(("Convergence", "From a change to the proxy that has it."), "s")
            .query(quantile("pilot_proxy_convergence_time", "0.50"), "p50")
            .query(quantile("pilot_proxy_convergence_time", "0.99"), "p99")
            .query(quantile("pilot_proxy_queue_time", "0.99"), "queue p99"),
        heatmap(("Push time", "How long pushes took."), "s").query(rate("pilot_xds_push_time_bucket", "le"), "{{le}}"),
        heatmap(("Push size", "How large pushed configuration is: narrow it with Sidecar objects."), "bytes")
            .query(rate("pilot_xds_config_size_bytes_bucket", "le"), "{{le}}"),
    ]
}

fn validation() -> Vec<Panel> {
    vec![
        lines(
            ("Rejects and internal errors", "Configuration that proxies refuse, and errors in istiod, a second."),
            "ops",
        )
        .query(rate("pilot_total_xds_rejects", "type"), "rejected {{type}}")
        .query(rate("pilot_total_xds_internal_errors", "pod"), "internal error {{pod}}"),
        lines(("Validation", "Objects that istiod's webhook judged, a second."), "ops")
            .query(rate("galley_validation_passed", "group, resource"), "passed {{group}} {{resource}}")
            .query(rate("galley_validation_failed", "group, resource, reason"), "failed {{resource}} {{reason}}"),
        lines(("Conflicts", "Objects that contradict each other, as istiod counts them now."), "none")
            .query(sum("pilot_vservice_dup_domain"), "VirtualServices with one domain")
            .query(sum("pilot_conflict_inbound_listener"), "inbound listeners")
            .query(sum("pilot_duplicate_envoy_clusters"), "clusters")
            .query(sum("pilot_eds_no_instances"), "clusters without endpoints"),
        lines(("Injection", "Pods that got a proxy, and that did not, a second."), "ops")
            .query(rate("sidecar_injection_success_total", "pod"), "success {{pod}}")
            .query(rate("sidecar_injection_failure_total", "pod"), "failure {{pod}}")
            .query(rate("sidecar_injection_skip_total", "pod"), "skipped {{pod}}"),
        lines(("Certificates signed", "Certificates asked of istiod, and refused, a second."), "ops")
            .query(rate("citadel_server_csr_count", "pod"), "asked {{pod}}")
            .query(rate("citadel_server_success_cert_issuance_count", "pod"), "issued {{pod}}")
            .query(rate("citadel_server_authentication_failure_count", "pod"), "refused {{pod}}"),
        lines(("Versions", "istiods by version."), "none")
            .query(r#"sum by (tag) (istio_build{component="pilot"})"#, "{{tag}}"),
    ]
}

fn resources() -> Vec<Panel> {
    let container = r#"container="discovery", pod=~"$pod""#;
    vec![
        lines(("CPU", "Processors that istiod uses, by pod."), "short")
            .query(
                format!("sum by (pod) (rate(container_cpu_usage_seconds_total{{{container}}}[$__rate_interval]))"),
                "{{pod}}",
            )
            .query(rate("process_cpu_seconds_total", "pod"), "by itself {{pod}}"),
        lines(("Memory", "What istiod holds, by pod: as the kernel and as Go count it."), "bytes")
            .query(format!("sum by (pod) (container_memory_working_set_bytes{{{container}}})"), "container {{pod}}")
            .query(r#"sum by (pod) (go_memstats_heap_alloc_bytes{pod=~"$pod", pod=~"istiod-.*"})"#, "heap {{pod}}")
            .query(
                r#"sum by (pod) (go_memstats_heap_inuse_bytes{pod=~"$pod", pod=~"istiod-.*"})"#,
                "heap in use {{pod}}",
            )
            .query(r#"sum by (pod) (go_memstats_stack_inuse_bytes{pod=~"$pod", pod=~"istiod-.*"})"#, "stacks {{pod}}"),
        lines(("Allocations", "Bytes that istiod allocates, a second."), "Bps").query(
            r#"sum by (pod) (rate(go_memstats_alloc_bytes_total{pod=~"$pod", pod=~"istiod-.*"}[$__rate_interval]))"#,
            "{{pod}}",
        ),
        lines(("Objects allocated", "Objects that istiod allocates, a second."), "ops").query(
            r#"sum by (pod) (rate(go_memstats_mallocs_total{pod=~"$pod", pod=~"istiod-.*"}[$__rate_interval]))"#,
            "{{pod}}",
        ),
        lines(("Streams of proxies", "Connections to istiod that proxies hold, as they count them."), "none")
            .query(r#"sum(envoy_cluster_upstream_cx_active{cluster_name="xds-grpc"})"#, "connections"),
        lines(("Goroutines", "Goroutines of istiod: a steady rise is a leak."), "none")
            .query(r#"sum by (pod) (go_goroutines{pod=~"$pod", pod=~"istiod-.*"})"#, "{{pod}}"),
    ]
}
