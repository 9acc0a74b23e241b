//! What those who are let in may do: roles on every route, a trusted proxy and who poses as one, limits for each client,
//! pages of other sites, client certificates, and the audit log.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use meshscope::access::{Need, action};
use meshscope::app;
use meshscope::config::Config;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use regex::Regex;
use reqwest::{Method, RequestBuilder};
use tokio_util::sync::CancellationToken;

use crate::app::{eventually, new_folder};
use crate::postgres;

const READER: &str = "token-of-a-reader-of-some-length";
const SENDER: &str = "token-of-a-sender-of-some-length";
const ADMIN: &str = "token-of-an-admin-of-some-length";

/// The running whole, with this block `web`.
struct Running {
    base: String,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(folder: &Path, web: &str, scheme: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = postgres::database().await;
        let url = database.database_url.as_ref().expect("an address").reveal().to_owned();
        let file = folder.join("meshscope.yaml");
        for (name, token) in [("reader", READER), ("sender", SENDER), ("admin", ADMIN)] {
            std::fs::write(folder.join(name), token).expect("write a token");
        }
        let text = format!(
            "web: {{listen: '127.0.0.1:0', {web}}}\notlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}\n\
             storage: {{database_url: '{url}'}}\n"
        );
        std::fs::write(&file, text).expect("write the configuration");
        let config = Config::read(&file).unwrap_or_else(|error| panic!("{error}"));
        let app = app::build(config, Some(file)).await.unwrap_or_else(|error| panic!("{error:#}"));
        let base = format!("{scheme}://{}", app.web_address);
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(stop.clone()));
        Self { base, stop, running }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("no crash").unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// A client that follows no redirect, at an address of this machine.
fn client_at(address: [u8; 4]) -> reqwest::Client {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    builder.local_address(IpAddr::from(address)).build().expect("a client")
}

async fn said(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

const ROLES: &str = "bearer_token_files: [reader, sender, admin], \
                     roles: {admins: {token_files: [admin]}, senders: {token_files: [sender]}}";

/// Every path that the sources of the faces name or the OpenAPI document has, with something in place of its parameters; not
/// those that answer all methods alike, which are no routes but answers to what is none.
fn paths() -> Vec<String> {
    let route = Regex::new(r#"\.route\(\s*(?:&format!\()?"([^"]+)"\)?,\s*(any\()?"#).expect("valid");
    let parameter = Regex::new(r"\{+[^}]*\}+").expect("valid");
    let base = Regex::new(r#"base = "([^"]+)""#).expect("valid");
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let shown = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if ["/src/api", "/src/web/", "/src/web.rs", "/src/app"].iter().any(|part| shown.contains(part)) {
                let text = std::fs::read_to_string(&path).expect("a source");
                let base = base.captures(&text).map_or(String::new(), |found| found[1].to_owned());
                for one in route.captures_iter(&text).filter(|one| one.get(2).is_none()) {
                    let path = one[1].replace("{base}", &base);
                    // Those of our own API come from its document, below.
                    if path.starts_with('/') && !path.contains("{*") {
                        found.push(parameter.replace_all(&path, "1").into_owned());
                    }
                }
            }
        }
    }
    // Those of our own API are made of the list that the document is made of.
    let document: serde_json::Value = serde_json::from_str(&meshscope::api::openapi()).expect("JSON");
    let described = document["paths"].as_object().expect("paths");
    found.extend(described.keys().map(|path| parameter.replace_all(path, "1").into_owned()));
    found.sort();
    found.dedup();
    found
}

#[tokio::test]
async fn every_route_that_changes_something_is_listed_and_open_only_to_whom_it_is_for() {
    let app = Running::start(&new_folder(), ROLES, "http").await;
    let client = client_at([127, 0, 0, 1]);
    let paths = paths();
    assert!(paths.len() > 70, "{paths:?}");
    for must in
        ["/alertmanager/api/v2/silence/1", "/api/mesh/v1/notifications/1/drop", "/silences/1/expire", "/-/reload"]
    {
        assert!(paths.iter().any(|path| path == must), "{must} was not found in the sources: {paths:?}");
    }
    let mut listed = 0;
    for path in &paths {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let ask = |token: &str| client.request(method.clone(), format!("{}{path}", app.base)).bearer_auth(token);
            let meant = action(&method, path);
            let unknown = said(client.request(method.clone(), format!("{}{path}", app.base))).await;
            assert_eq!(unknown.0, 401, "{method} {path}");
            for (token, may) in
                [(READER, meant.need == Need::Read), (SENDER, meant.need != Need::Administer), (ADMIN, true)]
            {
                let (status, body) = said(ask(token)).await;
                let refused = status == 403 && body.contains("of the configuration");
                assert_eq!(refused, !may, "{method} {path}: {status} {body}");
                if token == ADMIN && status != 405 {
                    assert!(!meant.path.is_empty(), "{method} {path} is not in access::ACTIONS: what does it need?");
                    listed += 1;
                }
            }
            if meant.need != Need::Read {
                for foreign in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "null")] {
                    let (status, body) = said(ask(ADMIN).header(foreign.0, foreign.1)).await;
                    assert_eq!((status, body.contains("page of another site")), (403, true), "{method} {path}: {body}");
                }
            }
        }
    }
    assert!(listed >= 25, "{listed}");
    app.stop().await;
}

#[tokio::test]
async fn who_may_not_is_told_why_and_pages_offer_nothing_that_would_be_refused() {
    let folder = new_folder();
    let hash = |password: &str| bcrypt::hash(password, 4).expect("a hash");
    let users = format!("basic_auth_users: {{ali: '{}', bo: '{}'}}\n", hash("sesame"), hash("simsim"));
    std::fs::write(folder.join("web-config.yml"), users).expect("write the file");
    let web = "config_file: web-config.yml, bearer_token_files: [reader, sender, admin], \
               roles: {admins: {users: [ali]}, senders: {token_files: [sender]}}";
    let app = Running::start(&folder, web, "http").await;
    let client = client_at([127, 0, 0, 1]);
    let url = |path: &str| format!("{}{path}", app.base);
    let (status, body) = said(client.post(url("/-/reload")).basic_auth("bo", Some("simsim"))).await;
    let expect = "user `bo` may only read; to reload the configuration (POST /-/reload) one must be in web.roles.admins of \
                  the configuration\n";
    assert_eq!((status, body.as_str()), (403, expect));
    let (status, body) = said(client.post(url("/api/v1/write")).bearer_auth(READER)).await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, body["errorType"].as_str()), (403, Some("forbidden")));
    let reason = body["error"].as_str().expect("a reason");
    assert!(reason.starts_with("the token in `reader` may only read; to write samples"), "{reason}");
    assert!(reason.contains("web.roles.senders or admins"), "{reason}");
    assert_eq!(said(client.post(url("/-/reload")).basic_auth("ali", Some("sesame"))).await.0, 200);
    assert_eq!(said(client.post(url("/api/v1/query?query=1")).bearer_auth(READER)).await.0, 200);

    let page = async |path: &str, user: &str, password: &str| {
        said(client.get(url(path)).basic_auth(user, Some(password))).await.1
    };
    let (reader, admin) = (page("/silences", "bo", "simsim").await, page("/silences", "ali", "sesame").await);
    assert!(reader.contains("bo · reader") && !reader.contains("New silence"), "{reader}");
    assert!(admin.contains("ali · administrator") && admin.contains("New silence"), "{admin}");
    assert!(!page("/silences/new", "bo", "simsim").await.contains("Create silence"));
    assert!(page("/silences/new", "ali", "sesame").await.contains("Create silence"));
    assert!(page("/status", "bo", "simsim").await.contains("users or tokens, roles"));
    app.stop().await;
}

#[tokio::test]
async fn the_word_of_a_proxy_counts_and_that_of_others_does_not() {
    let web = "bearer_token_files: [reader], trusted_proxy: {networks: [127.0.0.2], allow_users: [bo], allow_groups: [ops]}, \
               roles: {admins: {proxy_groups: [ops]}}";
    let app = Running::start(&new_folder(), web, "http").await;
    let (proxy, other) = (client_at([127, 0, 0, 2]), client_at([127, 0, 0, 1]));
    let get = |client: &reqwest::Client, user: &str, groups: &str| {
        let request = client.get(format!("{}/api/v1/labels", app.base));
        request.header("x-forwarded-user", user).header("x-forwarded-groups", groups)
    };
    assert_eq!(said(get(&proxy, "bo", "")).await.0, 200);
    assert_eq!(said(get(&proxy, "ali", "dev, ops")).await.0, 200);
    let (status, body) = said(get(&proxy, "eve", "dev")).await;
    assert!(
        status == 403 && body.contains("user `eve` of the proxy is not in web.trusted_proxy.allow_users"),
        "{body}"
    );
    // The same words from elsewhere, from nobody, and twice.
    assert_eq!(said(get(&other, "ali", "ops")).await.0, 401);
    assert_eq!(said(proxy.get(format!("{}/api/v1/labels", app.base))).await.0, 401);
    assert_eq!(said(get(&proxy, "bo", "").header("X-Forwarded-User", "ali")).await.0, 401);
    // With a token one is who has the token, whatever the header says.
    let (status, body) =
        said(other.post(format!("{}/-/reload", app.base)).bearer_auth(READER).header("x-forwarded-user", "ali")).await;
    assert!(status == 403 && body.starts_with("the token in `reader` may only read"), "{status} {body}");
    let reload = |user: &str, groups: &str| {
        let request = proxy.post(format!("{}/-/reload", app.base)).header("x-forwarded-user", user);
        request.header("x-forwarded-groups", groups).header("x-forwarded-for", "192.0.2.9")
    };
    assert_eq!(said(reload("ali", "ops")).await.0, 200);
    let (status, body) = said(reload("bo", "dev")).await;
    assert!(status == 403 && body.starts_with("user `bo` of the proxy may only read"), "{body}");

    let metrics = said(other.get(format!("{}/metrics", app.base)).bearer_auth(READER)).await.1;
    for line in ["meshscope_access_ignored_proxy_headers_total 2", "meshscope_access_forbidden_requests_total 3"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    app.stop().await;
}

#[tokio::test]
async fn each_client_has_its_own_allowance_and_guessing_has_another() {
    let web = "bearer_token_files: [reader], trusted_proxy: {networks: [127.0.0.9]}, \
               rate_limit: {requests_per_second: 0.1, burst: 5, exempt_networks: [127.0.0.4]}";
    let app = Running::start(&new_folder(), web, "http").await;
    let get = |client: &reqwest::Client, path: &str| client.get(format!("{}{path}", app.base));
    let [first, second, third, exempt, proxy] = [1, 2, 3, 4, 9].map(|last| client_at([127, 0, 0, last]));
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(said(get(&first, "/api/v1/labels").bearer_auth(READER)).await.0);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    let limited = get(&first, "/").bearer_auth(READER).send().await.expect("an answer");
    let wait: u64 = limited.headers()["retry-after"].to_str().expect("a text").parse().expect("seconds");
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!(said(get(&first, "/metrics").bearer_auth(READER)).await.0, 200, "scrapes go on");
    assert_eq!(said(get(&second, "/api/v1/labels").bearer_auth(READER)).await.0, 200, "another client is not touched");
    for _ in 0..8 {
        assert_eq!(said(get(&exempt, "/api/v1/labels").bearer_auth(READER)).await.0, 200);
    }
    // Behind the proxy each user is a client; what the proxy's clients say of their address does not matter.
    let of_user = |user: &str| get(&proxy, "/api/v1/labels").header("x-forwarded-user", user);
    for at in 0..6 {
        let request = of_user("ali").header("x-forwarded-for", format!("192.0.2.{at}"));
        assert_eq!(said(request).await.0, if at < 5 { 200 } else { 429 });
    }
    assert_eq!(said(of_user("bo")).await.0, 200);
    // Wrong tokens are limited where right ones are not.
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(said(get(&third, "/metrics").bearer_auth("a-wrong-token-of-some-length")).await.0);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
    let metrics = said(get(&exempt, "/metrics").bearer_auth(READER)).await.1;
    assert!(metrics.contains("meshscope_access_client_limited_requests_total 6"), "{metrics}");
    app.stop().await;
}

#[tokio::test]
async fn a_page_whose_name_was_made_to_lead_here_changes_nothing() {
    let app = Running::start(&new_folder(), "max_connections: 64", "http").await;
    let client = client_at([127, 0, 0, 1]);
    let reload = |host: &str| client.post(format!("{}/-/reload", app.base)).header("host", host);
    let from_page = |host: &str| reload(host).header("sec-fetch-site", "same-origin");
    let (status, body) = said(from_page("evil.example:7070")).await;
    assert!(
        status == 403 && body.contains("`evil.example:7070` is not known") && body.contains("web.external_url"),
        "{body}"
    );
    assert_eq!(said(from_page("localhost:7070")).await.0, 200);
    assert_eq!(said(reload("evil.example")).await.0, 200, "a program says what it likes");
    let metrics = said(client.get(format!("{}/metrics", app.base))).await.1;
    assert!(metrics.contains("meshscope_access_cross_site_requests_total 1"), "{metrics}");
    app.stop().await;
}

/// An authority and what it signs for a name.
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

    fn signs(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn the_name_in_a_verified_certificate_gives_a_role() {
    let (folder, authority) = (new_folder(), Authority::new());
    let (cert, key) = authority.signs("127.0.0.1");
    for (name, text) in [("server.crt", &cert), ("server.key", &key), ("ca.crt", &authority.pem)] {
        std::fs::write(folder.join(name), text).expect("write a file");
    }
    let tls = "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, \
               client_auth_type: RequireAndVerifyClientCert}\n";
    std::fs::write(folder.join("web-config.yml"), tls).expect("write the file");
    let web = "config_file: web-config.yml, roles: {admins: {certificate_names: [ops.mesh.example]}}";
    let app = Running::start(&folder, web, "https").await;
    let client = |name: &str| {
        let (cert, key) = authority.signs(name);
        let identity = reqwest::Identity::from_pem(format!("{cert}\n{key}").as_bytes()).expect("an identity");
        let trusted = reqwest::Certificate::from_pem(authority.pem.as_bytes()).expect("a certificate");
        reqwest::Client::builder().tls_certs_only([trusted]).identity(identity).build().expect("a client")
    };
    let reload = |client: &reqwest::Client| client.post(format!("{}/-/reload", app.base));
    let ops = client("ops.mesh.example");
    // The second goes over the same connection, the third over a new one.
    for client in [&ops, &ops, &client("ops.mesh.example")] {
        assert_eq!(said(reload(client)).await.0, 200);
    }
    let (status, body) = said(reload(&client("dev.mesh.example"))).await;
    assert!(
        status == 403 && body.starts_with("the client with certificate `dev.mesh.example` may only read"),
        "{body}"
    );
    app.stop().await;
}

/// Ends the process with the test.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn who_changed_what_is_in_the_log_and_no_secret_is() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = postgres::database().await;
    let url = database.database_url.as_ref().expect("an address").reveal().to_owned();
    let folder = new_folder();
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("one").port();
    for (name, token) in [("reader", READER), ("admin", ADMIN)] {
        std::fs::write(folder.join(name), token).expect("write a token");
    }
    let text = format!(
        "web: {{listen: '127.0.0.1:{port}', bearer_token_files: [reader, admin], roles: {{admins: {{token_files: [admin]}}}}}}\n\
         otlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}\nstorage: {{database_url: '{url}'}}\n"
    );
    std::fs::write(folder.join("meshscope.yaml"), text).expect("write the configuration");
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
    command.args(["serve", "--log-format", "json", "--config"]).arg(folder.join("meshscope.yaml"));
    // Also where only errors are wanted.
    command.env_remove("DATABASE_URL").env("RUST_LOG", "error");
    let program = Program(command.stdout(Stdio::null()).stderr(log).spawn().expect("start"));

    let client = client_at([127, 0, 0, 1]);
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    eventually("it is ready", async || {
        let answer = client.get(at("/-/ready")).bearer_auth(READER).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    let form = "matchers=team%3D%22secret-of-a-body%22&duration=1h&author=ali&comment=why";
    let made = client.post(at("/silences/new")).bearer_auth(ADMIN).body(form);
    let made = made.header("content-type", "application/x-www-form-urlencoded").send().await.expect("an answer");
    assert_eq!(made.status().as_u16(), 303);
    let place = made.headers()["location"].to_str().expect("a text").to_owned();
    assert_eq!(
        said(client.post(at(&format!("{place}/expire?token=secret-of-a-query"))).bearer_auth(ADMIN)).await.0,
        303
    );
    assert_eq!(said(client.post(at("/-/reload")).bearer_auth(READER)).await.0, 403);
    assert_eq!(
        said(client.post(at("/-/reload")).bearer_auth(ADMIN).header("origin", "http://evil.example")).await.0,
        403
    );
    assert_eq!(said(client.delete(at("/alertmanager/api/v2/silence/none")).bearer_auth(ADMIN)).await.0 / 100, 4);
    // An import of history needs an administrator, too.
    let history = folder.join("history.om");
    let now = meshscope::clock::Clock::system().now().as_secs_f64();
    std::fs::write(&history, format!("# TYPE imported gauge\nimported 1 {now:.3}\n# EOF\n")).expect("write history");
    let import = |token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
        command.args(["import", "--url", &format!("http://127.0.0.1:{port}"), "--token-file"]).arg(folder.join(token));
        let output = command.arg(&history).output().expect("the command runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, why) = import("reader");
    assert!(!done && why.contains("needs an administrator"), "{why}");
    let (done, why) = import("admin");
    assert!(done, "{why}");
    // Questions, wrong tokens and what is no route are no changes.
    assert_eq!(said(client.post(at("/api/v1/query?query=1")).bearer_auth(READER)).await.0, 200);
    assert_eq!(said(client.post(at("/-/reload"))).await.0, 401);
    assert_eq!(said(client.post(at("/nothing")).bearer_auth(ADMIN)).await.0 / 100, 4);
    drop(program);

    let log = std::fs::read_to_string(folder.join("log")).expect("the log");
    for secret in ["secret-of-a-body", "secret-of-a-query", READER, ADMIN] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    let lines: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<_> = lines.iter().filter(|line| line["target"] == "audit").collect();
    let of = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let shown: Vec<[String; 4]> =
        lines.iter().map(|line| ["user", "action", "outcome", "address"].map(|key| of(line, key))).collect();
    let expect = [
        ["admin", "make or edit a silence", "done", "127.0.0.1"],
        ["admin", "end a silence", "done", "127.0.0.1"],
        ["reader", "reload the configuration", "refused", "127.0.0.1"],
        ["admin", "reload the configuration", "refused", "127.0.0.1"],
        ["admin", "end a silence", "refused", "127.0.0.1"],
        ["reader", "import samples", "refused", "127.0.0.1"],
        ["admin", "import samples", "done", "127.0.0.1"],
    ];
    assert_eq!(shown, expect.map(|line| line.map(str::to_owned)), "{log}");
    assert_eq!((of(lines[0], "note"), of(lines[0], "proof")), (place.clone(), "token".to_owned()));
    assert_eq!(of(lines[1], "path"), format!("{place}/expire"));
    assert!(of(lines[2], "note").contains("web.roles.admins"));
    assert!(of(lines[3], "note").contains("page of another site"));
}
