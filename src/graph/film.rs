//! The graph from step to step, in one pass: who everybody is is found once for the whole film, and each frame only adds up
//! what its edges did.
//!
//! In: sums of edges in each of some windows. Out: [`Film`]. Invariant: a frame has the edges, and of each the numbers and the
//! verdict, that the graph of that window has; names and ends are those of the graph of the whole time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::workload::Reporter;
use crate::model::{EdgeMinute, Timestamp};

use super::build::{Draft, Layer, RANKED, called_name, first_minute, or_unjudged, pairs};
use super::health::{self, Status, Tally, Thresholds};
use super::resolve::World;
use super::sum::{Traffic, edge_of, is_idle, reports_and_places};
use super::types::{GraphOptions, Node, NodeKind};

/// The graph from step to step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Film {
    /// Nodes of all frames, sorted by id.
    pub nodes: Vec<Node>,
    /// Edges of all frames, sorted by source, then target id.
    pub edges: Vec<FilmEdge>,
    /// What they did.
    pub frames: Vec<Frame>,
}

/// An edge of a film.
#[derive(Clone, Debug, PartialEq)]
pub struct FilmEdge {
    /// Stable id: source id, `>`, target id.
    pub id: Arc<str>,
    /// Id of the calling node.
    pub source: Arc<str>,
    /// Id of the called node.
    pub target: Arc<str>,
}

/// One window of a film.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Its start.
    pub from: Timestamp,
    /// Its end, exclusive.
    pub to: Timestamp,
    /// Requests per second over all edges.
    pub rate: f64,
    /// Errors per request over all edges; `None` without requests.
    pub error_ratio: Option<f64>,
    /// Edges that fail.
    pub failed_edges: usize,
    /// What each edge with traffic did, by rising place of the edge.
    pub cells: Vec<Cell>,
}

/// What one edge did in one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// Place of the edge in [`Film::edges`].
    pub edge: usize,
    /// Verdict.
    pub status: Status,
    /// Requests per second.
    pub rate: f64,
    /// Errors per request, injected faults left out; `None` without a request layer.
    pub error_ratio: Option<f64>,
    /// 95 % of the requests took at most so many milliseconds.
    pub p95_ms: Option<f64>,
    /// Bytes per second both ways, of the layer that counts.
    pub bytes_per_second: f64,
}

/// Makes the film of the windows between each two of `bounds`, which rise; of an empty window there is no frame.
pub fn film(minutes: &[EdgeMinute], bounds: &[Timestamp], options: &GraphOptions) -> Film {
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else { return Film::default() };
    let whole = GraphOptions { from: *first, to: *last, ..options.clone() };
    let (reports, places) = reports_and_places(minutes, first_minute(&whole), *last);
    let world = World::new(&reports, whole.view);
    let mut draft = Draft::new(&world, &whole);
    let mut cast = Cast { parts: Vec::new(), edges: Vec::new() };
    let mut numbers: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for ((source, destination, layer), members) in &pairs(&reports, &world) {
        let from = draft.node(source, None);
        let mut part = Part { layer: *layer, members: Vec::with_capacity(members.len()) };
        for (at, report) in members {
            let to = draft.node(destination, Some(&report.key.service));
            let edge = *numbers.entry((from, to)).or_insert_with(|| {
                cast.edges.push(Role { ends: (from, to), names: BTreeSet::new() });
                cast.edges.len() - 1
            });
            cast.edges[edge].names.extend(called_name(&report.key.service));
            part.members.push((*at, report.key.reporter, edge));
        }
        cast.parts.push(part);
    }
    let nodes = draft.nodes;
    let windows: Vec<(Timestamp, Timestamp)> =
        bounds.windows(2).map(|pair| (pair[0], pair[1])).filter(|(from, to)| from < to).collect();
    let mut by_frame: Vec<Vec<(usize, &EdgeMinute)>> = vec![Vec::new(); windows.len()];
    for minute in minutes {
        let frame = windows.partition_point(|(from, _)| *from <= minute.minute).wrapping_sub(1);
        if let (Some(own), Some(report)) = (by_frame.get_mut(frame), places.get(&edge_of(minute))) {
            own.push((*report, minute));
        }
    }
    let thresholds: Vec<&Thresholds> = cast.edges.iter().map(|role| role.thresholds(&nodes, options)).collect();
    let stage = Stage { cast: &cast, nodes: &nodes, thresholds: &thresholds, options };
    let frames = windows.iter().zip(by_frame).map(|(window, own)| stage.frame(*window, own, reports.len()));
    let frames: Vec<Frame> = frames.collect();
    in_order(nodes, &cast, frames)
}

/// Who takes part in the whole film.
struct Cast {
    parts: Vec<Part>,
    edges: Vec<Role>,
}

/// The reports of one pair of ends: of their reporters one counts.
struct Part {
    layer: Layer,
    /// Place of the report, whose it is, and the edge it is of.
    members: Vec<(usize, Reporter, usize)>,
}

struct Role {
    ends: (usize, usize),
    /// Services called over it.
    names: BTreeSet<Arc<str>>,
}

impl Role {
    fn thresholds<'o>(&self, nodes: &[Node], options: &'o GraphOptions) -> &'o Thresholds {
        let called = &nodes[self.ends.1];
        let names = self.names.iter().map(|name| &**name).chain([&*called.name]).chain(called.app.as_deref());
        options.health.of(called.namespace.as_deref(), names)
    }
}

/// What is the same in all frames.
struct Stage<'s> {
    cast: &'s Cast,
    nodes: &'s [Node],
    thresholds: &'s [&'s Thresholds],
    options: &'s GraphOptions,
}

/// What an edge did in a frame, by layer.
#[derive(Default)]
struct Sum<'a> {
    requests: Option<Traffic<'a>>,
    connections: Option<Traffic<'a>>,
}

impl Stage<'_> {
    fn frame<'a>(
        &self,
        (from, to): (Timestamp, Timestamp),
        mut own: Vec<(usize, &'a EdgeMinute)>,
        reports: usize,
    ) -> Frame {
        own.sort_by_key(|(report, _)| *report);
        // Where the sums of each report begin.
        let mut starts = vec![0; reports + 1];
        own.iter().for_each(|(report, _)| starts[report + 1] += 1);
        (0..reports).for_each(|report| starts[report + 1] += starts[report]);
        let of = |report: usize| &own[starts[report]..starts[report + 1]];
        let mut sums: Vec<Sum<'a>> = Vec::new();
        sums.resize_with(self.cast.edges.len(), Sum::default);
        let mut hops = false;
        for Part { layer, members } in &self.cast.parts {
            let there = || members.iter().filter(|(report, ..)| !of(*report).is_empty());
            hops |= there().any(|(_, reporter, _)| *reporter == Reporter::Waypoint);
            let is_busy = |report: usize| of(report).iter().any(|(_, minute)| !is_idle(minute));
            let has = |wanted: Reporter, busy: bool| {
                there().any(|(report, reporter, _)| *reporter == wanted && (!busy || is_busy(*report)))
            };
            let counting = RANKED.into_iter().find(|one| has(*one, true));
            let Some(counting) = counting.or_else(|| RANKED.into_iter().find(|one| has(*one, false))) else { continue };
            for (report, _, edge) in there().filter(|(_, reporter, _)| *reporter == counting) {
                let mut traffic = Traffic::default();
                of(*report).iter().for_each(|(_, minute)| traffic.add_minute(minute));
                let sum = &mut sums[*edge];
                let sum = if *layer == Layer::Requests { &mut sum.requests } else { &mut sum.connections };
                match sum {
                    Some(sum) => sum.add(&traffic),
                    None => *sum = Some(traffic),
                }
            }
        }
        let hide_hops = hops && !self.options.include_waypoints;
        let options = GraphOptions { from, to, ..self.options.clone() };
        let seconds = to.since(first_minute(&options)).as_secs_f64().max(0.001);
        let mut frame = Frame { from, to, ..Frame::default() };
        let mut all = Tally::default();
        for (edge, sum) in sums.iter().enumerate() {
            if let Some((cell, tally)) = self.cell(edge, sum, (hide_hops, seconds)) {
                all.merge(&tally);
                frame.rate += cell.rate;
                frame.failed_edges += usize::from(cell.status == Status::Failure);
                frame.cells.push(cell);
            }
        }
        frame.error_ratio = all.error_ratio();
        frame
    }

    fn cell(&self, edge: usize, sum: &Sum<'_>, (hide_hops, seconds): (bool, f64)) -> Option<(Cell, Tally)> {
        let Sum { requests, connections } = sum;
        let (from, to) = self.cast.edges[edge].ends;
        let is_hop = [from, to].iter().any(|node| self.nodes[*node].kind == NodeKind::Waypoint);
        if (requests.is_none() && connections.is_none()) || (is_hop && hide_hops && requests.is_none()) {
            return None;
        }
        let idle = [requests, connections].into_iter().flatten().all(Traffic::is_idle);
        if idle && !self.options.include_idle {
            return None;
        }
        let of_requests = requests.as_ref().map(|traffic| traffic.tally(self.options.hangups_are_errors));
        let mut tally = of_requests.unwrap_or_default();
        if let Some(connections) = connections {
            tally.merge(&connections.connection_tally());
        }
        let p95_ms = requests.as_ref().and_then(|traffic| traffic.latency.quantile(0.95));
        let bytes = |traffic: &Option<Traffic<'_>>| traffic.as_ref().map(|traffic| traffic.bytes() / seconds);
        let cell = Cell {
            edge,
            status: or_unjudged(health::judge(&tally, p95_ms, self.thresholds[edge]), !idle).status,
            rate: requests.as_ref().map_or(0.0, Traffic::requests) / seconds,
            error_ratio: of_requests.map(|tally| tally.error_ratio().unwrap_or(0.0)),
            p95_ms,
            bytes_per_second: bytes(requests).filter(|bytes| *bytes > 0.0).or(bytes(connections)).unwrap_or(0.0),
        };
        Some((cell, tally))
    }
}

/// The film with edges and nodes in the order of their ids, those only that are in some frame.
fn in_order(nodes: Vec<Node>, cast: &Cast, mut frames: Vec<Frame>) -> Film {
    let mut shown = vec![false; cast.edges.len()];
    frames.iter().flat_map(|frame| &frame.cells).for_each(|cell| shown[cell.edge] = true);
    let mut edges: Vec<(usize, FilmEdge)> = (cast.edges.iter().enumerate())
        .filter(|(at, _)| shown[*at])
        .map(|(at, Role { ends: (from, to), .. })| {
            let (source, target) = (Arc::clone(&nodes[*from].id), Arc::clone(&nodes[*to].id));
            (at, FilmEdge { id: format!("{source}>{target}").into(), source, target })
        })
        .collect();
    edges.sort_by(|(_, a), (_, b)| (&a.source, &a.target).cmp(&(&b.source, &b.target)));
    let mut place = vec![0; cast.edges.len()];
    edges.iter().enumerate().for_each(|(at, (edge, _))| place[*edge] = at);
    for frame in &mut frames {
        frame.cells.iter_mut().for_each(|cell| cell.edge = place[cell.edge]);
        frame.cells.sort_unstable_by_key(|cell| cell.edge);
    }
    let ends: BTreeSet<&Arc<str>> = edges.iter().flat_map(|(_, edge)| [&edge.source, &edge.target]).collect();
    let mut nodes: Vec<Node> = nodes.into_iter().filter(|node| ends.contains(&node.id)).collect();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    Film { nodes, edges: edges.into_iter().map(|(_, edge)| edge).collect(), frames }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{answered, calls};
    use crate::graph::{View, build};
    use crate::model::workload::{EdgeKey, Protocol, Service, Workload};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(1_763_834_400_000 + minute * 60_000)
    }

    fn workload(name: &str) -> Workload {
        Workload {
            namespace: Some("shop".into()),
            name: Some(name.into()),
            app: Some(name.split('-').next().unwrap_or(name).into()),
            ..Workload::default()
        }
    }

    /// Both sides of some calls, one of TCP, through a waypoint, two versions of one app, each with gaps and a failure.
    fn sums() -> Vec<EdgeMinute> {
        let key = |source: &str, called: &str, reporter: Reporter| EdgeKey {
            reporter,
            service: Service { name: Some(called.into()), namespace: Some("shop".into()), host: None },
            ..calls(workload(source), workload(called))
        };
        let mut keys = vec![
            key("web", "cart-v1", Reporter::Source),
            key("web", "cart-v1", Reporter::Destination),
            key("web", "cart-v2", Reporter::Destination),
            key("cart-v1", "stock", Reporter::Source),
            key("cart-v1", "waypoint", Reporter::Source),
            key("cart-v2", "stock", Reporter::Waypoint),
        ];
        keys.push(EdgeKey { protocol: Protocol::Tcp, ..key("stock", "postgres", Reporter::Source) });
        let mut sums = Vec::new();
        for (minute, (n, key)) in (0..6).flat_map(|minute| keys.iter().enumerate().map(move |key| (minute, key))) {
            if !(minute as usize + n).is_multiple_of(4) {
                let failed = if n == 3 && minute >= 4 { 40.0 } else { 0.0 };
                let outcome = if key.protocol == Protocol::Tcp { "" } else { "200" };
                sums.push(answered(at(minute), key.clone(), &[(outcome, 60.0 + n as f64), ("503", failed)]));
            }
        }
        sums
    }

    #[test]
    fn each_frame_says_what_the_graph_of_its_window_says() {
        let sums = sums();
        for view in [View::Workload, View::App, View::VersionedApp] {
            let options = GraphOptions { view, ..GraphOptions::new(at(0), at(6)) };
            let film = film(&sums, &[at(0), at(2), at(2), at(3), at(6)], &options);
            assert_eq!(film.frames.iter().map(|frame| frame.to).collect::<Vec<_>>(), [at(2), at(3), at(6)]);
            for frame in &film.frames {
                let own = sums.iter().filter(|sum| sum.minute >= frame.from && sum.minute < frame.to);
                let graph = build(own, &GraphOptions { from: frame.from, to: frame.to, ..options.clone() });
                let expect: Vec<(&str, Status, f64, Option<f64>, f64)> = (graph.edges.iter())
                    .map(|edge| {
                        let errors = edge.requests.as_ref().map(|requests| requests.error_ratio);
                        (&*edge.id, edge.health.status, edge.rate(), errors, edge.bytes_per_second())
                    })
                    .collect();
                let found: Vec<(&str, Status, f64, Option<f64>, f64)> = (frame.cells.iter())
                    .map(|cell| {
                        (&*film.edges[cell.edge].id, cell.status, cell.rate, cell.error_ratio, cell.bytes_per_second)
                    })
                    .collect();
                assert_eq!(found, expect, "{view:?} {}", frame.from);
                assert!((frame.rate - graph.totals.rate).abs() < 1e-9);
                assert_eq!(frame.failed_edges, graph.totals.failed_edges);
                assert_eq!(frame.error_ratio.is_some(), graph.totals.error_ratio.is_some());
            }
            let whole = build(&sums, &options);
            let ids = |nodes: &[Node]| nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>();
            assert_eq!(ids(&film.nodes), ids(&whole.nodes), "{view:?}");
        }
        // A caller goes by the service that it answers for, which one window alone may not tell.
        let options = GraphOptions { view: View::Service, ..GraphOptions::new(at(0), at(6)) };
        let (shown, whole) = (film(&sums, &[at(0), at(3), at(6)], &options), build(&sums, &options));
        let shown: Vec<&str> = shown.edges.iter().map(|edge| &*edge.id).collect();
        assert_eq!(shown, whole.edges.iter().map(|edge| &*edge.id).collect::<Vec<_>>());
        assert_eq!(film(&sums, &[], &GraphOptions::new(at(0), at(6))), Film::default());
    }
}
