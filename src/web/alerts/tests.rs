//! The page of alerts with labels and annotations of any kind.
#![allow(clippy::unwrap_used, reason = "tests")]

use askama::Template as _;

use super::*;
use crate::web::hostile;

fn alert(labels: &[(&str, &str)], state: AlertState) -> Alert {
    let at = Timestamp::from_millis(1_763_834_400_000);
    let text = labels[0].1;
    Alert {
        labels: Labels::from_pairs(labels.iter().copied()),
        annotations: Labels::from_pairs([("summary", text), ("description", text)]),
        state,
        value: 3.0,
        active_at: at,
        fired_at: None,
        resolved_at: None,
        keep_firing_since: None,
        valid_until: at,
        generator_url: String::new(),
    }
}

#[test]
fn the_labels_that_say_where_come_first_and_the_rest_folds() {
    let labels = Labels::from_pairs([
        ("alertname", "Slow"),
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("d", ""),
        ("destination_workload", "cart-v1"),
        ("severity", "page"),
        ("z", "9"),
    ]);
    let (telling, others) = told_apart(&labels);
    let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&telling), ["destination_workload", "severity", "a", "b", "c"]);
    assert_eq!(names(&others), ["z"]);
}

#[test]
fn labels_and_words_of_any_kind_stay_text() {
    for text in hostile::texts() {
        let alert = alert(&[("alertname", &text), ("pod", &text)], AlertState::Firing);
        let page = Page {
            frame: Frame::around("alerts", 1).warn(Some(text.clone())),
            alerts: vec![row(&alert, &text, &text, alert.active_at)],
            rules: 1,
            broken: vec![Broken { name: text.clone(), error: text.clone() }],
            file_problems: vec![text.clone()],
            attempts: vec![],
            history: vec![],
        };
        let page = page.render().unwrap();
        hostile::assert_harmless(&page);
        assert!(page.contains("firing"));
    }
}

#[test]
fn empty_alerts_say_why() {
    let page = |rules| Page {
        frame: Frame::around("alerts", 0),
        alerts: vec![],
        rules,
        broken: vec![],
        file_problems: vec![],
        attempts: vec![],
        history: vec![],
    };
    assert!(page(0).render().unwrap().contains("There are no rules"));
    assert!(page(14).render().unwrap().contains("All 14 rules are quiet."));
}
