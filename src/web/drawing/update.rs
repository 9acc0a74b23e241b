//! A large drawing as data, for an open page that puts it into the drawing it shows.
//!
//! In: a [`Drawing`]. Out: JSON that is text in any place of an HTML page. A browser takes half a second to make 5,000 edges
//! anew out of markup, and a few milliseconds to change what differs; `web/scripts/patch.ts` does that, and knows the order of
//! the fields.

use serde::Serialize;

use super::{Drawing, DrawnEdge, DrawnNode};

/// All nodes and edges, in the order in which they are drawn.
#[derive(Serialize)]
struct Update<'a> {
    /// The address of the page with nothing selected.
    base: &'a str,
    nodes: Vec<Node<'a>>,
    edges: Vec<Edge<'a>>,
}

/// Id, class, title, name, place, numbers; left, top, width, height.
type Node<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, [f64; 4]);
/// Id, ids of its ends, class, title, path (empty where the page has it), health, whether it has layers.
type Edge<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, &'a str, u8);

/// The drawing as JSON without a character that HTML would read. A page that shows the `same` edges at the same places has
/// their paths, which are most of it.
pub(in crate::web) fn json(drawing: &Drawing, base: &str, same: bool) -> String {
    let update = Update {
        base,
        nodes: drawing.nodes.iter().map(node).collect(),
        edges: drawing.edges.iter().map(|one| edge(one, same)).collect(),
    };
    // Outside of strings JSON has none of them.
    let text = serde_json::to_string(&update).expect("invariant: names and finite numbers are JSON");
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn node(node: &DrawnNode) -> Node<'_> {
    let DrawnNode { id, x, y, width, height, name, place, numbers, title, class } = node;
    (id, class, title, name, place, numbers, [*x, *y, *width, *height])
}

fn edge(edge: &DrawnEdge, same: bool) -> Edge<'_> {
    let DrawnEdge { id, path, label: _, title, class, health, source, target, layered } = edge;
    let path = if same { "" } else { path };
    (id, source, target, class, title, path, health, u8::from(*layered))
}
