//! What is held of a cluster's object: what somebody asks for, and no values of secrets.
//!
//! In: an object as the API server sends it. Out: the same with less in it. Invariant: slimming twice is slimming once.

use serde_json::{Map, Value as Json};

use super::kind::Kind;
use super::resource::LAST_APPLIED;

/// What is held of a pod's status.
const POD_STATUS: [&str; 3] = ["phase", "podIP", "startTime"];
/// What is held of a pod's specification, its containers aside.
const POD_SPEC: [&str; 7] = [
    "nodeName",
    "serviceAccountName",
    "hostNetwork",
    "securityContext",
    "restartPolicy",
    "containers",
    "initContainers",
];
/// What is held of each container of a pod.
const CONTAINER: [&str; 8] =
    ["name", "image", "ports", "args", "resources", "securityContext", "restartPolicy", "readinessProbe"];

/// Which of an object is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All that people declare.
    Declared,
    /// The same, and not how it fares.
    WithoutStatus,
    /// Of a pod: labels, containers, where it runs.
    Pod,
    /// Of a secret: its name and the names of its keys.
    Secret,
    /// Of a definition of a kind: its names and versions, without their schemas.
    Definition,
}

impl Shape {
    /// What is held of objects of a kind.
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Pod => Self::Pod,
            Kind::Secret => Self::Secret,
            Kind::CustomResourceDefinition => Self::Definition,
            Kind::Node
            | Kind::Namespace
            | Kind::Deployment
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::ReplicaSet
            | Kind::Rollout
            | Kind::Job
            | Kind::CronJob => Self::WithoutStatus,
            _ => Self::Declared,
        }
    }
}

/// Takes away what is not held. Of who wrote the object it leaves names and times, not which fields.
pub fn slim(object: &mut Json, shape: Shape) {
    let Some(root) = object.as_object_mut() else { return };
    if let Some(metadata) = root.get_mut("metadata").and_then(Json::as_object_mut) {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Json::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
        for writer in metadata.get_mut("managedFields").and_then(Json::as_array_mut).into_iter().flatten() {
            if let Some(writer) = writer.as_object_mut() {
                writer.retain(|key, _| matches!(key.as_str(), "manager" | "operation" | "time" | "subresource"));
            }
        }
    }
    match shape {
        Shape::Declared => {}
        Shape::WithoutStatus => drop(root.remove("status")),
        Shape::Pod => slim_pod(root),
        Shape::Secret => {
            for key in ["data", "stringData"] {
                let held = root.get_mut(key).and_then(Json::as_object_mut);
                held.into_iter().flatten().for_each(|(_, value)| *value = Json::Null);
            }
        }
        Shape::Definition => {
            root.remove("status");
            let spec = root.get_mut("spec").and_then(Json::as_object_mut);
            let versions = spec.and_then(|spec| spec.get_mut("versions")).and_then(Json::as_array_mut);
            for version in versions.into_iter().flatten().filter_map(Json::as_object_mut) {
                version.retain(|key, _| matches!(key.as_str(), "name" | "served" | "storage" | "deprecated"));
            }
        }
    }
}

fn slim_pod(root: &mut Map<String, Json>) {
    if let Some(status) = root.get_mut("status").and_then(Json::as_object_mut) {
        status.retain(|key, _| POD_STATUS.contains(&key.as_str()));
    }
    let Some(spec) = root.get_mut("spec").and_then(Json::as_object_mut) else { return };
    spec.retain(|key, _| POD_SPEC.contains(&key.as_str()));
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Json::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.retain(|key, _| CONTAINER.contains(&key.as_str()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slimmed(mut object: Json, shape: Shape) -> Json {
        slim(&mut object, shape);
        let once = object.clone();
        slim(&mut object, shape);
        assert_eq!(object, once, "slimming twice is slimming once");
        object
    }

    #[test]
    fn each_shape_leaves_what_is_asked_for() {
        let metadata = json!({
            "name": "a",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "k": "v"},
            "managedFields": [{"manager": "helm", "time": "t", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
        });
        let kept = json!({
            "name": "a",
            "annotations": {"k": "v"},
            "managedFields": [{"manager": "helm", "time": "t", "operation": "Update"}],
        });
        let status = json!({"phase": "Running", "conditions": []});
        let of = |shape, spec: Json| {
            slimmed(json!({"metadata": metadata, "spec": spec, "status": status, "data": {"k": "hidden"}}), shape)
        };
        let found = of(Shape::Pod, json!({"nodeName": "n", "volumes": [], "containers": [{"name": "c", "env": []}]}));
        assert_eq!(found["spec"], json!({"nodeName": "n", "containers": [{"name": "c"}]}));
        assert_eq!((&found["status"], &found["metadata"]), (&json!({"phase": "Running"}), &kept));
        assert_eq!(of(Shape::Secret, Json::Null)["data"], json!({"k": null}));
        assert_eq!(of(Shape::WithoutStatus, Json::Null).get("status"), None);
        assert_eq!(of(Shape::Declared, Json::Null)["status"], status);
        let schema = json!({"group": "g", "versions": [{"name": "v1", "served": true, "schema": {"big": 1}}]});
        assert_eq!(of(Shape::Definition, schema)["spec"]["versions"], json!([{"name": "v1", "served": true}]));
        for odd in [json!(null), json!([1]), json!({"metadata": 3, "spec": "x", "data": 1, "status": []})] {
            for shape in [Shape::Pod, Shape::Secret, Shape::Definition, Shape::Declared] {
                slimmed(odd.clone(), shape);
            }
        }
    }
}
