//! The audit on the simulated mesh: its incidents one at a time, each found, and nothing else.
//!
//! The simulation runs as fast as it can; its pages are read as a scrape would, every half minute of its own time. What is
//! found of each gravity stands in `audit/demo.expected.txt`; `UPDATE_DEMO=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
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
/// Seconds that are looked at: before each incident but the first, when nothing goes wrong, and at the end of each. What is
/// worth knowing depends on how much traffic a window has: for reviews-v2 it is too little while it is ejected.
const WINDOW: u64 = 120;

/// What the mesh shows at times by chance: redis gets about thirty connections in a window, and so many the check asks for.
const BY_CHANCE: &str = "MS2022 info Deployment data/redis-cart";

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

    /// What is found in the window that ends at `end`, of every check and gravity: `MS2060 error Service shop/catalog`.
    async fn found(&self, end: u64, fault: bool) -> BTreeSet<String> {
        let mut texts = declared().to_vec();
        texts.extend(fault.then(|| FAULT.to_owned()));
        let inputs: Vec<Input> = texts.into_iter().map(|text| Input { name: "mesh.yaml".into(), text }).collect();
        let mesh = Snapshot::read(&inputs, "default");
        let engine = Arc::new(Engine::new(promql::Config::default()));
        let at = START + Duration::from_secs(end);
        let source = Source::Own { engine, series: Arc::new(self.head.clone()), at };
        let observed = audit::gather(&source, Duration::from_secs(WINDOW)).await.expect("the store answers");
        assert!(observed.gaps.is_empty() && !observed.calls.is_empty(), "{:?}", observed.gaps);
        let report = audit::audit(&mesh, Some(&observed), &Options::default());
        for one in report.findings.iter().filter(|one| one.code.starts_with("MS20")) {
            println!("{end} s: {} {}: {} {:?}", one.code, one.subject, one.message, one.evidence);
        }
        let line = |one: &meshscope::model::Finding| {
            let suppressed = if one.suppressed.is_some() { " (suppressed)" } else { "" };
            format!("{} {} {} {}{suppressed}", one.code, one.severity.as_str(), one.subject, one.field)
        };
        report.findings.iter().map(|one| line(one).trim_end().to_owned()).collect()
    }
}

#[tokio::test]
async fn incidents_of_the_demo_are_found_one_by_one_and_nothing_else() {
    let mut scraped = Scraped::new();
    let mut now = 0;
    let (mut quiet, mut seen) = (Vec::new(), Vec::new());
    for incident in &INCIDENTS {
        let (starts, lasts) = (incident.starts.as_secs(), incident.lasts.as_secs());
        if starts > WINDOW {
            scraped.run(now, starts);
            now = starts;
            quiet.push(scraped.found(starts, false).await);
        }
        let end = (starts + lasts) / STEP * STEP;
        scraped.run(now, end);
        now = end;
        let fault = incident.name == "recommendation-fault-left-on";
        seen.push((incident.name, scraped.found(end, fault).await));
    }
    assert_eq!(quiet.len(), 3);
    // What is found at times of a workload with few calls, and what always is.
    let ever: BTreeSet<String> = quiet.iter().flatten().cloned().chain(std::iter::once(BY_CHANCE.to_owned())).collect();
    let always = |line: &&String| quiet.iter().all(|found| found.contains(*line));
    let mut said = "# quiet\n".to_owned();
    for line in &ever {
        said.push_str(&format!("{line}{}\n", if always(&line) { "" } else { " (at times)" }));
    }
    for (name, found) in &seen {
        said.push_str(&format!("# {name}\n"));
        found.difference(&ever).for_each(|line| said.push_str(&format!("+ {line}\n")));
        ever.difference(found).filter(always).for_each(|line| said.push_str(&format!("- {line}\n")));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/audit/demo.expected.txt");
    if std::env::var_os("UPDATE_DEMO").is_some() {
        fs::write(&file, &said).expect("write");
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(said, expected, "UPDATE_DEMO=1 writes {} anew", file.display());
    // Whatever else is found beside them, each incident must be there.
    for (incident, code) in [
        ("catalog-errors", "MS2060 error Service shop/catalog"),
        ("payment-slow", "MS2051 warning VirtualService payments/payment"),
        ("reviews-circuit-breaker", "MS2031"),
        ("recommendation-fault-left-on", "MS2040"),
    ] {
        let part = expected.split("# ").find(|part| part.starts_with(incident)).expect("the incident");
        assert!(part.lines().any(|line| line.starts_with(&format!("+ {code}"))), "{incident}: {part}");
    }
}
