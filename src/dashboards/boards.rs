//! The boards, one function each: every one answers one kind of question.
//!
//! In: nothing. Out: [`super::grafana::Dashboard`]s. Every panel has queries, a unit and a description.

mod alerts;
mod ambient;
mod control_plane;
mod edge;
mod linkerd;
mod mesh;
mod meshscope;
mod resilience;
mod resources;
mod security;
mod service;
mod slo;
mod split;
mod sql;
mod traces;
mod workload;

pub(super) use alerts::alerts;
pub(super) use ambient::ambient;
pub(super) use control_plane::control_plane;
pub(super) use edge::edge;
pub(super) use linkerd::linkerd;
pub(super) use mesh::mesh;
pub(super) use meshscope::meshscope;
pub(super) use resilience::resilience;
pub(super) use resources::resources;
pub(super) use security::security;
pub(super) use service::service;
pub(super) use slo::slo;
pub(super) use split::split;
pub(super) use sql::sql;
pub(super) use traces::traces;
pub(super) use workload::workload;
