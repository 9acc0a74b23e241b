//! Istio's own cases for `istioctl analyze`: files, and what each analyzer must say about them.
//!
//! A case names one analyzer and lists only what that one finds, so only the checks of the same are compared, by IST code and
//! object. They are read from the fixtures beside the repository, when they are there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use meshscope::audit::{self, Options, checks};
use meshscope::mesh::{Input, KINDS, Scope, Snapshot};

/// Analyzers and the checks that do their work.
const ANALYZERS: &[(&str, &[&str])] = &[
    ("annotations.K8sAnalyzer", &["MS0708", "MS0709", "MS0710", "MS0711"]),
    ("authn.BlockedCIDRsAnalyzer", &["MS0480"]),
    ("authz.AuthorizationPoliciesAnalyzer", &["MS0104", "MS0108"]),
    ("conditions.ConditionAnalyzer", &["MS0721"]),
    ("deployment.ApplicationUIDAnalyzer", &["MS0717"]),
    ("deployment.ServiceAssociationAnalyzer", &["MS0715", "MS0716"]),
    ("deprecation.FieldAnalyzer", &["MS0208"]),
    ("destinationrule.CaCertificateAnalyzer", &["MS0301", "MS0302"]),
    ("destinationrule.PodNotSelectedAnalyzer", &["MS0303", "MS0304"]),
    ("envoyfilter.EnvoyPatchAnalyzer", &["MS0608", "MS0609", "MS0610", "MS0611", "MS0612"]),
    ("externalcontrolplane.ExternalControlPlaneAnalyzer", &["MS0719", "MS0720"]),
    ("gateway.ConflictingGatewayAnalyzer", &["MS0209"]),
    ("gateway.IngressGatewayPortAnalyzer", &["MS0105", "MS0210"]),
    ("injection.Analyzer", &["MS0701", "MS0702", "MS0703", "MS0704"]),
    ("injection.ImageAnalyzer", &["MS0705"]),
    ("injection.ImageAutoAnalyzer", &["MS0706", "MS0707"]),
    ("k8sgateway.SelectorAnalyzer", &["MS0613"]),
    ("maturity.AlphaAnalyzer", &["MS0712"]),
    ("multicluster.MeshNetworksAnalyzer", &["MS0614"]),
    ("schemaValidation.CollectionValidationAnalyzer(collections.VirtualService)", &["MS0204", "MS0205"]),
    ("service.PortNameAnalyzer", &["MS0713", "MS0714"]),
    ("serviceentry.ConflictingServiceEntryProtocolAnalyzer", &["MS0213"]),
    ("serviceentry.ProtocolAddressesAnalyzer", &["MS0212"]),
    ("sidecar.SelectorAnalyzer", &["MS0109", "MS0605", "MS0606", "MS0607"]),
    ("telemetry.LightstepAnalyzer", &["MS0602"]),
    ("telemetry.ProviderAnalyzer", &["MS0601"]),
    ("telemetry.SelectorAnalyzer", &["MS0107", "MS0604"]),
    ("virtualservice.ConflictingMeshGatewayHostsAnalyzer", &["MS0201"]),
    ("virtualservice.DestinationHostAnalyzer", &["MS0102", "MS0103", "MS0203", "MS0206"]),
    ("virtualservice.GatewayAnalyzer", &["MS0101", "MS0202"]),
    ("virtualservice.JWTClaimRouteAnalyzer", &["MS0207"]),
    ("webhook.Analyzer", &["MS0718"]),
];

/// Cases that differ, and why that is meant.
const DIFFERENT: &[(&str, &str)] = &[];

fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/istio-config/analyze")).to_owned()
}

/// A mesh configuration as a cluster holds it: a text inside the ConfigMap `istio`.
fn config_map(texts: &[(&str, String)]) -> Input {
    let mut text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n".to_owned();
    for (key, value) in texts {
        text.push_str(&format!("  {key}: |\n"));
        value.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    Input { name: "istio.yaml".into(), text }
}

/// The object of an expectation as a finding names it: with its namespace.
fn subject(written: &str) -> String {
    let (kind, name) = written.split_once(' ').expect("kind and name");
    let namespaced = KINDS.iter().any(|info| info.name == kind && info.scope == Scope::Namespaced);
    match kind {
        "MeshNetworks" => "ConfigMap istio-system/istio".to_owned(),
        _ if namespaced && !name.contains('/') => format!("{kind} default/{name}"),
        _ => written.to_owned(),
    }
}

/// Findings of the checks of an analyzer, `IST0101 Gateway default/a`, sorted.
fn found(case: &serde_json::Value, codes: &[&str]) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(folder().join(name)).expect(name);
    let files = case["files"].as_array().expect("files").iter().filter_map(|file| file.as_str());
    let mut inputs: Vec<Input> = files.map(|name| Input { name: name.into(), text: read(name) }).collect();
    let part = |key: &str, data: &'static str| Some((data, read(case[key].as_str()?)));
    let config: Vec<(&str, String)> =
        [part("mesh_config", "mesh"), part("mesh_networks", "meshNetworks")].into_iter().flatten().collect();
    if !config.is_empty() {
        inputs.push(config_map(&config));
    }
    let report = audit::audit(&Snapshot::read(&inputs, "default"), None, &Options::default());
    let names: BTreeMap<&str, &str> = checks()
        .filter_map(|check| Some((check.code, *check.also.iter().find(|also| also.starts_with("IST"))?)))
        .collect();
    let own = report.findings.iter().filter(|one| codes.contains(&one.code));
    let mut lines: Vec<String> = own.map(|one| format!("{} {}", names[one.code], one.subject)).collect();
    lines.sort();
    lines
}

fn expected(case: &serde_json::Value) -> Vec<String> {
    let line = |one: &serde_json::Value| {
        format!("{} {}", one["code"].as_str().expect("code"), subject(one["resource"].as_str().expect("resource")))
    };
    let mut lines: Vec<String> = case["expected"].as_array().expect("expected").iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn the_cases_of_istioctl_analyze_are_answered_alike() {
    let Ok(text) = fs::read_to_string(folder().join("EXPECTED.json")) else {
        eprintln!("fixtures absent: {}", folder().display());
        return;
    };
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    let (mut agree, mut wrong) = (0, Vec::new());
    for case in &cases {
        let (name, analyzer) = (case["name"].as_str().expect("name"), case["analyzer"].as_str().expect("analyzer"));
        let known = ANALYZERS.iter().find(|(known, _)| *known == analyzer);
        let (seen, wanted) = (found(case, known.map_or(&[], |(_, codes)| codes)), expected(case));
        let meant = DIFFERENT.iter().any(|(different, _)| *different == name);
        match (seen == wanted, meant) {
            (true, false) => agree += 1,
            (false, true) => {}
            (true, true) => wrong.push(format!("{name} agrees: take it out of DIFFERENT")),
            (false, false) => wrong.push(format!("{name} ({analyzer}):\n  found    {seen:?}\n  expected {wanted:?}")),
        }
    }
    println!("{agree} of {} cases of istioctl analyze agree", cases.len());
    assert!(wrong.is_empty(), "{agree} of {} agree\n{}", cases.len(), wrong.join("\n"));
}
