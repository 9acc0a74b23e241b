//! A process that scrapes a share of the targets and sends all of it to the meshscope of the first share (`--shard 1/3`).
//!
//! In: a [`Config`] whose jobs are those of the share. Out: remote write 2.0, and metrics, health and targets of its own.
//! What it sends is stored, counted for edges, evaluated and shown there, so that one meshscope sees all of the mesh. It needs no
//! database. Invariants: a target is scraped by one share; what waits for a receiver that is away is bounded; counters lose
//! nothing by it, for the next sample tells what rose meanwhile.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::stages::{Stage, Stages};
use super::{CLIENT_GRACE, housekeeping, http, metrics};
use crate::access::Gate;
use crate::clock::Clock;
use crate::config::Config;
use crate::discovery::{self, Jobs, SHARD_HEADER, Shard, ShardConfig};
use crate::forward::{self, Forwarder, RemoteWriteConfig};
use crate::rollup::Rollup;
use crate::series::{self, Head};
use crate::units::{ByteSize, PromDuration};
use crate::web_config::Guard;
use crate::{api, scrape, yaml};

/// How long samples stay here: what is sent is in the receiver's memory.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// How the receiver is called in metrics and logs.
const RECEIVER: &str = "shard-0";

/// A scraper of a share, bound and ready to run.
pub struct ShardApp {
    stages: Stages,
    /// Address of its metrics, health and targets.
    pub web_address: SocketAddr,
}

impl ShardApp {
    /// Makes every part.
    ///
    /// # Errors
    /// When the address is taken, or files of access cannot be read.
    pub async fn build(config: Config, shard: Shard, file: PathBuf) -> anyhow::Result<Self> {
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let sending = config.shard_sending.clone().context("the block `shard` is missing")?;
        let guard = Guard::open("web.config_file", config.web.access(), false)?;
        let listener = TcpListener::bind(config.web.listen)
            .await
            .with_context(|| format!("listen on {} (web.listen) for metrics and targets", config.web.listen))?;
        let web_address = listener.local_addr().context("read the address of metrics and targets")?;
        tracing::info!(%shard, url = %crate::http_client::shown_url(&sending.url), "scrapes a share and sends it on");
        let stages = wire(&config, (shard, file), &sending, (listener, guard))?;
        Ok(Self { stages, web_address })
    }

    /// Runs until `shutdown` fires or a part ends early, then stops the parts in order.
    ///
    /// # Errors
    /// When a part ended early, or did not stop in time; names it.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.stages.run(shutdown).await
    }
}

fn wire(
    config: &Config,
    (shard, file): (Shard, PathBuf),
    sending: &ShardConfig,
    (listener, guard): (TcpListener, Guard),
) -> anyhow::Result<Stages> {
    let (clock, clock_keeper) = Clock::kept();
    let head = Head::new(series::Config {
        memory_window: PromDuration::from(KEPT),
        // The feed of the sender holds what waits; nothing is journaled here.
        journal_limit_bytes: ByteSize(0),
        ..config.series.clone()
    });
    // Edges are counted where the samples arrive.
    let (uncounted, jobs) = (Rollup::default(), watch::channel(config.jobs.clone()));
    let (discovery, targets) = discovery::Discovery::new(jobs.1);
    let discovery = discovery.reaching(config.outgoing.discovery.clone());
    let scraper = scrape::Scraper::new(config.scrape.clone(), clock, head.clone(), uncounted.clone(), targets);
    let scraper = scraper.reaching(config.outgoing.scrape.clone());
    let (settings_in, settings) = watch::channel(Arc::new(settings(config, shard, sending)?));
    let forwarder = Forwarder::new(settings, (head.clone(), scraper.status()), clock, None);
    let gate = Gate::new(guard.clone(), config.web.gate());
    let page = metrics::ShardParts {
        scrape: scraper.counters(),
        scrape_status: scraper.status(),
        discovery: discovery.counters(),
        remotes: forwarder.status(),
        head: head.clone(),
        guards: vec![guard.clone()],
        gate: gate.clone(),
        outgoing: config.outgoing.clone(),
        clock,
    };
    let (reload, reloads) = mpsc::channel(1);
    let router = router(Arc::new(page.page()), scraper.status(), reload);
    let router = http::guarded(api::before(http::around(router)), gate);
    let reloader = Reloader { file, shard, jobs: jobs.0, reloads, _settings: settings_in };

    let mut stages = Stages::default();
    stages.spawn(Stage::Input, "discovery", |stop| discovery.run(stop));
    stages.spawn(Stage::Input, "scraping", |stop| scraper.run(stop));
    stages.spawn(Stage::Input, "reload", |stop| reloader.run(stop));
    stages.spawn(Stage::Keep, "sending", |stop| forwarder.run(stop));
    stages.spawn(Stage::Keep, "housekeeping", move |stop| housekeeping::run(head, uncounted, clock, stop));
    stages.spawn(Stage::Face, "clock", |stop| clock_keeper.run(stop));
    let access = guard.clone();
    stages.spawn(Stage::Face, "access", |stop| access.run(stop));
    let server = http::Server { listener, guard, router, max_connections: config.web.max_connections };
    stages.spawn_fallible(Stage::Face, "metrics and targets", |stop| {
        http::cut_off(server.run(stop.clone()), stop, CLIENT_GRACE)
    });
    Ok(stages)
}

/// Sends every sample within a second, one request after the other (so that `up` comes with its scrape), in requests that
/// say that all that is scraped is sent.
fn settings(config: &Config, shard: Shard, sending: &ShardConfig) -> anyhow::Result<forward::Settings> {
    let address = format!("{}/api/v1/write", sending.url.trim_end_matches('/'));
    let text = format!(
        "url: {address:?}\nname: {RECEIVER}\nprotobuf_message: io.prometheus.write.v2.Request\nsend_exemplars: true\n\
         headers: {{{SHARD_HEADER}: '{shard}'}}\n\
         queue_config: {{batch_send_deadline: 500ms, max_shards: 1, max_samples_per_send: 10000, retry_on_http_429: true}}\n"
    );
    let (remote, problems) = yaml::decode::<RemoteWriteConfig>(&text);
    let remote = remote.with_context(|| format!("the settings of the sender: {problems:?}"))?;
    let ShardConfig { authorization, basic_auth, bearer_token, bearer_token_file, tls_config, .. } = sending.clone();
    let ShardConfig { proxy_url, proxy_from_environment, no_proxy, follow_redirects, .. } = sending.clone();
    let ShardConfig { enable_http2, http_headers, .. } = sending.clone();
    let remote = RemoteWriteConfig {
        authorization,
        basic_auth,
        bearer_token,
        bearer_token_file,
        tls_config,
        proxy_url,
        proxy_from_environment,
        no_proxy,
        follow_redirects,
        enable_http2,
        http_headers,
        ..remote
    };
    let reach = config.outgoing.remote_write.clone();
    Ok(forward::Settings { remotes: vec![remote], reach, ..forward::Settings::default() })
}

type Page = Arc<dyn Fn() -> String + Send + Sync>;
/// Asks for the configuration to be read again; answered with the mistakes when it is refused.
type Reload = mpsc::Sender<api::ReloadRequest>;

fn router(page: Page, targets: scrape::Status, reload: Reload) -> Router {
    let kind = [("content-type", "text/plain; version=0.0.4; charset=utf-8")];
    Router::new()
        .route("/metrics", get(move || std::future::ready((kind, page()))))
        .route("/-/healthy", get(|| std::future::ready("meshscope is healthy.\n")))
        .route("/-/ready", get(|| std::future::ready("meshscope is ready.\n")))
        .route("/-/reload", post(move || api::ask_for_reload(reload.clone())))
        .merge(api::targets_only(targets))
}

/// Reads the jobs again on SIGHUP and `POST /-/reload`; what else has changed takes effect at the next start.
struct Reloader {
    file: PathBuf,
    shard: Shard,
    jobs: watch::Sender<Jobs>,
    reloads: mpsc::Receiver<api::ReloadRequest>,
    /// The sender follows it as long as it lives.
    _settings: watch::Sender<Arc<forward::Settings>>,
}

impl Reloader {
    async fn run(mut self, stop: CancellationToken) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            };
            let request = tokio::select! {
                () = stop.cancelled() => return,
                request = self.reloads.recv() => match request {
                    Some(request) => Some(request),
                    None => return,
                },
                () = hung_up => None,
            };
            let outcome = self.reload().await;
            match &outcome {
                Ok(()) => tracing::info!("the configuration was read again, and its targets are in force"),
                Err(mistakes) => tracing::error!("the configuration was read again:\n{mistakes}"),
            }
            if let Some(request) = request {
                // Whoever asked may be gone.
                let _ = request.send(outcome);
            }
        }
    }

    async fn reload(&self) -> Result<(), String> {
        let (file, shard) = (self.file.clone(), self.shard);
        let read = move || Config::read(&file).and_then(|config| config.sharing(Some(shard)));
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(config)) => {
                self.jobs.send_replace(config.jobs);
                Ok(())
            }
            Ok(Err(error)) => Err(format!("the old configuration stays in force:\n{error}")),
            Err(crashed) => Err(format!("the old configuration stays in force: reading crashed: {crashed}")),
        }
    }
}
