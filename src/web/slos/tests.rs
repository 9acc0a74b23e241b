#![allow(clippy::unwrap_used, reason = "tests")]
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::slo::{BurnRate, Slos};
use crate::web::hostile;
use crate::yaml;

fn now() -> Timestamp {
    Timestamp::from_millis(1_763_835_000_000)
}

fn instance(text: &str) -> Instance {
    let (slos, problems) = yaml::decode::<Slos>("[{name: a, objective: 99.9, edge: 'shop/web -> shop/*'}]");
    assert!(problems.is_empty(), "{problems:?}");
    let mut slo = slos.unwrap().iter().next().unwrap().clone();
    text.clone_into(&mut slo.description);
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Instance {
        slo: Arc::new(slo),
        id: format!("a:{text}"),
        service: "shop/web/shop/cart".to_owned(),
        labels: vec![
            label("destination_service_name", text),
            label("destination_service_namespace", "shop"),
            label("source_workload", "web"),
            label("source_workload_namespace", "shop"),
        ],
        state: Grave::Page,
        remaining: Some(0.4),
        covered: 0.5,
        burn: vec![BurnRate { window: "5m", rate: Some(20.0) }, BurnRate { window: "6h", rate: None }],
        events_per_second: Some(12.0),
        forecast: Forecast::GoneIn(Duration::from_secs(3 * 86_400 + 4 * 3600)),
        forecast_by: Some("6h"),
        firing: vec![Firing {
            alert: text.to_owned(),
            kind: "page".to_owned(),
            severity: text.to_owned(),
            is_firing: true,
            since: now() - Duration::from_secs(60),
        }],
        history: vec![(now() - Duration::from_secs(3600), 1.0), (now(), 0.4)],
    }
}

fn shown(instances: &[Instance]) -> String {
    let page = Page {
        frame: Frame::around("slos", 0),
        configured: 1,
        tiles: vec![("Healthy", 1, "/slos?state=healthy".to_owned())],
        text: instances.first().map(|one| one.id.clone()).unwrap_or_default(),
        names: vec![("a".to_owned(), true)],
        states: Vec::new(),
        orders: Vec::new(),
        rows: instances.iter().map(|one| row(one, now(), &[])).collect(),
        left_out: 0,
        without: instances.iter().map(|one| (one.id.clone(), one.id.clone())).collect(),
    };
    page.render().unwrap()
}

#[test]
fn a_row_says_what_is_left_and_until_when() {
    let page = shown(&[instance("what is sold")]);
    for part in [
        "shop/web → shop/cart",
        "99.9% over 30 d",
        "40.0%",
        "measured for 15 d",
        "20.0×",
        "budget gone in 3 d 4 h at the rate of the last 6 h",
        "firing, since 1 min ago",
        "<polyline points=",
        "Budget left over the last 1 h: 100% at first, 40.0% now, 40.0% at least",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
}

#[test]
fn overspent_and_unknown_budgets_are_drawn_within_their_frame() {
    let mut overspent = instance("x");
    overspent.remaining = Some(-12.0);
    overspent.forecast = Forecast::Gone;
    let mut unknown = instance("y");
    unknown.remaining = None;
    unknown.events_per_second = None;
    unknown.forecast = Forecast::Unknown;
    unknown.history = vec![(now(), f64::MIN), (now(), f64::MAX)];
    let page = shown(&[overspent, unknown]);
    assert!(page.contains("1200% overspent") && page.contains("<rect width=\"0%\""), "{page}");
    assert!(page.contains("not yet"), "{page}");
    hostile::assert_harmless(&page);
}

#[test]
fn hostile_texts_stay_texts() {
    let instances: Vec<Instance> = hostile::texts().iter().map(|text| instance(text)).collect();
    hostile::assert_harmless(&shown(&instances));
}

#[test]
fn orders_put_first_what_they_are_named_for() {
    let mut all: Vec<Instance> = ["c", "a", "b"].map(instance).into();
    all[0].remaining = None;
    all[1].remaining = Some(-1.0);
    all[2].burn = vec![BurnRate { window: "1h", rate: Some(9.0) }];
    let sorted = |by: &str| {
        let mut found: Vec<&Instance> = all.iter().collect();
        order(&mut found, by);
        found.iter().map(|one| one.id.trim_start_matches("a:")).collect::<String>()
    };
    assert_eq!(["state", "budget", "burn", "name"].map(sorted), ["cab", "abc", "bca", "abc"]);
}
