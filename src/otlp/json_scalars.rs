//! Single values of OTLP/JSON as proto3 JSON allows them to be written: ids, 64-bit numbers, doubles, enums, bytes.

use std::fmt;

use opentelemetry_proto::tonic::trace::v1 as proto;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes in hexadecimal.
pub(super) struct Hex(pub(super) Vec<u8>);
/// A whole number, or one in a text: 64-bit numbers are texts in proto3 JSON.
pub(super) struct Whole<T>(pub(super) T);
/// A number, or one in a text: `"NaN"`, `"Infinity"`, `"-Infinity"`.
pub(super) struct Double(pub(super) f64);
/// `SpanKind` as a number or name.
pub(super) struct Kind(pub(super) i32);
/// `StatusCode` as a number or name.
pub(super) struct StatusCode(pub(super) i32);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexVisitor;
        impl Visitor<'_> for HexVisitor {
            type Value = Hex;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an id as hexadecimal text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hex, E> {
                let wrong = || E::custom(format_args!("{text:?} is not an id in hexadecimal"));
                if !text.len().is_multiple_of(2) {
                    return Err(wrong());
                }
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(wrong);
                let pairs = text.as_bytes().chunks_exact(2);
                pairs.map(|pair| Ok((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect::<Result<_, E>>().map(Hex)
            }
        }
        deserializer.deserialize_str(HexVisitor)
    }
}

impl<'de, T: TryFrom<i128> + std::str::FromStr> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor<T>(std::marker::PhantomData<T>);
        impl<T: TryFrom<i128> + std::str::FromStr> Visitor<'_> for WholeVisitor<T> {
            type Value = Whole<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a whole number of 64 bits, or one in a text")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Whole<T>, E> {
                let wrong = |_| E::custom(format_args!("{value} is out of range"));
                T::try_from(i128::from(value)).map(Whole).map_err(wrong)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Whole<T>, E> {
                let wrong = |_| E::custom(format_args!("{value} is out of range"));
                T::try_from(i128::from(value)).map(Whole).map_err(wrong)
            }
            // Printers that hold all numbers as doubles write 1.5e9 for a time.
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Whole<T>, E> {
                let wrong = || E::custom(format_args!("{value} is not a whole number"));
                if value.fract() != 0.0 || value.abs() > 1e19 {
                    return Err(wrong());
                }
                T::try_from(value as i128).map(Whole).map_err(|_| wrong())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Whole<T>, E> {
                let wrong = |_| E::custom(format_args!("{text:?} is not a whole number of 64 bits"));
                text.parse().map(Whole).map_err(wrong)
            }
        }
        deserializer.deserialize_any(WholeVisitor(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DoubleVisitor;
        impl Visitor<'_> for DoubleVisitor {
            type Value = Double;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, or one in a text")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Double, E> {
                Ok(Double(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Double, E> {
                Ok(Double(value as f64))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Double, E> {
                Ok(Double(value as f64))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Double, E> {
                text.parse().map(Double).map_err(|_| E::custom(format_args!("{text:?} is not a number")))
            }
        }
        deserializer.deserialize_any(DoubleVisitor)
    }
}

/// A number, or the name of the enum value; an unknown name or number is 0, as an unknown enum value is.
fn enum_value<'de, D: Deserializer<'de>>(deserializer: D, by_name: fn(&str) -> Option<i32>) -> Result<i32, D::Error> {
    struct EnumVisitor(fn(&str) -> Option<i32>);
    impl Visitor<'_> for EnumVisitor {
        type Value = i32;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("the number of an enum value")
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<i32, E> {
            Ok(i32::try_from(value).unwrap_or(0))
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<i32, E> {
            Ok(i32::try_from(value).unwrap_or(0))
        }
        fn visit_str<E: de::Error>(self, name: &str) -> Result<i32, E> {
            (self.0)(name).ok_or_else(|| E::custom(format_args!("{name:?} is not a value of this enum")))
        }
    }
    deserializer.deserialize_any(EnumVisitor(by_name))
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        enum_value(deserializer, |name| proto::span::SpanKind::from_str_name(name).map(|kind| kind as i32)).map(Self)
    }
}

impl<'de> Deserialize<'de> for StatusCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        enum_value(deserializer, |name| proto::status::StatusCode::from_str_name(name).map(|code| code as i32))
            .map(Self)
    }
}

/// Bytes as base64 text, as proto3 JSON writes them.
pub(super) fn base64_encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_base64_with_padding() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64_encode(bytes.as_bytes()), text);
        }
    }
}
