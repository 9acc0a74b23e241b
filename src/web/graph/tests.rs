//! The page of the graph, rendered from graphs built of edge minutes.
#![allow(clippy::unwrap_used, reason = "tests")]

use askama::Template as _;

use super::*;
use crate::graph::{GraphOptions, build, testing};
use crate::model::workload::Workload;
use crate::model::{EdgeMinute, Timestamp};
use crate::web::hostile;

const FROM: i64 = 1_763_834_400_000;

/// Caller and called, both `namespace/name`, and answers by code.
pub(super) type Call<'a> = (&'a str, &'a str, &'a [(&'a str, f64)]);

/// The graph of five minutes of calls.
pub(super) fn graph(calls: &[Call]) -> ServiceGraph {
    let workload = |place: &str| {
        let (namespace, name) = place.split_once('/').unwrap();
        let (namespace, name) = (Some(namespace.into()), Some(name.into()));
        Workload { namespace, name, ..Workload::default() }
    };
    let minute = |(source, destination, answers): &Call| {
        let edge = testing::calls(workload(source), workload(destination));
        testing::answered(Timestamp::from_millis(FROM), edge, answers)
    };
    let minutes: Vec<EdgeMinute> = calls.iter().map(minute).collect();
    build(&minutes, &GraphOptions::new(range().from, range().to))
}

fn range() -> Range {
    let (from, to) = (Timestamp::from_millis(FROM), Timestamp::from_millis(FROM + 300_000));
    Range { from, to, text: "5m".to_owned(), live: true, now: to }
}

fn shop() -> ServiceGraph {
    graph(&[
        ("shop/frontend", "shop/catalog", &[("200", 900.0), ("500", 100.0)]),
        ("shop/frontend", "pay/payment", &[("200", 600.0)]),
        ("pay/payment", "bank/ledger", &[("200", 300.0)]),
    ])
}

fn rendered(asked: Address, graph: ServiceGraph) -> String {
    page_of(Frame::around("graph", 2), asked, graph, (View::default(), &[BoxKind::Namespace], None), &range())
        .0
        .render()
        .unwrap()
}

#[test]
fn every_link_keeps_the_rest_of_the_address() {
    let asked = Address {
        range: Some("1h".into()),
        namespace: Some("a b&c".into()),
        select: Some("x>y".into()),
        ..Address::default()
    };
    assert_eq!(asked.href("view", "app"), "/graph?range=1h&namespace=a+b%26c&select=x%3Ey&view=app");
    assert_eq!(asked.href("select", ""), "/graph?range=1h&namespace=a+b%26c");
    assert_eq!(Address::default().href("select", ""), "/graph");
}

#[test]
fn a_namespace_keeps_the_edges_that_touch_it() {
    let asked = Address { namespace: Some("bank".into()), ..Address::default() };
    let mut graph = shop();
    let names: Vec<String> = asked.namespaces(&graph).into_iter().map(|choice| choice.name).collect();
    assert_eq!(names, ["All namespaces", "bank", "pay", "shop"]);
    asked.keep_namespace(&mut graph);
    let names: Vec<&str> = graph.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["ledger", "payment"]);

    let nowhere = Address { namespace: Some("<b>".into()), ..Address::default() };
    let page = rendered(nowhere, shop());
    assert!(page.contains("There is no edge to draw."));
    hostile::assert_harmless(&page);
}

#[test]
fn the_table_begins_with_what_fails_then_the_busiest() {
    let graph = shop();
    let order: Vec<&str> = worst_first(&graph).iter().map(|edge| &*graph.node(&edge.target).unwrap().name).collect();
    assert_eq!(order, ["catalog", "payment", "ledger"]);
}

#[test]
fn a_selected_edge_says_rate_errors_and_how_requests_ended() {
    let graph = shop();
    let edge = worst_first(&graph)[0].id.to_string();
    let detail = Address { select: Some(edge), ..Address::default() }.detail(&graph).unwrap();
    assert_eq!(detail.title, "frontend → catalog");
    assert!(detail.facts.contains(&("Requests", "3.33/s".to_owned())), "{:?}", detail.facts);
    assert!(detail.facts.contains(&("Errors", "10.0%".to_owned())));
    let shares: Vec<(&str, &str)> = detail.outcomes.iter().map(|one| (&*one.what, &*one.share)).collect();
    assert_eq!(shares, [("200", "90.0%"), ("500", "10.0%")]);

    let gone = Address { select: Some("left".into()), ..Address::default() }.detail(&graph).unwrap();
    assert_eq!(gone.title, "Not in this range");
    let page = rendered(Address { select: Some("left".into()), ..Address::default() }, shop());
    assert!(!page.contains(" far\""), "nothing is dimmed by what is not there");
}

#[test]
fn an_empty_mesh_says_why() {
    let page = rendered(Address::default(), graph(&[]));
    assert!(page.contains("There is no edge to draw."));
    assert!(page.contains("href=\"/targets\"") && page.contains("idle=1"));
    assert!(!page.contains("<svg width=\"0"));
}

#[test]
fn names_of_any_kind_stay_text() {
    for text in hostile::texts() {
        let place = format!("{}/{}", text.replace('/', "_"), text.replace('/', "_"));
        let graph = graph(&[("shop/frontend", &place, &[("200", 10.0), ("500", 1.0)])]);
        let ids: Vec<String> = graph
            .nodes
            .iter()
            .map(|n| &n.id)
            .chain(graph.edges.iter().map(|e| &e.id))
            .map(ToString::to_string)
            .collect();
        for id in ids {
            let page = rendered(Address { select: Some(id), ..Address::default() }, graph.clone());
            hostile::assert_harmless(&page);
            assert!(page.contains("<aside class=\"card\""));
        }
    }
}

#[test]
fn a_selection_dims_what_is_far_from_it() {
    let graph = shop();
    let edge = worst_first(&graph)[0].id.to_string();
    let drawing = draw(&graph, drawing::Look { selected: Some(&edge), ..Default::default() }).0;
    let far = drawing.nodes.iter().filter(|node| node.class.ends_with(" far")).map(|node| &*node.name);
    assert_eq!(far.collect::<Vec<_>>(), ["ledger", "payment"]);
    assert_eq!(drawing.edges.iter().filter(|edge| edge.class.ends_with(" selected")).count(), 1);
    assert!(drawing.edges.iter().all(|edge| edge.label.is_some()));
    let failing = drawing.edges.last().unwrap();
    assert_eq!(failing.id, edge, "what is selected lies on top");
    assert_eq!(failing.label.as_ref().unwrap().0, "3.33/s · 10.0% err");
}

#[test]
fn a_way_leaves_what_lies_on_it_and_names_the_shortest() {
    let mut graph = shop();
    let id = |graph: &ServiceGraph, name: &str| {
        graph.nodes.iter().find(|node| *node.name == *name).map(|node| node.id.to_string()).unwrap()
    };
    let (from, to) = (id(&graph, "frontend"), id(&graph, "ledger"));
    let asked = Address { way_from: Some(from.clone()), way_to: Some(to.clone()), ..Address::default() };
    let shown = asked.narrow(&mut graph);
    assert_eq!(
        shown.said.as_deref(),
        Some("Only ways from frontend to ledger are shown; the shortest: frontend → payment → ledger.")
    );
    assert_eq!(graph.nodes.iter().map(|node| &*node.name).collect::<Vec<_>>(), ["ledger", "payment", "frontend"]);
    assert_eq!(shown.clear.as_deref(), Some("/graph"));

    for (way_from, way_to, said) in [(&to, &from, "No calls lead"), (&from, &"nobody".to_owned(), "One end of the way")]
    {
        let mut graph = shop();
        let asked = Address { way_from: Some(way_from.clone()), way_to: Some(way_to.clone()), ..Address::default() };
        assert!(asked.narrow(&mut graph).said.unwrap().starts_with(said));
        assert_eq!(graph.edges.len(), 3, "all is shown");
    }
    let detail = Address { select: Some(from.clone()), ..Address::default() }.detail(&shop()).unwrap();
    assert_eq!(detail.ways.iter().map(|(_, name)| &**name).collect::<Vec<_>>(), ["payment", "catalog", "ledger"]);
    assert!(detail.beside.contains(&("way_from", from)));
}

#[test]
fn namespaces_stand_in_boxes_unless_told() {
    let of = |boxes: Option<&str>| Address { boxes: boxes.map(Into::into), ..Address::default() };
    assert_eq!(of(None).box_kinds(), Some(&[BoxKind::Namespace][..]));
    assert_eq!(of(Some("none")).box_kinds(), Some(&[][..]));
    assert_eq!(of(Some("<b>")).box_kinds(), None);
    let names = |kinds: &[BoxKind]| {
        draw(&shop(), drawing::Look { kinds, ..Default::default() })
            .0
            .boxes
            .into_iter()
            .map(|one| one.title)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&[BoxKind::Namespace]), ["namespace bank", "namespace pay", "namespace shop"]);
    assert_eq!(names(&[]), [""; 0]);
    assert!(rendered(Address::default(), shop()).contains("class=\"frame namespace\""));
}

#[test]
fn a_range_is_compared_with_the_one_before_or_with_any_other() {
    let range = range();
    let other = |text: &str| {
        changes::other_range(Some(text), &range)
            .map(|range| range.map(|range| (range.from.as_millis() - FROM, range.to.as_millis() - FROM)))
    };
    assert_eq!(other(""), Ok(None));
    assert_eq!(other("1"), Ok(Some((-300_000, 0))));
    assert_eq!(other(&(FROM / 1000 - 3600).to_string()), Ok(Some((-3_900_000, -3_600_000))));
    assert!(other("soon").unwrap_err().starts_with("compare: "));
    assert!(other("2049-01-01T00:00:00Z").unwrap_err().contains("in the future"));
}

#[test]
fn the_failing_call_that_explains_others_is_named_first() {
    let graph = graph(&[
        ("shop/web", "shop/cart", &[("200", 900.0), ("500", 100.0)]),
        ("shop/cart", "shop/stock", &[("200", 900.0), ("500", 100.0)]),
    ]);
    let asked = Address::default();
    let causes = asked.causes(&graph);
    assert!(causes[0].0.contains("stock"), "{causes:?}");
    assert!(causes[0].1.starts_with("/graph?select="));
}

#[test]
fn a_page_that_says_what_it_shows_keeps_it_in_place() {
    let (few, many) = (
        shop(),
        graph(&[
            ("shop/frontend", "shop/catalog", &[("200", 900.0), ("500", 100.0)]),
            ("shop/frontend", "pay/payment", &[("200", 600.0)]),
            ("pay/payment", "bank/ledger", &[("200", 300.0)]),
            ("shop/catalog", "bank/ledger", &[("200", 300.0)]),
            ("shop/catalog", "shop/images", &[("200", 300.0)]),
        ]),
    );
    let kinds = [BoxKind::Namespace];
    let look = drawing::Look { kinds: &kinds, ..Default::default() };
    let (before, kept) = draw(&few, look);
    let (after, _) = draw(&many, drawing::Look { former: Some(&kept), ..look });
    assert_eq!((after.nodes.len(), after.edges.len()), (5, 5));
    for node in &before.nodes {
        let same = after.nodes.iter().find(|other| other.id == node.id).unwrap();
        assert!((same.x - node.x).abs() < 1.0 && (same.y - node.y).abs() < 120.0, "{}", node.name);
    }
}

#[test]
fn an_open_page_gets_a_large_drawing_as_data_that_is_no_markup() {
    for text in hostile::texts() {
        let name = text.replace('/', "_");
        let graph = graph(&[("shop/frontend", &format!("shop/{name}"), &[("200", 10.0)])]);
        let (page, kept) = page_of(
            Frame::around("graph", 2),
            Address { namespace: Some("shop".into()), ..Address::default() },
            graph.clone(),
            (View::default(), &[], None),
            &range(),
        );
        let data = drawing::update::json(&page.drawing, &page.close, false);
        assert!(!data.contains(['<', '>', '&']), "{data}");
        let read: serde_json::Value = serde_json::from_str(&data).unwrap();
        assert_eq!(read["base"], "/graph?namespace=shop");
        let ids = |list: &serde_json::Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|one| one[0].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ids(&read["edges"]), graph.edges.iter().map(|edge| edge.id.to_string()).collect::<Vec<_>>());
        assert_eq!(ids(&read["nodes"]), graph.nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>());
        assert_eq!(read["edges"][0][5], page.drawing.edges[0].path);
        let same = drawing::update::json(&page.drawing, &page.close, true);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&same).unwrap()["edges"][0][5], "", "the page has it");

        let page = Page { update: Some(data), drawn: format!("{:x}", kept.name()), ..page }.render().unwrap();
        hostile::assert_harmless(&page);
        assert!(!page.contains("class=\"line\"") && page.contains("data-group=\"frames\""), "nothing is told twice");
    }
}

#[test]
fn what_fails_is_drawn_over_what_does_well() {
    let drawing = draw(&shop(), drawing::Look::default()).0;
    assert_eq!(drawing.edges.iter().map(|edge| edge.health).collect::<Vec<_>>(), ["healthy", "healthy", "degraded"]);
    let ids: HashSet<&str> = drawing.edges.iter().map(|edge| &*edge.id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_name_does_not_turn_round_the_sentence_it_stands_in() {
    let graph = graph(&[("shop/web", "shop/\u{202e}cart", &[("200", 900.0), ("500", 100.0)])]);
    let (sentence, _) = &Address::default().causes(&graph)[0];
    assert!(sentence.contains("⟨U+202E⟩cart") && !sentence.contains('\u{202e}'), "{sentence}");
    let drawing = draw(&graph, drawing::Look::default()).0;
    assert!(!drawing.edges[0].title.contains('\u{202e}') && !drawing.nodes[0].title.contains('\u{202e}'));
}

#[test]
fn what_is_read_out_begins_with_what_is_drawn_and_has_the_whole_name() {
    let (long, namespace) = (format!("payment-{}", "very-long-".repeat(4)), "n".repeat(40));
    let graph = graph(&[("shop/web", &format!("{namespace}/{long}"), &[("200", 90.0)])]);
    let drawing = draw(&graph, drawing::Look::default()).0;
    for node in &drawing.nodes {
        let drawn = format!("{}\n{}\n{}\n", node.name, node.place, node.numbers);
        assert!(node.title.starts_with(&drawn), "{:?} begins with {drawn:?}", node.title);
    }
    let titles: Vec<&str> = drawing.nodes.iter().map(|node| &*node.title).collect();
    assert!(titles.iter().any(|title| title.ends_with(&format!("\n{long}, {namespace}"))), "{titles:?}");
    assert!(titles.iter().all(|title| title.matches("shop").count() < 2), "a short name is told once: {titles:?}");
}
