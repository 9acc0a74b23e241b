//! What watches the mesh: rules that say something else than was meant.
//!
//! Rules are those of PrometheusRule objects, read by [`crate::rules::lint`].

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Place};
use crate::model::Severity;
use crate::rules::lint;

pub(super) const CHECKS: &[Check] = &[Check {
    code: "MS3010",
    severity: Severity::Warning,
    title: "a rule does not do what was meant",
    also: &[],
    run: rules,
}];

fn rules(scene: &Scene<'_>, found: &mut Found<'_>) {
    let options = lint::Options::default();
    for resource in scene.mesh.of_kind(Kind::PrometheusRule) {
        let file = resource.place.file.as_deref().unwrap_or_default();
        for one in lint::lint_object(file, &resource.root, &options).findings {
            let place = Place { file: resource.place.file.clone(), line: one.line };
            let message = format!("{}/{}: {} ({})", one.group, one.rule, one.message, one.code);
            let note = found.place(&place, resource.id.to_string(), message).severity(one.severity);
            if let Some(fix) = one.fix {
                note.fix(fix);
            }
        }
    }
}
