//! Where the numbers of an edge stand: on its curve, clear of boxes and of other edges' numbers where there is room.
//!
//! In: a path, a text, what is taken. Out: a spot. Invariant: the same graph gives the same spots.

use crate::graph::layout::{EdgePath, Point};

/// Width of a character of the numbers, and the height of their line, in the drawing's pixels.
const CHARACTER: f64 = 6.1;
const LINE: f64 = 15.0;
/// Where along the path to try, the middle first.
const TRIES: [f64; 9] = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.2, 0.8];

/// The middle of a text's base line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::web) struct Spot {
    pub(in crate::web) x: f64,
    pub(in crate::web) y: f64,
}

/// A rectangle that is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    pub(super) fn new(x: f64, y: f64, width: f64, height: f64) -> Self {
        Self { left: x, top: y, right: x + width, bottom: y + height }
    }

    /// The area both cover.
    fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }
}

/// Finds the spot that covers least, and takes it. `None` for a path without a line.
pub(super) fn place(path: &EdgePath, text: &str, taken: &mut Vec<Area>) -> Option<Spot> {
    let width = text.chars().count() as f64 * CHARACTER;
    let mut best: Option<(f64, Point, Area)> = None;
    for part in TRIES {
        let at = point_at(path, part)?;
        let area = Area::new(at.x - width / 2.0, at.y - LINE / 2.0, width, LINE);
        let covered: f64 = taken.iter().map(|other| area.overlap(other)).sum();
        if best.as_ref().is_none_or(|(least, ..)| covered < *least) {
            best = Some((covered, at, area));
        }
        if covered == 0.0 {
            break;
        }
    }
    let (_, at, area) = best?;
    taken.push(area);
    Some(Spot { x: (at.x * 10.0).round() / 10.0, y: (at.y * 10.0 + 40.0).round() / 10.0 })
}

/// The point after `part` (0 to 1) of the path, by its extent from left to right.
fn point_at(path: &EdgePath, part: f64) -> Option<Point> {
    let starts = path.points.iter();
    let pieces: Vec<(Point, [Point; 3])> = starts.copied().zip(path.curves()).collect();
    let reach = |(start, [_, _, end]): &(Point, [Point; 3])| (end.x - start.x).abs() + (end.y - start.y).abs();
    let mut left = pieces.iter().map(reach).sum::<f64>() * part;
    for piece in &pieces {
        let length = reach(piece);
        if left <= length && length > 0.0 {
            return Some(on_curve(piece.0, piece.1, left / length));
        }
        left -= length;
    }
    pieces.last().map(|(_, [_, _, end])| *end)
}

/// A point of a cubic Bézier curve.
fn on_curve(start: Point, [a, b, end]: [Point; 3], t: f64) -> Point {
    let u = 1.0 - t;
    let mix = |p0: f64, p1: f64, p2: f64, p3: f64| {
        u * u * u * p0 + 3.0 * u * u * t * p1 + 3.0 * u * t * t * p2 + t * t * t * p3
    };
    Point { x: mix(start.x, a.x, b.x, end.x), y: mix(start.y, a.y, b.y, end.y) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn path(points: &[(f64, f64)]) -> EdgePath {
        EdgePath { id: "e".into(), points: points.iter().map(|(x, y)| Point { x: *x, y: *y }).collect() }
    }

    #[test]
    fn numbers_of_crossing_edges_do_not_cover_each_other() {
        let (down, up) = (path(&[(0.0, 0.0), (400.0, 100.0)]), path(&[(0.0, 100.0), (400.0, 0.0)]));
        let mut taken = Vec::new();
        let first = place(&down, "12.3/s · 45 ms", &mut taken).unwrap();
        assert_eq!(first, Spot { x: 200.0, y: 54.0 });
        place(&up, "12.3/s · 45 ms", &mut taken).unwrap();
        assert_eq!(taken[0].overlap(&taken[1]), 0.0);
        assert_eq!(place(&path(&[]), "1/s", &mut taken), None);
    }
}
