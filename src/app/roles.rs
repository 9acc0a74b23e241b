//! What the process is: the leader of its database, or the standby of another one; and how it becomes the other.
//!
//! In: the configuration, bound addresses, an open database. Out: [`Phase`]s, each with all the parts of one role.
//! Invariant: a standby writes nothing that only a leader may; the addresses stay bound from one phase to the next, so that
//! clients that come between wait and are not turned away.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener as Bound};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::replica::{Beats, Following, Next, Turn, Who};
use super::stages::{Stage, Stages};
use super::{Ground, housekeeping, relay, wire};
use crate::api::ReloadRequest;
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{Alert, AlertState, AlertTransition, Labels, METRIC_NAME, MatchOp, Matcher, Timestamp};
use crate::persist::{self, Follower, Role, Shadow, Standing};
use crate::rollup::Rollup;
use crate::rules;
use crate::series::{Head, Queryable, Select};
use crate::store::{Lease, Replica, Store, StoreError};
use crate::web_config::Guard;

/// How often the lease is asked for at the start, and the pause between: the sessions of a process that was killed a
/// moment ago may not have ended.
const LEAD_TRIES: u32 = 10;
const LEAD_PAUSE: Duration = Duration::from_millis(100);
/// How long giving the lease back may take at the end.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);
/// How long making the parts of a standby may take.
const PHASE_LIMIT: Duration = Duration::from_secs(30);
/// The pause before a change of the role that failed is tried again.
const AGAIN_PAUSE: Duration = Duration::from_secs(1);
/// How long a pending alert of the standby waits for the leader's first evaluation.
const PENDING_VALID: Duration = Duration::from_secs(300);
/// A time that does not come: from when on the rollup of a standby is whole.
const NEVER: Timestamp = Timestamp::from_millis(7_258_118_400_000);

/// What stays when the role changes.
pub(super) struct Site {
    pub(super) config: Config,
    pub(super) file: Option<PathBuf>,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) sockets: Sockets,
    pub(super) guard: Guard,
    pub(super) standing: Standing,
    me: Replica,
}

/// The bound addresses.
pub(super) struct Sockets {
    bound: [Bound; 3],
    /// Of pages and APIs, OTLP over gRPC, OTLP over HTTP.
    pub(super) addresses: [SocketAddr; 3],
}

/// Which parts are made.
pub(super) enum Part {
    Leads(Box<Leading>),
    Follows(Arc<Shadow>),
}

/// What a leader takes over.
pub(super) struct Leading {
    /// The first edge minute that memory holds whole.
    pub(super) whole_from: Option<Timestamp>,
    pub(super) outbox: persist::OutboxRestored,
    /// After a takeover, the alerts that this process held pending, by group.
    pub(super) pending: Option<HashMap<String, Vec<Alert>>>,
}

/// The parts of a role, made and not running.
pub(super) struct Wired {
    pub(super) stages: Stages,
    pub(super) rules: rules::Status,
    pub(super) reload: mpsc::Sender<ReloadRequest>,
}

/// A role with all its parts.
pub(super) struct Phase {
    wired: Wired,
    turn: Turn,
    ground: Ground,
    of: Of,
}

enum Of {
    Leader(Beats),
    Standby(Arc<Shadow>),
}

/// What a standby's rules say, for nobody.
#[derive(Default)]
pub(super) struct Drains {
    pub(super) alerts: Option<mpsc::Receiver<Vec<Alert>>>,
    pub(super) alertmanagers: Option<mpsc::Receiver<Vec<Alert>>>,
    pub(super) transitions: Option<mpsc::Receiver<AlertTransition>>,
}

impl Sockets {
    pub(super) fn new(web: TcpListener, grpc: TcpListener, http: TcpListener) -> anyhow::Result<Self> {
        let bound = [web.into_std()?, grpc.into_std()?, http.into_std()?];
        let addresses = [bound[0].local_addr()?, bound[1].local_addr()?, bound[2].local_addr()?];
        Ok(Self { bound, addresses })
    }

    fn listener(&self, place: usize) -> anyhow::Result<TcpListener> {
        let address = self.addresses[place];
        let listener = self.bound[place].try_clone().and_then(TcpListener::from_std);
        listener.with_context(|| format!("go on listening on {address}"))
    }

    /// For pages and APIs.
    pub(super) fn web(&self) -> anyhow::Result<TcpListener> {
        self.listener(0)
    }

    /// For OTLP, gRPC first.
    pub(super) fn otlp(&self) -> anyhow::Result<(TcpListener, TcpListener)> {
        Ok((self.listener(1)?, self.listener(2)?))
    }
}

impl Leading {
    /// Of a standby.
    pub(super) fn nobody() -> Self {
        Self { whole_from: Some(NEVER), outbox: persist::OutboxRestored::default(), pending: None }
    }
}

impl Site {
    pub(super) async fn new(
        (config, file): (Config, Option<PathBuf>),
        clock: Clock,
        store: Store,
        (sockets, guard): (Sockets, Guard),
    ) -> anyhow::Result<Self> {
        let host = match &config.replica.host {
            Some(host) => host.clone(),
            None => store.own_host().await.context("open the database")?.unwrap_or_else(|| "127.0.0.1".to_owned()),
        };
        let [web, grpc, http] = sockets.addresses;
        let name = config.replica.name.clone().unwrap_or_else(|| format!("{}:{}", machine_name(&host), web.port()));
        let me = Replica {
            id: store.replica_id().to_owned(),
            name,
            host,
            web_port: web.port(),
            grpc_port: grpc.port(),
            http_port: http.port(),
            is_https: guard.encrypts(),
        };
        let standing = Standing::new(&me.id);
        Ok(Self { config, file, clock, store, sockets, guard, standing, me })
    }

    /// The leader's phase where nobody leads, else that of a standby.
    ///
    /// # Errors
    /// When PostgreSQL cannot be read, or another process leads and there must be no standby.
    pub(super) async fn first_phase(&self) -> anyhow::Result<Phase> {
        let Some(lease) = self.try_lead().await.context("ask who leads")? else {
            anyhow::ensure!(
                self.config.replica.standby,
                "another meshscope works on the database {}, and `replica.standby` is false: stop that one, name another \
                 database, or let this one be its standby",
                self.store.place()
            );
            tracing::info!("another meshscope leads on this database: this one is its standby");
            return self.standby_phase().await;
        };
        let (turn, ground) = (Turn::default(), Ground::new(self));
        let beats = Beats::begin(lease, self.who(), turn.clone());
        let (restored, outbox) = ground.restore(&self.config).await?;
        let leading = Leading { whole_from: restored.edges_whole_from, outbox, pending: None };
        self.leader_phase(leading, ground, (beats, turn)).await
    }

    async fn try_lead(&self) -> Result<Option<Lease>, StoreError> {
        for _ in 0..LEAD_TRIES {
            if let Some(lease) = self.store.lead(None).await? {
                return Ok(Some(lease));
            }
            tokio::time::sleep(LEAD_PAUSE).await;
        }
        Ok(None)
    }

    fn who(&self) -> Who {
        Who {
            store: self.store.clone(),
            me: self.me.clone(),
            standing: self.standing.clone(),
            reach: self.config.outgoing.replicas.clone(),
        }
    }

    async fn leader_phase(
        &self,
        leading: Leading,
        ground: Ground,
        (beats, turn): (Beats, Turn),
    ) -> anyhow::Result<Phase> {
        self.standing.becomes(Role::Leader, self.clock.now());
        let wired = wire(self, &ground, Part::Leads(Box::new(leading)), &turn).await?;
        Ok(Phase { wired, turn, ground, of: Of::Leader(beats) })
    }

    async fn standby_phase(&self) -> anyhow::Result<Phase> {
        self.store.follow();
        self.standing.becomes(Role::Standby, self.clock.now());
        let (turn, ground) = (Turn::default(), Ground::new(self));
        let shadow = Arc::new(Shadow::new(&self.config.series, &self.config.rollup));
        let wired = wire(self, &ground, Part::Follows(Arc::clone(&shadow)), &turn).await?;
        Ok(Phase { wired, turn, ground, of: Of::Standby(shadow) })
    }

    /// Runs one phase after the other until `shutdown`, or a part ends early.
    ///
    /// # Errors
    /// As [`Stages::run`].
    pub(super) async fn run(&self, mut phase: Phase, shutdown: CancellationToken) -> anyhow::Result<()> {
        loop {
            let Phase { wired, turn, ground, of } = phase;
            let Wired { stages, rules, .. } = wired;
            let outcome = {
                let mut running = std::pin::pin!(stages.run(turn.token.clone()));
                tokio::select! {
                    outcome = &mut running => outcome,
                    () = shutdown.cancelled() => {
                        turn.token.cancel();
                        running.await
                    }
                }
            };
            let next = turn.take().filter(|_| !shutdown.is_cancelled());
            let Some(next) = next else {
                if let Of::Leader(beats) = of {
                    self.give_back(beats).await;
                }
                return outcome;
            };
            if let Err(error) = outcome {
                tracing::warn!("while its role changes: {error}");
            }
            let next = self.next_phase(next, (rules, ground, of));
            phase = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                next = next => next,
            };
            // Each role began with the configuration of the start.
            let (answer, _) = oneshot::channel();
            let _ = phase.wired.reload.try_send(answer);
        }
    }

    async fn give_back(&self, beats: Beats) {
        let Some(lease) = beats.end().await else { return };
        if let Ok(Err(error)) = tokio::time::timeout(RELEASE_LIMIT, self.store.release(lease)).await {
            tracing::debug!("the lease runs out by itself: {error}");
        }
    }

    /// The next role's phase. What fails is tried again, as a standby.
    async fn next_phase(&self, next: Next, (rules, ground, of): (rules::Status, Ground, Of)) -> Phase {
        if let (Next::Leader(follower, beats), Of::Standby(shadow)) = (next, of) {
            match self.take_over(*follower, &shadow, (&rules, ground)).await {
                Ok((leading, ground)) => {
                    let turn = Turn::default();
                    beats.tell(turn.clone());
                    match self.leader_phase(leading, ground, (beats, turn)).await {
                        Ok(phase) => return phase,
                        Err(error) => tracing::error!("cannot lead: {error:#}"),
                    }
                }
                Err(error) => {
                    tracing::error!("cannot take over: {error:#}");
                    self.give_back(beats).await;
                }
            }
        }
        loop {
            match tokio::time::timeout(PHASE_LIMIT, self.standby_phase()).await {
                Ok(Ok(phase)) => return phase,
                Ok(Err(error)) => tracing::warn!("cannot be a standby yet: {error:#}"),
                Err(_) => tracing::warn!("cannot be a standby yet: PostgreSQL does not answer within {PHASE_LIMIT:?}"),
            }
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
    }

    async fn take_over(
        &self,
        follower: Follower,
        shadow: &Shadow,
        (rules, ground): (&rules::Status, Ground),
    ) -> anyhow::Result<(Leading, Ground)> {
        let now = self.clock.now();
        let ground = Ground { rollup: Rollup::new(self.config.rollup.clone()), ..ground };
        let before = ground.before(&self.config).await?;
        let restored = follower.take_over(shadow, (&ground.rollup, before), now).await;
        let restored = restored.context("take over the journal")?;
        let (own, took) = (restored.progress.samples, restored.took);
        tracing::info!(
            own,
            "memory and edge minutes are taken over in {took:.1?}, with {own} samples scraped meanwhile"
        );
        let outbox = persist::restore_outbox(&self.store, now).await.context("read the outbox")?;
        let pending = pending(rules, &ground.head, now).await;
        Ok((Leading { whole_from: restored.edges_whole_from, outbox, pending: Some(pending) }, ground))
    }
}

fn machine_name(otherwise: &str) -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { otherwise.to_owned() } else { name.to_owned() }
}

/// Adds the parts that only a standby has.
///
/// # Errors
/// When an address cannot be listened on any more.
pub(super) fn spawn_standby(
    site: &Site,
    ground: &Ground,
    (shadow, drains): (Arc<Shadow>, Drains),
    (ready, turn): (watch::Sender<bool>, Turn),
    stages: &mut Stages,
) -> anyhow::Result<()> {
    let clock = site.clock;
    let follower = Follower::new(site.store.clone(), ground.head.clone());
    let following = Following { who: site.who(), follower, shadow: Arc::clone(&shadow), clock, turn, ready };
    stages.spawn(Stage::Derive, "following the leader", |stop| following.run(stop));
    let (head, rollup, recorded) = (shadow.head.clone(), shadow.rollup.clone(), shadow.recorded.clone());
    stages.spawn(Stage::Keep, "own scrapes", move |stop| housekeeping::run(head, rollup, clock, stop));
    stages.spawn(Stage::Keep, "own records", move |stop| housekeeping::run(recorded, Rollup::default(), clock, stop));
    stages.spawn(Stage::Keep, "what is told to nobody", move |stop| drain(drains, stop));
    let (grpc, http) = site.sockets.otlp()?;
    let most = site.config.otlp.max_connections;
    for (name, listener, port) in [
        ("OTLP over gRPC to the leader", grpc, (|leader| leader.grpc_port) as relay::Port),
        ("OTLP over HTTP to the leader", http, (|leader| leader.http_port) as relay::Port),
    ] {
        let (standing, reach) = (site.standing.clone(), site.config.outgoing.replicas.clone());
        stages
            .spawn(Stage::Input, name, move |stop| relay::connections(listener, (standing, reach), (port, most), stop));
    }
    Ok(())
}

async fn drain(drains: Drains, stop: CancellationToken) {
    async fn all<T>(channel: Option<mpsc::Receiver<T>>) {
        let Some(mut channel) = channel else { return };
        while channel.recv().await.is_some() {}
    }
    let Drains { alerts, alertmanagers, transitions } = drains;
    tokio::select! {
        () = stop.cancelled() => return,
        _ = async { tokio::join!(all(alerts), all(alertmanagers), all(transitions)) } => {}
    }
    stop.cancelled().await;
}

/// The alerts that a standby holds pending or firing, as pending ones: those that the former leader told of are stored, and
/// the others go on waiting. Since when, the former leader may know better.
async fn pending(rules: &rules::Status, head: &Head, now: Timestamp) -> HashMap<String, Vec<Alert>> {
    let since = active_since(head, now).await;
    let mut found: HashMap<String, Vec<Alert>> = HashMap::new();
    for group in rules.groups() {
        let alerts = group.rules.iter().filter_map(|rule| rule.alerting.as_ref()).flat_map(|rule| &rule.alerts);
        let pending = alerts.filter(|alert| alert.state != AlertState::Inactive).map(|alert| Alert {
            state: AlertState::Pending,
            active_at: since.get(&alert.labels).map_or(alert.active_at, |since| alert.active_at.min(*since)),
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            valid_until: now + PENDING_VALID,
            ..alert.clone()
        });
        found.entry(format!("{};{}", group.file, group.name)).or_default().extend(pending);
    }
    found
}

/// Since when the leader held alerts, by their labels.
async fn active_since(head: &Head, now: Timestamp) -> HashMap<Labels, Timestamp> {
    let named = Matcher::new(MatchOp::Equal, METRIC_NAME, "ALERTS_FOR_STATE");
    let Ok(matcher) = named else { return HashMap::new() };
    let selection = head.select(Select::new(vec![matcher], now - PENDING_VALID, now + PENDING_VALID)).await;
    let Ok(selection) = selection else { return HashMap::new() };
    let since = selection.series.into_iter().filter_map(|series| {
        let seconds = series.values.last().copied().filter(|seconds| seconds.is_finite())?;
        Some((series.labels.without_name(), Timestamp::from_millis((seconds as i64).saturating_mul(1000))))
    });
    since.collect()
}

/// Adds pending alerts to those that fire.
pub(super) fn with_pending(
    mut told: HashMap<String, Vec<Alert>>,
    pending: HashMap<String, Vec<Alert>>,
) -> HashMap<String, Vec<Alert>> {
    for (group, alerts) in pending {
        let known = told.entry(group).or_default();
        for alert in alerts {
            if known.iter().all(|told| told.labels != alert.labels) {
                known.push(alert);
            }
        }
    }
    told
}
