//! Webhooks of Istio: injectors that take one pod twice or lead to nobody, and those of a control plane elsewhere.
//!
//! The conditions are those of istio's `webhook` and `externalcontrolplane` analyzers, but that names are not looked up in
//! the DNS: an audit asks nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::select::{Labels, label_selector};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0718",
        severity: Severity::Error,
        title: "an injector overlaps with another or leads to nobody",
        also: &["IST0139"],
        run: injectors,
    },
    Check {
        code: "MS0719",
        severity: Severity::Warning,
        title: "a webhook of an external control plane has no usable address",
        also: &["IST0163"],
        run: external,
    },
    Check {
        code: "MS0720",
        severity: Severity::Info,
        title: "a webhook of an external control plane names an IP address",
        also: &["IST0164"],
        run: external_addresses,
    },
];

const REVISION: &str = "istio.io/rev";

fn text<'a>(node: &'a Node, key: &str) -> &'a str {
    node.get(key).and_then(Node::as_str).unwrap_or_default()
}

/// The revisions that a configuration's labels and selectors name.
fn revisions(hooks: &Resource) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = hooks.labels.get(REVISION).cloned().into_iter().collect();
    for hook in hooks.list("webhooks") {
        for selector in ["namespaceSelector", "objectSelector"].iter().filter_map(|key| hook.get(key)) {
            let named = selector.get("matchLabels").and_then(|labels| labels.get(REVISION)).and_then(Node::as_str);
            all.extend(named.map(str::to_owned));
            for one in selector.get("matchExpressions").map(Node::items).unwrap_or_default() {
                let values = one.get("values").map(Node::items).unwrap_or_default();
                if text(one, "key") == REVISION {
                    all.extend(values.iter().filter_map(Node::as_str).map(str::to_owned));
                }
            }
        }
    }
    all
}

/// The labels that decide about injection, in all combinations.
fn combinations(label: &str, values: [&str; 2], revisions: &BTreeSet<String>) -> Vec<Labels> {
    let own = [None, Some(values[0]), Some(values[1])];
    let revisions = std::iter::once(None).chain(revisions.iter().map(Some));
    let pair = |revision: Option<&String>, value: Option<&str>| {
        let revision = revision.map(|revision| (REVISION.to_owned(), revision.clone()));
        revision.into_iter().chain(value.map(|value| (label.to_owned(), value.to_owned()))).collect()
    };
    revisions.flat_map(|revision| own.map(|value| pair(revision, value))).collect()
}

fn injectors(scene: &Scene<'_>, found: &mut Found<'_>) {
    let istio = |hooks: &Resource| hooks.list("webhooks").iter().any(|hook| text(hook, "name").ends_with("istio.io"));
    let own: Vec<&Resource> =
        scene.mesh.of_kind(Kind::MutatingWebhook).filter(|one| istio(one) || !revisions(one).is_empty()).collect();
    let named: BTreeSet<String> = own.iter().flat_map(|one| revisions(one)).collect();
    let hooks: Vec<(&Resource, usize, &Node)> =
        own.iter().flat_map(|one| one.list("webhooks").iter().enumerate().map(|(at, hook)| (*one, at, hook))).collect();
    let mut overlaps: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let objects = combinations("sidecar.istio.io/inject", ["true", "false"], &named);
    for namespace in combinations("istio-injection", ["enabled", "disabled"], &named) {
        let there = |hook: &Node| label_selector(hook.get("namespaceSelector"), &namespace);
        let some: Vec<usize> = (0..hooks.len()).filter(|at| there(hooks[*at].2)).collect();
        for object in &objects {
            let fits = |at: &&usize| label_selector(hooks[**at].2.get("objectSelector"), object);
            let both: Vec<usize> = some.iter().filter(fits).copied().collect();
            for at in both.iter().filter(|_| both.len() > 1) {
                overlaps.entry(*at).or_default().extend(both.iter().filter(|other| *other != at));
            }
        }
    }
    for (at, others) in overlaps {
        let (one, number, _) = hooks[at];
        let named: BTreeSet<String> = others
            .iter()
            .map(|other| format!("{} ({})", hooks[*other].0.id.name, text(hooks[*other].2, "name")))
            .collect();
        let named: Vec<String> = named.into_iter().take(5).collect();
        let message = format!("{} takes the same pods: they are injected twice", named.join(", "));
        found.at(one, &format!("webhooks[{number}]"), message);
    }
    for (one, at, hook) in hooks {
        let Some(service) = hook.get("clientConfig").and_then(|config| config.get("service")) else { continue };
        let (namespace, name) = (text(service, "namespace"), text(service, "name"));
        if scene.mesh.get(Kind::Service, namespace, name).is_none() {
            let message = format!(
                "there is no Service {namespace}/{name}: the injector leads to nobody, and pods get no proxy or do not start"
            );
            found.at(one, &format!("webhooks[{at}].clientConfig.service"), message);
        }
    }
}

const VALIDATOR: &str = "istio-validator-external-istiod";
const INJECTOR: &str = "istio-sidecar-injector-external-istiod";

/// Webhooks of a cluster whose control plane is elsewhere.
fn remote<'a>(scene: &Scene<'a>) -> Vec<(&'a Resource, usize, &'a Node)> {
    let validator = |name: &str| scene.mesh.get(Kind::ValidatingWebhook, "", name);
    let (Some(own), Some(injector)) = (validator(VALIDATOR), scene.mesh.get(Kind::MutatingWebhook, "", INJECTOR))
    else {
        return Vec::new();
    };
    let all = [Some(own), validator("istiod-default-validator"), Some(injector)];
    let hooks = |one: &'a Resource| one.list("webhooks").iter().enumerate().map(move |(at, hook)| (one, at, hook));
    all.into_iter().flatten().flat_map(hooks).collect()
}

/// The host of a webhook's address; none when there is none, or it is no address.
fn host(hook: &Node) -> Option<&str> {
    let url = hook.get("clientConfig")?.get("url")?.as_str()?;
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next()?,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then_some(host)
}

fn external(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut told = BTreeSet::new();
    for (one, at, hook) in remote(scene) {
        if host(hook).is_none() && told.insert(&one.id) {
            let message = format!(
                "the webhook {} has no address of the control plane: nothing is injected or validated",
                text(hook, "name")
            );
            found.at(one, &format!("webhooks[{at}].clientConfig.url"), message);
        }
    }
}

fn external_addresses(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut told = BTreeSet::new();
    for (one, at, hook) in remote(scene) {
        let address = host(hook).filter(|host| host.parse::<std::net::IpAddr>().is_ok());
        if let Some(address) = address.filter(|_| told.insert(&one.id)) {
            let message = format!(
                "{address} is no name: certificates and a move of the control plane are harder with an address"
            );
            found.at(one, &format!("webhooks[{at}].clientConfig.url"), message);
        }
    }
}
