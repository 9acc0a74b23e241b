//! Findings of an audit as rows, wherever pages show them.
//!
//! In: findings, and what is declared. Out: bounded texts and links.

use super::changes::resource_href;
use super::format;
use crate::mesh::{Kind, ResourceId, Scope, Snapshot};
use crate::model::{Finding, Severity};

/// Lines of evidence of one finding.
const EVIDENCE_MAX: usize = 12;
/// Longest message or line of evidence.
const TEXT_CHARS: usize = 600;
/// Longest mend.
const FIX_CHARS: usize = 4_000;

/// One finding as pages show it.
pub(super) struct Row {
    pub(super) code: &'static str,
    pub(super) severity: &'static str,
    pub(super) class: &'static str,
    pub(super) title: &'static str,
    pub(super) subject: String,
    pub(super) href: Option<String>,
    pub(super) place: Option<String>,
    pub(super) field: String,
    pub(super) message: String,
    pub(super) evidence: Vec<String>,
    pub(super) fix: Option<String>,
    pub(super) suppressed: Option<String>,
}

/// The class of a gravity's badge.
pub(super) fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "failure",
        Severity::Warning => "degraded",
        Severity::Info => "idle",
    }
}

/// The title of a check; empty for codes that no check has.
pub(super) fn title(code: &str) -> &'static str {
    crate::audit::checks().find(|check| check.code == code).map_or("", |check| check.title)
}

/// The declared object that a subject names, `VirtualService shop/cart`; none when there is no such object.
pub(super) fn object(snapshot: &Snapshot, subject: &str) -> Option<ResourceId> {
    let (kind, name) = subject.split_once(' ')?;
    let id = |kind: Kind| match (kind.info().scope, name.split_once('/')) {
        (Scope::Namespaced, Some((namespace, name))) => Some((kind, namespace, name)),
        (Scope::Cluster, None) => Some((kind, "", name)),
        _ => None,
    };
    // Two groups may have a kind of one name.
    let mut all = Kind::named(kind).filter_map(|info| id(info.kind));
    let (kind, namespace, name) = all.find(|(kind, namespace, name)| snapshot.get(*kind, namespace, name).is_some())?;
    Some(ResourceId { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// A finding as a row.
pub(super) fn row(one: &Finding, snapshot: &Snapshot) -> Row {
    let shown = |text: &str| format::visible(text, TEXT_CHARS);
    let place = one.file.as_deref().map(|file| match one.line {
        0 => shown(file),
        line => format!("{}:{line}", shown(file)),
    });
    let mut evidence: Vec<String> = one.evidence.iter().take(EVIDENCE_MAX).map(|line| shown(line)).collect();
    if one.evidence.len() > EVIDENCE_MAX {
        evidence.push(format!("and {} more lines", one.evidence.len() - EVIDENCE_MAX));
    }
    Row {
        code: one.code,
        severity: one.severity.as_str(),
        class: class(one.severity),
        title: title(one.code),
        subject: format::visible(&one.subject, 200),
        href: object(snapshot, &one.subject).map(|id| resource_href(&id)),
        place,
        field: format::visible(&one.field, 200),
        message: shown(&one.message),
        evidence,
        fix: one.fix.as_deref().map(|fix| lines(fix, FIX_CHARS)),
        suppressed: one.suppressed.as_deref().map(shown),
    }
}

/// A text of several lines, each made harmless, all of them bounded.
fn lines(text: &str, most: usize) -> String {
    let cut: String = text.chars().take(most).collect();
    let lines: Vec<String> = cut.lines().map(|line| format::visible(line, 500)).collect();
    lines.join("\n")
}
