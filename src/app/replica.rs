//! Who of several processes on one database leads: renews the lease of a leader, and sees when a standby must take over.
//!
//! In: the lease and the beats in PostgreSQL, what other replicas say of themselves. Out: [`Next`], when this process is
//! to be something else, and the [`Standing`] that pages, metrics and notifications ask. Invariant: a leader that cannot
//! reach PostgreSQL goes on until another one says that it leads; who writes is decided by the fence in `store` alone.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::http_client::{self, Client, Reach};
use crate::persist::{FollowError, Follower, Shadow, Standing};
use crate::store::{Leadership, Lease, Replica, Store, StoreError};

/// How often a leader says that it is there, and a standby looks.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a beat may take.
const BEAT_LIMIT: Duration = Duration::from_secs(3);
/// How long a standby's look may take, without what it reads of the journal.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// How long another replica may take to say whether it leads, and PostgreSQL to say who is there.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How long taking the lease may take.
const LEAD_LIMIT: Duration = Duration::from_secs(10);
/// A leader that is silent for so long, by the server's clock, has lost its lease.
const SILENCE: Duration = Duration::from_secs(6);
/// How long a standby must have seen that silence itself: the server may have been away, or the standby.
const SILENCE_SEEN: Duration = Duration::from_secs(5);
/// The same for a leader whose lock is free: its connection is gone. One that only lost its connection has it back by then.
const SILENCE_WITHOUT_LOCK: Duration = Duration::from_millis(2500);
/// Looks further apart do not tell of the time between them.
const LOOK_GAP: Duration = Duration::from_secs(4);
/// Scrapes of a standby are kept for so long past what the leader has journaled.
const SHADOW_MARGIN: Duration = Duration::from_secs(60);

/// What this process is to be next.
pub(super) enum Next {
    /// The leader: it has the lease already.
    Leader(Box<Follower>, Beats),
    /// A standby, from the beginning: it does not lead any more, or lost the leader's track.
    Standby,
}

/// Where a part says what the process is to be next, and ends all the others.
#[derive(Clone, Default)]
pub(super) struct Turn {
    next: Arc<Mutex<Option<Next>>>,
    /// Ends the parts of the present role.
    pub(super) token: CancellationToken,
}

impl Turn {
    fn to(&self, next: Next) {
        self.next.lock().get_or_insert(next);
        self.token.cancel();
    }

    /// What was said.
    pub(super) fn take(&self) -> Option<Next> {
        self.next.lock().take()
    }
}

/// The beats of a leader, under way from the moment at which it got the lease. Dropped, they stop.
pub(super) struct Beats {
    stop: CancellationToken,
    turn: watch::Sender<Turn>,
    task: JoinSet<Option<Lease>>,
}

impl Beats {
    /// Begins to renew `lease`. When that is lost, the turn is called.
    pub(super) fn begin(lease: Lease, who: Who, turn: Turn) -> Self {
        let (stop, (turn, turns)) = (CancellationToken::new(), watch::channel(turn));
        let mut task = JoinSet::new();
        task.spawn(beat(lease, who, turns, stop.clone()));
        Self { stop, turn, task }
    }

    /// Whom to tell from now on that the lease is lost; at once, when it is.
    pub(super) fn tell(&self, turn: Turn) {
        self.turn.send_replace(turn);
    }

    /// Stops; the lease, when it is still held.
    pub(super) async fn end(mut self) -> Option<Lease> {
        self.stop.cancel();
        self.task.join_next().await?.ok()?
    }
}

/// This process, and what it knows of the others.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) store: Store,
    pub(super) me: Replica,
    pub(super) standing: Standing,
    /// Where the others may be.
    pub(super) reach: Reach,
}

async fn beat(mut lease: Lease, who: Who, turns: watch::Receiver<Turn>, stop: CancellationToken) -> Option<Lease> {
    who.standing.leader_is(lease.epoch(), Some(&who.me.id));
    let mut tick = tokio::time::interval(BEAT_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Some(lease),
            _ = tick.tick() => {}
        }
        let at = Instant::now();
        let is_lost = match tokio::time::timeout(BEAT_LIMIT, who.store.beat(&mut lease, &who.me)).await {
            Ok(Ok(true)) => {
                who.standing.vouch(at);
                who.read_replicas().await;
                false
            }
            Ok(Ok(false)) => true,
            // That PostgreSQL is away is said elsewhere.
            Ok(Err(_)) | Err(_) => {
                who.standing.doubt();
                let leads = who.another_that_leads(lease.epoch()).await;
                if leads.is_none() {
                    who.standing.vouch(Instant::now());
                }
                leads.is_some()
            }
        };
        if is_lost {
            break;
        }
    }
    who.standing.doubt();
    who.store.follow();
    tracing::warn!("another replica leads now: this one becomes its standby");
    let mut turns = turns;
    loop {
        turns.borrow_and_update().to(Next::Standby);
        tokio::select! {
            () = stop.cancelled() => return None,
            changed = turns.changed() => changed.ok()?,
        }
    }
}

impl Who {
    async fn read_replicas(&self) {
        // The next beat must not be late for it.
        if let Ok(Ok(replicas)) = tokio::time::timeout(ASK_LIMIT, self.store.replicas()).await {
            self.standing.replicas_are(replicas);
        }
    }

    /// Asks the others directly. One that does not answer is taken for one that does not lead: people must be told.
    async fn another_that_leads(&self, epoch: i64) -> Option<String> {
        let view = self.standing.view();
        let client = Arc::new(Client::reaching(http_client::Config::default(), self.reach.clone()));
        let mut asking = JoinSet::new();
        for other in view.others() {
            let url = format!("{}/api/mesh/v1/replicas", other.url());
            let client = Arc::clone(&client);
            asking.spawn(async move {
                let asked = client.request(reqwest::Method::GET, &url).ok()?;
                let answer = asked.timeout(ASK_LIMIT).send().await.ok()?;
                let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
                let data = &answer["data"];
                let leads = data["role"] == "leader" && data["epoch"].as_i64()? > epoch;
                leads.then(|| data["name"].as_str().unwrap_or_default().to_owned())
            });
        }
        while let Some(said) = asking.join_next().await {
            if let Ok(Some(name)) = said {
                return Some(name);
            }
        }
        None
    }
}

/// A standby at work.
pub(super) struct Following {
    pub(super) who: Who,
    pub(super) follower: Follower,
    pub(super) shadow: Arc<Shadow>,
    pub(super) clock: Clock,
    pub(super) turn: Turn,
    /// Turns true when memory is what the leader's is.
    pub(super) ready: watch::Sender<bool>,
}

impl Following {
    /// Follows the leader until it must take over, or `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(BEAT_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watcher = Watcher::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let caught_up = tokio::select! {
                () = stop.cancelled() => return,
                caught_up = self.follower.catch_up(self.clock.now()) => caught_up,
            };
            match caught_up {
                Ok(_) => {
                    self.shadow.trim(self.follower.newest() - SHADOW_MARGIN);
                }
                Err(FollowError::Store(error)) => {
                    tracing::debug!("the journal cannot be read for now: {error}");
                    continue;
                }
                Err(error @ FollowError::FellBehind { .. }) => {
                    tracing::warn!("this standby begins anew: {error}");
                    self.turn.to(Next::Standby);
                    break;
                }
            }
            let looked = tokio::time::timeout(LOOK_LIMIT, self.look()).await;
            let Ok(Ok(leadership)) = looked else { continue };
            // Its readers are gone when the process is stopping.
            let _ = self.ready.send(true);
            let verdict = watcher.judge(leadership.as_ref(), Instant::now());
            let Some(breaking) = verdict.breaking() else { continue };
            let Ok(led) = tokio::time::timeout(LEAD_LIMIT, self.who.store.lead(breaking)).await else { continue };
            match led {
                Ok(Some(lease)) => {
                    tracing::warn!(epoch = lease.epoch(), "the leader is lost ({verdict}): this replica takes over");
                    let beats = Beats::begin(lease, self.who.clone(), self.turn.clone());
                    self.turn.to(Next::Leader(Box::new(self.follower), beats));
                    break;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!("cannot take over for now: {error}"),
            }
        }
        stop.cancelled().await; // an end of its own would count as a failure
    }

    async fn look(&self) -> Result<Option<Leadership>, StoreError> {
        let Who { store, me, standing, .. } = &self.who;
        store.announce(me).await?;
        let leadership = store.leadership().await?;
        standing.replicas_are(store.replicas().await?);
        let leader = leadership.as_ref().filter(|leadership| !leadership.is_released);
        let epoch = leadership.as_ref().map_or(0, |leadership| leadership.epoch);
        standing.leader_is(epoch, leader.map(|leader| leader.replica_id.as_str()));
        Ok(leadership)
    }
}

/// Follows the beats of a leader.
#[derive(Default)]
struct Watcher {
    last: Option<(i64, DateTime<Utc>)>,
    looked_at: Option<Instant>,
    unchanged_since: Option<Instant>,
}

/// What a standby is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The leader is there, or may come back.
    Wait,
    /// Nobody leads.
    Vacant,
    /// The leader's connection is gone.
    Gone,
    /// The leader of that epoch holds its lock and is silent.
    Silent(i64),
}

impl Verdict {
    /// Whether to take over, and whose sessions to end for that.
    #[expect(clippy::option_option, reason = "what `Store::lead` takes, or nothing at all")]
    fn breaking(self) -> Option<Option<i64>> {
        match self {
            Self::Wait => None,
            Self::Vacant | Self::Gone => Some(None),
            Self::Silent(epoch) => Some(Some(epoch)),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Wait => "it is there",
            Self::Vacant => "it has ended",
            Self::Gone => "its connection to PostgreSQL is gone",
            Self::Silent(_) => "it is silent",
        })
    }
}

impl Watcher {
    fn judge(&mut self, seen: Option<&Leadership>, now: Instant) -> Verdict {
        let Some(seen) = seen.filter(|seen| !seen.is_released) else { return Verdict::Vacant };
        let beat = (seen.epoch, seen.beat_at);
        let has_gap = self.looked_at.replace(now).is_none_or(|before| now - before > LOOK_GAP);
        if has_gap || self.last != Some(beat) {
            (self.last, self.unchanged_since) = (Some(beat), Some(now));
        }
        let unchanged = self.unchanged_since.map_or(Duration::ZERO, |since| now - since);
        match () {
            () if !seen.is_locked && unchanged >= SILENCE_WITHOUT_LOCK => Verdict::Gone,
            () if unchanged >= SILENCE_SEEN && seen.silent_for >= SILENCE => Verdict::Silent(seen.epoch),
            () => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Looks {
        watcher: Watcher,
        start: Instant,
    }

    impl Looks {
        /// A look at that second, at which the last beat was that of `beat`.
        fn at(&mut self, second: f64, beat: f64, is_locked: bool) -> Verdict {
            let beat_at = DateTime::from_timestamp_millis((beat * 1000.0) as i64).expect("a time");
            let seen = Leadership {
                epoch: 3,
                replica_id: "a".into(),
                beat_at,
                silent_for: Duration::from_secs_f64((second - beat).max(0.0)),
                is_released: false,
                is_locked,
            };
            self.watcher.judge(Some(&seen), self.start + Duration::from_secs_f64(second))
        }
    }

    fn looks() -> Looks {
        Looks { watcher: Watcher::default(), start: Instant::now() }
    }

    #[tokio::test]
    async fn a_silent_leader_is_replaced_after_six_seconds_and_one_that_is_gone_sooner() {
        let mut looks = looks();
        for second in 0..20 {
            assert_eq!(looks.at(f64::from(second), f64::from(second), true), Verdict::Wait);
        }
        let silent: Vec<Verdict> = (20..26).map(|second| looks.at(f64::from(second), 19.5, true)).collect();
        assert_eq!(silent, [[Verdict::Wait; 5].as_slice(), &[Verdict::Wait]].concat());
        assert_eq!(looks.at(26.0, 19.5, true), Verdict::Silent(3));
        let mut gone = self::looks();
        let verdicts: Vec<Verdict> = (0..4).map(|second| gone.at(f64::from(second), 0.0, false)).collect();
        assert_eq!(verdicts, [Verdict::Wait, Verdict::Wait, Verdict::Wait, Verdict::Gone]);
    }

    #[tokio::test]
    async fn a_standby_that_was_away_itself_gives_the_leader_its_time_again() {
        let mut looks = looks();
        assert_eq!(looks.at(0.0, 0.0, true), Verdict::Wait);
        assert_eq!(looks.at(60.0, 1.0, true), Verdict::Wait, "a beat was missed by us, not by it");
        assert_eq!(looks.at(61.0, 60.9, true), Verdict::Wait);
        assert_eq!(looks.at(70.0, 60.9, true), Verdict::Wait, "nine seconds without a look");
        assert_eq!(Watcher::default().judge(None, Instant::now()), Verdict::Vacant);
    }
}
