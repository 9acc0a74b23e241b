//! The orders in which Alertmanager lists alerts and groups.

use std::cmp::Ordering;

use crate::model::Labels;

/// Alerts of a group: by job, by instance, those without come last; then by all labels (`types.AlertSlice`).
pub(super) fn alerts(a: &Labels, b: &Labels) -> Ordering {
    let by = |name: &str| match (a.get(name), b.get(name)) {
        (Some(a), Some(b)) => a.cmp(b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    by("job").then_with(|| by("instance")).then_with(|| labels(a, b))
}

/// Label sets: the shorter first; at the first name that only one of them has, the one without (`LabelSet.Before`).
pub(super) fn labels(a: &Labels, b: &Labels) -> Ordering {
    let by_pairs = || {
        let (mut a, mut b) = (a.iter(), b.iter());
        loop {
            match (a.next(), b.next()) {
                (Some((name, value)), Some((other, its))) if name == other => match value.cmp(its) {
                    Ordering::Equal => {}
                    different => return different,
                },
                // The smaller name is the one that the other set lacks.
                (Some((name, _)), Some((other, _))) => return other.cmp(name),
                (a, b) => return a.is_some().cmp(&b.is_some()),
            }
        }
    };
    a.len().cmp(&b.len()).then_with(by_pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_as_alertmanager_was_seen_to() {
        let labels_of = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Labels>();
        let mut sets = [
            labels_of(&[("a", "b")]),
            labels_of(&[("a b", "ü")]),
            labels_of(&[("good", "1")]),
            labels_of(&[("a", "a")]),
            labels_of(&[("job", "z"), ("x", "1")]),
            labels_of(&[("job", "y"), ("x", "1"), ("y", "1")]),
        ];
        sets.sort_by(alerts);
        let texts: Vec<String> = sets.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"{job="y", x="1", y="1"}"#,
                r#"{job="z", x="1"}"#,
                r#"{good="1"}"#,
                r#"{a b="ü"}"#,
                r#"{a="a"}"#,
                r#"{a="b"}"#
            ]
        );
    }
}
