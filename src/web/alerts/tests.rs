//! The page of alerts with labels and annotations of any kind.
#![allow(clippy::unwrap_used, reason = "tests")]

use askama::Template as _;

use super::row::told_apart;
use super::*;
use crate::model::{Alert, Labels, Timestamp};
use crate::web::hostile;

fn alert(text: &str) -> BoardAlert {
    let at = Timestamp::from_millis(1_763_834_400_000);
    let labels = Labels::from_pairs([("alertname", text), ("pod", text), ("severity", text)]);
    BoardAlert {
        id: 1,
        told_id: 2,
        told: labels.clone(),
        alert: Alert {
            labels,
            annotations: Labels::from_pairs([("summary", text), ("description", text), ("runbook_url", text)]),
            state: AlertState::Firing,
            value: f64::NAN,
            active_at: at,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            valid_until: at,
            generator_url: text.to_owned(),
        },
        rule: None,
        silenced_by: vec!["s".into()],
        inhibited_by: vec![7],
        muted_by: vec![text.to_owned()],
        receivers: vec![text.to_owned()],
    }
}

fn page(sections: Vec<Section>, total: usize, rules: usize, text: &str) -> String {
    let page = Page {
        frame: Frame::around("alerts", 1).warn(Some(text.to_owned())),
        form: Form { q: text.to_owned(), receiver: text.to_owned(), ..Form::default() },
        wrong: Some(text.to_owned()),
        tiles: vec![],
        sections,
        shown: String::new(),
        total,
        silence_all: None,
        previous: None,
        next: None,
        rules,
        broken: vec![(text.to_owned(), text.to_owned())],
        problems: vec![text.to_owned()],
        more_problems: 0,
        receivers: 1,
    };
    page.render().unwrap()
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
        let one = alert(&text);
        let row = Stories::none(one.alert.active_at).row(&one);
        let section = Section { key: text.clone(), count: 1, rows: vec![row] };
        let page = page(vec![section], 1, 1, &text);
        hostile::assert_harmless(&page);
        assert!(page.contains("firing") && !page.contains("href=\"javascript"));
    }
}

#[test]
fn empty_alerts_say_why() {
    assert!(page(vec![], 0, 0, "").contains("There are no rules"));
    assert!(page(vec![], 0, 14, "").contains("All 14 rules are quiet."));
    assert!(page(vec![], 3, 14, "").contains("None of the 3 alerts is what you ask for."));
}

#[test]
fn a_page_is_cut_out_of_the_sections() {
    let section = |key: &str, count: usize| AlertSection { key: key.into(), alerts: vec![alert(key); count] };
    let parts = |skip: usize| -> Vec<(String, usize, usize)> {
        let cut = part_of(vec![section("a", 30), section("b", 30), section("c", 5)], skip);
        cut.into_iter().map(|(part, count)| (part.key, part.alerts.len(), count)).collect()
    };
    assert_eq!(parts(0), [("a".into(), 30, 30), ("b".into(), 20, 30)]);
    assert_eq!(parts(50), [("b".into(), 10, 30), ("c".into(), 5, 5)]);
}
