//! The lease of the leader, and the fence: whoever lost the one does not get past the other.

use meshscope::model::Timestamp;
use meshscope::store::{Lease, NewJournalEntry, Replica, Store, StoreError};

use crate::app::eventually;
use crate::postgres;

fn entry(byte: u8) -> NewJournalEntry {
    let (from, to) = (Timestamp::from_millis(1000), Timestamp::from_millis(2000));
    NewJournalEntry { from, to, sample_count: 1, starts_epoch: true, bytes: vec![byte] }
}

fn replica(store: &Store, name: &str) -> Replica {
    let (id, name, host) = (store.replica_id().to_owned(), name.to_owned(), "127.0.0.1".to_owned());
    Replica { id, name, host, web_port: 7070, grpc_port: 4317, http_port: 4318, is_https: false }
}

async fn leads(store: &Store, breaking: Option<i64>) -> Lease {
    store.lead(breaking).await.expect("the server answers").expect("nobody else leads")
}

async fn writes(store: &Store, byte: u8) -> bool {
    match store.append_journal(&[entry(byte)]).await {
        Ok(()) => true,
        Err(StoreError::NotLeader { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn one_leads_the_others_do_not_and_the_next_does_when_it_ends() {
    let config = postgres::database().await;
    let (one, two) = (postgres::connect(&config).await, postgres::connect(&config).await);
    assert_eq!(one.leadership().await.expect("an answer"), None);
    assert!(writes(&one, 1).await, "nobody has said who leads: a loader");
    let mut lease = leads(&one, None).await;
    assert!(two.lead(None).await.expect("an answer").is_none());
    assert!(one.beat(&mut lease, &replica(&one, "one")).await.expect("a beat"));
    two.follow();
    two.announce(&replica(&two, "two")).await.expect("announce");
    let names: Vec<String> = one.replicas().await.expect("replicas").into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!((writes(&one, 2).await, writes(&two, 3).await), (true, false));
    let seen = two.leadership().await.expect("an answer").expect("a leader");
    assert_eq!((seen.epoch, seen.replica_id.as_str(), seen.is_locked), (1, one.replica_id(), true));
    assert!(seen.silent_for.as_secs() < 5 && !seen.is_released, "{seen:?}");
    one.release(lease).await.expect("release");
    assert!(two.leadership().await.expect("an answer").expect("the last leader").is_released);
    let mut lease = None;
    while lease.is_none() {
        lease = two.lead(None).await.expect("an answer"); // the session that held the lock ends within milliseconds
    }
    assert_eq!(lease.map(|lease| lease.epoch()), Some(2));
    assert_eq!((writes(&one, 4).await, writes(&two, 5).await), (false, true));
}

#[tokio::test]
async fn a_leader_that_was_silent_and_comes_back_writes_nothing() {
    let config = postgres::database().await;
    let (paused, next) = (postgres::connect(&config).await, postgres::connect(&config).await);
    let mut lease = leads(&paused, None).await;
    assert!(writes(&paused, 1).await);
    // It holds its lock and has a transaction under way when it is paused.
    let writer = paused.write_chunks().await.expect("a transaction");
    let taken = leads(&next, Some(lease.epoch())).await;
    assert_eq!(taken.epoch(), 2);
    assert!(writer.finish().await.is_err(), "what it had under way is rolled back");
    // Its sessions were ended, so the first call of each may fail; none gets through.
    for byte in 2..6 {
        match paused.append_journal(&[entry(byte)]).await {
            Ok(()) => panic!("a stale leader has written"),
            Err(error) => assert!(error.is_temporary(), "what it holds must not be thrown away: {error}"),
        }
    }
    assert!(!writes(&paused, 6).await);
    let me = replica(&paused, "paused");
    let again = match paused.beat(&mut lease, &me).await {
        Ok(leads) => leads,
        Err(_) => paused.beat(&mut lease, &me).await.expect("connected anew"),
    };
    assert!(!again, "it learns that it does not lead any more");
    assert!(writes(&next, 7).await);
    let stored = next.journal_page(0, 100).await.expect("the journal");
    assert_eq!(stored.iter().map(|row| row.entry.bytes[0]).collect::<Vec<_>>(), [1, 7]);
}

#[tokio::test]
async fn a_leader_that_only_lost_its_connection_goes_on() {
    let config = postgres::database().await;
    let (one, two) = (postgres::connect(&config).await, postgres::connect(&config).await);
    let mut lease = leads(&one, None).await;
    let mut connection = postgres::connection(&config).await;
    sqlx::raw_sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
        .execute(&mut connection)
        .await
        .expect("terminate");
    let me = replica(&one, "one");
    assert!(one.beat(&mut lease, &me).await.is_err(), "the connection is gone");
    eventually("the session has ended", async || {
        let seen = two.leadership().await.expect("an answer").expect("a leader");
        (!seen.is_locked).then_some(())
    })
    .await;
    assert!(one.beat(&mut lease, &me).await.expect("connected anew"));
    assert!(two.lead(None).await.expect("an answer").is_none(), "it has its lock again");
    assert!(writes(&one, 1).await);
}
