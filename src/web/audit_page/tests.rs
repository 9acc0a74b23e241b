//! The page rendered from audits.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::audit::{ITEMS, Report, Scorecard};
use crate::mesh::Input;
use crate::web::hostile;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn finding(severity: Severity, subject: &str, message: &str, suppressed: Option<&str>) -> Finding {
    Finding {
        code: if severity == Severity::Error { "MS0901" } else { "MS2001" },
        severity,
        subject: subject.to_owned(),
        file: Some("shop/mesh.yaml".to_owned()),
        line: 7,
        field: "spec.hosts".to_owned(),
        message: message.to_owned(),
        evidence: vec!["9 of 10 requests".to_owned()],
        fix: Some("spec:\n  hosts:\n  - cart".to_owned()),
        suppressed: suppressed.map(str::to_owned),
    }
}

fn latest(findings: Vec<Finding>) -> Latest {
    let score = |namespace: Option<&str>, at: usize, score: Option<u8>| Score {
        item: &ITEMS[at],
        namespace: namespace.map(str::to_owned),
        score,
        evidence: vec!["nine of ten".to_owned()],
        next: "MS2001 VirtualService shop/cart: drift".to_owned(),
    };
    let scores = vec![score(None, 0, Some(72)), score(None, 10, None), score(Some("shop"), 0, Some(40))];
    Latest {
        at: NOW,
        took: Duration::from_millis(400),
        report: Report { findings, objects: 12 },
        scorecard: Scorecard { window: Some(Duration::from_secs(3_600)), scores, gaps: Vec::new() },
        comparisons: Vec::new(),
        no_traffic: None,
    }
}

fn html(latest: &Latest, address: &Address, history: &History) -> String {
    let wanted = wanted(address, NOW).expect("an address");
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}\n";
    let snapshot = Snapshot::read(&[Input { name: "a".into(), text: text.to_owned() }], "shop");
    page_of(Frame::around("audit", 0), latest, &snapshot, (address, &wanted), history).render().expect("a page")
}

fn asked(name: &str, value: &str) -> Address {
    let value = Some(value.to_owned());
    let none = Address::default();
    match name {
        "severity" => Address { severity: value, ..none },
        "namespace" => Address { namespace: value, ..none },
        "code" => Address { code: value, ..none },
        "q" => Address { q: value, ..none },
        "show" => Address { show: value, ..none },
        "range" => Address { range: value, ..none },
        _ => Address { page: value, ..none },
    }
}

fn three() -> Latest {
    latest(vec![
        finding(Severity::Warning, "VirtualService shop/cart", "the split drifts", None),
        finding(Severity::Error, "VirtualService web/page", "a host is lost", None),
        finding(Severity::Error, "Gateway edge/outer", "known long since", Some("it is ours alone")),
    ])
}

#[test]
fn findings_are_chosen_by_gravity_place_code_words_and_suppression() {
    let all = three();
    for (name, value, shown, hidden) in [
        (
            "page",
            "1",
            vec!["the split drifts", "a host is lost", "9 of 10 requests", "hosts:\n  - cart"],
            vec!["known long"],
        ),
        ("severity", "error", vec!["a host is lost"], vec!["the split drifts", "known long"]),
        ("namespace", "shop", vec!["the split drifts", "Audit of shop"], vec!["a host is lost"]),
        ("code", "MS09*", vec!["a host is lost"], vec!["the split drifts"]),
        ("code", "ms2001", vec!["the split drifts"], vec!["a host is lost"]),
        ("q", "WEB/page", vec!["a host is lost"], vec!["the split drifts"]),
        ("q", "mesh.yaml", vec!["the split drifts", "a host is lost"], vec!["known long"]),
        ("show", "suppressed", vec!["known long since", "Suppressed: it is ours alone"], vec!["a host is lost"]),
        ("q", "nothing of it", vec!["No finding matches"], vec!["the split drifts"]),
    ] {
        let page = html(&all, &asked(name, value), &History::new());
        for text in shown {
            assert!(page.contains(text), "{name}={value}: {text} is not in {page}");
        }
        for text in hidden {
            assert!(!page.contains(text), "{name}={value}: {text} is shown");
        }
    }
    let page = html(&all, &Address::default(), &History::new());
    let at = |text: &str| page.find(text).expect("there");
    assert!(at("a host is lost") < at("the split drifts"), "the gravest first");
    assert!(page.contains("href=\"/resource/VirtualService/shop/cart\""), "an object that is declared has its page");
    assert!(page.contains("/api/mesh/v1/audit/scorecard?format=markdown"), "{page}");
}

#[test]
fn addresses_that_make_no_sense_are_named() {
    for (name, value, said) in [
        ("severity", "loud", "severity: \"loud\" is none"),
        ("show", "some", "show: \"some\" is none"),
        ("page", "0", "page: use a whole number"),
        ("range", "soon", "range:"),
    ] {
        let error = wanted(&asked(name, value), NOW).err().unwrap_or_default();
        assert!(error.starts_with(said), "{name}={value}: {error}");
    }
}

#[test]
fn scores_are_drawn_over_time() {
    let points = |values: &[f64]| -> Vec<(Timestamp, f64)> {
        let at = |i: usize| NOW - Duration::from_secs(3_600) * u32::try_from(values.len() - i).unwrap_or(0);
        values.iter().enumerate().map(|(i, value)| (at(i), *value)).collect()
    };
    let history = |values: &[f64]| History::from([("mtls".to_owned(), points(values))]);
    let page = html(&three(), &Address::default(), &history(&[40.0, 60.0, 72.0]));
    assert!(page.contains("up 32 in 3 h") && page.contains("<polyline points="), "{page}");
    assert!(html(&three(), &Address::default(), &history(&[90.0, 72.0])).contains("down 18"));
    assert!(html(&three(), &Address::default(), &History::new()).contains("no history yet"));
}

#[test]
fn many_findings_are_paged() {
    let all = latest(
        (0..120)
            .map(|i| finding(Severity::Warning, "VirtualService shop/cart", &format!("number {i} of it"), None))
            .collect(),
    );
    let page = html(&all, &asked("page", "3"), &History::new());
    assert!(page.contains("101 to 120 of 120") && page.contains("number 119 of it"), "{page}");
    assert!(page.contains("page=2") && !page.contains("page=4"));
    let beyond = html(&all, &asked("page", "900"), &History::new());
    assert!(beyond.contains("101 to 120 of 120"), "a page beyond the last is the last");
}

#[test]
fn a_page_survives_any_text() {
    for text in hostile::texts() {
        let mut one = finding(Severity::Error, &format!("VirtualService {text}/{text}"), &text, Some(&text));
        (one.evidence, one.fix, one.file, one.field) =
            (vec![text.clone(); 20], Some(text.clone()), Some(text.clone()), text.clone());
        let mut all = latest(vec![one.clone(), Finding { suppressed: None, ..one }]);
        for score in &mut all.scorecard.scores {
            score.namespace = Some(text.clone());
            score.evidence = vec![text.clone()];
            score.next = text.clone();
        }
        all.no_traffic = Some(text.clone());
        all.scorecard.gaps = vec![text.clone()];
        for address in [
            Address { show: Some("all".to_owned()), ..Address::default() },
            asked("q", &text),
            asked("namespace", &text),
        ] {
            let page =
                html(&all, &address, &History::from([("mtls".to_owned(), vec![(NOW, f64::INFINITY), (NOW, 3.0)])]));
            hostile::assert_harmless(&page);
        }
    }
}

#[test]
fn without_an_audit_the_page_says_what_to_do() {
    for (without, said) in [("off", "Nothing is declared to meshscope"), ("waiting", "The first audit is not done yet")]
    {
        let page = Page { without: Some(without), ..Page::empty(Frame::around("audit", 0)) };
        assert!(page.render().expect("a page").contains(said), "{without}");
    }
}
