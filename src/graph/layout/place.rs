//! Coordinates: ranks become columns, slots of a rank are pulled level with their neighbours.
//!
//! In: ordered ranks. Out: boxes and paths of one part. Invariant: slots of a rank keep their order and distances.

use super::rank::{NO_GROUP, Ranked, Walk};
use super::{Component, Options, Placed, Point, Vertex};

const PASSES: usize = 8;
const BEND_HEIGHT: f64 = 6.0;
/// How far an edge of a node to itself rises above it; less than half of any gap between rows.
pub(super) const LOOP_HEIGHT: f64 = 6.0;
/// Straight long edges read best, so bends pull harder than nodes.
const BEND_WEIGHT: f64 = 3.0;

/// Places a part.
pub(super) fn place(ranked: &Ranked, part: &Component, vertices: &[Vertex], options: &Options) -> Placed {
    let height = |slot: usize| ranked.slots[slot].vertex.map_or(BEND_HEIGHT, |vertex| vertices[vertex].height);
    let y = centres(ranked, &height, options);
    let (columns, width) = columns(ranked, vertices, options);
    let mut rank_of = vec![0; ranked.slots.len()];
    for (at, rank) in ranked.ranks.iter().enumerate() {
        rank.iter().for_each(|slot| rank_of[*slot] = at);
    }
    let mut placed = Placed { width, ..Placed::default() };
    let mut centre = vec![Point::default(); ranked.slots.len()];
    for slot in 0..ranked.slots.len() {
        let (left, column_width) = columns[rank_of[slot]];
        centre[slot] = Point { x: left + column_width / 2.0, y: y[slot] };
        placed.height = placed.height.max(y[slot] + height(slot) / 2.0);
        if let Some(vertex) = ranked.slots[slot].vertex {
            let size = &vertices[vertex];
            let corner = Point { x: centre[slot].x - size.width / 2.0, y: y[slot] - size.height / 2.0 };
            placed.boxes.push((vertex, corner));
        }
    }
    let half = |slot: usize| ranked.slots[slot].vertex.map_or(0.0, |vertex| vertices[vertex].width / 2.0);
    let ports = ports(ranked, &centre, &height);
    for (walk, (start, end)) in ranked.walks.iter().zip(ports) {
        let (first, last) = (walk.slots[0], walk.slots[walk.slots.len() - 1]);
        let mut points = vec![Point { x: centre[first].x + half(first), y: centre[first].y + start }];
        for slot in &walk.slots[1..walk.slots.len() - 1] {
            // Level across the whole column, so that a bend never cuts the corner of a node.
            let (left, column_width) = columns[rank_of[*slot]];
            points.extend([left, left + column_width].map(|x| Point { x, y: y[*slot] }));
        }
        // Within a column it ends on the side where it began.
        let side = if rank_of[first] == rank_of[last] { half(last) } else { -half(last) };
        points.push(Point { x: centre[last].x + side, y: centre[last].y + end });
        if walk.reversed {
            points.reverse();
        }
        placed.paths.push((walk.edge, points));
    }
    for (edge, slot) in &ranked.loops {
        let (Point { x, y }, reach, up) = (centre[*slot], half(*slot), vertices[part.vertices[*slot]].height / 2.0);
        let points = [(x + reach - 28.0, y - up), (x + reach - 14.0, y - up - LOOP_HEIGHT), (x + reach - 2.0, y - up)];
        placed.paths.push((*edge, points.map(|(x, y)| Point { x, y }).to_vec()));
    }
    placed
}

/// Left edge and width of each column, and the width of all.
fn columns(ranked: &Ranked, vertices: &[Vertex], options: &Options) -> (Vec<(f64, f64)>, f64) {
    let (mut x, mut columns) = (0.0, Vec::with_capacity(ranked.ranks.len()));
    for rank in &ranked.ranks {
        let widths = rank.iter().filter_map(|slot| ranked.slots[*slot].vertex).map(|vertex| vertices[vertex].width);
        let width = widths.fold(0.0, f64::max);
        columns.push((x, width));
        // Many links need room to be told apart.
        let links: usize = rank.iter().map(|slot| ranked.slots[*slot].right.len()).sum();
        x += width + options.rank_gap + (links as f64 * 0.5).min(options.rank_gap);
    }
    let width = columns.last().map_or(0.0, |(left, width)| left + width);
    (columns, width)
}

/// The y of each slot's centre.
fn centres(ranked: &Ranked, height: &impl Fn(usize) -> f64, options: &Options) -> Vec<f64> {
    let gaps: Vec<Vec<f64>> = ranked
        .ranks
        .iter()
        .map(|rank| {
            rank.windows(2)
                .map(|pair| {
                    let groups = [ranked.slots[pair[0]].group, ranked.slots[pair[1]].group];
                    let apart = groups[0] != groups[1] && !groups.contains(&NO_GROUP);
                    let gap = if groups.contains(&NO_GROUP) { options.row_gap / 2.0 } else { options.row_gap };
                    let more = if apart { options.namespace_gap } else { 0.0 };
                    (height(pair[0]) + height(pair[1])) / 2.0 + gap + more
                })
                .collect()
        })
        .collect();
    let mut y = vec![0.0; ranked.slots.len()];
    for (rank, gaps) in ranked.ranks.iter().zip(&gaps) {
        let mut at = -gaps.iter().sum::<f64>() / 2.0;
        for (i, slot) in rank.iter().enumerate() {
            y[*slot] = at;
            at += gaps.get(i).copied().unwrap_or(0.0);
        }
    }
    for pass in 0..PASSES {
        let depth = ranked.ranks.len();
        for step in 0..depth {
            let at = if pass % 2 == 0 { step } else { depth - 1 - step };
            level_rank(ranked, at, &gaps[at], &mut y, pass);
        }
    }
    let room = if ranked.loops.is_empty() { 0.0 } else { LOOP_HEIGHT };
    let top = (0..y.len()).map(|slot| y[slot] - height(slot) / 2.0).fold(f64::INFINITY, f64::min);
    y.iter_mut().for_each(|y| *y += room - top);
    y
}

/// Moves a rank's slots as near to their neighbours' level as order and distances allow: least squares by pooling
/// adjacent violators.
fn level_rank(ranked: &Ranked, at: usize, gaps: &[f64], y: &mut [f64], pass: usize) {
    // Blocks of slots that touch: sum of weighted wishes, weight, members.
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    let mut offset = 0.0;
    for (i, slot) in ranked.ranks[at].iter().enumerate() {
        let links = &ranked.slots[*slot];
        let sides: &[&Vec<usize>] = match pass {
            p if p >= PASSES - 2 => &[&links.left, &links.right],
            p if p % 2 == 0 => &[&links.left],
            _ => &[&links.right],
        };
        let (mut sum, mut count) = (0.0, 0.0);
        for link in sides.iter().copied().flatten() {
            (sum, count) = (sum + y[*link], count + 1.0);
        }
        let wish = if count > 0.0 { sum / count } else { y[*slot] } - offset;
        let weight = if links.vertex.is_none() { BEND_WEIGHT } else { 1.0 };
        blocks.push((wish * weight, weight, 1));
        while let [.., before, last] = blocks.as_slice()
            && before.0 / before.1 > last.0 / last.1
        {
            let merged = (before.0 + last.0, before.1 + last.1, before.2 + last.2);
            blocks.truncate(blocks.len() - 2);
            blocks.push(merged);
        }
        offset += gaps.get(i).copied().unwrap_or(0.0);
    }
    let (mut slots, mut offset, mut i) = (ranked.ranks[at].iter(), 0.0, 0);
    for (sum, weight, members) in blocks {
        for slot in slots.by_ref().take(members) {
            y[*slot] = sum / weight + offset;
            offset += gaps.get(i).copied().unwrap_or(0.0);
            i += 1;
        }
    }
}

/// Where on the side of its box each walk starts and ends, from the centre, so that links do not share a point.
fn ports(ranked: &Ranked, centre: &[Point], height: &impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
    let mut ports = vec![(0.0, 0.0); ranked.walks.len()];
    for at_end in [false, true] {
        // Walks by the box side they touch, in the order of where they come from or go to.
        let mut touching: Vec<(usize, f64, usize)> = ranked
            .walks
            .iter()
            .enumerate()
            .map(|(w, Walk { slots, .. })| {
                let (own, next) =
                    if at_end { (slots[slots.len() - 1], slots[slots.len() - 2]) } else { (slots[0], slots[1]) };
                (own, centre[next].y, w)
            })
            .collect();
        touching.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)).then_with(|| a.2.cmp(&b.2)));
        for side in touching.chunk_by(|a, b| a.0 == b.0) {
            let apart = (height(side[0].0) / (side.len() as f64 + 1.0)).min(8.0);
            for (i, (_, _, walk)) in side.iter().enumerate() {
                let offset = (i as f64 - (side.len() as f64 - 1.0) / 2.0) * apart;
                if at_end { ports[*walk].1 = offset } else { ports[*walk].0 = offset }
            }
        }
    }
    ports
}
