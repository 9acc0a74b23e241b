//! What stands around all routes: spans of our own, compression, and an end that no client can delay.

use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;
use tracing::field::Empty;

use super::raw_url::LenientListener;

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
    router.layer(CompressionLayer::new().gzip(true).deflate(true)).layer(CatchPanicLayer::new()).layer(spans)
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

/// Serves until told to stop, then finishes the requests under way.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(LenientListener(listener), router).with_graceful_shutdown(async move { stop.cancelled().await }).await
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
