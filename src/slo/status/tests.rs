#![allow(clippy::unwrap_used, reason = "tests")]
use super::super::config::Slos;
use super::*;
use crate::yaml;

fn slo(fields: &str) -> Arc<Slo> {
    let (slos, problems) = yaml::decode::<Slos>(&format!("[{{name: a, objective: 99.9, service: shop/*{fields}}}]"));
    assert!(problems.is_empty(), "{problems:?}");
    Arc::new(slos.unwrap().iter().next().unwrap().clone())
}

fn judged(values: &[(&str, f64)], firing: &[(&str, bool)]) -> Instance {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let recorded = Recorded { slo: "a".to_owned(), service: "shop/cart".to_owned(), labels: Vec::new(), values };
    let firing = firing.iter().map(|(kind, is_firing)| Firing {
        alert: "A".to_owned(),
        kind: (*kind).to_owned(),
        severity: "x".to_owned(),
        is_firing: *is_firing,
        since: Timestamp::from_millis(0),
    });
    instance(&slo(""), "a:shop/cart".to_owned(), recorded, firing.collect())
}

#[test]
fn the_state_is_that_of_the_gravest_sign() {
    let (five, six) = ("slo:sli_error:ratio_rate5m", "slo:sli_error:ratio_rate6h");
    for (values, firing, expect) in [
        (&[(REMAINING, 0.5), (TOTAL, 2.0)][..], &[][..], State::Healthy),
        (&[(REMAINING, 0.5), (TOTAL, 0.0)], &[], State::Idle),
        (&[(REMAINING, 0.5)], &[], State::Idle),
        (&[(TOTAL, 2.0)], &[], State::New),
        (&[(COVERED, 0.1), (TOTAL, 2.0)], &[], State::Unknown),
        (&[(COVERED, 0.1), (REMAINING, f64::NAN), (TOTAL, 2.0)], &[], State::Unknown),
        (&[(REMAINING, 0.5), (TOTAL, 2.0)], &[("page", false)], State::Healthy),
        (&[(REMAINING, 0.5), (TOTAL, 2.0)], &[("ticket", true)], State::Ticket),
        (&[(REMAINING, -0.5), (TOTAL, 2.0)], &[("ticket", true)], State::Exhausted),
        (&[(REMAINING, -0.5), (TOTAL, 2.0)], &[("ticket", true), ("page", true)], State::Page),
    ] {
        assert_eq!(judged(values, firing).state, expect, "{values:?} {firing:?}");
    }
    let one = judged(&[(REMAINING, 0.5), (TOTAL, 2.0), (five, 0.02), (six, 0.002)], &[]);
    let burn: Vec<Option<i64>> = one.burn.iter().map(|b| b.rate.map(|rate| (rate * 1000.0).round() as i64)).collect();
    assert_eq!(burn, [Some(20_000), None, Some(2_000), None, None]);
    assert_eq!((one.forecast_by, one.forecast), (Some("6h"), Forecast::GoneIn(Duration::from_secs(648_000))));
    assert_eq!(judged(&[(REMAINING, 0.5), (five, 0.02)], &[]).forecast_by, Some("5m"));
}

#[tokio::test]
async fn what_is_put_in_force_replaces_what_was_read() {
    let board = Board::default();
    let (slos, _) = yaml::decode::<Slos>("[{name: a, objective: 99, service: shop/*}]");
    board.define(slos.unwrap());
    let head = crate::series::Head::new(crate::series::Config::default());
    let engine = Engine::new(promql::Config::default());
    let (rules, now) = (rules::Status::default(), Timestamp::from_millis(1_763_835_000_000));
    let report = board.report(&engine, &head, &rules, now).await;
    assert_eq!(report.without, [("a".to_owned(), "its rules have not been evaluated yet".to_owned())]);
    let again = board.report(&engine, &head, &rules, now + Duration::from_secs(1)).await;
    assert!(Arc::ptr_eq(&report, &again), "kept for some seconds");
    board.define(Slos::default());
    let report = board.report(&engine, &head, &rules, now + Duration::from_secs(2)).await;
    assert!(report.without.is_empty() && report.instances.is_empty());
}
