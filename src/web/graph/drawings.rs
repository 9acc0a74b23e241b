//! The drawings that open pages show, so that the next one leaves what stays in its place.
//!
//! In: drawings, as they are made. Out: a former one by its name, which an open page says when it asks again. Invariant:
//! bounded by [`WEIGHT_MAX`]; those unused for longest are forgotten, and a page whose drawing is forgotten (or was made by
//! another replica, or before a restart) is arranged anew.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::http::HeaderMap;
use parking_lot::Mutex;

use crate::graph::ServiceGraph;
use crate::graph::layout::keep::Kept;

/// The header by which a page names the drawing it shows.
const HEADER: &str = "meshscope-drawing";
/// Nodes and edges of all drawings that are remembered, about 250 bytes each.
const WEIGHT_MAX: usize = 80_000;

/// Drawings by their names, the one last used at the end. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Drawings(Arc<Mutex<VecDeque<Named>>>);

/// A drawing and its name.
type Named = (u64, Arc<Kept>);

impl Drawings {
    /// The drawing that a page shows.
    pub(super) fn shown(&self, headers: &HeaderMap) -> Option<Arc<Kept>> {
        let (name, _) = asked(headers)?.split_once('.')?;
        let name = u64::from_str_radix(name, 16).ok()?;
        let held = self.0.lock();
        held.iter().find(|(own, _)| *own == name).map(|(_, kept)| Arc::clone(kept))
    }

    /// Remembers a drawing; its name.
    pub(super) fn remember(&self, kept: Kept) -> String {
        self.remember_within(WEIGHT_MAX, kept)
    }

    fn remember_within(&self, weight_max: usize, kept: Kept) -> String {
        let name = kept.name();
        let mut held = self.0.lock();
        held.retain(|(own, _)| *own != name);
        held.push_back((name, Arc::new(kept)));
        let mut weight: usize = held.iter().map(|(_, kept)| kept.weight()).sum();
        while weight > weight_max
            && held.len() > 1
            && let Some((_, oldest)) = held.pop_front()
        {
            weight -= oldest.weight();
        }
        format!("{name:016x}")
    }
}

/// What an open page says of the drawing it shows: a name that the server gave it. A page that is new says nothing.
pub(super) fn asked(headers: &HeaderMap) -> Option<&str> {
    headers.get(HEADER)?.to_str().ok()
}

/// A name for which edges of a drawing are seen: a drawing remembers edges that come and go. A page says the name of its
/// drawing, a point, and this; where both are the same, every path is there already.
pub(super) fn edges_name(graph: &ServiceGraph) -> String {
    let mut hasher = DefaultHasher::new();
    graph.edges.iter().for_each(|edge| edge.id.hash(&mut hasher));
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::graph::layout::Options;
    use crate::web::graph::tests::graph;

    fn headers(name: &str) -> HeaderMap {
        HeaderMap::from_iter([(HEADER.parse().unwrap(), format!("{name}.0").parse().unwrap())])
    }

    #[test]
    fn a_drawing_is_found_by_its_name_until_others_take_its_room() {
        let drawings = Drawings::default();
        let of = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("shop/b{n}")).collect();
            let calls: Vec<_> = names.iter().map(|name| ("shop/a", &**name, &[("200", 1.0)][..])).collect();
            Kept::draw(None, &graph(&calls), &Options::default(), &[])
        };
        // Three edges and four nodes weigh seven.
        let remember = |count: usize| drawings.remember_within(20, of(count));
        let name = remember(3);
        assert_eq!(drawings.shown(&headers(&name)).as_deref(), Some(&of(3)));
        assert_eq!(remember(3), name, "equal drawings are one");
        for wrong in ["", "nonsense", "00", "ffffffffffffffffffff", "-1"] {
            assert_eq!(drawings.shown(&headers(wrong)), None, "{wrong}");
        }
        assert_eq!(drawings.shown(&HeaderMap::new()), None);
        let other = remember(4);
        assert!(drawings.shown(&headers(&name)).is_some());
        let (again, last) = (remember(3), remember(5));
        assert_eq!(drawings.shown(&headers(&other)), None, "unused for longest");
        assert!(drawings.shown(&headers(&again)).is_some() && drawings.shown(&headers(&last)).is_some());
        let bare = HeaderMap::from_iter([(HEADER.parse().unwrap(), last.parse().unwrap())]);
        assert_eq!(drawings.shown(&bare), None, "half a name is none");
        let huge = remember(100);
        assert!(drawings.shown(&headers(&huge)).is_some(), "the newest is always there");
        assert_eq!(drawings.shown(&headers(&last)), None);
    }

    #[test]
    fn a_page_is_told_apart_by_which_edges_it_shows() {
        let one = graph(&[("shop/a", "shop/b", &[("200", 1.0)])]);
        let other = graph(&[("shop/a", "shop/c", &[("200", 1.0)])]);
        let busier = graph(&[("shop/a", "shop/b", &[("200", 9.0)])]);
        assert_ne!(edges_name(&one), edges_name(&other));
        assert_eq!(edges_name(&one), edges_name(&busier), "numbers do not matter");
        assert_eq!(asked(&headers("1")), Some("1.0"));
    }
}
