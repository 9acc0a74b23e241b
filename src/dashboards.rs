//! Generates Grafana dashboards and the objects that carry them.
//!
//! In: nothing but the field's metric names. Out: [`File`]s: Grafana JSON, or the ConfigMap a Grafana sidecar picks up.
//! The same call always gives the same bytes, so the copies under `dashboards/` can be compared with it.

mod export;
pub mod grafana;
mod mesh;
mod recorded;

pub use export::{Error, Export, File, Format, export, prometheus_rule};
pub use mesh::mesh;
pub use recorded::recorded;

/// A dashboard with the name of its file.
#[derive(Clone, Debug)]
pub struct Named {
    /// File name without extension.
    pub name: &'static str,
    /// Name of the ConfigMap that carries it.
    pub config_map: &'static str,
    /// The dashboard.
    pub dashboard: grafana::Dashboard,
}

/// Every dashboard meshscope ships.
pub fn all() -> Vec<Named> {
    vec![Named { name: "istio-mesh", config_map: "istio-grafana-dashboard", dashboard: mesh() }]
}

#[cfg(test)]
mod tests;
