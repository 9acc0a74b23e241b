//! Bad input to `meshscope mesh audit`: each is told with its file and line, and the rest is looked at.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use meshscope::audit::{self, Options, Report};
use meshscope::mesh::{Input, Snapshot, read_paths};

/// A folder of a test, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("meshscope-audit-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: good}\n";

fn read(text: &str) -> (Snapshot, Report) {
    let snapshot = Snapshot::read(&[Input { name: "a.yaml".into(), text: text.to_owned() }], "default");
    let report = audit::audit(&snapshot, None, &Options::default());
    (snapshot, report)
}

fn lines(report: &Report) -> Vec<String> {
    let line = |one: &meshscope::model::Finding| {
        format!("{}:{}: {} {}: {}", one.file.as_deref().unwrap_or_default(), one.line, one.code, one.field, one.message)
    };
    report.findings.iter().map(line).collect()
}

/// The text is told of as expected, and the good object before and after it is read.
#[track_caller]
fn told(bad: &str, expected: &str) {
    let (snapshot, report) = read(&format!("{GOOD}---\n{bad}\n---\n{}", GOOD.replace("good", "last")));
    let found = lines(&report);
    assert!(found.iter().any(|one| one.contains(expected)), "{expected:?} is not among {found:#?}");
    let named = |name: &str| snapshot.iter().any(|one| one.id.name == name);
    assert!(named("good") && named("last"), "a good object is lost");
}

#[test]
fn broken_documents_are_told_with_their_line() {
    for (bad, expected) in [
        ("kind: [", "MS0001 : not YAML"),
        ("kind: Pod\nkind: Pod\n", "a.yaml:6: MS0001 : not YAML: duplicate mapping key: kind"),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n\tname: a", "not YAML"),
        ("- a\n- b", "a.yaml:5: MS0001 : no Kubernetes object"),
        ("just a text", "no Kubernetes object"),
        ("apiVersion: v1\nkind: Pod\nmetadata: []", "this Pod has no metadata.name"),
        ("apiVersion: [v1]\nkind: Pod", "has no \"apiVersion\""),
        ("apiVersion: v1\nkind: {{ .Values.kind }}", "render it first"),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualServce\nmetadata: {name: a}",
            "did you mean VirtualService?",
        ),
        ("apiVersion: v1\nkind: VirtualService\nmetadata: {name: a}", "it is networking.istio.io/v1"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: {name: a}}",
            "MS1002 spec.containers: must be a list",
        ),
        ("a: *nowhere", "not YAML"),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
             enableTracing: true\n    accessLogFile: [",
            "a.yaml:11: MS0001 : data.mesh is not YAML: unclosed bracket '[': istiod does not take it",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  meshNetworks: text",
            "data.meshNetworks is no mapping of settings",
        ),
    ] {
        told(bad, expected);
    }
}

#[test]
fn absurd_nesting_and_growth_are_refused_and_the_rest_is_read() {
    told(&format!("a: {}{}", "[".repeat(50_000), "]".repeat(50_000)), "not YAML");
    told(&format!("a: {}", "{b: ".repeat(20_000)), "not YAML");
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for at in 1..12 {
        laughs.push_str(&format!("a{at}: &a{at} [{}]\n", format!("*a{}, ", at - 1).repeat(9)));
    }
    told(&laughs, "not YAML");
    let lists = "{apiVersion: v1, kind: List, items: [".repeat(10) + &"]}".repeat(10);
    told(&lists, "lists in lists");
}

#[test]
fn anchors_and_merge_keys_are_objects_like_others() {
    let (snapshot, report) = read(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  \
         - &route\n    route: [{destination: {host: a}}]\n    timeout: 5s\n  - <<: *route\n    timeout: 7s\n",
    );
    assert_eq!(snapshot.iter().next().and_then(|one| one.text("spec.http[1].route[0].destination.host")), Some("a"));
    let found = lines(&report);
    assert!(!found.iter().any(|one| one.contains(": MS00") || one.contains(": MS10")), "{found:#?}");
}

#[test]
fn marks_of_editors_and_systems_do_not_matter() {
    let windows = format!("\u{FEFF}{GOOD}---\n{}", GOOD.replace("good", "last")).replace('\n', "\r\n");
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"ServiceAccount\", \
                \"metadata\": {\"name\": \"good\"}}, {\"apiVersion\": \"v1\", \"kind\": \"ServiceAccount\", \"metadata\": {\"name\": \"last\"}}]}";
    let tabs = json.replace("\"items\"", "\n\t\"items\"");
    for text in [windows.as_str(), json, &tabs] {
        let (snapshot, report) = read(text);
        assert_eq!((snapshot.len(), lines(&report)), (2, Vec::new()), "{text:?}");
    }
    for empty in ["", "\n", "---\n---\n", "# only a remark\n", "\u{FEFF}"] {
        let (snapshot, report) = read(empty);
        assert_eq!((snapshot.len(), lines(&report)), (0, Vec::new()), "{empty:?}");
    }
}

#[test]
fn templates_of_helm_are_named() {
    let (_, report) = read(
        "---\n# Source: shop/templates/cart.yaml\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n",
    );
    let missing = report.findings.iter().find(|one| one.code == "MS0722").expect("the image");
    assert_eq!(
        (missing.line, &missing.evidence[..]),
        (6, &["made by Helm from shop/templates/cart.yaml".to_owned()][..])
    );
}

#[test]
fn secrets_are_found_and_never_shown() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  db_password: hunter2hunter2\n  \
                pin_token: 12345678\n  key.pem: |\n    -----BEGIN PRIVATE KEY-----\n    MIIEvQIBADANBgkq\n    -----END PRIVATE KEY-----\n  \
                url: postgres://shop:hunter2hunter2@db/shop\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  \
                selector: {matchLabels: {a: a}}\n  template:\n    metadata: {labels: {a: a}}\n    spec:\n      containers:\n      \
                - {name: a, image: a, env: [{name: API_TOKEN, value: hunter2hunter2}]}\n---\napiVersion: v1\nkind: Secret\n\
                metadata: {name: s}\nstringData: {password: hunter2hunter2}\n";
    let (_, report) = read(text);
    let codes = report.findings.iter().filter(|one| one.code == "MS0753").count();
    assert_eq!(codes, 5, "{:#?}", lines(&report));
    for shown in
        [report.table(audit::Colour::On), report.json().to_string(), report.sarif().to_string(), report.junit()]
    {
        for secret in ["hunter2hunter2", "12345678", "MIIEvQ"] {
            assert!(!shown.contains(secret), "{secret} is shown: {shown}");
        }
    }
}

#[test]
fn names_cannot_move_the_cursor_of_a_terminal() {
    let (_, report) = read("apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\\e[2Jb\"}\nspec: {containers: []}\n");
    assert!(!report.table(audit::Colour::Off).contains('\u{1b}'));
}

#[test]
fn what_is_no_file_is_told_and_the_rest_of_the_folder_is_read() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("good.yaml"), GOOD).expect("written");
    fs::write(at("binary.yaml"), [0x7f, b'E', b'L', b'F', 0, 0, 1]).expect("written");
    fs::write(at("latin.yaml"), b"name: caf\xe9\n").expect("written");
    fs::write(at("wide.yaml"), [0xff, 0xfe, b'a', 0]).expect("written");
    fs::write(at("empty.yaml"), "").expect("written");
    fs::create_dir(at("below")).expect("made");
    fs::write(
        at("below/last.json"),
        "{\"apiVersion\": \"v1\", \"kind\": \"ServiceAccount\", \"metadata\": {\"name\": \"last\"}}",
    )
    .expect("written");
    symlink(folder.path(), at("below/loop")).expect("linked");
    symlink(at("self.yaml"), at("self.yaml")).expect("linked");
    symlink(at("gone"), at("dangling.yaml")).expect("linked");
    let made = Command::new("mkfifo").arg(at("pipe.yaml")).status().expect("mkfifo runs");
    assert!(made.success());
    let snapshot = read_paths(&[folder.path().to_owned()], "default");
    let names: Vec<&str> = snapshot.iter().map(|one| one.id.name.as_str()).collect();
    assert_eq!(names, ["last", "good"], "each once");
    assert_eq!(snapshot.repeated.len(), 0);
    for (name, expected) in [
        ("binary.yaml", "it is no text"),
        ("latin.yaml", "it is no text"),
        ("wide.yaml", "UTF-16"),
        ("loop", "a link back to a folder above"),
        ("self.yaml", "cannot be read"),
        ("dangling.yaml", "cannot be read"),
        ("pipe.yaml", "is no file"),
    ] {
        let found = snapshot
            .unread
            .iter()
            .find(|one| one.place.file.as_deref().is_some_and(|file| Path::new(file).ends_with(name)));
        assert!(found.is_some_and(|one| one.message.contains(expected)), "{name}: {found:?}");
    }
    assert_eq!(snapshot.unread.len(), 7, "{:#?}", snapshot.unread);
}

#[test]
fn a_file_of_absurd_size_is_told_and_the_rest_is_read() {
    let folder = Folder::new();
    fs::write(folder.path().join("good.yaml"), GOOD).expect("written");
    let big = fs::File::create(folder.path().join("big.yaml")).expect("made");
    big.set_len((64 << 20) + 1).expect("a file with a hole");
    // A text that is all one line, as long as a file may be.
    fs::write(folder.path().join("line.yaml"), format!("a: {}", "x".repeat(4 << 20))).expect("written");
    let snapshot = read_paths(&[folder.path().to_owned()], "default");
    let told: Vec<&str> = snapshot.unread.iter().map(|one| one.message.as_str()).collect();
    assert!(told.iter().any(|one| one.contains("larger than 64 MiB")), "{told:?}");
    assert!(told.iter().any(|one| one.starts_with("no Kubernetes object") && one.len() < 1_000), "{told:?}");
    assert_eq!(snapshot.iter().map(|one| one.id.name.as_str()).collect::<Vec<_>>(), ["good"]);
}
