//! Times as Go's `time.Time.Format` prints them: a layout is the reference time in the wanted form.
//!
//! In: a time, a zone, a layout. Out: text. Pure. Milliseconds are the finest that is known.

use chrono::{DateTime, Datelike, Offset, Timelike};
use chrono_tz::Tz;

use crate::model::Timestamp;

/// Go's zero time, the first of January of the year 1.
pub const ZERO: Timestamp = Timestamp::from_millis(-62_135_596_800_000);
/// The end of the year 9999.
pub const LAST_MS: i64 = 253_402_300_799_999;

/// What a layout may hold, longest first where one begins another.
const TOKENS: [&str; 34] = [
    "January",
    "Monday",
    "Z07:00:00",
    "-07:00:00",
    "Z070000",
    "-070000",
    "Z07:00",
    "-07:00",
    "Z0700",
    "-0700",
    "Z07",
    "-07",
    "2006",
    "__2",
    "002",
    "Jan",
    "Mon",
    "MST",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "_2",
    "1",
    "2",
    "3",
    "4",
    "5",
    "\0",
];

/// The time in the zone, in the form of the layout.
pub fn format(at: Timestamp, zone: Tz, layout: &str) -> String {
    let local = at.to_chrono().with_timezone(&zone);
    let mut out = String::with_capacity(layout.len() + 8);
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((digits, trims)) = fraction(rest) {
            out.push_str(&fraction_text(&local, digits, trims, rest.as_bytes()[0] as char));
            rest = &rest[digits + 1..];
        } else if let Some(token) = TOKENS.iter().find(|token| starts(rest, token)) {
            out.push_str(&token_text(&local, token));
            rest = &rest[token.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// `Jan` is not a token where a longer word of lower case letters begins.
fn starts(rest: &str, token: &str) -> bool {
    rest.starts_with(token) && !(token == "Jan" && rest[token.len()..].starts_with(|c: char| c.is_ascii_lowercase()))
}

/// `.000` or `,999`: how many digits, and whether zeros at the end go.
fn fraction(rest: &str) -> Option<(usize, bool)> {
    let digit = match rest.as_bytes() {
        [b'.' | b',', digit @ (b'0' | b'9'), ..] => *digit,
        _ => return None,
    };
    let digits = rest.as_bytes()[1..].iter().take_while(|b| **b == digit).count();
    let ends = !rest.as_bytes().get(1 + digits).is_some_and(u8::is_ascii_digit);
    (ends && digits <= 9).then_some((digits, digit == b'9'))
}

fn fraction_text(at: &DateTime<Tz>, digits: usize, trims: bool, point: char) -> String {
    let all = format!("{:09}", at.nanosecond() % 1_000_000_000);
    let kept = &all[..digits];
    match if trims { kept.trim_end_matches('0') } else { kept } {
        "" => String::new(),
        kept => format!("{point}{kept}"),
    }
}

fn token_text(at: &DateTime<Tz>, token: &str) -> String {
    let hour12 = match at.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let strftime = |format: &str| at.format(format).to_string();
    match token {
        "January" => strftime("%B"),
        "Monday" => strftime("%A"),
        "Jan" => strftime("%b"),
        "Mon" => strftime("%a"),
        "MST" => strftime("%Z"),
        "2006" => format!("{:04}", at.year()),
        "06" => format!("{:02}", at.year().rem_euclid(100)),
        "002" => format!("{:03}", at.ordinal()),
        "__2" => format!("{:3}", at.ordinal()),
        "01" => format!("{:02}", at.month()),
        "1" => at.month().to_string(),
        "02" => format!("{:02}", at.day()),
        "_2" => format!("{:2}", at.day()),
        "2" => at.day().to_string(),
        "15" => format!("{:02}", at.hour()),
        "03" => format!("{hour12:02}"),
        "3" => hour12.to_string(),
        "04" => format!("{:02}", at.minute()),
        "4" => at.minute().to_string(),
        "05" => format!("{:02}", at.second()),
        "5" => at.second().to_string(),
        "PM" => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        "pm" => if at.hour() < 12 { "am" } else { "pm" }.to_owned(),
        zone => offset_text(at, zone),
    }
}

fn offset_text(at: &DateTime<Tz>, token: &str) -> String {
    let seconds = at.offset().fix().local_minus_utc();
    if token.starts_with('Z') && seconds == 0 {
        return "Z".to_owned();
    }
    let (sign, size) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    let (hours, minutes, rest) = (size / 3600, size / 60 % 60, size % 60);
    match &token[1..] {
        "07" => format!("{sign}{hours:02}"),
        "0700" => format!("{sign}{hours:02}{minutes:02}"),
        "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
        "070000" => format!("{sign}{hours:02}{minutes:02}{rest:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_layouts_as_go_does() {
        let at = Timestamp::from_millis(1_643_114_203_500); // 2022-01-25 12:36:43.5 UTC, a Tuesday
        let check = |layout: &str, zone: Tz, expect: &str| assert_eq!(format(at, zone, layout), expect, "{layout}");
        check("2006-01-02T15:04:05Z07:00", Tz::UTC, "2022-01-25T12:36:43Z");
        check("2006-01-02T15:04:05.999Z07:00", Tz::Europe__Berlin, "2022-01-25T13:36:43.5+01:00");
        check("Mon, 02 Jan 2006 15:04:05 MST", Tz::Europe__Berlin, "Tue, 25 Jan 2022 13:36:43 CET");
        check("3:04PM", Tz::UTC, "12:36PM");
        check("Monday January _2 06 15.000 -0700", Tz::America__New_York, "Tuesday January 25 22 07.500 -0500");
        check("at 15h, day 002", Tz::UTC, "at 12h, day 025");
        assert_eq!(format(ZERO, Tz::UTC, "2006-01-02 15:04:05 -0700 MST"), "0001-01-01 00:00:00 +0000 UTC");
    }
}
