//! Sidecar injection: namespaces, pods without a proxy or with another one, images that the injector never fills in.
//!
//! The conditions are those of istio's `injection` analyzers. Only pods are looked at for a missing proxy: what makes pods
//! has none before injection.

use std::collections::{BTreeMap, HashMap};

use super::Check;
use super::services::of_system;
use crate::audit::{Found, Scene};
use crate::mesh::select::Workload;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::{self, Node};

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0701",
        severity: Severity::Info,
        title: "a namespace is not in the mesh",
        also: &["IST0102"],
        run: not_injected,
    },
    Check {
        code: "MS0702",
        severity: Severity::Warning,
        title: "a pod has no proxy, though its namespace is in the mesh",
        also: &["IST0103"],
        run: no_proxy,
    },
    Check {
        code: "MS0703",
        severity: Severity::Warning,
        title: "a namespace has several labels for injection",
        also: &["IST0123"],
        run: several_labels,
    },
    Check {
        code: "MS0704",
        severity: Severity::Info,
        title: "a namespace is in the mesh by default",
        also: &["IST0148"],
        run: by_default,
    },
    Check {
        code: "MS0705",
        severity: Severity::Warning,
        title: "pods run another proxy than the injector gives",
        also: &["IST0158"],
        run: images,
    },
    Check {
        code: "MS0706",
        severity: Severity::Warning,
        title: "a Deployment waits for an image that no injector fills in",
        also: &["IST0146"],
        run: auto_deployments,
    },
    Check {
        code: "MS0707",
        severity: Severity::Error,
        title: "a pod's image was not filled in by the injector",
        also: &["IST0147"],
        run: auto_pods,
    },
];

/// What the labels of a namespace say.
#[derive(PartialEq, Eq)]
enum Wanted {
    Sidecars,
    Nothing,
    /// It is switched off, or ambient.
    Other,
    /// More than one of them, by name.
    Several(Vec<&'static str>),
}

const INJECTION: &str = "istio-injection";
const REVISION: &str = "istio.io/rev";
const AMBIENT: &str = "istio.io/dataplane-mode";

fn wanted(namespace: &Resource) -> Wanted {
    let label = |name: &str| namespace.labels.get(name).map(String::as_str);
    let (injection, revision, mode) = (label(INJECTION).unwrap_or_default(), label(REVISION), label(AMBIENT));
    let ambient = mode == Some("ambient");
    if !injection.is_empty() && injection != "enabled" {
        return Wanted::Other;
    }
    let all = [(INJECTION, !injection.is_empty()), (REVISION, revision.is_some()), (AMBIENT, ambient)];
    let named: Vec<&'static str> = all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    match named.as_slice() {
        [] => Wanted::Nothing,
        [AMBIENT] => Wanted::Other,
        [_] => Wanted::Sidecars,
        _ => Wanted::Several(named),
    }
}

/// Namespaces that people own.
fn namespaces<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a Resource> {
    let root = scene.index.root_namespace.clone();
    scene.mesh.of_kind(Kind::Namespace).filter(move |one| one.id.name != root && !of_system(&one.id.name))
}

/// The name of the injector's ConfigMap for the revision of a namespace.
fn injector(namespace: &Resource) -> String {
    match namespace.labels.get(REVISION).map(String::as_str) {
        None | Some("" | "default") => "istio-sidecar-injector".to_owned(),
        Some(revision) => format!("istio-sidecar-injector-{revision}"),
    }
}

/// The `values` of the injectors' ConfigMaps, by name.
fn values(scene: &Scene<'_>) -> HashMap<String, Node> {
    let maps = scene.mesh.of_kind(Kind::ConfigMap).filter(|map| map.id.name.starts_with("istio-sidecar-injector"));
    maps.filter_map(|map| {
        let text = map.at("data")?.get("values")?.as_str()?;
        Some((map.id.name.clone(), yaml::documents(text).ok()?.into_iter().next()?))
    })
    .collect()
}

fn path<'a>(node: &'a Node, keys: &[&str]) -> Option<&'a str> {
    keys.iter().try_fold(node, |node, key| node.get(key)).and_then(Node::as_str)
}

fn is_default(values: &HashMap<String, Node>, namespace: &Resource) -> bool {
    let node = values.get(&injector(namespace));
    node.and_then(|node| path(node, &["sidecarInjectorWebhook", "enableNamespacesByDefault"])) == Some("true")
}

fn not_injected(scene: &Scene<'_>, found: &mut Found<'_>) {
    let values = values(scene);
    for namespace in namespaces(scene).filter(|one| wanted(one) == Wanted::Nothing && !is_default(&values, one)) {
        found
            .at(namespace, "metadata", "no label puts it into the mesh: its pods send plaintext and are seen by nobody")
            .fix("labels:\n  istio-injection: enabled # or disabled, to say that it is meant so");
    }
}

fn by_default(scene: &Scene<'_>, found: &mut Found<'_>) {
    let values = values(scene);
    for namespace in namespaces(scene).filter(|one| wanted(one) == Wanted::Nothing && is_default(&values, one)) {
        found.at(
            namespace,
            "metadata",
            "it has no label, and Istio is installed with enableNamespacesByDefault: its pods get sidecars",
        );
    }
}

fn several_labels(scene: &Scene<'_>, found: &mut Found<'_>) {
    for namespace in namespaces(scene) {
        if let Wanted::Several(labels) = wanted(namespace) {
            let message = format!(
                "{} are set: which of them holds depends on the injectors that are installed",
                labels.join(" and ")
            );
            found.at(namespace, "metadata.labels", message);
        }
    }
}

fn no_proxy(scene: &Scene<'_>, found: &mut Found<'_>) {
    for pod in scene.mesh.of_kind(Kind::Pod) {
        let namespace = scene.mesh.get(Kind::Namespace, "", &pod.id.namespace);
        let sidecars = |one: &Resource| wanted(one) == Wanted::Sidecars && one.id.name != scene.index.root_namespace;
        if !namespace.is_some_and(sidecars) {
            continue;
        }
        let own =
            |labels: &BTreeMap<String, String>| labels.get("sidecar.istio.io/inject").map(|value| value.to_lowercase());
        let off = own(&pod.labels).or_else(|| own(&pod.annotations)).is_some_and(|value| value == "false");
        let host = pod.text("spec.hostNetwork") == Some("true");
        if !off && !host && Workload::of(pod).is_some_and(|one| one.proxy_image().is_none()) {
            let message = "it has no proxy, though its namespace is in the mesh: it was made before the label, or injection failed";
            found.at(pod, "metadata.name", message);
        }
    }
}

/// The image that an injector gives.
fn given(values: &Node) -> Option<String> {
    let part = |keys: &[&str]| path(values, keys);
    let image = part(&["global", "proxy", "image"])?;
    if image.contains('/') {
        return Some(image.to_owned());
    }
    Some(format!("{}/{image}:{}", part(&["global", "hub"])?, part(&["global", "tag"])?))
}

fn images(scene: &Scene<'_>, found: &mut Found<'_>) {
    let given: HashMap<String, String> =
        values(scene).into_iter().filter_map(|(name, node)| Some((name, given(&node)?))).collect();
    if given.is_empty() {
        return;
    }
    // Which variant a proxy is of is set elsewhere (ProxyConfig, annotations) and is not a matter of age.
    let plain = |image: &str| image.trim_end_matches("-distroless").trim_end_matches("-debug").to_owned();
    let mut others: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for pod in scene.mesh.of_kind(Kind::Pod) {
        let Some(namespace) = scene.mesh.get(Kind::Namespace, "", &pod.id.namespace) else { continue };
        let enabled = namespace.labels.get(INJECTION).is_some_and(|value| value == "enabled");
        if !(enabled || namespace.labels.contains_key(REVISION))
            || pod.annotations.contains_key("sidecar.istio.io/proxyImage")
        {
            continue;
        }
        let image = Workload::of(pod).and_then(|one| one.proxy_image());
        let (Some(image), Some(given)) = (image, given.get(&injector(namespace))) else { continue };
        if plain(image) != plain(given) {
            others.entry(&pod.id.namespace).or_default().push((&pod.id.name, image));
        }
    }
    for (name, pods) in others {
        let Some(namespace) = scene.mesh.get(Kind::Namespace, "", name) else { continue };
        let given = given.get(&injector(namespace)).map_or("", String::as_str);
        let mut note = found.at(
            namespace,
            "metadata.name",
            format!("{} of its pods run another proxy than {given}: restart them", pods.len()),
        );
        for (pod, image) in pods.iter().take(5) {
            note = note.seen(format!("{pod} runs {image}"));
        }
    }
}

fn auto(workload: &Workload<'_>) -> bool {
    workload
        .containers()
        .any(|one| path(one, &["name"]) == Some("istio-proxy") && path(one, &["image"]) == Some("auto"))
}

fn auto_pods(scene: &Scene<'_>, found: &mut Found<'_>) {
    for workload in scene.mesh.of_kind(Kind::Pod).filter_map(Workload::of).filter(auto) {
        found.at(
            workload.resource,
            "spec.containers",
            "the image of istio-proxy is \"auto\": no injector filled it in, and the pod cannot start",
        );
    }
}

fn auto_deployments(scene: &Scene<'_>, found: &mut Found<'_>) {
    for workload in scene.mesh.of_kind(Kind::Deployment).filter_map(Workload::of).filter(auto) {
        if !scene.index.injected(&workload.resource.id.namespace, &workload.labels) {
            let message = "the image of istio-proxy is \"auto\" and no injector takes these pods: they cannot start";
            found
                .at(workload.resource, "spec.template.metadata.labels", message)
                .fix("sidecar.istio.io/inject: \"true\"");
        }
    }
}
