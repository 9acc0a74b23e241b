//! A node of the tree as a serde deserializer whose errors know the node they stand at.
//!
//! Every mistake is found by decoding again without the node at fault, until it decodes or nothing is left to leave out.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::{Node, Problem, Value};

/// Most mistakes reported of one text.
const MOST_PROBLEMS: usize = 100;

/// Decodes `root`, collecting every mistake. See [`Node::decode`].
pub(super) fn decode<T: DeserializeOwned>(root: &Node) -> (Option<T>, Vec<Problem>) {
    let mut left_out = HashSet::new();
    let mut problems = Vec::new();
    while problems.len() < MOST_PROBLEMS {
        let error = match T::deserialize(Tree { node: root, left_out: &left_out }) {
            Ok(value) => return (Some(value), problems),
            Err(error) => error,
        };
        let at = error.at.unwrap_or(Place::of(root));
        // A mapping that lacks only what was left out of it has been reported already.
        let follows = error.missing.is_some_and(|field| lacks_what_was_left_out(root, at.id, field, &left_out));
        if !follows {
            problems.push(Problem { line: at.line, column: at.column, path: error.path, message: error.message });
        }
        if at.id == Place::of(root).id || !left_out.insert(at.id) {
            break;
        }
    }
    (None, problems)
}

fn lacks_what_was_left_out(node: &Node, mapping: usize, field: &str, left_out: &HashSet<usize>) -> bool {
    match &node.value {
        Value::Mapping(entries) if Place::of(node).id == mapping => {
            entries.iter().any(|(k, v)| k.as_str() == Some(field) && left_out.contains(&Place::of(v).id))
        }
        Value::Mapping(entries) => {
            entries.iter().any(|(_, value)| lacks_what_was_left_out(value, mapping, field, left_out))
        }
        Value::Sequence(items) => items.iter().any(|item| lacks_what_was_left_out(item, mapping, field, left_out)),
        _ => false,
    }
}

/// A node's identity within its tree, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: usize,
    line: usize,
    column: usize,
}

impl Place {
    fn of(node: &Node) -> Self {
        Self { id: std::ptr::from_ref(node) as usize, line: node.line, column: node.column }
    }
}

/// A mistake on its way up; the first container on the way says where it stands.
#[derive(Debug)]
struct DecodeError {
    message: String,
    missing: Option<&'static str>,
    at: Option<Place>,
    path: String,
}

impl DecodeError {
    fn within(mut self, step: &str, at: Place) -> Self {
        self.at.get_or_insert(at);
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{joint}{}", self.path);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), missing: None, at: None, path: String::new() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("unknown key {field:?}{}", mend(field, expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("unknown value {variant:?}{}", mend(variant, expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::custom(format!("the key {field:?} is missing")) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format!("the key {field:?} is given twice"))
    }
}

/// The nearest known name, or all of them when none is near.
fn mend(given: &str, known: &'static [&'static str]) -> String {
    let nearest = known.iter().map(|name| (strsim::damerau_levenshtein(given, name), *name)).min();
    match nearest {
        Some((distance, name)) if distance <= (given.len() / 3).max(2) => format!(", did you mean {name:?}?"),
        Some(_) => format!(", known here: {}", known.join(", ")),
        None => ", none is known here".to_owned(),
    }
}

#[derive(Clone, Copy)]
struct Tree<'a> {
    node: &'a Node,
    left_out: &'a HashSet<usize>,
}

impl<'a> Tree<'a> {
    fn child(self, node: &'a Node) -> Self {
        Self { node, left_out: self.left_out }
    }

    fn entries(self) -> Entries<'a> {
        let entries = match &self.node.value {
            Value::Mapping(entries) => entries.as_slice(),
            _ => &[],
        };
        Entries { tree: self, rest: entries.iter(), current: None }
    }

    fn wrong<T>(self, expected: &dyn de::Expected) -> Result<T, DecodeError> {
        let found = match &self.node.value {
            Value::Null => de::Unexpected::Unit,
            Value::Bool(value) => de::Unexpected::Bool(*value),
            Value::Number(text) => de::Unexpected::Other(text),
            Value::String(text) => de::Unexpected::Str(text),
            Value::Sequence(_) => de::Unexpected::Seq,
            Value::Mapping(_) => de::Unexpected::Map,
        };
        Err(de::Error::invalid_type(found, expected))
    }
}

impl<'de> Deserializer<'de> for Tree<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(text) => visit_number(text, visitor),
            Value::String(text) => visitor.visit_str(text),
            Value::Sequence(_) => self.deserialize_seq(visitor),
            Value::Mapping(_) => self.deserialize_map(visitor),
        }
    }

    /// Go's YAML takes `yes`, `no`, `on` and `off` where a bool is asked for, and people's files have them.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "y") => visitor.visit_bool(true),
            Some("false" | "no" | "off" | "n") => visitor.visit_bool(false),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match (&self.node.value, self.node.as_str()) {
            (_, Some(text)) => visitor.visit_str(text),
            (Value::Null, _) => visitor.visit_str(""),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Sequence(items) => visitor.visit_seq(Items { tree: self, rest: items.iter().enumerate() }),
            Value::Null => visitor.visit_seq(Items { tree: self, rest: [].iter().enumerate() }),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Mapping(_) | Value::Null => visitor.visit_map(self.entries()),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match (&self.node.value, self.node.as_str()) {
            (_, Some(text)) => {
                let unit: StrDeserializer<'_, DecodeError> = text.into_deserializer();
                visitor.visit_enum(unit)
            }
            (Value::Mapping(_), _) => visitor.visit_enum(MapAccessDeserializer::new(self.entries())),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char bytes byte_buf unit unit_struct tuple_struct
    }
}

fn visit_number<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, DecodeError> {
    let hex = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    if let Some(number) = hex.or_else(|| text.parse().ok()) {
        return visitor.visit_u64(number);
    }
    if let Ok(number) = text.parse() {
        return visitor.visit_i64(number);
    }
    match text.trim_start_matches(['+', '-', '.']).to_ascii_lowercase().as_str() {
        "inf" if text.starts_with('-') => visitor.visit_f64(f64::NEG_INFINITY),
        "inf" => visitor.visit_f64(f64::INFINITY),
        "nan" => visitor.visit_f64(f64::NAN),
        _ => match text.parse() {
            Ok(number) => visitor.visit_f64(number),
            Err(_) => visitor.visit_str(text),
        },
    }
}

struct Items<'a> {
    tree: Tree<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let left_out = self.tree.left_out;
        let Some((i, item)) = self.rest.find(|(_, item)| !left_out.contains(&Place::of(item).id)) else {
            return Ok(None);
        };
        seed.deserialize(self.tree.child(item))
            .map(Some)
            .map_err(|error| error.within(&format!("[{i}]"), Place::of(item)))
    }
}

struct Entries<'a> {
    tree: Tree<'a>,
    rest: std::slice::Iter<'a, (Node, Node)>,
    current: Option<(&'a Node, &'a Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let left_out = self.tree.left_out;
        let kept = |node: &Node| !left_out.contains(&Place::of(node).id);
        let Some((key, value)) = self.rest.find(|(key, value)| kept(key) && kept(value)) else {
            return Ok(None);
        };
        self.current = Some((key, value));
        seed.deserialize(self.tree.child(key)).map(Some).map_err(|mut error| {
            error.at.get_or_insert(Place::of(key));
            error
        })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let Some((key, value)) = self.current.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(self.tree.child(value))
            .map_err(|error| error.within(key.as_str().unwrap_or("?"), Place::of(value)))
    }
}
