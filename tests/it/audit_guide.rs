//! The guide that meshscope grew from, and size: what an audit says about them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use meshscope::audit::{self, Colour, Options};
use meshscope::mesh::{Input, Snapshot};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/audit"))
}

/// `guide.yaml` is the YAML of the guide as it stands. `UPDATE_GUIDE=1` writes the expected file anew.
#[test]
fn the_guide_loses_what_it_was_written_for() {
    let text = fs::read_to_string(folder().join("guide.yaml")).expect("guide.yaml");
    let snapshot = Snapshot::read(&[Input { name: "guide.yaml".into(), text }], "default");
    assert_eq!(snapshot.len(), 14, "objects of the guide");
    let report = audit::audit(&snapshot, None, &Options::default());
    let (said, file) = (report.table(Colour::Off), folder().join("guide.expected.txt"));
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        fs::write(&file, &said).expect("write");
    }
    let expected = fs::read_to_string(&file).expect("guide.expected.txt");
    assert_eq!(said, expected, "UPDATE_GUIDE=1 writes {} anew", file.display());
    let told = |code: &str, subject: &str| {
        report.findings.iter().any(|one| one.code == code && one.subject == subject && one.suppressed.is_none())
    };
    let wanted = [
        ("MS0901", "VirtualService default/my-service", "the 90/10 split is lost"),
        ("MS0901", "VirtualService default/canary", "the header canary is lost"),
        ("MS0902", "DestinationRule default/my-service", "ROUND_ROBIN is lost"),
        ("MS0903", "Telemetry default/tracing-config", "tracing at 100 % is lost"),
        ("MS0003", "ProxyConfig default/proxy-config", "v1alpha3 never existed"),
        ("MS0722", "Pod default/istio-proxy", "no image"),
        ("MS0110", "VirtualService default/canary", "no subsets of service"),
        ("MS3010", "PrometheusRule default/service-mesh-alerts", "it always fires"),
        ("MS3011", "ConfigMap default/istio-grafana-dashboard", "panels without queries"),
    ];
    for (code, subject, what) in wanted {
        assert!(told(code, subject), "{code} {subject}: {what}");
    }
}

/// Ten thousand objects that refer to each other. One service in ten is split, one in ten is defined twice.
fn many() -> String {
    let mut text = String::new();
    for at in 0..1_000 {
        let namespace = at % 50;
        let meta = |kind: &str, api: &str, name: &str| {
            format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}-{at}, namespace: ns{namespace}}}\n")
        };
        let istio = "networking.istio.io/v1";
        text += &meta("Service", "v1", "s");
        text += &format!("spec: {{selector: {{app: s-{at}}}, ports: [{{name: http, port: 80}}]}}\n---\n");
        for (name, version) in [("one", "v1"), ("two", "v2"), ("three", "v3")] {
            text += &meta("Pod", "v1", name)
                .replace("}\n", &format!(", labels: {{app: s-{at}, version: {version}, all: same}}}}\n"));
            text += "spec: {containers: [{name: app, image: app}, {name: istio-proxy, image: proxyv2}]}\n---\n";
        }
        text += &meta("VirtualService", istio, "route");
        text += &format!(
            "spec:\n  hosts: [s-{at}, s-{at}.example.org]\n  gateways: [mesh, gate-{at}]\n  http:\n  - route: [{{destination: {{host: s-{at}, subset: v1}}}}]\n---\n"
        );
        text += &meta("DestinationRule", istio, "rule");
        text += &format!("spec: {{host: s-{at}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}\n---\n");
        text += &meta("Gateway", istio, "gate");
        text += &format!(
            "spec: {{selector: {{app: s-{at}}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*.{at}.example.org']}}]}}\n---\n"
        );
        text += &meta("ServiceEntry", istio, "out");
        text += &format!(
            "spec: {{hosts: ['*.{at}.example.com'], ports: [{{number: 443, name: tls, protocol: TLS}}]}}\n---\n"
        );
        text += &meta("AuthorizationPolicy", "security.istio.io/v1", "allow");
        text += &format!(
            "spec: {{selector: {{matchLabels: {{app: s-{at}}}}}, rules: [{{from: [{{source: {{namespaces: [ns1]}}}}]}}]}}\n---\n"
        );
        text += &meta("Telemetry", "telemetry.istio.io/v1", "spans");
        text += &format!(
            "spec: {{selector: {{matchLabels: {{app: s-{at}}}}}, tracing: [{{randomSamplingPercentage: 1}}]}}\n---\n"
        );
    }
    text
}

#[test]
fn ten_thousand_objects_are_audited_in_seconds() {
    let text = many();
    let begun = thread_cpu();
    let snapshot = Snapshot::read(&[Input { name: "many.yaml".into(), text }], "default");
    let read = thread_cpu() - begun;
    let report = audit::audit(&snapshot, None, &Options::default());
    let all = thread_cpu() - begun;
    println!(
        "{} objects: read in {read:?} of CPU, audited in {:?}, {} findings",
        snapshot.len(),
        all - read,
        report.findings.len()
    );
    assert_eq!(snapshot.len(), 10_000);
    // An unoptimised build: the bound is for walks that are quadratic, which take minutes.
    assert!(all < Duration::from_secs(60), "{all:?}");
}

/// CPU of this thread so far: other work on the machine does not count.
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells the CPU time of threads");
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number of nanoseconds"))
}
