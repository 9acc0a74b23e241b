//! `series`, `labels`, `label/<name>/values`.

use axum::extract::State as Shared;
use axum::http::Uri;
use axum::response::Response;

use super::State;
use super::encode::{label_sets, success_with};
use super::error::ApiError;
use super::params::{Params, percent_decode};

/// Label sets that satisfy any of the matchers.
pub(super) async fn series(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    if params.all("match[]").is_empty() {
        return Err(ApiError::BadData("no match[] parameter provided".to_owned()));
    }
    let limit = params.limit()?;
    let (start, end) = params.range_or_all()?;
    let matchers = params.matchers().map_err(|error| error.of_parameter("match[]"))?;
    if end < start {
        return Ok(label_sets(&[], &[]));
    }
    let mut found = state.series.series(matchers, start, end).await?;
    found.sort();
    let warnings = truncate(&mut found, limit);
    Ok(label_sets(&found, &warnings))
}

/// Names of labels.
pub(super) async fn label_names(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (start, end) = params.range_or_all()?;
    let matchers = params.matchers()?;
    let mut names = match end < start {
        true => Vec::new(),
        false => state.series.label_names(matchers, start, end).await?,
    };
    let warnings = truncate(&mut names, limit);
    Ok(success_with(names, &warnings))
}

/// Values of one label.
pub(super) async fn label_values(Shared(state): Shared<State>, uri: Uri, params: Params) -> Result<Response, ApiError> {
    let name = label_name(uri.path())?;
    let limit = params.limit()?;
    let (start, end) = params.range_or_all()?;
    let matchers = params.matchers()?;
    let mut values = match end < start {
        true => Vec::new(),
        false => state.series.label_values(name, matchers, start, end).await?,
    };
    let warnings = truncate(&mut values, limit);
    Ok(success_with(values, &warnings))
}

/// The label's name in `/api/v1/label/<name>/values`.
fn label_name(path: &str) -> Result<String, ApiError> {
    let escaped = path.strip_prefix("/api/v1/label/").and_then(|rest| rest.strip_suffix("/values")).unwrap_or_default();
    let broken = || ApiError::BadData(format!("invalid label name: broken escape in {escaped:?}"));
    let bytes = percent_decode(escaped.as_bytes(), false).ok_or_else(broken)?;
    let invalid = |bytes: &[u8]| ApiError::BadData(format!("invalid label name: \"{}\"", bytes_escaped(bytes)));
    let name = String::from_utf8(bytes).map_err(|error| invalid(error.as_bytes()))?;
    let name = unescape_name(&name);
    if name.is_empty() { Err(invalid(&[])) } else { Ok(name) }
}

fn bytes_escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.extend(chunk.valid().escape_debug());
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    out
}

fn truncate<T>(found: &mut Vec<T>, limit: usize) -> Vec<String> {
    if limit == 0 || found.len() <= limit {
        return Vec::new();
    }
    found.truncate(limit);
    vec!["results truncated due to limit".to_owned()]
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

    #[test]
    fn a_label_name_is_any_utf8() {
        let check = |path: &str, expect: Result<&str, &str>| {
            let found = label_name(&format!("/api/v1/label/{path}/values")).map_err(|error| error.to_string());
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{path}");
        };
        check("job", Ok("job"));
        check("my%2Elabel", Ok("my.label"));
        check("%C3%A9", Ok("é"));
        check("a+b", Ok("a+b"));
        check("%FFx", Err(r#"invalid label name: "\xffx""#));
        check("", Err(r#"invalid label name: """#));
        check("%zz", Err(r#"invalid label name: broken escape in "%zz""#));
    }
}
