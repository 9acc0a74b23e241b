//! The part of Grafana's dashboard JSON we write, as types: what is missing here cannot be written wrongly.
//!
//! In: values. Out: JSON by serde. Field names follow Grafana's dashboard schema (camelCase). Kinds of panel that Grafana
//! removed (`graph`, `singlestat`, `table-old`) are not here.

use serde::Serialize;

/// Version of Grafana's dashboard schema this writes; Grafana migrates older ones on load.
pub const SCHEMA_VERSION: u32 = 41;

/// A dashboard.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// Stable identity: links and provisioning hold on to it. At most 40 characters.
    pub uid: &'static str,
    /// Title.
    pub title: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Tags.
    pub tags: Vec<&'static str>,
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Whether it can be changed in the browser.
    pub editable: bool,
    /// 1 shares the crosshair among panels.
    pub graph_tooltip: u8,
    /// How often it refreshes.
    pub refresh: &'static str,
    /// Initial range.
    pub time: Range,
    /// `browser`: the viewer's own.
    pub timezone: &'static str,
    /// Ways to other boards and to our pages.
    pub links: Vec<Link>,
    /// What is drawn over every panel.
    pub annotations: Annotations,
    /// Variables.
    pub templating: Templating,
    /// Panels, in reading order.
    pub panels: Vec<Panel>,
}

/// A way out of the dashboard, in its head.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// `dashboards`: all with these tags; `link`: one address.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What the viewer reads.
    pub title: &'static str,
    /// What the viewer reads when pointing at it.
    pub tooltip: &'static str,
    /// Grafana's name of a picture.
    pub icon: &'static str,
    /// Tags of the dashboards meant.
    pub tags: Vec<&'static str>,
    /// Where to, with variables.
    pub url: String,
    /// One menu instead of many words.
    pub as_dropdown: bool,
    /// The other takes over what is chosen here.
    pub include_vars: bool,
    /// And the time range.
    pub keep_time: bool,
    /// In a new tab.
    pub target_blank: bool,
}

/// The list of annotations.
#[derive(Clone, Debug, Serialize)]
pub struct Annotations {
    /// Each asks by itself.
    pub list: Vec<Annotation>,
}

/// Events drawn over every panel.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotation {
    /// What the viewer switches on and off.
    pub name: &'static str,
    /// Who is asked.
    pub datasource: DataSource,
    /// Switched on at first.
    pub enable: bool,
    /// Without a switch.
    pub hide: bool,
    /// Colour.
    pub icon_color: &'static str,
    /// PromQL: an event wherever it has a value.
    pub expr: &'static str,
    /// Heading of an event.
    pub title_format: &'static str,
    /// Text of an event.
    pub text_format: &'static str,
    /// Labels shown as tags, separated by commas.
    pub tag_keys: &'static str,
    /// Resolution.
    pub step: &'static str,
}

/// A time range in Grafana's words.
#[derive(Clone, Debug, Serialize)]
pub struct Range {
    /// Begin, such as `now-1h`.
    pub from: &'static str,
    /// End.
    pub to: &'static str,
}

/// The list of variables.
#[derive(Clone, Debug, Serialize)]
pub struct Templating {
    /// In the order they depend on each other.
    pub list: Vec<Variable>,
}

/// A variable of the dashboard.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Name, as `$name`.
    pub name: &'static str,
    /// What the viewer reads.
    pub label: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Kind.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// Query, or the list of choices.
    pub query: String,
    /// Where the query goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datasource: Option<DataSource>,
    /// 2: ask again when the time range changes.
    pub refresh: u8,
    /// 1: alphabetical; 0: as given.
    pub sort: u8,
    /// Several at once.
    pub multi: bool,
    /// With the choice "All".
    pub include_all: bool,
    /// What "All" means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_value: Option<&'static str>,
    /// Chosen at first; without it Grafana takes its default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<Choice>,
    /// The choices of a custom variable.
    pub options: Vec<Choice>,
}

/// Kind of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// A data source of one type.
    Datasource,
    /// Values of a query.
    Query,
    /// A fixed list.
    Custom,
    /// What the viewer types.
    Textbox,
}

/// A choice of a variable.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// What the viewer reads.
    pub text: String,
    /// What the query gets.
    pub value: String,
    /// Whether it is chosen.
    pub selected: bool,
}

/// A reference to a data source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataSource {
    /// `prometheus`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its uid, or a variable.
    pub uid: &'static str,
}

/// The Prometheus data source the viewer chose.
pub const CHOSEN: DataSource = DataSource { kind: "prometheus", uid: "${datasource}" };

/// The PostgreSQL data source the viewer chose. Its type was `postgres` until Grafana 10.1, and that is still its alias.
pub const CHOSEN_SQL: DataSource = DataSource { kind: "postgres", uid: "${sql}" };

/// A panel.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Panel {
    /// Unique in the dashboard.
    pub id: u32,
    /// Title.
    pub title: &'static str,
    /// What it shows and how to read it.
    pub description: &'static str,
    /// Kind.
    #[serde(rename = "type")]
    pub kind: PanelKind,
    /// Place.
    pub grid_pos: GridPosition,
    /// Data source.
    pub datasource: DataSource,
    /// Queries.
    pub targets: Vec<Target>,
    /// Units, thresholds, drawing.
    pub field_config: FieldConfig,
    /// Options of the kind of panel.
    pub options: serde_json::Value,
    /// Joins and renames of a table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transformations: Vec<serde_json::Value>,
}

/// Kinds of panel we write. Grafana no longer has the `graph` of old dashboards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PanelKind {
    /// Lines over time.
    #[serde(rename = "timeseries")]
    Timeseries,
    /// One number.
    #[serde(rename = "stat")]
    Stat,
    /// Rows.
    #[serde(rename = "table")]
    Table,
    /// Buckets over time.
    #[serde(rename = "heatmap")]
    Heatmap,
    /// Bars side by side.
    #[serde(rename = "bargauge")]
    Bargauge,
    /// Who calls whom.
    #[serde(rename = "nodeGraph")]
    NodeGraph,
    /// States over time.
    #[serde(rename = "state-timeline")]
    StateTimeline,
}

/// Place on the grid of 24 columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GridPosition {
    /// Height.
    pub h: u32,
    /// Width.
    pub w: u32,
    /// Column.
    pub x: u32,
    /// Row.
    pub y: u32,
}

/// A query: PromQL, or SQL where [`Target::raw_sql`] is not empty.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "WrittenTarget")]
pub struct Target {
    /// Unique in the panel.
    pub ref_id: &'static str,
    /// PromQL.
    pub expr: String,
    /// SQL.
    pub raw_sql: String,
    /// Name of the line.
    pub legend_format: &'static str,
    /// Data source.
    pub datasource: DataSource,
    /// One value at the end of the range.
    pub instant: bool,
    /// Values over the range.
    pub range: bool,
    /// `time_series`, `table` or `heatmap`.
    pub format: &'static str,
    /// Draw the traces that samples name; Grafana asks for them beside the query.
    pub exemplar: bool,
}

/// A query as each data source wants it.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum WrittenTarget {
    Prometheus {
        ref_id: &'static str,
        expr: String,
        legend_format: &'static str,
        datasource: DataSource,
        instant: bool,
        range: bool,
        format: &'static str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        exemplar: bool,
    },
    Sql {
        ref_id: &'static str,
        raw_sql: String,
        /// Written by hand, not by Grafana's builder.
        raw_query: bool,
        editor_mode: &'static str,
        datasource: DataSource,
        format: &'static str,
    },
}

impl From<Target> for WrittenTarget {
    fn from(target: Target) -> Self {
        let Target { ref_id, expr, raw_sql, legend_format, datasource, instant, range, format, exemplar } = target;
        match raw_sql.is_empty() {
            true => Self::Prometheus { ref_id, expr, legend_format, datasource, instant, range, format, exemplar },
            false => Self::Sql { ref_id, raw_sql, raw_query: true, editor_mode: "code", datasource, format },
        }
    }
}

/// Units and drawing.
#[derive(Clone, Debug, Serialize)]
pub struct FieldConfig {
    /// Of all fields.
    pub defaults: Defaults,
    /// Of single fields.
    pub overrides: Vec<serde_json::Value>,
}

/// Units and drawing of all fields of a panel.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// Grafana's unit id.
    pub unit: &'static str,
    /// Lower end of the axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Colours by value.
    pub thresholds: Thresholds,
    /// What an empty panel says.
    pub no_value: &'static str,
    /// Words for values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<serde_json::Value>,
    /// How lines are drawn.
    pub custom: serde_json::Value,
}

/// Colours by value.
#[derive(Clone, Debug, Serialize)]
pub struct Thresholds {
    /// `absolute`.
    pub mode: &'static str,
    /// From the lowest up.
    pub steps: Vec<Step>,
}

/// One colour.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// Colour.
    pub color: &'static str,
    /// From this value; `null` is minus infinity.
    pub value: Option<f64>,
}
