//! What an audit found, and how it is told.

mod junit;
mod sarif;

use std::borrow::Cow;

use crate::model::{Finding, Severity};

/// Whether a report for people is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Off,
    /// With the marks of a terminal.
    On,
}

/// What an audit found.
#[derive(Clone, Debug)]
pub struct Report {
    /// By file, line and code; suppressed ones too.
    pub findings: Vec<Finding>,
    /// How many objects were looked at.
    pub objects: usize,
}

impl Report {
    /// How many findings of a gravity count (are not suppressed).
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|one| one.severity == severity && one.suppressed.is_none()).count()
    }

    /// The gravest that counts.
    pub fn gravest(&self) -> Option<Severity> {
        self.findings.iter().filter(|one| one.suppressed.is_none()).map(|one| one.severity).max()
    }

    /// Leaves only findings that are at least so grave, and of these codes (patterns with `*`; none: all).
    pub fn keep(&mut self, least: Severity, codes: &[String]) {
        let named = |finding: &Finding| {
            codes.is_empty() || codes.iter().any(|code| super::suppress::wildcard(code, finding.code))
        };
        self.findings.retain(|one| one.severity >= least && named(one));
    }

    /// SARIF 2.1.0, for code scanning.
    pub fn sarif(&self) -> serde_json::Value {
        sarif::log(self)
    }

    /// JUnit XML, for CI systems.
    pub fn junit(&self) -> String {
        junit::document(self)
    }

    /// For people: a paragraph each, and a line that counts them.
    pub fn table(&self, colour: Colour) -> String {
        let mut text = String::new();
        for finding in self.findings.iter().filter(|one| one.suppressed.is_none()) {
            let Finding { code, severity, subject, file, line, field, message, evidence, fix, .. } = finding;
            let (severity, fix) = (coloured(*severity, colour), fix.as_deref());
            let [subject, field, message] = [subject, field, message].map(|text| one_line(text));
            if let Some(file) = file {
                // What concerns a whole file has no line.
                let line = if *line == 0 { String::new() } else { format!("{line}:") };
                text.push_str(&format!("{}:{line} ", one_line(file)));
            }
            let dot = if field.is_empty() { "" } else { ": " };
            text.push_str(&format!("{severity} [{code}] {subject}{dot}{field}: {message}\n"));
            evidence.iter().for_each(|line| text.push_str(&format!("  seen: {}\n", one_line(line))));
            if let Some(fix) = fix {
                text.push_str(&format!("  instead: {}\n", printable(fix.trim_end()).replace('\n', "\n           ")));
            }
        }
        let suppressed = self.findings.iter().filter(|one| one.suppressed.is_some()).count();
        let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Info].map(|one| self.count(one));
        let objects = self.objects;
        text.push_str(&format!("{objects} objects: {errors} errors, {warnings} warnings, {notes} notes"));
        text.push_str(&if suppressed == 0 { "\n".to_owned() } else { format!(", {suppressed} suppressed\n") });
        text
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let finding = |one: &Finding| {
            serde_json::json!({
                "code": one.code, "guide": super::guide::item(one.code), "severity": one.severity.as_str(), "subject": one.subject, "file": one.file,
                "line": one.line, "field": one.field, "message": one.message, "evidence": one.evidence, "fix": one.fix,
                "suppressed": one.suppressed,
            })
        };
        let findings: Vec<_> = self.findings.iter().map(finding).collect();
        serde_json::json!({ "objects": self.objects, "findings": findings })
    }
}

/// Names and values come from files of others: what would move a terminal's cursor is shown as a mark.
fn printable(text: &str) -> Cow<'_, str> {
    let moves = |c: char| c.is_control() && c != '\n';
    match text.contains(moves) {
        true => text.replace(moves, "\u{FFFD}").into(),
        false => text.into(),
    }
}

/// The same of what stands in one line: a name with a line feed must not look like a finding of its own.
fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\u{FFFD}")
}

fn coloured(severity: Severity, colour: Colour) -> String {
    let mark = match severity {
        Severity::Error => "31;1",
        Severity::Warning => "33",
        Severity::Info => "36",
    };
    match colour {
        Colour::On => format!("\u{1b}[{mark}m{severity}\u{1b}[0m"),
        Colour::Off => severity.to_string(),
    }
}
