//! Mutual TLS as it is declared and as calls arrive.
//!
//! The called side alone knows (`connection_security_policy` of reporter destination or waypoint; a waypoint's report is
//! folded as the client's). Of calls that STRICT refuses nothing is counted there: only their callers see connections fail.

use std::collections::BTreeMap;

use super::{CALLS_MIN, callers, count, percent, sum};
use crate::audit::checks::Check;
use crate::audit::observed::{Calls, Observed, Side};
use crate::audit::{Found, Scene};
use crate::mesh::effective::{Set, of_workload};
use crate::mesh::{Kind, Place};
use crate::model::Severity;
use crate::model::workload::MeshKind;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2010", Severity::Error, "plain text arrives where mutual TLS is demanded", &[], breaches),
    Check::new("MS2011", Severity::Info, "a namespace is ready for STRICT", &[], ready),
    Check::new("MS2012", Severity::Warning, "plain text keeps a workload from STRICT", &[], plaintext),
    Check::new("MS2013", Severity::Warning, "STRICT refuses callers", &[], refused),
];

/// Share of a caller's calls that must fail to connect before it is called refused.
const REFUSED_MIN: f64 = 0.9;

/// Calls that a workload of Istio answered, of which it is known whether they were encrypted.
pub(in crate::audit) fn known<'o>(observed: &'o Observed, namespace: &str, workload: &str) -> Vec<&'o Calls> {
    let own = observed.to_workload(namespace, workload).filter(|one| one.mesh == MeshKind::Istio);
    own.filter(|one| !one.security.is_empty()).collect()
}

/// Whether calls came in plain text.
pub(in crate::audit) fn is_plain(calls: &Calls) -> bool {
    calls.security != "mutual_tls"
}

/// What is demanded of callers of a workload, and by what.
pub(in crate::audit) fn demanded(scene: &Scene<'_>, namespace: &str, workload: &str) -> Set {
    let labels = scene.workload(namespace, workload).map(|one| one.labels.clone()).unwrap_or_default();
    let mtls = of_workload(scene.index, namespace, &labels).mtls;
    mtls.unwrap_or(Set { value: "PERMISSIVE".to_owned(), from: None })
}

/// Whether the workload has ports with a mode of their own: calls do not say their port.
fn has_ports(scene: &Scene<'_>, namespace: &str, workload: &str) -> bool {
    let labels = scene.workload(namespace, workload).map(|one| one.labels.clone()).unwrap_or_default();
    !of_workload(scene.index, namespace, &labels).mtls_ports.is_empty()
}

fn breaches(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for (namespace, workload) in observed.servers() {
        let mode = demanded(scene, namespace, workload);
        let calls = known(observed, namespace, workload);
        let plain: Vec<&Calls> = calls.iter().copied().filter(|one| is_plain(one)).collect();
        // What came before a policy was made is no breach: the last part of the window counts.
        let late: f64 = plain.iter().map(|one| one.recent).sum();
        if mode.value != "STRICT" || late < 1.0 || has_ports(scene, namespace, workload) {
            continue;
        }
        // Istio's own default is not STRICT: there is a policy.
        let Some(from) = mode.from else { continue };
        let message = format!(
            "{} demands mutual TLS of callers of {namespace}/{workload}, and {} of {} requests came in plain text",
            from,
            count(sum(plain.iter().copied())),
            count(sum(calls.iter().copied()))
        );
        let policy = scene.mesh.get(from.kind, &from.namespace, &from.name);
        let by = format!("by {}, {} in the last part of {}", callers(plain), count(late), observed.span());
        let fix = "# the proxy does not enforce the policy: look at its version, at excluded inbound ports\n\
                   # (traffic.sidecar.istio.io/excludeInboundPorts) and at istiod's rejected pushes";
        let note = match policy {
            Some(policy) => found.at(policy, "spec.mtls.mode", message),
            None => found.place(&Place::default(), from.to_string(), message),
        };
        note.seen(by).fix(fix);
    }
}

fn ready(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| one.covered) else { return };
    let mut by_namespace: BTreeMap<&str, (f64, bool, Vec<String>)> = BTreeMap::new();
    for (namespace, workload) in observed.servers() {
        let calls = known(observed, namespace, workload);
        let total = sum(calls.iter().copied());
        if total <= 0.0 {
            continue;
        }
        let entry = by_namespace.entry(namespace).or_insert((0.0, true, Vec::new()));
        entry.0 += total;
        entry.1 &= !calls.iter().any(|one| is_plain(one));
        if demanded(scene, namespace, workload).value != "STRICT" {
            entry.2.push(workload.to_owned());
        }
    }
    for (namespace, (total, is_clean, open)) in by_namespace {
        if !is_clean || open.is_empty() || total < CALLS_MIN || namespace.is_empty() {
            continue;
        }
        let message = format!(
            "all {} calls to {namespace} in {} were encrypted, and plain text is still let in by {}",
            count(total),
            observed.span(),
            super::names(open)
        );
        let place = place(scene, namespace);
        found.place(&place, format!("Namespace {namespace}"), message).fix(strict(namespace, None));
    }
}

/// Where a namespace is declared.
pub(super) fn place(scene: &Scene<'_>, namespace: &str) -> Place {
    scene.mesh.get(Kind::Namespace, "", namespace).map(|one| one.place.clone()).unwrap_or_default()
}

fn strict(namespace: &str, app: Option<&str>) -> String {
    let (name, selector) = match app {
        Some(app) => (app, format!("  selector:\n    matchLabels:\n      app: {app}\n")),
        None => ("default", String::new()),
    };
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
         spec:\n{selector}  mtls:\n    mode: STRICT"
    )
}

fn plaintext(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for (namespace, workload) in observed.servers() {
        let mode = demanded(scene, namespace, workload);
        let calls = known(observed, namespace, workload);
        let plain: Vec<&Calls> = calls.iter().copied().filter(|one| is_plain(one)).collect();
        let (total, open) = (sum(calls.iter().copied()), sum(plain.iter().copied()));
        if mode.value == "STRICT" || open < 1.0 || total < CALLS_MIN {
            continue;
        }
        let message = format!(
            "{} of the calls to {namespace}/{workload} come in plain text: with STRICT they would fail",
            percent(open / total)
        );
        let policy = mode.from.and_then(|from| scene.mesh.get(from.kind, &from.namespace, &from.name));
        let by = format!("{} of {} calls in {}, by {}", count(open), count(total), observed.span(), callers(plain));
        let note = match (policy, scene.workload(namespace, workload)) {
            (Some(policy), _) => found.at(policy, "spec.mtls.mode", message),
            (None, Some(one)) => found.at(one.resource, "", message),
            (None, None) => found.place(&place(scene, namespace), format!("workload {namespace}/{workload}"), message),
        };
        let app = scene.workload(namespace, workload).and_then(|one| one.labels.get("app")).map(String::as_str);
        note.seen(by).fix(format!("# first a proxy for these callers, then\n{}", strict(namespace, app)));
    }
}

fn refused(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for host in observed.hosts() {
        let Some((service, namespace)) = crate::mesh::hosts::service_of(host, &scene.index.domain) else { continue };
        let Some(target) = scene.mesh.get(Kind::Service, namespace, service) else { continue };
        let served = scene.index.selected(&target.map("spec.selector"), namespace);
        let Some(strict) = served.iter().find_map(|one| {
            let mode = of_workload(scene.index, namespace, &one.labels).mtls?;
            (mode.value == "STRICT").then_some(mode)
        }) else {
            continue;
        };
        let client: Vec<&Calls> = observed.to_host(host).filter(|one| one.side == Side::Client).collect();
        for (end, total) in super::by_caller(client.iter().copied()) {
            let of_end = || client.iter().copied().filter(|one| one.from == *end);
            let failed = sum(of_end().filter(|one| one.has_flag("UF") || one.has_flag("UC") || one.has_flag("NR")));
            let arrived =
                sum(observed.to_host(host).filter(|one| one.side == Side::Server && one.from.workload == end.workload));
            if total < CALLS_MIN || failed / total < REFUSED_MIN || arrived >= 1.0 {
                continue;
            }
            let message = format!(
                "{} of {} calls of {} to {host} cannot connect, and none arrives: {} demands mutual TLS, and this caller \
                 does not use it",
                count(failed),
                count(total),
                end.name(),
                strict.from.as_ref().map_or_else(|| "a policy".to_owned(), ToString::to_string)
            );
            let policy = scene.edge(end, host).traffic_policy;
            let mode = policy.and_then(|rule| rule.text("spec.trafficPolicy.tls.mode"));
            let note = match (policy, mode) {
                (Some(rule), Some("DISABLE" | "SIMPLE")) => found.at(rule, "spec.trafficPolicy.tls.mode", message),
                _ => found.at(target, "", message),
            };
            note.seen("flags UF, UC or NR at the caller; the called proxy counts no request".to_owned()).fix(
                "trafficPolicy:\n  tls:\n    mode: ISTIO_MUTUAL # in the DestinationRule that holds for the caller",
            );
        }
    }
}
