//! Samples that are sent: remote write and OTLP metrics on real sockets, what is answered, and what the next query sees.

use std::time::Duration;

use meshscope::model::Timestamp;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::json;

use crate::api::{Parts, Server};

fn message(number: u32, body: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

fn write_request(name: &str, samples: &[(i64, f64)]) -> Vec<u8> {
    let (mut series, mut label) = (Vec::new(), Vec::new());
    message(1, b"__name__", &mut label);
    message(2, name.as_bytes(), &mut label);
    message(1, &label, &mut series);
    for (at, value) in samples {
        let mut sample = Vec::new();
        encode_key(1, WireType::SixtyFourBit, &mut sample);
        sample.extend_from_slice(&value.to_bits().to_le_bytes());
        encode_key(2, WireType::Varint, &mut sample);
        encode_varint(*at as u64, &mut sample);
        message(2, &sample, &mut series);
    }
    let mut request = Vec::new();
    message(1, &series, &mut request);
    request
}

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).expect("compressed")
}

fn now_ms() -> i64 {
    Timestamp::from(chrono::Utc::now()).as_millis()
}

async fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
    let mut request = client.post(format!("http://{}{path}", server.address)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

type Headers = Vec<(&'static str, &'static str)>;

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const SNAPPY: (&str, &str) = ("content-encoding", "snappy");

#[tokio::test]
async fn what_was_answered_as_stored_is_seen_by_the_next_query() {
    let server = Server::start(Parts::default()).await;
    let now = now_ms();
    for round in 0..20 {
        let body = snappy(&write_request("sent", &[(now + round, round as f64)]));
        assert_eq!(post(&server, "/api/v1/write", &[PROTOBUF, SNAPPY], body).await, (204, String::new()));
        let at = (now + round) as f64 / 1000.0;
        let answer = server.get(&format!("/api/v1/query?query=sent&time={at:.3}")).await.json();
        assert_eq!(answer["data"]["result"][0]["value"][1], json!(round.to_string()), "{answer}");
    }
}

#[tokio::test]
async fn requests_that_cannot_be_read_get_the_status_and_text_of_prometheus() {
    let server = Server::start(Parts::default()).await;
    let good = snappy(&write_request("a", &[(now_ms(), 1.0)]));
    let truncated = good[..good.len() - 3].to_vec();
    let bomb = [0x80, 0x80, 0x80, 0x80, 0x04, 0, 0].to_vec(); // promises a gibibyte
    let late = snappy(&write_request("a", &[(1, 1.0)]));
    let text = ("content-type", "text/plain");
    let unknown = ("content-type", "application/x-protobuf;proto=some.Message");
    let cases: [(&str, Headers, Vec<u8>, u16, &str); 8] = [
        ("truncated", vec![PROTOBUF, SNAPPY], truncated, 400, "snappy: corrupt input\n"),
        ("bomb", vec![PROTOBUF, SNAPPY], bomb, 400, "snappy: decoded length 1073741824 exceeds limit 33554432\n"),
        ("empty", vec![PROTOBUF, SNAPPY], Vec::new(), 400, "snappy: corrupt input\n"),
        ("late", vec![PROTOBUF, SNAPPY], late, 400, "out of bounds\n"),
        ("protobuf", vec![PROTOBUF, SNAPPY], snappy(b"\x0a\xff"), 400, "failed to decode Protobuf message"),
        (
            "gzip",
            vec![PROTOBUF, ("content-encoding", "gzip")],
            good.clone(),
            415,
            "gzip encoding (compression) is not accepted by this server; only snappy is acceptable\n",
        ),
        (
            "text",
            vec![text, SNAPPY],
            good.clone(),
            415,
            "expected application/x-protobuf as the first (media) part, got text/plain content-type\n",
        ),
        (
            "unknown",
            vec![unknown, SNAPPY],
            good.clone(),
            415,
            "got application/x-protobuf;proto=some.Message content type; unknown remote write protobuf message \
             some.Message, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request\n",
        ),
    ];
    for (what, headers, body, status, text) in cases {
        let answer = post(&server, "/api/v1/write", &headers, body).await;
        assert_eq!((answer.0, answer.1.starts_with(text)), (status, true), "{what}: {answer:?}");
    }
    let foreign = [PROTOBUF, SNAPPY, ("origin", "http://elsewhere.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(post(&server, "/api/v1/write", &foreign, good).await.0, 403, "a page of another site");
    assert_eq!(server.get("/api/v1/write").await.status, 405);
}

#[tokio::test]
async fn otlp_metrics_are_taken_on_the_port_of_the_api() {
    let server = Server::start(Parts::default()).await;
    let now = now_ms();
    let point = |name: &str, temporality: u8| {
        format!(
            r#"{{"name":"{name}","sum":{{"aggregationTemporality":{temporality},"isMonotonic":true,
            "dataPoints":[{{"asInt":"3","timeUnixNano":"{now}000000"}}]}}}}"#
        )
    };
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"s"}}}}]}},
        "scopeMetrics":[{{"metrics":[{},{}]}}]}}]}}"#,
        point("good.one", 2),
        point("delta", 1)
    );
    let json_type = [("content-type", "application/json")];
    let (status, text) = post(&server, "/api/v1/otlp/v1/metrics", &json_type, body.into_bytes()).await;
    assert_eq!(status, 200);
    let partial: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(partial["partialSuccess"]["rejectedDataPoints"], "1", "{text}");
    let at = now as f64 / 1000.0;
    let answer = server.get(&format!("/api/v1/query?query=good_one_total&time={at:.3}")).await.json();
    assert_eq!(answer["data"]["result"][0]["metric"], json!({"__name__": "good_one_total", "job": "s"}), "{answer}");
    assert_eq!(post(&server, "/api/v1/otlp/v1/metrics", &json_type, b"{".to_vec()).await.0, 400);
    assert_eq!(post(&server, "/api/v1/otlp/v1/metrics", &[("content-type", "text/csv")], Vec::new()).await.0, 415);
}

#[tokio::test]
async fn exemplars_are_answered_as_prometheus_answers_them() {
    let head = meshscope::series::Head::new(Default::default());
    let exemplar = |at: i64, value: f64| meshscope::series::Exemplar {
        labels: meshscope::model::Labels::from_pairs([("trace_id", "4bf9")]),
        value,
        at: Timestamp::from_millis(at),
    };
    let series = |name: &str| meshscope::model::Labels::from_pairs([("__name__", name), ("job", "a")]);
    for (name, at, value) in [("x_bucket", 1_500, 0.25), ("x_bucket", 3_000, 6.0), ("y_total", 2_000, 1.0)] {
        head.exemplars().add(&series(name), exemplar(at, value)).expect("taken");
    }
    let server = Server::start(Parts { head: Some(head), ..Parts::default() }).await;
    let answer = server.get("/api/v1/query_exemplars?query=rate(x_bucket[5m])%2By_total&start=1&end=2").await;
    assert_eq!(
        answer.body,
        r#"{"status":"success","data":[{"seriesLabels":{"__name__":"x_bucket","job":"a"},"exemplars":[{"labels":{"trace_id":"4bf9"},"value":"0.25","timestamp":1.500}]},{"seriesLabels":{"__name__":"y_total","job":"a"},"exemplars":[{"labels":{"trace_id":"4bf9"},"value":"1","timestamp":2}]}]}"#
    );
    let none = server.get("/api/v1/query_exemplars?query=x_bucket{job=\"b\"}").await;
    assert_eq!(none.body, r#"{"status":"success","data":[]}"#);
}
