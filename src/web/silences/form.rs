//! The form of a silence: prefilled from an alert or an older silence, with a preview of what it would mute, and what is
//! wrong beside the field, in Alertmanager's words.

use std::time::Duration;

use askama::Template;
use axum::extract::{Form, Path};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::super::alerts::row;
use super::super::ask::{Asked, Shared};
use super::super::frame::{Frame, render};
use super::super::range::read_time;
use super::super::{State, format};
use super::{unknown, wait_written};
use crate::model::{Labels, Matcher, Timestamp};
use crate::notify::{Silence, SilenceError, parse_matchers, parse_one_matcher};
use crate::persist::{AlertBoard, BoardAlert};
use crate::units::PromDuration;

/// Alerts that the preview names.
const PREVIEWED: usize = 50;
/// Most matchers of one silence made here.
const MATCHERS_MAX: usize = 200;
/// Most characters of author and comment.
const TEXT_CHARS_MAX: usize = 10_000;
/// A silence that lasted less is made again with the usual duration.
const SHORTEST_KEPT: Duration = Duration::from_secs(600);
/// How the author is remembered, so that nobody types a name twice at night.
const AUTHOR: &str = "meshscope_author";

/// What the form holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Fields {
    /// Of the silence to edit; empty for a new one.
    id: String,
    /// One matcher on each line.
    matchers: String,
    duration: String,
    starts: String,
    ends: String,
    author: String,
    comment: String,
    /// Fingerprint of an alert whose labels fill in the matchers.
    alert: String,
    /// Id of a silence that is made again.
    from: String,
}

/// What is wrong with each field.
#[derive(Debug, Default, PartialEq)]
struct Wrong {
    matchers: Option<String>,
    duration: Option<String>,
    starts: Option<String>,
    ends: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    whole: Option<String>,
}

#[derive(Template)]
#[template(path = "silence_form.html")]
struct Page {
    frame: Frame,
    fields: Fields,
    wrong: Wrong,
    is_wrong: bool,
    preview: Option<Preview>,
    durations: [&'static str; 8],
    now: String,
}

struct Preview {
    count: usize,
    firing: usize,
    total: usize,
    alerts: Vec<row::Row>,
    left_out: usize,
    until: Option<String>,
}

/// The form of a new silence.
pub(in crate::web) async fn new(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    Asked(mut fields): Asked<Fields>,
) -> Response {
    let now = state.clock.now();
    let mut wrong = Wrong::default();
    let alerts = state.board.alerts(now);
    let asked = std::mem::take(&mut fields.alert);
    if !asked.is_empty() && fields.matchers.is_empty() {
        match labels_of(&state, &asked, &alerts).await {
            Some(labels) => fields.matchers = one_on_each_line(labels.iter().map(|(n, v)| Matcher::equal(n, v))),
            None => wrong.whole = Some(format!("no alert of fingerprint {} is known", format::visible(&asked, 40))),
        }
    }
    let older = std::mem::take(&mut fields.from);
    if !older.is_empty() {
        match state.notify.silences().get(&older) {
            Some(silence) => {
                fields.matchers = one_on_each_line(silence.matchers.iter().cloned());
                fields.comment.clone_from(&silence.comment);
                // One that was ended by hand soon after it was made says nothing of how long the next one is wanted.
                let length = silence.ends_at.since(silence.starts_at);
                if length >= SHORTEST_KEPT {
                    fields.duration = PromDuration::from(length).to_string();
                }
            }
            None => return unknown(&state, &older),
        }
    }
    if fields.duration.is_empty() && fields.ends.is_empty() {
        fields.duration = "2h".to_owned();
    }
    if fields.author.is_empty() {
        fields.author = remembered(&headers).unwrap_or_default();
    }
    // Only what was typed is judged before it is sent.
    if !fields.matchers.trim().is_empty() {
        wrong.matchers = matchers(&fields.matchers).err();
    }
    show(&state, fields, wrong, &alerts)
}

/// The form with a silence to edit.
pub(in crate::web) async fn edit(Shared(state): Shared<State>, Path(id): Path<String>) -> Response {
    let Some(silence) = state.notify.silences().get(&id) else { return unknown(&state, &id) };
    let now = state.clock.now();
    let fields = Fields {
        matchers: one_on_each_line(silence.matchers.iter().cloned()),
        starts: silence.starts_at.to_string(),
        ends: silence.ends_at.to_string(),
        author: silence.created_by.clone(),
        comment: silence.comment.clone(),
        id,
        ..Fields::default()
    };
    show(&state, fields, Wrong::default(), &state.board.alerts(now))
}

/// Makes or edits a silence, and goes to its page; or shows the form again with what is wrong.
pub(in crate::web) async fn save(
    Shared(state): Shared<State>,
    form: Result<Form<Fields>, axum::extract::rejection::FormRejection>,
) -> Response {
    let fields = match form {
        Ok(Form(fields)) => fields,
        Err(reason) => return super::error::bad_request(&state, "alerts", reason.body_text()),
    };
    let now = state.clock.now();
    let made = read(&fields, now, state.notify.silences().get(&fields.id).as_ref());
    let made =
        made.and_then(|silence| state.notify.silences().set(silence, now).map_err(|error| Box::new(said(&error))));
    match made {
        Err(wrong) => {
            let page = show(&state, fields, *wrong, &state.board.alerts(now));
            (StatusCode::UNPROCESSABLE_ENTITY, page).into_response()
        }
        Ok(id) => {
            wait_written(&state, &id).await;
            let mut response = Redirect::to(&format!("/silences/{id}")).into_response();
            if let Some(cookie) = cookie(&fields.author) {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
    }
}

fn show(state: &State, fields: Fields, wrong: Wrong, alerts: &[BoardAlert]) -> Response {
    let now = state.clock.now();
    let page = Page {
        frame: Frame::new(state, "alerts"),
        preview: preview(&fields, alerts, now),
        is_wrong: wrong != Wrong::default(),
        fields,
        wrong,
        durations: ["30m", "1h", "2h", "4h", "8h", "1d", "3d", "1w"],
        now: format::moment(now),
    };
    render(&page)
}

/// What a silence of these fields would mute; `None` while its matchers cannot be read.
fn preview(fields: &Fields, alerts: &[BoardAlert], now: Timestamp) -> Option<Preview> {
    let matchers = matchers(&fields.matchers).ok()?;
    let (starts_at, ends_at) = times(fields, now, None).unwrap_or((now, now));
    let silence = Silence {
        id: String::new(),
        matchers,
        starts_at,
        ends_at,
        created_by: String::new(),
        comment: String::new(),
        updated_at: now,
    };
    let muted = AlertBoard::muted_by(&silence, alerts);
    let stories = row::Stories::none(now);
    Some(Preview {
        count: muted.len(),
        firing: muted.iter().filter(|alert| alert.alert.fired_at.is_some()).count(),
        total: alerts.len(),
        left_out: muted.len().saturating_sub(PREVIEWED),
        alerts: muted.into_iter().take(PREVIEWED).map(|alert| stories.row(alert)).collect(),
        until: (ends_at > now).then(|| format::moment(ends_at)),
    })
}

/// The labels of an alert that stands, or of one in the history.
async fn labels_of(state: &State, fingerprint: &str, alerts: &[BoardAlert]) -> Option<Labels> {
    let id = u64::from_str_radix(fingerprint, 16).ok()?;
    if let Some(found) = alerts.iter().find(|alert| alert.id == id || alert.told_id == id) {
        return Some(found.told.clone());
    }
    let now = state.clock.now();
    let query = crate::store::AlertHistoryQuery {
        from: now - Duration::from_secs(400 * 86_400),
        to: now,
        fingerprint: Some(id),
        to_state: None,
        matchers: Vec::new(),
        text: String::new(),
        before: None,
        limit: 1,
    };
    let (page, _) = state.archive.alert_changes(&query, Vec::new).await;
    page.events.first().map(|event| state.notify.plan().labels_told(&event.labels))
}

fn one_on_each_line(matchers: impl Iterator<Item = Matcher>) -> String {
    matchers.map(|matcher| matcher.to_string()).collect::<Vec<_>>().join("\n")
}

/// The matchers of the field, one on each line or several in braces; an error names its line.
fn matchers(text: &str) -> Result<Vec<Matcher>, String> {
    let mut found = Vec::new();
    let lines: Vec<(usize, &str)> =
        text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()).collect();
    for (number, line) in &lines {
        let read = match line.starts_with('{') {
            true => parse_matchers(line),
            false => parse_one_matcher(line).map(|one| vec![one]),
        };
        let place = if lines.len() > 1 { format!("line {}: ", number + 1) } else { String::new() };
        found.extend(read.map_err(|error| format!("{place}{error}"))?);
        if found.len() > MATCHERS_MAX {
            return Err(format!("at most {MATCHERS_MAX} matchers can be given"));
        }
    }
    match found.is_empty() {
        true => Err("at least one matcher required".to_owned()),
        false => Ok(found),
    }
}

/// From when until when, or what is wrong with the fields that say so.
fn times(fields: &Fields, now: Timestamp, edited: Option<&Silence>) -> Result<(Timestamp, Timestamp), Box<Wrong>> {
    let mut wrong = Wrong::default();
    let not_a_time = |text: &str| {
        format!(
            "{:?} is not a time: write 2026-01-31 12:00 (UTC) or 2026-01-31T12:00:00+01:00",
            format::visible(text, 60)
        )
    };
    // A start in the past of an active silence stays what it is to the millisecond, or it would be made anew.
    let starts = match (fields.starts.trim(), edited) {
        ("" | "now", _) => now,
        (text, Some(silence)) if text == silence.starts_at.to_string() => silence.starts_at,
        (text, _) => read_time(text).unwrap_or_else(|| {
            wrong.starts = Some(not_a_time(text));
            now
        }),
    };
    let ends = match (fields.ends.trim(), fields.duration.trim()) {
        ("", "") => {
            wrong.duration = Some("Should not be empty".to_owned());
            now
        }
        ("", duration) => match duration.parse::<PromDuration>() {
            Ok(length) if !length.is_zero() => starts.max(now) + length.get(),
            Ok(_) => {
                wrong.duration = Some("the duration must be longer than 0s".to_owned());
                now
            }
            Err(error) => {
                wrong.duration = Some(error.to_string());
                now
            }
        },
        (text, _) => read_time(text).unwrap_or_else(|| {
            wrong.ends = Some(not_a_time(text));
            now
        }),
    };
    if wrong == Wrong::default() { Ok((starts, ends)) } else { Err(Box::new(wrong)) }
}

/// The silence that the form says, or what is wrong with its fields, all of it.
fn read(fields: &Fields, now: Timestamp, edited: Option<&Silence>) -> Result<Silence, Box<Wrong>> {
    let read_times = times(fields, now, edited);
    let (starts_at, ends_at) = read_times.as_ref().map_or((now, now), |times| *times);
    let mut wrong = read_times.err().map(|wrong| *wrong).unwrap_or_default();
    let read_matchers = matchers(&fields.matchers);
    wrong.matchers = read_matchers.as_ref().err().cloned();
    for (text, wrong) in [(&fields.author, &mut wrong.author), (&fields.comment, &mut wrong.comment)] {
        *wrong = match text.trim().is_empty() {
            true => Some("Should not be empty".to_owned()),
            false if text.chars().count() > TEXT_CHARS_MAX => Some(format!("at most {TEXT_CHARS_MAX} characters")),
            false => None,
        };
    }
    let silence = Silence {
        id: fields.id.clone(),
        matchers: read_matchers.unwrap_or_default(),
        starts_at,
        ends_at,
        created_by: fields.author.trim().to_owned(),
        comment: fields.comment.trim().to_owned(),
        updated_at: now,
    };
    if wrong != Wrong::default() {
        return Err(Box::new(wrong));
    }
    silence.check(now).map_err(|error| Box::new(said(&error)))?;
    Ok(silence)
}

/// Puts what Alertmanager says beside the field that it is about.
fn said(error: &SilenceError) -> Wrong {
    let text = Some(error.to_string());
    match error {
        SilenceError::MatchesEmpty | SilenceError::NamelessMatcher(_) => Wrong { matchers: text, ..Wrong::default() },
        SilenceError::EndsBeforeStart | SilenceError::EndsInThePast => Wrong { ends: text, ..Wrong::default() },
        SilenceError::NotFound | SilenceError::NotWritten(_) | SilenceError::TooMany => {
            Wrong { whole: text, ..Wrong::default() }
        }
    }
}

/// A cookie that only the pages of silences get, percent-encoded.
fn cookie(author: &str) -> Option<header::HeaderValue> {
    let author: String = author.trim().chars().take(100).collect();
    let url = reqwest::Url::parse_with_params("http://x/", [(AUTHOR, author)]).ok()?;
    let text = format!("{}; Path=/silences; Max-Age=31536000; HttpOnly; SameSite=Strict", url.query()?);
    header::HeaderValue::from_str(&text).ok()
}

fn remembered(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    let pair = cookies.split(';').map(str::trim).find(|pair| pair.starts_with(&format!("{AUTHOR}=")))?;
    let url = reqwest::Url::parse(&format!("http://x/?{pair}")).ok()?;
    url.query_pairs().next().map(|(_, value)| value.chars().take(100).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn says_beside_each_field_what_is_wrong_in_alertmanagers_words() {
        let now = Timestamp::from_millis(1_763_835_000_000);
        let good = Fields {
            matchers: "alertname=\"A\"\n\nseverity=~\"page|critical\"".into(),
            duration: "2h".into(),
            author: "me".into(),
            comment: "c".into(),
            ..Fields::default()
        };
        let silence = read(&good, now, None).unwrap();
        assert_eq!((silence.matchers.len(), silence.ends_at.since(silence.starts_at).as_secs()), (2, 7200));
        let wrong = |change: fn(&mut Fields)| {
            let mut fields = good.clone();
            change(&mut fields);
            read(&fields, now, None).expect_err("wrong")
        };
        let all = wrong(|f| *f = Fields { matchers: "a=b\nnonsense".into(), ..Fields::default() });
        assert_eq!(all.matchers.as_deref(), Some("line 2: bad matcher format: nonsense"));
        assert_eq!(all.author.as_deref(), Some("Should not be empty"));
        assert_eq!((all.comment.is_some(), all.duration.is_some()), (true, true), "all at once");
        let of = |change: fn(&mut Fields)| wrong(change);
        assert_eq!(of(|f| f.matchers.clear()).matchers.as_deref(), Some("at least one matcher required"));
        assert_eq!(
            of(|f| f.matchers = "a=~\"(\"".into()).matchers.as_deref(),
            Some("error parsing regexp: missing closing ): `^(?:()$`")
        );
        assert_eq!(
            of(|f| f.matchers = "a=~\".*\"".into()).matchers.as_deref(),
            Some("invalid silence: matcher set 0: at least one matcher must not match the empty string")
        );
        assert_eq!(
            of(|f| f.ends = "2025-01-01 10:00".into()).ends.as_deref(),
            Some("Failed to create silence: start time must be before end time")
        );
        let past = of(|f| (f.starts, f.ends) = ("2025-01-01 10:00".into(), "2025-01-01 11:00".into()));
        assert_eq!(past.ends.as_deref(), Some("Failed to create silence: end time can't be in the past"));
        assert!(of(|f| f.starts = "soon".into()).starts.unwrap().contains("is not a time"));
        assert!(of(|f| f.duration = "soon".into()).duration.is_some());
        assert!(of(|f| f.duration = "0s".into()).duration.is_some());
    }

    #[test]
    fn the_author_is_remembered_whatever_the_name() {
        for name in ["me", "Zoë; Path=/ <b>", "a=b&c%\u{1f980}"] {
            let cookie = cookie(name).unwrap();
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, format!("other=1; {pair}").parse().unwrap());
            assert_eq!(remembered(&headers).as_deref(), Some(name));
        }
    }
}
