//! The keys that a stored batch of spans is found by: one for each trace, service, operation, attribute, and for what failed
//! or took long in it.
//!
//! Pure. Invariant: keys stand in the database, so they never change. Two things may have one key: who finds a batch by a key
//! still looks into it.

use std::collections::HashSet;
use std::sync::Arc;

use super::fnv1a;
use super::span::{TraceId, TracePart};

/// Classes of the longest span: the number of these nanoseconds that it reaches. What is faster than the first is common.
const SLOW_BOUNDS: [u64; 6] = [100_000_000, 300_000_000, 1_000_000_000, 3_000_000_000, 10_000_000_000, 30_000_000_000];

/// Of a trace: one half of its id over the other, so that ids of 64 bits differ too.
pub fn of_trace(id: &TraceId) -> i64 {
    let half = |at: usize| i64::from_be_bytes(std::array::from_fn(|byte| id[at + byte]));
    half(0) ^ half(8)
}

/// Of the text of an attribute's value. Numbers and booleans have the key of their text, a list one for each member.
///
/// FNV-1a of name, a zero byte and value, with the finalizer of MurmurHash3 so that all bits vary.
pub fn of_attribute(name: &str, value: &str) -> i64 {
    let mut hash = fnv1a(name.bytes().chain([0]).chain(value.bytes()));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash ^ (hash >> 33)) as i64
}

/// Of a service with a span.
pub fn of_service(service: &str) -> i64 {
    of_attribute(":service", service)
}

/// Of the name of a span.
pub fn of_operation(operation: &str) -> i64 {
    of_attribute(":operation", operation)
}

/// Of a batch that has more attributes than keys are kept of: it may have any.
pub fn of_more_attributes() -> i64 {
    of_attribute(":more", "")
}

/// Of a trace with a failed span: any such, or one with that service.
pub fn of_error(service: Option<&str>) -> i64 {
    of_attribute(":error", service.unwrap_or(""))
}

/// Of a trace with a span of at least `least_ns`, any such or one with that service: one key for each class that it can be of.
/// `None` when it is too common to be sought.
pub fn of_slow(least_ns: u64, service: Option<&str>) -> Option<Vec<i64>> {
    let class = slow_class(least_ns);
    (class > 0).then(|| (class..=SLOW_BOUNDS.len()).map(|class| of_class(class, service)).collect())
}

/// All that a batch of these parts is found by, with the keys of its attributes: sorted, each once.
pub fn of_batch(parts: &[TracePart], attributes: Vec<i64>) -> Vec<i64> {
    let mut keys = attributes;
    keys.extend(parts.iter().map(|part| of_trace(&part.trace_id)));
    let services: HashSet<&Arc<str>> = parts.iter().flat_map(|part| &part.services).collect();
    keys.extend(services.into_iter().map(|service| of_service(service)));
    let operations: HashSet<&Arc<str>> = parts.iter().flat_map(|part| &part.operations).collect();
    keys.extend(operations.into_iter().map(|operation| of_operation(operation)));
    let (mut failed, mut slow) = (HashSet::new(), HashSet::new());
    for part in parts {
        let class = slow_class(part.longest_ns);
        for service in part.services.iter().map(|service| Some(&**service)).chain([None]) {
            if part.error_count > 0 {
                failed.insert(service);
            }
            if class > 0 {
                slow.insert((class, service));
            }
        }
    }
    keys.extend(failed.into_iter().map(of_error));
    keys.extend(slow.into_iter().map(|(class, service)| of_class(class, service)));
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn slow_class(ns: u64) -> usize {
    SLOW_BOUNDS.iter().filter(|bound| ns >= **bound).count()
}

fn of_class(class: usize, service: Option<&str>) -> i64 {
    let name = [":slow 0", ":slow 1", ":slow 2", ":slow 3", ":slow 4", ":slow 5", ":slow 6"][class];
    of_attribute(name, service.unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_change() {
        // They are in the database: a change here makes stored traces unfindable.
        assert_eq!(of_attribute("http.status_code", "503"), 1_319_122_315_945_861_838);
        assert_eq!(of_trace(&[0x11; 16]), 0);
        assert_eq!(of_trace(&std::array::from_fn(|at| at as u8)), 0x0808_0808_0808_0808);
        assert_ne!(of_attribute("a", "bc"), of_attribute("ab", "c"));
    }

    #[test]
    fn what_is_slow_is_found_by_every_class_that_can_hold_it() {
        assert_eq!(of_slow(99_999_999, None), None);
        let slow = of_slow(2_000_000_000, Some("cart")).unwrap_or_default();
        assert_eq!(slow, [3, 4, 5, 6].map(|class| of_class(class, Some("cart"))));
    }
}
