//! The entries of `scrape_configs`, as prometheus.yml writes them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::job::Protocol;
use super::kubernetes::KubernetesSdConfig;
use super::relabel::Rule;
use crate::http_client::with_http_client_keys;
use crate::units::{ByteSize, PromDuration};

/// What the `global` block gives jobs that do not say it themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// `global.scrape_interval`. Default 1 m.
    pub scrape_interval: PromDuration,
    /// `global.scrape_timeout`. Default 10 s, or the interval when that is shorter.
    pub scrape_timeout: PromDuration,
    /// `global.scrape_protocols`.
    pub scrape_protocols: Vec<Protocol>,
    /// `global.body_size_limit`; zero means the built-in limit of 64 MiB.
    pub body_size_limit: ByteSize,
    /// `global.sample_limit`; zero means none.
    pub sample_limit: u64,
    /// `global.label_limit`; zero means none.
    pub label_limit: u64,
    /// `global.label_name_length_limit`; zero means none.
    pub label_name_length_limit: u64,
    /// `global.label_value_length_limit`; zero means none.
    pub label_value_length_limit: u64,
    /// `global.target_limit`; zero means none.
    pub target_limit: u64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(60).into(),
            scrape_timeout: Duration::from_secs(10).into(),
            scrape_protocols: Protocol::DEFAULTS.to_vec(),
            body_size_limit: ByteSize(0),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
        }
    }
}

with_http_client_keys! {
    /// One entry of `scrape_configs`.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ScrapeConfig {
        /// The name, unique, and the label `job` of the targets.
        pub job_name: String,
        /// How often. Default: global.
        #[serde(default)]
        pub scrape_interval: Option<PromDuration>,
        /// How long one scrape may take. Default: global, at most the interval.
        #[serde(default)]
        pub scrape_timeout: Option<PromDuration>,
        /// Path of the page. Default `/metrics`.
        #[serde(default)]
        pub metrics_path: Option<String>,
        /// `http` or `https`. Default `http`.
        #[serde(default)]
        pub scheme: Option<String>,
        /// Query of the URL.
        #[serde(default)]
        pub params: BTreeMap<String, Vec<String>>,
        /// Scraped labels win over target labels of the same name.
        #[serde(default)]
        pub honor_labels: bool,
        /// Timestamps in the page are believed. Default true.
        #[serde(default = "crate::http_client::yes")]
        pub honor_timestamps: bool,
        /// Series with timestamps in the page get stale markers too.
        #[serde(default)]
        pub track_timestamps_staleness: bool,
        /// Formats offered, best first. Default: global.
        #[serde(default)]
        pub scrape_protocols: Option<Vec<Protocol>>,
        /// The format assumed when the Content-Type is missing or unknown.
        #[serde(default)]
        pub fallback_scrape_protocol: Option<Protocol>,
        /// Accept gzip. Default true.
        #[serde(default = "crate::http_client::yes")]
        pub enable_compression: bool,
        /// Targets written here.
        #[serde(default)]
        pub static_configs: Vec<Group>,
        /// Targets in files that are watched.
        #[serde(default)]
        pub file_sd_configs: Vec<FileSdConfig>,
        /// Targets that a URL lists.
        #[serde(default)]
        pub http_sd_configs: Vec<HttpSdConfig>,
        /// Targets that a Kubernetes cluster knows.
        #[serde(default)]
        pub kubernetes_sd_configs: Vec<KubernetesSdConfig>,
        /// Rules applied to each target's labels before scraping.
        #[serde(default)]
        pub relabel_configs: Vec<Rule>,
        /// Rules applied to each scraped series.
        #[serde(default)]
        pub metric_relabel_configs: Vec<Rule>,
        /// Most bytes of a page after decompression; zero means the built-in limit of 64 MiB.
        #[serde(default)]
        pub body_size_limit: Option<ByteSize>,
        /// Most samples of a page after relabelling; zero means none.
        #[serde(default)]
        pub sample_limit: Option<u64>,
        /// Most labels of a series; zero means none.
        #[serde(default)]
        pub label_limit: Option<u64>,
        /// Longest label name in bytes; zero means none.
        #[serde(default)]
        pub label_name_length_limit: Option<u64>,
        /// Longest label value in bytes; zero means none.
        #[serde(default)]
        pub label_value_length_limit: Option<u64>,
        /// Most targets of the job after relabelling; past it all of them fail. Zero means none.
        #[serde(default)]
        pub target_limit: Option<u64>,
    }
}

/// Targets with labels in common: an entry of `static_configs`, of a target file, of an HTTP list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Group {
    /// `host:port` each.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: BTreeMap<String, String>,
}

/// An entry of `file_sd_configs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSdConfig {
    /// `.json`, `.yml` or `.yaml` files; the last part of a path may hold one `*`.
    pub files: Vec<PathBuf>,
    /// How often they are read again even when no change was seen. Default 5 m.
    #[serde(default = "five_minutes")]
    pub refresh_interval: PromDuration,
}

with_http_client_keys! {
    /// An entry of `http_sd_configs`.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct HttpSdConfig {
        /// Answers a JSON list of groups.
        pub url: String,
        /// How often it is asked. Default 1 m.
        #[serde(default = "one_minute")]
        pub refresh_interval: PromDuration,
    }
}

fn five_minutes() -> PromDuration {
    Duration::from_secs(300).into()
}

fn one_minute() -> PromDuration {
    Duration::from_secs(60).into()
}
