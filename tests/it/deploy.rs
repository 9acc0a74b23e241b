//! What is deployed: the manifests are those of the chart, the chart's values are documented and used, pods are restricted,
//! configuration and commands in them are understood by this very program.
//!
//! Helm renders and schemas are checked in the end-to-end scenario `deploy`; here is what needs neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use meshscope::cli::Arguments;
use meshscope::config::Config;
use meshscope::yaml::{self, Node, Value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

fn documents(path: &str) -> Vec<Node> {
    yaml::documents(&text(path)).unwrap_or_else(|error| panic!("{path}: {error:?}"))
}

/// The node at `a.b.0.c`.
fn at<'a>(node: &'a Node, path: &str) -> &'a Node {
    path.split('.').fold(node, |node, part| {
        let found = part.parse::<usize>().ok().and_then(|i| node.items().get(i)).or_else(|| node.get(part));
        found.unwrap_or_else(|| panic!("no {part} of {path}"))
    })
}

fn string<'a>(node: &'a Node, path: &str) -> &'a str {
    at(node, path).as_str().unwrap_or_else(|| panic!("{path} is no text"))
}

/// The object of that kind and name in the plain manifests.
fn object(kind: &str, name: &str) -> Node {
    let all = documents("deploy/kubernetes/meshscope.yaml").into_iter();
    let is_it = |node: &Node| string(node, "kind") == kind && string(node, "metadata.name") == name;
    all.into_iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Files below a folder, but what stands in `files/`, which the chart only carries.
fn own_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true if path.file_name().is_some_and(|name| name == "files") => {}
            true => own_files(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn the_plain_manifests_are_made_of_this_chart() {
    let chart = root().join("deploy/helm/meshscope");
    let mut files = Vec::new();
    own_files(&chart, &mut files);
    let name = |path: &PathBuf| path.strip_prefix(&chart).expect("below the chart").to_string_lossy().into_owned();
    files.sort_by_key(name);
    let mut sums = ring::digest::Context::new(&ring::digest::SHA256);
    for file in &files {
        sums.update(name(file).as_bytes());
        sums.update(b"\0");
        sums.update(&fs::read(file).expect("a readable file"));
        sums.update(b"\0");
    }
    let digest: String = sums.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for file in ["meshscope.yaml", "rbac.yaml", "prometheus-operator.yaml", "istio-telemetry.yaml"] {
        let is_fresh = text(&format!("deploy/kubernetes/{file}")).contains(&format!("\n# chart: {digest}\n"));
        assert!(is_fresh, "deploy/kubernetes/{file} is stale: run deploy/render");
    }
}

#[test]
fn the_rules_that_are_deployed_are_those_that_ship() {
    let shipped = |name: &str| text(&format!("alerts/{name}")).trim().to_owned();
    let rules = object("ConfigMap", "meshscope-rules");
    let mut seen = BTreeSet::new();
    for (name, pack) in at(&rules, "data").entries() {
        let (name, pack) = (name.as_str().expect("a name"), pack.as_str().expect("a text"));
        assert_eq!(pack.trim(), shipped(name), "alerts/{name} has changed: run deploy/render");
        seen.insert(name.to_owned());
    }
    let packs: BTreeSet<String> =
        ["istio", "istio-traffic", "control-plane", "meshscope"].map(|n| format!("{n}.yaml")).into();
    assert_eq!(seen, packs);
    let indented: String = shipped("meshscope.yaml").lines().map(|line| format!("  {line}\n")).collect();
    let without_blanks = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let operator = text("deploy/kubernetes/prometheus-operator.yaml");
    assert!(operator.contains(&without_blanks(&indented)), "alerts/meshscope.yaml has changed: run deploy/render");
}

/// The paths of all leaves: `image.tag`; what is empty, a list, or below a map whose keys are the user's is a leaf.
fn leaves(node: &Node, before: &str, found: &mut BTreeSet<String>) {
    for (key, value) in node.entries() {
        let path = format!("{before}{}", key.as_str().expect("a key"));
        match &value.value {
            Value::Mapping(entries) if !entries.is_empty() && !FREE.contains(&path.as_str()) => {
                leaves(value, &format!("{path}."), found);
            }
            _ => drop(found.insert(path)),
        }
    }
}

/// Values whose keys the user chooses.
const FREE: [&str; 3] = ["config", "resources", "dashboards.labels"];

#[test]
fn every_value_of_the_chart_is_documented_used_and_in_the_schema() {
    let mut values = BTreeSet::new();
    leaves(&documents("deploy/helm/meshscope/values.yaml")[0], "", &mut values);
    let document = text("docs/install.md");
    let (_, table) = document.split_once("### Values of the chart").expect("the table");
    let (table, _) = table.split_once("\n### ").expect("its end");
    let documented: BTreeSet<String> =
        table.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect();
    assert_eq!(documented, values, "left: docs/install.md, right: values.yaml");

    let schema: serde_json::Value =
        serde_json::from_str(&text("deploy/helm/meshscope/values.schema.json")).expect("JSON");
    for value in &values {
        let known = value.split('.').try_fold(&schema, |schema, part| schema["properties"].get(part));
        assert!(known.is_some(), "values.schema.json does not know {value}");
    }
    let mut templates = String::new();
    for entry in fs::read_dir(root().join("deploy/helm/meshscope/templates")).expect("templates").flatten() {
        templates += &fs::read_to_string(entry.path()).expect("a readable template");
    }
    // Blocks that a template takes as a whole, by `with` or a variable.
    let by_part = [("image", "$image"), ("istio.telemetry", "")];
    for value in &values {
        let is_used = by_part.iter().any(|(block, variable)| {
            let part = value.strip_prefix(&format!("{block}."));
            part.is_some_and(|part| templates.contains(&format!("{variable}.{part}")))
        });
        assert!(is_used || templates.contains(&format!(".Values.{value}")), "no template reads {value}");
    }
    let read = templates
        .split(".Values.")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect::<String>());
    for name in read {
        let is_there = |value: &String| *value == name || value.starts_with(&format!("{name}."));
        assert!(values.iter().any(is_there), "a template reads .Values.{name}, which values.yaml does not have");
    }
}

#[test]
fn the_configuration_that_is_deployed_is_valid() {
    let map = object("ConfigMap", "meshscope");
    let (_, file) = &at(&map, "data").entries()[0];
    let config = Config::parse(file.as_str().expect("a text"), None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.warnings, [] as [&str; 0]);
    assert_eq!((config.web.listen.port(), config.web.listen.ip().is_unspecified()), (7070, true));
    assert_eq!((config.otlp.grpc_listen.port(), config.otlp.http_listen.port()), (4317, 4318));
}

#[test]
fn pods_keep_to_the_restricted_level_and_are_probed_where_they_listen() {
    let deployment = object("Deployment", "meshscope");
    let pod = at(&deployment, "spec.template.spec");
    let container = at(pod, "containers.0");
    for (node, path, expect) in [
        (&deployment, "spec.replicas", "2"),
        (pod, "securityContext.runAsNonRoot", "true"),
        (pod, "securityContext.runAsUser", "65532"),
        (pod, "securityContext.seccompProfile.type", "RuntimeDefault"),
        (container, "securityContext.allowPrivilegeEscalation", "false"),
        (container, "securityContext.readOnlyRootFilesystem", "true"),
        (container, "securityContext.capabilities.drop.0", "ALL"),
        (container, "startupProbe.httpGet.path", "/-/healthy"),
        (container, "livenessProbe.httpGet.path", "/-/healthy"),
        (container, "readinessProbe.httpGet.path", "/-/ready"),
    ] {
        assert_eq!(string(node, path), expect, "{path}");
    }
    assert!(container.get("resources").and_then(|all| all.get("requests")).is_some());
    let ports: BTreeMap<&str, &str> = at(container, "ports")
        .items()
        .iter()
        .map(|port| (string(port, "name"), string(port, "containerPort")))
        .collect();
    assert_eq!(ports, BTreeMap::from([("grpc-otlp", "4317"), ("http", "7070"), ("http-otlp", "4318")]));
    let mounted: BTreeSet<&str> = at(container, "volumeMounts").items().iter().map(|m| string(m, "name")).collect();
    let volumes: BTreeSet<&str> = at(pod, "volumes").items().iter().map(|volume| string(volume, "name")).collect();
    assert_eq!(mounted, volumes);
    let labels = at(&deployment, "spec.selector.matchLabels").entries();
    for (kind, path) in [
        ("Service", "spec.selector"),
        ("PodDisruptionBudget", "spec.selector.matchLabels"),
        ("NetworkPolicy", "spec.podSelector.matchLabels"),
    ] {
        let selected = object(kind, "meshscope");
        let told: Vec<_> = at(&selected, path).entries().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(told, labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), "{kind}");
    }
}

#[test]
fn our_own_audit_finds_nothing_in_what_we_deploy() {
    let folder = root().join("deploy/kubernetes");
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
    let output = command.args(["mesh", "audit", "--fail-on", "info"]).arg(folder).output().expect("run the audit");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("0 errors, 0 warnings, 0 notes"), "{said}");
}

fn is_understood(words: &[&str]) {
    if let Err(error) = Arguments::try_parse_from(words) {
        panic!("{words:?}: {error}");
    }
}

#[test]
fn every_command_that_is_deployed_is_understood() {
    let deployment = object("Deployment", "meshscope");
    let arguments = at(&deployment, "spec.template.spec.containers.0.args").items();
    let mut words = vec!["meshscope"];
    words.extend(arguments.iter().map(|word| word.as_str().expect("a text")));
    is_understood(&words);
    is_understood(&["meshscope", "doctor", "--probe", "ready", "--token-file", "/etc/meshscope/access/token"]);

    let unit = text("deploy/systemd/meshscope.service");
    let commands: Vec<Vec<&str>> = (unit.lines())
        .filter_map(|line| line.split_once("=/usr/local/bin/").map(|(_, command)| command.split(' ').collect()))
        .collect();
    assert_eq!(commands.len(), 2);
    commands.iter().for_each(|command| is_understood(command));

    let dockerfile = text("Dockerfile");
    let lists = dockerfile.lines().filter_map(|line| line.split_once('[')).filter(|(before, _)| before.trim() == "CMD");
    let lists: Vec<Vec<String>> =
        lists.map(|(_, list)| serde_json::from_str(&format!("[{list}")).expect("a JSON list")).collect();
    assert_eq!(lists.len(), 2);
    for list in &lists {
        let words: Vec<&str> = list.iter().map(|word| word.rsplit('/').next().unwrap_or_default()).collect();
        is_understood(&if words[0] == "meshscope" { words } else { [vec!["meshscope"], words].concat() });
    }
}

#[test]
fn the_versions_are_one() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(text("deploy/helm/meshscope/Chart.yaml").contains(&format!("\nappVersion: \"{version}\"\n")));
    assert!(text("Dockerfile").contains(&format!("\nARG VERSION={version}\n")));
    let image = format!("image: meshscope:{version}\n");
    assert!(text("deploy/kubernetes/meshscope.yaml").contains(&image), "run deploy/render");
    let rust = text("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned));
    let rust = rust.expect("a rust-version").trim_matches('"').to_owned();
    assert!(text("Dockerfile").contains(&format!("FROM rust:{rust}-slim")), "the image is built with Rust {rust}");
}

#[test]
fn the_unit_is_valid_and_hardened_where_systemd_can_say_so() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("systemd-analyze is absent: the unit is not verified");
        return;
    }
    // The program is not installed here; any that is stands for it.
    let unit = text("deploy/systemd/meshscope.service").replace("/usr/local/bin/meshscope", "/bin/true");
    let folder = crate::app::new_folder();
    let file = folder.join("meshscope.service");
    fs::write(&file, unit).expect("write the unit");
    let output = Command::new("systemd-analyze").arg("verify").arg(&file).output().expect("run systemd-analyze");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("meshscope.service")).collect();
    assert!(ours.is_empty(), "{said}");
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["security", "--offline=yes", "--threshold=20"]).arg(&file).output().expect("run it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "exposure above 2.0:\n{said}");
}
