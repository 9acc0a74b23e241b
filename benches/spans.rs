//! Spans from the socket to the disk and back: `cargo bench --bench spans -- MILLIONS [SPREAD]`. Prints, asserts nothing.
//!
//! First the receivers: a bare one (tonic and prost, which only counts) and ours with span metrics, on threads of their own,
//! whose CPU the kernel tells apart, and what of ours the encoding of batches for the store is; then ours with PostgreSQL. They
//! are fed with requests of one proxy each, as a mesh sends them, and with requests of whole traces of 60 services, in which
//! little comes again, as a collector's may be. Then MILLIONS (default 1) of spans go through the real store
//! path into a PostgreSQL of their own, and are sought. SPREAD (default 4) says over how many batches the eight spans of a
//! trace are spread: a mesh's proxies send their spans at different times. `MESHSCOPE_BENCH_FOLDER` names another folder than
//! the temporary one; it is removed at the end.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use meshscope::batching::{Parcel, Verdict};
use meshscope::clock::Clock;
use meshscope::model::span::{AttributeValue, Resource, Span, SpanBatch, SpanKind, SpanStatus, TraceId};
use meshscope::model::{Timestamp, span_key};
use meshscope::persist::{Archive, Kept, SpanPersist};
use meshscope::rollup::Rollup;
use meshscope::series::Head;
use meshscope::store::{Config, PartScan, PartSearch, Store};
use meshscope::{otlp, traces};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Spans of one request, as SDKs send them.
const REQUEST_SPANS: usize = 512;
/// Spans of one stored batch.
const BATCH_SPANS: usize = 2048;
const SPANS_PER_TRACE: u64 = 8;
/// How long a receiver is fed at once.
const FEED: Duration = Duration::from_secs(2);
/// How often the bare receiver and ours are fed in turn: the ratio of two that are measured one after the other holds on a machine
/// whose speed changes, and the median of several is not one moment's.
const ROUNDS: usize = 7;
/// Requests under way at once.
const IN_FLIGHT: usize = 32;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<f64>().ok());
    let (millions, spread) = (numbers.next().unwrap_or(1.0), numbers.next().unwrap_or(4.0) as u64);
    let folder = std::env::var_os("MESHSCOPE_BENCH_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("meshscope-bench-spans-{}", std::process::id()));
    for senders in [Senders::Proxies, Senders::Collector] {
        receivers(senders, &folder);
    }
    stored((millions * 1e6) as u64, spread.clamp(1, SPANS_PER_TRACE), &folder);
    let _ = std::fs::remove_dir_all(&folder);
}

// === a mesh's spans ===

/// What spans share.
struct Mesh {
    services: Vec<(Arc<str>, Arc<Resource>)>,
    operations: Vec<Arc<str>>,
    keys: Vec<Arc<str>>,
    texts: Vec<Arc<str>>,
    empty: Arc<str>,
}

/// SplitMix64.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What is by chance about the call that has span `at` of a trace on one of its sides.
fn call(trace: u64, at: u64) -> u64 {
    mixed(trace.wrapping_mul(31).wrapping_add(at / 2))
}

fn trace_id(trace: u64) -> TraceId {
    ((u128::from(mixed(trace)) << 64) | u128::from(mixed(!trace))).to_be_bytes()
}

impl Mesh {
    fn new() -> Self {
        let keys = [
            "node_id",
            "component",
            "http.method",
            "http.protocol",
            "http.status_code",
            "response_flags",
            "user_agent",
            "upstream_cluster",
            "upstream_cluster.name",
            "istio.canonical_service",
            "istio.canonical_revision",
            "istio.mesh_id",
            "istio.namespace",
            "istio.cluster_id",
            "downstream_cluster",
            "peer.address",
            "upstream_address",
            "request_size",
            "response_size",
            "guid:x-request-id",
            "http.url",
        ];
        let service = |number: usize| -> (Arc<str>, Arc<Resource>) {
            let name: Arc<str> = format!("service-{number}.shop").into();
            let attributes = vec![("service.name".into(), AttributeValue::String(Arc::clone(&name)))];
            (name, Arc::new(Resource { attributes: attributes.into() }))
        };
        Self {
            services: (0..60).map(service).collect(),
            operations: (0..60)
                .map(|number| format!("service-{number}.shop.svc.cluster.local:8080/*").into())
                .collect(),
            keys: keys.map(Arc::from).into(),
            texts: (0..400)
                .map(|number| format!("outbound|8080||service-{number}.shop.svc.cluster.local").into())
                .collect(),
            empty: "".into(),
        }
    }

    /// Span `at` of a trace: caller and called side in turn.
    fn span(&self, trace: u64, at: u64, base_ns: u64) -> Span {
        self.span_of(((call(trace, at) >> 8) % 60) as usize, trace, at, base_ns)
    }

    /// The same, of that service.
    fn span_of(&self, service: usize, trace: u64, at: u64, base_ns: u64) -> Span {
        let random = call(trace, at);
        let (name, resource) = &self.services[service];
        let text = |number: u64| AttributeValue::String(Arc::clone(&self.texts[(number % 400) as usize]));
        let unique = |what: &str| AttributeValue::String(format!("{what}{:016x}", mixed(trace)).into());
        let failed = random.is_multiple_of(97);
        let value = |(place, key): (usize, &Arc<str>)| {
            let value = match &**key {
                "peer.address" | "upstream_address" => text(random >> 20),
                "request_size" | "response_size" => AttributeValue::Int((random >> 30) as i64 % 9000),
                "http.status_code" => AttributeValue::Int(if failed { 503 } else { 200 }),
                "guid:x-request-id" => unique(""),
                "http.url" => unique("http://shop/cart/"),
                _ => text((service + 7 * place) as u64 % 80),
            };
            (Arc::clone(key), value)
        };
        Span {
            trace_id: trace_id(trace),
            span_id: mixed(trace * 16 + at + 1).to_be_bytes(),
            parent_id: (at > 0).then(|| mixed(trace * 16 + at).to_be_bytes()),
            kind: if at.is_multiple_of(2) { SpanKind::Client } else { SpanKind::Server },
            service: Arc::clone(name),
            name: Arc::clone(&self.operations[service]),
            start_ns: base_ns + at * 200_000,
            duration_ns: 1_000_000 + random % 50_000_000 + if random.is_multiple_of(1009) { 2_000_000_000 } else { 0 },
            status: if failed { SpanStatus::Error } else { SpanStatus::Unset },
            status_message: Arc::clone(&self.empty),
            attributes: self.keys.iter().enumerate().map(value).collect(),
            resource: Arc::clone(resource),
            scope: Arc::clone(&self.empty),
            events: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Batch `number` of a stream in which the spans of a trace are spread over `spread` batches.
    fn batch(&self, number: u64, spread: u64, base_ns: u64) -> Vec<Span> {
        let per_window = BATCH_SPANS as u64 * spread / SPANS_PER_TRACE;
        let (window, own) = (number / spread, number % spread);
        let of_trace = |trace: u64| {
            let spans = (0..SPANS_PER_TRACE).filter(move |at| at * spread / SPANS_PER_TRACE == own);
            spans.map(move |at| self.span(trace, at, base_ns + (trace % per_window) * 1_000))
        };
        (window * per_window..(window + 1) * per_window).flat_map(of_trace).collect()
    }
}

/// Whose spans stand together in a request.
#[derive(Clone, Copy, Debug)]
enum Senders {
    /// Of one proxy: a span of each of its calls.
    Proxies,
    /// Of all services: whole traces.
    Collector,
}

/// A request of spans.
fn request(mesh: &Mesh, senders: Senders, number: u64, base_ns: u64) -> ExportTraceServiceRequest {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan};
    let pair = |(key, value): &(Arc<str>, AttributeValue)| {
        let value = match value {
            AttributeValue::Int(number) => Value::IntValue(*number),
            AttributeValue::String(text) => Value::StringValue(text.to_string()),
            _ => Value::StringValue(String::new()),
        };
        KeyValue { key: key.to_string(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    };
    let span = |span: Span| ProtoSpan {
        trace_id: span.trace_id.to_vec(),
        span_id: span.span_id.to_vec(),
        parent_span_id: span.parent_id.map(Vec::from).unwrap_or_default(),
        name: span.name.to_string(),
        kind: if span.kind == SpanKind::Client { 3 } else { 2 },
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns(),
        attributes: span.attributes.iter().map(pair).collect(),
        ..ProtoSpan::default()
    };
    let count = REQUEST_SPANS as u64;
    let all: Vec<Span> = match senders {
        Senders::Proxies => {
            let of_proxy = |trace: u64| mesh.span_of((number % 60) as usize, trace, trace % SPANS_PER_TRACE, base_ns);
            (number * count..(number + 1) * count).map(of_proxy).collect()
        }
        Senders::Collector => {
            let traces = number * count / SPANS_PER_TRACE..(number + 1) * count / SPANS_PER_TRACE;
            traces.flat_map(|trace| (0..SPANS_PER_TRACE).map(move |at| mesh.span(trace, at, base_ns))).collect()
        }
    };
    let spans = all.into_iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let attributes = mesh.services[(number % 60) as usize].1.attributes.iter().map(pair).collect();
    let resource = Some(Resource { attributes, ..Resource::default() });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

fn now_ns() -> u64 {
    u64::try_from(Clock::system().now().as_millis()).unwrap() * 1_000_000
}

// === CPU ===

/// Clock ticks a second, as every Linux has them.
const TICKS: f64 = 100.0;

fn cpu_of(stat: &str, with_children: bool) -> f64 {
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
    let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    let last = if with_children { 15 } else { 13 };
    fields.get(11..last).map_or(0.0, |ticks| ticks.iter().sum::<f64>() / TICKS)
}

/// CPU seconds so far of the threads whose name begins so.
fn threads_cpu(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let own = stats.filter(|stat| stat.split_once('(').is_some_and(|(_, rest)| rest.starts_with(name)));
    own.map(|stat| cpu_of(&stat, false)).sum()
}

fn process_cpu() -> f64 {
    cpu_of(&std::fs::read_to_string("/proc/self/stat").unwrap(), false)
}

/// CPU seconds so far of the server and all its sessions, those that ended too.
fn server_cpu(store: &Store) -> f64 {
    let Some(pid) = store.private_server().and_then(|server| server.pid()) else { return 0.0 };
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let children = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let stat = stat(entry.file_name().to_str()?.parse().ok()?)?;
        let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (parent == pid).then(|| cpu_of(&stat, false))
    });
    children.sum::<f64>() + stat(pid).map_or(0.0, |stat| cpu_of(&stat, true))
}

// === receivers ===

/// Decodes a request whole and counts.
#[derive(Clone, Default)]
struct Bare(Arc<AtomicU64>);

#[tonic::async_trait]
impl TraceService for Bare {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let groups = request.into_inner().resource_spans;
        let spans: usize = groups.iter().flat_map(|group| &group.scope_spans).map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans as u64, Relaxed);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn runtime(name: &str) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build().unwrap()
}

/// Sends the requests in turn, from where `next` has got; gives the spans that were taken. A request comes again only when memory
/// keeps no span of it any more, and never the same to the byte: else ours would know it, and count nothing.
async fn feed(address: SocketAddr, requests: Arc<Vec<ExportTraceServiceRequest>>, next: Arc<AtomicU64>) -> u64 {
    let client = TraceServiceClient::connect(format!("http://{address}")).await.unwrap();
    let (end, sent) = (Instant::now() + FEED, Arc::new(AtomicU64::new(0)));
    let senders = (0..IN_FLIGHT).map(|_| {
        let (mut client, requests) = (client.clone(), Arc::clone(&requests));
        let (next, sent) = (Arc::clone(&next), Arc::clone(&sent));
        tokio::spawn(async move {
            while Instant::now() < end {
                let number = next.fetch_add(1, Relaxed);
                let mut request = requests[number as usize % requests.len()].clone();
                request.resource_spans[0].schema_url = number.to_string();
                match client.export(request).await {
                    Ok(_) => _ = sent.fetch_add(REQUEST_SPANS as u64, Relaxed),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    sent.load(Relaxed)
}

/// What stands behind our receiver.
enum Behind<'a> {
    Nothing,
    Store(&'a Store),
}

/// Our receiver and pipeline; without a store its batches are settled at once.
async fn ours(behind: Behind<'_>, shutdown: CancellationToken) -> (SocketAddr, traces::Live, Arc<traces::Counters>) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = otlp::Config { grpc_listen: any, http_listen: any, ..otlp::Config::default() };
    let (sink, spans) = mpsc::channel(64);
    let receiver = otlp::Receiver::bind(config, sink).await.unwrap();
    let address = receiver.grpc_address();
    let (batches_in, mut batches) = mpsc::channel::<Parcel<SpanBatch>>(16);
    let outputs =
        traces::Outputs { head: Head::new(Default::default()), rollup: Rollup::default(), batches: batches_in };
    let pipeline = traces::Pipeline::new(traces::Config::default(), spans, outputs, Clock::system());
    let (live, counters) = (pipeline.live(), pipeline.counters());
    tokio::spawn(receiver.run(shutdown.clone()));
    tokio::spawn(pipeline.run(shutdown.clone()));
    match behind {
        Behind::Nothing => drop(tokio::spawn(async move {
            while let Some(parcel) = batches.recv().await {
                parcel.settle(Verdict::Stored);
            }
        })),
        Behind::Store(store) => {
            drop(tokio::spawn(SpanPersist::new(batches, store.clone(), Clock::system()).run(shutdown)))
        }
    }
    (address, live, counters)
}

/// CPU seconds that encoding takes for a span, of the last spans received; the second pass, whose memory is warm.
fn encoding(live: &traces::Live) -> f64 {
    let mut spans = live.latest(16 * BATCH_SPANS);
    spans.reverse();
    let index = traces::IndexConfig::default();
    let pass = || {
        let before = threads_self_us();
        for batch in spans.chunks(BATCH_SPANS) {
            std::hint::black_box(traces::encode_batch(batch, &index));
        }
        (threads_self_us() - before) as f64 / 1e6 / spans.len() as f64
    };
    pass();
    pass()
}

fn receivers(senders: Senders, folder: &std::path::Path) {
    let (mesh, base_ns) = (Mesh::new(), now_ns() - 60_000_000_000);
    // More requests than memory keeps spans of, so that none is known again.
    let requests: Arc<Vec<_>> = Arc::new((0..1000).map(|number| request(&mesh, senders, number, base_ns)).collect());
    let clients = runtime("clients");
    println!("receivers, {senders:?}: {REQUEST_SPANS} spans of {} attributes a request", mesh.keys.len());
    println!("{:<44}{:>18}", "", "spans/CPU-s");
    let line = |what: &str, rate: f64| println!("{what:<44}{rate:>18.0}");
    let fed = |name: &str, address: SocketAddr, next: &Arc<AtomicU64>| {
        let before = threads_cpu(name);
        let taken = clients.block_on(feed(address, Arc::clone(&requests), Arc::clone(next)));
        taken as f64 / (threads_cpu(name) - before)
    };

    let bare_receiver = runtime("bare");
    let bare_address = bare_receiver.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = TraceServiceServer::new(Bare::default()).max_decoding_message_size(64 << 20);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        address
    });
    let (receiver, shutdown) = (runtime("ours"), CancellationToken::new());
    let (address, live, counters) = receiver.block_on(ours(Behind::Nothing, shutdown.clone()));
    let (mut rounds, next, next_bare) = ([const { Vec::new() }; 5], Arc::default(), Arc::default());
    for _ in 0..ROUNDS {
        let (bare, encoded) = (fed("bare", bare_address, &next_bare), fed("ours", address, &next));
        let rolled = 1.0 / (1.0 / encoded - encoding(&live));
        let all = [bare, encoded, rolled, encoded / bare, rolled / bare];
        rounds.iter_mut().zip(all).for_each(|(own, value)| own.push(value));
    }
    rounds.iter_mut().for_each(|own| own.sort_by(f64::total_cmp));
    let [bare, encoded, rolled, encoded_ratio, rolled_ratio] = rounds.each_ref().map(|own| own[ROUNDS / 2]);
    line("tonic and prost, counted", bare);
    line("ours: span metrics, edges, batches", encoded);
    line("without the encoding of batches", rolled);
    let [least, most] = [rounds[4][0], rounds[4][ROUNDS - 1]];
    println!("{rolled_ratio:.2} × the bare receiver ({least:.2} to {most:.2}); {encoded_ratio:.2} × with encoding");
    let [spans, again] = [&counters.spans, &counters.repeated_spans].map(|count| count.load(Relaxed));
    println!("{again} of {spans} spans were known already, and not counted again");
    bare_receiver.shutdown_background();
    shutdown.cancel();
    receiver.shutdown_timeout(Duration::from_secs(5));

    let (receiver, shutdown) = (runtime("stored"), CancellationToken::new());
    let store = receiver.block_on(Store::connect(&config(&folder.join(format!("{senders:?}"))))).unwrap();
    let (address, ..) = receiver.block_on(ours(Behind::Store(&store), shutdown.clone()));
    let before = threads_cpu("stored") + server_cpu(&store);
    let taken = clients.block_on(feed(address, requests, Arc::default()));
    let kept = taken as f64 / (threads_cpu("stored") + server_cpu(&store) - before);
    line("the same, acknowledged by PostgreSQL, counted", kept);
    shutdown.cancel();
    receiver.block_on(store.close());
    println!("{:.2} × with PostgreSQL\n", kept / bare);
}

// === the store ===

fn config(folder: &std::path::Path) -> Config {
    Config { path: Some(folder.to_owned()), connections_max: 8, ..Config::default() }
}

/// Loads spans through the encoder and the store's own writes, then looks for them.
fn stored(spans: u64, spread: u64, folder: &std::path::Path) {
    let runtime = runtime("store");
    runtime.block_on(async {
        let store = Store::connect(&config(&folder.join("stored"))).await.unwrap();
        store.maintain(&Default::default(), Clock::system().now()).await.unwrap();
        let (mesh, base_ns) = (Arc::new(Mesh::new()), now_ns() - 12 * 3_600_000_000_000);
        let batches = spans.div_ceil(BATCH_SPANS as u64).next_multiple_of(spread);
        let (began, own, server) = (Instant::now(), process_cpu(), server_cpu(&store));
        let encode_cpu = load(&store, &mesh, (batches, spread, base_ns)).await;
        let (took, own, server) = (began.elapsed(), process_cpu() - own, server_cpu(&store) - server);
        let spans = (batches * BATCH_SPANS as u64) as f64;
        println!(
            "{:.1} million spans, the {SPANS_PER_TRACE} of a trace in {spread} batches each, in {took:.1?}",
            spans / 1e6
        );
        println!("{:<44}{:>18.0}", "stored, spans/CPU-s of encoder and PostgreSQL", spans / (encode_cpu + server));
        println!("{:<44}{:>18.0}", "of PostgreSQL alone", spans / server);
        println!("{:<44}{:>18.1}", "CPU-s of this process (makes the spans too)", own);
        sizes(&store, spans).await;
        seek(&store, (batches / spread * (BATCH_SPANS as u64 * spread / SPANS_PER_TRACE), base_ns)).await;
        store.close().await;
    });
}

/// Writes all batches, two at a time encoded beside one that is written; gives the CPU seconds of encoding.
async fn load(store: &Store, mesh: &Arc<Mesh>, (batches, spread, base_ns): (u64, u64, u64)) -> f64 {
    let (made, mut ready) = mpsc::channel(4);
    let encode_us = Arc::new(AtomicU64::new(0));
    let makers: Vec<_> = (0..2_u64)
        .map(|maker| {
            let (mesh, made, encode_us) = (Arc::clone(mesh), made.clone(), Arc::clone(&encode_us));
            tokio::task::spawn_blocking(move || {
                let index = traces::IndexConfig::default();
                for number in (maker..batches).step_by(2) {
                    // A day of traffic in twelve hours of the clock.
                    let at_ns = base_ns + number * (11 * 3_600_000_000_000 / batches);
                    let spans = mesh.batch(number, spread, at_ns);
                    let before = threads_self_us();
                    let batch = traces::encode_batch(&spans, &index).unwrap();
                    encode_us.fetch_add(threads_self_us() - before, Relaxed);
                    if made.blocking_send(batch).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(made);
    let mut together = Vec::new();
    let mut written = 0_u64;
    while let Some(batch) = ready.recv().await {
        together.push(batch);
        while together.len() < 16
            && let Ok(batch) = ready.try_recv()
        {
            together.push(batch);
        }
        written += together.len() as u64;
        store.write_spans(std::mem::take(&mut together)).await.unwrap();
        if written % 4096 < 16 {
            eprintln!("{:.1} million spans written", written as f64 * BATCH_SPANS as f64 / 1e6);
        }
    }
    for maker in makers {
        maker.await.unwrap();
    }
    encode_us.load(Relaxed) as f64 / 1e6
}

/// CPU of this thread so far, microseconds (`/proc/thread-self/schedstat` has nanoseconds).
fn threads_self_us() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1000
}

async fn sizes(store: &Store, spans: f64) {
    let url = store.private_server().unwrap().url();
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let relations = "FROM pg_class c WHERE relkind = 'r' AND relname LIKE 'span_batch%'";
    for (what, sql) in [
        ("compressed spans, bytes a span", "SELECT sum(length(bytes)) FROM span_batch".to_owned()),
        ("tables with them, bytes a span", format!("SELECT sum(pg_table_size(c.oid)) {relations}")),
        ("indexes, bytes a span", format!("SELECT sum(pg_indexes_size(c.oid)) {relations}")),
    ] {
        let sql = format!("SELECT ({sql})::bigint");
        let bytes: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
        println!("{what:<44}{:>18.1}", bytes as f64 / spans);
    }
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.unwrap();
}

/// Traces by id, and searches, through the archive that pages and APIs read.
async fn seek(store: &Store, (traces_stored, base_ns): (u64, u64)) {
    let live = traces::Live::new(1, 1);
    let (now, day) = (Clock::system().now(), Duration::from_secs(24 * 3600));
    let archive = Archive::new(store.clone(), Rollup::default(), live, now, Kept { in_memory: day, stored: day });
    let mut took: Vec<Duration> = Vec::new();
    for number in 0..200_u64 {
        let wanted = trace_id(mixed(number) % traces_stored);
        let began = Instant::now();
        let (spans, warning) = archive.trace(wanted).await.unwrap();
        took.push(began.elapsed());
        assert_eq!((spans.len() as u64, warning), (SPANS_PER_TRACE, None));
    }
    took.sort();
    println!("{:<44}{:>18}", "trace by id, median / p99 of 200", format!("{:.1?} / {:.1?}", took[100], took[198]));
    let from = Timestamp::from_nanos(base_ns);
    let any = PartSearch::any(from, now);
    let key = |name: &str, value: &str| vec![span_key::of_attribute(name, value)];
    for (what, search) in [
        ("newest", any.clone()),
        ("by service", PartSearch { services: vec!["service-7.shop".to_owned()], ..any.clone() }),
        ("with errors", PartSearch { error: true, ..any.clone() }),
        ("longer than 1 s", PartSearch { longest_ns_min: Some(1_000_000_000), ..any.clone() }),
        ("by attribute", PartSearch { attribute_keys: key("http.status_code", "503"), ..any.clone() }),
        ("by an attribute that none has", PartSearch { attribute_keys: key("user", "nobody"), ..any.clone() }),
    ] {
        let began = Instant::now();
        let found = PartScan::new(search).next(store, 100).await.unwrap();
        println!("{:<44}{:>18}", format!("search {what}, {} found", found.len()), format!("{:.1?}", began.elapsed()));
    }
}
