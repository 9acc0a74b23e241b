//! Broken propagation of traces: a workload that is called, and begins new traces for what it calls in turn.
//!
//! A proxy cannot know which incoming request an outgoing one belongs to: the application must hand on the headers. Where it
//! does not, its proxy begins a trace for each call it makes, so the spans of its calls have no parent though it is called
//! itself. Counted are spans, so a workload that only calls (a gateway, a timer) is not meant.

use super::{count, names, percent};
use crate::audit::checks::Check;
use crate::audit::{Found, Scene};
use crate::mesh::Place;
use crate::mesh::select::{APP_LABELS, Labels};
use crate::model::Severity;

pub(super) const CHECKS: &[Check] =
    &[Check::new("MS2072", Severity::Warning, "a workload does not hand on traces", &[], broken)];

/// Fewest spans of each kind that are judged.
const SPANS_MIN: f64 = 30.0;
/// Share of a workload's calls that begin a trace before it is told.
const BROKEN: f64 = 0.5;

fn broken(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for (service, begun) in &observed.whole.roots {
        let Some((server, client)) = observed.whole.spans.get(service).copied() else { continue };
        if server < SPANS_MIN || client < SPANS_MIN || begun / client < BROKEN {
            continue;
        }
        let message = format!(
            "{} of the calls of {service} begin a new trace, though it is called itself: the application does not hand on the \
             trace headers of what it is asked, so traces end at it",
            percent((begun / client).min(1.0))
        );
        let (app, namespace) = service.split_once('.').unwrap_or((service, ""));
        let own: Vec<_> = scene.index.in_namespace(namespace).filter(|one| is_app(&one.labels, app)).collect();
        let note = match own.first() {
            Some(one) => found.at(one.resource, "", message),
            None => found.place(&Place::default(), format!("service {service}"), message),
        };
        let note = note.seen(format!(
            "{} of {} spans of its calls have no parent; {} spans tell that it is called, in {}",
            count(*begun),
            count(client),
            count(server),
            observed.span()
        ));
        let note = match own.len() {
            0 | 1 => note,
            _ => note.seen(format!("workloads: {}", names(own.iter().map(|one| one.resource.id.name.clone())))),
        };
        note.fix(
            "# in the application: an OpenTelemetry SDK does it by itself; by hand copy these headers of each request to the\n\
             # requests made for it: traceparent, tracestate, b3, x-b3-traceid, x-b3-spanid, x-b3-sampled, x-request-id",
        );
    }
}

fn is_app(labels: &Labels, app: &str) -> bool {
    APP_LABELS.iter().any(|key| labels.get(*key).is_some_and(|value| value == app))
}
