//! What stands around all routes: who is let in, limits of connections, spans of our own, compression, headers, and an
//! end that no client can delay.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;
use tracing::field::Empty;

use super::opening::Opening;
use super::raw_url::Lenient;
use crate::access::{Action, Caller, Gate, Need, Peer, Record, Refused, action};
use crate::web_config::Guard;

/// Longest time from the first byte of a request to the end of its headers, and that a connection waits for a request.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// Largest request line and headers together of HTTP/1.1. A query in a URL may be long.
const HEAD_BYTES_MAX: usize = 256 << 10;
/// The same of HTTP/2.
const HEADER_LIST_BYTES_MAX: u32 = 256 << 10;
/// How often a client of HTTP/2 is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(60);
/// Requests of one HTTP/2 connection at a time.
const STREAMS_PER_CONNECTION: u32 = 128;

/// The layers that hold for pages and APIs alike.
pub(super) fn around(router: Router) -> Router {
    let spans = TraceLayer::new_for_http()
        .make_span_with(span)
        .on_request(())
        .on_response(|response: &Response<_>, _: Duration, span: &Span| {
            let status = response.status();
            span.record("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                span.record("otel.status_code", "ERROR");
            }
        })
        .on_failure(());
    // Drawings of large meshes are megabytes: the usual level takes three times the time and saves a sixth.
    let compression = CompressionLayer::new().gzip(true).deflate(true).quality(CompressionLevel::Fastest);
    router.layer(compression).layer(CatchPanicLayer::new()).layer(spans)
}

/// Names and attributes are those of OpenTelemetry's HTTP conventions; no query string, which may hold what users seek.
fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    tracing::info_span!(
        "request",
        otel.name = format!("{} {route}", request.method()).trim_end(),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = %request.method(),
        http.route = route,
        http.response.status_code = Empty,
    )
}

/// Lets in who may ask, and gives every answer the headers that keep browsers from doing with it what they must not.
///
/// Pages bring a policy of their own; the answers of APIs are no pages, so theirs lets nothing be loaded or framed. What the
/// web configuration file says of headers comes last.
pub(super) fn guarded(router: Router, gate: Gate) -> Router {
    router.layer(middleware::from_fn_with_state(gate, admitted))
}

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

async fn admitted(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let (caller, admitted) = gate.admit(&method, &uri, request.headers(), &peer).await;
    let action = action(&method, uri.path());
    let (mut response, reason) = match admitted {
        Ok(()) => {
            request.extensions_mut().insert(caller.clone());
            (next.run(request).await, String::new())
        }
        Err(refused) => refusal(refused, uri.path(), &gate),
    };
    if action.need == Need::Administer {
        record(&caller, action, (&method, uri.path()), (&response, reason));
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    gate.guard().headers().into_iter().for_each(|(name, value)| _ = headers.insert(name, value));
    response
}

/// The answer to who is not let through, and the reason for the audit log.
fn refusal(refused: Refused, path: &str, gate: &Gate) -> (Response, String) {
    match refused {
        Refused::Unauthorized => {
            let challenge = [(header::WWW_AUTHENTICATE, gate.guard().challenge())];
            ((StatusCode::UNAUTHORIZED, challenge, "Unauthorized\n").into_response(), "not authenticated".to_owned())
        }
        Refused::TooMany(wait) => {
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            let after = [(header::RETRY_AFTER, format!("{seconds:.0}"))];
            (
                (StatusCode::TOO_MANY_REQUESTS, after, "Too Many Requests\n").into_response(),
                "too many requests".to_owned(),
            )
        }
        Refused::Forbidden(reason) if path.starts_with("/api/") => {
            let body = serde_json::json!({ "status": "error", "errorType": "forbidden", "error": reason });
            ((StatusCode::FORBIDDEN, axum::Json(body)).into_response(), reason)
        }
        Refused::Forbidden(reason) => ((StatusCode::FORBIDDEN, format!("{reason}\n")).into_response(), reason),
    }
}

/// Writes a change into the audit log; not one of a path that is none, nor of who only knocks.
fn record(caller: &Caller, action: &Action, (method, path): (&Method, &str), (response, reason): (&Response, String)) {
    let status = response.status();
    let is_nothing = action.path.is_empty() && matches!(status.as_u16(), 404 | 405);
    if is_nothing || matches!(status.as_u16(), 401 | 429) {
        return;
    }
    // A form leads on to what was made.
    let made = response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
    let note = if reason.is_empty() { made.unwrap_or_default() } else { &reason };
    Record { caller, action, method, path, note, status: status.as_u16() }.write();
}

/// Serves pages and APIs.
pub(super) struct Server {
    pub(super) listener: TcpListener,
    pub(super) guard: Guard,
    pub(super) router: Router,
    /// Open connections; more wait in the kernel's accept queue.
    pub(super) max_connections: usize,
}

impl Server {
    /// Serves until told to stop, then finishes the requests under way.
    pub(super) async fn run(mut self, stop: CancellationToken) -> std::io::Result<()> {
        let places = Arc::new(Semaphore::new(self.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                // The listener's own way of accepting waits out failures such as too many open files.
                (place, Listener::accept(&mut self.listener).await)
            };
            let (place, (stream, address)) = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accepted => accepted,
            };
            let _ = stream.set_nodelay(true); // only a matter of latency
            let stream = self.guard.accept(stream);
            let peer = Peer { address: Some(address.ip()), certificate: stream.certificate_names() };
            let stream = TokioIo::new(Opening::new(Lenient::new(stream)));
            let service = TowerToHyperService::new(self.router.clone().layer(Extension(peer)));
            let connection = graceful.watch(protocols().serve_connection(stream, service).into_owned());
            connections.spawn(async move {
                // What goes wrong is the client's: it left, or does not speak HTTP.
                if let Err(error) = connection.await {
                    tracing::trace!("a connection ended: {error}");
                }
                drop(place);
            });
        }
        graceful.shutdown().await;
        Ok(())
    }
}

/// HTTP/1.1 and HTTP/2 with their limits: a client that does not say what it wants, or says too much, is let go.
fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(HEADER_LIST_BYTES_MAX);
    builder
}

/// Runs a server; after `stop` its clients get `grace` to finish, then they are cut off.
pub(super) async fn cut_off<E>(
    server: impl Future<Output = Result<(), E>>,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), E> {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        ended = server => ended,
        () = late => {
            tracing::debug!("cut off clients that did not finish within {grace:?}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_finishes_is_cut_off_and_an_error_is_passed_on() {
        let stop = CancellationToken::new();
        stop.cancel();
        let grace = Duration::from_secs(2);
        let started = tokio::time::Instant::now();
        assert_eq!(cut_off(std::future::pending::<Result<(), &str>>(), stop.clone(), grace).await, Ok(()));
        assert_eq!(started.elapsed(), grace);
        assert_eq!(cut_off(async { Err("lost") }, CancellationToken::new(), grace).await, Err("lost"));
    }
}
