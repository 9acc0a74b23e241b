//! The gRPC face: `TraceService`, and clear refusals for logs and metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::{Code, Request, Response};

use super::connections::LimitedListener;
use super::intake::{self, Intake};
use super::status::Status;
use super::{Config, ReceiverError, decode};

/// Streams of one connection at once; the OpenTelemetry SDKs use one, proxies a few.
const STREAMS_PER_CONNECTION: u32 = 64;
/// Flow-control windows: with [`Config::max_connections`] they bound what can wait unread.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;

/// Serves gRPC until `shutdown` fires.
pub(super) async fn serve(
    config: &Config,
    listener: LimitedListener,
    intake: Intake,
    requests: Arc<Semaphore>,
    shutdown: CancellationToken,
) -> Result<(), ReceiverError> {
    let limit = config.max_request();
    let traces = TraceServiceServer::new(Traces(intake))
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .max_decoding_message_size(limit);
    // These two decode before they refuse, so they take a small message only; a larger one is refused for its size.
    let logs = LogsServiceServer::new(Unimplemented).accept_compressed(Gzip).accept_compressed(Zstd);
    let metrics = MetricsServiceServer::new(Unimplemented).accept_compressed(Gzip).accept_compressed(Zstd);
    tonic::transport::Server::builder()
        .timeout(config.request_timeout.get())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .layer(tower::util::MapResponseLayer::new(final_when_too_large))
        .layer(tower::limit::GlobalConcurrencyLimitLayer::with_semaphore(requests))
        .add_service(traces)
        .add_service(logs)
        .add_service(metrics)
        .serve_with_incoming_shutdown(listener.into_stream(), shutdown.cancelled_owned())
        .await
        .map_err(ReceiverError::Grpc)
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

struct Traces(Intake);

#[tonic::async_trait]
impl TraceService for Traces {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
        let Self(intake) = self;
        intake.counters.grpc_requests.fetch_add(1, Relaxed);
        let (request, limits) = (request.into_inner(), Arc::clone(&intake.limits));
        let decoded =
            intake::run_decode(request.encoded_len(), move || decode::spans(request, &limits, intake::now())).await;
        let decoded = decoded.ok_or_else(|| tonic::Status::internal("the request could not be decoded"))?;
        intake.take(decoded).map(Response::new).map_err(|refused| {
            let message = "the span queue is full, send again later";
            Status::new(Code::Unavailable, message, Some(refused.retry_after)).into_grpc()
        })
    }
}

struct Unimplemented;

#[tonic::async_trait]
impl LogsService for Unimplemented {
    async fn export(
        &self,
        _: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("meshscope takes traces over OTLP, not logs: remove this logs exporter"))
    }
}

#[tonic::async_trait]
impl MetricsService for Unimplemented {
    async fn export(
        &self,
        _: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("meshscope takes traces over OTLP, not metrics: let it scrape them instead"))
    }
}
