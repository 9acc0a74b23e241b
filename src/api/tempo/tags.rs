//! Names and values of attributes, for what is typed into Grafana: of the last spans of the range.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use super::{Fault, count, range};
use crate::api::State;
use crate::api::params::Params;
use crate::model::Span;
use crate::model::span::Attributes;
use crate::persist::Wanted;
use crate::traceql::{self, Attribute, Needs, Trace, Value};

/// Spans that are looked at for names and values.
const SPANS_READ: usize = 20_000;
const VALUES_MAX: usize = 1_000;
const VALUES_DEFAULT: usize = 1_000;
/// What Tempo names so in its list of scopes.
const INTRINSICS: [&str; 18] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:kind",
    "span:name",
    "span:status",
    "status",
    "statusMessage",
    "trace:duration",
    "traceDuration",
];

async fn spans(state: &State, params: &Params, needs: Needs) -> Result<Vec<Arc<Span>>, Fault> {
    let (from, to) = range(params, state.clock.now())?;
    match state.archive.recent_spans(&Wanted { from, to, needs }, SPANS_READ).await {
        (spans, Some(note)) if spans.is_empty() => Err(Fault(StatusCode::SERVICE_UNAVAILABLE, note)),
        (spans, _) => Ok(spans),
    }
}

fn by_scope(spans: &[Arc<Span>]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut found: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    let mut add = |scope, attributes: &Attributes| {
        let names: &mut BTreeSet<String> = found.entry(scope).or_default();
        for (name, _) in attributes {
            if !names.contains(&**name) {
                names.insert(name.to_string());
            }
        }
    };
    for span in spans {
        add("resource", &span.resource.attributes);
        add("span", &span.attributes);
        span.events.iter().for_each(|event| add("event", &event.attributes));
        span.links.iter().for_each(|link| add("link", &link.attributes));
    }
    found.retain(|_, names| !names.is_empty());
    found
}

fn asked_scope(params: &Params) -> Result<Option<&str>, Fault> {
    match params.get("scope") {
        None | Some("none" | "all") => Ok(None),
        Some(scope @ ("resource" | "span" | "intrinsic" | "event" | "link" | "instrumentation")) => Ok(Some(scope)),
        Some(other) => Err(Fault::parameter("scope", other)),
    }
}

/// `search/tags`: names without scopes.
pub(super) async fn names(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let scope = asked_scope(&params)?;
    let spans = spans(&state, &params, Needs::default()).await?;
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (of, found) in by_scope(&spans) {
        if scope.is_none_or(|scope| scope == of) {
            names.extend(found);
        }
    }
    if scope == Some("intrinsic") {
        names.extend(INTRINSICS.map(str::to_owned));
    }
    Ok(axum::Json(json!({"tagNames": names, "metrics": {}})).into_response())
}

/// `v2/search/tags`: names by scope.
pub(super) async fn scopes(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let scope = asked_scope(&params)?;
    let spans = spans(&state, &params, Needs::default()).await?;
    let mut scopes: Vec<Json> = (by_scope(&spans).into_iter())
        .filter(|(of, _)| scope.is_none_or(|scope| scope == *of))
        .map(|(name, tags)| json!({"name": name, "tags": tags}))
        .collect();
    if scope.is_none_or(|scope| scope == "intrinsic") {
        scopes.push(json!({"name": "intrinsic", "tags": INTRINSICS}));
    }
    Ok(axum::Json(json!({"scopes": scopes, "metrics": {}})).into_response())
}

/// `search/tag/{tag}/values`: texts.
pub(super) async fn values(
    Shared(state): Shared<State>,
    Path(tag): Path<String>,
    params: Params,
) -> Result<Response, Fault> {
    let tag = match tag.as_str() {
        "status.code" => "status".to_owned(),
        "root.name" => "rootName".to_owned(),
        "root.service.name" => "rootServiceName".to_owned(),
        known if traceql::parse(&format!("{{}} | select({known})")).is_ok() => tag,
        _ => format!(".\"{tag}\""),
    };
    let found = found_values(&state, &tag, &params).await?;
    let texts: BTreeSet<String> = found.into_iter().map(|(_, text)| text).collect();
    Ok(axum::Json(json!({"tagValues": texts, "metrics": {}})).into_response())
}

/// `v2/search/tag/{tag}/values`: values with their kinds.
pub(super) async fn typed_values(
    Shared(state): Shared<State>,
    Path(tag): Path<String>,
    params: Params,
) -> Result<Response, Fault> {
    let found = found_values(&state, &tag, &params).await?;
    let values: Vec<Json> = found.iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
    Ok(axum::Json(json!({"tagValues": values, "metrics": {}})).into_response())
}

/// Values of an attribute as it is written in a query, of the spans that match `q`.
async fn found_values(state: &State, tag: &str, params: &Params) -> Result<BTreeSet<(&'static str, String)>, Fault> {
    let selected = traceql::parse(&format!("{{}} | select({tag})"));
    let attribute = selected.ok().and_then(|query| match query.mentioned() {
        [attribute] => Some(attribute.clone()),
        _ => None,
    });
    let attribute: Attribute = attribute
        .ok_or_else(|| Fault::parameter("tag", format!("{tag:?}; write .name, resource.name or span.name")))?;
    let limit = count(params, "limit", VALUES_DEFAULT, VALUES_MAX)?;
    // While a query is being typed it is often not whole: then it chooses nothing, as in Tempo.
    let query = params.get("q").and_then(|text| traceql::parse(text).ok()).filter(|query| !query.is_metrics());
    let spans = spans(state, params, query.as_ref().map(traceql::Query::needs).unwrap_or_default()).await?;
    let gather = move || {
        let mut of_trace: BTreeMap<_, Vec<Span>> = BTreeMap::new();
        for span in spans {
            of_trace.entry(span.trace_id).or_default().push(Arc::unwrap_or_clone(span));
        }
        let mut found = BTreeSet::new();
        for spans in of_trace.values() {
            let trace = Trace::new(spans);
            let chosen: Vec<u32> = match &query {
                Some(query) => query.run(&trace).into_iter().flat_map(|set| set.spans).collect(),
                None => (0_u32..).take(spans.len()).collect(),
            };
            for at in chosen {
                found.extend(trace.values(at as usize, &attribute).iter().filter_map(typed));
            }
            if found.len() >= limit {
                break;
            }
        }
        found.into_iter().take(limit).collect()
    };
    Ok(tokio::task::spawn_blocking(gather).await?)
}

fn typed(value: &Value) -> Option<(&'static str, String)> {
    let kind = match value {
        Value::Nil => return None,
        Value::String(_) => "string",
        Value::Int(_) => "int",
        Value::Float(_) => "float",
        Value::Bool(_) => "bool",
        Value::Duration(_) => "duration",
        Value::Status(_) | Value::Kind(_) => "keyword",
    };
    Some((kind, value.text()))
}
