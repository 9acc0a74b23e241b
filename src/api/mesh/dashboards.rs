//! `dashboards`: the Grafana boards that meshscope generates, as `meshscope dashboards export` writes them.

use axum::http::header;
use axum::response::IntoResponse as _;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::{named, names};
use crate::api::State;
use crate::api::error::ApiError;
use crate::dashboards::{self, Addresses, Export, Format, Mesh, Named, Source};

/// The flags of the command, as parameters.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Form of the files. The list has none without it; one board is json unless told, and never provisioning, which is a folder.
    #[schemars(extend("enum" = names(&Format::ALL, Format::as_str)))]
    format: Option<String>,
    /// Who answers the queries: chooses it at first, and leaves out boards that it has nothing for.
    #[schemars(extend("enum" = names(&Source::ALL, Source::as_str)))]
    datasource: Option<String>,
    /// Name or uid of the data source that is chosen at first, when it is called otherwise.
    datasource_name: Option<String>,
    /// Only the boards that concern this mesh, with the reporters it has.
    #[schemars(extend("enum" = names(&Mesh::ALL, Mesh::as_str)))]
    mesh: Option<String>,
    /// Grafana's folder.
    folder: Option<String>,
    /// Namespace of Kubernetes objects.
    namespace: Option<String>,
    /// true: heavy panels read what alerts/recording.yaml records.
    #[serde(default)]
    recording_rules: bool,
    /// Address of meshscope as Grafana reaches it.
    meshscope_url: Option<String>,
    /// PostgreSQL as Grafana reaches it, HOST:PORT.
    sql_address: Option<String>,
    /// Its database.
    sql_database: Option<String>,
    /// The role that may read the views.
    sql_role: Option<String>,
}

/// Which board.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Which {
    /// The board's uid, such as meshscope-edge.
    uid: String,
}

/// Boards, and the files they would be written to.
#[derive(Serialize, JsonSchema)]
pub(super) struct Dashboards {
    /// In the order of docs/dashboards.md.
    dashboards: Vec<Dashboard>,
    /// What an export in the format would write.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<File>>,
}

/// A board.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Dashboard {
    /// Stable identity.
    uid: &'static str,
    /// Name of its file.
    name: &'static str,
    /// Title.
    title: &'static str,
    /// What it is for.
    description: &'static str,
    /// Tags.
    tags: Vec<&'static str>,
    /// The meshes that it concerns.
    #[schemars(extend("items" = serde_json::json!({ "type": "string", "enum": names(&Mesh::ALL, Mesh::as_str) })))]
    meshes: Vec<&'static str>,
    /// Whether a Prometheus alone cannot fill it.
    needs_meshscope: bool,
    /// How many panels.
    panels: usize,
    /// Where the board is.
    url: String,
}

/// A file of an export.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DashboardFile")]
struct File {
    /// Relative to the folder of the export.
    path: String,
    /// Text.
    contents: String,
}

/// The boards; with `format`, the files as well.
pub(super) async fn list(_: State, asked: Asked) -> Outcome<Dashboards> {
    let has_files = asked.format.is_some();
    let asked = export(asked)?;
    let boards = dashboards::chosen(&asked).map_err(bad)?;
    let files = if has_files { Some(dashboards::export(&asked).map_err(bad)?) } else { None };
    Ok(Answer::new(Dashboards {
        dashboards: boards.iter().map(row).collect(),
        files: files.map(|files| {
            files.into_iter().map(|dashboards::File { path, contents }| File { path, contents }).collect()
        }),
    }))
}

fn row(named: &Named) -> Dashboard {
    let board = &named.dashboard;
    Dashboard {
        uid: board.uid,
        name: named.name,
        title: board.title,
        description: board.description,
        tags: board.tags.clone(),
        meshes: named.meshes.iter().map(|mesh| mesh.as_str()).collect(),
        needs_meshscope: named.needs_meshscope,
        panels: board.panels.len(),
        url: format!("/api/mesh/v1/dashboards/{}", board.uid),
    }
}

/// One board as it is, without a wrapper: for `curl` into Grafana or `kubectl`.
pub(super) async fn one(_: State, (Which { uid }, asked): (Which, Asked)) -> Outcome<()> {
    let asked = export(asked)?;
    if asked.format == Format::Provisioning {
        let message = "provisioning is a folder of files: ask for /api/mesh/v1/dashboards?format=provisioning";
        return Err(ApiError::parameter("format", message));
    }
    let kind = if asked.format == Format::Json { "application/json" } else { "application/yaml" };
    match dashboards::export_one(&uid, &asked).map_err(bad)? {
        Some(file) => Ok(Answer::other(([(header::CONTENT_TYPE, kind)], file.contents).into_response())),
        None => Err(ApiError::NotFound(format!(
            "there is no board {uid} for what is asked; /api/mesh/v1/dashboards lists all"
        ))),
    }
}

fn bad(error: dashboards::Error) -> ApiError {
    ApiError::BadData(error.to_string())
}

fn export(asked: Asked) -> Result<Export, ApiError> {
    let usual = Addresses::default();
    let given = [asked.meshscope_url, asked.sql_address, asked.sql_database, asked.sql_role];
    let addresses = given.iter().any(Option::is_some).then(|| {
        let [meshscope, sql, database, role] = given;
        Addresses {
            meshscope: meshscope.unwrap_or(usual.meshscope),
            sql: sql.unwrap_or(usual.sql),
            database: database.unwrap_or(usual.database),
            role: role.unwrap_or(usual.role),
        }
    });
    Ok(Export {
        format: named("format", asked.format.as_deref(), &Format::ALL, Format::as_str)?.unwrap_or_default(),
        source: named("datasource", asked.datasource.as_deref(), &Source::ALL, Source::as_str)?,
        datasource: asked.datasource_name,
        mesh: named("mesh", asked.mesh.as_deref(), &Mesh::ALL, Mesh::as_str)?,
        folder: asked.folder,
        namespace: asked.namespace,
        recording_rules: asked.recording_rules,
        addresses,
    })
}

/// What a board is in each form: Grafana's JSON, or an object of Kubernetes.
pub(super) fn board_json(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "A dashboard, as Grafana imports it.",
        "required": ["uid", "title", "panels"],
        "additionalProperties": true,
    })
}

/// The same as an object of Kubernetes.
pub(super) fn board_yaml(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "A ConfigMap, or a GrafanaDashboard of the Grafana operator.",
        "required": ["apiVersion", "kind", "metadata"],
        "additionalProperties": true,
    })
}
