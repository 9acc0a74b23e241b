//! Samples of a page as a remote write 2.0 message.
//!
//! `Request { 4: symbols, 5: TimeSeries { 1: label references, 2: samples, 4: exemplars, 5: metadata } }`. Invariant:
//! symbol 0 is the empty text.

use std::collections::HashMap;

use prost::encoding::encode_varint;

use crate::model::METRIC_NAME;
use crate::scrape::exposition::{MetricKind, Sample, parse_labels};
use crate::wire::{put_bytes, put_double, put_varint};

/// What was said last of the metrics that follow.
#[derive(Default)]
struct Family {
    name: Vec<u8>,
    kind: MetricKind,
    help: String,
    unit: String,
}

/// A request being made.
#[derive(Default)]
pub(super) struct Body {
    symbols: Vec<u8>,
    references: HashMap<String, u64>,
    series: Vec<u8>,
    /// The series whose samples come now: its key, and its message without field number and length.
    key: Vec<u8>,
    open: Vec<u8>,
    samples: usize,
    family: Family,
}

impl Body {
    /// How many samples it has.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Adds a sample that has a time and good labels, with that value.
    pub(super) fn sample(&mut self, sample: &Sample<'_>, value: f64) {
        let (Some(at), Ok(labels)) = (sample.at, parse_labels(sample.key, MetricKind::Unknown)) else { return };
        if self.key != sample.key || self.open.is_empty() {
            self.close();
            self.key = sample.key.to_vec();
            // `le` and `quantile` as a scrape would spell them.
            let labels = parse_labels(sample.key, self.family.kind).unwrap_or(labels);
            let packed = self.packed(labels.iter().map(|(name, value)| (&**name, &**value)));
            put_bytes(1, &packed, &mut self.open);
            let name = labels.iter().find(|(name, _)| name == METRIC_NAME).map_or("", |(_, value)| value);
            self.metadata(name);
        }
        let mut inner = Vec::new();
        put_double(1, value, &mut inner);
        put_varint(2, at.as_millis() as u64, &mut inner);
        put_bytes(2, &inner, &mut self.open);
        if let Some(exemplar) = &sample.exemplar
            && let Ok(labels) = parse_labels(exemplar.labels, MetricKind::Unknown)
        {
            let mut inner = Vec::new();
            let packed = self.packed(labels.iter().map(|(name, value)| (&**name, &**value)));
            put_bytes(1, &packed, &mut inner);
            put_double(2, exemplar.value, &mut inner);
            put_varint(3, exemplar.at.unwrap_or(at).as_millis() as u64, &mut inner);
            put_bytes(4, &inner, &mut self.open);
        }
        self.samples += 1;
    }

    /// A TYPE line.
    pub(super) fn kind(&mut self, name: &[u8], kind: MetricKind) {
        self.family(name).kind = kind;
    }

    /// A HELP line.
    pub(super) fn help(&mut self, name: &[u8], text: &[u8]) {
        self.family(name).help = String::from_utf8_lossy(text).into_owned();
    }

    /// A UNIT line.
    pub(super) fn unit(&mut self, name: &[u8], unit: &[u8]) {
        self.family(name).unit = String::from_utf8_lossy(unit).into_owned();
    }

    /// The message; the body is empty then.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.close();
        let mut whole = Vec::with_capacity(2 + self.symbols.len() + self.series.len());
        put_bytes(4, b"", &mut whole);
        whole.append(&mut self.symbols);
        whole.append(&mut self.series);
        self.references.clear();
        self.samples = 0;
        whole
    }

    fn family(&mut self, name: &[u8]) -> &mut Family {
        if self.family.name != name {
            self.family = Family { name: name.to_vec(), ..Family::default() };
        }
        &mut self.family
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            put_bytes(5, &self.open, &mut self.series);
            self.open.clear();
        }
    }

    /// `Metadata { 1: type, 3: help, 4: unit }`, when the metric belongs to the family that was described last.
    fn metadata(&mut self, name: &str) {
        if !name.as_bytes().starts_with(&self.family.name) || self.family.name.is_empty() {
            return;
        }
        let texts = [self.family.help.clone(), self.family.unit.clone()];
        let [help, unit] = texts.map(|text| self.symbol(&text));
        let mut inner = Vec::new();
        for (number, value) in [(1, self.family.kind.number()), (3, help), (4, unit)] {
            put_varint(number, value, &mut inner);
        }
        put_bytes(5, &inner, &mut self.open);
    }

    fn packed<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
        let mut packed = Vec::new();
        for (name, value) in labels {
            for text in [name, value] {
                let reference = self.symbol(text);
                encode_varint(reference, &mut packed);
            }
        }
        packed
    }

    fn symbol(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        if let Some(known) = self.references.get(text) {
            return *known;
        }
        let reference = self.references.len() as u64 + 1;
        self.references.insert(text.to_owned(), reference);
        put_bytes(4, text.as_bytes(), &mut self.symbols);
        reference
    }
}
