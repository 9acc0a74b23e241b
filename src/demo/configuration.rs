//! The files that point meshscope at the simulated mesh: configuration, targets, rules, declared resources.
//!
//! In: a started [`World`]. Out: texts with its addresses in them. The alert pack and the guide's rule are those of
//! `alerts/`, compiled in, so the demo needs no checkout.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{resources, topology::Pod, world::World};

const PACK: &str = include_str!("../../alerts/istio.yaml");
const GUIDE: &str = include_str!("../../alerts/examples/guide.yaml");
const RULES: &str = include_str!("rules.yaml");
const RESOURCES: &str = include_str!("mesh.yaml");
/// The VirtualService of the fault injection that is left on: declared while that incident lasts.
pub const FAULT: &str = include_str!("fault.yaml");

/// Where [`FAULT`] lies while its incident lasts.
pub(super) fn fault_file(world: &World) -> PathBuf {
    world.resources_directory().join("recommendation-fault.yaml")
}

/// The whole text of a `meshscope.yaml` for the simulated mesh: scrape, rules, route and receivers. It sets no listen
/// address and no storage; whoever writes it to a file may append those blocks.
pub fn configuration(world: &World) -> String {
    let rules = world.directory().join("rules");
    // A JSON string is a YAML double-quoted scalar, whatever the path holds.
    let quoted = |text: &str| Value::from(text).to_string();
    let path = |path: PathBuf| quoted(&path.to_string_lossy());
    format!(
        r#"# Written by `meshscope demo`: the simulated mesh, scraped and alerted on as a real one would be.
global:
  scrape_interval: 5s
  scrape_timeout: 4s
  evaluation_interval: 5s
  external_labels:
    mesh: demo

scrape_configs:
- job_name: istio-proxies
  honor_labels: true
  file_sd_configs:
  - files:
    - {targets}

# What is declared for the mesh: an incident changes it, and the page of changes and the alerts say so.
mesh:
  declared:
    files: [{resources}]
    file_interval: 2s
# It is compared with the traffic: /api/mesh/v1/audit.
audit:
  interval: 30s
  window: 10m
  dead_after: 10m # a mesh that lives for minutes has no week to look back on

rule_files:
- {demo_rules}
- {pack}
# The alert of the guide as it stands: it compares a counter that never falls, so it fires for ever, five minutes after
# the first failure. Compare it with the others on the page of alerts.
- {guide}

# Three objectives; the incidents burn the budgets of the first two.
slos:
- name: shop-availability
  description: Calls to the services of the shop do not fail.
  owner: shop
  objective: 99.9
  service: shop/*
- name: payment-latency
  description: Payments are answered within half a second.
  owner: payments
  objective: 99
  window: 28d
  service: payments/*
  indicator:
    latency: {{threshold: 500ms}}
- name: shop-to-fulfilment
  description: What is bought is ordered.
  owner: fulfilment
  objective: 99.5
  edge: shop/* -> fulfilment/*

route:
  receiver: terminal
  group_by: [alertname]
  group_wait: 5s
  group_interval: 15s
  repeat_interval: 1h
  routes:
  # Once a series counted a failure it stays in this alert, and each new one joins: at most every five minutes.
  - receiver: terminal
    matchers:
    - alertname = "HighErrorRate"
    group_interval: 5m
  # The shipped pack judges five minutes and waits five more, so it speaks when these short incidents are over. It is on
  # the page of alerts; in a real mesh it goes to people.
  - receiver: nobody
    matchers:
    - alertname =~ "Istio.+|ErrorBudgetBurnSlow"

receivers:
- name: terminal
  webhook_configs:
  - url: {webhook}
    send_resolved: true
- name: nobody
"#,
        resources = path(world.resources_directory()),
        targets = path(world.targets_file()),
        demo_rules = path(rules.join("demo.yaml")),
        pack = path(rules.join("istio.yaml")),
        guide = path(rules.join("guide.yaml")),
        webhook = quoted(&world.webhook_url()),
    )
}

/// What the simulated mesh declares, as YAML: Istio's objects, then those of Kubernetes.
pub fn declared() -> [String; 2] {
    [RESOURCES.to_owned(), resources::kubernetes()]
}

/// Every file the configuration names, and the declared resources, with their contents.
pub(super) fn files(world: &World) -> Vec<(PathBuf, String)> {
    let rules = world.directory().join("rules");
    vec![
        (world.targets_file(), targets(world)),
        (rules.join("demo.yaml"), RULES.to_owned()),
        (rules.join("istio.yaml"), PACK.to_owned()),
        (rules.join("guide.yaml"), rule_file(GUIDE)),
        (world.resources_directory().join("mesh.yaml"), RESOURCES.to_owned()),
        (world.resources_directory().join("kubernetes.yaml"), resources::kubernetes()),
    ]
}

/// `file_sd` JSON: one group for each pod, all at one address, told apart by path; `instance` says the address the pod
/// would have in a cluster.
fn targets(world: &World) -> String {
    let simulation = world.simulation();
    let simulation = simulation.lock();
    let groups: Vec<Value> = simulation
        .pods()
        .iter()
        .map(|pod| json!({ "targets": [world.address().to_string()], "labels": target_labels(pod) }))
        .collect();
    format!("{:#}\n", Value::from(groups))
}

fn target_labels(pod: &Pod) -> Map<String, Value> {
    let mut labels = Map::new();
    let mut set = |name: &str, value: String| labels.insert(name.to_owned(), value.into());
    set("__metrics_path__", format!("/pods/{}/stats/prometheus", pod.name));
    set("instance", format!("{}:15020", pod.ip));
    set("namespace", pod.workload.namespace.to_owned());
    set("pod", pod.name.clone());
    set("node", pod.node.clone());
    set("app", pod.workload.app.to_owned());
    if let Some(version) = pod.workload.version {
        set("version", version.to_owned());
    }
    labels
}

/// A PrometheusRule's `spec` as a plain rule file: the lines under `spec:`, two columns to the left.
fn rule_file(object: &str) -> String {
    object
        .lines()
        .skip_while(|line| *line != "spec:")
        .skip(1)
        .flat_map(|line| [line.strip_prefix("  ").unwrap_or(line), "\n"])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_rule_becomes_a_rule_file() {
        assert!(rule_file(GUIDE).starts_with("groups:\n- name: mesh\n  rules:\n  - alert: HighErrorRate\n"));
        assert!(rule_file(GUIDE).contains(r#"expr: istio_requests_total{response_code=~"5.*"} > 0.1"#));
    }

    #[test]
    fn first_alert_can_be_delivered_within_five_minutes() {
        // Start of the incident, the rate's window, `for`, and the route's waits: the slowest sum of what is written.
        let first = super::super::incidents::INCIDENTS[0].starts.as_secs();
        assert!(RULES.contains("for: 30s") && RULES.contains("[1m]"));
        assert!(first + 60 + 30 + 5 + 5 + 5 < 300);
    }
}
