//! Receivers of the kinds that tell nobody: the mistakes for which Alertmanager would refuse the file.
//!
//! In: the tree of the file. Out: problems with their places. Pure.

use crate::yaml::{Node, Problem, Value};

/// One kind: what each of its blocks must hold, as groups of keys of which one must be given; a key of `global` stands in
/// where it begins with `global.`. Rules of Alertmanager's `config/receivers.go`.
const KINDS: [(&str, &[&[&str]]); 14] = [
    ("discord_configs", &[&["webhook_url", "webhook_url_file"]]),
    ("incidentio_configs", &[&["url", "url_file"]]),
    ("jira_configs", &[&["project"], &["issue_type"], &["api_url", "global.jira_api_url"]]),
    (
        "mattermost_configs",
        &[&["webhook_url", "webhook_url_file", "global.mattermost_webhook_url", "global.mattermost_webhook_url_file"]],
    ),
    ("msteams_configs", &[&["webhook_url", "webhook_url_file"]]),
    ("msteamsv2_configs", &[&["webhook_url", "webhook_url_file"]]),
    ("opsgenie_configs", &[&["api_key", "api_key_file", "global.opsgenie_api_key", "global.opsgenie_api_key_file"]]),
    ("pushover_configs", &[&["user_key", "user_key_file"], &["token", "token_file"]]),
    (
        "rocketchat_configs",
        &[
            &["token", "token_file", "global.rocketchat_token", "global.rocketchat_token_file"],
            &["token_id", "token_id_file", "global.rocketchat_token_id", "global.rocketchat_token_id_file"],
        ],
    ),
    ("sns_configs", &[&SNS]),
    (
        "telegram_configs",
        &[
            &["bot_token", "bot_token_file", "global.telegram_bot_token", "global.telegram_bot_token_file"],
            &["chat_id", "chat_id_file"],
        ],
    ),
    (
        "victorops_configs",
        &[&["api_key", "api_key_file", "global.victorops_api_key", "global.victorops_api_key_file"], &["routing_key"]],
    ),
    ("webex_configs", &[&["room_id"], &["http_config"]]),
    (
        "wechat_configs",
        &[
            &["api_secret", "api_secret_file", "global.wechat_api_secret", "global.wechat_api_secret_file"],
            &["corp_id", "global.wechat_api_corp_id"],
        ],
    ),
];

/// Where a message may go: to one of these.
const SNS: [&str; 3] = ["topic_arn", "target_arn", "phone_number"];

/// The mistakes in `global` and in the receivers.
pub(super) fn problems(root: &Node) -> Vec<Problem> {
    let mut found = Vec::new();
    let global = root.get("global");
    global.into_iter().for_each(|node| twice(node, "global", &mut found));
    for (i, receiver) in items(root.get("receivers")).iter().enumerate() {
        for (kind, needs) in KINDS {
            for (j, block) in items(receiver.get(kind)).iter().enumerate() {
                let path = format!("receivers[{i}].{kind}[{j}]");
                twice(block, &path, &mut found);
                let mut wrong = |message: String| found.push(problem(block, &path, message));
                for keys in needs {
                    let is_given = keys.iter().any(|key| match key.strip_prefix("global.") {
                        Some(key) => global.is_some_and(|node| given(node, key)),
                        None => given(block, key),
                    });
                    if !is_given {
                        wrong(format!("needs {}", keys.join(", or ")));
                    }
                }
                if kind == "sns_configs" && SNS.iter().filter(|key| given(block, key)).count() > 1 {
                    wrong(format!("needs exactly one of {}", SNS.join(", ")));
                }
            }
        }
    }
    found
}

/// A secret that is given itself and by file.
fn twice(node: &Node, path: &str, found: &mut Vec<Problem>) {
    let keys = node.entries().iter().filter_map(|(key, _)| key.as_str());
    for key in keys.filter(|key| given(node, key) && given(node, &format!("{key}_file"))) {
        found.push(problem(node, path, format!("at most one of {key} & {key}_file must be configured")));
    }
}

fn problem(node: &Node, path: &str, message: String) -> Problem {
    Problem { line: node.line, column: node.column, path: path.to_owned(), message }
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::Sequence(items)) => items,
        _ => &[],
    }
}

fn given(node: &Node, key: &str) -> bool {
    node.get(key).is_some_and(|value| match &value.value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    })
}
