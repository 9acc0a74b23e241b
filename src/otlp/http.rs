//! The HTTP face: `/v1/traces`, `/v1/logs`, `/v1/metrics` (protobuf and JSON) and `/api/v2/spans` (Zipkin v2 JSON).
//!
//! Statuses as the OTLP spec's "OTLP/HTTP Response" says: 400 is final, 429/502/503/504 are retried by clients.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::connections::LimitedListener;
use super::intake::{self, Intake, MetricsRefusal};
use super::known::Fingerprint;
use super::status::Status;
use super::{Config, Decoded, ReceiverError, decode, logs, metrics, zipkin};
use crate::push;
use crate::web_config::{self, Guard};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
/// Largest window of a zstd frame, as a power of two: RFC 8878 asks decoders for 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

#[derive(Clone)]
struct Face {
    intake: Intake,
    max_request_bytes: usize,
    /// One permit for each request that is read and decoded.
    requests: Arc<Semaphore>,
}

/// Serves HTTP until `shutdown` fires.
pub(super) async fn serve(
    config: &Config,
    listener: LimitedListener,
    intake: Intake,
    requests: Arc<Semaphore>,
    shutdown: CancellationToken,
) -> Result<(), ReceiverError> {
    let face = Face { intake, max_request_bytes: config.max_request(), requests };
    let timeout = config.longest_request();
    let router = Router::new()
        .route("/v1/traces", post(otlp_traces))
        .route("/api/v2/spans", post(zipkin_spans))
        .route("/v1/logs", post(otlp_logs))
        .route("/v1/metrics", post(otlp_metrics))
        .layer(tower_http::timeout::TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, timeout))
        .with_state(face)
        .layer(axum::middleware::from_fn_with_state(listener.guard(), admitted));
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await.map_err(ReceiverError::Http)
}

/// Refuses who may not send, before the body is read.
async fn admitted(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.admit(request.headers()).await {
        Ok(_) => next.run(request).await,
        Err(web_config::Refusal::Unauthorized) => {
            let challenge = [(header::WWW_AUTHENTICATE, guard.challenge())];
            (StatusCode::UNAUTHORIZED, challenge, "Unauthorized\n").into_response()
        }
        Err(web_config::Refusal::TooMany) => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], "Too Many Requests\n").into_response()
        }
    }
}

/// How a body is written; answers are written the same way.
#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Protobuf,
    Json,
}

#[derive(Debug)]
enum Refusal {
    Malformed(String),
    TooLarge(usize),
    Unsupported(String),
    /// Why the client should come again, and when.
    Retry(String, Duration),
    /// PostgreSQL will never take it.
    Unstorable(String),
    Internal,
}

impl Refusal {
    /// Of a request that has such items in it.
    fn unstored(refused: intake::Refused, of: &str) -> Self {
        let message = refused.message(of);
        match refused.retry_after() {
            Some(after) => Self::Retry(message, after),
            None => Self::Unstorable(message),
        }
    }
}

async fn otlp_traces(State(face): State<Face>, request: Request) -> Response {
    face.intake.counters.http_requests.fetch_add(1, Relaxed);
    let encoding = match encoding_of(request.headers()) {
        Ok(encoding) => encoding,
        Err(refusal) => return face.refuse(refusal, Encoding::Json),
    };
    let decode = move |body: &[u8], face: &Face| {
        match encoding {
            Encoding::Protobuf => {
                let Intake { kept, limits, .. } = &face.intake;
                decode::decode_protobuf_after(kept, body, limits, intake::now())
            }
            Encoding::Json => {
                let decoded = decode::decode_json(body, &face.intake.limits, intake::now());
                decoded.map(|decoded| (decoded, Fingerprint::of(body)))
            }
        }
        .map_err(|error| error.to_string())
    };
    match face.spans(request, decode).await {
        Err(refusal) => face.refuse(refusal, encoding),
        Ok(response) => {
            let partial = response.partial_success.as_ref();
            let partial =
                partial.map(|partial| ("rejectedSpans", partial.rejected_spans, partial.error_message.as_str()));
            answer(encoding, response.encode_to_vec(), partial)
        }
    }
}

async fn otlp_logs(State(face): State<Face>, request: Request) -> Response {
    let Some((reader, sink)) = face.intake.logs.clone() else { return unimplemented("logs") };
    face.intake.counters.http_requests.fetch_add(1, Relaxed);
    let encoding = match encoding_of(request.headers()) {
        Ok(encoding) => encoding,
        Err(refusal) => return face.refuse(refusal, Encoding::Json),
    };
    let decode = move |body: &[u8], face: &Face| {
        match encoding {
            Encoding::Protobuf => logs::decode_logs_protobuf(body, &reader, &face.intake.limits, intake::now()),
            Encoding::Json => logs::decode_logs_json(body, &reader, &face.intake.limits, intake::now()),
        }
        .map(|decoded| (decoded, Fingerprint::of(body)))
        .map_err(|error| error.to_string())
    };
    let answered = async {
        let (decoded, turn) = face.receive(request, decode).await?;
        let taken = face.intake.take_logs(&sink, decoded, turn).await;
        taken.map_err(|refused| Refusal::unstored(refused, "access log"))
    };
    match answered.await {
        Err(refusal) => face.refuse(refusal, encoding),
        Ok(response) => {
            let partial = response.partial_success.as_ref();
            let partial = partial
                .map(|partial| ("rejectedLogRecords", partial.rejected_log_records, partial.error_message.as_str()));
            answer(encoding, response.encode_to_vec(), partial)
        }
    }
}

/// The answer to what was taken; `partial` is its partial success: the JSON name of what was rejected, how many, and why.
fn answer(encoding: Encoding, protobuf: Vec<u8>, partial: Option<(&str, i64, &str)>) -> Response {
    let body = match (encoding, partial) {
        (Encoding::Protobuf, _) => protobuf,
        // An unset partial success is absent in the JSON mapping; the derived serializer would write null.
        (Encoding::Json, None) => b"{}".to_vec(),
        (Encoding::Json, Some((name, rejected, message))) => {
            let partial = serde_json::json!({ name: rejected.to_string(), "errorMessage": message });
            serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
    };
    (StatusCode::OK, [(header::CONTENT_TYPE, encoding.as_str())], body).into_response()
}

async fn otlp_metrics(State(face): State<Face>, request: Request) -> Response {
    let Some(metrics) = face.intake.metrics.clone() else { return unimplemented("metrics") };
    face.metrics(metrics, request).await
}

/// The route of Prometheus for the same, `/api/v1/otlp/v1/metrics`; `config` is that of the OTLP receivers.
pub fn metrics_route<S: Clone + Send + Sync + 'static>(
    config: &Config,
    metrics: push::Intake,
) -> axum::routing::MethodRouter<S> {
    // Spans have no way in here, so the channel needs no reader.
    let intake = Intake::new(config, tokio::sync::mpsc::channel(1).0);
    let requests = Arc::new(Semaphore::new(metrics.config().concurrency.max(1)));
    let face = Face { intake, max_request_bytes: config.max_request(), requests };
    post(move |request: Request| {
        let (face, metrics) = (face.clone(), metrics.clone());
        async move { face.metrics(metrics, request).await }
    })
}

async fn zipkin_spans(State(face): State<Face>, request: Request) -> Response {
    face.intake.counters.http_requests.fetch_add(1, Relaxed);
    let content_type = content_type(request.headers());
    if !matches!(content_type.as_str(), JSON | "") {
        let message = format!("content type {content_type:?} is not supported: send Zipkin v2 spans as {JSON}");
        return face.refuse(Refusal::Unsupported(message), Encoding::Json);
    }
    let decode = |body: &[u8], face: &Face| {
        let decoded = zipkin::decode(body, &face.intake.limits, intake::now());
        decoded.map(|decoded| (decoded, Fingerprint::of(body))).map_err(|error| error.to_string())
    };
    match face.spans(request, decode).await {
        Err(refusal) => face.refuse(refusal, Encoding::Json),
        Ok(_) => StatusCode::ACCEPTED.into_response(), // Zipkin's API has no partial success
    }
}

/// `ExportMetricsServiceResponse`, with a partial success when something was not stored.
fn metrics_answer(taken: &metrics::Taken, encoding: Encoding) -> Response {
    let response = metrics_response(taken);
    let partial = response.partial_success.as_ref();
    let partial =
        partial.map(|partial| ("rejectedDataPoints", partial.rejected_data_points, partial.error_message.as_str()));
    answer(encoding, response.encode_to_vec(), partial)
}

/// The answer to metrics.
pub(super) fn metrics_response(taken: &metrics::Taken) -> ExportMetricsServiceResponse {
    let rejected_data_points = i64::try_from(taken.rejected).unwrap_or(i64::MAX);
    let partial =
        |message: &String| ExportMetricsPartialSuccess { rejected_data_points, error_message: message.clone() };
    ExportMetricsServiceResponse { partial_success: taken.message.as_ref().map(partial) }
}

fn unimplemented(signal: &str) -> Response {
    let message = format!("{signal} are not taken here: remove this exporter");
    let status = Status::new(Code::Unimplemented, &message, None);
    (StatusCode::NOT_IMPLEMENTED, [(header::CONTENT_TYPE, JSON)], status.to_json()).into_response()
}

impl Encoding {
    fn as_str(self) -> &'static str {
        match self {
            Self::Protobuf => PROTOBUF,
            Self::Json => JSON,
        }
    }
}

impl Face {
    /// Takes metrics; what of them is not stored is told in the partial success.
    async fn metrics(&self, metrics: push::Intake, request: Request) -> Response {
        // The semaphore is never closed, so the permit is always there.
        let _turn = self.requests.acquire().await.ok();
        self.intake.counters.http_requests.fetch_add(1, Relaxed);
        let encoding = match encoding_of(request.headers()) {
            Ok(encoding) => encoding,
            Err(refusal) => return self.refuse(refusal, Encoding::Json),
        };
        let inner = match encoding {
            Encoding::Protobuf => metrics::Encoding::Protobuf,
            Encoding::Json => metrics::Encoding::Json,
        };
        let plain = match self.plain(request).await {
            Ok(plain) => plain,
            Err(refusal) => return self.refuse(refusal, encoding),
        };
        match intake::take_metrics(metrics, plain, inner).await {
            Ok(taken) => metrics_answer(&taken, encoding),
            Err(MetricsRefusal::Malformed(reason)) => self.refuse(Refusal::Malformed(reason), encoding),
            Err(MetricsRefusal::Internal) => self.refuse(Refusal::Internal, encoding),
            Err(MetricsRefusal::Unavailable(reason)) => {
                tracing::warn!(reason, "metrics could not be stored; the client was told to retry");
                self.refuse(Refusal::Retry(format!("not all is stored: {reason}"), self.intake.retry_after), encoding)
            }
        }
    }

    /// The body, read and decompressed within the limit.
    async fn plain(&self, request: Request) -> Result<Bytes, Refusal> {
        let compression = Compression::of(request.headers())?;
        let body = self.read(request.into_body()).await?;
        self.intake.counters.http_received_bytes.fetch_add(body.len() as u64, Relaxed);
        let limit = self.max_request_bytes;
        intake::run_decode(usize::MAX, move || compression.expand(body, limit)).await.unwrap_or(Err(Refusal::Internal))
    }

    /// Takes spans, as `decode` reads them, and waits until they are stored.
    async fn spans(
        &self,
        request: Request,
        decode: impl FnOnce(&[u8], &Self) -> Result<(Decoded, Fingerprint), String> + Send + 'static,
    ) -> Result<ExportTraceServiceResponse, Refusal> {
        let (decoded, turn) = self.receive(request, decode).await?;
        self.intake.take(decoded, turn).await.map_err(|refused| Refusal::unstored(refused, "span"))
    }

    /// Waits for its turn, then reads, decompresses and decodes the body, each within the limit. Gives the turn back with
    /// what is decoded.
    async fn receive<T: Send + 'static>(
        &self,
        request: Request,
        decode: impl FnOnce(&[u8], &Self) -> Result<T, String> + Send + 'static,
    ) -> Result<(T, Option<OwnedSemaphorePermit>), Refusal> {
        // The semaphore is never closed, so the permit is always there.
        let turn = Arc::clone(&self.requests).acquire_owned().await.ok();
        let compression = Compression::of(request.headers())?;
        let body = self.read(request.into_body()).await?;
        self.intake.counters.http_received_bytes.fetch_add(body.len() as u64, Relaxed);
        let face = self.clone();
        let work_bytes = if compression == Compression::None { body.len() } else { usize::MAX };
        let work = move || {
            let plain = compression.expand(body, face.max_request_bytes)?;
            decode(&plain, &face).map_err(Refusal::Malformed)
        };
        let decoded = intake::run_decode(work_bytes, work).await.unwrap_or(Err(Refusal::Internal))?;
        Ok((decoded, turn))
    }

    async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        match Limited::new(body, self.max_request_bytes).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(self.max_request_bytes)),
            Err(error) => Err(Refusal::Malformed(format!("the request body broke off: {error}"))),
        }
    }

    fn refuse(&self, refusal: Refusal, encoding: Encoding) -> Response {
        let counters = &self.intake.counters;
        let (http, code, message, retry_after) = match refusal {
            Refusal::Malformed(message) => {
                counters.malformed_requests.fetch_add(1, Relaxed);
                (StatusCode::BAD_REQUEST, Code::InvalidArgument, message, None)
            }
            Refusal::TooLarge(limit) => {
                counters.oversized_requests.fetch_add(1, Relaxed);
                let message = format!(
                    "the request exceeds {limit} bytes, as sent or decompressed: \
                     send smaller batches or raise otlp.max_request_bytes"
                );
                (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message, None)
            }
            Refusal::Unsupported(message) => {
                counters.unsupported_requests.fetch_add(1, Relaxed);
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message, None)
            }
            Refusal::Retry(message, after) => {
                (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message, Some(after))
            }
            Refusal::Unstorable(message) => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, message, None),
            Refusal::Internal => {
                let message = "the request could not be decoded".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, message, None)
            }
        };
        let status = Status::new(code, &message, retry_after);
        let body = match encoding {
            Encoding::Protobuf => status.encode_to_vec(),
            Encoding::Json => status.to_json(),
        };
        let mut response = (http, [(header::CONTENT_TYPE, encoding.as_str())], body).into_response();
        if let Some(after) = retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0); // whole seconds only, never zero
            response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response
    }
}

/// How the body is written, by its media type.
fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    match content_type(headers).as_str() {
        PROTOBUF => Ok(Encoding::Protobuf),
        JSON => Ok(Encoding::Json),
        other => {
            Err(Refusal::Unsupported(format!("content type {other:?} is not supported: send {PROTOBUF} or {JSON}")))
        }
    }
}

/// The media type in lower case, without its parameters; empty when absent.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

#[derive(Clone, Copy, PartialEq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let encoding = headers.get(header::CONTENT_ENCODING).map_or(Ok(""), |value| value.to_str());
        match encoding.unwrap_or("?").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::None),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => Err(Refusal::Unsupported(format!(
                "content encoding {other:?} is not supported: send gzip, zstd or no compression"
            ))),
        }
    }

    /// The plain body; never more than `limit` bytes are produced.
    fn expand(self, body: Bytes, limit: usize) -> Result<Bytes, Refusal> {
        match self {
            Self::None => Ok(body),
            Self::Gzip => read_within(flate2::read::MultiGzDecoder::new(&*body), limit),
            Self::Zstd => {
                let malformed = |error: std::io::Error| Refusal::Malformed(format!("the zstd body is broken: {error}"));
                let mut decoder = zstd::stream::read::Decoder::with_buffer(&*body).map_err(malformed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(malformed)?;
                read_within(decoder, limit)
            }
        }
    }
}

fn read_within(reader: impl Read, limit: usize) -> Result<Bytes, Refusal> {
    let mut plain = Vec::new();
    let read = reader.take(limit as u64 + 1).read_to_end(&mut plain);
    read.map_err(|error| Refusal::Malformed(format!("the compressed body is broken: {error}")))?;
    if plain.len() > limit {
        return Err(Refusal::TooLarge(limit));
    }
    Ok(plain.into())
}
