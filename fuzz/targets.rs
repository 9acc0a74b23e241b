//! What is fuzzed: one function for each way in which bytes of others reach a parser or the evaluator.
//!
//! In: any bytes. Out: nothing, or a panic where one of the promises does not hold. `make fuzz` runs each target on what
//! libFuzzer makes up; `make test` runs each on `fuzz/corpus/<name>` (tests/it/fuzz.rs). Another target is one more line
//! of [`TARGETS`] and a folder with at least one example.

use std::hint::black_box;

use meshscope::clock::Clock;
use meshscope::model::span::{AttributeValue, Resource, SpanKind, SpanStatus};
use meshscope::model::{Span, Timestamp};
use meshscope::promql::{self, testlang};
use meshscope::push::{self, Intake, remote};
use meshscope::rollup::Rollup;
use meshscope::scrape::exposition::{Entry, Format, MetricKind, Parser, ProtobufFamily, next_family, parse_labels};
use meshscope::series::Head;
use meshscope::{otlp, rules, traceql};

/// Takes any bytes; panics where a promise is broken.
pub type Target = fn(&[u8]);

/// Names of the targets, which are the folders of their corpora, and what runs them.
pub const TARGETS: &[(&str, Target)] = &[
    ("promql", promql_text),
    ("promql_eval", promql_eval),
    ("promql_script", promql_script),
    ("exposition_text", |page| exposition_page(page, Format::Text)),
    ("exposition_openmetrics", |page| exposition_page(page, Format::OpenMetrics)),
    ("exposition_protobuf", exposition_protobuf),
    ("otlp_spans", otlp_spans),
    ("remote_write", remote_write),
    ("rule_file", rule_file),
    ("traceql", traceql_query),
];

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// A query: what is printed parses to the same; every view of it ends.
fn promql_text(data: &[u8]) {
    let Some(Ok(expr)) = text(data).map(promql::parse) else { return };
    let printed = expr.to_string();
    if printed.len() > promql::QUERY_LIMIT_BYTES {
        return;
    }
    let again = promql::parse(&printed).unwrap_or_else(|error| panic!("printed as {printed:?}: {error}"));
    assert_eq!(again.to_string(), printed);
    black_box((expr.pretty(), expr.tree().is_ok(), expr.selectors().len(), expr.as_selector()));
}

/// A query evaluated over a few series: no panic, bounded time and memory.
fn promql_eval(data: &[u8]) {
    let Some(query) = text(data).filter(|query| !query.contains('\n')) else { return };
    let series = "load 30s\n  m_total{a=\"1\",b=\"x\"} 0+7x20 3+1x20\n  m_total{a=\"2\",b=\"y\"} 5 _ stale 8 NaN -Inf 1x20\n  \
                  h_bucket{le=\"0.5\"} 1+1x40\n  h_bucket{le=\"+Inf\"} 2+3x40\n  g{a=\"1\"} 1 -1 1e300 -0 0.5x20\n\n";
    let script =
        format!("{series}eval instant at 9m {query}\n\neval range from 1m to 7m step 47s {query}\n  expect no_warn\n");
    let config = promql::Config { max_samples: 20_000, ..testlang::script_config() };
    black_box(testlang::run_script_with("fuzz", &script, &config));
}

/// A test script.
fn promql_script(data: &[u8]) {
    let config = promql::Config { max_samples: 20_000, ..testlang::script_config() };
    if let Some(script) = text(data) {
        black_box(testlang::run_script_with("fuzz", script, &config));
    }
}

/// A page of a target: every entry and its labels, to the first mistake.
fn exposition_page(page: &[u8], format: Format) {
    let mut kind = MetricKind::Unknown;
    for entry in Parser::new(format, page) {
        match entry {
            Ok(Entry::Kind { kind: told, .. }) => kind = told,
            Ok(Entry::Sample(sample)) => {
                black_box(parse_labels(sample.key, kind).is_ok());
                black_box(sample.exemplar.map(|one| parse_labels(one.labels, MetricKind::Unknown).is_ok()));
            }
            Ok(_) => {}
            Err(error) => assert!(error.line > 0 && error.to_string().len() < 4096),
        }
    }
}

/// A protobuf page: its series are spelled so that they can be read, or say what is wrong with them.
fn exposition_protobuf(mut page: &[u8]) {
    while let Ok(Some((message, length))) = next_family(page) {
        page = &page[length..];
        let Ok(family) = ProtobufFamily::read(message) else { continue };
        let mut text = Vec::new();
        let _ = family.samples(
            |exposed| {
                let key = exposed.series.spelled(&family)?;
                if let Err(reason) = parse_labels(&key, family.kind) {
                    let expected = ["UTF-8", "not unique", "already set", "expected"];
                    assert!(expected.iter().any(|part| reason.contains(part)), "{reason}");
                }
                let exemplar = exposed.exemplar(&mut text)?;
                exemplar.map_or(Ok(()), |exemplar| parse_labels(exemplar.labels, family.kind).map(drop))
            },
            |reason| reason,
        );
    }
}

/// A rule file or PrometheusRule objects: every mistake has a place, templates are read too.
fn rule_file(data: &[u8]) {
    if let Some(text) = text(data) {
        black_box(rules::check::check_text("fuzz.yaml", text, rules::CheckOptions::default()));
    }
}

/// A query of TraceQL over a small trace with a cycle in it: an error has a place, a set its spans in order.
fn traceql_query(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let query = match traceql::parse(text) {
        Ok(query) => query,
        Err(error) => return assert!(error.line > 0 && error.column > 0 && !error.message.is_empty()),
    };
    let span = |id: u8, parent: u8| Span {
        trace_id: [7; 16],
        span_id: [id; 8],
        parent_id: (parent > 0).then_some([parent; 8]),
        kind: SpanKind::Server,
        service: "a".into(),
        name: "b".into(),
        start_ns: 1_000_000_000 * u64::from(id),
        duration_ns: 5_000_000,
        status: SpanStatus::Error,
        status_message: "".into(),
        attributes: vec![("x".into(), AttributeValue::Int(3)), ("y".into(), AttributeValue::Json("[1,\"z\"]".into()))]
            .into(),
        resource: std::sync::Arc::new(Resource::default()),
        scope: "".into(),
        events: Vec::new(),
        links: Vec::new(),
    };
    let spans = [span(1, 0), span(2, 1), span(3, 1), span(4, 5), span(5, 4), span(5, 9)];
    let trace = traceql::Trace::new(&spans);
    for set in query.run(&trace) {
        assert!(!set.spans.is_empty() && set.spans.is_sorted());
    }
    black_box(query.needs());
    let steps = traceql::Steps { start_ms: 0, end_ms: 10_000, step_ms: 1_000 };
    if let Some(mut series) = traceql::Series::new(&query, steps) {
        series.add(&trace);
        assert!(series.finish().iter().all(|one| one.points.len() <= steps.count()));
    }
}

/// Spans, in both encodings of OTLP.
fn otlp_spans(body: &[u8]) {
    let (limits, now) = (otlp::Limits::default(), Timestamp::from_millis(1_700_000_000_000));
    black_box((otlp::decode_protobuf(body, &limits, now).is_ok(), otlp::decode_json(body, &limits, now).is_ok()));
}

/// A decompressed request of remote write, read as either version: what is told as stored is not more than was sent.
fn remote_write(body: &[u8]) {
    let clock = Clock::starting_at(Timestamp::from_millis(1_700_000_000_000));
    for version in [remote::Version::V1, remote::Version::V2] {
        let intake =
            Intake::new(push::Config::default(), Head::new(Default::default()), Rollup::default(), clock, None);
        if let Ok(written) = remote::write(&intake, version, body) {
            assert!(written.samples + written.exemplars <= body.len());
            assert_eq!(written.histograms, 0);
            black_box(written.message());
        }
    }
}
