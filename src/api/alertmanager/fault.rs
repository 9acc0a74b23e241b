//! What went wrong, in Alertmanager's two shapes: a bare text from its handlers, `{"code":…,"message":…}` from what checks
//! requests before them.

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::go_json;

/// An answer that is not 200.
#[derive(Debug)]
pub(super) enum Fault {
    /// A status alone.
    Bare(StatusCode),
    /// A text as JSON.
    Text(StatusCode, String),
    /// A code of the checks and its text.
    Coded(StatusCode, u16, String),
}

impl Fault {
    /// 400 with a text.
    pub(super) fn bad(text: impl std::fmt::Display) -> Self {
        Self::Text(StatusCode::BAD_REQUEST, text.to_string())
    }

    /// What the checks say.
    pub(super) fn coded(status: StatusCode, code: u16, message: String) -> Self {
        Self::Coded(status, code, message)
    }

    /// 422: a field that must be there.
    pub(super) fn required(field: &str) -> Self {
        Self::coded(StatusCode::UNPROCESSABLE_ENTITY, 602, format!("{field} in body is required"))
    }

    /// 422: a field whose form is wrong.
    pub(super) fn of_type(field: &str, place: &str, kind: &str, value: &str) -> Self {
        let message = format!("{field} in {place} must be of type {kind}: {value:?}");
        Self::coded(StatusCode::UNPROCESSABLE_ENTITY, 601, message)
    }

    /// 405 with the methods that there are.
    pub(super) fn method_not_allowed(method: &Method, allowed: &str) -> Self {
        let message = format!("method {method} is not allowed, but [{allowed}] are");
        Self::coded(StatusCode::METHOD_NOT_ALLOWED, 405, message)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut body = String::new();
        let status = match self {
            Self::Bare(status) => return status.into_response(),
            Self::Text(status, text) => {
                go_json::push_text(&mut body, &text);
                body.push('\n');
                status
            }
            Self::Coded(status, code, message) => {
                body.push_str(&format!(r#"{{"code":{code},"message":"#));
                go_json::push_text(&mut body, &message);
                body.push('}');
                status
            }
        };
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
