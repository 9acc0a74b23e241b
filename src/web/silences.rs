//! The pages of silences: what each mutes now, one silence, and the form to make, edit and make one again.
//!
//! In: read handles, forms. Out: HTML, and changes of silences by Alertmanager's rules. This file lists and ends; `form`
//! makes and edits.

pub(super) mod form;

use askama::Template;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::alerts::row;
use super::ask::{Asked, Shared, given, link};
use super::frame::{Frame, render};
use super::{State, error, format};
use crate::model::Timestamp;
use crate::notify::{Silence, SilenceError, SilenceState};
use crate::persist::{AlertBoard, BoardAlert};

/// Silences of one page.
const PAGE_SIZE: usize = 50;
/// Alerts that one silence mutes and that are named: in a list, on its own page.
const NAMED_IN_LIST: usize = 3;
const NAMED_ON_PAGE: usize = 100;
/// Matchers of one silence that are shown.
const MATCHERS_SHOWN: usize = 50;

/// What the URL of the list says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    state: Option<String>,
    q: Option<String>,
    page: Option<String>,
}

#[derive(Template)]
#[template(path = "silences.html")]
struct Page {
    frame: Frame,
    q: String,
    state: String,
    tabs: Vec<(&'static str, usize, String, bool)>,
    rows: Vec<Row>,
    shown: String,
    matched: usize,
    previous: Option<String>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "silence.html")]
struct OnePage {
    frame: Frame,
    silence: Row,
    alerts: Vec<row::Row>,
}

/// One silence.
pub(super) struct Row {
    id: String,
    state: &'static str,
    class: &'static str,
    matchers: Vec<String>,
    more_matchers: usize,
    by: String,
    comment: String,
    starts: String,
    starts_exact: String,
    ends: String,
    ends_exact: String,
    when: String,
    updated: String,
    mutes: usize,
    /// Names and addresses of the first alerts that it mutes.
    named: Vec<(String, String)>,
    can_end: bool,
}

fn silence_row(silence: &Silence, alerts: &[BoardAlert], now: Timestamp) -> Row {
    let state = silence.state(now);
    let muted = if state == SilenceState::Expired { Vec::new() } else { AlertBoard::muted_by(silence, alerts) };
    let named = muted.iter().take(NAMED_IN_LIST);
    let named = named.map(|alert| (format::visible(alert.told.value("alertname"), 100), row::href(alert.id)));
    let matchers = silence.matchers.iter().take(MATCHERS_SHOWN);
    Row {
        id: silence.id.clone(),
        state: state.as_str(),
        class: match state {
            SilenceState::Active => "healthy",
            SilenceState::Pending => "degraded",
            SilenceState::Expired => "idle",
        },
        matchers: matchers.map(|matcher| format::visible(&matcher.to_string(), 400)).collect(),
        more_matchers: silence.matchers.len().saturating_sub(MATCHERS_SHOWN),
        by: format::visible(&silence.created_by, 100),
        comment: format::visible(&silence.comment, 1000),
        starts: format::moment(silence.starts_at),
        starts_exact: silence.starts_at.to_string(),
        ends: format::moment(silence.ends_at),
        ends_exact: silence.ends_at.to_string(),
        when: match state {
            SilenceState::Active => format!("ends {}", format::ahead(silence.ends_at, now)),
            SilenceState::Pending => format!("begins {}", format::ahead(silence.starts_at, now)),
            SilenceState::Expired => format!("ended {}", format::ago(Some(silence.ends_at), now)),
        },
        updated: format::ago(Some(silence.updated_at), now),
        mutes: muted.len(),
        named: named.collect(),
        can_end: state != SilenceState::Expired,
    }
}

fn is_said(silence: &Silence, wanted: &str) -> bool {
    let holds = |text: &str| text.to_lowercase().contains(wanted);
    holds(&silence.created_by)
        || holds(&silence.comment)
        || silence.id == wanted
        || silence.matchers.iter().any(|matcher| holds(&matcher.to_string()))
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(address): Asked<Address>) -> Response {
    let now = state.clock.now();
    let alerts = state.board.alerts(now);
    let q = address.q.clone().unwrap_or_default();
    let wanted = q.trim().to_lowercase();
    let all = state.notify.silences().list(now);
    let found: Vec<&Silence> = all.iter().filter(|silence| wanted.is_empty() || is_said(silence, &wanted)).collect();
    let chosen = given(address.state.as_deref()).unwrap_or("current");
    let takes = |name: &str, silence: &Silence| match name {
        "current" => silence.state(now) != SilenceState::Expired,
        name => silence.state(now).as_str() == name,
    };
    let tab = |(id, name): (&'static str, &'static str)| {
        let count = found.iter().filter(|silence| takes(id, silence)).count();
        (name, count, link("silences", &[("state", id), ("q", &q)]), id == chosen)
    };
    let tabs = [("current", "Current"), ("active", "Active"), ("pending", "Pending"), ("expired", "Expired")].map(tab);
    let listed: Vec<&Silence> = found.into_iter().filter(|silence| takes(chosen, silence)).collect();
    let pages = listed.len().div_ceil(PAGE_SIZE).max(1);
    let number = address.page.as_deref().and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, pages);
    let skip = (number - 1) * PAGE_SIZE;
    let rows: Vec<Row> =
        listed.iter().skip(skip).take(PAGE_SIZE).map(|silence| silence_row(silence, &alerts, now)).collect();
    let at_page = |page: usize| link("silences", &[("state", chosen), ("q", &q), ("page", &page.to_string())]);
    let page = Page {
        frame: Frame::new(&state, "alerts"),
        state: chosen.to_owned(),
        tabs: tabs.into(),
        shown: if rows.is_empty() { String::new() } else { format!("{}–{}", skip + 1, skip + rows.len()) },
        rows,
        matched: listed.len(),
        previous: (number > 1).then(|| at_page(number - 1)),
        next: (number < pages).then(|| at_page(number + 1)),
        q,
    };
    render(&page)
}

/// The page of one silence, with what it mutes.
pub(super) async fn one(Shared(state): Shared<State>, Path(id): Path<String>) -> Response {
    let now = state.clock.now();
    let Some(silence) = state.notify.silences().get(&id) else { return unknown(&state, &id) };
    let alerts = state.board.alerts(now);
    let muted = AlertBoard::muted_by(&silence, &alerts);
    let shown: Vec<&BoardAlert> = muted.into_iter().take(NAMED_ON_PAGE).collect();
    let stories = row::Stories::none(now);
    let unwritten = state.notify.silences().unwritten().iter().any(|one| one.id == id);
    let warning = "This silence acts, but is not yet written: a restart before PostgreSQL is back would lose it.";
    let page = OnePage {
        frame: Frame::new(&state, "alerts").warn(unwritten.then(|| warning.to_owned())),
        silence: silence_row(&silence, &alerts, now),
        alerts: match silence.state(now) {
            SilenceState::Expired => Vec::new(),
            _ => shown.iter().map(|alert| stories.row(alert)).collect(),
        },
    };
    render(&page)
}

/// Ends a silence and goes to its page.
pub(super) async fn expire(Shared(state): Shared<State>, Path(id): Path<String>) -> Response {
    let silences = state.notify.silences();
    match silences.expire(&id, state.clock.now()) {
        Err(_) => unknown(&state, &id),
        Ok(()) => {
            wait_written(&state, &id).await;
            Redirect::to(&format!("/silences/{id}")).into_response()
        }
    }
}

/// Waits until it is written; when that takes too long its page says so.
async fn wait_written(state: &State, id: &str) {
    if let Err(SilenceError::NotWritten(id)) = state.notify.silences().wait_written(id).await {
        tracing::warn!("silence `{id}` acts, but is not yet written");
    }
}

fn unknown(state: &State, id: &str) -> Response {
    let id = format::visible(id, 100);
    error::missing(state, "alerts", format!("There is no silence {id}. Those that ended are kept for five days."))
}
