//! Files against the cluster: objects that the cluster holds otherwise, or not at all, and objects that no file declares.
//!
//! In: the cluster's objects, and what files declare beside them ([`Files`](crate::audit::Files)). Out: findings at the file
//! and line. Compared is what the file says: fields that the API server fills in are no difference, nor are those of objects
//! that come and go with the load, nor secrets.

use std::collections::BTreeSet;

use super::Check;
use crate::audit::mask::looks_secret;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Resource, WRITTEN_BY_PROGRAMS};
use crate::model::Severity;
use crate::yaml::{Node, Value};

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS0910", Severity::Warning, "the cluster holds an object otherwise than the files", &[], otherwise),
    Check::new("MS0911", Severity::Warning, "an object of the files is not in the cluster", &[], missing),
    Check::new("MS0912", Severity::Info, "an object of the cluster that no file declares", &[], undeclared),
];

/// Differences that one finding lists.
const LISTED: usize = 10;
/// Differences that are looked for.
const DIFFERENCES_MAX: usize = 200;
/// Longest value that is shown.
const VALUE_CHARS: usize = 80;

/// Objects of files with what the cluster holds under their name.
fn pairs<'a>(scene: &Scene<'a>) -> impl Iterator<Item = (&'a Resource, Option<&'a Resource>)> {
    let (mesh, files) = (scene.mesh, scene.files.map(|files| &files.snapshot));
    let declared = files.into_iter().flat_map(|files| files.iter()).filter(|one| one.id.kind.is_configuration());
    declared.map(move |one| {
        let held = mesh.get(one.id.kind, &one.id.namespace, &one.id.name);
        (one, held.filter(|held| held.place.file.is_none()))
    })
}

fn otherwise(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (file, held) in pairs(scene) {
        let Some(held) = held else { continue };
        let differences = differences(file, held);
        let Some(first) = differences.first() else { continue };
        let message = match differences.len() {
            1 => format!("the cluster does not hold what the file says: {}", first.said),
            more => format!("the cluster differs from the file in {more} fields, first {}", first.said),
        };
        let mut note = found.at(file, &first.path, message);
        for one in differences.iter().take(LISTED) {
            note = note.seen(one.said.clone());
        }
        if differences.len() > LISTED {
            note = note.seen(format!("and {} more", differences.len() - LISTED));
        }
        let place = file.place.file.as_deref().unwrap_or("the file");
        note.fix(format!("# apply the file, or take over what was changed by hand:\nkubectl diff -f {place}"));
    }
}

fn missing(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(files) = scene.files else { return };
    for (file, held) in pairs(scene) {
        if held.is_some() || !files.known.contains(&file.id.kind) {
            continue;
        }
        let place = file.place.file.as_deref().unwrap_or("the file");
        let message = "the file declares it, and the cluster does not hold it: nothing of it holds";
        found.at(file, "", message).fix(format!("# apply it, or take it out of the file:\nkubectl apply -f {place}"));
    }
}

/// Only where files declare objects of the same kind and namespace: else they are not meant to be whole.
fn undeclared(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(files) = scene.files else { return };
    let covered: BTreeSet<(Kind, &str)> =
        files.snapshot.iter().map(|one| (one.id.kind, one.id.namespace.as_str())).collect();
    for one in scene.mesh.iter() {
        let of_files = files.snapshot.get(one.id.kind, &one.id.namespace, &one.id.name).is_some();
        let made = !one.list("metadata.ownerReferences").is_empty();
        let is_meshs = one.id.kind.info().group.contains('.');
        if of_files || made || !is_meshs || !one.id.kind.is_configuration() || one.place.file.is_some() {
            continue;
        }
        if covered.contains(&(one.id.kind, one.id.namespace.as_str())) {
            let message = format!(
                "files declare other objects of its kind in {}, and not this one: it was made by hand, or left behind",
                one.id.namespace
            );
            found.at(one, "", message).fix("# add it to the files, or delete it");
        }
    }
}

/// A field that is another.
struct Difference {
    path: String,
    said: String,
}

/// What the file says and the cluster does not hold.
fn differences(file: &Resource, held: &Resource) -> Vec<Difference> {
    let mut all = Vec::new();
    for (key, node) in file.root.entries() {
        match key.as_str() {
            None | Some("apiVersion" | "kind" | "status") => {}
            Some("metadata") => {
                for part in ["labels", "annotations"] {
                    let Some(node) = node.get(part) else { continue };
                    let other = held.at(&format!("metadata.{part}"));
                    compare(&format!("metadata.{part}"), node, other, &mut all);
                }
            }
            Some(key) => compare(key, node, held.root.get(key), &mut all),
        }
    }
    // What a controller scales is not the file's to say.
    let is_scaled = matches!(file.id.kind, Kind::Deployment | Kind::StatefulSet);
    all.retain(|one| !(is_scaled && one.path == "spec.replicas"));
    all
}

fn compare(path: &str, file: &Node, held: Option<&Node>, all: &mut Vec<Difference>) {
    if all.len() >= DIFFERENCES_MAX {
        return;
    }
    match (&file.value, held) {
        (Value::Null, _) => {}
        (Value::Mapping(entries), held) => {
            for (key, node) in entries {
                let Some(name) = key.as_str().filter(|name| !WRITTEN_BY_PROGRAMS.contains(name)) else { continue };
                let inner = match name.contains('.') {
                    true => format!("{path}[\"{name}\"]"),
                    false => format!("{path}.{name}"),
                };
                compare(&inner, node, held.and_then(|held| held.get(name)), all);
            }
        }
        (Value::Sequence(items), held) => {
            let others = held.map(Node::items).unwrap_or_default();
            if items.len() != others.len() {
                let said = format!("{path}: {} in the file, {} in the cluster", items.len(), others.len());
                all.push(Difference { path: path.to_owned(), said });
                return;
            }
            for (at, (item, other)) in items.iter().zip(others).enumerate() {
                compare(&format!("{path}[{at}]"), item, Some(other), all);
            }
        }
        (_, held) => {
            let (text, other) = (file.as_str().unwrap_or_default(), held.and_then(Node::as_str));
            if !other.is_some_and(|other| is_same(text, other)) {
                let said = format!(
                    "{path}: {} in the file, {}",
                    shown(path, text),
                    match other {
                        Some(other) => format!("{} in the cluster", shown(path, other)),
                        None => "nothing in the cluster".to_owned(),
                    }
                );
                all.push(Difference { path: path.to_owned(), said });
            }
        }
    }
}

/// Whether two scalars say the same: as texts, as numbers, as a block of text with another end.
fn is_same(one: &str, other: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    one == other
        || one.trim_end() == other.trim_end()
        || number(one).zip(number(other)).is_some_and(|(one, other)| one == other)
}

/// A value, bounded; one that looks like a secret is covered.
fn shown(path: &str, value: &str) -> String {
    let name = path.rsplit(['.', '"']).find(|part| !part.is_empty() && *part != "]").unwrap_or(path);
    if looks_secret(name, value) {
        return "***".to_owned();
    }
    let line: String = value.lines().next().unwrap_or_default().chars().take(VALUE_CHARS).collect();
    if line.len() < value.trim_end().len() { format!("{line}…") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Input, Snapshot};

    fn said(file: &str, held: &str) -> Vec<String> {
        let read = |text: &str| Snapshot::read(&[Input { name: "a.yaml".into(), text: text.to_owned() }], "default");
        let (file, held) = (read(file), read(held));
        let first = |snapshot: &Snapshot| snapshot.iter().next().expect("an object").clone();
        differences(&first(&file), &first(&held)).into_iter().map(|one| one.said).collect()
    }

    #[test]
    fn what_the_file_does_not_say_is_no_difference() {
        let head = "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {x.io/y: z}}\n";
        let file = format!("{head}spec: {{ports: [{{port: 80}}], selector: {{app: a}}}}\n");
        let held = "apiVersion: v1\nkind: Service\nmetadata: {name: a, uid: u, annotations: {x.io/y: z, more: m}}\n\
                    spec: {clusterIP: 10.0.0.1, ports: [{port: 80.0, targetPort: 80}], selector: {app: a}}\n";
        assert_eq!(said(&file, held), [] as [&str; 0]);
        let other =
            held.replace("app: a}", "app: b}").replace("y: z", "y: w").replace("[{port: 80.0", "[{port: 1}, {port: 2");
        assert_eq!(
            said(&file, &other),
            [
                "metadata.annotations[\"x.io/y\"]: z in the file, w in the cluster",
                "spec.ports: 1 in the file, 2 in the cluster",
                "spec.selector.app: a in the file, b in the cluster",
            ]
        );
    }

    #[test]
    fn secrets_are_covered_and_long_values_are_cut() {
        let map = |value: &str| {
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{db_password: {value}, t: {}}}\n",
                value.repeat(30)
            )
        };
        let all = said(&map("hunter2hunter2"), &map("hunter3hunter3"));
        assert_eq!(all[0], "data.db_password: *** in the file, *** in the cluster");
        assert!(all[1].len() < 250 && all[1].contains('…'), "{}", all[1]);
    }
}
