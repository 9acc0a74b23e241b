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

const BOOKS: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: books, namespace: shop}\nspec: {selector: {app: books}, ports: [{port: 7002}]}\n---\n";

/// What the proxy of `web` counted on a route to `books`; an empty name is that of no route.
fn steered(metric: &str, route: &str, rest: &str, rate: u32) -> String {
    let (kind, place) = if route.is_empty() { ("default", "") } else { ("HTTPRoute", "shop") };
    format!(
        "outbound_http_route_{metric}_total{{namespace=\"shop\",deployment=\"web\",parent_namespace=\"shop\",\
         parent_name=\"books\",route_kind=\"{kind}\",route_namespace=\"{place}\",route_name=\"{route}\"{rest}}} 0+{rate}x70\n"
    )
}

/// The same under a ServiceProfile.
fn profiled(metric: &str, rest: &str, rate: u32) -> String {
    format!(
        "route_{metric}_total{{direction=\"outbound\",namespace=\"shop\",deployment=\"web\",\
         dst=\"books.shop.svc.cluster.local:7002\",rt_route=\"GET /books\"{rest}}} 0+{rate}x70\n"
    )
}

#[tokio::test]
async fn retries_and_timeouts_of_linkerd_are_judged_by_what_callers_did() {
    let profile = "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: books.shop.svc.cluster.local, namespace: shop}\n\
        spec:\n  routes:\n  - name: GET /books\n    condition: {method: GET}\n    isRetryable: true\n    timeout: 300ms\n";
    let route = |annotation: &str, rules: &str| {
        format!(
            "apiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\nmetadata: {{name: all, namespace: shop{annotation}}}\nspec:\n  \
             parentRefs: [{{group: core, kind: Service, name: books, port: 7002}}]\n  rules:\n  - {rules}\n"
        )
    };
    let by_service = BOOKS.replace(
        "namespace: shop}",
        "namespace: shop, annotations: {timeout.linkerd.io/request: 1s500ms, retry.linkerd.io/http: 5xx}}",
    );
    let timeout = ",error=\"REQUEST_TIMEOUT\"";
    let statuses = |name: &str, good, late| {
        steered("request_statuses", name, ",error=\"\"", good) + &steered("request_statuses", name, timeout, late)
    };
    let profiles = |good, late, attempts| {
        profiled("response", ",status_code=\"200\"", good)
            + &profiled("response", ",status_code=\"504\"", late)
            + &profiled("actual_response", ",status_code=\"200\"", attempts)
    };
    let rules = "timeouts: {request: 10s, backendRequest: 250ms}";
    let overridden = route(", annotations: {timeout.linkerd.io/request: 2s}", "{}");
    let cases: [(&str, String, String, &[&str]); 7] = [
        (
            "a profile's",
            format!("{BOOKS}{profile}"),
            profiles(95, 5, 130),
            &[
                "MS2050 ServiceProfile shop/books.shop.svc.cluster.local spec.routes[0].isRetryable: shop/web makes 1.30 calls",
                "MS2051 ServiceProfile shop/books.shop.svc.cluster.local spec.routes[0].timeout: calls to shop/books (route GET \
                 /books) are given up after 300 ms, and 5.0 % of them take longer",
            ],
        ),
        ("a profile's that hold", format!("{BOOKS}{profile}"), profiles(1_000, 5, 1_020), &[]),
        (
            "a route's",
            format!("{BOOKS}{}", route("", rules)),
            statuses("all", 90, 10),
            &[
                "MS2051 HTTPRoute shop/all spec.rules[0].timeouts.backendRequest: calls to shop/books (route all) are given up after 250 ms, and 10.0 %",
            ],
        ),
        (
            "a service's",
            by_service.clone(),
            statuses("", 90, 10) + &steered("retry_requests", "", "", 50) + &steered("retry_limit_exceeded", "", "", 9),
            &[
                "MS2050 Service shop/books metadata.annotations: shop/web makes 1.50 calls to shop/books of each",
                "MS2051 Service shop/books metadata.annotations: calls to shop/books are given up after 1500 ms, and 10.0 %",
            ],
        ),
        (
            "a route's annotation before its service's",
            format!("{by_service}{overridden}"),
            statuses("all", 90, 10),
            &[
                "MS2051 HTTPRoute shop/all metadata.annotations: calls to shop/books (route all) are given up after 2000 ms",
            ],
        ),
        (
            "an open circuit breaker",
            by_service.clone(),
            statuses("", 90, 0) + &steered("retry_overflow", "", "", 20),
            &[
                "MS2052 Service shop/books metadata.annotations: 1200 retries of calls to shop/books were not made in 1h: the circuit breaker",
            ],
        ),
        (
            "the default budget",
            format!("{BOOKS}{profile}"),
            profiles(100, 0, 100) + &profiled("retryable", ",skipped=\"no_budget\"", 20),
            &[
                "MS2052 ServiceProfile shop/books.shop.svc.cluster.local spec.routes: 1200 retries of calls to shop/books (route GET /books) were \
              not made in 1h: Linkerd's default budget allows 20.0 % of the requests of 10s and 10 a second",
            ],
        ),
    ];
    for (name, declared, script, wanted) in cases {
        let mesh = mesh(&declared);
        let mut found =
            found(&mesh, &seen(&format!("load 1m\n{script}"), &mesh).await, &["MS2050", "MS2051", "MS2052"]);
        found.sort();
        assert_eq!(found.len(), wanted.len(), "{name}: {found:#?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{name}: {found}");
        }
    }
}

/// The policy that is proposed is one that the audit itself has nothing to say of, and with it nothing more is proposed.
#[tokio::test]
async fn the_least_policy_of_linkerd_lets_in_those_who_call() {
    let into = "deployment=\"pay\",authority=\"pay.shop.svc.cluster.local:80\",target_port=\"8080\",tls=\"true\"";
    let known = |name: &str| format!("{into},client_id=\"{name}.shop.serviceaccount.identity.linkerd.cluster.local\"");
    let script = format!(
        "load 1m\n{}{}",
        responses("inbound", &known("web"), 200, 70),
        responses("inbound", &known("cart"), 200, 1)
    );
    let bare = mesh(WORKLOADS);
    let report = audit::audit(&bare, Some(&seen(&script, &bare).await), &Options::default());
    let least: Vec<_> = report.findings.iter().filter(|one| one.code == "MS2022").collect();
    assert_eq!(least.len(), 1, "{least:#?}");
    assert_eq!(
        least[0].message,
        "everybody may call shop/pay; in 1h cart.shop.serviceaccount.identity.linkerd.cluster.local, \
         web.shop.serviceaccount.identity.linkerd.cluster.local did"
    );
    let fix = least[0].fix.as_deref().expect("the policy");
    let kinds: Vec<&str> = fix.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    assert_eq!(kinds, ["MeshTLSAuthentication", "Server", "AuthorizationPolicy"], "{fix}");
    assert!(fix.contains("port: 8080") && fix.contains("app: pay"), "{fix}");
    let codes = |mesh: &Snapshot, observed: &Observed| -> Vec<String> {
        let report = audit::audit(mesh, Some(observed), &Options::default());
        report.findings.iter().map(|one| format!("{} {}", one.code, one.subject)).collect()
    };
    let governed = mesh(&format!("{WORKLOADS}---\n{fix}\n"));
    let before = codes(&bare, &seen(&script, &bare).await);
    let after = codes(&governed, &seen(&script, &governed).await);
    let wanted: Vec<&String> = before.iter().filter(|line| !line.starts_with("MS2022")).collect();
    assert_eq!(after.iter().collect::<Vec<_>>(), wanted, "the policy is without fault");
    // A Server that is there is named; a policy for the namespace governs all.
    let server = fix.split("---\n").nth(1).expect("a Server").replace("pay-8080", "own");
    let half = mesh(&format!("{WORKLOADS}---\n{server}"));
    let report = audit::audit(&half, Some(&seen(&script, &half).await), &Options::default());
    let fix =
        report.findings.iter().find(|one| one.code == "MS2022").and_then(|one| one.fix.clone()).expect("a policy");
    assert!(!fix.contains("kind: Server\nmetadata") && fix.contains("    name: own\n"), "{fix}");
    let whole = fix.replace("kind: Server\n    name: own", "kind: Namespace\n    name: shop");
    let whole = mesh(&format!("{WORKLOADS}---\n{whole}\n"));
    assert!(!codes(&whole, &seen(&script, &whole).await).iter().any(|one| one.starts_with("MS2022")));
    // Nobody can name a caller without an identity.
    let open = script + &responses("inbound", &into.replace("\"true\"", "\"no_identity\""), 200, 1);
    assert!(!codes(&bare, &seen(&open, &bare).await).iter().any(|one| one.starts_with("MS2022")));
}
