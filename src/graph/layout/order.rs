//! Orders each rank so that few links cross and namespaces stand together.
//!
//! In and out: [`Ranked`]. Barycentre sweeps from both sides; the order with the fewest crossings seen is kept.

use std::collections::HashMap;

use super::rank::{NO_GROUP, Ranked, Slot};

const SWEEPS: usize = 10;
const SWEEPS_WHEN_LARGE: usize = 4;
const LARGE: usize = 8_000;

/// Orders the ranks.
pub(super) fn order(ranked: &mut Ranked) {
    let mut position = vec![0.0; ranked.slots.len()];
    ranked.ranks.iter().for_each(|rank| set_positions(rank, &mut position));
    let mut best = (crossings(ranked, &position), ranked.ranks.clone());
    let sweeps = if ranked.slots.len() > LARGE { SWEEPS_WHEN_LARGE } else { SWEEPS };
    for sweep in 0..sweeps {
        if best.0 == 0 {
            break;
        }
        let rightwards = sweep % 2 == 0;
        let depth = ranked.ranks.len();
        for step in 0..depth {
            let rank = if rightwards { step } else { depth - 1 - step };
            sort_rank(&mut ranked.ranks[rank], &ranked.slots, &mut position, rightwards);
        }
        let count = crossings(ranked, &position);
        if count < best.0 {
            best = (count, ranked.ranks.clone());
        }
    }
    ranked.ranks = best.1;
}

fn set_positions(rank: &[usize], position: &mut [f64]) {
    // Relative, so that a rank of two and one of twenty compare.
    let width = rank.len().max(1) as f64;
    for (at, slot) in rank.iter().enumerate() {
        position[*slot] = (at as f64 + 0.5) / width;
    }
}

fn sort_rank(rank: &mut [usize], slots: &[Slot], position: &mut [f64], rightwards: bool) {
    let centre = |slot: usize, position: &[f64]| {
        let links = if rightwards { &slots[slot].left } else { &slots[slot].right };
        if links.is_empty() {
            position[slot]
        } else {
            links.iter().map(|link| position[*link]).sum::<f64>() / links.len() as f64
        }
    };
    let mut keyed: Vec<(f64, f64, f64, usize)> = Vec::with_capacity(rank.len());
    let mut groups: HashMap<u32, (f64, f64)> = HashMap::new();
    for slot in rank.iter().copied() {
        let own = centre(slot, position);
        keyed.push((own, own, position[slot], slot));
        if slots[slot].group != NO_GROUP {
            let (sum, members) = groups.entry(slots[slot].group).or_default();
            (*sum, *members) = (*sum + own, *members + 1.0);
        }
    }
    for key in &mut keyed {
        if let Some((sum, members)) = groups.get(&slots[key.3].group) {
            key.0 = sum / members;
        }
    }
    // Groups by their centre, within a group by own centre; ties keep the order they had.
    keyed.sort_by(|a, b| {
        let groups = |key: &(f64, f64, f64, usize)| slots[key.3].group;
        a.0.total_cmp(&b.0)
            .then_with(|| groups(a).cmp(&groups(b)))
            .then_with(|| a.1.total_cmp(&b.1))
            .then_with(|| a.2.total_cmp(&b.2))
            .then_with(|| a.3.cmp(&b.3))
    });
    rank.iter_mut().zip(&keyed).for_each(|(place, key)| *place = key.3);
    set_positions(rank, position);
}

/// Crossings between all neighbouring ranks, by counting inversions in a Fenwick tree.
fn crossings(ranked: &Ranked, position: &[f64]) -> u64 {
    let mut total = 0;
    for pair in ranked.ranks.windows(2) {
        let width = pair[1].len() as f64;
        let place = |slot: usize| (position[slot] * width) as usize;
        let mut tree = vec![0_u32; pair[1].len() + 1];
        let mut seen = 0_u64;
        for slot in &pair[0] {
            let mut ends: Vec<usize> = ranked.slots[*slot].right.iter().map(|to| place(*to)).collect();
            ends.sort_unstable();
            for end in &ends {
                // Links seen so far that end beyond this one cross it.
                let (mut at, mut up_to) = (end + 1, 0_u64);
                while at > 0 {
                    up_to += u64::from(tree[at]);
                    at &= at - 1;
                }
                total += seen - up_to;
            }
            for end in ends {
                let mut at = end + 1;
                while at < tree.len() {
                    tree[at] += 1;
                    at += at & at.wrapping_neg();
                }
                seen += 1;
            }
        }
    }
    total
}
