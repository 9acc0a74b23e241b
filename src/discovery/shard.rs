//! A share of the targets: `serve --shard 1/3` scrapes the second third of them.
//!
//! In: jobs. Out: the same jobs, whose relabelling keeps only the targets of the share: Prometheus' `hashmod` of address and
//! job, so every target is in one share, whoever asks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use super::relabel::{Action, Rule, RuleConfig};
use super::{Job, Jobs};
use crate::http_client::with_http_client_keys;

/// The header by which a scraper of a share says that it sends everything it scrapes.
pub const SHARD_HEADER: &str = "x-meshscope-shard";
/// Most shares.
const COUNT_MAX: u32 = 1024;
/// Gone after relabelling, as all labels that begin like this.
const SHARE_LABEL: &str = "__tmp_meshscope_shard";

/// Which share: `index` of `count`, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0. The first one is scraped by the replicas that evaluate, store and tell.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

with_http_client_keys! {
    /// The block `shard`: where the scrapers of the other shares send what they scrape.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ShardConfig {
        /// The address of pages and APIs of the meshscope that scrapes the first share, or of a Service before its replicas.
        pub url: String,
    }
}

/// Why a text names no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no share: write INDEX/COUNT with INDEX from 0, such as 0/3, 1/3 and 2/3 (COUNT at most {COUNT_MAX})")]
pub struct ShardError(String);

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let read = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match read {
            Some((index, count)) if index < count && count <= COUNT_MAX => Ok(Self { index, count }),
            _ => Err(ShardError(text.to_owned())),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// The jobs, each with the targets of this share only.
    pub fn of(self, jobs: &Jobs) -> Jobs {
        let rules: Vec<Rule> = self.rules().into_iter().filter_map(|rule| Rule::try_from(rule).ok()).collect();
        let share = |job: &Arc<Job>| {
            let mut job = Job::clone(job);
            job.config.relabel_configs.extend(rules.iter().cloned());
            Arc::new(job)
        };
        jobs.iter().map(share).collect()
    }

    fn rules(self) -> [RuleConfig; 2] {
        let hashed = RuleConfig {
            source_labels: vec!["__address__".to_owned(), "job".to_owned()],
            modulus: u64::from(self.count),
            target_label: SHARE_LABEL.to_owned(),
            action: Action::HashMod,
            ..RuleConfig::default()
        };
        let kept = RuleConfig {
            source_labels: vec![SHARE_LABEL.to_owned()],
            regex: self.index.to_string(),
            action: Action::Keep,
            ..RuleConfig::default()
        };
        [hashed, kept]
    }
}

impl ShardConfig {
    /// What is wrong with it.
    pub fn problems(&self) -> Vec<String> {
        let url = reqwest::Url::parse(&self.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let wrong = url.is_none().then(|| {
            "shard.url is not an address; write that of the meshscope of shard 0, like http://meshscope:7070".to_owned()
        });
        let client = self.http_client().validate().err().map(|error| format!("shard: {error}"));
        wrong.into_iter().chain(client).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::relabel;
    use super::*;
    use crate::model::Labels;

    #[test]
    fn reads_a_share_and_refuses_what_is_none() {
        assert_eq!("1/3".parse(), Ok(Shard { index: 1, count: 3 }));
        for text in ["3/3", "1", "-1/2", "0/0", "a/b", "1/3/5", "0/2000", ""] {
            assert!(text.parse::<Shard>().is_err_and(|error| error.to_string().contains("0/3, 1/3")), "{text}");
        }
    }

    #[test]
    fn each_target_is_in_one_share() {
        let mut counts = [0; 3];
        for n in 0..300 {
            let address = format!("10.0.{}.{}:15020", n / 250, n % 250);
            let labels = Labels::from_pairs([("__address__", address.as_str()), ("job", "proxies")]);
            let kept: Vec<usize> = (0..3)
                .filter(|index| {
                    let rules =
                        Shard { index: *index, count: 3 }.rules().map(|rule| Rule::try_from(rule).expect("valid"));
                    relabel::apply(&rules, labels.clone()).is_some()
                })
                .map(|index| index as usize)
                .collect();
            assert_eq!(kept.len(), 1, "{address}: {kept:?}");
            counts[kept[0]] += 1;
        }
        assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
    }
}
