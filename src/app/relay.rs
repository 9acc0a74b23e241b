//! What a standby passes on to the leader, so that senders need not know who leads.
//!
//! In: connections for OTLP, and requests that only the leader can answer: samples and alerts that are sent, deliveries
//! asked for again. Out: the leader's answers, or 503 with its address and when to try again. Invariant: what cannot be
//! passed on is refused, never taken and lost; a request is passed on once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::http_client::{self, Client, Reach};
use crate::persist::Standing;
use crate::store::Replica;

/// How long connecting to the leader may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long the leader may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Largest request and answer that is passed on.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Requests passed on at one time; more are refused.
const REQUESTS_MAX: usize = 16;
/// Marks a request that was passed on: two standbys must not send it to and fro.
const RELAYED: HeaderName = HeaderName::from_static("x-meshscope-relayed");
/// Headers that belong to one connection (RFC 9110, 7.6.1).
const OF_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Which of the leader's ports a connection is for.
pub(super) type Port = fn(&Replica) -> u16;

/// Joins each connection to one to the leader, until told to stop. Without a leader it is closed: senders try again.
pub(super) async fn connections(
    listener: TcpListener,
    (standing, reach): (Standing, Reach),
    (port, max): (Port, usize),
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)));
    let mut open = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept(&listener).await)
        };
        let (place, mut client) = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = open.join_next() => continue,
            accepted = accepted => accepted,
        };
        let leader = standing.view().leader().map(|leader| (leader.host.clone(), port(leader)));
        let reach = reach.clone();
        open.spawn(async move {
            let _place = place;
            let Some((host, port)) = leader else { return };
            let connecting = async { TcpStream::connect(&*reach.look_up(&host, port).await.ok()?).await.ok() };
            let Ok(Some(mut server)) = tokio::time::timeout(CONNECT_LIMIT, connecting).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true)); // only a matter of latency
            // Either side may break off; the other learns it by the end of its connection.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// Waits out failures such as too many open files.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Passes requests on.
#[derive(Clone)]
pub(super) struct Relay {
    standing: Standing,
    client: Arc<Client>,
    places: Arc<Semaphore>,
}

impl Relay {
    pub(super) fn new(standing: Standing, reach: Reach) -> Self {
        Self {
            standing,
            client: Arc::new(Client::reaching(http_client::Config::default(), reach)),
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        }
    }

    async fn pass_on(&self, leader: &Replica, request: Request) -> Result<Response, String> {
        let _place = self.places.try_acquire().map_err(|_| "too many requests are being passed on".to_owned())?;
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| format!("read the request: {error}"))?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        OF_CONNECTION.iter().for_each(|name| _ = headers.remove(name));
        headers.insert(RELAYED, HeaderValue::from_static("1"));
        let asked = self.client.request(parts.method, &format!("{}{path}", leader.url()));
        let asked = asked.map_err(|error| error.to_string())?.headers(headers).body(body);
        let answer = asked.timeout(ANSWER_LIMIT).send().await.map_err(|error| error.to_string())?;
        let (status, mut headers) = (answer.status(), HeaderMap::clone(answer.headers()));
        if answer.content_length().is_some_and(|length| length > BODY_BYTES_MAX as u64) {
            return Err(format!("its answer has more than {BODY_BYTES_MAX} bytes"));
        }
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        OF_CONNECTION.iter().for_each(|name| _ = headers.remove(name));
        let mut response = Response::new(Body::from(body));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}

/// Whether only the leader can answer: it alone has room for what is sent, and knows the alerts on their way.
fn is_for_leader(method: &Method, path: &str) -> bool {
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_below = |prefix: &str| path.starts_with(prefix);
    let sent = ["/api/v1/write", "/api/v1/import", "/api/v1/otlp/", "/api/mesh/v1/notifications/", "/notifications/"];
    (changes && sent.into_iter().any(is_below)) || is_below("/alertmanager/api/v2/alerts")
}

/// Passes on what only the leader can answer, and leaves the rest to this process.
pub(super) async fn before(State(relay): State<Relay>, request: Request, next: Next) -> Response {
    if !is_for_leader(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let view = relay.standing.view();
    let Some(leader) = view.leader() else { return refused("no replica leads at the moment") };
    if request.headers().contains_key(RELAYED) {
        return refused(&format!("this replica does not lead any more, ask {}", leader.url()));
    }
    match relay.pass_on(leader, request).await {
        Ok(response) => response,
        Err(reason) => refused(&format!("the leader at {} does not take it: {reason}", leader.url())),
    }
}

fn refused(reason: &str) -> Response {
    let text = format!("this replica is a standby; {reason}\n");
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "2")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_goes_to_the_leader_and_questions_stay() {
        for (method, path, expect) in [
            (Method::POST, "/api/v1/write", true),
            (Method::POST, "/api/v1/otlp/v1/metrics", true),
            (Method::POST, "/api/v1/import", true),
            (Method::POST, "/api/v1/query", false),
            (Method::GET, "/api/v1/write", false),
            (Method::POST, "/alertmanager/api/v2/alerts", true),
            (Method::GET, "/alertmanager/api/v2/alerts/groups", true),
            (Method::POST, "/alertmanager/api/v2/silences", false),
            (Method::POST, "/api/mesh/v1/notifications/7/retry", true),
            (Method::GET, "/notifications/7/drop", false),
            (Method::POST, "/notifications/7/drop", true),
            (Method::POST, "/-/reload", false),
        ] {
            assert_eq!(is_for_leader(&method, path), expect, "{method} {path}");
        }
    }
}
