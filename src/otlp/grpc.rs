//! The gRPC face: the services of traces, metrics and logs, which are one but for what they do with a message.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::future::BoxFuture;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::{Code, Request, Response};

use super::connections::LimitedListener;
use super::http::metrics_response;
use super::intake::{self, Intake, MetricsRefusal, Refused};
use super::known::Fingerprint;
use super::metrics::Encoding;
use super::status::Status;
use super::{Config, ReceiverError, decode, logs};
use crate::web_config::{Guard, Refusal};

/// Streams of one connection at once; the OpenTelemetry SDKs use one, proxies a few, collectors ten.
const STREAMS_PER_CONNECTION: u32 = 16;
/// Flow-control windows: with [`Config::max_connections`] they bound what can wait unread.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// Room for the windows of all streams: those that wait for their turn are not read, and must not keep the others from it.
const CONNECTION_WINDOW_BYTES: u32 = STREAMS_PER_CONNECTION * STREAM_WINDOW_BYTES;

/// Serves gRPC until `shutdown` fires.
pub(super) async fn serve(
    config: &Config,
    listener: LimitedListener,
    intake: Intake,
    requests: Arc<Semaphore>,
    shutdown: CancellationToken,
) -> Result<(), ReceiverError> {
    let max_request_bytes = config.max_request();
    let traces = ExportServer::<TRACES> { intake: intake.clone(), max_request_bytes, requests: Arc::clone(&requests) };
    let metrics =
        ExportServer::<METRICS> { intake: intake.clone(), max_request_bytes, requests: Arc::clone(&requests) };
    let logs = ExportServer::<LOGS> { intake, max_request_bytes, requests };
    tonic::transport::Server::builder()
        .timeout(config.longest_request())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .layer(tower::util::MapResponseLayer::new(final_when_too_large))
        .layer(tower::filter::AsyncFilterLayer::new(admitting(listener.guard())))
        .add_service(traces)
        .add_service(logs)
        .add_service(metrics)
        .serve_with_incoming_shutdown(listener.into_stream(), shutdown.cancelled_owned())
        .await
        .map_err(ReceiverError::Grpc)
}

/// Refuses who may not send, before the message is read.
fn admitting<B: Send + 'static>(
    guard: Guard,
) -> impl Fn(http::Request<B>) -> BoxFuture<'static, Result<http::Request<B>, tower::BoxError>> + Clone {
    move |request| {
        let guard = guard.clone();
        Box::pin(async move {
            match guard.admit(request.headers()).await {
                Ok(_) => Ok(request),
                Err(Refusal::Unauthorized) => {
                    Err(tonic::Status::unauthenticated("a valid user and password, or a bearer token, is needed")
                        .into())
                }
                // Retryable, as the answer to a full queue.
                Err(Refusal::TooMany) => Err(tonic::Status::unavailable("too many requests").into()),
            }
        })
    }
}

/// tonic answers `OUT_OF_RANGE` to a message over the limit, which OTLP counts as retryable: the client would send the
/// same message for ever. `RESOURCE_EXHAUSTED` without `RetryInfo` is final, and is what gRPC servers in Go answer.
fn final_when_too_large<B>(mut response: http::Response<B>) -> http::Response<B> {
    if let Some(status) = response.headers_mut().get_mut("grpc-status")
        && status.as_bytes() == b"11"
    {
        *status = http::HeaderValue::from_static("8");
    }
    response
}

/// Place of each signal in [`SERVICES`].
const TRACES: usize = 0;
const METRICS: usize = 1;
const LOGS: usize = 2;
/// Full names of the services; each has the one method `Export`.
const SERVICES: [&str; 3] = [
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "opentelemetry.proto.collector.logs.v1.LogsService",
];

/// The service of one signal by hand: the generated servers decode a request whole, which takes up to a hundred times its
/// bytes (see [`crate::wire`]).
#[derive(Clone)]
struct ExportServer<const SIGNAL: usize> {
    intake: Intake,
    max_request_bytes: usize,
    /// One permit for each request that is read and decoded.
    requests: Arc<Semaphore>,
}

impl<const SIGNAL: usize> tonic::server::NamedService for ExportServer<SIGNAL> {
    const NAME: &'static str = SERVICES[SIGNAL];
}

impl<const SIGNAL: usize> tower::Service<http::Request<tonic::body::Body>> for ExportServer<SIGNAL> {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let Self { intake, max_request_bytes, requests } = self.clone();
        Box::pin(async move {
            let service = SERVICES[SIGNAL];
            let is_export = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(service));
            if is_export != Some("/Export") {
                let message = format!("{service} has the one method Export");
                return Ok(tonic::Status::unimplemented(message).into_http());
            }
            // The semaphore is never closed, so the permit is always there. It is held from before the message is read.
            let turn = requests.acquire_owned().await.ok();
            let mut grpc = tonic::server::Grpc::new(RawCodec)
                .accept_compressed(Gzip)
                .accept_compressed(Zstd)
                .max_decoding_message_size(max_request_bytes);
            Ok(grpc.unary(Export::<SIGNAL> { intake, turn }, request).await)
        })
    }
}

/// Messages come in and go out as bytes.
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, message: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

/// The permit of a request that is read and decoded; given back before it waits for the store.
type Turn = Option<OwnedSemaphorePermit>;

struct Export<const SIGNAL: usize> {
    intake: Intake,
    turn: Turn,
}

impl<const SIGNAL: usize> tonic::server::UnaryService<Bytes> for Export<SIGNAL> {
    type Response = Vec<u8>;
    type Future = BoxFuture<'static, Result<Response<Vec<u8>>, tonic::Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (intake, turn, body) = (self.intake.clone(), self.turn.take(), request.into_inner());
        Box::pin(async move {
            intake.counters.grpc_requests.fetch_add(1, Relaxed);
            let answer = match SIGNAL {
                TRACES => export_traces(intake, body, turn).await,
                METRICS => export_metrics(intake, body, turn).await,
                _ => export_logs(intake, body, turn).await,
            };
            answer.map(Response::new)
        })
    }
}

async fn export_traces(intake: Intake, body: Bytes, turn: Turn) -> Result<Vec<u8>, tonic::Status> {
    let (limits, kept) = (Arc::clone(&intake.limits), Arc::clone(&intake.kept));
    let decode = move |body: &[u8]| decode::decode_protobuf_after(&kept, body, &limits, intake::now());
    let decoded = decoded(&intake, body, decode).await?;
    let taken = intake.take(decoded, turn).await;
    taken.map(|answer| answer.encode_to_vec()).map_err(|refused| unstored("span", refused))
}

async fn export_logs(intake: Intake, body: Bytes, turn: Turn) -> Result<Vec<u8>, tonic::Status> {
    let Some((reader, sink)) = intake.logs.clone() else {
        return Err(tonic::Status::unimplemented("logs are not taken here: remove this exporter"));
    };
    let limits = Arc::clone(&intake.limits);
    let decode = move |body: &[u8]| {
        let decoded = logs::decode_logs_protobuf(body, &reader, &limits, intake::now());
        decoded.map(|decoded| (decoded, Fingerprint::of(body)))
    };
    let decoded = decoded(&intake, body, decode).await?;
    let taken = intake.take_logs(&sink, decoded, turn).await;
    taken.map(|answer| answer.encode_to_vec()).map_err(|refused| unstored("access log", refused))
}

/// The decoded message.
async fn decoded<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    intake: &Intake,
    body: Bytes,
    decode: impl FnOnce(&[u8]) -> Result<T, E> + Send + 'static,
) -> Result<T, tonic::Status> {
    let decoded = intake::run_decode(body.len(), move || decode(&body)).await;
    let decoded = decoded.ok_or_else(|| tonic::Status::internal("the request could not be decoded"))?;
    decoded.map_err(|error| {
        intake.counters.malformed_requests.fetch_add(1, Relaxed);
        tonic::Status::invalid_argument(error.to_string())
    })
}

/// Without a time to come again at, the request is refused for good.
fn unstored(of: &str, refused: Refused) -> tonic::Status {
    let retry_after = refused.retry_after();
    let code = if retry_after.is_some() { Code::Unavailable } else { Code::Internal };
    Status::new(code, &refused.message(of), retry_after).into_grpc()
}

async fn export_metrics(intake: Intake, body: Bytes, _turn: Turn) -> Result<Vec<u8>, tonic::Status> {
    let Some(metrics) = intake.metrics.clone() else {
        return Err(tonic::Status::unimplemented("metrics are not taken here: remove this exporter"));
    };
    match intake::take_metrics(metrics, body, Encoding::Protobuf).await {
        Ok(taken) => Ok(metrics_response(&taken).encode_to_vec()),
        Err(MetricsRefusal::Malformed(reason)) => {
            intake.counters.malformed_requests.fetch_add(1, Relaxed);
            Err(tonic::Status::invalid_argument(reason))
        }
        Err(MetricsRefusal::Internal) => Err(tonic::Status::internal("the request could not be decoded")),
        Err(MetricsRefusal::Unavailable(reason)) => {
            let message = format!("not all is stored: {reason}");
            Err(Status::new(Code::Unavailable, &message, Some(intake.retry_after)).into_grpc())
        }
    }
}
