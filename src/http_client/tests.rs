//! Credentials, contradictions, missing files, and real TLS handshakes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

mod reach;

fn config(yaml: &str) -> Config {
    let (config, problems) = crate::yaml::decode(yaml);
    assert_eq!(problems, []);
    config.unwrap()
}

fn headers(config: &Config) -> reqwest::header::HeaderMap {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(config.clone());
    client.request(reqwest::Method::GET, "http://127.0.0.1:1/").unwrap().build().unwrap().headers().clone()
}

#[test]
fn sends_the_credentials_that_configuration_names() {
    let check = |yaml: &str, expect: &str| assert_eq!(headers(&config(yaml))[AUTHORIZATION], expect, "{yaml}");
    check("basic_auth: {username: ann, password: s3}", "Basic YW5uOnMz");
    check("authorization: {credentials: abc}", "Bearer abc");
    check("authorization: {type: Token, credentials: abc}", "Token abc");
    check("bearer_token: abc", "Bearer abc");
    let with_header = config("http_headers: {X-Scope-OrgID: {values: [mesh], secrets: [two]}}");
    let sent = headers(&with_header);
    assert_eq!(sent.get_all("x-scope-orgid").iter().collect::<Vec<_>>(), ["mesh", "two"]);
    assert!(!format!("{with_header:?}").contains("two"));
}

#[test]
fn reads_credential_files_at_each_request() {
    let path = std::env::temp_dir().join(format!("meshscope-token-{}", std::process::id()));
    std::fs::write(&path, "first\n").unwrap();
    let config = config(&format!("authorization: {{credentials_file: {}}}", path.display()));
    assert_eq!(headers(&config)[AUTHORIZATION], "Bearer first");
    std::fs::write(&path, "second").unwrap();
    assert_eq!(headers(&config)[AUTHORIZATION], "Bearer second");
    std::fs::remove_file(&path).unwrap();
    let client = Client::new(config);
    let error = client.request(reqwest::Method::GET, "http://127.0.0.1:1/").expect_err("file is gone");
    assert!(matches!(error, Error::File { key: "authorization.credentials_file", .. }));
}

#[test]
fn refuses_keys_that_contradict_each_other() {
    let check = |yaml: &str, needle: &str| {
        let error = config(yaml).validate().expect_err(yaml);
        assert!(error.to_string().contains(needle), "{error}");
    };
    check("{bearer_token: a, basic_auth: {username: b}}", "at most one");
    check("authorization: {type: Basic, credentials: a}", "basic_auth");
    check("authorization: {credentials_file: b, credentials: a}", "not both");
    check("tls_config: {cert_file: a}", "belong together");
    check("{bearer_token: a, bearer_token_file: b}", "at most one of bearer_token & bearer_token_file");
    check("tls_config: {max_version: TLS11}", "must be TLS12 or TLS13");
    check("tls_config: {min_version: TLS13, max_version: TLS12}", "newer than max_version");
    check("no_proxy: a", "needs proxy_url");
    check("{proxy_url: 'http://a', proxy_from_environment: true}", "not both");
    check("http_headers: {Authorization: {values: [x]}}", "not allowed");
    check("http_headers: {'a b': {values: [x]}}", "not a header name");
}

#[test]
fn names_the_certificate_file_that_is_missing_or_wrong() {
    let error = build(&config("tls_config: {ca_file: /nonexistent/ca.pem}")).expect_err("no such file");
    assert!(matches!(&error, Error::File { key: "tls_config.ca_file", .. }), "{error}");
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for extra in ["", ", server_name: mesh.local"] {
        let error = build(&config(&format!("tls_config: {{ca_file: {own}{extra}}}"))).expect_err("not PEM");
        assert!(matches!(&error, Error::NotPem { key: "tls_config.ca_file", .. }), "{error}");
    }
}

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http_client/testdata");

/// A TLS server for the name `mesh.local` (made for tests, valid for a hundred years) that wants a certificate of its
/// own CA from the client and answers 200 to each connection. Gives its address and what its handshakes were.
fn serve_mutual_tls() -> (String, Arc<Mutex<Vec<rustls::HandshakeKind>>>) {
    let certificates = |file: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(format!("{TESTDATA}/{file}")).unwrap().map(Result::unwrap).collect()
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca.pem"));
    let clients = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{TESTDATA}/server.key")).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates("server.pem"), key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (handshakes, config) = (Arc::new(Mutex::new(Vec::new())), Arc::new(config));
    let seen = Arc::clone(&handshakes);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
            if tls.read(&mut [0; 4096]).is_ok() {
                seen.lock().extend(tls.conn.handshake_kind());
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
    });
    (address, handshakes)
}

#[tokio::test]
async fn a_new_connection_takes_up_the_tls_session_of_the_one_before() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (address, handshakes) = serve_mutual_tls(); // which closes each connection
    let own = format!("cert_file: {TESTDATA}/client.pem, key_file: {TESTDATA}/client.key");
    for tls in [
        format!("ca_file: {TESTDATA}/ca.pem, {own}, server_name: mesh.local"),
        format!("{own}, insecure_skip_verify: true"),
    ] {
        let client = Client::new(config(&format!("tls_config: {{{tls}}}")));
        for _ in 0..4 {
            let request = client.request(reqwest::Method::GET, &format!("https://{address}/")).unwrap();
            assert_eq!(request.timeout(Duration::from_secs(10)).send().await.unwrap().status(), 200);
        }
        let kinds = std::mem::take(&mut *handshakes.lock());
        let full = kinds.iter().filter(|kind| **kind == rustls::HandshakeKind::Full).count();
        let resumed = kinds.iter().filter(|kind| **kind == rustls::HandshakeKind::Resumed).count();
        assert_eq!((full, resumed), (1, 3), "{tls}: {kinds:?}");
    }
}

#[tokio::test]
async fn speaks_mutual_tls_and_checks_the_name_that_configuration_gives() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (address, _) = serve_mutual_tls();
    let own = format!("cert_file: {TESTDATA}/client.pem, key_file: {TESTDATA}/client.key");
    let ca = format!("ca_file: {TESTDATA}/ca.pem");
    for (tls, works) in [
        (format!("{ca}, {own}, server_name: mesh.local"), true),
        (format!("{ca}, {own}, server_name: other.local"), false),
        (format!("{ca}, {own}"), false), // the certificate is not for 127.0.0.1
        (format!("{own}, insecure_skip_verify: true"), true),
        (own.clone(), false),                              // not one of the system's roots
        (format!("{ca}, server_name: mesh.local"), false), // the server wants a certificate of ours
    ] {
        let client = Client::new(config(&format!("tls_config: {{{tls}}}")));
        let request = client.request(reqwest::Method::GET, &format!("https://{address}/")).unwrap();
        let answer = request.timeout(Duration::from_secs(10)).send().await;
        assert_eq!(answer.is_ok(), works, "{tls}: {answer:?}");
    }
}

#[test]
fn urls_in_messages_hold_no_password_and_no_query() {
    let check = |url: &str, expect: &str| assert_eq!(shown_url(url), expect, "{url}");
    check("http://a:1/b", "http://a:1/b");
    check("http://u@a:1/b", "http://u@a:1/b");
    check("http://u:hunter2@a:1/b?token=hunter2", "http://u:xxxxx@a:1/b?xxxxx");
    check("ftp://u:hunter2@a/", "ftp://u:xxxxx@a/");
    check("no url", "no url");
    check("//u:hunter2@a", "<secret>");
    check("/a?token=hunter2", "<secret>");
}
