//! `resources`: one declared object as it is now, its generations, and how two of them differ.

use axum::extract::{Path, State as Shared};
use axum::response::Response;
use serde::Serialize;

use super::changes::{ChangeJson, FieldJson};
use crate::api::State;
use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::changes::{FieldChange, Governs, diff, kind_key, kind_of_key, normal, yaml};
use crate::mesh::{Index, ResourceId};
use crate::persist::Generation;

/// Generations in one answer.
const HISTORY_DEFAULT: usize = 50;
const HISTORY_MAX: usize = 500;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    kind: String,
    group: &'static str,
    namespace: &'a str,
    name: &'a str,
    /// Whether it is declared now.
    declared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    yaml: Option<String>,
    governs: Vec<String>,
    history: Vec<ChangeJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Diff<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Diff<'a> {
    from: u64,
    to: u64,
    fields: Vec<FieldJson<'a>>,
    fields_left_out: usize,
}

/// An object: its YAML, whom it governs, its generations; `from` and `to` name two revisions to be compared.
pub(super) async fn one(
    Shared(state): Shared<State>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
    params: Params,
) -> Result<Response, ApiError> {
    let Some(kind) = kind_of_key(&kind) else {
        return Err(ApiError::NotFound(format!(
            "{kind:?} is no kind that is read; write it as in YAML: VirtualService"
        )));
    };
    // A kind of the whole cluster has no namespace: `-` stands for that.
    let namespace = if namespace == "-" { String::new() } else { namespace };
    let id = ResourceId { kind, namespace, name };
    let limit = params.limit_within(HISTORY_MAX)?.unwrap_or(HISTORY_DEFAULT);
    let compared = (revision(&params, "from")?, revision(&params, "to")?);
    let (history, warnings) = match state.changes.history(&id, limit).await {
        Ok(history) => (history, Vec::new()),
        Err(reason) => (Vec::new(), vec![format!("The history is not shown: {reason}.")]),
    };
    let (snapshot, config) = (state.declared.current(), state.declared.config());
    let found = snapshot.get(id.kind, &id.namespace, &id.name);
    if found.is_none() && history.is_empty() && warnings.is_empty() {
        return Err(ApiError::NotFound(format!("there is no {id}, and there was none")));
    }
    let governs = found.map(|resource| {
        let index = Index::new(&snapshot, &config.root_namespace, &config.cluster_domain);
        Governs::of(&index, resource).words()
    });
    let differing = match compared {
        (Some(from), Some(to)) => Some((from, to, difference(&history, from, to)?)),
        (None, None) => None,
        _ => return Err(ApiError::BadData("give both `from` and `to`, two revisions of the history".to_owned())),
    };
    let data = One {
        kind: kind_key(id.kind),
        group: id.kind.info().group,
        namespace: &id.namespace,
        name: &id.name,
        declared: found.is_some(),
        file: found.and_then(|one| one.place.file.as_ref().map(|file| format!("{file}:{}", one.place.line))),
        yaml: found.map(|resource| yaml(&normal(resource).body)),
        governs: governs.unwrap_or_default(),
        history: history.iter().map(|one| ChangeJson::from(&one.change)).collect(),
        diff: differing.as_ref().map(|(from, to, (fields, fields_left_out))| Diff {
            from: *from,
            to: *to,
            fields: fields.iter().map(FieldJson::from).collect(),
            fields_left_out: *fields_left_out,
        }),
    };
    Ok(success_with(data, &warnings))
}

fn revision(params: &Params, name: &str) -> Result<Option<u64>, ApiError> {
    let wrong =
        |text: &str| ApiError::parameter(name, format!("{text:?} is no revision: a whole number of the history"));
    params.get(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

fn difference(history: &[Generation], from: u64, to: u64) -> Result<(Vec<FieldChange>, usize), ApiError> {
    let body = |revision: u64| -> Result<serde_json::Value, ApiError> {
        let one = history.iter().find(|one| one.change.revision == revision);
        let one = one.ok_or_else(|| ApiError::NotFound(format!("there is no revision {revision} in this history")))?;
        Ok(one.body.clone().unwrap_or_default())
    };
    Ok(diff(&body(from)?, &body(to)?))
}
