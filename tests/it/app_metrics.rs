//! OTLP metrics over gRPC, from a client's request to what a query sees.

use meshscope::clock::Clock;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::app::TestApp;
use crate::postgres;

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// A counter of one point, `age_ms` old.
fn counter(name: &str, temporality: i32, (value, age_ms): (f64, i64)) -> Metric {
    let at_ms = Clock::system().now().as_millis() - age_ms;
    let point = NumberDataPoint {
        attributes: vec![pair("http.route", "/cart")],
        time_unix_nano: u64::try_from(at_ms).expect("after 1970") * 1_000_000,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    let sum = Sum { data_points: vec![point], aggregation_temporality: temporality, is_monotonic: true };
    Metric { name: name.to_owned(), unit: "1".to_owned(), data: Some(Data::Sum(sum)), ..Metric::default() }
}

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let attributes = vec![pair("service.name", "web"), pair("service.instance.id", "web-1"), pair("zone", "a")];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_over_grpc_are_seen_by_the_next_query_and_what_is_refused_is_told() {
    let database = postgres::database().await;
    let app = TestApp::start(&database, "push: {promote_resource_attributes: [zone]}\n").await;
    let mut client = MetricsServiceClient::connect(format!("http://{}", app.grpc)).await.expect("connect");
    let taken = client.export(request(vec![counter("cart.requests", CUMULATIVE, (7.0, 1000))])).await;
    assert_eq!(taken.expect("taken").into_inner().partial_success, None);
    let seen = r#"sum(cart_requests_total{job="web",instance="web-1",http_route="/cart",zone="a"})"#;
    app.query_becomes(seen, 7.0).await;

    // Points that are not taken are counted and named; the others of the request are stored.
    let mixed = vec![counter("cart.delta", DELTA, (1.0, 0)), counter("cart.requests", CUMULATIVE, (9.0, 0))];
    let told = client.export(request(mixed)).await.expect("taken").into_inner();
    let told = told.partial_success.expect("a part was not taken");
    assert_eq!(told.rejected_data_points, 1, "{}", told.error_message);
    assert!(told.error_message.contains("temporality"), "{}", told.error_message);
    app.query_becomes(seen, 9.0).await;

    // A point older than the newest of its series.
    let late = client.export(request(vec![counter("cart.requests", CUMULATIVE, (8.0, 500))])).await;
    let late = late.expect("an answer").into_inner().partial_success.expect("not taken");
    assert_eq!(late.rejected_data_points, 1, "{}", late.error_message);
    assert!(late.error_message.contains("out of order"), "{}", late.error_message);
    app.stop().await;
}
