//! No secret of the configuration is in an answer, a page, an error or the log, while everything that uses it fails.

use std::process::{Command, Stdio};

use tokio::net::TcpListener;

use crate::app::{eventually, new_folder};
use crate::postgres;

/// Begins every secret, and nothing else.
pub const CANARY: &str = "canary5ecret";

/// A configuration with a secret in every key that takes one; what they lead to is a closed port.
pub fn configuration(web: u16, database: &str) -> String {
    format!(
        "
web: {{listen: '127.0.0.1:{web}', config_file: web-config.yml, bearer_token_files: [token]}}
otlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}
storage: {{database_url: '{database}'}}
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, smtp_smarthost: '127.0.0.1:1', smtp_from: a@b.example,
  smtp_auth_username: u, smtp_auth_password: {CANARY}01, slack_api_url: 'http://127.0.0.1:1/{CANARY}02'}}
scrape_configs:
- {{job_name: password, basic_auth: {{username: u, password: {CANARY}03}}, static_configs: [{{targets: ['127.0.0.1:1']}}]}}
- {{job_name: credentials, authorization: {{credentials: {CANARY}04}}, static_configs: [{{targets: ['127.0.0.1:1']}}]}}
- {{job_name: bearer, bearer_token: {CANARY}05, static_configs: [{{targets: ['127.0.0.1:1']}}]}}
- {{job_name: proxy, proxy_url: 'http://u:{CANARY}06@127.0.0.1:1', static_configs: [{{targets: ['127.0.0.1:1']}}]}}
- {{job_name: header, http_headers: {{X-Key: {{secrets: [{CANARY}07]}}}}, static_configs: [{{targets: ['127.0.0.1:1']}}]}}
- {{job_name: list, http_sd_configs: [{{url: 'http://u:{CANARY}08@127.0.0.1:1/targets?token={CANARY}09'}}]}}
remote_write:
- {{name: away, url: 'http://u:{CANARY}10@127.0.0.1:1/write?token={CANARY}11', basic_auth: {{username: u, password: {CANARY}12}}}}
alerting: {{alertmanagers: [{{basic_auth: {{username: u, password: {CANARY}13}}, static_configs: [{{targets: ['127.0.0.1:1']}}]}}]}}
rule_files: [rules.yaml]
route: {{receiver: all, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
- name: all
  webhook_configs:
  - {{url: 'http://u:{CANARY}14@127.0.0.1:1/{CANARY}15?token={CANARY}16'}}
  - {{url: 'http://127.0.0.1:1/', http_config: {{authorization: {{credentials: {CANARY}17}}}}}}
  slack_configs: [{{channel: c}}]
  pagerduty_configs: [{{routing_key: {CANARY}18, url: 'http://127.0.0.1:1/'}}]
  email_configs: [{{to: c@b.example, auth_password: {CANARY}19}}]
"
    )
}

/// Ends the process with the test.
pub struct Program(pub std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PATHS: [&str; 22] = [
    "/",
    "/status",
    "/targets",
    "/alerts",
    "/alerts/history",
    "/notifications",
    "/routes",
    "/rules",
    "/silences",
    "/graph",
    "/traces",
    "/metrics",
    "/api/v1/status/config",
    "/api/v1/status/flags",
    "/api/v1/status/runtimeinfo",
    "/api/v1/targets",
    "/api/v1/scrape_pools",
    "/api/v1/alertmanagers",
    "/api/v1/alerts",
    "/api/v1/rules",
    "/alertmanager/api/v2/status",
    "/alertmanager/api/v2/receivers",
];

#[tokio::test]
async fn no_secret_is_in_any_answer_page_error_or_log() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = postgres::database().await;
    let url = database.database_url.as_ref().expect("an address").reveal().to_owned();
    let folder = new_folder();
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("write a file");
    let good = configuration(port, &url);
    let token = format!("{CANARY}-token-of-a-caller");
    let hash = bcrypt::hash(format!("{CANARY}20"), 4).expect("a hash");
    write("meshscope.yaml", &good);
    write("token", &token);
    write("web-config.yml", &format!("basic_auth_users: {{ali: '{hash}'}}\n"));
    write("rules.yaml", "groups: [{name: g, rules: [{alert: Always, expr: vector(1)}]}]\n");
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
    command.args(["serve", "--config"]).arg(folder.join("meshscope.yaml"));
    command.env_remove("DATABASE_URL").env("RUST_LOG", "meshscope=trace,warn");
    command.stdout(Stdio::from(log.try_clone().expect("a second handle"))).stderr(log);
    let program = Program(command.spawn().expect("start"));

    let client = reqwest::Client::new();
    let ask = async |path: &str| {
        let request = client.get(format!("http://127.0.0.1:{port}{path}")).bearer_auth(&token);
        request.send().await.ok()?.text().await.ok()
    };
    let post = async |path: &str| {
        let request = client.post(format!("http://127.0.0.1:{port}{path}")).bearer_auth(&token);
        request.send().await.ok()?.text().await.ok()
    };
    eventually("deliveries, scrapes and lists fail and are shown", async || {
        let notifications = ask("/notifications").await?;
        let targets = ask("/targets").await?;
        let metrics = ask("/metrics").await?;
        let failed = notifications.contains("all") && targets.contains("refused");
        (failed && metrics.contains("meshscope_discovery_failures_total{source=\"http\"} ")).then_some(())
    })
    .await;
    // Wrong passwords, and configurations that are refused for many reasons.
    let mut said = Vec::new();
    let wrong = client.get(format!("http://127.0.0.1:{port}/")).basic_auth("ali", Some(format!("{CANARY}21")));
    said.push(("a wrong password".to_owned(), wrong.send().await.expect("an answer").text().await.expect("a body")));
    for (name, change) in [
        ("unknown key", good.replacen("password:", "passwort:", 1)),
        ("list for a text", good.replacen(&format!("password: {CANARY}03"), &format!("password: [{CANARY}03]"), 1)),
        ("two ways", good.replacen("bearer_token:", "basic_auth: {username: u}, bearer_token:", 1)),
        ("wrong scheme", good.replace("http://u:", "ftp://u:")),
        ("not YAML", good.replacen("receivers:\n", "receivers: }\n", 1)),
    ] {
        write("meshscope.yaml", &change);
        said.push((format!("reload: {name}"), post("/-/reload").await.expect("an answer")));
    }
    write("web-config.yml", &format!("basic_auth_users: {{ali: {CANARY}22}}\n"));
    let refused = async || ask("/status").await.filter(|page| page.contains("bcrypt")).map(|_| ());
    eventually("the web configuration is refused", refused).await;
    for path in PATHS {
        said.push((path.to_owned(), ask(path).await.expect("an answer")));
    }
    drop(program);
    said.push(("the log".to_owned(), std::fs::read_to_string(folder.join("log")).expect("a log")));
    let leaks: Vec<String> = (said.iter())
        .flat_map(|(name, text)| {
            let lines = text.lines().filter(|line| line.contains(CANARY) || line.contains(&hash));
            lines.map(move |line| {
                let at = line.find(CANARY).unwrap_or(0);
                let around: String = line.chars().skip(at.saturating_sub(80)).take(160).collect();
                format!("{name}: {around}")
            })
        })
        .collect();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
