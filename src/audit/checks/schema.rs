//! Fields that a cluster or istiod refuses, or drops without a word; the tables are in [`crate::mesh::schema`].

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::schema::FaultKind;
use crate::model::Severity;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS1001",
        severity: Severity::Error,
        title: "a field that its kind does not have",
        also: &["IST0106"],
        run: |scene, found| told(scene, found, FaultKind::Unknown),
    },
    Check {
        code: "MS1002",
        severity: Severity::Error,
        title: "a value of the wrong type",
        also: &["IST0106"],
        run: |scene, found| told(scene, found, FaultKind::Type),
    },
    Check {
        code: "MS1003",
        severity: Severity::Error,
        title: "a required field is missing",
        also: &["IST0106"],
        run: |scene, found| told(scene, found, FaultKind::Missing),
    },
    Check {
        code: "MS1004",
        severity: Severity::Error,
        title: "a value that is not allowed",
        also: &["IST0106"],
        run: |scene, found| told(scene, found, FaultKind::Value),
    },
    Check {
        code: "MS1005",
        severity: Severity::Error,
        title: "fields that do not go together",
        also: &["IST0106"],
        run: |scene, found| told(scene, found, FaultKind::Combination),
    },
];

fn told(scene: &Scene<'_>, found: &mut Found<'_>, kind: FaultKind) {
    for (resource, fault) in scene.faults.iter().filter(|(_, fault)| fault.kind == kind) {
        let note = found.at(resource, &fault.path, fault.message.clone());
        if let Some(fix) = &fault.fix {
            note.fix(fix.clone());
        }
    }
}
