//! The program as people run it: exit codes, what it says, how it ends.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::app::{Target, eventually, new_folder};
use crate::postgres;

fn meshscope(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
    command.args(arguments).env_remove("DATABASE_URL").env_remove("MESHSCOPE_CONFIG").env_remove("RUST_LOG");
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = meshscope(arguments).output().expect("run meshscope");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("it exits"), text(stdout), text(stderr))
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("write");
    file.to_string_lossy().into_owned()
}

#[test]
fn a_reader_that_goes_away_ends_a_command_without_a_panic() {
    let folder = new_folder();
    let failing = "eval instant at 0 1\n  2\n\n".repeat(20_000);
    let script = write(&folder, "long.test", &failing);
    let mut command = meshscope(&["promql", "test", &script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run meshscope");
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
    assert_eq!((status.code(), String::from_utf8_lossy(&stderr).as_ref()), (Some(141), ""));
}

#[test]
fn check_config_names_every_mistake_and_its_place() {
    let folder = new_folder();
    write(&folder, "broken.yaml", "groups: [{name: g, rules: [{alert: A, expr: 'rate(x)'}]}]\n");
    let bad = write(
        &folder,
        "bad.yaml",
        "global: {scrape_intervall: 15s}\nscrape_configs:\n- job_name: a\n  scrape_timeout: 5m\n\
         storage: {memory_window: long}\nroute: {receiver: nobody}\n",
    );
    let (code, out, err) = run(&["check-config", &bad]);
    assert_eq!((code, out.as_str()), (1, ""));
    for part in [
        "bad.yaml:1:10: global: unknown key \"scrape_intervall\", did you mean \"scrape_interval\"?",
        "bad.yaml:5:26: storage.memory_window: not a valid duration string",
        "undefined receiver \"nobody\"",
    ] {
        assert!(err.contains(part), "{part} not in\n{err}");
    }
    let rules = write(&folder, "rules-bad.yaml", "rule_files: [broken.yaml, none*.yaml]\nremote_read: []\n");
    let (code, _, err) = run(&["check-config", &rules]);
    assert_eq!(code, 1);
    for part in
        ["broken.yaml: 1:45: group", "none*.yaml: no file matches", "warning: the block `remote_read` is not supported"]
    {
        assert!(err.contains(part), "{part} not in\n{err}");
    }
    let url = "postgres://m:hunter2@db/m";
    let good = write(&folder, "good.yaml", &format!("storage: {{database_url: '{url}'}}\n"));
    let (code, out, err) = run(&["check-config", "--print", &good]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("valid; 0 scrape jobs, 0 rules") && !out.contains("hunter2"), "{out}");
}

#[test]
fn what_keeps_it_from_starting_is_said_in_one_line() {
    let folder = new_folder();
    let missing = folder.join("nowhere.yaml").to_string_lossy().into_owned();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ports = "otlp: {grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}";
    let nowhere = "storage: {database_url: 'postgres://m:hunter2@127.0.0.1:1/m'}";
    let clash = format!("web: {{listen: '{}'}}\n{ports}\n{nowhere}\n", taken.local_addr().expect("an address"));
    let otlp = format!(
        "web: {{listen: '127.0.0.1:0'}}\notlp: {{grpc_listen: '{}', http_listen: '127.0.0.1:0'}}\n{nowhere}\n",
        taken.local_addr().expect("an address")
    );
    let away = format!("web: {{listen: '127.0.0.1:0'}}\n{ports}\n{nowhere}\n");
    for (file, parts) in [
        (missing, vec!["there is no configuration file", "nowhere.yaml", "`meshscope demo`"]),
        (write(&folder, "clash.yaml", &clash), vec!["web.listen", "in use"]),
        (write(&folder, "otlp.yaml", &otlp), vec!["otlp.grpc_listen", "in use"]),
        (write(&folder, "away.yaml", &away), vec!["127.0.0.1:1/m", "refused"]),
        (write(&folder, "bad.yaml", "webb: {}\n"), vec!["bad.yaml:1:1: unknown key \"webb\""]),
    ] {
        let (code, out, err) = run(&["serve", "--config", &file]);
        assert_eq!((code, out.as_str()), (1, ""), "{file}: {err}");
        let lines: Vec<&str> = err.lines().filter(|line| line.starts_with("meshscope: ")).collect();
        assert_eq!((lines.len(), err.lines().count()), (1, 1), "{err}");
        parts.iter().for_each(|part| assert!(lines[0].contains(part), "{part} not in {err}"));
        assert!(!err.contains("hunter2"), "{err}");
    }
}

#[test]
fn every_shipped_rule_test_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
    let folders = [folder.join("examples"), folder].map(|folder| std::fs::read_dir(folder).expect("alerts/"));
    let mut tests: Vec<String> = (folders.into_iter().flatten().flatten())
        .map(|entry| entry.path().to_string_lossy().into_owned())
        .filter(|path| path.ends_with("_test.yaml"))
        .collect();
    tests.sort();
    assert!(!tests.is_empty());
    for test in tests {
        let (code, out, err) = run(&["rules", "test", &test]);
        assert_eq!(code, 0, "{test}: {out}{err}");
        assert!(out.contains("SUCCESS"), "{out}");
    }
    let bad = write(
        &new_folder(),
        "wrong_test.yaml",
        "tests: [{interval: 1m, input_series: [{series: a, values: '1'}], promql_expr_test: [{expr: a, eval_time: 0m, exp_samples: [{labels: a, value: 2}]}]}]\n",
    );
    assert_eq!(run(&["rules", "test", &bad]).0, 1);
}

#[test]
fn dashboards_are_written_as_files_and_as_config_maps() {
    let folder = new_folder();
    let (json, maps) = (folder.join("json"), folder.join("maps"));
    let (json, maps) = (json.to_string_lossy(), maps.to_string_lossy());
    assert_eq!(run(&["dashboards", "export", "--out", &json, "--format", "json"]).0, 0);
    assert_eq!(run(&["dashboards", "export", "--out", &json, "--format", "json", "--check"]).0, 0);
    let files: Vec<_> = std::fs::read_dir(&*json).expect("written").flatten().map(|entry| entry.path()).collect();
    assert!(!files.is_empty() && files.iter().all(|file| file.extension().is_some_and(|e| e == "json")), "{files:?}");
    let text = std::fs::read_to_string(&files[0]).expect("a dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(dashboard["title"].is_string() && dashboard["panels"].is_array());
    std::fs::OpenOptions::new().append(true).open(&files[0]).and_then(|mut f| f.write_all(b"\n")).expect("append");
    let (code, _, err) = run(&["dashboards", "export", "--out", &json, "--format", "json", "--check"]);
    assert!(code == 1 && err.contains("is stale: run `meshscope dashboards export`"), "{code} {err}");

    let arguments = ["dashboards", "export", "--out", &maps, "--format", "configmap", "--namespace", "observe"];
    let (code, out, err) = run(&arguments);
    assert_eq!((code, out.lines().count()), (0, files.len()), "{err}");
    for file in out.lines() {
        let text = std::fs::read_to_string(file).expect("written");
        let (map, problems) = meshscope::yaml::decode::<serde_json::Value>(&text);
        let map = map.unwrap_or_else(|| panic!("{file}: {problems:?}"));
        assert_eq!((&map["kind"], &map["metadata"]["namespace"]), (&"ConfigMap".into(), &"observe".into()), "{file}");
        let (_, inner) = map["data"].as_object().and_then(|data| data.iter().next()).expect("one file in it");
        let inner: serde_json::Value = serde_json::from_str(inner.as_str().expect("text")).expect("JSON");
        assert!(inner["title"].is_string());
    }
}

/// Killed when the test fails.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connections that begin a request and never end it, on each of our ports.
fn clients_that_hang(addresses: [SocketAddr; 3]) -> Vec<std::net::TcpStream> {
    let mut open = Vec::new();
    for address in addresses {
        for request in ["POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx", "GET /", ""] {
            let mut stream = std::net::TcpStream::connect(address).expect("connect");
            stream.write_all(request.as_bytes()).expect("write");
            open.push(stream);
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_under_load_ends_it_soon_with_every_sample_and_our_own_spans_kept() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = postgres::database().await;
    let target = Target::new("a 1\nb 2\n").await;
    let (web, grpc, http) = (free_address(), free_address(), free_address());
    let text = format!(
        "web: {{listen: '{web}'}}\notlp: {{grpc_listen: '{grpc}', http_listen: '{http}'}}\n\
         storage: {{database_url: '{}'}}\ntraces: {{metrics_interval: 1s}}\n\
         telemetry: {{otlp_endpoint: 'http://{grpc}', sampling_ratio: 1}}\n\
         global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yaml]\n\
         scrape_configs: [{{job_name: j, static_configs: [{{targets: ['{}']}}]}}]\n",
        database.database_url.as_ref().expect("an address").reveal(),
        target.address
    );
    let folder = new_folder();
    let file = write(&folder, "meshscope.yaml", &text);
    write(&folder, "rules.yaml", "groups: [{name: own, rules: [{record: r, expr: a + 1}]}]\n");
    let log_file = folder.join("log");
    let log = std::fs::File::create(&log_file).expect("make the log");
    let mut child =
        Child(meshscope(&["serve", "--config", &file]).stderr(log).stdout(Stdio::null()).spawn().expect("start"));
    let get = async |path: &str| reqwest::get(format!("http://{web}{path}")).await.ok()?.text().await.ok();
    eventually("it is ready", async || get("/-/ready").await.filter(|text| text.contains("is ready"))).await;
    let query = "/api/v1/query?query=sum(traces_spanmetrics_calls_total{service=\"meshscope\"})by(span_name)";
    for name in ["evaluate rule group", "GET /api/v1/query", "scrape"] {
        eventually(&format!("our own spans of {name:?}"), async || get(query).await.filter(|t| t.contains(name))).await;
    }

    let hanging = clients_that_hang([web, grpc, http]);
    let load = tokio::spawn(async move {
        let client = reqwest::Client::new();
        while client.get(format!("http://{web}/targets")).send().await.is_ok() {}
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let start = Instant::now();
    let told = Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().expect("run kill");
    assert!(told.success());
    let status = eventually("it ends", async || child.0.try_wait().expect("wait")).await;
    let took = start.elapsed();
    load.abort();
    let log = std::fs::read_to_string(&log_file).expect("read the log");
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}\n{log}");
    assert!(!log.contains("panicked") && !log.contains('\u{1b}'), "{log}");
    for line in ["the database is open", "1 rule groups: 0 unchanged, 1 new", "stopping"] {
        assert!(log.contains(line), "{line} not in {log}");
    }
    drop(hanging);

    // The journal has what was scraped until the end: about one page each second, at most two seconds old.
    let mut connection = postgres::connection(&database).await;
    let age: f64 = sqlx::query_scalar("SELECT extract(epoch FROM now() - max(to_at))::float8 FROM journal")
        .fetch_one(&mut connection)
        .await
        .expect("the journal");
    assert!(age < start.elapsed().as_secs_f64() + 2.5, "the last sample is {age} s old");
}
