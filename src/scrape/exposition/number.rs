//! Numbers of exposition formats: read as Go's `strconv.ParseFloat` reads them, printed as Prometheus normalises them.

/// Reads a sample value. `None` when it is not a number, or too large for one.
///
/// Accepts what Prometheus accepts: decimal with exponent, `Inf`, `+Inf`, `-Inf`, `Infinity`, `NaN` in any case; not hexadecimal,
/// not `_`, not a signed NaN.
#[inline]
pub fn parse_float(text: &[u8]) -> Option<f64> {
    if (1..=15).contains(&text.len()) {
        let mut number = 0_u64;
        for byte in text {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return parse_any(text);
            }
            number = number * 10 + u64::from(digit);
        }
        return Some(number as f64); // at most 15 digits: exact
    }
    parse_any(text)
}

fn parse_any(text: &[u8]) -> Option<f64> {
    let (signed, unsigned) = match text {
        [b'+' | b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let first = *unsigned.first()?;
    if first.is_ascii_digit() || first == b'.' {
        let number: f64 = fast_float2::parse(unsigned).ok()?;
        let number = if text[0] == b'-' { -number } else { number };
        return number.is_finite().then_some(number);
    }
    let is = |word: &str| unsigned.eq_ignore_ascii_case(word.as_bytes());
    if is("inf") || is("infinity") {
        return Some(if text[0] == b'-' { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    (is("nan") && !signed).then_some(f64::NAN)
}

/// The one spelling of a bucket bound or quantile: `1` → `1.0`, `1000000` → `1e+06`, as Prometheus 3 stores `le` and `quantile`.
///
/// What is not a number stays as it is.
pub fn canonical_float(text: &str) -> String {
    let Some(number) = parse_any(text.as_bytes()) else { return text.to_owned() };
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Go's `strconv.FormatFloat(f, 'g', -1, 64)`: exponent form below 1e-4 and from 1e6 on.
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_prometheus_does() {
        let check = |text: &str, expect: Option<f64>| assert_eq!(parse_float(text.as_bytes()), expect, "{text}");
        check("0", Some(0.0));
        check("+1.5e3", Some(1500.0));
        check("-.5", Some(-0.5));
        check("5.", Some(5.0));
        check("123456789012345678", Some(123_456_789_012_345_680.0));
        check("1.7976931348623157e308", Some(f64::MAX));
        check("-inf", Some(f64::NEG_INFINITY));
        check("+Infinity", Some(f64::INFINITY));
        for bad in ["", "+", "-", "1e999", "0x10", "1_000", "-nan", "+NaN", "one", "1e", "1.2.3", "--1", "1\r", "infi"]
        {
            check(bad, None);
        }
        assert!(parse_float(b"nAn").is_some_and(f64::is_nan));
    }

    #[test]
    fn spells_bounds_as_prometheus_3_does() {
        let check = |text: &str, expect: &str| assert_eq!(canonical_float(text), expect, "{text}");
        check("1", "1.0");
        check("0", "0.0");
        check("-1", "-1.0");
        check("0.5", "0.5");
        check("2.50", "2.5");
        check("100000", "100000.0");
        check("1000000", "1e+06");
        check("123456789", "1.23456789e+08");
        check("0.0001", "0.0001");
        check("0.00001", "1e-05");
        check("-8.999999999999979e-05", "-8.999999999999979e-05");
        check("inf", "+Inf");
        check("-Inf", "-Inf");
        check("high", "high");
    }
}
