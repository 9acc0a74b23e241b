//! Protobuf pages against the same families as text.

use prost::Message;

use super::*;

const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

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
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
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
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<Exemplar>,
    #[prost(message, optional, tag = "3")]
    created: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    at: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
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
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(message, optional, tag = "15")]
    created: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
    #[prost(double, tag = "4")]
    count_float: f64,
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(name, value)| Label { name: (*name).to_owned(), value: (*value).to_owned() }).collect()
}

fn number(value: f64) -> Option<Number> {
    Some(Number { value, exemplar: None, created: Some(Time { seconds: 1, nanos: 0 }) })
}

fn exemplar() -> Option<Exemplar> {
    let at = Some(Time { seconds: START / 1000 + 3600, nanos: 250_000_000 });
    Some(Exemplar { label: labels(&[("trace_id", "t\"1"), ("span_id", "s")]), value: 0.25, at })
}

fn family(name: &str, kind: i32, metric: Vec<Metric>) -> Vec<u8> {
    let (name, help) = (name.to_owned(), "two\nlines".to_owned());
    let unit = name.strip_suffix("_seconds").map(|_| "seconds".to_owned()).unwrap_or_default();
    MetricFamily { name, help, kind, metric, unit }.encode_length_delimited_to_vec()
}

/// Every kind, as protobuf.
fn page() -> Vec<u8> {
    let bucket = |count, bound, exemplar| Bucket { count, bound, exemplar, count_float: 0.0 };
    let bucket =
        vec![bucket(3, 0.001, None), bucket(4, 1.0, exemplar()), bucket(5, 1e6, None), bucket(6, 123_456_789.0, None)];
    let histogram = Histogram { count: 7, sum: 9.5, bucket, created: Some(Time::default()), ..Histogram::default() };
    let with_infinite = Histogram {
        bucket: vec![Bucket { bound: f64::INFINITY, count_float: 2.5, ..Bucket::default() }],
        count_float: 2.5,
        ..Histogram::default()
    };
    let native = Histogram { count: 8, sum: 1.0, schema: 3, ..Histogram::default() };
    let of = |label: &[(&str, &str)]| Metric { label: labels(label), ..Metric::default() };
    let counted = Some(Number { value: 5.0, exemplar: exemplar(), created: None });
    let quantile = [(0.5, 0.25), (0.99, f64::NAN)].map(|(quantile, value)| Quantile { quantile, value }).to_vec();
    [
        family(
            "c_total",
            0,
            vec![
                Metric { counter: counted, ..of(&[("path", "a\"\\\n"), ("empty", "")]) },
                Metric { counter: number(6.0), timestamp_ms: START + 3_599_000, ..of(&[("path", "b")]) },
                of(&[("path", "none")]),
            ],
        ),
        family("my.gauge", 1, vec![Metric { gauge: number(f64::NEG_INFINITY), ..of(&[]) }]),
        family(
            "s_seconds",
            2,
            vec![Metric { summary: Some(Summary { count: 2, sum: 1.5, quantile }), ..of(&[("a", "b")]) }],
        ),
        family("u", 3, vec![Metric { untyped: number(1e300), ..of(&[]) }]),
        family(
            "h",
            4,
            vec![
                Metric { histogram: Some(histogram), ..of(&[("a.b", "c")]) },
                Metric { histogram: Some(with_infinite), ..of(&[("a.b", "d")]) },
            ],
        ),
        family("g", 5, vec![Metric { histogram: Some(native), ..of(&[]) }]),
        family("none", 1, Vec::new()),
    ]
    .concat()
}

const TEXT_PAGE: &str = r#"c_total{path="a\"\\\n"} 5
c_total{path="b"} 6 1700003599000
c_total{path="none"} 0
{"my.gauge"} -Inf
# TYPE s_seconds summary
s_seconds{a="b",quantile="0.5"} 0.25
s_seconds{a="b",quantile="0.99"} NaN
s_seconds_sum{a="b"} 1.5
s_seconds_count{a="b"} 2
u 1e300
# TYPE h histogram
h_bucket{"a.b"="c",le="0.001"} 3
h_bucket{"a.b"="c",le="1"} 4
h_bucket{"a.b"="c",le="1e+06"} 5
h_bucket{"a.b"="c",le="1.23456789e+08"} 6
h_bucket{"a.b"="c",le="+Inf"} 7
h_sum{"a.b"="c"} 9.5
h_count{"a.b"="c"} 7
h_bucket{"a.b"="d",le="+Inf"} 2.5
h_sum{"a.b"="d"} 0
h_count{"a.b"="d"} 2.5
g_bucket{le="+Inf"} 8
g_sum 1
g_count 8
"#;

#[tokio::test]
async fn the_same_families_give_the_same_samples_as_text_and_as_protobuf() {
    let (mut text, mut protobuf) = (Harness::new("").await, Harness::new("").await);
    *protobuf.reply.lock() = Reply { content_type: PROTOBUF, body: page(), ..Reply::text("") };
    for seconds in [0, 15] {
        let expected = text.scrape_page(seconds, TEXT_PAGE).await;
        let found = protobuf.scrape(seconds).await;
        assert_eq!((found.last_error, expected.last_error), (None, None));
        assert_eq!((found.samples_kept, found.series_added), (expected.samples_kept, expected.series_added));
    }
    assert_eq!(protobuf.pages().await, text.pages().await);
    assert_eq!(protobuf.counters().exemplars.load(Ordering::Relaxed), 4); // of a counter and a bucket, twice
    let table = Arc::clone(&protobuf.one.cell.metadata.lock());
    let said: Vec<_> = table.iter().map(|m| (m.name.as_str(), m.kind.as_str(), m.unit.as_str())).collect();
    assert_eq!(said[0], ("c_total", "counter", ""));
    assert_eq!(said[1], ("g", "gaugehistogram", ""));
    assert!(said.contains(&("s_seconds", "summary", "seconds")) && table[0].help == "two\nlines", "{said:?}");
}

#[tokio::test]
async fn a_broken_protobuf_page_says_which_family_and_gives_nothing() {
    let whole = page();
    let gauge = |name: &[u8]| [b"\x0a", &[name.len() as u8][..], name, b"\x18\x01\x22\x00"].concat();
    let framed = |message: Vec<u8>| [&[message.len() as u8][..], &message].concat();
    for (body, expect) in [
        (whole[..whole.len() - 1].to_vec(), "line 7: the page ends before its end: `protobuf metric family`"),
        ([&whole[..], &[0xff; 3]].concat(), "line 8: the page ends before its end"),
        ([&whole[..], &[0xff; 11]].concat(), "line 8: failed to decode"),
        (framed(b"\x18\x01".to_vec()), "line 1: the metric family has no name"),
        (framed(b"\x0a\x01a\x18\x09".to_vec()), "line 1: unknown metric type 9"),
        (framed(gauge(b"a\xff")), "line 1: invalid UTF-8"),
        (framed(b"\x0a\x05a".to_vec()), "line 1: failed to decode"),
        (framed(b"\x0a\x01a\x22\x03\x0a\x01\x0f".to_vec()), "line 1: failed to decode"), // a label that is none
        (vec![0; 9], "line 1: the metric family has no name"),
    ] {
        let mut harness = Harness::new("").await;
        *harness.reply.lock() = Reply { content_type: PROTOBUF, body, ..Reply::text("") };
        let error = harness.scrape(0).await.last_error.unwrap_or_default();
        assert!(error.starts_with(expect), "{error}, expected {expect}");
        assert_eq!(harness.pages().await, []);
        assert_eq!(harness.scrape_page(15, "a 1\n").await.last_error, None);
    }
}
