//! Objects from files, folders and standard input.
//!
//! In: paths, texts. Out: a [`Snapshot`]. Documents are parted before they are parsed, so that a broken one loses no other.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kind::{Kind, Scope};
use super::resource::{Place, Resource, ResourceId, texts};
use super::snapshot::{Snapshot, Unread};
use crate::model::Timestamp;
use crate::yaml::{self, Node, Value};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Deepest folder that is entered.
const DEPTH_MAX: usize = 32;
/// Most objects of lists inside lists.
const LIST_DEPTH_MAX: usize = 4;

/// A text that holds objects.
#[derive(Clone, Debug)]
pub struct Input {
    /// As messages name it: a path.
    pub name: Arc<str>,
    /// YAML documents or JSON.
    pub text: String,
}

/// Reads files, folders (every `.yaml`, `.yml` and `.json` below them, by name) and `-` for standard input. Objects that
/// name no namespace get `namespace`, as those of `kubectl apply -n`.
///
/// What cannot be read is in [`Snapshot::unread`].
pub fn read_paths(paths: &[PathBuf], namespace: &str) -> Snapshot {
    let mut reader = Reader { namespace, resources: Vec::new(), unread: Vec::new() };
    for path in paths {
        reader.path(path, 0);
    }
    Snapshot::new(reader.resources, reader.unread)
}

impl Snapshot {
    /// Reads texts; see [`read_paths`].
    pub fn read(inputs: &[Input], namespace: &str) -> Self {
        let mut reader = Reader { namespace, resources: Vec::new(), unread: Vec::new() };
        inputs.iter().for_each(|input| reader.text(input));
        Self::new(reader.resources, reader.unread)
    }
}

struct Reader<'a> {
    namespace: &'a str,
    resources: Vec<Resource>,
    unread: Vec<Unread>,
}

impl Reader<'_> {
    fn path(&mut self, path: &Path, depth: usize) {
        let name: Arc<str> = path.to_string_lossy().into();
        if name.as_ref() == "-" {
            let mut text = String::new();
            match std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text) {
                Ok(_) => self.text(&Input { name: "<stdin>".into(), text }),
                Err(error) => self.fault(&name, 0, format!("cannot be read: {error}")),
            }
            return;
        }
        let read = match fs::metadata(path) {
            Err(error) => Err(error.to_string()),
            Ok(found) if found.is_dir() && depth == DEPTH_MAX => Err(format!("more than {DEPTH_MAX} folders deep")),
            Ok(found) if found.is_dir() => return self.folder(path, &name, depth),
            Ok(found) if found.len() > FILE_BYTES_MAX => Err(format!("larger than {} MiB", FILE_BYTES_MAX >> 20)),
            Ok(_) => fs::read(path).map_err(|error| error.to_string()),
        };
        match read.and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string())) {
            Ok(text) => self.text(&Input { name, text }),
            Err(error) => self.fault(&name, 0, format!("cannot be read: {error}")),
        }
    }

    fn folder(&mut self, path: &Path, name: &Arc<str>, depth: usize) {
        let entries = match fs::read_dir(path).and_then(|all| all.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(error) => return self.fault(name, 0, format!("cannot be listed: {error}")),
        };
        let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let yaml = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
            if !hidden && (path.is_dir() || yaml) {
                self.path(&path, depth + 1);
            }
        }
    }

    fn text(&mut self, input: &Input) {
        for (first_line, text) in parts(&input.text) {
            match yaml::documents(text) {
                Ok(nodes) => {
                    for mut node in nodes {
                        node.shift_lines(first_line);
                        self.object(node, &input.name, 0);
                    }
                }
                Err(problem) if text.contains("{{") => self.fault(
                    &input.name,
                    problem.line + first_line,
                    format!("not YAML ({}): it holds template marks; render it first (helm template)", problem.message),
                ),
                Err(problem) => {
                    self.fault(&input.name, problem.line + first_line, format!("not YAML: {}", problem.message));
                }
            }
        }
    }

    fn object(&mut self, node: Node, file: &Arc<str>, depth: usize) {
        let line = node.line;
        let text = |key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
        let Some(kind_name) = text("kind") else {
            return self.fault(file, line, "no Kubernetes object: the key \"kind\" is missing".to_owned());
        };
        let Some(api_version) = text("apiVersion") else {
            return self.fault(file, line, format!("this {kind_name} has no \"apiVersion\""));
        };
        if kind_name.ends_with("List") && node.get("items").is_some() {
            if depth == LIST_DEPTH_MAX {
                return self.fault(file, line, format!("lists in lists, more than {LIST_DEPTH_MAX} deep"));
            }
            for item in node.get("items").map(Node::items).unwrap_or_default() {
                self.object(item.clone(), file, depth + 1);
            }
            return;
        }
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        let Some(kind) = Kind::of(group, &kind_name) else {
            let place = Place { file: Some(file.clone()), line };
            let message = format!("{api_version} {kind_name} is not looked at");
            return self.unread.push(Unread { place, message, other_kind: true });
        };
        let version = version.to_owned();
        self.resource(node, kind, version, file);
    }

    fn resource(&mut self, root: Node, kind: Kind, version: String, file: &Arc<str>) {
        let place = Place { file: Some(file.clone()), line: root.line };
        match made(root, kind, version, place.clone(), self.namespace) {
            Ok(resource) => self.resources.push(resource),
            Err(message) => self.unread.push(Unread { place, message, other_kind: false }),
        }
    }

    fn fault(&mut self, file: &Arc<str>, line: usize, message: String) {
        let place = Place { file: Some(file.clone()), line };
        self.unread.push(Unread { place, message, other_kind: false });
    }
}

/// The object that a tree of its kind is; `namespace` is for those that name none.
pub(super) fn made(
    mut root: Node,
    kind: Kind,
    version: String,
    place: Place,
    namespace: &str,
) -> Result<Resource, String> {
    if kind == Kind::Secret {
        forget_values(&mut root);
    }
    let metadata = root.get("metadata");
    let text = |key: &str| metadata.and_then(|node| node.get(key)).and_then(Node::as_str).map(str::to_owned);
    let Some(name) = text("name").or_else(|| text("generateName")) else {
        return Err(format!("this {} has no metadata.name", kind.info().name));
    };
    let written = text("namespace").filter(|namespace| !namespace.is_empty());
    let namespaced = kind.info().scope == Scope::Namespaced;
    let namespace = written.clone().unwrap_or_else(|| namespace.to_owned());
    let map = |key: &str| metadata.and_then(|node| node.get(key)).map(texts).unwrap_or_default();
    let created = text("creationTimestamp").and_then(|at| chrono::DateTime::parse_from_rfc3339(&at).ok());
    Ok(Resource {
        id: ResourceId { kind, namespace: if namespaced { namespace } else { String::new() }, name },
        version,
        namespace_written: written.is_some(),
        labels: map("labels"),
        annotations: map("annotations"),
        created: created.map(|at| Timestamp::from(at.to_utc())),
        place,
        root,
    })
}

/// The documents of a text, each with the number of lines before it.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut from, mut from_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let trimmed = line.trim_end();
        if trimmed == "---" || trimmed.starts_with("--- ") || trimmed == "..." {
            parts.push((from_line, &text[from..at]));
            // What stands behind the mark belongs to the document: it stays, with its line.
            from = if trimmed.starts_with("--- ") { at } else { at + line.len() };
            from_line = number + usize::from(from != at);
        }
        at += line.len();
    }
    parts.push((from_line, &text[from..]));
    parts.retain(|(_, part)| !part.trim().is_empty());
    parts
}

/// A secret's values are nobody's business; which keys it has is (certificates of gateways).
fn forget_values(root: &mut Node) {
    let Value::Mapping(entries) = &mut root.value else { return };
    for (key, value) in entries {
        if let (Some("data" | "stringData"), Value::Mapping(held)) = (key.as_str(), &mut value.value) {
            held.iter_mut().for_each(|(_, value)| value.value = Value::Null);
        }
    }
    // `kubectl apply` writes the whole object, values included, into an annotation.
    if let Some((_, metadata)) = root_entry(root, "metadata")
        && let Some((_, annotations)) = root_entry(metadata, "annotations")
        && let Value::Mapping(held) = &mut annotations.value
    {
        held.retain(|(key, _)| key.as_str() != Some("kubectl.kubernetes.io/last-applied-configuration"));
    }
}

fn root_entry<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut (Node, Node)> {
    match &mut node.value {
        Value::Mapping(entries) => entries.iter_mut().find(|(name, _)| name.as_str() == Some(key)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Snapshot {
        Snapshot::read(&[Input { name: "a.yaml".into(), text: text.to_owned() }], "default")
    }

    #[test]
    fn a_broken_document_loses_no_other() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\nkind: [\n---\n# nothing\n---\n\
                    apiVersion: v1\nkind: Service\nmetadata:\n  name: b\n  namespace: shop\nspec:\n  ports: [{port: 80}]\n";
        let snapshot = read(text);
        let names: Vec<String> = snapshot.iter().map(|one| one.id.to_string()).collect();
        assert_eq!(names, ["Service default/a", "Service shop/b"]);
        assert_eq!(snapshot.unread.len(), 1);
        assert_eq!(snapshot.unread[0].place.line, 5);
        let b = snapshot.get(Kind::Service, "shop", "b").expect("b");
        assert_eq!((b.text("spec.ports[0].port"), b.line("spec.ports[0].port")), (Some("80"), 15));
        assert_eq!(b.line("spec.ports[3].name"), 15, "the nearest part that is there");
    }

    #[test]
    fn lists_are_opened_and_unknown_kinds_named() {
        let snapshot = read(
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n\
             - {apiVersion: x.io/v1, kind: Thing, metadata: {name: b}}\n- {kind: Pod}\n- {apiVersion: v1, kind: Pod}\n",
        );
        assert_eq!(snapshot.len(), 1);
        let unread: Vec<(usize, &str, bool)> =
            snapshot.unread.iter().map(|one| (one.place.line, one.message.as_str(), one.other_kind)).collect();
        assert_eq!(
            unread,
            [
                (5, "x.io/v1 Thing is not looked at", true),
                (6, "this Pod has no \"apiVersion\"", false),
                (7, "this Pod has no metadata.name", false),
            ]
        );
    }

    #[test]
    fn the_last_of_two_with_one_name_counts() {
        let pod =
            |label: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, labels: {{v: {label}}}}}\n---\n");
        let snapshot = read(&(pod("one") + &pod("two")));
        assert_eq!(snapshot.get(Kind::Pod, "default", "a").map(|pod| pod.labels["v"].as_str()), Some("two"));
        assert_eq!(snapshot.repeated.len(), 1);
    }

    #[test]
    fn nothing_of_a_secret_is_kept_but_its_keys() {
        let snapshot = read(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n  annotations:\n    \
             kubectl.kubernetes.io/last-applied-configuration: '{\"data\": \"hidden\"}'\ndata: {tls.key: aGlkZGVu}\n\
             stringData: {x: hidden}\n",
        );
        let all = format!("{:?}", snapshot.get(Kind::Secret, "default", "a").map(|one| &one.root));
        assert!(all.contains("tls.key") && !all.contains("aGlkZGVu") && !all.contains("hidden"), "{all}");
    }
}
