//! The pages of services, workloads and edges, rendered from sums of edges.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::audit::{Latest, Report, Scorecard};
use crate::graph::GraphOptions;
use crate::graph::testing::calls;
use crate::mesh::effective::Applied;
use crate::mesh::{Input, Kind, ResourceId, Snapshot};
use crate::model::workload::{EdgeKey, LatencyHistogram, Outcome, Service, Workload};
use crate::model::{EdgeMinute, Finding, Severity};
use crate::web::{declared, governing, hostile};

const FROM: i64 = 1_763_834_400_000;

fn range() -> Range {
    let (from, to) = (Timestamp::from_millis(FROM), Timestamp::from_millis(FROM + 600_000));
    Range { from, to, text: "10m".to_owned(), live: true, now: to }
}

/// A call of one minute: caller, called workload, its version, service, answers by code.
fn call(minute: i64, [source, target, version, service]: [&str; 4], answers: &[(&str, f64)]) -> EdgeMinute {
    let workload = |name: &str, version: Option<&str>| Workload {
        namespace: Some("shop".into()),
        name: Some(name.into()),
        app: Some(service.into()),
        version: version.map(Into::into),
        ..Workload::default()
    };
    let mut source = workload(source, None);
    source.app = source.name.clone();
    let key = EdgeKey {
        service: Service { name: Some(service.into()), namespace: Some("shop".into()), host: None },
        destination_principal: Some("spiffe://cluster.local/ns/shop/sa/x".into()),
        ..calls(source, workload(target, Some(version)))
    };
    let all: f64 = answers.iter().map(|(_, count)| count).sum();
    let outcome = |code: &str| Outcome { code: code.into(), grpc_status: "".into(), flags: "-".into() };
    EdgeMinute {
        requests: answers.iter().map(|(code, count)| (outcome(code), *count)).collect(),
        latency: LatencyHistogram {
            bounds_ms: [10.0, 100.0].into(),
            counts: vec![all * 0.9, all * 0.1, 0.0],
            sum_ms: all * 20.0,
        },
        ..EdgeMinute::empty(Timestamp::from_millis(FROM + minute * 60_000), key)
    }
}

fn shop() -> Vec<EdgeMinute> {
    let mut sums = Vec::new();
    for minute in 0..10 {
        sums.push(call(minute, ["web", "cart-v1", "v1", "cart"], &[("200", 270.0)]));
        let broken = if minute >= 5 { 30.0 } else { 0.0 };
        sums.push(call(minute, ["web", "cart-v2", "v2", "cart"], &[("200", 30.0 - broken), ("503", broken)]));
        sums.push(call(minute, ["cart-v1", "stock", "v1", "stock"], &[("200", 60.0)]));
    }
    sums
}

fn told(subject: &Subject, sums: &[EdgeMinute]) -> Option<Story> {
    let range = range();
    let found = story::Found::of(subject, sums, GraphOptions::new(range.from, range.to))?;
    Some(found.tell(subject, sums, &bounds(&range)))
}

fn rendered(subject: &Subject, sums: &[EdgeMinute]) -> String {
    let (range, story) = (range(), told(subject, sums).unwrap());
    let asked = Address { range: Some("10m".to_owned()), at: None };
    page_of(Frame::around("graph", 0), subject, (&story, Around::default()), (&asked, &range), range.to)
        .render()
        .unwrap()
}

fn of(kind: fn(Option<String>, String) -> Subject, name: &str) -> Subject {
    kind(Some("shop".to_owned()), name.to_owned())
}

#[test]
fn a_service_shows_its_versions_and_since_when_one_fails() {
    let story = told(&of(Subject::Service, "cart"), &shop()).unwrap();
    let split: Vec<(&str, f64, f64)> = (story.versions.iter())
        .map(|one| (&*one.node.name, (one.share * 100.0).round(), (one.error_ratio * 100.0).round()))
        .collect();
    assert_eq!(split, [("cart-v1", 90.0, 0.0), ("cart-v2", 10.0, 50.0)]);
    let errors: Vec<f64> = story.windows.iter().map(|one| (one.error_ratio.unwrap() * 100.0).round()).collect();
    assert_eq!(errors, [0.0, 0.0, 0.0, 0.0, 0.0, 10.0, 10.0, 10.0, 10.0, 10.0]);
    assert!(story.windows.iter().all(|one| (one.rate_in - 5.0).abs() < 1e-9 && one.histogram.total() > 299.0));
    let page = rendered(&of(Subject::Service, "cart"), &shop());
    for part in [
        "<h1 class=\"break\">cart</h1>",
        "By version",
        "href=\"/workload/shop/cart-v2?range=10m\"",
        "href=\"/edge/",
        "503",
        "How long requests took",
        "Whom a failure hurts",
    ] {
        assert!(page.contains(part), "{part} is not in the page");
    }
    hostile::assert_harmless(&page);
}

#[test]
fn a_workload_shows_both_sides_and_an_edge_itself() {
    let page = rendered(&of(Subject::Workload, "cart-v1"), &shop());
    for part in
        ["Inbound", "Outbound", "href=\"/workload/shop/web?range=10m\"", "href=\"/workload/shop/stock?range=10m\""]
    {
        assert!(page.contains(part), "{part} is not in the page");
    }
    let id = "workload:/shop/web>workload:/shop/cart-v2";
    let page = rendered(&Subject::Edge(id.to_owned()), &shop());
    for part in ["web → cart-v2", "Share of the caller&#39;s calls", "Likely causes", "100% (by identity)"] {
        assert!(page.contains(part), "{part} is not in the page");
    }
    assert!(!page.contains("Inbound"), "an edge has no edges");
    hostile::assert_harmless(&page);
}

#[test]
fn an_address_leads_back_to_its_subject_whatever_the_name() {
    let subject = |name: &str| Subject::Service(None, name.to_owned());
    for (name, expected) in [
        ("cart", "/service/-/cart?at=5"),
        ("a/b?c#d%20", "/service/-/a%2Fb%3Fc%23d%2520?at=5"),
        ("..", "/service/-/%2E%2E?at=5"),
        ("x.y:80", "/service/-/x.y%3A80?at=5"),
        ("\u{202e}", "/service/-/%E2%80%AE?at=5"),
    ] {
        assert_eq!(rows::address(&subject(name), &[("range", ""), ("at", "5")]), expected);
    }
}

#[test]
fn names_without_traffic_have_no_story_and_hostile_ones_a_harmless_page() {
    assert!(told(&of(Subject::Service, "nobody"), &shop()).is_none());
    assert!(told(&Subject::Edge("<script>".to_owned()), &shop()).is_none());
    assert!(told(&of(Subject::Workload, "web"), &[]).is_none());
    for text in hostile::texts() {
        let sums = [call(0, [&text, &text, &text, &text], &[(&text, 100.0), ("503", 5.0)])];
        for kind in [Subject::Service as fn(_, _) -> _, Subject::Workload] {
            hostile::assert_harmless(&rendered(&of(kind, &text), &sums));
        }
        let graph = told(&of(Subject::Workload, &text), &sums).unwrap().graph;
        hostile::assert_harmless(&rendered(&Subject::Edge(graph.edges[0].id.to_string()), &sums));
    }
}

#[test]
fn the_share_of_each_version_is_told_window_by_window() {
    let story = told(&of(Subject::Service, "cart"), &shop()).unwrap();
    let names: Vec<&str> = story.splits.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["cart-v1", "cart-v2"]);
    assert!(story.splits[1].1.iter().all(|share| share.is_some_and(|share| (share - 0.1).abs() < 1e-9)));
    let page = rendered(&of(Subject::Service, "cart"), &shop());
    assert!(page.contains("Share of requests by version") && page.contains("fails more often: 50.0%, the others 0%"));
}

#[test]
fn a_selection_of_any_view_has_a_story() {
    let graph = told(&of(Subject::Service, "cart"), &shop()).unwrap().graph;
    let edge = graph.edges[0].id.to_string();
    for id in [graph.nodes[0].id.to_string(), edge] {
        let shown = Subject::Shown(crate::graph::View::Service, id.clone());
        assert_eq!(&*told(&shown, &shop()).unwrap().id, id);
    }
    assert!(told(&Subject::Shown(crate::graph::View::Service, "none".to_owned()), &shop()).is_none());
}

fn finding(severity: Severity, subject: &str) -> Finding {
    Finding {
        code: "MS0901",
        severity,
        subject: subject.to_owned(),
        file: Some("shop/mesh.yaml".to_owned()),
        line: 7,
        field: "spec.hosts".to_owned(),
        message: format!("about {subject}"),
        evidence: vec!["9 of 10 requests".to_owned()],
        fix: None,
        suppressed: None,
    }
}

/// A VirtualService of `shop` that is declared governs it, and a DestinationRule that is not any more holds.
fn declared_part() -> declared::Part {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}\n";
    let snapshot = Snapshot::read(&[Input { name: "a.yaml".into(), text: text.to_owned() }], "shop");
    let id = |kind: Kind, name: &str| ResourceId { kind, namespace: "shop".into(), name: name.into() };
    let from = Some(id(Kind::DestinationRule, "wide"));
    let setting = Applied { setting: "outlier".into(), value: "5 errors".into(), from, is_lost: false };
    let told = governing::Told {
        snapshot: snapshot.into(),
        objects: vec![governing::Object { id: id(Kind::VirtualService, "cart"), reach: "names it" }],
        objects_more: 2,
        holds: governing::Holds { applied: vec![("What holds".into(), vec![setting])], ..Default::default() }.into(),
    };
    let mut findings: Vec<Finding> = [
        (Severity::Info, "VirtualService shop/cart"),
        (Severity::Error, "DestinationRule shop/wide"),
        (Severity::Warning, "Deployment shop/cart"),
        (Severity::Error, "Deployment shop/stock"),
    ]
    .map(|(severity, subject)| finding(severity, subject))
    .into();
    findings.push(Finding { suppressed: Some("known".into()), ..finding(Severity::Error, "Service shop/cart") });
    findings.extend((0..20).map(|_| finding(Severity::Info, "Sidecar shop/cart")));
    let latest = Latest {
        at: Timestamp::from_millis(FROM),
        took: Duration::ZERO,
        report: Report { findings, objects: 5 },
        scorecard: Scorecard::default(),
        comparisons: Vec::new(),
        no_traffic: None,
        strict: std::collections::BTreeSet::new(),
    };
    let subject =
        governing::Subject { services: vec![("shop".into(), "cart".into())], ..governing::Subject::default() };
    declared::drawn(told, Some(&latest), &subject, &[" shop/cart".to_owned()])
}

#[test]
fn a_page_has_one_card_of_findings_and_one_of_what_governs() {
    let part = declared_part();
    let found: Vec<(&str, bool)> =
        part.findings.iter().take(3).map(|row| (&*row.subject, row.href.is_some())).collect();
    // The gravest first; a link where the object is declared.
    assert_eq!(
        found,
        [("DestinationRule shop/wide", false), ("Deployment shop/cart", false), ("VirtualService shop/cart", true)]
    );
    assert_eq!((part.findings.len(), part.findings_left), (16, 7));
    let subject = of(Subject::Service, "cart");
    let (range, story) = (range(), told(&subject, &shop()).unwrap());
    let around = Around { declared: part, ..Around::default() };
    let page = page_of(
        Frame::around("graph", 0),
        &subject,
        (&story, around),
        (&Address { range: None, at: None }, &range),
        range.to,
    );
    let page = page.render().unwrap();
    for (part, times) in [
        ("<h2>Findings</h2>", 1),
        ("<h2>Configuration</h2>", 1),
        ("muted\">names it<", 1),
        ("and 2 more<", 1),
        ("and 7 more<", 1),
        ("about Deployment shop/cart", 1),
        ("shop/mesh.yaml:7", 16),
        ("<td class=\"break\">5 errors</td>", 1),
        ("href=\"/audit?namespace=shop\"", 1),
        ("Nothing that is declared", 0),
    ] {
        assert_eq!(page.matches(part).count(), times, "{part}");
    }
    let bare = rendered(&subject, &shop());
    assert!(bare.contains("Nothing that is declared is read") && bare.matches("<h2>Configuration</h2>").count() == 1);
}
