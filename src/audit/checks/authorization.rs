//! Who may call whom: identities that no caller has, names that are not there, rules that let everybody in.

use super::Check;
use super::authentication::{effective_mode, rule_mode};
use super::kiali_context::{
    auto_mtls, covers, holds_for, items, registered, selector, service_of, texts, trust_domains, workloads,
};
use crate::audit::{Found, Scene};
use crate::mesh::select::selects;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0501",
        severity: Severity::Error,
        title: "a rule asks for an identity that calls do not carry",
        also: &["KIA0105"],
        run: needs_mtls,
    },
    Check {
        code: "MS0503",
        severity: Severity::Error,
        title: "a service account is named that is not there",
        also: &["KIA0106", "KIA1701"],
        run: principals,
    },
    Check {
        code: "MS0504",
        severity: Severity::Warning,
        title: "a rule names a principal of a foreign trust domain",
        also: &["KIA0107", "KIA0108"],
        run: foreign,
    },
    Check {
        code: "MS0505",
        severity: Severity::Warning,
        title: "a rule names a method that HTTP does not have",
        also: &["KIA0102"],
        run: methods,
    },
    Check {
        code: "MS0506",
        severity: Severity::Warning,
        title: "a rule names a host that nobody serves",
        also: &["KIA0104"],
        run: hosts,
    },
    Check {
        code: "MS0507",
        severity: Severity::Info,
        title: "a workload that no authorization policy covers",
        also: &["KIA1301"],
        run: uncovered,
    },
    Check { code: "MS0508", severity: Severity::Warning, title: "a rule lets everybody in", also: &[], run: everybody },
];

fn policies<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a Resource> {
    scene.mesh.of_kind(Kind::AuthorizationPolicy)
}

/// The sources of a policy, each with its path.
fn sources(policy: &Resource) -> impl Iterator<Item = (String, &Node)> {
    policy.list("spec.rules").iter().enumerate().flat_map(|(at, rule)| {
        items(rule, "from")
            .iter()
            .enumerate()
            .filter_map(move |(from, one)| Some((format!("spec.rules[{at}].from[{from}].source"), one.get("source")?)))
    })
}

/// The fields of a policy that only mutual TLS fills.
fn identity_fields(policy: &Resource) -> Vec<String> {
    const FIELDS: [&str; 6] =
        ["principals", "notPrincipals", "namespaces", "notNamespaces", "serviceAccounts", "notServiceAccounts"];
    let filled = |source: &Node, name: &str| !items(source, name).is_empty();
    let mut fields: Vec<String> = sources(policy)
        .flat_map(|(path, source)| {
            FIELDS
                .iter()
                .filter(|name| filled(source, name))
                .map(move |name| format!("{path}.{name}"))
                .collect::<Vec<_>>()
        })
        .collect();
    for (at, rule) in policy.list("spec.rules").iter().enumerate() {
        for (when, condition) in items(rule, "when").iter().enumerate() {
            let key = condition.get("key").and_then(Node::as_str).unwrap_or_default();
            if matches!(key, "source.principal" | "source.namespace" | "source.serviceAccount" | "connection.sni") {
                fields.push(format!("spec.rules[{at}].when[{when}]"));
            }
        }
    }
    fields
}

/// Why calls to what a policy selects carry no identity; none: they do.
fn without_identity(scene: &Scene<'_>, policy: &Resource) -> Option<String> {
    let namespace = &policy.id.namespace;
    let labels = selector(policy).unwrap_or_default();
    if effective_mode(scene, namespace, &labels) == "DISABLE" {
        return Some("mutual TLS is disabled there (PeerAuthentication)".to_owned());
    }
    let selected = |service: &&Resource| {
        let wanted = service.map("spec.selector");
        service.id.namespace == *namespace
            && !wanted.is_empty()
            && (selects(&labels, &wanted) || selects(&wanted, &labels))
    };
    let services: Vec<&Resource> = scene.mesh.of_kind(Kind::Service).filter(selected).collect();
    let auto = auto_mtls(scene);
    if services.is_empty() || labels.is_empty() {
        let wide = format!("any.{namespace}.svc.{}", scene.options.cluster_domain);
        let mode = rule_for(scene, &wide, namespace).map(rule_mode).unwrap_or_default();
        return reason(mode, auto);
    }
    services.iter().find_map(|service| {
        let host = format!("{}.{namespace}.svc.{}", service.id.name, scene.options.cluster_domain);
        reason(rule_for(scene, &host, namespace).map(rule_mode).unwrap_or_default(), auto)
    })
}

fn reason(mode: &str, auto: bool) -> Option<String> {
    match mode {
        "DISABLE" | "SIMPLE" => Some(format!("a DestinationRule calls with TLS mode {mode}")),
        "" if !auto => Some("automatic mTLS is off and no DestinationRule turns it on".to_owned()),
        _ => None,
    }
}

/// The destination rule with the longest host that covers a full name.
fn rule_for<'a>(scene: &Scene<'a>, full: &str, namespace: &str) -> Option<&'a Resource> {
    let host = |rule: &'a Resource| rule.text("spec.host").unwrap_or_default();
    let fits = |rule: &&'a Resource| {
        let written = host(rule);
        let same = || service_of(scene, written, &rule.id.namespace) == service_of(scene, full, namespace);
        covers(written, full) || (!written.starts_with('*') && same())
    };
    let length = |rule: &&'a Resource| {
        let written = host(rule);
        (!written.starts_with('*'), written.len())
    };
    scene.mesh.of_kind(Kind::DestinationRule).filter(fits).max_by_key(length)
}

fn needs_mtls(scene: &Scene<'_>, found: &mut Found<'_>) {
    for policy in policies(scene) {
        let fields = identity_fields(policy);
        if fields.is_empty() {
            continue;
        }
        let Some(why) = without_identity(scene, policy) else { continue };
        for field in fields {
            let message =
                format!("needs the caller's certificate, and {why}: the rule never fits (a negated one always)");
            found.at(policy, &field, message);
        }
    }
}

/// The trust domain, namespace and service account of a principal that is written in full.
fn parts(principal: &str) -> Option<(&str, &str, &str)> {
    let (domain, rest) = principal.split_once("/ns/")?;
    let (namespace, account) = rest.split_once("/sa/")?;
    (!principal.contains('*')).then_some((domain, namespace, account))
}

fn each_principal(policy: &Resource, mut look: impl FnMut(String, &str)) {
    for (path, source) in sources(policy) {
        for name in ["principals", "notPrincipals"] {
            texts(source, name).for_each(|(at, principal)| look(format!("{path}.{name}[{at}]"), principal));
        }
    }
}

fn principals(scene: &Scene<'_>, found: &mut Found<'_>) {
    let domains = trust_domains(scene);
    // Without declared accounts nothing can be said of one that is missing.
    if scene.mesh.of_kind(Kind::ServiceAccount).next().is_none() {
        return;
    }
    let used: Vec<(String, String)> =
        workloads(scene).iter().map(|one| (one.resource.id.namespace.clone(), one.account.clone())).collect();
    for policy in policies(scene) {
        each_principal(policy, |path, principal| {
            let Some((domain, namespace, account)) = parts(principal) else { return };
            let there = account == "default"
                || scene.mesh.get(Kind::ServiceAccount, namespace, account).is_some()
                || used.iter().any(|(place, name)| place == namespace && name == account)
                || scene
                    .index
                    .generated
                    .iter()
                    .any(|one| one.gateway.id.namespace == namespace && one.account == account);
            if domains.iter().any(|own| own == domain) && !there {
                found.at(
                    policy,
                    &path,
                    format!("there is no ServiceAccount {namespace}/{account}: nobody calls with this identity"),
                );
            }
        });
    }
    for group in scene.mesh.of_kind(Kind::WorkloadGroup) {
        let Some(account) = group.text("spec.template.serviceAccount").filter(|name| *name != "default") else {
            continue;
        };
        if scene.mesh.get(Kind::ServiceAccount, &group.id.namespace, account).is_none() {
            let message =
                format!("there is no ServiceAccount {}/{account}: its machines get no certificate", group.id.namespace);
            found.at(group, "spec.template.serviceAccount", message).severity(Severity::Warning);
        }
    }
}

fn foreign(scene: &Scene<'_>, found: &mut Found<'_>) {
    let domains = trust_domains(scene);
    for policy in policies(scene) {
        each_principal(policy, |path, principal| {
            let Some((domain, ..)) = parts(principal) else { return };
            if !domains.iter().any(|own| own == domain) && domain != "cluster.local" {
                let message = format!(
                    "the trust domain {domain} is not that of the mesh ({}): callers need its root certificate",
                    domains.join(", ")
                );
                found.at(policy, &path, message);
            }
        });
    }
}

fn each_operation(policy: &Resource, name: &str, mut look: impl FnMut(String, &str)) {
    for (at, rule) in policy.list("spec.rules").iter().enumerate() {
        for (to, one) in items(rule, "to").iter().enumerate() {
            let Some(operation) = one.get("operation") else { continue };
            for (index, text) in texts(operation, name) {
                look(format!("spec.rules[{at}].to[{to}].operation.{name}[{index}]"), text);
            }
        }
    }
}

fn methods(scene: &Scene<'_>, found: &mut Found<'_>) {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    for policy in policies(scene) {
        for name in ["methods", "notMethods"] {
            each_operation(policy, name, |path, method| {
                if !method.contains('*') && !KNOWN.contains(&method) {
                    let upper = method.to_uppercase();
                    let note = found.at(policy, &path, format!("{method:?} is no HTTP method: no call has it"));
                    if KNOWN.contains(&upper.as_str()) {
                        note.fix(format!("- {upper}"));
                    }
                }
            });
        }
    }
}

fn hosts(scene: &Scene<'_>, found: &mut Found<'_>) {
    // Without services nothing can be said of one that is missing.
    if scene.mesh.of_kind(Kind::Service).next().is_none() {
        return;
    }
    let of = |kind: Kind, path: &'static str| {
        scene.mesh.of_kind(kind).flat_map(move |one| one.list(path)).filter_map(Node::as_str).collect::<Vec<_>>()
    };
    let routed = of(Kind::VirtualService, "spec.hosts");
    let public: Vec<&str> = scene
        .mesh
        .of_kind(Kind::Gateway)
        .flat_map(|one| one.list("spec.servers"))
        .flat_map(|one| items(one, "hosts"))
        .filter_map(Node::as_str)
        .collect();
    let routes: Vec<&str> = of(Kind::HttpRoute, "spec.hostnames");
    for policy in policies(scene) {
        each_operation(policy, "hosts", |path, written| {
            let host = written.rsplit_once(':').map_or(written, |(host, _)| host);
            let named = |all: &[&str]| all.iter().any(|one| covers(one.rsplit('/').next().unwrap_or(one), host));
            if !host.contains('*')
                && !registered(scene, host, &policy.id.namespace)
                && ![&routed, &public, &routes].iter().any(|all| named(all))
            {
                found.at(
                    policy,
                    &path,
                    format!("no service, service entry, route or gateway has the host {host}: the rule never fits"),
                );
            }
        });
    }
}

fn uncovered(scene: &Scene<'_>, found: &mut Found<'_>) {
    let domains = trust_domains(scene);
    // A mesh that does not use authorization at all is the scorecard's matter.
    if policies(scene).next().is_none() {
        return;
    }
    for workload in workloads(scene).iter().filter(|one| one.resource.id.namespace != scene.options.root_namespace) {
        let targeted = |policy: &Resource| {
            policy.id.namespace == workload.resource.id.namespace && !policy.list("spec.targetRefs").is_empty()
        };
        if !policies(scene).any(|policy| holds_for(scene, policy, workload) || targeted(policy)) {
            let id = &workload.resource.id;
            let labels: Vec<String> = match workload.labels.get_key_value("app") {
                Some((key, value)) => vec![format!("      {key}: {value}")],
                None if workload.labels.is_empty() => vec!["      app: NAME # the pods need a label first".to_owned()],
                None => workload.labels.iter().map(|(key, value)| format!("      {key}: {value:?}")).collect(),
            };
            let message = "no AuthorizationPolicy covers this workload: no caller is refused for who it is";
            found.at(workload.resource, "", message).fix(format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {}\n  namespace: {}\n\
                 spec:\n  selector:\n    matchLabels:\n{}\n  rules:\n  - from:\n    - source:\n        principals:\n        \
                 - {}/ns/{}/sa/CALLER # all who call, for others are then refused: MS2022 lists those seen",
                id.name,
                id.namespace,
                labels.join("\n"),
                domains[0],
                id.namespace
            ));
        }
    }
}

/// An ALLOW rule that asks for nothing, or for a caller of any name.
fn everybody(scene: &Scene<'_>, found: &mut Found<'_>) {
    for policy in policies(scene).filter(|one| matches!(one.text("spec.action"), None | Some("ALLOW"))) {
        for (at, rule) in policy.list("spec.rules").iter().enumerate() {
            let narrow = ["from", "to", "when"].iter().any(|name| !items(rule, name).is_empty());
            if !narrow {
                let message =
                    "an empty rule fits every call: all other ALLOW rules for the same workloads lose their meaning";
                found.at(policy, &format!("spec.rules[{at}]"), message);
            }
        }
    }
}
