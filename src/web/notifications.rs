//! The pages of notifications: how each receiver fares, what waits, what failed and why, and one message as it was sent.
//!
//! In: the outbox, what the dispatcher sends now. Out: HTML, and requests to send again or to drop. While PostgreSQL is away
//! the pages show what memory knows: what is being sent, and the last outcomes.

pub(super) mod detail;

use std::collections::BTreeMap;
use std::time::Duration;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, given, link};
use super::frame::{Frame, render};
use super::{State, error, format};
use crate::access::Caller;
use crate::model::Timestamp;
use crate::notify::{Attempt, Plan, UnderWay};
use crate::store::{NotificationFate, NotificationQuery, NotificationSummary, ReceiverSummary};

/// Notifications of one page.
const PAGE_SIZE: usize = 50;
/// Of how long receivers are summed up.
const SUMMED: Duration = Duration::from_secs(7 * 86_400);
/// Outcomes of memory that are shown while PostgreSQL is away.
const ATTEMPTS_SHOWN: usize = 50;
/// Longest error in a list.
const ERROR_CHARS: usize = 300;

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    state: Option<String>,
    receiver: Option<String>,
    q: Option<String>,
    alert: Option<String>,
    before: Option<String>,
}

#[derive(Template)]
#[template(path = "notifications.html")]
struct Page {
    frame: Frame,
    receivers: Vec<Receiver>,
    tabs: Vec<(&'static str, String, bool)>,
    names: Vec<(String, bool)>,
    state: String,
    q: String,
    alert: String,
    entries: Vec<Entry>,
    next: Option<String>,
    first: Option<String>,
    /// While PostgreSQL is away.
    away: Option<String>,
    under_way: Vec<Sending>,
    attempts: Vec<Told>,
    has_routes: bool,
}

/// One integration of one receiver.
#[derive(Default)]
struct Receiver {
    name: String,
    href: String,
    kind: String,
    class: &'static str,
    state: &'static str,
    waiting: u64,
    failed: u64,
    sent: u64,
    last_sent: Option<(String, String)>,
    last_failed: Option<(String, String)>,
    error: String,
    latency: String,
    is_gone: bool,
}

/// One notification of the outbox.
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) state: &'static str,
    pub(super) class: &'static str,
    pub(super) receiver: String,
    pub(super) kind: String,
    pub(super) what: String,
    pub(super) group: String,
    pub(super) created: String,
    pub(super) created_exact: String,
    pub(super) outcome: String,
    pub(super) error: Option<String>,
    pub(super) can_retry: bool,
    pub(super) can_drop: bool,
}

impl Entry {
    /// Offers what that caller may do.
    pub(super) fn seen_by(mut self, caller: &Caller) -> Self {
        self.can_retry &= caller.may_change();
        self.can_drop &= caller.may_change();
        self
    }
}

/// A delivery that memory knows of.
struct Sending {
    receiver: String,
    group: String,
    since: String,
    text: String,
    error: Option<String>,
}

/// An outcome that memory knows of.
struct Told {
    ago: String,
    exact: String,
    receiver: String,
    what: String,
    group: String,
    reason: &'static str,
    error: Option<String>,
}

/// One notification as a row, with how far it is when it is being sent.
pub(super) fn entry(one: NotificationSummary, under_way: &[UnderWay], now: Timestamp) -> Entry {
    let sending = under_way.iter().find(|course| course.id == one.dedup_key);
    let fate = one.fate();
    let (state, class) = match (fate, sending) {
        (_, Some(course)) if course.tries > 0 => ("retrying", "degraded"),
        (_, Some(_)) => ("sending", "degraded"),
        (NotificationFate::Sent, None) => ("sent", "healthy"),
        (NotificationFate::Waiting, None) => ("waiting", "degraded"),
        (NotificationFate::Failed, None) => ("failed", "failure"),
    };
    let outcome = match (sending, one.sent_at, one.given_up_at) {
        (Some(course), _, _) => progress(course, now),
        (None, Some(at), _) => {
            format!("{}, took {}", format::ago(Some(at), now), format::span(at.since(one.created_at)))
        }
        (None, None, Some(at)) => format!("given up {}, {}", format::ago(Some(at), now), tries(one.attempts)),
        (None, None, None) => "no process sends it now; the next start does".to_owned(),
    };
    let error = sending.and_then(|course| course.last_error.clone()).or(one.last_error);
    Entry {
        id: one.id,
        state,
        class,
        receiver: format::visible(&one.receiver, 100),
        kind: format!("{}[{}]", one.kind, one.integration),
        what: counts(one.firing, one.resolved),
        group: format::visible(&one.group_key, 300),
        created: format::ago(Some(one.created_at), now),
        created_exact: one.created_at.to_string(),
        outcome,
        error: error.map(|error| format::visible(&error, ERROR_CHARS)),
        can_retry: sending.is_none(),
        can_drop: sending.is_some() || fate == NotificationFate::Waiting,
    }
}

fn tries(attempts: u32) -> String {
    if attempts == 1 { "tried in one flush".to_owned() } else { format!("tried in {attempts} flushes") }
}

fn progress(course: &UnderWay, now: Timestamp) -> String {
    match (course.tries, course.next_try) {
        (0, _) => "first try under way".to_owned(),
        (tries, Some(at)) => format!("{tries} tries failed, next {}", format::ahead(at, now)),
        (tries, None) => format!("{tries} tries failed, trying now"),
    }
}

fn counts(firing: Option<u32>, resolved: Option<u32>) -> String {
    match (firing, resolved) {
        (None, None) => "–".to_owned(),
        (firing, Some(0) | None) => format!("{} firing", firing.unwrap_or_default()),
        (Some(0) | None, Some(resolved)) => format!("{resolved} resolved"),
        (Some(firing), Some(resolved)) => format!("{firing} firing, {resolved} resolved"),
    }
}

impl Address {
    fn query(&self) -> Result<NotificationQuery, String> {
        let fate = match given(self.state.as_deref()) {
            None | Some("all") => None,
            Some("waiting") => Some(NotificationFate::Waiting),
            Some("failed") => Some(NotificationFate::Failed),
            Some("sent") => Some(NotificationFate::Sent),
            Some(other) => return Err(format!("state: {other:?} is none of waiting, failed, sent and all")),
        };
        let number = |text: &str| text.parse::<i64>().map_err(|_| format!("before: {text:?} is not a number"));
        let alert = |text: &str| {
            u64::from_str_radix(text, 16)
                .map_err(|_| format!("alert: {text:?} is not a fingerprint (16 digits of 0-9a-f)"))
        };
        Ok(NotificationQuery {
            fate,
            receiver: given(self.receiver.as_deref()).map(str::to_owned),
            told: given(self.alert.as_deref()).map(alert).transpose()?,
            text: given(self.q.as_deref()).map(str::to_owned),
            from: None,
            before: given(self.before.as_deref()).map(number).transpose()?,
            // One more, to know whether there are others.
            limit: PAGE_SIZE + 1,
        })
    }

    fn link(&self, state: &str, before: &str) -> String {
        let of = |value: &Option<String>| value.clone().unwrap_or_default();
        let pairs = [
            ("state", state),
            ("receiver", &of(&self.receiver)),
            ("q", &of(&self.q)),
            ("alert", &of(&self.alert)),
            ("before", before),
        ];
        link("notifications", &pairs)
    }
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(address): Asked<Address>) -> Response {
    let now = state.clock.now();
    let query = match address.query() {
        Ok(query) => query,
        Err(reason) => return error::bad_request(&state, "alerts", reason),
    };
    let under_way = state.notify.under_way();
    let plan = state.notify.plan();
    // Nobody waits for a database that is known to be away.
    let (mut found, summed, away) = match state.archive.away() {
        Some(reason) => (Vec::new(), Vec::new(), Some(reason)),
        None => {
            let (found, summed) = tokio::join!(state.outbox.search(&query), state.outbox.receivers(now - SUMMED));
            let away = found.as_ref().err().or(summed.as_ref().err()).map(ToString::to_string);
            (found.unwrap_or_default(), summed.unwrap_or_default(), away)
        }
    };
    let more = found.len() > PAGE_SIZE;
    found.truncate(PAGE_SIZE);
    let chosen = given(address.state.as_deref()).unwrap_or("all");
    let next = found.last().filter(|_| more).map(|last| address.link(chosen, &last.id.to_string()));
    let tab = |(id, name): (&'static str, &'static str)| (name, address.link(id, ""), id == chosen);
    let wanted = address.receiver.clone().unwrap_or_default();
    let mut names: Vec<(String, bool)> =
        plan.receiver_names().into_iter().map(|name| (name.to_owned(), name == wanted)).collect();
    if !wanted.is_empty() && !names.iter().any(|(_, chosen)| *chosen) {
        names.push((wanted, true));
    }
    let attempts = state.notify.attempts();
    let page = Page {
        frame: Frame::new(&state, "alerts"),
        receivers: receivers(&plan, summed, (&under_way, &attempts), now),
        tabs: [("all", "All"), ("waiting", "Waiting"), ("failed", "Failed"), ("sent", "Sent")].map(tab).into(),
        names,
        state: chosen.to_owned(),
        q: address.q.clone().unwrap_or_default(),
        alert: address.alert.clone().unwrap_or_default(),
        entries: found.into_iter().map(|one| entry(one, &under_way, now).seen_by(&state.caller)).collect(),
        next,
        first: query.before.is_some().then(|| address.link(chosen, "")),
        under_way: under_way.iter().filter(|_| away.is_some()).take(PAGE_SIZE).map(|one| sending(one, now)).collect(),
        attempts: match &away {
            Some(_) => attempts.iter().take(ATTEMPTS_SHOWN).map(|attempt| told(attempt, now)).collect(),
            None => Vec::new(),
        },
        away,
        has_routes: !plan.receiver_names().is_empty(),
    };
    render(&page)
}

fn sending(one: &UnderWay, now: Timestamp) -> Sending {
    Sending {
        receiver: format::visible(&one.receiver, 100),
        group: format::visible(&one.group_key, 300),
        since: format::ago(Some(one.since), now),
        text: progress(one, now),
        error: one.last_error.as_deref().map(|error| format::visible(error, ERROR_CHARS)),
    }
}

fn told(attempt: &Attempt, now: Timestamp) -> Told {
    let count = |number: usize| Some(u32::try_from(number).unwrap_or(u32::MAX));
    Told {
        ago: format::ago(Some(attempt.at), now),
        exact: attempt.at.to_string(),
        receiver: format::visible(&attempt.receiver, 100),
        what: counts(count(attempt.firing), count(attempt.resolved)),
        group: format::visible(&attempt.group_key, 300),
        reason: attempt.reason,
        error: attempt.error.as_deref().map(|error| format::visible(error, ERROR_CHARS)),
    }
}

/// Every integration of the plan and every one that is still in the outbox, those with trouble first.
fn receivers(
    plan: &Plan,
    summed: Vec<ReceiverSummary>,
    (under_way, attempts): (&[UnderWay], &[Attempt]),
    now: Timestamp,
) -> Vec<Receiver> {
    let mut known: BTreeMap<(String, String, String), ReceiverSummary> = BTreeMap::new();
    for one in summed {
        known.insert((one.receiver.clone(), one.integration.clone(), one.kind.clone()), one);
    }
    let mut all = Vec::new();
    for (name, kinds) in plan.receiver_kinds() {
        for (number, kind) in kinds.iter().enumerate() {
            let found = known.remove(&(name.to_owned(), number.to_string(), (*kind).to_owned()));
            all.push(receiver((name, number.to_string(), kind), found, (under_way, attempts), now));
        }
        if kinds.is_empty() {
            let (class, state) = ("idle", "tells nobody");
            let name = format::visible(name, 200);
            all.push(Receiver {
                href: link("notifications", &[("receiver", &name)]),
                name,
                class,
                state,
                latency: "–".into(),
                ..Receiver::default()
            });
        }
    }
    for ((name, number, kind), found) in known {
        let gone = receiver((&name, number, &kind), Some(found), (under_way, attempts), now);
        all.push(Receiver { is_gone: true, ..gone });
    }
    all.sort_by_key(|one| match one.class {
        "failure" => 0,
        "degraded" => 1,
        _ => 2,
    });
    all
}

fn receiver(
    (name, number, kind): (&str, String, &str),
    found: Option<ReceiverSummary>,
    (under_way, attempts): (&[UnderWay], &[Attempt]),
    now: Timestamp,
) -> Receiver {
    let retrying = under_way.iter().find(|one| one.receiver == name && one.kind == kind && one.last_error.is_some());
    let last = attempts.iter().find(|attempt| attempt.receiver == name);
    let when = |at: Option<Timestamp>| at.map(|at| (format::ago(Some(at), now), at.to_string()));
    let of_memory = |well: bool| last.filter(|attempt| attempt.error.is_none() == well).map(|attempt| attempt.at);
    let last_sent = found.as_ref().and_then(|one| one.last_sent_at).max(of_memory(true).filter(|_| found.is_none()));
    let last_failed =
        found.as_ref().and_then(|one| one.last_failed_at).max(of_memory(false).filter(|_| found.is_none()));
    let error = retrying.and_then(|one| one.last_error.clone());
    let error = error.or_else(|| found.as_ref().and_then(|one| one.last_error.clone()));
    let error = error.or_else(|| last.and_then(|attempt| attempt.error.clone()));
    let (class, state) = match (retrying, last_sent, last_failed) {
        (Some(_), _, _) => ("failure", "failing"),
        (None, sent, Some(failed)) if sent.is_none_or(|sent| sent < failed) => ("failure", "failing"),
        (None, Some(_), _) => ("healthy", "working"),
        (None, None, _) => ("idle", "not used yet"),
    };
    let latency = |of: fn(&ReceiverSummary) -> Option<Duration>| {
        format::latency(found.as_ref().and_then(of).map(|took| took.as_secs_f64() * 1000.0))
    };
    Receiver {
        name: format::visible(name, 200),
        href: link("notifications", &[("receiver", name)]),
        kind: format!("{kind}[{number}]"),
        class,
        state,
        waiting: found.as_ref().map_or(0, |one| one.waiting),
        failed: found.as_ref().map_or(0, |one| one.failed),
        sent: found.as_ref().map_or(0, |one| one.sent),
        last_sent: when(last_sent),
        last_failed: when(last_failed),
        error: error.map(|error| format::visible(&error, ERROR_CHARS)).unwrap_or_default(),
        latency: format!("{} / {}", latency(|one| one.latency_p50), latency(|one| one.latency_p95)),
        is_gone: false,
    }
}
