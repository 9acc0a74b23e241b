//! `graph/replay`: the graph as it was from step to step, as frames of one film.
//!
//! In: a range and a step. Out: the nodes and edges of all frames once, and for each frame what each edge did.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Look, Range, range};
use crate::api::State;
use crate::api::error::ApiError;
use crate::api::mesh::operation::{Answer, Outcome};
use crate::api::mesh::query::{Period, Time};
use crate::graph::{self, Edge, ServiceGraph};
use crate::model::{EdgeMinute, Timestamp};

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
pub(in crate::api::mesh) struct Film {
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
    nodes: Vec<NodeJson>,
    /// Edges of all frames.
    edges: Vec<EdgeJson>,
    /// What they did, frame by frame.
    frames: Vec<Frame>,
    /// Quieter edges of a large film, not shown.
    edges_left_out: usize,
}

/// A node of a film.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FilmNode")]
struct NodeJson {
    /// Stable name.
    id: String,
    /// What it is.
    kind: &'static str,
    /// What to call it.
    name: String,
    /// Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

/// An edge of a film.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FilmEdge")]
struct EdgeJson {
    /// Stable name.
    id: String,
    /// Id of the caller.
    source: String,
    /// Id of the called.
    target: String,
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
pub(in crate::api::mesh) async fn replay(state: State, (which, other, look): (Which, Range, Look)) -> Outcome<Film> {
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
        let frames = frames(&read.edges, &read.bounds, &options);
        Answer::with(film(&frames, &asked, step_of(&read.bounds)), &read.warning.into_iter().collect::<Vec<_>>())
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

/// The graph of each frame; where a frame has no length, none.
fn frames(
    edges: &[EdgeMinute],
    bounds: &[Timestamp],
    options: &graph::GraphOptions,
) -> Vec<(Timestamp, Timestamp, ServiceGraph)> {
    let mut by_frame: BTreeMap<usize, Vec<EdgeMinute>> = BTreeMap::new();
    for edge in edges {
        let frame = bounds.partition_point(|bound| *bound <= edge.minute).saturating_sub(1);
        by_frame.entry(frame).or_default().push(edge.clone());
    }
    let pairs = bounds.windows(2).enumerate().filter(|(_, pair)| pair[0] < pair[1]);
    let built = pairs.map(|(frame, pair)| {
        let own = by_frame.remove(&frame).unwrap_or_default();
        let options = graph::GraphOptions { from: pair[0], to: pair[1], ..options.clone() };
        (pair[0], pair[1], graph::build(&own, &options))
    });
    built.collect()
}

fn film(frames: &[(Timestamp, Timestamp, ServiceGraph)], asked: &Asked, step: Duration) -> Film {
    let mut requests: HashMap<&Arc<str>, (&Edge, f64)> = HashMap::new();
    for edge in frames.iter().flat_map(|(.., graph)| &graph.edges) {
        requests.entry(&edge.id).or_insert((edge, 0.0)).1 += edge.rate() + edge.bytes_per_second() / 1e9;
    }
    let mut edges: Vec<(&Edge, f64)> = requests.into_values().collect();
    edges.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.id.cmp(&b.0.id)));
    let most = CELLS_MAX / frames.len().max(1);
    let edges_left_out = edges.len().saturating_sub(most);
    edges.truncate(most);
    edges.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    let place: HashMap<&str, usize> = edges.iter().enumerate().map(|(at, (edge, _))| (&*edge.id, at)).collect();
    let mut nodes: BTreeMap<&str, NodeJson> = BTreeMap::new();
    for (.., graph) in frames {
        for node in &graph.nodes {
            nodes.entry(&node.id).or_insert_with(|| NodeJson {
                id: node.id.to_string(),
                kind: node.kind.as_str(),
                name: node.name.to_string(),
                namespace: node.namespace.as_deref().map(str::to_owned),
            });
        }
    }
    Film {
        from: frames.first().map(|(from, ..)| from.to_string()).unwrap_or_default(),
        to: frames.last().map(|(_, to, _)| to.to_string()).unwrap_or_default(),
        step_seconds: step.as_secs(),
        view: asked.view.as_str(),
        nodes: nodes.into_values().collect(),
        edges: edges
            .iter()
            .map(|(edge, _)| EdgeJson {
                id: edge.id.to_string(),
                source: edge.source.to_string(),
                target: edge.target.to_string(),
            })
            .collect(),
        frames: frames.iter().map(|(from, to, graph)| frame((*from, *to), graph, &place)).collect(),
        edges_left_out,
    }
}

fn frame((from, to): (Timestamp, Timestamp), graph: &ServiceGraph, place: &HashMap<&str, usize>) -> Frame {
    let cell = |edge: &Edge| {
        Some(Cell {
            edge: *place.get(&*edge.id)?,
            health: edge.health.status.as_str(),
            requests_per_second: edge.rate(),
            error_ratio: edge.requests.as_ref().map(|requests| requests.error_ratio),
            latency_p95_ms: edge.requests.as_ref().and_then(|requests| requests.latency.p95_ms),
            bytes_per_second: edge.bytes_per_second(),
        })
    };
    Frame {
        from: from.to_string(),
        to: to.to_string(),
        requests_per_second: graph.totals.rate,
        error_ratio: graph.totals.error_ratio,
        failed_edges: graph.totals.failed_edges,
        edges: graph.edges.iter().filter_map(cell).collect(),
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
