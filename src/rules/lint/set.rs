//! What only shows when rules are seen together: the same rule twice.

use std::collections::BTreeMap;

use super::Finding;
use super::codes;
use super::walk::finding;
use crate::rules::definition::{Rule, RuleGroup};

type Identity<'a> = (String, Vec<(String, String)>, &'a str);
type Place<'a> = (&'a RuleGroup, &'a Rule);

pub(super) fn duplicates(groups: &[&RuleGroup], findings: &mut Vec<Finding>) {
    let all: Vec<Place<'_>> = groups.iter().flat_map(|group| group.rules.iter().map(|rule| (*group, rule))).collect();
    let mut first: BTreeMap<Identity<'_>, Place<'_>> = BTreeMap::new();
    let mut same: BTreeMap<(bool, &str), Place<'_>> = BTreeMap::new();
    for (group, rule) in all {
        let is_alert = matches!(rule, Rule::Alerting(_));
        let (name, labels) = rule.identity();
        // Alerts of one name may have several expressions; two recordings of one name write over each other.
        let expression = if is_alert { rule.query() } else { "" };
        if let Some((other, before)) = first.get(&(name.clone(), labels.clone(), expression)) {
            let place = format!("{}:{}", other.file, before.line());
            let message = match is_alert || rule.query() == before.query() {
                true => {
                    format!("the same rule stands at {place} already: one of the two is forgotten at the next change")
                }
                false => format!(
                    "the rule at {place} records the same metric with the same labels: samples of the two can collide"
                ),
            };
            let code = match is_alert || rule.query() == before.query() {
                true => codes::DUPLICATE_RULE,
                false => codes::RECORDED_TWICE,
            };
            findings.push(finding(group, rule, code, message, None));
            continue;
        }
        first.insert((name, labels, expression), (group, rule));
        match same.get(&(is_alert, rule.query())) {
            Some((other, before)) if before.name() != rule.name() && !rule.expr().selectors().is_empty() => {
                let message = format!(
                    "{} ({}:{}) has the same expression: both fire for one cause",
                    before.name(),
                    other.file,
                    before.line()
                );
                let message = if is_alert {
                    message
                } else {
                    message.replace("both fire for one cause", "it is evaluated twice")
                };
                findings.push(finding(group, rule, codes::SAME_EXPRESSION, message, None));
            }
            Some(_) => {}
            None => drop(same.insert((is_alert, rule.query()), (group, rule))),
        }
    }
}
