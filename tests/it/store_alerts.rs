//! The history of alerts and the outbox as people read them: pages without gap or overlap, an upgrade that keeps what is
//! there, retention by partition.

use std::time::Duration;

use meshscope::model::{AlertState, AlertTransition, Matcher, Timestamp};
use meshscope::store::{
    AlertHistoryQuery, NewNotification, NotificationFate, NotificationQuery, RetentionConfig, Store,
};

use crate::postgres;
use crate::store_tables::{labels, noon};

const DAY: Duration = Duration::from_secs(86_400);

fn event(at: Timestamp, service: &str, to: AlertState) -> AlertTransition {
    AlertTransition {
        at,
        group: "rules.yaml;mesh".into(),
        labels: labels(&[("alertname", "Errors"), ("service", service)]),
        annotations: labels(&[("summary", "it burns")]),
        from: AlertState::Inactive,
        to,
        value: 2.5,
    }
}

fn query(limit: usize) -> AlertHistoryQuery {
    AlertHistoryQuery {
        from: noon() - DAY * 500,
        to: noon() + DAY,
        fingerprint: None,
        to_state: None,
        matchers: Vec::new(),
        text: String::new(),
        before: None,
        limit,
    }
}

async fn read_by_pages(store: &Store, mut query: AlertHistoryQuery) -> Vec<AlertTransition> {
    let mut all = Vec::new();
    loop {
        let page = store.alert_history(&query).await.expect("read");
        assert!(page.events.len() <= query.limit);
        all.extend(page.events);
        match page.next {
            Some(next) => query.before = Some(next),
            None => return all,
        }
    }
}

#[tokio::test]
async fn pages_of_the_history_follow_each_other_without_gap_or_overlap() {
    let store = postgres::store().await;
    // Many at one time, so that the time alone does not tell where a page ended; written twice, as after a crash.
    let mut events: Vec<AlertTransition> =
        (0..25).map(|i| event(noon() + Duration::from_secs(i / 10), &format!("s{i}"), AlertState::Firing)).collect();
    events.push(event(noon() + Duration::from_secs(1), "s3", AlertState::Inactive));
    for _ in 0..2 {
        store.append_alert_events(&events).await.expect("append");
    }
    for limit in [1, 7, 26, 100] {
        let read = read_by_pages(&store, query(limit)).await;
        assert_eq!(read.len(), 26, "limit {limit}");
        assert!(events.iter().all(|event| read.contains(event)), "limit {limit}");
        assert!(read.windows(2).all(|pair| pair[0].at >= pair[1].at), "newest first");
    }
    let of = |change: fn(&mut AlertHistoryQuery)| {
        let mut query = query(100);
        change(&mut query);
        query
    };
    let count = async |query: AlertHistoryQuery| read_by_pages(&store, query).await.len();
    assert_eq!(count(of(|q| q.matchers = vec![Matcher::equal("service", "s3")])).await, 2);
    assert_eq!(count(of(|q| q.matchers = vec![Matcher::equal("service", "")])).await, 0);
    assert_eq!(count(of(|q| q.to_state = Some(AlertState::Inactive))).await, 1);
    assert_eq!(count(of(|q| q.text = "burns".into())).await, 26);
    assert_eq!(count(of(|q| q.text = "s24".into())).await, 1);
    let id = events[3].labels.fingerprint();
    assert_eq!(count(AlertHistoryQuery { fingerprint: Some(id), ..query(1) }).await, 2);
    let values = store.alert_values(&[(events[3].at, id), (noon() - DAY, id)]).await.expect("read");
    assert_eq!(values, [(events[3].at, id, 2.5)]);
}

#[tokio::test]
async fn the_upgrade_keeps_the_history_and_retention_drops_partitions() {
    let config = postgres::empty_database().await;
    let mut outside = postgres::connection(&config).await;
    for migration in sqlx::migrate!().iter().filter(|migration| migration.version < 21) {
        sqlx::raw_sql(migration.sql.clone()).execute(&mut outside).await.expect("an old migration");
    }
    sqlx::raw_sql(
        "INSERT INTO alert_event (at, fingerprint, group_name, to_state, from_state, alertname, labels, annotations, value)
         SELECT timestamptz '2026-01-15 12:00Z' - interval '1 day' * i, i, 'g', 'firing', 'pending', 'Old', '{}', '{}', i
         FROM generate_series(0, 499) i",
    )
    .execute(&mut outside)
    .await
    .expect("old rows");
    for migration in sqlx::migrate!().iter().filter(|migration| migration.version == 21) {
        sqlx::raw_sql(migration.sql.clone()).execute(&mut outside).await.expect("the migration");
    }
    let count = async |connection: &mut sqlx::postgres::PgConnection, table: &str| -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(connection).await.expect("count")
    };
    assert_eq!(count(&mut outside, "alert_event").await, 500, "all is there after the upgrade");
    drop(outside);

    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let mut outside = postgres::connection(&config).await;
    let ages: Vec<u32> = vec![0, 1, 29, 200, 399, 450, 499];
    let events: Vec<AlertTransition> =
        ages.iter().map(|age| event(noon() - DAY * *age, "cart", AlertState::Firing)).collect();
    store.append_alert_events(&events).await.expect("append");
    let retention = RetentionConfig::default();
    store.maintain(&retention, noon()).await.expect("maintain");
    assert_eq!(read_by_pages(&store, query(100)).await.len(), 5, "what is younger than 400 days stays");
    assert_eq!(count(&mut outside, "alert_event_other").await, 0, "each row is in a partition of its own time");
    store.append_alert_events(&events[..5]).await.expect("written again");
    assert_eq!(read_by_pages(&store, query(100)).await.len(), 5);
    let later = store.maintain(&retention, noon() + DAY * 260).await.expect("maintain");
    assert!(later.dropped >= 2, "{later:?}");
    assert_eq!(read_by_pages(&store, query(100)).await.len(), 3);
}

fn notification(key: &str, receiver: &str, firing: &str) -> NewNotification {
    NewNotification {
        dedup_key: key.into(),
        receiver: receiver.into(),
        integration: "0".into(),
        group_key: format!("{{}}:{{alertname=\"{key}\"}}"),
        kind: "webhook".into(),
        payload: serde_json::json!({"alerts": []}),
        body: Some(format!("body of {key} 100% <b>")),
        told: Some(serde_json::json!({"firing": [firing], "resolved": [], "at_ms": 1})),
        created_at: noon(),
        subject: format!("summary of {key} 100% <i>"),
    }
}

#[tokio::test]
async fn the_outbox_is_searched_summed_up_and_given_up() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let mut ids = Vec::new();
    for (key, receiver, alert) in
        [("a", "ops", "00000000000000aa"), ("b", "ops", "00000000000000bb"), ("c", "dev", "00000000000000aa")]
    {
        ids.push(store.insert_notification(&notification(key, receiver, alert)).await.expect("insert"));
    }
    store.mark_sent(ids[0], noon() + Duration::from_secs(3)).await.expect("sent");
    store.mark_failed(ids[1], noon(), "unexpected status code 500: <html>", None).await.expect("failed");
    let search = async |query: NotificationQuery| -> Vec<i64> {
        let found = store.search_notifications(&NotificationQuery { limit: 10, ..query }).await.expect("search");
        found.into_iter().map(|one| one.id).collect()
    };
    let any = NotificationQuery::default;
    assert_eq!(search(any()).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(search(NotificationQuery { before: Some(ids[2]), ..any() }).await, [ids[1], ids[0]]);
    assert_eq!(search(NotificationQuery { told: Some(0xaa), ..any() }).await, [ids[2], ids[0]]);
    assert_eq!(search(NotificationQuery { receiver: Some("dev".into()), ..any() }).await, [ids[2]]);
    assert_eq!(search(NotificationQuery { text: Some("Summary of A 100%".into()), ..any() }).await, [ids[0]]);
    assert_eq!(
        search(NotificationQuery { text: Some("body of".into()), ..any() }).await,
        [0; 0],
        "bodies are not read"
    );
    let sql = "UPDATE notification SET subject = NULL WHERE notification_id = $1";
    let mut outside = postgres::connection(&config).await;
    sqlx::query(sql).bind(ids[1]).execute(&mut outside).await.expect("a row of an earlier version");
    assert_eq!(search(NotificationQuery { text: Some("BODY of".into()), ..any() }).await, [ids[1]], "but of old rows");
    assert_eq!(search(NotificationQuery { text: Some("code 500".into()), ..any() }).await, [ids[1]]);
    for (fate, id) in
        [(NotificationFate::Sent, ids[0]), (NotificationFate::Failed, ids[1]), (NotificationFate::Waiting, ids[2])]
    {
        assert_eq!(search(NotificationQuery { fate: Some(fate), ..any() }).await, [id]);
    }
    let summed = store.summarize_receivers(noon() - DAY).await.expect("sum up");
    let ops = summed.iter().find(|one| one.receiver == "ops").expect("ops");
    assert_eq!((ops.sent, ops.failed, ops.waiting), (1, 1, 0));
    assert_eq!(ops.latency_p50, Some(Duration::from_secs(3)));
    assert_eq!(ops.last_error.as_deref(), Some("unexpected status code 500: <html>"));
    assert!(store.give_up_notification(ids[2], noon(), "dropped by hand").await.expect("give up"));
    assert!(!store.give_up_notification(ids[2], noon(), "again").await.expect("only once"));
    assert!(!store.give_up_notification(ids[0], noon(), "sent").await.expect("not what was delivered"));
}
