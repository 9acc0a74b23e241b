//! Generates Grafana dashboards and the objects that carry them.
//!
//! In: nothing but the field's metric names. Out: [`File`]s: Grafana JSON, or the ConfigMap a Grafana sidecar picks up.
//! The same call always gives the same bytes, so the copies under `dashboards/` can be compared with it.

mod boards;
mod calls;
mod export;
mod frame;
pub mod grafana;
mod panel;
mod recorded;

pub use export::{Error, Export, File, Format, export, prometheus_rule};
pub use recorded::recorded;

/// A dashboard with the name of its file.
#[derive(Clone, Debug)]
pub struct Named {
    /// File name without extension.
    pub name: &'static str,
    /// Name of the ConfigMap that carries it.
    pub config_map: &'static str,
    /// Name of the file in the ConfigMap. Grafana's sidecar writes all into one folder, so no two are equal.
    pub key: &'static str,
    /// The dashboard.
    pub dashboard: grafana::Dashboard,
}

/// Every dashboard meshscope ships.
pub fn all() -> Vec<Named> {
    let named = |name, config_map, key, dashboard| Named { name, config_map, key, dashboard };
    vec![
        // The guide's names.
        named("istio-mesh", "istio-grafana-dashboard", "dashboard.json", boards::mesh()),
        named("service", "meshscope-dashboard-service", "service.json", boards::service()),
        named("workload", "meshscope-dashboard-workload", "workload.json", boards::workload()),
        named("edge", "meshscope-dashboard-edge", "edge.json", boards::edge()),
        named("control-plane", "meshscope-dashboard-control-plane", "control-plane.json", boards::control_plane()),
        named("ambient", "meshscope-dashboard-ambient", "ambient.json", boards::ambient()),
        named("resources", "meshscope-dashboard-resources", "resources.json", boards::resources()),
        named("linkerd", "meshscope-dashboard-linkerd", "linkerd.json", boards::linkerd()),
        named("security", "meshscope-dashboard-security", "security.json", boards::security()),
        named("split", "meshscope-dashboard-split", "split.json", boards::split()),
        named("resilience", "meshscope-dashboard-resilience", "resilience.json", boards::resilience()),
        named("slo", "meshscope-dashboard-slo", "slo.json", boards::slo()),
        named("alerts", "meshscope-dashboard-alerts", "alerts.json", boards::alerts()),
        named("traces", "meshscope-dashboard-traces", "traces.json", boards::traces()),
        named("meshscope", "meshscope-dashboard-meshscope", "meshscope.json", boards::meshscope()),
    ]
}

#[cfg(test)]
mod tests;
