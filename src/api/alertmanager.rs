//! Alertmanager's API v2 at `/alertmanager/api/v2`, for amtool, Grafana's data source and other Prometheus servers.
//!
//! In: read handles of `notify`. Out: the shapes, statuses and texts of Alertmanager 0.33, seen by sending both the same.
//! Requests that change something are refused when they come from a page of another site. Knows nothing of the database.

mod alerts;
mod decode;
mod fault;
mod filter;
mod silences;
mod status;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get};

use super::{State, browser};
use fault::Fault;

/// Largest body; 10,000 alerts of a mesh take about half of it.
const BODY_BYTES_MAX: usize = 32 << 20;

/// The routes.
pub(super) fn router() -> Router<State> {
    let route = |methods: MethodRouter<State>, allowed: &'static str| {
        methods.fallback(move |method: Method| async move { Fault::method_not_allowed(&method, allowed) })
    };
    let base = "/alertmanager/api/v2";
    Router::new()
        .route(&format!("{base}/status"), route(get(status::status), "GET"))
        .route(&format!("{base}/receivers"), route(get(status::receivers), "GET"))
        .route(&format!("{base}/alerts"), route(get(alerts::list).post(alerts::post), "GET,POST"))
        .route(&format!("{base}/alerts/groups"), route(get(alerts::groups), "GET"))
        .route(&format!("{base}/silences"), route(get(silences::list).post(silences::post), "GET,POST"))
        .route(&format!("{base}/silence/{{id}}"), route(get(silences::get).delete(silences::expire), "DELETE,GET"))
        .route(&format!("{base}/"), any(not_found))
        .route(&format!("{base}/{{*unknown}}"), any(not_found))
        .route("/alertmanager/api/v1/{*anything}", any(status::version_1))
        .route("/alertmanager/-/healthy", get(status::ok))
        .route("/alertmanager/-/ready", get(status::ready))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(browser::changes_from_same_origin))
        .layer(from_fn(not_stored))
}

async fn not_found(uri: Uri) -> Fault {
    let path = uri.path().strip_prefix("/alertmanager").unwrap_or_default();
    Fault::coded(StatusCode::NOT_FOUND, 404, format!("path {path} was not found"))
}

async fn not_stored(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
