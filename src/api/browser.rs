//! What browsers and careful clients need around an answer: CORS, `Vary`, `OPTIONS`, the right refusal of a method, and
//! no state changed on behalf of another site.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::is_cross_site;

const CORS: [(HeaderName, HeaderValue); 3] = [
    (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Accept, Authorization, Content-Type, Origin")),
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS")),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date")),
];

/// Lets pages of any origin read `/api/v1`, as Prometheus does by default: never with credentials, so what needs a
/// password stays closed to them. Answers `OPTIONS`.
pub(super) async fn cors(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let response = match request.method() {
        &Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    open_to(origin, response)
}

/// `OPTIONS` below `/api/v1` where there is nothing: answered like any other.
pub(super) async fn preflight(headers: HeaderMap) -> Response {
    open_to(headers.get(header::ORIGIN).cloned(), StatusCode::NO_CONTENT.into_response())
}

fn open_to(origin: Option<HeaderValue>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.extend(CORS.into_iter().map(|(name, value)| (Some(name), value)));
    }
    response
}

/// Says what Prometheus says to a method that a path does not know; `OPTIONS` is told the methods.
pub(super) async fn method_not_allowed(request: Request, next: Next) -> Response {
    let asks_methods = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    if asks_methods {
        return StatusCode::OK.into_response();
    }
    let headers = response.headers_mut();
    headers.remove(header::VARY);
    CORS.iter().for_each(|(name, _)| _ = headers.remove(name));
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from("Method Not Allowed\n");
    response
}

/// Says which methods a path knows as Go's router does. It must stand around the router, which says it last.
pub(super) async fn allowed_methods(request: Request, next: Next) -> Response {
    let ours = ["/api/v1/", "/-/", "/federate", "/metrics", "/version"];
    if !ours.iter().any(|start| request.uri().path().starts_with(start)) {
        return next.run(request).await;
    }
    let mut response = next.run(request).await;
    let status = response.status();
    let headers = response.headers_mut();
    let Some(allowed) = headers.remove(header::ALLOW).and_then(|value| Some(sorted_methods(value.to_str().ok()?)))
    else {
        return response;
    };
    if let (StatusCode::METHOD_NOT_ALLOWED | StatusCode::OK, Ok(allowed)) = (status, HeaderValue::try_from(allowed)) {
        headers.insert(header::ALLOW, allowed);
    }
    response
}

/// `GET,HEAD` as Go's router writes it, with `OPTIONS`, which it answers itself: `GET, HEAD, OPTIONS`.
fn sorted_methods(methods: &str) -> String {
    let mut methods: Vec<&str> = methods.split(',').map(str::trim).chain(["OPTIONS"]).collect();
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

/// Leads from a path with `//`, `/./` or `/../` to the one without, as Go's mux does: a base URL that ends with a slash is
/// a usual slip.
pub(super) async fn clean_path(request: Request, next: Next) -> Response {
    match cleaned(request.uri().path()) {
        None => next.run(request).await,
        Some(path) => {
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            let target = path + &query;
            // The methods that have a body are asked again with it.
            let status = match request.method() {
                &Method::GET | &Method::HEAD => StatusCode::MOVED_PERMANENTLY,
                _ => StatusCode::PERMANENT_REDIRECT,
            };
            (status, [(header::LOCATION, target)]).into_response()
        }
    }
}

/// The path without empty parts and dots, when it has such.
fn cleaned(path: &str) -> Option<String> {
    let is_dot = |part: &str| part == "." || part == "..";
    let mut inner = path.split('/').skip(1).peekable();
    let mut parts: Vec<&str> = Vec::new();
    let mut changed = false;
    while let Some(part) = inner.next() {
        let is_last = inner.peek().is_none();
        match part {
            "" if is_last => parts.push(""),
            "" | "." => changed = true,
            ".." => {
                parts.pop();
                changed = true;
            }
            part => parts.push(part),
        }
        if is_last && is_dot(part) {
            parts.push("");
        }
    }
    changed.then(|| format!("/{}", parts.join("/")))
}

/// Refuses what a page of another site asks for: with 403, before anything is done.
///
/// The gate before all routes says so too; here it holds for whoever serves the routes alone.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    match is_cross_site(request.headers(), request.uri()) {
        false => next.run(request).await,
        true => (StatusCode::FORBIDDEN, "refused: the request comes from a page of another site\n").into_response(),
    }
}

/// The same for routes that also answer questions: what changes nothing is let through.
pub async fn changes_from_same_origin(request: Request, next: Next) -> Response {
    match request.method() {
        &Method::GET | &Method::HEAD | &Method::OPTIONS => next.run(request).await,
        _ => same_origin(request, next).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_never_lead_to_another_host() {
        let check = |path: &str, expect: Option<&str>| assert_eq!(cleaned(path).as_deref(), expect, "{path}");
        check("/", None);
        check("/api/v1/query", None);
        check("/api/v1/labels/", None);
        check("//api/v1/query", Some("/api/v1/query"));
        check("/api/./v1/../v1//query", Some("/api/v1/query"));
        check("/../../x", Some("/x"));
        check("//evil.example/", Some("/evil.example/"));
        check("/a/..", Some("/"));
        check("/a/.", Some("/a/"));
        check("//", Some("/"));
    }
}
