//! Rules of a VirtualService that no request can reach, because rules before them take everything.
//!
//! The conditions are those of istio's validation of VirtualServices (`analyzeUnreachable…Rules`).

use std::collections::{BTreeMap, HashMap};

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::{Node, Value};

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0204",
        severity: Severity::Warning,
        title: "a rule of a route is never reached",
        also: &["IST0130"],
        run: unreachable,
    },
    Check {
        code: "MS0205",
        severity: Severity::Info,
        title: "a match of a route is taken by an earlier one",
        also: &["IST0131"],
        run: ineffective,
    },
];

/// What is wrong with one rule.
enum Lost {
    /// The rule, and why no request reaches it.
    Rule(usize, &'static str),
    /// The match of a rule, and what takes its requests.
    Match(usize, usize, String),
}

fn unreachable(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |route, protocol, lost| {
        if let Lost::Rule(rule, why) = lost {
            found.at(route, &format!("spec.{protocol}[{rule}]"), format!("no request reaches this rule: {why}"));
        }
    });
}

fn ineffective(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |route, protocol, lost| {
        if let Lost::Match(rule, at, taken) = lost {
            let message = format!("{taken} takes all requests of this match before it");
            found.at(route, &format!("spec.{protocol}[{rule}].match[{at}]"), message);
        }
    });
}

fn each(scene: &Scene<'_>, mut say: impl FnMut(&Resource, &str, &Lost)) {
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        for protocol in ["http", "tcp", "tls"] {
            let rules = route.list(&format!("spec.{protocol}"));
            let mut lost = repeated(rules, protocol == "http");
            if protocol == "http" {
                lost.extend(covered(rules));
            }
            lost.iter().for_each(|one| say(route, protocol, one));
        }
    }
}

fn list<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    node.get(key).map(Node::items).unwrap_or_default()
}

fn name(rule: &Node, at: usize) -> String {
    match rule.get("name").and_then(Node::as_str) {
        Some(name) => format!("rule \"{name}\""),
        None => format!("rule {}", at + 1),
    }
}

/// Rules behind one that takes everything, and matches that were there before.
fn repeated(rules: &[Node], http: bool) -> Vec<Lost> {
    let mut lost = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut open = false;
    for (at, rule) in rules.iter().enumerate() {
        let matches = list(rule, "match");
        if matches.is_empty() {
            if open {
                lost.push(Lost::Rule(at, "a rule before it has no match either, and takes everything"));
            }
            open = true;
            continue;
        }
        if open {
            lost.push(Lost::Rule(at, "a rule without a match stands before it and takes everything"));
            continue;
        }
        let mut known = 0;
        for (number, one) in matches.iter().enumerate() {
            match seen.get(&canonical(one)) {
                Some(&before) => {
                    lost.push(Lost::Match(at, number, format!("the same match of {}", name(&rules[before], before))));
                    known += 1;
                }
                None => {
                    seen.insert(canonical(one), at);
                }
            }
        }
        // TCP and TLS routes have no overlapping prefixes; a rule is lost only when all its matches are.
        if known == matches.len() && (http || !matches.is_empty()) {
            lost.push(Lost::Rule(at, "all its matches stand in rules before it"));
        }
    }
    lost
}

/// A match as a text in which equal ones are equal: keys sorted, its name left out.
pub(super) fn canonical(node: &Node) -> String {
    fn write(node: &Node, top: bool, text: &mut String) {
        match &node.value {
            Value::Null => text.push('~'),
            Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => text.push_str(number),
            Value::String(string) => text.push_str(&format!("{string:?}")),
            Value::Sequence(items) => {
                text.push('[');
                items.iter().for_each(|item| {
                    write(item, false, text);
                    text.push(',');
                });
                text.push(']');
            }
            Value::Mapping(entries) => {
                let mut sorted: Vec<(&str, &Node)> =
                    entries.iter().filter_map(|(key, value)| Some((key.as_str()?, value))).collect();
                sorted.sort_by_key(|(key, _)| *key);
                text.push('{');
                for (key, value) in sorted.into_iter().filter(|(key, _)| !(top && *key == "name")) {
                    text.push_str(key);
                    text.push(':');
                    write(value, false, text);
                    text.push(',');
                }
                text.push('}');
            }
        }
    }
    let mut text = String::new();
    write(node, true, &mut text);
    text
}

/// A match by a prefix of the path, as istio compares them.
struct Prefix<'a> {
    rule: usize,
    at: usize,
    path: &'a str,
    port: &'a str,
    method: String,
    authority: String,
    maps: [BTreeMap<&'a str, String>; 3],
}

/// A string match as istio compares them: how, and what.
fn string_match(node: Option<&Node>) -> String {
    let part = |key: &str| node.and_then(|node| node.get(key)).and_then(Node::as_str).filter(|text| !text.is_empty());
    match (part("exact"), part("prefix")) {
        (Some(exact), _) => format!("exact {exact}"),
        (None, Some(prefix)) => format!("prefix {prefix}"),
        (None, None) => String::new(),
    }
}

impl<'a> Prefix<'a> {
    fn of(rule: usize, at: usize, node: &'a Node) -> Option<Self> {
        let path = node.get("uri")?.get("prefix")?.as_str().filter(|path| !path.is_empty())?;
        let map = |key: &str| {
            let entries = node.get(key).map(Node::entries).unwrap_or_default().iter();
            entries.filter_map(|(key, value)| Some((key.as_str()?, string_match(Some(value))))).collect()
        };
        let method = string_match(node.get("method"));
        Some(Self {
            rule,
            at,
            path,
            port: node.get("port").and_then(Node::as_str).unwrap_or_default(),
            method: if method.is_empty() { "exact GET".to_owned() } else { method },
            authority: string_match(node.get("authority")),
            maps: [map("headers"), map("queryParams"), map("withoutHeaders")],
        })
    }

    /// Whether this takes all that `later` would.
    fn covers(&self, later: &Self) -> bool {
        let maps = self.maps.iter().zip(&later.maps).all(|(own, other)| {
            own.len() == other.len()
                && own.iter().all(|(key, value)| other.get(key).is_some_and(|found| value.starts_with(found.as_str())))
        });
        later.path.starts_with(self.path)
            && later.path != self.path
            && later.port == self.port
            && self.method.starts_with(&later.method)
            && self.authority.starts_with(&later.authority)
            && maps
    }
}

fn covered(rules: &[Node]) -> Vec<Lost> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut prefixes: Vec<Prefix<'_>> = Vec::new();
    for (rule, node) in rules.iter().enumerate() {
        if list(node, "match").is_empty() {
            break;
        }
        for (at, one) in list(node, "match").iter().enumerate() {
            if seen.insert(canonical(one), rule).is_none() {
                prefixes.extend(Prefix::of(rule, at, one));
            }
        }
    }
    let mut lost = Vec::new();
    for (number, later) in prefixes.iter().enumerate() {
        for before in prefixes[..number].iter().filter(|before| before.covers(later)) {
            let taken = format!("the prefix {} of {}", before.path, name(&rules[before.rule], before.rule));
            lost.push(Lost::Match(later.rule, later.at, taken));
        }
    }
    lost
}
