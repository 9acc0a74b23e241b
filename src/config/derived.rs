//! What is made of a configuration that was read: its share of the targets, its rules, its jobs as Prometheus reads them.

use std::path::Path;

use super::{Config, ConfigError, redact};
use crate::units::PromDuration;
use crate::{discovery, rules, slo, store, telemetry};

impl Config {
    /// The same for a process that scrapes a share of the targets.
    ///
    /// # Errors
    /// When it scrapes another share than the first, and nothing says where that is to be sent.
    pub fn sharing(self, shard: Option<discovery::Shard>) -> Result<Self, ConfigError> {
        let Some(share) = shard else { return Ok(self) };
        if share.index > 0 && self.shard_sending.is_none() {
            let problem = format!(
                "--shard {share} needs the block `shard` with the `url` of the meshscope of --shard 0/{}, where it sends what \
                 it scrapes",
                share.count
            );
            return Err(ConfigError::Invalid { problems: vec![problem] });
        }
        Ok(Self { jobs: share.of(&self.jobs), shard, ..self })
    }

    /// What reads the rule files that the configuration names and adds the groups of its objectives, for a thread that may
    /// block. A broken file is reported and left out; the others run.
    pub fn rule_loader(&self, external_url: &str) -> impl FnOnce() -> rules::RuleSet + Send + 'static {
        let folder = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let patterns = self.rule_files.clone();
        let options = rules::LoadOptions {
            evaluation_interval: self.evaluation_interval.get(),
            external_labels: self.external_labels.clone(),
            external_url: external_url.to_owned(),
            features: self.promql.features(),
        };
        let slos = self.slos.clone();
        move || {
            let mut set = rules::load(&patterns, &folder, &options);
            set.groups.extend(slo::groups(&slos, options.evaluation_interval));
            set
        }
    }

    /// The entries of `scrape_configs` with those that `mesh.discover` stands for, as Prometheus reads them; secrets
    /// replaced.
    pub fn expanded(&self) -> String {
        let own = redact::block(&self.redacted, "scrape_configs");
        let presets = self.mesh.expanded();
        if own.is_empty() && presets.is_empty() {
            return "scrape_configs: []\n".to_owned();
        }
        format!("scrape_configs:\n{own}{presets}")
    }
}

/// What is wrong with single numbers.
pub(super) fn problems(evaluation_interval: PromDuration, telemetry: &telemetry::Config) -> Vec<String> {
    let mut problems = Vec::new();
    if evaluation_interval.is_zero() {
        problems.push("global.evaluation_interval must be longer than 0s".to_owned());
    }
    if !(0.0..=1.0).contains(&telemetry.sampling_ratio) {
        problems.push("telemetry.sampling_ratio must be between 0 and 1".to_owned());
    }
    problems
}

/// What a configuration asks for that does not do what it may be thought to do. `scrapes_twice`: proxies are discovered
/// although another engine is asked for their metrics.
pub(super) fn warnings(slos: &slo::Slos, store: &store::Config, scrapes_twice: bool) -> Vec<String> {
    let kept = store.retention.five_minutes.get();
    let too_short = slos.iter().filter(|slo| slo.window.get() > kept).map(|slo| {
        format!(
            "slos: the window of {:?} is longer than storage.retention.five_minutes: its budget is that of a shorter time",
            slo.name
        )
    });
    let twice = scrapes_twice.then(|| {
        "mesh.discover scrapes the proxies although storage.query_upstream asks an engine that may have their metrics: \
         what both have is held twice; leave mesh.discover out"
            .to_owned()
    });
    too_short.chain(twice).collect()
}
