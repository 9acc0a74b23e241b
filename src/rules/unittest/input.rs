//! The input series of a test: `metric{a="b"}` with promtool's notation of values.
//!
//! In: texts. Out: samples, appended as the test goes. Pure but for the memory tier. Invariant: a notation never makes
//! more than [`SAMPLES_MAX`] samples.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::str::Chars;
use std::time::Duration;

use crate::model::{Labels, METRIC_NAME, Timestamp, stale_marker};
use crate::series::{Head, Row, SeriesRef};

/// Most samples of one series.
const SAMPLES_MAX: usize = 10_000_000;

/// Series whose samples are still to come.
#[derive(Default)]
pub struct Loader {
    series: Vec<Pending>,
    /// Series of native histograms, which are left out.
    pub histograms: Vec<Labels>,
}

struct Pending {
    labels: Labels,
    series: Option<SeriesRef>,
    samples: VecDeque<(Timestamp, f64)>,
}

impl Loader {
    /// Adds a series; of one given twice the last counts.
    ///
    /// # Errors
    /// When a text cannot be read.
    pub fn add(&mut self, metric: &str, values: &str, start: Timestamp, interval: Duration) -> Result<(), String> {
        let labels = parse_metric(metric).map_err(|error| format!("input_series {metric:?}: {error}"))?;
        if metric.trim().is_empty() {
            return Err("an item of input_series has no series".to_owned());
        }
        if values.contains("{{") {
            self.histograms.push(labels);
            return Ok(());
        }
        let values =
            parse_values(values).map_err(|error| format!("input_series {metric:?}: values {values:?}: {error}"))?;
        let step_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        let at = |i: usize| Timestamp::from_millis(start.as_millis().saturating_add(step_ms.saturating_mul(i as i64)));
        let samples = values.into_iter().enumerate().filter_map(|(i, value)| Some((at(i), value?))).collect();
        self.series.retain(|pending| pending.labels != labels);
        self.series.push(Pending { labels, series: None, samples });
        Ok(())
    }

    /// Appends the samples up to `at`.
    ///
    /// # Errors
    /// When the memory tier refuses a series or sample.
    pub fn append_until(&mut self, head: &Head, at: Timestamp) -> Result<(), String> {
        for pending in &mut self.series {
            let mut rows = Vec::new();
            while let Some(&(due, value)) = pending.samples.front().filter(|(due, _)| *due <= at) {
                let series = match pending.series {
                    Some(series) => series,
                    None => head.intern(&pending.labels).map_err(|error| error.to_string())?,
                };
                pending.series = Some(series);
                rows.push(Row { series, at: due, value });
                pending.samples.pop_front();
            }
            let appended = head.append(&rows);
            if appended.out_of_order + appended.conflicting > 0 {
                return Err(format!("a rule writes the input series {} too", pending.labels));
            }
        }
        Ok(())
    }
}

/// `name{label="value", …}`, `{"quoted name", …}`, or nothing.
///
/// # Errors
/// What was expected instead of what is there.
pub fn parse_metric(text: &str) -> Result<Labels, String> {
    let mut rest = text.trim().chars().peekable();
    let mut pairs: Vec<(String, String)> = Vec::new();
    let name = word(&mut rest);
    if !name.is_empty() {
        pairs.push((METRIC_NAME.to_owned(), name));
    }
    blank(&mut rest);
    if rest.next_if_eq(&'{').is_some() {
        loop {
            blank(&mut rest);
            if rest.next_if_eq(&'}').is_some() {
                break;
            }
            let (name, is_quoted) = match rest.peek() {
                Some('"' | '\'' | '`') => (quoted(&mut rest)?, true),
                _ => (word(&mut rest), false),
            };
            blank(&mut rest);
            if rest.next_if_eq(&'=').is_some() {
                blank(&mut rest);
                pairs.push((name, quoted(&mut rest)?));
            } else if is_quoted {
                pairs.push((METRIC_NAME.to_owned(), name));
            } else {
                return Err(format!("expected `=` after label {name:?}"));
            }
            blank(&mut rest);
            if rest.next_if_eq(&',').is_none() && rest.peek() != Some(&'}') {
                return Err("expected `,` or `}` in the label set".to_owned());
            }
        }
    }
    blank(&mut rest);
    match rest.next() {
        None => Ok(Labels::from_pairs(pairs)),
        Some(c) => Err(format!("unexpected {c:?} after the label set")),
    }
}

fn blank(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
}

fn word(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(c) = rest.next_if(|c| matches!(c, '_' | ':' | 'a'..='z' | 'A'..='Z' | '0'..='9')) {
        if word.is_empty() && c.is_ascii_digit() {
            return word; // no name begins so; what reads on says that it did not expect the digit
        }
        word.push(c);
    }
    word
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let quote = rest.next_if(|c| matches!(c, '"' | '\'' | '`')).ok_or("expected a quoted label value")?;
    let mut text = String::new();
    loop {
        match rest.next().ok_or("the quoted text has no end")? {
            c if c == quote => return Ok(text),
            '\\' if quote != '`' => text.push(match rest.next().ok_or("the quoted text has no end")? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'u' => unicode(rest, 4)?,
                'U' => unicode(rest, 8)?,
                'x' => unicode(rest, 2)?,
                c @ ('\\' | '"' | '\'') => c,
                c => return Err(format!("unknown escape sequence \\{c}")),
            }),
            c => text.push(c),
        }
    }
}

fn unicode(rest: &mut Peekable<Chars<'_>>, digits: usize) -> Result<char, String> {
    let code: String = rest.take(digits).collect();
    u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).ok_or(format!("unknown escape sequence {code:?}"))
}

/// `1 2+3x2 4x3 _ _x3 stale`: `None` is a time without a sample.
///
/// # Errors
/// The item that cannot be read.
pub fn parse_values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut values = Vec::new();
    for item in text.split_whitespace() {
        let (one, times) = match item.rsplit_once('x') {
            Some((one, times)) => (one, Some(times.parse::<usize>().map_err(|_| unreadable(item))?)),
            None => (item, None),
        };
        if values.len() + times.unwrap_or(0) > SAMPLES_MAX {
            return Err(format!("more than {SAMPLES_MAX} values"));
        }
        match (one, times) {
            ("_", times) => values.extend(std::iter::repeat_n(None, times.unwrap_or(1))),
            ("stale", None) => values.push(Some(stale_marker())),
            (one, None) => values.push(Some(number(one).ok_or_else(|| unreadable(item))?)),
            (one, Some(times)) => {
                let (mut value, step) = stepped(one).ok_or_else(|| unreadable(item))?;
                for _ in 0..=times {
                    values.push(Some(value));
                    value += step.unwrap_or(-0.0); // summed up like promtool does, rounding and all
                }
            }
        }
    }
    Ok(values)
}

fn unreadable(item: &str) -> String {
    format!("{item:?} is not a value; write `1`, `1+2x3`, `4x5`, `_`, `_x6` or `stale`")
}

/// `a`, `a+b` or `a-b`.
fn stepped(text: &str) -> Option<(f64, Option<f64>)> {
    if let Some(value) = number(text) {
        return Some((value, None));
    }
    // The sign between the two, not that of an exponent or of the first.
    let signs = text.char_indices().skip(1).filter(|(_, c)| matches!(c, '+' | '-'));
    signs.map(|(i, _)| i).find_map(|i| Some((number(&text[..i])?, Some(number(&text[i..])?))))
}

/// As the engine reads numbers: `1_000`, and `010` is eight.
fn number(text: &str) -> Option<f64> {
    crate::promql::testlang::parse_number(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::is_stale;

    #[test]
    fn expands_values_as_promtool_does() {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        for (text, expect) in [
            ("1 2 3", some(&[1.0, 2.0, 3.0])),
            ("1+2x2", some(&[1.0, 3.0, 5.0])),
            ("5-1x2", some(&[5.0, 4.0, 3.0])),
            ("4x2", some(&[4.0, 4.0, 4.0])),
            ("0x1", some(&[0.0, 0.0])),
            ("-1.5e-1+1e0x1", some(&[-0.15, 0.85])),
            ("1 _ 2", vec![Some(1.0), None, Some(2.0)]),
            ("_x3 1", vec![None, None, None, Some(1.0)]),
            ("Inf -Inf", some(&[f64::INFINITY, f64::NEG_INFINITY])),
            ("", vec![]),
        ] {
            assert_eq!(parse_values(text), Ok(expect), "{text}");
        }
        let zeros = parse_values("-0x2").expect("readable");
        assert!(zeros.iter().all(|value| value.is_some_and(f64::is_sign_negative)), "{zeros:?}");
        let stale = parse_values("stale NaN").expect("readable");
        assert!(stale[0].is_some_and(is_stale) && stale[1].is_some_and(|v| v.is_nan() && !is_stale(v)));
        for bad in ["a", "1x", "1+x3", "1xx2", "{{count:1}}", "_+1x2"] {
            assert!(parse_values(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_metrics() {
        for (text, expect) in [
            ("", "{}"),
            ("up", "up"),
            ("requests{}", "requests"),
            (r#"up{job="a", b='c"',}"#, r#"up{b="c\"", job="a"}"#),
            (r#"{"a.b", x=`\y`}"#, r#"a.b{x="\\y"}"#),
            (r#"{job="a"}"#, r#"{job="a"}"#),
        ] {
            assert_eq!(parse_metric(text).map(|labels| labels.to_string()).as_deref(), Ok(expect), "{text}");
        }
        for bad in [r#"up{job="a""#, "up{job}", "up{job=a}", "up{} 1", r#"up{job="a}"#] {
            assert!(parse_metric(bad).is_err(), "{bad}");
        }
    }
}
