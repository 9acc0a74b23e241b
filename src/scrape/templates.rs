//! What the series of a page have in common that differ only in the metric name and `le`: of Istio's 67 series of an edge
//! the labels are read, joined with the target's and looked up once.
//!
//! In: keys of series that were never seen. Out: what was found out for the first that had the same text between the
//! braces, but for `le` at its end. Texts are kept as a keyed hash and a length, as in `cache`.
//! Invariant: a template lives no longer than its page, and only a key that was read in full makes one.

use std::sync::Arc;

use hashbrown::HashMap;

use super::compact::CompactLabels;
use super::exposition::LabelPair;
use crate::model::METRIC_NAME;
use crate::rollup::SlotId;
use crate::series::BlockRef;

/// The label of a histogram's bound.
pub(super) const BUCKET: &str = "le";
/// So many are kept; a page with more differing label sets reads the labels of the others in full.
const TEMPLATES_MAX: usize = 20_000;

/// A key in three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyParts<'a> {
    /// The metric name.
    pub metric: &'a str,
    /// The labels as written, without braces and without `le` at their end.
    pub labels: &'a [u8],
    /// The value of that `le`; empty without it.
    pub bound: &'a str,
}

impl<'a> KeyParts<'a> {
    /// The parts of a key that is written as Istio writes it: `name{a="b",le="1"}`. `None` for any other spelling.
    pub fn of(key: &'a [u8]) -> Option<Self> {
        let name = memchr::memchr(b'{', key)?;
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
        if name == 0 || key[0].is_ascii_digit() || !key[..name].iter().all(is_name) {
            return None;
        }
        let metric = std::str::from_utf8(&key[..name]).ok()?;
        let labels = key[name + 1..].strip_suffix(b"\"}")?;
        let quote = memchr::memrchr(b'"', labels)?;
        let (head, bound) = (&labels[..quote], &labels[quote + 1..]);
        let before = match head.strip_suffix(b",le=") {
            Some(before) if before.ends_with(b"\"") => before,
            Some(_) => return None,
            None if head == b"le=" => b"",
            None => return Some(Self { metric, labels: &key[name + 1..key.len() - 1], bound: "" }),
        };
        if bound.iter().any(|byte| matches!(byte, b'\\' | b'\n')) {
            return None;
        }
        Some(Self { metric, labels: before, bound: std::str::from_utf8(bound).ok()? })
    }
}

/// What is known of all series with the same other labels.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// The labels of the first of them, as stored.
    pub labels: CompactLabels,
    /// Where the memory tier keeps the others.
    pub block: BlockRef,
    /// The histogram whose bucket came last, and the slot of that bucket.
    pub histogram: Option<(Arc<str>, SlotId)>,
}

/// The templates of a page.
#[derive(Debug, Default)]
pub(super) struct Templates(HashMap<(u64, usize), Template, foldhash::fast::RandomState>);

impl Templates {
    /// The template of keys with those labels, which hash to that.
    pub fn get(&mut self, hash: u64, labels: &[u8]) -> Option<&mut Template> {
        self.0.get_mut(&(hash, labels.len()))
    }

    /// Remembers what the first series with those labels has shown.
    pub fn insert(&mut self, hash: u64, labels: &[u8], template: Template) {
        if self.0.len() < TEMPLATES_MAX {
            self.0.insert((hash, labels.len()), template);
        }
    }

    /// Forgets one whose block the memory tier has forgotten.
    pub fn remove(&mut self, hash: u64, labels: &[u8]) {
        self.0.remove(&(hash, labels.len()));
    }
}

/// Whether the name and `le` stand where [`KeyParts`] looks for them and nowhere else: first and last.
pub(super) fn is_plain(scraped: &[LabelPair<'_>]) -> bool {
    let inner = scraped.len().saturating_sub(1);
    scraped.iter().skip(1).take(inner.saturating_sub(1)).all(|(name, _)| name != METRIC_NAME && name != BUCKET)
        && scraped.last().is_some_and(|(name, _)| name != METRIC_NAME || inner == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fall_apart_only_where_that_is_certain() {
        let parts = |key: &'static str| {
            KeyParts::of(key.as_bytes()).map(|parts| {
                (parts.metric, std::str::from_utf8(parts.labels).expect("cut between characters"), parts.bound)
            })
        };
        let cases = [
            ("a_bucket{x=\"1\",le=\"5\"}", Some(("a_bucket", "x=\"1\"", "5"))),
            ("a_bucket{x=\"1\",le=\"\"}", Some(("a_bucket", "x=\"1\"", ""))),
            ("a{x=\"1\"}", Some(("a", "x=\"1\"", ""))),
            ("a_bucket{le=\"5\"}", Some(("a_bucket", "", "5"))),
            ("a_bucket{,le=\"5\"}", None),
            ("a_bucket{xle=\"5\"}", Some(("a_bucket", "xle=\"5\"", ""))),
            ("a{le=\"1\",x=\"1\"}", Some(("a", "le=\"1\",x=\"1\"", ""))),
            ("a{x=\",le=\\\"5\"}", Some(("a", "x=\",le=\\\"5\"", ""))),
            ("a{x=\"1\",,le=\"5\"}", None),
            ("a{x=\"1\",le=\"\\n\"}", None),
            ("a{x=\"1\", le=\"5\"}", Some(("a", "x=\"1\", le=\"5\"", ""))),
            ("a {x=\"1\"}", None),
            ("{\"a\",x=\"1\"}", None),
            ("a{x=\"1\",}", None),
            ("a{}", None),
            ("a", None),
            ("1a{x=\"1\"}", None),
        ];
        for (key, expected) in cases {
            assert_eq!(parts(key), expected, "{key}");
        }
    }
}
