//! What is declared for the subject of a page: which objects govern it and what holds by them, how it compares with what was
//! seen, and what the audit found about it.
//!
//! In: names of services, callers and workloads; what is declared, the latest audit. Out: [`Part`], which
//! `declared_part.html` and `panel.html` draw.

use std::collections::BTreeSet;

use super::ask::link;
use super::changes::resource_href;
use super::findings::{self, Row};
use super::governing::{Name, Subject, Told};
use super::{State, format};
use crate::audit::{About, Comparison, Latest, Verdict};
use crate::graph::ServiceGraph;
use crate::mesh::effective::Applied;

/// Rows of each part.
const BARS_MAX: usize = 24;
const APPLIED_MAX: usize = 30;
const FINDINGS_MAX: usize = 16;
const CALLERS_MAX: usize = 10;

/// Whose page it is: where it stands in a graph, whom settings call it, and as what findings end, ` shop/cart`.
pub(super) struct Whose<'a> {
    pub(super) graph: &'a ServiceGraph,
    pub(super) id: &'a str,
    pub(super) subject: Subject,
    pub(super) names: Vec<String>,
}

/// What pages draw of it.
#[derive(Default)]
pub(super) struct Part {
    /// Whether anything declared is read.
    pub(super) is_given: bool,
    pub(super) objects: Vec<ObjectRow>,
    pub(super) objects_more: usize,
    pub(super) applied: Vec<(String, Vec<AppliedRow>)>,
    /// What of the time is compared.
    pub(super) about: String,
    pub(super) bars: Vec<Bar>,
    pub(super) findings: Vec<Row>,
    pub(super) findings_left: usize,
    /// The audit of its namespace.
    pub(super) href: String,
}

impl Part {
    /// Whether there is anything to say of what governs the subject.
    pub(super) fn governs(&self) -> bool {
        !self.objects.is_empty() || !self.applied.is_empty()
    }
}

/// An object that governs the subject.
pub(super) struct ObjectRow {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) reach: &'static str,
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

/// What is declared for it.
pub(super) async fn part(state: &State, whose: Whose<'_>) -> Part {
    let Whose { graph, id, subject, names } = whose;
    let is_given = state.declared.config().is_given();
    // Without anything declared the mesh's defaults are not known to hold.
    let subject = if is_given { subject } else { Subject::default() };
    let told = state.governing((graph, id), subject.clone()).await;
    let latest = state.audit.latest();
    Part { is_given, ..drawn(told, latest.as_deref(), &subject, &names) }
}

pub(super) fn drawn(told: Told, latest: Option<&Latest>, subject: &Subject, names: &[String]) -> Part {
    let own = |one: &&Comparison| {
        one.hosts.iter().any(|host| told.holds.hosts.contains(host))
            || subject.workload.as_ref().is_some_and(|workload| one.workload.as_ref() == Some(workload))
    };
    let compared = latest.iter().flat_map(|one| &one.comparisons).filter(own);
    let bars = compared.filter_map(|one| bar(one, subject.caller.as_ref())).take(BARS_MAX).collect();
    let (findings, findings_left) = found(latest, &told, names);
    let namespace = subject.services.first().or(subject.workload.as_ref()).map_or("", |one| one.0.as_str());
    let rows = |rows: &[Applied]| rows.iter().take(APPLIED_MAX).map(row).collect::<Vec<_>>();
    Part {
        is_given: false,
        objects_more: told.objects_more,
        applied: told.holds.applied.iter().map(|(title, all)| (format::visible(title, 200), rows(all))).collect(),
        about: latest
            .and_then(|one| one.scorecard.window)
            .map_or(String::new(), |window| format!("the audit's window of {}", format::span(window))),
        bars,
        findings,
        findings_left,
        href: link("audit", &[("namespace", namespace)]),
        objects: told
            .objects
            .iter()
            .map(|one| ObjectRow {
                name: format::visible(&one.id.to_string(), 160),
                href: resource_href(&one.id),
                reach: one.reach,
            })
            .collect(),
    }
}

fn row(one: &Applied) -> AppliedRow {
    let Applied { setting, value, from, is_lost } = one;
    AppliedRow {
        setting: format::visible(setting, 100),
        value: format::visible(value, 300),
        from: from.as_ref().map(|id| (format::visible(&id.to_string(), 160), resource_href(id))),
        is_lost: *is_lost,
    }
}

/// The findings about the objects that govern and hold here, about what runs the subject and about all that is called as it
/// is, the gravest first; and how many more there are.
fn found(latest: Option<&Latest>, told: &Told, names: &[String]) -> (Vec<Row>, usize) {
    let applied = told.holds.applied.iter().flat_map(|(_, rows)| rows).filter_map(|one| one.from.as_ref());
    let objects = told.objects.iter().map(|one| &one.id).chain(applied).chain(&told.holds.workload);
    let objects: BTreeSet<String> = objects.map(ToString::to_string).collect();
    let concerns =
        |subject: &str| objects.contains(subject) || names.iter().any(|name| subject.ends_with(name.as_str()));
    let all = latest.iter().flat_map(|one| &one.report.findings);
    let mut own: Vec<_> = all.filter(|one| one.suppressed.is_none() && concerns(&one.subject)).collect();
    own.sort_by_key(|one| std::cmp::Reverse(one.severity));
    let left = own.len().saturating_sub(FINDINGS_MAX);
    (own.into_iter().take(FINDINGS_MAX).map(|one| findings::row(one, &told.snapshot)).collect(), left)
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
