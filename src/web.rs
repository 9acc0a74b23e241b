//! Browser pages: server-rendered, live through small scripts, complete without them.
//!
//! In: read handles of everything below. Out: an axum [`Router`]. Every view is a URL; every empty view says why it is
//! empty and what to do. Label and span values reach HTML only through the template engine, which escapes them.

mod alerts;
mod ask;
mod assets;
mod audit_page;
mod changes;
mod declared;
mod drawing;
mod error;
mod explore;
mod findings;
mod format;
mod frame;
mod governing;
mod graph;
#[cfg(test)]
mod hostile;
mod live;
mod logs;
mod mesh;
mod moment;
mod notifications;
mod overview;
mod range;
mod resource;
mod routes;
mod rules;
mod silences;
mod slos;
mod status;
mod subject;
mod targets;
mod traces;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::routing::{get, post};
use serde::Deserialize;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::clock::Clock;
use crate::context::Context;
use crate::declared::Declared;
use crate::graph::health::Rules;
use crate::persist::{AlertBoard, Archive, ChangeBook, OutboxReader, PartStatus, Standing};
use crate::promql::Engine;
use crate::series::{Head, Queryable};
use crate::store::{RetentionConfig, Store};
use crate::upstream::Upstream;
use crate::{access, audit, notify, otlp, rules as rule_engine, scrape, slo, web_config};

pub use governing::Governing;
pub use graph::Drawings;
pub use live::{Live, Pulse, pulse};
pub use moment::Address;

/// What a page may load: our own scripts and styles, nothing inline.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; \
                      object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Pages and APIs: the block `web`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of pages and APIs. Default 127.0.0.1:7070: loopback, because whoever reaches it may do everything unless
    /// `config_file` or `bearer_token_files` says otherwise.
    pub listen: SocketAddr,
    /// TLS, client certificates, users: a file in Prometheus' web configuration format.
    pub config_file: Option<PathBuf>,
    /// Files with a bearer token each; who has one may do what a user of `config_file` may.
    pub bearer_token_files: Vec<PathBuf>,
    /// Open connections; more wait in the kernel's accept queue. Default 512, as `--web.max-connections` of Prometheus.
    pub max_connections: usize,
    /// How users reach meshscope, for links in notifications. Default: the address above.
    pub external_url: Option<String>,
    /// Who may do more than read. Default: everybody who is let in.
    pub roles: Option<access::RolesConfig>,
    /// A proxy that says who asks.
    pub trusted_proxy: Option<access::TrustedProxyConfig>,
    /// How much each client may ask.
    pub rate_limit: access::RateLimitConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            config_file: None,
            bearer_token_files: Vec::new(),
            max_connections: 512,
            external_url: None,
            roles: None,
            trusted_proxy: None,
            rate_limit: access::RateLimitConfig::default(),
        }
    }
}

impl Config {
    /// Who may connect and ask.
    pub fn access(&self) -> web_config::Settings {
        let Self { config_file, bearer_token_files, .. } = self.clone();
        web_config::Settings { config_file, bearer_token_files }
    }

    /// What they may do.
    pub fn gate(&self) -> access::Settings {
        let url = self.external_url.as_deref().and_then(|url| reqwest::Url::parse(url).ok());
        let known_host = url.as_ref().and_then(reqwest::Url::host_str).map(str::to_owned);
        access::Settings {
            proxy: self.trusted_proxy.clone(),
            roles: self.roles.clone(),
            rate_limit: self.rate_limit.clone(),
            // Whoever listens for others without a password is open to them by their own choice.
            knows_all_hosts: self.listen.ip().is_loopback(),
            known_host,
        }
    }

    /// What of it does not go together.
    pub fn problems(&self) -> Vec<String> {
        let Self { roles, trusted_proxy, rate_limit, bearer_token_files, config_file, .. } = self;
        let mut found: Vec<String> = rate_limit.problem().into_iter().collect();
        found.extend(trusted_proxy.iter().flat_map(access::TrustedProxyConfig::problems));
        let (has_file, has_proxy) = (config_file.is_some(), trusted_proxy.is_some());
        found.extend(roles.iter().flat_map(|roles| roles.problems(bearer_token_files, has_file, has_proxy)));
        found
    }
}

/// Read handles that the pages share. Cheap to clone.
#[derive(Clone)]
pub struct State {
    /// Evaluates queries.
    pub engine: Arc<Engine>,
    /// Memory and history as one.
    pub series: Arc<dyn Queryable>,
    /// The engine elsewhere that is asked as well.
    pub upstream: Option<Upstream>,
    /// Edges and traces, memory and PostgreSQL as one.
    pub archive: Archive,
    /// What is declared for the mesh.
    pub declared: Declared,
    /// How it changed.
    pub changes: ChangeBook,
    /// The latest audit of it.
    pub audit: audit::Board,
    /// Scrape targets.
    pub scrape: scrape::Status,
    /// Rule groups and their alerts.
    pub rules: rule_engine::Status,
    /// Service level objectives.
    pub slos: slo::Board,
    /// Receivers and groups.
    pub notify: notify::Status,
    /// What the mesh says of alerts.
    pub context: Context,
    /// All alerts, those of the rules and those that others posted.
    pub board: AlertBoard,
    /// What was and is to be delivered.
    pub outbox: OutboxReader,
    /// What the OTLP receivers count, so that an empty trace page can say why.
    pub otlp: Arc<otlp::Counters>,
    /// Where spans are taken: OTLP over gRPC, over HTTP.
    pub otlp_addresses: [SocketAddr; 2],
    /// When an edge counts as degraded or failed.
    pub health: Rules,
    /// The clock.
    pub clock: Clock,
    /// The memory tier, for its limits and what it is made of.
    pub head: Head,
    /// How each writer to PostgreSQL fares.
    pub persist: Vec<Arc<PartStatus>>,
    /// PostgreSQL: where it is and how large.
    pub store: Store,
    /// How long each kind of data is kept there.
    pub retention: RetentionConfig,
    /// What scraping counts.
    pub scrape_counters: Arc<scrape::Counters>,
    /// Who may connect to the listeners.
    pub guards: Vec<web_config::Guard>,
    /// Who leads, and who else is there.
    pub standing: Standing,
    /// Who may do what on this listener.
    pub gate: access::Gate,
    /// Our own metrics in Prometheus' text format.
    pub own_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Tells open pages when to look again.
    pub live: Live,
    /// Which declared objects govern whom.
    pub governing: Governing,
    /// The drawings of the service graph that open pages show.
    pub drawings: Drawings,
    /// Who asks for this page.
    pub caller: access::Caller,
    /// What they ask for.
    pub address: Address,
}

/// The routes of all pages. Some change state by a form: whoever serves them must refuse what pages of other sites ask for.
pub fn router(state: State) -> Router {
    let times = axum::middleware::from_fn_with_state(state.clone(), moment::absolute);
    Router::new()
        .route("/", get(overview::page))
        .route("/graph", get(graph::page))
        .route("/service/{namespace}/{name}", get(subject::service))
        .route("/workload/{namespace}/{name}", get(subject::workload))
        .route("/edge/{id}", get(subject::edge))
        .route("/alerts", get(alerts::page))
        .route("/alerts/history", get(alerts::history::page))
        .route("/alerts/{id}", get(alerts::detail::page))
        .route("/silences", get(silences::page))
        .route("/silences/new", get(silences::form::new).post(silences::form::save))
        .route("/silences/{id}", get(silences::one))
        .route("/silences/{id}/edit", get(silences::form::edit))
        .route("/silences/{id}/expire", post(silences::expire))
        .route("/notifications", get(notifications::page))
        .route("/notifications/{id}", get(notifications::detail::page))
        .route("/notifications/{id}/retry", post(notifications::detail::retry))
        .route("/notifications/{id}/drop", get(notifications::detail::confirm).post(notifications::detail::drop))
        .route("/routes", get(routes::page))
        .route("/rules", get(rules::page))
        .route("/slos", get(slos::page))
        .route("/changes", get(changes::page))
        .route("/audit", get(audit_page::page))
        .route("/resource/{kind}/{namespace}/{name}", get(resource::page))
        .route("/traces", get(traces::search))
        .route("/traces/compare", get(traces::compare))
        .route("/traces/{id}", get(traces::trace))
        .route("/logs", get(logs::page))
        .route("/explore", get(explore::page))
        .route("/targets", get(targets::page))
        .route("/status", get(status::page))
        .route("/live", get(live::stream))
        .route("/assets/{file}", get(assets::serve))
        .with_state(state)
        .layer(times)
        .layer(policy())
}

/// The page for any path that is not one.
pub fn not_found(state: State) -> axum::routing::MethodRouter {
    let page =
        async |ask::Shared(state): ask::Shared<State>, uri: axum::http::Uri| error::not_found(&state, uri.path());
    get(page).layer(policy()).with_state(state)
}

/// What pages may load; all other headers are those of every answer.
fn policy() -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))
}
