//! Parameters of our own operations, read into their types.
//!
//! In: what was captured of the path, and [`Params`]. Out: a struct, or a tuple of several that are read from the same
//! parameters. An empty value counts as absent, of a parameter that is given twice the first holds (a list takes all), and
//! parameters that a type does not have are left alone unless it denies unknown fields. A value that is not what it should be
//! is an error that names the parameter.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, Visitor};
use serde::forward_to_deserialize_any;

use crate::api::error::ApiError;
use crate::api::params::{Params, parse_duration, parse_time};
use crate::model::Timestamp;

/// Reads the parameters of an operation.
///
/// # Errors
/// When a value is not what it should be, or one is missing.
pub(super) fn read<Q: DeserializeOwned>(captured: &[(&str, &str)], params: &Params) -> Result<Q, ApiError> {
    let mut given: Vec<Given<'_>> = Vec::new();
    for (name, value) in params.iter() {
        let values = Some(value).filter(|value| !value.is_empty()).into_iter();
        match given.iter_mut().find(|one| one.name == name) {
            Some(one) => one.values.extend(values),
            None => given.push(Given { name, values: values.collect() }),
        }
    }
    Q::deserialize(Parameters { captured, given: &given }).map_err(|Refused(error)| error)
}

/// The words that a parameter may be.
pub(super) fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|one| name(*one)).collect()
}

/// What a word of a parameter stands for.
///
/// # Errors
/// When it stands for nothing.
pub(super) fn named<T: Copy>(
    parameter: &str,
    text: Option<&str>,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || ApiError::parameter(parameter, format!("{text:?} is none of {}", names(all, name).join(", ")));
    all.iter().find(|one| name(**one) == text).map(|one| Some(*one)).ok_or_else(wrong)
}

/// A time: seconds since the epoch or RFC 3339.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) Timestamp);

/// A duration: seconds, or as Prometheus writes them; zero for one that is negative.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period(pub(super) Duration);

/// A whole number from 1 to `MOST`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit<const MOST: usize>(pub(super) usize);

/// A whole number of which more than `MOST` counts as `MOST`, and 0 as not given: `USUAL`.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtMost<const USUAL: usize, const MOST: usize>(pub(super) usize);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_time(text).map(Self)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl<const MOST: usize> FromStr for Limit<MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
        read.map(Self).ok_or_else(|| format!("use a whole number from 1 to {MOST}"))
    }
}

impl<const USUAL: usize, const MOST: usize> FromStr for AtMost<USUAL, MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<u64>() {
            Ok(0) => Ok(Self::default()),
            Ok(limit) => Ok(Self(usize::try_from(limit).map_or(MOST, |limit| limit.min(MOST)))),
            Err(_) => Err(format!("{text:?} is no whole number from 0")),
        }
    }
}

impl<const USUAL: usize, const MOST: usize> Default for AtMost<USUAL, MOST> {
    fn default() -> Self {
        Self(USUAL)
    }
}

/// Reads a type from its text, and describes it.
macro_rules! read_from_text {
    ($name:ident $(<$(const $constant:ident),+>)?, $schema:tt) => {
        impl<'de $($(, const $constant: usize)+)?> de::Deserialize<'de> for $name $(<$($constant),+>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl $(<$(const $constant: usize),+>)? JsonSchema for $name $(<$($constant),+>)? {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

read_from_text!(Time, { "type": "string" });
read_from_text!(Period, { "type": "string" });
read_from_text!(Limit<const MOST>, { "type": "integer", "minimum": 1, "maximum": MOST });
read_from_text!(AtMost<const USUAL, const MOST>, { "type": "integer", "minimum": 0 });

/// Why parameters were refused.
#[derive(Debug)]
struct Refused(ApiError);

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: Display>(message: T) -> Self {
        Self(ApiError::BadData(message.to_string()))
    }

    fn missing_field(name: &'static str) -> Self {
        Self(ApiError::parameter(name, "it must be given"))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self(ApiError::parameter(name, format!("no such parameter here; there are {}", known.join(", "))))
    }

    fn unknown_variant(text: &str, known: &'static [&'static str]) -> Self {
        Self::custom(format!("{text:?} is none of {}", known.join(", ")))
    }
}

/// A parameter, and what is not empty of its values.
struct Given<'de> {
    name: &'de str,
    values: Vec<&'de str>,
}

#[derive(Clone, Copy)]
struct Parameters<'a, 'de> {
    captured: &'a [(&'de str, &'de str)],
    given: &'a [Given<'de>],
}

impl<'de> Deserializer<'de> for Parameters<'_, 'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_struct("", &[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        // What the path has is no parameter of a type that does not ask for it.
        let captured = self.captured.iter().filter(|(name, _)| fields.contains(name));
        let mut all: Vec<(&'de str, Vec<&'de str>)> = captured.map(|(name, value)| (*name, vec![*value])).collect();
        let is_new = |given: &&Given<'de>| self.captured.iter().all(|(name, _)| *name != given.name);
        // An unknown name is one whatever its value.
        let is_there = |given: &&Given<'de>| !given.values.is_empty() || !fields.contains(&given.name);
        all.extend(self.given.iter().filter(is_new).filter(is_there).map(|one| (one.name, one.values.clone())));
        visitor.visit_map(Fields { left: all.into_iter(), value: None })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(Parts { parameters: self, left: length })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit_struct
        newtype_struct seq tuple_struct map enum identifier ignored_any
    }
}

/// The structs of a tuple, each read from all parameters.
struct Parts<'a, 'de> {
    parameters: Parameters<'a, 'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.parameters).map(Some)
    }
}

struct Fields<'de> {
    left: std::vec::IntoIter<(&'de str, Vec<&'de str>)>,
    value: Option<(&'de str, Vec<&'de str>)>,
}

impl<'de> de::MapAccess<'de> for Fields<'de> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some((name, values)) = self.left.next() else { return Ok(None) };
        self.value = Some((name, values));
        let name: StrDeserializer<'de, Refused> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let (name, values) = self.value.take().unwrap_or_default();
        seed.deserialize(Values(values)).map_err(|Refused(error)| Refused(error.of_parameter(name)))
    }
}

/// The values of one parameter.
struct Values<'de>(Vec<&'de str>);

impl<'de> Values<'de> {
    fn first(&self) -> &'de str {
        self.0.first().copied().unwrap_or_default()
    }

    fn number<T: FromStr>(&self) -> Result<T, Refused> {
        self.first().parse().map_err(|_| de::Error::custom(format!("{:?}: use a whole number", self.first())))
    }
}

impl<'de> Deserializer<'de> for Values<'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_borrowed_str(self.first())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.first() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => Err(de::Error::custom(format!("{other:?}: use true or false"))),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_i64(self.number()?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(de::value::SeqDeserializer::new(self.0.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_enum(StrDeserializer::new(self.first()))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wanted {
        id: Option<String>,
        needed: String,
        start: Option<Time>,
        #[serde(default)]
        only_errors: bool,
        #[serde(default)]
        limit: AtMost<20, 1000>,
        hops: Option<Limit<20>>,
        #[serde(default)]
        name: Vec<String>,
        cursor: Option<u64>,
        view: Option<View>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Strict {
        format: Option<String>,
        folder: Option<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    enum View {
        Workload,
        VersionedApp,
    }

    fn wanted(query: &str) -> Result<Wanted, String> {
        read(&[("id", "7"), ("other", "x")], &Params::of_query(query)).map_err(|error| error.to_string())
    }

    #[test]
    fn each_parameter_is_read_as_its_type_says() {
        let query = "needed=a&needed=b&start=4&onlyErrors=true&limit=5000&hops=20&name=x&name=&name=y&cursor=3&id=9";
        let read = wanted(&format!("{query}&view=versionedApp&unknown=1")).expect("well-formed");
        assert_eq!((read.id.as_deref(), &*read.needed, read.only_errors), (Some("7"), "a", true));
        assert_eq!(read.start.map(|time| time.0), Some(Timestamp::from_millis(4000)));
        assert_eq!((read.limit.0, read.hops.map(|hops| hops.0), read.cursor), (1000, Some(20), Some(3)));
        assert_eq!((read.name, read.view), (vec!["x".to_owned(), "y".to_owned()], Some(View::VersionedApp)));
        let read = wanted("needed=&needed=b&start=&limit=0&onlyErrors=").expect("empty is absent");
        assert_eq!((&*read.needed, read.start.is_none(), read.limit.0, read.only_errors), ("b", true, 20, false));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_name_of_the_parameter() {
        for (query, expect) in [
            ("", r#"invalid parameter "needed": it must be given"#),
            ("needed=a&start=soon", r#"invalid parameter "start": cannot parse "soon" to a valid timestamp"#),
            ("needed=a&onlyErrors=1", r#"invalid parameter "onlyErrors": "1": use true or false"#),
            ("needed=a&limit=-1", r#"invalid parameter "limit": "-1" is no whole number from 0"#),
            ("needed=a&hops=21", r#"invalid parameter "hops": use a whole number from 1 to 20"#),
            ("needed=a&cursor=x", r#"invalid parameter "cursor": "x": use a whole number"#),
            ("needed=a&view=x", r#"invalid parameter "view": "x" is none of workload, versionedApp"#),
        ] {
            assert_eq!(wanted(query).map(|_| ()), Err(expect.to_owned()), "{query}");
        }
    }

    #[test]
    fn several_types_read_from_the_same_parameters_and_one_may_deny_others() {
        let params = Params::of_query("format=json");
        let both: Result<(Strict, ()), ApiError> = read(&[("uid", "x")], &params);
        assert_eq!(both.expect("both").0.format.as_deref(), Some("json"));
        for query in ["fromat=json", "fromat=", "folder=a&fromat"] {
            let strict: Result<Strict, ApiError> = read(&[], &Params::of_query(query));
            let expect = r#"invalid parameter "fromat": no such parameter here; there are format, folder"#;
            assert_eq!(strict.map_err(|error| error.to_string()).map(|_| ()), Err(expect.to_owned()), "{query}");
        }
    }
}
