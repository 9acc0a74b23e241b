//! Numbers as Go's `strconv` and Prometheus' `humanize` functions print them.
//!
//! In: floats. Out: text. Pure. Invariant: the digits are the correctly rounded ones.

/// As Go's `%v` and `%g`: the shortest text that reads back as `v`, scientific below 10^-4 and from 10^6 on
/// (`strconv.FormatFloat` decides the shortest form as if the precision were 6).
pub fn shortest(v: f64) -> String {
    special(v).unwrap_or_else(|| general(&format!("{v:e}"), 6))
}

/// As `%.{digits}g`: so many significant digits, without trailing zeros.
pub fn significant(v: f64, digits: usize) -> String {
    let digits = digits.max(1);
    let threshold = i32::try_from(digits).unwrap_or(i32::MAX);
    special(v).unwrap_or_else(|| general(&format!("{v:.*e}", digits - 1), threshold))
}

/// As `%.{decimals}e`: one digit, decimals, an exponent of at least two digits.
pub fn scientific(v: f64, decimals: Option<usize>) -> String {
    special(v).unwrap_or_else(|| {
        let text = match decimals {
            Some(decimals) => format!("{v:.decimals$e}"),
            None => format!("{v:e}"),
        };
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{mantissa}{}", exponent_text(exponent.parse().unwrap_or(0)))
    })
}

/// `NaN`, `+Inf` and `-Inf`; `None` for a finite number.
pub fn special(v: f64) -> Option<String> {
    match v {
        _ if v.is_nan() => Some("NaN".to_owned()),
        f64::INFINITY => Some("+Inf".to_owned()),
        f64::NEG_INFINITY => Some("-Inf".to_owned()),
        _ => None,
    }
}

fn exponent_text(exponent: i32) -> String {
    format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Rewrites Rust's `d.ddde-n` as Go's `%g` would.
fn general(text: &str, threshold: i32) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    let (first, rest) = digits.split_at(1);
    let dotted = |whole: &str, fraction: &str| match fraction {
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    };
    if exponent < -4 || exponent >= threshold {
        return dotted(first, rest) + &exponent_text(exponent);
    }
    match usize::try_from(exponent) {
        Ok(exponent) if digits.len() > exponent + 1 => dotted(&digits[..=exponent], &digits[exponent + 1..]),
        Ok(exponent) => dotted(&format!("{digits:0<width$}", width = exponent + 1), ""),
        Err(_) => dotted("0", &format!("{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1))),
    }
}

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

/// With a metric prefix: `1.049M`, `500m`.
pub fn humanize(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return significant(v, 4);
    }
    let (v, prefix) = if v.abs() >= 1.0 { shrunk(v, 1000.0, &LARGE) } else { grown(v) };
    significant(v, 4) + prefix
}

/// With a binary prefix: `1Mi`.
pub fn humanize1024(v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return significant(v, 4);
    }
    let (v, prefix) = shrunk(v, 1024.0, &BINARY);
    significant(v, 4) + prefix
}

/// A ratio as `95.9%`.
pub fn humanize_percentage(v: f64) -> String {
    significant(v * 100.0, 4) + "%"
}

/// Seconds as `1d 1h 1m 1s`, `59.9s`, `1.5ms`.
pub fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return significant(v, 4);
    }
    if v != 0.0 && v.abs() < 1.0 {
        let (v, prefix) = grown(v);
        return format!("{}{prefix}s", significant(v, 4));
    }
    let (sign, v) = if v < 0.0 { ("-", -v) } else { ("", v) };
    let whole = v as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", significant(v, 4)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

fn shrunk(mut v: f64, step: f64, prefixes: &[&'static str; 8]) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if v.abs() < step {
            break;
        }
        prefix = next;
        v /= step;
    }
    (v, prefix)
}

fn grown(mut v: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in SMALL {
        if v.abs() >= 1.0 {
            break;
        }
        prefix = next;
        v *= 1000.0;
    }
    (v, prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_floats_as_go_does() {
        let check = |v: f64, g: &str, g4: &str| {
            assert_eq!((shortest(v), significant(v, 4)), (g.into(), g4.into()), "{v}");
        };
        check(0.0, "0", "0");
        check(0.5, "0.5", "0.5");
        check(1.0, "1", "1");
        check(-1500.0, "-1500", "-1500");
        check(1_048_576.0, "1.048576e+06", "1.049e+06");
        check(0.000_012_345, "1.2345e-05", "1.234e-05");
        check(0.0001, "0.0001", "0.0001");
        check(999.95, "999.95", "1000");
        check(12_345.0, "12345", "1.234e+04");
        check(f64::NAN, "NaN", "NaN");
        check(f64::NEG_INFINITY, "-Inf", "-Inf");
    }

    #[test]
    fn humanizes_as_prometheus_does() {
        for (v, expect) in [
            (0.5, "500m"),
            (1_048_576.0, "1.049M"),
            (999.95, "1000"),
            (-1500.0, "-1.5k"),
            (0.000_123_45, "123.4u"),
            (1e30, "1e+06Y"),
            (0.0, "0"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(humanize(v), expect, "{v}");
        }
        assert_eq!(humanize1024(1_048_576.0), "1Mi");
        assert_eq!(humanize1024(1.0), "1");
        assert_eq!(humanize_percentage(0.959), "95.9%");
        for (v, expect) in [
            (135.3563, "2m 15s"),
            (59.9, "59.9s"),
            (3600.0, "1h 0m 0s"),
            (90_061.5, "1d 1h 1m 1s"),
            (0.0015, "1.5ms"),
            (-1.0, "-1s"),
            (0.0, "0s"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(humanize_duration(v), expect, "{v}");
        }
    }
}
