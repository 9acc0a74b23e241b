//! HTTP APIs: Prometheus at `/api/v1`, Alertmanager at `/alertmanager/api/v2`, Tempo at `/tempo/api`, Jaeger at `/jaeger/api`, our own at `/api/mesh/v1`.
//!
//! In: read handles of everything below. Out: an axum [`Router`]. Handlers are thin: they read parameters, ask, and
//! write the answer in the shape that other programs expect. Knows nothing of pages.

mod alertmanager;
mod browser;
mod encode;
mod error;
mod exemplars;
mod federate;
mod go_json;
mod jaeger;
mod mesh;
mod metadata;
mod params;
mod query;
mod rules;
mod series;
mod status;
mod targets;
mod tempo;
mod write;

use std::sync::Arc;

pub use browser::changes_from_same_origin;
pub use mesh::openapi_document as openapi;
pub use status::ask_for_reload;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{any, get, post};

use crate::clock::Clock;
use crate::declared::Declared;
use crate::graph::health::Rules;
use crate::model::{Labels, Timestamp};
use crate::notify::AlertmanagerStatus;
use crate::persist::{Archive, ChangeBook, OutboxReader, Standing};
use crate::promql::Engine;
use crate::series::{Head, Queryable};
use crate::upstream::Upstream;
use crate::{audit, notify, otlp, push, rules as rule_engine, scrape, slo};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Asks for the configuration to be read again; answered with the mistakes when it is refused.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// How the last reading of the configuration went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastReload {
    /// Whether it was taken; a refused one left the former in force.
    pub success: bool,
    /// When the configuration in force was read.
    pub at: Timestamp,
    /// When it was last refused, if that is how the last reading went.
    pub refused_at: Option<Timestamp>,
}

/// Read handles that the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct State {
    /// Evaluates queries.
    pub engine: Arc<Engine>,
    /// Memory and history as one.
    pub series: Arc<dyn Queryable>,
    /// The engine elsewhere that is asked as well.
    pub upstream: Option<Upstream>,
    /// The memory tier, for its statistics.
    pub head: Head,
    /// Edges and traces, memory and PostgreSQL as one.
    pub archive: Archive,
    /// What is declared for the mesh.
    pub declared: Declared,
    /// How it changed.
    pub changes: ChangeBook,
    /// Scrape targets and metric metadata.
    pub scrape: scrape::Status,
    /// Takes what others send.
    pub push: push::Intake,
    /// The OTLP receivers' limits, which hold for metrics on this port too.
    pub otlp: otlp::Config,
    /// Requests of senders decoded at the same time; more wait.
    pub push_permits: Arc<Semaphore>,
    /// Rule groups and their alerts.
    pub rules: rule_engine::Status,
    /// Service level objectives.
    pub slos: slo::Board,
    /// The latest audit of the mesh.
    pub audit: audit::Board,
    /// The Alertmanagers that are told of alerts.
    pub alertmanagers: AlertmanagerStatus,
    /// Alerts on their way to receivers, silences, and where alerts are posted.
    pub notify: notify::Status,
    /// What was and is to be delivered.
    pub outbox: OutboxReader,
    /// When an edge counts as degraded or failed.
    pub health: Rules,
    /// The clock.
    pub clock: Clock,
    /// The configuration in force with secrets replaced, as YAML.
    pub configuration: Arc<dyn Fn() -> String + Send + Sync>,
    /// The part of the configuration that Alertmanager would read.
    pub alertmanager_configuration: Arc<dyn Fn() -> String + Send + Sync>,
    /// How the last reload went; at the start, when that was.
    pub last_reload: Arc<dyn Fn() -> LastReload + Send + Sync>,
    /// `global.external_labels` in force.
    pub external_labels: Arc<dyn Fn() -> Labels + Send + Sync>,
    /// Our own metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Asks for a reload.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// Whether what was there before the start is restored.
    pub ready: watch::Receiver<bool>,
    /// How long raw samples are kept, as Prometheus writes it.
    pub retention: Arc<str>,
    /// When this process started.
    pub started_at: Timestamp,
    /// Who leads, and who else is there.
    pub standing: Standing,
}

/// The routes of all APIs. Each answers with its own headers; compression is the caller's layer.
pub fn router(state: State) -> Router {
    let prometheus = prometheus().layer(from_fn(browser::cors)).layer(from_fn(browser::method_not_allowed));
    let refused_quit = post(status::quit).put(status::quit);
    let reload = post(status::reload).put(status::reload).layer(from_fn(browser::same_origin));
    let otlp_metrics = otlp::metrics_route(&state.otlp, state.push.clone()).layer(from_fn(browser::same_origin));
    Router::new()
        .merge(mesh::router())
        .route("/metrics", get(status::metrics))
        .route("/-/healthy", get(status::healthy))
        .route("/-/ready", get(status::ready))
        .route("/-/reload", reload)
        .route("/-/quit", refused_quit)
        .route("/-/", any(error::not_found))
        .route("/-/{*unknown}", any(error::not_found))
        .route("/version", get(status::version))
        .route("/federate", get(federate::federate))
        .route("/api/v1/otlp/v1/metrics", otlp_metrics)
        .route("/api/v1/write", post(write::remote).layer(from_fn(browser::same_origin)))
        // The same under a name of its own: who imports history must be an administrator, and is in the audit log.
        .route("/api/v1/import", post(write::remote).layer(from_fn(browser::same_origin)))
        .layer(from_fn(browser::method_not_allowed))
        .merge(alertmanager::router())
        .merge(tempo::router())
        .merge(jaeger::router())
        .merge(prometheus)
        .route("/api", any(error::not_found))
        .route("/api/{*unknown}", any(error::not_found))
        .route("/api/v1", any(error::not_found))
        .route("/api/v1/", any(error::not_found))
        .route("/api/v1/{*unknown}", any(error::not_found).options(browser::preflight))
        .with_state(state)
}

/// The targets of a process that does nothing but scrape.
pub fn targets_only(targets: scrape::Status) -> Router {
    Router::new().route("/api/v1/targets", get(targets::targets_of)).with_state(targets)
}

/// What stands before all routes, those of pages too, and must see answers as the router finished them.
pub fn before(router: Router) -> Router {
    Router::new().fallback_service(router).layer(from_fn(browser::allowed_methods)).layer(from_fn(browser::clean_path))
}

fn prometheus() -> Router<State> {
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(query::exemplars).post(query::exemplars))
        .route("/api/v1/format_query", get(query::format).post(query::format))
        .route("/api/v1/parse_query", get(query::tree).post(query::tree))
        .route("/api/v1/series", get(series::series).post(series::series).delete(status::not_implemented))
        .route("/api/v1/labels", get(series::label_names).post(series::label_names))
        .route("/api/v1/label/{name}/values", get(series::label_values))
        .route("/api/v1/metadata", get(metadata::metadata))
        .route("/api/v1/targets", get(targets::targets))
        .route("/api/v1/targets/metadata", get(metadata::of_targets))
        .route("/api/v1/scrape_pools", get(targets::scrape_pools))
        .route("/api/v1/rules", get(rules::rules))
        .route("/api/v1/alerts", get(rules::alerts))
        .route("/api/v1/alertmanagers", get(status::alertmanagers))
        .route("/api/v1/status/buildinfo", get(status::build_info))
        .route("/api/v1/status/runtimeinfo", get(status::runtime_info))
        .route("/api/v1/status/config", get(status::configuration))
        .route("/api/v1/status/flags", get(status::flags))
        .route("/api/v1/status/tsdb", get(status::head))
        .route("/api/v1/status/walreplay", get(status::replay))
        .route("/api/v1/notifications", get(status::notifications))
        .route("/api/v1/notifications/live", get(status::live_notifications))
        .route("/api/v1/admin/tsdb/delete_series", post(status::admin).put(status::admin))
        .route("/api/v1/admin/tsdb/clean_tombstones", post(status::admin).put(status::admin))
        .route("/api/v1/admin/tsdb/snapshot", post(status::admin).put(status::admin))
}
