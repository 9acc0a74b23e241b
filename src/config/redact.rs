//! The configuration as it may be shown: every secret replaced.

use crate::yaml::{self, Node, Value};

/// Keys whose value is a secret wherever they stand.
const SECRET_KEYS: [&str; 31] = [
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "api_key",
    "routing_key",
    "service_key",
    "api_url",
    "secrets",
    "smtp_auth_password",
    "smtp_auth_secret",
    "auth_password",
    "auth_secret",
    "slack_api_url",
    "slack_app_token",
    "app_token",
    "opsgenie_api_key",
    "victorops_api_key",
    "wechat_api_secret",
    "api_secret",
    "telegram_bot_token",
    "bot_token",
    "rocketchat_token",
    "rocketchat_token_id",
    "token",
    "token_id",
    "mattermost_webhook_url",
    "webhook_url",
    "user_key",
    "alert_source_token",
    "secret_key",
];

/// Keys of `global` that Alertmanager would refuse.
const GLOBAL_OF_PROMETHEUS: [&str; 12] = [
    "scrape_interval",
    "scrape_timeout",
    "scrape_protocols",
    "evaluation_interval",
    "rule_query_offset",
    "external_labels",
    "body_size_limit",
    "sample_limit",
    "target_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
];

/// The text with its secrets replaced and its comments gone; empty when it is not YAML.
pub fn redacted(text: &str) -> String {
    let nodes = yaml::documents(text).unwrap_or_default();
    let shown: Vec<String> =
        (nodes.iter()).filter_map(|node| serde_saphyr::to_string(&shown(node, None)).ok()).collect();
    shown.join("---\n")
}

/// The blocks that `alertmanager.yml` has as well, redacted, so that `amtool` can read what it is told.
pub fn alertmanager_part(text: &str) -> String {
    let nodes = yaml::documents(text).unwrap_or_default();
    let Some(node) = nodes.first() else { return String::new() };
    let mut kept = serde_json::Map::new();
    for key in ["route", "inhibit_rules", "receivers", "time_intervals", "mute_time_intervals"] {
        if let Some(block) = node.get(key) {
            kept.insert(key.to_owned(), shown(block, None));
        }
    }
    if let Some(serde_json::Value::Object(mut global)) = node.get("global").map(|global| shown(global, None)) {
        global.retain(|key, _| !GLOBAL_OF_PROMETHEUS.contains(&key.as_str()));
        kept.insert("global".to_owned(), global.into());
    }
    serde_saphyr::to_string(&serde_json::Value::Object(kept)).unwrap_or_default()
}

/// The items of one block of a redacted text, as YAML; empty when there is none.
pub(super) fn block(redacted: &str, key: &str) -> String {
    let nodes = yaml::documents(redacted).unwrap_or_default();
    let items = nodes.first().and_then(|node| node.get(key)).map(Node::items).unwrap_or_default();
    // Redacted once more, which changes nothing.
    let items: Vec<serde_json::Value> = items.iter().map(|item| shown(item, None)).collect();
    if items.is_empty() { String::new() } else { serde_saphyr::to_string(&items).unwrap_or_default() }
}

fn shown(node: &Node, key: Option<&str>) -> serde_json::Value {
    if key.is_some_and(|key| SECRET_KEYS.contains(&key)) && node.value != Value::Null {
        return "<secret>".into();
    }
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(text) => text.parse().map_or_else(|_| text.clone().into(), serde_json::Value::Number),
        Value::String(text) => shown_text(text, key).into(),
        Value::Sequence(items) => items.iter().map(|item| shown(item, None)).collect(),
        Value::Mapping(entries) => (entries.iter())
            .map(|(key, value)| {
                let key = key.as_str().unwrap_or_default();
                (key.to_owned(), shown(value, Some(key)))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// A webhook's or list's address may be a secret as a whole; any other address loses its password, and with it its query
/// when that may hold one.
fn shown_text(text: &str, key: Option<&str>) -> String {
    // `tls_config.key` holds a private key; other keys of that name are no secret.
    if key == Some("url") || text.contains("PRIVATE KEY-----") {
        return "<secret>".to_owned();
    }
    let Ok(mut url) = reqwest::Url::parse(text) else {
        let must_be_one = matches!(key, Some("database_url" | "proxy_url"));
        return if must_be_one { "<secret>".to_owned() } else { text.to_owned() };
    };
    let names_a_secret = |name: &str| name.contains("password") || name.contains("token") || name.contains("secret");
    let in_query = url.query_pairs().any(|(name, _)| names_a_secret(&name));
    if url.password().is_none() && !in_query {
        return text.to_owned();
    }
    if in_query {
        url.set_query(Some("xxxxx"));
    }
    if url.password().is_some() && url.set_password(Some("xxxxx")).is_err() {
        return "<secret>".to_owned();
    }
    url.to_string()
}
