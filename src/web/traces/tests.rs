//! The waterfall: where bars and their labels stand, and spans of any kind.
#![allow(clippy::unwrap_used, reason = "tests")]

use askama::Template as _;

use super::*;
use crate::model::span::{SpanEvent, SpanKind};
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
        attributes: vec![(text.into(), AttributeValue::String(text.into()))],
        resource: Default::default(),
        scope: "".into(),
        events: vec![SpanEvent {
            at_ns: (1_000 + start_ms) * 1_000_000 + 5_000,
            name: "exception".into(),
            attributes: vec![("message".into(), AttributeValue::String(text.into()))],
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
        ranges: vec![],
        traces: vec![],
        spans_seen,
        otlp: [SocketAddr::from(([127, 0, 0, 1], 4317)), SocketAddr::from(([127, 0, 0, 1], 4318))],
        full: false,
    };
    let (none, some) = (page(0).render().unwrap(), page(5).render().unwrap());
    assert!(none.contains("127.0.0.1:4317 (OTLP over gRPC)") && none.contains("sampling"));
    assert!(some.contains("Choose a longer range"));
}
