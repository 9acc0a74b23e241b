//! Series that are read by what was found out for one like them are the same as those read in full.

use super::*;

/// A page of histograms and counters of a few edges, with the spellings that real pages have.
fn page(edges: usize, bounds: &[&str], value: usize) -> String {
    let of = |edge: usize| {
        format!(
            "reporter=\"source\",source_workload=\"web\",destination_workload=\"cart-{edge}\",\
             destination_service_name=\"cart\",request_protocol=\"http\",response_code=\"200\",zone=\"theirs\",quoted=\"a\\\"b\""
        )
    };
    let mut page = String::from("# TYPE istio_requests_total counter\n");
    let edges: Vec<String> = (0..edges).map(of).collect();
    edges.iter().for_each(|edge| page += &format!("istio_requests_total{{{edge}}} {value}\n"));
    for name in ["istio_request_duration_milliseconds", "istio_request_bytes"] {
        page += &format!("# TYPE {name} histogram\n");
        for edge in &edges {
            for (i, bound) in bounds.iter().enumerate() {
                page += &format!("{name}_bucket{{{edge},le=\"{bound}\"}} {}\n", value * (i + 1));
            }
            page += &format!("{name}_sum{{{edge}}} {value}.5\n{name}_count{{{edge}}} {value}\n");
        }
    }
    // Not of that shape, or not what it seems: the bound in front, blanks, an empty bound, a bound of no histogram.
    let edge = &edges[0];
    page += &format!("# TYPE odd untyped\nodd{{le=\"1\",{edge}}} 1\nodd{{ {edge} , le=\"2\"}} 2\nodd{{{edge},}} 3\n");
    page +=
        &format!("odd_empty{{{edge},le=\"\"}} 4\nodd_bound{{{edge},le=\"1\"}} 5\nodd_bound{{{edge},le=\"1.0\"}} 6\n");
    // Nothing but the bound.
    for name in ["bare_milliseconds", "bare_bytes"] {
        page += &format!("# TYPE {name} histogram\n");
        bounds.iter().for_each(|bound| page += &format!("{name}_bucket{{le=\"{bound}\"}} {value}\n"));
        page += &format!("{name}_sum {value}\n{name}_count {value}\n");
    }
    page
}

/// What is stored and counted after three pages, the last two with edges and buckets that were not there before.
async fn outcome(keys: &str) -> (Vec<(String, String)>, Vec<String>) {
    let mut harness = Harness::new(keys).await;
    for (number, (edges, bounds)) in
        [(2, &["1", "5", "+Inf"][..]), (3, &["1", "5", "+Inf"]), (4, &["0.5", "1", "5", "1e6", "+Inf"])]
            .into_iter()
            .enumerate()
    {
        let status = harness.scrape_page(15 * number as i64, &page(edges, bounds, 10 + number)).await;
        assert_eq!(status.last_error, None);
    }
    let minutes = harness.one.shared.sinks.rollup.recent(Timestamp::MIN);
    let mut minutes: Vec<String> = minutes.iter().map(|minute| format!("{minute:?}")).collect();
    minutes.sort();
    (harness.pages().await, minutes)
}

#[tokio::test]
async fn series_like_one_before_are_stored_and_counted_as_if_read_in_full() {
    let quick = outcome("").await;
    let in_full = outcome("  label_limit: 1000\n").await;
    assert_eq!(quick.0, in_full.0);
    assert_eq!(quick.1, in_full.1);
    assert!(quick.0.len() > 60 && quick.1.len() >= 4, "{} series, {} minutes", quick.0.len(), quick.1.len());
    let named = |wanted: &str| quick.0.iter().filter(|(name, _)| name.contains(wanted)).count();
    let (bare, with_labels) = (named("bare_"), named("exported_zone=\"theirs\""));
    assert_eq!((bare, with_labels), (2 * (5 + 2), quick.0.len() - bare), "{:?}", quick.0);
    assert_eq!(named("le=\"1e+06\""), 8 + 2, "{:?}", quick.0);
}
