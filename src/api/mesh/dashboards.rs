//! `dashboards`: the Grafana boards that meshscope generates, as `meshscope dashboards export` writes them.

use axum::extract::{Path, State as Shared};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::State;
use crate::api::encode::success;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::dashboards::{self, Addresses, Export, Format, Mesh, Named, Source};

/// The flags of the command, as parameters.
const PARAMETERS: [&str; 11] = [
    "format",
    "datasource",
    "datasource_name",
    "mesh",
    "folder",
    "namespace",
    "recording_rules",
    "meshscope_url",
    "sql_address",
    "sql_database",
    "sql_role",
];

#[derive(Serialize)]
struct Dashboards {
    dashboards: Vec<Dashboard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<File>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dashboard {
    uid: &'static str,
    name: &'static str,
    title: &'static str,
    description: &'static str,
    tags: Vec<&'static str>,
    meshes: Vec<&'static str>,
    needs_meshscope: bool,
    panels: usize,
    url: String,
}

#[derive(Serialize)]
struct File {
    path: String,
    contents: String,
}

/// The boards; with `format`, the files as well.
pub(super) async fn list(Shared(_): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let asked = export(&params)?;
    let boards = dashboards::chosen(&asked).map_err(bad)?;
    let files = match params.get("format") {
        Some(_) => Some(dashboards::export(&asked).map_err(bad)?),
        None => None,
    };
    Ok(success(Dashboards {
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
pub(super) async fn one(
    Shared(_): Shared<State>,
    Path(uid): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let asked = export(&params)?;
    if asked.format == Format::Provisioning {
        let message = "provisioning is a folder of files: ask for /api/mesh/v1/dashboards?format=provisioning";
        return Err(ApiError::parameter("format", message));
    }
    let kind = if asked.format == Format::Json { "application/json" } else { "application/yaml" };
    match dashboards::export_one(&uid, &asked).map_err(bad)? {
        Some(file) => Ok(([(header::CONTENT_TYPE, kind)], file.contents).into_response()),
        None => Err(ApiError::NotFound(format!(
            "there is no board {uid} for what is asked; /api/mesh/v1/dashboards lists all"
        ))),
    }
}

fn bad(error: dashboards::Error) -> ApiError {
    ApiError::BadData(error.to_string())
}

fn export(params: &Params) -> Result<Export, ApiError> {
    params.only(&PARAMETERS)?;
    let text = |name: &str| params.get(name).map(str::to_owned);
    let recording_rules = params.flag("recording_rules")?;
    let usual = Addresses::default();
    let given = ["meshscope_url", "sql_address", "sql_database", "sql_role"].map(text);
    let [meshscope, sql, database, role] = given.clone();
    let addresses = given.iter().any(Option::is_some).then(|| Addresses {
        meshscope: meshscope.unwrap_or(usual.meshscope),
        sql: sql.unwrap_or(usual.sql),
        database: database.unwrap_or(usual.database),
        role: role.unwrap_or(usual.role),
    });
    Ok(Export {
        format: one_of(params, "format", Format::named, &Format::ALL.map(Format::as_str))?.unwrap_or_default(),
        source: one_of(params, "datasource", Source::named, &Source::ALL.map(Source::as_str))?,
        datasource: text("datasource_name"),
        mesh: one_of(params, "mesh", Mesh::named, &Mesh::ALL.map(Mesh::as_str))?,
        folder: text("folder"),
        namespace: text("namespace"),
        recording_rules,
        addresses,
    })
}

/// A parameter that is one of a few words.
fn one_of<T>(
    params: &Params,
    name: &str,
    named: impl Fn(&str) -> Option<T>,
    words: &[&str],
) -> Result<Option<T>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let wrong = || ApiError::parameter(name, format!("{text:?} is none of {}", words.join(", ")));
    named(text).map(Some).ok_or_else(wrong)
}
