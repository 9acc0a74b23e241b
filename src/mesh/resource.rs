//! One declared object: who it is, where it stands, and its fields with their lines.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::kind::{Kind, Scope};
use crate::model::Timestamp;
use crate::yaml::Node;

/// Annotation in which `kubectl apply` writes the whole object again, values of secrets too.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations that programs write at their own pace: no difference between two states of an object.
pub const WRITTEN_BY_PROGRAMS: [&str; 3] =
    [LAST_APPLIED, "deployment.kubernetes.io/revision", "control-plane.alpha.kubernetes.io/leader"];

/// What tells an object from all others of a cluster. Written `VirtualService shop/cart`, `Namespace shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// Its kind (with the API group).
    pub kind: Kind,
    /// Its namespace; empty for kinds of the whole cluster.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match kind.info().scope {
            Scope::Namespaced => write!(f, "{} {namespace}/{name}", kind.info().name),
            Scope::Cluster => write!(f, "{} {name}", kind.info().name),
        }
    }
}

/// Where a value stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named; none: it came from a cluster.
    pub file: Option<Arc<str>>,
    /// 1-based line; 0 when unknown.
    pub line: usize,
}

/// One declared object.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Who it is.
    pub id: ResourceId,
    /// The version of its API group that it is written in.
    pub version: String,
    /// Whether its namespace was written; otherwise it is the one that was given for such objects.
    pub namespace_written: bool,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`; none for objects that no cluster has made yet.
    pub created: Option<Timestamp>,
    /// The whole object. Of a `Secret` the values are left out.
    pub root: Node,
    /// Where it begins.
    pub place: Place,
}

impl Resource {
    /// The value at a path of keys and indices, `spec.http[0].route`; none when a part of it is missing. A last key with
    /// dots is written in brackets: `metadata.annotations["istio.io/rev"]`.
    pub fn at(&self, path: &str) -> Option<&Node> {
        if let Some((path, key)) = quoted(path) {
            return self.at(path)?.get(key);
        }
        let mut node = &self.root;
        for part in path.split('.').flat_map(|part| part.split('[')) {
            node = match part.strip_suffix(']') {
                Some(index) => node.items().get(index.parse::<usize>().ok()?)?,
                None => node.get(part)?,
            };
        }
        Some(node)
    }

    /// The text at a path; none when it is missing or no scalar.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.at(path).and_then(Node::as_str)
    }

    /// The items of the list at a path; none when it is missing.
    pub fn list(&self, path: &str) -> &[Node] {
        self.at(path).map_or(&[], Node::items)
    }

    /// The map of texts at a path (a selector, labels); empty when it is missing.
    pub fn map(&self, path: &str) -> BTreeMap<String, String> {
        self.at(path).map(texts).unwrap_or_default()
    }

    /// The line of the value at a path, or of the nearest part of the path that is there.
    pub fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(node) = self.at(path) {
                return node.line;
            }
            if let Some((outer, _)) = quoted(path) {
                path = outer;
                continue;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return self.place.line,
            }
        }
    }
}

/// A path that ends in a bracketed key, parted.
fn quoted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("\"]")?.split_once("[\"")
}

/// The entries of a mapping whose values are scalars.
pub(super) fn texts(node: &Node) -> BTreeMap<String, String> {
    let pair = |(key, value): &(Node, Node)| Some((key.as_str()?.to_owned(), value.as_str()?.to_owned()));
    node.entries().iter().filter_map(pair).collect()
}
