//! A label set: what names one series, one alert, one target.
//!
//! Invariant: sorted by name, names unique, no empty value (an empty label is an absent label, as in Prometheus).
//! One shared allocation, so a clone costs one reference count and comparison is a memory compare.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// What a metric is: its name and, where they are stored as labels, its type and unit. PromQL drops the three together
/// (`schema.IsMetadataLabel` of Prometheus 3.5, whether or not `type-and-unit-labels` is enabled).
pub const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// An immutable label set, cheap to clone.
///
/// The text is `length name length value …` with lengths as base-64 varints of ASCII bytes, so that the whole is one
/// valid string and needs no offset table.
#[derive(Clone, PartialEq, Eq)]
pub struct Labels(Arc<str>);

impl Labels {
    /// The empty label set.
    pub fn empty() -> Self {
        Self(Arc::from(""))
    }

    /// Sorts the pairs, keeps the last of a repeated name, drops empty values.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref())); // stable: the last of equals is the last given
        let mut text = String::with_capacity(pairs.iter().map(|(n, v)| n.as_ref().len() + v.as_ref().len() + 4).sum());
        for (i, (name, value)) in pairs.iter().enumerate() {
            let repeated = pairs.get(i + 1).is_some_and(|next| next.0.as_ref() == name.as_ref());
            if !repeated && !value.as_ref().is_empty() {
                push_piece(&mut text, name.as_ref());
                push_piece(&mut text, value.as_ref());
            }
        }
        Self(Arc::from(text))
    }

    /// From pairs that are sorted by name, each name once and no value empty.
    pub(crate) fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut text, mut last) = (String::with_capacity(1024), "");
        for (name, value) in pairs {
            debug_assert!(name > last && !value.is_empty(), "{last} {name} {value}");
            last = name;
            push_piece(&mut text, name);
            push_piece(&mut text, value);
        }
        Self(Arc::from(text))
    }

    /// The value of `name`, or `None` when the label is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The value of `name`, or the empty string: what PromQL sees.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The metric name, or the empty string.
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// Names and values in name order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of memory of the set itself.
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// This set without `__name__`.
    pub fn without_name(&self) -> Self {
        if self.get(METRIC_NAME).is_none() {
            return self.clone();
        }
        self.without(&[METRIC_NAME])
    }

    /// This set without name, type and unit of the metric: what PromQL leaves of a series whose values it changes.
    pub fn without_metadata(&self) -> Self {
        if METADATA_LABELS.iter().all(|name| self.get(name).is_none()) {
            return self.clone();
        }
        self.without(&METADATA_LABELS)
    }

    /// Only the labels in `names`.
    pub fn only<S: AsRef<str>>(&self, names: &[S]) -> Self {
        self.filter(|name| names.iter().any(|n| n.as_ref() == name))
    }

    /// All labels but those in `names`.
    pub fn without<S: AsRef<str>>(&self, names: &[S]) -> Self {
        self.filter(|name| !names.iter().any(|n| n.as_ref() == name))
    }

    /// The labels whose name satisfies `keep`.
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut text = String::with_capacity(self.0.len());
        for (name, value) in self.iter().filter(|(name, _)| keep(name)) {
            push_piece(&mut text, name);
            push_piece(&mut text, value);
        }
        Self(Arc::from(text))
    }

    /// This set with `name` set to `value` (removed when `value` is empty).
    pub fn with(&self, name: &str, value: &str) -> Self {
        self.iter().chain([(name, value)]).collect()
    }

    /// This set overridden by `other`.
    pub fn merged(&self, other: &Labels) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// Stable 64-bit hash: FNV-1a over name, 0xff, value, 0xff, as Alertmanager prints it in a webhook.
    pub fn fingerprint(&self) -> u64 {
        super::hash::fnv1a(
            self.iter().flat_map(|(name, value)| name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff])),
        )
    }

    /// A fast hash of the labels but for those two, whether they are there or not.
    pub fn table_hash_without(&self, names: [&str; 2]) -> u64 {
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        for (name, value) in self.iter().filter(|(name, _)| !names.contains(name)) {
            hasher.write(name.as_bytes());
            hasher.write(value.as_bytes());
        }
        hasher.finish()
    }

    /// A fast hash for tables of this process (not stable between versions).
    pub fn table_hash(&self) -> u64 {
        foldhash::fast::FixedState::default().hash_one(&*self.0)
    }

    /// Two independent fast hashes that stand for this set in tables of this process.
    pub fn table_key(&self) -> (u64, u64) {
        table_key_of(&self.0)
    }

    /// The [`Labels::table_key`] of this set without the labels in `names`. Costs no allocation when `text` has room.
    pub fn table_key_without(&self, names: &[&str], text: &mut String) -> (u64, u64) {
        text.clear();
        let (mut rest, mut kept_from) = (&*self.0, 0);
        while !rest.is_empty() {
            let start = self.0.len() - rest.len();
            let name = take_piece(&mut rest);
            take_piece(&mut rest);
            if names.contains(&name) {
                text.push_str(&self.0[kept_from..start]);
                kept_from = self.0.len() - rest.len();
            }
        }
        text.push_str(&self.0[kept_from..]);
        table_key_of(text)
    }
}

/// Iterator over `(name, value)` in name order.
#[derive(Clone)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some((take_piece(&mut self.rest), take_piece(&mut self.rest)))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self::from_pairs(pairs)
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Label by label, name before value, the shorter set first: the order of Prometheus' answers.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

/// As Prometheus prints a series: `name{a="b", c="d"}`, or `{}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        f.write_str(name)?;
        let mut first = true;
        for (label, value) in self.iter().filter(|(label, _)| *label != METRIC_NAME) {
            write!(f, "{}{label}={value:?}", if first { "{" } else { ", " })?;
            first = false;
        }
        match (first, name.is_empty()) {
            (false, _) => f.write_str("}"),
            (true, true) => f.write_str("{}"),
            (true, false) => Ok(()),
        }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Walks over label sets that follow each other and often differ only in one label, as the buckets of a histogram do.
#[derive(Clone, Debug)]
pub struct Neighbours<'a> {
    name: &'a str,
    /// The text of the last set that has the label, and where in it the label stands with its value.
    last: Option<(&'a str, Range<usize>)>,
}

impl<'a> Neighbours<'a> {
    /// Begins a walk; sets may differ in the label `name`.
    pub fn new(name: &'a str) -> Self {
        Self { name, last: None }
    }

    /// The value that the label has in `next` (empty without it), and whether `next` is known to have all other labels as
    /// the set before. That they are the same is seen only where both have the label; then it costs a comparison of bytes.
    pub fn follow(&mut self, next: &'a Labels) -> (&'a str, bool) {
        let text: &'a str = &next.0;
        if let Some((last, place)) = &mut self.last
            && let Some(mut rest) = text.strip_prefix(&last[..place.start])
            && take_piece(&mut rest) == self.name
        {
            let value = take_piece(&mut rest);
            let is_neighbour = rest == &last[place.end..];
            *place = place.start..text.len() - rest.len();
            *last = text;
            return (value, is_neighbour);
        }
        self.last = None;
        let mut rest = text;
        while !rest.is_empty() {
            let start = text.len() - rest.len();
            let (name, value) = (take_piece(&mut rest), take_piece(&mut rest));
            if name == self.name {
                self.last = Some((text, start..text.len() - rest.len()));
                return (value, false);
            }
        }
        ("", false)
    }
}

fn table_key_of(text: &str) -> (u64, u64) {
    let other = foldhash::fast::FixedState::with_seed(0x6d65_7368_7363_6f70);
    (foldhash::fast::FixedState::default().hash_one(text), other.hash_one(text))
}

fn push_piece(text: &mut String, piece: &str) {
    let mut length = piece.len();
    while length >= 64 {
        text.push(char::from(64 | (length & 63) as u8));
        length >>= 6;
    }
    text.push(char::from(length as u8));
    text.push_str(piece);
}

fn take_piece<'a>(rest: &mut &'a str) -> &'a str {
    let (mut length, mut shift, mut at) = (0_usize, 0, 0);
    for byte in rest.bytes() {
        at += 1;
        length |= usize::from(byte & 63) << shift;
        shift += 6;
        if byte < 64 {
            break;
        }
    }
    let (piece, tail) = rest[at..].split_at(length);
    *rest = tail;
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_keeps_the_last_of_equal_names_and_drops_empty_values() {
        let labels = Labels::from_pairs([("b", "1"), ("a", "x"), ("b", "2"), ("c", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "x"), ("b", "2")]);
        assert_eq!((labels.get("b"), labels.get("c"), labels.value("zz")), (Some("2"), None, ""));
    }

    #[test]
    fn holds_values_of_any_length_and_script() {
        for length in [0, 1, 63, 64, 65, 4095, 4096, 300_000] {
            let value = "é".repeat(length);
            let labels = Labels::from_pairs([("n", value.as_str()), ("z", "end")]);
            assert_eq!(labels.value("n"), value);
            assert_eq!(labels.value("z"), "end");
        }
    }

    #[test]
    fn keys_of_sets_without_some_labels_are_those_of_the_sets_made() {
        let mut text = String::new();
        let long = "x".repeat(5000);
        for base in [vec![], vec![("a", "1"), ("job", "b"), ("z", &long)], vec![("Upper", "1")], vec![("zz", "1")]] {
            let shared = Labels::from_pairs(base.clone());
            for added in
                [[("__name__", ""), ("le", "")], [("__name__", "up"), ("le", "")], [("__name__", "b"), ("le", "+Inf")]]
            {
                let whole = shared.iter().chain(added).collect::<Labels>();
                assert_eq!(whole.table_key_without(&["__name__", "le"], &mut text), shared.table_key(), "{whole}");
                assert_eq!(whole.table_key_without(&["le"], &mut text), whole.without(&["le"]).table_key(), "{whole}");
            }
        }
        assert_ne!(Labels::empty().table_key().0, Labels::empty().table_key().1);
    }

    #[test]
    fn fingerprints_as_alertmanager_does() {
        let check = |pairs: &[(&str, &str)], expect: &str| {
            assert_eq!(format!("{:016x}", Labels::from_pairs(pairs.iter().copied()).fingerprint()), expect);
        };
        check(&[("alertname", "X"), ("instance", "b")], "108e9abdc92a7515");
        check(&[("alertname", "X"), ("instance", "a"), ("severity", "page")], "9effc084e637399e");
    }

    #[test]
    fn orders_by_label_pairs_and_prints_like_prometheus() {
        let a = Labels::from_pairs([("__name__", "up"), ("job", "a")]);
        let b = Labels::from_pairs([("__name__", "up"), ("job", "b")]);
        assert!(a < b && Labels::empty() < a);
        assert_eq!(a.to_string(), r#"up{job="a"}"#);
        assert_eq!(Labels::empty().to_string(), "{}");
        assert_eq!(a.without_name().with("x", "y").to_string(), r#"{job="a", x="y"}"#);
    }
}
