//! Reads and checks `meshscope.yaml`: one file, in the words of prometheus.yml and alertmanager.yml.
//!
//! In: text. Out: [`Config`], or every mistake with line and mend. Composed of each module's own `Config`; relative paths
//! are taken from the folder of the file, but for `storage.path`, which is taken from the working directory.

mod derived;
mod mesh;
mod not_offered;
mod paths;
mod redact;
mod templates;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::discovery::{self, ScrapeConfig};
use crate::model::Labels;
use crate::units::{ByteSize, PromDuration, Secret};
use crate::{
    access_logs, audit, context, declared, forward, graph, http_client, notify, otlp, promql, push, rollup, rules,
    scrape, series, slo, store, telemetry, traces, upstream, web, yaml,
};

pub use redact::{alertmanager_part, redacted};

/// The effective configuration, checked.
pub struct Config {
    /// Where it was read from.
    pub file: Option<PathBuf>,
    /// The text with secrets replaced, for pages and APIs.
    pub redacted: String,
    /// Scrape jobs.
    pub jobs: discovery::Jobs,
    /// The share of their targets that this process scrapes; none: all.
    pub shard: Option<discovery::Shard>,
    /// Where scrapers of other shares than the first send what they scrape.
    pub shard_sending: Option<discovery::ShardConfig>,
    /// Patterns of rule files as given, relative to the folder of the configuration.
    pub rule_files: Vec<String>,
    /// How often rules are evaluated unless a group says otherwise.
    pub evaluation_interval: PromDuration,
    /// How rules are evaluated.
    pub rules: rules::Config,
    /// Service level objectives, which become rule groups.
    pub slos: slo::Slos,
    /// Limits of scraping.
    pub scrape: scrape::Config,
    /// When an edge of the graph counts as degraded or failed.
    pub graph_health: graph::health::Rules,
    /// What alerts are told with.
    pub alert_context: context::Config,
    /// Labels added to what leaves meshscope.
    pub external_labels: Labels,
    /// Who is told.
    pub plan: Arc<notify::Plan>,
    /// The Alertmanagers that are told as well.
    pub alert_sending: Arc<notify::AlertSending>,
    /// How they are found.
    pub alertmanager_jobs: discovery::Jobs,
    /// Where samples are sent on to.
    pub forward: Arc<forward::Settings>,
    /// The part of the configuration that Alertmanager would read, secrets replaced: for its API.
    pub alertmanager: String,
    /// Pages and APIs.
    pub web: web::Config,
    /// What others may send.
    pub push: push::Config,
    /// OTLP receivers.
    pub otlp: otlp::Config,
    /// Spans.
    pub traces: traces::Config,
    /// Access logs.
    pub access_logs: access_logs::Config,
    /// PostgreSQL.
    pub store: store::Config,
    /// How this process stands to others on its database.
    pub replica: store::ReplicaConfig,
    /// The memory tier.
    pub series: series::Config,
    /// The engine elsewhere that is asked as well.
    pub upstream: Option<upstream::Config>,
    /// Edge minutes in memory.
    pub rollup: rollup::Config,
    /// Limits of queries.
    pub promql: promql::Config,
    /// Our own logs and traces.
    pub telemetry: telemetry::Config,
    /// Which meshes are discovered, and where.
    pub mesh: discovery::MeshConfig,
    /// Findings of the audit that nobody wants to hear of.
    pub audit: audit::Config,
    /// Where requests of our own may lead.
    pub outgoing: http_client::Reaches,
    /// What the service audits by itself, and how often.
    pub audit_watch: audit::WatchConfig,
    /// Where what is declared for the mesh is read.
    pub declared: declared::Config,
    /// What the file asks for that meshscope does not do.
    pub warnings: Vec<String>,
}

/// Why a configuration is refused. Prints one line for each mistake.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What it says is wrong.
    #[error("{}", problems.join("\n"))]
    Invalid {
        /// One line each, `file:line:column: path: what and mend`.
        problems: Vec<String>,
    },
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    global: Global,
    scrape_configs: Vec<ScrapeConfig>,
    rule_files: Vec<String>,
    slos: slo::Slos,
    route: Option<notify::RouteConfig>,
    receivers: Vec<notify::ReceiverConfig>,
    inhibit_rules: Vec<notify::InhibitRuleConfig>,
    alerting: notify::AlertingConfig,
    remote_write: Vec<forward::RemoteWriteConfig>,
    time_intervals: Vec<notify::TimeIntervalConfig>,
    mute_time_intervals: Vec<notify::TimeIntervalConfig>,
    web: web::Config,
    push: push::Config,
    otlp: otlp::Config,
    traces: traces::Config,
    access_logs: access_logs::Config,
    storage: StorageConfig,
    replica: store::ReplicaConfig,
    scrape: scrape::Config,
    graph: graph::Config,
    alert_context: context::Config,
    rollup: rollup::Config,
    promql: promql::Config,
    telemetry: telemetry::Config,
    mesh: mesh::Mesh,
    shard: Option<discovery::ShardConfig>,
    security: http_client::SecurityConfig,
    audit: audit::WatchConfig,
    // Read so that a pasted file loads; named in a warning.
    remote_read: Option<IgnoredAny>,
    tracing: Option<IgnoredAny>,
    event_recorder: Option<IgnoredAny>,
    templates: Vec<String>,
}

macro_rules! global {
    ($($kind:ident),* $(,)?) => {
        /// The block `global`: what holds for every job and rule group that does not say otherwise. The defaults of
        /// Alertmanager's receivers are read so that a pasted file loads, and named in a warning.
        #[derive(Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Global {
            scrape_interval: PromDuration,
            scrape_timeout: Option<PromDuration>,
            scrape_protocols: Option<Vec<discovery::Protocol>>,
            evaluation_interval: PromDuration,
            rule_query_offset: PromDuration,
            external_labels: BTreeMap<String, String>,
            body_size_limit: ByteSize,
            sample_limit: u64,
            target_limit: u64,
            label_limit: u64,
            label_name_length_limit: u64,
            label_value_length_limit: u64,
            // Of alertmanager.yml: when a posted alert that names no end counts as resolved.
            resolve_timeout: Option<PromDuration>,
            slack_api_url: Option<Secret>,
            slack_api_url_file: Option<PathBuf>,
            pagerduty_url: Option<String>,
            http_config: Option<crate::http_client::Config>,
            smtp_smarthost: Option<String>,
            smtp_from: Option<String>,
            smtp_hello: Option<String>,
            smtp_auth_username: Option<String>,
            smtp_auth_password: Option<Secret>,
            smtp_auth_password_file: Option<PathBuf>,
            smtp_require_tls: Option<bool>,
            smtp_tls_config: Option<crate::http_client::TlsConfig>,
            smtp_force_implicit_tls: Option<bool>,
            $($kind: Option<IgnoredAny>,)*
        }

        impl Default for Global {
            fn default() -> Self {
                let minute = PromDuration::from(std::time::Duration::from_secs(60));
                Self {
                    scrape_interval: minute,
                    scrape_timeout: None,
                    scrape_protocols: None,
                    evaluation_interval: minute,
                    rule_query_offset: PromDuration::default(),
                    external_labels: BTreeMap::new(),
                    body_size_limit: ByteSize(0),
                    sample_limit: 0,
                    target_limit: 0,
                    label_limit: 0,
                    label_name_length_limit: 0,
                    label_value_length_limit: 0,
                    resolve_timeout: None,
                    slack_api_url: None,
                    slack_api_url_file: None,
                    pagerduty_url: None,
                    http_config: None,
                    smtp_smarthost: None,
                    smtp_from: None,
                    smtp_hello: None,
                    smtp_auth_username: None,
                    smtp_auth_password: None,
                    smtp_auth_password_file: None,
                    smtp_require_tls: None,
                    smtp_tls_config: None,
                    smtp_force_implicit_tls: None,
                    $($kind: None,)*
                }
            }
        }

        impl Global {
            /// Keys that are given and not offered.
            fn keys_not_offered(&self) -> Vec<&'static str> {
                [$((self.$kind.is_some(), stringify!($kind)),)*]
                    .into_iter().filter(|(given, _)| *given).map(|(_, key)| key).collect()
            }
        }
    };
}

global!(
    smtp_auth_secret,
    smtp_auth_secret_file,
    smtp_auth_identity,
    slack_app_token,
    slack_app_token_file,
    slack_app_url,
    opsgenie_api_key,
    opsgenie_api_key_file,
    opsgenie_api_url,
    wechat_api_url,
    wechat_api_secret,
    wechat_api_secret_file,
    wechat_api_corp_id,
    victorops_api_key,
    victorops_api_key_file,
    victorops_api_url,
    telegram_api_url,
    telegram_bot_token,
    telegram_bot_token_file,
    webex_api_url,
    rocketchat_api_url,
    rocketchat_token,
    rocketchat_token_file,
    rocketchat_token_id,
    rocketchat_token_id_file,
    jira_api_url,
    mattermost_webhook_url,
    mattermost_webhook_url_file,
);

/// The block `storage`: PostgreSQL and the memory tier together, as their user sees them.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StorageConfig {
    database_url: Option<Secret>,
    path: Option<PathBuf>,
    connections_max: u32,
    shared_buffers: ByteSize,
    retention: store::RetentionConfig,
    memory_window: PromDuration,
    out_of_order_window: PromDuration,
    series_limit: usize,
    journal_limit_bytes: ByteSize,
    memory_limit: Option<ByteSize>,
    keep_labels: series::LabelLists,
    drop_labels: series::LabelLists,
    exemplars: usize,
    query_upstream: Option<upstream::Config>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        let (store, series) = (store::Config::default(), series::Config::default());
        Self {
            database_url: store.database_url,
            path: store.path,
            connections_max: store.connections_max,
            shared_buffers: store.shared_buffers,
            retention: store.retention,
            memory_window: series.memory_window,
            out_of_order_window: series.out_of_order_window,
            series_limit: series.series_limit,
            journal_limit_bytes: series.journal_limit_bytes,
            memory_limit: series.memory_limit,
            keep_labels: series.keep_labels,
            drop_labels: series.drop_labels,
            exemplars: series.exemplars,
            query_upstream: None,
        }
    }
}

impl StorageConfig {
    fn split(self) -> (store::Config, series::Config) {
        let Self {
            database_url,
            path,
            connections_max,
            shared_buffers,
            retention,
            memory_window,
            out_of_order_window,
            series_limit,
            journal_limit_bytes,
            memory_limit,
            keep_labels,
            drop_labels,
            exemplars,
            query_upstream: _,
        } = self;
        (
            store::Config { database_url, path, connections_max, shared_buffers, retention }.with_environment(),
            series::Config {
                memory_window,
                out_of_order_window,
                series_limit,
                journal_limit_bytes,
                memory_limit,
                keep_labels,
                drop_labels,
                exemplars,
            },
        )
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, or says something wrong: every mistake at once.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        Self::parse(&text, Some(file))
    }

    /// The blocks that only a start can change, to be compared after a reload.
    pub fn restart_only(&self) -> Vec<(&'static str, String)> {
        let Self {
            web,
            push,
            otlp,
            traces,
            access_logs,
            store,
            series,
            upstream,
            rollup,
            scrape,
            promql,
            telemetry,
            rules,
            graph_health,
            ..
        } = self;
        let (alert_context, declared) = (&self.alert_context, &self.declared);
        vec![
            ("web", format!("{web:?}")),
            ("push", format!("{push:?}")),
            ("otlp", format!("{otlp:?}")),
            ("traces", format!("{traces:?}")),
            ("access_logs", format!("{access_logs:?}")),
            ("storage", format!("{store:?}{series:?}{upstream:?}")),
            ("replica", format!("{:?}", self.replica)),
            ("rollup", format!("{rollup:?}")),
            ("scrape", format!("{scrape:?}")),
            ("promql", format!("{promql:?}")),
            ("telemetry", format!("{telemetry:?}")),
            ("global.rule_query_offset", format!("{rules:?}")),
            ("graph.health", format!("{graph_health:?}")),
            ("alert_context", format!("{alert_context:?}")),
            ("audit", format!("{:?}", self.audit_watch)),
            ("mesh.declared", format!("{declared:?}")),
        ]
    }

    /// Checks a text; relative paths are taken from the folder of `file`.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn parse(text: &str, file: Option<&Path>) -> Result<Self, ConfigError> {
        let name = file.map_or_else(|| "configuration".to_owned(), |file| file.display().to_string());
        let mut pasted = not_offered::Pasted::default();
        let (decoded, problems) = yaml::decode_after::<File>(text, |root| {
            pasted = not_offered::take(root);
            paths::resolve(root, file.and_then(Path::parent).unwrap_or(Path::new("")));
        });
        let problems = problems.iter().chain(&pasted.problems);
        let mut problems: Vec<String> = problems.map(|problem| format!("{name}:{problem}")).collect();
        let Some(decoded) = decoded else { return Err(ConfigError::Invalid { problems }) };
        let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
        let checked = decoded.check(folder, &mut |problem| problems.push(format!("{name}: {problem}")));
        match checked {
            Some(config) if problems.is_empty() => Ok(Self {
                file: file.map(Path::to_owned),
                redacted: redacted(text),
                alertmanager: alertmanager_part(text),
                warnings: pasted.warnings.into_iter().chain(config.warnings).collect(),
                ..config
            }),
            _ => Err(ConfigError::Invalid { problems }),
        }
    }
}

impl File {
    fn check(self, folder: &Path, wrong: &mut dyn FnMut(String)) -> Option<Config> {
        let warnings = self.not_offered();
        let defaults = self.global.defaults();
        self.global.problems().for_each(&mut *wrong);
        let (mesh, audit, declared) = self.mesh.parts();
        declared.problems().into_iter().for_each(&mut *wrong);
        let scrape_configs: Vec<ScrapeConfig> =
            self.scrape_configs.iter().cloned().chain(mesh.scrape_configs()).collect();
        let (jobs, job_errors) = discovery::jobs(&scrape_configs, &defaults);
        job_errors.iter().for_each(|error| wrong(error.to_string()));
        for name in self.global.external_labels.keys().filter(|name| name.is_empty() || name.as_str() == "__name__") {
            wrong(format!("global.external_labels: {name:?} is not a valid label name"));
        }
        derived::problems(self.global.evaluation_interval, &self.telemetry).into_iter().for_each(&mut *wrong);
        self.shard.iter().flat_map(discovery::ShardConfig::problems).for_each(&mut *wrong);
        audit.problems().into_iter().for_each(|problem| wrong(format!("mesh.suppress: {problem}")));
        self.audit.problems().into_iter().for_each(&mut *wrong);
        self.alert_context.problems().into_iter().for_each(&mut *wrong);
        let outgoing = self.security.outgoing.reaches();
        self.web.problems().into_iter().for_each(&mut *wrong);
        let told = notify::Config {
            route: self.route,
            receivers: self.receivers,
            inhibit_rules: self.inhibit_rules,
            time_intervals: self.time_intervals,
            mute_time_intervals: self.mute_time_intervals,
            resolve_timeout: self.global.resolve_timeout,
            globals: self.global.for_receivers(),
            templates: templates::read(&self.templates, folder, wrong),
            reach: outgoing.notifications.clone(),
        };
        let plan = match notify::Plan::new(&told) {
            Ok(plan) => Some(plan.adding(self.global.external_labels.iter().collect())),
            Err(errors) => {
                errors.iter().for_each(|error| wrong(error.to_string()));
                None
            }
        }?;
        let upstream = self.storage.query_upstream.clone();
        upstream.iter().flat_map(upstream::Config::problems).for_each(&mut *wrong);
        let (store, series) = self.storage.split();
        series.problems().into_iter().for_each(&mut *wrong);
        self.push.problem().into_iter().for_each(&mut *wrong);
        let (alertmanager_jobs, mistakes) = self.alerting.jobs();
        mistakes.into_iter().chain(forward::check(&self.remote_write)).for_each(&mut *wrong);
        let warnings = warnings.into_iter().chain(plan.warnings.iter().cloned());
        let has_presets = scrape_configs.len() > self.scrape_configs.len();
        let warnings = warnings.chain(derived::warnings(&self.slos, &store, upstream.is_some() && has_presets));
        let warnings = warnings.chain(self.alerting.warnings()).chain(forward::warnings(&self.remote_write)).collect();
        let external_labels: Labels = self.global.external_labels.iter().collect();
        Some(Config {
            file: None,
            redacted: String::new(),
            alertmanager: String::new(),
            jobs,
            shard: None,
            shard_sending: self.shard,
            rule_files: self.rule_files,
            slos: self.slos,
            evaluation_interval: self.global.evaluation_interval,
            rules: rules::Config { rule_query_offset: self.global.rule_query_offset, ..rules::Config::default() },
            scrape: self.scrape,
            graph_health: self.graph.rules(),
            alert_context: self.alert_context,
            plan: Arc::new(plan),
            alert_sending: Arc::new(notify::AlertSending {
                config: self.alerting,
                external_labels: external_labels.clone(),
                reach: outgoing.alertmanagers.clone(),
            }),
            alertmanager_jobs,
            forward: Arc::new(forward::Settings {
                remotes: self.remote_write,
                external_labels: external_labels.clone(),
                reach: outgoing.remote_write.clone(),
            }),
            external_labels,
            web: self.web,
            push: self.push,
            otlp: self.otlp,
            traces: self.traces,
            access_logs: self.access_logs,
            store,
            replica: self.replica,
            series,
            upstream,
            rollup: self.rollup,
            promql: promql::Config {
                default_subquery_step: self.promql.default_subquery_step.or(Some(self.global.evaluation_interval)),
                ..self.promql
            },
            telemetry: self.telemetry,
            mesh,
            audit,
            outgoing,
            audit_watch: self.audit,
            declared,
            warnings,
        })
    }
}

impl Global {
    fn for_receivers(&self) -> notify::Globals {
        notify::Globals {
            slack_api_url: self.slack_api_url.clone(),
            slack_api_url_file: self.slack_api_url_file.clone(),
            slack_app_token: self.slack_app_token.or(self.slack_app_token_file).map(|_| http_client::NotOffered),
            pagerduty_url: self.pagerduty_url.clone(),
            http_config: self.http_config.clone(),
            smtp_smarthost: self.smtp_smarthost.clone(),
            smtp_from: self.smtp_from.clone(),
            smtp_hello: self.smtp_hello.clone(),
            smtp_auth_username: self.smtp_auth_username.clone(),
            smtp_auth_password: self.smtp_auth_password.clone(),
            smtp_auth_password_file: self.smtp_auth_password_file.clone(),
            smtp_require_tls: self.smtp_require_tls,
            smtp_tls_config: self.smtp_tls_config.clone(),
            smtp_force_implicit_tls: self.smtp_force_implicit_tls,
        }
    }

    /// What Prometheus would refuse, too.
    fn problems(&self) -> impl Iterator<Item = String> {
        let is_late = self.scrape_timeout.is_some_and(|timeout| timeout.get() > self.scrape_interval.get());
        let is_mute = self.scrape_protocols.as_ref().is_some_and(Vec::is_empty);
        let late = is_late.then(|| "global: scrape_timeout is greater than scrape_interval".to_owned());
        late.into_iter().chain(is_mute.then(|| "global: scrape_protocols is empty".to_owned()))
    }

    fn defaults(&self) -> discovery::Defaults {
        let built_in = discovery::Defaults::default();
        discovery::Defaults {
            scrape_interval: self.scrape_interval,
            scrape_timeout: self.scrape_timeout.unwrap_or(built_in.scrape_timeout.min(self.scrape_interval)),
            scrape_protocols: self.scrape_protocols.clone().unwrap_or(built_in.scrape_protocols),
            body_size_limit: self.body_size_limit,
            sample_limit: self.sample_limit,
            label_limit: self.label_limit,
            label_name_length_limit: self.label_name_length_limit,
            label_value_length_limit: self.label_value_length_limit,
            target_limit: self.target_limit,
        }
    }
}

#[cfg(test)]
mod tests;
