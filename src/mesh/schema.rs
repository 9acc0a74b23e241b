//! What the fields of each kind may hold, as a cluster and istiod judge them on `apply`.
//!
//! In: a [`Resource`]. Out: [`Fault`]s with the path of the field. The knowledge is in tables (`Shape`s of `Field`s);
//! only what spans fields is code (`rules`). Invariant: a value is judged once, by the field that holds it; kinds without a
//! table have no faults. Sources: the CRDs of istio/api 1.29 with their CEL rules, istiod's `pkg/config/validation`,
//! gateway-api 1.4, the CRDs of Linkerd 2.18 and the Kubernetes API reference.

mod gateway_api;
mod istio;
mod kubernetes;
mod linkerd;
mod network;
mod rules;
mod rules_network;
mod text;

use super::kind::Kind;
use super::resource::Resource;
use crate::yaml::{Node, Value};

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No such field: dropped silently, or refused by a strict cluster.
    Unknown,
    /// A list where a text belongs, and the like.
    Type,
    /// A field that must be there.
    Missing,
    /// A value outside of what is allowed.
    Value,
    /// Fields that do not go together.
    Combination,
}

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing.
    pub kind: FaultKind,
    /// Path from the top of the object, `spec.http[0].route`.
    pub path: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The line to write instead, where it is known.
    pub fix: Option<String>,
}

/// Judges a text; the complaint, if there is one.
type TextRule = fn(&str) -> Option<String>;
/// Judges fields together: the path below the object (may be empty) and the complaint.
type Rule = fn(&Node, &mut Vec<(String, String)>);

/// What a field may hold.
#[derive(Clone, Copy)]
enum Type {
    /// Text, which the rule may refuse.
    Text(TextRule),
    /// A whole number between two bounds.
    Integer(i64, i64),
    /// A number between two bounds.
    Number(f64, f64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// A Go duration of at least so many milliseconds.
    Duration(u64),
    /// A list of at least so many.
    List(&'static Type, usize),
    /// A map with any keys that the rule allows.
    Map(TextRule, &'static Type),
    /// An object.
    Object(&'static Shape),
    /// A number or a name.
    IntegerOrText,
    /// Anything.
    Any,
}

/// A field of an object.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    holds: Type,
}

/// An object: its fields and what they must be together.
#[derive(Clone, Copy)]
struct Shape {
    fields: &'static [Field],
    required: &'static [&'static str],
    /// Of each group at most one may be there.
    one_of: &'static [&'static [&'static str]],
    rules: &'static [Rule],
    /// Fields that are not listed are not looked at.
    open: bool,
    /// What the field `spec` holds, of whole objects.
    spec: Option<&'static Shape>,
}

const fn field(name: &'static str, holds: Type) -> Field {
    Field { name, holds }
}

impl Shape {
    const fn of(fields: &'static [Field]) -> Self {
        Self { fields, required: &[], one_of: &[], rules: &[], open: false, spec: None }
    }

    const fn required(mut self, names: &'static [&'static str]) -> Self {
        self.required = names;
        self
    }

    const fn one_of(mut self, groups: &'static [&'static [&'static str]]) -> Self {
        self.one_of = groups;
        self
    }

    const fn rules(mut self, rules: &'static [Rule]) -> Self {
        self.rules = rules;
        self
    }

    const fn open(mut self) -> Self {
        self.open = true;
        self
    }
}

const TEXT: Type = Type::Text(text::any);
const FILLED: Type = Type::Text(text::filled);
const TEXTS: Type = Type::List(&TEXT, 0);
const TEXT_MAP: Type = Type::Map(text::any, &TEXT);
const COUNT: Type = Type::Integer(0, u32::MAX as i64);
const PORT: Type = Type::Integer(1, 65535);

const METADATA: Shape = Shape::of(&[
    field("name", Type::Text(text::object_name)),
    field("generateName", TEXT),
    field("namespace", TEXT),
    field("labels", Type::Map(text::label_key, &Type::Text(text::label_value))),
    field("annotations", TEXT_MAP),
])
.open();

/// What is wrong with the fields of an object; nothing for a kind without a table.
pub fn faults(resource: &Resource) -> Vec<Fault> {
    let Some(top) = shape_of(resource.id.kind) else { return Vec::new() };
    let mut walk = Walk { quiet: resource.id.kind == Kind::ConfigMap, path: String::new(), faults: Vec::new() };
    walk.object(&resource.root, &top);
    if let Some(metadata) = resource.root.get("metadata") {
        walk.within("metadata", |walk| walk.object(metadata, &METADATA));
    }
    walk.faults
}

fn shape_of(kind: Kind) -> Option<Shape> {
    istio::shape(kind)
        .or_else(|| gateway_api::shape(kind))
        .or_else(|| linkerd::shape(kind))
        .or_else(|| kubernetes::shape(kind))
}

/// The text that ends in two colons, of which YAML made a key with one and no value.
fn colons(entries: &[(Node, Node)]) -> Option<String> {
    let [(key, value)] = entries else { return None };
    let key = key.as_str().filter(|key| key.ends_with(':') && value.value == Value::Null)?;
    Some(format!("{key}:"))
}

struct Walk {
    /// Values of this kind may be secrets: they are not quoted.
    quiet: bool,
    path: String,
    faults: Vec<Fault>,
}

impl Walk {
    fn within(&mut self, part: &str, look: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if !(part.starts_with('[') || self.path.is_empty()) {
            self.path.push('.');
        }
        self.path.push_str(part);
        look(self);
        self.path.truncate(length);
    }

    fn fault(&mut self, kind: FaultKind, message: String) {
        self.faults.push(Fault { kind, path: self.path.clone(), message, fix: None });
    }

    fn object(&mut self, node: &Node, shape: &Shape) {
        if !matches!(node.value, Value::Mapping(_)) {
            return self.fault(FaultKind::Type, format!("must be an object, not {}", self.what(node)));
        }
        for (key, value) in node.entries() {
            let Some(name) = key.as_str() else { continue };
            match shape.fields.iter().find(|field| field.name == name) {
                // A null counts as left out, but for the spec: an object without one is refused.
                Some(field) if value.value != Value::Null || (name == "spec" && shape.spec.is_some()) => {
                    let holds = shape.spec.filter(|_| name == "spec").map_or(field.holds, Type::Object);
                    self.within(name, |walk| walk.value(value, &holds));
                }
                None if !shape.open => self.within(name, |walk| walk.unknown(name, value, shape)),
                _ => {}
            }
        }
        let there = |name: &str| node.get(name).is_some_and(|value| value.value != Value::Null);
        for name in shape.required.iter().filter(|name| node.get(name).is_none()) {
            self.within(name, |walk| walk.fault(FaultKind::Missing, "is required, and not there".to_owned()));
        }
        for group in shape.one_of {
            let given: Vec<&str> = group.iter().copied().filter(|name| there(name)).collect();
            if given.len() > 1 {
                self.fault(FaultKind::Combination, format!("only one of {} can be set", given.join(", ")));
            }
        }
        for rule in shape.rules {
            let mut said = Vec::new();
            rule(node, &mut said);
            for (path, message) in said {
                if path.is_empty() {
                    self.fault(FaultKind::Combination, message);
                } else {
                    self.within(&path, |walk| walk.fault(FaultKind::Combination, message));
                }
            }
        }
    }

    fn unknown(&mut self, name: &str, value: &Node, shape: &Shape) {
        let near = shape.fields.iter().map(|field| (strsim::osa_distance(name, field.name), field.name)).min();
        let near = near.filter(|(distance, _)| *distance <= (name.len() / 3).max(2)).map(|(_, near)| near);
        let hint = near.map_or_else(|| ":".to_owned(), |near| format!(", did you mean `{near}`? As written,"));
        let message = format!("unknown field `{name}`{hint} a cluster drops it without a word, or refuses the object");
        let fix = near.map(|near| match value.as_str() {
            Some(text) => format!("{near}: {text}"),
            None => format!("{near}:"),
        });
        self.faults.push(Fault { kind: FaultKind::Unknown, path: self.path.clone(), message, fix });
    }

    fn value(&mut self, node: &Node, holds: &Type) {
        match (holds, &node.value) {
            (Type::Any, _) => {}
            (Type::Object(shape), _) => self.object(node, shape),
            (Type::Text(rule), Value::String(text)) => self.judge(rule(text)),
            // `[2001:db8::]`: text for the YAML of Kubernetes, a mapping by the letter of YAML 1.2.
            (Type::Text(rule), Value::Mapping(entries)) if colons(entries).is_some() => {
                self.judge(rule(&colons(entries).unwrap_or_default()));
            }
            (Type::Text(_), _) => {
                self.fault(FaultKind::Type, format!("must be text (in quotes), not {}", self.what(node)))
            }
            (Type::Integer(least, most), Value::Number(text)) => match text.parse::<i64>() {
                Ok(number) if (*least..=*most).contains(&number) => {}
                Ok(number) => self.judge(Some(outside(&number.to_string(), *least as f64, *most as f64))),
                Err(_) => self.fault(FaultKind::Type, format!("must be a whole number, not {text}")),
            },
            (Type::Integer(..), _) => {
                self.fault(
                    FaultKind::Type,
                    format!("must be a whole number (without quotes), not {}", self.what(node)),
                );
            }
            (Type::Number(least, most), Value::Number(text)) => match text.parse::<f64>() {
                Ok(number) if (*least..=*most).contains(&number) => {}
                _ => self.judge(Some(outside(text, *least, *most))),
            },
            (Type::Number(..), _) => {
                self.fault(FaultKind::Type, format!("must be a number (without quotes), not {}", self.what(node)));
            }
            (Type::Flag, Value::Bool(_)) | (Type::IntegerOrText, Value::Number(_) | Value::String(_)) => {}
            (Type::Flag, _) => self.fault(FaultKind::Type, format!("must be true or false, not {}", self.what(node))),
            (Type::IntegerOrText, _) => {
                self.fault(FaultKind::Type, format!("must be a number or a name, not {}", self.what(node)));
            }
            (Type::Enum(words), Value::String(text)) => self.judge(no_word(text, words)),
            (Type::Enum(words), _) => {
                self.fault(FaultKind::Type, format!("must be one of {}, not {}", words.join(", "), self.what(node)));
            }
            (Type::Duration(least), Value::String(text)) => self.judge(text::duration(text, *least)),
            (Type::Duration(_), _) => {
                self.fault(FaultKind::Type, format!("must be a duration such as \"5s\", not {}", self.what(node)));
            }
            (Type::List(of, least), Value::Sequence(items)) => {
                if items.len() < *least {
                    self.judge(Some(format!("must have at least {least} items, and has {}", items.len())));
                }
                for (index, item) in items.iter().enumerate() {
                    self.within(&format!("[{index}]"), |walk| walk.value(item, of));
                }
            }
            (Type::List(..), _) => self.fault(FaultKind::Type, format!("must be a list, not {}", self.what(node))),
            (Type::Map(rule, of), Value::Mapping(entries)) => {
                for (key, value) in entries {
                    let name = key.as_str().unwrap_or_default();
                    self.within(name, |walk| {
                        walk.judge(rule(name).map(|said| format!("the key {name:?} {said}")));
                        walk.value(value, of);
                    });
                }
            }
            (Type::Map(..), _) => self.fault(FaultKind::Type, format!("must be a map, not {}", self.what(node))),
        }
    }

    fn what(&self, node: &Node) -> String {
        match &node.value {
            Value::Number(_) if self.quiet || self.path.ends_with(".value") => "a number".to_owned(),
            Value::String(_) if self.quiet || self.path.ends_with(".value") => "a text".to_owned(),
            _ => what(node),
        }
    }

    fn judge(&mut self, complaint: Option<String>) {
        if let Some(message) = complaint {
            self.fault(FaultKind::Value, message);
        }
    }
}

fn outside(text: &str, least: f64, most: f64) -> String {
    match (least, most) {
        (1.0, 65535.0) => format!("port must be between 1-65535, not {text}"),
        (least, most) if most >= f64::from(u32::MAX) => {
            format!("should be greater than or equal to {least}, not {text}")
        }
        (least, most) => format!("must be between {least} and {most}, not {text}"),
    }
}

fn no_word(text: &str, words: &[&str]) -> Option<String> {
    if words.contains(&text) {
        return None;
    }
    let near = words.iter().map(|word| (strsim::osa_distance(&text.to_uppercase(), &word.to_uppercase()), word)).min();
    let hint = match near {
        Some((distance, near)) if distance <= (text.len() / 3).max(1) => format!(", did you mean {near}?"),
        _ => format!("; supported are {}", words.join(", ")),
    };
    Some(format!("unsupported value {text:?}{hint}"))
}

/// A value in a few words; never long, never more than its kind for lists and objects.
fn what(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("the flag {flag}"),
        Value::Number(text) => format!("the number {text}"),
        Value::String(text) if text.len() <= 40 => format!("the text {text:?}"),
        Value::String(_) => "a text".to_owned(),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests;
