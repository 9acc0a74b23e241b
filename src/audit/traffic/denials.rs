//! Requests that policies denied, as those who denied them tell: access logs name policy and rule, Linkerd's proxies the
//! policy.
//!
//! In: the scene. Out: findings at the policy, with the callers. Unlike the comparison of metrics with rules
//! (`authorization`) nothing is guessed here, so one request is enough.

use std::collections::BTreeMap;

use super::{count, names};
use crate::audit::checks::Check;
use crate::audit::observed::{Denied, Observed, Teller};
use crate::audit::{Found, Note, Scene};
use crate::mesh::effective::of_workload;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2023", Severity::Warning, "a policy denied requests, as access logs tell", &[], logged),
    Check::new("MS2024", Severity::Warning, "a policy of Linkerd denied requests", &[], linkerd),
];

/// Denials that differ in their caller alone.
type Group<'o> = (&'o str, &'o str, &'o str, Option<usize>, &'o str);

/// Denials by called workload, policy, rule and reason.
fn grouped(observed: &Observed, teller: Teller) -> BTreeMap<Group<'_>, Vec<&Denied>> {
    let mut all: BTreeMap<Group<'_>, Vec<&Denied>> = BTreeMap::new();
    for one in observed.denied.iter().filter(|one| one.teller == teller) {
        let key = (&*one.to.namespace, &*one.to.workload, &*one.policy, one.rule, &*one.reason);
        all.entry(key).or_default().push(one);
    }
    all
}

/// `shop/web-v1 (12), a caller without a proxy (3)`, the most frequent first.
fn by(denied: &[&Denied]) -> String {
    let mut all: BTreeMap<String, f64> = BTreeMap::new();
    denied.iter().for_each(|one| *all.entry(one.from.name()).or_default() += one.count);
    let mut all: Vec<(String, f64)> = all.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    names(all.into_iter().map(|(name, calls)| format!("{name} ({})", count(calls))))
}

/// A finding at the policy; where that is not declared, at the workload or without a place.
fn about<'f>(
    scene: &Scene<'_>,
    found: &'f mut Found<'_>,
    (policy, field): (Option<&Resource>, &str),
    workload: (&str, &str),
    message: String,
) -> Note<'f> {
    match policy {
        Some(policy) => found.at(policy, field, message),
        None => found.workload(scene, workload, message),
    }
}

fn logged(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for ((namespace, workload, policy, rule, reason), denied) in grouped(observed, Teller::AccessLogs) {
        let total: f64 = denied.iter().map(|one| one.count).sum();
        if total < 1.0 {
            continue;
        }
        let (object, why) = cause(scene, (namespace, workload), (policy, rule, reason));
        let field = match (rule, object) {
            (Some(rule), Some(one)) if one.at(&format!("spec.rules[{rule}]")).is_some() => {
                format!("spec.rules[{rule}]")
            }
            _ => String::new(),
        };
        let message =
            format!("{} requests to {namespace}/{workload} in {} were denied: {why}", count(total), observed.span());
        about(scene, found, (object, &field), (namespace, workload), message)
            .seen(format!("by {}", by(&denied)))
            .seen(format!("access logs: reason {reason}"))
            .fix(format!(
                "# each request, with its path and identity: /logs?reason={reason}\n# if they shall be let in, name their \
                 identity in a rule of an ALLOW policy, or narrow the rule that denies"
            ));
    }
}

/// The object that denied, and why in words.
fn cause<'a>(
    scene: &Scene<'a>,
    (namespace, workload): (&str, &str),
    (policy, rule, reason): (&str, Option<usize>, &str),
) -> (Option<&'a Resource>, String) {
    let labels = scene.workload(namespace, workload).map(|one| one.labels.clone()).unwrap_or_default();
    let own = of_workload(scene.index, namespace, &labels);
    let first = |action: &str| own.authorization.iter().find(|(one, _)| *one == action).map(|(_, policy)| *policy);
    match reason {
        "rbac_denied" => {
            let (place, name) = policy.split_once('/').unwrap_or((namespace, policy));
            let object = scene.mesh.get(Kind::AuthorizationPolicy, place, name);
            let rule = rule.map_or(String::new(), |rule| format!(", rule {rule},"));
            let gone = if object.is_none() { " (which is not declared here)" } else { "" };
            (object, format!("AuthorizationPolicy {policy}{gone}{rule} takes them"))
        }
        "rbac_not_allowed" => (first("ALLOW"), "no rule of the ALLOW policies of the workload lets them in".to_owned()),
        "jwt_denied" => (own.tokens.first().copied(), "their token is missing or not valid".to_owned()),
        "ext_authz_denied" => (first("CUSTOM"), "the external authorizer said no".to_owned()),
        other => (None, other.to_owned()),
    }
}

fn linkerd(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for ((namespace, workload, policy, ..), denied) in grouped(observed, Teller::Linkerd) {
        let total: f64 = denied.iter().map(|one| one.count).sum();
        if total < 1.0 {
            continue;
        }
        let name = policy.split_once('/').map_or(policy, |(_, name)| name);
        let kinds = [Kind::LinkerdAuthorizationPolicy, Kind::LinkerdServerAuthorization, Kind::LinkerdServer];
        let object = kinds.into_iter().find_map(|kind| scene.mesh.get(kind, namespace, name));
        let why = match (object, name) {
            (Some(one), _) => format!("{} does not let them in", one.id),
            (None, "") => "no authorization lets them in".to_owned(),
            (None, name) => format!("{name} does not let them in"),
        };
        let message =
            format!("{} requests to {namespace}/{workload} in {} were denied: {why}", count(total), observed.span());
        about(scene, found, (object, ""), (namespace, workload), message).seen(format!("by {}", by(&denied))).fix(
            "# if they shall be let in: an AuthorizationPolicy for the Server or route, with a MeshTLSAuthentication that\n\
             # names the identities above",
        );
    }
}
