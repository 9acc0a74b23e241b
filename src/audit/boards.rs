//! Grafana dashboards among the declared objects, with their queries as a viewer would send them.
//!
//! In: ConfigMaps with `.json` files, GrafanaDashboard objects, dashboard files. Out: [`Board`]s of panels and queries, each
//! query with variables filled in and what [`crate::rules::lint`] says of it. Invariant: every walk is bounded in depth;
//! what is no dashboard is left out without a word.

mod fill;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use self::fill::{Variables, filled};
use crate::mesh::{Kind, Resource, Snapshot};
use crate::promql::{self, Expr};
use crate::rules::lint::{self, Finding};
use crate::units::PromDuration;
use crate::yaml::{self, Node};

/// Most panels inside panels (rows).
const DEPTH_MAX: usize = 4;
/// Deepest JSON that is read.
const JSON_DEPTH_MAX: usize = 128;
/// What Grafana takes for the scrape interval where its data source says nothing; sidecars are scraped as often.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(15);
/// Data sources whose queries have an `expr` that is no PromQL.
const OTHER_LANGUAGES: [&str; 3] = ["loki", "cloudwatch", "__expr__"];

/// A dashboard.
#[derive(Debug)]
pub(super) struct Board<'a> {
    /// The object that holds it.
    pub resource: &'a Resource,
    /// The field of the object that holds it; empty when the object is the dashboard.
    pub field: String,
    /// The dashboard.
    pub json: Value,
    /// Its panels, those in rows after their row.
    pub panels: Vec<Panel>,
    /// The queries of its panels and annotations.
    pub queries: Vec<Query>,
}

/// A panel.
#[derive(Debug)]
pub(super) struct Panel {
    /// Where it stands in the dashboard, `panels[3]`.
    pub path: String,
    /// The panel, without those inside.
    pub json: Value,
}

impl Panel {
    pub fn title(&self) -> &str {
        self.json["title"].as_str().filter(|title| !title.is_empty()).unwrap_or("without a title")
    }

    pub fn kind(&self) -> &str {
        self.json["type"].as_str().unwrap_or_default()
    }

    pub fn targets(&self) -> &[Value] {
        self.json["targets"].as_array().map_or(&[], Vec::as_slice)
    }
}

/// A PromQL query.
#[derive(Debug)]
pub(super) struct Query {
    /// Where it stands, `panels[3].targets[0].expr`.
    pub path: String,
    /// Whose it is, for people: `the panel "Requests"`.
    pub of: String,
    /// As written.
    pub raw: String,
    /// With variables filled in, or why it is none.
    pub read: Result<Expr, String>,
    /// What the linter says.
    pub findings: Vec<Finding>,
}

impl Query {
    /// Whether a variable of the dashboard is in it, whose values only the viewer knows.
    pub fn has_variables(&self) -> bool {
        fill::names(&self.raw).any(|name| !name.starts_with("__"))
    }
}

impl Board<'_> {
    /// The path in the object of a path in the dashboard; inside of a text there are no paths.
    pub fn at(&self, path: &str) -> String {
        let nested = if self.resource.root.get("dashboard").is_some() { "dashboard." } else { "" };
        if self.field.is_empty() { format!("{nested}{path}") } else { self.field.clone() }
    }
}

/// Every dashboard of the snapshot.
pub(super) fn read(mesh: &Snapshot) -> Vec<Board<'_>> {
    let mut boards = Vec::new();
    for map in mesh.of_kind(Kind::ConfigMap) {
        for (key, node) in map.at("data").map(Node::entries).unwrap_or_default() {
            let (Some(key), Some(text)) = (key.as_str(), node.as_str()) else { continue };
            if key.ends_with(".json") {
                boards.extend(of_text(map, format!("data[\"{key}\"]"), text));
            }
        }
    }
    for resource in mesh.of_kind(Kind::GrafanaDashboard) {
        match resource.text("spec.json") {
            Some(text) => boards.extend(of_text(resource, "spec.json".to_owned(), text)),
            None => boards.extend(of_json(resource, String::new(), json(&resource.root, 0))),
        }
    }
    boards
}

fn of_text<'a>(resource: &'a Resource, field: String, text: &str) -> Option<Board<'a>> {
    if !text.contains("\"panels\"") && !text.contains("\"rows\"") {
        return None;
    }
    of_json(resource, field, serde_json::from_str(text).ok()?)
}

fn of_json(resource: &Resource, field: String, mut read: Value) -> Option<Board<'_>> {
    let json = match read.get_mut("dashboard") {
        Some(inner) if inner.is_object() => inner.take(),
        _ => read,
    };
    if !json["panels"].is_array() && !json["rows"].is_array() {
        return None;
    }
    let mut panels = Vec::new();
    panels_of(&json, "", 0, &mut panels);
    let queries = queries(&json, &panels);
    Some(Board { resource, field, json, panels, queries })
}

fn panels_of(of: &Value, path: &str, depth: usize, all: &mut Vec<Panel>) {
    // Before Grafana 5 panels stood in rows.
    for list in ["panels", "rows"] {
        for (at, one) in of[list].as_array().into_iter().flatten().enumerate() {
            let path = format!("{path}{list}[{at}]");
            if list == "panels" {
                let mut json = one.clone();
                if let Some(fields) = json.as_object_mut() {
                    fields.remove("panels");
                }
                all.push(Panel { path: path.clone(), json });
            }
            if depth < DEPTH_MAX {
                panels_of(one, &format!("{path}."), depth + 1, all);
            }
        }
    }
}

fn queries(board: &Value, panels: &[Panel]) -> Vec<Query> {
    let variables = Variables::of(board);
    let mut all = Vec::new();
    for panel in panels {
        for (at, target) in panel.targets().iter().enumerate() {
            let Some(raw) = target["expr"].as_str().filter(|raw| !raw.trim().is_empty()) else { continue };
            if [&target["datasource"], &panel.json["datasource"]].into_iter().any(is_other) {
                continue;
            }
            let step =
                [&target["interval"], &panel.json["interval"]].into_iter().find_map(|step| duration(step, &variables));
            let path = format!("{}.targets[{at}].expr", panel.path);
            all.push(query(path, format!("the panel \"{}\"", panel.title()), raw, (&variables, step)));
        }
    }
    for (at, one) in board["annotations"]["list"].as_array().into_iter().flatten().enumerate() {
        let Some(raw) = one["expr"].as_str().filter(|raw| !raw.trim().is_empty()) else { continue };
        if !is_other(&one["datasource"]) {
            let name = one["name"].as_str().unwrap_or_default();
            let path = format!("annotations.list[{at}].expr");
            all.push(query(
                path,
                format!("the annotation \"{name}\""),
                raw,
                (&variables, duration(&one["step"], &variables)),
            ));
        }
    }
    lint(&mut all);
    all
}

fn query(path: String, of: String, raw: &str, (variables, step): (&Variables, Option<Duration>)) -> Query {
    let step = step.unwrap_or(SCRAPE_INTERVAL).max(SCRAPE_INTERVAL);
    let read = promql::parse(&filled(raw, variables, step)).map_err(|error| error.to_string());
    Query { path, of, raw: raw.to_owned(), read, findings: Vec::new() }
}

/// Whether a data source is known to speak another language than PromQL.
pub(super) fn is_other(source: &Value) -> bool {
    let name = source["type"].as_str().or_else(|| source["uid"].as_str()).or_else(|| source.as_str());
    let name = name.unwrap_or_default().to_ascii_lowercase();
    OTHER_LANGUAGES.iter().any(|other| name.contains(other))
}

/// A least step such as `1m` or `>30s`.
fn duration(value: &Value, variables: &Variables) -> Option<Duration> {
    let text = value.as_str()?.trim().trim_start_matches('>');
    let text = filled(text, variables, SCRAPE_INTERVAL);
    text.parse::<PromDuration>().ok().map(PromDuration::get)
}

/// Asks the linter of rules about all queries at once, as if each were recorded.
fn lint(queries: &mut [Query]) {
    let rule = |(at, query): (usize, &Query)| {
        let expr = query.read.as_ref().ok()?.query();
        Some(serde_json::json!({ "record": record(at), "expr": *expr }))
    };
    let rules: Vec<Value> = queries.iter().enumerate().filter_map(rule).collect();
    let file = serde_json::json!({ "groups": [{ "name": "board", "rules": rules }] }).to_string();
    let options = lint::Options { scrape_interval: SCRAPE_INTERVAL, ..lint::Options::default() };
    let places: HashMap<String, usize> = (0..queries.len()).map(|at| (record(at), at)).collect();
    for finding in lint::lint_text("board", &file, &options).findings {
        if let Some(query) = places.get(&finding.rule).and_then(|at| queries.get_mut(*at)) {
            query.findings.push(finding);
        }
    }
}

fn record(at: usize) -> String {
    format!("board:query:{at}")
}

/// A tree with lines as JSON; what is deeper than JSON is read is left out.
fn json(node: &Node, depth: usize) -> Value {
    if depth > JSON_DEPTH_MAX {
        return Value::Null;
    }
    match &node.value {
        yaml::Value::Null => Value::Null,
        yaml::Value::Bool(value) => Value::Bool(*value),
        yaml::Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
        yaml::Value::String(text) => Value::String(text.clone()),
        yaml::Value::Sequence(items) => items.iter().map(|item| json(item, depth + 1)).collect(),
        yaml::Value::Mapping(entries) => {
            let entry = |(key, value): &(Node, Node)| Some((key.as_str()?.to_owned(), json(value, depth + 1)));
            Value::Object(entries.iter().filter_map(entry).collect())
        }
    }
}
