//! What holds where, by small meshes.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::files::Input;
use super::super::snapshot::Snapshot;
use super::*;

fn snapshot(text: &str) -> Snapshot {
    Snapshot::read(&[Input { name: "a.yaml".into(), text: text.to_owned() }], "shop")
}

fn object(kind: &str, meta: &str, spec: &str) -> String {
    let group = match kind {
        "PeerAuthentication" | "AuthorizationPolicy" | "RequestAuthentication" => "security.istio.io/v1",
        "Telemetry" => "telemetry.istio.io/v1",
        "ProxyConfig" => "networking.istio.io/v1beta1",
        _ => "networking.istio.io/v1",
    };
    format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{{meta}}}\nspec: {spec}\n---\n")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn names<'a>(all: &[&'a Resource]) -> Vec<&'a str> {
    all.iter().map(|one| one.id.name.as_str()).collect()
}

#[test]
fn the_older_wins_by_whole_seconds_then_the_name_then_the_namespace() {
    let at = |name: &str, time: &str| {
        object("VirtualService", &format!("name: {name}, creationTimestamp: '2024-01-01T00:00:{time}Z'"), "{}")
    };
    let text = at("c", "01") + &at("b", "02.9") + &at("a", "02.1") + &object("VirtualService", "name: '0'", "{}");
    let text =
        text + &object("VirtualService", "name: a, namespace: aa, creationTimestamp: '2024-01-01T00:00:02Z'", "{}");
    let mesh = snapshot(&text);
    let order: Vec<String> = in_order(mesh.iter()).iter().map(|one| one.id.to_string()[15..].to_owned()).collect();
    assert_eq!(order, ["shop/c", "aa/a", "shop/a", "shop/b", "shop/0"]);
}

#[test]
fn mtls_is_that_of_the_narrowest_object_that_sets_it() {
    let text = object("PeerAuthentication", "name: mesh, namespace: istio-system", "{mtls: {mode: STRICT}}")
        + &object("PeerAuthentication", "name: zz", "{mtls: {mode: DISABLE}}")
        + &object("PeerAuthentication", "name: wide", "{mtls: {mode: PERMISSIVE}}")
        + &object(
            "PeerAuthentication",
            "name: cart",
            "{selector: {matchLabels: {app: cart}}, mtls: {mode: UNSET}, portLevelMtls: {8080: {mode: DISABLE}}}",
        );
    let mesh = snapshot(&text);
    let index = Index::new(&mesh, "istio-system", "cluster.local");
    let set = |value: &str, (namespace, name): (&str, &str)| {
        let kind = Kind::PeerAuthentication;
        let from = ResourceId { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        Set { value: value.to_owned(), from: Some(from) }
    };
    let cart = of_workload(&index, "shop", &labels(&[("app", "cart")]));
    assert_eq!(cart.mtls, Some(set("PERMISSIVE", ("shop", "wide"))));
    assert_eq!(cart.mtls_ports, [(8080, set("DISABLE", ("shop", "cart")))]);
    let other = of_workload(&index, "web", &labels(&[]));
    assert_eq!(other.mtls, Some(set("STRICT", ("istio-system", "mesh"))));
    assert!(other.mtls_ports.is_empty());
    let empty = Snapshot::default();
    let bare = of_workload(&Index::new(&empty, "istio-system", "cluster.local"), "web", &labels(&[]));
    assert_eq!(bare.mtls, Some(Set { value: "PERMISSIVE".to_owned(), from: None }));
}

#[test]
fn policies_stand_in_the_order_in_which_they_are_asked() {
    let text = object("AuthorizationPolicy", "name: allow", "{}")
        + &object("AuthorizationPolicy", "name: deny", "{action: DENY, selector: {matchLabels: {app: cart}}}")
        + &object("AuthorizationPolicy", "name: ask, namespace: istio-system", "{action: CUSTOM}")
        + &object("AuthorizationPolicy", "name: other", "{selector: {matchLabels: {app: web}}}")
        + &object("AuthorizationPolicy", "name: gate", "{targetRefs: [{kind: Gateway, name: a}]}")
        + &object("Telemetry", "name: b", "{}")
        + &object("Telemetry", "name: a", "{}")
        + &object("Telemetry", "name: root, namespace: istio-system", "{}")
        + &object("Telemetry", "name: own", "{selector: {matchLabels: {app: cart}}}")
        + &object("ProxyConfig", "name: wide", "{}")
        + &object("RequestAuthentication", "name: one", "{}")
        + &object("RequestAuthentication", "name: two", "{}")
        + &object("Sidecar", "name: all", "{}")
        + &object("Sidecar", "name: cart", "{workloadSelector: {labels: {app: cart}}}");
    let mesh = snapshot(&text);
    let index = Index::new(&mesh, "istio-system", "cluster.local");
    let cart = of_workload(&index, "shop", &labels(&[("app", "cart")]));
    let asked: Vec<(&str, &str)> =
        cart.authorization.iter().map(|(action, one)| (*action, one.id.name.as_str())).collect();
    assert_eq!(asked, [("CUSTOM", "ask"), ("DENY", "deny"), ("ALLOW", "allow")]);
    assert_eq!(names(&cart.telemetry), ["root", "a", "own"]);
    assert_eq!(names(&cart.proxy), ["wide"]);
    assert_eq!(names(&cart.tokens), ["one", "two"]);
    assert_eq!(cart.sidecar.map(|one| one.id.name.as_str()), Some("cart"));
    assert_eq!(of_workload(&index, "shop", &labels(&[])).sidecar.map(|one| one.id.name.as_str()), Some("all"));
}

#[test]
fn one_route_steers_an_edge_and_rules_of_one_namespace_are_joined() {
    let text = object("VirtualService", "name: b", "{hosts: [cart]}")
        + &object("VirtualService", "name: a", "{hosts: [cart]}")
        + &object("VirtualService", "name: z", "{hosts: [cart], exportTo: ['.']}")
        + &object("VirtualService", "name: gate", "{hosts: [cart], gateways: [edge]}")
        + &object("DestinationRule", "name: b", "{host: cart, trafficPolicy: {}, subsets: [{name: v1}, {name: v2}]}")
        + &object("DestinationRule", "name: a", "{host: cart, subsets: [{name: v1}]}")
        + &object("DestinationRule", "name: c", "{host: cart, trafficPolicy: {}}")
        + &object("DestinationRule", "name: wild", "{host: '*.shop.svc.cluster.local'}")
        + &object("DestinationRule", "name: web, namespace: web", "{host: cart.shop.svc.cluster.local}");
    let mesh = snapshot(&text);
    let index = Index::new(&mesh, "istio-system", "cluster.local");
    let own = of_edge(&index, "shop", &labels(&[]), "cart");
    assert_eq!(own.route.map(|one| one.id.name.as_str()), Some("z"), "private ones are asked first");
    assert_eq!(names(&own.routes_lost), ["a", "b"]);
    assert_eq!(names(&own.destination), ["a", "b", "c"]);
    assert_eq!(own.traffic_policy.map(|one| one.id.name.as_str()), Some("b"));
    let subsets: Vec<(&str, &str)> =
        own.subsets.iter().map(|(name, from)| (name.as_str(), from.id.name.as_str())).collect();
    assert_eq!(subsets, [("v1", "a"), ("v2", "b")]);
    let far = of_edge(&index, "pay", &labels(&[]), "cart.shop.svc.cluster.local");
    assert_eq!(far.route.map(|one| one.id.name.as_str()), Some("a"));
    let web = of_edge(&index, "web", &labels(&[]), "cart.shop.svc.cluster.local");
    assert_eq!(names(&web.destination), ["web"], "the caller's namespace comes first, and is not joined");
    let till = of_edge(&index, "shop", &labels(&[]), "till");
    assert_eq!(names(&till.destination), ["wild"]);
}

#[test]
fn what_holds_is_told_as_rows_with_the_object_it_comes_from() {
    let text = object("PeerAuthentication", "name: default", "{mtls: {mode: STRICT}}")
        + &object("AuthorizationPolicy", "name: cart", "{selector: {matchLabels: {app: cart}}, rules: [{}, {}]}")
        + &object("EnvoyFilter", "name: lua", "{configPatches: []}")
        + &object("VirtualService", "name: b", "{hosts: [cart], http: [{route: [{destination: {host: cart}}]}]}")
        + &object("VirtualService", "name: a", "{hosts: [cart], http: [{route: [{destination: {host: cart}}]}]}")
        + &object("DestinationRule", "name: cart", "{host: cart, trafficPolicy: {tls: {}}, subsets: [{name: v1}]}")
        + "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: http}\n\
           spec: {podSelector: {matchLabels: {app: cart}}, port: http}\n---\n"
        + "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: web}\n\
           spec: {targetRef: {kind: Server, name: http}, requiredAuthenticationRefs: [{kind: MeshTLSAuthentication, name: web}]}\n---\n"
        + "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: split}\n\
           spec: {parentRefs: [{kind: Service, name: cart}], rules: [{backendRefs: [{name: cart}]}]}\n";
    let mesh = snapshot(&text);
    let index = Index::new(&mesh, "istio-system", "cluster.local");
    let line = |one: &Applied| {
        let from = one.from.as_ref().map_or("default".to_owned(), ToString::to_string);
        format!("{}: {} from {from}{}", one.setting, one.value, if one.is_lost { ", lost" } else { "" })
    };
    let lines = |all: Vec<Applied>| all.iter().map(line).collect::<Vec<_>>();
    assert_eq!(
        lines(applied_to_workload(&index, "shop", &labels(&[("app", "cart")]))),
        [
            "mutual TLS: STRICT from PeerAuthentication shop/default",
            "authorization ALLOW: 2 rules from AuthorizationPolicy shop/cart",
            "proxy extension: configPatches from EnvoyFilter shop/lua",
            "server: port http from Server shop/http",
            "authorization of port http: web from AuthorizationPolicy shop/web",
        ]
    );
    assert_eq!(lines(applied_to_workload(&index, "web", &labels(&[]))), ["mutual TLS: PERMISSIVE from default"]);
    assert_eq!(
        lines(applied_to_edge(&index, "shop", &labels(&[]), "cart")),
        [
            "route: 1 rule for HTTP from VirtualService shop/a",
            "route: 1 rule for HTTP from VirtualService shop/b, lost",
            "route: 1 rule from HTTPRoute shop/split",
            "traffic policy: tls from DestinationRule shop/cart",
            "subsets: v1 from DestinationRule shop/cart",
        ]
    );
}

#[test]
fn a_waypoint_asks_for_nobodys_labels_and_only_beside_itself() {
    let namespace = |name: &str, rest: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{rest}}}}}\n---\n")
    };
    let rule = |meta: &str, spec: &str| object("DestinationRule", meta, spec);
    let rest = rule("name: all", "{host: cart, trafficPolicy: {}}")
        + &rule("name: web", "{host: cart, workloadSelector: {matchLabels: {app: web}}, trafficPolicy: {}}")
        + "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
    let web = labels(&[("app", "web")]);
    for (mode, rules) in [
        ("istio-injection: enabled", ["web"]),
        ("istio.io/dataplane-mode: ambient", ["web"]),
        ("istio.io/dataplane-mode: ambient, istio.io/use-waypoint: none", ["web"]),
        ("istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint", ["all"]),
    ] {
        let mesh = snapshot(&(namespace("shop", mode) + &rest));
        let index = Index::new(&mesh, "istio-system", "cluster.local");
        assert_eq!(names(&of_edge(&index, "shop", &web, "cart").destination), rules, "{mode}");
    }
}
