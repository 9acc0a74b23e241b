//! A small client of the Kubernetes API: how a cluster is reached, lists in pages, watches that mend themselves.
//!
//! In: a [`ClusterConfig`], which resource. Out: [`Reflection`]s, copies of the cluster's objects that follow it. A leaf:
//! imports `http_client`, `units` and `yaml`. Invariants: a cluster that is away keeps what was last known of it; nothing is asked
//! for in a busy loop; what is held of an object is only what the caller's type decodes.

mod access;
mod client;
mod error;
mod kubeconfig;
mod reflection;
mod watch;

pub use access::{Access, ClusterConfig, ServiceAccount};
pub use client::{Client, Listed, Meta, Query, Resource};
pub use error::Error;
pub use reflection::{Follower, Held, ObjectName, Reflection};
pub use watch::Counters;
