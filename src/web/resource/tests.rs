//! Findings in place.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::mesh::Kind;
use crate::model::Severity;

const TEXT: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: cart\n  namespace: shop\n\
    spec:\n  hosts:\n  - cart\n  http:\n  - route:\n    - destination:\n        host: cart\n      weight: 90\n    - destination:\n        \
    host: other\n      weight: 10\n";

fn finding(field: &str) -> Finding {
    Finding {
        code: "MS2001",
        severity: Severity::Warning,
        subject: "VirtualService shop/cart".to_owned(),
        file: None,
        line: 0,
        field: field.to_owned(),
        message: format!("about {field}"),
        evidence: Vec::new(),
        fix: None,
        suppressed: None,
    }
}

#[test]
fn findings_stand_below_the_line_of_their_field() {
    let id = ResourceId { kind: Kind::VirtualService, namespace: "shop".to_owned(), name: "cart".to_owned() };
    let all = [finding("spec.http[0].route[1].weight"), finding(""), finding("spec.http[0].fault.delay")];
    let found: Vec<&Finding> = all.iter().collect();
    let shown = lines(TEXT, &id, &found);
    let at = |start: &str| shown.iter().filter(|line| line.text.trim().starts_with(start)).collect::<Vec<_>>();
    assert_eq!(at("weight: 10")[0].found, [("degraded", "MS2001", "about spec.http[0].route[1].weight".to_owned())]);
    assert_eq!(at("apiVersion")[0].found.len(), 1, "what is about the whole stands at its first line");
    assert_eq!(at("- route:")[0].found.len(), 1, "a field that is not there stands at what would hold it");
    assert_eq!(shown.iter().map(|line| line.found.len()).sum::<usize>(), 3);
    // What cannot be read again is shown all the same.
    let broken = lines("a: [", &id, &found);
    assert_eq!((broken.len(), broken[0].found.len()), (1, 3));
}
