//! What every page has around its content.

use std::time::Duration;

use axum::response::{Html, IntoResponse, Response};

use super::moment::Picker;
use super::{State, assets, error, format};
use crate::access::Proof;
use crate::model::AlertState;
use crate::upstream::Upstream;

/// Header, navigation and notes of one page.
pub(super) struct Frame {
    pub(super) page: &'static str,
    pub(super) styles: Vec<String>,
    pub(super) theme_script: Option<String>,
    pub(super) script: Option<String>,
    pub(super) navigation: Vec<Item>,
    pub(super) database_away: Option<String>,
    pub(super) warnings: Vec<String>,
    /// Who asks, when that is known: name, and what they may do.
    pub(super) caller: Option<(String, &'static str)>,
    /// Whether they may change anything.
    pub(super) may_change: bool,
    /// Chooses the time, on pages that have one.
    pub(super) picker: Option<Picker>,
}

/// One entry of the navigation.
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) href: &'static str,
    pub(super) current: bool,
    pub(super) count: usize,
    pub(super) count_title: &'static str,
}

const PAGES: [(&str, &str, &str); 12] = [
    ("overview", "Overview", "/"),
    ("graph", "Graph", "/graph"),
    ("alerts", "Alerts", "/alerts"),
    ("rules", "Rules", "/rules"),
    ("slos", "SLOs", "/slos"),
    ("changes", "Changes", "/changes"),
    ("audit", "Audit", "/audit"),
    ("traces", "Traces", "/traces"),
    ("logs", "Logs", "/logs"),
    ("explore", "Explore", "/explore"),
    ("targets", "Targets", "/targets"),
    ("status", "Status", "/status"),
];

/// The page that answers an address, as [`Frame::new`] takes it; `none` for others.
pub(super) fn page_at(path: &str) -> &'static str {
    // What belongs to alerts stands under their entry.
    if ["/alerts/", "/silences", "/notifications", "/routes"].iter().any(|start| path.starts_with(start)) {
        return "alerts";
    }
    if path.starts_with("/resource/") {
        return "changes";
    }
    if ["/service/", "/workload/", "/edge/"].iter().any(|start| path.starts_with(start)) {
        return "graph";
    }
    PAGES.iter().find(|(_, _, href)| *href == path).map_or("none", |(id, _, _)| id)
}

impl Frame {
    pub(super) fn new(state: &State, page: &'static str) -> Self {
        let caller = &state.caller;
        let is_known = caller.proof != Proof::Nothing || !caller.may_change();
        let name = if caller.name.is_empty() { "not signed in".to_owned() } else { format::visible(&caller.name, 60) };
        Self {
            database_away: state.archive.away(),
            warnings: state
                .upstream
                .iter()
                .filter_map(Upstream::notice)
                .chain(clock_notice(state.clock.ahead()))
                .collect(),
            caller: is_known.then(|| (name, caller.role.as_str())),
            may_change: caller.may_change(),
            picker: state.address.picker(),
            ..Self::around(page, firing_alerts(state))
        }
    }

    /// The frame of a page, with the number of alerts that fire.
    pub(super) fn around(page: &'static str, firing: usize) -> Self {
        let navigation = PAGES.map(|(id, name, href)| Item {
            name,
            href,
            current: id == page,
            count: if id == "alerts" { firing } else { 0 },
            count_title: "firing alerts",
        });
        Self {
            page,
            styles: ["main.css", "styles.css"].into_iter().filter_map(assets::path).collect(),
            theme_script: assets::path("theme.js"),
            script: assets::path("main.js"),
            navigation: navigation.into(),
            database_away: None,
            warnings: Vec::new(),
            caller: None,
            may_change: true,
            picker: None,
        }
    }

    /// The same with a warning above the content, when there is one.
    pub(super) fn warn(mut self, warning: Option<String>) -> Self {
        self.warnings.extend(warning);
        self
    }
}

/// What is said while the system's clock is behind ours.
fn clock_notice(ahead: Duration) -> Option<String> {
    (!ahead.is_zero()).then(|| {
        format!(
            "The system's clock was set back: meshscope is {} ahead of it, and its time goes slower until they agree.",
            format::span(ahead)
        )
    })
}

fn firing_alerts(state: &State) -> usize {
    let groups = state.rules.groups();
    let alerting = groups.iter().flat_map(|group| &group.rules).filter_map(|rule| rule.alerting.as_ref());
    alerting.flat_map(|rule| &rule.alerts).filter(|alert| alert.state == AlertState::Firing).count()
}

/// Renders a page.
pub(super) fn render(page: &impl askama::Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(reason) => error::internal(&reason.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_told() {
        assert_eq!(clock_notice(Duration::ZERO), None);
        let notice = clock_notice(Duration::from_secs(90)).expect("a notice");
        assert!(notice.contains("set back"), "{notice}");
    }
}
