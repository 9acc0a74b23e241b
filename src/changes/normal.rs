//! An object as it is compared and kept: what people declare, without what the cluster writes for itself, secrets covered.

use serde_json::{Map, Value as Json};

use crate::audit::{looks_secret, mask};
use crate::mesh::{Kind, Resource, WRITTEN_BY_PROGRAMS};
use crate::model::Timestamp;
use crate::yaml::{Node, Value};

/// Keys of an object that people write; all else at the top (`spec`, `data`, `webhooks`) is taken as well.
const NOT_DECLARED: [&str; 1] = ["status"];
/// What stands in place of a secret.
const MASK: &str = "***";
/// Deepest nesting that is kept; a reader of YAML or JSON stops before.
const DEPTH_MAX: usize = 200;

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Normal {
    /// As declared: `apiVersion`, `kind`, `metadata`, `spec` …
    pub body: Json,
    /// The same for all objects that say the same, whichever version they are read in.
    pub hash: u64,
    /// `metadata.generation`, where a cluster counts.
    pub generation: Option<u64>,
    /// Who wrote it last, and when.
    pub written: Option<(String, Timestamp)>,
}

/// Whether generations of a kind are kept: those of configuration are.
pub fn is_tracked(kind: Kind) -> bool {
    kind.is_configuration()
}

/// What is compared and kept of an object.
pub fn normal(resource: &Resource) -> Normal {
    let mut root = Map::new();
    for (key, value) in resource.root.entries() {
        let Some(key) = key.as_str().filter(|key| !NOT_DECLARED.contains(key)) else { continue };
        let value = if key == "metadata" { metadata(resource) } else { json(key, value, 0) };
        root.insert(key.to_owned(), value);
    }
    let version = root.remove("apiVersion");
    let hash = crate::model::fnv1a(Json::Object(root.clone()).to_string().into_bytes());
    root.extend(version.map(|version| ("apiVersion".to_owned(), version)));
    let generation = resource.text("metadata.generation").and_then(|text| text.parse().ok());
    Normal { body: Json::Object(root), hash, generation, written: written(resource) }
}

/// Name, namespace, labels, annotations: the rest of `metadata` belongs to the cluster.
fn metadata(resource: &Resource) -> Json {
    let mut all = Map::new();
    all.insert("name".to_owned(), resource.id.name.clone().into());
    if !resource.id.namespace.is_empty() {
        all.insert("namespace".to_owned(), resource.id.namespace.clone().into());
    }
    for key in ["labels", "annotations"] {
        let written = resource.at(&format!("metadata.{key}")).map(|node| json(key, node, 0));
        let Some(Json::Object(mut map)) = written else { continue };
        map.retain(|name, _| !WRITTEN_BY_PROGRAMS.contains(&name.as_str()));
        if !map.is_empty() {
            all.insert(key.to_owned(), Json::Object(map));
        }
    }
    Json::Object(all)
}

/// The last who wrote more than its status.
fn written(resource: &Resource) -> Option<(String, Timestamp)> {
    let writer = |node: &Node| {
        let text = |key: &str| node.get(key).and_then(Node::as_str);
        let at = chrono::DateTime::parse_from_rfc3339(text("time")?).ok()?;
        text("subresource").is_none().then_some((text("manager")?.to_owned(), Timestamp::from(at.to_utc())))
    };
    resource.list("metadata.managedFields").iter().filter_map(writer).max_by_key(|(_, at)| *at)
}

/// A tree as JSON, what looks like a secret covered. `name` is the key that it stands under.
fn json(name: &str, node: &Node, depth: usize) -> Json {
    if depth > DEPTH_MAX {
        return Json::Null;
    }
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
        Value::String(text) => Json::String(covered(name, text)),
        Value::Sequence(items) => items.iter().map(|item| json(name, item, depth + 1)).collect(),
        Value::Mapping(entries) => {
            // `{name: DB_PASSWORD, value: …}`: the value stands under what the name says.
            let named = node.get("name").and_then(Node::as_str);
            let entry = |(key, value): &(Node, Node)| {
                let key = key.as_str()?;
                let called = if key == "value" { named.unwrap_or(key) } else { key };
                Some((key.to_owned(), json(called, value, depth + 1)))
            };
            Json::Object(entries.iter().filter_map(entry).collect())
        }
    }
}

fn covered(name: &str, text: &str) -> String {
    if !looks_secret(name, text) {
        return text.to_owned();
    }
    // Of a file with many lines those that hold no secret stay.
    let masked = mask(text);
    if text.contains('\n') && masked != text { masked } else { MASK.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Input, Snapshot};

    fn of(text: &str) -> Normal {
        let mesh = Snapshot::read(&[Input { name: "a.yaml".into(), text: text.to_owned() }], "default");
        assert!(mesh.unread.is_empty(), "{:?}", mesh.unread);
        normal(mesh.iter().next().expect("an object"))
    }

    #[test]
    fn what_a_cluster_writes_for_itself_is_no_difference() {
        let declared = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {name: a, namespace: shop, labels: {team: x}}\nspec: {host: a, n: 1.50}\n";
        let served = "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\n\
             metadata: {name: a, namespace: shop, labels: {team: x}, uid: u, resourceVersion: '7', generation: 3,\n  \
               annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'},\n  \
               managedFields: [{manager: helm, time: '2026-01-02T03:04:05Z'},\n    \
                 {manager: kubectl-edit, time: '2026-01-03T00:00:00Z'},\n    \
                 {manager: pilot, time: '2026-02-01T00:00:00Z', subresource: status}]}\n\
             spec: {host: a, n: 1.50}\nstatus: {observed: 3}\n";
        let (one, other) = (of(declared), of(served));
        assert_eq!(one.hash, other.hash);
        assert_eq!((one.generation, other.generation), (None, Some(3)));
        let (manager, at) = other.written.expect("managedFields");
        assert_eq!((manager.as_str(), at.to_string().as_str()), ("kubectl-edit", "2026-01-03T00:00:00.000Z"));
        assert_eq!(other.body.get("status"), None);
        assert_ne!(one.hash, of(&declared.replace("1.50", "1.51")).hash);
        assert_ne!(one.hash, of(&declared.replace("team: x", "team: y")).hash);
    }

    #[test]
    fn secrets_are_covered_wherever_they_stand() {
        let text = of("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {api-key: hunter2}}\n\
             data: {DB_PASSWORD: hunter2, app.ini: \"host=db\\npassword=hunter2\\n\", mode: fast}\n")
        .body
        .to_string();
        assert!(!text.contains("hunter2") && text.contains("host=db") && text.contains("fast"), "{text}");
        let text =
            of("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: \
             [{name: c, env: [{name: TOKEN, value: hunter2}, {name: MODE, value: fast}]}]}}}\n")
            .body
            .to_string();
        assert!(!text.contains("hunter2") && text.contains("fast"), "{text}");
    }
}
