//! PostgreSQL hangs: connections stand and nothing comes back. Pages show what memory has, soon, and say why it is not more.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::app::{Inbox, Target, TestApp, eventually, new_folder, one_target, with_ports};
use crate::app_outage::available;
use crate::chaos::{Chaos, Wire};
use crate::postgres;

/// Workloads, and calls of each.
const SERVICES: usize = 200;
const CALLS: usize = 5;
/// A page that asks PostgreSQL for one thing after the other must not wait for each.
const SOON: Duration = Duration::from_millis(4_500);

/// What the proxies of that mesh report after so many rounds.
fn samples(round: u32) -> String {
    let mut page = "# TYPE istio_requests_total counter\n".to_owned();
    for (source, call) in (0..SERVICES).flat_map(|source| (1..=CALLS).map(move |call| (source, call))) {
        let target = (source + call * call) % SERVICES;
        let count = 1000 * round;
        let _ = writeln!(
            page,
            "istio_requests_total{{reporter=\"source\",source_workload=\"s{source}\",source_workload_namespace=\"shop\",\
             source_canonical_service=\"s{source}\",destination_workload=\"s{target}\",\
             destination_workload_namespace=\"shop\",destination_service_namespace=\"shop\",\
             destination_service_name=\"s{target}\",destination_canonical_service=\"s{target}\",\
             request_protocol=\"http\",response_code=\"200\",response_flags=\"-\"}} {count}"
        );
    }
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_subject_answer_soon_with_what_memory_has_and_say_why() {
    let (chaos, cabled) = Chaos::before(&postgres::database().await).await;
    let (_, webhook) = Inbox::new().await;
    let target = Target::new(&samples(1)).await;
    let app = TestApp::start_in(&new_folder(), &with_ports(&cabled, &one_target(target.address, webhook))).await;
    let count = "count(istio_requests_total)";
    app.query_becomes(count, (SERVICES * CALLS) as f64).await;
    target.show(&samples(2));
    let path = "/service/shop/s7?range=1h";
    eventually("the mesh has traffic", async || (app.get(path).await.0 == 200).then_some(())).await;
    let edge = "/edge/workload:%2Fshop%2Fs7%3Eworkload:%2Fshop%2Fs8?range=1h";
    for path in [path, "/workload/shop/s7?range=1h", edge, "/graph?range=1h&select=workload:%2Fshop%2Fs7"] {
        chaos.set(Wire::Stalled);
        let asked = Instant::now();
        let (status, page) = app.get(path).await;
        let took = asked.elapsed();
        println!("{path} took {took:?} while PostgreSQL hung");
        assert_eq!(status, 200, "{path}: {page}");
        assert!(page.contains(">s7<") || page.contains("s7</"), "{path}: {page}");
        assert!(page.contains("only what is not stored yet is shown"), "{path}: {page}");
        assert!(took < SOON, "{path} took {took:?}");
        // Whoever asks next is not kept waiting either.
        let asked = Instant::now();
        let (status, page) = app.get("/graph?range=1h").await;
        assert!(status == 200 && page.contains("only what is not stored yet is shown"), "{page}");
        assert!(asked.elapsed() < SOON, "the graph took {:?}", asked.elapsed());
        chaos.set(Wire::Whole);
        available(&app, true).await;
    }
    app.stop().await;
}
