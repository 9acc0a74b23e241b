//! The history of alerts page by page: newest first, of one alert or of all, of any range that is kept.
//!
//! In: a range, conditions, the place where the last page ended. Out: transitions. Invariant: pages that follow each other
//! show each transition once, whatever is written meanwhile; what one page reads is bounded.

use futures_util::TryStreamExt;
use sqlx::Row;

use super::alerts::transition_from;
use super::{Store, StoreError, values};
use crate::model::{AlertState, AlertTransition, Labels, MatchOp, Matcher, Timestamp};

/// Most rows that are looked at for one page: a condition that nearly nothing satisfies must not read 400 days.
const ROWS_READ_MAX: usize = 50_000;

/// Which transition, in the order of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertEventKey {
    /// When.
    pub at: Timestamp,
    /// Fingerprint of the alert's labels.
    pub fingerprint: u64,
    /// Rule file and group.
    pub group: String,
    /// State after it.
    pub to: AlertState,
}

/// Which transitions to read.
#[derive(Clone, Debug)]
pub struct AlertHistoryQuery {
    /// Earliest.
    pub from: Timestamp,
    /// Latest.
    pub to: Timestamp,
    /// Those of one alert only.
    pub fingerprint: Option<u64>,
    /// Those into this state only.
    pub to_state: Option<AlertState>,
    /// Conditions on the labels.
    pub matchers: Vec<Matcher>,
    /// Text that a name, label or annotation must hold, in lower case; empty for any.
    pub text: String,
    /// Only what stands after this one, which the page before ended with.
    pub before: Option<AlertEventKey>,
    /// Most transitions.
    pub limit: usize,
}

/// One page of the history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertHistoryPage {
    /// Newest first.
    pub events: Vec<AlertTransition>,
    /// Where the next page begins; `None` when there is nothing more.
    pub next: Option<AlertEventKey>,
}

impl AlertEventKey {
    /// The key of a transition.
    pub fn of(event: &AlertTransition) -> Self {
        Self { at: event.at, fingerprint: event.labels.fingerprint(), group: event.group.clone(), to: event.to }
    }

    /// Reads what `to_string` wrote; `None` for anything else.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '_');
        let at = Timestamp::from_millis(parts.next()?.parse().ok()?);
        let fingerprint = u64::from_str_radix(parts.next()?, 16).ok()?;
        let to = parts.next()?;
        let states = [AlertState::Inactive, AlertState::Pending, AlertState::Firing];
        let to = states.into_iter().find(|state| state.as_str() == to)?;
        Some(Self { at, fingerprint, group: parts.next()?.to_owned(), to })
    }
}

/// For addresses of the next page: time, fingerprint, state and group.
impl std::fmt::Display for AlertEventKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, fingerprint, group, to } = self;
        write!(f, "{}_{fingerprint:016x}_{}_{group}", at.as_millis(), to.as_str())
    }
}

impl AlertHistoryQuery {
    /// Whether a transition satisfies the conditions on labels and text.
    pub fn takes(&self, event: &AlertTransition) -> bool {
        let holds = |text: &str| text.to_lowercase().contains(&self.text);
        self.matchers.iter().all(|matcher| matcher.matches_labels(&event.labels))
            && (self.text.is_empty()
                || event.labels.iter().chain(event.annotations.iter()).any(|(name, value)| holds(name) || holds(value)))
    }

    /// The conditions that an index or the database itself can judge.
    fn equal_labels(&self) -> Option<Labels> {
        let equal = self.matchers.iter().filter(|matcher| {
            matcher.op == MatchOp::Equal && !matcher.value.is_empty() && !matcher.value.contains('\0')
        });
        let labels = Labels::from_pairs(equal.map(|matcher| (&*matcher.name, &*matcher.value)));
        (!labels.is_empty()).then_some(labels)
    }
}

impl Store {
    /// One page of the history.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn alert_history(&self, query: &AlertHistoryQuery) -> Result<AlertHistoryPage, StoreError> {
        let to = query.before.as_ref().map_or(query.to, |before| before.at.min(query.to));
        let before = query.before.as_ref();
        let mut rows = sqlx::query(include_str!("sql/alert_history.sql"))
            .bind(values::time(query.from))
            .bind(values::time(to))
            .bind(query.fingerprint.map(u64::cast_signed))
            .bind(query.to_state.map(AlertState::as_str))
            .bind(query.equal_labels().map(|labels| values::labels_json(&labels)))
            .bind(before.map(|key| values::time(key.at)))
            .bind(before.map(|key| key.fingerprint.cast_signed()))
            .bind(before.map(|key| values::text(&key.group).into_owned()))
            .bind(before.map(|key| key.to.as_str()))
            .bind(i64::try_from(ROWS_READ_MAX).unwrap_or(i64::MAX))
            .fetch(self.pool());
        let mut page = AlertHistoryPage::default();
        let (mut read, mut last) = (0, None);
        while let Some(row) = rows.try_next().await.map_err(StoreError::doing("read alert history"))? {
            let event = transition_from(&row)?;
            read += 1;
            if query.takes(&event) {
                if page.events.len() == query.limit {
                    page.next = page.events.last().map(AlertEventKey::of);
                    return Ok(page);
                }
                page.events.push(event);
            } else if read == ROWS_READ_MAX {
                last = Some(AlertEventKey::of(&event));
            }
        }
        if read == ROWS_READ_MAX {
            page.next = last.or_else(|| page.events.last().map(AlertEventKey::of));
        }
        Ok(page)
    }

    /// The values that alerts had when they entered a state at that time, for those that are in the history.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn alert_values(&self, entered: &[(Timestamp, u64)]) -> Result<Vec<(Timestamp, u64, f64)>, StoreError> {
        let times: Vec<_> = entered.iter().map(|(at, _)| values::time(*at)).collect();
        let fingerprints: Vec<i64> = entered.iter().map(|(_, fingerprint)| fingerprint.cast_signed()).collect();
        let sql = "SELECT e.at, e.fingerprint, e.value
                   FROM unnest($1::timestamptz[], $2::bigint[]) AS asked (at, fingerprint)
                   JOIN alert_event e USING (at, fingerprint)
                   WHERE e.to_state <> 'inactive'";
        let rows = sqlx::query(sql).bind(times).bind(fingerprints).fetch_all(self.pool()).await;
        let rows = rows.map_err(StoreError::doing("read alert history"))?;
        let value = |row: &sqlx::postgres::PgRow| {
            let at: chrono::DateTime<chrono::Utc> = row.get("at");
            (at.into(), row.get::<i64, _>("fingerprint").cast_unsigned(), row.get("value"))
        };
        Ok(rows.iter().map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_where_a_page_ended_survives_the_address() {
        let key = AlertEventKey {
            at: Timestamp::from_millis(1_763_835_000_123),
            fingerprint: 0xabc,
            group: "a_b;c=&d_<".into(),
            to: AlertState::Firing,
        };
        assert_eq!(AlertEventKey::read(&key.to_string()), Some(key));
        for wrong in ["", "1", "x_0_firing_g", "1_zz_firing_g", "1_0_burning_g", "1_0_firing"] {
            assert_eq!(AlertEventKey::read(wrong), None, "{wrong}");
        }
    }
}
