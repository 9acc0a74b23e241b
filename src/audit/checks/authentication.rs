//! Mutual TLS and tokens: rules that contradict each other, and doors that stand open.

use super::Check;
use super::kiali_context::{auto_mtls, selector, service, workloads};
use crate::audit::{Found, Scene};
use crate::mesh::effective::rank;
use crate::mesh::select::selects;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;
use std::collections::BTreeMap;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0401",
        severity: Severity::Error,
        title: "a destination rule calls in plain text where mutual TLS is demanded",
        also: &["KIA0207", "KIA0208"],
        run: plain_to_strict,
    },
    Check {
        code: "MS0402",
        severity: Severity::Error,
        title: "a destination rule calls with mutual TLS what does not take it",
        also: &[],
        run: mutual_to_disabled,
    },
    Check {
        code: "MS0403",
        severity: Severity::Error,
        title: "mutual TLS is demanded and, without automatic mTLS, no destination rule uses it",
        also: &["KIA0401", "KIA0501"],
        run: strict_without_rule,
    },
    Check {
        code: "MS0404",
        severity: Severity::Error,
        title: "mutual TLS is disabled, and a destination rule of the mesh or namespace still uses it",
        also: &["KIA0205", "KIA0206", "KIA0505", "KIA0506"],
        run: disabled_but_used,
    },
    Check {
        code: "MS0405",
        severity: Severity::Warning,
        title: "a destination rule loses the mutual TLS of a wider one",
        also: &["KIA0204"],
        run: loses_tls,
    },
    Check {
        code: "MS0406",
        severity: Severity::Warning,
        title: "a policy lets plain text in where the mesh demands mutual TLS",
        also: &[],
        run: loosened,
    },
    Check {
        code: "MS0407",
        severity: Severity::Warning,
        title: "tokens are checked, and calls without a token are let in",
        also: &[],
        run: token_optional,
    },
    Check {
        code: "MS0409",
        severity: Severity::Error,
        title: "two policies of peer authentication select one workload",
        also: &["KIA0003"],
        run: two_of_workload,
    },
    Check {
        code: "MS0410",
        severity: Severity::Warning,
        title: "a policy of authentication selects no workload",
        also: &["KIA0004", "IST0127"],
        run: selects_nothing,
    },
];

fn mode(policy: &Resource) -> &str {
    policy.text("spec.mtls.mode").filter(|mode| *mode != "UNSET").unwrap_or_default()
}

fn policies<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a Resource> {
    scene.mesh.of_kind(Kind::PeerAuthentication)
}

/// The policy without a selector of a namespace. Of several the oldest counts, then the first by name.
fn wide_policy<'a>(scene: &Scene<'a>, namespace: &str) -> Option<&'a Resource> {
    let own =
        policies(scene).filter(|one| one.id.namespace == namespace && selector(one).is_none() && !mode(one).is_empty());
    own.min_by(|a, b| rank(a).cmp(&rank(b)))
}

/// The mode that holds for a namespace as a whole.
fn namespace_mode<'a>(scene: &Scene<'a>, namespace: &str) -> &'a str {
    let policy = wide_policy(scene, namespace).or_else(|| wide_policy(scene, &scene.options.root_namespace));
    policy.map_or("PERMISSIVE", mode)
}

/// The mode that holds for workloads with these labels: that of the workload, the namespace, the mesh.
pub(super) fn effective_mode<'a>(scene: &Scene<'a>, namespace: &str, labels: &BTreeMap<String, String>) -> &'a str {
    let own = |one: &&Resource| {
        one.id.namespace == namespace && !mode(one).is_empty() && selector(one).is_some_and(|own| selects(&own, labels))
    };
    let policy = policies(scene).filter(own).min_by(|a, b| rank(a).cmp(&rank(b)));
    policy.map_or_else(|| namespace_mode(scene, namespace), mode)
}

/// How far a destination rule reaches.
#[derive(PartialEq)]
enum Reach<'a> {
    Mesh,
    Namespace(&'a str),
    Host(&'a str),
}

fn reach<'a>(scene: &Scene<'_>, rule: &'a Resource) -> Reach<'a> {
    let host = rule.text("spec.host").unwrap_or_default();
    let domain = &scene.options.cluster_domain;
    let end = format!(".svc.{domain}");
    match host.strip_prefix("*.") {
        Some(rest) if rest == "local" || rest == domain || rest == &end[1..] => Reach::Mesh,
        Some(rest) => rest.strip_suffix(&end).map_or(Reach::Host(host), Reach::Namespace),
        None if host == "*" => Reach::Mesh,
        None => Reach::Host(host),
    }
}

pub(super) fn rule_mode(rule: &Resource) -> &str {
    rule.text("spec.trafficPolicy.tls.mode").unwrap_or_default()
}

/// The mode of what a rule calls.
fn mode_called<'a>(scene: &Scene<'a>, rule: &Resource) -> Option<&'a str> {
    match reach(scene, rule) {
        Reach::Mesh => wide_policy(scene, &scene.options.root_namespace).map(mode),
        Reach::Namespace(namespace) => Some(namespace_mode(scene, namespace)),
        Reach::Host(host) => {
            let service = service(scene, host, &rule.id.namespace)?;
            Some(effective_mode(scene, &service.id.namespace, &service.map("spec.selector")))
        }
    }
}

const TLS_FIELD: &str = "spec.trafficPolicy.tls.mode";

fn plain_to_strict(scene: &Scene<'_>, found: &mut Found<'_>) {
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let plain = matches!(rule_mode(rule), "DISABLE" | "SIMPLE");
        if plain && mode_called(scene, rule) == Some("STRICT") {
            let message =
                "the called workloads take mutual TLS only (PeerAuthentication STRICT): these calls are refused";
            found.at(rule, TLS_FIELD, message).fix("tls:\n  mode: ISTIO_MUTUAL");
        }
    }
}

fn mutual_to_disabled(scene: &Scene<'_>, found: &mut Found<'_>) {
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let host = matches!(reach(scene, rule), Reach::Host(_));
        if host && rule_mode(rule) == "ISTIO_MUTUAL" && mode_called(scene, rule) == Some("DISABLE") {
            let message = "the called workloads take plain text only (PeerAuthentication DISABLE): these calls fail";
            found.at(rule, TLS_FIELD, message).fix("tls:\n  mode: DISABLE");
        }
    }
}

fn rules_of<'a>(scene: &Scene<'a>, wanted: &Reach<'_>) -> Vec<&'a str> {
    let same = |rule: &&Resource| reach(scene, rule) == *wanted;
    scene.mesh.of_kind(Kind::DestinationRule).filter(same).map(rule_mode).collect()
}

fn mutual(modes: &[&str]) -> bool {
    modes.iter().any(|mode| matches!(*mode, "ISTIO_MUTUAL" | "MUTUAL"))
}

fn strict_without_rule(scene: &Scene<'_>, found: &mut Found<'_>) {
    if auto_mtls(scene) {
        return;
    }
    for policy in policies(scene).filter(|one| selector(one).is_none() && mode(one) == "STRICT") {
        let namespace = policy.id.namespace.as_str();
        let of_mesh = namespace == scene.options.root_namespace;
        let near = if of_mesh { Vec::new() } else { rules_of(scene, &Reach::Namespace(namespace)) };
        if !mutual(&near) && !mutual(&rules_of(scene, &Reach::Mesh)) {
            let domain = &scene.options.cluster_domain;
            let host = if of_mesh { "*.local".to_owned() } else { format!("*.{namespace}.svc.{domain}") };
            found
                .at(policy, "spec.mtls", "callers send plain text, which is refused: automatic mTLS is off, and no DestinationRule turns it on")
                .fix(format!("kind: DestinationRule\nspec:\n  host: \"{host}\"\n  trafficPolicy:\n    tls:\n      mode: ISTIO_MUTUAL"));
        }
    }
}

fn disabled_but_used(scene: &Scene<'_>, found: &mut Found<'_>) {
    for policy in policies(scene).filter(|one| selector(one).is_none() && mode(one) == "DISABLE") {
        let namespace = policy.id.namespace.as_str();
        let of_mesh = namespace == scene.options.root_namespace;
        let near = if of_mesh { Vec::new() } else { rules_of(scene, &Reach::Namespace(namespace)) };
        let far = rules_of(scene, &Reach::Mesh);
        let deciding = if near.is_empty() { &far } else { &near };
        if mutual(deciding) && !deciding.contains(&"DISABLE") {
            let message =
                "a DestinationRule for the same hosts still uses mutual TLS, which nobody takes here: calls fail";
            found.at(policy, "spec.mtls", message).fix("mtls:\n  mode: PERMISSIVE");
        }
    }
}

fn loses_tls(scene: &Scene<'_>, found: &mut Found<'_>) {
    if auto_mtls(scene) {
        return;
    }
    let mesh = mutual(&rules_of(scene, &Reach::Mesh));
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let wide = mesh || mutual(&rules_of(scene, &Reach::Namespace(&rule.id.namespace)));
        if wide
            && matches!(reach(scene, rule), Reach::Host(_))
            && rule.at("spec.trafficPolicy").is_some()
            && rule_mode(rule).is_empty()
        {
            found
                .at(
                    rule,
                    "spec.trafficPolicy",
                    "takes the place of the wider rule as a whole, with its mutual TLS: these calls go in plain text",
                )
                .fix("tls:\n  mode: ISTIO_MUTUAL");
        }
    }
}

fn loosened(scene: &Scene<'_>, found: &mut Found<'_>) {
    let root = &scene.options.root_namespace;
    if wide_policy(scene, root).map(mode) != Some("STRICT") {
        return;
    }
    for policy in policies(scene).filter(|one| one.id.namespace != *root) {
        if matches!(mode(policy), "DISABLE" | "PERMISSIVE") {
            let message = format!(
                "the mesh demands mutual TLS (STRICT); {} lets callers in without an identity here",
                mode(policy)
            );
            found.at(policy, "spec.mtls.mode", message).fix("mtls:\n  mode: STRICT");
        }
        for (port, how) in policy.at("spec.portLevelMtls").map(Node::entries).unwrap_or_default() {
            let (port, how) =
                (port.as_str().unwrap_or_default(), how.get("mode").and_then(Node::as_str).unwrap_or_default());
            if matches!(how, "DISABLE" | "PERMISSIVE") {
                let message = format!(
                    "the mesh demands mutual TLS (STRICT); {how} lets callers in without an identity on port {port}"
                );
                found
                    .at(policy, &format!("spec.portLevelMtls.{port}.mode"), message)
                    .fix(format!("portLevelMtls:\n  {port}:\n    mode: STRICT"));
            }
        }
    }
}

/// A RequestAuthentication refuses bad tokens only; that there is one must be demanded by an AuthorizationPolicy.
fn token_optional(scene: &Scene<'_>, found: &mut Found<'_>) {
    let demands = |policy: &Resource| {
        policy.list("spec.rules").iter().any(|rule| {
            let sources =
                rule.get("from").map(Node::items).unwrap_or_default().iter().filter_map(|one| one.get("source"));
            let keys =
                rule.get("when").map(Node::items).unwrap_or_default().iter().filter_map(|one| one.get("key")?.as_str());
            sources.into_iter().any(|one| one.get("requestPrincipals").or(one.get("notRequestPrincipals")).is_some())
                || keys.into_iter().any(|key| key.starts_with("request.auth."))
        })
    };
    // Where routes ask for a claim, calls without a token find none.
    let routed_by_claim = scene.mesh.of_kind(Kind::VirtualService).any(|route| {
        let rules =
            route.list("spec.http").iter().flat_map(|rule| rule.get("match").map(Node::items).unwrap_or_default());
        let headers = rules.flat_map(|one| one.get("headers").map(Node::entries).unwrap_or_default());
        headers.filter_map(|(key, _)| key.as_str()).any(|key| key.starts_with("@request.auth."))
    });
    for request in scene.mesh.of_kind(Kind::RequestAuthentication).filter(|one| !one.list("spec.jwtRules").is_empty()) {
        let near = |policy: &&Resource| {
            policy.id.namespace == request.id.namespace || policy.id.namespace == scene.options.root_namespace
        };
        if !scene.mesh.of_kind(Kind::AuthorizationPolicy).filter(near).any(demands) {
            let message = "bad tokens are refused, and calls without a token pass: no AuthorizationPolicy here asks for requestPrincipals";
            let severity = if routed_by_claim { Severity::Info } else { Severity::Warning };
            found.at(request, "spec.jwtRules", message).severity(severity).fix(
                "kind: AuthorizationPolicy\nspec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n        notRequestPrincipals: [\"*\"]",
            );
        }
    }
}

/// Where workloads are declared, MS0904 tells which of the policies holds for them.
fn two_of_workload(scene: &Scene<'_>, found: &mut Found<'_>) {
    let all: Vec<(&Resource, BTreeMap<String, String>)> =
        policies(scene).filter_map(|one| Some((one, selector(one)?))).collect();
    for (policy, own) in &all {
        let near = |other: &Resource| other.id.namespace == policy.id.namespace && rank(other) < rank(policy);
        let rival = all.iter().find(|(other, labels)| near(other) && labels == own);
        let Some((rival, _)) = rival else { continue };
        if scene.index.selected(own, &policy.id.namespace).is_empty() {
            found.at(policy, "spec.selector", format!("has no effect: {} selects the same workloads", rival.id));
        }
    }
}

fn selects_nothing(scene: &Scene<'_>, found: &mut Found<'_>) {
    let workloads = workloads(scene);
    for kind in [Kind::PeerAuthentication, Kind::RequestAuthentication] {
        for policy in scene.mesh.of_kind(kind) {
            let Some(labels) = selector(policy) else { continue };
            let has_workloads = workloads.iter().any(|one| one.resource.id.namespace == policy.id.namespace);
            let chosen = !scene.index.selected(&labels, &policy.id.namespace).is_empty()
                || scene.index.beyond(&labels, Some(&policy.id.namespace));
            if has_workloads && !chosen {
                let message = format!(
                    "no workload of namespace {} has these labels: the policy does nothing",
                    policy.id.namespace
                );
                found.at(policy, "spec.selector", message);
            }
        }
    }
}
