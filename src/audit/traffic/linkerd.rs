//! Linkerd's edges: plain text that arrives at workloads whose proxies could encrypt.
//!
//! The called proxy alone tells it (`tls` of its inbound responses). Probes and the proxy's own port are left out where the
//! questions are asked.

use super::mtls::is_plain;
use super::{CALLS_MIN, callers, count, percent, sum};
use crate::audit::checks::Check;
use crate::audit::observed::{Calls, Side};
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::model::workload::MeshKind;

pub(super) const CHECKS: &[Check] =
    &[Check::new("MS2014", Severity::Warning, "plain text arrives at a workload of Linkerd", &[], plaintext)];

fn plaintext(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for (namespace, workload) in observed.servers() {
        let own = observed.to_workload(namespace, workload);
        let known: Vec<&Calls> = own
            .filter(|one| one.mesh == MeshKind::Linkerd && one.side == Side::Server && !one.security.is_empty())
            .collect();
        let plain: Vec<&Calls> = known.iter().copied().filter(|one| is_plain(one)).collect();
        let (total, open) = (sum(known.iter().copied()), sum(plain.iter().copied()));
        if total < CALLS_MIN || open < 1.0 {
            continue;
        }
        let demanding = demanding(scene, namespace, workload);
        let then = match &demanding {
            Some(policy) => format!("{} asks for identities, which they do not have", policy.id),
            None => "nobody can say who called".to_owned(),
        };
        let message =
            format!("{} of the calls to {namespace}/{workload} come in plain text: {then}", percent(open / total));
        let note = found.workload(scene, (namespace, workload), message);
        note.seen(format!("{} of {} calls in {}, by {}", count(open), count(total), observed.span(), callers(plain)))
            .fix(
                "# give the callers a proxy, on their pods' template or namespace:\nmetadata:\n  annotations:\n    \
             linkerd.io/inject: enabled",
            );
    }
}

/// A policy of Linkerd that asks callers of the workload for an identity.
fn demanding<'a>(scene: &Scene<'a>, namespace: &str, workload: &str) -> Option<&'a Resource> {
    let labels = &scene.workload(namespace, workload)?.labels;
    let servers = scene.mesh.of_kind(Kind::LinkerdServer).filter(|one| one.id.namespace == namespace);
    let mut own = servers
        .filter(|one| crate::mesh::select::selects(&one.map("spec.podSelector.matchLabels"), labels))
        .map(|one| one.id.name.as_str());
    own.find_map(|server| {
        let policies = scene.mesh.of_kind(Kind::LinkerdAuthorizationPolicy);
        let mut fitting = policies.filter(|one| one.id.namespace == namespace);
        fitting.find(|one| {
            let asks = one.list("spec.requiredAuthenticationRefs").iter();
            one.text("spec.targetRef.name") == Some(server)
                && asks.filter_map(|node| super::text(node, &["kind"])).any(|kind| kind == "MeshTLSAuthentication")
        })
    })
}
