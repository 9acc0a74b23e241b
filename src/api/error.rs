//! What went wrong, in Prometheus' shape: `{"status":"error","errorType":…,"error":…}` with the matching HTTP status.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::go_json;
use crate::promql::{EvalError, ParseError};
use crate::series::QueryError;

/// An error of an API call. The kinds and their statuses are those of Prometheus (`web/api/v1/api.go`).
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A parameter is missing or wrong: 400.
    #[error("{0}")]
    BadData(String),
    /// The query could not be evaluated: 422.
    #[error("{0}")]
    Execution(String),
    /// The client went away: 499.
    #[error("{0}")]
    Canceled(String),
    /// The query took too long: 503.
    #[error("{0}")]
    Timeout(String),
    /// What is asked for does not exist: 404.
    #[error("{0}")]
    NotFound(String),
    /// Something behind is away: 503.
    #[error("{0}")]
    Unavailable(String),
    /// What is asked for is turned off here: 500, as Prometheus answers.
    #[error("{0}")]
    Disabled(&'static str),
    /// Our own fault: 500.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// A parameter that is wrong, named as Prometheus names it.
    pub fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::BadData(format!("invalid parameter {name:?}: {reason}"))
    }

    /// The same error with the parameter's name before it, when it is one of a parameter.
    #[must_use]
    pub fn of_parameter(self, name: &str) -> Self {
        match self {
            Self::BadData(reason) => Self::parameter(name, reason),
            other => other,
        }
    }

    /// An error of Prometheus' `errorType`.
    fn of_kind(kind: &str, text: String) -> Self {
        match kind {
            "bad_data" => Self::BadData(text),
            "timeout" => Self::Timeout(text),
            "canceled" => Self::Canceled(text),
            "not_found" => Self::NotFound(text),
            "unavailable" => Self::Unavailable(text),
            "internal" => Self::Internal(text),
            _ => Self::Execution(text),
        }
    }

    fn kind(&self) -> (&'static str, StatusCode) {
        match self {
            Self::BadData(_) => ("bad_data", StatusCode::BAD_REQUEST),
            Self::Execution(_) => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Canceled(_) => ("canceled", StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)),
            Self::Timeout(_) => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
            Self::NotFound(_) => ("not_found", StatusCode::NOT_FOUND),
            Self::Unavailable(_) => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::Disabled(_) => ("unavailable", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Internal(_) => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (kind, status) = self.kind();
        let mut body = format!(r#"{{"status":"error","errorType":"{kind}","error":"#);
        go_json::push_text(&mut body, &self.to_string());
        body.push('}');
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
        Self::parameter("query", error)
    }
}

impl From<EvalError> for ApiError {
    fn from(error: EvalError) -> Self {
        let text = error.to_string();
        match (error.error_type(), error) {
            // Its parameter is named already.
            (kind, EvalError::Refused { reason, .. }) => Self::of_kind(kind, reason),
            ("bad_data", _) => Self::parameter("query", text),
            (kind, _) => Self::of_kind(kind, text),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let text = error.to_string();
        match error {
            QueryError::TooManySamples => Self::Execution(text),
            QueryError::Unavailable { .. } => Self::Unavailable(text),
            QueryError::Refused { kind, .. } => Self::of_kind(kind, text),
            QueryError::Damaged { .. } => Self::Internal(text),
        }
    }
}

/// Any path of our own API that is not an endpoint.
pub(super) async fn no_endpoint(uri: axum::http::Uri) -> ApiError {
    ApiError::NotFound(format!("there is no endpoint {}", uri.path()))
}

/// A status and a line of plain text, as Go's `http.Error` gives them.
pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

/// Any path below `/api/v1` that is not an endpoint: what Go's router says.
pub(super) async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}
