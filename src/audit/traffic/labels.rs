//! What overrides of Telemetry did to the labels of metrics.

use super::{count, percent, text};
use crate::audit::checks::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Place};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] =
    &[Check::new("MS2075", Severity::Warning, "series lack a label that edges are told by", &[], missing)];

/// Share of series that may lack a label: TCP and requests without an answer do not have all.
const LACKING: f64 = 0.05;

/// What is lost with a label.
const LOST: [(&str, &str); 7] = [
    ("reporter", "the two sides of a call are added up"),
    ("response_code", "errors cannot be told from success"),
    ("response_flags", "circuit breakers, timeouts and injected faults are not seen"),
    ("source_workload", "callers are not known"),
    ("destination_workload", "versions and owners of errors are not known"),
    ("destination_service", "edges cannot be drawn"),
    ("connection_security_policy", "mutual TLS cannot be proved"),
];

fn missing(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    let Some(series) = observed.whole.request_series.filter(|series| *series >= 1.0) else { return };
    for (label, lost) in LOST {
        let Some(lacking) = observed.whole.missing_labels.get(label).filter(|own| **own / series > LACKING) else {
            continue;
        };
        let message =
            format!("{} of the series of istio_requests_total have no {label}: {lost}", percent(lacking / series));
        let evidence = format!("{} of {} series", count(*lacking), count(series));
        let fix = format!(
            "# take the override of {label} out (tagOverrides, operation: REMOVE), or the drop of the label\n# from relabelling"
        );
        let note = match remover(scene, label) {
            Some((telemetry, field)) => found.at(telemetry, &field, message),
            None => found.place(&Place::default(), "metric istio_requests_total".to_owned(), message),
        };
        note.seen(evidence).fix(fix);
    }
}

/// The Telemetry that removes a label.
fn remover<'a>(scene: &Scene<'a>, label: &str) -> Option<(&'a crate::mesh::Resource, String)> {
    scene.mesh.of_kind(Kind::Telemetry).find_map(|one| {
        one.list("spec.metrics").iter().enumerate().find_map(|(i, metrics)| {
            let overrides = metrics.get("overrides").map(Node::items).unwrap_or_default();
            overrides.iter().enumerate().find_map(|(j, node)| {
                let tag = node.get("tagOverrides")?.get(label)?;
                (text(tag, &["operation"]) == Some("REMOVE"))
                    .then(|| (one, format!("spec.metrics[{i}].overrides[{j}].tagOverrides.{label}")))
            })
        })
    })
}
