//! When named times begin or stop to hold next, for people who ask how long a receiver stays quiet.
//!
//! In: a checked set of times, a moment. Out: the next moment at which the answer is another. Looks two months ahead.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{Days, LocalResult, NaiveTime, TimeZone, Utc};

use super::{TimeInterval, Times};
use crate::model::Timestamp;

/// How far ahead is looked.
const DAYS_AHEAD: u64 = 62;
/// Changes within this are found by looking at three days.
const SOON: Duration = Duration::from_secs(36 * 3600);
const DAY_MINUTES: i32 = 24 * 60;

impl TimeInterval {
    /// The first moment after `at` at which [`TimeInterval::contains`] answers otherwise; `None`: not within two months.
    pub(in crate::notify) fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        let held = self.contains(at);
        let first_after = |days: u64| {
            let mut borders: BTreeSet<Timestamp> = BTreeSet::new();
            for day in 0..=days {
                self.parts.iter().for_each(|part| part.add_borders(at, day, &mut borders));
            }
            borders.into_iter().find(|border| *border > at && self.contains(*border) != held)
        };
        // Most change soon. Days of two zones begin up to 26 hours apart, so the last days looked at are not whole.
        first_after(3).filter(|border| *border <= at + SOON).or_else(|| first_after(DAYS_AHEAD))
    }
}

impl Times {
    /// Adds the moments of one day, counted from the day of `at`, at which this part may begin or end to hold: its
    /// ranges, midnight, and each half hour, so that a change of summer time is not stepped over.
    fn add_borders(&self, at: Timestamp, day: u64, borders: &mut BTreeSet<Timestamp>) {
        let today = at.to_chrono().with_timezone(&self.zone).date_naive();
        let Some(date) = today.checked_add_days(Days::new(day)) else { return };
        let ranges = self.minutes.iter().flatten().flat_map(|(begin, end)| [*begin, *end]);
        for minute in ranges.chain((0..=DAY_MINUTES).step_by(30)) {
            let (date, minute) = match minute {
                DAY_MINUTES => (date.checked_add_days(Days::new(1)).unwrap_or(date), 0),
                other => (date, other.unsigned_abs()),
            };
            let Some(time) = NaiveTime::from_hms_opt(minute / 60, minute % 60, 0) else { continue };
            match self.zone.from_local_datetime(&date.and_time(time)) {
                LocalResult::Single(moment) => drop(borders.insert(moment.with_timezone(&Utc).into())),
                LocalResult::Ambiguous(first, second) => {
                    borders.extend([first, second].map(|moment| Timestamp::from(moment.with_timezone(&Utc))));
                }
                LocalResult::None => {} // skipped by summer time: the half hour after it is there
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::notify::TimeIntervalConfig;

    #[test]
    fn says_when_times_begin_and_end() {
        let check = |yaml: &str, at: &str, expect: Option<&str>| {
            let (config, problems) =
                crate::yaml::decode::<TimeIntervalConfig>(&format!("{{name: x, time_intervals: [{yaml}]}}"));
            assert_eq!(problems, [], "{yaml}");
            let interval = TimeInterval::new(&config.unwrap()).unwrap();
            let read = |text: &str| Timestamp::from(chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc());
            assert_eq!(interval.next_change(read(at)), expect.map(read), "{yaml} at {at}");
        };
        let office = "{weekdays: ['monday:friday'], times: [{start_time: '09:05', end_time: '17:10'}]}";
        check(office, "2026-03-02T08:00:00Z", Some("2026-03-02T09:05:00Z"));
        check(office, "2026-03-02T09:05:00Z", Some("2026-03-02T17:10:00Z"));
        check(office, "2026-03-06T18:00:00Z", Some("2026-03-09T09:05:00Z"));
        check("{}", "2026-03-02T08:00:00Z", None);
        check("{years: ['2030']}", "2026-03-02T08:00:00Z", None);
        check("{weekdays: [sunday]}", "2026-03-07T23:59:00Z", Some("2026-03-08T00:00:00Z"));
        check("{days_of_month: ['-1']}", "2026-02-10T00:00:00Z", Some("2026-02-28T00:00:00Z"));
        // Two parts that follow each other are one.
        let night =
            "{times: [{start_time: '22:00', end_time: '24:00'}]}, {times: [{start_time: '00:00', end_time: '06:00'}]}";
        check(night, "2026-03-02T23:00:00Z", Some("2026-03-03T06:00:00Z"));
        // Summer time begins on 2026-03-29 at 01:00 UTC in Berlin; 02:30 does not come that day.
        let berlin = "{location: Europe/Berlin, times: [{start_time: '02:30', end_time: '09:00'}]}";
        check(berlin, "2026-03-28T12:00:00Z", Some("2026-03-29T01:00:00Z"));
        check(berlin, "2026-03-29T01:30:00Z", Some("2026-03-29T07:00:00Z"));
        // In Sydney Monday began on Sunday at 13:00 UTC.
        check("{location: Australia/Sydney, weekdays: [monday]}", "2026-11-22T12:00:00Z", Some("2026-11-22T13:00:00Z"));
    }
}
