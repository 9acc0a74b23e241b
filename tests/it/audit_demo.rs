//! The audit on the simulated mesh: its incidents one at a time, each found, and nothing else.
//!
//! The simulation runs as fast as it can; its pages are read as a scrape would, every half minute of its own time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use meshscope::audit::{self, Options, Source};
use meshscope::demo::configuration::{FAULT, declared};
use meshscope::demo::incidents::INCIDENTS;
use meshscope::demo::traffic::Simulation;
use meshscope::mesh::{Input, Snapshot};
use meshscope::model::{Labels, Timestamp};
use meshscope::promql::testlang::{Point, parse_number, parse_series};
use meshscope::promql::{self, Engine};
use meshscope::series::{self, Head, Row, SeriesRef};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// Seconds between two readings.
const STEP: u64 = 30;
/// When nothing goes wrong: the two minutes before the second incident.
const QUIET_END: u64 = 330;

/// The memory tier of a meshscope that scraped the simulated mesh.
struct Scraped {
    head: Head,
    simulation: Simulation,
    series: HashMap<String, SeriesRef>,
    spans: BTreeMap<String, f64>,
}

impl Scraped {
    fn new() -> Self {
        let head = Head::new(series::Config::default());
        Self { head, simulation: Simulation::new(7), series: HashMap::new(), spans: BTreeMap::new() }
    }

    /// Runs from one second to another.
    fn run(&mut self, from: u64, to: u64) {
        for second in from + 1..=to {
            self.simulation.step(Duration::from_secs(second));
            for hop in self.simulation.take_hops().iter().filter(|hop| !hop.client) {
                let workload = self.simulation.pods()[hop.pod].workload;
                *self.spans.entry(format!("{}.{}", workload.app, workload.namespace)).or_default() += 1.0;
            }
            if second % STEP == 0 {
                self.read(START + Duration::from_secs(second));
            }
        }
    }

    fn read(&mut self, at: Timestamp) {
        let pods: Vec<(String, &str)> =
            self.simulation.pods().iter().map(|pod| (pod.name.clone(), pod.workload.namespace)).collect();
        let mut rows = Vec::new();
        for (pod, namespace) in pods {
            let page = self.simulation.page(&pod).expect("a page for each pod");
            for line in page.lines().filter(|line| !line.starts_with('#')) {
                let (key, value) = line.rsplit_once(' ').expect("a value");
                let series = *self.series.entry(format!("{pod} {key}")).or_insert_with(|| {
                    let (labels, points) = parse_series(line).unwrap_or_else(|error| panic!("{line}: {error}"));
                    assert!(matches!(points[..], [Point::Value(_)]), "{line}");
                    let labels = labels.with("namespace", namespace).with("pod", &pod);
                    self.head.intern(&labels).expect("room")
                });
                rows.push(Row { series, at, value: parse_number(value).expect("a number") });
            }
        }
        for (service, count) in &self.spans {
            let labels = [
                ("__name__", "traces_spanmetrics_calls_total"),
                ("service", service),
                ("span_kind", "SPAN_KIND_SERVER"),
            ];
            let series = self.head.intern(&Labels::from_pairs(labels)).expect("room");
            rows.push(Row { series, at, value: *count });
        }
        self.head.append(&rows);
    }

    /// Codes and subjects of what the checks against traffic find in the seconds that end at `end`.
    async fn found(&self, seconds: u64, end: u64, fault: bool) -> BTreeSet<String> {
        let mut texts = declared().to_vec();
        texts.extend(fault.then(|| FAULT.to_owned()));
        let inputs: Vec<Input> = texts.into_iter().map(|text| Input { name: "mesh.yaml".into(), text }).collect();
        let mesh = Snapshot::read(&inputs, "default");
        let engine = Arc::new(Engine::new(promql::Config::default()));
        let at = START + Duration::from_secs(end);
        let source = Source::Own { engine, series: Arc::new(self.head.clone()), at };
        let observed = audit::gather(&source, Duration::from_secs(seconds)).await.expect("the store answers");
        assert!(observed.gaps.is_empty() && !observed.calls.is_empty(), "{:?}", observed.gaps);
        let report = audit::audit(&mesh, Some(&observed), &Options::default());
        for one in report.findings.iter().filter(|one| one.code.starts_with("MS20")) {
            println!("{end} s: {} {}: {} {:?}", one.code, one.subject, one.message, one.evidence);
        }
        let traffic = report.findings.iter().filter(|one| one.code.starts_with("MS20"));
        // What is worth knowing depends on how much traffic a window has; warnings and errors must not.
        let grave = traffic.filter(|one| one.severity > meshscope::model::Severity::Info);
        grave.map(|one| format!("{} {}", one.code, one.subject)).collect()
    }
}

#[tokio::test]
async fn incidents_of_the_demo_are_found_one_by_one_and_nothing_else() {
    let mut scraped = Scraped::new();
    let mut now = 0;
    let mut seen = Vec::new();
    let mut quiet = BTreeSet::new();
    for incident in &INCIDENTS {
        let (starts, lasts) = (incident.starts.as_secs(), incident.lasts.as_secs());
        if starts == QUIET_END {
            scraped.run(now, QUIET_END);
            now = QUIET_END;
            quiet = scraped.found(120, QUIET_END, false).await;
        }
        let end = (starts + lasts) / STEP * STEP;
        scraped.run(now, end);
        now = end;
        let fault = incident.name == "recommendation-fault-left-on";
        seen.push((incident.name, scraped.found(lasts.min(150), end, fault).await));
    }
    let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<BTreeSet<String>>();
    // The caller without a proxy, which the mesh has on purpose.
    assert_eq!(quiet, set(&["MS2012 PeerAuthentication shop/inventory"]));
    let wanted: [(&str, &[&str]); 4] = [
        ("catalog-errors", &["MS2060 Service shop/catalog"]),
        ("payment-slow", &["MS2051 VirtualService payments/payment", "MS2060 Service payments/payment"]),
        (
            "reviews-circuit-breaker",
            &[
                "MS2030 DestinationRule shop/reviews",
                "MS2031 DestinationRule shop/reviews",
                "MS2060 Service shop/reviews",
            ],
        ),
        ("recommendation-fault-left-on", &["MS2040 VirtualService shop/recommendation-test"]),
    ];
    for ((name, found), (incident, lines)) in seen.iter().zip(wanted) {
        let more: BTreeSet<String> = found.difference(&quiet).cloned().collect();
        assert_eq!((*name, more), (incident, set(lines)));
    }
}
