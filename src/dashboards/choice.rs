//! Which boards somebody wants, and how they fit the mesh and the data source that is there.
//!
//! In: a mesh, a data source. Out: the [`Named`] boards that concern them, with fitting defaults. Queries stay as they are.

use super::Named;
use super::grafana::{Choice, Dashboard, Variable};

/// A kind of mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mesh {
    /// Istio with sidecars.
    Istio,
    /// Istio's ambient mode: ztunnels and waypoints.
    Ambient,
    /// Linkerd.
    Linkerd,
}

/// Istio's, with or without sidecars.
pub(super) const ISTIO: &[Mesh] = &[Mesh::Istio, Mesh::Ambient];
/// Of ambient mode alone.
pub(super) const AMBIENT: &[Mesh] = &[Mesh::Ambient];
/// Linkerd's.
pub(super) const LINKERD: &[Mesh] = &[Mesh::Linkerd];
/// Of every mesh.
pub(super) const ANY: &[Mesh] = &Mesh::ALL;

impl Mesh {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Istio, Self::Ambient, Self::Linkerd];

    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::Ambient => "ambient",
            Self::Linkerd => "linkerd",
        }
    }

    /// The mesh of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mesh| mesh.as_str() == name)
    }

    /// Whose reports there are: what the viewer reads, and the value of Istio's label `reporter`. The first is chosen at
    /// first. None where nothing has that label.
    fn reporters(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Istio => &[("client", "source"), ("server", "destination")],
            // Only waypoints see requests; `source` is what gateways say, and they stand before waypoints.
            Self::Ambient => {
                &[("waypoint", "waypoint"), ("client", "source|waypoint"), ("server", "destination|waypoint")]
            }
            Self::Linkerd => &[],
        }
    }
}

/// Who answers the boards' queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// meshscope, as the data source `meshscope`.
    Meshscope,
    /// A Prometheus that scrapes the mesh; there may be no meshscope.
    Prometheus,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Meshscope, Self::Prometheus];

    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meshscope => "meshscope",
            Self::Prometheus => "prometheus",
        }
    }

    /// The source of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

/// Whether the board shows something there.
pub(super) fn concerns(named: &Named, mesh: Option<Mesh>, source: Option<Source>) -> bool {
    let of_mesh = mesh.is_none_or(|mesh| named.meshes.contains(&mesh));
    of_mesh && !(named.needs_meshscope && source == Some(Source::Prometheus))
}

/// The board with the reporters that the mesh has.
pub(super) fn for_mesh(mut dashboard: Dashboard, mesh: Mesh) -> Dashboard {
    let reporters = mesh.reporters();
    let variables = dashboard.templating.list.iter_mut();
    for variable in variables.filter(|variable| variable.name == "reporter" && !reporters.is_empty()) {
        offer(variable, reporters);
    }
    dashboard
}

fn offer(variable: &mut Variable, reporters: &[(&str, &str)]) {
    let choice = |(at, (text, value)): (usize, &(&str, &str))| Choice {
        text: (*text).to_owned(),
        value: (*value).to_owned(),
        selected: at == 0,
    };
    variable.options = reporters.iter().enumerate().map(choice).collect();
    variable.current = variable.options.first().cloned();
    variable.query = reporters.iter().map(|(text, value)| format!("{text} : {value}")).collect::<Vec<_>>().join(",");
}

/// The board without what leads to meshscope's pages.
pub(super) fn without_pages(mut dashboard: Dashboard) -> Dashboard {
    dashboard.links.retain(|link| !link.url.contains(PAGES_VARIABLE));
    dashboard.templating.list.retain(|variable| variable.name != PAGES);
    dashboard
}

/// The board with another address of meshscope's pages.
pub(super) fn with_pages_at(mut dashboard: Dashboard, address: &str) -> Dashboard {
    for variable in dashboard.templating.list.iter_mut().filter(|variable| variable.name == PAGES) {
        address.clone_into(&mut variable.query);
        variable.current = Some(Choice { text: address.to_owned(), value: address.to_owned(), selected: true });
    }
    dashboard
}

/// Name of the variable that holds the address of our pages.
const PAGES: &str = "meshscope";
const PAGES_VARIABLE: &str = "${meshscope}";
