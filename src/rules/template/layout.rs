//! Go's time layouts: `2006-01-02 15:04:05` as a pattern, for `{{ (toTime $value).Format "…" }}`.
//!
//! In: a UTC time and a layout (`time.Time.Format`). Out: the text. Pure; whatever is no element stands for itself.

use chrono::{Datelike as _, Timelike as _};

use crate::model::Timestamp;

/// Elements, those first that begin with another; what chrono calls them.
const ELEMENTS: [(&str, &str); 35] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("01", "%m"),
    ("002", "%j"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("1", "%-m"),
    ("2006", "%Y"),
    ("2", "%-d"),
    ("_2006", "_%Y"),
    ("__2", "%_j"),
    ("_2", "%e"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("-07:00:00", "+00:00:00"),
    ("-070000", "+000000"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    ("Z07:00:00", "Z"),
    ("Z070000", "Z"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("Z07", "Z"),
    ("%", "%%"),
];

/// `at` as Go's `Format` writes it in UTC.
pub fn go_format(at: Timestamp, layout: &str) -> String {
    let (time, mut out, mut rest) = (at.to_chrono(), String::new(), layout);
    while let Some(c) = rest.chars().next() {
        if let Some(digits) = fraction(rest) {
            out.push_str(&written_fraction(at, digits));
            rest = &rest[digits.len()..];
            continue;
        }
        let found = ELEMENTS.iter().find(|(element, _)| starts_with_element(rest, element));
        match found {
            Some((element, format)) => {
                out.push_str(&time.format(format).to_string());
                rest = &rest[element.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// Short names count only where no word goes on: the `Jan` of `January` and of `Janet` does not.
fn starts_with_element(rest: &str, element: &str) -> bool {
    let Some(after) = rest.strip_prefix(element) else { return false };
    !matches!(element, "Jan" | "Mon") || !after.starts_with(|c: char| c.is_ascii_lowercase())
}

/// `.000`, `,000`, `.999` or `,999` of any length, no digit after it.
fn fraction(rest: &str) -> Option<&str> {
    let digits = rest.strip_prefix(['.', ','])?;
    let first = digits.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let length = digits.len() - digits.trim_start_matches(first).len();
    let is_whole = !digits[length..].starts_with(|c: char| c.is_ascii_digit());
    is_whole.then(|| &rest[..=length])
}

/// With nines, zeros at the end are left out, and the point with them.
fn written_fraction(at: Timestamp, digits: &str) -> String {
    let wanted = (digits.len() - 1).min(9);
    let nanoseconds = format!("{:09}", at.as_millis().rem_euclid(1000) * 1_000_000);
    let text = format!("{}{}", &digits[..1], &nanoseconds[..wanted]);
    match digits.ends_with('9') {
        true => text.trim_end_matches('0').trim_end_matches(['.', ',']).to_owned(),
        false => text,
    }
}

/// The methods of a time that take nothing: a number, or a name in Go's spelling.
pub fn part_of(at: Timestamp, method: &str) -> Option<Result<i64, String>> {
    let time = at.to_chrono();
    Some(match method {
        "Unix" => Ok(at.as_millis().div_euclid(1000)),
        "UnixMilli" => Ok(at.as_millis()),
        "UnixNano" => Ok(at.as_millis().saturating_mul(1_000_000)),
        "Year" => Ok(i64::from(time.year())),
        "Day" => Ok(i64::from(time.day())),
        "Hour" => Ok(i64::from(time.hour())),
        "Minute" => Ok(i64::from(time.minute())),
        "Second" => Ok(i64::from(time.second())),
        "YearDay" => Ok(i64::from(time.ordinal())),
        "Month" => Err(go_format(at, "January")),
        "Weekday" => Err(go_format(at, "Monday")),
        "String" => Err(super::value::go_time(at)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_go_does() {
        // By the rules of the documentation of Go's package time.
        for (layout, expect) in [
            ("2006-01-02T15:04:05Z07:00", "2022-01-25T12:36:43Z"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Tue, 25 Jan 2022 12:36:43 UTC"),
            ("Monday, January _2, 3:04PM (002)", "Tuesday, January 25, 12:36PM (025)"),
            ("15:04:05.000", "12:36:43.050"),
            ("15:04:05.999999", "12:36:43.05"),
            ("1/2/06 3:4:5 pm -0700 -07:00", "1/25/22 12:36:43 pm +0000 +00:00"),
            ("Janet 100% é", "Janet 100% é"),
            ("", ""),
        ] {
            assert_eq!(go_format(Timestamp::from_millis(1_643_114_203_050), layout), expect, "{layout}");
        }
        assert_eq!(go_format(Timestamp::from_millis(0), "_2 .999|.000"), " 1 |.000");
    }
}
