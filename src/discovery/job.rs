//! A job: one entry of `scrape_configs`, checked, with the defaults filled in.
//!
//! In: [`ScrapeConfig`] and [`Defaults`]. Out: [`Job`], or every reason why not. Pure.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{Defaults, ScrapeConfig};
use crate::http_client;

/// The bound of a page after decompression when the configuration gives none.
const BODY_LIMIT_BYTES: u64 = 64 << 20;

/// The jobs of one configuration.
pub type Jobs = Arc<[Arc<Job>]>;

/// An exposition format and version that a scrape may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// OpenMetrics text 1.0.0.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetrics1,
    /// OpenMetrics text 0.0.1.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetrics0,
    /// Prometheus text 1.0.0 (UTF-8 names in quotes).
    #[serde(rename = "PrometheusText1.0.0")]
    Text1,
    /// Prometheus text 0.0.4.
    #[serde(rename = "PrometheusText0.0.4")]
    Text0,
    /// Length-delimited protobuf.
    #[serde(rename = "PrometheusProto")]
    Protobuf,
}

impl Protocol {
    /// What Prometheus 3.5 asks for without native histograms.
    pub const DEFAULTS: [Self; 4] = [Self::OpenMetrics1, Self::OpenMetrics0, Self::Text1, Self::Text0];

    /// The media type of the `Accept` header.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics1 => "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
            Self::OpenMetrics0 => "application/openmetrics-text;version=0.0.1",
            Self::Text1 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            Self::Text0 => "text/plain;version=0.0.4",
            Self::Protobuf => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
        }
    }
}

/// Bounds of a page and its series; zero means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes after decompression; never zero.
    pub body_bytes: u64,
    /// Most samples after relabelling.
    pub samples: u64,
    /// Most labels of a series.
    pub labels: u64,
    /// Longest label name in bytes.
    pub label_name_bytes: u64,
    /// Longest label value in bytes.
    pub label_value_bytes: u64,
    /// Most targets of the job.
    pub targets: u64,
}

/// One entry of `scrape_configs`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The name.
    pub name: String,
    /// How often, unless a target's labels say otherwise.
    pub interval: Duration,
    /// How long one scrape may take, unless a target's labels say otherwise; at most the interval.
    pub timeout: Duration,
    /// Formats offered, best first.
    pub protocols: Vec<Protocol>,
    /// Bounds of each page.
    pub limits: Limits,
    /// How requests are made.
    pub http: http_client::Config,
    /// The label that holds the path of its targets' URLs.
    pub path_label: &'static str,
    /// The entry itself, for what needs no default.
    pub config: ScrapeConfig,
}

/// Why an entry of `scrape_configs` is refused.
#[derive(Debug, thiserror::Error)]
#[error("scrape config `{job}`: {reason}")]
pub struct JobError {
    /// The `job_name`.
    pub job: String,
    /// What is wrong and how to mend it.
    pub reason: String,
}

/// Checks all entries; every mistake is reported, good entries come out all the same.
pub fn jobs(configs: &[ScrapeConfig], defaults: &Defaults) -> (Jobs, Vec<JobError>) {
    let (mut jobs, mut errors, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    for config in configs {
        let mut reasons = problems(config, defaults);
        if !names.insert(config.job_name.as_str()) {
            reasons.push("another entry has the same job_name".to_owned());
        }
        if reasons.is_empty() {
            jobs.push(Arc::new(Job::new(config, defaults)));
        }
        let job = &config.job_name;
        errors.extend(reasons.into_iter().map(|reason| JobError { job: job.clone(), reason }));
    }
    (jobs.into(), errors)
}

impl Job {
    fn new(config: &ScrapeConfig, defaults: &Defaults) -> Self {
        let (interval, timeout) = timing(config, defaults);
        let body_bytes = config.body_size_limit.unwrap_or(defaults.body_size_limit).0;
        let limits = Limits {
            body_bytes: if body_bytes == 0 { BODY_LIMIT_BYTES } else { body_bytes },
            samples: config.sample_limit.unwrap_or(defaults.sample_limit),
            labels: config.label_limit.unwrap_or(defaults.label_limit),
            label_name_bytes: config.label_name_length_limit.unwrap_or(defaults.label_name_length_limit),
            label_value_bytes: config.label_value_length_limit.unwrap_or(defaults.label_value_length_limit),
            targets: config.target_limit.unwrap_or(defaults.target_limit),
        };
        let protocols = config.scrape_protocols.as_ref().unwrap_or(&defaults.scrape_protocols).clone();
        let (name, http) = (config.job_name.clone(), config.http_client());
        let path_label = super::Target::METRICS_PATH;
        Self { name, interval, timeout, protocols, limits, http, path_label, config: config.clone() }
    }
}

fn timing(config: &ScrapeConfig, defaults: &Defaults) -> (Duration, Duration) {
    let interval = config.scrape_interval.unwrap_or(defaults.scrape_interval).get();
    let timeout = config.scrape_timeout.map_or(defaults.scrape_timeout.get().min(interval), |timeout| timeout.get());
    (interval, timeout)
}

fn problems(config: &ScrapeConfig, defaults: &Defaults) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut check = |wrong: bool, reason: &str| {
        if wrong {
            reasons.push(reason.to_owned());
        }
    };
    let (interval, timeout) = timing(config, defaults);
    check(config.job_name.is_empty(), "job_name is empty");
    check(interval.is_zero(), "scrape_interval cannot be 0");
    check(timeout.is_zero(), "scrape_timeout cannot be 0");
    check(timeout > interval, "scrape_timeout is greater than scrape_interval");
    let scheme = config.scheme.as_deref().unwrap_or("http");
    check(!matches!(scheme, "http" | "https"), "scheme must be `http` or `https`");
    let offered = config.scrape_protocols.as_ref().unwrap_or(&defaults.scrape_protocols);
    check(offered.is_empty(), "scrape_protocols is empty");
    check((1..offered.len()).any(|i| offered[..i].contains(&offered[i])), "scrape_protocols names one format twice");
    let is_empty = config.file_sd_configs.iter().any(|sd| sd.files.is_empty());
    check(is_empty, "file_sd_configs: `files` must name at least one path");
    for file in config.file_sd_configs.iter().flat_map(|sd| &sd.files) {
        if !super::file::is_pattern(file) {
            reasons.push(format!(
                "file_sd_configs: `{}` must end in .json, .yml or .yaml and hold at most one `*`, in its last part",
                file.display()
            ));
        }
    }
    for group in &config.static_configs {
        let bad = group.targets.iter().filter(|target| target.contains('/'));
        reasons.extend(bad.map(|target| format!("static_configs: `{target}` is not host:port (no scheme, no path)")));
    }
    for sd in &config.http_sd_configs {
        if !reqwest::Url::parse(&sd.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            reasons.push(format!("http_sd_configs: `{}` is not an http or https URL", http_client::shown_url(&sd.url)));
        }
        reasons.extend(sd.http_client().validate().err().map(|error| format!("http_sd_configs: {error}")));
    }
    reasons.extend(config.kubernetes_sd_configs.iter().flat_map(|sd| sd.problems()));
    reasons.extend(config.http_client().validate().err().map(|error| error.to_string()));
    reasons
}
