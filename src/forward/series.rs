//! What a remote knows of a series: its labels as they are sent.
//!
//! In: label blocks and members of the journal. Out: [`Member`]s, `None` for those that relabelling drops. Invariant: series
//! that share a block share its text, unless relabelling rules make each its own.

use std::sync::Arc;

use crate::discovery::relabel::{self, Rule};
use crate::model::{Labels, METRIC_NAME, Timestamp};
use crate::series::Exemplar;

const BUCKET: &str = "le";

/// One series as it is sent.
#[derive(Debug, PartialEq)]
pub(super) struct Member {
    base: Labels,
    metric: Box<str>,
    bucket: Box<str>,
    /// Spreads series over requests; the same series always gives the same.
    pub(super) hash: u64,
}

/// One sample to send.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) series: Arc<Member>,
    pub(super) at: Timestamp,
    pub(super) value: f64,
    /// Exemplars of the series that go with it.
    pub(super) exemplars: Option<Arc<[Exemplar]>>,
}

impl Member {
    /// The series of a block; `None` when a rule drops it.
    pub(super) fn new(block: &Labels, metric: &str, bucket: &str, rules: &[Rule]) -> Option<Self> {
        let whole = || block.iter().chain([(METRIC_NAME, metric), (BUCKET, bucket)]);
        if !rules.is_empty() {
            let base = relabel::apply(rules, whole().filter(|(_, value)| !value.is_empty()).collect())?;
            if base.is_empty() {
                return None;
            }
            let hash = base.fingerprint();
            return Some(Self { base, metric: "".into(), bucket: "".into(), hash });
        }
        let hash = block.table_hash() ^ crate::model::fnv1a(metric.bytes().chain([0xff]).chain(bucket.bytes()));
        Some(Self { base: block.clone(), metric: metric.into(), bucket: bucket.into(), hash })
    }

    /// The series that memory knows under `labels`, as [`Self::new`] makes it.
    pub(super) fn of_series(labels: &Labels, external: &Labels, rules: &[Rule]) -> Option<Self> {
        let block = external.merged(&labels.without(&[METRIC_NAME, BUCKET]));
        Self::new(&block, labels.value(METRIC_NAME), labels.value(BUCKET), rules)
    }

    /// All labels, by name.
    pub(super) fn labels(&self) -> Labels {
        if self.metric.is_empty() && self.bucket.is_empty() {
            return self.base.clone();
        }
        let own = [(METRIC_NAME, &*self.metric), (BUCKET, &*self.bucket)];
        self.base.iter().chain(own.into_iter().filter(|(_, value)| !value.is_empty())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(yaml: &str) -> Vec<Rule> {
        let (rules, problems) = crate::yaml::decode(yaml);
        assert_eq!(problems, []);
        rules.expect("rules")
    }

    #[test]
    fn a_series_is_sent_with_its_own_labels_or_as_rules_make_them() {
        let block = Labels::from_pairs([("job", "a"), ("cluster", "x")]);
        let check = |yaml: &str, expect: Option<&str>| {
            let member = Member::new(&block, "lat_bucket", "0.5", &rules(yaml));
            assert_eq!(member.map(|member| member.labels().to_string()).as_deref(), expect, "{yaml}");
        };
        check("[]", Some(r#"lat_bucket{cluster="x", job="a", le="0.5"}"#));
        check("[{action: labeldrop, regex: job}]", Some(r#"lat_bucket{cluster="x", le="0.5"}"#));
        check("[{action: drop, source_labels: [__name__], regex: 'lat_.*'}]", None);
        check("[{action: labeldrop, regex: '.*'}]", None);
        let plain = Member::new(&block, "up", "", &[]).expect("kept");
        assert_eq!(plain.labels().to_string(), r#"up{cluster="x", job="a"}"#);
    }
}
