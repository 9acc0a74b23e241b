//! Grafana dashboards: panels that show nothing, queries that count wrong or ask for what no mesh has.
//!
//! What is wrong with an expression is told by [`crate::rules::lint`], as of rules; what is wrong with a metric's name by the
//! tables of [`names`]. Boards are read once, in [`crate::audit::boards`].

mod names;

use serde_json::Value;

use super::Check;
use crate::audit::boards::{Board, Panel, Query, is_other};
use crate::audit::found::Note;
use crate::audit::{Found, Scene};
use crate::model::Severity::{Error, Info, Warning};

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS3011", Error, "a panel has no query", &[], queries),
    Check::new("MS3012", Info, "a panel is of a type that is gone", &[], types),
    Check::new("MS3013", Error, "a query of a dashboard cannot be read", &[], unread),
    Check::new("MS3014", Warning, "a dashboard asks for a metric that no mesh has", &[], metrics),
    Check::new("MS3015", Warning, "a dashboard asks for a label that the metric does not have", &[], labels),
    Check::new("MS3016", Warning, "a dashboard counts each call on both sides", &[], both_sides),
    Check::new("MS3017", Warning, "a rate of a dashboard has a range of less than four intervals", &[], short_rates),
    Check::new("MS3018", Error, "a quantile of a dashboard loses its buckets", &[], quantiles),
    Check::new("MS3019", Warning, "a query of a dashboard does not do what was meant", &[], meant),
    Check::new("MS3020", Info, "a panel has no unit", &[], units),
    Check::new("MS3021", Info, "a dashboard has no variable for its data source", &[], data_sources),
];

/// Panels that show a text or a list, and ask for nothing.
const WITHOUT_QUERY: [&str; 9] =
    ["row", "text", "news", "dashlist", "alertlist", "annolist", "welcome", "gettingstarted", "pluginlist"];
/// Types of Grafana's Angular days, and what replaced them.
const GONE: [(&str, &str); 11] = [
    ("graph", "timeseries"),
    ("singlestat", "stat"),
    ("table-old", "table"),
    ("grafana-worldmap-panel", "geomap"),
    ("grafana-piechart-panel", "piechart"),
    ("grafana-singlestat-panel", "stat"),
    ("natel-discrete-panel", "state-timeline"),
    ("vonage-status-panel", "stat"),
    ("briangann-gauge-panel", "gauge"),
    ("michaeldmoore-multistat-panel", "bargauge"),
    ("savantly-heatmap-panel", "heatmap"),
];
/// Types that draw numbers, so that a unit says what they are.
const OF_NUMBERS: [&str; 10] =
    ["timeseries", "stat", "gauge", "bargauge", "barchart", "histogram", "heatmap", "graph", "singlestat", "trend"];

fn note<'n>(found: &'n mut Found<'_>, board: &Board<'_>, path: &str, message: String) -> Note<'n> {
    found.at(board.resource, &board.at(path), message)
}

fn panels(scene: &Scene<'_>, mut look: impl FnMut(&Board<'_>, &Panel)) {
    scene.boards.iter().for_each(|board| board.panels.iter().for_each(|panel| look(board, panel)));
}

fn each_query(scene: &Scene<'_>, mut look: impl FnMut(&Board<'_>, &Query)) {
    scene.boards.iter().for_each(|board| board.queries.iter().for_each(|query| look(board, query)));
}

fn queries(scene: &Scene<'_>, found: &mut Found<'_>) {
    panels(scene, |board, panel| {
        let targets = panel.targets();
        if panel.json.get("libraryPanel").is_some() || WITHOUT_QUERY.contains(&panel.kind()) {
            return;
        }
        let is_blank = |target: &Value| target["expr"].as_str().is_some_and(|expr| expr.trim().is_empty());
        let why = match targets {
            [] => "has no targets",
            _ if targets.iter().all(is_blank) => "has only empty queries",
            _ => return,
        };
        let message = format!("the panel \"{}\" {why}: it shows \"No data\" forever", panel.title());
        note(found, board, &panel.path, message).fix("# meshscope dashboards export writes boards with queries");
    });
}

fn types(scene: &Scene<'_>, found: &mut Found<'_>) {
    panels(scene, |board, panel| {
        if let Some((gone, now)) = GONE.iter().find(|(gone, _)| *gone == panel.kind()) {
            let message = format!(
                "the panel \"{}\" is of the type {gone}, which Grafana no longer has: {now} took its place",
                panel.title()
            );
            note(found, board, &format!("{}.type", panel.path), message).fix(format!("\"type\": \"{now}\""));
        }
    });
}

fn unread(scene: &Scene<'_>, found: &mut Found<'_>) {
    each_query(scene, |board, query| {
        if let Err(error) = &query.read {
            let message = format!("{} asks what Prometheus cannot read: {error}", query.of);
            note(found, board, &query.path, message).seen(query.raw.trim());
        }
    });
}

fn metrics(scene: &Scene<'_>, found: &mut Found<'_>) {
    each_query(scene, |board, query| {
        let Ok(expr) = &query.read else { return };
        for name in distinct(expr.selectors().into_iter().filter_map(|selector| selector.name)) {
            // A name that is put together of variables is known to the viewer only.
            if let Some(why) = names::unknown(&name).filter(|_| query.raw.contains(&name)) {
                note(found, board, &query.path, format!("{} asks for {name}: {why}", query.of)).seen(query.raw.trim());
            }
        }
    });
}

fn labels(scene: &Scene<'_>, found: &mut Found<'_>) {
    each_query(scene, |board, query| {
        linted(found, board, query, &["unknown-label"]);
        let Ok(expr) = &query.read else { return };
        let missing = expr.selectors().into_iter().flat_map(|selector| {
            let name = selector.name.unwrap_or_default();
            let wanted = selector.matchers.into_iter().filter(|matcher| !matcher.matches_empty());
            wanted.filter_map(move |matcher| names::missing_label(&name, &matcher.name)).collect::<Vec<_>>()
        });
        for why in distinct(missing) {
            note(found, board, &query.path, format!("{}: {why}", query.of)).seen(query.raw.trim());
        }
    });
}

fn both_sides(scene: &Scene<'_>, found: &mut Found<'_>) {
    each_query(scene, |board, query| linted(found, board, query, &["both-sides"]));
}

fn short_rates(scene: &Scene<'_>, found: &mut Found<'_>) {
    each_query(scene, |board, query| {
        if query.findings.iter().any(|finding| finding.code == "rate-too-short") {
            let message = format!(
                "{} takes a rate over less than four scrape intervals (15s unless the panel says otherwise): there are gaps, or nothing at all",
                query.of
            );
            note(found, board, &query.path, message).seen(query.raw.trim()).fix("[$__rate_interval]");
        }
    });
}

fn quantiles(scene: &Scene<'_>, found: &mut Found<'_>) {
    each_query(scene, |board, query| linted(found, board, query, &["quantile-without-le"]));
}

fn meant(scene: &Scene<'_>, found: &mut Found<'_>) {
    const ALWAYS: [&str; 5] =
        ["rate-of-sum", "rate-of-gauge", "delta-of-counter", "quantile-of-counters", "bool-comparison"];
    const OF_VALUES: [&str; 2] = ["impossible-value", "cannot-match"];
    each_query(scene, |board, query| {
        linted(found, board, query, &ALWAYS);
        // Which values a variable has is known to the viewer only.
        if !query.has_variables() {
            linted(found, board, query, &OF_VALUES);
        }
    });
}

/// Tells what the linter found under these codes. Its mend is an expression with variables filled in, so it is told only
/// where there are none.
fn linted(found: &mut Found<'_>, board: &Board<'_>, query: &Query, codes: &[&str]) {
    for finding in query.findings.iter().filter(|finding| codes.contains(&finding.code)) {
        let message = format!("{}: {} ({})", query.of, finding.message, finding.code);
        let note = note(found, board, &query.path, message).seen(query.raw.trim());
        if let Some(fix) = finding.fix.as_ref().filter(|_| !query.raw.contains(['$', '['])) {
            note.fix(fix);
        }
    }
}

fn units(scene: &Scene<'_>, found: &mut Found<'_>) {
    panels(scene, |board, panel| {
        if OF_NUMBERS.contains(&panel.kind()) && !panel.targets().is_empty() && !has_unit(panel) {
            let message = format!(
                "the panel \"{}\" has no unit: nobody can tell seconds from bytes; write none for plain numbers",
                panel.title()
            );
            note(found, board, &panel.path, message).fix("\"fieldConfig\": { \"defaults\": { \"unit\": \"reqps\" } }");
        }
    });
}

fn has_unit(panel: &Panel) -> bool {
    let json = &panel.json;
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let overrides = json["fieldConfig"]["overrides"].as_array().into_iter().flatten();
    let mut properties = overrides.flat_map(|one| one["properties"].as_array().into_iter().flatten());
    // The later three are where the panels of old kept it.
    let places = [
        &json["fieldConfig"]["defaults"]["unit"],
        &json["options"]["yAxis"]["unit"],
        &json["format"],
        &json["yAxis"]["format"],
        &json["yaxes"][0]["format"],
    ];
    places.into_iter().any(is_text) || properties.any(|property| property["id"] == "unit")
}

fn data_sources(scene: &Scene<'_>, found: &mut Found<'_>) {
    for board in scene.boards {
        let inputs = board.json["__inputs"].as_array().is_some_and(|inputs| !inputs.is_empty());
        let list = board.json["templating"]["list"].as_array().into_iter().flatten();
        let has_variable = list.into_iter().any(|variable| variable["type"] == "datasource");
        if inputs || has_variable {
            continue;
        }
        let asking = board.panels.iter().filter(|panel| !panel.targets().is_empty());
        let asked: Vec<String> = distinct(asking.filter_map(|panel| source(&panel.json["datasource"])));
        if !asked.is_empty() {
            let message = format!(
                "no variable chooses the data source: panels ask {}, which elsewhere is another or missing",
                asked.join(", ")
            );
            note(found, board, "templating", message)
                .fix("{ \"name\": \"datasource\", \"type\": \"datasource\", \"query\": \"prometheus\" }");
        }
    }
}

/// The data source that a panel names, for people; none for one that Grafana itself is, or a variable.
fn source(source: &Value) -> Option<String> {
    let name = source["uid"].as_str().or_else(|| source.as_str());
    match name {
        Some(name) if name.starts_with("--") || name.contains('$') || is_other(source) => None,
        Some("-100" | "grafana") => None,
        Some(name) => Some(name.to_owned()),
        None => Some("the default one".to_owned()),
    }
}

fn distinct(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    items.into_iter().for_each(|item| {
        if !all.contains(&item) {
            all.push(item);
        }
    });
    all
}
