//! The guide's ten items and five pitfalls as numbers: how far a mesh, and each of its namespaces, is.
//!
//! In: declared objects, what traffic showed, what the checks found. Out: a [`Scorecard`] of scores from 0 to 100, each with
//! what it is made of and the next step. Invariant: what cannot be measured has no score and says why; it is not 0 and not
//! 100.

mod checklist;
mod ground;
mod pitfalls;
mod render;

use std::time::Duration;

use super::observed::Observed;
use super::{Options, Report, Scene};
use crate::mesh::{Index, Snapshot};
use ground::Ground;

/// Namespaces that are scored; of further ones only the mesh's score tells.
const NAMESPACES_MAX: usize = 500;

/// Something that is scored.
#[derive(Debug)]
pub struct Item {
    /// Its name in series and JSON, `mtls`.
    pub name: &'static str,
    /// As people read it.
    pub title: &'static str,
    /// One of the guide's pitfalls; else of its checklist.
    pub is_pitfall: bool,
    measure: fn(&Ground<'_>) -> Measured,
}

/// What an item comes to.
#[derive(Clone, Debug, Default)]
struct Measured {
    /// Between 0 and 1.
    score: Option<f64>,
    evidence: Vec<String>,
    next: String,
}

/// The score of an item.
#[derive(Clone, Debug)]
pub struct Score {
    /// Of what.
    pub item: &'static Item,
    /// Of which namespace; none: of the whole mesh.
    pub namespace: Option<String>,
    /// 0 to 100; none: it cannot be measured, and the evidence says why.
    pub score: Option<u8>,
    /// What the score is made of, a line each.
    pub evidence: Vec<String>,
    /// What to do next; empty: nothing.
    pub next: String,
}

/// All scores: those of the mesh first, then by namespace, each in the order of [`ITEMS`].
#[derive(Clone, Debug, Default)]
pub struct Scorecard {
    /// The window of traffic behind them; none: only what is declared.
    pub window: Option<Duration>,
    /// The scores.
    pub scores: Vec<Score>,
    /// What could not be asked, and namespaces that were left out.
    pub gaps: Vec<String>,
}

const fn item(name: &'static str, title: &'static str, measure: fn(&Ground<'_>) -> Measured) -> Item {
    Item { name, title, is_pitfall: false, measure }
}

const fn pitfall(name: &'static str, title: &'static str, measure: fn(&Ground<'_>) -> Measured) -> Item {
    Item { name, title, is_pitfall: true, measure }
}

/// What is scored: the guide's checklist, then its pitfalls (100: it is avoided).
pub static ITEMS: [Item; 15] = [
    item("mtls", "Implement mTLS", checklist::mtls),
    item("traffic_management", "Configure traffic management", checklist::traffic_management),
    item("observability", "Set up observability", checklist::observability),
    item("security_policies", "Define security policies", checklist::security_policies),
    item("mesh_health", "Monitor mesh health", checklist::mesh_health),
    item("circuit_breakers", "Configure circuit breakers", checklist::circuit_breakers),
    item("tracing", "Implement tracing", checklist::tracing),
    item("metrics", "Set up metrics", checklist::metrics),
    item("updates", "Regular updates", checklist::updates),
    item("performance", "Performance monitoring", checklist::performance),
    pitfall("over_complexity", "Over-complexity", pitfalls::over_complexity),
    pitfall("poor_monitoring", "Poor monitoring", pitfalls::poor_monitoring),
    pitfall("missing_security", "Missing security", pitfalls::missing_security),
    pitfall("resource_overhead", "Resource overhead", pitfalls::resource_overhead),
    pitfall("configuration_drift", "Configuration drift", pitfalls::configuration_drift),
];

/// Scores a mesh and its namespaces. `report` is what [`super::audit()`] found with the same input.
pub fn score(mesh: &Snapshot, observed: Option<&Observed>, report: &Report, options: &Options) -> Scorecard {
    let index = Index::new(mesh, &options.root_namespace, &options.cluster_domain);
    let scene = Scene { mesh, index: &index, faults: &[], boards: &[], observed, options };
    let (all, calls) = (ground::namespaces(&scene), ground::by_namespace(&scene));
    let mut gaps: Vec<String> = observed.map(|one| one.gaps.clone()).unwrap_or_default();
    if all.len() > NAMESPACES_MAX {
        gaps.push(format!("{} namespaces are not scored one by one", all.len() - NAMESPACES_MAX));
    }
    let mut scores = Vec::with_capacity(ITEMS.len() * (all.len().min(NAMESPACES_MAX) + 1));
    let of = |namespace: Option<&str>| {
        let ground = Ground::new(&scene, report, &calls, namespace);
        ITEMS
            .iter()
            .map(move |item| {
                let Measured { score, evidence, next } = (item.measure)(&ground);
                let score = score.map(|share| (share.clamp(0.0, 1.0) * 100.0).round() as u8);
                Score { item, namespace: namespace.map(str::to_owned), score, evidence, next }
            })
            .collect::<Vec<_>>()
    };
    scores.extend(of(None));
    all.iter().take(NAMESPACES_MAX).for_each(|namespace| scores.extend(of(Some(namespace))));
    Scorecard { window: observed.map(|one| one.window), scores, gaps }
}
