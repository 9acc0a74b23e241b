//! What a pasted file may hold that meshscope does not do: it loads, and says so.
//!
//! In: the tree of the file as it was read. Out: the tree without what is not offered, warnings, and the mistakes that
//! Alertmanager would find there. Invariant: nothing that would tell somebody is left out without a word.

mod receivers;

use super::File;
use crate::yaml::{Node, Problem, Value};

const HISTOGRAMS: &str = "histograms are kept as their classic buckets";
const NAMES: &str = "names are UTF-8, as the page has them";

/// Keys of prometheus.yml's block `otlp` that stand under `push` here, with the same meaning.
const PUSHED: [&str; 5] = [
    "promote_resource_attributes",
    "promote_all_resource_attributes",
    "ignore_resource_attributes",
    "keep_identifying_resource_attributes",
    "translation_strategy",
];

/// Keys of prometheus.yml that are read over: the block, the key, what is instead.
const KEYS: [(&str, &str, &str); 17] = [
    ("", "runtime", "it is of Go"),
    ("storage", "tsdb", "use storage.retention and storage.out_of_order_window"),
    ("otlp", "promote_scope_metadata", "metrics bear no labels of their scope"),
    ("otlp", "convert_histograms_to_nhcb", HISTOGRAMS),
    ("global", "query_log_file", "queries are written to no file"),
    ("scrape", "scrape_failure_log_file", "the targets say why a scrape failed"),
    ("scrape", "keep_dropped_targets", "use the limits of discovery"),
    ("scrape", "metric_name_validation_scheme", NAMES),
    ("scrape", "metric_name_escaping_scheme", NAMES),
    ("scrape", "scrape_native_histograms", HISTOGRAMS),
    ("scrape", "always_scrape_classic_histograms", HISTOGRAMS),
    ("scrape", "scrape_classic_histograms", HISTOGRAMS),
    ("scrape", "convert_classic_histograms_to_nhcb", HISTOGRAMS),
    ("scrape", "native_histogram_bucket_limit", HISTOGRAMS),
    ("scrape", "native_histogram_min_bucket_factor", HISTOGRAMS),
    ("scrape", "extra_scrape_metrics", "a scrape adds the usual five series"),
    ("scrape", "proxy_connect_header", "proxies are asked without headers of one's own"),
];

/// What was found in the tree.
#[derive(Debug, Default)]
pub(super) struct Pasted {
    pub(super) warnings: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

/// Takes what is not offered out of the tree.
pub(super) fn take(root: &mut Node) -> Pasted {
    let mut found = Pasted::default();
    for (block, key, instead) in KEYS {
        let blocks: &[&str] = if block == "scrape" { &["global", "scrape_configs"] } else { &[block] };
        for block in blocks {
            let taken = match *block {
                "" => taken(root, key).is_some(),
                "scrape_configs" => items_mut(root, block).filter_map(|job| taken(job, key)).count() > 0,
                block => value_mut(root, block).is_some_and(|node| taken(node, key).is_some()),
            };
            if taken {
                let joint = if block.is_empty() { "" } else { "." };
                found.warnings.push(format!("{block}{joint}{key} is not supported: {instead}"));
            }
        }
    }
    // prometheus.yml has the number in a block of its own.
    if let Some(exemplars) = value_mut(root, "storage").and_then(|storage| value_mut(storage, "exemplars"))
        && let Some(most) = exemplars.get("max_exemplars").cloned()
    {
        *exemplars = most;
    }
    push(root);
    found.problems = receivers::problems(root);
    found
}

/// What prometheus.yml says of OTLP metrics, unless it is said in our own block.
fn push(root: &mut Node) {
    let Some(otlp) = value_mut(root, "otlp") else { return };
    let moved: Vec<(Node, Node)> = PUSHED.into_iter().filter_map(|key| taken(otlp, key)).collect();
    let Some((place, _)) = moved.first().cloned() else { return };
    let Value::Mapping(blocks) = &mut root.value else { return };
    if !blocks.iter().any(|(name, _)| name.as_str() == Some("push")) {
        let (key, value) = (Value::String("push".to_owned()), Value::Mapping(Vec::new()));
        blocks.push((Node { value: key, ..place.clone() }, Node { value, ..place }));
    }
    let Some(Value::Mapping(own)) = value_mut(root, "push").map(|push| &mut push.value) else { return };
    for (key, value) in moved {
        if !own.iter().any(|(name, _)| name.as_str() == key.as_str()) {
            own.push((key, value));
        }
    }
}

fn value_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Value::Mapping(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
}

fn items_mut<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = &'a mut Node> {
    let items = value_mut(node, key).map(|list| match &mut list.value {
        Value::Sequence(items) => items.as_mut_slice(),
        _ => &mut [],
    });
    items.unwrap_or_default().iter_mut()
}

fn taken(node: &mut Node, key: &str) -> Option<(Node, Node)> {
    let Value::Mapping(entries) = &mut node.value else { return None };
    let at = entries.iter().position(|(name, _)| name.as_str() == Some(key))?;
    Some(entries.remove(at))
}

impl File {
    /// What is given and does nothing, one sentence each.
    pub(super) fn not_offered(&self) -> Vec<String> {
        let blocks = [
            ("remote_read", &self.remote_read, "history is kept in PostgreSQL"),
            ("tracing", &self.tracing, "use telemetry.otlp_endpoint"),
            ("event_recorder", &self.event_recorder, "the outbox and the history of alerts keep what happened"),
        ];
        let given = blocks.into_iter().filter(|(_, block, _)| block.is_some());
        let blocks = given.map(|(name, _, instead)| format!("the block `{name}` is not supported: {instead}"));
        let globals = self
            .global
            .keys_not_offered()
            .into_iter()
            .map(|key| format!("global.{key} is not supported: {}", why_not_offered(key)));
        blocks.chain(globals).collect()
    }
}

/// Why a key of `global` does nothing here.
fn why_not_offered(key: &str) -> &'static str {
    match key {
        key if key.starts_with("smtp_") => "mails are sent with smtp_auth_username and smtp_auth_password",
        key if key.starts_with("slack_") => "messages go to Slack's incoming webhooks alone",
        _ => "it is for receivers of a kind that tells nobody",
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn warnings(text: &str) -> Vec<String> {
        Config::parse(text, None).unwrap_or_else(|error| panic!("{text}: {error}")).warnings
    }

    #[test]
    fn keys_of_a_pasted_prometheus_file_are_read_over_and_named() {
        let text = "
global: {query_log_file: /q, metric_name_validation_scheme: legacy}
runtime: {gogc: 50}
storage: {tsdb: {out_of_order_time_window: 30m}, exemplars: {max_exemplars: 7}}
otlp: {promote_resource_attributes: [a], keep_identifying_resource_attributes: true, promote_scope_metadata: true}
scrape_configs:
- {job_name: a, keep_dropped_targets: 5, scrape_failure_log_file: /f}
- {job_name: b, always_scrape_classic_histograms: true, keep_dropped_targets: 5}
";
        let found = warnings(text);
        let keys: Vec<&str> =
            found.iter().filter_map(|warning| warning.split_once(" is not").map(|(key, _)| key)).collect();
        assert_eq!(
            keys,
            [
                "runtime",
                "storage.tsdb",
                "otlp.promote_scope_metadata",
                "global.query_log_file",
                "scrape_configs.scrape_failure_log_file",
                "scrape_configs.keep_dropped_targets",
                "global.metric_name_validation_scheme",
                "scrape_configs.always_scrape_classic_histograms",
            ]
        );
        let config = Config::parse(text, None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.series.exemplars, 7);
        assert_eq!(config.push.promote_resource_attributes, ["a"]);
        assert!(config.push.keep_identifying_resource_attributes);
        let own = Config::parse(
            "{otlp: {ignore_resource_attributes: [a], promote_all_resource_attributes: true}, push: {ignore_resource_attributes: [b]}}",
            None,
        );
        assert_eq!(own.unwrap_or_else(|error| panic!("{error}")).push.ignore_resource_attributes, ["b"]);
        assert!(Config::parse("scrape_configs: [{job_name: a, dns_sd_configs: []}]", None).is_err());
    }

    #[test]
    fn receivers_that_tell_nobody_must_still_be_whole() {
        let check = |receiver: &str, global: &str, expect: &str| {
            let text = format!("global: {{{global}}}\nroute: {{receiver: a}}\nreceivers: [{{name: a, {receiver}}}]\n");
            match Config::parse(&text, None) {
                Ok(_) => assert_eq!(expect, "", "{text}"),
                Err(error) => {
                    assert!(!expect.is_empty() && error.to_string().contains(expect), "{text}: {error}");
                }
            }
        };
        check("opsgenie_configs: [{api_key: k}]", "", "");
        check("opsgenie_configs: [{}]", "opsgenie_api_key_file: k", "");
        check("opsgenie_configs: [{}]", "", "receivers[0].opsgenie_configs[0]: needs api_key");
        check("opsgenie_configs: [{api_key: k, api_key_file: f}]", "", "at most one of api_key & api_key_file");
        check("", "victorops_api_key: k, victorops_api_key_file: f", "global: at most one of victorops_api_key &");
        check("victorops_configs: [{api_key: k}]", "", "needs routing_key");
        check("telegram_configs: [{bot_token: t}]", "", "needs chat_id");
        check("telegram_configs: [{bot_token: t, chat_id: -1}]", "", "");
        check("wechat_configs: [{api_secret: s}]", "wechat_api_corp_id: c", "");
        check("wechat_configs: [{api_secret: s}]", "", "needs corp_id");
        check("sns_configs: [{topic_arn: t, phone_number: n}]", "", "exactly one of");
        check("discord_configs: [{webhook_url: ''}]", "", "needs webhook_url");
        check("jira_configs: [{issue_type: Bug, project: P}]", "jira_api_url: 'http://j'", "");
        check("jira_configs: [{issue_type: Bug}]", "jira_api_url: 'http://j'", "needs project");
    }
}
