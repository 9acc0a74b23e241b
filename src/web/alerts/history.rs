//! The history of alerts: every change of state within a range, drawn along one axis and listed page by page.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::super::ask::Shared;
use super::Choice;
use super::lanes::{Lane, lanes};
use super::row::{Pairs, class_of, href, told_apart};
use crate::model::{AlertState, AlertTransition, Timestamp};
use crate::persist::read_search;
use crate::store::{AlertEventKey, AlertHistoryQuery};
use crate::web::ask::{Asked, given, link};
use crate::web::frame::{Frame, render};
use crate::web::{State, error, format, range};

/// What the page shows unless told.
pub(in crate::web) const RANGE_DEFAULT: &str = "24h";
/// Changes of one page.
pub(super) const EVENTS_SHOWN: usize = 100;
/// Changes that the drawing is made of.
const EVENTS_DRAWN: usize = 2000;
const RANGES: [&str; 7] = ["1h", "6h", "24h", "7d", "30d", "90d", "400d"];

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::web) struct Address {
    range: Option<String>,
    at: Option<String>,
    q: Option<String>,
    state: Option<String>,
    alert: Option<String>,
    before: Option<String>,
}

#[derive(Template)]
#[template(path = "alert_history.html")]
struct Page {
    frame: Frame,
    q: String,
    wrong: Option<String>,
    alert: String,
    alert_name: String,
    at: String,
    states: Vec<Choice>,
    ranges: Vec<(String, String, bool)>,
    from: String,
    to: String,
    lanes: Vec<Lane>,
    undrawn: bool,
    changes: Vec<Change>,
    next: Option<String>,
    first: Option<String>,
    json: String,
}

/// One change of state.
pub(super) struct Change {
    pub(super) ago: String,
    pub(super) shown: String,
    pub(super) exact: String,
    pub(super) name: String,
    pub(super) href: String,
    pub(super) telling: Pairs,
    pub(super) others: Pairs,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) class: &'static str,
    pub(super) value: String,
}

pub(super) fn change(event: &AlertTransition, now: Timestamp) -> Change {
    let (telling, others) = told_apart(&event.labels);
    Change {
        ago: format::ago(Some(event.at), now),
        shown: format::moment(event.at),
        exact: event.at.to_string(),
        name: format::visible(event.labels.value("alertname"), 200),
        href: href(event.labels.fingerprint()),
        telling,
        others,
        from: said(event.from),
        to: if event.to == AlertState::Inactive { "resolved" } else { said(event.to) },
        class: class_of(event.to),
        value: format::count(event.value),
    }
}

fn said(state: AlertState) -> &'static str {
    match state {
        AlertState::Inactive => "inactive",
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
    }
}

fn state_named(name: &str) -> Option<AlertState> {
    [AlertState::Inactive, AlertState::Pending, AlertState::Firing].into_iter().find(|state| state.as_str() == name)
}

impl Address {
    fn link(&self, range: &str, before: &str) -> String {
        let of = |value: &Option<String>| value.clone().unwrap_or_default();
        let pairs = [
            ("range", range),
            ("at", &of(&self.at)),
            ("q", &of(&self.q)),
            ("state", &of(&self.state)),
            ("alert", &of(&self.alert)),
            ("before", before),
        ];
        link("alerts/history", &pairs)
    }

    /// What is asked for; an error is a page that says what is wrong with the address.
    fn query(&self, range: &range::Range) -> Result<(AlertHistoryQuery, Option<String>), String> {
        let wrong_id = |text: &str| format!("alert: {text:?} is not a fingerprint (16 digits of 0-9a-f)");
        let alert = given(self.alert.as_deref());
        let fingerprint = alert.map(|text| u64::from_str_radix(text, 16).map_err(|_| wrong_id(text))).transpose()?;
        let wrong_key = |text: &str| format!("before: {text:?} is not where a page ended");
        let before = given(self.before.as_deref())
            .map(|text| AlertEventKey::read(text).ok_or_else(|| wrong_key(text)))
            .transpose()?;
        let wrong_state = |name: &str| format!("state: {name:?} is none of pending, firing and inactive");
        let state = given(self.state.as_deref());
        let to_state = state.map(|name| state_named(name).ok_or_else(|| wrong_state(name))).transpose()?;
        let (matchers, text, wrong) = match read_search(self.q.as_deref().unwrap_or_default()) {
            Ok((matchers, text)) => (matchers, text, None),
            Err(error) => (Vec::new(), String::new(), Some(error.to_string())),
        };
        let (from, to) = (range.from, range.to);
        let query = AlertHistoryQuery { from, to, fingerprint, to_state, matchers, text, before, limit: EVENTS_SHOWN };
        Ok((query, wrong))
    }
}

pub(in crate::web) async fn page(Shared(state): Shared<State>, Asked(address): Asked<Address>) -> Response {
    let now = state.clock.now();
    let asked = range::Query { range: address.range.clone(), at: address.at.clone() };
    let range = match asked.read(RANGE_DEFAULT, now) {
        Ok(range) => range,
        Err(reason) => return error::bad_request(&state, "alerts", reason),
    };
    let (query, wrong) = match address.query(&range) {
        Ok(read) => read,
        Err(reason) => return error::bad_request(&state, "alerts", reason),
    };
    let board = || state.board.alerts(now);
    let (listed, warning) = state.archive.alert_changes(&query, board).await;
    let drawn = AlertHistoryQuery { to_state: None, before: None, limit: EVENTS_DRAWN, ..query.clone() };
    let (drawn, _) = state.archive.alert_changes(&drawn, board).await;
    // What lies before the oldest change that was read is not known.
    let from = match (&drawn.next, drawn.events.last()) {
        (Some(_), Some(oldest)) => oldest.at,
        _ => range.from,
    };
    let known = drawn.events.first().or(listed.events.first()).map(|event| event.labels.value("alertname"));
    let page = Page {
        frame: Frame::new(&state, "alerts").warn(warning).warn(range.before_retention(
            "changes of alerts",
            state.retention.alerts,
            "alerts",
        )),
        q: address.q.clone().unwrap_or_default(),
        alert: address.alert.clone().unwrap_or_default(),
        alert_name: format::visible(known.unwrap_or_default(), 200),
        at: address.at.clone().unwrap_or_default(),
        states: states(address.state.as_deref().unwrap_or_default()),
        ranges: RANGES.map(|text| (text.to_owned(), address.link(text, ""), text == range.text)).into(),
        from: format::moment(from),
        to: format::moment(range.to),
        lanes: lanes(&drawn.events, (from, range.to)),
        undrawn: drawn.next.is_some(),
        changes: listed.events.iter().map(|event| change(event, now)).collect(),
        next: listed.next.as_ref().map(|key| address.link(&range.text, &key.to_string())),
        first: query.before.is_some().then(|| address.link(&range.text, "")),
        json: link(
            "api/mesh/v1/alerts/history",
            &[
                ("start", &range.from.as_secs_f64().to_string()),
                ("end", &range.to.as_secs_f64().to_string()),
                ("search", address.q.as_deref().unwrap_or_default()),
                ("fingerprint", address.alert.as_deref().unwrap_or_default()),
                ("state", address.state.as_deref().unwrap_or_default()),
            ],
        ),
        wrong,
    };
    match page.wrong {
        None => render(&page),
        Some(_) => (StatusCode::BAD_REQUEST, render(&page)).into_response(),
    }
}

fn states(chosen: &str) -> Vec<Choice> {
    let choice = |(value, text): (&str, &str)| Choice {
        value: value.to_owned(),
        text: text.to_owned(),
        chosen: value == chosen,
    };
    [("", "any"), ("pending", "pending"), ("firing", "firing"), ("inactive", "resolved")].map(choice).into()
}
