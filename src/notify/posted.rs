//! Alerts that other Prometheus servers post: defaults, checks, and how two reports of one alert become one.
//!
//! In: what a request says. Out: an [`Alert`] like those of our own rules, or the reason in Alertmanager's words. Pure.

use std::time::Duration;

use crate::model::{Alert, AlertState, Labels, Timestamp};

/// One alert as a request has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Posted {
    /// Names and values, empty ones included.
    pub labels: Vec<(String, String)>,
    /// Names and values.
    pub annotations: Vec<(String, String)>,
    /// Since when; by default its end, or now.
    pub starts_at: Option<Timestamp>,
    /// Until when; by default now and `resolve_timeout`.
    pub ends_at: Option<Timestamp>,
    /// Link to where it comes from.
    pub generator_url: String,
}

/// Why a posted alert is not taken (`model.Alert.Validate`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// It would end before it starts.
    #[error("start time must be before end time")]
    EndsBeforeStart,
    /// A label without a name.
    #[error("invalid label set: invalid name \"\"")]
    NamelessLabel,
    /// No label at all.
    #[error("at least one label pair required")]
    NoLabels,
    /// An annotation without a name.
    #[error("invalid annotations: invalid name \"\"")]
    NamelessAnnotation,
    /// There are too many.
    #[error("too many alerts: {0} are held")]
    TooMany(usize),
}

impl Posted {
    /// The alert that it is at `now`, with whether its end is only assumed.
    ///
    /// # Errors
    /// The first thing wrong.
    pub(super) fn into_alert(self, now: Timestamp, resolve_timeout: Duration) -> Result<(Alert, bool), PostError> {
        let starts_at = self.starts_at.or(self.ends_at).unwrap_or(now);
        let ends_at = self.ends_at.unwrap_or(now + resolve_timeout);
        if ends_at < starts_at {
            return Err(PostError::EndsBeforeStart);
        }
        let nameless = |pairs: &[(String, String)]| pairs.iter().any(|(name, _)| name.is_empty());
        if self.labels.iter().any(|(name, value)| name.is_empty() && !value.is_empty()) {
            return Err(PostError::NamelessLabel);
        }
        let labels: Labels = self.labels.into_iter().collect();
        if labels.is_empty() {
            return Err(PostError::NoLabels);
        }
        if nameless(&self.annotations) {
            return Err(PostError::NamelessAnnotation);
        }
        let ended = ends_at <= now;
        let alert = Alert {
            labels,
            annotations: self.annotations.into_iter().collect(),
            state: if ended { AlertState::Inactive } else { AlertState::Firing },
            value: 0.0,
            active_at: starts_at,
            fired_at: Some(starts_at),
            resolved_at: ended.then_some(ends_at),
            keep_firing_since: None,
            valid_until: ends_at,
            generator_url: self.generator_url,
        };
        Ok((alert, self.ends_at.is_none()))
    }
}

/// An alert and when it was last heard of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) alert: Alert,
    pub(super) updated_at: Timestamp,
    /// Whether its end is only assumed, because nobody named one.
    pub(super) assumes_end: bool,
}

impl Known {
    pub(super) fn starts_at(&self) -> Timestamp {
        self.alert.fired_at.unwrap_or(self.alert.active_at)
    }

    /// This report with what an earlier one adds to it, when the two overlap in time (`types.Alert.Merge`).
    pub(super) fn after(mut self, earlier: &Self, now: Timestamp) -> Self {
        let (starts, ends) = (self.starts_at(), self.alert.ends_at());
        let (earlier_starts, earlier_ends) = (earlier.starts_at(), earlier.alert.ends_at());
        let overlap =
            (ends > earlier_starts && ends < earlier_ends) || (starts > earlier_starts && starts < earlier_ends);
        if !overlap {
            return self;
        }
        if earlier_starts < starts {
            (self.alert.active_at, self.alert.fired_at) = (earlier_starts, Some(earlier_starts));
        }
        let both_ended = ends <= now && earlier_ends <= now;
        let later_end = if ends <= now { both_ended } else { !earlier.assumes_end };
        if later_end && earlier_ends > ends {
            self.alert.valid_until = earlier_ends;
            self.alert.resolved_at = self.alert.resolved_at.map(|_| earlier_ends);
            self.assumes_end = earlier.assumes_end;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_835_000_000);
    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    fn posted(labels: &[(&str, &str)]) -> Posted {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Posted { labels, ..Posted::default() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() + seconds * 1000)
    }

    #[test]
    fn times_that_are_missing_are_those_of_alertmanager() {
        let check = |starts: Option<i64>, ends: Option<i64>, expect: (i64, i64, bool)| {
            let posted = Posted { starts_at: starts.map(at), ends_at: ends.map(at), ..posted(&[("a", "b")]) };
            let (alert, assumed) = posted.into_alert(NOW, FIVE_MINUTES).expect("valid");
            assert_eq!((alert.fired_at, alert.ends_at(), assumed), (Some(at(expect.0)), at(expect.1), expect.2));
        };
        check(None, None, (0, 300, true));
        check(Some(-10), None, (-10, 300, true));
        check(None, Some(60), (60, 60, false));
        check(Some(-10), Some(-5), (-10, -5, false));
    }

    #[test]
    fn what_is_wrong_is_said_in_alertmanagers_words() {
        let check = |posted: Posted, expect: &str| {
            let error = posted.into_alert(NOW, FIVE_MINUTES).expect_err(expect);
            assert_eq!(error.to_string(), expect);
        };
        check(posted(&[]), "at least one label pair required");
        check(posted(&[("a", "")]), "at least one label pair required");
        check(posted(&[("", "x")]), "invalid label set: invalid name \"\"");
        let nameless = vec![(String::new(), "x".to_owned())];
        check(Posted { annotations: nameless, ..posted(&[("a", "b")]) }, "invalid annotations: invalid name \"\"");
        check(
            Posted { starts_at: Some(at(0)), ends_at: Some(at(-1)), ..posted(&[("a", "b")]) },
            "start time must be before end time",
        );
    }

    #[test]
    fn two_reports_that_overlap_become_one() {
        let known = |starts: i64, ends: Option<i64>| {
            let posted = Posted { starts_at: Some(at(starts)), ends_at: ends.map(at), ..posted(&[("a", "b")]) };
            let (alert, assumes_end) = posted.into_alert(NOW, FIVE_MINUTES).expect("valid");
            Known { alert, updated_at: NOW, assumes_end }
        };
        let check = |earlier: Known, later: Known, expect: (i64, i64)| {
            let merged = later.after(&earlier, NOW);
            assert_eq!((merged.starts_at(), merged.alert.ends_at()), (at(expect.0), at(expect.1)));
        };
        check(known(-100, None), known(-10, None), (-100, 300)); // the earlier start
        check(known(-100, Some(900)), known(-10, Some(600)), (-100, 900)); // the later end that was named
        check(known(-100, None), known(-50, Some(200)), (-100, 200)); // an assumed end does not prolong
        check(known(-100, None), known(-50, Some(-5)), (-100, -5)); // a resolution ends it
        check(known(-100, Some(-50)), known(-10, None), (-10, 300)); // it fires anew
    }
}
