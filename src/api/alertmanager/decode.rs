//! Bodies of requests, checked in the order and with the texts of Alertmanager's generated checks (go-openapi).
//!
//! In: bytes. Out: posted alerts or a silence, or the first [`Fault`].

use axum::http::{HeaderMap, StatusCode, header};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use serde_json::{Map, Value};

use super::fault::Fault;
use crate::model::{MatchOp, Matcher, Timestamp};
use crate::notify::{Posted, Silence};

/// The JSON of a body; `name` is the parameter's name in Alertmanager's description.
fn json(headers: &HeaderMap, body: &[u8], name: &str) -> Result<Value, Fault> {
    if body.is_empty() {
        return Err(Fault::required(name));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        let message = format!("unsupported media type {kind:?}, only [application/json] are allowed");
        return Err(Fault::coded(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, message));
    }
    serde_json::from_slice(body).map_err(|error| {
        let reason = if error.is_eof() { "unexpected EOF".to_owned() } else { error.to_string() };
        unreadable(name, &reason)
    })
}

fn unreadable(name: &str, reason: &str) -> Fault {
    let message = format!("parsing {name} body from \"\" failed, because {reason}");
    Fault::coded(StatusCode::BAD_REQUEST, 400, message)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The alerts of a POST.
pub(super) fn alerts(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Posted>, Fault> {
    match json(headers, body, "alerts")? {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            let read: Vec<Posted> = items.iter().map(alert).collect::<Result<_, _>>()?;
            for (at, (item, posted)) in items.iter().zip(&read).enumerate() {
                if item.get("labels").is_none_or(Value::is_null) {
                    return Err(Fault::required(&format!("{at}.labels")));
                }
                if !posted.generator_url.is_empty() && !is_uri(&posted.generator_url) {
                    return Err(Fault::of_type(&format!("{at}.generatorURL"), "body", "uri", &posted.generator_url));
                }
            }
            Ok(read)
        }
        other => Err(wrong_kind("alerts", &other, "value of type models.PostableAlerts")),
    }
}

fn wrong_kind(name: &str, value: &Value, place: &str) -> Fault {
    unreadable(name, &format!("json: cannot unmarshal {} into Go {place}", kind_of(value)))
}

fn alert(value: &Value) -> Result<Posted, Fault> {
    let Value::Object(fields) = value else {
        return Err(wrong_kind("alerts", value, "value of type models.PostableAlert"));
    };
    Ok(Posted {
        labels: pairs(fields, "labels", "Alert")?,
        annotations: pairs(fields, "annotations", "PostableAlert")?,
        starts_at: time(fields, "startsAt", "alerts")?,
        ends_at: time(fields, "endsAt", "alerts")?,
        generator_url: match fields.get("generatorURL") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(url)) => url.clone(),
            Some(other) => {
                return Err(wrong_kind("alerts", other, "struct field Alert.generatorURL of type strfmt.URI"));
            }
        },
    })
}

fn pairs(fields: &Map<String, Value>, key: &str, owner: &str) -> Result<Vec<(String, String)>, Fault> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(pairs)) => (pairs.iter())
            .map(|(name, value)| match value {
                Value::String(value) => Ok((name.clone(), value.clone())),
                Value::Null => Ok((name.clone(), String::new())),
                other => Err(wrong_kind("alerts", other, &format!("struct field {owner}.{key}.{name} of type string"))),
            })
            .collect(),
        Some(other) => Err(wrong_kind("alerts", other, &format!("struct field {owner}.{key} of type models.LabelSet"))),
    }
}

/// A time; `None` when it is absent or Go's zero time.
fn time(fields: &Map<String, Value>, key: &str, name: &str) -> Result<Option<Timestamp>, Fault> {
    let text = match fields.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => return Err(wrong_kind(name, other, "value of type string")),
    };
    let wrong =
        || unreadable(name, &format!("parsing time {text:?} as \"2006-01-02\": cannot parse {text:?} as \"2006\""));
    let at: DateTime<Utc> = (DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()))
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|at| at.and_utc()))
        .or_else(|_| NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(NaiveTime::MIN).and_utc()))
        .map_err(|_| wrong())?;
    let zero = NaiveDate::from_ymd_opt(1, 1, 1).map(|day| day.and_time(NaiveTime::MIN).and_utc());
    Ok((Some(at) != zero).then(|| at.into()))
}

fn is_uri(text: &str) -> bool {
    let has_bad_escape = text.split('%').skip(1).any(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_none_or(|digits| !digits.iter().all(u8::is_ascii_hexdigit))
    });
    !has_bad_escape && (text.starts_with('/') || reqwest::Url::parse(text).is_ok())
}

/// The silence of a POST; its id is empty when it is a new one.
pub(super) fn silence(headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Silence, Fault> {
    let value = json(headers, body, "silence")?;
    let Value::Object(fields) = &value else {
        return Err(wrong_kind("silence", &value, "value of type models.PostableSilence"));
    };
    let text = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong_kind("silence", other, &format!("struct field PostableSilence.{key} of type string"))),
    };
    let (id, comment, created_by) = (text("id")?, text("comment")?, text("createdBy")?);
    let (starts_at, ends_at) = (time(fields, "startsAt", "silence")?, time(fields, "endsAt", "silence")?);
    let comment = comment.ok_or_else(|| Fault::required("comment"))?;
    let created_by = created_by.ok_or_else(|| Fault::required("createdBy"))?;
    if fields.get("endsAt").is_none_or(Value::is_null) {
        return Err(Fault::required("endsAt"));
    }
    let matchers = matchers(fields.get("matchers"))?;
    if fields.get("startsAt").is_none_or(Value::is_null) {
        return Err(Fault::required("startsAt"));
    }
    Ok(Silence {
        id: id.unwrap_or_default(),
        matchers: matchers.into_iter().enumerate().map(|(at, read)| matcher(at, read)).collect::<Result<_, _>>()?,
        // Go's zero time lies before every other.
        starts_at: starts_at.unwrap_or(Timestamp::MIN),
        ends_at: ends_at.unwrap_or(Timestamp::MIN),
        created_by,
        comment,
        updated_at: now,
    })
}

/// Name, value, and how the two are compared.
type ReadMatcher = (String, String, MatchOp);

fn matchers(value: Option<&Value>) -> Result<Vec<ReadMatcher>, Fault> {
    let items = match value {
        None | Some(Value::Null) => return Err(Fault::required("matchers")),
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(wrong_kind("silence", other, "struct field PostableSilence.matchers of type models.Matchers"));
        }
    };
    if items.is_empty() {
        let message = "matchers in body should have at least 1 items".to_owned();
        return Err(Fault::coded(StatusCode::UNPROCESSABLE_ENTITY, 612, message));
    }
    let read = |(at, item): (usize, &Value)| {
        let required = |key: &str| Fault::required(&format!("matchers.{at}.{key}"));
        let flag = |key: &str| match item.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong_kind("silence", other, &format!("struct field Matcher.{key} of type bool"))),
        };
        let text = |key: &str| match item.get(key) {
            None | Some(Value::Null) => Err(required(key)),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(wrong_kind("silence", other, &format!("struct field Matcher.{key} of type string"))),
        };
        let is_regex = flag("isRegex")?.ok_or_else(|| required("isRegex"))?;
        let (name, value) = (text("name")?, text("value")?);
        let op = match (is_regex, flag("isEqual")?.unwrap_or(true)) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Regex,
            (true, false) => MatchOp::NotRegex,
        };
        Ok((name, value, op))
    };
    items.iter().enumerate().map(read).collect()
}

fn matcher(at: usize, (name, value, op): ReadMatcher) -> Result<Matcher, Fault> {
    Matcher::new(op, &name, &value).map_err(|error| {
        let said = error.go_text();
        Fault::bad(format!(
            "invalid silence: invalid label matcher {at} in set 0: invalid regular expression {value:?}: {said}"
        ))
    })
}
