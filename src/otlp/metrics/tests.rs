//! Requests as senders make them, and the series that they become.

#![allow(clippy::unwrap_used, reason = "tests")]

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    Summary, SummaryDataPoint, exemplar, metric::Data, number_data_point, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::{Encoding, Taken, take};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::push::{self, Intake, TranslationStrategy};
use crate::rollup::Rollup;
use crate::series::{self, Head, Queryable, Select};

const NOW_MS: i64 = 1_700_000_000_000;
const NOW_NS: u64 = NOW_MS as u64 * 1_000_000;

fn intake(promoted: &[&str]) -> (Intake, Head) {
    let promote_resource_attributes = promoted.iter().map(|name| (*name).to_owned()).collect();
    configured(push::Config { promote_resource_attributes, ..push::Config::default() })
}

fn configured(config: push::Config) -> (Intake, Head) {
    let head = Head::new(series::Config::default());
    let clock = Clock::starting_at(Timestamp::from_millis(NOW_MS));
    (Intake::new(config, head.clone(), Rollup::default(), clock, None), head)
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: "Help.".to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(value: f64, attributes: &[(&str, &str)]) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes.iter().map(|(k, v)| pair(k, v)).collect(),
        time_unix_nano: NOW_NS,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn sum(name: &str, temporality: i32, points: Vec<NumberDataPoint>) -> Metric {
    metric(name, "", Data::Sum(Sum { data_points: points, aggregation_temporality: temporality, is_monotonic: true }))
}

fn request(resource: &[(&str, &str)], metrics: Vec<Metric>) -> Vec<u8> {
    let resource = Resource { attributes: resource.iter().map(|(k, v)| pair(k, v)).collect(), ..Resource::default() };
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let group = ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![group] }.encode_to_vec()
}

/// All samples, as text, sorted.
fn stored(head: &Head) -> Vec<String> {
    let found = head.select(Select::new(vec![], Timestamp::MIN, Timestamp::MAX));
    let found = futures_util::FutureExt::now_or_never(found).unwrap().unwrap();
    let mut lines: Vec<String> = found
        .series
        .iter()
        .flat_map(|one| {
            let samples = one.times.iter().zip(&one.values);
            samples
                .map(|(at, value)| format!("{} {value} @{}", one.labels, at.as_millis() - NOW_MS))
                .collect::<Vec<_>>()
        })
        .collect();
    lines.sort();
    lines
}

fn taken(intake: &Intake, body: &[u8]) -> Taken {
    take(intake, body, Encoding::Protobuf).unwrap()
}

#[test]
fn resources_and_names_are_translated_as_configured() {
    let resource = [("service.name", "cart"), ("k8s.pod.name", "cart-0"), ("host.arch", "arm"), ("http.method", "PUT")];
    let all = || vec![sum("http.requests", 2, vec![number(5.0, &[("http.method", "GET")])])];
    let cases = [
        (
            push::Config {
                promote_all_resource_attributes: true,
                ignore_resource_attributes: vec!["host.arch".to_owned()],
                ..push::Config::default()
            },
            [
                r#"http_requests_total{http_method="GET", job="cart", k8s_pod_name="cart-0", service_name="cart"} 5 @0"#,
                r#"target_info{host_arch="arm", http_method="PUT", job="cart", k8s_pod_name="cart-0"} 1 @0"#,
            ],
        ),
        (
            push::Config { keep_identifying_resource_attributes: true, ..push::Config::default() },
            [
                r#"http_requests_total{http_method="GET", job="cart"} 5 @0"#,
                r#"target_info{host_arch="arm", http_method="PUT", job="cart", k8s_pod_name="cart-0", service_name="cart"} 1 @0"#,
            ],
        ),
        (
            push::Config {
                translation_strategy: TranslationStrategy::NoUTF8EscapingWithSuffixes,
                promote_resource_attributes: vec!["k8s.pod.name".to_owned()],
                ..push::Config::default()
            },
            [
                r#"http.requests_total{http.method="GET", job="cart", k8s.pod.name="cart-0"} 5 @0"#,
                r#"target_info{host.arch="arm", http.method="PUT", job="cart", k8s.pod.name="cart-0"} 1 @0"#,
            ],
        ),
        (
            push::Config { translation_strategy: TranslationStrategy::NoTranslation, ..push::Config::default() },
            [
                r#"http.requests{http.method="GET", job="cart"} 5 @0"#,
                r#"target_info{host.arch="arm", http.method="PUT", job="cart", k8s.pod.name="cart-0"} 1 @0"#,
            ],
        ),
    ];
    for (config, expect) in cases {
        let (intake, head) = configured(config.clone());
        assert_eq!(taken(&intake, &request(&resource, all())).rejected, 0, "{config:?}");
        let plain = |line: String| line.replace(['{', '}', '"', ',', ' '], "");
        let found: Vec<String> = stored(&head).into_iter().map(plain).collect();
        assert_eq!(found, expect.map(|line| plain(line.to_owned())), "{config:?}");
    }
}

#[test]
fn points_become_the_series_that_prometheus_makes_of_them() {
    let (intake, head) = intake(&["k8s.pod.name"]);
    let exemplar = Exemplar {
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        time_unix_nano: NOW_NS,
        value: Some(exemplar::Value::AsDouble(0.3)),
        ..Exemplar::default()
    };
    let histogram = HistogramDataPoint {
        time_unix_nano: NOW_NS,
        count: 3,
        sum: Some(1.5),
        bucket_counts: vec![1, 1, 1],
        explicit_bounds: vec![0.25, 1.0],
        exemplars: vec![exemplar],
        ..HistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        time_unix_nano: NOW_NS,
        count: 2,
        sum: 4.0,
        quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: 2.0 }],
        ..SummaryDataPoint::default()
    };
    let resource = [
        ("service.name", "cart"),
        ("service.namespace", "shop"),
        ("service.instance.id", "i-1"),
        ("k8s.pod.name", "cart-0"),
    ];
    let metrics = vec![
        sum("http.requests", 2, vec![number(5.0, &[("http.method", "GET"), ("http_method", "again")])]),
        metric("cpu.load", "1", Data::Gauge(Gauge { data_points: vec![number(0.5, &[])] })),
        metric("latency", "s", Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 })),
        metric("size", "By", Data::Summary(Summary { data_points: vec![summary] })),
    ];
    let told = taken(&intake, &request(&resource, metrics));
    assert_eq!((told.rejected, told.message), (0, None));
    let of = r#"instance="i-1", job="shop/cart", k8s_pod_name="cart-0""#;
    let mut expect = vec![
        format!(r#"http_requests_total{{http_method="GET;again", {of}}} 5 @0"#),
        format!("cpu_load_ratio{{{of}}} 0.5 @0"),
        format!("latency_seconds_sum{{{of}}} 1.5 @0"),
        format!("latency_seconds_count{{{of}}} 3 @0"),
        format!(r#"latency_seconds_bucket{{{of}, le="0.25"}} 1 @0"#),
        format!(r#"latency_seconds_bucket{{{of}, le="1"}} 2 @0"#),
        format!(r#"latency_seconds_bucket{{{of}, le="+Inf"}} 3 @0"#),
        format!("size_bytes_sum{{{of}}} 4 @0"),
        format!("size_bytes_count{{{of}}} 2 @0"),
        format!(r#"size_bytes{{{of}, quantile="0.5"}} 2 @0"#),
        format!("target_info{{{of}}} 1 @0"),
    ];
    expect.sort();
    assert_eq!(stored(&head), expect);
    let exemplars = head.exemplars().select(&[vec![]], Timestamp::MIN, Timestamp::MAX);
    assert_eq!(exemplars[0].series.value("le"), "1");
    assert_eq!(exemplars[0].exemplars[0].labels.value("trace_id"), "ab".repeat(16));
    let metadata = intake.metadata();
    let kinds: Vec<_> = metadata.iter().map(|one| (one.name.as_str(), one.kind.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("cpu_load_ratio", "gauge"),
            ("http_requests_total", "counter"),
            ("latency_seconds", "histogram"),
            ("size_bytes", "summary")
        ]
    );
}

#[test]
fn what_is_not_taken_is_counted_with_its_reason_and_keeps_out_nothing_else() {
    let (intake, head) = intake(&[]);
    let stale = NumberDataPoint { flags: 1, ..number(7.0, &[("a", "stale")]) };
    let late = NumberDataPoint { time_unix_nano: NOW_NS - 1_000_000, ..number(1.0, &[]) };
    let other = number(9.0, &[]);
    taken(&intake, &request(&[], vec![sum("good", 2, vec![number(5.0, &[]), stale])]));
    let metrics = vec![
        sum("delta", 1, vec![number(1.0, &[]), number(2.0, &[("a", "b")])]),
        sum("good", 2, vec![late, other, number(6.0, &[("a", "c")])]),
        metric(
            "exponential",
            "",
            Data::ExponentialHistogram(opentelemetry_proto::tonic::metrics::v1::ExponentialHistogram {
                data_points: vec![Default::default()],
                aggregation_temporality: 2,
            }),
        ),
    ];
    let told = taken(&intake, &request(&[], metrics));
    assert_eq!(told.rejected, 5);
    let message = told.message.unwrap();
    for part in [
        "2 data points: invalid temporality and type combination for metric \"delta\"",
        "1 data points: out of order sample",
        "1 data points: duplicate sample for timestamp",
        "1 data points: native histograms are disabled, metric \"exponential\"",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(stored(&head), ["good_total 5 @0", "good_total{a=\"c\"} 6 @0", "good_total{a=\"stale\"} NaN @0"]);
}

#[test]
fn json_is_read_as_protobuf_is() {
    let (intake, head) = intake(&[]);
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"s"}}}}]}},
        "scopeMetrics":[{{"metrics":[
          {{"name":"a","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
             {{"asInt":"3","timeUnixNano":"{NOW_NS}"}}]}}}},
          {{"name":"d","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[
             {{"asInt":"3","timeUnixNano":"{NOW_NS}"}}]}}}},
          {{"name":"h","histogram":{{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[
             {{"count":"2","sum":2,"bucketCounts":["1","1"],"explicitBounds":[1],"timeUnixNano":"{NOW_NS}"}}]}}}}
        ]}}]}}]}}"#
    );
    let told = take(&intake, body.as_bytes(), Encoding::Json).unwrap();
    assert_eq!(told.rejected, 1);
    let mut expect = [
        "a_total{job=\"s\"} 3 @0",
        "h_bucket{job=\"s\", le=\"1\"} 1 @0",
        "h_bucket{job=\"s\", le=\"+Inf\"} 2 @0",
        "h_count{job=\"s\"} 2 @0",
        "h_sum{job=\"s\"} 2 @0",
    ];
    expect.sort_unstable();
    assert_eq!(stored(&head), expect);
    let broken =
        take(&intake, b"{\"resourceMetrics\": [\n{\"resource\": 3}]}", Encoding::Json).unwrap_err().to_string();
    assert!(broken.contains("line 2"), "{broken}");
}

#[test]
fn a_broken_body_stores_nothing() {
    let (intake, head) = intake(&[]);
    let body = request(&[], vec![sum("a", 2, vec![number(1.0, &[])])]);
    for cut in 1..body.len() {
        assert!(take(&intake, &body[..cut], Encoding::Protobuf).is_err(), "{cut}");
    }
    assert!(stored(&head).is_empty());
}
