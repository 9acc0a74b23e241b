//! Our texts against promtool's own, for value 0.5 and labels `__name__=m instance=a job=j`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;
use crate::promql;
use crate::series::{self, Head};

/// What promtool 2.42 says otherwise than Prometheus 3.5, and why.
const DIFFERS: [(&str, &str); 5] = [
    ("{{ externalURL }}|{{ pathPrefix }}|{{ $externalURL }}", "http://h:1/p|/p|http://h:1/p"), // promtool gave it none
    ("{{ range 3 }}x{{ end }}", "xxx"),                                                        // Go 1.22
    ("{{ if }}", "refused: template: __alert_X:1: empty command"),                             // the parser's own words
    (
        "{{ reReplaceAll \"(.*)-(.*)\" \"$2_$1\" \"a-b\" }} {{ reReplaceAll \"a(\" \"\" \"x\" }}", // so here
        "<error expanding template: error executing template __alert_X: template: __alert_X:1:160: executing \
         \"__alert_X\" at <reReplaceAll \"a(\" \"\" \"x\">: error calling reReplaceAll: regexp: Compile(`a(`): error \
         parsing regexp: error: unclosed group: `a(`>",
    ),
    (
        "{{ (query \"up\" | first).Labels.instance }} {{ (query \"up\" | first).Nope }}", // Go names its last command
        "<error expanding template: error executing template __alert_X: template: __alert_X:1:158: executing \
         \"__alert_X\" at <(query \"up\" | first).Nope>: can't evaluate field Nope in type *template.sample>",
    ),
];

async fn expanded(text: &str) -> String {
    let head = Head::new(series::Config::default());
    let at = Timestamp::from_millis(0);
    for (instance, value) in [("b", 2.0), ("c", 1_000_000.0)] {
        let labels = Labels::from_pairs([("__name__", "up"), ("instance", instance)]);
        let series = head.intern(&labels).unwrap();
        head.append_at(at, &[(series, value)]);
    }
    let engine = promql::Engine::new(promql::Config::default());
    let options = promql::QueryOptions { timeout: Some(Duration::from_secs(5)), ..promql::QueryOptions::default() };
    let querier = Querier { engine: &engine, store: &head, options: &options };
    let labels = Labels::from_pairs([("__name__", "m"), ("instance", "a"), ("job", "j")]);
    let external_labels = Labels::from_pairs([("env", "prod")]);
    let about =
        About { labels: &labels, value: 0.5, at, external_labels: &external_labels, external_url: "http://h:1/p" };
    match Text::parse("X", text) {
        Ok(text) => text.expand(&about, &querier).await.0,
        Err(error) => format!("refused: {error}"),
    }
}

#[tokio::test]
async fn says_what_promtool_says() {
    let reference: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(include_str!("promtool.json")).unwrap();
    let mut differences = Vec::new();
    for (text, said) in &reference {
        let said = said.as_str().unwrap().replace("Value float64 }", "Value interface {} }");
        let said = match said.strip_prefix("RAW ") {
            Some(refused) => format!("refused: {}", &refused[refused.find("template: ").unwrap()..]),
            None => said,
        };
        let expect = DIFFERS.iter().find(|(other, _)| other == text).map_or(said, |(_, expect)| (*expect).to_owned());
        let got = expanded(text).await;
        if got != expect {
            differences.push(format!("{text}\n  promtool {expect}\n  ours     {got}"));
        }
    }
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), reference.len(), differences.join("\n"));
}
