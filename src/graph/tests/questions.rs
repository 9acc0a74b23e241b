//! What is asked of a graph: causes, whom a failure hurts, ways, what changed, ways on in an expression.

use super::*;
use crate::graph::compare::{Change, compare};
use crate::graph::find::complete;

/// A chain a → b → c with errors that rise from c, beside b → d without any, and e → f whose errors never left e.
fn failing() -> Vec<EdgeMinute> {
    use Protocol::Http;
    let add = |source: &str, target: &str, requests: &[(&str, &str, f64)]| {
        let service = format!("{}.shop", target.trim_end_matches("-v1"));
        let ends = (format!("shop/{source}"), format!("shop/{target}"));
        minute(FROM, key(Reporter::Source, Http, &ends.0, &ends.1, &service), requests)
    };
    vec![
        add("a-v1", "b-v1", &[("200", "-", 900.0), ("500", "-", 100.0)]),
        add("b-v1", "c-v1", &[("200", "-", 300.0), ("500", "-", 100.0)]),
        add("b-v1", "d-v1", &[("200", "-", 600.0)]),
        add("e-v1", "f-v1", &[("200", "-", 50.0), ("503", "UO", 50.0)]),
        add("f-v1", "g-v1", &[("200", "-", 10.0), ("500", "-", 40.0)]),
    ]
}

#[test]
fn the_edge_that_explains_the_others_is_the_first_cause() {
    let graph = build(&failing(), &options(View::Workload));
    let causes = cause::causes(&graph);
    let shown: Vec<(String, f64, usize, usize)> = causes
        .iter()
        .map(|one| {
            let id = one.edge.replace("workload:/shop/", "").replace("-v1", "");
            (id, (one.own_share * 100.0).round(), one.explains.len(), one.explained_by.len())
        })
        .collect();
    let expect = [("b>c", 100.0, 1, 0), ("e>f", 100.0, 0, 0), ("f>g", 100.0, 0, 0), ("a>b", 0.0, 0, 1)];
    assert_eq!(shown, expect.map(|(id, own, up, down)| (id.to_owned(), own, up, down)));
    assert!(causes[0].sentence.ends_with("it explains 100% of the errors of a-v1 → b-v1"), "{}", causes[0].sentence);
    assert!(causes[3].sentence.contains("come from below, most from b-v1 → c-v1"), "{}", causes[3].sentence);
    assert_eq!(cause::causes(&ServiceGraph::default()), []);
}

#[test]
fn a_cycle_of_failures_is_walked_once() {
    let add = |source: &str, target: &str| {
        let edge = key(Reporter::Source, Protocol::Http, source, target, "x.shop");
        minute(FROM, edge, &[("500", "-", 100.0)])
    };
    let minutes = [add("shop/a", "shop/b"), add("shop/b", "shop/c"), add("shop/c", "shop/a"), add("shop/a", "shop/a")];
    let graph = build(&minutes, &options(View::Workload));
    assert_eq!(cause::causes(&graph).len(), 4);
    let hurt = walk::weighted_blast_radius(&graph, "workload:/shop/a");
    assert!(hurt.iter().all(|one| (0.0..=1.0).contains(&one.share)), "{hurt:?}");
}

#[test]
fn a_failure_hurts_callers_by_the_share_of_their_calls_that_lead_there() {
    let graph = build(&failing(), &options(View::Workload));
    let hurt = walk::weighted_blast_radius(&graph, "workload:/shop/c-v1");
    let shown: Vec<(&str, usize, f64, f64)> = hurt
        .iter()
        .map(|one| (&*one.node, one.hops, (one.share * 1e6).round() / 1e6, (one.rate * 120.0).round()))
        .collect();
    assert_eq!(shown, [("workload:/shop/a-v1", 2, 0.4, 400.0), ("workload:/shop/b-v1", 1, 0.4, 400.0)]);
    assert_eq!(walk::weighted_blast_radius(&graph, "workload:/shop/nobody"), []);
}

#[test]
fn a_way_is_the_shortest_and_the_busiest_of_the_short_ones() {
    let graph = build(&shop(), &options(View::Workload));
    let id = |name: &str| format!("workload:/shop/{name}");
    let way = walk::path(&graph, "workload:/istio-system/istio-ingressgateway", &id("pay-v1")).unwrap();
    assert_eq!(way.len(), 3);
    assert_eq!(&*way[2], "workload:/shop/cart-v1>workload:/shop/pay-v1");
    assert_eq!(walk::path(&graph, &id("web-v1"), &id("web-v1")), Some(vec![]));
    assert_eq!(walk::path(&graph, &id("pay-v1"), &id("web-v1")), None);
    assert_eq!(walk::path(&graph, &id("nobody"), &id("web-v1")), None);
    assert_eq!(walk::between(&graph, &id("web-v1"), &id("pay-v2")).len(), 3);
    assert!(walk::between(&graph, &id("pay-v2"), &id("web-v1")).is_empty());
}

#[test]
fn what_changed_is_more_than_chance() {
    let edge = |target: &str| key(Reporter::Source, Protocol::Http, "shop/web-v1", target, "x.shop");
    let slower = |minute: EdgeMinute| {
        let latency = LatencyHistogram { counts: vec![0.0, 0.0, 100.0, 0.0], ..minute.latency.clone() };
        EdgeMinute { latency, ..minute }
    };
    let before = [
        minute(FROM, edge("shop/worse"), &[("200", "-", 990.0), ("500", "-", 10.0)]),
        minute(FROM, edge("shop/better"), &[("200", "-", 50.0), ("500", "-", 50.0)]),
        minute(FROM, edge("shop/chance"), &[("200", "-", 98.0), ("500", "-", 2.0)]),
        minute(FROM, edge("shop/gone"), &[("200", "-", 50.0)]),
        minute(FROM, edge("shop/slow"), &[("200", "-", 100.0)]),
        minute(FROM, edge("shop/few"), &[("200", "-", 3.0)]),
    ];
    let after = [
        minute(FROM, edge("shop/worse"), &[("200", "-", 900.0), ("500", "-", 100.0)]),
        minute(FROM, edge("shop/better"), &[("200", "-", 100.0)]),
        minute(FROM, edge("shop/chance"), &[("200", "-", 96.0), ("500", "-", 4.0)]),
        minute(FROM, edge("shop/new"), &[("200", "-", 50.0)]),
        slower(minute(FROM, edge("shop/slow"), &[("200", "-", 100.0)])),
        minute(FROM, edge("shop/few"), &[("500", "-", 3.0)]),
    ];
    let (before, after) = (build(&before, &options(View::Workload)), build(&after, &options(View::Workload)));
    let found = compare(&before, &after);
    let shown: Vec<(&str, Change)> =
        found.edges.iter().map(|one| (one.id.rsplit('/').next().unwrap(), one.change)).collect();
    let expect = [
        ("worse", Change::Worse),
        ("slow", Change::Worse),
        ("new", Change::New),
        ("gone", Change::Gone),
        ("better", Change::Better),
        ("chance", Change::Same),
        ("few", Change::Same),
    ];
    assert_eq!(shown, expect);
    assert_eq!(found.edges[0].sentence, "errors 1% → 10%");
    assert!(found.edges[1].sentence.starts_with("p95 "), "{}", found.edges[1].sentence);
    let names = |nodes: &[&Node]| nodes.iter().map(|node| node.name.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&found.nodes_new), names(&found.nodes_gone)), (vec!["new".to_owned()], vec!["gone".to_owned()]));
    assert!(compare(&after, &after).edges.iter().all(|one| one.change == Change::Same));
}

#[test]
fn an_expression_is_completed_by_what_may_stand_next() {
    let graph = build(&shop(), &options(View::Workload));
    let check = |before: &str, from: usize, first: &[&str]| {
        let found = complete(before, &graph);
        let texts: Vec<&str> = found.iter().map(|one| one.text.as_str()).take(first.len()).collect();
        assert_eq!(texts, first, "{before}");
        assert!(found.iter().all(|one| one.from == from), "{before}: {found:?}");
    };
    check("", 0, &["rate", "out", "errors"]);
    check("er", 0, &["errors"]);
    check("rate > 1 and name", 13, &["namespace"]);
    check("name ", 5, &["=", "!="]);
    check("errors ", 7, &["=", "!=", ">", "<"]);
    check("errors >", 8, &["1%", "5%"]);
    check("name = ca", 7, &["cart-v1"]);
    check("namespace = ", 12, &["amb", "istio-system", "shop"]);
    check("flag = U", 7, &["UF", "UH", "URX"]);
    check("healthy ", 8, &["and", "or"]);
    check("not ", 4, &["rate"]);
    check("(", 1, &["rate"]);
    check("name = \"unfinished", 18, &["rate"]);
    check("né = ", 5, &[]);
    // What is offered can be read.
    for before in ["name = ", "kind = ", "code = ", "sourceprincipal = ", "service = "] {
        for one in complete(before, &graph) {
            assert!(Expression::parse(&format!("{before}{}", one.text)).is_ok(), "{one:?}");
        }
    }
}

#[test]
fn a_service_nobody_answers_for_is_dead() {
    let graph = build(&shop(), &options(View::Workload));
    let dead: Vec<&str> = graph.nodes.iter().filter(|node| node.is_dead()).map(|node| &*node.id).collect();
    assert_eq!(dead, ["service:/shop/pay"]);
    assert_eq!(Expression::parse("dead").unwrap().find(&graph).nodes.len(), 1);
}

#[test]
fn one_service_may_have_tolerances_of_its_own() {
    use health::{Changed, Override, Rules, Tolerance};
    let tolerant = Changed {
        server_error: Some(Tolerance { degraded: 90.0, failure: None }),
        no_response: Some(Tolerance { degraded: 90.0, failure: None }),
        ..Changed::default()
    };
    let overrides = [Override { namespace: Some("shop".into()), name: Some("pay".into()), health: tolerant }];
    let rules = Rules::new(health::Thresholds::default(), &overrides);
    let graph = build(&shop(), &GraphOptions { health: rules, ..options(View::Workload) });
    let edge = graph.edge("workload:/shop/cart-v1>workload:/shop/pay-v1").unwrap();
    assert_eq!(edge.health.status, Status::Healthy, "{}", edge.health.reason);
    assert_eq!(graph.node("workload:/shop/pay-v1").unwrap().health.status, Status::Healthy);
}
