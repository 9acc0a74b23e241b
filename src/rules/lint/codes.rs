//! The codes of findings. Each is explained in `docs/lint.md`, whose examples are the tests.

use super::Severity;
use super::Severity::{Error, Info, Warning};

/// One kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Its name, stable across versions.
    pub name: &'static str,
    /// How grave its findings are.
    pub severity: Severity,
}

macro_rules! codes {
    ($($constant:ident = $name:literal $severity:ident,)*) => {
        $(pub(super) const $constant: Code = Code { name: $name, severity: $severity };)*
        /// All codes, gravest concerns first.
        pub const CODES: &[Code] = &[$($constant),*];
    };
}

codes! {
    COUNTER_COMPARED = "counter-compared" Error,
    RATE_OF_SUM = "rate-of-sum" Error,
    QUANTILE_WITHOUT_LE = "quantile-without-le" Error,
    QUANTILE_OF_COUNTERS = "quantile-of-counters" Error,
    CANNOT_MATCH = "cannot-match" Error,
    BOOL_COMPARISON = "bool-comparison" Error,
    TEMPLATE_LABEL = "template-label" Error,
    DUPLICATE_RULE = "duplicate-rule" Error,
    IMPOSSIBLE_VALUE = "impossible-value" Error,
    RECORDED_TWICE = "recorded-twice" Warning,
    BOTH_SIDES = "both-sides" Warning,
    RATE_TOO_SHORT = "rate-too-short" Warning,
    RATE_OF_GAUGE = "rate-of-gauge" Warning,
    DELTA_OF_COUNTER = "delta-of-counter" Warning,
    IRATE_IN_ALERT = "irate-in-alert" Warning,
    NO_MINIMUM_TRAFFIC = "no-minimum-traffic" Warning,
    NUMERATOR_ABSENT = "numerator-absent" Info,
    UNKNOWN_LABEL = "unknown-label" Warning,
    UNSEEN = "unseen" Info,
    PAST_RETENTION = "past-retention" Warning,
    NAME_REGEX = "name-regex" Warning,
    NO_CONDITION = "no-condition" Warning,
    NO_FOR = "no-for" Warning,
    NO_SEVERITY = "no-severity" Warning,
    FOR_TOO_SHORT = "for-too-short" Info,
    NO_SUMMARY = "no-summary" Info,
    ABSOLUTE_THRESHOLD = "absolute-threshold" Info,
    ABSENT_REGEX = "absent-regex" Info,
    PLAIN_REGEX = "plain-regex" Info,
    ANCHORED_REGEX = "anchored-regex" Info,
    SAME_EXPRESSION = "same-expression" Info,
    RECORD_NAME = "record-name" Info,
    TOO_DEEP = "too-deep" Info,
}
