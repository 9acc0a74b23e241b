//! A target: one URL to scrape and the labels its series get. Made from a group by the rules of Prometheus.
//!
//! Pure. Invariant: two targets of one job with the same labels and URL are one target.

use std::sync::Arc;
use std::time::Duration;

use super::{Group, Job, relabel};
use crate::model::Labels;
use crate::units::PromDuration;

/// One URL to scrape.
#[derive(Clone, Debug)]
pub struct Target {
    /// The job it belongs to: how to scrape it.
    pub job: Arc<Job>,
    /// The labels its series get; none begins with `__`.
    pub labels: Labels,
    /// The labels before relabelling.
    pub discovered_labels: Labels,
    /// Where the page is.
    pub url: String,
    /// How often.
    pub interval: Duration,
    /// How long one scrape may take; at most the interval.
    pub timeout: Duration,
    /// Why each scrape of it must fail (its job has more targets than allowed).
    pub refused: Option<String>,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        let Self { job, labels, discovered_labels, url, interval, timeout, refused } = self;
        (Arc::ptr_eq(job, &other.job) || *job == other.job)
            && *labels == other.labels
            && *discovered_labels == other.discovered_labels
            && *url == other.url
            && (*interval, *timeout) == (other.interval, other.timeout)
            && *refused == other.refused
    }
}

/// What makes a target the same one after a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey {
    /// Its job.
    pub job: String,
    /// Its labels.
    pub labels: Labels,
    /// Its URL.
    pub url: String,
}

impl Target {
    /// The label that holds the path of a scrape target.
    pub const METRICS_PATH: &str = "__metrics_path__";
    /// The label that holds the path of an Alertmanager.
    pub const ALERTS_PATH: &str = "__alerts_path__";

    /// What identifies it.
    pub fn key(&self) -> TargetKey {
        TargetKey { job: self.job.name.clone(), labels: self.labels.clone(), url: self.url.clone() }
    }

    /// When in its interval it is scraped: spread by a stable hash, so the same after a restart.
    pub fn offset(&self) -> Duration {
        let hash = self.labels.with("__url__", &self.url).fingerprint();
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(hash % interval_ms)
    }
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    /// The job that dropped it.
    pub job: String,
    /// The labels before relabelling.
    pub discovered_labels: Labels,
}

/// A list or target that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whose.
    pub job: String,
    /// Which list or target, and what is wrong.
    pub message: String,
}

/// What discovery found, all jobs together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// To be scraped, each key once.
    pub active: Vec<Arc<Target>>,
    /// Dropped by relabelling; at most [`Targets::DROPPED_LIMIT`].
    pub dropped: Vec<Dropped>,
    /// How many were dropped, those not kept included.
    pub dropped_count: usize,
    /// Names of the jobs that look for targets, those that found none included, in order.
    pub jobs: Vec<String>,
    /// What could not be used.
    pub problems: Vec<Problem>,
}

impl Targets {
    /// How many dropped targets are kept to be shown.
    pub const DROPPED_LIMIT: usize = 10_000;

    /// Adds the targets of one job. `lists` are groups with the labels their source adds (`__meta_filepath`).
    pub(super) fn add<'a>(&mut self, job: &Arc<Job>, lists: impl IntoIterator<Item = (&'a Group, &'a Labels)>) {
        let mut seen = std::collections::HashSet::new();
        let first = self.active.len();
        for (group, source) in lists {
            for address in &group.targets {
                let discovered = discovered_labels(job, group, source, address);
                match target(job, &discovered) {
                    Ok(Some(target)) => {
                        if seen.insert(target.key()) {
                            self.active.push(Arc::new(target));
                        }
                    }
                    Ok(None) => self.drop_target(job, discovered),
                    Err(reason) => {
                        let message = format!("target `{address}`: {reason}");
                        self.problems.push(Problem { job: job.name.clone(), message });
                    }
                }
            }
        }
        let (found, limit) = (self.active.len() - first, job.limits.targets);
        if limit > 0 && found as u64 > limit {
            let reason = format!("target_limit exceeded (number of targets: {found}, limit: {limit})");
            for target in &mut self.active[first..] {
                Arc::make_mut(target).refused = Some(reason.clone());
            }
            self.problems.push(Problem { job: job.name.clone(), message: reason });
        }
    }

    fn drop_target(&mut self, job: &Job, discovered_labels: Labels) {
        self.dropped_count += 1;
        if self.dropped.len() < Self::DROPPED_LIMIT {
            self.dropped.push(Dropped { job: job.name.clone(), discovered_labels });
        }
    }
}

/// The labels before relabelling: address, then the group's, then the job's where still free.
fn discovered_labels(job: &Job, group: &Group, source: &Labels, address: &str) -> Labels {
    let labels: Labels = (group.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .chain(source.iter())
        .chain([("__address__", address)])
        .collect();
    let config = &job.config;
    let (interval, timeout) =
        (PromDuration::from(job.interval).to_string(), PromDuration::from(job.timeout).to_string());
    let own = [
        ("job".to_owned(), job.name.as_str()),
        ("__scrape_interval__".to_owned(), interval.as_str()),
        ("__scrape_timeout__".to_owned(), timeout.as_str()),
        (job.path_label.to_owned(), config.metrics_path.as_deref().unwrap_or("/metrics")),
        ("__scheme__".to_owned(), config.scheme.as_deref().unwrap_or("http")),
    ];
    let params =
        config.params.iter().filter_map(|(name, values)| Some((format!("__param_{name}"), values.first()?.as_str())));
    let free: Vec<(String, &str)> = own.into_iter().chain(params).filter(|(n, _)| labels.get(n).is_none()).collect();
    let all = labels.iter().chain(free.iter().map(|(name, value)| (name.as_str(), *value)));
    all.collect()
}

/// Relabels and checks. `None`: dropped.
fn target(job: &Arc<Job>, discovered: &Labels) -> Result<Option<Target>, String> {
    let Some(labels) = relabel::apply(&job.config.relabel_configs, discovered.clone()) else { return Ok(None) };
    let address = labels.value("__address__");
    if address.is_empty() {
        return Err("no address: `__address__` is empty after relabelling".to_owned());
    }
    if address.contains('/') {
        return Err(format!("`{address}` is not a valid host:port"));
    }
    let duration = |name: &str| -> Result<Duration, String> {
        let duration: PromDuration = labels.value(name).parse().map_err(|error| format!("{name}: {error}"))?;
        if duration.is_zero() { Err(format!("{name} cannot be 0")) } else { Ok(duration.get()) }
    };
    let (interval, timeout) = (duration("__scrape_interval__")?, duration("__scrape_timeout__")?);
    if timeout > interval {
        return Err(format!("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})"));
    }
    let url = url(job, &labels)?;
    let mut public = labels.filter(|name| !name.starts_with("__"));
    if public.get("instance").is_none() {
        public = public.with("instance", address);
    }
    let (job, discovered_labels) = (Arc::clone(job), discovered.clone());
    Ok(Some(Target { job, labels: public, discovered_labels, url, interval, timeout, refused: None }))
}

fn url(job: &Job, labels: &Labels) -> Result<String, String> {
    let (scheme, address) = (labels.value("__scheme__"), labels.value("__address__"));
    if !matches!(scheme, "http" | "https") {
        return Err(format!("__scheme__ `{scheme}` is neither `http` nor `https`"));
    }
    let mut url = reqwest::Url::parse(&format!("{scheme}://{address}/"))
        .map_err(|error| format!("`{scheme}://{address}` is not a URL: {error}"))?;
    url.set_path(labels.value(job.path_label));
    let mut params = job.config.params.clone();
    for (name, value) in labels.iter().filter_map(|(name, value)| Some((name.strip_prefix("__param_")?, value))) {
        let values = params.entry(name.to_owned()).or_default();
        match values.first_mut() {
            Some(first) => *first = value.to_owned(),
            None => values.push(value.to_owned()),
        }
    }
    for (name, values) in &params {
        for value in values {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Ok(url.into())
}
