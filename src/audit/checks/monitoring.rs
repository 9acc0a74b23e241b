//! What watches the mesh: rules that say something else than was meant, dashboards that show nothing.
//!
//! Rules are those of PrometheusRule objects, read by [`crate::rules::lint`]. Dashboards are the JSON files of ConfigMaps.

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Place, Resource};
use crate::model::Severity;
use crate::rules::lint;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS3010",
        severity: Severity::Warning,
        title: "a rule does not do what was meant",
        also: &[],
        run: rules,
    },
    Check { code: "MS3011", severity: Severity::Error, title: "a panel has no query", also: &[], run: queries },
    Check {
        code: "MS3012",
        severity: Severity::Info,
        title: "a panel is of a type that is gone",
        also: &[],
        run: types,
    },
];

fn rules(scene: &Scene<'_>, found: &mut Found<'_>) {
    let options = lint::Options::default();
    for resource in scene.mesh.of_kind(Kind::PrometheusRule) {
        let file = resource.place.file.as_deref().unwrap_or_default();
        for one in lint::lint_object(file, &resource.root, &options).findings {
            let place = Place { file: resource.place.file.clone(), line: one.line };
            let message = format!("{}/{}: {} ({})", one.group, one.rule, one.message, one.code);
            let note = found.place(&place, resource.id.to_string(), message).severity(one.severity);
            if let Some(fix) = one.fix {
                note.fix(fix);
            }
        }
    }
}

/// Most panels inside panels (rows).
const DEPTH_MAX: usize = 4;
/// Panels that show a text or a list, and ask for nothing.
const WITHOUT_QUERY: [&str; 8] =
    ["row", "text", "news", "dashlist", "alertlist", "annolist", "welcome", "gettingstarted"];
/// Types of Grafana's Angular days, and what replaced them.
const GONE: [(&str, &str); 4] =
    [("graph", "timeseries"), ("singlestat", "stat"), ("table-old", "table"), ("grafana-worldmap-panel", "geomap")];

/// Calls with every panel of a dashboard inside a ConfigMap: the key it stands under, and the panel.
fn each(scene: &Scene<'_>, mut look: impl FnMut(&Resource, &str, &serde_json::Value)) {
    for map in scene.mesh.of_kind(Kind::ConfigMap) {
        for (key, node) in map.at("data").map(Node::entries).unwrap_or_default() {
            let (Some(key), Some(text)) = (key.as_str(), node.as_str()) else { continue };
            if !key.ends_with(".json") || !text.contains("\"panels\"") {
                continue;
            }
            let Ok(read) = serde_json::from_str::<serde_json::Value>(text) else { continue };
            let board = read.get("dashboard").unwrap_or(&read);
            panels(board, 0, &mut |panel| look(map, key, panel));
        }
    }
}

fn panels(of: &serde_json::Value, depth: usize, look: &mut impl FnMut(&serde_json::Value)) {
    for panel in of["panels"].as_array().into_iter().flatten() {
        look(panel);
        if depth < DEPTH_MAX {
            panels(panel, depth + 1, look);
        }
    }
}

fn title(panel: &serde_json::Value) -> &str {
    panel["title"].as_str().unwrap_or("without a title")
}

fn queries(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |map, key, panel| {
        let kind = panel["type"].as_str().unwrap_or_default();
        let asks = panel["targets"].as_array().is_some_and(|targets| !targets.is_empty());
        if !asks && panel.get("libraryPanel").is_none() && !WITHOUT_QUERY.contains(&kind) {
            let message = format!("the panel \"{}\" has no targets: it shows \"No data\" forever", title(panel));
            found.at(map, &format!("data[\"{key}\"]"), message).fix("# meshscope dashboards prints one with queries");
        }
    });
}

fn types(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |map, key, panel| {
        let kind = panel["type"].as_str().unwrap_or_default();
        if let Some((_, now)) = GONE.iter().find(|(gone, _)| *gone == kind) {
            let message =
                format!("the panel \"{}\" is of the type {kind}, which Grafana replaced by {now}", title(panel));
            found.at(map, &format!("data[\"{key}\"]"), message).fix(format!("\"type\": \"{now}\""));
        }
    });
}
