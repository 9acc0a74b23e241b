//! What is stored of a page: label rules, safe mode, limits when a page grows tenfold.

use super::*;
use crate::model::{METRIC_NAME, Matcher};
use crate::series::Needs;

fn with_head(harness: &mut Harness, config: series::Config) {
    Arc::get_mut(&mut harness.one.shared).unwrap().sinks.head = Head::new(config);
}

fn dropping(pattern: &str, labels: &[&str]) -> series::Config {
    let lists = [(pattern.to_owned(), labels.iter().map(|label| (*label).to_owned()).collect())];
    series::Config { drop_labels: lists.into(), ..series::Config::default() }
}

#[tokio::test]
async fn counters_that_become_equal_are_added_and_only_rise() {
    let mut harness = Harness::new("").await;
    with_head(&mut harness, dropping("a_*", &["pod"]));
    let page = |rows: &[(&str, u32)]| {
        let row = |(pod, value): &(&str, u32)| format!("a_total{{pod=\"{pod}\",code=\"200\"}} {value}\n");
        "# TYPE a_total counter\n".to_owned() + &rows.iter().map(row).collect::<String>()
    };
    for (at, rows, why) in [
        (0, &[("p1", 1000), ("p2", 500)][..], "nobody knows since when the first page counts"),
        (15, &[("p1", 1010), ("p2", 501)], "11 more"),
        (30, &[("p1", 1010)], "p2 vanished: no fall, so no reader sees a restart"),
        (45, &[("p1", 1012), ("p2", 503), ("p3", 7)], "p2 is back with 2 more, p3 is new since the page before: 2+2+7"),
        (60, &[("p1", 5), ("p2", 503), ("p3", 7)], "p1 restarted: 5 more"),
        (75, &[("p2", 503), ("p1", 6), ("p3", 7), ("p1", 900)], "in any order, and of twins the first"),
    ] {
        let status = harness.scrape_page(at, &page(rows)).await;
        assert_eq!((status.last_error, status.samples_kept), (None, rows.len() as u64), "{why}");
    }
    let expect = [("a_total{code=\"200\"}", "0@0 11@15 11@30 22@45 27@60 28@75")];
    assert_eq!(pairs(&harness.pages().await), expect);
    assert_eq!(harness.counters().duplicates.load(Ordering::Relaxed), 1);

    // A page that fails leaves no trace, and ends the series.
    harness.scrape_page(90, &(page(&[("p1", 60), ("p2", 600)]) + "broken\n")).await;
    harness.scrape_page(105, &page(&[("p1", 8), ("p2", 503), ("p3", 7)])).await;
    harness.scrape_page(120, "b 1\n").await; // all gone: a marker
    assert!(harness.of("a_total{code=\"200\"}").await.ends_with("28@75 stale@90 30@105 stale@120"));
}

#[tokio::test]
async fn histograms_are_added_by_bucket_and_what_cannot_be_added_stays_whole() {
    let mut harness = Harness::new("").await;
    let lists = [("*".to_owned(), vec!["code".to_owned()])];
    with_head(&mut harness, series::Config { keep_labels: lists.into(), ..series::Config::default() });
    let page = |n: u32| {
        format!(
            "# TYPE h histogram\nh_bucket{{pod=\"a\",le=\"1\"}} {n}\nh_bucket{{pod=\"b\",le=\"1\"}} {n}\n\
             h_bucket{{pod=\"a\",le=\"+Inf\"}} {n}\nh_sum{{pod=\"a\"}} 0.5\nh_count{{pod=\"a\"}} {n}\n\
             # TYPE g gauge\ng{{pod=\"a\",code=\"1\"}} {n}\ng{{pod=\"b\",code=\"1\"}} {n}\nu{{pod=\"a\"}} 3\n\
             # TYPE s summary\ns{{pod=\"a\",quantile=\"1\"}} 1\ns_sum{{pod=\"a\"}} {n}\n"
        )
    };
    harness.scrape_page(0, &page(10)).await;
    harness.scrape_page(15, &page(13)).await;
    let expect = [
        ("g{code=\"1\", pod=\"a\"}", "10@0 13@15"),
        ("g{code=\"1\", pod=\"b\"}", "10@0 13@15"),
        ("h_bucket{le=\"+Inf\"}", "0@0 3@15"),
        ("h_bucket{le=\"1.0\"}", "0@0 6@15"),
        ("h_count", "0@0 3@15"),
        ("h_sum", "0@0 0@15"),
        ("s_sum", "0@0 3@15"),
        ("s{pod=\"a\", quantile=\"1.0\"}", "1@0 1@15"),
        ("u{pod=\"a\"}", "3@0 3@15"),
    ];
    assert_eq!(pairs(&harness.pages().await), expect);
    assert_eq!(harness.counters().label_rules_not_applied.load(Ordering::Relaxed), 4);
    // The labels of the target stay, else series of two targets would meet.
    let all = Select::new(vec![Matcher::equal(METRIC_NAME, "h_count")], Timestamp::MIN, Timestamp::MAX);
    let found = harness.one.shared.sinks.head.select(all).await.unwrap();
    assert_eq!((found.series[0].labels.value("zone"), found.series[0].labels.value("job")), ("z", "j"));
}

#[tokio::test]
async fn series_without_their_targets_labels_are_not_added_up() {
    let mut harness = Harness::new("  honor_labels: true\n").await;
    with_head(&mut harness, dropping("*", &["pod"]));
    harness.scrape_page(0, "# TYPE a counter\na{pod=\"x\",instance=\"else\"} 1\na{pod=\"x\"} 2\n").await;
    assert_eq!(harness.counters().label_rules_not_applied.load(Ordering::Relaxed), 1);
    let all = Select::new(vec![Matcher::equal(METRIC_NAME, "a")], Timestamp::MIN, Timestamp::MAX);
    let found = harness.one.shared.sinks.head.select(all).await.unwrap();
    let mut found: Vec<(String, Vec<f64>)> =
        found.series.iter().map(|s| (s.labels.value("pod").to_owned(), s.values.to_vec())).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, [(String::new(), vec![0.0]), ("x".to_owned(), vec![1.0])]);
}

#[tokio::test]
async fn edges_count_in_full_whatever_labels_are_stored() {
    let mut harness = Harness::new("").await;
    with_head(&mut harness, dropping("istio_*", &["source_workload", "destination_workload", "response_code"]));
    let page = |ok: u32, bad: u32| {
        "# TYPE istio_requests_total counter\n".to_owned() + &requests("200", ok) + &requests("503", bad)
    };
    harness.scrape_page(0, &page(10, 1)).await;
    harness.scrape_page(15, &page(15, 2)).await;
    assert_counted(&harness, &[("200", 5.0), ("503", 1.0)]);
    let stored = harness.pages().await;
    assert_eq!((stored.len(), stored[0].1.as_str()), (1, "0@0 6@15"), "{stored:?}");
    assert_eq!(harness.slots(), 2);
    let shared = Arc::clone(&harness.one.shared);
    let at = Timestamp::from_millis(START + 3_630_000);
    harness.one.state_for_tests().remove(&shared.sinks, at, &mut crate::scrape::workspace::Workspace::default());
    assert_eq!(harness.slots(), 0);
}

#[tokio::test]
async fn what_no_page_has_any_more_is_forgotten_and_totals_go_on() {
    let mut harness = Harness::new("").await;
    with_head(&mut harness, dropping("a", &["pod"]));
    for round in 0..12_u32 {
        let gone: String = (0..500).map(|i| format!("a{{pod=\"{round}-{i}\"}} 1\n")).collect();
        let status = harness.scrape_page(i64::from(round) * 15, &format!("# TYPE a counter\n{gone}")).await;
        assert_eq!(status.last_error, None);
    }
    let samples = harness.of("a").await;
    // The first page's 500 count from nothing, each later one brings 500.
    assert!(samples.starts_with("0@0 500@15 1000@30") && samples.ends_with("5500@165"), "{samples}");
}

#[tokio::test]
async fn while_memory_is_short_rules_and_edges_are_fed_and_the_rest_ends() {
    let mut harness = Harness::new("").await;
    let head = harness.one.shared.sinks.head.clone();
    let mode = head.safe_mode();
    let mut needs = Needs::default();
    needs.add(vec![Matcher::equal(METRIC_NAME, "needed")], Duration::from_secs(300));
    mode.set_needs(needs);
    mode.set_limit(1000);
    let page = |n: u32| format!("needed {n}\nother {n}\n{}", requests("200", n));
    harness.scrape_page(0, &page(1)).await;
    mode.observe(1001, Timestamp::from_millis(START));
    harness.scrape_page(15, &page(2)).await;
    let status = harness.scrape_page(30, &(page(3) + &requests("404", 4) + "late 1\nneeded{new=\"1\"} 1\n")).await;
    assert_eq!((status.health, status.samples_kept), (Health::Up, 6));
    let stored = harness.pages().await;
    let of = |name: &str| stored.iter().find(|(series, _)| series.starts_with(name)).map_or("", |(_, samples)| samples);
    assert_eq!((of("needed"), of("needed{"), of("other")), ("1@0 2@15 3@30", "1@30", "1@0 stale@15"));
    assert_eq!((of("istio"), of("late")), ("1@0 stale@15", ""));
    assert_counted(&harness, &[("200", 2.0), ("404", 4.0)]);
    assert_eq!(mode.dropped_samples.load(Ordering::Relaxed), 6); // two pages of two, then 404 and late
    // Memory suffices again; what was known goes on at once, what was never stored within ten pages.
    for at in [60, 120] {
        mode.observe(10, Timestamp::from_millis(START + at * 1000));
    }
    for i in 3..14 {
        harness.scrape_page(15 * i, &(page(i as u32 + 1) + &requests("404", 4 + i as u32) + "late 1\n")).await;
    }
    let stored = harness.pages().await;
    let of = |name: &str| stored.iter().find(|(series, _)| series.starts_with(name)).map_or("", |(_, samples)| samples);
    assert!(of("other").starts_with("1@0 stale@15 4@45 5@60"), "{}", of("other"));
    assert!(!of("late").is_empty() && harness.of("up").await.ends_with("1@195"));
    assert_eq!(harness.counted()[0].1, 13.0);
    assert_eq!(harness.counted()[1].1, 17.0);
    assert_eq!(harness.slots(), 2);
}

#[tokio::test]
async fn huge_pages_wait_for_no_memory_and_small_ones_are_read() {
    let mut harness = Harness::new("").await;
    let memory = crate::scrape::page_memory::PageMemory::new(1 << 20);
    Arc::get_mut(&mut harness.one.shared).unwrap().page_memory = memory;
    let (small, huge) = ("a 1\n".to_owned(), format!("a 1\n{}", "#".repeat(6 << 20)));
    for (at, page, gzip, is_good) in
        [(0, &small, false, true), (15, &huge, false, false), (30, &huge, true, false), (45, &small, true, true)]
    {
        let body = if gzip { gzipped(page.as_bytes()) } else { page.as_bytes().to_vec() };
        *harness.reply.lock() = Reply { gzip, body, ..Reply::text("") };
        let error = harness.scrape(at).await.last_error;
        let expect = "pages under way hold 1048576 bytes (scrape.page_memory_limit)";
        assert_eq!(error.as_deref(), (!is_good).then_some(expect), "{at}");
    }
}

#[tokio::test]
async fn a_page_that_grows_tenfold_meets_its_limit_and_memory_does_not_grow_past_it() {
    let page = |count: usize| (0..count).map(|i| format!("a{{i=\"{i}\"}} 1\n")).collect::<String>();
    let mut limited = Harness::new("  sample_limit: 1500\n").await;
    limited.scrape_page(0, &page(1000)).await;
    let before = limited.one.shared.sinks.head.stats().series;
    let status = limited.scrape_page(15, &page(10_000)).await;
    let expect = "sample_limit exceeded (number of samples: 10000, limit: 1500)";
    assert_eq!(status.last_error.as_deref(), Some(expect));
    let after = limited.one.shared.sinks.head.stats().series;
    assert!(after <= before + 500, "{before} series became {after}");
    assert_eq!(
        (limited.of("up").await.as_str(), limited.of("a{i=\"0\"}").await.as_str()),
        ("1@0 0@15", "1@0 stale@15")
    );

    let mut full = Harness::new("").await;
    with_head(&mut full, series::Config { series_limit: 1500, ..series::Config::default() });
    full.scrape_page(0, &page(1000)).await;
    let status = full.scrape_page(15, &page(10_000)).await;
    assert_eq!((status.health, full.one.shared.sinks.head.stats().series), (Health::Up, 1500));
    assert_eq!(full.counters().series_limit.load(Ordering::Relaxed), 10_000 - (1500 - 5));
}
