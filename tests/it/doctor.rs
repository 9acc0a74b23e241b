//! `meshscope doctor` against real servers: a healthy one, one that wants a token, none, one without its database; and no
//! secret gets into the bundle.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::app::{TestApp, eventually, new_folder};
use crate::app_secrets::{CANARY, Program, configuration};
use crate::postgres;

struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs the doctor away from the environment of the tests.
async fn doctor(arguments: &[&str]) -> Said {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_meshscope"));
    command
        .arg("doctor")
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env_remove("MESHSCOPE_URL")
        .env_remove("MESHSCOPE_CONFIG");
    let output = command.output().await.expect("run the doctor");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code().expect("an exit code"), out: text(output.stdout), err: text(output.stderr) }
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn verdict(json: &str, about: &str) -> Option<String> {
    let findings: Value = serde_json::from_str(json).expect("JSON");
    let found = findings.as_array()?.iter().find(|finding| finding["about"] == about)?;
    Some(found["verdict"].as_str()?.to_owned())
}

/// The names of the files of a bundle, by the system's own tar.
fn unpacked(archive: &Path) -> PathBuf {
    let folder = new_folder();
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder).status().expect("run tar");
    assert!(status.success());
    folder.join("meshscope-doctor")
}

#[tokio::test]
async fn a_running_server_is_looked_at_and_bundled() {
    let database = postgres::database().await;
    let app =
        TestApp::start(&database, "scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:1']}]}]")
            .await;
    let folder = new_folder();
    let log = folder.join("log");
    fs::write(&log, "2026-01-01T00:00:00Z  INFO a: started\n2026-01-01T00:00:01Z  WARN a: something odd\n")
        .expect("write");
    let down = async || app.get("/api/v1/targets").await.1.contains("\"health\":\"down\"").then_some(());
    eventually("the target is down", down).await;
    let archive = folder.join("bundle.tar.gz");
    let (url, file) = (format!("http://{}", app.web), shown(&app.file).to_owned());
    let arguments = ["--url", &url, "--config", &file, "--log", shown(&log), "--bundle", shown(&archive), "-o", "json"];
    let said = doctor(&arguments).await;
    assert_eq!(said.code, 1, "the only target is down: {}", said.out);
    for (about, expect) in [
        ("server", "ok"),
        ("configuration", "ok"),
        ("targets", "bad"),
        ("rules", "ok"),
        ("losses", "ok"),
        ("PostgreSQL", "ok"),
        ("clock of the server", "ok"),
        ("clock of PostgreSQL", "ok"),
        ("log", "warn"),
    ] {
        assert_eq!(verdict(&said.out, about).as_deref(), Some(expect), "{about}: {}", said.out);
    }
    assert_eq!(fs::metadata(&archive).expect("the bundle").permissions().mode() & 0o777, 0o600);
    let bundle = unpacked(&archive);
    let read = |name: &str| fs::read_to_string(bundle.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(read("metrics.txt").contains("meshscope_build_info"));
    assert!(read("targets.json").contains("127.0.0.1:1"));
    assert!(read("database-schema.json").contains("\"version\": 1"));
    assert!(read("database-tables.json").contains("journal"));
    assert!(read("database-settings.json").contains("shared_buffers"));
    assert!(read("log-warnings.txt").lines().eq(["2026-01-01T00:00:01Z  WARN a: something odd"]));
    assert!(read("machine-kernel.txt").contains("Linux"));
    assert!(read("configuration.yaml").contains("job_name: a"));
    // Without the extension that is so, and said.
    assert!(
        read("missing.txt").contains("database-slow-statements.json: relation \"pg_stat_statements\" does not exist")
    );
    assert!(read("summary.txt").contains("BAD   targets: 1 of 1 cannot be scraped"));
    // What is there already is not overwritten.
    let again = doctor(&arguments).await;
    assert!(again.code == 1 && again.err.contains("write the bundle"), "{}", again.err);
    app.stop().await;
}

#[tokio::test]
async fn a_probe_says_whether_the_server_is_healthy() {
    let app = TestApp::start(&postgres::database().await, "").await;
    let url = format!("http://{}", app.web);
    for what in ["healthy", "ready"] {
        let said = doctor(&["--url", &url, "--probe", what]).await;
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    }
    app.stop().await;
    let said = doctor(&["--url", &url, "--probe", "healthy"]).await;
    assert!(said.code == 1 && said.err.contains("does not answer"), "{}", said.err);
}

#[tokio::test]
async fn without_a_server_what_is_left_is_said() {
    let folder = new_folder();
    let file = folder.join("meshscope.yaml");
    fs::write(&file, "storage: {database_url: 'postgres://u:canary5ecret99@127.0.0.1:1/none'}\nwebb: {}\n")
        .expect("write");
    let bundle = folder.join("bundle");
    let arguments = ["--url", "http://127.0.0.1:1", "--config", shown(&file), "--bundle", shown(&bundle), "-o", "json"];
    let said = doctor(&arguments).await;
    assert_eq!(said.code, 1);
    assert_eq!(verdict(&said.out, "server").as_deref(), Some("bad"));
    assert_eq!(verdict(&said.out, "configuration").as_deref(), Some("bad"), "{}", said.out);
    let missing = fs::read_to_string(bundle.join("missing.txt")).expect("what is missing");
    assert!(missing.contains("metrics.txt: the server does not answer"), "{missing}");
    // The file is mended: now the database is away as well.
    fs::write(&file, "storage: {database_url: 'postgres://u:canary5ecret99@127.0.0.1:1/none'}\n").expect("write");
    let said = doctor(&["--url", "http://127.0.0.1:1", "--config", shown(&file), "--no-bundle", "-o", "json"]).await;
    assert_eq!(verdict(&said.out, "configuration").as_deref(), Some("ok"));
    assert_eq!(verdict(&said.out, "PostgreSQL").as_deref(), Some("warn"), "{}", said.out);
    assert!(said.out.contains("127.0.0.1:1/none") && !said.out.contains(CANARY), "{}", said.out);
}

#[tokio::test]
async fn no_secret_gets_into_the_bundle() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = postgres::database().await;
    let url = database.database_url.as_ref().expect("an address").reveal().to_owned();
    let folder = new_folder();
    let port =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("write a file");
    let token = format!("{CANARY}-token-of-a-caller");
    let hash = bcrypt::hash(format!("{CANARY}20"), 4).expect("a hash");
    // The private server takes any password.
    let with_password = url.replace("postgres@", &format!("postgres:{CANARY}23@"));
    assert_ne!(with_password, url);
    write("meshscope.yaml", &configuration(port, &with_password));
    write("token", &token);
    write("web-config.yml", &format!("basic_auth_users: {{ali: '{hash}'}}\n"));
    write("rules.yaml", "groups: [{name: g, rules: [{alert: Always, expr: vector(1)}]}]\n");
    let log = fs::File::create(folder.join("log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
    command.args(["serve", "--config"]).arg(folder.join("meshscope.yaml"));
    command.env_remove("DATABASE_URL").env("RUST_LOG", "meshscope=trace,warn");
    command.stdout(Stdio::from(log.try_clone().expect("a second handle"))).stderr(log);
    let _program = Program(command.spawn().expect("start"));
    let server = format!("http://127.0.0.1:{port}");
    let asking = reqwest::Client::new();
    let failed = async || {
        let page =
            asking.get(format!("{server}/notifications")).bearer_auth(&token).send().await.ok()?.text().await.ok()?;
        page.contains("all").then_some(())
    };
    eventually("deliveries fail", failed).await;
    // A line as a careless library would log it.
    let noisy = folder.join("noisy.log");
    let line = format!("  WARN x: POST http://u:{CANARY}14@127.0.0.1:1/ failed, sent {CANARY}03 with Bearer {token}\n");
    fs::write(&noisy, line).expect("write");

    let without = doctor(&["--url", &server, "--no-bundle"]).await;
    assert!(without.code == 1 && without.out.contains("wants to know who asks"), "{}", without.out);
    let bundle = folder.join("bundle");
    let (token_file, file) = (folder.join("token"), folder.join("meshscope.yaml"));
    let mut arguments = vec!["--url", &server, "--config", shown(&file), "--token-file", shown(&token_file)];
    arguments.extend(["--log", shown(&noisy), "--bundle", shown(&bundle)]);
    let said = doctor(&arguments).await;
    let mut texts = vec![("summary".to_owned(), said.out), ("stderr".to_owned(), said.err)];
    for entry in fs::read_dir(&bundle).expect("the bundle").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a text");
        texts.push((entry.file_name().to_string_lossy().into_owned(), text));
    }
    for part in [
        "configuration.yaml",
        "configuration-running.json",
        "metrics.txt",
        "database-sessions.json",
        "log-warnings.txt",
    ] {
        assert!(texts.iter().any(|(name, text)| name == part && !text.is_empty()), "{part} is missing: {:?}", texts[0]);
    }
    let leaks: Vec<String> = (texts.iter())
        .flat_map(|(name, text)| {
            let lines = text.lines().filter(|line| line.contains(CANARY) || line.contains(&hash));
            lines.map(move |line| format!("{name}: {}", line.chars().take(300).collect::<String>()))
        })
        .collect();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
