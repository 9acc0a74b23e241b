//! `effective`: what holds for a workload, or when it calls a host, and from which object.

use axum::extract::State as Shared;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::State;
use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::mesh::Index;
use crate::mesh::effective::{Applied, applied_to_edge, applied_to_workload};
use crate::mesh::select::Labels;

/// `namespace` and `workload` name who is meant; with `host` also what holds when it calls that host.
pub(super) async fn effective(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    params.only(&["namespace", "workload", "host"])?;
    let needed = |name: &str| {
        params.get(name).filter(|text| !text.is_empty()).ok_or_else(|| {
            ApiError::parameter(name, "give the namespace, and the workload or host that is meant".to_owned())
        })
    };
    let namespace = needed("namespace")?;
    let (workload, host) = (params.get("workload").unwrap_or_default(), params.get("host").unwrap_or_default());
    if workload.is_empty() && host.is_empty() {
        needed("workload")?;
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
    let rows = |all: &[Applied]| -> Vec<Value> { all.iter().map(row).collect() };
    Ok(success_with(json!({ "workload": rows(&of_workload), "calls": rows(&of_calls) }), &warnings))
}

fn row(one: &Applied) -> Value {
    let mut json = json!({ "setting": one.setting, "value": one.value, "doesNothingHere": one.is_lost });
    if let (Some(from), Some(fields)) = (&one.from, json.as_object_mut()) {
        fields.insert("from".to_owned(), from.to_string().into());
    }
    json
}
