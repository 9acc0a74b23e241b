//! The entries of `remote_write`, as prometheus.yml writes them.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::discovery::relabel::Rule;
use crate::http_client::{HeaderValues, with_http_client_keys};
use crate::model::fnv1a;
use crate::units::{ByteSize, PromDuration};

/// A batch of the journal has up to about a mebibyte.
const BACKLOG_MIN: ByteSize = ByteSize(4 << 20);

/// The message that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// Remote write 1.0.
    #[default]
    #[serde(rename = "prometheus.WriteRequest")]
    V1,
    /// Remote write 2.0: a table of texts, metadata with each series.
    #[serde(rename = "io.prometheus.write.v2.Request")]
    V2,
}

with_http_client_keys! {
    /// One entry of `remote_write`.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct RemoteWriteConfig {
        /// Where to POST.
        pub url: String,
        /// How long one request may take. Default 30 s.
        #[serde(default = "thirty_seconds")]
        pub remote_timeout: PromDuration,
        /// More headers; those that the protocol sets are refused.
        #[serde(default)]
        pub headers: BTreeMap<String, String>,
        /// The name in metrics and logs, unique. Default: six hexadecimal digits made of the URL.
        #[serde(default)]
        pub name: Option<String>,
        /// The message. Default `prometheus.WriteRequest`.
        #[serde(default)]
        pub protobuf_message: Protocol,
        /// Rules applied to each series, after external labels are added.
        #[serde(default)]
        pub write_relabel_configs: Vec<Rule>,
        /// How samples wait and are sent.
        #[serde(default)]
        pub queue_config: QueueConfig,
        /// Whether and how often metadata is sent.
        #[serde(default)]
        pub metadata_config: MetadataConfig,
        /// Most bytes of compressed samples that wait for a receiver that is away; past it the oldest go and are counted.
        /// Not a key of Prometheus. At least 4MiB. Default 256MiB.
        #[serde(default = "backlog")]
        pub backlog_limit_bytes: ByteSize,
        /// Send exemplars, each beside a sample of its series. Default false.
        #[serde(default)]
        pub send_exemplars: bool,
        // Read so that a pasted file loads; named in a warning.
        #[serde(default)]
        #[doc(hidden)]
        pub send_native_histograms: bool,
        #[serde(default)]
        #[doc(hidden)]
        pub round_robin_dns: bool,
        #[serde(default)]
        #[doc(hidden)]
        pub sigv4: Option<IgnoredAny>,
        #[serde(default)]
        #[doc(hidden)]
        pub azuread: Option<IgnoredAny>,
        #[serde(default)]
        #[doc(hidden)]
        pub google_iam: Option<IgnoredAny>,
        #[serde(default)]
        #[doc(hidden)]
        pub oauth2: Option<IgnoredAny>,
    }
}

/// How samples wait and are sent. Defaults are those of Prometheus 3.5.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Most samples, for each of `max_shards`, that are unpacked at once. Default 10,000.
    pub capacity: usize,
    /// Most requests under way at once. Default 50.
    pub max_shards: usize,
    /// Fewest. Default 1.
    pub min_shards: usize,
    /// Most samples of one request. Default 2,000.
    pub max_samples_per_send: usize,
    /// How long samples wait for others. Default 5 s.
    pub batch_send_deadline: PromDuration,
    /// First pause before a request is tried again; doubled each time. Default 30 ms.
    pub min_backoff: PromDuration,
    /// Longest such pause. Default 5 s.
    pub max_backoff: PromDuration,
    /// Try again after a 429; else its samples are dropped. Default false.
    pub retry_on_http_429: bool,
    /// Samples older than this are dropped instead of sent. Default 0: none.
    pub sample_age_limit: PromDuration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2000,
            batch_send_deadline: Duration::from_secs(5).into(),
            min_backoff: Duration::from_millis(30).into(),
            max_backoff: Duration::from_secs(5).into(),
            retry_on_http_429: false,
            sample_age_limit: PromDuration::default(),
        }
    }
}

/// Whether and how often metadata of scraped metrics is sent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataConfig {
    /// Send it: with 1.0 in requests of its own, with 2.0 in each series. Default true.
    pub send: bool,
    /// How often. Default 1 m.
    pub send_interval: PromDuration,
    /// Most metrics of one request. Default 2,000.
    pub max_samples_per_send: usize,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self { send: true, send_interval: Duration::from_secs(60).into(), max_samples_per_send: 2000 }
    }
}

impl RemoteWriteConfig {
    /// The name in metrics and logs.
    pub fn name(&self) -> String {
        let of_url = || format!("{:06x}", fnv1a(self.url.bytes()) & 0xff_ffff);
        self.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(of_url)
    }
}

/// Every mistake of the entries that can be found without connecting.
pub fn check(remotes: &[RemoteWriteConfig]) -> Vec<String> {
    let (mut wrong, mut names) = (Vec::new(), HashSet::new());
    for (i, remote) in remotes.iter().enumerate() {
        let mut say = |reason: String| wrong.push(format!("remote_write[{i}]: {reason}"));
        if !reqwest::Url::parse(&remote.url).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host()) {
            say("url is not an http or https URL".to_owned());
        }
        if !names.insert(remote.name()) {
            say(format!("another entry has the name {:?}: give each a `name` of its own", remote.name()));
        }
        for (key, is_zero) in remote.zeros() {
            if is_zero {
                say(format!("{key} must be greater than 0"));
            }
        }
        if remote.backlog_limit_bytes < BACKLOG_MIN {
            say("backlog_limit_bytes must be at least 4MiB, so that it holds some batches of the journal".to_owned());
        }
        let queue = &remote.queue_config;
        if queue.min_shards > queue.max_shards {
            say("queue_config.min_shards is greater than max_shards".to_owned());
        }
        if queue.min_backoff > queue.max_backoff {
            say("queue_config.min_backoff is greater than max_backoff".to_owned());
        }
        let ours = ["x-prometheus-remote-write-version", "x-prometheus-remote-read-version"];
        for name in remote.headers.keys().filter(|name| ours.contains(&name.to_ascii_lowercase().as_str())) {
            say(format!("headers: {name} is a reserved header, it must not be changed"));
        }
        if let Err(error) = remote.client_config().validate() {
            say(error.to_string());
        }
    }
    wrong
}

/// The keys of the entries that have no effect, each with what happens instead.
pub fn warnings(remotes: &[RemoteWriteConfig]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, remote) in remotes.iter().enumerate() {
        let given = [
            ("send_native_histograms", remote.send_native_histograms, "histograms are sent as classic ones"),
            ("round_robin_dns", remote.round_robin_dns, "the system resolver chooses the address"),
            ("sigv4", remote.sigv4.is_some(), "requests are not signed"),
            ("azuread", remote.azuread.is_some(), "use authorization.credentials_file"),
            ("google_iam", remote.google_iam.is_some(), "use authorization.credentials_file"),
            ("oauth2", remote.oauth2.is_some(), "use authorization.credentials_file"),
        ];
        let given = given.into_iter().filter(|(_, is_given, _)| *is_given);
        warnings.extend(given.map(|(key, _, instead)| format!("remote_write[{i}].{key} is not supported: {instead}")));
    }
    warnings
}

impl RemoteWriteConfig {
    /// The HTTP client with `headers` among its own.
    pub(super) fn client_config(&self) -> crate::http_client::Config {
        let mut config = self.http_client();
        for (name, value) in &self.headers {
            let header = HeaderValues { values: vec![value.clone()], ..HeaderValues::default() };
            config.http_headers.insert(name.clone(), header);
        }
        config
    }

    fn zeros(&self) -> [(&'static str, bool); 8] {
        let (queue, metadata) = (&self.queue_config, &self.metadata_config);
        [
            ("remote_timeout", self.remote_timeout.is_zero()),
            ("queue_config.capacity", queue.capacity == 0),
            ("queue_config.min_shards", queue.min_shards == 0),
            ("queue_config.max_samples_per_send", queue.max_samples_per_send == 0),
            ("queue_config.batch_send_deadline", queue.batch_send_deadline.is_zero()),
            ("queue_config.min_backoff", queue.min_backoff.is_zero()),
            ("metadata_config.send_interval", metadata.send_interval.is_zero()),
            ("metadata_config.max_samples_per_send", metadata.max_samples_per_send == 0),
        ]
    }
}

fn thirty_seconds() -> PromDuration {
    Duration::from_secs(30).into()
}

fn backlog() -> ByteSize {
    ByteSize(256 << 20)
}
