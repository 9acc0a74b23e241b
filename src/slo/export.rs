//! Rule groups as the text of a rule file, for other Prometheus servers.
//!
//! In: groups. Out: YAML that this program and promtool read as the same rules. Every text is quoted as JSON, which is
//! YAML, whatever it holds; expressions stand in blocks, over several lines where they are long.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use super::selector::quoted;
use crate::rules::{Rule, RuleGroup, Text};
use crate::units::PromDuration;

/// A whole rule file. Groups of one name, which come of different files, are told apart by a number.
pub fn export<'a>(groups: impl IntoIterator<Item = &'a RuleGroup>) -> String {
    let (mut text, mut names) = ("groups:\n".to_owned(), BTreeSet::new());
    for group in groups {
        let mut name = group.name.clone();
        let mut number = 1;
        while !names.insert(name.clone()) {
            number += 1;
            name = format!("{} ({number})", group.name);
        }
        // Writing to a text cannot fail.
        let _ = write_group(&mut text, &name, group);
    }
    text
}

fn write_group(text: &mut String, name: &str, group: &RuleGroup) -> std::fmt::Result {
    let RuleGroup { interval, query_offset, limit, rules, .. } = group;
    writeln!(text, "- name: {}", scalar(name))?;
    writeln!(text, "  interval: {}", duration(*interval))?;
    if let Some(offset) = query_offset {
        writeln!(text, "  query_offset: {}", duration(*offset))?;
    }
    if *limit > 0 {
        writeln!(text, "  limit: {limit}")?;
    }
    writeln!(text, "  rules:")?;
    rules.iter().try_for_each(|rule| write_rule(text, rule))
}

fn write_rule(text: &mut String, rule: &Rule) -> std::fmt::Result {
    let kind = if matches!(rule, Rule::Alerting(_)) { "alert" } else { "record" };
    writeln!(text, "  - {kind}: {}", scalar(rule.name()))?;
    let pretty = rule.expr().pretty();
    // A block takes its indent from its first line, unless it is told.
    writeln!(text, "    expr: |{}-", if pretty.starts_with(' ') { "2" } else { "" })?;
    for line in pretty.lines() {
        writeln!(text, "      {line}")?;
    }
    let Rule::Alerting(alert) = rule else { return write_map(text, "labels", rule.labels()) };
    for (key, length) in [("for", alert.hold), ("keep_firing_for", alert.keep_firing_for)] {
        if !length.is_zero() {
            writeln!(text, "    {key}: {}", duration(length))?;
        }
    }
    let written = |texts: &[(String, Text)]| {
        texts.iter().map(|(name, text)| (name.clone(), text.written().to_owned())).collect::<Vec<_>>()
    };
    write_map(text, "labels", written(&alert.labels))?;
    write_map(text, "annotations", written(&alert.annotations))
}

fn write_map(text: &mut String, key: &str, pairs: Vec<(String, String)>) -> std::fmt::Result {
    if pairs.is_empty() {
        return Ok(());
    }
    writeln!(text, "    {key}:")?;
    pairs.iter().try_for_each(|(name, value)| writeln!(text, "      {}: {}", scalar(name), quoted(value)))
}

fn duration(length: Duration) -> PromDuration {
    PromDuration::from(length)
}

/// A name as it is where no reader can take it for something else.
fn scalar(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_:-.".contains(c);
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(plain)
        && !name.ends_with(':')
        && !matches!(
            name.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
        );
    if is_plain { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::rules::file;

    fn every(seconds: u64) -> file::ReadOptions {
        file::ReadOptions { interval: Duration::from_secs(seconds), ..file::ReadOptions::default() }
    }

    #[test]
    fn what_is_written_reads_as_the_same_rules() {
        let written = r#"
groups:
- name: "a: b"
  interval: 90s
  query_offset: 10s
  limit: 3
  rules:
  - {record: "a:b", expr: 'sum by (x) (rate(y{z="\\d \"q\""}[5m])) # c', labels: {x: "1", "on": "é\n"}}
- name: g
  labels: {team: "{{ $value }}"}
  rules:
  - alert: A
    expr: up == 0 and on () (vector(1) > 0) unless absent_over_time(some_metric_with_a_long_name{job="j"}[1h]) or up
    for: 5m
    keep_firing_for: 1m
    annotations: {summary: "{{ $labels.x }} is \"down\"\n- not: yaml"}
"#;
        let read = file::parse("r.yml", written, every(60));
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        let text = export(&read.groups);
        let again = file::parse("r.yml", &text, every(15));
        assert!(again.problems.is_empty(), "{text}\n{:?}", again.problems);
        assert_eq!(again.groups.len(), 2);
        for (a, b) in read.groups.iter().zip(&again.groups) {
            assert!(a.is_same(b), "{a:#?}\n{b:#?}\n{text}");
        }
        let twice = export(read.groups.iter().chain(&read.groups));
        assert!(file::parse("r.yml", &twice, every(15)).problems.is_empty(), "{twice}");
    }
}
