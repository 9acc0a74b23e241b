//! Protobuf exposition: length-delimited `io.prometheus.client.MetricFamily`, rewritten as the text format.
//!
//! One path reads all formats, so a known series is recognised here too. Classic histograms only: native buckets are
//! left out, a histogram without classic ones gives its `+Inf` bucket, count and sum. Pure.

use std::fmt::Write;

use prost::Message;

use super::number::canonical_float;
use super::{MetricKind, ParseError};

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Number>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(double, tag = "4")]
    sample_count_float: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(double, tag = "4")]
    cumulative_count_float: f64,
}

/// Rewrites a page as text. `None`: the text would exceed `limit_bytes`.
///
/// # Errors
/// When the page is not a sequence of metric families; the line is the number of the family.
pub fn protobuf_to_text(mut page: &[u8], limit_bytes: u64) -> Result<Option<String>, ParseError> {
    let (mut text, mut number) = (String::new(), 0);
    while !page.is_empty() {
        number += 1;
        let family = MetricFamily::decode_length_delimited(&mut page).map_err(|error| ParseError {
            line: number,
            text: "protobuf metric family".to_owned(),
            reason: error.to_string(),
        })?;
        write_family(&mut text, &family);
        if text.len() as u64 > limit_bytes {
            return Ok(None);
        }
    }
    Ok(Some(text))
}

fn write_family(text: &mut String, family: &MetricFamily) {
    let kind = match family.kind {
        0 => MetricKind::Counter.as_str(),
        1 => MetricKind::Gauge.as_str(),
        2 => MetricKind::Summary.as_str(),
        4 | 5 => MetricKind::Histogram.as_str(),
        _ => "untyped",
    };
    let name = quoted(&family.name);
    if !family.help.is_empty() {
        let _ = writeln!(text, "# HELP {name} {}", family.help.replace('\\', r"\\").replace('\n', r"\n"));
    }
    let _ = writeln!(text, "# TYPE {name} {kind}");
    for metric in &family.metric {
        let mut line = |suffix: &str, extra: Option<(&str, f64)>, value: f64| {
            write_sample(text, (&family.name, suffix), (&metric.label, extra), (value, metric.timestamp_ms));
        };
        for number in [&metric.counter, &metric.gauge, &metric.untyped].into_iter().flatten() {
            line("", None, number.value);
        }
        if let Some(Summary { sample_count, sample_sum, quantile }) = &metric.summary {
            quantile.iter().for_each(|q| line("", Some(("quantile", q.quantile)), q.value));
            line("_sum", None, *sample_sum);
            line("_count", None, *sample_count as f64);
        }
        if let Some(Histogram { sample_count, sample_sum, bucket, sample_count_float }) = &metric.histogram {
            // A histogram counts in whole numbers or in floats, never in both.
            let either = |whole: u64, float: f64| if float > 0.0 { float } else { whole as f64 };
            let count = either(*sample_count, *sample_count_float);
            for b in bucket {
                line("_bucket", Some(("le", b.upper_bound)), either(b.cumulative_count, b.cumulative_count_float));
            }
            if bucket.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
                line("_bucket", Some(("le", f64::INFINITY)), count);
            }
            line("_sum", None, *sample_sum);
            line("_count", None, count);
        }
    }
}

fn write_sample(
    text: &mut String,
    (name, suffix): (&str, &str),
    (labels, extra): (&[LabelPair], Option<(&str, f64)>),
    (value, timestamp_ms): (f64, i64),
) {
    let mut comma = "";
    if is_plain(name) {
        let _ = write!(text, "{name}{suffix}{{");
    } else {
        let _ = write!(text, "{{{}", quoted(&format!("{name}{suffix}")));
        comma = ",";
    }
    for LabelPair { name, value } in labels {
        let _ = write!(text, "{comma}{}=\"{}\"", quoted(name), escaped(value));
        comma = ",";
    }
    if let Some((name, bound)) = extra {
        let _ = write!(text, "{comma}{name}=\"{}\"", canonical_float(&bound.to_string()));
    }
    let _ = write!(text, "}} {value}");
    if timestamp_ms > 0 {
        let _ = write!(text, " {timestamp_ms}");
    }
    text.push('\n');
}

fn is_plain(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(starts) && name.chars().all(|c| starts(c) || c.is_ascii_digit())
}

fn quoted(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { format!("\"{}\"", escaped(name)) }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, value: &str) -> Vec<LabelPair> {
        vec![LabelPair { name: name.to_owned(), value: value.to_owned() }]
    }

    #[test]
    fn rewrites_every_kind_as_text() {
        let counter = Metric {
            label: label("path", "a\"\\\n"),
            counter: Some(Number { value: 5.0 }),
            timestamp_ms: 12,
            ..Metric::default()
        };
        let quantile = vec![Quantile { quantile: 1.0, value: 0.5 }];
        let summary =
            Metric { summary: Some(Summary { sample_count: 2, sample_sum: 1.5, quantile }), ..Metric::default() };
        let bucket = vec![Bucket { cumulative_count: 3, upper_bound: 1.0, cumulative_count_float: 0.0 }];
        let histogram = Histogram { sample_count: 4, sample_sum: 9.0, bucket, sample_count_float: 0.0 };
        let histogram = Metric { label: label("a.b", "c"), histogram: Some(histogram), ..Metric::default() };
        let gauge = Metric { gauge: Some(Number { value: f64::NEG_INFINITY }), ..Metric::default() };
        let mut page = Vec::new();
        for (name, kind, metric) in
            [("c_total", 0, counter), ("my.gauge", 1, gauge), ("s", 2, summary), ("h", 4, histogram)]
        {
            let family =
                MetricFamily { name: name.to_owned(), help: "two\nlines".to_owned(), kind, metric: vec![metric] };
            page.extend(family.encode_length_delimited_to_vec());
        }
        let text = protobuf_to_text(&page, 10_000).expect("a page").expect("within the limit");
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        let expect = [
            "# TYPE c_total counter",
            r#"c_total{path="a\"\\\n"} 5 12"#,
            "# TYPE \"my.gauge\" gauge",
            "{\"my.gauge\"} -inf",
            "# TYPE s summary",
            "s{quantile=\"1.0\"} 0.5",
            "s_sum{} 1.5",
            "s_count{} 2",
            "# TYPE h histogram",
            "h_bucket{\"a.b\"=\"c\",le=\"1.0\"} 3",
            "h_bucket{\"a.b\"=\"c\",le=\"+Inf\"} 4",
            "h_sum{\"a.b\"=\"c\"} 9",
            "h_count{\"a.b\"=\"c\"} 4",
        ];
        assert_eq!(lines, expect);
        for entry in super::super::Parser::new(super::super::Format::Text, text.as_bytes()) {
            entry.expect("our own text is well formed");
        }
        assert_eq!(protobuf_to_text(&page, 20), Ok(None));
        assert_eq!(protobuf_to_text(&page[..page.len() - 1], 10_000).map_err(|error| error.line), Err(4));
    }
}
