//! What pages say about their metrics: kind, help, unit. Equal texts of many targets are kept once.
//!
//! Invariant: an unchanged line costs one look-up and no allocation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::exposition::{Format, MetricKind};

/// What a target says about one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MetricMetadata {
    /// Metric name as in the TYPE and HELP lines (OpenMetrics counters: without `_total`).
    pub name: String,
    /// Kind.
    pub kind: MetricKind,
    /// What it means.
    pub help: String,
    /// Its unit, from OpenMetrics.
    pub unit: String,
}

/// How many pages a metric may be missing from before its metadata goes, as in Prometheus.
const KEPT_PAGES: u32 = 10;

/// Metadata that targets share.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Interned>);

#[derive(Debug, Default)]
struct Interned {
    known: HashSet<Arc<MetricMetadata>>,
    sweep_at: usize,
}

impl Shared {
    fn intern(&self, metadata: MetricMetadata) -> Arc<MetricMetadata> {
        let mut interned = self.0.lock();
        if let Some(known) = interned.known.get(&metadata) {
            return Arc::clone(known);
        }
        if interned.known.len() >= interned.sweep_at {
            interned.known.retain(|known| Arc::strong_count(known) > 1);
            interned.sweep_at = 2 * interned.known.len() + 1000;
        }
        let metadata = Arc::new(metadata);
        interned.known.insert(Arc::clone(&metadata));
        metadata
    }
}

/// The metadata of one target.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_name: HashMap<Box<[u8]>, (Arc<MetricMetadata>, u32)>,
    page: u32,
    changed: bool,
}

impl Table {
    /// Before the first entry of a page.
    pub fn begin_page(&mut self) {
        self.page = self.page.wrapping_add(1);
        let page = self.page;
        if page.is_multiple_of(KEPT_PAGES) {
            let before = self.by_name.len();
            self.by_name.retain(|_, (_, seen)| page.wrapping_sub(*seen) <= KEPT_PAGES);
            self.changed |= self.by_name.len() < before;
        }
    }

    /// A TYPE line.
    pub fn kind(&mut self, shared: &Shared, name: &[u8], kind: MetricKind) {
        self.set(shared, name, |old| old.kind == kind, |new| new.kind = kind);
    }

    /// A HELP line.
    pub fn help(&mut self, shared: &Shared, name: &[u8], (text, format): (&[u8], Format)) {
        if text.contains(&b'\\') {
            let text = unescape(&String::from_utf8_lossy(text), format);
            return self.set(shared, name, |old| old.help == text, |new| new.help.clone_from(&text));
        }
        self.help_text(shared, name, text);
    }

    /// What a metric means, without escapes.
    pub fn help_text(&mut self, shared: &Shared, name: &[u8], text: &[u8]) {
        let read = |new: &mut MetricMetadata| new.help = String::from_utf8_lossy(text).into_owned();
        self.set(shared, name, |old| old.help.as_bytes() == text, read);
    }

    /// A UNIT line.
    pub fn unit(&mut self, shared: &Shared, name: &[u8], unit: &[u8]) {
        let read = |new: &mut MetricMetadata| new.unit = String::from_utf8_lossy(unit).into_owned();
        self.set(shared, name, |old| old.unit.as_bytes() == unit, read);
    }

    /// All of it by name, when it changed since this was last asked.
    pub fn changed(&mut self) -> Option<Arc<[Arc<MetricMetadata>]>> {
        std::mem::take(&mut self.changed).then(|| {
            let mut all: Vec<_> = self.by_name.values().map(|(metadata, _)| Arc::clone(metadata)).collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            all.into()
        })
    }

    fn set(
        &mut self,
        shared: &Shared,
        name: &[u8],
        same: impl FnOnce(&MetricMetadata) -> bool,
        change: impl FnOnce(&mut MetricMetadata),
    ) {
        if let Some((known, seen)) = self.by_name.get_mut(name) {
            *seen = self.page;
            if !same(known) {
                let mut new = MetricMetadata::clone(known);
                change(&mut new);
                *known = shared.intern(new);
                self.changed = true;
            }
            return;
        }
        self.changed = true;
        let mut new = MetricMetadata { name: String::from_utf8_lossy(name).into_owned(), ..MetricMetadata::default() };
        change(&mut new);
        self.by_name.insert(name.into(), (shared.intern(new), self.page));
    }
}

/// `\n` and `\\` of a help text; quotes are escaped in OpenMetrics alone.
fn unescape(text: &str, format: Format) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some(next)) if matches!(next, 'n' | '\\') || next == '"' && format == Format::OpenMetrics => {
                chars.next();
                out.push(if next == 'n' { '\n' } else { next });
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_escaped_in_openmetrics_alone() {
        assert_eq!(unescape(r#"a \" \\ \n b"#, Format::Text), "a \\\" \\ \n b");
        assert_eq!(unescape(r#"a \" \\ \n b"#, Format::OpenMetrics), "a \" \\ \n b");
    }

    #[test]
    fn keeps_equal_metadata_once_and_drops_what_is_long_gone() {
        let shared = Shared::default();
        let mut tables = [Table::default(), Table::default()];
        for table in &mut tables {
            table.begin_page();
            table.help(&shared, b"a", (b"line\\nsecond \\\\", Format::Text));
            table.kind(&shared, b"a", MetricKind::Counter);
        }
        let [first, second] = tables.each_mut().map(|table| table.changed().expect("new metadata"));
        assert_eq!((first[0].help.as_str(), first[0].kind), ("line\nsecond \\", MetricKind::Counter));
        assert!(Arc::ptr_eq(&first[0], &second[0]));
        tables[0].begin_page();
        tables[0].kind(&shared, b"a", MetricKind::Counter);
        assert!(tables[0].changed().is_none());
        for _ in 0..30 {
            tables[0].begin_page();
            tables[0].unit(&shared, b"b", b"seconds");
        }
        let left = tables[0].changed().expect("a is gone");
        assert_eq!(left.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
