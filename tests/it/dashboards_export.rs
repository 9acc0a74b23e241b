//! `meshscope dashboards export` and the API that answers the same: forms, choices, and what is refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::api::{Parts, Server};
use crate::app::new_folder;

fn export(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
    let output = command.args(["dashboards", "export"]).args(arguments).output().expect("run meshscope");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

/// Every file below a folder, relative to it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}"))),
            false => drop(found.insert(name)),
        }
    }
    found
}

#[test]
fn each_form_is_written_into_its_places() {
    let folder = new_folder();
    for (format, expect) in [
        ("json", vec!["Mesh/linkerd.json"]),
        ("configmap", vec!["meshscope-dashboard-linkerd.yaml"]),
        (
            "provisioning",
            vec!["dashboards/meshscope/linkerd.json", "dashboards/meshscope.yaml", "datasources/meshscope.yaml"],
        ),
        ("operator", vec!["grafanadashboard-linkerd.yaml", "grafanadatasources.yaml"]),
    ] {
        let out = folder.join(format);
        let path = out.display().to_string();
        let arguments =
            ["--format", format, "--mesh", "linkerd", "--datasource", "meshscope", "--folder", "Mesh", "--out", &path];
        let (code, printed, error) = export(&arguments);
        assert_eq!((code, error.as_str()), (0, ""));
        let written = files(&out);
        assert_eq!(printed.lines().count(), written.len());
        for name in expect {
            assert!(written.contains(name), "{name} not in {written:?}");
        }
        assert!(!written.iter().any(|name| name.contains("istio-mesh") || name.ends_with(".part")), "{written:?}");
        let (code, _, error) = export(&[&arguments[..], &["--check"]].concat());
        assert_eq!((code, error.as_str()), (0, ""), "what was written is what would be written");
    }
}

#[test]
fn bad_input_is_refused_with_its_reason_and_nothing_is_written() {
    let folder = new_folder();
    let out = folder.join("out").display().to_string();
    for (arguments, part) in [
        (vec!["--format", "jsonnet"], "json, configmap, provisioning, operator"),
        (vec!["--mesh", "consul"], "istio, ambient, linkerd"),
        (vec!["--datasource", "influx"], "meshscope, prometheus"),
        (vec!["--folder", "a/b"], "`a/b` cannot name a folder"),
        (vec!["--namespace", "No_Name"], "`No_Name` cannot name a kubernetes object"),
        (vec!["--datasource-name", ""], "cannot name a data source"),
        (vec!["--meshscope-url", "mesh:7070"], "`mesh:7070` is no address of meshscope: write http://HOST:PORT"),
        (vec!["--sql-address", "db"], "`db` is no address of PostgreSQL: write HOST:PORT"),
    ] {
        let (code, printed, error) = export(&[&arguments[..], &["--out", &out]].concat());
        assert!(code != 0 && printed.is_empty() && error.contains(part), "{arguments:?}: {code} {printed} {error}");
        assert!(!folder.join("out").exists(), "{arguments:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_stays_as_it_was() {
    let folder = new_folder();
    std::fs::write(folder.join("file"), "mine").expect("write");
    let below_a_file = folder.join("file/boards").display().to_string();
    let (code, printed, error) = export(&["--format", "json", "--out", &below_a_file]);
    assert!(code != 0 && printed.is_empty() && error.contains("file/boards"), "{error}");
    assert_eq!(files(&folder), BTreeSet::from(["file".to_owned()]));

    // The place of the last file is taken by a folder: no other file is replaced, no part of one is left.
    let taken = folder.join("taken");
    std::fs::create_dir_all(taken.join("sql.json")).expect("a folder");
    std::fs::write(taken.join("service.json"), "mine").expect("write");
    let (code, printed, error) = export(&["--format", "json", "--out", &taken.display().to_string()]);
    assert!(code != 0 && printed.is_empty() && error.contains("sql.json: it is a folder"), "{error}");
    assert_eq!(files(&taken), BTreeSet::from(["service.json".to_owned()]));
    assert_eq!(std::fs::read_to_string(taken.join("service.json")).expect("read"), "mine");
}

#[tokio::test]
async fn the_api_lists_the_boards_and_gives_each_in_every_form() {
    let server = Server::start(Parts::default()).await;
    let list = server.get("/api/mesh/v1/dashboards").await.json();
    let boards = list["data"]["dashboards"].as_array().expect("boards").clone();
    assert_eq!(boards.len(), 16);
    assert!(list["data"].get("files").is_none());
    for board in &boards {
        let answer = server.get(board["url"].as_str().expect("a path")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let json = answer.json();
        assert_eq!((&json["uid"], &json["title"]), (&board["uid"], &board["title"]));
        assert_eq!(json["panels"].as_array().map(Vec::len), board["panels"].as_u64().map(|count| count as usize));
    }
    let checked_in =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/edge.json")).expect("read");
    assert_eq!(server.get("/api/mesh/v1/dashboards/meshscope-edge").await.body, checked_in);

    for (format, kind) in [("configmap", "ConfigMap"), ("operator", "GrafanaDashboard")] {
        let answer = server.get(&format!("/api/mesh/v1/dashboards/meshscope-edge?format={format}&namespace=eu")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/yaml")));
        let object: Value = serde_saphyr::from_str(&answer.body).expect("YAML");
        assert_eq!((&object["kind"], &object["metadata"]["namespace"]), (&json!(kind), &json!("eu")));
    }
    let istio = server.get("/api/mesh/v1/dashboards/meshscope-service?mesh=istio").await.json();
    assert!(istio["templating"].to_string().contains("client : source,server : destination"));
    let whole =
        server.get("/api/mesh/v1/dashboards?format=provisioning&datasource=meshscope&mesh=linkerd").await.json();
    let paths: Vec<&str> =
        whole["data"]["files"].as_array().expect("files").iter().filter_map(|file| file["path"].as_str()).collect();
    assert!(
        paths.contains(&"datasources/meshscope.yaml") && paths.contains(&"dashboards/meshscope/linkerd.json"),
        "{paths:?}"
    );
}

#[tokio::test]
async fn the_api_refuses_what_it_does_not_know_and_names_it() {
    let server = Server::start(Parts::default()).await;
    for (path, status, part) in [
        ("/nosuch", 404, "there is no board nosuch"),
        ("/meshscope-ambient?mesh=linkerd", 404, "there is no board meshscope-ambient for what is asked"),
        ("/meshscope-edge?format=jsonnet", 400, "is none of json, configmap, provisioning, operator"),
        ("/meshscope-edge?format=provisioning", 400, "a folder of files"),
        ("/meshscope-edge?mesh=consul", 400, "is none of istio, ambient, linkerd"),
        ("?datasource=influx", 400, "is none of meshscope, prometheus"),
        ("?recording_rules=maybe", 400, "use true or false"),
        ("?mash=istio", 400, "no such parameter here"),
        ("?namespace=A_B", 400, "cannot name a kubernetes object"),
        ("?sql_address=x", 400, "write HOST:PORT"),
    ] {
        let answer = server.get(&format!("/api/mesh/v1/dashboards{path}")).await;
        let error = answer.json()["error"].as_str().expect("an error").to_owned();
        assert_eq!(answer.status, status, "{path}: {error}");
        assert!(error.contains(part), "{path}: {error}");
    }
}
