//! Parameters of a call: from the URL and from a form body, as Prometheus reads them.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};

use super::error::ApiError;
use crate::model::{Matcher, Timestamp};
use crate::promql::{self, Selector};
use crate::units::PromDuration;

/// Largest form body.
const FORM_LIMIT_BYTES: usize = 10 * 1024 * 1024;

/// All parameters of a call in order; those of the body before those of the URL, as Go's `Request.Form`.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut pairs = Vec::new();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if parts.method == Method::POST && kind.starts_with("application/x-www-form-urlencoded") {
            let bytes: Bytes = axum::body::to_bytes(body, FORM_LIMIT_BYTES)
                .await
                .map_err(|error| ApiError::BadData(format!("error parsing form values: {error}")))?;
            pairs.extend(decode_form(&bytes));
        }
        pairs.extend(decode_form(parts.uri.query().unwrap_or_default().as_bytes()));
        Ok(Self(pairs))
    }
}

fn decode_form(bytes: &[u8]) -> Vec<(String, String)> {
    // Reads like a URL's query: plus is a blank, percent escapes are bytes, what is not UTF-8 is replaced.
    let text = String::from_utf8_lossy(bytes);
    let base = reqwest::Url::parse("http://form/").ok();
    base.map_or_else(Vec::new, |mut url| {
        url.set_query(Some(&text));
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    })
}

impl Params {
    /// The first value of a parameter; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter, with or without brackets.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A time, or `None` when absent.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        self.get(name).map(|text| parse_time(text).map_err(|error| ApiError::parameter(name, error))).transpose()
    }

    /// A time that must be there.
    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        let text = self.get(name).unwrap_or_default();
        parse_time(text).map_err(|error| ApiError::parameter(name, error))
    }

    /// A duration in seconds or Prometheus form, or `None` when absent.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = parse_duration(text).map_err(|error| ApiError::parameter(name, error))?;
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) => Ok(Some(duration)),
            Err(_) => Err(ApiError::parameter(name, "it must not be negative")),
        }
    }

    /// The range of a call for labels or series: everything unless told.
    pub(super) fn range_or_all(&self) -> Result<(Timestamp, Timestamp), ApiError> {
        let start = self.time("start")?.unwrap_or(Timestamp::MIN);
        let end = self.time("end")?.unwrap_or(Timestamp::MAX);
        if end < start {
            return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
        }
        Ok((start, end))
    }

    /// Most results, 0 for all.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        match text.parse::<i64>() {
            Ok(limit) if limit < 0 => Err(ApiError::parameter("limit", "limit must be non-negative")),
            Ok(limit) => Ok(limit as usize),
            Err(_) => Err(ApiError::parameter("limit", format!("cannot parse {text:?} to a whole number"))),
        }
    }

    /// The `match[]` parameters.
    pub(super) fn matchers(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.all("match[]").into_iter().map(parse_matchers).collect()
    }
}

fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ApiError> {
    let expr = promql::parse(text).map_err(|error| ApiError::BadData(error.to_string()))?;
    let selectors = expr.selectors();
    let [Selector { matchers, range: None, offset_ms: 0, at: None, .. }] = selectors.as_slice() else {
        return Err(ApiError::BadData(format!("{text:?} is not a series selector")));
    };
    if matchers.iter().all(Matcher::matches_empty) {
        return Err(ApiError::BadData("match[] must contain at least one non-empty matcher".to_owned()));
    }
    Ok(matchers.clone())
}

/// Float seconds, or RFC 3339.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        let clamped = seconds.clamp(Timestamp::MIN.as_secs_f64(), Timestamp::MAX.as_secs_f64());
        return Ok(Timestamp::from_secs_f64(clamped));
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp::from(at.to_utc()))
        .map_err(|_| format!("cannot parse {text:?} to a valid timestamp"))
}

/// Float seconds, or a Prometheus duration.
fn parse_duration(text: &str) -> Result<f64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return match seconds.is_finite() && seconds.abs() < 9_223_372_036.0 {
            true => Ok(seconds),
            false => Err(format!("cannot parse {text:?} to a valid duration. It overflows int64")),
        };
    }
    text.parse::<PromDuration>()
        .map(|duration| duration.get().as_secs_f64())
        .map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_and_durations_as_prometheus_does() {
        let time = |text: &str| parse_time(text).map(Timestamp::as_millis);
        assert_eq!(time("1435781451.781"), Ok(1_435_781_451_781));
        assert_eq!(time("2015-07-01T20:10:51.781Z"), Ok(1_435_781_451_781));
        assert_eq!(time("2015-07-01T22:10:51+02:00"), Ok(1_435_781_451_000));
        assert_eq!(time("soon"), Err("cannot parse \"soon\" to a valid timestamp".into()));
        assert_eq!(parse_duration("1.5"), Ok(1.5));
        assert_eq!(parse_duration("1h30m"), Ok(5400.0));
        assert_eq!(parse_duration("x"), Err("cannot parse \"x\" to a valid duration".into()));
        assert!(parse_duration("1e300").is_err());
    }

    #[test]
    fn a_form_body_is_read_like_a_query() {
        let pairs = decode_form(b"query=sum(up)+%2B+1&match%5B%5D=a&match[]=b&empty=");
        let params = Params(pairs);
        assert_eq!(params.get("query"), Some("sum(up) + 1"));
        assert_eq!(params.all("match[]"), ["a", "b"]);
        assert_eq!(params.get("empty"), None);
    }
}
