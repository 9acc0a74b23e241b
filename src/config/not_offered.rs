//! What a pasted file may hold that meshscope does not do: it loads, and says so.
//!
//! In: the file as it was read. Out: warnings. Invariant: nothing that would tell somebody is left out without a word.

use super::File;

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
