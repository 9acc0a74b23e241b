//! The waterfall: where bars and their labels stand, and spans of any kind.
#![allow(clippy::unwrap_used, reason = "tests")]

use askama::Template as _;

use std::net::SocketAddr;

use super::search::{SearchPage, plot};
use super::*;
use crate::model::span::{SpanEvent, SpanKind};
use crate::store::TraceSummary;
use crate::web::hostile;

fn span(id: u8, parent: Option<u8>, start_ms: u64, took_ms: u64, text: &str) -> Span {
    Span {
        trace_id: [1; 16],
        span_id: [id; 8],
        parent_id: parent.map(|parent| [parent; 8]),
        kind: SpanKind::Server,
        service: text.into(),
        name: text.into(),
        start_ns: (1_000 + start_ms) * 1_000_000,
        duration_ns: took_ms * 1_000_000,
        status: SpanStatus::Unset,
        status_message: text.into(),
        attributes: vec![(text.into(), AttributeValue::String(text.into()))].into(),
        resource: Default::default(),
        scope: "".into(),
        events: vec![SpanEvent {
            at_ns: (1_000 + start_ms) * 1_000_000 + 5_000,
            name: "exception".into(),
            attributes: vec![("message".into(), AttributeValue::String(text.into()))].into(),
        }],
        links: vec![],
    }
}

#[test]
fn bars_stand_where_their_spans_were() {
    let spans = [span(1, None, 0, 100, "frontend"), span(2, Some(1), 25, 50, "cart")];
    let page = trace_page(Frame::around("traces", 0), "01", &spans, &[]);
    let bars: Vec<(f64, f64, usize, &str)> =
        page.rows.iter().map(|row| (row.left, row.width, row.depth, &*row.took)).collect();
    assert_eq!(bars, [(0.0, 100.0, 0, "100 ms"), (25.0, 50.0, 1, "50 ms")]);
    let ticks: Vec<&str> = page.ticks.iter().map(|tick| &*tick.text).collect();
    assert_eq!(ticks, ["0 µs", "25 ms", "50 ms", "75 ms", "100 ms"]);
    let event = page.rows[1].facts.iter().find(|(name, _)| name.starts_with("event")).unwrap();
    assert_eq!(*event, ("event +5 µs".to_owned(), "exception message=cart".to_owned()));
}

#[test]
fn the_duration_stands_where_there_is_room() {
    for (left, width, at, class) in [
        (0.0, 50.0, 50.0, "beside"),
        (60.0, 40.0, 60.0, "beside"),
        (0.0, 100.0, 100.0, "within"),
        (99.9, 0.15, 99.9, "beside"),
    ] {
        let label = bar_label(left, width);
        assert_eq!((label.at, label.class), (at, class), "{left} {width}");
    }
}

#[test]
fn spans_of_any_kind_stay_text() {
    for text in hostile::texts() {
        let spans = [span(1, None, 0, 0, &text), span(2, Some(9), 0, u64::MAX / 2_000_000, &text)];
        let page = trace_page(Frame::around("traces", 0), &text, &spans, &[]).render().unwrap();
        hostile::assert_harmless(&page);
        assert!(page.contains("the trace may be incomplete"));
    }
}

#[test]
fn no_spans_yet_says_where_to_send_them() {
    let page = |spans_seen| SearchPage {
        frame: Frame::around("traces", 0),
        services: vec![],
        operation: String::new(),
        min: String::new(),
        errors: false,
        orders: vec![],
        ranges: vec![],
        plot: None,
        traces: vec![],
        spans_seen,
        otlp: [SocketAddr::from(([127, 0, 0, 1], 4317)), SocketAddr::from(([127, 0, 0, 1], 4318))],
        full: false,
    };
    let (none, some) = (page(0).render().unwrap(), page(5).render().unwrap());
    assert!(none.contains("127.0.0.1:4317 (OTLP over gRPC)") && none.contains("sampling"));
    assert!(some.contains("Choose a longer range"));
}

#[test]
fn what_failed_stands_first_with_its_reason_in_words() {
    let mut caller = span(1, None, 0, 100, "frontend");
    let mut called = span(2, Some(1), 10, 50, "cart");
    (caller.status, called.status) = (SpanStatus::Error, SpanStatus::Error);
    (caller.status_message, called.status_message) = ("".into(), "".into());
    let attribute = |name: &str, value: &str| (name.into(), AttributeValue::String(value.into()));
    called.attributes = vec![attribute("response_flags", "UH"), attribute("http.status_code", "503")].into();
    caller.attributes = Default::default();
    let page = trace_page(Frame::around("traces", 0), "01", &[caller, called], &[]);
    let told: Vec<(&str, &str)> = page.failures.iter().map(|failure| (&*failure.service, &*failure.why)).collect();
    let words = flags::words("UH").unwrap();
    assert_eq!(told, [("cart", &*format!("{words}; HTTP 503")), ("frontend", "it does not say why")]);
    assert!(page.rows.iter().any(|row| row.anchor == page.failures[0].anchor), "it leads to its row");
    let flag = page.rows[1].facts.iter().find(|(name, _)| name == "response_flags").unwrap();
    assert_eq!(flag.1, format!("UH ({words})"));
}

#[test]
fn the_time_of_a_call_is_told_apart() {
    let client = Span { kind: SpanKind::Client, ..span(1, None, 0, 100, "frontend") };
    let page = trace_page(Frame::around("traces", 0), "01", &[client, span(2, Some(1), 10, 60, "cart")], &[]);
    let [hop] = &page.hops[..] else { panic!("one call") };
    let parts = (&*hop.whole, &*hop.own, &*hop.waiting, &*hop.between);
    assert_eq!(parts, ("100 ms", "60 ms", "0 µs", "40 ms"));
    assert_eq!(hop.shares, [60.0, 0.0, 40.0]);
    assert!(page.render().unwrap().contains("Proxies and network"));
}

#[test]
fn dots_stand_at_their_time_and_at_the_logarithm_of_their_duration() {
    let summary = |at_ms: u64, took_ms: u64, errors: u64| TraceSummary {
        trace_id: [1; 16],
        start_ns: at_ms * 1_000_000,
        end_ns: (at_ms + took_ms) * 1_000_000,
        span_count: 1,
        error_count: errors,
        root_service: None,
        root_name: None,
        services: vec![],
    };
    let range = (Timestamp::from_millis(1000), Timestamp::from_millis(2000));
    let plotted = plot(&[summary(1000, 1, 0), summary(1500, 10, 1), summary(2000, 100, 0)], range);
    let dots: Vec<(f64, i64, bool)> = plotted.dots.iter().map(|dot| (dot.x, dot.y.round() as i64, dot.error)).collect();
    assert_eq!(dots, [(0.0, 150, false), (50.0, 81, true), (100.0, 12, false)]);
    assert_eq!((&*plotted.shortest, &*plotted.longest), ("1.0 ms", "100 ms"));
    // One trace alone, and one without any duration.
    assert!(plot(&[summary(1000, 0, 0)], range).dots[0].y.is_finite());
}

#[test]
fn a_comparison_says_what_is_other_in_the_second() {
    let first = [span(1, None, 0, 100, "frontend"), span(2, Some(1), 10, 20, "cart"), span(3, Some(1), 40, 5, "gone")];
    let second = [span(1, None, 0, 160, "frontend"), span(2, Some(1), 10, 80, "cart"), span(4, Some(1), 95, 5, "new")];
    let ids = || ["01".to_owned(), "02".to_owned()];
    let page = compare::compared(Frame::around("traces", 0), ids(), [&first, &second], vec![]);
    let told: Vec<(&str, &str)> = page.rows.iter().map(|row| (&*row.difference, row.class)).collect();
    assert_eq!(
        told,
        [
            ("+60 ms", "failure"),
            ("+60 ms", "failure"),
            ("only in the first", "degraded"),
            ("only in the second", "degraded")
        ]
    );
    assert!(page.render().unwrap().contains("href=\"/traces/02\""));
    for text in hostile::texts() {
        let spans = [span(1, None, 0, 0, &text)];
        let page = compare::compared(Frame::around("traces", 0), [text.clone(), text], [&spans, &spans], vec![]);
        hostile::assert_harmless(&page.render().unwrap());
    }
}
