//! `/api/v1/write`: the receiver of remote write 1.0 and 2.0.
//!
//! In: a request of a sender. Out: 204 when all of it is stored, else a text that says what is not, with the status that
//! tells the sender whether to come again (4xx: no, 5xx: yes). Headers, statuses and texts are those of Prometheus 3.5.

use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::State;
use super::error::plain;
use crate::discovery::SHARD_HEADER;
use crate::push::Intake;
use crate::push::remote::{self, Version, WriteError, Written};

const PROTOBUF: &str = "application/x-protobuf";
const V1: &str = "prometheus.WriteRequest";
const V2: &str = "io.prometheus.write.v2.Request";
/// What the specification of 2.0 wants in the answer of every request that could be read.
const WRITTEN: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

/// Why a request is not read.
type Refusal = (StatusCode, String);

/// Stores a request.
pub(super) async fn remote(Shared(state): Shared<State>, request: Request) -> Response {
    let counters = state.push.counters();
    counters.remote_write_requests.fetch_add(1, Relaxed);
    let outcome = receive(&state, request).await;
    outcome.unwrap_or_else(|(status, text)| {
        counters.refused_requests.fetch_add(1, Relaxed);
        plain(status, &text)
    })
}

async fn receive(state: &State, request: Request) -> Result<Response, Refusal> {
    let unsupported = |text| (StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    let version = version(request.headers()).map_err(unsupported)?;
    let scraper = request.headers().contains_key(SHARD_HEADER);
    check_encoding(request.headers()).map_err(unsupported)?;
    let _permit = state.push_permits.acquire().await.map_err(|error| internal(&error))?;
    let config = state.push.config();
    let limit = usize::try_from(config.body_bytes.0).unwrap_or(usize::MAX);
    let body = read(request.into_body(), limit).await?;
    let (intake, plain_limit) =
        (state.push.clone(), usize::try_from(config.decompressed_bytes.0).unwrap_or(usize::MAX));
    let work = move || store(&intake, (version, scraper), &body, plain_limit);
    let mut written = tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))??;
    let past = std::mem::take(&mut written.past);
    if let Err(reason) = state.push.store_past(past).await {
        // The sender sends all of it again; what is stored already changes nothing then.
        return Ok(plain(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("samples older than memory are not stored: {reason}"),
        ));
    }
    Ok(answer(version, &written))
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("the request is larger than {limit} bytes: send smaller ones or raise push.body_bytes");
            Err((StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Err(error) => Err((StatusCode::BAD_REQUEST, format!("the request body broke off: {error}"))),
    }
}

fn store(
    intake: &Intake,
    (version, scraper): (Version, bool),
    body: &[u8],
    plain_limit: usize,
) -> Result<Written, Refusal> {
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    let corrupt = || bad("snappy: corrupt input".to_owned());
    // The head says how long the text is: nothing is allocated for more than is taken.
    let length = snap::raw::decompress_len(body).map_err(|_| corrupt())?;
    if length > plain_limit {
        return Err(bad(format!("snappy: decoded length {length} exceeds limit {plain_limit}")));
    }
    // A block says at most 64 bytes with 3: a head that promises more is a lie, and costs nothing here.
    if length / 32 > body.len() {
        return Err(corrupt());
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|_| corrupt())?;
    remote::write_from(intake, version, &plain, scraper).map_err(|error| match error {
        WriteError::Closed(closed) => (StatusCode::SERVICE_UNAVAILABLE, closed.to_string()),
        broken => bad(broken.to_string()),
    })
}

fn answer(version: Version, written: &Written) -> Response {
    let mut response = match written.problems.is_empty() {
        true => StatusCode::NO_CONTENT.into_response(),
        false => plain(StatusCode::BAD_REQUEST, &written.message()),
    };
    if version == Version::V2 {
        let counts = [written.samples, written.histograms, written.exemplars];
        response.headers_mut().extend(WRITTEN.into_iter().zip(counts.map(HeaderValue::from)));
    }
    response
}

/// Which message the content type announces; none at all is 1.0.
fn version(headers: &HeaderMap) -> Result<Version, String> {
    let whole = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?")).trim();
    if whole.is_empty() {
        return Ok(Version::V1);
    }
    let mut parts = whole.split(';');
    if parts.next() != Some(PROTOBUF) {
        return Err(format!("expected {PROTOBUF} as the first (media) part, got {whole} content-type"));
    }
    for part in parts {
        let pair: Vec<&str> = part.split('=').collect();
        let [name, value] = pair[..] else {
            let rule = "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values";
            return Err(format!("{rule}, got {part} in {whole} content-type"));
        };
        match (name.trim(), value) {
            ("proto", V1) => return Ok(Version::V1),
            ("proto", V2) => return Ok(Version::V2),
            ("proto", other) => {
                let known = format!("supported: {V1}, {V2}");
                return Err(format!(
                    "got {whole} content type; unknown remote write protobuf message {other}, {known}"
                ));
            }
            _ => {}
        }
    }
    Ok(Version::V1)
}

fn check_encoding(headers: &HeaderMap) -> Result<(), String> {
    match headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?")) {
        "" | "snappy" => Ok(()),
        other => {
            Err(format!("{other} encoding (compression) is not accepted by this server; only snappy is acceptable"))
        }
    }
}
