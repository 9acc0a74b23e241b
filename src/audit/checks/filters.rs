//! EnvoyFilters: operations that depend on the order of others, or that are ignored where they are applied.
//!
//! The conditions are those of istio's `envoyfilter` analyzer.

use std::collections::BTreeSet;

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::effective::{selector, targeted};
use crate::mesh::select::written;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0608",
        severity: Severity::Warning,
        title: "an EnvoyFilter depends on the order of others",
        also: &["IST0151"],
        run: relative,
    },
    Check {
        code: "MS0609",
        severity: Severity::Error,
        title: "an EnvoyFilter replaces what cannot be replaced",
        also: &["IST0152"],
        run: replaced,
    },
    Check {
        code: "MS0610",
        severity: Severity::Error,
        title: "an EnvoyFilter adds where nothing can be added",
        also: &["IST0153"],
        run: added,
    },
    Check {
        code: "MS0611",
        severity: Severity::Error,
        title: "an EnvoyFilter removes where nothing can be removed",
        also: &["IST0154"],
        run: removed,
    },
    Check {
        code: "MS0612",
        severity: Severity::Warning,
        title: "an EnvoyFilter depends on the order of others and on the proxy's version",
        also: &["IST0155"],
        run: relative_by_version,
    },
    Check {
        code: "MS0615",
        severity: Severity::Info,
        title: "an EnvoyFilter or WasmPlugin changes what no check knows",
        also: &[],
        run: flagged,
    },
];

/// Both reach below Istio's own objects: what they do to traffic shows in no other object, and an upgrade may change it.
fn flagged(scene: &Scene<'_>, found: &mut Found<'_>) {
    for kind in [Kind::EnvoyFilter, Kind::WasmPlugin] {
        for one in scene.mesh.of_kind(kind) {
            let chosen = selector(one);
            let whom = match (one.id.namespace == scene.index.root_namespace, chosen.is_empty(), targeted(one)) {
                (_, _, true) => "what targetRefs name".to_owned(),
                (true, true, _) => "every proxy of the mesh".to_owned(),
                (false, true, _) => format!("every proxy of {}", one.id.namespace),
                (_, false, _) => format!("workloads with {}", written(&chosen)),
            };
            let what = match kind {
                Kind::EnvoyFilter => {
                    let patches = one.list("spec.configPatches");
                    let whats: BTreeSet<&str> =
                        patches.iter().filter_map(|patch| patch.get("applyTo")).filter_map(Node::as_str).collect();
                    format!("{} patches ({})", patches.len(), whats.into_iter().collect::<Vec<_>>().join(", "))
                }
                _ => format!("the plugin {}", one.text("spec.url").unwrap_or("without a url")),
            };
            let message = format!(
                "it changes the proxy's own configuration for {whom}: what it does to traffic no check here knows, and an \
                 upgrade of Istio may break it"
            );
            found.at(one, "spec", message).seen(what).fix(
                "# where Istio has an object for it (VirtualService, Telemetry, AuthorizationPolicy, DestinationRule),\n\
                 # that one is checked here and kept by upgrades",
            );
        }
    }
}

/// What is doubtful about a patch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    Relative,
    RelativeByVersion,
    Replace,
    Add,
    Remove,
}

/// All doubtful patches, in the order of the files: a filter that was patched for one version before counts.
fn each(scene: &Scene<'_>, wanted: Doubt, mut say: impl FnMut(&Resource, String, &str)) {
    let mut versioned: BTreeSet<&str> = BTreeSet::new();
    for filter in scene.mesh.of_kind(Kind::EnvoyFilter) {
        let first = filter.text("spec.priority").is_none_or(|priority| priority == "0");
        for (at, node) in filter.list("spec.configPatches").iter().enumerate() {
            let path = |keys: &[&str]| keys.iter().try_fold(node, |node, key| node.get(key)).and_then(Node::as_str);
            if node.get("patch").is_none() {
                break;
            }
            let name = path(&["patch", "value", "name"])
                .or_else(|| path(&["match", "listener", "filterChain", "filter", "name"]));
            let name = if node.get("patch").is_some_and(|patch| patch.get("value").is_some()) { name } else { None };
            let name = name.unwrap_or_default();
            let applied = path(&["applyTo"]).unwrap_or_default();
            let routes = ["ROUTE_CONFIGURATION", "HTTP_ROUTE"].contains(&applied);
            let relative = if versioned.contains(name) { Doubt::RelativeByVersion } else { Doubt::Relative };
            let relative = first.then_some(relative);
            let operation = path(&["patch", "operation"]).unwrap_or_default();
            let doubt = match operation {
                "ADD" => routes.then_some(Doubt::Add),
                "REMOVE" if routes => Some(Doubt::Remove),
                "REPLACE" if !["NETWORK_FILTER", "HTTP_FILTER"].contains(&applied) => Some(Doubt::Replace),
                "REMOVE" | "REPLACE" | "INSERT_BEFORE" | "INSERT_AFTER" => relative,
                _ => None,
            };
            if doubt == Some(wanted) {
                say(filter, format!("spec.configPatches[{at}]"), operation);
            }
            if path(&["match", "proxy", "proxyVersion"]).is_some_and(|version| !version.is_empty()) {
                versioned.insert(name);
            }
        }
    }
}

fn relative(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, Doubt::Relative, |filter, field, operation| {
        let message = format!(
            "{operation} without spec.priority: when the filter it looks for comes from another EnvoyFilter that is applied later, nothing happens"
        );
        found.at(filter, &field, message).fix("priority: 10 # or the operation INSERT_FIRST or ADD");
    });
}

fn relative_by_version(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, Doubt::RelativeByVersion, |filter, field, operation| {
        let message = format!(
            "{operation} without spec.priority, on a filter that is patched for one proxyVersion elsewhere: during an upgrade it may not be applied"
        );
        found.at(filter, &field, message).fix("priority: 10 # or the operation INSERT_FIRST or ADD");
    });
}

fn replaced(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, Doubt::Replace, |filter, field, _| {
        found.at(filter, &field, "REPLACE holds for HTTP_FILTER and NETWORK_FILTER only: elsewhere nothing happens");
    });
}

fn added(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, Doubt::Add, |filter, field, _| {
        found.at(filter, &field, "ADD is ignored for ROUTE_CONFIGURATION and HTTP_ROUTE: nothing happens");
    });
}

fn removed(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, Doubt::Remove, |filter, field, _| {
        found.at(filter, &field, "REMOVE is ignored for ROUTE_CONFIGURATION and HTTP_ROUTE: nothing happens");
    });
}
