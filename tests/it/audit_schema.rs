//! Fields of declared objects against upstream's own cases: what a cluster refuses is refused, what it takes is taken.

use std::fs;
use std::path::{Path, PathBuf};

use meshscope::audit::{self, Options, Report};
use meshscope::mesh::{Input, Snapshot, read_paths};

fn fixtures() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/istio-config"));
    if !folder.exists() {
        println!("fixtures absent: {}", folder.display());
        return None;
    }
    Some(folder.to_owned())
}

fn schema_findings(report: &Report) -> Vec<String> {
    let schema = report.findings.iter().filter(|one| one.code.starts_with("MS10"));
    let file = |one: &meshscope::model::Finding| one.file.clone().unwrap_or_default();
    schema.map(|one| format!("{}:{}: {} {}: {}", file(one), one.line, one.code, one.field, one.message)).collect()
}

/// What upstream says in other words: a part of its text, and one of ours.
const MEANINGS: &[(&str, &str)] = &[
    ("warmup.minimumPercent: Invalid value", "minimumPercent: must be between 0 and 100"),
    ("warmup.aggression: Invalid value", "aggression: "),
    ("Unsupported value: \"BLAH", "unsupported value \"BLAH\""),
    ("concurrency in body should be greater than or equal to 0", "concurrency: "),
    ("spec.targetRef.name: Required value", "spec.targetRef.name: is required"),
    ("spec.targetRef.group in body should match", "spec.targetRef.group: should match"),
    ("only one of targetRefs or selector can be set", "only one of targetRef, targetRefs can be set"),
    ("spec.jwtRules[0] in body must be of type object", "spec.jwtRules[0]: must be an object"),
    ("fromHeaders[0].name in body should be at least 1", "fromHeaders[0].name: must be at least 1 chars long"),
    ("fromCookies[0] in body should be at least 1", "fromCookies[0]: must be at least 1 chars long"),
    ("outputClaimToHeaders[0].claim in body", "outputClaimToHeaders[0].claim: must be at least 1 chars long"),
    ("header in body should match", "header: should match"),
    ("spaceDelimitedClaims[0] in body", "spaceDelimitedClaims[0]: must be at least 1 chars long"),
    ("spec: Required value", "spec: is required"),
    ("name in body should be at least 1 chars long", "name: must be at least 1 chars long"),
    ("spec.match[0].ports[0].number: Required value", "spec.match[0].ports[0].number: is required"),
    ("spec.sha256 in body should match", "spec.sha256: should match"),
    ("spec.pluginName in body", "spec.pluginName: must be at least 1 chars long"),
    ("spec.vmConfig.env[0].name in body", "spec.vmConfig.env[0].name: must be at least"),
    ("spec in body must be of type object: \"null", "spec: must be an object, not null"),
    ("spec.ports: Invalid value", "spec.ports.@"),
    ("httpHeaders[0].name in body should match", "httpHeaders[0].name: should match"),
    ("only support waypointMatch when context is WAYPOINT", "only support waypointMatch when context is WAYPOINT"),
    ("waypoint.portNumber: Invalid value", "waypoint.portNumber: port must be between 1-65535"),
];

#[test]
fn what_a_cluster_refuses_is_refused_with_its_reason() {
    let Some(folder) = fixtures() else { return };
    let (mut cases, mut wrong) = (0, Vec::new());
    let mut files: Vec<_> = fs::read_dir(folder.join("api-validation")).expect("listed").flatten().collect();
    files.sort_by_key(fs::DirEntry::path);
    for file in files.iter().map(fs::DirEntry::path).filter(|path| path.to_string_lossy().contains("-invalid")) {
        let text = fs::read_to_string(&file).expect("text");
        for document in text.split("\n---\n").flat_map(|part| {
            part.split("\n_err:")
                .enumerate()
                .map(|(at, part)| if at == 0 { part.to_owned() } else { format!("_err:{part}") })
        }) {
            let Some(line) = document.lines().find(|line| line.starts_with("_err:")) else { continue };
            let expected = line.trim_start_matches("_err:").trim().trim_matches(['"', '\'']).replace("\\\"", "\"");
            let bare = document.replace(line, "");
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let snapshot = Snapshot::read(&[Input { name: name.as_str().into(), text: bare }], "default");
            let found = schema_findings(&audit::audit(&snapshot, None, &Options::default()));
            cases += 1;
            let ours =
                MEANINGS.iter().find(|(theirs, _)| expected.contains(theirs)).map_or(expected.as_str(), |one| one.1);
            if !found.iter().any(|one| one.contains(ours)) {
                wrong.push(format!("{name}: {expected:?} ({ours:?}) is not among {found:#?}"));
            }
        }
    }
    println!("refused as upstream refuses: {} of {cases}", cases - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases >= 37, "only {cases} cases found");
}

#[test]
fn what_a_cluster_takes_is_taken() {
    let Some(folder) = fixtures() else { return };
    let mut paths: Vec<PathBuf> = ["config", "samples", "telemetry-api", "security-analyzer", "authz-policies"]
        .iter()
        .map(|name| folder.join(name))
        .collect();
    let valid = fs::read_dir(folder.join("api-validation")).expect("listed").flatten().map(|entry| entry.path());
    paths.extend(valid.filter(|path| path.to_string_lossy().ends_with("-valid.yaml")));
    let snapshot = read_paths(&paths, "default");
    assert!(snapshot.len() > 100, "only {} objects", snapshot.len());
    let mut wrong = schema_findings(&audit::audit(&snapshot, None, &Options::default()));
    // The field is gone from the API: a cluster drops it from these two routes without a word, as we say.
    let before = wrong.len();
    wrong
        .retain(|one| !(one.contains("rule-websocket-route.yaml") && one.contains("unknown field `websocketUpgrade`")));
    assert_eq!(before - wrong.len(), 2, "the two routes with a field that is gone");
    println!("objects taken: {}, findings: {}", snapshot.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
