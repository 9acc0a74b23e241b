//! AuthorizationPolicies against the callers that were seen.
//!
//! Principals are compared as policies write them. Methods and paths are not in metrics: a rule is judged by its sources
//! alone, so "denied" is said only of callers that no source of any rule takes, and with the 403 that they got.

mod linkerd_least;

use std::collections::BTreeSet;

use super::{CALLS_MIN, callers, count, names, sum};
use crate::audit::checks::Check;
use crate::audit::observed::{Calls, Observed, Side};
use crate::audit::{Found, Note, Scene};
use crate::mesh::effective::{of_workload, selector, targeted};
use crate::mesh::select::Labels;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::model::workload::MeshKind;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2020", Severity::Info, "a grant that nobody uses", &[], unused),
    Check::new("MS2021", Severity::Warning, "callers are denied by an authorization policy", &[], denied),
    Check::new("MS2022", Severity::Info, "the least policy for the callers of a workload", &[], least),
];

/// Workloads that a policy holds for, as metrics name them.
fn covered<'o>(scene: &Scene<'_>, observed: &'o Observed, policy: &Resource) -> Vec<(&'o str, &'o str)> {
    let wide = policy.id.namespace == scene.index.root_namespace;
    let chosen = selector(policy);
    let fits = |(namespace, workload): &(&str, &str)| {
        (wide || *namespace == policy.id.namespace)
            && match scene.workload(namespace, workload) {
                Some(one) => crate::mesh::select::selects(&chosen, &one.labels),
                None => chosen.is_empty(),
            }
    };
    observed.servers().into_iter().filter(fits).collect()
}

/// Whether a pattern of a policy (`*`, `a*`, `*a`) takes a value.
fn takes(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => !value.is_empty(),
        (Some(end), None) => value.ends_with(end),
        (None, Some(start)) => value.starts_with(start),
        _ => pattern == value,
    }
}

fn listed<'n>(source: &'n Node, key: &str) -> Vec<&'n str> {
    source.get(key).map(Node::items).unwrap_or_default().iter().filter_map(Node::as_str).collect()
}

/// Whether a `source` takes a caller, by what metrics know of it; none: it asks for something else (addresses, tokens).
fn source_takes(source: &Node, principal: &str, namespace: &str) -> Option<bool> {
    const KNOWN: [&str; 4] = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
    let mut keys = source.entries().iter().filter_map(|(key, _)| key.as_str());
    if keys.any(|key| !KNOWN.contains(&key)) {
        return None;
    }
    let by = |positive: &str, negative: &str, value: &str| {
        let (wanted, unwanted) = (listed(source, positive), listed(source, negative));
        (wanted.is_empty() || wanted.iter().any(|one| takes(one, value)))
            && !unwanted.iter().any(|one| takes(one, value))
    };
    Some(by("principals", "notPrincipals", principal) && by("namespaces", "notNamespaces", namespace))
}

/// Whether the sources of a rule take a caller; a rule without `from` takes everybody; none: not to be told.
fn rule_takes(rule: &Node, calls: &Calls) -> Option<bool> {
    let from = rule.get("from").map(Node::items).unwrap_or_default();
    if from.is_empty() {
        return Some(true);
    }
    // The namespace that counts is that of the identity.
    let namespace = calls.from.principal.split('/').skip_while(|part| *part != "ns").nth(1).unwrap_or_default();
    let each = from.iter().filter_map(|one| one.get("source"));
    let mut unknown = false;
    for source in each {
        match source_takes(source, &calls.from.principal, namespace) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => unknown = true,
        }
    }
    if unknown { None } else { Some(false) }
}

fn unused(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    let Some(span) = observed.silent_span() else { return };
    for policy in scene.mesh.of_kind(Kind::AuthorizationPolicy).filter(|one| !targeted(one)) {
        if policy.text("spec.action").unwrap_or("ALLOW") != "ALLOW" {
            continue;
        }
        let workloads = covered(scene, observed, policy);
        let calls: Vec<&Calls> = workloads
            .iter()
            .flat_map(|(namespace, workload)| observed.to_workload(namespace, workload))
            .filter(|one| one.side == Side::Server && is_istios(one))
            .collect();
        let total = sum(calls.iter().copied());
        if total < CALLS_MIN {
            continue;
        }
        let past = workloads.iter().flat_map(|(namespace, workload)| observed.past_callers(namespace, workload));
        let seen: BTreeSet<&str> = calls.iter().map(|one| one.from.principal.as_str()).chain(past).collect();
        for (at, rule) in policy.list("spec.rules").iter().enumerate() {
            for (i, from) in rule.get("from").map(Node::items).unwrap_or_default().iter().enumerate() {
                let Some(source) = from.get("source") else { continue };
                for (j, principal) in listed(source, "principals").into_iter().enumerate() {
                    if seen.iter().any(|one| takes(principal, one)) {
                        continue;
                    }
                    let message = format!("{principal} may call and did not in {span}");
                    found
                        .at(policy, &format!("spec.rules[{at}].from[{i}].source.principals[{j}]"), message)
                        .seen(format!("{} calls came, by {}", count(total), callers(calls.iter().copied())))
                        .fix(format!("# take it out when nobody needs it:\n# - {principal}"));
                }
            }
        }
    }
}

fn denied(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for (namespace, workload) in observed.servers() {
        let labels = scene.workload(namespace, workload).map(|one| one.labels.clone()).unwrap_or_default();
        let policies = of_workload(scene.index, namespace, &labels).authorization;
        let of = |action: &str| -> Vec<&Resource> {
            policies.iter().filter(|(own, _)| *own == action).map(|(_, policy)| *policy).collect()
        };
        let (allow, deny) = (of("ALLOW"), of("DENY"));
        let refused: Vec<&Calls> = observed
            .to_workload(namespace, workload)
            .filter(|one| is_refused(one) && one.side == Side::Server && is_istios(one))
            .collect();
        for policy in deny {
            let fits = |one: &&Calls| policy.list("spec.rules").iter().any(|rule| rule_takes(rule, one) == Some(true));
            tell(
                found,
                observed,
                (namespace, workload),
                (policy, "its DENY takes them"),
                refused.iter().copied().filter(fits),
            );
        }
        let rules = || allow.iter().flat_map(|policy| policy.list("spec.rules"));
        let Some(first) = allow.first() else { continue };
        let fits = |one: &&Calls| rules().all(|rule| rule_takes(rule, one) == Some(false));
        let why = "no rule of any ALLOW policy takes them";
        tell(found, observed, (namespace, workload), (first, why), refused.iter().copied().filter(fits));
    }
}

/// Whether it was Istio's proxy that told: only its policies are read here.
fn is_istios(calls: &Calls) -> bool {
    calls.mesh == MeshKind::Istio
}

/// 403 of HTTP, or gRPC's PERMISSION_DENIED.
fn is_refused(calls: &Calls) -> bool {
    calls.code == Some(403) || calls.grpc == Some(7)
}

fn tell<'o>(
    found: &mut Found<'_>,
    observed: &Observed,
    (namespace, workload): (&str, &str),
    (policy, why): (&Resource, &str),
    refused: impl Iterator<Item = &'o Calls>,
) {
    let refused: Vec<&Calls> = refused.collect();
    let total = sum(refused.iter().copied());
    if total < 1.0 {
        return;
    }
    let principals: BTreeSet<&str> =
        refused.iter().map(|one| one.from.principal.as_str()).filter(|one| !one.is_empty()).collect();
    let fix = match principals.is_empty() {
        true => {
            "# these callers have no identity: they need a proxy (mutual TLS) before a policy can name them".to_owned()
        }
        false => {
            let lines: Vec<String> = principals.iter().map(|one| format!("        - {one}")).collect();
            format!(
                "# if they shall call:\n  rules:\n  - from:\n    - source:\n        principals:\n{}",
                lines.join("\n")
            )
        }
    };
    let message = format!(
        "{} calls to {namespace}/{workload} in {} were answered with 403: {why}",
        count(total),
        observed.span()
    );
    found.at(policy, "spec.rules", message).seen(format!("by {}", callers(refused))).fix(fix);
}

fn least(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| one.covered) else { return };
    for (namespace, workload) in observed.servers() {
        let Some(declared) = scene.workload(namespace, workload) else { continue };
        let policies = of_workload(scene.index, namespace, &declared.labels).authorization;
        if policies.iter().any(|(action, _)| *action == "ALLOW" || *action == "CUSTOM") {
            continue;
        }
        let Some(callers) = Callers::of(observed, (namespace, workload), MeshKind::Istio) else { continue };
        let principals: Vec<String> = callers.known.iter().map(|one| format!("        - {one}")).collect();
        let chosen = match chosen(&declared.labels) {
            Some((key, value)) => format!("  selector:\n    matchLabels:\n      {key}: {value}\n"),
            None => String::new(),
        };
        callers.tell(found, declared.resource, (namespace, workload)).fix(format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {workload}\n  namespace: \
             {namespace}\nspec:\n{chosen}  rules:\n  - from:\n    - source:\n        principals:\n{}",
            principals.join("\n")
        ));
    }
    linkerd_least::least(scene, found);
}

/// The label by which a policy best chooses a workload of all versions.
fn chosen(labels: &Labels) -> Option<(&String, &String)> {
    ["app", "app.kubernetes.io/name"].iter().find_map(|key| labels.get_key_value(*key))
}

/// Who calls a workload, when a policy could name all of them.
struct Callers<'o> {
    calls: Vec<&'o Calls>,
    known: BTreeSet<&'o str>,
    span: String,
}

impl<'o> Callers<'o> {
    /// None: there were few calls, or callers without an identity, whom no policy can name that keeps others out. Those of
    /// the longer time count too: who calls once a day must not be shut out.
    fn of(observed: &'o Observed, (namespace, workload): (&str, &str), mesh: MeshKind) -> Option<Self> {
        let own = observed.to_workload(namespace, workload);
        let calls: Vec<&Calls> = own.filter(|one| one.side == Side::Server && one.mesh == mesh).collect();
        let now = calls.iter().map(|one| one.from.principal.as_str());
        let known: BTreeSet<&str> = now.chain(observed.past_callers(namespace, workload)).collect();
        let is_telling = sum(calls.iter().copied()) >= CALLS_MIN && !known.contains("");
        let span = observed.silent_span().unwrap_or_else(|| observed.span());
        is_telling.then_some(Self { calls, known, span })
    }

    fn tell<'f>(&self, found: &'f mut Found<'_>, resource: &Resource, (namespace, workload): (&str, &str)) -> Note<'f> {
        let known = names(self.known.iter().map(|one| (*one).to_owned()));
        let message = format!("everybody may call {namespace}/{workload}; in {} {known} did", self.span);
        let calls = self.calls.iter().copied();
        found.at(resource, "", message).seen(format!("{} calls, by {}", count(sum(calls.clone())), callers(calls)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_policies_are_istios() {
        let cases =
            [("*", "a", true), ("*", "", false), ("a*", "abc", true), ("*c", "abc", true), ("abc", "abc", true)];
        for (pattern, value, wanted) in cases.into_iter().chain([("a*", "bc", false), ("*c", "cb", false)]) {
            assert_eq!(takes(pattern, value), wanted, "{pattern} {value}");
        }
    }
}
