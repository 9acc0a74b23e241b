//! `silences` and `silence/<id>`.

use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::fault::Fault;
use super::status::{answer, instant};
use super::{State, decode, filter};
use crate::api::params::Params;
use crate::model::{MatchOp, Matcher, Timestamp};
use crate::notify::{Silence, SilenceError};

/// In the order in which Alertmanager's encoder writes the fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    status: Phase,
    updated_at: String,
    comment: String,
    created_by: String,
    ends_at: String,
    matchers: Vec<ShownMatcher>,
    starts_at: String,
}

#[derive(Serialize)]
struct Phase {
    state: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownMatcher {
    is_equal: bool,
    is_regex: bool,
    name: String,
    value: String,
}

#[derive(Serialize)]
struct Created {
    #[serde(rename = "silenceID")]
    silence_id: String,
}

impl Shown {
    fn new(silence: Silence, now: Timestamp) -> Self {
        let status = Phase { state: silence.state(now).as_str() };
        let Silence { id, matchers, starts_at, ends_at, created_by, comment, updated_at } = silence;
        Self {
            id,
            status,
            updated_at: instant(updated_at),
            comment,
            created_by,
            ends_at: instant(ends_at),
            matchers: matchers.iter().map(ShownMatcher::new).collect(),
            starts_at: instant(starts_at),
        }
    }
}

impl ShownMatcher {
    fn new(matcher: &Matcher) -> Self {
        Self {
            is_equal: matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
            is_regex: matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex),
            name: matcher.name.to_string(),
            value: matcher.value.to_string(),
        }
    }
}

/// All silences, or those that have every matcher of the filter word for word.
pub(super) async fn list(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let wanted = filter::matchers(&params)?;
    let now = state.clock.now();
    let found = state.notify.silences().list(now).into_iter();
    let found = found.filter(|silence| wanted.iter().all(|matcher| silence.matchers.contains(matcher)));
    Ok(answer(&found.map(|silence| Shown::new(silence, now)).collect::<Vec<_>>()))
}

/// Creates or edits a silence.
pub(super) async fn post(Shared(state): Shared<State>, headers: HeaderMap, body: Bytes) -> Result<Response, Fault> {
    let now = state.clock.now();
    let silence = decode::silence(&headers, &body, now)?;
    match state.notify.silences().set(silence, now) {
        Ok(silence_id) => {
            let written = state.notify.silences().wait_written(&silence_id).await;
            written.map_err(|error| Fault::Text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
            Ok(answer(&Created { silence_id }))
        }
        Err(SilenceError::NotFound) => Err(Fault::Text(StatusCode::NOT_FOUND, SilenceError::NotFound.to_string())),
        Err(error) => Err(Fault::bad(error)),
    }
}

/// One silence.
pub(super) async fn get(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Response, Fault> {
    let silence = state.notify.silences().get(&uuid(&id)?).ok_or(Fault::Bare(StatusCode::NOT_FOUND))?;
    Ok(answer(&Shown::new(silence, state.clock.now())))
}

/// Ends a silence.
pub(super) async fn expire(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Response, Fault> {
    let id = uuid(&id)?;
    let silences = state.notify.silences();
    silences.expire(&id, state.clock.now()).map_err(|_| Fault::Bare(StatusCode::NOT_FOUND))?;
    let written = silences.wait_written(&id).await;
    written.map_err(|error| Fault::Text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok(StatusCode::OK.into_response())
}

fn uuid(text: &str) -> Result<String, Fault> {
    match uuid::Uuid::try_parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Fault::of_type("silenceID", "path", "uuid", text)),
    }
}
