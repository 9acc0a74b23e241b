//! `resources`: one declared object as it is now, its generations, and how two of them differ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::changes::{ChangeJson, FieldJson};
use super::operation::{Answer, Outcome};
use super::query::Limit;
use crate::api::State;
use crate::api::error::ApiError;
use crate::changes::{FieldChange, Governs, diff, kind_key, kind_of_key, normal, yaml};
use crate::mesh::{Index, ResourceId};
use crate::persist::Generation;

/// Generations in one answer.
const HISTORY_DEFAULT: usize = 50;
const HISTORY_MAX: usize = 500;

/// A declared object.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DeclaredObject")]
pub(super) struct One<'a> {
    /// Its kind.
    kind: String,
    /// Its API group.
    group: &'static str,
    /// Its namespace.
    namespace: &'a str,
    /// Its name.
    name: &'a str,
    /// Whether it is declared now.
    declared: bool,
    /// File and line, when it comes from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// As declared now, what looks like a secret covered.
    #[serde(skip_serializing_if = "Option::is_none")]
    yaml: Option<String>,
    /// Whom it governs, in words.
    governs: Vec<String>,
    /// Its generations, the newest first.
    history: Vec<ChangeJson<'a>>,
    /// How two revisions differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Diff<'a>>,
}

/// How two revisions differ.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RevisionDiff")]
struct Diff<'a> {
    /// The first.
    from: u64,
    /// The second.
    to: u64,
    /// The fields that differ.
    fields: Vec<FieldJson<'a>>,
    /// Fields beyond those.
    fields_left_out: usize,
}

/// Which object, and how much of it.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Which {
    /// Kind: VirtualService; where two groups have one of that name, with the group: Gateway.gateway.networking.k8s.io.
    kind: String,
    /// Namespace; - for kinds of the whole cluster.
    namespace: String,
    /// Name.
    name: String,
    /// A revision to be compared with `to`.
    from: Option<u64>,
    /// The other revision.
    to: Option<u64>,
    /// Most generations, from 1 to 500; 50 unless told.
    limit: Option<Limit<HISTORY_MAX>>,
}

/// An object: its YAML, whom it governs, its generations; `from` and `to` name two revisions to be compared.
pub(super) async fn one(state: State, asked: Which) -> Outcome<One<'static>> {
    let Which { kind, namespace, name, from, to, limit } = asked;
    let Some(kind) = kind_of_key(&kind) else {
        return Err(ApiError::NotFound(format!(
            "{kind:?} is no kind that is read; write it as in YAML: VirtualService"
        )));
    };
    // A kind of the whole cluster has no namespace: `-` stands for that.
    let namespace = if namespace == "-" { String::new() } else { namespace };
    let id = ResourceId { kind, namespace, name };
    let limit = limit.map_or(HISTORY_DEFAULT, |limit| limit.0);
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
    let differing = match (from, to) {
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
    Ok(Answer::with(data, &warnings))
}

fn difference(history: &[Generation], from: u64, to: u64) -> Result<(Vec<FieldChange>, usize), ApiError> {
    let body = |revision: u64| -> Result<serde_json::Value, ApiError> {
        let one = history.iter().find(|one| one.change.revision == revision);
        let one = one.ok_or_else(|| ApiError::NotFound(format!("there is no revision {revision} in this history")))?;
        Ok(one.body.clone().unwrap_or_default())
    };
    Ok(diff(&body(from)?, &body(to)?))
}
