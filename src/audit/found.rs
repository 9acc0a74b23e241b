//! Where a check puts what it found.

use super::mask::mask;
use super::{Check, Scene};
use crate::mesh::{Place, Resource, SOURCE_ANNOTATION};
use crate::model::{Finding, Severity};

/// Takes the findings of one check.
#[derive(Debug)]
pub struct Found<'a> {
    check: &'a Check,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Found<'a> {
    pub(super) fn new(check: &'a Check, findings: &'a mut Vec<Finding>) -> Self {
        Self { check, findings }
    }

    /// A finding about a field of an object (a path from its top, `spec.http[0].match`); what is known besides is added
    /// to what is given back.
    pub fn at(&mut self, resource: &Resource, field: &str, message: impl Into<String>) -> Note<'_> {
        let line = if field.is_empty() { resource.place.line } else { resource.line(field) };
        let place = Place { file: resource.place.file.clone(), line };
        let note = self.place(&place, resource.id.to_string(), message);
        note.0.field = field.to_owned();
        match resource.annotations.get(SOURCE_ANNOTATION) {
            Some(template) => note.seen(format!("made by Helm from {template}")),
            None => note,
        }
    }

    /// A finding about a workload, as metrics name it: about its object, where one is declared.
    pub(super) fn workload(&mut self, scene: &Scene<'_>, (namespace, name): (&str, &str), message: String) -> Note<'_> {
        match scene.workload(namespace, name) {
            Some(one) => self.at(one.resource, "", message),
            None => self.place(&Place::default(), format!("workload {namespace}/{name}"), message),
        }
    }

    /// A finding about a place that is no object.
    pub fn place(&mut self, place: &Place, subject: String, message: impl Into<String>) -> Note<'_> {
        self.findings.push(Finding {
            code: self.check.code,
            severity: self.check.severity,
            subject,
            file: place.file.as_deref().map(str::to_owned),
            line: place.line,
            field: String::new(),
            message: mask(&message.into()),
            evidence: Vec::new(),
            fix: None,
            suppressed: None,
        });
        let at = self.findings.len() - 1;
        Note(&mut self.findings[at])
    }
}

/// A finding just made.
#[derive(Debug)]
pub struct Note<'a>(&'a mut Finding);

impl Note<'_> {
    /// Adds a line of what was seen.
    pub fn seen(self, evidence: impl Into<String>) -> Self {
        self.0.evidence.push(mask(&evidence.into()));
        self
    }

    /// Says how to mend it: YAML where it can be written.
    pub fn fix(self, fix: impl Into<String>) -> Self {
        self.0.fix = Some(mask(&fix.into()));
        self
    }

    /// Gives it another gravity than its check has.
    pub fn severity(self, severity: Severity) -> Self {
        self.0.severity = severity;
        self
    }
}
