//! Sampling: how many requests became spans, against what is declared.
//!
//! Each sampled request gives one span of kind server at each proxied workload it reaches, so spans over requests of the
//! called side is the share that was sampled. It is compared over the whole mesh, since the decision falls where a request
//! enters and is kept on its way.

use super::{count, number, percent, sum};
use crate::audit::checks::Check;
use crate::audit::observed::{Observed, Side};
use crate::audit::{Found, Scene};
use crate::mesh::effective::{selector, targeted};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2070", Severity::Warning, "traces are not sampled as declared", &[], sampling),
    Check::new("MS2071", Severity::Warning, "tracing is declared and no span arrives", &[], silent),
];

/// Requests below which a share is not compared.
pub(in crate::audit) const REQUESTS_MIN: f64 = 500.0;

/// The rate that is declared for the whole mesh, between 0 and 1, with its object and field.
pub(in crate::audit) fn declared<'a>(scene: &Scene<'a>) -> Option<(f64, &'a Resource, String)> {
    let wide =
        |one: &&Resource| one.id.namespace == scene.index.root_namespace && selector(one).is_empty() && !targeted(one);
    let of = |one: &'a Resource| {
        one.list("spec.tracing").iter().enumerate().find_map(|(at, node)| {
            let off = node.get("disableSpanReporting").and_then(Node::as_str) == Some("true");
            let share = number(node, &["randomSamplingPercentage"])? / 100.0;
            (!off).then(|| (share, one, format!("spec.tracing[{at}].randomSamplingPercentage")))
        })
    };
    let telemetry = crate::mesh::effective::in_order(scene.mesh.of_kind(Kind::Telemetry).filter(wide));
    telemetry.into_iter().find_map(of).or_else(|| {
        let sampling = scene.index.mesh_setting(&["defaultConfig", "tracing", "sampling"])?;
        let (map, _) = scene.index.mesh_config.as_ref()?;
        Some((sampling.as_str()?.parse::<f64>().ok()? / 100.0, *map, "data.mesh".to_owned()))
    })
}

/// Spans of servers, and requests that could have made one: those of workloads that sent spans at all.
pub(in crate::audit) fn seen(observed: &Observed) -> (f64, f64) {
    let spans: f64 = observed.whole.spans.values().map(|(server, _)| server).sum();
    let told = |workload: &str, namespace: &str| {
        observed.whole.spans.keys().any(|service| {
            let (app, place) = service.split_once('.').unwrap_or((service, namespace));
            place == namespace
                && (workload == app || workload.strip_prefix(app).is_some_and(|rest| rest.starts_with('-')))
        })
    };
    let requests = observed
        .calls
        .iter()
        .filter(|one| one.side == Side::Server && one.protocol != "tcp" && told(&one.to.workload, &one.to.namespace));
    (spans, sum(requests))
}

/// Whether a share that was seen is not the declared one. Traces come whole, so spans are not independent of each other:
/// half of the share either way is allowed.
pub(in crate::audit) fn is_off(seen: f64, declared: f64) -> bool {
    (seen - declared).abs() > (declared * 0.5).max(0.005)
}

fn sampling(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| one.covered) else { return };
    let Some((share, object, field)) = declared(scene) else { return };
    let (spans, requests) = seen(observed);
    if requests < REQUESTS_MIN || spans < 1.0 {
        return;
    }
    let own = spans / requests;
    if !is_off(own, share) {
        return;
    }
    let message = format!("{} of the requests are declared to be traced, and {} are", percent(share), percent(own));
    found
        .at(object, &field, message)
        .seen(format!("{} spans of servers for {} requests in {}", count(spans), count(requests), observed.span()))
        .fix(
            "# callers that decide themselves (traceparent), another Telemetry (MS0903), a collector that drops,\n\
             # or a gateway with its own rate: compare the namespaces on the page of traces",
        );
}

fn silent(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| one.covered && !one.takes_no_spans) else { return };
    let Some((share, object, field)) = declared(scene).filter(|(share, ..)| *share > 0.0) else { return };
    let requests = sum(observed.calls.iter().filter(|one| one.side == Side::Server && one.protocol != "tcp"));
    let expected = requests * share;
    if expected < 100.0 || observed.whole.spans.values().any(|(server, client)| server + client >= 1.0) {
        return;
    }
    let message = format!("{} of the requests are declared to be traced, and no span came", percent(share));
    found
        .at(object, &field, message)
        .seen(format!("some {} spans were to be expected of {} requests in {}", count(expected), count(requests), observed.span()))
        .fix(format!(
            "# a provider is needed: in meshConfig\nextensionProviders:\n- name: meshscope\n  opentelemetry:\n    service: \
             meshscope.meshscope.svc.{}\n    port: 4317\ndefaultProviders:\n  tracing: [meshscope]",
            scene.index.domain
        ));
}
