//! `series`, `labels`, `label/<name>/values`.

use axum::extract::{Path, State as Shared};
use axum::response::Response;
use serde::Serialize;

use super::State;
use super::encode::{label_map, success_with};
use super::error::ApiError;
use super::params::Params;
use crate::model::Labels;

#[derive(Serialize)]
struct Series(#[serde(serialize_with = "label_map")] Labels);

/// Label sets that satisfy any of the matchers.
pub(super) async fn series(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    if params.all("match[]").is_empty() {
        return Err(ApiError::BadData("no match[] parameter provided".to_owned()));
    }
    let (start, end) = params.range_or_all()?;
    let matchers = params.matchers().map_err(|error| ApiError::parameter("match[]", error))?;
    let mut found = state.series.series(matchers, start, end).await?;
    found.sort();
    let (found, warnings) = limited(found, limit);
    Ok(success_with(found.into_iter().map(Series).collect::<Vec<_>>(), &warnings))
}

/// Names of labels.
pub(super) async fn label_names(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (start, end) = params.range_or_all()?;
    let names = state.series.label_names(params.matchers()?, start, end).await?;
    let (names, warnings) = limited(names, limit);
    Ok(success_with(names, &warnings))
}

/// Values of one label.
pub(super) async fn label_values(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(ApiError::BadData("invalid label name: \"\"".to_owned()));
    }
    let (start, end) = params.range_or_all()?;
    let values = state.series.label_values(name, params.matchers()?, start, end).await?;
    let (values, warnings) = limited(values, limit);
    Ok(success_with(values, &warnings))
}

fn limited<T>(mut found: Vec<T>, limit: usize) -> (Vec<T>, Vec<String>) {
    if limit == 0 || found.len() <= limit {
        return (found, Vec::new());
    }
    found.truncate(limit);
    (found, vec!["results truncated due to limit".to_owned()])
}

/// Undoes Prometheus' value encoding of names that are not legacy ones: `U__my_2e_label` is `my.label`, and `__` in it
/// is a plain underscore.
fn unescape_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('_') {
            out.push('_');
            rest = tail;
            continue;
        }
        let code = rest.find('_').and_then(|end| {
            let c = u32::from_str_radix(&rest[..end], 16).ok().and_then(char::from_u32)?;
            Some((c, end))
        });
        let Some((c, end)) = code else { return name.to_owned() };
        out.push(c);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoes_the_escaping_of_names() {
        let check = |name: &str, expect: &str| assert_eq!(unescape_name(name), expect);
        check("job", "job");
        check("U__my_2e_label", "my.label");
        check("U__a__b", "a_b");
        check("U__bad_zz", "U__bad_zz");
    }
}
