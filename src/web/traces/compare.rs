//! Two traces side by side: which operations took longer, failed or only occur in one. In: an address. Out: a page.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use crate::model::Timestamp;
use crate::model::span::{Span, trace_id_from_hex};
use crate::traces::{ComparedRow, Side};
use crate::web::ask::{Asked, Shared, given};
use crate::web::frame::{Frame, render};
use crate::web::{State, error, format};

/// Most operations that are shown.
const ROWS_MAX: usize = 2000;

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::web) struct Address {
    a: Option<String>,
    b: Option<String>,
}

#[derive(Template)]
#[template(path = "trace_compare.html")]
pub(super) struct Page {
    frame: Frame,
    ids: [String; 2],
    sides: Vec<Head>,
    pub(super) rows: Vec<Row>,
    notes: Vec<String>,
}

/// One of the traces as a whole.
struct Head {
    id: String,
    title: String,
    started: String,
    took: String,
    spans: usize,
}

/// One operation.
pub(super) struct Row {
    depth: usize,
    service: String,
    name: String,
    kind: String,
    cells: [Cell; 2],
    pub(super) difference: String,
    /// `failure` when it takes longer in the second trace by a notable part of the whole, `healthy` when it takes less.
    pub(super) class: &'static str,
}

struct Cell {
    spans: u64,
    took: String,
    errors: u64,
    critical: bool,
}

pub(in crate::web) async fn compare(Shared(state): Shared<State>, Asked(asked): Asked<Address>) -> Response {
    let ids = [&asked.a, &asked.b].map(|id| given(id.as_deref()).map_or(String::new(), |id| id.trim().to_owned()));
    let mut read: Vec<Vec<Span>> = Vec::new();
    let mut frame = Frame::new(&state, "traces");
    let mut notes = Vec::new();
    for id in ids.iter().filter(|id| !id.is_empty()) {
        let Some(trace_id) = trace_id_from_hex(id) else {
            let message = format!("{id:?} is not a trace id: up to 32 hexadecimal digits");
            return error::bad_request(&state, "traces", message);
        };
        let (spans, warning) = match state.archive.trace(trace_id).await {
            Ok((spans, warning)) => {
                if spans.is_empty() {
                    let why = "it was never received, or is older than traces are kept";
                    notes.push(format!("No span of trace {id} is kept: {why}."));
                }
                (spans, warning)
            }
            Err(unknown) => (Vec::new(), Some(format!("Whether there is a trace {id} is not known. {unknown}"))),
        };
        frame = frame.warn(warning);
        read.push(spans);
    }
    let page = match &read[..] {
        [first, second] => compared(frame, ids, [first, second], notes),
        _ => Page { frame, ids, sides: Vec::new(), rows: Vec::new(), notes },
    };
    render(&page)
}

pub(super) fn compared(frame: Frame, ids: [String; 2], spans: [&[Span]; 2], mut notes: Vec<String>) -> Page {
    let comparison = crate::traces::compare(spans[0], spans[1]);
    if comparison.rows.len() > ROWS_MAX || comparison.omitted != [0, 0] {
        notes.push("Only the first operations are compared: the traces are too large to be shown whole.".to_owned());
    }
    let whole_ns = comparison.durations_ns.into_iter().max().unwrap_or(0);
    let head = |at: usize| {
        let first = spans[at].iter().min_by_key(|span| (span.parent_id.is_some(), span.start_ns));
        Head {
            id: ids[at].clone(),
            title: first.map_or_else(String::new, |root| format!("{}: {}", root.service, root.name)),
            started: first.map_or_else(String::new, |root| format::moment(Timestamp::from_nanos(root.start_ns))),
            took: format::nanos(comparison.durations_ns[at]),
            spans: spans[at].len(),
        }
    };
    let sides = vec![head(0), head(1)];
    let rows = comparison.rows.iter().take(ROWS_MAX).map(|compared| row(compared, whole_ns)).collect();
    Page { frame, sides, ids, rows, notes }
}

fn row(compared: &ComparedRow<'_>, whole_ns: u64) -> Row {
    let ComparedRow { depth, service, name, kind, first, second } = compared;
    let (difference, class) = difference(*first, *second, whole_ns);
    let cell = |side: &Side| Cell {
        spans: side.spans,
        took: format::nanos(side.total_ns),
        errors: side.errors,
        critical: side.critical > 0,
    };
    Row {
        depth: (*depth).min(30),
        service: (*service).to_owned(),
        name: (*name).to_owned(),
        kind: kind.word().to_owned(),
        cells: [cell(first), cell(second)],
        difference,
        class,
    }
}

/// What is other in the second trace, in words, and whether it is worse.
fn difference(first: Side, second: Side, whole_ns: u64) -> (String, &'static str) {
    match (first.spans, second.spans) {
        (_, 0) => return ("only in the first".to_owned(), "degraded"),
        (0, _) => return ("only in the second".to_owned(), "degraded"),
        _ => {}
    }
    // A twentieth of the longer trace is worth a colour.
    let notable = (whole_ns / 20).max(1);
    let by = first.total_ns.abs_diff(second.total_ns);
    let slower = second.total_ns > first.total_ns;
    let class = match () {
        () if second.errors > first.errors => "failure",
        () if by < notable => "",
        () if slower => "failure",
        () => "healthy",
    };
    let sign = if slower { "+" } else { "\u{2212}" };
    (if by == 0 { "the same".to_owned() } else { format!("{sign}{}", format::nanos(by)) }, class)
}
