//! Discovery in a cluster that pages, cuts, forgets, refuses, babbles and goes away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use meshscope::kubernetes::{Client, ClusterConfig, Error, Query, Resource, ServiceAccount};
use serde_json::{Value, json};

use crate::app::new_folder;
use crate::fake_cluster::{Discovered, FakeCluster, Mood, addresses, jobs, pod};

fn of_pods(url: &str) -> String {
    format!("- {{job_name: pods, kubernetes_sd_configs: [{{role: pod, api_server: '{url}'}}]}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_pods_through_pages_cuts_and_410() {
    let cluster = FakeCluster::start().await;
    for i in 1..=5 {
        cluster.put("pods", pod("shop", &format!("p{i}"), &format!("10.0.0.{i}")));
    }
    cluster.is(Mood::Slow);
    let found = Discovered::start(&of_pods(&cluster.url));
    let all = found.until("five pods of three pages", |targets| targets.active.len() == 5).await;
    assert_eq!(addresses(&all), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"]);
    assert_eq!(all.active[0].discovered_labels.value("__meta_kubernetes_pod_label_app"), "p1");
    cluster.is(Mood::Fine);
    cluster.put("pods", pod("shop", "p1", "10.0.1.1"));
    cluster.put("pods", pod("shop", "p6", "10.0.0.6"));
    cluster.delete("pods", "shop", "p2");
    found
        .until("changes", |targets| addresses(targets).first() == Some(&"10.0.1.1:80") && targets.active.len() == 5)
        .await;
    cluster.cut();
    cluster.put("pods", pod("shop", "p7", "10.0.0.7"));
    found.until("the watch after a cut", |targets| targets.active.len() == 6).await;
    let lists = found.counters.kubernetes.lists.load(Relaxed);
    assert_eq!(lists, 1, "a cut is no reason to list again");
    cluster.forget_after_deleting("pods", "shop", "p7");
    found.until("what 410 hid", |targets| targets.active.len() == 5 && targets.problems.is_empty()).await;
    assert!(found.counters.kubernetes.gone.load(Relaxed) >= 1);
    // What is no pod keeps out no pod.
    cluster.put("pods", json!({"metadata": {"namespace": "shop", "name": "odd"}, "spec": {"containers": "none"}}));
    cluster.put("pods", pod("shop", "p8", "10.0.0.8"));
    found.until("the pod behind the odd one", |targets| addresses(targets).contains(&"10.0.0.8:80")).await;
    assert_eq!(found.counters.kubernetes.unread.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_targets_of_a_cluster_that_fails_and_says_why() {
    let cluster = FakeCluster::start().await;
    cluster.put("pods", pod("shop", "a", "10.0.0.1"));
    cluster.put("nodes", json!({"metadata": {"name": "n"}}));
    let found = Discovered::start(&of_pods(&cluster.url));
    found.until("the pod", |targets| targets.active.len() == 1).await;
    for (mood, needles) in [
        (
            Mood::Refuses("pods", 403),
            ["we may not watch pods in all namespaces (403", "give our account the verb \"watch\""],
        ),
        (Mood::Refuses("pods", 401), ["does not accept our credentials (401", "expired"]),
        (Mood::Refuses("pods", 503), ["answers 503 to watch pods", ""]),
        (Mood::Babbles, ["is not that of a Kubernetes API server", ""]),
    ] {
        cluster.is(mood.clone());
        let told = |text: &str| needles.iter().all(|needle| text.contains(needle));
        let what = format!("{mood:?}");
        let failed = found.until(&what, |targets| targets.problems.iter().any(|problem| told(&problem.message))).await;
        assert_eq!(addresses(&failed), ["10.0.0.1:80"], "{what}");
        cluster.is(Mood::Fine);
        found.until("to be well again", |targets| targets.problems.is_empty() && targets.active.len() == 1).await;
    }
    // Nothing is asked for in a busy loop, however fast the refusals come.
    cluster.is(Mood::Refuses("pods", 500));
    cluster.requests();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let asked = cluster.requests().len();
    assert!((1..=8).contains(&asked), "{asked} requests in three seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn has_no_targets_before_it_was_allowed_to_read_all_it_needs() {
    let cluster = FakeCluster::start().await;
    cluster.put("pods", pod("shop", "a", "10.0.0.1"));
    cluster.put("nodes", json!({"metadata": {"name": "n", "labels": {"zone": "z"}}}));
    cluster.is(Mood::Refuses("nodes", 403));
    let url = &cluster.url;
    let found = Discovered::start(&format!(
        "- job_name: a\n  kubernetes_sd_configs: [{{role: pod, api_server: '{url}', attach_metadata: {{node: true}}}}]"
    ));
    let refused = found.until("the refusal", |targets| !targets.problems.is_empty()).await;
    assert_eq!(addresses(&refused), [] as [&str; 0]);
    let message = &refused.problems[0].message;
    assert!(
        message.contains("we may not list nodes in all namespaces") && message.contains("ClusterRole"),
        "{message}"
    );
    cluster.is(Mood::Fine);
    found.until("the pod", |targets| targets.active.len() == 1 && targets.problems.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_want_the_same_share_a_watch_and_a_reload_ends_it() {
    let cluster = FakeCluster::start().await;
    cluster.put("pods", pod("shop", "a", "10.0.0.1"));
    cluster.put("pods", pod("other", "b", "10.0.0.2"));
    let url = &cluster.url;
    let entry = |job: &str, more: &str| {
        format!("- {{job_name: {job}, kubernetes_sd_configs: [{{role: pod, api_server: '{url}'{more}}}]}}\n")
    };
    let own = entry("c", ", namespaces: {names: [shop]}");
    let found = Discovered::start(&(entry("a", "") + &entry("b", "") + &own));
    found.until("targets of three jobs", |targets| targets.active.len() == 5).await;
    let requests = cluster.requests();
    let lists: Vec<&String> = requests.iter().filter(|request| request.starts_with("list")).collect();
    assert_eq!(lists.len(), 2, "{requests:?}");
    assert!(lists.iter().any(|request| request.ends_with("/api/v1/namespaces/shop/pods")), "{requests:?}");
    found.jobs.send(jobs(&own)).expect("discovery runs");
    found.until("targets of one job", |targets| targets.active.len() == 1).await;
    for _ in 0..100 {
        if cluster.watching() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} watches are left", cluster.watching());
}

#[tokio::test]
async fn reads_the_token_of_the_pod_again_and_names_what_is_missing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = FakeCluster::start().await;
    cluster.put("pods", pod("shop", "a", "10.0.0.1"));
    let folder = new_folder();
    let account = ServiceAccount { server: cluster.url.clone(), folder: folder.to_path_buf() };
    let config = ClusterConfig { account: Some(account), ..ClusterConfig::default() };
    let client = Arc::new(Client::new(config));
    let pods = Query::all(Resource { group: "", version: "v1", plural: "pods" });
    let error = client.list::<Value>(&pods).await.expect_err("no token");
    assert!(matches!(&error, Error::File { path, .. } if path.ends_with("token")), "{error}");
    std::fs::write(folder.join("token"), "one\n").expect("write");
    std::fs::write(folder.join("namespace"), "mesh").expect("write");
    cluster.wants_token("one");
    let listed = client.list::<Value>(&pods).await.expect("the pods");
    assert_eq!((listed.objects.len(), client.namespace().expect("known").as_deref()), (1, Some("mesh")));
    cluster.wants_token("two");
    let error = client.list::<Value>(&pods).await.expect_err("an expired token");
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    std::fs::write(folder.join("token"), "two").expect("write");
    client.list::<Value>(&pods).await.expect("the pods, with the new token");
    let routes = Query::all(Resource { group: "gateway.networking.k8s.io", version: "v1", plural: "httproutes" });
    let error = client.list::<Value>(&routes).await.expect_err("no such kind");
    assert!(
        matches!(&error, Error::NotServed { resource } if resource == "httproutes.gateway.networking.k8s.io/v1"),
        "{error}"
    );
}

#[test]
fn a_mesh_is_expanded_to_jobs_that_are_printed_and_read_again() {
    let text = "mesh: {discover: ambient, api_server: 'https://k:6443'}\nscrape_configs:\n- {job_name: own, \
                static_configs: [{targets: ['a:1']}], basic_auth: {username: u, password: hidden}}\n";
    let config = meshscope::config::Config::parse(text, None).expect("valid");
    let names = |config: &meshscope::config::Config| -> Vec<String> {
        config.jobs.iter().map(|job| job.name.clone()).collect()
    };
    assert_eq!(names(&config), ["own", "istio-proxies", "istiod", "ztunnel"]);
    let expanded = config.expanded();
    assert!(expanded.contains("password: <secret>") && !expanded.contains("hidden"), "{expanded}");
    let again = meshscope::config::Config::parse(&expanded, None).expect("what is printed is valid");
    assert_eq!(names(&again), names(&config));
    let twice = "mesh: {discover: istio}\nscrape_configs: [{job_name: istiod}]";
    let error = meshscope::config::Config::parse(twice, None).err().expect("one name twice").to_string();
    assert!(error.contains("`istiod`: another entry has the same job_name"), "{error}");
    let error = meshscope::config::Config::parse("mesh: {discover: consul}", None).err().expect("no such mesh");
    assert!(error.to_string().contains("mesh.discover"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_reads_a_cluster_and_names_what_it_may_not_see() {
    let cluster = FakeCluster::start().await;
    let named = |name: &str| json!({"name": name, "namespace": "shop", "managedFields": [{"manager": "kubectl"}]});
    cluster.put(
        "services",
        json!({"metadata": named("cart"), "spec": {"ports": [{"port": 80}], "selector": {"app": "cart"}}}),
    );
    let spec = json!({"hosts": ["cart"], "http": [{"route": [{"destination": {"host": "gone"}}]}]});
    cluster.put("virtualservices", json!({"metadata": named("cart"), "spec": spec}));
    cluster.put("secrets", json!({"metadata": named("s"), "data": {"tls.key": "aGlkZGVu"}}));
    cluster.put("configmaps", json!({"metadata": named("c")}));
    cluster.is(Mood::Refuses("configmaps", 403));
    let folder = new_folder();
    let kubeconfig = folder.join("config");
    let text = format!(
        "current-context: other\ncontexts: [{{name: mine, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{}'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n",
        cluster.url
    );
    std::fs::write(&kubeconfig, text).expect("write");
    cluster.wants_token("t");
    let run = |context: &'static str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_meshscope"));
        command
            .args(["mesh", "audit", "--cluster", "-o", "json", "--context", context, "--kubeconfig"])
            .arg(&kubeconfig);
        tokio::task::spawn_blocking(move || command.output().expect("meshscope runs"))
    };
    let output = run("mine").await.expect("run");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("\"objects\": 3"), "{out}{err}");
    assert!(err.contains("we may not list configmaps in all namespaces"), "{err}");
    assert!(err.contains("the cluster does not serve DestinationRule"), "{err}");
    let output = run("other").await.expect("run");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && err.contains("there is no context \"other\"; there are: mine"), "{err}");

    let config = ClusterConfig { api_server: Some(cluster.url.clone()), ..ClusterConfig::default() };
    let refused = meshscope::mesh::read_cluster(&Client::new(config)).await.expect_err("no token");
    assert!(matches!(refused, Error::Unauthorized { .. }), "{refused}");
    let context = Some("mine".to_owned());
    let config = ClusterConfig { kubeconfig_file: Some(kubeconfig), context, ..ClusterConfig::default() };
    let read = meshscope::mesh::read_cluster(&Client::new(config)).await.expect("the cluster");
    assert_eq!(read.snapshot.len(), 3);
    let all: String = read.snapshot.iter().map(|one| format!("{:?}", one.root)).collect();
    assert!(all.contains("tls.key") && !all.contains("aGlkZGVu") && !all.contains("managedFields"), "{all}");
}

#[test]
fn the_roles_grant_what_is_read_and_no_more() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/rbac.yaml");
    let documents = meshscope::yaml::documents(&std::fs::read_to_string(file).expect("the file")).expect("YAML");
    let granted = |role: &str| -> BTreeSet<(String, String, String)> {
        let is_it = |node: &&meshscope::yaml::Node| {
            let name = node.get("metadata").and_then(|meta| meta.get("name")).and_then(|name| name.as_str());
            node.get("kind").and_then(|kind| kind.as_str()) == Some("ClusterRole") && name == Some(role)
        };
        let node = documents.iter().find(is_it).expect("the role");
        let texts = |rule: &meshscope::yaml::Node, key: &str| -> Vec<String> {
            let items = rule.get(key).expect("a list").items().iter();
            items.map(|item| item.as_str().expect("a text").to_owned()).collect()
        };
        let mut all = BTreeSet::new();
        for rule in node.get("rules").expect("rules").items() {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    all.extend(texts(rule, "verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
                }
            }
        }
        all
    };
    let right = |group: &str, plural: &str, verb: &str| (group.to_owned(), plural.to_owned(), verb.to_owned());
    let read = meshscope::mesh::KINDS.iter().filter(|info| info.plural != "secrets");
    let verbs = read.flat_map(|info| ["list", "watch"].map(|verb| right(info.group, info.plural, verb)));
    assert_eq!(granted("meshscope-audit"), verbs.collect());
    let found = [
        ("", "pods"),
        ("", "services"),
        ("", "endpoints"),
        ("", "nodes"),
        ("discovery.k8s.io", "endpointslices"),
        ("networking.k8s.io", "ingresses"),
    ];
    let found = found.iter().flat_map(|(group, plural)| ["list", "watch"].map(|verb| right(group, plural, verb)));
    assert_eq!(granted("meshscope-discovery"), found.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_kubeconfig_or_missing_certificates_are_named_and_mended_without_a_restart() {
    let cluster = FakeCluster::start().await;
    cluster.put("pods", pod("shop", "a", "10.0.0.1"));
    cluster.wants_token("right");
    let folder = new_folder();
    let file = folder.join("kubeconfig");
    let text = |server: &str, cluster: &str, token: &str| {
        format!(
            "current-context: mine\ncontexts: [{{name: mine, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: '{server}'{cluster}}}}}]\nusers: [{{name: u, user: {{token: {token}}}}}]\n"
        )
    };
    let job =
        format!("- {{job_name: pods, kubernetes_sd_configs: [{{role: pod, kubeconfig_file: '{}'}}]}}", file.display());
    let found = Discovered::start(&job);
    let authority = ", certificate-authority: gone.pem";
    for (written, needle) in [
        (None, "kubeconfig`"),
        (Some("not: a kubeconfig".to_owned()), "no current-context"),
        (Some(text("nowhere", "", "right")), "the server \"nowhere\" of cluster \"c\" is not a URL"),
        (Some(text("https://127.0.0.1:1", authority, "right")), "gone.pem"),
        (Some(text(&cluster.url, "", "expired")), "does not accept our credentials (401"),
    ] {
        if let Some(text) = written {
            std::fs::write(&file, text).expect("write");
        }
        let told = found
            .until(needle, |targets| targets.problems.iter().any(|problem| problem.message.contains(needle)))
            .await;
        assert_eq!(addresses(&told), [] as [&str; 0], "{needle}");
    }
    std::fs::write(&file, text(&cluster.url, "", "right")).expect("write");
    found.until("the pod", |targets| targets.active.len() == 1 && targets.problems.is_empty()).await;
}
