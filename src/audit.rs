//! Checks what is declared for a mesh: what an object loses, breaks or leaves open, said where it stands; and compares it
//! with what traffic shows.
//!
//! In: a [`Snapshot`] of declared objects, what a window saw ([`Observed`], which [`gather()`] asks of a store), [`Options`].
//! Out: a [`Report`] of coded findings, and a [`Scorecard`]. The checks are pure; only [`gather()`] and [`Watch`] ask and
//! wait. Invariant: the same input gives the same findings in the same order; a check that finds nothing costs one walk
//! over its kinds.

mod boards;
mod checks;
mod comparisons;
mod demanded;
mod explain;
mod found;
mod gather;
pub mod guide;
mod mask;
mod observed;
mod past;
mod rehearsal;
mod remedies;
mod report;
mod scorecard;
mod suppress;
mod traffic;
mod watch;

pub use checks::{Check, all as checks};
pub use comparisons::{About, CallerShare, Comparison, Verdict, comparisons};
pub use explain::explain;
pub use found::{Found, Note};
pub use gather::{GatherError, Source, WINDOW_MIN, gather, gather_past, gather_with};
pub(crate) use mask::{looks_secret, mask};
pub use observed::{
    Backend, Calls, Denied, End, LabelCost, Latency, Observed, Proxy, RouteCalls, Side, Spell, Teller, Upstream, Whole,
    words,
};
pub use past::{Past, PastEdges, PastSource};
pub use rehearsal::{as_cluster, as_files, rehearse};
pub use report::{Colour, Report};
pub use scorecard::{ITEMS, Item, Score, Scorecard, score};
pub use suppress::{Config, SuppressionConfig, names_a_check};
pub use traffic::overridden;
pub use watch::{Board, CurrentSources, Inputs, Latest, Sources, Watch, WatchConfig};

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::mesh::schema::{self, Fault};
use crate::mesh::{Index, Kind, Resource, Snapshot};
use crate::model::Finding;

/// What the auditor must know besides the objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of the control plane: its objects hold for the whole mesh. Default `istio-system`.
    pub root_namespace: String,
    /// Domain of the cluster's services. Default `cluster.local`.
    pub cluster_domain: String,
    /// Findings that nobody wants to hear of.
    pub suppressions: Vec<Suppression>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root_namespace: "istio-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            suppressions: Vec::new(),
        }
    }
}

/// A finding that nobody wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The code, or a pattern with `*`.
    pub code: String,
    /// The subject (`VirtualService shop/cart`), or a pattern with `*`.
    pub subject: String,
    /// Why; shown with the finding.
    pub reason: String,
}

/// What the checks look at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The declared objects.
    pub mesh: &'a Snapshot,
    /// What is found in them without a walk.
    pub index: &'a Index<'a>,
    /// What is wrong with the fields of each object, in their order.
    pub faults: &'a [(&'a Resource, Fault)],
    /// The Grafana dashboards among them.
    boards: &'a [boards::Board<'a>],
    /// What a window of traffic saw; none: only what is declared is looked at.
    pub observed: Option<&'a Observed>,
    /// What files declare, when the objects are those of a cluster.
    pub files: Option<&'a Files>,
    /// The rest.
    pub options: &'a Options,
}

/// What files declare for a cluster whose objects are looked at.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Their objects.
    pub snapshot: Arc<Snapshot>,
    /// The kinds of which the cluster told all objects: what of them is not among its objects is not there.
    pub known: BTreeSet<Kind>,
}

/// What is looked at beside the declared objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// What a window of traffic saw.
    pub observed: Option<&'a Observed>,
    /// What files declare, when the objects are those of a cluster.
    pub files: Option<&'a Files>,
}

/// Runs all checks; those against traffic only with what traffic showed. Findings stand in the order of their files and
/// lines, then of their codes.
pub fn audit(mesh: &Snapshot, observed: Option<&Observed>, options: &Options) -> Report {
    audit_beside(mesh, Beside { observed, files: None }, options)
}

/// The same, with all that is known beside the objects.
pub fn audit_beside(mesh: &Snapshot, beside: Beside<'_>, options: &Options) -> Report {
    let Beside { observed, files } = beside;
    let index = Index::new(mesh, &options.root_namespace, &options.cluster_domain);
    let faults: Vec<(&Resource, Fault)> = mesh
        .iter()
        .flat_map(|resource| schema::faults(resource).into_iter().map(move |fault| (resource, fault)))
        .collect();
    let boards = boards::read(mesh);
    let scene = Scene { mesh, index: &index, faults: &faults, boards: &boards, observed, files, options };
    let mut findings: Vec<Finding> = Vec::new();
    for check in checks() {
        (check.run)(&scene, &mut Found::new(check, &mut findings));
    }
    remedies::apply(&scene, &mut findings);
    suppress::apply(&scene, &mut findings);
    findings.sort_by(|a, b| {
        (&a.file, a.line, a.code, &a.subject, &a.field, &a.message)
            .cmp(&(&b.file, b.line, b.code, &b.subject, &b.field, &b.message))
    });
    findings.dedup();
    Report { findings, objects: mesh.len() }
}
