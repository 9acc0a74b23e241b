//! The grid of audit checks: `tests/it/audit/<CODE>/bad.yaml` is found by the check of that code, `good.yaml` is not.
//! A check that is not in the grid fails, as does a folder without a check. Checks against traffic have `bad.prom` and
//! `good.prom` beside: series in the language of Prometheus' tests, which go through the real questions and engine. Checks
//! of files against a cluster have `bad.cluster.yaml` and `good.cluster.yaml`: what the cluster holds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meshscope::audit::{self, Options, checks};
use meshscope::mesh;
use meshscope::model::Finding;

fn grid() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/audit")
}

/// Checks without a mend to write down: what is wrong is the text itself, or the sentence names the value that is meant,
/// or what is to be mended is no object of the mesh (an application, a controller).
const WITHOUT_FIX: &[&str] = &[
    "MS0001", "MS0710", "MS0721", "MS1002", "MS1003", "MS1004", "MS1005", "MS2060", "MS3001", "MS3013", "MS3014",
    "MS3015", "MS3019",
];

/// Findings of a check in a file, `line: message`.
async fn found(code: &str, file: &Path) -> Vec<String> {
    findings(code, file).await.iter().map(|one| format!("{}: {}", one.line, one.message)).collect()
}

/// Findings of a check in a file.
async fn findings(code: &str, file: &Path) -> Vec<Finding> {
    let snapshot = mesh::read_paths(&[file.to_owned()], "default");
    let cluster = fs::read_to_string(file.with_extension("cluster.yaml")).ok();
    let script = file.with_extension("prom");
    let observed = match fs::read_to_string(&script) {
        Err(_) => None,
        Ok(text) => {
            let observed = audit::rehearse(&text, &snapshot).await;
            Some(observed.unwrap_or_else(|reason| panic!("{}: {reason}", script.display())))
        }
    };
    let (mesh, files) = match cluster {
        Some(text) => (audit::as_cluster(&text), Some(audit::as_files(snapshot))),
        None => (snapshot, None),
    };
    let beside = audit::Beside { observed: observed.as_ref(), files: files.as_ref() };
    let report = audit::audit_beside(&mesh, beside, &Options::default());
    report.findings.into_iter().filter(|one| one.code == code && one.suppressed.is_none()).collect()
}

#[tokio::test]
async fn every_check_finds_its_bad_case_and_spares_its_good_one() {
    let mut wrong = Vec::new();
    for check in checks() {
        let folder = grid().join(check.code);
        for (name, finds) in [("bad.yaml", true), ("good.yaml", false)] {
            let file = folder.join(name);
            if !file.exists() {
                wrong.push(format!("{} ({}): there is no {}", check.code, check.title, file.display()));
                continue;
            }
            if check.code.starts_with("MS20") && !file.with_extension("prom").exists() {
                wrong.push(format!("{} ({}): no traffic stands beside {name}", check.code, check.title));
            }
            let seen = found(check.code, &file).await;
            if seen.is_empty() == finds {
                let said = if finds { "nothing was found in".to_owned() } else { format!("found {seen:?} in") };
                wrong.push(format!("{} ({}): {said} {name}", check.code, check.title));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_finding_says_what_happens_and_how_to_mend_it_in_yaml() {
    let mut wrong = Vec::new();
    for check in checks() {
        for one in findings(check.code, &grid().join(check.code).join("bad.yaml")).await {
            let place = format!("{} {}: {}", one.code, one.subject, one.message);
            match &one.fix {
                None if WITHOUT_FIX.contains(&check.code) => {}
                None => wrong.push(format!("{place}: no fix")),
                Some(fix) => {
                    if let Err(problem) = meshscope::yaml::documents(fix) {
                        wrong.push(format!("{place}: the fix is not YAML: {problem}\n{fix}"));
                    }
                    if ["$NS", "$NAME"].iter().any(|part| fix.contains(part)) {
                        wrong.push(format!("{place}: something was not filled in:\n{fix}"));
                    }
                }
            }
            if one.message.contains("{}") || one.message.contains("[]") {
                wrong.push(format!("{place}: an empty list is shown"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn codes_are_used_once_and_every_folder_has_its_check() {
    let codes: Vec<&str> = checks().map(|check| check.code).collect();
    let known: BTreeSet<&str> = codes.iter().copied().collect();
    assert_eq!(known.len(), codes.len(), "a code is used twice: {codes:?}");
    for entry in fs::read_dir(grid()).expect("the grid").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!entry.path().is_dir() || known.contains(name.as_str()), "no check has the code {name}");
    }
}

#[test]
fn the_table_of_checks_is_that_of_the_code() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md")).expect("docs/audit.md");
    let written: Vec<&str> = text.lines().filter(|line| line.starts_with("| MS")).collect();
    let row = |check: &audit::Check| {
        let also = check.also.join(", ");
        let also = if also.is_empty() { also } else { format!("{also} ") };
        let item = audit::guide::item(check.code);
        format!("| {} | {} | {} | {item} | {also}|", check.code, check.severity, check.title)
    };
    let mut rows: Vec<String> = checks().map(row).collect();
    rows.sort();
    assert_eq!(written, rows, "docs/audit.md, Checks, should read:\n{}", rows.join("\n"));
}
