//! What the server says of itself over HTTP.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::checks::{Facts, Metrics};
use super::{Piece, REQUEST_LIMIT};
use crate::http_client;

/// Most bytes of one answer; more is cut off.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Most failing rules and targets that are named.
const NAMED_MAX: usize = 5;

/// Files of the bundle, and the paths that they come from.
const PATHS: [(&str, &str); 13] = [
    ("build.json", "/api/v1/status/buildinfo"),
    ("ready.txt", "/-/ready"),
    ("runtime.json", "/api/v1/status/runtimeinfo"),
    ("flags.json", "/api/v1/status/flags"),
    ("configuration-running.json", "/api/v1/status/config"),
    ("memory.json", "/api/v1/status/tsdb"),
    ("cardinality.json", "/api/mesh/v1/cardinality"),
    ("metrics.txt", "/metrics"),
    ("targets.json", "/api/v1/targets"),
    ("rules.json", "/api/v1/rules"),
    ("alertmanagers.json", "/api/v1/alertmanagers"),
    ("receivers.json", "/alertmanager/api/v2/status"),
    ("notifications-failed.json", "/api/mesh/v1/notifications?state=failed&limit=20"),
];

/// A client that asks one server.
pub(super) struct Asking {
    client: reqwest::Client,
    http: http_client::Config,
    base: String,
}

/// An answer, or why there is none, and by how much the server's clock is ahead.
pub(super) struct Answered {
    /// The body of a 2xx answer.
    pub(super) text: Result<String, String>,
    /// Whether anything answered at all.
    pub(super) is_there: bool,
    clock_ahead_seconds: Option<f64>,
}

impl Asking {
    pub(super) fn new(client: reqwest::Client, http: http_client::Config, url: &str) -> Self {
        Self { client, http, base: url.trim_end_matches('/').to_owned() }
    }

    /// Asks for a path.
    pub(super) async fn get(&self, path: &str) -> Answered {
        let url = format!("{}{path}", self.base);
        let shown = http_client::shown_url(&self.base);
        let failed = |why: String| Answered { text: Err(why), is_there: false, clock_ahead_seconds: None };
        let request = match http_client::authorize(&self.http, self.client.get(&url).timeout(REQUEST_LIMIT)) {
            Ok(request) => request,
            Err(error) => return failed(format!("{:#}", anyhow::Error::from(error))),
        };
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return failed(format!("{shown} does not answer: {}", http_client::describe(&error))),
        };
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        let theirs = date.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
        // The header has whole seconds, cut off.
        let clock_ahead_seconds = theirs.map(|theirs| theirs.timestamp() as f64 + 0.5 - ours);
        let status = answer.status();
        let mut body = Vec::new();
        let text = loop {
            match answer.chunk().await {
                Ok(Some(piece)) if body.len() + piece.len() <= ANSWER_BYTES_MAX => body.extend_from_slice(&piece),
                Ok(Some(_)) => break Err(format!("{path} is larger than {} MiB", ANSWER_BYTES_MAX >> 20)),
                Ok(None) => break Ok(String::from_utf8_lossy(&body).into_owned()),
                Err(error) => break Err(format!("{path}: {}", http_client::describe(&error))),
            }
        };
        let text = match text {
            Ok(text) if !status.is_success() => {
                let said: String = text.trim().chars().take(300).collect();
                Err(format!("{path} answers {status}: {said}"))
            }
            text => text,
        };
        Answered { text, is_there: true, clock_ahead_seconds }
    }
}

/// Asks for everything; when nobody answers, once.
pub(super) async fn gather(asking: &Asking, pieces: &mut Vec<Piece>, facts: &mut Facts) {
    facts.url = http_client::shown_url(&asking.base);
    for (name, path) in PATHS {
        let Answered { text, is_there, clock_ahead_seconds } = asking.get(path).await;
        if !is_there {
            facts.server = Some(Err(text.err().unwrap_or_default()));
            pieces
                .extend(PATHS.iter().map(|(name, _)| Piece::new(*name, Err("the server does not answer".to_owned()))));
            return;
        }
        facts.clock_ahead_of_us_seconds = facts.clock_ahead_of_us_seconds.or(clock_ahead_seconds);
        learn(name, &text, facts);
        pieces.push(Piece::new(name, text));
    }
}

fn learn(name: &str, text: &Result<String, String>, facts: &mut Facts) {
    let json = || -> Option<Value> { serde_json::from_str(text.as_ref().ok()?).ok() };
    match name {
        "ready.txt" => facts.ready = Some(text.as_ref().map(|_| ()).map_err(Clone::clone)),
        // Not of /api/v1/status/buildinfo, which tells the version of Prometheus that clients may take us for.
        "metrics.txt" => {
            let metrics = text.as_ref().map(|page| Metrics::of(page));
            facts.server = Some(match &metrics {
                Err(reason) => Err((*reason).clone()),
                Ok(metrics) => metrics
                    .version()
                    .ok_or("what answers is no meshscope: /metrics has no meshscope_build_info".to_owned()),
            });
            facts.metrics = metrics.ok();
        }
        "configuration-running.json" => {
            facts.running_config = json().and_then(|json| Some(json["data"]["yaml"].as_str()?.to_owned()));
        }
        "targets.json" => facts.targets = json().map(|json| targets(&json["data"]["activeTargets"])),
        "rules.json" => facts.failing_rules = json().map(|json| failing_rules(&json["data"]["groups"])),
        _ => {}
    }
}

/// How many targets there are, and the addresses and errors of some that are down.
fn targets(list: &Value) -> (usize, usize, Vec<String>) {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let down: Vec<&Value> = all.iter().filter(|target| target["health"] == "down").collect();
    let told = |target: &&Value| {
        let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
        format!("{} ({})", text("scrapeUrl"), text("lastError"))
    };
    (all.len(), down.len(), down.iter().take(NAMED_MAX).map(told).collect())
}

fn failing_rules(groups: &Value) -> Vec<String> {
    let groups = groups.as_array().map(Vec::as_slice).unwrap_or_default();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    let failing = rules.filter(|rule| rule["health"] == "err");
    let told = |rule: &Value| {
        let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        format!("{} ({})", text("name"), text("lastError"))
    };
    failing.map(told).collect()
}
