//! Adds up what an edge did.

use std::collections::HashMap;

use crate::model::EdgeMinute;

pub(super) fn add_to(totals: &mut HashMap<i64, EdgeMinute>, edge: i64, minute: EdgeMinute) {
    match totals.get_mut(&edge) {
        Some(total) => add(total, minute),
        None => drop(totals.insert(edge, minute)),
    }
}

/// Adds what the same edge did at another time.
pub(super) fn add(total: &mut EdgeMinute, more: EdgeMinute) {
    for (outcome, count) in more.requests {
        match total.requests.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, sum)) => *sum += count,
            None => total.requests.push((outcome, count)),
        }
    }
    total.latency.merge(&more.latency);
    total.request_bytes += more.request_bytes;
    total.response_bytes += more.response_bytes;
    total.connections_closed += more.connections_closed;
    total.request_messages += more.request_messages;
    total.response_messages += more.response_messages;
}
