//! What is declared, kept as it is now: a cluster over real HTTP, and a folder whose files change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::declared::{Config, Declared, KindState, Origin, Reader};
use meshscope::http_client::Reach;
use meshscope::kubernetes::ClusterConfig;
use meshscope::mesh::{Kind, Snapshot};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::{eventually, new_folder};
use crate::fake_cluster::{FakeCluster, Mood, pod};

/// What is declared, being read.
struct Reading {
    declared: Declared,
    stop: CancellationToken,
}

impl Reading {
    fn start(config: Config, server: Option<&FakeCluster>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = ClusterConfig { api_server: server.map(|server| server.url.clone()), ..ClusterConfig::default() };
        let (reader, declared) = Reader::new(config, cluster, Reach::default(), Clock::system());
        let stop = CancellationToken::new();
        tokio::spawn(reader.run(stop.clone()));
        Self { declared, stop }
    }

    fn of_cluster(server: &FakeCluster) -> Self {
        Self::start(Config { cluster: true, ..Config::default() }, Some(server))
    }

    fn of_files(folder: &Path) -> Self {
        let file_interval = Duration::from_millis(100).into();
        Self::start(Config { files: vec![folder.to_owned()], file_interval, ..Config::default() }, None)
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        eventually(what, async || Some(self.declared.current()).filter(|snapshot| wanted(snapshot))).await
    }

    fn state(&self, kind: &str) -> Option<KindState> {
        let cluster = self.declared.status().cluster?;
        cluster.kinds.into_iter().find(|one| one.kind == kind).map(|one| one.state)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn rule(name: &str, host: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "generation": 1,
            "managedFields": [{"manager": "helm", "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"host": host},
    })
}

fn host<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a str> {
    snapshot.get(Kind::DestinationRule, "shop", name)?.text("spec.host")
}

#[tokio::test]
async fn a_cluster_is_followed_through_changes_cuts_and_versions_that_are_gone() {
    let server = FakeCluster::start().await;
    for name in ["a", "b", "c"] {
        server.put("destinationrules", rule(name, "cart"));
    }
    let reading = Reading::of_cluster(&server);
    let first = reading.until("all rules are read", |all| all.of_kind(Kind::DestinationRule).count() == 3).await;
    let a = first.get(Kind::DestinationRule, "shop", "a").expect("a");
    assert_eq!((a.version.as_str(), a.text("metadata.managedFields[0].manager")), ("v1", Some("helm")));
    assert_eq!(a.at("metadata.managedFields[0].fieldsV1"), None);
    let seen = reading.declared.seen();
    assert!(seen.is_whole(Origin::Cluster, Kind::DestinationRule));
    assert!(!seen.is_whole(Origin::Cluster, Kind::Gateway), "asked once: it may come yet");
    assert!(!seen.is_whole(Origin::Files, Kind::DestinationRule));

    server.put("destinationrules", rule("a", "till"));
    let second = reading.until("a change is seen", |all| host(all, "a") == Some("till")).await;
    let shared = |snapshot: &Snapshot| snapshot.shared().find(|one| one.id.name == "b").map(Arc::clone).expect("b");
    assert!(Arc::ptr_eq(&shared(&first), &shared(&second)), "what did not change is not made again");
    assert_eq!(host(&first, "a"), Some("cart"), "a snapshot that is held stays as it is");

    server.cut();
    server.put("destinationrules", rule("d", "new"));
    reading.until("a cut watch goes on", |all| host(all, "d") == Some("new")).await;

    server.forget_after_deleting("destinationrules", "shop", "b");
    reading.until("410 leads to a new list", |all| host(all, "b").is_none()).await;
    assert!(reading.declared.cluster_counters().gone.load(std::sync::atomic::Ordering::Relaxed) >= 1);

    server.delete("destinationrules", "shop", "c");
    reading.until("a deletion is seen", |all| host(all, "c").is_none()).await;
    assert_eq!(reading.state("DestinationRule"), Some(KindState::Following));
    assert_eq!(reading.state("ServiceEntry"), Some(KindState::NotServed));
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_is_named_and_stops_no_other() {
    let server = FakeCluster::start().await;
    server.put("destinationrules", rule("a", "cart"));
    server.put("configmaps", json!({"metadata": {"namespace": "shop", "name": "c"}, "data": {"k": "v"}}));
    server.is(Mood::Refuses("configmaps", 403));
    let reading = Reading::of_cluster(&server);
    reading.until("the rule is read", |all| host(all, "a").is_some()).await;
    let told = eventually("the missing right is named", async || match reading.state("ConfigMap") {
        Some(KindState::Forbidden(told)) => Some(told),
        _ => None,
    })
    .await;
    assert!(told.contains("\"list\" on configmaps by a Role"), "{told}");
    assert!(!reading.declared.seen().is_whole(Origin::Cluster, Kind::ConfigMap));
    // The right is given.
    server.is(Mood::Fine);
    reading.until("then it is read", |all| all.of_kind(Kind::ConfigMap).count() == 1).await;
    // A right that is taken away while it is watched keeps what was known.
    server.is(Mood::Refuses("destinationrules", 403));
    eventually("the lost right is named", async || {
        matches!(reading.state("DestinationRule"), Some(KindState::Forbidden(_))).then_some(())
    })
    .await;
    assert_eq!(host(&reading.declared.current(), "a"), Some("cart"));
}

#[tokio::test]
async fn pods_are_slim_and_secrets_have_no_values() {
    let server = FakeCluster::start().await;
    let mut slow = pod("shop", "cart-1", "10.0.0.1");
    slow["spec"]["volumes"] = json!([{"name": "big"}]);
    slow["spec"]["containers"][0]["env"] = json!([{"name": "TOKEN", "value": "hidden"}]);
    server.put("pods", slow);
    server.put(
        "secrets",
        json!({"metadata": {"namespace": "shop", "name": "s"}, "data": {"tls.key": "aGlkZGVu"}, "type": "kubernetes.io/tls"}),
    );
    let reading = Reading::of_cluster(&server);
    let all = reading.until("both are read", |all| all.len() == 2).await;
    let text = format!("{all:?}");
    assert!(!text.contains("aGlkZGVu") && !text.contains("hidden") && !text.contains("big"), "{text}");
    let pod = all.get(Kind::Pod, "shop", "cart-1").expect("a pod");
    assert_eq!((pod.text("spec.containers[0].image"), pod.text("status.podIP")), (Some("i"), Some("10.0.0.1")));
    assert!(
        all.get(Kind::Secret, "shop", "s")
            .is_some_and(|one| one.at("data").is_some_and(|data| data.get("tls.key").is_some()))
    );
}

fn yaml(name: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{host: {host}}}\n"
    )
}

#[tokio::test]
async fn a_folder_is_read_again_and_a_slip_of_the_pen_deletes_nothing() {
    let folder = new_folder();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("write");
    write("both.yaml", &format!("{}---\n{}", yaml("a", "cart"), yaml("b", "cart")));
    write(
        "list.json",
        r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}]}"#,
    );
    write("notes.txt", "not: looked at");
    let reading = Reading::of_files(&folder);
    let all = reading.until("the folder is read", |all| all.len() == 3).await;
    assert!(all.get(Kind::Service, "default", "s").is_some());
    assert!(reading.declared.seen().is_whole(Origin::Files, Kind::DestinationRule));

    write("both.yaml", &format!("{}---\nkind: [\n", yaml("a", "till")));
    let all = reading.until("the change is seen", |all| host(all, "a") == Some("till")).await;
    assert_eq!(host(&all, "b"), Some("cart"), "of a file with a fault what was last read stays");
    let problems = reading.declared.status().files.expect("files").problems;
    assert!(
        problems.len() == 1 && problems[0].contains("both.yaml:") && problems[0].contains("not YAML"),
        "{problems:?}"
    );

    write("both.yaml", &yaml("a", "till"));
    reading.until("what was taken out is gone", |all| host(all, "b").is_none()).await;
    std::fs::remove_file(folder.join("list.json")).expect("remove");
    reading.until("with a file its objects go", |all| all.len() == 1).await;
    std::fs::create_dir(folder.join("deep")).expect("make a folder");
    write("deep/more.yml", &yaml("c", "x"));
    reading.until("folders below are read", |all| host(all, "c") == Some("x")).await;
    // The folder itself is gone for a moment: what was known stays.
    let away = folder.with_extension("away");
    std::fs::rename(&folder, &away).expect("move");
    eventually("the missing folder is named", async || {
        let problems = reading.declared.status().files?.problems;
        problems.iter().any(|problem| problem.contains("cannot be read")).then_some(())
    })
    .await;
    assert_eq!(reading.declared.current().len(), 2);
    std::fs::rename(&away, &folder).expect("move back");
    eventually("it is back", async || reading.declared.status().files.filter(|files| files.problems.is_empty())).await;
}

#[tokio::test]
async fn an_object_of_both_sources_is_the_clusters() {
    let (server, folder) = (FakeCluster::start().await, new_folder());
    server.put("destinationrules", rule("a", "of-the-cluster"));
    std::fs::write(folder.join("a.yaml"), format!("{}---\n{}", yaml("a", "of-a-file"), yaml("b", "of-a-file")))
        .expect("write");
    let config = Config { files: vec![folder], cluster: true, ..Config::default() };
    let reading = Reading::start(config, Some(&server));
    let all = reading
        .until("both are read", |all| host(all, "a") == Some("of-the-cluster") && host(all, "b").is_some())
        .await;
    assert_eq!((all.len(), all.repeated.len()), (2, 0));
    let seen = reading.declared.seen();
    assert_eq!(host(&seen.files, "a"), Some("of-a-file"), "both can be compared");
}
