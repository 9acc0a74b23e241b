//! Parameters of a call: from the URL and from a form body, as Prometheus reads them.
//!
//! In: a request. Out: [`Params`]. What is not well-formed in a URL is left out, as Go does; a value that is not what it
//! should be is an error that names the parameter.

use std::fmt::Display;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};

use super::error::ApiError;
use crate::model::{Matcher, Timestamp};
use crate::promql;
use crate::units::PromDuration;

/// Largest form body.
const FORM_LIMIT_BYTES: usize = 10 * 1024 * 1024;
/// The earliest and latest times, as Prometheus' own client library writes them.
const TIME_MIN: &str = "-292273086-05-16T16:47:06Z";
const TIME_MAX: &str = "292277025-08-18T07:12:54.999999999Z";

/// All parameters of a call in order; those of the body before those of the URL, as Go's `Request.Form`.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut pairs = Vec::new();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if parts.method == Method::POST && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let bytes: Bytes = axum::body::to_bytes(body, FORM_LIMIT_BYTES)
                .await
                .map_err(|error| ApiError::BadData(format!("error parsing form values: {error}")))?;
            pairs.extend(decode_form(&bytes));
        }
        pairs.extend(decode_form(parts.uri.query().unwrap_or_default().as_bytes()));
        Ok(Self(pairs))
    }
}

/// Go's `url.ParseQuery`: pairs with a semicolon or a broken escape are left out. What is not UTF-8 is replaced.
fn decode_form(bytes: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty() && !pair.contains(&b';')).filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let value = pair.get(at + 1..).unwrap_or_default();
        let text = |bytes| percent_decode(bytes, true).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Some((text(&pair[..at])?, text(value)?))
    })
}

/// Undoes percent escapes, and plus for a blank where asked; `None` for a broken escape.
pub(super) fn percent_decode(bytes: &[u8], plus_is_blank: bool) -> Option<Vec<u8>> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'%' => {
                out.push((digit(at + 1)? * 16 + digit(at + 2)?) as u8);
                at += 2;
            }
            b'+' if plus_is_blank => out.push(b' '),
            other => out.push(*other),
        }
        at += 1;
    }
    Some(out)
}

impl Params {
    /// Names and values, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Those of a URL.
    #[cfg(test)]
    pub(super) fn of_query(query: &str) -> Self {
        Self(decode_form(query.as_bytes()).collect())
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A time, or `None` when absent.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let wrong = |error| ApiError::parameter(name, format!("invalid time value for '{name}': {error}"));
        self.get(name).map(|text| parse_time(text).map_err(wrong)).transpose()
    }

    /// A time that must be there.
    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        let text = self.get(name).unwrap_or_default();
        parse_time(text).map_err(|error| ApiError::parameter(name, error))
    }

    /// Nanoseconds, from seconds or a Prometheus duration, or `None` when absent.
    pub(super) fn nanoseconds(&self, name: &str) -> Result<Option<i64>, String> {
        self.get(name).map(parse_nanoseconds).transpose()
    }

    /// A duration, or `None` when absent; zero for one that is negative.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        self.get(name).map(parse_duration).transpose().map_err(|error| ApiError::parameter(name, error))
    }

    /// The range of a call for labels or series: everything unless told.
    pub(super) fn range_or_all(&self) -> Result<(Timestamp, Timestamp), ApiError> {
        let start = self.time("start")?.unwrap_or(Timestamp::MIN);
        Ok((start, self.time("end")?.unwrap_or(Timestamp::MAX)))
    }

    /// Most results, 0 for all.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        let limit =
            text.parse::<i64>().map_err(|error| ApiError::parameter("limit", go_error("Atoi", text, &error)))?;
        usize::try_from(limit).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
    }

    /// A limit of the calls that have their own rule for it: `None` for all (absent or negative).
    pub(super) fn plain_limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let limit = text.parse::<i64>().map_err(|_| ApiError::BadData(format!("{name} must be a number")))?;
        Ok(usize::try_from(limit).ok())
    }

    /// The `match[]` parameters. An error names no parameter; only `series` adds it.
    pub(super) fn matchers(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.all("match[]").into_iter().map(parse_matchers).collect()
    }
}

/// How Go's strconv says that a text is not a number.
pub(super) fn go_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let reason = match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {reason}")
}

/// A series selector, nothing around it.
pub(super) fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ApiError> {
    let bad = |text: &dyn Display| ApiError::BadData(text.to_string());
    if text.is_empty() {
        return Err(bad(&"unknown position: parse error: unexpected end of input"));
    }
    if text.len() <= promql::QUERY_LIMIT_BYTES
        && let Some(error) = promql::around_selector(text)
    {
        return Err(bad(&error));
    }
    let expr = promql::parse(text).map_err(|error| match error.message.as_str() {
        "vector selector must contain at least one non-empty matcher" => {
            bad(&"match[] must contain at least one non-empty matcher")
        }
        _ => bad(&error),
    })?;
    let selector = expr.as_selector();
    Ok(selector.ok_or_else(|| bad(&format!("1:1: parse error: {text:?} is not a series selector")))?.matchers)
}

/// Float seconds, or RFC 3339.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        return Ok(Timestamp::from_millis(millis(seconds)).clamp(Timestamp::MIN, Timestamp::MAX));
    }
    match text {
        TIME_MIN => return Ok(Timestamp::MIN),
        TIME_MAX => return Ok(Timestamp::MAX),
        _ => {}
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp::from(at.to_utc()))
        .map_err(|_| format!("cannot parse {text:?} to a valid timestamp"))
}

/// Milliseconds of seconds, rounded as Prometheus does: to the millisecond by the fraction, then down by nanoseconds.
fn millis(seconds: f64) -> i64 {
    let fraction = ((seconds.fract() * 1000.0).round() / 1000.0 * 1e9) as i64;
    ((seconds.trunc() as i64).saturating_mul(1000)).saturating_add(fraction.div_euclid(1_000_000))
}

/// A duration, zero for one that is negative.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_nanoseconds(text).map(|ns| Duration::from_nanos(u64::try_from(ns).unwrap_or(0)))
}

/// Float seconds, or a Prometheus duration, in nanoseconds.
fn parse_nanoseconds(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * 1e9;
        return match ns.abs() > i64::MAX as f64 {
            true => Err(format!("cannot parse {text:?} to a valid duration. It overflows int64")),
            // Not a number is zero, which every caller refuses as Prometheus does.
            false => Ok(ns as i64),
        };
    }
    let wrong = || format!("cannot parse {text:?} to a valid duration");
    let duration = text.parse::<PromDuration>().map_err(|_| wrong())?;
    i64::try_from(duration.get().as_nanos()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of_query(query)
    }

    #[test]
    fn reads_times_as_prometheus_does() {
        let time = |text: &str| parse_time(text).map(Timestamp::as_millis);
        assert_eq!(time("1435781451.781"), Ok(1_435_781_451_781));
        assert_eq!(time("1.0005"), Ok(1000));
        assert_eq!(time("-0.001"), Ok(-1));
        assert_eq!(time("2015-07-01T20:10:51.781Z"), Ok(1_435_781_451_781));
        assert_eq!(time("2015-07-01T22:10:51+02:00"), Ok(1_435_781_451_000));
        assert_eq!(parse_time(TIME_MIN), Ok(Timestamp::MIN));
        assert_eq!(time("soon"), Err("cannot parse \"soon\" to a valid timestamp".into()));
        let error = params("time=x").time("time").map_err(|error| error.to_string());
        let expect =
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "x" to a valid timestamp"#;
        assert_eq!(error, Err(expect.to_owned()));
    }

    #[test]
    fn reads_durations_as_prometheus_does() {
        assert_eq!(parse_nanoseconds("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_nanoseconds("1h30m"), Ok(5400 * 1_000_000_000));
        assert_eq!(parse_nanoseconds("-1"), Ok(-1_000_000_000));
        assert_eq!(parse_nanoseconds("NaN"), Ok(0));
        assert_eq!(parse_nanoseconds("9223372036"), Ok(9_223_372_036 * 1_000_000_000));
        assert_eq!(parse_nanoseconds("x"), Err("cannot parse \"x\" to a valid duration".into()));
        assert!(parse_nanoseconds("1e300").is_err_and(|error| error.ends_with("It overflows int64")));
    }

    #[test]
    fn a_form_is_read_as_go_reads_it() {
        let params = params("query=sum(up)+%2B+1&match%5B%5D=a&match[]=b&empty=&time=4;x=1&bad=%zz&flag&&e=%C3%A9");
        assert_eq!(params.get("query"), Some("sum(up) + 1"));
        assert_eq!(params.all("match[]"), ["a", "b"]);
        assert_eq!(params.get("e"), Some("é"));
        assert_eq!(params.all("flag"), [""]);
        for absent in ["empty", "time", "bad"] {
            assert_eq!(params.get(absent), None, "{absent}");
        }
    }

    #[test]
    fn only_a_bare_selector_is_a_match() {
        let check = |text: &str, expect: Result<usize, &str>| {
            let found = parse_matchers(text).map(|matchers| matchers.len()).map_err(|error| error.to_string());
            assert_eq!(found, expect.map_err(str::to_owned), "{text}");
        };
        check("up", Ok(1));
        check(r#"up{a="b",c!="d"}"#, Ok(3));
        check("{}", Err("match[] must contain at least one non-empty matcher"));
        check(r#"{a=""}"#, Err("match[] must contain at least one non-empty matcher"));
        check("", Err("unknown position: parse error: unexpected end of input"));
        check("x{", Err("1:3: parse error: unexpected end of input inside braces"));
        for other in ["sum(up)", "-up", "(up)", "up[5m]", "up offset 5m", "up @ 1", "1"] {
            assert!(parse_matchers(other).is_err(), "{other}");
        }
    }
}
