//! The path of an edge as SVG, in as few characters as it takes.
//!
//! In: the points of an edge. Out: path data for the attribute `d`. Most of a large page is such paths: steps from point to
//! point instead of places, level pieces as one number, and no digit that no screen shows.
//!
//! Path data: SVG 2, chapter 9, <https://www.w3.org/TR/SVG2/paths.html#PathData>.

use crate::graph::layout::{EdgePath, Point};

/// How finely places are told: parts of a pixel of the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// Tenths, where one pixel of the drawing is about one of the screen.
    Tenth,
    /// Whole pixels, in a drawing that is seen at a fraction of its size.
    Whole,
}

/// A place or a step, in grains.
type Grains = (i64, i64);

impl Grain {
    fn parts(self) -> f64 {
        match self {
            Self::Tenth => 10.0,
            Self::Whole => 1.0,
        }
    }

    fn of(self, point: Point) -> Grains {
        let grains = |number: f64| (number * self.parts()).round() as i64;
        (grains(point.x), grains(point.y))
    }

    /// Appends numbers; a minus sign separates as well as a space does.
    fn write(self, to: &mut String, numbers: &[i64]) {
        for (at, number) in numbers.iter().enumerate() {
            if at > 0 && *number >= 0 {
                to.push(' ');
            }
            to.push_str(&(*number as f64 / self.parts()).to_string());
        }
    }
}

/// The path data of an edge; empty for one without points. Steps lead between rounded places, so nothing adds up.
pub(super) fn data(path: &EdgePath, grain: Grain) -> String {
    let Some(first) = path.points.first() else { return String::new() };
    let mut at = grain.of(*first);
    let mut data = String::from("M");
    grain.write(&mut data, &[at.0, at.1]);
    for [a, b, end] in path.curves().map(|piece| piece.map(|point| grain.of(point))) {
        let is_level =
            a.1 == at.1 && b.1 == at.1 && end.1 == at.1 && (at.0.min(end.0)..=at.0.max(end.0)).contains(&a.0);
        if is_level {
            data.push('h');
            grain.write(&mut data, &[end.0 - at.0]);
        } else {
            data.push('c');
            let steps = [a, b, end].map(|place| [place.0 - at.0, place.1 - at.1]);
            grain.write(&mut data, steps.as_flattened());
        }
        at = end;
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(points: &[(f64, f64)], grain: Grain, expected: &str) {
        let points = points.iter().map(|(x, y)| Point { x: *x, y: *y }).collect();
        assert_eq!(data(&EdgePath { id: "a>b".into(), points }, grain), expected);
    }

    #[test]
    fn steps_lead_from_point_to_point() {
        check(&[], Grain::Tenth, "");
        check(&[(1.0, 2.0)], Grain::Tenth, "M1 2");
        check(&[(0.0, 10.0), (100.0, 60.0)], Grain::Whole, "M0 10c50 0 50 50 100 50");
        check(&[(0.0, 60.0), (100.0, 10.0)], Grain::Whole, "M0 60c50 0 50-50 100-50");
        check(&[(0.26, 10.0), (100.0, 10.04), (200.0, 60.0)], Grain::Tenth, "M0.3 10h99.7c50 0 50 50 100 50");
        check(&[(0.5, 0.5), (-100.0, 0.5)], Grain::Whole, "M1 1h-101");
    }

    #[test]
    fn rounding_does_not_add_up_along_a_path() {
        let points: Vec<(f64, f64)> = (0..100).map(|n| (f64::from(n) * 10.4, f64::from(n % 2) * 3.3)).collect();
        let points: Vec<Point> = points.iter().map(|(x, y)| Point { x: *x, y: *y }).collect();
        let text = data(&EdgePath { id: "a>b".into(), points }, Grain::Whole);
        let spaced = text.replace('-', " -").replace(['M', 'h', 'c'], " c ");
        let ends = spaced.split(" c ").skip(2).filter_map(|piece| {
            let numbers: Vec<i64> = piece.split_whitespace().filter_map(|one| one.parse().ok()).collect();
            numbers.get(numbers.len().checked_sub(2)?).copied()
        });
        assert_eq!(ends.sum::<i64>(), 1030, "99 times 10.4, rounded once: {text}");
    }
}
