//! `meshscope mesh audit` as its users run it: outputs, exit codes, suppressions, explanations.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::audit_rubbish::Folder;

/// A broken version (error), an old name (info) and two of one kind (warning).
const MIXED: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}\nspec:\n  \
     hosts: [cart]\n  http:\n  - route:\n    - destination: {host: cart}\n      weigth: 90\n---\n\
     apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: cart, namespace: shop}\nspec:\n  host: cart\n  \
     subsets: [{name: v1}]\n";

fn audit(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
    command.current_dir(folder).args(["mesh", "audit"]).args(arguments).output().expect("meshscope runs")
}

fn folder() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("a b")).expect("a folder");
    fs::write(folder.path().join("a b/mixed.yaml"), MIXED).expect("written");
    folder
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn exit_codes_follow_the_gravest_finding_and_the_options() {
    let folder = folder();
    for (arguments, code) in [
        (&["."][..], 1),
        (&[".", "--only", "MS0304"], 3),
        (&[".", "--only", "MS0304", "--fail-on", "error"], 0),
        (&[".", "--only", "MS0304,MS10*"], 1),
        (&[".", "--only", "MS20*"], 0),
        (&[".", "--only", "MS1001,MS9999"], 2),
        (&[".", "--min-severity", "error"], 1),
        (&["absent.yaml"], 1),
        (&[".", "--suppress", "absent"], 2),
        (&["--explain", "MS1001"], 0),
        (&["--explain", "MS9999"], 2),
        (&[], 2),
    ] {
        let output = audit(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", told(&output));
        assert!(!told(&output).contains('\u{1b}'), "colours in a pipe");
    }
}

#[test]
fn explanations_show_what_why_and_both_examples() {
    let text = told(&audit(Path::new("."), &["--explain", "ms1001"]));
    for part in [
        "MS1001 (error): a field that its kind does not have",
        "did you mean `weight`?",
        "Bad:\n",
        "Good:\n",
        "weigth: 90",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn sarif_is_what_code_scanning_reads() {
    let folder = folder();
    let log: Value = serde_json::from_str(&told(&audit(folder.path(), &["-o", "sarif", "."]))).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    assert!(rules.iter().all(|rule| rule["help"]["text"].is_string() && rule["shortDescription"]["text"].is_string()));
    assert!(!log.to_string().contains("helpUri"), "there is no page to lead to");
    let results = run["results"].as_array().expect("results");
    let wrong = results.iter().find(|one| one["ruleId"] == "MS1001").expect("the unknown field");
    assert_eq!(rules[wrong["ruleIndex"].as_u64().expect("index") as usize]["id"], "MS1001");
    let place = &wrong["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b/mixed.yaml");
    assert_eq!((place["region"]["startLine"].as_u64(), wrong["level"].as_str()), (Some(9), Some("error")));
    // Lines that are added above do not make a finding a new one.
    let print = |log: &Value| {
        let results = log["runs"][0]["results"].as_array().cloned().unwrap_or_default();
        results.iter().map(|one| one["partialFingerprints"]["primaryLocationLineHash"].to_string()).collect::<Vec<_>>()
    };
    fs::write(folder.path().join("a b/mixed.yaml"), format!("# a line\n{MIXED}")).expect("written");
    let moved: Value = serde_json::from_str(&told(&audit(folder.path(), &["-o", "sarif", "."]))).expect("JSON");
    assert_eq!(print(&log), print(&moved));
    let all = print(&log);
    assert_eq!(
        all.iter().collect::<std::collections::HashSet<_>>().len(),
        all.len(),
        "two findings with one fingerprint"
    );
}

#[test]
fn junit_names_file_line_and_failure_and_escapes_what_it_quotes() {
    let folder = folder();
    let text = told(&audit(folder.path(), &["-o", "junit", "--only", "MS1001,MS0304", "."]));
    let head = text.lines().nth(1).unwrap_or_default();
    assert!(text.starts_with("<?xml version=\"1.0\""), "{text}");
    assert!(head.contains("failures=\"2\"") && head.contains("skipped=\"0\""), "{head}");
    assert!(text.contains("<failure type=\"error\" message=\"unknown field `weigth`"), "{text}");
    fs::write(folder.path().join("odd.yaml"), "kind: \"<&>\\\"\\u0007\"\napiVersion: networking.istio.io/v1\n")
        .expect("written");
    fs::write(folder.path().join("broken.yaml"), "a: <b\n---\nkind: [\"&\n").expect("written");
    let text = told(&audit(folder.path(), &["-o", "junit", "."]));
    let bare: String = text.split('<').skip(1).map(|tag| tag.split('>').nth(1).unwrap_or_default()).collect();
    assert!(!bare.contains('"') || !bare.contains("&\n"), "{text}");
    assert_eq!(
        text.matches("<testcase").count(),
        text.matches("</testcase>").count() + text.matches("/>\n  </testsuite>").count()
    );
}

#[test]
fn suppressed_findings_are_counted_with_their_reasons() {
    let folder = folder();
    let file = folder.path().join("known.yml");
    for whole in [
        "- {code: MS1001, subject: '* shop/*', reason: known}\n- {code: MS0304, reason: 'one subset'}\n",
        "suppress:\n- {code: 'MS*', reason: all known}\n",
        "mesh:\n  discover: istio\n  suppress:\n  - {code: 'MS*', reason: all known}\nglobal: {}\n",
    ] {
        fs::write(&file, whole).expect("written");
        let output = audit(folder.path(), &["a b", "--suppress", "known.yml", "--only", "MS1001,MS0304"]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(told(&output).contains("2 suppressed"), "{}", told(&output));
        let log = told(&audit(folder.path(), &["a b", "--suppress", "known.yml", "-o", "sarif"]));
        assert!(log.contains("\"justification\": \""), "{log}");
    }
    for (wrong, expected) in [
        ("- {code: MS1001}\n", "known.yml:1:3: [0]: the key \"reason\" is missing"),
        ("- {code: MS1001, reason: ''}\n", "has no reason"),
        ("- {code: MS9999, reason: a}\n", "the suppression of MS9999 fits the code of no check"),
        ("- {code: MS1001, reason: a, subjekt: b}\n", "did you mean \"subject\"?"),
        ("- [\n", "known.yml:"),
    ] {
        fs::write(&file, wrong).expect("written");
        let output = audit(folder.path(), &["a b", "--suppress", "known.yml"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && error.contains(expected), "{wrong:?}: {error}");
    }
}

#[test]
fn findings_name_the_item_of_the_scorecard_and_no_name_looks_like_a_line_of_its_own() {
    let folder = folder();
    let json: Value =
        serde_json::from_str(&told(&audit(folder.path(), &["-o", "json", "--only", "MS1001", "."]))).expect("JSON");
    assert_eq!(json["findings"][0]["guide"], "configuration_drift");
    let junit = told(&audit(folder.path(), &["-o", "junit", "--only", "MS1001", "."]));
    assert!(junit.contains("<property name=\"guide\" value=\"configuration_drift\"/>"), "{junit}");
    let forged =
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: \"a\\n0 objects: 0 errors\"}\nspec: {}\n";
    fs::write(folder.path().join("forged.yaml"), forged).expect("written");
    let table = told(&audit(folder.path(), &["forged.yaml"]));
    assert!(!table.lines().any(|line| line.starts_with("0 objects")), "{table}");
}
