//! Groups at work on paused time.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::model::{AlertState, Labels, Matcher, Timestamp, is_stale};
use crate::rules::{Health, file};
use crate::series::{self, Select, SeriesRef};

const START_MS: i64 = 1_000_000_000;

struct Rig {
    head: Head,
    clock: Clock,
    sets: watch::Sender<Arc<RuleSet>>,
    alerts: mpsc::Receiver<Vec<Alert>>,
    also_told: mpsc::Receiver<Vec<Alert>>,
    transitions: mpsc::Receiver<AlertTransition>,
    status: Status,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn set(text: &str) -> Arc<RuleSet> {
    let parsed = file::parse(
        "r.yml",
        text,
        file::ReadOptions { interval: Duration::from_secs(30), ..file::ReadOptions::default() },
    );
    assert_eq!(parsed.problems, []);
    Arc::new(RuleSet {
        groups: parsed.groups.into_iter().map(Arc::new).collect(),
        external_url: "http://mesh:7070".to_owned(),
        ..RuleSet::default()
    })
}

impl Rig {
    /// Runs `text` on `head`, from `start_ms` on.
    fn start(text: &str, head: Head, start_ms: i64) -> Self {
        Self::resume(text, head, start_ms, HashMap::new())
    }

    /// As [`Rig::start`], after a process that had told of `told`.
    fn resume(text: &str, head: Head, start_ms: i64, told: HashMap<String, Vec<Alert>>) -> Self {
        let store = Arc::new(head.clone());
        Self::on(text, (head, store), start_ms, told)
    }

    /// The same, where expressions read another store.
    fn on(
        text: &str,
        (head, store): (Head, Arc<dyn Queryable>),
        start_ms: i64,
        told: HashMap<String, Vec<Alert>>,
    ) -> Self {
        let clock = Clock::starting_at(Timestamp::from_millis(start_ms));
        let (sets, rule_sets) = watch::channel(set(text));
        let (_, ready) = watch::channel(true);
        let (alerts_in, alerts) = mpsc::channel(8);
        let (transitions_in, transitions) = mpsc::channel(8);
        let (alertmanagers, also_told) = mpsc::channel(1000);
        let engine = Arc::new(promql::Engine::new(promql::Config::default()));
        let (own, options) = (Arc::new(head.clone()), promql::QueryOptions::default());
        let goes_on = false;
        let inputs = Inputs { rule_sets, ready, store, own, head: head.clone(), engine, options, clock, told, goes_on };
        let outputs = Outputs { alerts: alerts_in, alertmanagers, transitions: transitions_in };
        let manager = Manager::new(Config::default(), inputs, outputs);
        let (status, counters, shutdown) = (manager.status(), manager.counters(), CancellationToken::new());
        let task = tokio::spawn(manager.run(shutdown.clone()));
        Self { head, clock, sets, alerts, also_told, transitions, status, counters, shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    fn write(&self, labels: &[(&str, &str)], value: f64) {
        let series = self.head.intern(&Labels::from_pairs(labels.iter().copied())).unwrap();
        self.head.append_at(self.clock.now(), &[(series, value)] as &[(SeriesRef, f64)]);
    }

    /// All samples of a metric, newest series last: `labels: value value …`, `-` for a stale marker.
    async fn samples(&self, metric: &str) -> Vec<String> {
        let name = Matcher::new(crate::model::MatchOp::Equal, "__name__", metric).unwrap();
        let selection = self.head.select(Select::new(vec![name], Timestamp::MIN, Timestamp::MAX)).await.unwrap();
        let mut lines: Vec<String> = (selection.series.iter())
            .map(|series| {
                let values = series.values.iter().map(|v| if is_stale(*v) { "-".to_owned() } else { v.to_string() });
                format!("{}: {}", series.labels, values.collect::<Vec<_>>().join(" "))
            })
            .collect();
        lines.sort();
        lines
    }

    fn alert_state(&self) -> Option<AlertState> {
        let groups = self.status.groups();
        groups.iter().flat_map(|group| &group.rules).find_map(|rule| rule.alerting.as_ref()).map(|a| a.state)
    }
}

fn head() -> Head {
    Head::new(series::Config::default())
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

const DOWN: &str = "
groups:
- name: g
  interval: 30s
  rules:
  - record: down
    expr: up == 0
  - alert: Down
    expr: down == 0
    for: 30s
    labels: {severity: '{{ if eq $value 0.0 }}page{{ end }}'}
    annotations: {summary: '{{ $labels.job }} is down since {{ $value }}'}
";

#[tokio::test(start_paused = true)]
async fn tells_of_an_alert_from_pending_to_resolved() {
    let mut rig = Rig::start(DOWN, head(), START_MS);
    rig.write(&[("__name__", "up"), ("job", "a")], 0.0);
    seconds(31).await;
    assert_eq!(rig.alert_state(), Some(AlertState::Pending), "rule 2 sees what rule 1 wrote in the same evaluation");
    assert!(rig.alerts.try_recv().is_err());
    seconds(30).await;
    let alert = rig.alerts.try_recv().unwrap().remove(0);
    assert_eq!(alert.labels.to_string(), r#"{alertname="Down", job="a", severity="page"}"#);
    assert_eq!(alert.annotations.value("summary"), "a is down since 0");
    assert_eq!(alert.generator_url, "http://mesh:7070/graph?g0.expr=down+%3D%3D+0&g0.tab=1");
    rig.write(&[("__name__", "up"), ("job", "a")], 1.0);
    seconds(30).await;
    assert_eq!(rig.alerts.try_recv().unwrap()[0].state, AlertState::Inactive);
    let changes: Vec<(AlertState, AlertState)> =
        std::iter::from_fn(|| rig.transitions.try_recv().ok()).map(|t| (t.from, t.to)).collect();
    use AlertState::{Firing, Inactive, Pending};
    assert_eq!(changes, [(Inactive, Pending), (Pending, Firing), (Firing, Inactive)]);
    assert_eq!(rig.samples("down").await, [r#"down{job="a"}: 0 0 -"#]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn evaluates_at_its_slots_whatever_the_time_of_the_start() {
    let rig = Rig::start("groups: [{name: g, interval: 30s, rules: [{record: one, expr: 1}]}]", head(), START_MS + 7);
    seconds(95).await;
    let name = Matcher::new(crate::model::MatchOp::Equal, "__name__", "one").unwrap();
    let selection = rig.head.select(Select::new(vec![name], Timestamp::MIN, Timestamp::MAX)).await.unwrap();
    let times: Vec<i64> = selection.series[0].times.iter().map(|t| t.as_millis()).collect();
    assert!(times.len() >= 3, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 30_000), "{times:?}");
    let group = Group::new(set("groups: [{name: g, interval: 30s}]").groups[0].clone(), External::default(), false);
    assert_eq!(times[0].rem_euclid(30_000), group.slot_offset().as_millis() as i64);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_it_does_not_change_and_ends_what_it_removes() {
    let rig = Rig::start(DOWN, head(), START_MS);
    rig.write(&[("__name__", "up"), ("job", "a")], 0.0);
    seconds(31).await;
    let since = rig.status.groups()[0].rules[1].alerting.as_ref().unwrap().alerts[0].active_at;
    // The alert's rule stays as it is, the recording rule goes, a rule is added.
    let changed = DOWN.replace("  - record: down\n    expr: up == 0\n", "  - record: two\n    expr: 2\n");
    rig.sets.send(set(&changed)).unwrap();
    seconds(30).await;
    let groups = rig.status.groups();
    let alerts = &groups[0].rules[1].alerting.as_ref().unwrap().alerts;
    assert_eq!((alerts[0].active_at, alerts[0].state), (since, AlertState::Firing));
    assert_eq!(rig.samples("down").await, [r#"down{job="a"}: 0 -"#], "ended by the group's next evaluation");
    rig.sets.send(set("groups: []")).unwrap();
    seconds(1).await;
    assert!(rig.status.groups().is_empty());
    assert_eq!(rig.samples("two").await, ["two: 2"]);
    seconds(60).await;
    assert_eq!(rig.samples("two").await, ["two: 2 -"], "ended two intervals later");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_rule_writes_nothing_and_stops_no_other() {
    let text = "
groups:
- name: g
  interval: 30s
  limit: 1
  rules:
  - {record: same, expr: up, labels: {job: ''}}
  - {record: many, expr: up}
  - {alert: Same, expr: up, labels: {job: x}}
  - {alert: Text, expr: vector(1), annotations: {a: '{{ .Nope }}', b: '{{ query \"up(\" }}'}}
  - {record: fine, expr: 1}
";
    let mut rig = Rig::start(text, head(), START_MS);
    rig.write(&[("__name__", "up"), ("job", "a")], 1.0);
    rig.write(&[("__name__", "up"), ("job", "b")], 1.0);
    seconds(31).await;
    let groups = rig.status.groups();
    let errors: Vec<Option<&str>> = groups[0].rules.iter().map(|rule| rule.last_error.as_deref()).collect();
    assert_eq!(
        errors,
        [
            Some("vector contains metrics with the same labelset after applying rule labels"),
            Some("exceeded limit of 1 with 2 series"),
            Some("vector contains metrics with the same labelset after applying alert labels"),
            None,
            None,
        ]
    );
    assert_eq!((groups[0].rules[0].health, groups[0].rules[4].health), (Health::Err, Health::Ok));
    assert_eq!((rig.samples("many").await.len(), rig.samples("fine").await.len()), (0, 1));
    let alert = rig.alerts.try_recv().unwrap().remove(0);
    assert_eq!(
        alert.annotations.value("a"),
        "<error expanding template: error executing template __alert_Text: template: __alert_Text:1:115: executing \
         \"__alert_Text\" at <.Nope>: can't evaluate field Nope in type struct { Labels map[string]string; \
         ExternalLabels map[string]string; ExternalURL string; Value interface {} }>"
    );
    assert!(alert.annotations.value("b").contains("at <query \"up(\">: error calling query: 1:"), "{alert:?}");
    assert_eq!(rig.counters.template_failures.load(Relaxed), 2);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn texts_can_ask_queries() {
    let text = r#"
groups:
- name: g
  interval: 30s
  rules:
  - alert: A
    expr: vector(3)
    annotations:
      a: '{{ range query "up" | sortByLabel "job" }}{{ .Labels.job }}={{ .Value }} {{ end }}{{ with query "nothing" }}x{{ else }}none{{ end }}'
"#;
    let mut rig = Rig::start(text, head(), START_MS);
    rig.write(&[("__name__", "up"), ("job", "b")], 1.0);
    rig.write(&[("__name__", "up"), ("job", "a")], 0.0);
    seconds(31).await;
    let alert = rig.alerts.try_recv().unwrap().remove(0);
    assert_eq!(alert.annotations.value("a"), "a=0 b=1 none");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_receiver_holds_nothing_up_and_hears_of_the_alert_later() {
    let mut rig = Rig::start("groups: [{name: g, interval: 5s, rules: [{alert: A, expr: up}]}]", head(), START_MS);
    for job in 0..20 {
        rig.write(&[("__name__", "up"), ("job", &job.to_string())], 1.0);
        seconds(5).await;
    }
    assert_eq!(rig.status.groups()[0].rules[0].alerting.as_ref().unwrap().alerts.len(), 20);
    assert!(rig.counters.alerts_not_taken.load(Relaxed) > 0);
    let mut heard = std::collections::BTreeSet::new();
    for _ in 0..3 {
        while let Ok(alerts) = rig.alerts.try_recv() {
            heard.extend(alerts.into_iter().map(|alert| alert.labels));
        }
        seconds(5).await;
    }
    assert_eq!(heard.len(), 20);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_up_the_time_that_an_alert_was_pending() {
    let text = "groups: [{name: g, interval: 30s, rules: [{alert: A, expr: up == 0, for: 20m}]}]";
    let rig = Rig::start(text, head(), START_MS);
    let feed = |rig: &Rig| rig.write(&[("__name__", "up"), ("job", "a")], 0.0);
    for _ in 0..18 {
        feed(&rig);
        seconds(60).await;
    }
    assert_eq!(rig.alert_state(), Some(AlertState::Pending));
    let (head, now) = (rig.head.clone(), rig.clock.now().as_millis());
    rig.stop().await;

    seconds(300).await; // away for five minutes
    let rig = Rig::start(text, head, now + 300_000);
    let mut fired_after = None;
    for minute in 0..25 {
        feed(&rig);
        seconds(60).await;
        if fired_after.is_none() && rig.alert_state() == Some(AlertState::Firing) {
            fired_after = Some(minute + 1);
        }
    }
    // Two minutes were left, so the grace period of ten minutes counts, from the restore at the second evaluation.
    assert_eq!(fired_after, Some(11));
    let series = rig.samples("ALERTS_FOR_STATE").await;
    assert_eq!(series.len(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn counts_slots_that_a_slow_evaluation_missed() {
    let text = "groups: [{name: g, interval: 10s, rules: [{record: one, expr: 1}]}]";
    let rig = Rig::start(text, head(), START_MS);
    seconds(11).await;
    // The whole process stands still: paused time jumps over 35 s without anyone polling.
    tokio::time::advance(Duration::from_secs(35)).await;
    seconds(1).await;
    let missed = rig.status.groups()[0].iterations_missed;
    assert!((2..=3).contains(&missed), "{missed}");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_fired_before_a_restart_fires_on_while_receivers_believe_in_it() {
    let text = "groups: [{name: g, interval: 30s, rules: [{alert: A, expr: up == 0, for: 5m}]}]";
    let key = set(text).groups[0].key();
    for (believed_for_ms, fires_on) in [(240_000, true), (10, false)] {
        let at = |ms: i64| Timestamp::from_millis(START_MS + ms);
        let alert = Alert {
            labels: Labels::from_pairs([("alertname", "A"), ("job", "a")]),
            annotations: Labels::empty(),
            state: AlertState::Firing,
            value: 0.0,
            active_at: at(-900_000),
            fired_at: Some(at(-600_000)),
            resolved_at: None,
            keep_firing_since: None,
            valid_until: at(believed_for_ms),
            generator_url: String::new(),
        };
        let mut rig = Rig::resume(text, head(), START_MS, HashMap::from([(key.clone(), vec![alert])]));
        rig.write(&[("__name__", "up"), ("job", "a")], 0.0);
        seconds(31).await;
        let expect = if fires_on { AlertState::Firing } else { AlertState::Pending };
        assert_eq!(rig.alert_state(), Some(expect), "believed for {believed_for_ms} ms");
        let told = rig.alerts.try_recv().unwrap_or_default();
        let begun: Vec<_> = told.iter().map(|alert| (alert.active_at, alert.fired_at)).collect();
        assert_eq!(begun, if fires_on { vec![(at(-900_000), Some(at(-600_000)))] } else { vec![] });
        assert_eq!(rig.also_told.try_recv().unwrap_or_default(), told, "Alertmanagers hear the same");
        rig.stop().await;
    }
}

/// A store that can be away, as an engine elsewhere can.
struct Elsewhere {
    head: Head,
    is_away: std::sync::atomic::AtomicBool,
}

impl Queryable for Elsewhere {
    fn select(
        &self,
        select: Select,
    ) -> futures_util::future::BoxFuture<'_, Result<series::Selection, series::QueryError>> {
        if self.is_away.load(Relaxed) {
            let reason = "connection refused".to_owned();
            return Box::pin(async { Err(series::QueryError::Unavailable { store: "elsewhere", reason }) });
        }
        self.head.select(select)
    }

    fn series(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> futures_util::future::BoxFuture<'_, Result<Vec<Labels>, series::QueryError>> {
        self.head.series(any_of, from, to)
    }
}

#[tokio::test(start_paused = true)]
async fn what_fires_is_told_on_while_the_store_is_away_also_after_a_restart() {
    let text = "groups: [{name: g, interval: 30s, rules: [{alert: Down, expr: up == 0}]}]";
    let check = async |told: HashMap<String, Vec<Alert>>, away_first: bool| {
        let head = head();
        let store = Arc::new(Elsewhere { head: head.clone(), is_away: away_first.into() });
        let mut rig = Rig::on(text, (head, Arc::clone(&store) as Arc<dyn Queryable>), START_MS, told);
        rig.write(&[("__name__", "up"), ("job", "a")], 0.0);
        if !away_first {
            seconds(61).await;
            assert_eq!(rig.alert_state(), Some(AlertState::Firing));
            store.is_away.store(true, Relaxed);
        }
        while rig.alerts.try_recv().is_ok() {}
        // Ten minutes: receivers believe for four of them.
        let mut until = rig.clock.now() + Duration::from_secs(240);
        for _ in 0..20 {
            seconds(30).await;
            while let Ok(batch) = rig.alerts.try_recv() {
                assert!(batch.iter().all(|alert| alert.state == AlertState::Firing), "{batch:?}");
                until = batch.iter().map(|alert| alert.valid_until).fold(until, Timestamp::max);
            }
            assert!(until > rig.clock.now(), "nobody was told that it still fires");
            assert_eq!(rig.alert_state(), Some(AlertState::Firing));
        }
        let status = rig.status.groups();
        assert!(status[0].rules[0].last_error.as_deref().is_some_and(|error| error.contains("connection refused")));
        // It comes back, and the series is fine: resolved at once.
        rig.write(&[("__name__", "up"), ("job", "a")], 1.0);
        store.is_away.store(false, Relaxed);
        seconds(61).await;
        assert_eq!(rig.alert_state(), Some(AlertState::Inactive));
        let resolved =
            std::iter::from_fn(|| rig.alerts.try_recv().ok()).flatten().any(|alert| alert.resolved_at.is_some());
        assert!(resolved, "it is told");
        rig.stop().await;
    };
    check(HashMap::new(), false).await;
    let now = Timestamp::from_millis(START_MS);
    let alert = Alert {
        labels: Labels::from_pairs([("alertname", "Down"), ("job", "a")]),
        annotations: Labels::empty(),
        state: AlertState::Firing,
        value: 0.0,
        active_at: now - Duration::from_secs(600),
        fired_at: Some(now - Duration::from_secs(600)),
        resolved_at: None,
        keep_firing_since: None,
        valid_until: now + Duration::from_secs(120),
        generator_url: String::new(),
    };
    check(HashMap::from([("r.yml;g".to_owned(), vec![alert])]), true).await;
}
