//! `graph/replay`: the graph as it was from step to step, as frames of one film.
//!
//! In: a range and a step. Out: the nodes and edges of all frames once, and for each frame what each edge did.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Look, Range, range};
use crate::api::State;
use crate::api::error::ApiError;
use crate::api::mesh::operation::{Answer, Outcome};
use crate::api::mesh::query::{Period, Time};
use crate::graph::{Node, film};
use crate::model::Timestamp;

/// Most frames of one film.
const FRAMES_MAX: u32 = 240;
/// Frames unless a step is given.
const FRAMES_DEFAULT: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// Most edges in all frames together; of larger films the busiest edges are shown.
const CELLS_MAX: usize = 300_000;
/// The range unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(3600);

/// The graph from step to step.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api::mesh) struct Film<'a> {
    /// Start of the first frame.
    #[schemars(extend("format" = "date-time"))]
    from: String,
    /// End of the last frame.
    #[schemars(extend("format" = "date-time"))]
    to: String,
    /// Length of a frame; the last may be shorter.
    step_seconds: u64,
    /// What a node is.
    #[schemars(extend("enum" = ["workload", "app", "versionedApp", "service"]))]
    view: &'static str,
    /// Nodes of all frames.
    nodes: Vec<NodeJson<'a>>,
    /// Edges of all frames.
    edges: Vec<EdgeJson<'a>>,
    /// What they did, frame by frame.
    frames: Vec<Frame>,
    /// Quieter edges of a large film, not shown.
    edges_left_out: usize,
}

/// A node of a film.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FilmNode")]
struct NodeJson<'a> {
    /// Stable name.
    id: &'a str,
    /// What it is.
    kind: &'static str,
    /// What to call it.
    name: &'a str,
    /// Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

/// An edge of a film.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FilmEdge")]
struct EdgeJson<'a> {
    /// Stable name.
    id: &'a str,
    /// Id of the caller.
    source: &'a str,
    /// Id of the called.
    target: &'a str,
}

/// The graph of one step.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Frame {
    /// Start.
    #[schemars(extend("format" = "date-time"))]
    from: String,
    /// End.
    #[schemars(extend("format" = "date-time"))]
    to: String,
    /// Requests over all edges.
    requests_per_second: f64,
    /// Errors per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio: Option<f64>,
    /// Failing edges.
    failed_edges: usize,
    /// Edges with traffic.
    edges: Vec<Cell>,
}

/// What one edge did in one frame.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "FrameEdge")]
struct Cell {
    /// Its place among the edges of the film.
    edge: usize,
    /// Verdict.
    #[schemars(extend("enum" = ["idle", "healthy", "degraded", "failure"]))]
    health: &'static str,
    /// Requests.
    requests_per_second: f64,
    /// Errors per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio: Option<f64>,
    /// 95 % of requests take at most this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p95_ms: Option<f64>,
    /// Bytes both ways.
    bytes_per_second: f64,
}

/// Which film.
#[derive(Deserialize, JsonSchema)]
pub(in crate::api::mesh) struct Which {
    /// Start of the film; an hour before its end unless told (start is the same).
    from: Option<Time>,
    /// End of the film; now unless told (end is the same).
    to: Option<Time>,
    /// Length of a frame, in whole minutes; a thirtieth of the range unless told. At most 240 frames.
    step: Option<Period>,
}

/// The frames of `[from, to)`, each `step` long.
pub(in crate::api::mesh) async fn replay(
    state: State,
    (which, other, look): (Which, Range, Look),
) -> Outcome<Film<'static>> {
    let now = state.clock.now();
    let (from, to) = match which.from.or(which.to) {
        Some(_) => range(("from", which.from), ("to", which.to), now, RANGE_DEFAULT)?,
        None => range(("start", other.start), ("end", other.end), now, RANGE_DEFAULT)?,
    };
    let asked = Asked::of((from, to), &look)?;
    let bounds = bounds((from, to), step(which.step, to.since(from))?);
    let read = state.archive.edge_sums(&bounds, now).await;
    let options = asked.options(&state, from, to);
    let made = tokio::task::spawn_blocking(move || {
        let film = film::film(&read.edges, &read.bounds, &options);
        let answer = written(&film, &asked, step_of(&read.bounds));
        Answer::with(answer, &read.warning.into_iter().collect::<Vec<_>>())
    });
    made.await.map_err(|error| ApiError::Internal(error.to_string()))
}

/// The step asked for, in whole minutes; as many frames as are watched well unless told.
fn step(asked: Option<Period>, length: Duration) -> Result<Duration, ApiError> {
    let whole = |step: Duration| Duration::from_secs(step.as_secs().div_ceil(60).max(1) * 60);
    match asked.map(|step| step.0) {
        None => Ok(whole(length / FRAMES_DEFAULT)),
        Some(step) if step.is_zero() => Err(ApiError::parameter("step", "use a minute or more, like 5m")),
        Some(step) if length.as_secs() > whole(step).as_secs() * u64::from(FRAMES_MAX) => {
            let least = whole(length / FRAMES_MAX).as_secs() / 60;
            Err(ApiError::parameter("step", format!("more than {FRAMES_MAX} frames: use {least}m or more")))
        }
        Some(step) => Ok(whole(step)),
    }
}

fn bounds((from, to): (Timestamp, Timestamp), step: Duration) -> Vec<Timestamp> {
    let first = from.floor_to(MINUTE);
    let mut bounds: Vec<Timestamp> =
        (0..FRAMES_MAX).map(|frame| first + step * frame).take_while(|at| *at < to).collect();
    bounds.push(to);
    bounds
}

/// The longest frame: where minutes are gone, frames are of hours.
fn step_of(bounds: &[Timestamp]) -> Duration {
    bounds.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or_default()
}

fn written<'f>(film: &'f film::Film, asked: &Asked, step: Duration) -> Film<'f> {
    let film::Film { nodes, edges, frames } = film;
    let mut busy = vec![0.0_f64; edges.len()];
    for cell in frames.iter().flat_map(|frame| &frame.cells) {
        busy[cell.edge] += cell.rate + cell.bytes_per_second / 1e9;
    }
    let mut order: Vec<usize> = (0..edges.len()).collect();
    order.sort_by(|a, b| busy[*b].total_cmp(&busy[*a]).then_with(|| a.cmp(b)));
    let left_out = order.split_off((CELLS_MAX / frames.len().max(1)).min(asked.limit).min(edges.len()));
    order.sort_unstable();
    let mut place: Vec<Option<usize>> = vec![None; edges.len()];
    order.iter().enumerate().for_each(|(at, edge)| place[*edge] = Some(at));
    let edge = |at: &usize| {
        let film::FilmEdge { id, source, target } = &edges[*at];
        EdgeJson { id, source, target }
    };
    Film {
        from: frames.first().map(|frame| frame.from.to_string()).unwrap_or_default(),
        to: frames.last().map(|frame| frame.to.to_string()).unwrap_or_default(),
        step_seconds: step.as_secs(),
        view: asked.view.as_str(),
        nodes: nodes.iter().map(node).collect(),
        edges: order.iter().map(edge).collect(),
        frames: frames.iter().map(|one| frame(one, &place)).collect(),
        edges_left_out: left_out.len(),
    }
}

fn node(node: &Node) -> NodeJson<'_> {
    NodeJson { id: &node.id, kind: node.kind.as_str(), name: &node.name, namespace: node.namespace.as_deref() }
}

fn frame(frame: &film::Frame, place: &[Option<usize>]) -> Frame {
    let cell = |cell: &film::Cell| {
        Some(Cell {
            edge: place[cell.edge]?,
            health: cell.status.as_str(),
            requests_per_second: cell.rate,
            error_ratio: cell.error_ratio,
            latency_p95_ms: cell.p95_ms,
            bytes_per_second: cell.bytes_per_second,
        })
    };
    Frame {
        from: frame.from.to_string(),
        to: frame.to.to_string(),
        requests_per_second: frame.rate,
        error_ratio: frame.error_ratio,
        failed_edges: frame.failed_edges,
        edges: frame.cells.iter().filter_map(cell).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_begin_with_minutes_and_the_last_ends_with_the_range() {
        let at = |second: i64| Timestamp::from_millis(second * 1000);
        let check = |from: i64, to: i64, step: u64, expect: &[i64]| {
            let found = bounds((at(from), at(to)), Duration::from_secs(step));
            let seconds: Vec<i64> = found.iter().map(|at| at.as_millis() / 1000).collect();
            assert_eq!(seconds, expect);
        };
        check(65, 260, 60, &[60, 120, 180, 240, 260]);
        check(60, 180, 60, &[60, 120, 180]);
        check(60, 61, 300, &[60, 61]);
    }
}
