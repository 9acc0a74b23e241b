//! Values as configuration and rule files write them: Prometheus durations, byte sizes, secrets, networks.
//!
//! A leaf: imports nothing of the crate.

mod network;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use network::{Network, NetworkError, plain};

/// A duration in Prometheus syntax: `1h30m`, `15s`, `500ms`, `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromDuration(Duration);

/// Why a duration could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid duration string: {0:?} (write it like `1h30m`, `15s` or `500ms`)")]
pub struct DurationError(String);

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl PromDuration {
    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// In milliseconds.
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    /// Whether it is zero.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for PromDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// Units from large to small, each at most once, as Prometheus' `model.ParseDuration`.
impl FromStr for PromDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text == "0" {
            return Ok(Self::default());
        }
        let error = || DurationError(text.to_owned());
        let (mut rest, mut total_ms, mut next_unit) = (text, 0_u64, 0);
        while !rest.is_empty() || next_unit == 0 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = UNITS.iter().position(|(name, _)| *name == &rest[..letters]).ok_or_else(error)?;
            if unit < next_unit {
                return Err(error());
            }
            next_unit = unit + 1;
            total_ms = number.checked_mul(UNITS[unit].1).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(error)?;
            rest = &rest[letters..];
        }
        Ok(Self(Duration::from_millis(total_ms)))
    }
}

/// Shortest exact form: `1h30m`, `15s`, `0s`.
impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return f.write_str("0s");
        }
        for (i, (name, unit_ms)) in UNITS.iter().enumerate() {
            // Years and weeks only when they say it exactly, as Prometheus prints them.
            if ms >= *unit_ms && (i >= 3 || ms.is_multiple_of(*unit_ms) || i == 2) {
                write!(f, "{}{name}", ms / unit_ms)?;
                ms %= unit_ms;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for PromDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// A number of bytes: `512`, `64KB`, `10MB`, `1GiB` (all powers of 1024, as Prometheus reads them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a byte size could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid size: {0:?} (write it like `512KB`, `10MB` or `1GB`)")]
pub struct ByteSizeError(String);

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let error = || ByteSizeError(text.to_owned());
        let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let number: f64 = text[..digits].parse().map_err(|_| error())?;
        let power = match text[digits..].trim_end_matches(['B', 'b']).trim_end_matches('i') {
            "" => 0,
            "K" | "k" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            _ => return Err(error()),
        };
        Ok(Self((number * 1024_f64.powi(power)) as u64))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    struct Text<T>(std::marker::PhantomData<T>);
    impl<T: FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text with a unit")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
    }
    deserializer.deserialize_any(Text(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_durations_as_prometheus_does() {
        let check = |text: &str, ms: u64, printed: &str| {
            let duration: PromDuration = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((duration.0, duration.to_string().as_str()), (Duration::from_millis(ms), printed), "{text}");
        };
        check("0", 0, "0s");
        check("15s", 15_000, "15s");
        check("1h30m", 5_400_000, "1h30m");
        check("90m", 5_400_000, "1h30m");
        check("1d12h", 129_600_000, "1d12h");
        check("500ms", 500, "500ms");
        check("1y", 31_536_000_000, "1y");
        check("2w", 1_209_600_000, "2w");
        check("8d", 691_200_000, "8d");
        for bad in ["", "5", "1", "m", "1m1h", "1.5h", "-1m", "5 m", "99999999999999999y", "1é"] {
            assert!(bad.parse::<PromDuration>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_byte_sizes() {
        assert_eq!("10MB".parse(), Ok(ByteSize(10 << 20)));
        assert_eq!("1GiB".parse(), Ok(ByteSize(1 << 30)));
        assert_eq!("512".parse(), Ok(ByteSize(512)));
        assert!("10 parsecs".parse::<ByteSize>().is_err());
    }
}
