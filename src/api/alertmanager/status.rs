//! `status`, `receivers`, health, and what all answers share.

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::State;
use crate::api::go_json;
use crate::model::Timestamp;

/// A thing that is known by its name.
#[derive(Serialize)]
pub(super) struct Name {
    /// The name.
    pub(super) name: String,
}

#[derive(Serialize)]
struct Receiver<'a> {
    labels: Labels<'a>,
    name: &'a str,
}

#[derive(Serialize)]
struct Labels<'a> {
    name: &'a str,
}

/// 200 with a value as Go's encoder writes it.
pub(super) fn answer(value: &impl Serialize) -> Response {
    let mut body = String::new();
    if let Err(error) = go_json::push(&mut body, value) {
        return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    }
    body.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A time as Alertmanager's API prints it: UTC with milliseconds.
pub(super) fn instant(at: Timestamp) -> String {
    at.to_string()
}

/// What this is. There is no cluster: one process decides, and its state is in PostgreSQL.
pub(super) async fn status(Shared(state): Shared<State>) -> Response {
    answer(&json!({
        "cluster": { "peers": [], "status": "disabled" },
        "config": { "original": (state.alertmanager_configuration)() },
        "uptime": instant(state.started_at),
        "versionInfo": {
            "branch": "",
            "buildDate": "",
            "buildUser": "",
            "goVersion": "",
            "revision": "",
            "version": env!("CARGO_PKG_VERSION"),
        },
    }))
}

/// The receivers in the order of the file.
pub(super) async fn receivers(Shared(state): Shared<State>) -> Response {
    let plan = state.notify.plan();
    let named = plan.receiver_names().into_iter().map(|name| Receiver { labels: Labels { name }, name });
    answer(&named.collect::<Vec<_>>())
}

/// What Alertmanager says when it lives.
pub(super) async fn ok() -> &'static str {
    "OK"
}

/// The same once what was there before the start is restored.
pub(super) async fn ready(Shared(state): Shared<State>) -> Response {
    match *state.ready.borrow() {
        true => "OK".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response(),
    }
}

/// What Alertmanager says of its first API.
pub(super) async fn version_1() -> Response {
    #[derive(Serialize)]
    struct Said {
        status: &'static str,
        error: &'static str,
    }
    let error = "The Alertmanager v1 API was deprecated in version 0.16.0 and is removed as of version 0.27.0 - \
                 please use the equivalent route in the v2 API";
    (StatusCode::GONE, answer(&Said { status: "deprecated", error })).into_response()
}
