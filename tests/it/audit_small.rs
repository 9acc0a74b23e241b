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

#[test]
fn pods_that_no_object_of_the_files_makes_are_selected_all_the_same() {
    let labels = "{matchLabels: {app: cart}}";
    let policies = object("security", "AuthorizationPolicy", &format!("{{selector: {labels}}}"))
        + &object(
            "telemetry",
            "Telemetry",
            &format!("{{selector: {labels}, tracing: [{{randomSamplingPercentage: 1}}]}}"),
        )
        + &object("networking", "Sidecar", "{workloadSelector: {labels: {app: cart}}, egress: [{hosts: [./*]}]}");
    let machine = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: m}\nspec: {address: 10.0.0.1, labels: {app: cart}}\n";
    let group = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: m}\nspec: {metadata: {labels: {app: cart}}, template: {}}\n";
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, labels: {app: cart}}\nspec: {gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP}]}\n";
    let rollout = "---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: cart}\nspec:\n  template:\n    metadata: {labels: {app: cart, sidecar.istio.io/inject: 'true'}}\n    spec: {containers: [{name: a, image: a}]}\n";
    for code in ["MS0107", "MS0108", "MS0109"] {
        assert_eq!(found(code, &policies).len(), 1, "{code} without a workload");
        for selected in [machine, group, gateway, rollout] {
            told(code, &(policies.clone() + selected), &[]);
        }
    }
}

#[test]
fn workloads_of_a_revision_and_of_ambient_namespaces_are_in_the_mesh() {
    let policy = object("security", "AuthorizationPolicy", "{selector: {matchLabels: {app: cart}}}");
    let pod = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cart}\nspec: {selector: {matchLabels: {app: cart}}, template: {metadata: {labels: {app: cart}}, spec: {containers: [{name: a, image: a}]}}}\n";
    let namespace = |labels: &str| {
        format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n")
    };
    for (labels, lines) in [
        ("istio-injection: enabled", 0),
        ("istio.io/rev: stable", 0),
        ("istio.io/dataplane-mode: ambient", 0),
        ("istio.io/rev: stable, istio-injection: disabled", 1),
        ("team: a", 1),
    ] {
        assert_eq!(found("MS0108", &(policy.clone() + pod + &namespace(labels))).len(), lines, "{labels}");
    }
}

#[test]
fn subsets_of_a_rollout_have_pods() {
    let text = object("networking", "DestinationRule", "{host: cart, subsets: [{name: stable, labels: {app: cart}}]}")
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {selector: {app: cart}, ports: [{name: http, port: 80}]}\n";
    let rollout = "---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: cart}\nspec: {template: {metadata: {labels: {app: cart}}, spec: {containers: [{name: a, image: a}]}}}\n";
    told("MS0303", &text, &["503"]);
    told("MS0303", &(text + rollout), &[]);
}

#[test]
fn a_destination_rule_for_a_wildcard_is_for_the_services_under_it() {
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: [{name: http, port: 80}]}\n";
    let rule = |host: &str| object("networking", "DestinationRule", &format!("{{host: '{host}'}}")) + service;
    told("MS0304", &rule("*.shop.svc.cluster.local"), &[]);
    told("MS0304", &rule("*.local"), &[]);
    told("MS0304", &rule("*.till.svc.cluster.local"), &["the rule changes nothing"]);
}

#[test]
fn a_gateway_may_name_the_port_its_pods_listen_on() {
    let edge = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: edge, labels: {app: edge}}\nspec: {containers: [{name: a, image: a, ports: [{containerPort: 8080}, {name: inner, containerPort: 8082}]}]}\n";
    let gateway = |port: u16| {
        object(
            "networking",
            "Gateway",
            &format!(
                "{{selector: {{app: edge}}, servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: [a.example]}}]}}"
            ),
        ) + edge
            + "---\napiVersion: v1\nkind: Service\nmetadata: {name: e}\nspec: {selector: {app: edge}, ports: [{name: http, port: 80, targetPort: 8081}, {name: in, port: 90, targetPort: inner}]}\n"
    };
    for port in [80, 8081, 90, 8082] {
        told("MS0210", &gateway(port), &[]);
    }
    told("MS0210", &gateway(8443), &["opens port 8443"]);
    // The proxy listens where a Gateway says, which no container declares.
    told("MS0751", &gateway(8081), &[]);
    told("MS0751", &gateway(80), &["declares port 8081"]);
}

#[test]
fn accounts_of_gateways_that_istiod_makes_are_there() {
    let policy = |account: &str| {
        object(
            "security",
            "AuthorizationPolicy",
            &format!("{{rules: [{{from: [{{source: {{principals: [cluster.local/ns/shop/sa/{account}]}}}}]}}]}}"),
        ) + "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: cart}\n"
            + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {gatewayClassName: istio, listeners: []}\n"
            + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint}\nspec: {gatewayClassName: istio-waypoint, listeners: []}\n"
    };
    for account in ["cart", "edge-istio", "waypoint"] {
        told("MS0503", &policy(account), &[]);
    }
    told("MS0503", &policy("edge"), &["there is no ServiceAccount shop/edge"]);
}

#[test]
fn selectors_for_waypoints_do_nothing_and_for_other_gateways_hang_on_a_setting() {
    let text = |class: &str| {
        object(
            "security",
            "AuthorizationPolicy",
            "{selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: edge}}}",
        ) + &format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec: {{gatewayClassName: {class}, listeners: []}}\n"
        )
    };
    told("MS0613", &text("istio-waypoint"), &["does nothing there"]);
    told("MS0613", &text("istio"), &["ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY"]);
    told("MS0613", &text("acme"), &[]);
}

#[test]
fn files_without_any_service_or_gateway_say_of_none_that_it_is_missing() {
    let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: cart}\nspec: {parentRefs: [{name: edge, namespace: infra}], rules: [{backendRefs: [{name: cart, namespace: till, port: 80}]}]}\n";
    for code in ["MS0801", "MS0802", "MS0808"] {
        told(code, route, &[]);
    }
    let others = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{name: http, port: 80}]}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: own}\nspec: {gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP}]}\n";
    told("MS0801", &format!("{route}{others}"), &["there is no Gateway infra/edge"]);
    told("MS0802", &format!("{route}{others}"), &["there is no Service till/cart"]);
}

#[test]
fn kinds_that_a_mesh_does_not_have_are_told_and_those_of_others_are_left_alone() {
    let read = |text: &str| {
        let input = Input { name: "a.yaml".into(), text: text.to_owned() };
        let report = audit::audit(&Snapshot::read(&[input], "shop"), None, &Options::default());
        report.findings.into_iter().map(|one| one.message).collect::<Vec<_>>()
    };
    let one =
        |version: &str, kind: &str| read(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n"));
    assert!(one("policy.linkerd.io/v1alpha1", "MeshTLS")[0].contains("a cluster refuses the object"));
    assert!(one("rbac.istio.io/v1alpha1", "ServiceRole")[0].contains("write an AuthorizationPolicy"));
    for (version, kind) in [
        ("policy.linkerd.io/v1alpha1", "EgressNetwork"),
        ("extensions.istio.io/v1alpha1", "TrafficExtension"),
        ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"),
        ("install.istio.io/v1alpha1", "IstioOperator"),
        ("flagger.app/v1beta1", "Canary"),
    ] {
        assert_eq!(one(version, kind), Vec::<String>::new(), "{version} {kind}");
    }
}

#[test]
fn mends_name_the_domain_of_the_cluster_and_the_trust_domain() {
    let text = object("networking", "DestinationRule", "{host: cart}")
        + &object("security", "AuthorizationPolicy", "{rules: [{}]}")
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'trustDomain: td.example'}\n";
    let snapshot = Snapshot::read(&[Input { name: "a.yaml".into(), text }], "shop");
    let options = Options { cluster_domain: "corp.example".to_owned(), ..Options::default() };
    let fixes: Vec<String> =
        audit::audit(&snapshot, None, &options).findings.into_iter().filter_map(|one| one.fix).collect();
    let all = fixes.join("\n");
    assert!(all.contains("svc.corp.example") && all.contains("td.example/ns/shop"), "{all}");
    assert!(!all.contains("cluster.local"), "{all}");
}

#[test]
fn tokens_that_routes_ask_for_are_only_noted_and_the_installed_gateway_is_there() {
    let tokens = object("security", "RequestAuthentication", "{jwtRules: [{issuer: a, jwksUri: 'https://a.example'}]}");
    let route = object(
        "networking",
        "VirtualService",
        "{hosts: [a.example], http: [{match: [{headers: {'@request.auth.claims.groups': {exact: a}}}], route: [{destination: {host: cart}}]}]}",
    );
    let gravity = |text: &str| found("MS0407", text).iter().map(|one| one.severity.as_str()).collect::<Vec<_>>();
    assert_eq!(gravity(&tokens), ["warning"]);
    assert_eq!(gravity(&(tokens + &route)), ["info"]);
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: istio-system}\nspec: {selector: {matchLabels: {istio: ingressgateway}}}\n";
    told("MS0108", policy, &[]);
    told("MS0108", &policy.replace("ingressgateway", "other"), &["no workload of the mesh has the labels istio=other"]);
}

#[test]
fn load_balancing_by_zone_and_tcp_routes_of_today_are_known() {
    let rule = object(
        "networking",
        "DestinationRule",
        "{host: cart, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, zoneAwareLbSetting: {enabled: true, minClusterSize: 2}}}}",
    );
    told("MS1001", &rule, &[]);
    let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: a}\nspec: {rules: [{backendRefs: [{name: cart, port: 80}]}]}\n";
    told("MS0003", route, &[]);
}

#[test]
fn a_gateway_for_some_of_the_pods_of_another_meets_it() {
    let gateway = |name: &str, selector: &str, protocol: &str| {
        object(
            "networking",
            "Gateway",
            &format!("{{selector: {{{selector}}}, servers: [{{port: {{number: 80, name: a, protocol: {protocol}}}, hosts: [a.example]}}]}}"),
        )
        .replace("{name: a}", &format!("{{name: {name}}}"))
    };
    let wide = gateway("wide", "istio: edge", "HTTP");
    assert_eq!(found("MS0209", &(wide.clone() + &gateway("narrow", "istio: edge, zone: b", "TCP"))).len(), 2);
    told("MS0209", &(wide + &gateway("other", "istio: inner", "TCP")), &[]);
}
