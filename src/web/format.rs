//! Numbers as people read them: rates, shares, durations, bytes, ages.

use std::time::Duration;

use crate::model::Timestamp;

/// Three significant digits, no exponent for everyday sizes.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    match () {
        () if value == 0.0 => "0".to_owned(),
        () if !value.is_finite() => "–".to_owned(),
        () if size >= 1e6 => format!("{:.1}M", value / 1e6),
        () if size >= 10_000.0 => format!("{:.1}k", value / 1e3),
        () if size >= 100.0 => format!("{value:.0}"),
        () if size >= 10.0 => format!("{value:.1}"),
        () if size >= 0.01 => format!("{value:.2}"),
        () => "<0.01".to_owned(),
    }
}

/// A whole number as it is, any other as [`number`].
pub(super) fn count(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 10_000.0 { format!("{value:.0}") } else { number(value) }
}

/// At most `most` characters; what is cut shows as an ellipsis.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// A text of others as one line: at most `most` characters, and what would hide or turn round the text beside it (controls,
/// direction marks, characters without width) as its code point.
pub(super) fn visible(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    for c in shortened(text, most).chars() {
        match c {
            '\n' | '\t' => shown.push(' '),
            c if c.is_control()
                || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}')
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c) =>
            {
                shown.push_str(&format!("⟨U+{:04X}⟩", u32::from(c)));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// A sentence with names of others in it, which may be of any length and script.
pub(super) fn sentence(text: &str) -> String {
    visible(text, 400)
}

/// Until when, `in 12 s`; `now` when that has passed.
pub(super) fn ahead(at: Timestamp, now: Timestamp) -> String {
    if at <= now { "now".to_owned() } else { format!("in {}", span(at.since(now))) }
}

/// A moment to the second: `2026-01-31 12:00:00 UTC`.
pub(super) fn moment(at: Timestamp) -> String {
    at.to_chrono().format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `12.3/s`.
pub(super) fn rate(per_second: f64) -> String {
    format!("{}/s", number(per_second))
}

/// A share of 0 to 1 as percent. Never rounds a small share to nothing, nor a large one to all.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p <= 0.0 => "0%".to_owned(),
        p if p < 0.01 => "<0.01%".to_owned(),
        p if p < 1.0 => format!("{p:.2}%"),
        p if p < 99.95 => format!("{p:.1}%"),
        p if p < 100.0 => ">99.9%".to_owned(),
        _ => "100%".to_owned(),
    }
}

/// A share of any size as percent, negative ones too.
pub(super) fn percent_any(share: f64) -> String {
    match share {
        share if share < 0.0 => format!("-{}", percent_any(-share)),
        share if share > 1.0 => format!("{}%", number(share * 100.0)),
        share => percent(share),
    }
}

/// A number as it is written, without digits that say nothing.
pub(super) fn number_text(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Milliseconds in the unit that fits; `–` when not known.
pub(super) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if !ms.is_finite() => "–".to_owned(),
        Some(ms) if ms >= 60_000.0 => format!("{:.1} min", ms / 60_000.0),
        Some(ms) if ms >= 1000.0 => format!("{:.2} s", ms / 1000.0),
        Some(ms) if ms >= 10.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{ms:.1} ms"),
    }
}

/// A duration in nanoseconds, in the unit that fits.
pub(super) fn nanos(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        _ => latency(Some(ns as f64 / 1e6)),
    }
}

/// `1.5 MB/s`.
pub(super) fn bytes_rate(per_second: f64) -> String {
    match per_second {
        b if b >= 1e9 => format!("{:.1} GB/s", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB/s", b / 1e6),
        b if b >= 1e3 => format!("{:.1} kB/s", b / 1e3),
        b => format!("{b:.0} B/s"),
    }
}

/// How long ago, `12 s ago`; `never` when not at all.
pub(super) fn ago(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", span(now.since(at))))
}

/// A length of time in at most two units: `1 h 5 min`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_numbers_with_the_digits_that_matter() {
        let numbers: Vec<String> = [0.0, 0.001, 0.5, 12.34, 123.4, 12_345.0, 2.5e6, f64::NAN].map(number).into();
        assert_eq!(numbers, ["0", "<0.01", "0.50", "12.3", "123", "12.3k", "2.5M", "–"]);
        let shares: Vec<String> = [0.0, 0.000_01, 0.005, 0.123, 0.9999, 1.0].map(percent).into();
        assert_eq!(shares, ["0%", "<0.01%", "0.50%", "12.3%", ">99.9%", "100%"]);
        assert_eq!([latency(None), latency(Some(3.11)), latency(Some(1500.0))], ["–", "3.1 ms", "1.50 s"]);
        assert_eq!([count(1.0), count(0.0), count(0.25), count(2.5e6)], ["1", "0", "0.25", "2.5M"]);
        assert_eq!(visible("a\u{202e}b\n\0c", 9), "a⟨U+202E⟩b ⟨U+0000⟩c");
        let later = Timestamp::from_millis(72_000);
        assert_eq!([ahead(later, Timestamp::from_millis(0)), ahead(later, later)], ["in 1 min 12 s", "now"]);
        assert_eq!([shortened("añb", 2), shortened("añb", 3)], ["añ…", "añb"]);
        assert_eq!(moment(Timestamp::from_millis(1_763_835_000_999)), "2025-11-22 18:10:00 UTC");
        assert_eq!(span(Duration::from_secs(3900)), "1 h 5 min");
        assert_eq!(nanos(250_000), "250 µs");
    }
}
