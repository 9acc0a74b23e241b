//! The routing tree: who is told of what, which times keep whom quiet now and until when, and which way given labels take.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, given, link};
use super::frame::{Frame, render};
use super::{State, format};
use crate::model::{Labels, MatchOp, Timestamp};
use crate::notify::{RouteView, Window, parse_matchers, parse_one_matcher};

/// Most nodes on the page; the others are counted.
const NODES_SHOWN: usize = 1000;
/// Depth that is drawn; what is deeper stands below that.
const DEPTH_DRAWN: usize = 8;

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    labels: Option<String>,
}

#[derive(Template)]
#[template(path = "routes.html")]
struct Page {
    frame: Frame,
    labels: String,
    wrong: Option<String>,
    tested: Option<Tested>,
    nodes: Vec<Node>,
    left_out: usize,
    receivers: Vec<(String, String, String)>,
    inhibit_rules: usize,
}

/// Which way the labels take.
struct Tested {
    ways: Vec<Way>,
    silenced: Vec<(String, String)>,
}

struct Way {
    receiver: String,
    href: String,
    group_key: String,
    muted_by: String,
    kinds: String,
}

struct Node {
    depth: usize,
    receiver: String,
    href: String,
    matchers: Vec<String>,
    grouping: String,
    waits: String,
    goes_on: bool,
    taken: bool,
    windows: Vec<Times>,
}

struct Times {
    name: String,
    what: &'static str,
    class: &'static str,
    state: &'static str,
    until: String,
    exact: String,
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(address): Asked<Address>) -> Response {
    let now = state.clock.now();
    let plan = state.notify.plan();
    let text = address.labels.clone().unwrap_or_default();
    let labels = given(Some(text.trim())).map(read_labels);
    let (labels, wrong) = match labels {
        None => (None, None),
        Some(Ok(labels)) => (Some(labels), None),
        Some(Err(reason)) => (None, Some(reason)),
    };
    let taken = labels.as_ref().map(|labels| plan.taken_by(labels)).unwrap_or_default();
    let tree = plan.tree(now);
    let left_out = tree.len().saturating_sub(NODES_SHOWN);
    let nodes = tree.iter().take(NODES_SHOWN).enumerate().map(|(at, view)| node(view, taken.contains(&at), now));
    let receivers = plan.receiver_kinds().into_iter().map(|(name, kinds)| {
        let kinds = if kinds.is_empty() { "tells nobody".to_owned() } else { kinds.join(", ") };
        (format::visible(name, 200), link("notifications", &[("receiver", name)]), kinds)
    });
    let page = Page {
        frame: Frame::new(&state, "alerts"),
        labels: text,
        tested: labels.as_ref().map(|labels| test(&state, labels, now)),
        wrong,
        nodes: nodes.collect(),
        left_out,
        receivers: receivers.collect(),
        inhibit_rules: plan.inhibit_rule_count(),
    };
    match page.wrong {
        None => render(&page),
        Some(_) => {
            use axum::response::IntoResponse;
            (axum::http::StatusCode::BAD_REQUEST, render(&page)).into_response()
        }
    }
}

fn test(state: &State, labels: &Labels, now: Timestamp) -> Tested {
    let kinds = |kinds: Vec<&str>| if kinds.is_empty() { "tells nobody".to_owned() } else { kinds.join(", ") };
    let paths = state.notify.explain([labels]).pop().unwrap_or_default();
    let way = |path: crate::notify::Path| Way {
        href: link("notifications", &[("receiver", &path.receiver)]),
        receiver: format::visible(&path.receiver, 200),
        group_key: format::visible(&path.group_key, 1000),
        muted_by: path.muted_by.join(", "),
        kinds: kinds(path.integrations.iter().map(|knows| knows.kind).collect()),
    };
    let silences = state.notify.silences().active(now);
    let muting = silences.iter().filter(|silence| silence.mutes(labels, now));
    Tested {
        ways: paths.into_iter().map(way).collect(),
        silenced: muting.map(|one| (one.id.clone(), format::visible(&one.comment, 200))).collect(),
    }
}

fn node(view: &RouteView, taken: bool, now: Timestamp) -> Node {
    let grouping = match &view.group_by {
        None => "each alert alone".to_owned(),
        Some(names) if names.is_empty() => "all together".to_owned(),
        Some(names) => format!("by {}", names.join(", ")),
    };
    let [wait, interval, repeat] = [view.group_wait, view.group_interval, view.repeat_interval].map(format::span);
    Node {
        depth: view.depth.min(DEPTH_DRAWN),
        receiver: format::visible(&view.receiver, 200),
        href: link("notifications", &[("receiver", &view.receiver)]),
        matchers: view.matchers.iter().map(|matcher| format::visible(matcher, 400)).collect(),
        grouping,
        waits: format!("first after {wait}, news every {interval}, again after {repeat}"),
        goes_on: view.goes_on,
        taken,
        windows: view.windows.iter().map(|window| times(window, now)).collect(),
    }
}

fn times(window: &Window, now: Timestamp) -> Times {
    let is_open = window.mutes != window.holds;
    Times {
        name: format::visible(&window.name, 200),
        what: if window.mutes { "mute" } else { "active" },
        class: if is_open { "healthy" } else { "degraded" },
        state: if is_open { "open now" } else { "closed now" },
        until: match window.until {
            Some(at) => format!("until {} ({})", format::moment(at), format::ahead(at, now)),
            None => "for two months at least".to_owned(),
        },
        exact: window.until.map(|at| at.to_string()).unwrap_or_default(),
    }
}

/// Labels as matchers are written, one on each line or in braces: each an `=`.
fn read_labels(text: &str) -> Result<Labels, String> {
    let mut pairs = Vec::new();
    for line in text.lines().map(|line| line.trim().trim_end_matches(',')).filter(|line| !line.is_empty()) {
        let read = match line.starts_with('{') || line.contains(',') {
            true => parse_matchers(line),
            false => parse_one_matcher(line).map(|one| vec![one]),
        };
        for matcher in read.map_err(|error| error.to_string())? {
            if matcher.op != MatchOp::Equal {
                return Err(format!("{matcher}: labels are written name=\"value\""));
            }
            pairs.push((matcher.name.to_string(), matcher.value.to_string()));
        }
    }
    Ok(Labels::from_pairs(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_in_every_way_people_paste_them() {
        let expect = Labels::from_pairs([("alertname", "A b"), ("severity", "page")]);
        for text in [
            "alertname=\"A b\"\nseverity=page",
            "{alertname=\"A b\", severity=\"page\"}",
            "alertname=\"A b\", severity=page",
            "alertname=\"A b\",\n  severity=\"page\",\n",
        ] {
            assert_eq!(read_labels(text), Ok(expect.clone()), "{text}");
        }
        assert!(read_labels("a=~b").is_err());
        assert_eq!(read_labels("nonsense"), Err("bad matcher format: nonsense".to_owned()));
    }
}
