//! What fields of Istio's other kinds must be together: policies, telemetry, plugins, patches.
//!
//! Sources: istiod's `pkg/config/validation/validation.go`, `security/security.go`, and the CEL rules of the CRDs.

use super::text;
use crate::yaml::{Node, Value};

type Said = Vec<(String, String)>;

fn say(said: &mut Said, path: &str, message: &str) {
    said.push((path.to_owned(), message.to_owned()));
}

fn filled(node: &Node, name: &str) -> bool {
    node.get(name).is_some_and(|value| match &value.value {
        Value::Null => false,
        Value::Sequence(items) => !items.is_empty(),
        Value::Mapping(entries) => !entries.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    })
}

fn word<'n>(node: &'n Node, name: &str) -> &'n str {
    node.get(name).and_then(Node::as_str).unwrap_or_default()
}

pub(super) fn peer(node: &Node, said: &mut Said) {
    let selects = node.get("selector").is_some_and(|selector| filled(selector, "matchLabels"));
    if filled(node, "portLevelMtls") && !selects {
        say(said, "portLevelMtls", "portLevelMtls requires selector: without one the ports have no effect");
    }
}

pub(super) fn source(node: &Node, said: &mut Said) {
    let names = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
    for accounts in ["serviceAccounts", "notServiceAccounts"] {
        if filled(node, accounts) && names.iter().any(|name| filled(node, name)) {
            say(said, accounts, "Cannot set serviceAccounts with namespaces or principals");
        }
    }
    if node.entries().is_empty() {
        say(said, "", "a source without fields: istiod refuses it");
    }
}

pub(super) fn operation(node: &Node, said: &mut Said) {
    if node.entries().is_empty() {
        say(said, "", "an operation without fields: istiod refuses it");
    }
}

pub(super) fn condition(node: &Node, said: &mut Said) {
    if !filled(node, "values") && !filled(node, "notValues") {
        say(said, "", "a condition needs values or notValues");
    }
    let key = word(node, "key");
    for name in ["values", "notValues"] {
        for (at, value) in node.get(name).map(Node::items).unwrap_or_default().iter().enumerate() {
            let Some(value) = value.as_str() else { continue };
            let complaint = match key {
                "source.ip" | "remote.ip" | "destination.ip" => text::address_or_range(value),
                "destination.port" => text::port_key(value),
                _ => None,
            };
            if let Some(complaint) = complaint {
                say(said, &format!("{name}[{at}]"), &complaint);
            }
        }
    }
}

pub(super) fn authorization_rule(node: &Node, said: &mut Said) {
    for (name, part) in [("from", "source"), ("to", "operation")] {
        let Some(list) = node.get(name) else { continue };
        if matches!(&list.value, Value::Sequence(items) if items.is_empty()) {
            say(said, name, &format!("`{name}` cannot be empty: leave it out to mean everything"));
        }
        for (at, item) in list.items().iter().enumerate() {
            if item.get(part).is_none_or(|part| part.value == Value::Null) {
                say(said, &format!("{name}[{at}]"), &format!("`{name}` needs a {part}"));
            }
        }
    }
}

pub(super) fn authorization(node: &Node, said: &mut Said) {
    let custom = word(node, "action") == "CUSTOM";
    let provider = node.get("provider").is_some_and(|provider| filled(provider, "name"));
    if custom && !provider {
        say(said, "provider", "CUSTOM action must specify `provider.name`: nobody is asked");
    }
    if !custom && node.get("provider").is_some_and(|provider| provider.value != Value::Null) {
        say(said, "provider", "`provider` must not be used with an action other than CUSTOM");
    }
    if word(node, "action") == "DENY" && !filled(node, "rules") {
        say(said, "rules", "DENY policy without `rules` is meaningless as it never denies anything");
    }
    if custom && !filled(node, "rules") {
        say(said, "rules", "CUSTOM policy without `rules` is meaningless as it never asks anybody");
    }
}

pub(super) fn tag_override(node: &Node, said: &mut Said) {
    let value = filled(node, "value");
    match word(node, "operation") {
        "REMOVE" if value => say(said, "value", "value must not be set when operation is REMOVE"),
        "" | "UPSERT" if !value => say(said, "value", "value must be set when operation is UPSERT"),
        _ => {}
    }
}

pub(super) fn wasm_variable(node: &Node, said: &mut Said) {
    if word(node, "valueFrom") == "HOST" && filled(node, "value") {
        say(said, "value", "value may only be set when valueFrom is INLINE");
    }
}

pub(super) fn patch_match(node: &Node, said: &mut Said) {
    let context = word(node, "context");
    let has = |name: &str| node.get(name).is_some_and(|value| value.value != Value::Null);
    if has("waypoint") && context != "WAYPOINT" {
        say(said, "waypoint", "only support waypointMatch when context is WAYPOINT");
    }
    if context == "WAYPOINT" && ["listener", "routeConfiguration", "cluster"].iter().any(|name| has(name)) {
        say(said, "context", "only support waypointMatch when context is WAYPOINT: the other matches never fit");
    }
}
