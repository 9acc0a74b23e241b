//! The pages of alerts: what fires and waits with its story, one alert, and the history.
//!
//! In: read handles. Out: HTML, bounded however many alerts there are. This file has the list; `row` tells the story of one
//! alert, `detail` and `history` are the other pages, `lanes` draws when alerts waited and fired.

pub(super) mod detail;
pub(super) mod history;
mod lanes;
pub(super) mod row;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::State;
use super::ask::{Asked, Shared, given, link};
use super::format;
use super::frame::{Frame, render};
use crate::model::AlertState;
use crate::persist::{AlertFilter, AlertGrouping, AlertSection, BoardAlert, choices, in_sections, read_search};
pub(super) use row::{Row, Stories};

/// Alerts of one page.
const PAGE_SIZE: usize = 50;
/// Broken rules and refused files that are named one by one.
const PROBLEMS_SHOWN: usize = 20;

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    state: Option<String>,
    quiet: Option<String>,
    severity: Option<String>,
    namespace: Option<String>,
    service: Option<String>,
    receiver: Option<String>,
    q: Option<String>,
    group: Option<String>,
    page: Option<String>,
}

#[derive(Template)]
#[template(path = "alerts.html")]
struct Page {
    frame: Frame,
    form: Form,
    wrong: Option<String>,
    tiles: Vec<(&'static str, usize, String)>,
    sections: Vec<Section>,
    shown: String,
    total: usize,
    silence_all: Option<String>,
    previous: Option<String>,
    next: Option<String>,
    rules: usize,
    broken: Vec<(String, String)>,
    problems: Vec<String>,
    more_problems: usize,
    receivers: usize,
}

/// The form of choices, as it was asked for.
#[derive(Default)]
struct Form {
    q: String,
    states: Vec<Choice>,
    severities: Vec<Choice>,
    namespaces: Vec<Choice>,
    services: Vec<Choice>,
    groups: Vec<Choice>,
    receiver: String,
    is_narrowed: bool,
}

/// One option of a choice.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) text: String,
    pub(super) chosen: bool,
}

struct Section {
    key: String,
    count: usize,
    rows: Vec<Row>,
}

impl Address {
    /// What is asked for, and what is wrong with the field of text.
    fn filter(&self) -> (AlertFilter, Option<String>) {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (matchers, words, wrong) = match read_search(self.q.as_deref().unwrap_or_default()) {
            Ok((matchers, words)) => (matchers, words, None),
            Err(error) => (Vec::new(), String::new(), Some(error.to_string())),
        };
        let (state, quiet) = match given(self.state.as_deref()) {
            Some("firing") => (Some(AlertState::Firing), None),
            Some("loud") => (Some(AlertState::Firing), Some(false)),
            Some("pending") => (Some(AlertState::Pending), None),
            Some("quiet") => (None, Some(true)),
            _ => (None, None),
        };
        let quiet = match given(self.quiet.as_deref()) {
            Some("yes") => Some(true),
            Some("no") => Some(false),
            _ => quiet,
        };
        let filter = AlertFilter {
            state,
            quiet,
            severity: text(&self.severity),
            namespace: text(&self.namespace),
            service: text(&self.service),
            receiver: text(&self.receiver),
            matchers,
            text: words,
        };
        (filter, wrong)
    }

    fn grouping(&self) -> AlertGrouping {
        let asked = given(self.group.as_deref());
        let found = AlertGrouping::ALL.iter().find(|(name, _)| Some(*name) == asked);
        found.map_or_else(AlertGrouping::default, |(_, grouping)| *grouping)
    }

    /// The same list on another page.
    fn at_page(&self, page: usize) -> String {
        let number = page.to_string();
        let of = |value: &'_ Option<String>| value.clone().unwrap_or_default();
        link(
            "alerts",
            &[
                ("q", &of(&self.q)),
                ("state", &of(&self.state)),
                ("severity", &of(&self.severity)),
                ("namespace", &of(&self.namespace)),
                ("service", &of(&self.service)),
                ("receiver", &of(&self.receiver)),
                ("group", &of(&self.group)),
                ("page", if page > 1 { &number } else { "" }),
            ],
        )
    }

    fn form(&self, all: &[BoardAlert]) -> Form {
        let offered = choices(all);
        let counted = |values: Vec<(String, usize)>, chosen: &Option<String>| {
            let chosen = chosen.clone().unwrap_or_default();
            let mut options: Vec<Choice> = (values.into_iter())
                .map(|(value, count)| Choice {
                    text: format!("{} ({count})", format::visible(&value, 80)),
                    chosen: value == chosen,
                    value,
                })
                .collect();
            if !chosen.is_empty() && !options.iter().any(|one| one.chosen) {
                options.push(Choice { text: format::visible(&chosen, 80), value: chosen, chosen: true });
            }
            options
        };
        let named = |values: &[(&str, &str)], chosen: &str| -> Vec<Choice> {
            let choice = |(value, text): &(&str, &str)| Choice {
                value: (*value).to_owned(),
                text: (*text).to_owned(),
                chosen: *value == chosen,
            };
            values.iter().map(choice).collect()
        };
        let states = [
            ("firing", "firing"),
            ("loud", "firing, people are told"),
            ("pending", "pending"),
            ("quiet", "kept quiet"),
        ];
        let groups = [
            ("name", "alert name"),
            ("service", "service"),
            ("namespace", "namespace"),
            ("receiver", "receiver"),
            ("none", "nothing"),
        ];
        let narrowing =
            [&self.q, &self.state, &self.severity, &self.namespace, &self.service, &self.receiver, &self.quiet];
        Form {
            q: self.q.clone().unwrap_or_default(),
            states: named(&states, self.state.as_deref().unwrap_or_default()),
            severities: counted(offered.severities, &self.severity),
            namespaces: counted(offered.namespaces, &self.namespace),
            services: counted(offered.services, &self.service),
            groups: named(&groups, given(self.group.as_deref()).unwrap_or("name")),
            receiver: self.receiver.clone().unwrap_or_default(),
            is_narrowed: narrowing.iter().any(|value| given(value.as_deref()).is_some()),
        }
    }

    /// The form of a silence for all that is asked for, when matchers alone say that.
    fn silence_all(&self, filter: &AlertFilter) -> Option<String> {
        let only_matchers = filter.text.is_empty() && filter.namespace.is_empty() && filter.service.is_empty();
        let matchers: Vec<String> = filter.matchers.iter().map(ToString::to_string).collect();
        (only_matchers && filter.severity.is_empty() && !matchers.is_empty())
            .then(|| link("silences/new", &[("matchers", &matchers.join("\n"))]))
    }
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(address): Asked<Address>) -> Response {
    let now = state.clock.now();
    let all = state.board.alerts(now);
    let (filter, wrong) = address.filter();
    let form = address.form(&all);
    let tiles = tiles(&all);
    let total = all.len();
    let taken: Vec<BoardAlert> = all.iter().filter(|alert| filter.takes(alert)).cloned().collect();
    let matched = taken.len();
    let pages = matched.div_ceil(PAGE_SIZE).max(1);
    let number = address.page.as_deref().and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, pages);
    let skip = (number - 1) * PAGE_SIZE;
    let sections = part_of(in_sections(taken, address.grouping()), skip);
    let shown: Vec<&BoardAlert> = sections.iter().flat_map(|(section, _)| &section.alerts).collect();
    let stories = Stories::read(&state, &shown, &all, now).await;
    let end = skip + shown.len();
    let sections = sections.iter().map(|(section, count)| Section {
        key: format::visible(&section.key, 200),
        count: *count,
        rows: section.alerts.iter().map(|alert| stories.row(alert)).collect(),
    });
    let sections: Vec<Section> = sections.collect();
    let groups = state.rules.groups();
    let broken = groups.iter().flat_map(|group| &group.rules);
    let broken: Vec<(String, String)> =
        broken.filter_map(|rule| Some((rule.name.clone(), rule.last_error.clone()?))).collect();
    let mut problems: Vec<String> = state.rules.problems().iter().map(ToString::to_string).collect();
    let more_problems = broken.len().saturating_sub(PROBLEMS_SHOWN) + problems.len().saturating_sub(PROBLEMS_SHOWN);
    problems.truncate(PROBLEMS_SHOWN);
    let page = Page {
        frame: Frame::new(&state, "alerts"),
        silence_all: address.silence_all(&filter),
        form,
        tiles,
        sections,
        shown: if matched == 0 { String::new() } else { format!("{}–{end} of {matched}", skip + 1) },
        total,
        previous: (number > 1).then(|| address.at_page(number - 1)),
        next: (number < pages).then(|| address.at_page(number + 1)),
        rules: groups.iter().map(|group| group.rules.len()).sum(),
        broken: broken.into_iter().take(PROBLEMS_SHOWN).collect(),
        problems,
        more_problems,
        receivers: state.notify.plan().receiver_names().len(),
        wrong,
    };
    match page.wrong {
        None => render(&page),
        Some(_) => (StatusCode::BAD_REQUEST, render(&page)).into_response(),
    }
}

/// How many fire, wait and are quiet, each with where they are listed.
fn tiles(all: &[BoardAlert]) -> Vec<(&'static str, usize, String)> {
    let count = |takes: fn(&BoardAlert) -> bool| all.iter().filter(|alert| takes(alert)).count();
    let fires = |alert: &BoardAlert| alert.alert.state == AlertState::Firing;
    vec![
        (
            "Firing, people are told",
            all.iter().filter(|a| fires(a) && !a.is_quiet()).count(),
            "/alerts?state=loud".into(),
        ),
        ("Firing", all.iter().filter(|a| fires(a)).count(), "/alerts?state=firing".into()),
        ("Pending", count(|a| a.alert.state == AlertState::Pending), "/alerts?state=pending".into()),
        ("Kept quiet", count(BoardAlert::is_quiet), "/alerts?state=quiet".into()),
    ]
}

/// Of each section what falls on the page that begins after `skip` alerts, with how many the section has.
fn part_of(sections: Vec<AlertSection>, mut skip: usize) -> Vec<(AlertSection, usize)> {
    let mut room = PAGE_SIZE;
    let mut parts = Vec::new();
    for AlertSection { key, alerts } in sections {
        let count = alerts.len();
        let passed = skip.min(count);
        skip -= passed;
        let part: Vec<BoardAlert> = alerts.into_iter().skip(passed).take(room).collect();
        room -= part.len();
        if !part.is_empty() {
            parts.push((AlertSection { key, alerts: part }, count));
        }
    }
    parts
}

/// Every alert that fires or waits, without its story; for pages that show the first of them.
pub(super) fn rows(state: &State) -> Vec<Row> {
    let now = state.clock.now();
    let stories = Stories::none(now);
    state.board.alerts(now).iter().map(|alert| stories.row(alert)).collect()
}

#[cfg(test)]
mod tests;
