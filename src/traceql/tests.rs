//! Queries over small traces, and what is not understood.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use super::*;
use crate::model::Span;
use crate::model::span::{AttributeValue, Attributes, Resource, SpanEvent, SpanKind, SpanStatus};

fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.into())
}

fn span(id: u8, parent: u8, service: &str, name: &str, ms: u64) -> Span {
    let attributes: Attributes = vec![("service.name".into(), text(service)), ("cluster".into(), text("east"))].into();
    Span {
        trace_id: [1; 16],
        span_id: [id; 8],
        parent_id: (parent != 0).then_some([parent; 8]),
        kind: SpanKind::Server,
        service: service.into(),
        name: name.into(),
        start_ns: 1_000_000_000_000 + u64::from(id) * 1_000_000,
        duration_ns: ms * 1_000_000,
        status: SpanStatus::Unset,
        status_message: "".into(),
        attributes: Attributes::new(),
        resource: Arc::new(Resource { attributes }),
        scope: "lib".into(),
        events: Vec::new(),
        links: Vec::new(),
    }
}

/// 1 front ── 2 cart ── 4 db (error), 5 db; 1 ── 3 ads (500); 6's parent never came.
fn shop() -> Vec<Span> {
    let mut spans = vec![
        span(1, 0, "front", "GET /", 100),
        span(2, 1, "cart", "list", 50),
        span(3, 1, "ads", "list", 20),
        span(4, 2, "db", "SELECT", 30),
        span(5, 2, "db", "SELECT", 5),
        span(6, 99, "late", "lost", 1),
    ];
    spans[2].attributes.push(("http.status_code".into(), AttributeValue::Int(500)));
    spans[2].attributes.push(("my key".into(), text("x")));
    spans[3].status = SpanStatus::Error;
    spans[3].status_message = "deadlock".into();
    spans[3].kind = SpanKind::Client;
    spans[3].attributes.push(("tables".into(), AttributeValue::Json(r#"["a","b"]"#.into())));
    let attributes = vec![("exception.type".into(), text("Deadlock"))].into();
    let at_ns = spans[3].start_ns + 2_000_000;
    spans[3].events.push(SpanEvent { at_ns, name: "exception".into(), attributes });
    spans
}

/// Ids of the spans of each set.
fn found(query: &str) -> Vec<Vec<u32>> {
    let spans = shop();
    let query = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let sets = query.run(&Trace::new(&spans));
    sets.into_iter().map(|set| set.spans.iter().map(|at| at + 1).collect()).collect()
}

#[test]
fn filters_choose_spans() {
    let check = |filter: &str, expect: &[u32]| {
        assert_eq!(found(filter).concat(), expect, "{filter}");
    };
    check("{}", &[1, 2, 3, 4, 5, 6]);
    check(r#"{ .service.name = "db" }"#, &[4, 5]);
    check(r#"{ resource.service.name =~ "d.|front" }"#, &[1, 4, 5]);
    check(r#"{ resource.service.name =~ "fro" }"#, &[]);
    check(r#"{ resource.service.name !~ "d.|late" }"#, &[1, 2, 3]);
    check(r#"{ span.service.name = "db" }"#, &[]);
    check("{ .http.status_code >= 500 && .http.status_code < 600 }", &[3]);
    check("{ span.http.status_code = 500.0 }", &[3]);
    check(r#"{ span.http.status_code = "500" }"#, &[]);
    check("{ .http.status_code != 200 }", &[3]);
    check("{ .http.status_code != nil }", &[3]);
    check("{ .http.status_code = nil }", &[1, 2, 4, 5, 6]);
    check(r#"{ span."my key" = "x" }"#, &[3]);
    check("{ duration > 30ms }", &[1, 2]);
    check("{ 30ms <= span:duration }", &[1, 2, 4]);
    check("{ duration > 10ms * 2 + 5ms }", &[1, 2, 4]);
    check("{ status = error && kind = client }", &[4]);
    check("{ !(status = error) }", &[1, 2, 3, 5, 6]);
    check(r#"{ statusMessage = "deadlock" }"#, &[4]);
    check(r#"{ name = "list" || name = `lost` }"#, &[2, 3, 6]);
    check("{ traceDuration > 99ms && rootName = \"GET /\" && rootServiceName = \"front\" }", &[1, 2, 3, 4, 5, 6]);
    check(r#"{ trace:id = "01010101010101010101010101010101" && span:id = "0202020202020202" }"#, &[2]);
    check(r#"{ span:parentID = "0202020202020202" }"#, &[4, 5]);
    check("{ parent = nil }", &[1]);
    check("{ nestedSetParent < 0 }", &[1, 6]);
    check("{ nestedSetParent = 2 }", &[4, 5]);
    check("{ childCount = 2 }", &[1, 2]);
    check(r#"{ parent.resource.service.name = "cart" }"#, &[4, 5]);
    check(r#"{ event:name = "exception" && event.exception.type = "Deadlock" && event:timeSinceStart = 2ms }"#, &[4]);
    check(r#"{ .tables = "b" }"#, &[4]);
    check(r#"{ .tables != "b" }"#, &[]);
    check(r#"{ instrumentation:name = "lib" } | select(duration)"#, &[1, 2, 3, 4, 5, 6]);
    check("// everything\n{ true }", &[1, 2, 3, 4, 5, 6]);
    // As in Tempo's grammar both bind alike, from the left.
    check(r#"{ name = "GET /" || name = "list" && duration > 60ms }"#, &[1]);
}

#[test]
fn structural_operators_relate_sets() {
    let (front, cart, db) = (r#"{.service.name="front"}"#, r#"{.service.name="cart"}"#, r#"{.service.name="db"}"#);
    let check = |query: String, expect: &[u32]| assert_eq!(found(&query).concat(), expect, "{query}");
    check(format!("{front} > {cart}"), &[2]);
    check(format!("{front} > {db}"), &[]);
    check(format!("{front} >> {db}"), &[4, 5]);
    check(format!("{db} < {cart}"), &[2]);
    check(format!("{db} << {front}"), &[1]);
    check(format!("{cart} ~ {{}}"), &[3]);
    check(format!("{{status=error}} ~ {db}"), &[5]);
    check(format!("{{}} ~ {db}"), &[4, 5]);
    check(format!("{front} !> {{}}"), &[1, 4, 5, 6]);
    check(format!("{front} !>> {{}}"), &[1, 6]);
    check(format!("{db} !<< {{}}"), &[3, 4, 5, 6]);
    check(format!("{cart} !~ {{}}"), &[1, 2, 4, 5, 6]);
    check(format!("{front} &>> {db}"), &[1, 4, 5]);
    check(format!("{cart} &> {db}"), &[2, 4, 5]);
    check(format!("{db} &< {cart}"), &[2, 4, 5]);
    check(format!("{cart} &~ {{}}"), &[2, 3]);
    check(format!("{front} && {db}"), &[1, 4, 5]);
    check(format!("{front} && {{.service.name=\"no\"}}"), &[]);
    check(format!("{{.service.name=\"no\"}} || {db}"), &[4, 5]);
    check(format!("({front} > {cart}) > {{status=error}}"), &[4]);
    check(format!("({{ }} | count() > 5) && {db}"), &[1, 2, 3, 4, 5, 6]);
}

#[test]
fn pipelines_sum_and_group() {
    assert_eq!(found("{} | count() > 5").len(), 1);
    assert!(found("{} | count() > 6").is_empty());
    assert_eq!(found("{} | avg(duration) > 34ms | max(duration) = 100ms").len(), 1);
    assert_eq!(found("{} | sum(duration) = 206ms").len(), 1);
    assert_eq!(found("{} | min(duration) = 1ms").len(), 1);
    assert_eq!(found("{} | max(.http.status_code) + 1 = 501").len(), 1);
    assert!(found("{} | max(.nothing) > 0").is_empty());
    assert_eq!(found("{} | by(name)"), [vec![1], vec![2, 3], vec![4, 5], vec![6]]);
    assert_eq!(found("{} | by(name) | count() > 1"), [vec![2, 3], vec![4, 5]]);
    assert_eq!(found("{} | by(name) | count() > 1 | coalesce()"), [vec![2, 3, 4, 5]]);
    assert_eq!(found("{} | { duration < 30ms } | { duration > 4ms }"), [vec![3, 5]]);
    let spans = shop();
    let sets = parse("{} | by(name) | avg(duration) > 30ms").unwrap().run(&Trace::new(&spans));
    let last = sets.last().unwrap();
    assert_eq!(last.attributes[0], ("by(name)".to_owned(), Value::String("list".into())));
    assert_eq!(last.attributes[1], ("avg(duration)".to_owned(), Value::Duration(35_000_000)));
}

#[test]
fn what_is_not_understood_is_named_with_its_place() {
    let check = |query: &str, line: usize, column: usize, part: &str| {
        let error = parse(query).expect_err(query);
        assert!(error.message.contains(part), "{query}: {error}");
        assert_eq!((error.line, error.column), (line, column), "{query}: {error}");
    };
    check("", 1, 1, "the end of the query");
    check("{ ", 1, 3, "expected a value");
    check("{ .a = }", 1, 8, "expected a value");
    check("{ foo = 1 }", 1, 3, "an attribute is written .foo");
    check("{ rootname = 1 }", 1, 3, "did you mean rootName");
    check("{ .a = 1 } }", 1, 12, "expected | or the end");
    check("{ duration }", 1, 3, "this is a duration");
    check("{ duration = \"x\" }", 1, 12, "cannot compare a duration with a string");
    check("{ status = 5 }", 1, 10, "cannot compare a status");
    check("{ .a =~ 5 }", 1, 9, "needs a text in quotes");
    check("{ .a =~ \"(\" }", 1, 9, "");
    check("{ .a = \"x }", 1, 8, "does not end");
    check("{ .a = 5parsecs }", 1, 8, "neither a number nor a duration");
    check("{ .a = 99999999999999999999 }", 1, 8, "64 bits");
    check("{ duration > 1s }\n| compare({ status = error })", 2, 3, "compare() is not supported");
    check("{} | rate() | topk(5)", 1, 13, "topk");
    check("{} | rate() && {}", 1, 13, "expected | or the end");
    check("{} | count()", 1, 13, "expected a comparison");
    check("({} | count()) > ({} | count())", 1, 14, "whole pipelines");
    check("{} | quantile_over_time(duration, 2)", 1, 35, "between 0 and 1");
    check("{} | quantile_over_time(duration)", 1, 6, "1 to 20 quantiles");
    check("{} | rate() by ()", 1, 13, "at least one");
    check("{} | by(1)", 1, 9, "attribute");
    check("{} | frob()", 1, 6, "frob");
    check("{ . = 1 }", 1, 3, "without a name");
    check("{ # }", 1, 3, "'#'");
    check(&format!("{}{{}}", "(".repeat(60)), 1, 52, "nested more than 50");
    check(&"{} && ".repeat(600), 1, 3004, "more than 500 operators");
    assert!(parse(&" ".repeat(QUERY_LIMIT_BYTES + 1)).is_err());
}

#[test]
fn what_every_match_needs_is_never_more_than_the_query_asks() {
    let needs = |query: &str| parse(query).unwrap().needs();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let kiali = r#"{ .service.name = "reviews.bookinfo" && .istio.cluster_id = "east" } && {  }| select(status, .service_name)"#;
    assert_eq!(needs(kiali).attributes, [pair("service.name", "reviews.bookinfo"), pair("istio.cluster_id", "east")]);
    let all = needs(r#"{ resource.service.name = "a" && name = "b" && status = error && duration > 1s && .x = 5 }"#);
    let expect = Needs {
        service: Some("a".into()),
        operation: Some("b".into()),
        error: true,
        duration_ns_min: Some(1_000_000_000),
        attributes: vec![pair("x", "5")],
    };
    assert_eq!(all, expect);
    for nothing in [
        "{}",
        r#"{ .a = "1" || .b = "2" }"#,
        r#"{ !(.a = "1") }"#,
        r#"{ .a != "1" }"#,
        r#"{ .a = nil }"#,
        r#"{ event.a = "1" }"#,
        r#"{ parent.a = "1" }"#,
        r#"{ .a = "1" } || { .b = "2" }"#,
        r#"{ .a = "1" } !>> {}"#,
        "{ traceDuration > 1s }",
    ] {
        assert_eq!(needs(nothing), Needs::default(), "{nothing}");
    }
    assert_eq!(needs(r#"{} >> { .a = true }"#).attributes, [pair("a", "true")]);
    assert_eq!(needs(r#"{ 5ms < duration } | rate()"#).duration_ns_min, Some(5_000_000));
}

#[test]
fn metrics_count_the_spans_that_match_by_step() {
    let spans = shop();
    let steps = Steps { start_ms: 1_000_000, end_ms: 1_000_010, step_ms: 5 };
    let of = |query: &str| {
        let mut series = Series::new(&parse(query).unwrap(), steps).expect("a metrics query");
        series.add(&Trace::new(&spans));
        series.finish()
    };
    let points = |query: &str| of(query).into_iter().map(|one| one.points).collect::<Vec<_>>();
    assert_eq!(points("{} | count_over_time()"), [vec![(1_000_000, 4.0), (1_000_005, 2.0)]]);
    assert_eq!(points("{} | rate()"), [vec![(1_000_000, 800.0), (1_000_005, 400.0)]]);
    assert_eq!(of("{} | rate()")[0].labels, [("__name__".to_owned(), Value::String("rate".into()))]);
    assert_eq!(points("{} | max_over_time(duration)"), [vec![(1_000_000, 0.1), (1_000_005, 0.005)]]);
    assert_eq!(points("{} | sum_over_time(span.http.status_code)"), [vec![(1_000_000, 500.0)]]);
    assert_eq!(points("{} | avg_over_time(duration)"), [vec![(1_000_000, 0.05), (1_000_005, 0.003)]]);
    let by = of(r#"{ .service.name =~ "db|ads" } | count_over_time() by (resource.service.name, status)"#);
    let labels: Vec<_> = by.iter().map(|one| one.labels.iter().map(|(_, v)| v.text()).collect::<Vec<_>>()).collect();
    assert_eq!(labels, [["ads", "unset"], ["db", "error"], ["db", "unset"]]);
    assert_eq!(by[0].labels[0].0, "resource.service.name");
    let quantiles = of("{} | quantile_over_time(duration, 0.5, 1)");
    assert_eq!(quantiles[1].labels, [("p".to_owned(), Value::Float(1.0))]);
    // The upper bound of the bucket of 100 ms is 2^27 ns.
    assert_eq!(quantiles[1].points[0], (1_000_000, 0.134217728));
    let buckets = of("{ status = error } | histogram_over_time(duration)");
    assert_eq!(buckets[0].labels, [("__bucket".to_owned(), Value::Float(0.033554432))]);
    assert_eq!(buckets[0].points, [(1_000_000, 1.0), (1_000_005, 0.0)]);
}

#[test]
fn cycles_and_repeated_ids_end_nothing() {
    let mut spans =
        vec![span(1, 2, "a", "x", 1), span(2, 1, "a", "x", 1), span(3, 3, "a", "x", 1), span(3, 0, "a", "x", 1)];
    spans.extend(std::iter::repeat_n(span(9, 3, "a", "x", 1), 5));
    let trace = Trace::new(&spans);
    for query in
        ["{} > {}", "{} >> {}", "{} < {}", "{} << {}", "{} ~ {}", "{} !>> {}", "{} &>> {}", "{ nestedSetLeft > 0 }"]
    {
        assert!(parse(query).unwrap().run(&trace).len() <= 1, "{query}");
    }
}
