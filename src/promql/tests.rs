//! Behaviour of the whole module.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn upstream() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/promql/promqltest");
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let report = testlang::run_script(&entry.file_name().to_string_lossy(), &text);
        println!("{}: {} passed {} failed {} skipped", report.name, report.passed, report.failed.len(), report.skipped);
        for failure in &report.failed {
            let head = text.lines().nth(failure.line - 1).unwrap_or("");
            println!("  {}:{} {head}\n   expected {}\n   got {}", report.name, failure.line, failure.expected, failure.got);
        }
    }
}
