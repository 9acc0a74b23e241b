//! What this process knows of the replicas on its database: who leads, who is there, and whether it may tell people.
//!
//! In: what `app` learns each second. Out: the same for pages, APIs and metrics, and [`Standing::may_tell`], which a leader
//! asks before each notification. Invariant: a leader that may have lost its lease tells nobody before it has found out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::Timestamp;
use crate::store::Replica;

/// How long a beat vouches for the lease: less than the others wait before they take it.
const BEAT_VALID: Duration = Duration::from_secs(4);

/// Whether this process leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It has not found out yet.
    #[default]
    Unknown,
    /// It writes and tells people.
    Leader,
    /// It follows the leader.
    Standby,
}

impl Role {
    /// `leader`, `standby` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Leader => "leader",
            Self::Standby => "standby",
        }
    }
}

/// What is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Of this process.
    pub role: Role,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Which change of the leader the last known one is; 0 before the first.
    pub epoch: i64,
    /// The leader's id, when one is known.
    pub leader_id: Option<String>,
    /// This process.
    pub own_id: String,
    /// All that are there, this process included.
    pub replicas: Vec<Replica>,
    /// How often the leader changed while this process looked.
    pub changes: u64,
    /// Until when the lease is vouched for; `None`: that is being found out.
    vouched_until: Option<Instant>,
}

impl View {
    /// The leader, when it is known and there.
    pub fn leader(&self) -> Option<&Replica> {
        let id = self.leader_id.as_ref()?;
        self.replicas.iter().find(|replica| replica.id == *id)
    }

    /// The other processes.
    pub fn others(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.id != self.own_id)
    }
}

/// The shared view. Clones share it.
#[derive(Clone, Debug)]
pub struct Standing(Arc<watch::Sender<View>>);

impl Standing {
    /// Nothing is known yet.
    pub fn new(own_id: &str) -> Self {
        let view = View { own_id: own_id.to_owned(), ..View::default() };
        Self(Arc::new(watch::channel(view).0))
    }

    /// What is known now.
    pub fn view(&self) -> View {
        self.0.borrow().clone()
    }

    /// Who leads, as the database told it.
    pub fn leader_is(&self, epoch: i64, leader_id: Option<&str>) {
        self.0.send_if_modified(|view| {
            let is_new = view.epoch != epoch || view.leader_id.as_deref() != leader_id;
            view.changes += u64::from(view.epoch != 0 && view.epoch != epoch);
            (view.epoch, view.leader_id) = (epoch, leader_id.map(ToOwned::to_owned));
            is_new
        });
    }

    /// Who is there.
    pub fn replicas_are(&self, replicas: Vec<Replica>) {
        self.0.send_if_modified(|view| {
            let is_new = view.replicas != replicas;
            view.replicas = replicas;
            is_new
        });
    }

    /// This process has that role from now on.
    pub fn becomes(&self, role: Role, at: Timestamp) {
        self.0.send_modify(|view| {
            (view.role, view.since, view.vouched_until) = (role, Some(at), None);
            if role != Role::Leader && view.leader_id.as_ref() == Some(&view.own_id) {
                view.leader_id = None; // who it is instead is not known yet
            }
        });
    }

    /// The lease was renewed by a beat that was sent at `at`, or nobody else leads although it could not be.
    pub fn vouch(&self, at: Instant) {
        self.0.send_modify(|view| view.vouched_until = Some(at + BEAT_VALID));
    }

    /// The lease could not be renewed: somebody else may lead.
    pub fn doubt(&self) {
        self.0.send_modify(|view| view.vouched_until = None);
    }

    /// Waits until this process is sure to lead. At once without another replica; never, when it does not lead any more.
    pub async fn may_tell(&self) {
        let mut view = self.0.subscribe();
        loop {
            let may = {
                let view = view.borrow_and_update();
                let is_sure = view.vouched_until.is_some_and(|until| Instant::now() < until);
                view.role == Role::Leader && (is_sure || view.others().next().is_none())
            };
            // The sender lives in `self`.
            if may || view.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(id: &str) -> Replica {
        let (name, host) = (id.to_owned(), "h".to_owned());
        Replica { id: id.into(), name, host, web_port: 1, grpc_port: 2, http_port: 3, is_https: false }
    }

    async fn tells(standing: &Standing) -> bool {
        tokio::time::timeout(Duration::from_millis(1), standing.may_tell()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_tells_while_it_is_sure_to_lead_and_alone_always() {
        let standing = Standing::new("a");
        assert!(!tells(&standing).await, "no role yet");
        standing.becomes(Role::Leader, Timestamp::from_millis(1));
        standing.replicas_are(vec![replica("a")]);
        assert!(tells(&standing).await, "alone, whatever the database does");
        standing.replicas_are(vec![replica("a"), replica("b")]);
        assert!(!tells(&standing).await, "not renewed yet");
        standing.vouch(Instant::now());
        assert!(tells(&standing).await);
        tokio::time::advance(BEAT_VALID).await;
        assert!(!tells(&standing).await, "paused for longer than a beat is valid");
        standing.vouch(Instant::now());
        standing.doubt();
        assert!(!tells(&standing).await);
        standing.vouch(Instant::now());
        standing.becomes(Role::Standby, Timestamp::from_millis(2));
        assert!(!tells(&standing).await);
    }

    #[test]
    fn who_stops_leading_does_not_take_itself_for_the_leader() {
        let standing = Standing::new("a");
        standing.leader_is(1, Some("a"));
        standing.becomes(Role::Standby, Timestamp::from_millis(1));
        assert_eq!((standing.view().leader_id, standing.view().epoch), (None, 1));
    }

    #[test]
    fn changes_of_the_leader_are_counted_and_what_is_met_first_is_none() {
        let standing = Standing::new("a");
        for (epoch, leader) in [(7, Some("b")), (7, Some("b")), (8, Some("a")), (8, None), (9, Some("b"))] {
            standing.leader_is(epoch, leader);
        }
        assert_eq!(standing.view().changes, 2);
        standing.replicas_are(vec![replica("a"), replica("b")]);
        assert_eq!(standing.view().leader().map(|leader| leader.id.clone()), Some("b".to_owned()));
    }
}
