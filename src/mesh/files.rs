//! Objects from files, folders and standard input.
//!
//! In: paths, texts. Out: a [`Snapshot`]. Documents are parted before they are parsed, so that a broken one loses no other.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kind::{KINDS, Kind, Scope};
use super::resource::{LAST_APPLIED, Place, Resource, ResourceId, texts};
use super::snapshot::{Snapshot, Unread};
use super::unknown;
use crate::model::Timestamp;
use crate::yaml::{self, Node, Value};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How many bytes of a file are looked at to tell a text.
const BINARY_LOOK: usize = 4096;
/// Where the template is kept that Helm made an object from.
pub(crate) const SOURCE_ANNOTATION: &str = "meshscope.dev/helm-source";
/// Stack of the thread that reads.
const STACK_BYTES: usize = 16 << 20;
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
    with_room(namespace, |reader| paths.iter().for_each(|path| reader.path(path, 0)))
}

impl Snapshot {
    /// Reads texts; see [`read_paths`].
    pub fn read(inputs: &[Input], namespace: &str) -> Self {
        with_room(namespace, |reader| inputs.iter().for_each(|input| reader.text(input)))
    }
}

/// Reads on a thread with room for the deepest nesting that the YAML crate takes: builds without optimisation need more for
/// each level than other threads have.
fn with_room(namespace: &str, work: impl FnOnce(&mut Reader<'_>) + Send) -> Snapshot {
    let read = move || {
        let mut reader = Reader::new(namespace);
        work(&mut reader);
        Snapshot::new(reader.resources, reader.unread)
    };
    std::thread::scope(|scope| {
        match std::thread::Builder::new()
            .name("mesh-reader".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, read)
        {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => {
                let message = format!("nothing is read: no thread can be started: {error}");
                Snapshot::new(
                    Vec::<Resource>::new(),
                    vec![Unread { place: Place::default(), message, other_kind: false }],
                )
            }
        }
    })
}

struct Reader<'a> {
    namespace: &'a str,
    resources: Vec<Resource>,
    unread: Vec<Unread>,
    /// The folders that are being read, as the system knows them: a link back into one of them is not followed.
    inside: Vec<PathBuf>,
}

impl<'a> Reader<'a> {
    fn new(namespace: &'a str) -> Self {
        Self { namespace, resources: Vec::new(), unread: Vec::new(), inside: Vec::new() }
    }

    fn path(&mut self, path: &Path, depth: usize) {
        let name: Arc<str> = path.to_string_lossy().into();
        if name.as_ref() == "-" {
            return self.bytes("<stdin>".into(), bounded(std::io::stdin().lock()));
        }
        match fs::metadata(path) {
            Err(error) => self.fault(&name, 0, format!("cannot be read: {error}")),
            Ok(found) if found.is_dir() && depth == DEPTH_MAX => {
                self.fault(&name, 0, format!("cannot be read: more than {DEPTH_MAX} folders deep"));
            }
            Ok(found) if found.is_dir() => self.folder(path, &name, depth),
            // A pipe that is named is read (`<(helm template shop)`); one that lies in a folder would wait for ever.
            Ok(found) if depth > 0 && !found.is_file() => self.fault(&name, 0, "is no file: not read".to_owned()),
            Ok(_) => {
                let read = fs::File::open(path).map_err(|error| error.to_string()).and_then(bounded);
                self.bytes(name, read);
            }
        }
    }

    fn bytes(&mut self, name: Arc<str>, read: Result<Vec<u8>, String>) {
        let text = read.and_then(|bytes| {
            let binary = bytes.iter().take(BINARY_LOOK).any(|byte| *byte == 0);
            let utf16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
            match String::from_utf8(bytes) {
                _ if utf16 => Err("it is UTF-16; save it as UTF-8".to_owned()),
                _ if binary => Err("it is no text".to_owned()),
                Ok(text) => Ok(text),
                Err(error) => Err(format!("it is no text ({})", error.utf8_error())),
            }
        });
        match text {
            Ok(text) => self.text(&Input { name, text }),
            Err(error) => self.fault(&name, 0, format!("cannot be read: {error}")),
        }
    }

    fn folder(&mut self, path: &Path, name: &Arc<str>, depth: usize) {
        let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.inside.contains(&place) {
            return self.fault(name, 0, "is a link back to a folder above: not entered again".to_owned());
        }
        let entries = match fs::read_dir(path).and_then(|all| all.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(error) => return self.fault(name, 0, format!("cannot be listed: {error}")),
        };
        let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        self.inside.push(place);
        for path in paths {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let yaml = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
            if !hidden && (path.is_dir() || yaml) {
                self.path(&path, depth + 1);
            }
        }
        self.inside.pop();
    }

    fn text(&mut self, input: &Input) {
        // Editors of Windows begin a text with a mark that is no part of it.
        let whole = input.text.strip_prefix('\u{FEFF}').unwrap_or(&input.text);
        for (first_line, text) in parts(whole) {
            let read = self.resources.len();
            match yaml::documents(text) {
                Ok(nodes) => {
                    for mut node in nodes {
                        node.shift_lines(first_line);
                        self.object(node, &input.name, 0);
                    }
                    self.name_source(text, read);
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

    /// Helm writes the template of each document before it; findings name it.
    fn name_source(&mut self, text: &str, from: usize) {
        let comments =
            text.lines().take_while(|line| line.starts_with('#') || line.trim().is_empty() || *line == "---");
        let Some(source) = comments.filter_map(|line| line.strip_prefix("# Source: ")).last() else { return };
        for resource in &mut self.resources[from..] {
            resource.annotations.insert(SOURCE_ANNOTATION.to_owned(), source.trim().to_owned());
        }
    }

    fn object(&mut self, node: Node, file: &Arc<str>, depth: usize) {
        let line = node.line;
        let text = |key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
        // `kind: {{ .Values.kind }}` is YAML, by chance: a mapping whose key is a mapping.
        let marks = |key: &str| {
            let inside = node.get(key).map(Node::entries).unwrap_or_default();
            inside.iter().any(|(key, _)| matches!(key.value, Value::Mapping(_)))
        };
        if let Some(key) = ["kind", "apiVersion"].into_iter().find(|key| marks(key)) {
            let message = format!("the key \"{key}\" holds template marks; render it first (helm template)");
            return self.fault(file, line, message);
        }
        if depth == 0 && is_dashboard(&node) {
            return self.resources.push(dashboard(node, file, self.namespace));
        }
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
            let of_one = kind_name.strip_suffix("List").filter(|name| !name.is_empty());
            for item in node.get("items").map(Node::items).unwrap_or_default() {
                let mut item = item.clone();
                // The API's own lists (`ServiceList`) say what their items are once.
                if let Some(name) = of_one.filter(|_| item.get("kind").is_none() && item.get("apiVersion").is_none()) {
                    typed(&mut item, name, &api_version);
                }
                self.object(item, file, depth + 1);
            }
            return;
        }
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        let Some(kind) = Kind::of(group, &kind_name) else {
            if let Some(mend) = slip(group, &kind_name) {
                return self.fault(file, line, format!("there is no kind {kind_name} in {api_version}: {mend}"));
            }
            if let Some(refusal) = unknown::refusal(&api_version, group, &kind_name) {
                return self.fault(file, line, refusal);
            }
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

/// Says what an object is that does not say so itself.
fn typed(item: &mut Node, kind: &str, api_version: &str) {
    let (line, column) = (item.line, item.column);
    let text = |text: &str| Node { line, column, value: Value::String(text.to_owned()) };
    if let Value::Mapping(entries) = &mut item.value {
        entries.extend([(text("kind"), text(kind)), (text("apiVersion"), text(api_version))]);
    }
}

/// Whether a document is a Grafana dashboard as Grafana exports it, or the answer of its API, which wraps it.
fn is_dashboard(node: &Node) -> bool {
    let is_list = |node: &Node, key: &str| node.get(key).is_some_and(|list| matches!(list.value, Value::Sequence(_)));
    let is_board = |node: &Node| is_list(node, "panels") || (is_list(node, "rows") && node.get("templating").is_some());
    node.get("apiVersion").is_none() && (is_board(node) || node.get("dashboard").is_some_and(is_board))
}

/// A dashboard that lies in a file, as if it were an object of the Grafana operator, called by its file.
fn dashboard(root: Node, file: &Arc<str>, namespace: &str) -> Resource {
    Resource {
        id: ResourceId { kind: Kind::GrafanaDashboard, namespace: namespace.to_owned(), name: file.to_string() },
        version: Kind::GrafanaDashboard.info().versions[0].to_owned(),
        namespace_written: false,
        labels: Default::default(),
        annotations: Default::default(),
        created: None,
        place: Place { file: Some(file.clone()), line: root.line },
        root,
    }
}

/// All bytes, unless there are too many.
fn bounded(from: impl std::io::Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!("larger than {} MiB", FILE_BYTES_MAX >> 20)),
        false => Ok(bytes),
    }
}

/// What was meant by a kind that is not there, where that is plain: a slip of the pen, or the group of another kind. Groups
/// hold more kinds than are looked at, so only what is near is taken for a slip.
fn slip(group: &str, kind: &str) -> Option<String> {
    let known = KINDS.iter().filter(|info| info.group == group && !group.is_empty());
    let near = known.map(|info| (strsim::osa_distance(info.name, kind), info.name)).min();
    let reach = if group.ends_with("istio.io") || group.ends_with("linkerd.io") { 2 } else { 1 };
    if let Some((distance, name)) = near.filter(|(distance, _)| *distance <= reach && kind.len() > 4) {
        debug_assert!(distance > 0, "a known kind was looked for");
        return Some(format!("did you mean {name}?"));
    }
    let own = |info: &&super::kind::KindInfo| {
        !info.group.is_empty() && (group.is_empty() || group.ends_with("istio.io")) && info.group != group
    };
    let other = Kind::named(kind).find(own)?;
    Some(format!("it is {}/{}", other.group, other.versions[0]))
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
        held.retain(|(key, _)| key.as_str() != Some(LAST_APPLIED));
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
    fn lists_of_one_kind_name_it_once() {
        let snapshot = read(
            "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n\
             - {kind: Pod}\n- text\n",
        );
        let names: Vec<String> = snapshot.iter().map(|one| one.id.to_string()).collect();
        assert_eq!(names, ["Service default/a", "Pod default/b"]);
        assert_eq!(snapshot.unread.iter().map(|one| one.place.line).collect::<Vec<_>>(), [6, 7]);
        assert!(read("apiVersion: v1\nkind: List\nitems:\n- metadata: {name: a}\n").is_empty());
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
