//! Reads what is declared for the mesh into one immutable snapshot: Istio, Linkerd, Gateway API and Kubernetes objects.
//!
//! In: YAML and JSON from files, folders and clusters. Out: a [`Snapshot`] of [`Resource`]s that know their file, line and
//! fields, and what could not be read ([`Unread`]). Invariant: one bad document loses no other; nothing of a `Secret` is
//! kept but its name and the names of its keys. Knows nothing of traffic, PostgreSQL or HTTP.

pub mod effective;
pub mod hosts;
pub mod select;

mod cluster;
mod files;
mod generated;
mod index;
mod kind;
mod resource;
pub mod schema;
mod slim;
mod snapshot;
mod unknown;

pub use cluster::{FromCluster, read_cluster, resource_of};
pub(crate) use files::SOURCE_ANNOTATION;
pub use files::{Input, read_paths};
pub use generated::{Generated, ISTIO_CLASSES};
pub use index::Index;
pub use kind::{KINDS, Kind, KindInfo, Scope};
pub use resource::{LAST_APPLIED, Place, Resource, ResourceId, WRITTEN_BY_PROGRAMS};
pub use slim::{Shape, slim};
pub use snapshot::{Snapshot, Unread};
