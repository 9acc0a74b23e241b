//! `/live`: tells pages that are open when to look again, as server-sent events.
//!
//! In: the alerts of rules, the clock. Out: a `beat` every few seconds, at once when an alert begins or ends to fire.
//! Invariant: one task watches for all pages; streams are bounded, and end when the task does, so that they delay no
//! shutdown. What a page shows travels as the page itself, through the same checks as any request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::State;
use super::ask::Shared;
use crate::clock::Clock;
use crate::model::{AlertState, Timestamp};
use crate::rules;

/// Time between beats when nothing happens.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// How often alerts are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Streams at a time, half of the connections that `web.max_connections` allows unless told; further pages ask again by
/// themselves.
const STREAMS_MAX: usize = 256;
/// How long a browser waits before it connects again, milliseconds.
const RETRY_MS: u64 = 2000;

/// One beat.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Beat {
    at: Timestamp,
    /// Alerts that fire.
    firing: usize,
    /// A number that changes with what fires.
    alerts: u64,
}

/// Watches for all open pages. Made by [`pulse`]; runs until shutdown.
pub struct Pulse {
    beats: watch::Sender<Beat>,
    rules: rules::Status,
    clock: Clock,
}

/// Where pages take their beats from. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    /// Shared, so that the number of receivers is that of open pages and one.
    beats: Arc<watch::Receiver<Beat>>,
    seats: Arc<Semaphore>,
}

/// The task that watches, and what pages read of it.
pub fn pulse(rules: rules::Status, clock: Clock) -> (Pulse, Live) {
    let (sender, beats) = watch::channel(Beat::default());
    (
        Pulse { beats: sender, rules, clock },
        Live { beats: Arc::new(beats), seats: Arc::new(Semaphore::new(STREAMS_MAX)) },
    )
}

impl Pulse {
    /// Beats until `shutdown`; then all streams end.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = look.tick() => self.look(),
            }
        }
    }

    fn look(&self) {
        // `Live` itself holds one receiver.
        if self.beats.receiver_count() < 2 {
            return;
        }
        let now = self.clock.now();
        let (firing, alerts) = firing(&self.rules);
        self.beats.send_if_modified(|beat| {
            let is_due = now.since(beat.at) >= BEAT_EVERY || beat.alerts != alerts;
            if is_due {
                *beat = Beat { at: now, firing, alerts };
            }
            is_due
        });
    }
}

/// How many alerts fire, and a number that tells these from others.
fn firing(rules: &rules::Status) -> (usize, u64) {
    let groups = rules.groups();
    let alerting = groups.iter().flat_map(|group| &group.rules).filter_map(|rule| rule.alerting.as_ref());
    let (mut firing, mut sum) = (0, 0_u64);
    for alert in alerting.flat_map(|rule| &rule.alerts).filter(|alert| alert.state == AlertState::Firing) {
        (firing, sum) = (firing + 1, sum.wrapping_add(alert.labels.fingerprint()));
    }
    (firing, sum)
}

/// One open page.
struct Listener {
    beats: watch::Receiver<Beat>,
    greeted: bool,
    _seat: OwnedSemaphorePermit,
}

impl Listener {
    /// The next event; `None` when the process ends.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if !self.greeted {
            self.greeted = true;
            let hello = Event::default().event("hello").retry(Duration::from_millis(RETRY_MS)).data("meshscope");
            return Some((Ok(hello), self));
        }
        self.beats.changed().await.ok()?;
        let Beat { at, firing, .. } = *self.beats.borrow_and_update();
        let event =
            Event::default().event("beat").id(at.as_millis().to_string()).data(format!("{{\"firing\":{firing}}}"));
        Some((Ok(event), self))
    }
}

/// The stream of one page; 503 when there are too many.
pub(super) async fn stream(Shared(state): Shared<State>) -> Response {
    let Ok(seat) = Arc::clone(&state.live.seats).try_acquire_owned() else {
        let told = [(header::RETRY_AFTER, "30")];
        let words = format!("{STREAMS_MAX} pages are live already; this one asks again by itself.\n");
        return (StatusCode::SERVICE_UNAVAILABLE, told, words).into_response();
    };
    let listener = Listener { beats: (*state.live.beats).clone(), greeted: false, _seat: seat };
    // A proxy that gathers answers would hold events back.
    let as_it_comes = [("x-accel-buffering", "no"), ("cache-control", "no-store")];
    (as_it_comes, Sse::new(stream::unfold(listener, Listener::next))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(live: &Live) -> Listener {
        let seat = Arc::clone(&live.seats).try_acquire_owned().expect("a seat");
        Listener { beats: (*live.beats).clone(), greeted: false, _seat: seat }
    }

    #[tokio::test(start_paused = true)]
    async fn beats_go_on_while_somebody_listens_and_streams_end_with_the_task() {
        let (pulse, live) =
            pulse(rules::Status::default(), Clock::starting_at(Timestamp::from_millis(1_800_000_000_000)));
        let sender = pulse.beats.clone();
        let stop = CancellationToken::new();
        let running = tokio::spawn(pulse.run(stop.clone()));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(*sender.borrow(), Beat::default(), "nobody listens");
        drop(sender);

        let (_, heard) = listener(&live).next().await.expect("a greeting");
        let (_, heard) = heard.next().await.expect("a beat");
        assert_eq!(live.seats.available_permits(), STREAMS_MAX - 1);
        stop.cancel();
        running.await.expect("it ends");
        let mut left = Some(heard);
        // What was sent before the end may still be heard.
        for _ in 0..2 {
            left = match left {
                Some(heard) => heard.next().await.map(|(_, heard)| heard),
                None => None,
            };
        }
        assert!(left.is_none(), "the stream ends");
        assert_eq!(live.seats.available_permits(), STREAMS_MAX);
    }
}
