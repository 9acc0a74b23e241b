//! The range of time a page shows, from its URL.

use std::time::Duration;

use crate::model::Timestamp;
use crate::units::PromDuration;

/// Longest range of a page.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);

/// What the URL asks for.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(super) struct Query {
    /// Length, `15m`.
    pub(super) range: Option<String>,
    /// End: seconds since the epoch or RFC 3339; now when absent.
    pub(super) at: Option<String>,
}

/// A range of time that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Length as the URL has it.
    pub(super) text: String,
    /// Whether it ends now and moves on.
    pub(super) live: bool,
    /// When it was asked for.
    pub(super) now: Timestamp,
}

impl Query {
    /// The range, or what is wrong with it.
    pub(super) fn read(&self, default: &str, now: Timestamp) -> Result<Range, String> {
        let text = self.range.as_deref().filter(|text| !text.is_empty()).unwrap_or(default);
        let length = text.parse::<PromDuration>().map_err(|error| format!("range: {error}"))?.get();
        if length.is_zero() || length > LONGEST {
            return Err(format!("range: {text} must be longer than nothing and at most 400d"));
        }
        let at = self.at.as_deref().filter(|at| !at.is_empty() && *at != "now");
        let to = match at {
            None => now,
            Some(at) => read_time(at)
                .ok_or_else(|| format!("at: {at:?} is not a time (seconds since 1970, or 2026-01-31T12:00:00Z)"))?,
        };
        if to > now + Duration::from_secs(60) {
            return Err(format!("at: {to} is in the future"));
        }
        Ok(Range { from: to - length, to, text: text.to_owned(), live: at.is_none(), now })
    }
}

/// Seconds since 1970, RFC 3339, or `2026-01-31 12:00` in UTC.
pub(super) fn read_time(text: &str) -> Option<Timestamp> {
    let plain = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S"];
    let plain = plain.iter().find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok());
    if let Some(plain) = plain {
        return Some(Timestamp::from(plain.and_utc()));
    }
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds.abs() < 1e11 => Some(Timestamp::from_secs_f64(seconds)),
        Ok(_) => None,
        Err(_) => chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| Timestamp::from(at.to_utc())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_and_names_what_is_wrong() {
        let now = Timestamp::from_millis(1_763_835_000_000);
        let read = |range: &str, at: &str| {
            Query { range: Some(range.into()), at: Some(at.into()) }
                .read("10m", now)
                .map(|r| (r.to.since(r.from).as_secs(), r.live))
        };
        assert_eq!(read("", ""), Ok((600, true)));
        assert_eq!(read("1h", "1763830000"), Ok((3600, false)));
        assert_eq!(read("1h", "2025-11-22T18:00:00Z"), Ok((3600, false)));
        for (range, at) in
            [("soon", ""), ("0s", ""), ("5000d", ""), ("5m", "later"), ("5m", "1e300"), ("5m", "2049-01-01T00:00:00Z")]
        {
            assert!(read(range, at).is_err(), "{range} {at}");
        }
    }
}
