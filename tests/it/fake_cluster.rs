//! A Kubernetes API server of the tests' own over HTTP: lists in pages, watches with bookmarks, 410, refusals, cuts, slowness.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use meshscope::discovery::{self, Defaults, Discovery, Targets};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How it answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mood {
    /// As it should.
    Fine,
    /// With this status to requests for this kind.
    Refuses(&'static str, u16),
    /// With something that is no JSON.
    Babbles,
    /// After a second.
    Slow,
}

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct FakeCluster {
    pub(crate) url: String,
    state: Arc<Mutex<Held>>,
    changed: Arc<watch::Sender<u64>>,
}

struct Held {
    version: u64,
    oldest: u64,
    cuts: u64,
    objects: BTreeMap<(String, String, String), Value>,
    log: Vec<(u64, String, &'static str, Value)>,
    mood: Mood,
    token: Option<String>,
    requests: Vec<String>,
    watching: usize,
}

type Shared = FakeCluster;

impl FakeCluster {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let held = Held {
            version: 10,
            oldest: 0,
            cuts: 0,
            objects: BTreeMap::new(),
            log: Vec::new(),
            mood: Mood::Fine,
            token: None,
            requests: Vec::new(),
            watching: 0,
        };
        let server = Self { url, state: Arc::new(Mutex::new(held)), changed: Arc::new(watch::channel(0).0) };
        let router = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let got = change(&mut self.state.lock());
        self.changed.send_modify(|count| *count += 1);
        got
    }

    /// Adds or changes an object.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        self.change(|held| {
            held.version += 1;
            object["metadata"]["resourceVersion"] = held.version.to_string().into();
            let key = key(plural, &object);
            let kind = if held.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
            held.log.push((held.version, plural.to_owned(), kind, object.clone()));
            held.objects.insert(key, object);
        });
    }

    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.change(|held| {
            held.version += 1;
            let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
            let mut object = held.objects.remove(&key).expect("an object to delete");
            object["metadata"]["resourceVersion"] = held.version.to_string().into();
            held.log.push((held.version, plural.to_owned(), "DELETED", object));
        });
    }

    /// Breaks off all watches in the middle of a line; nothing is forgotten.
    pub(crate) fn cut(&self) {
        self.change(|held| held.cuts += 1);
    }

    /// Forgets what happened: watches that go on from before hear 410. The object is deleted unheard.
    pub(crate) fn forget_after_deleting(&self, plural: &str, namespace: &str, name: &str) {
        self.delete(plural, namespace, name);
        self.change(|held| {
            held.log.clear();
            held.oldest = held.version;
            held.cuts += 1;
        });
    }

    pub(crate) fn is(&self, mood: Mood) {
        self.change(|held| {
            held.mood = mood;
            held.cuts += 1;
        });
    }

    /// From now on only this token is accepted.
    pub(crate) fn wants_token(&self, token: &str) {
        self.change(|held| held.token = Some(token.to_owned()));
    }

    /// The requests so far, forgotten with this.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().requests)
    }

    pub(crate) fn watching(&self) -> usize {
        self.state.lock().watching
    }
}

fn key(plural: &str, object: &Value) -> (String, String, String) {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (plural.to_owned(), text("namespace"), text("name"))
}

fn refusal(code: u16, message: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message});
    (StatusCode::from_u16(code).expect("a status"), axum::Json(status)).into_response()
}

async fn answer(
    State(server): State<Shared>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let parts: Vec<String> = uri.path().trim_matches('/').split('/').map(str::to_owned).collect();
    let plural = parts.last().cloned().unwrap_or_default();
    let namespace = parts.iter().position(|part| part == "namespaces").and_then(|at| parts.get(at + 1)).cloned();
    let namespace = namespace.filter(|_| plural != "namespaces");
    let verb = if query.contains_key("watch") { "watch" } else { "list" };
    let (mood, token) = server.change(|held| {
        held.requests.push(format!("{verb} {}", uri.path()));
        (held.mood.clone(), held.token.clone())
    });
    if let Some(token) = token
        && headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(&format!("Bearer {token}"))
    {
        return refusal(401, "Unauthorized");
    }
    match mood {
        Mood::Refuses(kind, code) if kind == plural => {
            return refusal(code, &format!("{kind} is forbidden: User \"m\" cannot {verb} resource"));
        }
        Mood::Babbles => return "<html>a proxy's page</html>".into_response(),
        Mood::Slow => tokio::time::sleep(Duration::from_secs(1)).await,
        Mood::Fine | Mood::Refuses(..) => {}
    }
    if !server.state.lock().objects.keys().any(|(kind, ..)| *kind == plural) {
        return refusal(404, "the server could not find the requested resource");
    }
    match verb {
        "list" => list(&server, &plural, namespace.as_deref(), &query),
        _ => watching(server, plural, namespace, query.get("resourceVersion").and_then(|at| at.parse().ok())),
    }
}

/// At most two objects a page, so that every list has several.
fn list(server: &Shared, plural: &str, namespace: Option<&str>, query: &HashMap<String, String>) -> Response {
    let held = server.state.lock();
    let of_kind = held.objects.iter().filter(|((kind, at, _), _)| kind == plural && namespace.is_none_or(|n| n == at));
    let all: Vec<&Value> = of_kind.map(|(_, object)| object).collect();
    let from: usize = query.get("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
    let page: Vec<&&Value> = all.iter().skip(from).take(2).collect();
    let token = if from + 2 < all.len() { (from + 2).to_string() } else { String::new() };
    let meta = json!({"resourceVersion": held.version.to_string(), "continue": token});
    axum::Json(json!({"kind": "List", "metadata": meta, "items": page})).into_response()
}

fn watching(server: Shared, plural: String, namespace: Option<String>, after: Option<u64>) -> Response {
    let (lines, stream) = mpsc::channel::<Result<Bytes, std::io::Error>>(16);
    let mut after = after.unwrap_or(0);
    let mut changed = server.changed.subscribe();
    let cuts = server.change(|held| {
        held.watching += 1;
        held.cuts
    });
    tokio::spawn(async move {
        let line =
            |kind: &str, object: &Value| Ok(Bytes::from(format!("{}\n", json!({"type": kind, "object": object}))));
        loop {
            let (fresh, is_cut, is_gone) = {
                let held = server.state.lock();
                let fresh: Vec<_> = held.log.iter().filter(|event| event.0 > after).cloned().collect();
                (fresh, held.cuts != cuts, after < held.oldest)
            };
            if is_gone {
                let gone = json!({"kind": "Status", "code": 410, "message": "too old resource version"});
                let _ = lines.send(line("ERROR", &gone)).await;
                break;
            }
            for (at, kind, what, object) in fresh {
                after = at;
                let fits = namespace.as_ref().is_none_or(|name| object["metadata"]["namespace"] == **name);
                if kind == plural && fits {
                    let _ = lines.send(line(what, &object)).await;
                }
            }
            let bookmark = json!({"metadata": {"resourceVersion": after.to_string()}});
            if lines.send(line("BOOKMARK", &bookmark)).await.is_err() {
                break;
            }
            if is_cut {
                let _ = lines.send(Ok(Bytes::from_static(b"{\"type\": \"MODIF"))).await;
                break;
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = lines.closed() => break,
            }
        }
        server.state.lock().watching -= 1;
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(stream));
    ([("content-type", "application/json")], body).into_response()
}

/// Discovery of these jobs, running.
pub(crate) struct Discovered {
    pub(crate) jobs: watch::Sender<discovery::Jobs>,
    pub(crate) targets: watch::Receiver<Arc<Targets>>,
    pub(crate) counters: Arc<discovery::Counters>,
    stop: CancellationToken,
}

impl Discovered {
    pub(crate) fn start(yaml: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (jobs, receiver) = watch::channel(jobs(yaml));
        let (discovery, targets) = Discovery::new(receiver);
        let (counters, stop) = (discovery.counters(), CancellationToken::new());
        tokio::spawn(discovery.run(stop.clone()));
        Self { jobs, targets, counters, stop }
    }

    /// The targets once they are as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Targets) -> bool) -> Arc<Targets> {
        let mut targets = self.targets.clone();
        let found = tokio::time::timeout(Duration::from_secs(20), targets.wait_for(|targets| wanted(targets))).await;
        if let Ok(Ok(found)) = found {
            return Arc::clone(&found);
        }
        let last = self.targets.borrow();
        panic!("{what}: {:?} {:?}", addresses(&last), last.problems)
    }
}

impl Drop for Discovered {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn jobs(yaml: &str) -> discovery::Jobs {
    let (configs, problems) = meshscope::yaml::decode::<Vec<discovery::ScrapeConfig>>(yaml);
    assert_eq!(problems, [], "{yaml}");
    let (jobs, errors) = discovery::jobs(&configs.expect("jobs"), &Defaults::default());
    assert!(errors.is_empty(), "{errors:?}");
    jobs
}

pub(crate) fn addresses(targets: &Targets) -> Vec<&str> {
    targets.active.iter().map(|target| target.discovered_labels.value("__address__")).collect()
}

/// A running pod with one port.
pub(crate) fn pod(namespace: &str, name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]},
        "status": {"podIP": ip, "phase": "Running"},
    })
}
