//! What is declared for the subject of a page: what holds and from which object, how it compares with what was seen, and
//! what the audit found about it.
//!
//! In: names of services, callers and workloads; what is declared, the latest audit. Out: [`Part`], which
//! `declared_part.html` draws. Invariant: without anything declared it is empty, and draws nothing.

use super::ask::link;
use super::changes::resource_href;
use super::findings::{self, Row};
use super::{State, format};
use crate::audit::{About, Comparison, Latest, Verdict};
use crate::mesh::effective::{Applied, applied_to_edge, applied_to_workload};
use crate::mesh::{Index, ResourceId, Snapshot};
use crate::model::Severity;

/// Rows of each part.
const BARS_MAX: usize = 24;
const APPLIED_MAX: usize = 30;
const FINDINGS_MAX: usize = 8;
const CALLERS_MAX: usize = 10;
/// Services of one edge that are looked at.
const SERVICES_MAX: usize = 4;

/// Namespace and name.
pub(super) type Name = (String, String);

/// Whom a page is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    /// Services that are called.
    pub(super) services: Vec<Name>,
    /// The workload that calls, of an edge.
    pub(super) caller: Option<Name>,
    /// The workload that is called, or that the page is about.
    pub(super) workload: Option<Name>,
}

/// What `declared_part.html` draws.
#[derive(Default)]
pub(super) struct Part {
    pub(super) about: String,
    pub(super) bars: Vec<Bar>,
    pub(super) applied: Vec<(String, Vec<AppliedRow>)>,
    pub(super) findings: Vec<Row>,
    pub(super) findings_left: usize,
    pub(super) href: String,
}

/// One number as it is declared and as it was seen.
pub(super) struct Bar {
    pub(super) what: String,
    pub(super) object: String,
    pub(super) href: Option<String>,
    pub(super) class: &'static str,
    pub(super) verdict: &'static str,
    /// Widths in percent.
    pub(super) declared: Option<f64>,
    pub(super) seen: Option<f64>,
    pub(super) share: String,
    pub(super) declared_words: String,
    pub(super) seen_words: String,
    pub(super) callers: Vec<String>,
}

/// One setting that holds.
pub(super) struct AppliedRow {
    pub(super) setting: String,
    pub(super) value: String,
    pub(super) from: Option<(String, String)>,
    pub(super) is_lost: bool,
}

/// The part of a page about these names.
pub(super) async fn part(state: &State, about: Subject) -> Part {
    if !state.declared.config().is_given() {
        return Part::default();
    }
    let (snapshot, config) = (state.declared.current(), state.declared.config().clone());
    let latest = state.audit.latest();
    // The index of a large mesh takes some milliseconds.
    let drawn = tokio::task::spawn_blocking(move || {
        let index = Index::new(&snapshot, &config.root_namespace, &config.cluster_domain);
        drawn(&index, latest.as_deref(), &about)
    });
    drawn.await.unwrap_or_default()
}

fn host(index: &Index<'_>, (namespace, name): &Name) -> String {
    // A name with dots is that of a host already.
    if name.contains('.') { name.clone() } else { format!("{name}.{namespace}.svc.{}", index.domain) }
}

fn drawn(index: &Index<'_>, latest: Option<&Latest>, about: &Subject) -> Part {
    let labels = |name: &Name| index.workload(&name.0, &name.1).map(|one| one.labels.clone()).unwrap_or_default();
    let mut applied: Vec<(String, Vec<Applied>)> = Vec::new();
    for service in about.services.iter().take(SERVICES_MAX) {
        // Of a service the page tells what holds for callers of its own namespace.
        let from = about.caller.as_ref();
        let (namespace, own) = from.map_or((service.0.as_str(), Default::default()), |from| (&from.0, labels(from)));
        let rows = applied_to_edge(index, namespace, &own, &host(index, service));
        let whose = from.map_or(format!("callers in {namespace}"), |(namespace, name)| format!("{namespace}/{name}"));
        applied.push((format!("What holds when {whose} call {}", service.1), rows));
    }
    if let Some(workload) = &about.workload {
        let rows = applied_to_workload(index, &workload.0, &labels(workload));
        applied.push((format!("What holds for {}/{}", workload.0, workload.1), rows));
    }
    let hosts: Vec<String> = about.services.iter().map(|one| host(index, one)).collect();
    let own = |one: &&Comparison| {
        one.hosts.iter().any(|host| hosts.contains(host))
            || about.workload.as_ref().is_some_and(|workload| one.workload.as_ref() == Some(workload))
    };
    let compared: Vec<&Comparison> = latest.iter().flat_map(|one| &one.comparisons).filter(own).collect();
    let bars = compared.iter().filter_map(|one| bar(one, about.caller.as_ref())).take(BARS_MAX).collect();
    // What is found about the objects that hold here, and about the subject's own.
    let mut objects: Vec<ResourceId> =
        applied.iter().flat_map(|(_, rows)| rows).filter_map(|one| one.from.clone()).collect();
    objects.extend(about.workload.as_ref().and_then(|one| Some(index.workload(&one.0, &one.1)?.resource.id.clone())));
    let (found, findings_left) = found(latest, &objects, index.mesh);
    let namespace = about.services.first().or(about.workload.as_ref()).map_or("", |one| one.0.as_str());
    let rows = |rows: Vec<Applied>| rows.into_iter().take(APPLIED_MAX).map(row).collect::<Vec<_>>();
    let titled = applied.into_iter().filter(|(_, rows)| !rows.is_empty());
    Part {
        about: latest
            .and_then(|one| one.scorecard.window)
            .map_or(String::new(), |window| format!("the audit's window of {}", format::span(window))),
        bars,
        applied: titled.map(|(title, all)| (format::visible(&title, 200), rows(all))).collect(),
        findings: found,
        findings_left,
        href: link("audit", &[("namespace", namespace)]),
    }
}

fn row(one: Applied) -> AppliedRow {
    let Applied { setting, value, from, is_lost } = one;
    AppliedRow {
        setting: format::visible(&setting, 100),
        value: format::visible(&value, 300),
        from: from.map(|id| (format::visible(&id.to_string(), 160), resource_href(&id))),
        is_lost,
    }
}

/// The findings about these objects, the gravest first, and how many more there are.
fn found(latest: Option<&Latest>, objects: &[ResourceId], snapshot: &Snapshot) -> (Vec<Row>, usize) {
    let names: std::collections::BTreeSet<String> = objects.iter().map(ToString::to_string).collect();
    let all = latest.iter().flat_map(|one| &one.report.findings);
    let own = all.filter(|one| one.suppressed.is_none() && names.contains(&one.subject));
    let mut own: Vec<_> = own.filter(|one| one.severity > Severity::Info).collect();
    own.sort_by(|a, b| b.severity.cmp(&a.severity));
    let left = own.len().saturating_sub(FINDINGS_MAX);
    (own.into_iter().take(FINDINGS_MAX).map(|one| findings::row(one, snapshot)).collect(), left)
}

/// A comparison as bars; of an edge the caller's own part of it, none when it made no call that is meant.
pub(super) fn bar(one: &Comparison, caller: Option<&Name>) -> Option<Bar> {
    let width = |share: f64| (share.clamp(0.0, 1.0) * 1_000.0).round() / 10.0;
    let own = caller.map(|(namespace, name)| {
        one.callers.iter().find(|caller| caller.namespace == *namespace && caller.workload == *name)
    });
    // Limits and sampling have no callers.
    let own = match own {
        Some(None) if !one.callers.is_empty() => return None,
        other => other.flatten(),
    };
    let (seen, seen_words) = match own {
        Some(caller) => (Some(caller.share), format!("of the {:.0} calls of {}", caller.calls, caller.name)),
        None => (one.seen, one.seen_words.clone()),
    };
    let (class, verdict) = match (one.verdict, one.about) {
        (Verdict::Holds, _) => ("healthy", "holds"),
        (Verdict::Differs, About::Limit) => ("degraded", "near its limit"),
        (Verdict::Differs, _) => ("degraded", "differs"),
        (Verdict::Unknown, _) => ("idle", "too little known"),
    };
    let callers = match caller {
        Some(_) => Vec::new(),
        None => one
            .callers
            .iter()
            .take(CALLERS_MAX)
            .map(|caller| {
                format!(
                    "{}: {} of {:.0}",
                    format::visible(&caller.name, 160),
                    format::percent(caller.share),
                    caller.calls
                )
            })
            .collect(),
    };
    Some(Bar {
        what: format::visible(&one.what, 200),
        object: format::visible(&one.object.to_string(), 160),
        href: Some(resource_href(&one.object)),
        class,
        verdict,
        declared: one.declared.map(width),
        seen: seen.map(width),
        share: seen.map(format::percent).unwrap_or_default(),
        declared_words: format::visible(&one.declared_words, 200),
        seen_words: format::visible(&seen_words, 200),
        callers,
    })
}
