//! What could not be read, and what was given twice.

use super::Check;
use crate::audit::{Found, Scene};
use crate::model::Severity;

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
