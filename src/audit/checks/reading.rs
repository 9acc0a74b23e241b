//! What could not be read, and what was given twice.

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Place, Resource};
use crate::model::Severity;
use crate::yaml::{self, Value};

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0001",
        severity: Severity::Error,
        title: "a document cannot be read",
        also: &["IST0106"],
        run: unread,
    },
    Check {
        code: "MS0002",
        severity: Severity::Warning,
        title: "an object is declared twice",
        also: &[],
        run: repeated,
    },
    Check {
        code: "MS0003",
        severity: Severity::Error,
        title: "the version of an object is not served",
        also: &[],
        run: versions,
    },
];

fn unread(scene: &Scene<'_>, found: &mut Found<'_>) {
    for one in scene.mesh.unread.iter().filter(|one| !one.other_kind) {
        let subject = one.place.file.as_deref().unwrap_or("a document").to_owned();
        found.place(&one.place, subject, one.message.clone());
    }
    let is_istiod = |map: &&Resource| {
        map.id.namespace == scene.options.root_namespace
            && (map.id.name == "istio" || map.id.name.starts_with("istio-"))
    };
    for map in scene.mesh.of_kind(Kind::ConfigMap).filter(is_istiod) {
        ["mesh", "meshNetworks"].into_iter().for_each(|key| inner(map, key, found));
    }
}

/// The mesh's configuration is a text within a ConfigMap: YAML of its own.
fn inner(map: &Resource, key: &str, found: &mut Found<'_>) {
    let Some((node, text)) =
        map.at("data").and_then(|data| data.get(key)).and_then(|node| Some((node, node.as_str()?)))
    else {
        return;
    };
    let (line, problem) = match yaml::documents(text) {
        Err(problem) => (problem.line, format!("not YAML: {}", problem.message)),
        Ok(read) => match read.first() {
            None | Some(yaml::Node { value: Value::Mapping(_), .. }) => return,
            Some(other) => (other.line, "no mapping of settings".to_owned()),
        },
    };
    // A text begins at the line of its node, be it a block or not; an object of a cluster has no lines.
    let line = if map.place.line == 0 { 0 } else { (node.line + line).saturating_sub(1) };
    let place = Place { file: map.place.file.clone(), line };
    found.place(&place, map.id.to_string(), format!("data.{key} is {problem}: istiod does not take it"));
}

fn repeated(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (id, first) in &scene.mesh.repeated {
        let last = scene.mesh.get(id.kind, &id.namespace, &id.name);
        let note = found.place(first, id.to_string(), "declared again further on: what stands here is overwritten");
        if let Some(last) = last {
            note.seen(format!("again in {}:{}", last.place.file.as_deref().unwrap_or("a cluster"), last.place.line));
        }
    }
}

fn versions(scene: &Scene<'_>, found: &mut Found<'_>) {
    for resource in scene.mesh.iter() {
        let info = resource.id.kind.info();
        if info.versions.contains(&resource.version.as_str()) {
            continue;
        }
        let api = |version: &str| match info.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        let why =
            if info.removed.contains(&resource.version.as_str()) { "is no longer served" } else { "never existed" };
        let (written, served) = (api(&resource.version), api(info.versions[0]));
        found
            .at(resource, "apiVersion", format!("{written} {why} for {}: a cluster refuses the object", info.name))
            .fix(format!("apiVersion: {served}"));
    }
}
