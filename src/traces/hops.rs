//! Where the time of each call went: in the called application, in the calls it waited for, or between the two sides, which
//! is proxies and network.
//!
//! Pure. In: a trace laid out. Out: one [`Hop`] for each call of which both sides were seen. Invariant: the parts of a hop sum
//! up to its whole; clocks of different hosts are never compared, only durations.

use super::{Row, Waterfall};
use crate::model::Span;
use crate::model::span::SpanKind;

/// One call of which both sides were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the caller's span into the spans given.
    pub client: usize,
    /// Index of the called side's span.
    pub server: usize,
    /// From the caller's request to the last byte it got, nanoseconds.
    pub whole_ns: u64,
    /// Of that outside of the called side: both proxies and the network, nanoseconds.
    pub between_ns: u64,
    /// Of that in the called side while a call of its own was under way, nanoseconds.
    pub waiting_ns: u64,
    /// Of that in the called side itself: the application, nanoseconds.
    pub own_ns: u64,
}

/// The hops of a trace, in the order of its rows; at most `limit`.
pub fn hops(fall: &Waterfall, spans: &[Span], limit: usize) -> Vec<Hop> {
    let mut found = Vec::new();
    for (at, row) in fall.rows.iter().enumerate() {
        if spans[row.span].kind != SpanKind::Client {
            continue;
        }
        let server = children(&fall.rows, at).find(|(_, child)| spans[child.span].kind == SpanKind::Server);
        let Some((server_at, server)) = server else { continue };
        let (whole_ns, inside_ns) = (row.duration_ns, server.duration_ns.min(row.duration_ns));
        let waiting_ns = waited(fall, spans, server_at).min(inside_ns);
        found.push(Hop {
            client: row.span,
            server: server.span,
            whole_ns,
            between_ns: whole_ns - inside_ns,
            waiting_ns,
            own_ns: inside_ns - waiting_ns,
        });
        if found.len() >= limit {
            break;
        }
    }
    found
}

/// The rows right below that row, with their places. Rows stand parents first, so they end where the depth does not rise.
fn children(rows: &[Row], at: usize) -> impl Iterator<Item = (usize, &Row)> {
    let depth = rows[at].depth;
    let below = rows.iter().enumerate().skip(at + 1).take_while(move |(_, row)| row.depth > depth);
    below.filter(move |(_, row)| row.depth == depth + 1)
}

/// How long at least one call was under way below the span in that row, calls at the same time counted once. Only the first
/// calls on each way down count: what is below them is theirs.
fn waited(fall: &Waterfall, spans: &[Span], at: usize) -> u64 {
    let depth = fall.rows[at].depth;
    let (mut calls, mut below_call): (Vec<(u64, u64)>, Option<usize>) = (Vec::new(), None);
    for row in fall.rows[at + 1..].iter().take_while(|row| row.depth > depth) {
        if below_call.is_some_and(|call| row.depth > call) {
            continue;
        }
        below_call = None;
        if matches!(spans[row.span].kind, SpanKind::Client | SpanKind::Producer) {
            below_call = Some(row.depth);
            calls.push((row.offset_ns, row.offset_ns.saturating_add(row.duration_ns)));
        }
    }
    calls.sort_unstable();
    let (mut sum_ns, mut until_ns) = (0_u64, 0);
    for (from, to) in calls {
        let from = from.max(until_ns);
        if to > from {
            sum_ns = sum_ns.saturating_add(to - from);
            until_ns = to;
        }
    }
    sum_ns
}
