//! `search`: traces that match a TraceQL query, or tags, newest first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use super::{Fault, count, query_value, range};
use crate::api::State;
use crate::api::params::Params;
use crate::model::Span;
use crate::model::span::{SpanStatus, hex};
use crate::persist::Wanted;
use crate::traceql::{self, Attribute, Intrinsic, Query, Spanset, Trace, Value};
use crate::units::PromDuration;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1000;
const SPANS_PER_SET_DEFAULT: usize = 3;
const SPANS_PER_SET_MAX: usize = 1000;
/// How long a search goes on to open traces.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

/// What is asked of each trace.
struct Asked {
    query: Query,
    spans_per_set: usize,
    shortest_ns: u64,
    longest_ns: u64,
}

/// Traces that match.
pub(super) async fn search(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let (from, to) = range(&params, state.clock.now())?;
    let limit = count(&params, "limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let text = match (params.get("q"), params.get("tags")) {
        (Some(query), _) => query.to_owned(),
        (None, Some(tags)) => of_tags(tags)?,
        (None, None) => "{}".to_owned(),
    };
    let query = traceql::parse(&text)?;
    if query.is_metrics() {
        return Err(Fault::bad("this is a metrics query: ask /api/metrics/query_range"));
    }
    let needs = query.needs();
    let asked = Arc::new(Asked {
        query,
        spans_per_set: count(&params, "spss", SPANS_PER_SET_DEFAULT, SPANS_PER_SET_MAX)?,
        shortest_ns: duration(&params, "minDuration")?.unwrap_or(0),
        longest_ns: duration(&params, "maxDuration")?.unwrap_or(u64::MAX),
    });
    if asked.longest_ns < asked.shortest_ns {
        return Err(Fault::bad("invalid maxDuration: must be greater than minDuration"));
    }
    let began = Instant::now();
    let mut scan = state.archive.scan(&Wanted { from, to, needs }).await;
    let mut found: Vec<(u64, Json)> = Vec::new();
    while found.len() < limit
        && let Some(page) = scan.next().await
    {
        let asked = Arc::clone(&asked);
        let matching = move || page.iter().filter_map(|spans| matching(&asked, spans)).collect::<Vec<_>>();
        found.extend(tokio::task::spawn_blocking(matching).await?);
        if began.elapsed() > PATIENCE {
            scan.note = Some(format!("The search ended after {PATIENCE:?}; narrow it or shorten its range."));
            break;
        }
    }
    found.sort_by_key(|(start_ns, _)| std::cmp::Reverse(*start_ns));
    found.truncate(limit);
    let mut answer = json!({
        "traces": found.into_iter().map(|(_, trace)| trace).collect::<Vec<_>>(),
        "metrics": {
            "inspectedTraces": scan.traces, "inspectedBytes": scan.bytes.to_string(), "completedJobs": 1, "totalJobs": 1,
        },
    });
    if let Some(note) = scan.note {
        answer["status"] = "PARTIAL".into();
        answer["message"] = note.into();
    }
    Ok(axum::Json(answer).into_response())
}

/// A duration as Go writes it; nanoseconds.
fn duration(params: &Params, name: &str) -> Result<Option<u64>, Fault> {
    let Some(text) = params.get(name) else { return Ok(None) };
    // Kiali sends `500ms`, Grafana `1.5s` too: a literal of TraceQL.
    let literal = text.parse::<PromDuration>().ok().map(|duration| duration.get().as_nanos());
    let fraction = || {
        let split = text.find(|letter: char| letter.is_alphabetic() || letter == 'µ')?;
        let number: f64 = text[..split].parse().ok()?;
        let unit = match &text[split..] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        (number >= 0.0).then_some((number * unit) as u128)
    };
    let found = literal.or_else(fraction).and_then(|ns| u64::try_from(ns).ok());
    found.map(Some).ok_or_else(|| Fault::parameter(name, format!("{text:?} is no duration, as in 1.5s")))
}

/// The TraceQL of `tags` in logfmt: `service.name=cart http.status_code=500 error="true"`.
fn of_tags(tags: &str) -> Result<String, Fault> {
    let mut conditions = Vec::new();
    let mut rest = tags.trim();
    while !rest.is_empty() {
        let wrong = || Fault::parameter("tags", format!("expected key=value at {rest:?}"));
        let (key, after) = rest.split_once('=').ok_or_else(wrong)?;
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(wrong)?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        rest = after.trim_start();
        let text = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        conditions.push(match key {
            "name" => format!("name = {text}"),
            "error" if value == "true" => "status = error".to_owned(),
            "status.code" if matches!(value, "error" | "ok" | "unset") => format!("status = {value}"),
            _ => {
                let name = format!(".\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
                // Tags are texts: what is a number or a boolean is sought as both.
                let other = value.parse::<i64>().is_ok_and(|n| n >= 0) || matches!(value, "true" | "false");
                if other { format!("({name} = {text} || {name} = {value})") } else { format!("{name} = {text}") }
            }
        });
    }
    Ok(format!("{{ {} }}", if conditions.is_empty() { "true".to_owned() } else { conditions.join(" && ") }))
}

/// The start and the answer of a trace that matches.
fn matching(asked: &Asked, spans: &[Span]) -> Option<(u64, Json)> {
    let trace = Trace::new(spans);
    if !(asked.shortest_ns..=asked.longest_ns).contains(&trace.duration_ns()) {
        return None;
    }
    let sets = asked.query.run(&trace);
    if sets.is_empty() {
        return None;
    }
    let sets: Vec<Json> = sets.iter().map(|set| set_json(asked, &trace, set)).collect();
    let root = trace.root();
    let mut stats: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for span in spans {
        let (count, errors) = stats.entry(&span.service).or_default();
        *count += 1;
        *errors += u64::from(span.status == SpanStatus::Error);
    }
    let stat = |(service, (count, errors)): (&str, (u64, u64))| {
        let stat =
            if errors == 0 { json!({"spanCount": count}) } else { json!({"spanCount": count, "errorCount": errors}) };
        (service.to_owned(), stat)
    };
    let id = spans.first().map(|span| hex(&span.trace_id)).unwrap_or_default();
    let answer = json!({
        "traceID": id.trim_start_matches('0'),
        "rootServiceName": root.map_or("<root span not yet received>", |root| &root.service),
        "rootTraceName": root.map_or("", |root| &root.name),
        "startTimeUnixNano": trace.start_ns().to_string(),
        "durationMs": trace.duration_ns() / 1_000_000,
        "spanSet": sets[0].clone(),
        "spanSets": sets,
        "serviceStats": stats.into_iter().map(stat).collect::<serde_json::Map<_, _>>(),
    });
    Some((trace.start_ns(), answer))
}

fn set_json(asked: &Asked, trace: &Trace<'_>, set: &Spanset) -> Json {
    let span = |at: &u32| {
        let span = &trace.spans[*at as usize];
        let mut attributes = Vec::new();
        for attribute in asked.query.mentioned().iter().filter(|attribute| !is_shown(attribute)) {
            let value = trace.values(*at as usize, attribute).into_iter().next();
            if let Some(value) = value.filter(|value| *value != Value::Nil) {
                attributes.push(json!({"key": attribute.name(), "value": query_value(&value)}));
            }
        }
        json!({
            "spanID": hex(&span.span_id),
            "name": &*span.name,
            "startTimeUnixNano": span.start_ns.to_string(),
            "durationNanos": span.duration_ns.to_string(),
            "attributes": attributes,
        })
    };
    let mut out = json!({
        "spans": set.spans.iter().take(asked.spans_per_set).map(span).collect::<Vec<_>>(),
        "matched": set.spans.len(),
    });
    if !set.attributes.is_empty() {
        let of = |(key, value): &(String, Value)| json!({"key": key, "value": query_value(value)});
        out["attributes"] = set.attributes.iter().map(of).collect();
    }
    out
}

/// Whether the answer has it already, apart from attributes.
fn is_shown(attribute: &Attribute) -> bool {
    use Intrinsic as I;
    let Attribute::Intrinsic(intrinsic) = attribute else { return false };
    matches!(
        intrinsic,
        I::Name | I::Duration | I::TraceDuration | I::RootName | I::RootServiceName | I::TraceId | I::SpanId
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_a_query() {
        let check = |tags: &str, expect: &str| {
            let query = of_tags(tags).unwrap_or_else(|fault| panic!("{tags}: {fault:?}"));
            assert_eq!(query, expect);
            assert!(traceql::parse(&query).is_ok(), "{query}");
        };
        check("", "{ true }");
        check("service.name=cart", "{ .\"service.name\" = \"cart\" }");
        check(
            "name=\"GET /a b\"  code=500 error=true",
            "{ name = \"GET /a b\" && (.\"code\" = \"500\" || .\"code\" = 500) && status = error }",
        );
        for wrong in ["cart", "=x", "a b=c", "a=\"x"] {
            assert!(of_tags(wrong).is_err(), "{wrong}");
        }
    }
}
