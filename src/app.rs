//! Builds and runs the whole: the only owner of long-lived tasks.
//!
//! In: a [`Config`]. Out: an [`App`] whose addresses are known, then its end. Every part is made by its constructor with
//! the channels and handles it needs; nothing runs before [`App::run`]. The first part that ends early stops the process.

mod housekeeping;
mod metrics;
mod reload;
mod stages;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::clock::Clock;
use crate::config::Config;
use crate::persist::{self, Archive};
use crate::rollup::Rollup;
use crate::series::{Head, Queryable, Tiered};
use crate::store::Store;
use crate::{api, discovery, notify, otlp, promql, rules, scrape, traces, web};
use reload::Reloader;
use stages::{Stage, Stages};

/// Batches of alerts between rules and notify; rules count what does not fit and send it again.
const ALERT_QUEUE: usize = 256;
/// Changes of alert states on their way to the history.
const TRANSITION_QUEUE: usize = 10_000;
/// Deliveries on their way to the outbox.
const OUTBOX_QUEUE: usize = 1024;
/// Requests' spans between the receivers and the pipeline; past it OTLP clients are told to come again.
const SPAN_QUEUE: usize = 64;
/// Batches of spans on their way to PostgreSQL.
const BATCH_QUEUE: usize = 16;
/// How far behind the newest a sample may come before its window of chunks is closed.
const CHUNK_LATENESS: Duration = Duration::from_secs(300);

/// Everything, bound and ready to run.
pub struct App {
    stages: Stages,
    store: Store,
    /// Address of pages and APIs.
    pub web_address: SocketAddr,
    /// Address of OTLP over gRPC.
    pub otlp_grpc_address: SocketAddr,
    /// Address of OTLP over HTTP.
    pub otlp_http_address: SocketAddr,
}

/// What is made first and shared by the parts.
struct Ground {
    clock: Clock,
    store: Store,
    head: Head,
    rollup: Rollup,
    series: Arc<dyn Queryable>,
    engine: Arc<promql::Engine>,
    external_url: String,
}

/// Makes every part: database, listeners, what was there before the start, then the tasks.
///
/// # Errors
/// When the database cannot be reached, an address is taken, or what is stored cannot be read.
pub async fn build(config: Config, file: Option<PathBuf>) -> anyhow::Result<App> {
    let clock = Clock::system();
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let listener = TcpListener::bind(config.web.listen)
        .await
        .with_context(|| format!("listen on {} (web.listen) for pages and APIs", config.web.listen))?;
    let web_address = listener.local_addr().context("read the address of pages and APIs")?;
    let (spans_in, spans) = mpsc::channel(SPAN_QUEUE);
    let receiver = otlp::Receiver::bind(config.otlp.clone(), spans_in).await?;
    let (otlp_grpc_address, otlp_http_address) = (receiver.grpc_address(), receiver.http_address());

    let store = Store::connect(&config.store).await.context("open the database")?;
    tracing::info!(database = store.place(), "the database is open");
    let ground = Ground::new(&config, clock, store.clone(), web_address);
    let stages = match wire(config, file, ground, (listener, receiver, spans)).await {
        Ok(stages) => stages,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    Ok(App { stages, store, web_address, otlp_grpc_address, otlp_http_address })
}

impl App {
    /// Runs until `shutdown` fires or a part ends early, then stops the parts in order and the private database last.
    ///
    /// # Errors
    /// When a part ended early, or did not stop in time; names it.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let outcome = self.stages.run(shutdown).await;
        self.store.close().await;
        outcome
    }
}

impl Ground {
    fn new(config: &Config, clock: Clock, store: Store, web_address: SocketAddr) -> Self {
        let head = Head::new(config.series.clone());
        let history: Arc<dyn Queryable> = Arc::new(persist::History::new(store.clone()));
        let url = config.web.external_url.clone().unwrap_or_else(|| format!("http://{web_address}"));
        Self {
            clock,
            store,
            rollup: Rollup::new(config.rollup.clone()),
            series: Arc::new(Tiered::new(head.clone(), history)),
            head,
            engine: Arc::new(promql::Engine::new(config.promql.clone())),
            external_url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// Brings back what was there before the start.
    async fn restore(&self) -> anyhow::Result<persist::OutboxRestored> {
        let now = self.clock.now();
        let restored = persist::restore(&self.store, &self.head, &self.rollup, now, |_| {}).await;
        let restored = restored.context("restore samples from the journal")?;
        if restored.progress.samples > 0 {
            let (samples, took) = (restored.progress.samples, restored.took);
            tracing::info!(samples, "restored {samples} samples in {took:.1?}");
        }
        persist::restore_outbox(&self.store, now).await.context("read the outbox")
    }
}

type Listeners = (TcpListener, otlp::Receiver, mpsc::Receiver<Vec<crate::model::Span>>);

/// Makes the parts and puts each into the stage in which it stops.
async fn wire(config: Config, file: Option<PathBuf>, ground: Ground, listeners: Listeners) -> anyhow::Result<Stages> {
    let (listener, receiver, spans) = listeners;
    let outbox_restored = ground.restore().await?;
    let started_at = ground.clock.now();
    let mut stages = Stages::default();
    let mut metrics = metrics::Parts::default();

    // in
    let (jobs_in, jobs) = watch::channel(config.jobs.clone());
    let (discovery, targets) = discovery::Discovery::new(jobs);
    let scraper =
        scrape::Scraper::new(config.scrape.clone(), ground.clock, ground.head.clone(), ground.rollup.clone(), targets);
    let (scrape_status, otlp_counters) = (scraper.status(), receiver.counters());
    let otlp_addresses = [receiver.grpc_address(), receiver.http_address()];
    metrics.scrape = Some(scraper.counters());
    metrics.otlp = Some(Arc::clone(&otlp_counters));

    // hold
    let (batches_out, batches) = mpsc::channel(BATCH_QUEUE);
    let outputs = traces::Outputs { head: ground.head.clone(), rollup: ground.rollup.clone(), batches: batches_out };
    let pipeline = traces::Pipeline::new(config.traces.clone(), spans, outputs, ground.clock);
    let live = pipeline.live();
    metrics.traces = Some(pipeline.counters());

    // derive
    let (rule_sets_in, rule_sets) = watch::channel(Arc::new(config.load_rules(&ground.external_url)));
    let (ready_in, ready) = watch::channel(false);
    let (alerts_out, alerts) = mpsc::channel(ALERT_QUEUE);
    let (transitions_out, transitions) = mpsc::channel(TRANSITION_QUEUE);
    let manager = rules::Manager::new(
        config.rules.clone(),
        rules::Inputs {
            rule_sets,
            ready: ready.clone(),
            store: Arc::clone(&ground.series),
            head: ground.head.clone(),
            engine: Arc::clone(&ground.engine),
            options: promql::QueryOptions::default(),
            clock: ground.clock,
        },
        rules::Outputs { alerts: alerts_out, transitions: transitions_out },
    );
    let rules_status = manager.status();
    metrics.rules = Some(manager.counters());

    // out
    let (plan_in, plan) = watch::channel(Arc::clone(&config.plan));
    let (_silences_in, silences) = watch::channel(Vec::new());
    let (outbox_out, outbox) = mpsc::channel(OUTBOX_QUEUE);
    let outbox_persist = persist::OutboxPersist::new(outbox, ground.store.clone(), ground.clock, &outbox_restored);
    let dispatcher = notify::Dispatcher::new(
        notify::Inputs {
            alerts,
            plan,
            silences,
            outbox: outbox_out,
            log: outbox_restored.log,
            unfinished: outbox_restored.unfinished,
            external_url: ground.external_url.clone(),
        },
        ground.clock,
    );
    let notify_status = dispatcher.status();
    metrics.notify = Some(dispatcher.counters());

    // keep
    let (store, clock) = (&ground.store, ground.clock);
    let journal = persist::JournalPersist::new(ground.head.clone(), store.clone(), clock);
    let chunks = persist::ChunkPersist::new(ground.head.clone(), store.clone(), clock, CHUNK_LATENESS);
    let rollups = persist::RollupPersist::new(ground.rollup.clone(), store.clone(), clock);
    let span_persist = persist::SpanPersist::new(batches, store.clone(), clock);
    let alert_persist = persist::AlertPersist::new(transitions, store.clone(), clock);
    let maintenance = persist::Maintenance::new(store.clone(), config.store.retention.clone(), clock);
    metrics.persist = vec![
        journal.status(),
        chunks.status(),
        rollups.status(),
        span_persist.status(),
        alert_persist.status(),
        outbox_persist.status(),
        maintenance.status(),
    ];

    // face
    let kept = config.rollup.keep.get();
    let archive = Archive::new(store.clone(), ground.rollup.clone(), live, started_at, kept);
    let (reloader, reload) = Reloader::new(file, &config, ground.external_url.clone());
    let reloader = reloader.feeding(jobs_in, rule_sets_in, plan_in);
    let metrics_page = Arc::new(metrics.page(&ground.head, &ground.rollup));
    let web_state = web::State {
        engine: Arc::clone(&ground.engine),
        series: Arc::clone(&ground.series),
        archive: archive.clone(),
        scrape: scrape_status.clone(),
        rules: rules_status.clone(),
        notify: notify_status,
        otlp: otlp_counters,
        otlp_addresses,
        thresholds: config.graph_health,
        clock,
    };
    let api_state = api::State {
        engine: Arc::clone(&ground.engine),
        series: Arc::clone(&ground.series),
        head: ground.head.clone(),
        archive,
        scrape: scrape_status.clone(),
        rules: rules_status,
        thresholds: config.graph_health,
        clock,
        configuration: reloader.configuration(),
        metrics: metrics_page,
        reload,
        ready,
        retention: config.store.retention.raw.to_string().into(),
        started_at,
    };
    let router = api::router(api_state)
        .merge(web::router(web_state.clone()))
        .fallback_service(web::not_found(web_state))
        .layer(CompressionLayer::new().gzip(true))
        .layer(CatchPanicLayer::new());

    stages.spawn(Stage::Input, "discovery", |stop| discovery.run(stop));
    stages.spawn(Stage::Input, "scraping", |stop| scraper.run(stop));
    stages.spawn_fallible(Stage::Input, "OTLP receivers", |stop| receiver.run(stop));
    stages.spawn(Stage::Input, "reload", |stop| reloader.run(stop));
    stages.spawn(Stage::Derive, "spans", |stop| pipeline.run(stop));
    stages.spawn(Stage::Derive, "rules", |stop| manager.run(stop));
    stages.spawn(Stage::Derive, "readiness", |stop| housekeeping::announce_ready(ready_in, scrape_status, stop));
    stages.spawn(Stage::Notify, "notifications", |stop| dispatcher.run(stop));
    stages.spawn(Stage::Keep, "journal", |stop| journal.run(stop));
    stages.spawn(Stage::Keep, "chunks", |stop| chunks.run(stop));
    stages.spawn(Stage::Keep, "rollups", |stop| rollups.run(stop));
    stages.spawn(Stage::Keep, "stored spans", |stop| span_persist.run(stop));
    stages.spawn(Stage::Keep, "alert history", |stop| alert_persist.run(stop));
    stages.spawn(Stage::Keep, "outbox", |stop| outbox_persist.run(stop));
    stages.spawn(Stage::Keep, "maintenance", |stop| maintenance.run(stop));
    let (head, rollup) = (ground.head, ground.rollup);
    stages.spawn(Stage::Keep, "housekeeping", move |stop| housekeeping::run(head, rollup, clock, stop));
    let watched = ground.store.clone();
    stages.spawn(Stage::Face, "database health", move |stop| watched.watch_health(clock, stop));
    stages.spawn_fallible(Stage::Face, "pages and APIs", |stop| serve(listener, router, stop));
    Ok(stages)
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}
