//! Times of the week and year at which a route is muted or active, as in `alertmanager.yml`.
//!
//! In: the blocks `time_intervals` and `mute_time_intervals`. Out: [`TimeInterval`]s that know whether a time lies within.
//! The rules and texts are those of Alertmanager's `timeinterval`. Pure; the time zones are compiled in.

mod change;

use std::str::FromStr;

use chrono::{Datelike, NaiveDate, Timelike};
use chrono_tz::Tz;
use serde::Deserialize;

use crate::model::Timestamp;

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A named set of times.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeIntervalConfig {
    /// What routes call it.
    pub name: String,
    /// The set holds a time when one of these does.
    pub time_intervals: Vec<TimesConfig>,
}

/// Times that satisfy every key that is given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimesConfig {
    /// Parts of the day.
    pub times: Option<Vec<ClockRangeConfig>>,
    /// `monday:friday`, `sunday`.
    pub weekdays: Option<Vec<String>>,
    /// `1:5`, `-3:-1` from the end.
    pub days_of_month: Option<Vec<String>>,
    /// `1:3`, `may:august`, `december`.
    pub months: Option<Vec<String>>,
    /// `2026:2028`, `2030`.
    pub years: Option<Vec<String>>,
    /// Name of the time zone, `Europe/Berlin`. Default UTC.
    pub location: Option<String>,
}

/// From the start to before the end, both `HH:MM`; the end may be `24:00`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockRangeConfig {
    /// `HH:MM`.
    pub start_time: String,
    /// `HH:MM`, exclusive.
    pub end_time: String,
}

/// A checked set of times.
#[derive(Clone, Debug)]
pub(super) struct TimeInterval {
    pub(super) name: String,
    parts: Vec<Times>,
}

#[derive(Clone, Debug)]
struct Times {
    /// Minutes of the day, the end exclusive.
    minutes: Option<Vec<(i32, i32)>>,
    weekdays: Option<Vec<(i32, i32)>>,
    days: Option<Vec<(i32, i32)>>,
    months: Option<Vec<(i32, i32)>>,
    years: Option<Vec<(i32, i32)>>,
    zone: Tz,
}

impl TimeInterval {
    /// Checks one block.
    ///
    /// # Errors
    /// The first mistake, in Alertmanager's words.
    pub(super) fn new(config: &TimeIntervalConfig) -> Result<Self, String> {
        if config.name.is_empty() {
            return Err("missing name in time interval".to_owned());
        }
        let parts = config.time_intervals.iter().map(Times::new).collect::<Result<_, _>>()?;
        Ok(Self { name: config.name.clone(), parts })
    }

    /// Whether `at` lies within.
    pub(super) fn contains(&self, at: Timestamp) -> bool {
        self.parts.iter().any(|times| times.contains(at))
    }
}

impl Times {
    fn new(config: &TimesConfig) -> Result<Self, String> {
        let zone = match config.location.as_deref() {
            None | Some("" | "UTC") => Tz::UTC,
            Some(name) => Tz::from_str(name).map_err(|_| format!("unknown time zone {name}"))?,
        };
        Ok(Self {
            minutes: all(config.times.as_deref(), clock_range)?,
            weekdays: all(config.weekdays.as_deref(), |text| weekdays(text))?,
            days: all(config.days_of_month.as_deref(), |text| days_of_month(text))?,
            months: all(config.months.as_deref(), |text| months(text))?,
            years: all(config.years.as_deref(), |text| years(text))?,
            zone,
        })
    }

    fn contains(&self, at: Timestamp) -> bool {
        let local = at.to_chrono().with_timezone(&self.zone);
        let within = |ranges: &Option<Vec<(i32, i32)>>, value: i32| {
            ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|(begin, end)| (*begin..=*end).contains(&value)))
        };
        let minute = (local.hour() * 60 + local.minute()).cast_signed();
        let in_day = |ranges: &Vec<(i32, i32)>| ranges.iter().any(|(begin, end)| (*begin..*end).contains(&minute));
        let (day, month, length) =
            (local.day().cast_signed(), local.month().cast_signed(), days_in(local.year(), local.month()));
        self.minutes.as_ref().is_none_or(in_day)
            && self.days.as_ref().is_none_or(|ranges| ranges.iter().any(|range| day_within(*range, day, length)))
            && within(&self.months, month)
            && within(&self.weekdays, local.weekday().num_days_from_sunday().cast_signed())
            && within(&self.years, local.year())
    }
}

/// A range that begins after the month's end holds nothing; otherwise it is cut at the end of the month.
fn day_within((begin, end): (i32, i32), day: i32, length: i32) -> bool {
    let from_start = |at: i32| if at < 0 { length + at + 1 } else { at };
    let (begin, end) = (from_start(begin), from_start(end).min(length));
    begin <= length && (begin..=end).contains(&day)
}

fn days_in(year: i32, month: u32) -> i32 {
    let first = |year, month| NaiveDate::from_ymd_opt(year, month, 1).unwrap_or_default();
    let next = if month == 12 { first(year + 1, 1) } else { first(year, month + 1) };
    next.signed_duration_since(first(year, month)).num_days() as i32
}

fn all<T>(
    given: Option<&[T]>,
    read: impl Fn(&T) -> Result<(i32, i32), String>,
) -> Result<Option<Vec<(i32, i32)>>, String> {
    given.map(|items| items.iter().map(read).collect()).transpose()
}

fn clock_range(config: &ClockRangeConfig) -> Result<(i32, i32), String> {
    if config.start_time.is_empty() || config.end_time.is_empty() {
        return Err("both start and end times must be provided".to_owned());
    }
    let (start, end) = (minute_of_day(&config.start_time)?, minute_of_day(&config.end_time)?);
    if start >= end {
        return Err("start time cannot be equal or greater than end time".to_owned());
    }
    Ok((start, end))
}

fn minute_of_day(text: &str) -> Result<i32, String> {
    let read = || {
        let (hour, minute) = text.split_once(':')?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let (hour, minute) = (digits(hour) && digits(minute)).then(|| (hour.parse::<i32>(), minute.parse::<i32>()))?;
        let (hour, minute) = (hour.ok()?, minute.ok()?);
        let valid = (hour < 24 && minute < 60) || (hour, minute) == (24, 0);
        valid.then_some(hour * 60 + minute)
    };
    read().ok_or_else(|| format!("couldn't parse timestamp {text}, invalid format"))
}

/// `begin:end` or one value, in lower case.
fn range(text: &str, member: impl Fn(&str) -> Result<i32, String>) -> Result<(i32, i32), String> {
    let text = text.to_lowercase();
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [one] => member(one).map(|value| (value, value)),
        [begin, end] => Ok((member(begin)?, member(end)?)),
        _ => Err(format!("couldn't parse range {text}, invalid format")),
    }
}

fn number(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn weekdays(text: &str) -> Result<(i32, i32), String> {
    let day = |name: &str| position(&WEEKDAYS, name).ok_or_else(|| format!("{name} is not a valid weekday"));
    let (begin, end) = range(text, day)?;
    if begin > end { Err("start day cannot be before end day".to_owned()) } else { Ok((begin, end)) }
}

fn months(text: &str) -> Result<(i32, i32), String> {
    let month = |name: &str| {
        let named = position(&MONTHS, name).map(|at| at + 1).or_else(|| name.parse().ok());
        named.filter(|at| (1..=12).contains(at)).ok_or_else(|| format!("{name} is not a valid month"))
    };
    let (begin, end) = range(text, month)?;
    let name = |at: i32| MONTHS[usize::try_from(at - 1).unwrap_or(0).min(11)];
    if begin > end {
        return Err(format!("end month {} is before start month {}", name(end), name(begin)));
    }
    Ok((begin, end))
}

fn years(text: &str) -> Result<(i32, i32), String> {
    let (begin, end) = range(text, number)?;
    if begin > end { Err(format!("end year {end} is before start year {begin}")) } else { Ok((begin, end)) }
}

fn days_of_month(text: &str) -> Result<(i32, i32), String> {
    let (begin, end) = range(text, number)?;
    for day in [begin, end] {
        if day == 0 || !(-31..=31).contains(&day) {
            return Err(format!("{day} is not a valid day of the month: out of range"));
        }
    }
    if begin < 0 && end > 0 {
        return Err("end day must be negative if start day is negative".to_owned());
    }
    // The shortest month has 28 days: what is empty there may hold days elsewhere only when it does here.
    let place = |day: i32| if day < 0 { 28 + day } else { day };
    if place(begin) > place(end) {
        return Err(format!("end day {end} is always before start day {begin}"));
    }
    Ok((begin, end))
}

fn position(names: &[&str], name: &str) -> Option<i32> {
    names.iter().position(|known| *known == name).and_then(|at| i32::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(yaml: &str) -> Result<TimeInterval, String> {
        let (config, problems) = crate::yaml::decode::<TimeIntervalConfig>(&format!("{{name: x, {yaml}}}"));
        assert_eq!(problems, [], "{yaml}");
        TimeInterval::new(&config.expect("decodes"))
    }

    #[test]
    fn holds_the_times_that_alertmanager_holds() {
        let check = |yaml: &str, inside: &[&str], outside: &[&str]| {
            let interval = interval(&format!("time_intervals: [{yaml}]")).unwrap_or_else(|e| panic!("{yaml}: {e}"));
            let at = |text: &str| -> Timestamp {
                chrono::DateTime::parse_from_rfc3339(text).expect("a time").with_timezone(&chrono::Utc).into()
            };
            inside.iter().for_each(|text| assert!(interval.contains(at(text)), "{yaml} holds {text}"));
            outside.iter().for_each(|text| assert!(!interval.contains(at(text)), "{yaml} does not hold {text}"));
        };
        check("{}", &["2026-01-01T00:00:00Z"], &[]);
        check(
            "{times: [{start_time: '09:00', end_time: '17:00'}]}",
            &["2026-03-01T09:00:00Z", "2026-03-01T16:59:59Z"],
            &["2026-03-01T17:00:00Z", "2026-03-01T08:59:59Z"],
        );
        check(
            "{times: [{start_time: '23:00', end_time: '24:00'}]}",
            &["2026-03-01T23:59:59Z"],
            &["2026-03-02T00:00:00Z"],
        );
        check(
            "{weekdays: ['monday:friday', Sunday]}",
            &["2026-11-22T12:00:00Z", "2026-11-23T12:00:00Z"],
            &["2026-11-21T12:00:00Z"],
        );
        check(
            "{days_of_month: ['-3:-1', 1]}",
            &["2026-02-26T00:00:00Z", "2026-02-01T00:00:00Z", "2028-02-29T00:00:00Z"],
            &["2026-02-25T23:00:00Z", "2028-02-26T00:00:00Z"],
        );
        check("{days_of_month: ['31']}", &["2026-01-31T00:00:00Z"], &["2026-04-30T00:00:00Z"]);
        check("{days_of_month: ['29:31']}", &["2028-02-29T00:00:00Z"], &["2026-02-28T00:00:00Z"]);
        check(
            "{months: ['may:august', 12], years: ['2025:2026']}",
            &["2026-08-31T00:00:00Z", "2025-12-01T00:00:00Z"],
            &["2027-08-01T00:00:00Z", "2026-09-01T00:00:00Z"],
        );
        // Summer time begins on 2026-03-29 at 01:00 UTC in Berlin.
        check(
            "{location: Europe/Berlin, times: [{start_time: '09:00', end_time: '10:00'}]}",
            &["2026-03-28T08:30:00Z", "2026-03-29T07:30:00Z"],
            &["2026-03-28T07:30:00Z", "2026-03-29T08:30:00Z"],
        );
        check("{location: Australia/Sydney, weekdays: [monday]}", &["2026-11-22T14:00:00Z"], &["2026-11-22T12:00:00Z"]);
    }

    #[test]
    fn refuses_what_alertmanager_refuses_in_its_words() {
        let check = |yaml: &str, expect: &str| {
            let error = interval(&format!("time_intervals: [{yaml}]")).expect_err(yaml);
            assert_eq!(error, expect, "{yaml}");
        };
        check("{times: [{start_time: '09:00'}]}", "both start and end times must be provided");
        check(
            "{times: [{start_time: '10:00', end_time: '09:00'}]}",
            "start time cannot be equal or greater than end time",
        );
        check("{times: [{start_time: '9:00', end_time: '10:00'}]}", "couldn't parse timestamp 9:00, invalid format");
        check("{times: [{start_time: '09:00', end_time: '24:01'}]}", "couldn't parse timestamp 24:01, invalid format");
        check("{weekdays: [funday]}", "funday is not a valid weekday");
        check("{weekdays: ['friday:monday']}", "start day cannot be before end day");
        check("{days_of_month: ['0']}", "0 is not a valid day of the month: out of range");
        check("{days_of_month: ['-3:5']}", "end day must be negative if start day is negative");
        check("{days_of_month: ['20:10']}", "end day 10 is always before start day 20");
        check("{months: ['june:may']}", "end month may is before start month june");
        check("{months: [smarch]}", "smarch is not a valid month");
        check("{years: ['2027:2026']}", "end year 2026 is before start year 2027");
        check("{years: ['1:2:3']}", "couldn't parse range 1:2:3, invalid format");
        check("{location: Mars/Base}", "unknown time zone Mars/Base");
    }
}
