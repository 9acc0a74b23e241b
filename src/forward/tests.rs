//! Remotes against receivers over real sockets.
#![allow(clippy::unwrap_used, reason = "tests")]

mod messages;
mod resume;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::AsyncReadExt as _;

use self::messages::{RequestV1, RequestV2};
use super::*;
use crate::model::{METRIC_NAME, Timestamp, stale_marker};
use crate::series;

type Got = Arc<Mutex<Vec<(Labels, i64, u64)>>>;
type Noted = Arc<Mutex<Vec<(String, String, f64, i64)>>>;
type Asked = Arc<Mutex<Vec<(Instant, HeaderMap)>>>;

/// A receiver that answers as `answer` says, by the number of the request, and keeps what it takes.
struct Receiver {
    url: String,
    got: Got,
    /// Series, labels, value and time of exemplars.
    noted: Noted,
    asked: Asked,
}

#[derive(Clone, Copy)]
enum Reply {
    Take,
    Status(u16),
    RetryAfter(u16, u64),
    Hang,
}

impl Receiver {
    async fn start(answer: impl Fn(usize) -> Reply + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, answer)
    }

    fn serve(
        listener: tokio::net::TcpListener,
        answer: impl Fn(usize) -> Reply + Clone + Send + Sync + 'static,
    ) -> Self {
        let url = format!("http://{}/api/v1/write", listener.local_addr().unwrap());
        let (got, noted, asked) = (Got::default(), Noted::default(), Asked::default());
        let (kept, notes, heard) = (got.clone(), noted.clone(), asked.clone());
        let handler = move |headers: HeaderMap, body: Bytes| {
            let (kept, notes, heard, answer) = (kept.clone(), notes.clone(), heard.clone(), answer.clone());
            async move {
                let number = heard.lock().len();
                heard.lock().push((Instant::now(), headers.clone()));
                match answer(number) {
                    Reply::Take => {
                        kept.lock().extend(decode(&headers, &body, &notes));
                        StatusCode::NO_CONTENT.into_response()
                    }
                    Reply::Status(status) => (StatusCode::from_u16(status).unwrap(), "no").into_response(),
                    Reply::RetryAfter(status, seconds) => {
                        let pause = [("retry-after", seconds.to_string())];
                        (StatusCode::from_u16(status).unwrap(), pause).into_response()
                    }
                    Reply::Hang => std::future::pending().await,
                }
            }
        };
        let router = axum::Router::new().route("/api/v1/write", axum::routing::post(handler));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, got, noted, asked }
    }

    /// Values of each series in the order in which they came.
    fn by_series(&self) -> BTreeMap<String, Vec<i64>> {
        let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (labels, at, _) in self.got.lock().iter() {
            found.entry(labels.to_string()).or_default().push(*at);
        }
        found
    }
}

fn decode(headers: &HeaderMap, body: &[u8], noted: &Noted) -> Vec<(Labels, i64, u64)> {
    assert_eq!(headers["content-encoding"], "snappy");
    let raw = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let mut found = Vec::new();
    if headers["x-prometheus-remote-write-version"] == "2.0.0" {
        assert_eq!(headers["content-type"], "application/x-protobuf;proto=io.prometheus.write.v2.Request");
        let request = RequestV2::decode(&raw[..]).unwrap();
        assert_eq!(request.symbols[0], "");
        let text = |place: u32| request.symbols[place as usize].as_str();
        for series in &request.series {
            let labels = series.labels.chunks(2).map(|pair| (text(pair[0]), text(pair[1])));
            let labels: Labels = labels.collect();
            for one in &series.exemplars {
                let own: Labels = one.labels.chunks(2).map(|pair| (text(pair[0]), text(pair[1]))).collect();
                noted.lock().push((labels.to_string(), own.to_string(), one.value, one.at));
            }
            found.extend(series.samples.iter().map(|s| (labels.clone(), s.at, s.value.to_bits())));
        }
    } else {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        for series in RequestV1::decode(&raw[..]).unwrap().series {
            let names: Vec<&str> = series.labels.iter().map(|label| label.name.as_str()).collect();
            assert!(names.is_sorted(), "{names:?}");
            let labels: Labels = series.labels.iter().map(|label| (&label.name, &label.value)).collect();
            for one in &series.exemplars {
                let own: Labels = one.labels.iter().map(|label| (&label.name, &label.value)).collect();
                noted.lock().push((labels.to_string(), own.to_string(), one.value, one.at));
            }
            found.extend(series.samples.iter().map(|s| (labels.clone(), s.at, s.value.to_bits())));
        }
    }
    found
}

fn config(url: &str, more: &str) -> RemoteWriteConfig {
    let text = format!(
        "{{url: '{url}', name: r, metadata_config: {{send: false}}, queue_config: {{batch_send_deadline: 50ms, \
         min_backoff: 10ms, max_backoff: 50ms{more}}}}}"
    );
    let (config, problems) = crate::yaml::decode(&text);
    assert_eq!(problems, [], "{text}");
    config.unwrap()
}

struct Rig {
    head: Head,
    clock: Clock,
    settings: watch::Sender<Arc<Settings>>,
    status: Status,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn start(config: RemoteWriteConfig) -> Self {
        Self::start_with(config, None)
    }

    fn start_with(config: RemoteWriteConfig, keeper: Option<Keeper>) -> Self {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (head, clock) = (Head::new(series::Config::default()), Clock::system());
        let external_labels = Labels::from_pairs([("cluster", "x"), ("job", "external")]);
        let (settings, watched) =
            watch::channel(Arc::new(Settings { remotes: vec![config], external_labels, ..Settings::default() }));
        let forwarder = Forwarder::new(watched, (head.clone(), scrape::Status::default()), clock, keeper);
        let (status, shutdown) = (forwarder.status(), CancellationToken::new());
        let task = tokio::spawn(forwarder.run(shutdown.clone()));
        Self { head, clock, settings, status, shutdown, task }
    }

    /// Samples of `series` series at `times`, milliseconds.
    fn append(&self, series: usize, times: std::ops::Range<i64>) {
        self.append_as(series, times, |number| (number / 1000) as f64);
    }

    fn append_as(&self, series: usize, times: std::ops::Range<i64>, value: impl Fn(i64) -> f64) {
        let of = |i: usize| {
            let pairs = [(METRIC_NAME, "up".to_owned()), ("job", "a".to_owned()), ("i", i.to_string())];
            self.head.intern(&Labels::from_pairs(pairs)).unwrap()
        };
        for at in times {
            let batch: Vec<_> = (0..series).map(|i| (of(i), value(at * 1000 + i as i64))).collect();
            assert_eq!(self.head.append_at(Timestamp::from_millis(at), &batch).accepted, series);
        }
    }

    fn counters(&self) -> Arc<Counters> {
        self.status.remotes()[0].1.clone()
    }

    async fn until(&self, what: &str, done: impl Fn(&Counters) -> bool) {
        let (began, counters) = (Instant::now(), self.counters());
        while !done(&counters) {
            assert!(began.elapsed() < Duration::from_secs(20), "{what}: {counters:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(self) -> Arc<Counters> {
        let counters = self.counters();
        self.shutdown.cancel();
        self.task.await.unwrap();
        counters
    }
}

#[tokio::test]
async fn sends_samples_with_external_labels_and_stale_markers_in_both_protocols() {
    for protocol in ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"] {
        let receiver = Receiver::start(|_| Reply::Take).await;
        let mut config = config(&receiver.url, "");
        config.send_exemplars = true;
        config.protobuf_message = crate::yaml::decode(&format!("'{protocol}'")).0.unwrap();
        config.headers = BTreeMap::from([("X-Scope-OrgID".to_owned(), "team".to_owned())]);
        let rig = Rig::start(config);
        let exemplar = |at: i64| {
            let labels = Labels::from_pairs([("trace_id", format!("t{at}"))]);
            series::Exemplar { labels, value: 0.5, at: Timestamp::from_millis(at) }
        };
        let of = Labels::from_pairs([(METRIC_NAME, "up"), ("job", "a"), ("i", "0")]);
        (1..3).for_each(|at| rig.head.exemplars().add(&of, exemplar(at)).unwrap());
        rig.append(1, 1..3);
        let bucket = [(METRIC_NAME, "lat_bucket"), ("le", "+Inf"), ("src", "é")];
        let series = rig.head.intern(&Labels::from_pairs(bucket)).unwrap();
        rig.head.append_at(Timestamp::from_millis(3), &[(series, stale_marker())]);
        rig.until("all are sent", |c| c.sent_samples.load(Relaxed) == 3).await;
        let got = receiver.got.lock().clone();
        let up = r#"up{cluster="x", i="0", job="a"}"#;
        let shown: Vec<(String, i64, u64)> = got.iter().map(|(l, at, bits)| (l.to_string(), *at, *bits)).collect();
        let expect = [
            (up.to_owned(), 1, 1f64.to_bits()),
            (up.to_owned(), 2, 2f64.to_bits()),
            (r#"lat_bucket{cluster="x", job="external", le="+Inf", src="é"}"#.to_owned(), 3, stale_marker().to_bits()),
        ];
        assert_eq!(shown, expect, "{protocol}");
        let note = |at: i64| (up.to_owned(), format!("{{trace_id=\"t{at}\"}}"), 0.5, at);
        assert_eq!(*receiver.noted.lock(), [note(1), note(2)], "{protocol}");
        let headers = receiver.asked.lock()[0].1.clone();
        assert_eq!(headers["x-scope-orgid"], "team");
        let counters = rig.stop().await;
        assert_eq!((counters.newest_in_ms.load(Relaxed), counters.newest_sent_ms.load(Relaxed)), (3, 3));
    }
}

#[tokio::test]
async fn a_receiver_that_fails_for_a_while_gets_every_sample_once_and_in_order() {
    let hang = |n: usize| if n < 2 { Reply::Hang } else { Reply::Take };
    let fails = |status: u16| move |n: usize| if n < 5 { Reply::Status(status) } else { Reply::Take };
    let mut cases: Vec<(&str, Receiver, &str)> = Vec::new();
    cases.push(("500", Receiver::start(fails(500)).await, ""));
    cases.push(("503", Receiver::start(fails(503)).await, ""));
    cases.push(("429", Receiver::start(fails(429)).await, ", retry_on_http_429: true"));
    cases.push(("slow", Receiver::start(hang).await, ""));
    for (name, receiver, more) in cases {
        let mut config = config(&receiver.url, more);
        config.remote_timeout = Duration::from_millis(200).into();
        config.queue_config.max_shards = 4;
        config.queue_config.max_samples_per_send = 7;
        let rig = Rig::start(config);
        for at in 0..20 {
            rig.append(10, at..at + 1);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rig.until(name, |c| c.sent_samples.load(Relaxed) == 200).await;
        let by_series = receiver.by_series();
        assert_eq!(by_series.len(), 10, "{name}");
        assert!(by_series.values().all(|times| *times == (0..20).collect::<Vec<_>>()), "{name}: {by_series:?}");
        let counters = rig.stop().await;
        assert!(counters.retried_samples.load(Relaxed) > 0, "{name}");
        assert_eq!(counters.failed_samples.load(Relaxed), 0, "{name}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_down_or_resets_gets_all_when_it_is_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let rig = Rig::start(config(&format!("http://{address}/api/v1/write"), ""));
    let resets = tokio::spawn(async move {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 16];
            let _ = stream.read(&mut some).await; // then closed with unread bytes: a reset
        }
    });
    rig.append(2, 0..5);
    resets.await.unwrap(); // the listener is gone: connections are refused
    rig.until("it has tried", |c| c.retried_samples.load(Relaxed) >= 50).await;
    rig.append(2, 5..9);
    let receiver = Receiver::serve(tokio::net::TcpListener::bind(address).await.unwrap(), |_| Reply::Take);
    rig.until("all arrive", |c| c.sent_samples.load(Relaxed) == 18).await;
    assert!(receiver.by_series().values().all(|times| *times == (0..9).collect::<Vec<_>>()));
    rig.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_counted_and_the_next_samples_go_on() {
    for status in [400, 404, 413, 415, 429] {
        let receiver = Receiver::start(move |n| if n == 0 { Reply::Status(status) } else { Reply::Take }).await;
        let rig = Rig::start(config(&receiver.url, ""));
        rig.append(3, 0..1);
        rig.until("refused", |c| c.failed_samples.load(Relaxed) == 3).await;
        rig.append(3, 1..2);
        rig.until("sent", |c| c.sent_samples.load(Relaxed) == 3).await;
        let counters = rig.stop().await;
        assert_eq!((counters.retried_samples.load(Relaxed), receiver.asked.lock().len()), (0, 2), "{status}");
    }
}

#[tokio::test]
async fn waits_as_long_as_the_receiver_asks() {
    for status in [503, 429] {
        let receiver = Receiver::start(move |n| if n == 0 { Reply::RetryAfter(status, 1) } else { Reply::Take }).await;
        let rig = Rig::start(config(&receiver.url, ", retry_on_http_429: true"));
        rig.append(1, 0..1);
        rig.until("sent", |c| c.sent_samples.load(Relaxed) == 1).await;
        let asked: Vec<Instant> = receiver.asked.lock().iter().map(|(at, _)| *at).collect();
        assert!(asked[1] - asked[0] >= Duration::from_millis(990), "{:?}", asked[1] - asked[0]);
        rig.stop().await;
    }
}

#[tokio::test]
async fn while_the_receiver_is_away_a_bounded_part_waits_and_the_rest_is_counted() {
    let (is_back, back) = watch::channel(false);
    let receiver = Receiver::start(move |_| if *back.borrow() { Reply::Take } else { Reply::Status(500) }).await;
    let mut config = config(&receiver.url, ", capacity: 10");
    config.backlog_limit_bytes = crate::units::ByteSize(200_000);
    let rig = Rig::start(config);
    // Values that do not compress, so that a few batches fill the small backlog.
    let value = |at: i64| f64::from_bits((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12);
    for at in 0..60 {
        rig.append_as(300, at * 10..at * 10 + 10, value);
        rig.head.drain_journal();
    }
    rig.until("the backlog overflows", |c| c.dropped_backlog.load(Relaxed) > 0).await;
    is_back.send(true).unwrap();
    let all = 300 * 600;
    rig.until("what is left arrives", |c| c.sent_samples.load(Relaxed) + c.dropped_backlog.load(Relaxed) == all).await;
    let by_series = receiver.by_series();
    assert_eq!(by_series.len(), 300);
    for times in by_series.values() {
        assert!(times.is_sorted() && times.last() == Some(&599), "{times:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn samples_past_the_age_limit_are_dropped_instead_of_sent() {
    let receiver = Receiver::start(|_| Reply::Take).await;
    let rig = Rig::start(config(&receiver.url, ", sample_age_limit: 1m"));
    let now = rig.clock.now().as_millis();
    rig.append(1, now - 90_000..now - 89_998);
    rig.append(1, now..now + 1);
    rig.until("sent", |c| c.sent_samples.load(Relaxed) == 1).await;
    assert_eq!(rig.stop().await.dropped_too_old.load(Relaxed), 2);
}

#[tokio::test]
async fn the_end_sends_what_waits_and_a_reload_only_what_came_since() {
    let (first, second) = (Receiver::start(|_| Reply::Take).await, Receiver::start(|_| Reply::Take).await);
    let slow = |url: &str| {
        let mut config = config(url, "");
        config.queue_config.batch_send_deadline = Duration::from_secs(3600).into();
        config
    };
    let rig = Rig::start(slow(&first.url));
    rig.append(1, 0..2);
    let changed = Settings { remotes: vec![slow(&second.url)], ..Settings::clone(&rig.settings.borrow()) };
    rig.settings.send(Arc::new(changed)).unwrap();
    while first.got.lock().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rig.append(1, 2..4);
    rig.stop().await;
    let times = |receiver: &Receiver| receiver.got.lock().iter().map(|(_, at, _)| *at).collect::<Vec<_>>();
    assert_eq!((times(&second), times(&first)[..2].to_vec()), (vec![2, 3], vec![0, 1]));
}

#[test]
fn mistakes_are_named_with_their_key_and_what_has_no_effect_is_warned_of() {
    let read = |text: &str| {
        let (remotes, problems) = crate::yaml::decode::<Vec<RemoteWriteConfig>>(text);
        assert_eq!(problems, [], "{text}");
        remotes.unwrap()
    };
    for (text, expect) in [
        ("[{url: 'ftp://x'}]", "remote_write[0]: url is not an http or https URL"),
        (
            "[{url: 'http://x'}, {url: 'http://x'}]",
            "remote_write[1]: another entry has the name \"6c5aee\": give each a `name` of its own",
        ),
        (
            "[{url: 'http://x', queue_config: {max_shards: 0}}]",
            "remote_write[0]: queue_config.min_shards is greater than max_shards",
        ),
        (
            "[{url: 'http://x', queue_config: {capacity: 0}}]",
            "remote_write[0]: queue_config.capacity must be greater than 0",
        ),
        (
            "[{url: 'http://x', backlog_limit_bytes: 1MiB}]",
            "remote_write[0]: backlog_limit_bytes must be at least 4MiB, so that it holds some batches of the journal",
        ),
        (
            "[{url: 'http://x', headers: {Authorization: x}}]",
            "remote_write[0]: http_headers: setting header `Authorization` is not allowed",
        ),
        (
            "[{url: 'http://x', headers: {X-Prometheus-Remote-Write-Version: '3'}}]",
            "remote_write[0]: headers: X-Prometheus-Remote-Write-Version is a reserved header, it must not be changed",
        ),
    ] {
        let wrong = check(&read(text));
        let same_name =
            expect.contains("another entry") && wrong.iter().all(|w| w.contains("another entry has the name"));
        assert!(same_name || wrong == [expect], "{wrong:?}");
    }
    let fine = read("[{url: 'http://x', send_exemplars: true, sigv4: {region: eu}}]");
    assert_eq!(check(&fine), [""; 0]);
    assert_eq!(warnings(&fine), ["remote_write[0].sigv4 is not supported: requests are not signed"]);
}
