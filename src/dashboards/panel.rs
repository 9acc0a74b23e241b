//! Makes panels: one function for each kind, then what differs from the usual.
//!
//! In: words, units, queries. Out: [`Panel`]s without a place; [`super::frame`] gives them one.

use serde_json::{Map, Value, json};

use super::grafana::{
    CHOSEN, CHOSEN_SQL, Defaults, FieldConfig, GridPosition, Panel, PanelKind, Step, Target, Thresholds,
};

/// Names of the queries of a panel, in order.
const REF_IDS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];

/// Title and description: what it shows and how to read it.
pub(super) type Words = (&'static str, &'static str);

/// A panel of lines over time, half as wide as the board.
pub(super) fn lines((title, description): Words, unit: &'static str) -> Panel {
    Panel {
        id: 0,
        title,
        description,
        kind: PanelKind::Timeseries,
        grid_pos: GridPosition { h: 9, w: 12, x: 0, y: 0 },
        datasource: CHOSEN,
        targets: Vec::new(),
        field_config: FieldConfig {
            defaults: Defaults {
                unit,
                min: Some(0.0),
                max: None,
                thresholds: Thresholds { mode: "absolute", steps: vec![step("green", None)] },
                no_value: "no samples: is the mesh scraped?",
                mappings: Vec::new(),
                custom: json!({ "fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": false }),
            },
            overrides: Vec::new(),
        },
        options: json!({
            "legend": { "displayMode": "table", "placement": "right", "showLegend": true, "calcs": ["mean", "max"] },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        transformations: Vec::new(),
    }
}

/// A panel of one number, a quarter as wide as the board.
pub(super) fn stat(words: Words, unit: &'static str, steps: Vec<Step>) -> Panel {
    plain(lines(words, unit), PanelKind::Stat, steps).sized(6, 4).drawn(json!({
        "colorMode": "value", "graphMode": "area", "textMode": "value", "justifyMode": "auto", "orientation": "auto",
        "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
    }))
}

/// Bars, one for each series, the value at the end.
pub(super) fn bars(words: Words, unit: &'static str, steps: Vec<Step>) -> Panel {
    plain(lines(words, unit), PanelKind::Bargauge, steps).drawn(json!({
        "displayMode": "basic", "orientation": "horizontal", "valueMode": "color", "showUnfilled": true,
        "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
    }))
}

/// Rows; each query becomes a column (see [`Panel::column`]), joined by equal labels.
pub(super) fn table(words: Words) -> Panel {
    let mut panel = plain(lines(words, "short"), PanelKind::Table, vec![step("green", None)]).sized(24, 11);
    panel.field_config.defaults.custom = json!({ "filterable": true });
    panel.transformations = vec![
        json!({ "id": "merge", "options": {} }),
        json!({ "id": "organize", "options": { "excludeByName": { "Time": true } } }),
    ];
    panel.drawn(json!({ "showHeader": true, "cellHeight": "sm" }))
}

/// A histogram over time; `unit` is that of the bounds.
pub(super) fn heatmap(words: Words, unit: &'static str) -> Panel {
    let mut panel = plain(lines(words, unit), PanelKind::Heatmap, vec![step("green", None)]).drawn(json!({
        "calculate": false,
        "cellGap": 1,
        "color": { "mode": "scheme", "scheme": "Oranges", "reverse": false, "steps": 64, "exponent": 0.5, "fill": "dark-orange" },
        "filterValues": { "le": 1e-9 },
        "legend": { "show": true },
        "rowsFrame": { "layout": "auto" },
        "tooltip": { "mode": "single", "yHistogram": false },
        "yAxis": { "axisPlacement": "left", "reverse": false, "unit": unit },
    }));
    panel.field_config.defaults.min = None;
    panel
}

/// States over time, one row for each series: 1 is pending, 2 is firing.
pub(super) fn states(words: Words) -> Panel {
    let steps = vec![step("green", None), step("orange", Some(1.0)), step("red", Some(2.0))];
    let mut panel = plain(lines(words, "none"), PanelKind::StateTimeline, steps).sized(24, 10).drawn(json!({
        "mergeValues": true, "showValue": "never", "alignValue": "left", "rowHeight": 0.9,
        "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
        "tooltip": { "mode": "single", "sort": "none" },
    }));
    panel.field_config.defaults.custom = json!({ "fillOpacity": 70, "lineWidth": 0 });
    panel.field_config.defaults.mappings = vec![json!({ "type": "value", "options": {
        "1": { "text": "pending", "index": 0 }, "2": { "text": "firing", "index": 1 },
    } })];
    panel
}

/// Nodes and what is called between them: first a query with the label `id`, then one with `id`, `source` and `target`.
pub(super) fn node_graph(words: Words, [nodes, edges]: [String; 2]) -> Panel {
    let mut panel = plain(lines(words, "reqps"), PanelKind::NodeGraph, vec![step("green", None)]).sized(24, 14);
    panel.transformations =
        vec![json!({ "id": "renameByRegex", "options": { "regex": "Value.*", "renamePattern": "mainstat" } })];
    panel.row(nodes).row(edges).drawn(json!({
        "nodes": { "mainStatUnit": "reqps" }, "edges": { "mainStatUnit": "reqps" }, "zoomMode": "cooperative",
    }))
}

/// Without how lines are drawn.
fn plain(mut panel: Panel, kind: PanelKind, steps: Vec<Step>) -> Panel {
    panel.kind = kind;
    panel.field_config.defaults.thresholds.steps = steps;
    panel.field_config.defaults.custom = Value::Object(Map::new());
    panel
}

/// A colour from this value up; the first has none.
pub(super) const fn step(color: &'static str, value: Option<f64>) -> Step {
    Step { color, value }
}

/// One colour whatever the value is.
pub(super) fn blue() -> Vec<Step> {
    vec![step("blue", None)]
}

/// Green, orange from `degraded` up, red from `failing` up.
pub(super) fn bad_above(degraded: f64, failing: f64) -> Vec<Step> {
    vec![step("green", None), step("orange", Some(degraded)), step("red", Some(failing))]
}

/// Red, orange from `better` up, green from `good` up.
pub(super) fn bad_below(better: f64, good: f64) -> Vec<Step> {
    vec![step("red", None), step("orange", Some(better)), step("green", Some(good))]
}

impl Panel {
    /// One more query over the range, its lines named by `legend`.
    pub(super) fn query(self, expr: impl Into<String>, legend: &'static str) -> Self {
        let format = if self.kind == PanelKind::Heatmap { "heatmap" } else { "time_series" };
        self.with_target(expr.into(), legend, format)
    }

    /// One more query for a table: the value now.
    pub(super) fn row(self, expr: impl Into<String>) -> Self {
        self.with_target(expr.into(), "", "table")
    }

    fn with_target(mut self, expr: String, legend_format: &'static str, format: &'static str) -> Self {
        let ref_id = REF_IDS[self.targets.len()];
        let instant = format == "table";
        let range = !instant;
        let raw_sql = String::new();
        let target = Target {
            ref_id,
            expr,
            raw_sql,
            legend_format,
            datasource: CHOSEN,
            instant,
            range,
            format,
            exemplar: false,
        };
        self.targets.push(target);
        self
    }

    /// One more query, in SQL; lines over time need the columns `time`, perhaps `metric`, and numbers.
    pub(super) fn sql(mut self, query: &str) -> Self {
        let format = if self.kind == PanelKind::Timeseries { "time_series" } else { "table" };
        let query = query.to_owned();
        self = self.with_target(String::new(), "", format);
        if let Some(target) = self.targets.last_mut() {
            (target.raw_sql, target.datasource) = (query, CHOSEN_SQL);
        }
        self.datasource = CHOSEN_SQL;
        self
    }

    /// With the traces that samples of its queries name.
    pub(super) fn exemplars(mut self) -> Self {
        self.targets.iter_mut().for_each(|target| target.exemplar = true);
        self
    }

    /// Width of 24, height.
    pub(super) fn sized(mut self, w: u32, h: u32) -> Self {
        (self.grid_pos.w, self.grid_pos.h) = (w, h);
        self
    }

    /// Other words when there is nothing to draw.
    pub(super) fn when_empty(mut self, no_value: &'static str) -> Self {
        self.field_config.defaults.no_value = no_value;
        self
    }

    /// An axis from nothing to all. Not for errors: a share of a thousandth would be invisible.
    pub(super) fn whole_share(mut self) -> Self {
        self.field_config.defaults.max = Some(1.0);
        self
    }

    /// An axis that goes below nothing.
    pub(super) fn signed(mut self) -> Self {
        self.field_config.defaults.min = None;
        self
    }

    /// A column of a table: the label or `Value #A`, its heading, its unit.
    pub(super) fn column(mut self, name: &str, title: &str, unit: &str) -> Self {
        self.field_config.overrides.push(json!({
            "matcher": { "id": "byName", "options": name },
            "properties": [{ "id": "displayName", "value": title }, { "id": "unit", "value": unit }],
        }));
        self
    }

    /// A column whose cells lead to another board; `url` may hold `${__data.fields.NAME}`.
    pub(super) fn leading(mut self, name: &str, title: &str, url: &str) -> Self {
        let link = json!([{ "title": "Open the board", "url": url }]);
        self.field_config.overrides.push(json!({
            "matcher": { "id": "byName", "options": name },
            "properties": [{ "id": "displayName", "value": title }, { "id": "links", "value": link }],
        }));
        self
    }

    fn drawn(mut self, options: Value) -> Self {
        self.options = options;
        self
    }
}
