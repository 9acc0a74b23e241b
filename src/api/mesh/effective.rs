//! `effective`: what holds for a workload, or when it calls a host, and from which object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use crate::api::State;
use crate::api::error::ApiError;
use crate::mesh::Index;
use crate::mesh::effective::{Applied, applied_to_edge, applied_to_workload};
use crate::mesh::select::Labels;

/// Who is meant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// The namespace of the workload or caller.
    namespace: String,
    /// The workload or caller.
    #[serde(default)]
    workload: String,
    /// The host that is called.
    #[serde(default)]
    host: String,
}

/// What holds, and from which object.
#[derive(Serialize, JsonSchema)]
pub(super) struct Effective {
    /// What holds for the workload.
    workload: Vec<AppliedJson>,
    /// What holds when it calls the host.
    calls: Vec<AppliedJson>,
}

/// One setting.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Applied")]
struct AppliedJson {
    /// What is set.
    setting: String,
    /// To what.
    value: String,
    /// By which object, as VirtualService shop/cart; missing: the default of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Whether another object holds instead.
    does_nothing_here: bool,
}

/// What holds for a workload, and with a host also what holds when it calls that.
pub(super) async fn effective(state: State, asked: Asked) -> Outcome<Effective> {
    let (namespace, workload, host) = (&*asked.namespace, &*asked.workload, &*asked.host);
    if workload.is_empty() && host.is_empty() {
        return Err(ApiError::parameter("workload", "give the workload or the host that is meant"));
    }
    let (snapshot, config) = (state.declared.current(), state.declared.config());
    let index = Index::new(&snapshot, &config.root_namespace, &config.cluster_domain);
    let declared = index.workload(namespace, workload);
    let mut warnings = Vec::new();
    if declared.is_none() && !workload.is_empty() {
        warnings.push(format!("no workload {namespace}/{workload} is declared: what selects by labels is left out"));
    }
    let labels = declared.map(|one| one.labels.clone()).unwrap_or_default();
    let of_workload = match workload.is_empty() {
        true => Vec::new(),
        false => applied_to_workload(&index, namespace, &labels),
    };
    let of_calls = match host.is_empty() {
        true => Vec::new(),
        false => applied_to_edge(&index, namespace, &labels as &Labels, host),
    };
    let rows = |all: &[Applied]| all.iter().map(row).collect();
    Ok(Answer::with(Effective { workload: rows(&of_workload), calls: rows(&of_calls) }, &warnings))
}

fn row(one: &Applied) -> AppliedJson {
    AppliedJson {
        setting: one.setting.to_string(),
        value: one.value.to_string(),
        from: one.from.as_ref().map(ToString::to_string),
        does_nothing_here: one.is_lost,
    }
}
