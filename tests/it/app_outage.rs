//! The database goes away while all is running: rules and webhooks go on, and nothing that was scraped is lost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::store::Config;
use meshscope::units::Secret;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

use crate::app::{Inbox, Target, TestApp, alert_file, eventually, new_folder, one_target, with_ports};
use crate::postgres;

/// Stands between meshscope and PostgreSQL, and can be cut.
pub struct Cable {
    address: SocketAddr,
    pub cut: Arc<watch::Sender<bool>>,
}

impl Cable {
    /// A cable to that database, and how to reach the database through it.
    pub async fn before(direct: &Config) -> (Self, Config) {
        let url = direct.database_url.as_ref().expect("an address").reveal().to_owned();
        let (rest, folder) = url.split_once("?host=").expect("a socket");
        let cable = Self::to(PathBuf::from(folder).join(".s.PGSQL.5432")).await;
        let name = rest.rsplit('/').next().expect("a name");
        let through = format!("postgres://postgres@{}/{name}?sslmode=disable", cable.address);
        let cabled = Config { database_url: Some(Secret::from(through)), ..direct.clone() };
        (cable, cabled)
    }

    async fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let cut = Arc::new(watch::channel(false).0);
        let is_cut = Arc::clone(&cut);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cut = is_cut.subscribe();
                let socket = socket.clone();
                tokio::spawn(async move {
                    if *cut.borrow_and_update() {
                        return;
                    }
                    let mut server = UnixStream::connect(socket).await.expect("the server is there");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cut }
    }
}

/// Waits until meshscope has seen that the database is there, or away.
pub async fn available(app: &TestApp, expect: bool) {
    let line = format!("meshscope_database_available {}", u8::from(expect));
    eventually(&line, async || app.get("/metrics").await.1.lines().any(|l| l == line).then_some(())).await;
}

/// The times of `up` in the 3 seconds before `at`.
async fn samples_before(app: &TestApp, at: f64) -> usize {
    let data = app.data(&format!("/api/v1/query?query=up[3s]&time={at}")).await;
    data["result"][0]["values"].as_array().map_or(0, Vec::len)
}

fn now() -> f64 {
    Clock::system().now().as_millis() as f64 / 1000.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_holds_nothing_up_and_loses_nothing() {
    let direct = postgres::database().await;
    let (cable, cabled) = Cable::before(&direct).await;

    let (inbox, webhook) = Inbox::new().await;
    let target = Target::new("errors 0\n").await;
    let folder = new_folder();
    std::fs::write(folder.join("rules.yaml"), alert_file("Errors", "errors > 0", "0s")).expect("write");
    let blocks = one_target(target.address, webhook);
    let app = TestApp::start_in(&folder, &with_ports(&cabled, &blocks)).await;
    app.query_becomes("errors", 0.0).await;

    cable.cut.send_replace(true);
    available(&app, false).await;
    target.show("errors 5\n");
    inbox.wait_for("firing Errors").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let during = now();
    assert!(samples_before(&app, during).await >= 2);
    let (status, page) = app.get("/alerts").await;
    assert!(status == 200 && page.contains("PostgreSQL is away"), "{page}");
    // What memory knows is shown: who fires, how it came to that, what was told; a silence can be prepared.
    for (path, text) in [
        ("/alerts", "told "),
        ("/alerts/history", "Of the history only what memory knows"),
        ("/alerts/history", "inactive → "),
        ("/notifications", "Last outcomes"),
        ("/notifications", "first notification"),
        ("/silences/new?matchers=alertname%3DErrors", "Would mute 1 of 1 alerts"),
        ("/routes", "ops"),
        // The others go on too, from memory.
        ("/", "Overview"),
        ("/graph", "Service graph"),
        ("/explore?query=up", "1 series"),
        ("/traces", "No trace matches"),
        ("/logs", "No record matches"),
        ("/changes", "Changes"),
        ("/targets", "1 of 1 up"),
        ("/status", "What meshscope itself holds"),
        ("/slos", "SLOs"),
        ("/rules", "What is evaluated"),
    ] {
        let (status, page) = app.get(path).await;
        assert!(status == 200 && page.contains("PostgreSQL is away") && page.contains(text), "{path} {text}: {page}");
    }
    let (_, metrics) = app.get("/metrics").await;
    assert!(metrics.lines().any(|l| l == "meshscope_notifications_unrecorded_total 1"), "{metrics}");

    cable.cut.send_replace(false);
    available(&app, true).await;
    target.show("errors 0\n");
    inbox.wait_for("resolved Errors").await;
    let expect = samples_before(&app, during).await;
    app.stop().await;

    // Another process, straight to the database, finds what was scraped meanwhile.
    let after = TestApp::start(&direct, "").await;
    assert_eq!(samples_before(&after, during).await, expect);
    after.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_private_server_comes_back_and_nothing_is_lost() {
    let (inbox, webhook) = Inbox::new().await;
    let target = Target::new("errors 5\n").await;
    let folder = new_folder();
    std::fs::write(folder.join("rules.yaml"), alert_file("Errors", "errors > 0", "0s")).expect("write");
    let text = format!(
        "web: {{listen: '127.0.0.1:0'}}\notlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}\n\
         storage: {{path: '{}', shared_buffers: 16MB}}\n{}",
        folder.join("database").display(),
        one_target(target.address, webhook)
    );
    let app = TestApp::start_in(&folder, &text).await;
    inbox.wait_for("firing Errors").await;
    let pid_file = find(&folder, "postmaster.pid").expect("the server runs");
    let pid = std::fs::read_to_string(pid_file).expect("a pid").lines().next().expect("a line").to_owned();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().expect("run kill");
    assert!(killed.success());
    target.show("errors 0\n");
    inbox.wait_for("resolved Errors").await;
    let during = now();
    let expect = samples_before(&app, during).await;
    available(&app, true).await;
    let written = async || {
        let (_, page) = app.get("/metrics").await;
        page.lines().any(|l| l == "meshscope_persist_pending_items{part=\"journal\"} 0").then_some(())
    };
    eventually("the journal is written", written).await;
    app.stop().await;
    let after = TestApp::start_in(&folder, &text).await;
    assert_eq!(samples_before(&after, during).await, expect);
    after.stop().await;
}

fn find(folder: &std::path::Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let here = entries.iter().find(|path| path.ends_with(name)).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path, name)))
}
