//! The block `alerting`, as prometheus.yml writes it.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::discovery::relabel::Rule;
use crate::discovery::{self, Defaults, FileSdConfig, Group, HttpSdConfig, Job, Jobs, ScrapeConfig, Target};
use crate::http_client::with_http_client_keys;
use crate::units::PromDuration;

/// The block `alerting`: Alertmanagers that are told of every alert, besides our own receivers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertingConfig {
    /// Rules applied to each alert's labels, after external labels are added, for all Alertmanagers.
    pub alert_relabel_configs: Vec<Rule>,
    /// Where they are.
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

with_http_client_keys! {
    /// One entry of `alertmanagers`: a way to find some of them, and how they are asked.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct AlertmanagerConfig {
        /// `http` or `https`. Default `http`.
        #[serde(default)]
        pub scheme: Option<String>,
        /// What stands before `/api/v2/alerts`.
        #[serde(default)]
        pub path_prefix: Option<String>,
        /// How long one request may take. Default 10 s.
        #[serde(default = "ten_seconds")]
        pub timeout: PromDuration,
        /// Only `v2`.
        #[serde(default)]
        pub api_version: Option<String>,
        /// Alertmanagers written here.
        #[serde(default)]
        pub static_configs: Vec<Group>,
        /// Alertmanagers in files that are watched.
        #[serde(default)]
        pub file_sd_configs: Vec<FileSdConfig>,
        /// Alertmanagers that a URL lists.
        #[serde(default)]
        pub http_sd_configs: Vec<HttpSdConfig>,
        /// Rules applied to each Alertmanager's labels; may set `__address__`, `__scheme__` and `__alerts_path__`.
        #[serde(default)]
        pub relabel_configs: Vec<Rule>,
        /// Rules applied to each alert's labels, for these Alertmanagers.
        #[serde(default)]
        pub alert_relabel_configs: Vec<Rule>,
        // Read so that the error can say what to use instead.
        #[serde(default)]
        #[doc(hidden)]
        pub kubernetes_sd_configs: Vec<IgnoredAny>,
        #[serde(default)]
        #[doc(hidden)]
        pub dns_sd_configs: Vec<IgnoredAny>,
        #[serde(default)]
        #[doc(hidden)]
        pub consul_sd_configs: Vec<IgnoredAny>,
        // Read so that a pasted file loads; named in a warning.
        #[serde(default)]
        #[doc(hidden)]
        pub sigv4: Option<IgnoredAny>,
        #[serde(default)]
        #[doc(hidden)]
        pub oauth2: Option<IgnoredAny>,
    }
}

impl AlertingConfig {
    /// What discovery follows, one job for each entry, and every mistake.
    pub fn jobs(&self) -> (Jobs, Vec<String>) {
        let mut wrong = Vec::new();
        let mut jobs = Vec::new();
        for (i, config) in self.alertmanagers.iter().enumerate() {
            let mut say = |reason: String| wrong.push(format!("alerting.alertmanagers[{i}]: {reason}"));
            config.mistakes().into_iter().for_each(&mut say);
            let (found, errors) = discovery::jobs(&[config.as_job(i)], &Defaults::default());
            errors.into_iter().for_each(|error| say(error.reason));
            jobs.extend(found.iter().map(|job| Job { path_label: Target::ALERTS_PATH, ..(**job).clone() }.into()));
        }
        (jobs.into(), wrong)
    }

    /// The keys that have no effect.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (i, config) in self.alertmanagers.iter().enumerate() {
            for (key, given) in [("sigv4", config.sigv4.is_some()), ("oauth2", config.oauth2.is_some())] {
                if given {
                    let instead = "use authorization.credentials_file";
                    warnings.push(format!("alerting.alertmanagers[{i}].{key} is not supported: {instead}"));
                }
            }
        }
        warnings
    }
}

impl AlertmanagerConfig {
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut check = |is_wrong: bool, mistake: &str| {
            if is_wrong {
                mistakes.push(mistake.to_owned());
            }
        };
        let is_old = self.api_version.as_deref().is_some_and(|version| version != "v2");
        check(is_old, "api_version: only v2 is supported, as in Prometheus 3");
        let is_path = !self.path_prefix.as_deref().is_some_and(|prefix| prefix.contains(['?', '#']));
        check(!is_path, "path_prefix is a path, without `?` and `#`");
        check(self.timeout.is_zero(), "timeout must be greater than 0");
        for (key, configs) in [
            ("kubernetes_sd_configs", &self.kubernetes_sd_configs),
            ("dns_sd_configs", &self.dns_sd_configs),
            ("consul_sd_configs", &self.consul_sd_configs),
        ] {
            let instead = "list the Alertmanagers by static_configs, file_sd_configs or http_sd_configs";
            check(!configs.is_empty(), &format!("{key} is not supported: {instead}"));
        }
        mistakes
    }

    /// The same as a scrape job, whose targets are the Alertmanagers: discovery needs to know only one thing.
    fn as_job(&self, index: usize) -> ScrapeConfig {
        let empty: ScrapeConfig = serde_json::from_value(serde_json::json!({ "job_name": job_name(index) }))
            .expect("invariant: a job needs only a name");
        ScrapeConfig {
            scheme: self.scheme.clone(),
            metrics_path: Some(alerts_path(self.path_prefix.as_deref().unwrap_or_default())),
            static_configs: self.static_configs.clone(),
            file_sd_configs: self.file_sd_configs.clone(),
            http_sd_configs: self.http_sd_configs.clone(),
            relabel_configs: self.relabel_configs.clone(),
            authorization: self.authorization.clone(),
            basic_auth: self.basic_auth.clone(),
            bearer_token: self.bearer_token.clone(),
            bearer_token_file: self.bearer_token_file.clone(),
            tls_config: self.tls_config.clone(),
            proxy_url: self.proxy_url.clone(),
            proxy_from_environment: self.proxy_from_environment,
            no_proxy: self.no_proxy.clone(),
            http_headers: self.http_headers.clone(),
            ..empty
        }
    }
}

/// `path_prefix` and the path of the API, with one slash between.
fn alerts_path(prefix: &str) -> String {
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() { "/api/v2/alerts".to_owned() } else { format!("/{prefix}/api/v2/alerts") }
}

fn job_name(index: usize) -> String {
    format!("alertmanagers[{index}]")
}

/// The entry that a job was made of; past the end for other names.
pub(super) fn index_of(job: &str) -> usize {
    let index = job.strip_prefix("alertmanagers[").and_then(|rest| rest.strip_suffix(']'));
    index.and_then(|index| index.parse().ok()).unwrap_or(usize::MAX)
}

fn ten_seconds() -> PromDuration {
    Duration::from_secs(10).into()
}
