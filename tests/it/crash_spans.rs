//! `kill -9` while proxies send spans and access logs: nothing that was answered as taken is lost, and what was not is sent
//! again and is there once.
//!
//! The real program on a PostgreSQL that survives, clients that know what they were told. `MESHSCOPE_CRASH_ROUNDS` says how
//! often (default 3), `MESHSCOPE_CRASH_SEED` repeats a run as far as time allows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use meshscope::store::Config;
use meshscope::{access_logs, traces};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use parking_lot::Mutex;
use serde_json::json;

use crate::app::{eventually, new_folder};
use crate::crash::{Program, Random, now_ms, rounds_and_seed};
use crate::postgres;

const SENDERS: u64 = 6;

/// One request: spans of a trace of its own over gRPC or HTTP, or one access log record of that trace.
#[derive(Clone, Copy)]
struct Request {
    number: u64,
    spans: u64,
    start_ns: u64,
}

impl Request {
    fn trace_id(self) -> [u8; 16] {
        (u128::from(self.number) | 1 << 127).to_be_bytes()
    }

    fn is_log(self) -> bool {
        self.number.is_multiple_of(3)
    }

    fn grpc(self) -> ExportTraceServiceRequest {
        let span = |at: u64| Span {
            trace_id: self.trace_id().to_vec(),
            span_id: (at + 1).to_be_bytes().to_vec(),
            name: "crash".to_owned(),
            start_time_unix_nano: self.start_ns + at,
            end_time_unix_nano: self.start_ns + at + 1000,
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: (0..self.spans).map(span).collect(), ..ScopeSpans::default() }];
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
    }

    /// The path, and the body in JSON.
    fn http(self) -> (&'static str, String) {
        let (trace, at) = (meshscope::model::span::hex(&self.trace_id()), self.start_ns);
        if self.is_log() {
            let attributes = json!([{"key": "response_code", "value": {"intValue": "200"}},
                {"key": "response_code_details", "value": {"stringValue": "via_upstream"}},
                {"key": "upstream_cluster", "value": {"stringValue": "outbound|80||cart.shop.svc.cluster.local"}}]);
            let record = json!({"timeUnixNano": at.to_string(), "traceId": trace, "attributes": attributes});
            return ("logs", json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).to_string());
        }
        let span = |index: u64| {
            json!({"traceId": trace, "spanId": format!("{:016x}", index + 1), "name": "crash",
                   "startTimeUnixNano": (at + index).to_string(), "endTimeUnixNano": (at + index + 1000).to_string()})
        };
        let spans: Vec<_> = (0..self.spans).map(span).collect();
        ("traces", json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string())
    }
}

/// What clients sent and what they were told.
#[derive(Default)]
struct Told {
    next: AtomicU64,
    stop: AtomicBool,
    acknowledged: Mutex<BTreeMap<u64, Request>>,
    /// Requests that had to be sent more than once.
    sent_again: Mutex<BTreeSet<u64>>,
}

/// Sends one request after the other, each until it is taken, as exporters with retries do.
async fn send(told: Arc<Told>, (grpc, http): (SocketAddr, SocketAddr), seed: u64) {
    let mut random = Random(seed);
    let client = reqwest::Client::builder().timeout(Duration::from_secs(8)).build().expect("a client");
    while !told.stop.load(Relaxed) {
        let start_ns = u64::try_from(now_ms()).expect("after 1970") * 1_000_000;
        let request = Request { number: told.next.fetch_add(1, Relaxed), spans: 1 + random.below(30), start_ns };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let taken = if !request.is_log() && request.number.is_multiple_of(2) {
                let sent = async {
                    let mut client = TraceServiceClient::connect(format!("http://{grpc}")).await.ok()?;
                    client.export(request.grpc()).await.ok()
                };
                tokio::time::timeout(Duration::from_secs(8), sent).await.is_ok_and(|answer| answer.is_some())
            } else {
                let (path, body) = request.http();
                let post = client.post(format!("http://{http}/v1/{path}")).header("content-type", "application/json");
                post.body(body).send().await.is_ok_and(|answer| answer.status() == 200)
            };
            if taken {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if attempts > 1 {
            told.sent_again.lock().insert(request.number);
        }
        told.acknowledged.lock().insert(request.number, request);
    }
}

/// How often each span, and each record, is in PostgreSQL: by trace id and span id, records with span id zero.
async fn stored(database: &Config) -> BTreeMap<([u8; 16], u64), usize> {
    let mut connection = postgres::connection(database).await;
    let mut found = BTreeMap::new();
    let batches: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT bytes FROM span_batch").fetch_all(&mut connection).await.expect("read spans");
    for span in batches.iter().flat_map(|bytes| traces::decode_batch(bytes).expect("a good batch")) {
        *found.entry((span.trace_id, u64::from_be_bytes(span.span_id))).or_default() += 1;
    }
    let batches: Vec<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM access_log_batch")
        .fetch_all(&mut connection)
        .await
        .expect("read records");
    for record in batches.iter().flat_map(|bytes| access_logs::decode_batch(bytes).expect("a good batch")) {
        *found.entry((record.trace_id.expect("each has a trace"), 0)).or_default() += 1;
    }
    found
}

/// All that was acknowledged is stored.
async fn check_acknowledged(database: &Config, told: &Told) -> usize {
    let acknowledged: Vec<Request> = told.acknowledged.lock().values().copied().collect();
    let stored = stored(database).await;
    for request in &acknowledged {
        let ids = if request.is_log() { 0..=0 } else { 1..=request.spans };
        let missing: Vec<u64> = ids.filter(|id| !stored.contains_key(&(request.trace_id(), *id))).collect();
        assert!(missing.is_empty(), "request {} was acknowledged; not stored: {missing:?}", request.number);
    }
    acknowledged.len()
}

/// Each span and record of the request is read once.
async fn check_read(program: &Program, request: Request) {
    let id = meshscope::model::span::hex(&request.trace_id());
    if request.is_log() {
        let found = program.data(&format!("/api/mesh/v1/access-logs?trace={id}")).await;
        assert_eq!(found["records"].as_array().map(Vec::len), Some(1), "record {}: {found}", request.number);
        return;
    }
    let answer = reqwest::get(format!("http://{}/tempo/api/traces/{id}", program.web)).await.expect("an answer");
    let trace: serde_json::Value = answer.json().await.expect("a trace");
    let scopes = trace["batches"].as_array().into_iter().flatten().flat_map(|batch| batch["scopeSpans"].as_array());
    let spans: usize = scopes.flatten().filter_map(|scope| scope["spans"].as_array()).map(Vec::len).sum();
    assert_eq!(spans as u64, request.spans, "trace {}", request.number);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_what_is_sent_again_is_read_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (rounds, seed) = rounds_and_seed();
    let mut random = Random(seed);
    let database = postgres::database().await;
    let listeners = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [web, grpc, http] = listeners.map(|listener| listener.local_addr().expect("an address"));
    let folder = new_folder();
    let text = format!(
        "web: {{listen: '{web}'}}\notlp: {{grpc_listen: '{grpc}', http_listen: '{http}'}}\nstorage: {{database_url: '{}'}}\n",
        database.database_url.as_ref().expect("an address").reveal(),
    );
    std::fs::write(folder.join("meshscope.yaml"), text).expect("write");

    let mut program = Program::start(&folder, web).await;
    let told = Arc::new(Told::default());
    let senders: Vec<_> =
        (0..SENDERS).map(|at| tokio::spawn(send(Arc::clone(&told), (grpc, http), seed + at))).collect();
    for round in 0..rounds {
        let before = told.acknowledged.lock().len();
        eventually("requests are taken", async || (told.acknowledged.lock().len() > before + 10).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(random.below(1500))).await;
        program.child.kill().expect("kill -9");
        program.child.wait().expect("wait");
        let acknowledged = check_acknowledged(&database, &told).await;
        println!("round {round}: {acknowledged} requests were acknowledged, all are stored");
        program = Program::start(&folder, web).await;
    }
    told.stop.store(true, Relaxed);
    for sender in senders {
        sender.await.expect("it ends");
    }
    let acknowledged = check_acknowledged(&database, &told).await;
    let again = told.sent_again.lock().clone();
    let requests: Vec<Request> = told.acknowledged.lock().values().copied().collect();
    // Those around the kills, and some of the others.
    for request in requests.iter().filter(|request| again.contains(&request.number) || request.number % 20 == 0) {
        check_read(&program, *request).await;
    }
    let twice = stored(&database).await.values().filter(|count| **count > 1).count();
    println!(
        "{acknowledged} requests, {} sent more than once; {twice} spans and records are stored twice",
        again.len()
    );
    assert!(!again.is_empty(), "kills came between requests and their answers");
    let log = std::fs::read_to_string(folder.join("log")).expect("read the log");
    assert!(!log.contains("panicked"), "{log}");
}
