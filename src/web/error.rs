//! Pages for what cannot be shown.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::State;
use super::frame::{Frame, render};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    title: &'static str,
    message: String,
}

/// The URL asks for something that makes no sense: 400.
pub(super) fn bad_request(state: &State, page: &'static str, message: String) -> Response {
    let page = ErrorPage { frame: Frame::new(state, page), title: "This address cannot be shown", message };
    (StatusCode::BAD_REQUEST, render(&page)).into_response()
}

/// There is no such page or thing: 404.
pub(super) fn missing(state: &State, page: &'static str, message: String) -> Response {
    let page = ErrorPage { frame: Frame::new(state, page), title: "Not found", message };
    (StatusCode::NOT_FOUND, render(&page)).into_response()
}

pub(super) fn not_found(state: &State, path: &str) -> Response {
    missing(state, "none", format!("There is no page {path}."))
}

/// Our own fault: 500.
pub(super) fn internal(reason: &str) -> Response {
    tracing::error!("a page could not be rendered: {reason}");
    (StatusCode::INTERNAL_SERVER_ERROR, "This page could not be rendered; the log says why.").into_response()
}

/// What is asked for cannot be done as things stand: 409.
pub(super) fn conflict(state: &State, page: &'static str, message: String) -> Response {
    let page = ErrorPage { frame: Frame::new(state, page), title: "Not done", message };
    (StatusCode::CONFLICT, render(&page)).into_response()
}

/// Something behind is away: 503.
pub(super) fn unavailable(state: &State, page: &'static str, message: String) -> Response {
    let page = ErrorPage { frame: Frame::new(state, page), title: "Not available now", message };
    (StatusCode::SERVICE_UNAVAILABLE, render(&page)).into_response()
}
