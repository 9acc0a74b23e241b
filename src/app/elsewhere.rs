//! The engine of `storage.query_upstream`: where it stands beside our own store.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::persist::EdgeSource;
use crate::series::Queryable;
use crate::upstream::{Joined, Upstream};

/// Our own store, joined with the engine elsewhere when one is configured.
pub(super) fn beside(
    config: &Config,
    own: &Arc<dyn Queryable>,
    clock: Clock,
) -> (Arc<dyn Queryable>, Option<Upstream>) {
    let Some(settings) = config.upstream.clone() else { return (Arc::clone(own), None) };
    let upstream = Upstream::new(settings, config.outgoing.query_upstream.clone(), clock);
    tracing::info!(url = %upstream.shown(), "queries and rules ask the engine of storage.query_upstream");
    (Arc::new(Joined::new(Arc::clone(own), upstream.clone())), Some(upstream))
}

/// Where pages get the edges that it has.
pub(super) fn edges(upstream: &Upstream) -> EdgeSource {
    let upstream = upstream.clone();
    Arc::new(move |windows| {
        let upstream = upstream.clone();
        Box::pin(async move { upstream.edge_sums(&windows).await.map_err(|error| error.to_string()) })
    })
}
