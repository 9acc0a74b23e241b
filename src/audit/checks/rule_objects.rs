//! PrometheusRule objects: what the rule engine refuses of them.

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Place};
use crate::model::Severity;
use crate::rules::file;

pub(super) const CHECKS: &[Check] = &[Check {
    code: "MS3001",
    severity: Severity::Error,
    title: "a PrometheusRule that no rule engine takes",
    also: &[],
    run: refused,
}];

/// The operator leaves a faulty object out as a whole: none of its alerts ever fires.
fn refused(scene: &Scene<'_>, found: &mut Found<'_>) {
    for resource in scene.mesh.of_kind(Kind::PrometheusRule) {
        let name = resource.place.file.as_deref().unwrap_or_default();
        for problem in file::parse_object(name, &resource.root, file::ReadOptions::default()).problems {
            let place = Place { file: resource.place.file.clone(), line: problem.line };
            let message = format!("{}: none of the object's rules is evaluated", problem.message);
            found.place(&place, resource.id.to_string(), message);
        }
    }
}
