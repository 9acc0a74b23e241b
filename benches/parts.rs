//! The parts on the way of a sample, each by itself: `cargo bench --bench parts [-- NAME]`. Asserts that there is
//! something to time, never how long it takes.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use meshscope::access_logs::{Reader, encode_batch};
use meshscope::model::{Labels, Matcher, Timestamp};
use meshscope::otlp::{Limits, decode_logs_protobuf};
use meshscope::promql::{self, Engine, QueryOptions, SelectionCache, Value};
use meshscope::scrape::exposition::{Entry, Format, MetricKind, Parser, parse_labels};
use meshscope::series::{Config, Head, Queryable, Select, SeriesRef, encode_chunk};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

const BOUNDS: [&str; 20] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
    "300000", "600000", "1.8e+06", "3.6e+06", "+Inf",
];
const PROXIES: usize = 20;
const EDGES: usize = 15;
const STEP_MS: i64 = 5000;
const START_MS: i64 = 1_700_000_000_000;
const ROWS: i64 = 64;
const BUCKETS: &str = "istio_request_duration_milliseconds_bucket";

/// What a proxy writes of one edge but for name, bound and value.
fn edge_labels(proxy: usize, edge: usize) -> String {
    let (source, destination) = (format!("service-{:02}", proxy % 60), format!("service-{edge:02}"));
    let mut text = String::from("reporter=\"source\"");
    for (end, name) in [("source", &source), ("destination", &destination)] {
        for label in ["workload", "app", "canonical_service"] {
            let _ = write!(text, ",{end}_{label}=\"{name}\"");
        }
        let _ = write!(
            text,
            ",{end}_workload_namespace=\"shop\",{end}_version=\"v1\",{end}_cluster=\"Kubernetes\",\
             {end}_canonical_revision=\"v1\",{end}_principal=\"spiffe://cluster.local/ns/shop/sa/{name}\""
        );
    }
    let _ = write!(
        text,
        ",destination_service=\"{destination}.shop.svc.cluster.local\",destination_service_name=\"{destination}\",\
         destination_service_namespace=\"shop\",request_protocol=\"http\",response_code=\"200\",response_flags=\"-\",\
         connection_security_policy=\"unknown\""
    );
    text
}

/// The keys of one proxy's series, in the order of its page.
fn keys(proxy: usize) -> Vec<String> {
    let labels: Vec<String> = (0..EDGES).map(|edge| edge_labels(proxy, edge)).collect();
    let mut keys: Vec<String> = labels.iter().map(|labels| format!("istio_requests_total{{{labels}}}")).collect();
    for histogram in ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"] {
        for labels in &labels {
            keys.extend(BOUNDS.iter().map(|bound| format!("{histogram}_bucket{{{labels},le=\"{bound}\"}}")));
            keys.extend(["sum", "count"].map(|part| format!("{histogram}_{part}{{{labels}}}")));
        }
    }
    keys
}

/// A third of the edges counts, each bucket more than the one below it.
fn value(series: usize, row: i64) -> f64 {
    let rate = if (series / 22).is_multiple_of(3) { series as i64 % 22 } else { 0 };
    (row * rate + row * row * rate % 5) as f64
}

fn intern(head: &Head) -> Vec<Vec<SeriesRef>> {
    let of_proxy = |proxy: usize| -> Vec<SeriesRef> {
        let own = [("job", "istio-proxies".to_owned()), ("instance", format!("10.0.0.{proxy}:15020"))];
        let labels = |key: &String| -> Labels {
            let pairs = parse_labels(key.as_bytes(), MetricKind::Unknown).unwrap();
            let own = own.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            Labels::from_pairs(pairs.into_iter().map(|(n, v)| (n.into_owned(), v.into_owned())).chain(own))
        };
        keys(proxy).iter().map(|key| head.intern(&labels(key)).unwrap()).collect()
    };
    (0..PROXIES).map(of_proxy).collect()
}

fn batch(series: &[SeriesRef], row: i64) -> Vec<(SeriesRef, f64)> {
    series.iter().enumerate().map(|(i, series)| (*series, value(i, row))).collect()
}

fn at(row: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + row * STEP_MS)
}

fn filled() -> (Head, Vec<Vec<SeriesRef>>) {
    let head = Head::new(Config::default());
    let fleet = intern(&head);
    for row in 0..ROWS {
        for series in &fleet {
            assert_eq!(head.append_at(at(row), &batch(series, row)).accepted, series.len());
        }
    }
    while head.drain_journal().is_some() {}
    (head, fleet)
}

fn parse(criterion: &mut Criterion) {
    let page = keys(0).iter().enumerate().fold(String::new(), |mut page, (i, key)| {
        let _ = writeln!(page, "{key} {}", value(i, 40));
        page
    });
    let samples = keys(0).len();
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(samples as u64));
    group.bench_function("a page, every line searched for its end", |bencher| {
        bencher.iter(|| {
            let mut parser = Parser::new(Format::Text, page.as_bytes());
            let mut found = 0;
            while let Some(entry) = parser.next_entry(|_| None) {
                found += usize::from(matches!(entry, Ok(Entry::Sample(_))));
            }
            assert_eq!(found, samples);
        });
    });
    let lengths: Vec<usize> = keys(0).iter().map(String::len).collect();
    group.bench_function("a page whose order is known", |bencher| {
        bencher.iter(|| {
            let mut parser = Parser::new(Format::Text, page.as_bytes());
            let mut known = 0;
            while let Some(Ok(Entry::Sample(sample))) = parser.next_entry(|_| lengths.get(known).copied()) {
                black_box(sample.value);
                known += 1;
            }
            assert_eq!(known, samples);
        });
    });
    group.finish();
}

fn append_and_encode(criterion: &mut Criterion) {
    let (head, fleet) = filled();
    let mut row = ROWS;
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(fleet[0].len() as u64));
    group.bench_function("a scrape of one proxy, with its journal", |bencher| {
        bencher.iter_batched(
            || {
                row += 1;
                while head.drain_journal().is_some() {}
                (at(row), batch(&fleet[0], row))
            },
            |(at, batch)| assert_eq!(head.append_at(at, &batch).accepted, batch.len()),
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let samples: Vec<(Timestamp, f64)> = (0..1440).map(|row| (at(row), value(3, row))).collect();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(samples.len() as u64));
    let (times, values): (Vec<Timestamp>, Vec<f64>) = samples.into_iter().unzip();
    group.bench_function("a chunk of two hours", |bencher| {
        bencher.iter(|| black_box(encode_chunk(&times, &values).len()));
    });
    group.finish();
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements((fleet.len() * fleet[0].len()) as u64));
    group.bench_function("a batch of all proxies, compressed", |bencher| {
        bencher.iter_batched(
            || {
                row += 1;
                while head.drain_journal().is_some() {}
                fleet.iter().for_each(|series| drop(head.append_at(at(row), &batch(series, row))));
            },
            |()| assert!(head.drain_journal().is_some()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn select(criterion: &mut Criterion) {
    let (head, _) = filled();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let matchers = vec![Matcher::equal("__name__", BUCKETS)];
    let wanted = Select::new(matchers, at(ROWS - 13), at(ROWS - 1));
    let mut group = criterion.benchmark_group("select");
    group.throughput(Throughput::Elements((PROXIES * EDGES * BOUNDS.len()) as u64));
    group.bench_function("a minute of all latency buckets", |bencher| {
        bencher.iter(|| {
            let selection = runtime.block_on(head.select(wanted.clone())).unwrap();
            assert_eq!(selection.series.len(), PROXIES * EDGES * BOUNDS.len());
        });
    });
    group.finish();
}

/// As many alerts as a mesh has, over six metrics.
fn rule_texts() -> Vec<String> {
    let by_service = (0..EDGES).flat_map(|i| {
        let of = format!("destination_service_name=\"service-{i:02}\"");
        [
            format!("sum(rate(istio_requests_total{{{of},response_code=~\"5..\"}}[1m])) > 5"),
            format!("histogram_quantile(0.99, sum by (le) (rate({BUCKETS}{{{of}}}[1m]))) > 9e6"),
            format!("sum by (source_workload) (rate(istio_requests_total{{{of}}}[1m])) < -1"),
        ]
    });
    let over_all = (0..10).flat_map(|i| {
        [
            format!("sum by (destination_workload) (rate(istio_requests_total[1m])) > {}", 1000 + i),
            format!("sum by (source_workload) (rate(istio_request_bytes_sum[1m])) > {}e12", 1 + i),
        ]
    });
    by_service.chain(over_all).collect()
}

fn evaluate(criterion: &mut Criterion) {
    let (head, _) = filled();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let engine = Engine::new(promql::Config::default());
    let now = at(ROWS - 1);
    let mut group = criterion.benchmark_group("evaluate");
    for (name, query) in [
        (
            "p99 by workload",
            format!("histogram_quantile(0.99, sum by (destination_workload, le) (rate({BUCKETS}[1m])))"),
        ),
        ("edges by code", "sum by (source_workload, destination_workload) (rate(istio_requests_total[1m]))".to_owned()),
    ] {
        let expr = engine.parse(&query).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let answer = runtime.block_on(engine.instant(&head, &expr, now, &QueryOptions::default())).unwrap();
                assert!(matches!(answer.value, Value::Vector(samples) if !samples.is_empty()));
            });
        });
    }
    group.finish();

    let rules: Vec<promql::Expr> = rule_texts().iter().map(|text| engine.parse(text).unwrap()).collect();
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(rules.len() as u64));
    group.bench_function("a round that shares its selections", |bencher| {
        bencher.iter(|| {
            let options = QueryOptions { cache: Some(SelectionCache::new()), ..QueryOptions::default() };
            for expr in &rules {
                let answer = runtime.block_on(engine.instant(&head, expr, now, &options)).unwrap();
                assert!(matches!(answer.value, Value::Vector(samples) if samples.is_empty()));
            }
        });
    });
    group.finish();
}

/// As Istio's provider sends them: one text each, of a few edges and outcomes.
fn log_request(records: usize) -> Vec<u8> {
    let record = |at: usize| {
        let (code, flags, details) = match at % 10 {
            0 => (503, "UH", "no_healthy_upstream"),
            1 => (403, "-", "rbac_access_denied_matched_policy[ns[shop]-policy[deny-get]-rule[0]]"),
            _ => (200, "-", "via_upstream"),
        };
        let line = format!(
            "[2026-01-15T10:00:00.{:03}Z] \"GET /cart/{at} HTTP/1.1\" {code} {flags} {details} - \"-\" 0 {at} {} 6 \"-\" \
             \"Mozilla/5.0 (X11; Linux x86_64)\" \"422dff1b-2f95-9d22-87da-{at:012}\" \"cart.shop:8080\" \"10.0.0.7:8080\" \
             outbound|8080||service-{:02}.shop.svc.cluster.local 10.0.0.1:{} 10.96.0.1:8080 10.0.0.1:34402 - default\n",
            at % 1000,
            at % 50,
            at % EDGES,
            40_000 + at % 20_000,
        );
        LogRecord {
            time_unix_nano: 1_768_471_200_000_000_000 + at as u64,
            body: Some(AnyValue { value: Some(any_value::Value::StringValue(line)) }),
            trace_id: (at as u128 + 1).to_be_bytes().to_vec(),
            ..LogRecord::default()
        }
    };
    let pod = AnyValue { value: Some(any_value::Value::StringValue("web-v1-6f89b6c557-sg2bc".to_owned())) };
    let attributes = vec![KeyValue { key: "k8s.pod.name".to_owned(), value: Some(pod), ..KeyValue::default() }];
    let scope_logs = vec![ScopeLogs { log_records: (0..records).map(record).collect(), ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn access_logs(criterion: &mut Criterion) {
    const RECORDS: usize = 2048;
    let body = log_request(RECORDS);
    let (reader, limits) = (Reader::new(&[]), Limits::default());
    let now = Timestamp::from_millis(1_768_471_300_000);
    let decode = || decode_logs_protobuf(&body, &reader, &limits, now).unwrap().records;
    let mut group = criterion.benchmark_group("access logs");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("a request of Istio's lines decoded", |bencher| {
        bencher.iter(|| assert_eq!(decode().len(), RECORDS));
    });
    group.bench_function("the same by the derived decoder, without reading the lines", |bencher| {
        bencher.iter(|| black_box(ExportLogsServiceRequest::decode(&*body).unwrap()));
    });
    let records = decode();
    group.bench_function("a batch for the store", |bencher| {
        bencher.iter(|| assert!(encode_batch(&records).is_some()));
    });
    let batch = encode_batch(&records).unwrap();
    println!("{} bytes a record as sent, {} stored", body.len() / RECORDS, batch.bytes.len() / RECORDS);
    group.finish();
}

criterion_group! {
    name = parts;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    targets = parse, append_and_encode, select, evaluate, access_logs
}
criterion_main!(parts);
