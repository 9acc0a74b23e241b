//! Which labels of a metric are stored: `storage.keep_labels` and `storage.drop_labels`.
//!
//! In: patterns of metric names with label names. Out: whether a label of a metric is kept. Pure. Invariant: what makes
//! a series what it is (`__name__`, `le`, `quantile`) is never dropped. Who merges the series that become equal is not
//! known here.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::METRIC_NAME;

/// Labels without which a sample means something else.
const ESSENTIAL: [&str; 3] = [METRIC_NAME, "le", "quantile"];

/// Patterns of metric names, each with names of labels.
pub type LabelLists = BTreeMap<String, Vec<String>>;

/// The rules of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelRules {
    keep: Vec<(String, BTreeSet<String>)>,
    drop: Vec<(String, BTreeSet<String>)>,
}

impl LabelRules {
    /// The rules of those lists.
    pub fn new(keep: &LabelLists, drop: &LabelLists) -> Self {
        let rules = |lists: &LabelLists| {
            lists.iter().map(|(pattern, labels)| (pattern.clone(), labels.iter().cloned().collect())).collect()
        };
        Self { keep: rules(keep), drop: rules(drop) }
    }

    /// Whether any rule names that metric.
    pub fn applies_to(&self, metric: &str) -> bool {
        self.keep.iter().chain(&self.drop).any(|(pattern, _)| matches(pattern, metric))
    }

    /// Whether that label of that metric is stored: some `keep_labels` that names the metric lists it, or none names the
    /// metric; and no `drop_labels` that names the metric lists it.
    pub fn keeps(&self, metric: &str, label: &str) -> bool {
        if ESSENTIAL.contains(&label) {
            return true;
        }
        let (mut is_listed, mut is_kept) = (false, false);
        for (_, labels) in self.keep.iter().filter(|(pattern, _)| matches(pattern, metric)) {
            is_listed = true;
            is_kept |= labels.contains(label);
        }
        let is_dropped = self.drop.iter().any(|(pattern, labels)| labels.contains(label) && matches(pattern, metric));
        (is_kept || !is_listed) && !is_dropped
    }
}

/// What is wrong with the lists under that key of the configuration.
pub(super) fn problems(key: &str, lists: &LabelLists) -> Vec<String> {
    let mut found = Vec::new();
    for (pattern, labels) in lists {
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '*');
        if pattern.is_empty() || !pattern.chars().all(is_name) {
            found.push(format!("{key}: `{pattern}` is not a metric name (`*` stands for any text)"));
        }
        if key.ends_with("drop_labels") {
            let essential = labels.iter().filter(|label| ESSENTIAL.contains(&label.as_str()));
            found.extend(essential.map(|label| format!("{key}.{pattern}: `{label}` cannot be dropped")));
        }
    }
    found
}

/// Whether the name fits the pattern, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(entries: &[(&str, &[&str])]) -> LabelLists {
        entries.iter().map(|(p, l)| ((*p).to_owned(), l.iter().map(|l| (*l).to_owned()).collect())).collect()
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expect) in [
            ("up", "up", true),
            ("up", "upper", false),
            ("istio_*", "istio_requests_total", true),
            ("istio_*_bucket", "istio_request_duration_milliseconds_bucket", true),
            ("istio_*_bucket", "istio_bucket", false),
            ("*_total", "a_total", true),
            ("*", "", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(matches(pattern, name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn keeps_what_is_listed_drops_what_is_listed_and_never_the_essential() {
        let rules = LabelRules::new(
            &lists(&[("istio_*", &["source", "code"]), ("istio_requests_total", &["flags"])]),
            &lists(&[("*", &["pod"]), ("istio_*", &["code"])]),
        );
        assert!(rules.applies_to("anything"));
        assert!(!LabelRules::new(&lists(&[("a", &["b"])]), &LabelLists::new()).applies_to("b"));
        for (metric, label, expect) in [
            ("istio_requests_total", "source", true),
            ("istio_requests_total", "flags", true),
            ("istio_tcp", "flags", false),
            ("istio_tcp", "code", false),
            ("istio_tcp", "le", true),
            ("istio_tcp", METRIC_NAME, true),
            ("other", "code", true),
            ("other", "pod", false),
        ] {
            assert_eq!(rules.keeps(metric, label), expect, "{metric} {label}");
        }
    }

    #[test]
    fn says_what_cannot_be() {
        let found = problems("storage.drop_labels", &lists(&[("a{b}", &["x"]), ("h_bucket", &["le", "pod"])]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains("h_bucket: `le` cannot be dropped"), "{found:?}");
        assert!(problems("storage.keep_labels", &lists(&[("h_*", &["le"])])).is_empty());
    }
}
