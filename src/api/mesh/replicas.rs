//! Who leads on the database, and who else is there.

use schemars::JsonSchema;
use serde::Serialize;

use super::operation::{Answer, Outcome};
use crate::api::State;
use crate::api::encode::go_time;
use crate::persist::View;

/// What this process is, and what it knows of the others on its database.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replicas {
    /// What this process is.
    #[schemars(extend("enum" = ["leader", "standby", "unknown"]))]
    role: &'static str,
    /// Since when, RFC 3339.
    since: String,
    /// Grows with each change of the leader.
    epoch: i64,
    /// Name of this process.
    name: String,
    /// Name of the leader; empty when none is there.
    leader: String,
    /// All that were there within half a minute.
    replicas: Vec<Replica>,
}

/// A process.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Replica {
    /// Its name.
    name: String,
    /// Where the others reach its pages and APIs.
    url: String,
    /// Whether it is the leader.
    leads: bool,
}

/// The replicas.
pub(super) async fn list(state: State, (): ()) -> Outcome<Replicas> {
    let view = state.standing.view();
    let View { role, since, epoch, ref leader_id, ref own_id, ref replicas, .. } = view;
    let own = replicas.iter().find(|replica| replica.id == *own_id);
    Ok(Answer::new(Replicas {
        role: role.as_str(),
        since: go_time(since),
        epoch,
        name: own.map(|own| own.name.clone()).unwrap_or_default(),
        leader: view.leader().map(|leader| leader.name.clone()).unwrap_or_default(),
        replicas: (replicas.iter())
            .map(|replica| Replica {
                name: replica.name.clone(),
                url: replica.url(),
                leads: leader_id.as_ref() == Some(&replica.id),
            })
            .collect(),
    }))
}
