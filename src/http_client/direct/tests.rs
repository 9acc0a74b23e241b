//! Exchanges over real sockets: what is kept, what is made anew, and what each failure says.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use tokio::net::TcpListener;

use super::*;

/// A server that gives the answers in turn, one for each request, and the last again and again; how many connections
/// were made. An answer with `close` in it ends its connection.
async fn server(answers: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics?a=1", listener.local_addr().unwrap());
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let made = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            made.fetch_add(1, Ordering::Relaxed);
            let requests = Arc::clone(&requests);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    assert!(request.starts_with(b"GET /metrics?a=1 HTTP/1.1\r\nhost: 127.0.0.1:"));
                    let number = requests.fetch_add(1, Ordering::Relaxed);
                    let answer = answers[number.min(answers.len() - 1)];
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if answer.is_empty() || answer.contains("close") {
                        return;
                    }
                }
            });
        }
    });
    (url, connections)
}

async fn get(kept: &mut Kept, url: &str) -> Result<(u16, String), DirectError> {
    let request = Request::new(Method::GET, url.parse().unwrap());
    let mut answer =
        kept.get(&CachingResolver::system(crate::http_client::Reach::default()), &request, Vec::new()).await?;
    let mut body = Vec::new();
    while let Some(piece) = answer.piece().await? {
        body.extend_from_slice(piece);
    }
    let status = answer.status.as_u16();
    answer.end(kept);
    Ok((status, String::from_utf8(body).unwrap()))
}

const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1\n\r\n8\r\nb 2\nc 3\n\r\n0\r\n\r\n";
const CLOSING: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nd 4\n";
const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno";

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let (url, connections) = server(&[SIZED, CHUNKED, CLOSING, EARLY, SIZED]).await;
    let mut kept = Kept::default();
    for (expected, made) in
        [((200, "a 1\n"), 1), ((200, "a 1\nb 2\nc 3\n"), 1), ((200, "d 4\n"), 1), ((503, "no"), 2), ((200, "a 1\n"), 2)]
    {
        let (status, body) = get(&mut kept, &url).await.unwrap();
        assert_eq!((status, body.as_str()), expected);
        assert_eq!(connections.load(Ordering::Relaxed), made);
    }
    kept.close();
    get(&mut kept, &url).await.unwrap();
    assert_eq!(connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    // The server hangs up on the second request without an answer.
    let (url, connections) = server(&[SIZED, "", SIZED]).await;
    let mut kept = Kept::default();
    for _ in 0..2 {
        assert_eq!(get(&mut kept, &url).await.unwrap().1, "a 1\n");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn answers_that_break_off_or_make_no_sense_say_why() {
    const LENGTHS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\na 1\n";
    let cases: [(&'static [&'static str], &str); 8] = [
        (&[""], "send the request: connection closed"),
        (&["nonsense\r\n\r\n"], "send the request: invalid HTTP answer"),
        (&["HTTP/1.1 200 OK\r\nx: close"], "send the request: connection closed"),
        (&["HTTP/1.1 200 OK\r\nx: close\r\ncontent-length: 9\r\n\r\na 1\n"], "read the body: end of file"),
        (&["HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"], "unsupported transfer-encoding"),
        (&["HTTP/1.1 200 OK\r\ncontent-length: +4\r\n\r\na 1\n"], "invalid content-length"),
        (&[LENGTHS], "invalid content-length"),
        (&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx: close\r\n\r\n4\r\na 1"], "read the body: end of file"),
    ];
    for (answers, reason) in cases {
        let (url, _) = server(answers).await;
        let mut kept = Kept::default();
        let error = get(&mut kept, &url).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(kept.idle.is_none());
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = get(&mut Kept::default(), &format!("http://{closed}/")).await.unwrap_err().to_string();
    assert!(error.starts_with("connect: Connection refused"), "{error}");
}

#[tokio::test]
async fn a_large_body_in_small_chunks_comes_out_whole_in_few_pieces() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let text: String = (0..50_000).map(|i| format!("series_{i} {i}\n")).collect();
    let sent = text.clone();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in sent.as_bytes().chunks(1000) {
            answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\n\r\n");
        stream.write_all(&answer).await.unwrap();
    });
    let request = Request::new(Method::GET, url.parse().unwrap());
    let mut kept = Kept::default();
    let mut answer =
        kept.get(&CachingResolver::system(crate::http_client::Reach::default()), &request, Vec::new()).await.unwrap();
    let (mut body, mut pieces) = (Vec::new(), 0);
    while let Some(piece) = answer.piece().await.unwrap() {
        body.extend_from_slice(piece);
        pieces += 1;
    }
    assert!(body == text.as_bytes() && pieces < 200, "{} bytes in {pieces} pieces", body.len());
    assert_eq!(answer.end(&mut kept).len(), BUFFER_BYTES);
    assert!(kept.idle.is_some());
}
