//! Selection by labels: Istio's plain maps, Kubernetes' selectors, and the workloads they choose from.
//!
//! In: selectors and objects. Out: whether one chooses the other. Pure.

use std::collections::BTreeMap;

use super::kind::Kind;
use super::resource::Resource;
use crate::yaml::Node;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Labels that name the app of a workload, as Istio picks the canonical service: the first that is there holds.
pub const APP_LABELS: [&str; 3] = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];

/// Whether a map of labels chooses an object with `labels`: each pair must be there. An empty map chooses all.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a Kubernetes `LabelSelector` (`matchLabels`, `matchExpressions`) chooses an object with `labels`. A missing
/// selector chooses all, one with an unknown operator nothing.
pub fn label_selector(selector: Option<&Node>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return true };
    let pairs = selector.get("matchLabels").map(super::resource::texts).unwrap_or_default();
    let expressions = selector.get("matchExpressions").map(Node::items).unwrap_or_default();
    selects(&pairs, labels) && expressions.iter().all(|one| expression(one, labels))
}

fn expression(node: &Node, labels: &Labels) -> bool {
    let text = |key: &str| node.get(key).and_then(Node::as_str).unwrap_or_default();
    let value = labels.get(text("key"));
    let listed = |value: &String| {
        let values = node.get("values").map(Node::items).unwrap_or_default();
        values.iter().any(|one| one.as_str() == Some(value))
    };
    match text("operator") {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// A selector as `kubectl` writes it: `app=cart,version=v1`.
pub fn written(selector: &Labels) -> String {
    let pairs: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Something that runs, or will: a pod, or what makes pods.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// The pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Rollout (of Argo), Job or CronJob.
    pub resource: &'a Resource,
    /// Labels of its pods, with the topology labels of the node that a pod runs on.
    pub labels: Labels,
    /// Annotations of its pods.
    pub annotations: Labels,
}

/// Where the pod template of an object of a kind stands (`""` for a pod, which is its own); none for kinds without.
pub fn template(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Pod => Some(""),
        Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::ReplicaSet | Kind::Rollout | Kind::Job => {
            Some("spec.template.")
        }
        Kind::CronJob => Some("spec.jobTemplate.spec.template."),
        _ => None,
    }
}

/// All kinds that are, or make, pods.
pub const WORKLOAD_KINDS: [Kind; 8] = [
    Kind::Pod,
    Kind::Deployment,
    Kind::StatefulSet,
    Kind::DaemonSet,
    Kind::ReplicaSet,
    Kind::Rollout,
    Kind::Job,
    Kind::CronJob,
];

impl<'a> Workload<'a> {
    /// What an object runs; none for kinds that run nothing.
    pub fn of(resource: &'a Resource) -> Option<Self> {
        let prefix = template(resource.id.kind)?;
        let map = |key: &str| resource.map(&format!("{prefix}metadata.{key}"));
        Some(Self { resource, labels: map("labels"), annotations: map("annotations") })
    }

    /// The path of a field of the pod's spec, `spec.template.spec.containers`.
    pub fn field(&self, name: &str) -> String {
        format!("{}spec.{name}", template(self.resource.id.kind).unwrap_or_default())
    }

    /// The containers, init containers last.
    pub fn containers(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        let resource = self.resource;
        let [plain, init] = ["containers", "initContainers"].map(|name| resource.list(&self.field(name)));
        plain.iter().chain(init)
    }

    /// The number of a port that a container names.
    pub fn port_named(&self, name: &str) -> Option<u16> {
        let mut ports = self.containers().flat_map(|one| one.get("ports").map(Node::items).unwrap_or_default());
        let port = ports.find(|one| one.get("name").and_then(Node::as_str) == Some(name))?;
        port.get("containerPort")?.as_str()?.parse().ok()
    }

    /// The image of its proxy, when that is in the spec.
    pub fn proxy_image(&self) -> Option<&'a str> {
        let text = |node: &'a Node, key: &str| node.get(key).and_then(Node::as_str);
        let mut images = self.containers().filter(|one| text(one, "name") == Some("istio-proxy"));
        images.find_map(|one| text(one, "image")).filter(|image| !image.is_empty())
    }

    /// Whether ztunnel carries its traffic.
    pub fn ambient(&self) -> bool {
        self.annotations.get("ambient.istio.io/redirection").is_some_and(|value| value == "enabled")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_pair_of_a_selector_must_be_there() {
        let cart = labels(&[("app", "cart"), ("version", "v1")]);
        assert!(selects(&labels(&[]), &cart) && selects(&labels(&[("app", "cart")]), &cart));
        assert!(!selects(&labels(&[("app", "cart"), ("version", "v2")]), &cart));
        assert!(!selects(&labels(&[("tier", "")]), &cart), "a missing label is not an empty one");
    }

    #[test]
    fn selectors_of_kubernetes_have_expressions() {
        let cart = labels(&[("app", "cart")]);
        let cases = [
            ("{}", true),
            ("{matchLabels: {app: cart}}", true),
            ("{matchLabels: {app: web}}", false),
            ("{matchExpressions: [{key: app, operator: In, values: [web, cart]}]}", true),
            ("{matchExpressions: [{key: app, operator: NotIn, values: [cart]}]}", false),
            ("{matchExpressions: [{key: tier, operator: NotIn, values: [cart]}]}", true),
            ("{matchExpressions: [{key: tier, operator: Exists}]}", false),
            ("{matchExpressions: [{key: tier, operator: DoesNotExist}]}", true),
            ("{matchExpressions: [{key: app, operator: Like}]}", false),
        ];
        for (text, chosen) in cases {
            let nodes = yaml::documents(text).expect("yaml");
            assert_eq!(label_selector(nodes.first(), &cart), chosen, "{text}");
        }
        assert!(label_selector(None, &cart));
    }
}
