//! `traces`: whole traces with a span that satisfies all conditions, newest first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State as Shared;
use axum::response::Response;
use serde_json::Value as Json;

use super::{Fault, answer, model};
use crate::api::State;
use crate::api::params::Params;
use crate::model::Timestamp;
use crate::model::span::trace_id_from_hex;
use crate::persist::Wanted;
use crate::traceql::Needs;
use crate::traces::Filter;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1500;
const RANGE_DEFAULT: Duration = Duration::from_secs(2 * 24 * 3600);
/// How long a search goes on to open traces.
const PATIENCE: Duration = Duration::from_secs(25);

/// Traces by id (`traceID`, several), or by what one span of theirs has.
pub(super) async fn traces(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let ids = params.all("traceID");
    if !ids.is_empty() {
        return by_id(&state, &ids).await;
    }
    let (filter, limit) = filter(&params, state.clock.now())?;
    let at = |ns: Option<u64>| Timestamp::from_nanos(ns.unwrap_or(0));
    let needs = Needs {
        service: filter.service.clone(),
        operation: filter.operation.clone(),
        error: filter.errors_only,
        duration_ns_min: filter.min_duration_ns,
        attributes: filter.attributes.clone(),
    };
    let began = Instant::now();
    let mut scan = state.archive.scan(&Wanted { from: at(filter.from_ns), to: at(filter.to_ns), needs }).await;
    let filter = Arc::new(filter);
    let mut found: Vec<(u64, Json)> = Vec::new();
    while found.len() < limit
        && let Some(page) = scan.next().await
    {
        let filter = Arc::clone(&filter);
        let matching = move || {
            let matching = page.iter().filter(|spans| spans.iter().any(|span| filter.matches(span)));
            matching.map(|spans| (spans[0].start_ns, model::trace(spans))).collect::<Vec<_>>()
        };
        found.extend(tokio::task::spawn_blocking(matching).await?);
        if began.elapsed() > PATIENCE {
            scan.note = Some(format!("the search ended after {PATIENCE:?}; narrow it or shorten its range"));
            break;
        }
    }
    found.sort_by_key(|(start_ns, _)| std::cmp::Reverse(*start_ns));
    found.truncate(limit);
    let total = found.len();
    Ok(answer(found.into_iter().map(|(_, trace)| trace).collect(), total, scan.note))
}

async fn by_id(state: &State, ids: &[&str]) -> Result<Response, Fault> {
    let mut found = Vec::new();
    let mut note = None;
    for id in ids.iter().take(LIMIT_DEFAULT) {
        let known = trace_id_from_hex(id).ok_or_else(|| Fault::bad(format!("cannot parse traceID param: {id:?}")))?;
        let found_of = state.archive.trace(known).await;
        let (spans, missing) = found_of.unwrap_or_else(|unknown| (Vec::new(), Some(unknown.to_string())));
        note = missing.or(note);
        if !spans.is_empty() {
            found.push(model::trace(&spans));
        }
    }
    let total = found.len();
    Ok(answer(found.into(), total, note))
}

/// The conditions, in Jaeger's units: times in microseconds, durations as Go writes them.
fn filter(params: &Params, now: Timestamp) -> Result<(Filter, usize), Fault> {
    let service = params.get("service").ok_or_else(|| Fault::bad("parameter 'service' is required"))?;
    let wrong =
        |name: &str| Fault::bad(format!("unable to parse param '{name}': {:?}", params.get(name).unwrap_or_default()));
    let micros = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(|us| Some(us.saturating_mul(1000))).map_err(|_| wrong(name)),
    };
    let duration = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(text) => go_duration_ns(text).map(Some).ok_or_else(|| wrong(name)),
    };
    let to_ns = micros("end")?.unwrap_or(now.as_nanos() + 1_000_000_000);
    let from_ns = micros("start")?.unwrap_or(to_ns.saturating_sub(RANGE_DEFAULT.as_nanos() as u64));
    let mut attributes = Vec::new();
    if let Some(tags) = params.get("tags") {
        let malformed = |error| Fault::bad(format!("malformed 'tags' parameter, cannot unmarshal JSON: {error}"));
        let tags: std::collections::BTreeMap<String, String> = serde_json::from_str(tags).map_err(malformed)?;
        attributes.extend(tags);
    }
    for tag in params.all("tag") {
        let (key, value) = tag
            .split_once(':')
            .ok_or_else(|| Fault::bad(format!("malformed 'tag' parameter, expecting key:value, received: {tag}")))?;
        attributes.push((key.to_owned(), value.to_owned()));
    }
    // Jaeger makes this tag of the status.
    let errors_only = attributes.iter().any(|(name, value)| name == "error" && value == "true");
    attributes.retain(|(name, value)| !(name == "error" && value == "true"));
    let limit = match params.get("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => text.parse::<usize>().map_err(|_| wrong("limit"))?.clamp(1, LIMIT_MAX),
    };
    let (min_duration_ns, max_duration_ns) = (duration("minDuration")?, duration("maxDuration")?);
    if max_duration_ns.is_some_and(|most| min_duration_ns.is_some_and(|least| least > most)) {
        return Err(Fault::bad("'maxDuration' should be greater than 'minDuration'"));
    }
    let filter = Filter {
        service: Some(service.to_owned()),
        operation: params.get("operation").filter(|name| *name != "all").map(str::to_owned),
        attributes,
        errors_only,
        min_duration_ns,
        max_duration_ns,
        from_ns: Some(from_ns),
        to_ns: Some(to_ns),
        limit,
    };
    Ok((filter, limit))
}

/// `1.5s`, `100ms`, `1h30m`.
fn go_duration_ns(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..unit_at].parse().ok()?;
        let after = &rest[unit_at..];
        let unit_end = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        total += number
            * match &after[..unit_end] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &after[unit_end..];
    }
    (!text.is_empty() && total < u64::MAX as f64).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::go_duration_ns;

    #[test]
    fn reads_durations_as_go_writes_them() {
        for (text, expect) in [
            ("100ms", Some(100_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("2us", Some(2000)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1x", None),
        ] {
            assert_eq!(go_duration_ns(text), expect, "{text}");
        }
    }
}
