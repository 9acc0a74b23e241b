//! Builds and runs the whole: the only owner of long-lived tasks.
//!
//! In: a [`Config`]. Out: an [`App`] whose addresses are known, then its end. Every part is made by its constructor with
//! the channels and handles it needs; but for the beats of a leader nothing runs before [`App::run`]. The first part that
//! ends early stops the process. When the process becomes the leader of several on one database, or a standby, the parts of
//! the former role end and those of the new one are made.

mod elsewhere;
mod ground;
mod housekeeping;
mod http;
mod memory;
mod metrics;
mod opening;
mod places;
mod raw_url;
mod relay;
mod reload;
mod replica;
mod roles;
mod send_on;
mod shard;
mod silences;
mod stages;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::{Caller, Gate};
use crate::clock::{Clock, ClockKeeper};
use crate::config::Config;
use crate::persist::Archive;
use crate::store::Store;
use crate::web_config::Guard;
use crate::{access_logs, api, discovery, notify, otlp, persist, promql, rules, scrape, traces, web};
use ground::{Ground, annotator};
use reload::Reloader;
use replica::Turn;
use roles::{Drains, Leading, Part, Phase, Site, Sockets, Wired};
pub use shard::ShardApp;
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
/// Requests' access log records between the receivers and their pipeline; past it OTLP clients are told to come again.
const RECORD_QUEUE: usize = 64;
/// How late a sample may come before its window of chunks is closed; what comes later is merged into its chunk.
const CHUNK_LATENESS: Duration = Duration::from_secs(300);

/// How long clients that do not finish may hold up the end.
const CLIENT_GRACE: Duration = Duration::from_secs(2);
/// How long the database may take to let go at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// Everything, bound and ready to run.
pub struct App {
    site: Site,
    phase: Phase,
    clock_keeper: ClockKeeper,
    /// Address of pages and APIs.
    pub web_address: SocketAddr,
    /// Address of OTLP over gRPC.
    pub otlp_grpc_address: SocketAddr,
    /// Address of OTLP over HTTP.
    pub otlp_http_address: SocketAddr,
}

/// Makes every part: database, listeners, what was there before the start, then the tasks. When another process leads on
/// that database, those of its standby.
///
/// # Errors
/// When the database cannot be reached, an address is taken, or what is stored cannot be read.
pub async fn build(config: Config, file: Option<PathBuf>) -> anyhow::Result<App> {
    let (clock, clock_keeper) = Clock::kept();
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let guard = Guard::open("web.config_file", config.web.access(), false)?;
    let web = TcpListener::bind(config.web.listen)
        .await
        .with_context(|| format!("listen on {} (web.listen) for pages and APIs", config.web.listen))?;
    let (grpc, http) = otlp::Receiver::listen(&config.otlp).await?;
    let sockets = Sockets::new(web, grpc, http)?;
    let [web_address, otlp_grpc_address, otlp_http_address] = sockets.addresses;

    let store = Store::connect(&config.store).await.context("open the database")?;
    tracing::info!(database = store.place(), "the database is open");
    let config = Config { store: with_span_retention(&config), ..config };
    let built = async {
        let site = Site::new((config, file), clock, store.clone(), (sockets, guard)).await?;
        let phase = site.first_phase().await?;
        Ok((site, phase))
    };
    match built.await {
        Ok((site, phase)) => Ok(App { site, phase, clock_keeper, web_address, otlp_grpc_address, otlp_http_address }),
        Err(error) => {
            store.close().await;
            Err(error)
        }
    }
}

impl App {
    /// Runs until `shutdown` fires or a part ends early, then stops the parts in order and the private database last.
    ///
    /// # Errors
    /// When a part ended early, or did not stop in time; names it.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { site, phase, clock_keeper, .. } = self;
        let mut clock = JoinSet::new();
        clock.spawn(clock_keeper.run(CancellationToken::new()));
        let outcome = site.run(phase, shutdown).await;
        if tokio::time::timeout(CLOSE_LIMIT, site.store.close()).await.is_err() {
            tracing::warn!("the database did not let go within {CLOSE_LIMIT:?}");
        }
        outcome
    }
}

/// `traces.retention` where it is set, else `storage.retention.spans`.
fn with_span_retention(config: &Config) -> crate::store::Config {
    let mut store = config.store.clone();
    store.retention.spans = config.traces.retention.unwrap_or(store.retention.spans);
    store
}

/// Makes the parts of a role and puts each into the stage in which it stops.
async fn wire(site: &Site, ground: &Ground, part: Part, turn: &Turn) -> anyhow::Result<Wired> {
    let Site { config, guard, standing, .. } = site;
    let listener = site.sockets.web()?;
    let (spans_in, spans) = mpsc::channel(SPAN_QUEUE);
    let receiver = otlp::Receiver::on(config.otlp.clone(), spans_in, site.sockets.otlp()?)?;
    let guards = vec![guard.clone(), receiver.guard()];
    let gate = Gate::new(guard.clone(), config.web.gate());
    let started_at = ground.clock.now();
    let mut stages = Stages::default();
    // A standby keeps what it scrapes and what its rules record apart from what the leader journals.
    let shadow = match &part {
        Part::Leads(_) => None,
        Part::Follows(shadow) => Some(Arc::clone(shadow)),
    };
    let (scraped_head, scraped_rollup) = match &shadow {
        None => (ground.head.clone(), ground.rollup.clone()),
        Some(shadow) => (shadow.head.clone(), shadow.rollup.clone()),
    };
    let Leading { whole_from, outbox: outbox_restored, pending } = match part {
        Part::Leads(leading) => *leading,
        Part::Follows(_) => Leading::nobody(),
    };
    let recorded = match &shadow {
        None => ground.head.clone(),
        Some(shadow) => shadow.recorded.clone(),
    };

    // in
    let (jobs_in, jobs) = watch::channel(config.jobs.clone());
    let (discovery, targets) = discovery::Discovery::new(jobs);
    let discovery = discovery.reaching(config.outgoing.discovery.clone());
    let scraper = scrape::Scraper::new(config.scrape.clone(), ground.clock, scraped_head, scraped_rollup, targets);
    let scraper = scraper.reaching(config.outgoing.scrape.clone());
    let (scrape_status, scrape_counters) = (scraper.status(), scraper.counters());
    let (discovery_counters, otlp_counters) = (discovery.counters(), receiver.counters());
    let otlp_addresses = [receiver.grpc_address(), receiver.http_address()];

    let intake = ground.intake(&config.push, &config.store.retention);
    let push_counters = Arc::clone(intake.counters());

    // hold
    let (batches_out, batches) = mpsc::channel(BATCH_QUEUE);
    let outputs = traces::Outputs { head: ground.head.clone(), rollup: ground.rollup.clone(), batches: batches_out };
    let pipeline = traces::Pipeline::new(config.traces.clone(), spans, outputs, ground.clock);
    let (live, trace_counters) = (pipeline.live(), pipeline.counters());
    let (records_in, records) = mpsc::channel(RECORD_QUEUE);
    let receiver = receiver.taking_access_logs(access_logs::Reader::new(&config.access_logs.formats), records_in);
    let (log_batches_out, log_batches) = mpsc::channel(BATCH_QUEUE);
    let outputs = (ground.head.clone(), log_batches_out);
    let log_pipeline = access_logs::Pipeline::new(config.access_logs.clone(), records, outputs, ground.clock);
    let (live_logs, log_counters) = (log_pipeline.live(), log_pipeline.counters());
    let kept = persist::Kept { in_memory: config.rollup.keep.get(), stored: config.store.retention.edge_minutes.get() };
    let whole_from = whole_from.unwrap_or(started_at);
    let archive = Archive::new(ground.store.clone(), ground.rollup.clone(), live.clone(), whole_from, kept)
        .reading(&config.traces)
        .with_access_logs(&config.access_logs, live_logs.clone())
        .with_edges_of(ground.upstream.as_ref().map(elsewhere::edges));
    let (declared_reader, declared) = ground.declared(config);
    let changes = persist::ChangePersist::new(declared.clone(), ground.store.clone(), archive.clone(), ground.clock);

    // derive
    let rule_set = reload::load_rules(config, &ground.external_url).await?;
    let (rule_sets_in, rule_sets) = watch::channel(Arc::new(rule_set));
    let (ready_in, ready) = watch::channel(false);
    let (alerts_out, mut alerts) = mpsc::channel(ALERT_QUEUE);
    let (also_out, mut also_alerts) = mpsc::channel(ALERT_QUEUE);
    let told = persist::restore_alerts(&ground.store, started_at).await.context("read the alerts that fired")?;
    let goes_on = pending.is_some();
    let told_firing = roles::with_pending(told.firing, pending.unwrap_or_default());
    if shadow.is_none() && !told.all.is_empty() {
        // The queue is new, so there is room.
        let _ = alerts_out.try_send(told.all);
    }
    let (transitions_out, mut transitions) = mpsc::channel(TRANSITION_QUEUE);
    let manager = rules::Manager::new(
        config.rules.clone(),
        rules::Inputs {
            rule_sets: rule_sets.clone(),
            ready: ready.clone(),
            store: Arc::clone(&ground.series),
            own: Arc::clone(&ground.own),
            head: recorded,
            engine: Arc::clone(&ground.engine),
            options: promql::QueryOptions::default(),
            clock: ground.clock,
            told: told_firing,
            goes_on,
        },
        rules::Outputs { alerts: alerts_out, alertmanagers: also_out, transitions: transitions_out },
    );
    let (rules_status, rule_counters) = (manager.status(), manager.counters());

    // out
    // Nothing of this process is in the journal before its parts run.
    let journal_end = ground.store.journal_end().await.context("read the journal's end")?;
    let keeper = places::keeper(&ground.store, journal_end);
    let mut drains = Drains::default();
    if shadow.is_some() {
        drains = Drains { alerts: Some(alerts), alertmanagers: Some(also_alerts), transitions: Some(transitions) };
        (alerts, also_alerts, transitions) = (mpsc::channel(1).1, mpsc::channel(1).1, mpsc::channel(1).1);
    }
    let sink = send_on::SendOn::new(config, ground, scrape_status.clone(), also_alerts, keeper);
    let (alertmanager_status, remotes) = (sink.sender.status(), sink.forwarder.status());
    let (plan_in, plan) = watch::channel(Arc::clone(&config.plan));
    let silences = notify::Silences::default();
    let mut silence_keeper = silences::Keeper::new(silences.clone(), ground.store.clone(), ground.clock);
    silence_keeper.read().await.context("read the silences")?;
    let (outbox_out, outbox) = mpsc::channel(OUTBOX_QUEUE);
    let outbox_persist = persist::OutboxPersist::new(outbox, ground.store.clone(), ground.clock, &outbox_restored);
    let context = ground.context(config, live.clone(), changes.book());
    let dispatcher = notify::Dispatcher::new(
        notify::Inputs {
            alerts,
            plan,
            silences,
            outbox: outbox_out,
            log: outbox_restored.log,
            unfinished: outbox_restored.unfinished,
            external_url: ground.external_url.clone(),
            annotator: Some(annotator(context.clone(), standing.clone())),
        },
        ground.clock,
    );
    let (notify_status, notify_counters) = (dispatcher.status(), dispatcher.counters());

    let auditor = ground.auditor(config, &declared, &archive);

    // keep
    let (store, clock) = (&ground.store, ground.clock);
    let journal = persist::JournalPersist::new(ground.head.clone(), store.clone(), clock);
    let chunks = persist::ChunkPersist::new(ground.head.clone(), store.clone(), clock, CHUNK_LATENESS)
        .keeping(&config.store.retention);
    let rollups = persist::RollupPersist::new(ground.rollup.clone(), store.clone(), clock);
    let span_persist = persist::SpanPersist::new(batches, store.clone(), clock);
    let log_persist = persist::AccessLogPersist::new(log_batches, store.clone(), clock);
    let alert_persist = persist::AlertPersist::new(transitions, store.clone(), clock);
    let alert_states = persist::AlertStatePersist::new(rules_status.clone(), store.clone(), clock);
    let maintenance = persist::Maintenance::new(store.clone(), config.store.retention.clone(), clock);
    let parts_status = vec![
        journal.status(),
        chunks.status(),
        rollups.status(),
        span_persist.status(),
        log_persist.status(),
        alert_persist.status(),
        alert_states.status(),
        outbox_persist.status(),
        changes.status(),
        maintenance.status(),
    ];
    let metrics = metrics::Parts {
        scrape: Arc::clone(&scrape_counters),
        scrape_status: scrape_status.clone(),
        discovery: discovery_counters,
        otlp: Arc::clone(&otlp_counters),
        push: push_counters,
        promql: ground.engine.counters(),
        traces: trace_counters,
        access_logs: log_counters,
        rules: rule_counters,
        notify: notify_counters,
        context: context.counters(),
        declared: declared.clone(),
        alertmanagers: alertmanager_status.clone(),
        remotes,
        persist: parts_status.clone(),
        head: ground.head.clone(),
        rollup: ground.rollup.clone(),
        upstream: ground.upstream.clone(),
        live: live.clone(),
        live_logs: live_logs.clone(),
        store: store.clone(),
        guards: guards.clone(),
        outgoing: config.outgoing.clone(),
        gate: gate.clone(),
        started_at,
        standing: standing.clone(),
        clock,
    };

    // face
    let (reloader, reload) = Reloader::new(site.file.clone(), config, &ground.external_url);
    let reloader = reloader.feeding(jobs_in, rule_sets_in, plan_in, sink.inlets);
    let (pulse, live) = web::pulse(rules_status.clone(), clock);
    let own_metrics: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(metrics.page());
    let web_state = web::State {
        own_metrics: Arc::clone(&own_metrics),
        engine: Arc::clone(&ground.engine),
        series: Arc::clone(&ground.series),
        upstream: ground.upstream.clone(),
        archive: archive.clone(),
        scrape: scrape_status.clone(),
        rules: rules_status.clone(),
        slos: reloader.slos(),
        audit: auditor.board(),
        notify: notify_status.clone(),
        context: context.clone(),
        declared: declared.clone(),
        changes: changes.book(),
        board: persist::AlertBoard::new(rules_status.clone(), notify_status.clone()),
        outbox: persist::OutboxReader::new(ground.store.clone()),
        otlp: otlp_counters,
        otlp_addresses,
        health: config.graph_health.clone(),
        clock,
        head: ground.head.clone(),
        persist: parts_status,
        store: ground.store.clone(),
        retention: config.store.retention.clone(),
        scrape_counters: Arc::clone(&scrape_counters),
        guards,
        standing: standing.clone(),
        gate: gate.clone(),
        live,
        governing: web::Governing::default(),
        drawings: web::Drawings::default(),
        caller: Caller::default(),
        address: web::Address::default(),
    };
    let api_state = api::State {
        engine: Arc::clone(&ground.engine),
        series: Arc::clone(&ground.series),
        upstream: ground.upstream.clone(),
        head: ground.head.clone(),
        archive,
        declared,
        changes: changes.book(),
        scrape: scrape_status.clone(),
        push_permits: Arc::new(Semaphore::new(config.push.concurrency.max(1))),
        push: intake.clone(),
        otlp: config.otlp.clone(),
        rules: rules_status.clone(),
        slos: reloader.slos(),
        audit: auditor.board(),
        alertmanagers: alertmanager_status,
        health: config.graph_health.clone(),
        clock,
        notify: notify_status,
        outbox: persist::OutboxReader::new(ground.store.clone()),
        configuration: reloader.configuration(),
        alertmanager_configuration: reloader.alertmanager_configuration(),
        last_reload: reloader.last(),
        external_labels: reloader.external_labels(),
        metrics: own_metrics,
        reload: reload.clone(),
        ready,
        standing: standing.clone(),
        retention: config.store.retention.raw.to_string().into(),
        started_at,
    };
    let pages = web::router(web_state.clone()).layer(axum::middleware::from_fn(api::changes_from_same_origin));
    let router = api::router(api_state).merge(pages).fallback_service(web::not_found(web_state));
    let router = match &shadow {
        None => router,
        Some(_) => {
            let relay = relay::Relay::new(standing.clone(), config.outgoing.replicas.clone());
            router.layer(axum::middleware::from_fn_with_state(relay, relay::before))
        }
    };
    let router = http::guarded(api::before(http::around(router)), gate);

    // First of all, so that pages that are open hold nothing up.
    stages.spawn(Stage::Input, "live pages", |stop| pulse.run(stop));
    stages.spawn(Stage::Input, "discovery", |stop| discovery.run(stop));
    stages.spawn(Stage::Input, "what is declared", |stop| declared_reader.run(stop));
    stages.spawn(Stage::Input, "scraping", |stop| scraper.run(stop));
    stages.spawn(Stage::Input, "reload", |stop| reloader.run(stop));
    stages.spawn(Stage::Derive, "rules", |stop| manager.run(stop));
    stages.spawn(Stage::Derive, "audit", |stop| auditor.run(stop));
    if let Some(upstream) = ground.upstream.clone() {
        stages.spawn(Stage::Derive, "query upstream", |stop| upstream.run(stop));
    }
    stages.spawn(Stage::Keep, "silences", |stop| silence_keeper.run(stop));
    let (head, rollup) = (ground.head.clone(), ground.rollup.clone());
    let (watched_head, watched_rules) = (ground.head.clone(), rule_sets);
    stages.spawn(Stage::Keep, "memory", move |stop| memory::watch(watched_head, watched_rules, clock, stop));
    stages.spawn(Stage::Keep, "housekeeping", move |stop| housekeeping::run(head, rollup, clock, stop));
    let watched = ground.store.clone();
    stages.spawn(Stage::Face, "database health", move |stop| watched.watch_health(clock, stop));
    let access = guard.clone();
    stages.spawn(Stage::Face, "access to pages and APIs", |stop| access.run(stop));
    let guard = guard.clone();
    let server = http::Server { listener, guard, router, max_connections: config.web.max_connections };
    stages.spawn_fallible(Stage::Face, "pages and APIs", |stop| {
        http::cut_off(server.run(stop.clone()), stop, CLIENT_GRACE)
    });
    if let Some(shadow) = shadow {
        roles::spawn_standby(site, ground, (shadow, drains), (ready_in, turn.clone()), &mut stages)?;
        return Ok(Wired { stages, rules: rules_status, reload });
    }

    // Pages and APIs stop last, after the journal: what is sent to them must end before it.
    let senders = intake.clone();
    stages.spawn(Stage::Input, "senders", move |stop| async move {
        stop.cancelled().await;
        senders.close();
    });
    stages.spawn_fallible(Stage::Input, "OTLP receivers", move |stop| {
        http::cut_off(receiver.taking_metrics(intake).run(stop.clone()), stop, CLIENT_GRACE)
    });
    stages.spawn(Stage::Derive, "spans", |stop| pipeline.run(stop));
    stages.spawn(Stage::Derive, "access logs", |stop| log_pipeline.run(stop));
    let scraped = (!config.jobs.is_empty() && !goes_on).then_some(scrape_status);
    stages.spawn(Stage::Derive, "readiness", |stop| housekeeping::announce_ready(ready_in, scraped, stop));
    stages.spawn(Stage::Input, "Alertmanager discovery", |stop| sink.discovery.run(stop));
    stages.spawn(Stage::Notify, "Alertmanagers", |stop| sink.sender.run(stop));
    stages.spawn(Stage::Keep, "remote write", |stop| sink.forwarder.run(stop));
    stages.spawn(Stage::Notify, "notifications", |stop| dispatcher.run(stop));
    stages.spawn(Stage::Keep, "journal", |stop| journal.run(stop));
    stages.spawn(Stage::Keep, "chunks", |stop| chunks.run(stop));
    stages.spawn(Stage::Keep, "rollups", |stop| rollups.run(stop));
    stages.spawn(Stage::Keep, "stored spans", |stop| span_persist.run(stop));
    stages.spawn(Stage::Keep, "stored access logs", |stop| log_persist.run(stop));
    stages.spawn(Stage::Keep, "alert states", |stop| alert_states.run(stop));
    stages.spawn(Stage::Keep, "alert history", |stop| alert_persist.run(stop));
    stages.spawn(Stage::Keep, "changes", |stop| changes.run(stop));
    stages.spawn(Stage::Keep, "outbox", |stop| outbox_persist.run(stop));
    stages.spawn(Stage::Keep, "maintenance", |stop| maintenance.run(stop));
    Ok(Wired { stages, rules: rules_status, reload })
}
