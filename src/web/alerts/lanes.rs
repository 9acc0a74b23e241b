//! When alerts waited and fired, as bars along one axis of time.
//!
//! In: transitions of a range. Out: lanes with bars in percent of the range. Pure.

use std::collections::HashMap;

use super::row::{class_of, href, told_apart};
use crate::model::{AlertState, AlertTransition, Timestamp};
use crate::web::format;

/// Most lanes of one drawing.
const LANES_MAX: usize = 12;

/// One alert.
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) said: String,
    pub(super) bars: Vec<Bar>,
    /// For those who do not see the drawing.
    pub(super) text: String,
}

/// One state of an alert.
pub(super) struct Bar {
    pub(super) class: &'static str,
    /// Percent of the range.
    pub(super) from: f64,
    pub(super) width: f64,
    pub(super) title: String,
}

/// The lanes of the alerts that changed last. `events` are the newest first and all there are since the oldest of them.
pub(super) fn lanes(events: &[AlertTransition], (from, to): (Timestamp, Timestamp)) -> Vec<Lane> {
    let mut order: Vec<u64> = Vec::new();
    let mut by_alert: HashMap<u64, Vec<&AlertTransition>> = HashMap::new();
    for event in events {
        let id = event.labels.fingerprint();
        let known = by_alert.entry(id).or_default();
        if known.is_empty() {
            order.push(id);
        }
        known.push(event);
    }
    order.truncate(LANES_MAX);
    let lane = |id: u64| {
        let mut changes = by_alert.remove(&id)?;
        changes.reverse();
        Some(lane(id, &changes, (from, to)))
    };
    order.into_iter().filter_map(lane).collect()
}

fn lane(id: u64, changes: &[&AlertTransition], (from, to): (Timestamp, Timestamp)) -> Lane {
    let length = to.since(from).as_secs_f64().max(0.001);
    let percent = |at: Timestamp| at.since(from).as_secs_f64() / length * 100.0;
    let mut bars = Vec::new();
    let mut fired_for = std::time::Duration::ZERO;
    let mut fired = 0;
    let mut draw = |state: AlertState, begin: Timestamp, end: Timestamp| {
        if state == AlertState::Inactive || end < from {
            return;
        }
        let (begin, end) = (begin.max(from), end.min(to));
        if state == AlertState::Firing {
            fired_for += end.since(begin);
        }
        let (left, right) = (percent(begin), percent(end).min(100.0));
        let width = (right - left).max(0.4).min(100.0 - left);
        let took = format::span(end.since(begin));
        let title = format!("{} for {took} from {}", state.as_str(), format::moment(begin));
        bars.push(Bar { class: class_of(state), from: round(left), width: round(width), title });
    };
    let mut state = changes.first().map_or(AlertState::Inactive, |first| first.from);
    let mut since = from;
    for change in changes {
        draw(state, since, change.at);
        fired += usize::from(change.to == AlertState::Firing);
        (state, since) = (change.to, change.at);
    }
    draw(state, since, to);
    let labels = &changes[0].labels;
    let (telling, _) = told_apart(labels);
    let said: Vec<String> = telling.into_iter().take(2).map(|(_, value)| format::shortened(&value, 40)).collect();
    Lane {
        name: format::visible(labels.value("alertname"), 60),
        href: href(id),
        said: said.join(" · "),
        bars,
        text: format!("began to fire {fired} times, fired for {} in all", format::span(fired_for)),
    }
}

fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn bars_are_what_each_state_took_of_the_range() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let change = |seconds: i64, name: &str, from: AlertState, to: AlertState| AlertTransition {
            at: at(seconds),
            group: "f;g".into(),
            labels: Labels::from_pairs([("alertname", name), ("service", "cart")]),
            annotations: Labels::empty(),
            from,
            to,
            value: 1.0,
        };
        use AlertState::{Firing, Inactive, Pending};
        let events = [
            change(90, "B", Inactive, Pending),
            change(60, "A", Firing, Inactive),
            change(40, "A", Pending, Firing),
            change(20, "A", Inactive, Pending),
            change(10, "C", Firing, Inactive),
        ];
        let lanes = lanes(&events, (at(0), at(100)));
        let bars = |lane: &Lane| -> Vec<String> {
            lane.bars.iter().map(|bar| format!("{} {}+{}", bar.class, bar.from, bar.width)).collect()
        };
        let drawn: Vec<(&str, Vec<String>)> = lanes.iter().map(|lane| (lane.name.as_str(), bars(lane))).collect();
        let text = |bars: &[&str]| bars.iter().map(|bar| (*bar).to_owned()).collect::<Vec<_>>();
        let of_a = text(&["degraded 20+20", "failure 40+20"]);
        assert_eq!(drawn, [("B", text(&["degraded 90+10"])), ("A", of_a), ("C", text(&["failure 0+10"]))]);
        assert_eq!(
            (lanes[1].said.as_str(), lanes[1].text.as_str()),
            ("cart", "began to fire 1 times, fired for 20 s in all")
        );
    }
}
