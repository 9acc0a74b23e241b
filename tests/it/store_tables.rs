//! Every table: what is written is what is read, written twice is written once, and what is old goes.

use std::time::Duration;

use meshscope::model::span::{SpanBatch, TracePart};

use meshscope::model::workload::{LatencyHistogram, MeshKind, Outcome, Protocol, Reporter, Security, Service};
use meshscope::model::{
    Alert, AlertState, AlertTransition, EdgeKey, EdgeMinute, Finding, Labels, MatchOp, Matcher, Severity, Timestamp,
    Workload, span_key,
};
use meshscope::store::{
    AlertQuery, ChangeQuery, Chunk, ChunkTier, ChunkWriter, NewJournalEntry, NewNotification, NotifyLogEntry,
    RetentionConfig, RollupTier, SeriesNames, Silence, StoreError, StoredAlert, StoredGeneration, TraceSearch,
    label_set_id,
};
use sqlx::Row;

use crate::postgres;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// 2026-01-15T10:00:00Z.
pub fn noon() -> Timestamp {
    Timestamp::from_millis(1_768_471_200_000)
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

pub fn chunk(labels: &Labels, from: Timestamp, seconds: u64, bytes: &[u8]) -> Chunk {
    let to = from + Duration::from_secs(seconds);
    Chunk { label_set: label_set_id(labels), from, to, sample_count: 10, bytes: bytes.to_vec() }
}

/// One series of each chunk, with its name and `le` among the labels.
fn names(labels: &Labels, chunk: &Chunk) -> SeriesNames {
    let series = vec![(labels.metric_name().to_owned(), labels.value("le").to_owned())];
    SeriesNames { labels: labels.clone(), label_set: chunk.label_set, series, last: chunk.to }
}

async fn write(writer: &mut ChunkWriter, chunks: &[(Labels, Chunk)]) -> Result<(), StoreError> {
    let named: Vec<SeriesNames> = chunks.iter().map(|(labels, chunk)| names(labels, chunk)).collect();
    writer.name(&named).await?;
    writer.write(ChunkTier::Raw, chunks.iter().map(|(_, chunk)| chunk.clone()).collect()).await
}

pub async fn write_all(store: &meshscope::store::Store, chunks: &[(Labels, Chunk)]) {
    let mut writer = store.write_chunks().await.expect("begin");
    write(&mut writer, chunks).await.expect("write");
    writer.finish().await.expect("finish");
}

/// The labels of the series that satisfy the matchers, and the chunks of their label sets in the range, sorted.
async fn select(
    store: &meshscope::store::Store,
    matchers: &[Matcher],
    (from, to): (Timestamp, Timestamp),
) -> (Vec<String>, Vec<Chunk>) {
    let found = store.find_series(matchers, from).await.expect("find");
    let ids: Vec<i64> = found.keys().copied().collect();
    let (sender, mut batches) = tokio::sync::mpsc::channel(1000);
    store.read_chunks(ChunkTier::Raw, &ids, (from, to), &sender).await.expect("read");
    drop(sender);
    let mut chunks: Vec<Chunk> = Vec::new();
    while let Some(batch) = batches.recv().await {
        chunks.extend(batch);
    }
    chunks.sort_by_key(|chunk| (chunk.label_set, chunk.from));
    let mut names: Vec<String> = found.into_values().flatten().map(|series| series.labels.to_string()).collect();
    names.sort();
    (names, chunks)
}

pub fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).expect("a valid matcher")
}

pub fn edge_minute(minute: Timestamp, reporter: Reporter, source: &str, destination: &str) -> EdgeMinute {
    let workload =
        |name: &str| Workload { namespace: Some("shop".into()), name: Some(name.into()), ..Workload::default() };
    EdgeMinute {
        minute,
        edge: std::sync::Arc::new(EdgeKey {
            mesh: MeshKind::Istio,
            reporter,
            protocol: Protocol::Http,
            source: workload(source),
            destination: workload(destination),
            service: Service { name: Some(destination.into()), namespace: Some("shop".into()), host: None },
            source_principal: None,
            destination_principal: Some("spiffe://cluster.local/ns/shop/sa/x".into()),
            security: Security::Unknown,
        }),
        requests: vec![
            (Outcome { code: "200".into(), grpc_status: "".into(), flags: "-".into() }, 90.0),
            (Outcome { code: "503".into(), grpc_status: "".into(), flags: "UF,URX".into() }, 10.0),
        ],
        latency: LatencyHistogram {
            bounds_ms: [5.0, 10.0, 25.0].into(),
            counts: vec![50.0, 30.0, 15.0, 5.0],
            sum_ms: 812.5,
        },
        request_bytes: 1000.0,
        response_bytes: 2000.5,
        connections_closed: 0.0,
        request_messages: 0.0,
        response_messages: 0.0,
    }
}

#[tokio::test]
async fn the_journal_keeps_order_and_is_trimmed_by_whole_epochs() {
    let store = postgres::store().await;
    let entry = |minute: u64, starts_epoch: bool| NewJournalEntry {
        from: noon() + Duration::from_secs(minute * 60),
        to: noon() + Duration::from_secs(minute * 60 + 59),
        sample_count: minute,
        starts_epoch,
        bytes: vec![7; 10 + minute as usize],
    };
    let entries = [entry(0, true), entry(1, false), entry(2, true), entry(3, false), entry(4, true)];
    store.append_journal(&entries[..2]).await.expect("append");
    store.append_journal(&entries[1..]).await.expect("append, one for the second time");
    let read = async || {
        let (mut read, mut after) = (Vec::new(), 0);
        loop {
            let page = store.journal_page(after, 2).await.expect("read");
            let Some(last) = page.last() else { return read };
            after = last.seq;
            read.extend(page.into_iter().map(|row| (row.seq, row.entry)));
        }
    };
    let all = read().await;
    assert_eq!(all.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(), entries);
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));

    // The boundary lies in the second epoch: only the first goes.
    let close = async |until: Timestamp| {
        let end = store.journal_end().await.expect("the end");
        let mut writer = store.write_chunks().await.expect("begin");
        let trimmed = writer.close(until, end).await.expect("close");
        writer.finish().await.expect("finish");
        trimmed
    };
    let minutes = |n: u64| noon() + Duration::from_secs(n * 60);
    assert_eq!(close(minutes(3)).await, 2);
    assert_eq!(read().await.len(), 3);
    assert_eq!(store.chunked_until().await.expect("boundary"), Some(minutes(3)));
    // An entry that comes after the cut stays, whatever its time, and with it the epoch that it belongs to.
    let end = store.journal_end().await.expect("the end");
    let mut writer = store.write_chunks().await.expect("begin");
    let late = NewJournalEntry { bytes: vec![1], ..entry(1, false) };
    store.append_journal(&[late]).await.expect("append");
    assert_eq!(writer.close(minutes(10), end).await.expect("close"), 2);
    writer.finish().await.expect("finish");
    assert_eq!(read().await.iter().map(|(_, e)| e.sample_count).collect::<Vec<_>>(), [4, 1]);
    // The boundary never goes back.
    close(noon()).await;
    assert_eq!(store.chunked_until().await.expect("boundary"), Some(minutes(10)));
}

#[tokio::test]
async fn chunks_count_only_when_they_are_finished() {
    let store = postgres::store().await;
    let up = labels(&[("__name__", "up")]);
    for finished in [false, true] {
        let mut writer = store.write_chunks().await.expect("begin");
        write(&mut writer, &[(up.clone(), chunk(&up, noon(), 60, b"1"))]).await.expect("write");
        write(&mut writer, &[(up.clone(), chunk(&up, noon() + HOUR * 2, 60, b"2"))]).await.expect("write");
        let key = (label_set_id(&up), noon());
        assert_eq!(writer.read(ChunkTier::Raw, &[key]).await.expect("read").len(), 1);
        writer.close(noon() + HOUR * 4, 0).await.expect("close");
        match finished {
            true => writer.finish().await.expect("finish"),
            false => drop(writer),
        }
        let (_, chunks) = select(&store, &[Matcher::equal("__name__", "up")], (noon(), noon() + DAY)).await;
        assert_eq!(
            (chunks.len(), store.chunked_until().await.expect("boundary").is_some()),
            (2 * usize::from(finished), finished)
        );
    }
}

#[tokio::test]
async fn chunks_are_found_by_matchers_and_range_and_written_once() {
    let store = postgres::store().await;
    let (a, b) = (labels(&[("__name__", "up"), ("job", "a")]), labels(&[("__name__", "up"), ("job", "b\0\"\\é")]));
    let bucket = |le: &str| labels(&[("__name__", "lat_bucket"), ("job", "a"), ("le", le)]);
    let chunks = [
        (a.clone(), chunk(&a, noon(), 7000, b"a1")),
        (bucket("5"), chunk(&a, noon() + HOUR * 2, 7000, b"a2")),
        (bucket("+Inf"), chunk(&a, noon() + HOUR * 4, 7000, b"a3")),
        (b.clone(), chunk(&b, noon(), 7000, &[0; 5000])),
    ];
    for _ in 0..2 {
        write_all(&store, &chunks).await;
    }
    let select = async |matchers: Vec<Matcher>, from: Timestamp, to: Timestamp| {
        let (names, chunks) = select(&store, &matchers, (from, to)).await;
        (names, chunks.into_iter().map(|chunk| chunk.bytes).collect::<Vec<_>>())
    };
    let name = |name: &str| matcher(MatchOp::Equal, "__name__", name);
    let of_a = vec![name("up"), matcher(MatchOp::Equal, "job", "a")];
    let both = select(of_a.clone(), noon(), noon() + HOUR * 3).await;
    assert_eq!(both, (vec![a.to_string()], vec![b"a1".to_vec(), b"a2".to_vec()]));
    // The chunk that holds the moment, though it began before.
    let moment = noon() + HOUR;
    assert_eq!(select(of_a, moment, moment).await.1, [b"a1".to_vec()]);
    let (names, one) = select(vec![name("up"), matcher(MatchOp::NotEqual, "job", "a")], moment, moment).await;
    assert_eq!(one, [vec![0; 5000]], "NUL in a value is stored as U+FFFD: {names:?}");
    let some = [matcher(MatchOp::Regex, "__name__", "lat.*"), matcher(MatchOp::Regex, "le", "5|10")];
    assert_eq!(select(some.to_vec(), moment, moment).await.0, [bucket("5").to_string()]);
    assert_eq!(select(vec![matcher(MatchOp::Equal, "le", ""), name("lat_bucket")], moment, moment).await.0, [""; 0]);
    assert!(select(vec![name("up")], noon() - HOUR * 2, noon() - HOUR).await.1.is_empty());
    let mut series = store.stored_series(&[name("lat_bucket")], (moment, moment)).await.expect("series");
    series.sort();
    assert_eq!(series, [bucket("+Inf"), bucket("5")]);

    let mut writer = store.write_chunks().await.expect("begin");
    let too_long = writer.write(ChunkTier::Raw, vec![chunk(&a, noon(), 90_000, b"")]).await;
    assert!(!too_long.expect_err("25 h").is_temporary());
}

#[tokio::test]
async fn copy_and_unnest_store_the_same() {
    let (few, many) = (postgres::store().await, postgres::store().await);
    let chunks: Vec<(Labels, Chunk)> = (0..6000_u32)
        .map(|i| {
            let labels =
                labels(&[("__name__", "m"), ("job", &format!("j{}\\\"{{}}é", i % 100)), ("le", &i.to_string())]);
            let at = noon() + Duration::from_millis(u64::from(i));
            (labels.clone(), chunk(&labels, at, u64::from(i), &i.to_be_bytes()))
        })
        .collect();
    for part in chunks.chunks(1000) {
        write_all(&few, part).await; // by UNNEST
    }
    write_all(&many, &chunks).await; // by COPY
    write_all(&many, &chunks).await; // by COPY again, which merges
    let parts: Vec<SpanBatch> = vec![span_batch(0, 6000)];
    for _ in 0..2 {
        many.write_spans(parts.clone()).await.expect("write by COPY");
    }
    for part in span_batch(0, 6000).parts.chunks(4000) {
        let (parts, keys) = (part.to_vec(), span_key::of_batch(part, Vec::new()));
        let batch = SpanBatch { bytes: part[0].trace_id.to_vec(), parts, keys, ..span_batch(0, 6000) };
        few.write_spans(vec![batch]).await.expect("write by UNNEST");
    }
    let minutes: Vec<EdgeMinute> =
        (0..6000).map(|i| edge_minute(noon(), Reporter::Source, &format!("s{i}"), "d\"{}\\")).collect();
    for _ in 0..2 {
        many.write_edges(minutes.clone()).await.expect("write by COPY");
    }
    for part in minutes.chunks(1000) {
        few.write_edges(part.to_vec()).await.expect("write by UNNEST");
    }
    let all = async |store: &meshscope::store::Store| {
        let name = [matcher(MatchOp::Equal, "__name__", "m")];
        let chunks = select(store, &name, (noon(), noon() + DAY)).await;
        let mut edges = store.edges(RollupTier::Minutes, noon(), noon() + HOUR).await.expect("edges");
        edges.sort_by(|a, b| a.edge.cmp(&b.edge));
        let search = TraceSearch { limit: 10_000, ..any_trace() };
        let mut traces = store.search_traces(&search).await.expect("search");
        traces.sort_by_key(|trace| trace.trace_id);
        (chunks, edges, traces)
    };
    let (a, b) = (all(&few).await, all(&many).await);
    assert_eq!((a.0.0.len(), a.0.1.len(), a.1.len(), a.2.len()), (6000, 6000, 6000, 6000));
    assert!(a.0 == b.0, "chunks differ");
    assert!(a.1 == b.1, "edges differ");
    assert!(a.2 == b.2, "traces differ");
    assert_eq!(a.1.len(), minutes.len());
    assert!(
        minutes
            .iter()
            .all(|minute| a.1.binary_search_by(|m| m.edge.cmp(&minute.edge)).is_ok_and(|i| a.1[i] == *minute))
    );
}

#[tokio::test]
async fn a_minute_written_again_replaces_the_first() {
    let store = postgres::store().await;
    let mut minute = edge_minute(noon(), Reporter::Source, "web", "cart");
    let tcp = EdgeMinute {
        requests: Vec::new(),
        latency: LatencyHistogram::default(),
        connections_closed: 3.0,
        request_messages: 5.0,
        response_messages: 6.0,
        ..edge_minute(noon(), Reporter::Destination, "web", "db")
    };
    store.write_edges(vec![minute.clone(), tcp.clone()]).await.expect("write");
    minute.requests[0].1 = 120.0;
    minute.latency.counts[0] = 80.0;
    store.write_edges(vec![minute.clone()]).await.expect("write again");
    let mut found = store.edges(RollupTier::Minutes, noon(), noon() + HOUR).await.expect("read");
    found.sort_by(|a, b| a.edge.cmp(&b.edge));
    assert_eq!(found, [minute.clone(), tcp]);
    assert_eq!(store.edges(RollupTier::Minutes, noon() - HOUR, noon()).await.expect("read"), []);
    // Of one edge and minute given twice in one write, the sum.
    let next = edge_minute(noon() + Duration::from_secs(60), Reporter::Source, "web", "cart");
    store.write_edges(vec![next.clone(), next.clone()]).await.expect("write");
    let from = next.minute;
    let found = store.edges(RollupTier::Minutes, from, from + HOUR).await.expect("read");
    assert_eq!((found.len(), found[0].requests[0].1, found[0].latency.sum_ms), (1, 180.0, 1625.0));
}

#[tokio::test]
async fn hours_are_the_sums_of_their_minutes_and_rolled_once() {
    let store = postgres::store().await;
    let minutes: Vec<EdgeMinute> =
        (0..90).map(|i| edge_minute(noon() + Duration::from_secs(60 * i), Reporter::Source, "web", "cart")).collect();
    store.write_edges(minutes).await.expect("write");
    let settle = Duration::from_secs(600);
    assert_eq!(store.roll_hours(noon() + HOUR + settle, settle).await.expect("roll"), 1);
    assert_eq!(store.roll_hours(noon() + HOUR + settle, settle).await.expect("roll again"), 0);
    let hours = store.edges(RollupTier::Hours, noon(), noon() + HOUR * 3).await.expect("read");
    assert_eq!(hours.len(), 1);
    assert_eq!((hours[0].minute, hours[0].requests[1].1), (noon(), 600.0));
    assert_eq!(hours[0].latency.counts, [3000.0, 1800.0, 900.0, 300.0]);
    let totals = store.edge_totals(RollupTier::Minutes, noon(), noon() + HOUR * 2).await.expect("sum");
    assert_eq!((totals.len(), totals[0].request_bytes), (1, 90_000.0));
}

fn span_batch(number: u32, traces: u32) -> SpanBatch {
    let start_ns = noon().as_millis() as u64 * 1_000_000;
    let part = |i: u32| TracePart {
        trace_id: std::array::from_fn(|at| if at < 12 { 9 } else { i.to_be_bytes()[at - 12] }),
        start_ns: start_ns + u64::from(i) * 1_000_001,
        end_ns: start_ns + u64::from(i) * 2_000_001 + 5,
        span_count: 3,
        error_count: i % 2,
        longest_ns: u64::from(i) * 1_000_000,
        root_service: Some("front".into()),
        root_name: None,
        services: vec!["cart".into(), format!("s{}\"\\", i % 10).into()],
        operations: vec!["GET /".into(), format!("op{i}").into()],
    };
    let parts: Vec<TracePart> = (0..traces).map(part).collect();
    SpanBatch {
        bytes: number.to_be_bytes().to_vec(),
        from_ns: start_ns,
        to_ns: start_ns + u64::from(traces) * 1_000_001,
        span_count: traces * 3,
        keys: span_key::of_batch(&parts, Vec::new()),
        parts,
    }
}

fn any_trace() -> TraceSearch {
    TraceSearch::any(noon() - HOUR, noon() + HOUR, 20)
}

#[tokio::test]
async fn traces_are_found_by_id_and_by_what_is_searchable() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let batch = span_batch(1, 100);
    // A second part of trace 7, in another batch, an hour later, with the root's operation and another service.
    let late = TracePart {
        start_ns: batch.parts[7].start_ns + 1_000,
        end_ns: batch.parts[7].end_ns + 3_600_000_000_000,
        root_name: Some("GET /late".into()),
        services: vec!["late".into()],
        operations: vec!["late op".into()],
        ..batch.parts[7].clone()
    };
    let keys = span_key::of_batch(std::slice::from_ref(&late), Vec::new());
    let second = SpanBatch { bytes: vec![2], parts: vec![late.clone()], keys, ..batch.clone() };
    for _ in 0..2 {
        store.write_spans(vec![batch.clone(), second.clone()]).await.expect("write");
    }
    assert_eq!(store.trace(late.trace_id).await.expect("read").len(), 2);
    assert_eq!(store.trace(batch.parts[8].trace_id).await.expect("read"), std::slice::from_ref(&batch.bytes));
    assert_eq!(store.trace([0; 16]).await.expect("read"), Vec::<Vec<u8>>::new());

    let search = async |search: TraceSearch| store.search_traces(&search).await.expect("search");
    let newest = search(any_trace()).await;
    assert_eq!(newest.len(), 20);
    assert_eq!((newest[0].trace_id, newest[19].trace_id), (batch.parts[99].trace_id, batch.parts[80].trace_id));
    let whole = search(TraceSearch { service: Some("late".into()), ..any_trace() }).await;
    assert_eq!(whole.len(), 1);
    assert_eq!((whole[0].span_count, whole[0].error_count), (6, 2));
    assert_eq!((whole[0].start_ns, whole[0].end_ns), (batch.parts[7].start_ns, late.end_ns));
    assert_eq!((whole[0].root_service.as_deref(), whole[0].root_name.as_deref()), (Some("front"), Some("GET /late")));
    assert_eq!(whole[0].services, ["cart".into(), "late".into(), "s7\"\\".into()]);
    let count = async |wanted: TraceSearch| search(TraceSearch { limit: 1000, ..wanted }).await.len();
    assert_eq!(count(TraceSearch { service: Some("s3\"\\".into()), ..any_trace() }).await, 10);
    assert_eq!(count(TraceSearch { operation: Some("op42".into()), ..any_trace() }).await, 1);
    assert_eq!(count(TraceSearch { error_only: true, ..any_trace() }).await, 50);
    assert_eq!(count(TraceSearch { duration_ns_min: Some(3_600_000_000_000), ..any_trace() }).await, 1);
    assert_eq!(count(TraceSearch { duration_ns_max: Some(10_000_005), ..any_trace() }).await, 10);
    assert_eq!(count(TraceSearch { to: noon(), ..any_trace() }).await, 1);
    let services = store.span_services(noon() - HOUR, noon() + HOUR).await.expect("services");
    assert_eq!((services.len(), services[0].as_str()), (13, "cart"));
    assert_eq!(store.span_operations("late", noon() - HOUR, noon() + HOUR).await.expect("operations"), ["late op"]);

    let mut connection = postgres::connection(&database).await;
    let view =
        "SELECT count(*) OVER (), trace_id, start_at, duration_ms::float8, span_count, error_count, longest_ms::float8,
                       root_service, root_name, services, operations, batch_at >= start_at AS in_time
                FROM span_search ORDER BY services @> '{late}', start_at DESC LIMIT 1 OFFSET 91";
    let row = sqlx::query(view).fetch_one(&mut connection).await.expect("a row");
    let part = &batch.parts[8];
    assert_eq!(row.get::<i64, _>(0), 101);
    assert_eq!(row.get::<String, _>("trace_id"), meshscope::model::span::hex(&part.trace_id));
    let start: chrono::DateTime<chrono::Utc> = row.get("start_at");
    assert_eq!(start.timestamp_micros() as u64, part.start_ns / 1000);
    let numbers = (row.get::<f64, _>("duration_ms"), row.get::<f64, _>("longest_ms"));
    assert_eq!(numbers, ((part.end_ns - part.start_ns) as f64 / 1e6, part.longest_ns as f64 / 1e6));
    assert_eq!((row.get::<i32, _>("span_count"), row.get::<i32, _>("error_count")), (3, 0));
    assert_eq!(row.get::<Option<String>, _>("root_service").as_deref(), Some("front"));
    assert_eq!(row.get::<Option<String>, _>("root_name"), None);
    let texts = |names: &[std::sync::Arc<str>]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(row.get::<Vec<String>, _>("services"), texts(&part.services));
    assert_eq!(row.get::<Vec<String>, _>("operations"), texts(&part.operations));
    assert!(row.get::<bool, _>("in_time"));
}

#[tokio::test]
async fn alert_history_and_state_come_back() {
    let store = postgres::store().await;
    let event = |seconds: u64, name: &str, to: AlertState| AlertTransition {
        at: noon() + Duration::from_secs(seconds),
        group: "rules.yaml;mesh".into(),
        labels: labels(&[("alertname", name), ("service", "cart")]),
        annotations: labels(&[("summary", "it \"burns\"")]),
        from: AlertState::Pending,
        to,
        value: f64::INFINITY,
    };
    let events =
        [event(0, "A", AlertState::Firing), event(60, "B", AlertState::Firing), event(120, "A", AlertState::Inactive)];
    for _ in 0..2 {
        store.append_alert_events(&events).await.expect("append");
    }
    let query = |matchers: Vec<Matcher>, limit: usize| AlertQuery { from: noon(), to: noon() + HOUR, matchers, limit };
    let all = store.alert_events(&query(Vec::new(), 10)).await.expect("read");
    assert_eq!(all, [events[2].clone(), events[1].clone(), events[0].clone()]);
    let of_a = query(vec![Matcher::equal("alertname", "A"), Matcher::equal("service", "cart")], 1);
    assert_eq!(store.alert_events(&of_a).await.expect("read"), [events[2].clone()]);

    let alert = Alert {
        labels: events[0].labels.clone(),
        annotations: events[0].annotations.clone(),
        state: AlertState::Firing,
        value: 0.25,
        active_at: noon(),
        fired_at: Some(noon() + HOUR),
        resolved_at: None,
        keep_firing_since: Some(noon()),
        valid_until: noon() + DAY,
        generator_url: "/explore?q=up".into(),
    };
    let stored = StoredAlert { group: "g".into(), alert };
    store.save_alerts(&[stored.clone(), stored.clone()]).await.expect("save");
    assert_eq!(store.saved_alerts().await.expect("read"), std::slice::from_ref(&stored));
    let ended =
        StoredAlert { alert: Alert { resolved_at: Some(noon() + HOUR), ..stored.alert.clone() }, ..stored.clone() };
    store.save_alerts(std::slice::from_ref(&ended)).await.expect("save the end");
    store.forget_alerts(noon() + HOUR).await.expect("forget what ended before");
    assert_eq!(store.saved_alerts().await.expect("read"), std::slice::from_ref(&ended));
    store.forget_alerts(noon() + DAY).await.expect("forget it");
    assert_eq!(store.saved_alerts().await.expect("read"), []);
}

#[tokio::test]
async fn a_notification_stays_in_the_outbox_until_it_is_sent_or_given_up() {
    let store = postgres::store().await;
    let new = |key: &str| NewNotification {
        dedup_key: key.into(),
        receiver: "team".into(),
        integration: "webhook[0]".into(),
        group_key: "{}:{alertname=\"A\"}".into(),
        kind: "slack".into(),
        payload: serde_json::json!({"alerts": [1, "x\0y"]}),
        body: Some("{\"b\":1,\"a\":2}\n".into()),
        told: Some(serde_json::json!({"firing": ["00ff"], "at_ms": 7})),
        created_at: noon(),
        subject: "a \0 cart".into(),
    };
    let first = store.insert_notification(&new("a")).await.expect("insert");
    let second = store.insert_notification(&new("b")).await.expect("insert");
    assert_eq!(store.insert_notification(&new("a")).await.expect("insert again"), first);
    let pending = async |at: Timestamp| {
        let rows = store.pending_notifications(at, 10).await.expect("pending");
        rows.into_iter().map(|row| (row.id, row.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(pending(noon()).await, [(first, 0), (second, 0)]);
    store.mark_failed(first, noon(), "500 from the webhook", Some(noon() + HOUR)).await.expect("mark");
    store.mark_sent(second, noon()).await.expect("mark");
    assert_eq!(pending(noon()).await, []);
    assert_eq!(pending(noon() + HOUR).await, [(first, 1)]);
    store.mark_failed(first, noon() + HOUR, "400", None).await.expect("mark");
    assert_eq!(pending(noon() + DAY).await, []);
    let rows = store.recent_notifications(10).await.expect("recent");
    assert_eq!(
        (rows[1].given_up_at, rows[1].attempts, rows[1].last_error.as_deref()),
        (Some(noon() + HOUR), 2, Some("400"))
    );
    assert_eq!(rows[0].sent_at, Some(noon()));
    let kept = &rows[0].notification;
    assert_eq!((kept.kind.as_str(), kept.body.as_deref()), ("slack", Some("{\"b\":1,\"a\":2}\n")), "byte for byte");
    assert_eq!(kept.told, Some(serde_json::json!({"firing": ["00ff"], "at_ms": 7})));
    assert_eq!(rows[0].notification.payload, serde_json::json!({"alerts": [1, "x\u{fffd}y"]}));

    let entry = |seconds: u64, hashes: Vec<u64>| NotifyLogEntry {
        group_key: "g".into(),
        receiver: "team/webhook/0".into(),
        sent_at: noon() + Duration::from_secs(seconds),
        firing_hashes: hashes,
        resolved_hashes: vec![u64::MAX],
        expires_at: noon() + DAY,
    };
    store.write_notify_log(&entry(5, vec![1, 2])).await.expect("write");
    store.write_notify_log(&entry(1, vec![])).await.expect("an older one changes nothing");
    assert_eq!(store.notify_log().await.expect("read"), [entry(5, vec![1, 2])]);
}

#[tokio::test]
async fn silences_come_back_with_their_matchers() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let silence = |comment: &str, seconds: u64| Silence {
        id: "7d8d".into(),
        matchers: vec![
            matcher(MatchOp::Equal, "service", "cart"),
            matcher(MatchOp::NotRegex, "severity", "page|critical"),
        ],
        starts_at: noon(),
        ends_at: noon() + HOUR,
        created_by: "on-call".into(),
        comment: comment.into(),
        updated_at: noon() + Duration::from_secs(seconds),
    };
    store.write_silence(&silence("new", 9)).await.expect("write");
    store.write_silence(&silence("old", 1)).await.expect("write an older one");
    let mut connection = postgres::connection(&config).await;
    for (id, matchers) in [("odd", "{}"), ("worse", r#"[{"name": "a", "op": "=~", "value": "("}]"#)] {
        let row = format!("INSERT INTO silence VALUES ('{id}', '{matchers}', now(), now(), 'x', 'x', now())");
        sqlx::query(sqlx::AssertSqlSafe(row)).execute(&mut connection).await.expect("insert");
    }
    let stored = store.silences().await.expect("damaged rows do not stop the others");
    assert_eq!(stored.silences, [silence("new", 9)]);
    assert!(stored.damaged[0].contains("`odd`") && stored.damaged[1].contains("`worse`"), "{:?}", stored.damaged);
}

#[tokio::test]
async fn generations_and_findings_make_a_timeline() {
    let store = postgres::store().await;
    let generation = |hours: u32, action: &str, body: Option<&str>| StoredGeneration {
        resource: "/VirtualService/shop/cart".into(),
        kind: "VirtualService".into(),
        namespace: Some("shop".into()),
        name: "cart".into(),
        seen_at: noon() + HOUR * hours,
        hash: u64::MAX - u64::from(hours),
        body: body.map(str::to_owned),
        revision: u64::from(hours) + 1,
        generation: (hours > 0).then_some(7),
        origin: "cluster".into(),
        action: action.into(),
        writer: body.map(|_| "helm\0".replace('\0', "\u{fffd}")),
        fields: (action == "changed").then(|| serde_json::json!({"fields": [], "left_out": 0})),
        effects: None,
    };
    let seen = [
        generation(0, "first", Some("a")),
        generation(1, "changed", Some("b")),
        generation(2, "deleted", None),
        generation(3, "created", Some("a")),
    ];
    assert_eq!(store.resource_heads().await.expect("read"), []);
    store.write_generations(&seen).await.expect("write");
    store.set_effects(&seen[1].resource, seen[1].seen_at, serde_json::json!(["x"])).await.expect("write");
    store.write_generations(&seen[1..]).await.expect("write again");
    let query = ChangeQuery {
        from: noon(),
        to: noon() + DAY,
        namespace: Some("shop".into()),
        kind: Some("VirtualService".into()),
        name: None,
        limit: 2,
    };
    let bare = |one: &StoredGeneration| StoredGeneration { body: None, ..one.clone() };
    let found = store.search_changes(&query).await.expect("search");
    assert_eq!(found, [bare(&seen[3]), bare(&seen[2])], "the newest, without bodies");
    let found = store.search_changes(&ChangeQuery { limit: 9, ..query.clone() }).await.expect("search");
    assert_eq!(found.len(), 3, "a first sight is no change");
    assert_eq!(found[2].effects, Some(serde_json::json!(["x"])), "a second write keeps what was judged");
    let other = ChangeQuery { namespace: Some("pay".into()), ..query };
    assert_eq!(store.search_changes(&other).await.expect("search"), []);
    let history = store.resource_history(&seen[0].resource, 9).await.expect("read");
    assert_eq!((history.len(), &history[0], &history[3]), (4, &seen[3], &seen[0]));
    let heads = store.resource_heads().await.expect("read");
    assert_eq!((heads.len(), heads[0].revision, heads[0].hash, heads[0].is_deleted), (1, 4, seen[3].hash, false));
    let bodies = store.resource_bodies(&[seen[0].resource.clone(), "/x/y/z".into()]).await.expect("read");
    assert_eq!(bodies, [(seen[0].resource.clone(), "a".to_owned())]);

    let finding = |subject: &str| Finding {
        code: "MS0101",
        severity: Severity::Warning,
        subject: subject.into(),
        file: Some("a.yaml".into()),
        line: 3,
        field: String::new(),
        message: "no such host".into(),
        evidence: Vec::new(),
        fix: None,
        suppressed: None,
    };
    store.record_findings(noon(), &[finding("a"), finding("b"), finding("a")]).await.expect("record");
    store.record_findings(noon() + HOUR, &[finding("b")]).await.expect("record");
    store.record_findings(noon() + HOUR * 2, &[finding("b"), finding("a")]).await.expect("record");
    let held = store.findings(noon(), noon() + DAY).await.expect("read");
    let times: Vec<_> = held.iter().map(|f| (f.subject.as_str(), f.first_seen_at, f.gone_at)).collect();
    let expect = [("a", noon() + HOUR * 2, None), ("a", noon(), Some(noon() + HOUR)), ("b", noon(), None)];
    assert_eq!(times, expect);
    assert_eq!((held[0].severity, held[0].line), (Severity::Warning, Some(3)));
    assert_eq!(store.findings(noon() + HOUR * 3, noon() + DAY).await.expect("read").len(), 2);
}

#[tokio::test]
async fn maintenance_makes_partitions_moves_strays_and_drops_what_is_old() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let mut connection = postgres::connection(&config).await;
    let up = labels(&[("__name__", "up"), ("job", "a")]);
    let old = labels(&[("__name__", "gone"), ("job", "z")]);
    // Before any partition is made rows go to the default one.
    let of = |labels: &Labels, at: Timestamp| (labels.clone(), chunk(labels, at, 60, b"1"));
    write_all(&store, &[of(&up, noon()), of(&up, noon() - DAY * 3)]).await;
    write_all(&store, &[of(&old, noon() - DAY * 500)]).await;
    store.write_edges(vec![edge_minute(noon(), Reporter::Source, "a", "b")]).await.expect("write");
    store.write_spans(vec![span_batch(0, 5)]).await.expect("write");
    let retention = RetentionConfig::default();
    // Raw chunks go only when they are thinned.
    let mut writer = store.write_chunks().await.expect("begin");
    writer.thinned(noon() + DAY).await.expect("mark");
    writer.finish().await.expect("finish");
    let (one, two) = tokio::join!(store.maintain(&retention, noon()), store.maintain(&retention, noon()));
    let (one, two) = (one.expect("maintain"), two.expect("maintain at once"));
    assert!(one.made + two.made >= 6 * 2, "{one:?} {two:?}");
    let strays: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM chunk_raw_other) + (SELECT count(*) FROM span_batch_other)
                                               + (SELECT count(*) FROM edge_rollup_1m_other)",
    )
    .fetch_one(&mut connection)
    .await
    .expect("count");
    assert_eq!(strays, 0);
    let names: Vec<String> =
        sqlx::query_scalar("SELECT metric FROM series_labels").fetch_all(&mut connection).await.expect("read");
    assert_eq!(names, ["up"], "a series whose chunks are all gone is forgotten");
    let name = [Matcher::equal("__name__", "up")];
    let chunks =
        async |store: &meshscope::store::Store| select(store, &name, (noon() - DAY * 9, noon() + DAY)).await.1.len();
    assert_eq!(chunks(&store).await, 2);
    assert_eq!(store.edges(RollupTier::Minutes, noon(), noon() + HOUR).await.expect("edges").len(), 1);
    assert_eq!(store.maintain(&retention, noon()).await.expect("maintain").made, 0);

    let later = store.maintain(&retention, noon() + DAY * 6).await.expect("maintain");
    assert!(later.dropped >= 5, "{later:?}");
    assert_eq!(chunks(&store).await, 1);
    assert_eq!(store.edges(RollupTier::Minutes, noon(), noon() + HOUR).await.expect("edges").len(), 0);
    assert_eq!(store.search_traces(&any_trace()).await.expect("search").len(), 0);
    // What was forgotten is written anew when it comes back.
    write_all(&store, &[of(&old, noon() + DAY * 6)]).await;
    let found =
        store.stored_series(&[Matcher::equal("job", "z")], (noon() + DAY * 5, noon() + DAY * 7)).await.expect("series");
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_leaves_nothing_half_written() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let mut outside = postgres::connection(&config).await;
    let part = |part: u32| -> Vec<(Labels, Chunk)> {
        let labels = |i: u32| labels(&[("__name__", "m"), ("i", &i.to_string())]);
        let of = |i| (labels(i), chunk(&labels(i), noon(), 60, &[0; 100]));
        (part * 6000..part * 6000 + 6000).map(of).collect()
    };
    let mut writer = store.write_chunks().await.expect("begin");
    write(&mut writer, &part(0)).await.expect("write by COPY");
    sqlx::raw_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .execute(&mut outside)
        .await
        .expect("terminate");
    let error = write(&mut writer, &part(1)).await.expect_err("the connection is gone");
    assert!(error.is_temporary(), "{error}");
    drop(writer);
    assert_eq!(store.chunked_until().await.expect("the pool connects anew"), None);

    // Begun again on the same store, all is written: nothing that was rolled back counts as known.
    let mut writer = store.write_chunks().await.expect("begin");
    write(&mut writer, &part(0)).await.expect("write");
    write(&mut writer, &part(1)).await.expect("write");
    writer.finish().await.expect("finish");
    let found = store.stored_series(&[Matcher::equal("__name__", "m")], (noon(), noon() + HOUR)).await.expect("series");
    assert_eq!(found.len(), 12_000);
}
