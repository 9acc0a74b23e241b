//! The form of promtool's unit-test files.
//!
//! In: YAML. Out: [`TestFile`]. Invariant: what is not known is refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::units::PromDuration;

/// A whole test file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TestFile {
    /// Patterns, relative to the test file.
    pub rule_files: Vec<String>,
    /// Time between evaluations; none is a minute.
    pub evaluation_interval: PromDuration,
    /// Names of groups, first to last.
    pub group_eval_order: Vec<String>,
    /// The tests.
    pub tests: Vec<Test>,
    /// Whether neighbouring floats are equal.
    pub fuzzy_compare: bool,
}

/// Series, and what is to come of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Test {
    /// Time between the values of a series; none is the evaluation interval.
    pub interval: PromDuration,
    /// What there is.
    pub input_series: Vec<InputSeries>,
    /// What fires.
    pub alert_rule_test: Vec<AlertCase>,
    /// What expressions yield.
    pub promql_expr_test: Vec<ExprCase>,
    /// As `global.external_labels`.
    pub external_labels: BTreeMap<String, String>,
    /// As `--web.external-url`.
    pub external_url: String,
    /// What `--run` goes by.
    pub name: String,
    /// When the test begins; the epoch when empty (newer than promtool 3.5).
    pub start_timestamp: String,
}

/// One series that the test begins with.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputSeries {
    /// Metric name and labels.
    pub series: String,
    /// In the notation of series.
    pub values: String,
}

/// Which alerts of a name fire at a time.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertCase {
    /// From the start of the test.
    pub eval_time: PromDuration,
    /// The name.
    pub alertname: String,
    /// All that fire.
    pub exp_alerts: Vec<ExpectedAlert>,
}

/// An alert that is to fire.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectedAlert {
    /// Labels, the name left out.
    pub exp_labels: BTreeMap<String, String>,
    /// Annotations.
    pub exp_annotations: BTreeMap<String, String>,
}

/// What an expression yields at a time.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExprCase {
    /// The expression.
    pub expr: String,
    /// From the start of the test.
    pub eval_time: PromDuration,
    /// All that come.
    pub exp_samples: Vec<ExpectedSample>,
}

/// One sample of the result.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectedSample {
    /// Metric name and labels.
    pub labels: String,
    /// The value.
    pub value: SampleValue,
    /// A native histogram, which meshscope does not know.
    pub histogram: String,
}

/// A number as YAML writes it; `.inf` and `.nan` come as texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleValue(pub f64);

impl<'de> Deserialize<'de> for SampleValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(value) => Ok(Self(value)),
            Written::Text(text) => match text.as_str() {
                ".inf" => Ok(Self(f64::INFINITY)),
                "-.inf" => Ok(Self(f64::NEG_INFINITY)),
                ".nan" => Ok(Self(f64::NAN)),
                _ => Err(serde::de::Error::custom(format!("{text:?} is not a number"))),
            },
        }
    }
}
