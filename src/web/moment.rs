//! The time that a page shows: a picker on each page that has a range, and absolute times in addresses.
//!
//! In: the parameters of an address. Out: the picker, ready for the template; of an address with `start` and `end` (what
//! the picker's form and a drag over a chart ask for) the one with `range` and `at` that shows the same.

use axum::extract::{Request, State as Given};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use chrono::TimeZone as _;

use super::ask::link;
use super::range::read_time;
use super::{State, alerts, changes, error, explore, frame, graph, logs, overview, subject, traces};
use crate::model::Timestamp;
use crate::units::PromDuration;

/// Pages with a range of time, by the start of their path, and the range that they show unless told.
const RANGED: [(&str, &str); 10] = [
    ("/graph", graph::RANGE_DEFAULT),
    ("/service/", subject::RANGE_DEFAULT),
    ("/workload/", subject::RANGE_DEFAULT),
    ("/edge/", subject::RANGE_DEFAULT),
    ("/alerts/history", alerts::history::RANGE_DEFAULT),
    ("/changes", changes::RANGE_DEFAULT),
    ("/traces", traces::RANGE_DEFAULT),
    ("/logs", logs::RANGE_DEFAULT),
    ("/explore", explore::RANGE_DEFAULT),
    ("/", overview::RANGE_DEFAULT),
];
const QUICK: [&str; 8] = ["5m", "15m", "1h", "6h", "24h", "7d", "30d", "1y"];
/// Longest value of a parameter that the picker carries on.
const VALUE_CHARS: usize = 4096;

/// What a request asks for, as pages carry it on: the path, and parameters in their order.
#[derive(Clone, Debug, Default)]
pub struct Address {
    pub(super) path: String,
    pub(super) parameters: Vec<(String, String)>,
}

/// The picker of a page's time.
pub(super) struct Picker {
    /// Where its form leads.
    pub(super) action: String,
    /// What the time is now, in words.
    pub(super) says: String,
    /// The parameters that the form keeps.
    pub(super) beside: Vec<(String, String)>,
    /// Ranges up to now: name, address, whether it is the one shown.
    pub(super) quick: Vec<(&'static str, String, bool)>,
    /// The address that follows the time; empty when this one does.
    pub(super) now: String,
    /// Zone that the address names.
    pub(super) zone: String,
}

impl Address {
    pub(super) fn of(uri: &axum::http::Uri) -> Self {
        let whole = format!("http://x/?{}", uri.query().unwrap_or_default());
        let pairs = reqwest::Url::parse(&whole).map(|url| url.query_pairs().into_owned().collect());
        Self { path: uri.path().to_owned(), parameters: pairs.unwrap_or_default() }
    }

    fn get(&self, name: &str) -> &str {
        self.parameters.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// The address with these in place of all parameters about time.
    fn with(&self, times: &[(&str, &str)]) -> String {
        let kept = self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let kept = kept.filter(|(name, _)| !["range", "at", "start", "end"].contains(name));
        link(self.path.trim_start_matches('/'), &kept.chain(times.iter().copied()).collect::<Vec<_>>())
    }

    /// The picker; `None` on pages without a range.
    pub(super) fn picker(&self) -> Option<Picker> {
        let (_, usual) = RANGED.iter().find(|(start, _)| match *start {
            "/" => self.path == "/",
            // A single trace has a time of its own.
            "/traces" => self.path == "/traces",
            start => self.path.starts_with(start),
        })?;
        let (range, at) = (self.get("range"), self.get("at"));
        let range = if range.is_empty() { *usual } else { range };
        let follows = at.is_empty() || at == "now";
        let short = |text: &str| super::format::visible(text, 60);
        let beside =
            self.parameters.iter().filter(|(name, _)| !["range", "at", "start", "end", "tz"].contains(&&**name));
        Some(Picker {
            action: self.path.clone(),
            says: if follows {
                format!("Last {}", short(range))
            } else {
                format!("{} until {}", short(range), short(at))
            },
            beside: beside.filter(|(_, value)| value.chars().count() <= VALUE_CHARS).cloned().collect(),
            quick: QUICK.map(|text| (text, self.with(&[("range", text)]), follows && text == range)).into(),
            now: if follows { String::new() } else { self.with(&[("range", range)]) },
            zone: short(self.get("tz")),
        })
    }

    /// The address with a range and its end in place of `start` and `end`; `None` when it has neither.
    ///
    /// # Errors
    /// What is wrong with the times.
    fn canonical(&self, now: Timestamp) -> Result<Option<String>, String> {
        let (start, end) = (self.get("start").trim(), self.get("end").trim());
        if start.is_empty() && end.is_empty() {
            return Ok(None);
        }
        let zone = self.get("tz");
        let read = |name: &str, text: &str| {
            time_in(text, zone)?.ok_or_else(|| {
                format!(
                    "{name}: {text:?} is not a time (seconds since 1970, 2026-01-31 12:00, or 2026-01-31T12:00:00Z)"
                )
            })
        };
        let until = if end.is_empty() { now } else { read("end", end)? };
        if start.is_empty() {
            return Ok(Some(self.with(&[("range", self.get("range")), ("at", &until.to_string())])));
        }
        let from = read("start", start)?;
        if from >= until {
            return Err(format!("start: {from} is not before the end, {until}"));
        }
        // Seconds are what pages show.
        let seconds = until.since(from).as_secs().max(1);
        let range = PromDuration::from(std::time::Duration::from_secs(seconds)).to_string();
        let at = if end.is_empty() { String::new() } else { until.to_string() };
        Ok(Some(self.with(&[("range", &range), ("at", &at)])))
    }
}

/// A time as people write it, in a zone where it names none; `None` when it is no time.
fn time_in(text: &str, zone: &str) -> Result<Option<Timestamp>, String> {
    let Some(plain) = super::range::plain_time(text) else { return Ok(read_time(text)) };
    if zone.is_empty() || zone == "UTC" {
        return Ok(Some(Timestamp::from(plain.and_utc())));
    }
    let known: chrono_tz::Tz = zone.parse().map_err(|_| {
        format!("tz: {:?} is no time zone; write it like Europe/Berlin", super::format::visible(zone, 60))
    })?;
    // Where clocks go back an hour is there twice: the first is taken; where they go forward it is not there: an hour on.
    let local = known.from_local_datetime(&plain).earliest();
    let local = local.or_else(|| known.from_local_datetime(&(plain + chrono::TimeDelta::hours(1))).earliest());
    Ok(local.map(|at| Timestamp::from(at.to_utc())))
}

/// Leads addresses with absolute times to those that pages know.
pub(super) async fn absolute(Given(state): Given<State>, request: Request, next: Next) -> Response {
    let address = Address::of(request.uri());
    if !address.parameters.iter().any(|(name, _)| name == "start" || name == "end") || address.picker().is_none() {
        return next.run(request).await;
    }
    match address.canonical(state.clock.now()) {
        // A form with empty fields says nothing about the time.
        Ok(None) => {
            Redirect::to(&address.with(&[("range", address.get("range")), ("at", address.get("at"))])).into_response()
        }
        Ok(Some(href)) => Redirect::to(&href).into_response(),
        Err(reason) => {
            let page = frame::page_at(request.uri().path());
            let (parts, _) = request.into_parts();
            error::bad_request(&state.seen_by(&parts), page, reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::of(&text.parse().expect("an address"))
    }

    #[test]
    fn absolute_times_become_a_range_and_its_end() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        for (given, expected) in [
            ("/graph?view=app", None),
            ("/graph?start=&end=", None),
            (
                "/graph?view=app&range=5m&start=2026-01-31+12:00&end=2026-01-31T13:30",
                Some("/graph?view=app&range=1h30m&at=2026-01-31T13%3A30%3A00.000Z"),
            ),
            ("/edge/a%3Eb?start=1799996400", Some("/edge/a%3Eb?range=1h")),
            (
                "/explore?query=a%2Bb&tz=Europe%2FBerlin&start=2026-01-31T12:00&end=2026-01-31T12:05:30",
                Some("/explore?query=a%2Bb&tz=Europe%2FBerlin&range=5m30s&at=2026-01-31T11%3A05%3A30.000Z"),
            ),
        ] {
            assert_eq!(address(given).canonical(now).expect(given).as_deref(), expected, "{given}");
        }
        for (given, word) in [
            ("/graph?start=2026-01-31+12:00&end=2026-01-31+11:00", "start: "),
            ("/graph?start=soon", "start: "),
            ("/graph?start=1&end=later", "end: "),
            ("/graph?start=2026-01-31+12:00&tz=Mars%2FBase", "tz: "),
        ] {
            let wrong = address(given).canonical(now).expect_err(given);
            assert!(wrong.starts_with(word), "{wrong}");
        }
    }

    #[test]
    fn the_picker_keeps_what_else_the_address_asks_for() {
        let picker = address("/graph?view=app&range=1h&at=2026-01-31T12:00:00Z&tz=UTC").picker().expect("a picker");
        assert_eq!(picker.says, "1h until 2026-01-31T12:00:00Z");
        assert_eq!(picker.beside, [("view".to_owned(), "app".to_owned())]);
        assert_eq!(picker.now, "/graph?view=app&tz=UTC&range=1h");
        assert_eq!(picker.quick[1], ("15m", "/graph?view=app&tz=UTC&range=15m".to_owned(), false));
        assert!(address("/graph?range=1h").picker().is_some_and(|picker| picker.quick[2].2 && picker.now.is_empty()));
        for without in ["/traces/abc", "/targets", "/status", "/alerts", "/silences"] {
            assert!(address(without).picker().is_none(), "{without}");
        }
    }
}
