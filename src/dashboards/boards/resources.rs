//! What the mesh itself costs: memory and processors of sidecars, waypoints and ztunnels, for each thousand requests.

use super::super::{
    frame::{Board, any_of},
    grafana::{Dashboard, Panel},
    panel::{blue, lines, stat, table},
};

/// Containers that are the mesh. Native sidecars are among them.
const PROXIES: &str = r#"container=~"istio-proxy|linkerd-proxy", namespace=~"$namespace""#;
const NO_KUBELET: &str = "kubelets (cAdvisor) are not scraped";
const NO_ENVOY: &str = "no proxy is scraped (port 15020)";
const NO_EXTENSION: &str = "no proxy runs a WebAssembly extension";

/// See the module.
pub(in super::super) fn resources() -> Dashboard {
    let mut panels = overview();
    panels.extend(containers());
    panels.extend(envoy());
    panels.extend(extensions());
    Board {
        uid: "meshscope-resources",
        title: "Proxy resource overhead",
        description: "What sidecars, waypoints and ztunnels take, in all and for each thousand requests, and who takes most.",
        tag: "resources",
        page: "/targets",
        variables: vec![any_of(
            ("namespace", "Namespace"),
            "Namespace of the pods",
            "label_values(envoy_server_memory_allocated, namespace)",
        )],
    }
    .with(panels)
}

fn cpu(by: &str) -> String {
    format!("sum by ({by}) (rate(container_cpu_usage_seconds_total{{{PROXIES}}}[$__rate_interval]))")
}

fn overview() -> Vec<Panel> {
    let requests = r#"sum(rate(istio_requests_total{reporter=~"source|waypoint"}[$__rate_interval]))"#;
    vec![
        stat(("Proxies", "Proxies that are scraped."), "none", blue())
            .query(r#"sum(envoy_server_live{namespace=~"$namespace"})"#, "")
            .when_empty(NO_ENVOY),
        stat(("Memory", "What all Envoys allocated."), "bytes", blue())
            .query(r#"sum(envoy_server_memory_allocated{namespace=~"$namespace"})"#, "")
            .when_empty(NO_ENVOY),
        stat(
            ("Memory for 1,000 requests", "Memory of all Envoys by thousand requests a second. Istio states 60 MB."),
            "bytes",
            blue(),
        )
        .query(
            format!(r#"sum(envoy_server_memory_allocated{{namespace=~"$namespace"}}) / (({requests} > 0) / 1000)"#),
            "",
        )
        .when_empty(NO_ENVOY),
        stat(
            ("CPU for 1,000 requests", "Processors of all proxies by thousand requests a second. Istio states 0.20."),
            "short",
            blue(),
        )
        .query(format!("{} / (({requests} > 0) / 1000)", cpu("")), "")
        .when_empty(NO_KUBELET),
    ]
}

fn containers() -> Vec<Panel> {
    vec![
        lines(("CPU of proxies", "Processors that proxies use, by namespace."), "short")
            .query(cpu("namespace"), "{{namespace}}")
            .when_empty(NO_KUBELET),
        lines(("Memory of proxies", "What proxies hold as the kernel counts it, by namespace."), "bytes")
            .query(format!("sum by (namespace) (container_memory_working_set_bytes{{{PROXIES}}})"), "{{namespace}}")
            .when_empty(NO_KUBELET),
        lines(("Share of the pods' CPU", "Processors of proxies as a share of all in their namespaces."), "percentunit")
            .query(
                format!(
                    r#"{} / sum by (namespace) (rate(container_cpu_usage_seconds_total{{container!="", namespace=~"$namespace"}}[$__rate_interval]))"#,
                    cpu("namespace")
                ),
                "{{namespace}}",
            )
            .when_empty(NO_KUBELET),
        lines(("Throttled", "Share of periods in which a proxy wanted more processor than its limit."), "percentunit")
            .query(
                format!(
                    "sum by (namespace) (rate(container_cpu_cfs_throttled_periods_total{{{PROXIES}}}[$__rate_interval])) / sum by (namespace) (rate(container_cpu_cfs_periods_total{{{PROXIES}}}[$__rate_interval]))"
                ),
                "{{namespace}}",
            )
            .when_empty(NO_KUBELET),
    ]
}

/// WebAssembly extensions (WasmPlugin): machines that run, and what was fetched for them.
fn extensions() -> Vec<Panel> {
    let of = |metric: &str| format!(r#"sum by (namespace) (envoy_wasm_{metric}{{namespace=~"$namespace"}})"#);
    vec![
        lines(
            ("Extensions", "WebAssembly machines of proxies, by namespace: those that run and all that were made."),
            "none",
        )
        .query(of("envoy_wasm_runtime_v8_active"), "V8 runs {{namespace}}")
        .query(of("envoy_wasm_runtime_v8_created"), "V8 made {{namespace}}")
        .query(of("envoy_wasm_runtime_null_active"), "built in, runs {{namespace}}")
        .query(of("envoy_wasm_runtime_null_created"), "built in, made {{namespace}}")
        .when_empty(NO_EXTENSION),
        lines(
            (
                "Extensions fetched",
                "Modules that proxies fetched and kept; a failure leaves the extension out, or the traffic.",
            ),
            "none",
        )
        .query(of("remote_load_fetch_successes"), "fetched {{namespace}}")
        .query(of("remote_load_fetch_failures"), "failed {{namespace}}")
        .query(of("remote_load_cache_entries"), "kept {{namespace}}")
        .query(of("remote_load_cache_hits"), "found {{namespace}}")
        .query(of("remote_load_cache_misses"), "not found {{namespace}}")
        .query(of("remote_load_cache_negative_hits"), "known to fail {{namespace}}")
        .when_empty(NO_EXTENSION),
    ]
}

fn envoy() -> Vec<Panel> {
    let of = |metric: &str, by: &str| format!(r#"sum by ({by}) ({metric}{{namespace=~"$namespace"}})"#);
    vec![
        lines(("Memory by namespace", "What Envoys allocated, by namespace."), "bytes")
            .query(of("envoy_server_memory_allocated", "namespace"), "{{namespace}}")
            .when_empty(NO_ENVOY),
        lines(
            (
                "Clusters and listeners",
                "The largest configuration of a proxy, by namespace: Sidecar objects make it smaller, and the proxy with it.",
            ),
            "none",
        )
        .query(r#"max by (namespace) (envoy_cluster_manager_active_clusters{namespace=~"$namespace"})"#, "clusters {{namespace}}")
        .query(
            r#"max by (namespace) (envoy_listener_manager_total_listeners_active{namespace=~"$namespace"})"#,
            "listeners {{namespace}}",
        )
        .when_empty(NO_ENVOY),
        lines(("Scraped samples", "Samples that proxies expose: what metrics cost."), "none")
            .query(of("scrape_samples_scraped", "namespace"), "{{namespace}}")
            .when_empty(NO_ENVOY),
        lines(("Start", "Seconds a proxy's agent needed to be ready, the slowest by namespace."), "s")
            .query(r#"max by (namespace) (istio_agent_startup_duration_seconds{namespace=~"$namespace"})"#, "{{namespace}}")
            .when_empty(NO_ENVOY),
        table(("Largest proxies", "The 25 proxies with most memory, with their uptime and clusters."))
            .row(format!("topk(25, {})", of("envoy_server_memory_allocated", "namespace, pod")))
            .row(format!(
                "{} and topk(25, {})",
                of("envoy_server_uptime", "namespace, pod"),
                of("envoy_server_memory_allocated", "namespace, pod")
            ))
            .row(format!(
                "{} and topk(25, {})",
                of("envoy_cluster_manager_active_clusters", "namespace, pod"),
                of("envoy_server_memory_allocated", "namespace, pod")
            ))
            .column("Value #A", "Memory", "bytes")
            .column("Value #B", "Up for", "s")
            .column("Value #C", "Clusters", "none")
            .column("namespace", "Namespace", "string")
            .column("pod", "Pod", "string"),
    ]
}
