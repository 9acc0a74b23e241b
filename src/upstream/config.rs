//! The block `storage.query_upstream`.

use std::time::Duration;

use serde::Deserialize;

use crate::http_client::with_http_client_keys;
use crate::units::{ByteSize, PromDuration};

with_http_client_keys! {
    /// Which engine is asked, and how.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Config {
        /// Where its API is, without `/api/v1`: `http://prometheus:9090`, `https://mimir/prometheus`.
        pub url: String,
        /// How long one request may take. Default 30s.
        #[serde(default = "thirty_seconds")]
        pub timeout: PromDuration,
        /// How often it scrapes the proxies: rates of the graph are taken over four of these at least. Default 1m.
        #[serde(default = "one_minute")]
        pub scrape_interval: PromDuration,
        /// Largest answer. Default 256MB.
        #[serde(default = "answer_bytes")]
        pub body_size_limit: ByteSize,
    }
}

fn thirty_seconds() -> PromDuration {
    Duration::from_secs(30).into()
}

fn one_minute() -> PromDuration {
    Duration::from_secs(60).into()
}

fn answer_bytes() -> ByteSize {
    ByteSize(256 << 20)
}

impl Config {
    /// What is wrong with it, one text each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wrong = |text: String| problems.push(format!("storage.query_upstream: {text}"));
        match reqwest::Url::parse(&self.url) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                wrong(format!("url begins with `{}:`; write http:// or https://", url.scheme()));
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                wrong("url must have no query and no fragment; use http_headers for what the server wants".to_owned());
            }
            Ok(_) if self.url.trim_end_matches('/').ends_with("/api/v1") => {
                wrong("url ends with /api/v1, which is added by itself; leave it out".to_owned());
            }
            Ok(_) => {}
            Err(error) => wrong(format!("url is not an address ({error}); write one like http://prometheus:9090")),
        }
        if let Err(error) = self.http_client().validate() {
            wrong(error.to_string());
        }
        if self.timeout.is_zero() {
            wrong("timeout must be longer than 0s".to_owned());
        }
        if self.scrape_interval.is_zero() {
            wrong("scrape_interval must be longer than 0s".to_owned());
        }
        if self.body_size_limit.0 == 0 {
            wrong("body_size_limit must be more than 0".to_owned());
        }
        problems
    }
}
