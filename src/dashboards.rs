//! Generates Grafana dashboards and the objects that carry them.
//!
//! In: nothing but the field's metric names. Out: [`File`]s: Grafana JSON, the ConfigMap a Grafana sidecar picks up, a
//! folder to provision Grafana with, or objects of the Grafana operator. The same call always gives the same bytes, so the
//! copies under `dashboards/` can be compared with it.

mod boards;
mod calls;
mod choice;
mod export;
mod frame;
pub mod grafana;
mod panel;
mod recorded;
mod sources;

pub use choice::{Mesh, Source};
pub use export::{Error, Export, File, Format, chosen, export, export_one, prometheus_rule};
pub use recorded::recorded;
pub use sources::Addresses;

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
    /// The meshes that it shows something of.
    pub meshes: &'static [Mesh],
    /// Whether it shows something only of meshscope, not of a Prometheus that scrapes the same mesh.
    pub needs_meshscope: bool,
}

/// Every dashboard meshscope ships.
pub fn all() -> Vec<Named> {
    use choice::{AMBIENT, ANY, ISTIO, LINKERD};
    let of = |name, config_map, key, meshes, dashboard| Named {
        name,
        config_map,
        key,
        dashboard,
        meshes,
        needs_meshscope: false,
    };
    let own = |named| Named { needs_meshscope: true, ..named };
    vec![
        // The guide's names.
        of("istio-mesh", "istio-grafana-dashboard", "dashboard.json", ISTIO, boards::mesh()),
        of("service", "meshscope-dashboard-service", "service.json", ISTIO, boards::service()),
        of("workload", "meshscope-dashboard-workload", "workload.json", ISTIO, boards::workload()),
        of("edge", "meshscope-dashboard-edge", "edge.json", ISTIO, boards::edge()),
        of("control-plane", "meshscope-dashboard-control-plane", "control-plane.json", ISTIO, boards::control_plane()),
        of("ambient", "meshscope-dashboard-ambient", "ambient.json", AMBIENT, boards::ambient()),
        of("resources", "meshscope-dashboard-resources", "resources.json", ANY, boards::resources()),
        of("linkerd", "meshscope-dashboard-linkerd", "linkerd.json", LINKERD, boards::linkerd()),
        of("security", "meshscope-dashboard-security", "security.json", ISTIO, boards::security()),
        of("split", "meshscope-dashboard-split", "split.json", ISTIO, boards::split()),
        of("resilience", "meshscope-dashboard-resilience", "resilience.json", ISTIO, boards::resilience()),
        of("slo", "meshscope-dashboard-slo", "slo.json", ANY, boards::slo()),
        of("alerts", "meshscope-dashboard-alerts", "alerts.json", ANY, boards::alerts()),
        of("traces", "meshscope-dashboard-traces", "traces.json", ANY, boards::traces()),
        own(of("meshscope", "meshscope-dashboard-meshscope", "meshscope.json", ANY, boards::meshscope())),
        own(of("sql", "meshscope-dashboard-sql", "sql.json", ANY, boards::sql())),
    ]
}

#[cfg(test)]
mod tests;
