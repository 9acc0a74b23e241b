#![allow(clippy::unwrap_used, reason = "tests")]
use super::super::config::Slos;
use super::*;
use crate::{promql, yaml};

fn indicator(fields: &str) -> Indicator {
    let (slos, problems) = yaml::decode::<Slos>(&format!("[{{name: a, objective: 99, {fields}}}]"));
    assert!(problems.is_empty(), "{fields}: {problems:?}");
    slos.unwrap().iter().next().unwrap().indicator.clone()
}

fn counted(fields: &str) -> (String, String) {
    match indicator(fields).ratio {
        Ratio::Counted { total, errors, .. } => (total, errors),
        Ratio::Share { share } => (String::new(), share),
    }
}

#[test]
fn the_callers_report_counts_and_excluded_requests_leave_both_sides() {
    let (total, errors) = counted("service: shop/cart");
    let by = "sum by (destination_service_namespace, destination_service_name)";
    let series = "istio_requests_total{reporter=~\"source|waypoint\",destination_service_namespace=\"shop\",\
                  destination_service_name=\"cart\",response_flags!~\"(.*,)?(DI|FI|DC)(,.*)?\"";
    assert_eq!(total, format!("{by} (rate({series}}}[5m]))"));
    let expect = format!(
        "{by} (rate({series},response_code=~\"5..|0\"}}[5m]) or \
         rate({series},grpc_response_status=~\"2|4|12|13|14|15\"}}[5m]))"
    );
    assert_eq!(errors, expect);
    let of = |availability: &str| counted(&format!("service: a/b, indicator: {{availability: {{{availability}}}}}"));
    assert!(!of("exclude: []").0.contains("response_flags"));
    assert!(of("exclude: [injected_faults]").0.contains("(DI|FI)(,"));
    assert!(of("error_codes: [5XX, '429'], error_grpc_statuses: []").1.contains("response_code=~\"5..|429\"}[5m]))"));
}

#[test]
fn each_mesh_and_view_has_its_metrics() {
    for (fields, parts) in [
        ("service: a/b, view: server", &["reporter=\"destination\""][..]),
        ("service: 'a/*'", &["destination_service_name!=\"\"", "destination_service_name!~\"unknown|Passthrough"]),
        ("mesh: ambient, service: a/b", &["{reporter=\"waypoint\","]),
        ("edge: 'x/w* -> a/b'", &["by (source_workload_namespace, source_workload, dest", "source_workload=~\"w.*\""]),
        ("route: 'a/b/GET /x'", &["request_operation=\"GET /x\"", "destination_service_name, request_operation)"]),
        ("route: a/b/c, route_label: op", &["op=\"c\""]),
        (
            "mesh: linkerd, service: a/b",
            &["response_total{direction=\"outbound\",dst_namespace=\"a\",dst_service=\"b\"}"],
        ),
        ("mesh: linkerd, service: a/b, view: server", &["direction=\"inbound\",namespace=\"a\",deployment=\"b\""]),
        ("mesh: linkerd, edge: 'x/w -> a/b'", &["by (namespace, deployment, dst_namespace, dst_service)"]),
        (
            "mesh: linkerd, route: a/b/c",
            &["outbound_http_route_request_statuses_total{parent_namespace=\"a\"", "route_name=\"c\""],
        ),
        (
            "mesh: ambient, service: a/b, indicator: {connections: {}}",
            &["istio_tcp_connections_opened_total{reporter=\"source\""],
        ),
        (
            "service: a/b, indicator: {latency: {threshold: 1s}}",
            &["istio_request_duration_milliseconds_bucket{", "le=\"+Inf\""],
        ),
    ] {
        let (total, errors) = counted(fields);
        for part in parts {
            assert!(total.contains(part), "{fields}: {part} is not in\n{total}");
        }
        for expr in [&total, &errors] {
            promql::parse(expr).unwrap_or_else(|error| panic!("{fields}: {expr}: {error}"));
        }
    }
    assert!(counted("mesh: linkerd, service: a/b").1.contains("classification=\"failure\""));
    assert!(counted("mesh: linkerd, route: a/b/c").1.contains("error!=\"\""));
}

#[test]
fn a_threshold_matches_its_bucket_with_and_without_a_decimal_point() {
    let errors = |fields: &str| counted(fields).1;
    let latency =
        |threshold: &str| errors(&format!("service: a/b, indicator: {{latency: {{threshold: {threshold}}}}}"));
    assert!(latency("250ms").contains(r#"le=~"250(\\.0)?""#), "{}", latency("250ms"));
    assert!(latency("1s").contains(r#"le=~"1000(\\.0)?""#));
    assert!(errors("service: a/b, indicator: {latency: {threshold: 300ms, bounds: [300ms]}}").contains("le=~\"300("));
    let route = errors("mesh: linkerd, route: a/b/c, indicator: {latency: {threshold: 50ms}}");
    assert!(
        route.contains("outbound_http_route_request_duration_seconds_bucket") && route.contains("le=\"0.05\""),
        "{route}"
    );
}

#[test]
fn queries_of_the_users_own_are_grouped_and_keep_out_what_is_no_number() {
    let events =
        "indicator: {events: {total: 'rate(a[{{ .window }}])', good: 'rate(g[{{.window}}])', group_by: [job]}}";
    let (total, errors) = counted(events);
    assert_eq!(total, "(sum by (job) (rate(a[5m])) >= 0)");
    let good = "(sum by (job) (rate(g[5m])) >= 0)";
    assert_eq!(errors, format!("clamp_min({total} - on (job) ({good} or on (job) ({total}) * 0), 0)"));
    assert_eq!(counted("indicator: {error_ratio: {query: bad}}").1, "(avg (bad) >= 0)");
    promql::parse(&errors).unwrap();
}
