//! The grid of audit checks: `tests/it/audit/<CODE>/bad.yaml` is found by the check of that code, `good.yaml` is not.
//! A check that is not in the grid fails, as does a folder without a check. Checks against traffic have `bad.prom` and
//! `good.prom` beside: series in the language of Prometheus' tests, which go through the real questions and engine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meshscope::audit::{self, Options, checks};
use meshscope::mesh;

fn grid() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/audit")
}

/// Findings of a check in a file, `line: message`.
async fn found(code: &str, file: &Path) -> Vec<String> {
    let snapshot = mesh::read_paths(&[file.to_owned()], "default");
    let script = file.with_extension("prom");
    let observed = match fs::read_to_string(&script) {
        Err(_) => None,
        Ok(text) => {
            let observed = audit::rehearse(&text).await;
            Some(observed.unwrap_or_else(|reason| panic!("{}: {reason}", script.display())))
        }
    };
    let report = audit::audit(&snapshot, observed.as_ref(), &Options::default());
    let of_code = report.findings.iter().filter(|one| one.code == code && one.suppressed.is_none());
    of_code.map(|one| format!("{}: {}", one.line, one.message)).collect()
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
        format!("| {} | {} | {} | {also}|", check.code, check.severity, check.title)
    };
    let mut rows: Vec<String> = checks().map(row).collect();
    rows.sort();
    assert_eq!(written, rows, "docs/audit.md, Checks, should read:\n{}", rows.join("\n"));
}
