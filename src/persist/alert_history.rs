//! The history of alerts for pages and APIs: PostgreSQL where it answers, else what memory knows of the alerts that stand.
//!
//! Invariant: an answer that is not whole comes with the reason.

use std::collections::HashMap;

use super::alert_board::BoardAlert;
use super::archive::Archive;
use crate::model::{AlertState, AlertTransition, Timestamp};
use crate::store::{AlertHistoryPage, AlertHistoryQuery};

impl Archive {
    /// One page of the history, and why it is not whole. While PostgreSQL is away, how the alerts on the `board` came to
    /// where they are.
    pub async fn alert_changes(
        &self,
        query: &AlertHistoryQuery,
        board: impl FnOnce() -> Vec<BoardAlert>,
    ) -> (AlertHistoryPage, Option<String>) {
        match self.read(self.store.alert_history(query)).await {
            Ok(page) => (page, None),
            Err(reason) => {
                let mut events: Vec<AlertTransition> = board().iter().flat_map(changes_of).collect();
                events.retain(|event| {
                    (query.from..=query.to).contains(&event.at)
                        && query.fingerprint.is_none_or(|wanted| event.labels.fingerprint() == wanted)
                        && query.to_state.is_none_or(|state| event.to == state)
                        && query.takes(event)
                });
                events.sort_by_key(|event| std::cmp::Reverse(event.at));
                events.truncate(query.limit);
                let warning =
                    format!("Of the history only what memory knows of the alerts that stand is shown: {reason}.");
                (AlertHistoryPage { events, next: None }, Some(warning))
            }
        }
    }

    /// The values that alerts had when they entered their state; nothing of those that PostgreSQL does not tell.
    pub async fn values_at_start(&self, alerts: &[&BoardAlert]) -> HashMap<(Timestamp, u64), f64> {
        let entered: Vec<(Timestamp, u64)> = alerts.iter().map(|alert| (alert.since(), alert.id)).collect();
        if entered.is_empty() {
            return HashMap::new();
        }
        let found = self.read(self.store.alert_values(&entered)).await.unwrap_or_default();
        found.into_iter().map(|(at, id, value)| ((at, id), value)).collect()
    }
}

/// How an alert came to where it is, as far as it tells itself.
fn changes_of(one: &BoardAlert) -> Vec<AlertTransition> {
    let group = one.rule.as_ref().map(|rule| format!("{};{}", rule.group.file, rule.group.name)).unwrap_or_default();
    let change = |at: Timestamp, from: AlertState, to: AlertState| AlertTransition {
        at,
        group: group.clone(),
        labels: one.alert.labels.clone(),
        annotations: one.alert.annotations.clone(),
        from,
        to,
        value: one.alert.value,
    };
    let (waits_since, fires_since) = (one.alert.active_at, one.alert.fired_at);
    match fires_since {
        Some(at) if at == waits_since => vec![change(at, AlertState::Inactive, AlertState::Firing)],
        Some(at) => vec![
            change(at, AlertState::Pending, AlertState::Firing),
            change(waits_since, AlertState::Inactive, AlertState::Pending),
        ],
        None => vec![change(waits_since, AlertState::Inactive, one.alert.state)],
    }
}
