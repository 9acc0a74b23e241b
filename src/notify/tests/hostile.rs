//! Receivers as they are at three in the morning: hanging, failing, over their limit, resetting, slow; beside a good one.

use std::collections::HashMap;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a receiver does with one connection.
#[derive(Clone, Copy)]
enum Act {
    Answer(u16),
    /// Answers 200 after that time.
    Slow(Duration),
    /// Takes the request and never answers.
    Hang,
    /// Breaks the connection off before it has read the request, which resets it.
    Reset,
}

/// What arrived: when, and the body.
type Inbox = Arc<Mutex<Vec<(Instant, String)>>>;

/// A receiver that does these in turn, then answers 200.
async fn acting(acts: Vec<Act>) -> (String, Inbox) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound");
    let inbox: Inbox = Arc::default();
    let kept = Arc::clone(&inbox);
    tokio::spawn(async move {
        let mut acts = acts.into_iter();
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(act(stream, acts.next().unwrap_or(Act::Answer(200)), Arc::clone(&kept)));
        }
    });
    (format!("http://{address}/hook"), inbox)
}

async fn act(mut stream: TcpStream, what: Act, inbox: Inbox) {
    if let Act::Reset = what {
        // Data that was not read when a socket is closed makes the kernel reset the connection.
        let _ = stream.peek(&mut [0; 1]).await;
        inbox.lock().push((Instant::now(), "reset".to_owned()));
        return;
    }
    let body = request(&mut stream).await;
    inbox.lock().push((Instant::now(), body));
    let status = match what {
        Act::Answer(status) => status,
        Act::Slow(time) => {
            tokio::time::sleep(time).await;
            200
        }
        Act::Hang | Act::Reset => return std::future::pending().await,
    };
    let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// The body of a request, by its content-length.
async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lengths = head
                .lines()
                .filter_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let length: usize = lengths.last().unwrap_or(0);
            if body.len() >= length {
                return body.to_owned();
            }
        }
        drop(text);
        let mut part = vec![0; 1 << 20];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return String::new(),
            Ok(count) => read.extend_from_slice(&part[..count]),
        }
    }
}

/// A plan with one receiver for each address, told of the alerts with its name under `to`; requests end after a second.
fn each(receivers: &[(&str, &str)]) -> Arc<Plan> {
    let routes: Vec<String> =
        receivers.iter().map(|(name, _)| format!("{{receiver: '{name}', matchers: ['to=\"{name}\"']}}")).collect();
    let blocks: Vec<String> = receivers
        .iter()
        .map(|(name, url)| format!("{{name: '{name}', webhook_configs: [{{url: '{url}', timeout: 1s}}]}}"))
        .collect();
    plan(&format!(
        "route: {{receiver: '{}', group_by: [alertname], group_wait: 0s, group_interval: 10s, routes: [{}]}}\nreceivers: [{}]\n",
        receivers[0].0,
        routes.join(", "),
        blocks.join(", ")
    ))
}

/// What became of deliveries, by receiver: how many tries, or the error.
async fn outcomes(running: &mut Running, count: usize) -> HashMap<String, Result<(), (u32, String)>> {
    let (mut receivers, mut found) = (HashMap::new(), HashMap::new());
    while found.len() < count {
        let record = tokio::time::timeout(Duration::from_secs(30), running.outbox.recv()).await;
        match record.expect("an outcome in time").expect("it runs") {
            Record::Due(delivery, written) => {
                receivers.insert(delivery.id, delivery.receiver);
                // Whoever has lost patience waits no more.
                let _ = written.send(());
            }
            Record::Delivered { id, .. } => drop(found.insert(receivers[&id].clone(), Ok(()))),
            Record::Failed { id, tries, error, .. } => {
                found.insert(receivers[&id].clone(), Err((tries, error)));
            }
        }
    }
    found
}

#[tokio::test]
async fn receivers_that_hang_fail_or_reset_delay_nobody_and_are_told_when_they_can_be() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let slow = Duration::from_millis(250);
    let mut inboxes = HashMap::new();
    let mut addresses = Vec::new();
    for (name, acts) in [
        ("good", vec![]),
        ("hanging", vec![Act::Hang]),
        ("500", vec![Act::Answer(500), Act::Answer(503)]),
        ("429", vec![Act::Answer(429)]),
        ("resetting", vec![Act::Reset]),
        ("slow", vec![Act::Slow(slow)]),
    ] {
        let (url, inbox) = acting(acts).await;
        addresses.push((name, url));
        inboxes.insert(name, inbox);
    }
    let receivers: Vec<(&str, &str)> = addresses.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let mut running = start_with(each(&receivers), vec![]);
    let began = Instant::now();
    let alerts = receivers.iter().map(|(name, _)| alert(&[("alertname", "X"), ("to", name)], at(0))).collect();
    running.alerts.send(alerts).await.expect("runs");
    let found = outcomes(&mut running, receivers.len()).await;
    for name in ["good", "hanging", "500", "resetting", "slow"] {
        assert_eq!(found[name], Ok(()), "{name}: {:?}", inboxes[name].lock());
    }
    let Err((tries, error)) = &found["429"] else { panic!("429 is final for this flush") };
    assert!(*tries == 1 && error.contains("429"), "{tries} {error}");
    let told = |name: &str| inboxes[name].lock().len();
    let counts = ["good", "slow", "429", "hanging", "resetting", "500"].map(told);
    assert_eq!(counts, [1, 1, 1, 2, 2, 3], "nobody is told twice but who did not say that it was taken");
    let first = inboxes["good"].lock()[0].0.duration_since(began);
    assert!(first < Duration::from_secs(1), "the good one heard after {first:?}, before anybody's time ran out");
    running.shutdown.cancel();
    running.task.await.expect("ends");
}

#[tokio::test]
async fn ten_thousand_alerts_at_once_reach_a_good_receiver_beside_a_dead_one() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (hanging, _) = acting(vec![Act::Hang; 100]).await;
    let (good, inbox) = acting(vec![]).await;
    let mut running = start_with(each(&[("hanging", &hanging), ("good", &good)]), vec![]);
    let one = |i: usize| {
        let to = if i % 2 == 0 { "hanging" } else { "good" };
        alert(&[("alertname", "X"), ("to", to), ("i", &i.to_string())], at(0))
    };
    running.alerts.send((0..10_000).map(one).collect()).await.expect("runs");
    assert_eq!(outcomes(&mut running, 1).await["good"], Ok(()));
    let bodies: Vec<String> = inbox.lock().iter().map(|(_, body)| body.clone()).collect();
    let body: serde_json::Value = serde_json::from_str(&bodies[0]).expect("JSON");
    assert_eq!((bodies.len(), body["alerts"].as_array().map(Vec::len)), (1, Some(5_000)), "all, once");
    running.shutdown.cancel();
    running.task.abort();
}
