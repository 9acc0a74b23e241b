//! Compares what a test expects with what came out, and says the difference readably.
//!
//! In: expected and actual alerts or samples. Out: nothing when they agree, else a text. Pure.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::gotemplate::shortest;
use crate::model::Labels;

/// What people are told of one alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// Its labels.
    pub labels: Pairs,
    /// Its texts.
    pub annotations: Pairs,
}

/// Names and values, of which a value may be empty, unlike in [`Labels`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pairs(BTreeMap<String, String>);

impl Pairs {
    /// Those of labels.
    pub fn of(labels: &Labels) -> Self {
        Self(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// One for each name, empty where the labels lack it, and those of the labels.
    pub fn named(names: &[&str], labels: &Labels) -> Self {
        let mut all = Self::of(labels);
        for name in names {
            all.0.entry((*name).to_owned()).or_default();
        }
        all
    }

    /// The same with one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl From<&BTreeMap<String, String>> for Pairs {
    fn from(pairs: &BTreeMap<String, String>) -> Self {
        Self(pairs.clone())
    }
}

impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{{{}}}", shown.join(", "))
    }
}

/// The difference between two sets of alerts, if there is one.
pub fn alerts(mut expected: Vec<Told>, mut got: Vec<Told>) -> Option<String> {
    expected.sort();
    got.sort();
    if expected == got {
        return None;
    }
    let mut text = format!("        exp:{}\n        got:{}\n        difference:", listed(&expected), listed(&got));
    let (missing, unexpected) = (without(&expected, &got), without(&got, &expected));
    for alert in &missing {
        match unexpected.iter().find(|other| other.labels == alert.labels) {
            Some(other) => {
                let _ = write!(text, "\n          {} has other annotations:", alert.labels);
                pairs(&mut text, &alert.annotations, &other.annotations);
            }
            None if missing.len() == 1 && unexpected.len() == 1 => {
                text.push_str("\n          the alert has other labels:");
                pairs(&mut text, &alert.labels, &unexpected[0].labels);
                pairs(&mut text, &alert.annotations, &unexpected[0].annotations);
            }
            None => {
                let _ = write!(text, "\n          - does not fire: {}", alert.labels);
            }
        }
    }
    let explained = missing.len() == 1 && unexpected.len() == 1;
    for alert in unexpected.iter().filter(|a| !explained && !missing.iter().any(|m| m.labels == a.labels)) {
        let _ = write!(text, "\n          + fires, but is not expected: {}", alert.labels);
    }
    Some(text)
}

/// Items of `of` that are not in `other`, each counted.
fn without<T: PartialEq + Clone>(of: &[T], other: &[T]) -> Vec<T> {
    let mut rest: Vec<&T> = other.iter().collect();
    let mut left = Vec::new();
    for item in of {
        match rest.iter().position(|candidate| *candidate == item) {
            Some(at) => {
                rest.swap_remove(at);
            }
            None => left.push(item.clone()),
        }
    }
    left
}

fn listed(alerts: &[Told]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut text = String::from("[");
    for (i, Told { labels, annotations }) in alerts.iter().enumerate() {
        let comma = if i + 1 < alerts.len() { "," } else { "" };
        let _ = write!(
            text,
            "\n            {i}:\n              Labels:{labels}\n              Annotations:{annotations}{comma}"
        );
    }
    text + "\n            ]"
}

fn pairs(text: &mut String, Pairs(expected): &Pairs, Pairs(got): &Pairs) {
    for (name, value) in expected.iter().filter(|(name, value)| got.get(*name) != Some(value)) {
        let _ = write!(text, "\n            - {name}: {value:?}");
        if let Some(other) = got.get(name) {
            let _ = write!(text, "\n            + {name}: {other:?}");
        }
    }
    for (name, value) in got.iter().filter(|(name, _)| !expected.contains_key(*name)) {
        let _ = write!(text, "\n            + {name}: {value:?}");
    }
}

/// The difference between two instant vectors, if there is one. `fuzzy`: neighbouring floats count as equal.
pub fn samples(mut expected: Vec<(Labels, f64)>, mut got: Vec<(Labels, f64)>, fuzzy: bool) -> Option<String> {
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    got.sort_by(|a, b| a.0.cmp(&b.0));
    let alike = |(a, b): (&(Labels, f64), &(Labels, f64))| a.0 == b.0 && equal(a.1, b.1, fuzzy);
    if expected.len() == got.len() && expected.iter().zip(&got).all(alike) {
        return None;
    }
    Some(format!("        exp: {}\n        got: {}", listed_samples(&expected), listed_samples(&got)))
}

fn listed_samples(samples: &[(Labels, f64)]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let texts: Vec<String> = samples.iter().map(|(labels, value)| format!("{labels} {}", shortest(*value))).collect();
    texts.join(", ")
}

/// As promtool: NaN equals nothing.
fn equal(a: f64, b: f64, fuzzy: bool) -> bool {
    a == b || (fuzzy && (a.next_down() == b || a.next_up() == b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Told {
        let set = |pairs: &[(&str, &str)]| Pairs::of(&Labels::from_pairs(pairs.iter().copied()));
        Told { labels: set(labels), annotations: set(annotations) }
    }

    #[test]
    fn an_annotation_may_be_empty_and_a_label_may_not() {
        let got = |alert: Told| {
            alerts(
                vec![alert],
                vec![Told { annotations: Pairs::named(&["x"], &Labels::empty()), ..told(&[("a", "1")], &[]) }],
            )
        };
        let empty = || Pairs::default().with("x", "");
        assert_eq!(got(Told { annotations: empty(), ..told(&[("a", "1")], &[]) }), None);
        let text = got(told(&[("a", "1")], &[])).expect("a difference");
        assert!(text.contains("Annotations:{x=\"\"}") && text.contains("+ x: \"\""), "{text}");
        let text = got(Told { annotations: empty(), labels: Pairs::default().with("a", "1").with("x", "") });
        assert!(text.is_some_and(|text| text.contains("- x: \"\"")));
    }

    #[test]
    fn says_what_differs() {
        let [a, b] = [told(&[("a", "1")], &[("s", "x")]), told(&[("b", "1")], &[])];
        assert_eq!(alerts(vec![a.clone(), b.clone()], vec![b.clone(), a.clone()]), None);
        let other = told(&[("a", "1")], &[("s", "y")]);
        let text = alerts(vec![a.clone()], vec![other]).expect("a difference");
        assert!(text.contains("- s: \"x\"") && text.contains("+ s: \"y\""), "{text}");
        let text = alerts(vec![a.clone()], vec![]).expect("a difference");
        assert!(text.contains("- does not fire: {a=\"1\"}"), "{text}");
        let text = alerts(vec![], vec![a, b]).expect("a difference");
        assert!(text.contains("+ fires, but is not expected: {b=\"1\"}"), "{text}");
    }

    #[test]
    fn compares_values_exactly_or_to_the_neighbour() {
        let one = |v: f64| vec![(Labels::empty(), v)];
        assert_eq!(samples(one(3.0), one(3.0), false), None);
        assert!(samples(one(3.0), one(3.000_000_000_000_000_4), false).is_some());
        assert_eq!(samples(one(3.0), one(3.000_000_000_000_000_4), true), None);
        assert!(samples(one(3.0), one(3.000_000_000_000_001_3), true).is_some());
        assert!(samples(one(f64::NAN), one(f64::NAN), true).is_some());
    }
}
