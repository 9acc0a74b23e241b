//! Checks against traffic beyond Istio's own objects: weights of Gateway API's routes, Linkerd's edges, what files and a
//! cluster say of one object; and the numbers that pages show beside each other.

use meshscope::audit::{self, About, Beside, Comparison, Observed, Options, Verdict};
use meshscope::mesh::{Input, Snapshot};

fn mesh(text: &str) -> Snapshot {
    Snapshot::read(&[Input { name: "mesh.yaml".into(), text: text.to_owned() }], "shop")
}

async fn seen(script: &str, mesh: &Snapshot) -> Observed {
    audit::rehearse(script, mesh).await.unwrap_or_else(|reason| panic!("{reason}"))
}

/// `code field: message` of the findings with these codes.
fn found(mesh: &Snapshot, observed: &Observed, codes: &[&str]) -> Vec<String> {
    let report = audit::audit(mesh, Some(observed), &Options::default());
    let own = report.findings.iter().filter(|one| codes.contains(&one.code));
    own.map(|one| format!("{} {} {}: {}", one.code, one.subject, one.field, one.message)).collect()
}

/// A route of Gateway API for calls of `reviews`, nine to one.
fn route(group: &str, matches: &str) -> String {
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}\n---\n"
        )
    };
    let services = ["reviews", "reviews-v1", "reviews-v2"].map(service).concat();
    format!(
        "{services}apiVersion: {group}\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: shop}}\nspec:\n  parentRefs: \
         [{{group: core, kind: Service, name: reviews, port: 80}}]\n  rules:\n  - {matches}backendRefs:\n    - {{name: reviews-v1, \
         port: 80, weight: 90}}\n    - {{name: reviews-v2, port: 80, weight: 10}}\n"
    )
}

fn istio(backend: &str, rate: u32) -> String {
    format!(
        "istio_requests_total{{reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"shop\",\
         destination_workload=\"{backend}\",destination_workload_namespace=\"shop\",\
         destination_service=\"{backend}.shop.svc.cluster.local\",request_protocol=\"http\",response_flags=\"-\",\
         response_code=\"200\"}} 0+{rate}x70\n"
    )
}

fn linkerd(backend: &str, rate: u32) -> String {
    format!(
        "outbound_http_route_backend_requests_total{{namespace=\"shop\",deployment=\"web\",parent_name=\"reviews\",\
         parent_namespace=\"shop\",route_name=\"reviews\",route_namespace=\"shop\",backend_name=\"{backend}\",\
         backend_namespace=\"shop\"}} 0+{rate}x70\n"
    )
}

const ISTIO: &str = "gateway.networking.k8s.io/v1";
const LINKERD: &str = "policy.linkerd.io/v1beta3";

#[tokio::test]
async fn weights_of_gateway_api_are_held_against_what_callers_do() {
    let script =
        |of: fn(&str, u32) -> String, one, two| format!("load 1m\n{}{}", of("reviews-v1", one), of("reviews-v2", two));
    let codes = ["MS2001", "MS2002", "MS2003"];
    for (name, group, script, wanted) in [
        ("Istio drifts", ISTIO, script(istio, 50, 50), Some("declared 10.0 % of the traffic and gets 50.0 %")),
        ("Istio holds", ISTIO, script(istio, 90, 10), None),
        ("Linkerd drifts", LINKERD, script(linkerd, 60, 40), Some("declared 10.0 % of the traffic and gets 40.0 %")),
        ("Linkerd holds", LINKERD, script(linkerd, 90, 10), None),
        ("Gateway API's route under Linkerd", ISTIO, script(linkerd, 50, 50), Some("and gets 50.0 %")),
    ] {
        let mesh = mesh(&route(group, ""));
        let found = found(&mesh, &seen(&script, &mesh).await, &codes);
        match wanted {
            Some(wanted) => {
                assert_eq!(found.len(), 1, "{name}: {found:?}");
                assert!(found[0].contains(wanted), "{name}: {found:?}");
                assert!(found[0].contains("spec.rules[0].backendRefs["), "{name}: {found:?}");
            }
            None => assert_eq!(found, [] as [&str; 0], "{name}"),
        }
    }
    // A rule with conditions is not judged; the path prefix / is none.
    for (matches, count) in [
        ("matches: [{headers: [{name: x, value: y}]}]\n    ", 0),
        ("matches: [{path: {type: PathPrefix, value: /}}]\n    ", 1),
        ("matches: [{path: {value: /admin}}]\n    ", 0),
    ] {
        let mesh = mesh(&route(ISTIO, matches));
        let found = found(&mesh, &seen(&script(istio, 50, 50), &mesh).await, &codes);
        assert_eq!(found.len(), count, "{matches}: {found:?}");
    }
}

#[tokio::test]
async fn a_backend_without_weight_that_is_called_is_told_of_both_meshes() {
    for (group, of) in [(ISTIO, istio as fn(&str, u32) -> String), (LINKERD, linkerd)] {
        let mesh = mesh(&route(group, "").replace("weight: 90", "weight: 100").replace("weight: 10}", "weight: 0}"));
        let script = format!("load 1m\n{}{}", of("reviews-v1", 95), of("reviews-v2", 5));
        let found = found(&mesh, &seen(&script, &mesh).await, &["MS2001", "MS2002"]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("MS2002 HTTPRoute shop/reviews spec.rules[0].backendRefs[1].weight: reviews-v2."),
            "{found:?}"
        );
    }
}

const WORKLOADS: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: pay, namespace: shop}\nspec: {selector: {app: pay}, ports: [{port: 80}]}\n\
    ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: pay, namespace: shop}\nspec: {selector: {matchLabels: {app: pay}}, \
    template: {metadata: {labels: {app: pay}}, spec: {containers: [{name: a, image: a}]}}}\n";

fn responses(direction: &str, rest: &str, status: u16, rate: u32) -> String {
    format!(
        "response_total{{direction=\"{direction}\",namespace=\"shop\",{rest},status_code=\"{status}\",classification=\"x\"}} 0+{rate}x70\n"
    )
}

/// Failures, encryption and identities of Linkerd's edges; Istio's own checks say nothing of them.
#[tokio::test]
async fn edges_of_linkerd_are_checked_as_linkerds() {
    let out = "deployment=\"web\",dst_namespace=\"shop\",dst_service=\"pay\",dst_deployment=\"pay\",tls=\"true\"";
    let into = "deployment=\"pay\",authority=\"pay.shop.svc.cluster.local:80\",target_port=\"80\"";
    let known = format!("{into},tls=\"true\",client_id=\"web.shop.serviceaccount.identity.linkerd.cluster.local\"");
    let script = format!(
        "load 1m\n{}{}{}{}",
        responses("outbound", out, 200, 70),
        responses("outbound", out, 503, 30),
        responses("inbound", &known, 200, 70),
        responses("inbound", &format!("{into},tls=\"no_identity\""), 200, 10),
    );
    let mesh = mesh(WORKLOADS);
    let observed = seen(&script, &mesh).await;
    let report = audit::audit(&mesh, Some(&observed), &Options::default());
    let traffic: Vec<&meshscope::model::Finding> =
        report.findings.iter().filter(|one| one.code.starts_with("MS20")).collect();
    let codes: Vec<&str> = traffic.iter().map(|one| one.code).collect();
    assert_eq!(codes, ["MS2060", "MS2014"], "{traffic:#?}");
    assert!(traffic[0].message.starts_with("30.0 % of the calls to pay.shop.svc.cluster.local"), "{:?}", traffic[0]);
    assert!(traffic[1].message.starts_with("12.5 % of the calls to shop/pay come in plain text"), "{:?}", traffic[1]);
    assert!(traffic[1].evidence[0].contains("a caller without a proxy (6"), "{:?}", traffic[1].evidence);
    let card = audit::score(&mesh, Some(&observed), &report, &Options::default());
    let mtls = card.scores.iter().find(|one| one.item.name == "mtls").expect("an item");
    assert!(mtls.evidence.iter().any(|line| line.starts_with("87.5 % of")), "{:?}", mtls.evidence);
}

#[tokio::test]
async fn numbers_that_are_declared_stand_beside_those_that_were_seen() {
    let mesh = mesh(&route(LINKERD, ""));
    let script = format!("load 1m\n{}{}", linkerd("reviews-v1", 60), linkerd("reviews-v2", 40));
    let all = audit::comparisons(&mesh, Some(&seen(&script, &mesh).await), &Options::default());
    let told = |one: &Comparison| {
        let callers: Vec<String> =
            one.callers.iter().map(|caller| format!("{} {:.2}", caller.name, caller.share)).collect();
        (one.about, one.declared, one.seen.map(|seen| (seen * 100.0).round()), one.verdict, callers)
    };
    let line = |declared, seen: f64| {
        (About::Split, Some(declared), Some(seen), Verdict::Differs, vec![format!("shop/web {:.2}", seen / 100.0)])
    };
    assert_eq!(all.iter().map(told).collect::<Vec<_>>(), [line(0.9, 60.0), line(0.1, 40.0)]);
    assert_eq!(all[0].hosts.len(), 3, "the route's own host and its backends: {:?}", all[0].hosts);
    assert_eq!(audit::comparisons(&mesh, None, &Options::default()), []);
}

/// Files are what is wanted, the cluster what is there; both are named with the file's place.
#[test]
fn files_are_held_against_the_cluster_field_by_field() {
    let rule = |host: &str, limit: u32| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {host}, namespace: shop}}\nspec:\n  \
             host: {host}\n  trafficPolicy:\n    connectionPool:\n      http: {{http1MaxPendingRequests: {limit}}}\n---\n"
        )
    };
    let files = mesh(&(rule("cart", 100) + &rule("pay", 7) + &rule("stock", 1)));
    let cluster = audit::as_cluster(&(rule("cart", 100) + &rule("pay", 8) + &rule("mail", 1)));
    let files = audit::as_files(files);
    let report = audit::audit_beside(&cluster, Beside { observed: None, files: Some(&files) }, &Options::default());
    let drift = report.findings.iter().filter(|one| one.code.starts_with("MS091"));
    let lines: Vec<String> = drift
        .map(|one| {
            format!("{} {}:{} {} {}", one.code, one.file.as_deref().unwrap_or("-"), one.line, one.subject, one.field)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "MS0912 -:0 DestinationRule shop/mail ",
            "MS0910 mesh.yaml:17 DestinationRule shop/pay spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests",
            "MS0911 mesh.yaml:19 DestinationRule shop/stock ",
        ]
    );
    let unknown = audit::Files { known: Default::default(), ..files };
    let report = audit::audit_beside(&cluster, Beside { observed: None, files: Some(&unknown) }, &Options::default());
    assert!(!report.findings.iter().any(|one| one.code == "MS0911"), "what may not be listed is not missing");
}
