//! The page for PromQL: up to four queries, each with its answer as a table, and as a plot when scripts run.
//!
//! In: queries and a range in the URL, so that what is seen can be shared. Out: HTML.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, link};
use super::frame::{Frame, render};
use super::{State, error, range};
use crate::promql::{self, Answer, QueryOptions, Value, format_value};

/// What the page shows unless told.
pub(super) const RANGE_DEFAULT: &str = "30m";
const RANGES: [&str; 8] = ["15m", "30m", "1h", "3h", "6h", "24h", "7d", "30d"];
/// Parameters of the editors, and how they are called.
const EDITORS: [(&str, &str); 4] = [("query", "A"), ("query2", "B"), ("query3", "C"), ("query4", "D")];
/// Most series in the table.
const ROWS_MAX: usize = 500;

/// Queries to begin with.
const EXAMPLES: [(&str, &str); 4] = [
    (
        "Requests by service",
        "sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\"}[1m]))",
    ),
    (
        "Error share by service",
        "sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\",response_code=~\"5..|0\"}[1m])) / sum by (destination_service_name) (rate(istio_requests_total{reporter=~\"source|waypoint\"}[1m]))",
    ),
    (
        "p99 by workload",
        "histogram_quantile(0.99, sum by (le, destination_workload) (rate(istio_request_duration_milliseconds_bucket{reporter=~\"source|waypoint\"}[1m])))",
    ),
    ("Targets that are down", "up == 0"),
];

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    query: Option<String>,
    query2: Option<String>,
    query3: Option<String>,
    query4: Option<String>,
    range: Option<String>,
    at: Option<String>,
}

#[derive(Template)]
#[template(path = "explore.html")]
struct Page {
    frame: Frame,
    /// What stands in the editors: one at least, and an empty one where there is room.
    queries: Vec<Editor>,
    at: String,
    ranges: Vec<(&'static str, bool)>,
    range_seconds: u64,
    until: String,
    answers: Vec<Answered>,
    examples: Vec<(&'static str, &'static str)>,
    /// All functions of the language, for completion.
    functions: Vec<&'static str>,
    /// The address that shows just this, whenever it is opened.
    share: String,
}

/// One editor: its parameter, its letter, its text, what is wrong in it.
struct Editor {
    parameter: &'static str,
    letter: &'static str,
    text: String,
    wrong: Option<String>,
}

/// What one query gave.
struct Answered {
    letter: &'static str,
    query: String,
    notes: Vec<String>,
    rows: Vec<(String, String)>,
    omitted: usize,
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(asked): Asked<Address>) -> Response {
    let Address { query, query2, query3, query4, range: length, at } = asked;
    let texts = [query, query2, query3, query4].map(Option::unwrap_or_default);
    let asked = range::Query { range: length, at };
    let range = match asked.read(RANGE_DEFAULT, state.clock.now()) {
        Ok(range) => range,
        Err(message) => return error::bad_request(&state, "explore", message),
    };
    let mut answers = Vec::new();
    let mut queries = Vec::new();
    for ((parameter, letter), text) in EDITORS.into_iter().zip(texts.iter()) {
        let mut wrong = None;
        if !text.trim().is_empty() {
            match answer(&state, text, &range).await {
                Ok(answer) => answers.push(Answered { letter, ..answer }),
                Err(reason) => wrong = Some(reason),
            }
        }
        queries.push(Editor { parameter, letter, text: text.clone(), wrong });
    }
    // The editors up to the last that is used, and one to go on with.
    let used = queries.iter().rposition(|one| !one.text.trim().is_empty()).map_or(0, |last| last + 1);
    queries.truncate((used + 1).min(EDITORS.len()));
    let old = range.before_retention("samples", state.retention.five_minutes, "five_minutes");
    let page = Page {
        frame: Frame::new(&state, "explore").warn(old),
        share: share(&texts, &range),
        at: if range.live { String::new() } else { range.to.to_string() },
        ranges: RANGES.map(|text| (text, text == range.text)).into(),
        range_seconds: range.to.since(range.from).as_secs(),
        until: if range.live { String::new() } else { range.to.as_secs_f64().to_string() },
        answers,
        queries,
        examples: EXAMPLES.into(),
        functions: promql::function_names().map(|(name, _)| name).collect(),
    };
    render(&page)
}

/// The address of these queries at this time, whatever time it is when it is opened.
fn share(texts: &[String; 4], range: &range::Range) -> String {
    let at = range.to.to_string();
    let queries = EDITORS.iter().zip(texts).map(|((parameter, _), text)| (*parameter, text.as_str()));
    link("explore", &queries.chain([("range", range.text.as_str()), ("at", &at)]).collect::<Vec<_>>())
}

async fn answer(state: &State, query: &str, range: &range::Range) -> Result<Answered, String> {
    let expr = promql::parse(query).map_err(|error| error.to_string())?;
    let answer = state.engine.instant(&*state.series, &expr, range.to, &QueryOptions::default()).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let mut rows = rows(&answer);
    // As the plot names them, unless the query itself puts them in an order.
    if !expr.has_order() {
        rows.sort();
    }
    let omitted = rows.len().saturating_sub(ROWS_MAX);
    rows.truncate(ROWS_MAX);
    let notes = answer.warnings.iter().chain(&answer.infos).cloned().collect();
    Ok(Answered { letter: "", query: query.to_owned(), notes, rows, omitted })
}

fn rows(answer: &Answer) -> Vec<(String, String)> {
    match &answer.value {
        Value::Scalar { value, .. } => vec![("scalar".to_owned(), format_value(*value))],
        Value::String { value, .. } => vec![("string".to_owned(), value.to_string())],
        Value::Vector(samples) => samples.iter().map(|s| (s.labels.to_string(), format_value(s.value))).collect(),
        Value::Matrix(series) => (series.iter())
            .map(|one| {
                let last = one.values.last().copied().map(format_value).unwrap_or_default();
                (one.labels.to_string(), format!("{last} ({} samples)", one.values.len()))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::web::hostile;

    #[test]
    fn what_is_shared_holds_all_queries_and_the_time() {
        let to = Timestamp::from_millis(1_763_835_000_000);
        let range = range::Range { from: to, to, text: "1h".to_owned(), live: true, now: to };
        let texts = ["up", "", "a + b", ""].map(str::to_owned);
        assert_eq!(share(&texts, &range), "/explore?query=up&query3=a+%2B+b&range=1h&at=2025-11-22T18%3A10%3A00.000Z");
    }

    #[test]
    fn a_query_and_its_answer_stay_text() {
        for text in hostile::texts() {
            let editor = |wrong: Option<String>| Editor { parameter: "query", letter: "A", text: text.clone(), wrong };
            let page = Page {
                frame: Frame::around("explore", 0),
                queries: vec![editor(Some(text.clone())), editor(None)],
                at: text.clone(),
                ranges: vec![("1h", true)],
                range_seconds: 3600,
                until: String::new(),
                answers: vec![Answered {
                    letter: "A",
                    query: text.clone(),
                    notes: vec![text.clone()],
                    rows: vec![(text.clone(), text.clone())],
                    omitted: 3,
                }],
                examples: EXAMPLES.into(),
                functions: vec!["rate"],
                share: link("explore", &[("query", &text)]),
            };
            hostile::assert_harmless(&page.render().expect("a page"));
        }
    }
}
