//! What stays of a drawing stands where it stood, whatever comes and goes.

use super::super::boxes::tests::graph;
use super::*;

const CALLS: [(&str, &str); 9] = [
    ("east/shop/web", "east/shop/cart"),
    ("east/shop/web", "east/shop/search"),
    ("east/shop/cart", "east/data/db"),
    ("east/shop/search", "east/data/index"),
    ("east/shop/web", "east/pay/bill"),
    ("east/pay/bill", "west/data/ledger"),
    ("west/data/ledger", "east/shop/web"),
    ("east/shop/cart", "west/data/ledger"),
    ("west/shop/web", "west/data/ledger"),
];
const KINDS: [&[BoxKind]; 3] = [&[], &[BoxKind::Namespace], &[BoxKind::Cluster, BoxKind::Namespace]];

fn with(more: &[(&'static str, &'static str)]) -> ServiceGraph {
    graph(&[&CALLS[..], more].concat())
}

fn draw(former: Option<&Kept>, graph: &ServiceGraph, kinds: &[BoxKind]) -> Kept {
    Kept::draw(former, graph, &Options::default(), kinds)
}

/// How far the nodes of both drawings moved, at most.
fn moved(before: (&Kept, &ServiceGraph), after: (&Kept, &ServiceGraph)) -> f64 {
    let (old, new) = (before.0.show(before.1).0, after.0.show(after.1).0);
    let places: HashMap<&str, (f64, f64)> = new.nodes.iter().map(|node| (&*node.id, (node.x, node.y))).collect();
    let far = |node: &NodeBox| places.get(&*node.id).map(|(x, y)| (x - node.x).abs().max((y - node.y).abs()));
    old.nodes.iter().filter_map(far).fold(0.0, f64::max)
}

/// Nodes lie apart and in their frames, frames apart or in one another, edges begin and end at their nodes.
fn assert_sound(kept: &Kept, graph: &ServiceGraph) {
    let (layout, frames) = kept.show(graph);
    assert_eq!((layout.nodes.len(), layout.edges.len()), (graph.nodes.len(), graph.edges.len()));
    let areas: Vec<Area> = layout.nodes.iter().map(of_node).collect();
    for (at, own) in areas.iter().enumerate() {
        assert!(
            own.left >= 0.0 && own.top >= 0.0 && own.right <= layout.width && own.bottom <= layout.height,
            "{own:?}"
        );
        assert!(!areas[at + 1..].iter().any(|other| other.meets(own)), "{:?}", layout.nodes[at]);
    }
    for (at, one) in frames.iter().enumerate() {
        for other in frames[at + 1..].iter().map(area) {
            assert!(!other.meets(&area(one)) || area(one).holds(&other), "{one:?} {other:?}");
        }
    }
    for (node, place) in graph.nodes.iter().zip(&areas) {
        let around: Vec<&str> =
            frames.iter().filter(|frame| area(frame).holds(place)).map(|frame| &*frame.name).collect();
        assert_eq!(around, names(node, &kept.levels).iter().map(|name| &**name).collect::<Vec<_>>(), "{place:?}");
    }
    for (edge, path) in graph.edges.iter().zip(&layout.edges) {
        let touches = |point: &Point, id: &str| {
            let place = of_node(&kept.nodes[id]);
            (place.left - 0.01..=place.right + 0.01).contains(&point.x)
                && (place.top - 0.01..=place.bottom + 0.01).contains(&point.y)
        };
        let [first, .., last] = path.points.as_slice() else { panic!("{edge:?} has no path") };
        assert!(touches(first, &edge.source) && touches(last, &edge.target), "{:?} {:?}", edge.id, path.points);
    }
}

#[test]
fn one_edge_more_or_less_moves_no_node() {
    for kinds in KINDS {
        for more in [
            ("east/shop/search", "east/pay/bill"),
            ("west/data/ledger", "east/data/db"),
            ("east/shop/cart", "east/shop/search"),
            ("east/shop/web", "east/shop/web"),
        ] {
            let (few, many) = (graph(&CALLS), with(&[more]));
            let first = draw(None, &few, kinds);
            let second = draw(Some(&first), &many, kinds);
            assert_sound(&second, &many);
            assert_eq!(moved((&first, &few), (&second, &many)), 0.0, "{more:?} in {kinds:?}");
            let third = draw(Some(&second), &few, kinds);
            assert_eq!(moved((&first, &few), (&third, &few)), 0.0);
            assert_eq!(third.show(&few), first.show(&few), "what has gone leaves no trace");
        }
    }
}

#[test]
fn a_node_that_comes_stands_beside_its_caller_and_moves_others_by_a_row_at_most() {
    let options = Options::default();
    let row = options.node_height + 2.0 * PADDING + TITLE_HEIGHT + options.row_gap.max(FRAME_GAP);
    for kinds in KINDS {
        for more in [
            ("east/shop/cart", "east/shop/prices"),
            ("east/shop/web", "east/shop/a-much-longer-name-than-others-have"),
            ("east/pay/bill", "east/bank/account"),
            ("west/data/ledger", "west/data/archive"),
            ("east/data/queue", "east/data/db"),
        ] {
            let (few, many) = (graph(&CALLS), with(&[more]));
            let first = draw(None, &few, kinds);
            let second = draw(Some(&first), &many, kinds);
            assert_sound(&second, &many);
            let far = moved((&first, &few), (&second, &many));
            assert!(far <= row.max(options.max_width), "{more:?} in {kinds:?} moved others by {far}");
            assert_eq!(second, draw(Some(&first), &many, kinds), "the same twice");
        }
    }
}

#[test]
fn what_comes_back_stands_where_it_stood() {
    let (all, less) = (graph(&CALLS), graph(&CALLS[..7]));
    let mut kept = draw(None, &all, KINDS[1]);
    let first = kept.show(&all);
    for _ in 0..100 {
        kept = draw(Some(&kept), &less, KINDS[1]);
        assert_sound(&kept, &less);
        kept = draw(Some(&kept), &all, KINDS[1]);
        assert_eq!(kept.show(&all), first, "coming and going is no disorder");
    }
}

#[test]
fn a_graph_that_has_become_another_is_arranged_anew() {
    let few = graph(&CALLS);
    let first = draw(None, &few, KINDS[1]);
    let others = graph(&[("east/a/one", "east/a/two"), ("east/a/two", "east/b/three")]);
    assert_eq!(draw(Some(&first), &others, KINDS[1]), draw(None, &others, KINDS[1]));
    assert_eq!(draw(Some(&first), &few, KINDS[0]), draw(None, &few, KINDS[0]), "other frames");
    let empty = ServiceGraph::default();
    assert_eq!(draw(Some(&first), &empty, KINDS[1]), draw(None, &empty, KINDS[1]));
    assert_eq!(draw(Some(&Kept::default()), &few, KINDS[1]), first);
    // One after another, each a little: at last it is worth a new arrangement.
    let (mut kept, mut calls) = (first, CALLS.to_vec());
    let names: Vec<String> = (0..40).map(|n| format!("east/shop/new-{n}")).collect();
    for name in &names {
        calls.push(("east/shop/web", name));
        let graph = graph(&calls);
        kept = draw(Some(&kept), &graph, KINDS[1]);
        assert_sound(&kept, &graph);
        assert!(kept.came <= DISORDER_MAX.max(graph.nodes.len() / 2));
    }
}

#[test]
fn drawings_that_differ_have_different_names() {
    let (few, many) = (graph(&CALLS), with(&[("east/shop/search", "east/pay/bill")]));
    let first = draw(None, &few, KINDS[1]);
    let second = draw(Some(&first), &many, KINDS[1]);
    assert_eq!(first.name(), draw(None, &few, KINDS[1]).name());
    assert_ne!(first.name(), second.name());
    assert_eq!(second.weight(), many.nodes.len() + many.edges.len());
}
