use super::*;
use crate::demo::proxy::Reporter;

/// A mesh that ran for `seconds` and has nothing under way any more.
fn ran(seed: u64, seconds: u64) -> Simulation {
    let mut simulation = Simulation::new(seed);
    for second in 1..=seconds {
        simulation.step(Duration::from_secs(second));
    }
    simulation.drain();
    simulation
}

/// Request counts of all pods by key.
fn counts(simulation: &Simulation) -> BTreeMap<RequestKey, u64> {
    let mut all = BTreeMap::new();
    for proxy in simulation.proxies() {
        for (key, series) in &proxy.requests {
            *all.entry(*key).or_default() += series.duration_ms.count;
        }
    }
    all
}

fn total(counts: &BTreeMap<RequestKey, u64>, keep: impl Fn(&RequestKey) -> bool) -> u64 {
    counts.iter().filter(|(key, _)| keep(key)).map(|(_, count)| count).sum()
}

#[test]
fn what_callers_send_is_what_the_called_get_but_for_refusals_and_retries() {
    let simulation = ran(11, CYCLE_SECONDS);
    let counts = counts(&simulation);
    let sent = total(&counts, |key| key.edge.reporter == Reporter::Source);
    let refused =
        total(&counts, |key| key.edge.reporter == Reporter::Source && ["FI", "UO", "UH"].contains(&key.flags));
    let got = total(&counts, |key| key.edge.reporter == Reporter::Destination && key.edge.source.is_some());
    assert!(sent > 100_000 && refused > 500 && simulation.retries() > 100);
    assert_eq!(got, sent - refused + simulation.retries());
    // The same for an edge without retries statistics: the gateway's only callee.
    let plaintext = total(&counts, |key| key.edge.source.is_none());
    assert!((700..1_300).contains(&plaintext), "{plaintext}");
    assert_eq!(
        plaintext,
        total(&counts, |key| key.edge.source.is_none() && key.edge.reporter == Reporter::Destination),
        "nobody but the called side reports a caller without a proxy"
    );
}

const CYCLE_SECONDS: u64 = 1_200;

#[test]
fn canary_gets_a_tenth() {
    let counts = counts(&ran(5, 600));
    let of = |workload| {
        total(&counts, |key| key.edge.reporter == Reporter::Source && key.edge.destination == Some(workload)) as f64
    };
    let share = of("reviews-v2") / (of("reviews-v1") + of("reviews-v2"));
    assert!((share - 0.1).abs() < 0.015, "{share}");
}

#[test]
fn equal_seeds_give_equal_pages_and_others_do_not() {
    let pages = |seed| {
        let simulation = ran(seed, 20);
        simulation.pods().iter().filter_map(|pod| simulation.page(&pod.name)).collect::<String>()
    };
    assert!(pages(1) == pages(1));
    assert!(pages(1) != pages(2));
}

#[test]
fn each_flag_is_raised_by_the_side_that_raises_it() {
    let counts = counts(&ran(2, CYCLE_SECONDS));
    for flag in ["FI", "DI", "UH", "UO", "UT"] {
        let source = total(&counts, |key| key.flags == flag && key.edge.reporter == Reporter::Source);
        let destination = total(&counts, |key| key.flags == flag && key.edge.reporter == Reporter::Destination);
        assert!(source > 0, "{flag} happens");
        assert_eq!(destination, 0, "{flag} is the caller's");
    }
    for flag in ["UC", "DC"] {
        assert!(total(&counts, |key| key.flags == flag && key.edge.reporter == Reporter::Destination) > 0);
        assert_eq!(total(&counts, |key| key.flags == flag && key.edge.reporter == Reporter::Source), 0);
    }
    assert!(counts.keys().filter(|key| key.flags == "UH").all(|key| key.edge.destination.is_none()));
    assert!(counts.keys().filter(|key| key.flags == "DC").all(|key| key.code == 0 && key.grpc.is_none()));
}

#[test]
fn incidents_show_on_their_edge_and_pass() {
    let mut simulation = Simulation::new(4);
    let mut failed_before = 0;
    let mut failed_in = |simulation: &mut Simulation, until: u64| {
        simulation.step(Duration::from_secs(until));
        let failed = total(&counts(simulation), |key| {
            key.edge.service == "catalog" && key.edge.reporter == Reporter::Source && key.code >= 500
        });
        std::mem::replace(&mut failed_before, failed).abs_diff(failed)
    };
    let mut at = |simulation: &mut Simulation, from: u64, to: u64| {
        (from + 1..=to).map(|second| failed_in(simulation, second)).sum::<u64>()
    };
    assert!(at(&mut simulation, 0, 45) <= 8, "healthy at first");
    assert!(at(&mut simulation, 45, 105) > 200, "a third of the calls fail");
    at(&mut simulation, 105, 215);
    assert!(at(&mut simulation, 215, 275) <= 10, "recovers");
}

#[test]
fn an_open_circuit_breaker_shows_in_the_opt_in_statistics_of_its_caller_only() {
    let mut simulation = Simulation::new(9);
    for second in 600..=665 {
        simulation.step(Duration::from_secs(second));
    }
    let name = "outbound|8080|v1|reviews.shop.svc.cluster.local";
    let frontend = simulation.pods().iter().position(|pod| pod.workload.name == "frontend-v1").expect("a pod");
    let statistics = &simulation.proxies()[frontend].clusters[name];
    assert!(statistics.pending_overflow > 0);
    assert_eq!((statistics.ejections, statistics.ejected, statistics.hosts), (2, 2, 2));
    assert!(
        simulation
            .proxies()
            .iter()
            .zip(simulation.pods())
            .all(|(proxy, pod)| { pod.workload.statistics || proxy.clusters.is_empty() })
    );
}

#[test]
fn pages_have_the_25_labels_in_order_and_whole_histograms() {
    let simulation = ran(6, 30);
    let pod = simulation.pods().iter().find(|pod| pod.workload.name == "checkout-v1").expect("a pod");
    let page = simulation.page(&pod.name).expect("its page");
    let line = page.lines().find(|line| line.starts_with("istio_requests_total{")).expect("a request series");
    let names: Vec<&str> =
        line.split_once('{').expect("labels").1.split("\",").filter_map(|pair| pair.split('=').next()).collect();
    assert_eq!(
        names,
        [
            "reporter",
            "source_workload",
            "source_canonical_service",
            "source_canonical_revision",
            "source_workload_namespace",
            "source_principal",
            "source_app",
            "source_version",
            "source_cluster",
            "destination_workload",
            "destination_workload_namespace",
            "destination_principal",
            "destination_app",
            "destination_version",
            "destination_service",
            "destination_canonical_service",
            "destination_canonical_revision",
            "destination_service_name",
            "destination_service_namespace",
            "destination_cluster",
            "request_protocol",
            "response_code",
            "grpc_response_status",
            "response_flags",
            "connection_security_policy",
        ]
    );
    let bounds: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("istio_request_bytes_bucket{"))
        .take(20)
        .filter_map(|line| line.split_once("le=\"")?.1.split('"').next())
        .collect();
    assert_eq!(bounds[0], "0.5");
    assert_eq!(bounds[17..], ["1800000", "3600000", "+Inf"]);
}

#[test]
fn pages_parse_and_their_counters_only_rise() {
    let mut simulation = Simulation::new(8);
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    for second in [20, 60, 61, 120] {
        simulation.step(Duration::from_secs(second));
        let mut now = BTreeMap::new();
        for pod in simulation.pods() {
            let page = simulation.page(&pod.name).expect("its page");
            let lines = page.lines().map(|line| Ok(line.to_owned()));
            let scrape = prometheus_parse::Scrape::parse(lines).expect("a page parses");
            assert!(scrape.samples.len() >= 10, "{}: {}", pod.name, scrape.samples.len());
            let mut family = ("", "");
            for line in page.lines() {
                if let Some(words) = line.strip_prefix("# TYPE ") {
                    family = words.split_once(' ').expect("name and type");
                    continue;
                }
                let (series, value) = line.rsplit_once(' ').expect("series and value");
                assert!(series.starts_with(family.0), "{series} stands under its TYPE line {family:?}");
                if family.1 != "gauge" {
                    now.insert(format!("{} {series}", pod.name), value.parse::<f64>().expect("a number"));
                }
            }
        }
        for (series, value) in &before {
            assert!(now.get(series).is_some_and(|later| later >= value), "{series} fell or went");
        }
        before = now;
    }
}

#[test]
fn tcp_bytes_agree_on_both_sides_and_the_outside_is_reported_once() {
    let simulation = ran(3, 60);
    let sum = |reporter, service| {
        let reports = simulation.proxies().iter().flat_map(|proxy| &proxy.connections);
        let of_edge = reports.filter(|(edge, _)| edge.reporter == reporter && edge.service == service);
        of_edge.map(|(_, series)| series.totals.sent_bytes).sum::<u64>()
    };
    assert!(sum(Reporter::Source, "redis-cart") > 0);
    assert_eq!(sum(Reporter::Source, "redis-cart"), sum(Reporter::Destination, "redis-cart"));
    for outside in ["orders-db.example.com", "PassthroughCluster"] {
        assert!(sum(Reporter::Source, outside) > 0);
        assert_eq!(sum(Reporter::Destination, outside), 0);
    }
}

#[test]
fn after_a_long_pause_only_the_last_seconds_are_caught_up() {
    let mut simulation = Simulation::new(1);
    simulation.step(Duration::from_secs(1));
    simulation.step(Duration::from_secs(36_000));
    let entered = total(&counts(&simulation), |key| {
        key.edge.source == Some("istio-ingressgateway") && key.edge.reporter == Reporter::Source
    });
    assert!((100..700).contains(&entered), "{entered}");
}
