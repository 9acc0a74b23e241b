//! The gRPC face: `TraceService` and `MetricsService`, and a clear refusal for logs.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::{Code, Request, Response};

use super::connections::LimitedListener;
use super::http::metrics_response;
use super::intake::{self, Intake, MetricsRefusal};
use super::metrics::Encoding;
use super::status::Status;
use super::{Config, ReceiverError, decode};
use crate::web_config::{Guard, Refusal};

/// Streams of one connection at once; the OpenTelemetry SDKs use one, proxies a few.
const STREAMS_PER_CONNECTION: u32 = 64;
/// Flow-control windows: with [`Config::max_connections`] they bound what can wait unread.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// Serves gRPC until `shutdown` fires.
pub(super) async fn serve(
    config: &Config,
    listener: LimitedListener,
    intake: Intake,
    requests: Arc<Semaphore>,
    shutdown: CancellationToken,
) -> Result<(), ReceiverError> {
    let metrics = MetricsServer { intake: intake.clone(), max_request_bytes: config.max_request() };
    let traces = TraceServer { intake, max_request_bytes: config.max_request() };
    // This one decodes before it refuses, so it takes a small message only; a larger one is refused for its size.
    let logs = LogsServiceServer::new(Unimplemented).accept_compressed(Gzip).accept_compressed(Zstd);
    tonic::transport::Server::builder()
        .timeout(config.request_timeout.get())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .layer(tower::util::MapResponseLayer::new(final_when_too_large))
        .layer(tower::filter::AsyncFilterLayer::new(admitting(listener.guard())))
        .layer(tower::limit::GlobalConcurrencyLimitLayer::with_semaphore(requests))
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

/// `TraceService` by hand: the generated server decodes a request whole, which takes up to a hundred times its bytes
/// (see [`crate::wire`]).
#[derive(Clone)]
struct TraceServer {
    intake: Intake,
    max_request_bytes: usize,
}

impl tonic::server::NamedService for TraceServer {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tower::Service<http::Request<tonic::body::Body>> for TraceServer {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let Self { intake, max_request_bytes } = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
                return Ok(tonic::Status::unimplemented("TraceService has the one method Export").into_http());
            }
            let mut grpc = tonic::server::Grpc::new(RawCodec::default())
                .accept_compressed(Gzip)
                .accept_compressed(Zstd)
                .max_decoding_message_size(max_request_bytes);
            Ok(grpc.unary(Export(intake), request).await)
        })
    }
}

/// `MetricsService` by hand, for the same reason.
#[derive(Clone)]
struct MetricsServer {
    intake: Intake,
    max_request_bytes: usize,
}

impl tonic::server::NamedService for MetricsServer {
    const NAME: &'static str = "opentelemetry.proto.collector.metrics.v1.MetricsService";
}

impl tower::Service<http::Request<tonic::body::Body>> for MetricsServer {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let Self { intake, max_request_bytes } = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" {
                return Ok(tonic::Status::unimplemented("MetricsService has the one method Export").into_http());
            }
            let mut grpc = tonic::server::Grpc::new(RawCodec::default())
                .accept_compressed(Gzip)
                .accept_compressed(Zstd)
                .max_decoding_message_size(max_request_bytes);
            Ok(grpc.unary(ExportMetrics(intake), request).await)
        })
    }
}

/// Messages come in as bytes and answers go out as `R`.
struct RawCodec<R>(PhantomData<R>);

impl<R> Default for RawCodec<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R: Message + 'static> tonic::codec::Codec for RawCodec<R> {
    type Encode = R;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<R: Message> tonic::codec::Encoder for RawCodec<R> {
    type Item = R;
    type Error = tonic::Status;

    fn encode(&mut self, item: R, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        item.encode(out).map_err(|error| tonic::Status::internal(error.to_string()))
    }
}

impl<R> tonic::codec::Decoder for RawCodec<R> {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, message: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

struct Export(Intake);

impl tonic::server::UnaryService<Bytes> for Export {
    type Response = ExportTraceServiceResponse;
    type Future = BoxFuture<'static, Result<Response<ExportTraceServiceResponse>, tonic::Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(export(self.0.clone(), request.into_inner()))
    }
}

async fn export(intake: Intake, body: Bytes) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
    intake.counters.grpc_requests.fetch_add(1, Relaxed);
    let (limits, size_bytes) = (Arc::clone(&intake.limits), body.len());
    let decode = move || decode::decode_protobuf(&body, &limits, intake::now());
    let decoded = intake::run_decode(size_bytes, decode).await;
    let decoded = decoded.ok_or_else(|| tonic::Status::internal("the request could not be decoded"))?;
    let decoded = decoded.map_err(|error| {
        intake.counters.malformed_requests.fetch_add(1, Relaxed);
        tonic::Status::invalid_argument(error.to_string())
    })?;
    intake.take(decoded).map(Response::new).map_err(|refused| {
        let message = "the span queue is full, send again later";
        Status::new(Code::Unavailable, message, Some(refused.retry_after)).into_grpc()
    })
}

struct ExportMetrics(Intake);

impl tonic::server::UnaryService<Bytes> for ExportMetrics {
    type Response = ExportMetricsServiceResponse;
    type Future = BoxFuture<'static, Result<Response<ExportMetricsServiceResponse>, tonic::Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(export_metrics(self.0.clone(), request.into_inner()))
    }
}

async fn export_metrics(intake: Intake, body: Bytes) -> Result<Response<ExportMetricsServiceResponse>, tonic::Status> {
    intake.counters.grpc_requests.fetch_add(1, Relaxed);
    let Some(metrics) = intake.metrics.clone() else {
        return Err(tonic::Status::unimplemented("metrics are not taken here: remove this exporter"));
    };
    match intake::take_metrics(metrics, body, Encoding::Protobuf).await {
        Ok(taken) => Ok(Response::new(metrics_response(&taken))),
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

struct Unimplemented;

#[tonic::async_trait]
impl LogsService for Unimplemented {
    async fn export(
        &self,
        _: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(
            "meshscope takes traces and metrics over OTLP, not logs: remove this logs exporter",
        ))
    }
}
