//! Who leads on the database, and who else is there.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::{go_time, success};
use crate::persist::View;

/// What this process is, and what it knows of the others.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Replicas {
    /// `leader`, `standby` or `unknown`.
    role: &'static str,
    since: String,
    /// Grows with each change of the leader.
    epoch: i64,
    name: String,
    /// Name of the leader; empty when none is there.
    leader: String,
    replicas: Vec<Replica>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    name: String,
    url: String,
    leads: bool,
}

pub(super) async fn list(Shared(state): Shared<State>) -> Response {
    let view = state.standing.view();
    let View { role, since, epoch, ref leader_id, ref own_id, ref replicas, .. } = view;
    let own = replicas.iter().find(|replica| replica.id == *own_id);
    success(Replicas {
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
    })
}
