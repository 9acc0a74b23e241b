//! What series there are: which labels each metric has, and which values the labels that rules match on.
//!
//! In: a store, or the answers of a server. Out: [`Seen`]. Bounded in metrics and values.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::metric;
use crate::model::{METRIC_NAME, Matcher, Timestamp};
use crate::rules::definition::RuleGroup;
use crate::series::{QueryError, Queryable};

/// Most metrics that are asked about.
const METRICS_MAX: usize = 500;
/// Most values of one label that are held.
const VALUES_MAX: usize = 20_000;

/// Labels of each metric that was asked about, with the values of those that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Seen {
    /// Notes the labels of a metric; none when there is no such series.
    pub fn add(&mut self, metric: &str, labels: impl IntoIterator<Item = String>) {
        let known = self.0.entry(metric.to_owned()).or_default();
        for label in labels {
            known.entry(label).or_default();
        }
    }

    /// Notes values of a label. Too many are as good as none: then every value counts as seen.
    pub fn add_values(&mut self, metric: &str, label: &str, values: Vec<String>) {
        if values.len() <= VALUES_MAX {
            self.0.entry(metric.to_owned()).or_default().entry(label.to_owned()).or_default().extend(values);
        }
    }

    /// Labels and values of a metric; `None` when it was not asked about.
    pub(super) fn labels(&self, metric: &str) -> Option<&BTreeMap<String, BTreeSet<String>>> {
        self.0.get(metric)
    }
}

/// The metrics that the rules read, each with the labels that they match on. Recorded metrics of the same rules are left
/// out, because they may not be written yet.
pub fn wanted(groups: &[&RuleGroup]) -> BTreeMap<String, BTreeSet<String>> {
    let rules = || groups.iter().flat_map(|group| &group.rules);
    let recorded: BTreeSet<&str> = rules().map(|rule| rule.name()).collect();
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in rules() {
        rule.expr().root().each_selector(&mut |selector| {
            let Some(name) = metric(selector).filter(|name| !recorded.contains(name) && !name.starts_with("ALERTS"))
            else {
                return;
            };
            if wanted.len() < METRICS_MAX || wanted.contains_key(name) {
                let labels = selector.matchers.iter().map(|m| m.name.to_string()).filter(|label| label != METRIC_NAME);
                wanted.entry(name.to_owned()).or_default().extend(labels);
            }
        });
    }
    wanted
}

/// Asks a store what series of the rules' metrics it has.
///
/// # Errors
/// When the store is away or a limit is hit.
pub async fn observe(
    store: &dyn Queryable,
    groups: &[&RuleGroup],
    (from, to): (Timestamp, Timestamp),
) -> Result<Seen, QueryError> {
    let mut seen = Seen::default();
    for (metric, labels) in wanted(groups) {
        let named = || vec![vec![Matcher::equal(METRIC_NAME, &metric)]];
        let names = store.label_names(named(), from, to).await?;
        let asked: Vec<String> = labels.into_iter().filter(|label| names.contains(label)).collect();
        seen.add(&metric, names);
        for label in asked {
            let values = store.label_values(label.clone(), named(), from, to).await?;
            seen.add_values(&metric, &label, values);
        }
    }
    Ok(seen)
}
