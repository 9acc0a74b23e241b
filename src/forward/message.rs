//! The protobuf messages of remote write 1.0 and 2.0.
//!
//! In: samples, metadata. Out: bytes, not yet compressed. Pure. Fields as in `prompb/remote.proto`, `prompb/types.proto` and
//! `io/prometheus/write/v2/types.proto` of the remote-write specifications.

use std::collections::HashMap;

use prost::encoding::encode_varint;

use super::series::Sample;
use crate::model::METRIC_NAME;
use crate::scrape::MetricMetadata;
use crate::series::Exemplar;
use crate::wire::{put_bytes, put_double, put_varint};

/// Metadata by metric name.
pub(super) type MetadataTable = HashMap<String, std::sync::Arc<MetricMetadata>>;

/// `prometheus.WriteRequest` with samples.
pub(super) fn samples_v1(samples: &[Sample]) -> Vec<u8> {
    let (mut out, mut series) = (Vec::with_capacity(samples.len() * 256), Vec::new());
    let (mut part, mut label) = (Vec::new(), Vec::new());
    for sample in samples {
        series.clear();
        for (name, value) in sample.series.labels().iter() {
            part.clear();
            text(1, name, &mut part);
            text(2, value, &mut part);
            put_bytes(1, &part, &mut series);
        }
        put_sample(sample, &mut part, &mut series);
        for exemplar in sample.exemplars.iter().flat_map(|all| all.iter()) {
            part.clear();
            for (name, value) in exemplar.labels.iter() {
                label.clear();
                text(1, name, &mut label);
                text(2, value, &mut label);
                put_bytes(1, &label, &mut part);
            }
            put_observation(exemplar, &mut part);
            put_bytes(3, &part, &mut series);
        }
        put_bytes(1, &series, &mut out);
    }
    out
}

/// `prometheus.WriteRequest` with metadata.
pub(super) fn metadata_v1(metadata: &[std::sync::Arc<MetricMetadata>]) -> Vec<u8> {
    let (mut out, mut part) = (Vec::new(), Vec::new());
    for MetricMetadata { name, kind, help, unit } in metadata.iter().map(|metadata| &**metadata) {
        part.clear();
        number(1, kind.number(), &mut part);
        for (field, value) in [(2, name), (4, help), (5, unit)] {
            if !value.is_empty() {
                text(field, value, &mut part);
            }
        }
        put_bytes(3, &part, &mut out);
    }
    out
}

/// `io.prometheus.write.v2.Request`: the texts once, then the series by their places in that table.
pub(super) fn samples_v2(samples: &[Sample], metadata: &MetadataTable) -> Vec<u8> {
    let mut symbols = Symbols::default();
    symbols.place("");
    let (mut all, mut series) = (Vec::with_capacity(samples.len() * 64), Vec::new());
    let (mut part, mut places) = (Vec::new(), Vec::new());
    for sample in samples {
        series.clear();
        part.clear();
        let labels = sample.series.labels();
        for (name, value) in labels.iter() {
            encode_varint(symbols.place(name), &mut part);
            encode_varint(symbols.place(value), &mut part);
        }
        put_bytes(1, &part, &mut series);
        put_sample(sample, &mut part, &mut series);
        for exemplar in sample.exemplars.iter().flat_map(|all| all.iter()) {
            places.clear();
            for (name, value) in exemplar.labels.iter() {
                encode_varint(symbols.place(name), &mut places);
                encode_varint(symbols.place(value), &mut places);
            }
            part.clear();
            put_bytes(1, &places, &mut part);
            put_observation(exemplar, &mut part);
            put_bytes(4, &part, &mut series);
        }
        if let Some(metadata) = of_metric(metadata, labels.value(METRIC_NAME)) {
            part.clear();
            number(1, metadata.kind.number(), &mut part);
            number(3, symbols.place(&metadata.help), &mut part);
            number(4, symbols.place(&metadata.unit), &mut part);
            put_bytes(5, &part, &mut series);
        }
        put_bytes(5, &series, &mut all);
    }
    let mut out = Vec::with_capacity(all.len() + symbols.order.iter().map(|text| text.len() + 4).sum::<usize>());
    symbols.order.iter().for_each(|symbol| text(4, symbol, &mut out));
    out.extend(all);
    out
}

/// Texts, each once, in the order in which they came.
#[derive(Default)]
struct Symbols {
    places: HashMap<String, u64>,
    order: Vec<String>,
}

impl Symbols {
    fn place(&mut self, text: &str) -> u64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.order.len() as u64;
        self.places.insert(text.to_owned(), place);
        self.order.push(text.to_owned());
        place
    }
}

/// The metadata of the family that a series belongs to.
fn of_metric<'a>(metadata: &'a MetadataTable, name: &str) -> Option<&'a MetricMetadata> {
    let family =
        || ["_bucket", "_sum", "_count", "_total"].iter().find_map(|end| metadata.get(name.strip_suffix(end)?));
    metadata.get(name).or_else(family).map(|metadata| &**metadata)
}

/// `Sample{1: value, 2: time in ms}` as field 2. A stale marker is a NaN whose bits must arrive as they are.
fn put_sample(sample: &Sample, part: &mut Vec<u8>, out: &mut Vec<u8>) {
    part.clear();
    put_double(1, sample.value, part);
    number(2, sample.at.as_millis().cast_unsigned(), part);
    put_bytes(2, part, out);
}

/// Value and time of an `Exemplar{2: value, 3: time in ms}`; its labels stand before.
fn put_observation(exemplar: &Exemplar, out: &mut Vec<u8>) {
    put_double(2, exemplar.value, out);
    number(3, exemplar.at.as_millis().cast_unsigned(), out);
}

/// A field that is zero is left out.
fn number(field: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        put_varint(field, value, out);
    }
}

fn text(field: u32, value: &str, out: &mut Vec<u8>) {
    put_bytes(field, value.as_bytes(), out);
}
