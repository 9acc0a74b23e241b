//! Kiali's own checker tests: which of its findings for which files ours agree with. The share is printed; less than was
//! reached before fails, as does a difference without a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use meshscope::audit::{self, Options, checks};
use meshscope::mesh::{Input, Snapshot};
use serde_json::Value;

/// The codes a checker of Kiali gives, so that what others find in the same file does not count.
fn codes_of(checker: &str) -> &'static [&'static str] {
    match checker {
        "AuthorizationPolicy needs mTLS" | "AuthorizationPolicy relies on peer identities" => &["KIA0105"],
        "DestinationRule disables mTLS mesh-wide" => &["KIA0208"],
        "PeerAuthentication disables mTLS in a namespace" => &["KIA0505"],
        "PeerAuthentication disables mTLS mesh-wide" => &["KIA0506"],
        "VirtualService subset exists" => &["KIA1107"],
        "exportTo names a namespace that exists" => &["KIA0005"],
        "VirtualService gateway exists" => &["KIA1102"],
        _ => &[],
    }
}

/// Rows that differ, and why.
const DIFFERENCES: &[(&str, &str)] =
    &[("virtualservices__subset-presence-matching-subsets-diff-ns-half-fqdn.yaml", HALF)];
const HALF: &str =
    "istiod completes names without a dot only: a rule for reviews.bookinfo is not for the service's full name";

/// The settings of Kiali's test as objects: the mesh configuration, namespaces, services of what a policy selects.
fn setting(row: &Value, text: &str) -> String {
    let object = |kind: &str, namespace: &str, name: &str, rest: &str| {
        format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n{rest}")
    };
    let mut all = String::new();
    let relies = row["checker"] == "AuthorizationPolicy relies on peer identities";
    if row["auto_mtls"] == false || relies {
        all.push_str(&object("ConfigMap", "istio-system", "istio", "data: {mesh: \"enableAutoMtls: false\"}\n"));
    }
    for name in row["namespaces"].as_array().into_iter().flatten() {
        all.push_str(&object("Namespace", "''", name.as_str().unwrap_or_default(), ""));
    }
    if row["workload_services"].is_string() {
        let snapshot = Snapshot::read(&[Input { name: "a".into(), text: text.to_owned() }], "bookinfo");
        let policy = snapshot.iter().find(|one| one.id.to_string().starts_with("AuthorizationPolicy"));
        let labels = policy.map(|one| one.map("spec.selector.matchLabels")).unwrap_or_default();
        let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        if !selector.is_empty() {
            let spec = format!("spec: {{selector: {{{}}}, ports: [{{port: 80}}]}}\n", selector.join(", "));
            all.push_str(&object("Service", "bookinfo", "ratings", &spec));
        }
    }
    for name in row["known_gateways"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        all.push_str(&format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: default}}\n"
        ));
    }
    all
}

/// `code path`, the way Kiali writes paths.
fn expected(row: &Value) -> BTreeSet<String> {
    let path = |one: &Value| one["path"].as_str().unwrap_or_default().to_owned();
    if let Some(needs) = row["needs_mtls"].as_bool() {
        let paths = row["paths"].as_array().into_iter().flatten().filter(|_| needs);
        return paths.filter_map(Value::as_str).map(|path| format!("KIA0105 {}", path.replace("[o]", "[0]"))).collect();
    }
    let rows = row["expected"].as_array().into_iter().flatten();
    rows.map(|one| format!("{} {}", one["code"].as_str().unwrap_or_default(), path(one))).collect()
}

fn found(row: &Value, text: &str) -> BTreeSet<String> {
    let inputs = [text.to_owned(), setting(row, text)].map(|text| Input { name: "row.yaml".into(), text });
    let report = audit::audit(&Snapshot::read(&inputs, "bookinfo"), None, &Options::default());
    let wanted = codes_of(row["checker"].as_str().unwrap_or_default());
    let object = row["object"].as_str().map(|name| name.split(' ').next().unwrap_or_default().to_owned());
    let of_object = |subject: &str| object.as_ref().is_none_or(|name| subject.ends_with(&format!("/{name}")));
    let findings = report.findings.iter().filter(|one| of_object(&one.subject));
    findings
        .filter_map(|one| {
            let check = checks().find(|check| check.code == one.code)?;
            let code = check.also.iter().find(|code| wanted.contains(code))?;
            Some(format!("{code} {}", one.field.replace('.', "/")))
        })
        .collect()
}

/// The same codes, and each of our paths is at or below, or above, the one that Kiali names (it names none at times).
fn agrees(theirs: &BTreeSet<String>, ours: &BTreeSet<String>) -> bool {
    let same = |their: &str, our: &str| our.starts_with(their.trim_end()) || their.starts_with(our);
    theirs.len() == ours.len() && theirs.iter().all(|their| ours.iter().any(|our| same(their, our)))
}

#[test]
fn findings_agree_with_those_of_kiali() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/istio-config/kiali"));
    let Ok(table) = fs::read_to_string(folder.join("EXPECTED.json")) else {
        println!("fixtures absent: {}", folder.display());
        return;
    };
    let rows: Vec<Value> = serde_json::from_str(&table).expect("JSON");
    let (mut agreed, mut wrong, mut stale) = (0, Vec::new(), Vec::new());
    for row in &rows {
        let file = row["file"].as_str().unwrap_or_default();
        let text = fs::read_to_string(folder.join(file)).expect("a file of the table");
        let (theirs, ours) = (expected(row), found(row, &text));
        let reason = DIFFERENCES.iter().find(|(name, _)| *name == file);
        match (agrees(&theirs, &ours), reason) {
            (true, None) => agreed += 1,
            (true, Some(_)) => {
                agreed += 1;
                stale.push(file);
            }
            (false, Some((_, reason))) => println!("differs, {file}: {reason}"),
            (false, None) => wrong.push(format!("{file} (auto {}): Kiali {theirs:?}, ours {ours:?}", row["auto_mtls"])),
        }
    }
    println!("agree with Kiali: {agreed} of {} rows", rows.len());
    assert!(stale.is_empty(), "no longer differ: {stale:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(agreed >= 55, "only {agreed} rows agree");
}
