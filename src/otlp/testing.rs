//! A receiver over real sockets, for the tests of each kind of what it takes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Config, Counters, Receiver, ReceiverError};
use crate::batching::{Delivery, Verdict};

pub(super) const PROTO_TYPE: (&str, &str) = ("content-type", "application/x-protobuf");

/// A receiver that runs.
pub(super) struct Running<T> {
    pub(super) http: String,
    pub(super) grpc: String,
    /// What was stored.
    pub(super) queue: mpsc::Receiver<Vec<T>>,
    pub(super) counters: Arc<Counters>,
    pub(super) shutdown: CancellationToken,
    pub(super) task: tokio::task::JoinHandle<Result<(), ReceiverError>>,
}

/// Defaults, with ports that the system chooses.
pub(super) fn config() -> Config {
    let mut config = Config::default();
    config.grpc_listen.set_port(0);
    config.http_listen.set_port(0);
    config
}

impl<T: Send + 'static> Running<T> {
    /// Runs it; its deliveries wait for a store.
    pub(super) fn of(receiver: Receiver) -> Self {
        let (http, grpc) =
            (format!("http://{}", receiver.http_address()), format!("http://{}", receiver.grpc_address()));
        let (counters, shutdown) = (receiver.counters(), CancellationToken::new());
        let task = tokio::spawn(receiver.run(shutdown.clone()));
        Self { http, grpc, queue: mpsc::channel(1).1, counters, shutdown, task }
    }

    /// Its deliveries are stored as soon as they come.
    pub(super) fn storing(self, mut deliveries: mpsc::Receiver<Delivery<T>>) -> Self {
        let (stored, queue) = mpsc::channel(100);
        tokio::spawn(async move {
            while let Some(Delivery { items, receipt }) = deliveries.recv().await {
                receipt.settle(Verdict::Stored);
                stored.send(items).await.unwrap();
            }
        });
        Self { queue, ..self }
    }

    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> reqwest::Response {
        let post = reqwest::Client::new().post(format!("{}{path}", self.http)).body(body);
        headers.iter().fold(post, |post, (name, value)| post.header(*name, *value)).send().await.unwrap()
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("stops in time").unwrap().unwrap();
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
