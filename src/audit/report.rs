//! What an audit found, and how it is told.

use crate::model::{Finding, Severity};

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

    /// For people: a paragraph each, and a line that counts them.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for finding in self.findings.iter().filter(|one| one.suppressed.is_none()) {
            let Finding { code, severity, subject, file, line, field, message, evidence, fix, .. } = finding;
            if let Some(file) = file {
                text.push_str(&format!("{file}:{line}: "));
            }
            let dot = if field.is_empty() { "" } else { ": " };
            text.push_str(&format!("{severity} [{code}] {subject}{dot}{field}: {message}\n"));
            evidence.iter().for_each(|line| text.push_str(&format!("  seen: {line}\n")));
            if let Some(fix) = fix {
                text.push_str(&format!("  instead: {}\n", fix.trim_end().replace('\n', "\n           ")));
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
                "code": one.code, "severity": one.severity.as_str(), "subject": one.subject, "file": one.file,
                "line": one.line, "field": one.field, "message": one.message, "evidence": one.evidence, "fix": one.fix,
                "suppressed": one.suppressed,
            })
        };
        let findings: Vec<_> = self.findings.iter().map(finding).collect();
        serde_json::json!({ "objects": self.objects, "findings": findings })
    }
}
