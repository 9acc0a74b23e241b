//! A report as SARIF 2.1.0, as GitHub code scanning reads it: rules with help, places relative to the root of the
//! repository, fingerprints that stay when lines move.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::audit::{Report, checks, guide};
use crate::model::{Finding, Severity, fnv1a};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The log of one run. Findings of objects that came from no file stand in no place, which GitHub leaves out.
pub(super) fn log(report: &Report) -> Value {
    let rules: Vec<Value> = checks().map(rule).collect();
    let index: HashMap<&str, usize> = checks().enumerate().map(|(at, one)| (one.code, at)).collect();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let results: Vec<Value> = report.findings.iter().map(|one| result(one, &index, &mut seen)).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "meshscope",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "ROOT": { "description": { "text": "The folder in which meshscope ran." } } },
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn rule(check: &crate::audit::Check) -> Value {
    let also = match check.also {
        [] => String::new(),
        codes => format!("\n\nOther tools call it {}.", codes.join(", ")),
    };
    let text = format!(
        "{}. `meshscope mesh audit --explain {}` shows a bad and a good example.{also}",
        check.title, check.code
    );
    json!({
        "id": check.code,
        "name": check.code,
        "shortDescription": { "text": check.title },
        "fullDescription": { "text": check.title },
        "help": { "text": text, "markdown": text },
        "defaultConfiguration": { "level": level(check.severity) },
        "properties": { "tags": ["service-mesh", guide::item(check.code)], "precision": "high" },
    })
}

fn result(finding: &Finding, index: &HashMap<&str, usize>, seen: &mut HashMap<String, usize>) -> Value {
    let Finding { code, severity, subject, file, line, field, message, evidence, fix, suppressed } = finding;
    let mut text =
        if field.is_empty() { format!("{subject}: {message}") } else { format!("{subject}: {field}: {message}") };
    evidence.iter().for_each(|line| text.push_str(&format!("\nSeen: {line}")));
    if let Some(fix) = fix {
        text.push_str(&format!("\nInstead:\n{fix}"));
    }
    // The line is no part of it, so that a finding stays the same when lines are added above.
    let identity = format!("{code}/{subject}/{field}/{}", file.as_deref().unwrap_or_default());
    let number = seen.entry(identity.clone()).or_default();
    *number += 1;
    let print = format!("{:016x}:{number}", fnv1a(identity.bytes()));
    let mut result = json!({
        "ruleId": code,
        "level": level(*severity),
        "message": { "text": text },
        "partialFingerprints": { "primaryLocationLineHash": print },
    });
    if let Some(at) = index.get(code) {
        result["ruleIndex"] = json!(at);
    }
    let logical = json!([{ "fullyQualifiedName": if field.is_empty() { subject.clone() } else { format!("{subject}/{field}") } }]);
    result["locations"] = match file {
        Some(file) => json!([{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(file), "uriBaseId": "ROOT" },
                "region": { "startLine": (*line).max(1) },
            },
            "logicalLocations": logical,
        }]),
        None => json!([{ "logicalLocations": logical }]),
    };
    if let Some(reason) = suppressed {
        result["suppressions"] = json!([{ "kind": "external", "justification": reason }]);
    }
    result
}

/// A path as a relative URI: `./a b.yaml` is `a%20b.yaml`. Paths that begin at the root are cut to the current folder where
/// they stand below it.
fn uri(path: &str) -> String {
    let here = std::env::current_dir().map(|here| format!("{}/", here.display())).unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(path);
    let path = path.trim_start_matches("./").trim_start_matches('/');
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn paths_become_relative_uris() {
        for (path, expected) in
            [("./a b.yaml", "a%20b.yaml"), ("k8s/ä.yaml", "k8s/%C3%A4.yaml"), ("<stdin>", "%3Cstdin%3E")]
        {
            assert_eq!(uri(path), expected);
        }
    }
}
