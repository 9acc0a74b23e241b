//! Who may connect and ask: TLS, users and tokens on all listeners, files that change under way, headers on every route.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meshscope::app;
use meshscope::config::Config;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use regex::Regex;
use tokio_util::sync::CancellationToken;

use crate::app::{TestApp, eventually, new_folder};
use crate::postgres;

const TOKEN: &str = "a-token-of-thirty-two-characters";

/// An authority that signs certificates for 127.0.0.1.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key, as PEM.
    fn signs(&self) -> (String, String) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }

    fn writes(&self, folder: &Path) {
        let (cert, key) = self.signs();
        std::fs::write(folder.join("server.crt"), cert).expect("write the certificate");
        std::fs::write(folder.join("server.key"), key).expect("write the key");
    }

    /// A client that trusts this authority only; each has connections of its own.
    fn client(&self) -> reqwest::Client {
        let trusted = reqwest::Certificate::from_pem(self.pem.as_bytes()).expect("a certificate");
        reqwest::Client::builder().tls_certs_only([trusted]).build().expect("a client")
    }
}

/// The running whole, guarded.
struct Guarded {
    web: String,
    otlp_http: String,
    otlp_grpc: String,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Guarded {
    async fn start(folder: &Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = postgres::database().await;
        let url = database.database_url.as_ref().expect("an address").reveal().to_owned();
        let file = folder.join("meshscope.yaml");
        let text = format!(
            "web: {{listen: '127.0.0.1:0', config_file: web-config.yml, bearer_token_files: [token]}}\n\
             otlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0', config_file: web-config.yml, \
             bearer_token_files: [token]}}\nstorage: {{database_url: '{url}'}}\n"
        );
        std::fs::write(&file, text).expect("write the configuration");
        let config = Config::read(&file).unwrap_or_else(|error| panic!("{error}"));
        let app = app::build(config, Some(file)).await.unwrap_or_else(|error| panic!("{error:#}"));
        let [web, otlp_http, otlp_grpc] =
            [app.web_address, app.otlp_http_address, app.otlp_grpc_address].map(|address| format!("https://{address}"));
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(stop.clone()));
        Self { web, otlp_http, otlp_grpc, stop, running }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("no crash").unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn folder_with(authority: &Authority) -> PathBuf {
    let folder = new_folder();
    authority.writes(&folder);
    let hash = bcrypt::hash("open sesame", 4).expect("a hash");
    let text = format!(
        "tls_server_config: {{cert_file: server.crt, key_file: server.key}}\nbasic_auth_users: {{ali: '{hash}'}}\n\
         http_server_config: {{headers: {{Strict-Transport-Security: max-age=600}}}}\n"
    );
    std::fs::write(folder.join("web-config.yml"), text).expect("write the file");
    std::fs::write(folder.join("token"), format!("{TOKEN}\n")).expect("write the token");
    folder
}

#[tokio::test]
async fn only_who_has_a_password_or_token_is_answered_and_only_over_tls() {
    let authority = Authority::new();
    let app = Guarded::start(&folder_with(&authority)).await;
    let client = authority.client();
    for path in ["/", "/metrics", "/-/healthy", "/api/v1/query?query=1", "/status", "/assets/none", "/nothing"] {
        let answer = client.get(format!("{}{path}", app.web)).send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["www-authenticate"]),
            (401, &"Basic".parse().expect("a header"))
        );
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=600");
        assert_eq!(answer.text().await.expect("a body"), "Unauthorized\n", "{path}");
    }
    let status = async |request: reqwest::RequestBuilder| request.send().await.expect("an answer").status().as_u16();
    let health = || client.get(format!("{}/-/healthy", app.web));
    assert_eq!(status(health().basic_auth("ali", Some("open sesame"))).await, 200);
    assert_eq!(status(health().basic_auth("ali", Some("open"))).await, 401);
    assert_eq!(status(health().basic_auth("bo", Some("open sesame"))).await, 401);
    assert_eq!(status(health().bearer_auth(TOKEN)).await, 200);
    assert_eq!(status(health().bearer_auth("another-token-of-as-many-letters")).await, 401);
    assert_eq!(status(health().header("authorization", "Basic")).await, 401);
    assert_eq!(status(client.post(format!("{}/-/reload", app.web))).await, 401);
    // Without TLS there is no answer at all, and who does not know the authority does not ask.
    assert!(reqwest::get(format!("{}/-/healthy", app.web.replace("https", "http"))).await.is_err());
    assert!(Authority::new().client().get(format!("{}/-/healthy", app.web)).send().await.is_err());

    let traces =
        || client.post(format!("{}/v1/traces", app.otlp_http)).header("content-type", "application/json").body("{}");
    assert_eq!(status(traces()).await, 401);
    assert_eq!(status(traces().bearer_auth(TOKEN)).await, 200);
    let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let grpc = || {
        let request = client.post(format!("{}{export}", app.otlp_grpc)).body(vec![0; 5]);
        request.header("content-type", "application/grpc").header("te", "trailers")
    };
    let refused = grpc().send().await.expect("an answer");
    assert_eq!(refused.headers().get("grpc-status").map(|status| status.as_bytes()), Some(&b"16"[..]));
    // A message that is taken has its status in the trailers.
    let taken = grpc().bearer_auth(TOKEN).send().await.expect("an answer");
    assert_eq!((taken.status().as_u16(), taken.headers().get("grpc-status")), (200, None));

    let metrics = client.get(format!("{}/metrics", app.web)).bearer_auth(TOKEN).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a page");
    for line in [
        "meshscope_access_unauthorized_requests_total{listener=\"web\"} 12",
        "meshscope_access_unauthorized_requests_total{listener=\"otlp\"} 2",
        "meshscope_access_config_last_reload_successful{listener=\"web\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains("meshscope_access_failed_handshakes_total{listener=\"web\"} 0"), "{metrics}");
    app.stop().await;
}

#[tokio::test]
async fn files_that_change_are_taken_without_dropping_connections_and_wrong_ones_are_refused_and_named() {
    let (first, second) = (Authority::new(), Authority::new());
    let folder = folder_with(&first);
    let app = Guarded::start(&folder).await;
    let healthy = format!("{}/-/healthy", app.web);
    // One connection that stays: its pool is kept, and each request goes over it.
    let old = first.client();
    let ask = async |client: &reqwest::Client, path: &str| {
        let answer = client.get(format!("{}{path}", app.web)).bearer_auth(TOKEN).send().await.ok()?;
        answer.text().await.ok()
    };
    assert!(ask(&old, "/-/healthy").await.is_some());

    second.writes(&folder);
    let is_new = async || second.client().get(&healthy).bearer_auth(TOKEN).send().await.ok().map(|_| ());
    eventually("the new certificate is shown", is_new).await;
    assert!(ask(&old, "/-/healthy").await.is_some(), "the connection from before is still served");
    assert!(ask(&first.client(), "/-/healthy").await.is_none(), "a new connection sees the new certificate");

    let client = second.client();
    let says = async |part: &str| {
        let page = ask(&client, "/status").await.expect("a page");
        let metrics = ask(&client, "/metrics").await.expect("a page");
        let failed = metrics.contains("meshscope_access_config_last_reload_successful{listener=\"web\"} 0");
        (page.contains(part) && failed).then_some(())
    };
    let (_, other_key) = second.signs();
    let good_key = std::fs::read(folder.join("server.key")).expect("the key");
    std::fs::write(folder.join("server.key"), other_key).expect("write the key");
    eventually("a key of another certificate is refused", async || {
        says("the key is not the one of the certificate").await
    })
    .await;
    assert!(second.client().get(&healthy).bearer_auth(TOKEN).send().await.is_ok(), "the old pair stays");
    std::fs::remove_file(folder.join("server.key")).expect("remove the key");
    eventually("a key that is gone is refused", async || says("No such file").await).await;
    std::fs::write(folder.join("server.key"), good_key).expect("write the key");
    let is_well = async || {
        let metrics = ask(&client, "/metrics").await?;
        metrics.contains("meshscope_access_config_last_reload_successful{listener=\"web\"} 1").then_some(())
    };
    eventually("the files are right again", is_well).await;

    // A file that is cut off would let everybody in.
    std::fs::write(folder.join("web-config.yml"), "").expect("write the file");
    eventually("taking TLS away is refused", async || says("takes effect at the next start").await).await;
    assert_eq!(client.get(&healthy).send().await.expect("an answer").status().as_u16(), 401);
    app.stop().await;
}

/// Every route that a file of the sources names, with something in place of its parameters.
fn routes() -> Vec<String> {
    let sources = ["src/web.rs", "src/api.rs", "src/api/mesh.rs", "src/api/alertmanager.rs"];
    let route = Regex::new(r#"\.route\(\s*"([^"]+)""#).expect("valid");
    let parameter = Regex::new(r"\{[^}]*\}").expect("valid");
    let mut found = vec!["/nothing".to_owned()];
    for source in sources {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(source)).expect("a source");
        let paths = route.captures_iter(&text).map(|found| parameter.replace_all(&found[1], "1").into_owned());
        found.extend(paths);
    }
    assert!(found.len() > 50, "{found:?}");
    found
}

#[tokio::test]
async fn every_route_forbids_what_a_browser_must_not_do_and_no_page_holds_scripts_or_styles_of_its_own() {
    let app = TestApp::start(&postgres::database().await, "").await;
    let inline = Regex::new(r#"(?i)<style|<script(?:\s+[^>]*)?>[^<]|\sstyle\s*=|\son[a-z]+\s*=\s*["']|javascript:"#)
        .expect("valid");
    let script = Regex::new(r"(?i)<script[^>]*>").expect("valid");
    let mut pages = 0;
    for path in routes() {
        let answer = reqwest::get(format!("http://{}{path}", app.web)).await.expect("an answer");
        let headers = answer.headers().clone();
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src '") && policy.contains("frame-ancestors 'none'"), "{path}: {policy:?}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin", "{path}");
        if header("content-type").starts_with("text/html") {
            pages += 1;
            assert!(policy.contains("script-src 'self'") && policy.contains("style-src 'self'"), "{path}: {policy}");
            let page = answer.text().await.expect("a page");
            assert_eq!(inline.find(&page).map(|found| found.as_str()), None, "{path}");
            assert!(script.find_iter(&page).all(|tag| tag.as_str().contains("src=\"/")), "{path}");
        }
    }
    assert!(pages > 15, "{pages}");
    app.stop().await;
}

#[tokio::test]
async fn a_client_that_says_too_much_or_nothing_is_let_go() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let database = postgres::database().await;
    let url = database.database_url.as_ref().expect("an address").reveal().to_owned();
    let text = format!(
        "web: {{listen: '127.0.0.1:0', max_connections: 2}}\n\
         otlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}\nstorage: {{database_url: '{url}'}}\n"
    );
    let app = TestApp::start_in(&new_folder(), &text).await;
    let ask = async |head: Vec<u8>| {
        let mut stream = tokio::net::TcpStream::connect(app.web).await.expect("connect");
        // The server may close before all is written.
        let _ = stream.write_all(&head).await;
        let mut answer = vec![0; 16];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer)).await.expect("in time");
        String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()
    };
    let long = |bytes: usize| "a".repeat(bytes);
    assert_eq!(
        ask(format!("GET /-/healthy?{} HTTP/1.1\r\nHost: a\r\n\r\n", long(60_000)).into_bytes()).await,
        "HTTP/1.1 200 OK\r"
    );
    assert_eq!(
        ask(format!("GET /-/healthy?{} HTTP/1.1\r\nHost: a\r\n\r\n", long(70_000)).into_bytes()).await,
        "HTTP/1.1 414 URI"
    );
    assert_eq!(
        ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(400_000)).into_bytes()).await,
        "HTTP/1.1 431 Req"
    );
    let many: String = (0..200).map(|at| format!("X-{at}: a\r\n")).collect();
    assert_eq!(ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").into_bytes()).await, "HTTP/1.1 431 Req");

    // Two connections that are held open leave no place; one that ends gives its place back.
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = tokio::net::TcpStream::connect(app.web).await.expect("connect");
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("write");
        assert!(stream.read(&mut [0; 512]).await.expect("read") > 0);
        held.push(stream);
    }
    let mut third = tokio::net::TcpStream::connect(app.web).await.expect("connect");
    third.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("write");
    let mut answer = [0; 512];
    assert!(tokio::time::timeout(Duration::from_millis(300), third.read(&mut answer)).await.is_err(), "it waits");
    held.pop();
    let read = tokio::time::timeout(Duration::from_secs(10), third.read(&mut answer)).await.expect("its turn comes");
    assert!(answer[..read.expect("read")].starts_with(b"HTTP/1.1 200"));
    drop((held, third));
    app.stop().await;
}
