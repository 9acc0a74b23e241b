//! Receives OTLP spans, metrics and logs over gRPC (4317) and HTTP (4318), and Zipkin v2 JSON over HTTP, and decodes them.
//!
//! In: export requests from proxies, collectors and applications. Out: deliveries of spans on a bounded channel;
//! when it is full the client is told to retry; access logs the same way on a channel of their own;
//! metrics go into [`push::Intake`]. Invariant: a request is answered as taken when all of it is stored, with its bad spans
//! counted in the partial success; else it is refused whole, with a retryable status; memory is bounded by [`Config`]
//! whatever arrives. Knows nothing of what spans mean, and of logs only that `access_logs` knows which ones are its own.

mod connections;
mod counters;
mod decode;
mod grpc;
mod http;
mod intake;
mod json;
mod json_scalars;
mod known;
mod limits;
mod logs;
pub(crate) mod metrics;
mod pairs;
mod status;
mod zipkin;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use counters::{Counters, Rejection, Trim};
pub use decode::{DecodeError, Decoded, decode_json, decode_protobuf};
pub use http::metrics_route;
pub use json::JsonError;
pub use limits::{Limits, Tally};
pub use logs::{DecodedLogs, LogRejection, LogTally, LogTrim, LogsError, decode_logs_json, decode_logs_protobuf};

use crate::access_logs::{self, AccessRecord};
use crate::batching::Delivery;
use crate::model::Span;
use crate::push;
use crate::units::{ByteSize, PromDuration};
use crate::web_config::{self, Guard};
use connections::LimitedListener;
use intake::Intake;

/// Where to listen, and the limits of what is taken.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the gRPC server. Default `127.0.0.1:4317`.
    pub grpc_listen: SocketAddr,
    /// Address of the HTTP server. Default `127.0.0.1:4318`.
    pub http_listen: SocketAddr,
    /// TLS, client certificates, users of both servers: a file in Prometheus' web configuration format.
    pub config_file: Option<PathBuf>,
    /// Files with a bearer token each, for senders.
    pub bearer_token_files: Vec<PathBuf>,
    /// Largest request, measured both as received and after decompression. Default 16 MiB.
    pub max_request_bytes: ByteSize,
    /// Requests read and decoded at the same time, both servers together; more wait their turn. Default 8.
    pub max_concurrent_requests: usize,
    /// Open connections of each server; more wait in the kernel's accept queue. Every proxy of a mesh keeps some open.
    /// Default 8,192.
    pub max_connections: usize,
    /// Longest time a request may take to arrive and be decoded; then a retryable error. Default 10 s.
    pub request_timeout: PromDuration,
    /// How long a request waits for PostgreSQL to have its spans or log records; then a retryable error, though they are
    /// written later all the same. Shorter than the export timeout of clients, which is 10 s. Default 5 s.
    pub acknowledge_timeout: PromDuration,
    /// Requests that wait for PostgreSQL at the same time, both servers together; more are refused with a retryable error.
    /// Default 8,192.
    pub max_waiting_requests: usize,
    /// What a client is told to wait when the queue is full or PostgreSQL does not have its request yet. Default 1 s.
    pub retry_after: PromDuration,
    /// Limits of one request, one span and one log record.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grpc_listen: SocketAddr::from(([127, 0, 0, 1], 4317)),
            http_listen: SocketAddr::from(([127, 0, 0, 1], 4318)),
            config_file: None,
            bearer_token_files: Vec::new(),
            max_request_bytes: ByteSize(16 << 20),
            max_concurrent_requests: 8,
            max_connections: 8192,
            request_timeout: PromDuration::from(Duration::from_secs(10)),
            acknowledge_timeout: PromDuration::from(Duration::from_secs(5)),
            max_waiting_requests: 8192,
            retry_after: PromDuration::from(Duration::from_secs(1)),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Who may connect and send.
    pub fn access(&self) -> web_config::Settings {
        let Self { config_file, bearer_token_files, .. } = self.clone();
        web_config::Settings { config_file, bearer_token_files }
    }

    /// How long a request may take from its first byte to its answer.
    fn longest_request(&self) -> Duration {
        self.request_timeout.get().saturating_add(self.acknowledge_timeout.get())
    }

    /// Largest request as a number of bytes of this machine.
    fn max_request(&self) -> usize {
        usize::try_from(self.max_request_bytes.0).unwrap_or(usize::MAX)
    }
}

/// Why the receiver could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// An address could not be bound.
    #[error("listen for OTLP on {address} ({key}): is another collector running there?")]
    Bind {
        /// Which key of the configuration says so.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Who may send is written wrongly.
    #[error(transparent)]
    Access(#[from] web_config::Error),
    /// The gRPC server stopped by itself.
    #[error("OTLP gRPC server")]
    Grpc(#[source] tonic::transport::Error),
    /// The HTTP server stopped by itself.
    #[error("OTLP HTTP server")]
    Http(#[source] std::io::Error),
}

/// Both servers, bound and not yet serving.
pub struct Receiver {
    config: Config,
    grpc: TcpListener,
    http: TcpListener,
    grpc_address: SocketAddr,
    http_address: SocketAddr,
    intake: Intake,
    guard: Guard,
}

impl Receiver {
    /// Binds both addresses. Decoded spans go to `sink` in chunks of about a megabyte, so that the capacity of the
    /// channel bounds the memory of the queue.
    ///
    /// # Errors
    /// When an address cannot be bound, or `config_file` is wrong.
    pub async fn bind(config: Config, sink: mpsc::Sender<Delivery<Span>>) -> Result<Self, ReceiverError> {
        let listeners = Self::listen(&config).await?;
        Self::on(config, sink, listeners)
    }

    /// Binds both addresses, gRPC first: for [`Receiver::on`].
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn listen(config: &Config) -> Result<(TcpListener, TcpListener), ReceiverError> {
        let grpc = listen("otlp.grpc_listen", config.grpc_listen).await?;
        Ok((grpc, listen("otlp.http_listen", config.http_listen).await?))
    }

    /// As [`Receiver::bind`], on addresses that are bound already.
    ///
    /// # Errors
    /// When `config_file` is wrong, or the system does not tell an address.
    pub fn on(
        config: Config,
        sink: mpsc::Sender<Delivery<Span>>,
        (grpc, http): (TcpListener, TcpListener),
    ) -> Result<Self, ReceiverError> {
        let guard = Guard::open("otlp.config_file", config.access(), true)?;
        let grpc_address = grpc.local_addr().map_err(ReceiverError::Http)?;
        let http_address = http.local_addr().map_err(ReceiverError::Http)?;
        let intake = Intake::new(&config, sink);
        Ok(Self { config, grpc, http, grpc_address, http_address, intake, guard })
    }

    /// Takes metrics too, which go to `intake`; without it they are answered with "unimplemented".
    #[must_use]
    pub fn taking_metrics(mut self, intake: push::Intake) -> Self {
        self.intake.metrics = Some(intake);
        self
    }

    /// Takes access logs too, which go to `sink` as spans do; without it logs are answered with "unimplemented".
    #[must_use]
    pub fn taking_access_logs(
        mut self,
        reader: access_logs::Reader,
        sink: mpsc::Sender<Delivery<AccessRecord>>,
    ) -> Self {
        self.intake.logs = Some((reader, sink));
        self
    }

    /// The address of the gRPC server, with the port the system chose when the configuration says 0.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// The address of the HTTP server.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// What was received, refused and cut so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.intake.counters)
    }

    /// Who may connect and send.
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }

    /// Serves until `shutdown` fires, then finishes the requests under way, for at most
    /// `request_timeout` and `acknowledge_timeout` together, and returns.
    ///
    /// # Errors
    /// When a server stops by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ReceiverError> {
        let Self { config, grpc, http, intake, guard, .. } = self;
        // One budget for both servers: what bounds memory is the number of bodies held at once.
        let requests = Arc::new(Semaphore::new(config.max_concurrent_requests.max(1)));
        let grpc = LimitedListener::new(grpc, config.max_connections, guard.clone());
        let http = LimitedListener::new(http, config.max_connections, guard.clone());
        let by_grpc = grpc::serve(&config, grpc, intake.clone(), Arc::clone(&requests), shutdown.clone());
        let by_http = http::serve(&config, http, intake, requests, shutdown.clone());
        let access = async {
            guard.run(shutdown.clone()).await;
            Ok(())
        };
        // A client that never finishes its request must not hold the process.
        let cut_off = async {
            shutdown.cancelled().await;
            tokio::time::sleep(config.longest_request()).await;
        };
        tokio::select! {
            served = async { tokio::try_join!(by_grpc, by_http, access) } => served.map(|_| ()),
            () = cut_off => Ok(()),
        }
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ReceiverError> {
    TcpListener::bind(address).await.map_err(|source| ReceiverError::Bind { key, address, source })
}
