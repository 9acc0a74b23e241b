//! Checks whose conditions are many and small, each by an object or two: what is told, and what is not.

use meshscope::audit::{self, Options};
use meshscope::mesh::{Input, Snapshot};
use meshscope::model::Finding;

/// Findings of a check in a text.
fn found(code: &str, text: &str) -> Vec<Finding> {
    let snapshot = Snapshot::read(&[Input { name: "a.yaml".into(), text: text.to_owned() }], "shop");
    assert!(snapshot.unread.is_empty(), "{:?}", snapshot.unread);
    let report = audit::audit(&snapshot, None, &Options::default());
    report.findings.into_iter().filter(|one| one.code == code).collect()
}

#[track_caller]
fn told(code: &str, text: &str, expected: &[&str]) {
    let lines: Vec<String> = found(code, text).iter().map(|one| format!("{}: {}", one.field, one.message)).collect();
    assert_eq!(lines.len(), expected.len(), "{text}\n{lines:#?}");
    for (line, part) in lines.iter().zip(expected) {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

fn object(group: &str, kind: &str, spec: &str) -> String {
    format!("---\napiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n")
}

#[test]
fn what_istiod_takes_with_a_warning_is_told_with_what_it_does() {
    let network = |kind: &str, spec: &str| object("networking", kind, spec);
    let server = |tls: &str| {
        let port = "port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example]";
        network(
            "Gateway",
            &format!(
                "{{selector: {{app: edge}}, servers: [{{{port}, tls: {{mode: SIMPLE, credentialName: a, {tls}}}}}]}}"
            ),
        )
    };
    let cases = [
        (
            network(
                "DestinationRule",
                "{host: a, subsets: [{name: v1, trafficPolicy: {outlierDetection: {consecutiveErrors: 3}}}]}",
            ),
            &["spec.subsets[0].trafficPolicy.outlierDetection.consecutiveErrors: "][..],
        ),
        (
            network(
                "DestinationRule",
                "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 9}}}}",
            ),
            &["minimumRingSize is deprecated"],
        ),
        (network("DestinationRule", "{host: a, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}"), &[]),
        (
            server("cipherSuites: [AES128-SHA, AES128-SHA, ROT13]"),
            &["listed twice", "ROT13 is no cipher suite that istiod knows: it is left out"],
        ),
        (server("cipherSuites: [ROT13]"), &["Envoy's own are offered"]),
        (server("cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]"), &[]),
        (server("cipherSuites: [ALL, \"-AES128-SHA\"]"), &[]),
        (server("cipherSuites: [PSK-AES128-CBC-SHA]"), &["PSK-AES128-CBC-SHA is no cipher suite that istiod knows"]),
        (server("minProtocolVersion: TLSV1_1"), &["TLSV1_1 is let in, but the suites that are offered by default"]),
        (server("minProtocolVersion: TLSV1_1, cipherSuites: [AES128-SHA]"), &[]),
        (
            network(
                "ServiceEntry",
                "{hosts: [a.example], workloadSelector: {labels: {}}, ports: [{number: 80, name: http, protocol: HTTP}]}",
            ),
            &["its selector has no labels", "the workloads that are selected get none"],
        ),
        (
            network(
                "ServiceEntry",
                "{hosts: [a.example, b.example], addresses: [10.0.0.1], resolution: DNS, ports: [{number: 3306, name: tcp, protocol: TCP}]}",
            ),
            &["2 hosts share its addresses, and TCP at port 3306"],
        ),
        (
            network(
                "ServiceEntry",
                "{hosts: [a.example, b.example], addresses: [10.0.0.1], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}",
            ),
            &[],
        ),
        (
            network("Sidecar", "{workloadSelector: {labels: {}}, egress: [{hosts: [\"./*\"]}]}"),
            &["all workloads of namespace shop"],
        ),
        (
            object("telemetry", "Telemetry", "{tracing: [{providers: [{name: a}, {name: b}]}, {}]}"),
            &["2 entries of tracing", "spans go to a only, not to b"],
        ),
        (object("telemetry", "Telemetry", "{tracing: [{providers: [{name: a}]}]}"), &[]),
        (
            object("security", "AuthorizationPolicy", "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}"),
            &["should a port of these workloads speak TCP"],
        ),
        (
            object(
                "security",
                "AuthorizationPolicy",
                "{action: DENY, rules: [{to: [{operation: {paths: [/x], ports: [\"80\"]}}]}]}",
            ),
            &[],
        ),
        (
            object("security", "AuthorizationPolicy", "{action: DENY, rules: [{from: [{source: {namespaces: [b]}}]}]}"),
            &[],
        ),
        (
            object("security", "AuthorizationPolicy", "{action: ALLOW, rules: [{to: [{operation: {paths: [/x]}}]}]}"),
            &[],
        ),
        (
            object(
                "security",
                "AuthorizationPolicy",
                "{action: DENY, rules: [{from: [{source: {principals: [a/b]}}], to: [{operation: {methods: [POST]}}]}]}",
            ),
            &["every connection of the callers that it names to it is refused"],
        ),
        (
            object(
                "security",
                "AuthorizationPolicy",
                "{action: DENY, rules: [{from: [{source: {notRequestPrincipals: [\"*\"]}}]}]}",
            ),
            &["TCP connections have not"],
        ),
        (
            object(
                "security",
                "AuthorizationPolicy",
                "{action: DENY, rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]}",
            ),
            &[],
        ),
    ];
    for (text, expected) in cases {
        told("MS0616", &text, expected);
    }
}

const EDGE: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: edge, namespace: edge, labels: {app: edge}}\nspec: {containers: [{name: a, image: a}]}\n";

#[test]
fn a_gateway_without_a_service_is_told_without_an_empty_list_and_with_the_service() {
    let gateway =
        "{selector: {app: edge}, servers: [{port: {number: 8443, name: https, protocol: HTTPS}, hosts: [a.example]}]}";
    let text = object("networking", "Gateway", gateway) + EDGE;
    told("MS0210", &text, &["no Service leads to the gateway's pods: nobody outside reaches port 8443"]);
    let fix = found("MS0210", &text)[0].fix.clone().expect("a fix");
    let mended = Snapshot::read(&[Input { name: "fix.yaml".into(), text: fix.clone() }], "default");
    assert!(mended.unread.is_empty() && mended.len() == 1, "{fix}");
    assert_eq!(found("MS0210", &format!("{text}---\n{fix}\n")).len(), 0, "{fix}");
    let other = "---\napiVersion: v1\nkind: Service\nmetadata: {name: e, namespace: edge}\nspec: {selector: {app: edge}, ports: [{port: 80}, {port: 90}]}\n";
    let one = &found("MS0210", &(text + other))[0];
    assert_eq!(one.evidence, ["pods: Pod edge/edge", "ports that are open: 80, 90"]);
}

#[test]
fn a_secret_is_judged_by_the_names_of_its_keys() {
    let gateway = |mode: &str| {
        let server = "port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example]";
        let tls = format!("tls: {{mode: {mode}, credentialName: cert}}");
        object("networking", "Gateway", &format!("{{selector: {{app: edge}}, servers: [{{{server}, {tls}}}]}}")) + EDGE
    };
    let secret =
        |data: &str| format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: cert, namespace: edge}}\n{data}\n");
    for (mode, data, expected) in [
        ("SIMPLE", "data: {tls.crt: YQ==, tls.key: YQ==}", &[][..]),
        ("SIMPLE", "stringData: {cert: a, key: b}", &[]),
        ("SIMPLE", "data: {tls.crt: YQ==}", &["Secret edge/cert has no key tls.key, which SIMPLE needs"]),
        ("SIMPLE", "data: {}", &["no key tls.crt"]),
        ("MUTUAL", "data: {tls.crt: YQ==, tls.key: YQ==, ca.crt: YQ==}", &[]),
        ("MUTUAL", "data: {tls.crt: YQ==, tls.key: YQ==}", &["no key ca.crt"]),
    ] {
        told("MS0215", &(gateway(mode) + &secret(data)), expected);
    }
}

#[test]
fn callers_with_sidecars_read_what_selects_them_and_a_waypoint_does_not() {
    let mesh = |mode: &str, waypoint: &str, host: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{mode}}}}}\n\
             ---\napiVersion: v1\nkind: Service\nmetadata: {{name: cart, labels: {{{waypoint}}}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{app: web}}}}\nspec: {{containers: [{{name: a, image: a}}]}}\n"
        ) + &object(
            "networking",
            "DestinationRule",
            &format!("{{host: {host}, workloadSelector: {{matchLabels: {{app: web}}}}}}"),
        )
    };
    const AMBIENT: &str = "istio.io/dataplane-mode: ambient";
    const BEHIND: &str = "istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: infra";
    for (mode, waypoint, host, expected) in [
        (AMBIENT, BEHIND, "cart", &["made by the waypoint infra/w, which has not the labels app=web"][..]),
        (AMBIENT, BEHIND, "\"*.shop.svc.cluster.local\"", &["made by the waypoint infra/w"]),
        (AMBIENT, "istio.io/use-waypoint: none", "cart", &[]),
        (AMBIENT, "", "cart", &[]),
        ("istio-injection: enabled", BEHIND, "cart", &[]),
    ] {
        told("MS0856", &mesh(mode, waypoint, host), expected);
    }
}

#[test]
fn one_mend_of_missing_subsets_does_not_undo_another() {
    let route = object(
        "networking",
        "VirtualService",
        "{hosts: [cart], http: [{route: [{destination: {host: cart, subset: v1}, weight: 90}, {destination: {host: cart, subset: v2}, weight: 10}]}]}",
    );
    let fixes = |text: &str| -> Vec<String> { found("MS0110", text).into_iter().filter_map(|one| one.fix).collect() };
    let whole = fixes(&route);
    assert_eq!((whole.len(), &whole[0]), (2, &whole[1]), "both name both");
    assert_eq!(fixes(&format!("{route}---\n{}\n", whole[0])).len(), 0, "{}", whole[0]);
    // A rule that is there would be overwritten by a whole one of its name.
    let rule = object("networking", "DestinationRule", "{host: cart, subsets: [{name: v1, labels: {version: v1}}]}");
    let part = fixes(&(route + &rule));
    assert!(part.len() == 1 && part[0].starts_with("# of DestinationRule shop/a, beside its others"), "{part:?}");
}
