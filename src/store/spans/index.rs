//! The index of a stored batch: what it has of each trace, as arrays in one row, one element a trace.
//!
//! In: batches to write, rows that were read. Out: columns, [`TracePart`]s. Invariant: arrays of one row are as long as it has
//! traces; a row where they are not is damaged, never misread.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{BatchKey, PartSearch, StoredPart, at, count, indexed_ns};
use crate::model::Timestamp;
use crate::model::span::{SpanBatch, TraceId, TracePart};
use crate::store::bulk::{Column, Insert, OnConflict};
use crate::store::{StoreError, values};

/// What [`BatchIndex::read`] reads.
pub(super) const COLUMNS: &str = "batch_id, last_at, services, operations, trace_ids, start_ns, end_ns, longest_ns, \
     span_counts, error_counts, root_services, root_names, service_places, service_ends, operation_places, operation_ends";

/// The rows of these batches, each with its id.
pub(super) fn insert(batches: Vec<(i64, SpanBatch)>) -> Insert {
    let mut rows: Vec<Arrays> = batches.iter().map(|(_, batch)| Arrays::of(&batch.parts)).collect();
    let first_ns = |batch: &SpanBatch| {
        batch.parts.iter().map(|part| indexed_ns(part.start_ns, batch.to_ns)).min().unwrap_or(batch.to_ns)
    };
    let bigints = |of: fn(&TracePart) -> u64| {
        let numbers = |(_, batch): &(i64, SpanBatch)| batch.parts.iter().map(|part| values::nanos(of(part))).collect();
        Column::BigintArray(batches.iter().map(numbers).collect())
    };
    let integers = |of: fn(&TracePart) -> u32| {
        let numbers = |(_, batch): &(i64, SpanBatch)| batch.parts.iter().map(|part| count(of(part))).collect();
        Column::IntegerArray(batches.iter().map(numbers).collect())
    };
    let ids = |(_, batch): &(i64, SpanBatch)| batch.parts.iter().flat_map(|part| part.trace_id).collect();
    let mut columns = vec![
        ("batch_id", Column::Bigint(batches.iter().map(|(id, _)| *id).collect())),
        // One span with a time in 1970 must not take its batch to where all is past its retention.
        ("last_at", Column::Time(batches.iter().map(|(_, batch)| at(batch.to_ns)).collect())),
        ("first_at", Column::Time(batches.iter().map(|(_, batch)| at(first_ns(batch))).collect())),
        ("span_count", Column::Integer(batches.iter().map(|(_, batch)| count(batch.span_count)).collect())),
        ("trace_ids", Column::Bytes(batches.iter().map(ids).collect())),
        ("start_ns", bigints(|part| part.start_ns)),
        ("end_ns", bigints(|part| part.end_ns)),
        ("longest_ns", bigints(|part| part.longest_ns)),
        ("span_counts", integers(|part| part.span_count)),
        ("error_counts", integers(|part| part.error_count)),
    ];
    let mut taken = |of: fn(&mut Arrays) -> &mut Vec<i32>| {
        Column::IntegerArray(rows.iter_mut().map(|row| std::mem::take(of(row))).collect())
    };
    columns.extend([
        ("root_services", taken(|row| &mut row.root_services)),
        ("root_names", taken(|row| &mut row.root_names)),
        ("service_places", taken(|row| &mut row.services.places)),
        ("service_ends", taken(|row| &mut row.services.ends)),
        ("operation_places", taken(|row| &mut row.operations.places)),
        ("operation_ends", taken(|row| &mut row.operations.ends)),
    ]);
    let texts = |names: &mut Names| std::mem::take(&mut names.texts);
    columns.extend([
        ("services", Column::TextArray(rows.iter_mut().map(|row| texts(&mut row.services)).collect())),
        ("operations", Column::TextArray(rows.iter_mut().map(|row| texts(&mut row.operations)).collect())),
    ]);
    let (bytes, keys) = batches.into_iter().map(|(_, batch)| (batch.bytes, batch.keys)).unzip();
    columns.extend([("bytes", Column::Bytes(bytes)), ("keys", Column::BigintArray(keys))]);
    Insert { table: "span_batch", columns, on_conflict: OnConflict::Seldom("(last_at, batch_id) DO NOTHING") }
}

/// The columns that name services and operations.
#[derive(Default)]
struct Arrays {
    services: Names,
    operations: Names,
    root_services: Vec<i32>,
    root_names: Vec<i32>,
}

impl Arrays {
    fn of(parts: &[TracePart]) -> Self {
        let (mut arrays, mut services, mut operations) = (Self::default(), HashMap::new(), HashMap::new());
        for part in parts {
            arrays.services.add(&part.services, &mut services);
            arrays.operations.add(&part.operations, &mut operations);
            let root = part.root_service.as_ref().map_or(0, |name| arrays.services.place(name, &mut services));
            arrays.root_services.push(root);
            let root = part.root_name.as_ref().map_or(0, |name| arrays.operations.place(name, &mut operations));
            arrays.root_names.push(root);
        }
        arrays
    }
}

/// The names of a batch, and for each trace the places of its own, counted from 1.
#[derive(Default)]
struct Names {
    texts: Vec<String>,
    places: Vec<i32>,
    ends: Vec<i32>,
}

impl Names {
    fn place<'a>(&mut self, name: &'a Arc<str>, known: &mut HashMap<&'a str, i32>) -> i32 {
        *known.entry(&**name).or_insert_with(|| {
            self.texts.push(name.to_string());
            length(&self.texts)
        })
    }

    fn add<'a>(&mut self, names: &'a [Arc<str>], known: &mut HashMap<&'a str, i32>) {
        for name in names {
            let place = self.place(name, known);
            self.places.push(place);
        }
        self.ends.push(length(&self.places));
    }
}

fn length<T>(list: &[T]) -> i32 {
    i32::try_from(list.len()).unwrap_or(i32::MAX)
}

/// The index of one batch, as it was read.
pub(super) struct BatchIndex {
    /// Which batch.
    pub(super) batch: BatchKey,
    trace_ids: Vec<u8>,
    start_ns: Vec<i64>,
    end_ns: Vec<i64>,
    longest_ns: Vec<i64>,
    span_counts: Vec<i32>,
    error_counts: Vec<i32>,
    root_services: Vec<i32>,
    root_names: Vec<i32>,
    services: Places,
    operations: Places,
}

/// The names of a batch, and for each trace the places of its own.
struct Places {
    texts: Vec<Arc<str>>,
    places: Vec<i32>,
    ends: Vec<i32>,
}

impl BatchIndex {
    /// Reads a row of [`COLUMNS`].
    pub(super) fn read(row: &PgRow) -> Result<Self, StoreError> {
        let places = |texts: &str, places: &str, ends: &str| Places {
            texts: row.get::<Vec<String>, _>(texts).into_iter().map(Arc::from).collect(),
            places: row.get(places),
            ends: row.get(ends),
        };
        let index = Self {
            batch: BatchKey { last_at: row.get("last_at"), id: row.get("batch_id") },
            trace_ids: row.get("trace_ids"),
            start_ns: row.get("start_ns"),
            end_ns: row.get("end_ns"),
            longest_ns: row.get("longest_ns"),
            span_counts: row.get("span_counts"),
            error_counts: row.get("error_counts"),
            root_services: row.get("root_services"),
            root_names: row.get("root_names"),
            services: places("services", "service_places", "service_ends"),
            operations: places("operations", "operation_places", "operation_ends"),
        };
        let traces = index.trace_ids.len() / 16;
        let integers = [&index.span_counts, &index.error_counts, &index.root_services, &index.root_names];
        let ends = [&index.services.ends, &index.operations.ends];
        let whole = index.trace_ids.len().is_multiple_of(16)
            && [&index.start_ns, &index.end_ns, &index.longest_ns].iter().all(|numbers| numbers.len() == traces)
            && integers.iter().chain(&ends).all(|numbers| numbers.len() == traces);
        if whole {
            return Ok(index);
        }
        let reason = format!("batch {}: its arrays are not of {traces} traces each", index.batch.id);
        Err(StoreError::Damaged { what: "index of spans", reason })
    }

    /// Ids of its traces.
    pub(super) fn traces(&self) -> impl Iterator<Item = (usize, TraceId)> {
        self.trace_ids.chunks_exact(16).map(|id| std::array::from_fn(|byte| id[byte])).enumerate()
    }

    /// The parts that satisfy the search, its attributes left out.
    pub(super) fn matching(&self, search: &PartSearch) -> Vec<StoredPart> {
        let last_ns = u64::try_from(self.batch.last_at.timestamp_nanos_opt().unwrap_or(0)).unwrap_or(0);
        let longest = values::nanos(search.longest_ns_min.unwrap_or(0));
        let services = self.services.wanted(&search.services, TracePart::SERVICES_MAX);
        let operations = self.operations.wanted(&search.operations, TracePart::OPERATIONS_MAX);
        let matches = |at: usize, started_ns: u64| {
            (search.from..=search.to).contains(&Timestamp::from_nanos(started_ns))
                && self.longest_ns[at] >= longest
                && (!search.error || self.error_counts[at] > 0)
                && services(self.services.places_of(at))
                && operations(self.operations.places_of(at))
        };
        let found = self.traces().filter_map(|(at, id)| {
            let started_ns = indexed_ns(self.start_ns[at].unsigned_abs(), last_ns);
            let found = || StoredPart { batch: self.batch, started_ns, part: self.part(at, id) };
            matches(at, started_ns).then(found)
        });
        found.collect()
    }

    /// What it has of the trace at that place.
    pub(super) fn part(&self, at: usize, trace_id: TraceId) -> TracePart {
        let root = |names: &Places, place: i32| names.text(place).cloned();
        TracePart {
            trace_id,
            start_ns: self.start_ns[at].unsigned_abs(),
            end_ns: self.end_ns[at].unsigned_abs(),
            span_count: self.span_counts[at].unsigned_abs(),
            error_count: self.error_counts[at].unsigned_abs(),
            longest_ns: self.longest_ns[at].unsigned_abs(),
            root_service: root(&self.services, self.root_services[at]),
            root_name: root(&self.operations, self.root_names[at]),
            services: self.services.of(at),
            operations: self.operations.of(at),
        }
    }
}

impl Places {
    fn text(&self, place: i32) -> Option<&Arc<str>> {
        self.texts.get(usize::try_from(place).ok()?.checked_sub(1)?)
    }

    fn places_of(&self, at: usize) -> &[i32] {
        let end = |at: usize| usize::try_from(self.ends[at]).unwrap_or(0);
        let from = at.checked_sub(1).map_or(0, end);
        self.places.get(from..end(at)).unwrap_or_default()
    }

    fn of(&self, at: usize) -> Vec<Arc<str>> {
        self.places_of(at).iter().filter_map(|place| self.text(*place).cloned()).collect()
    }

    /// Whether all these names are among places; where there are `most` of them, more may have been left out.
    fn wanted(&self, names: &[String], most: usize) -> impl Fn(&[i32]) -> bool {
        let place = |name: &String| self.texts.iter().position(|text| **text == **name).map(|at| at as i32 + 1);
        let wanted: Vec<Option<i32>> = names.iter().map(place).collect();
        move |own| own.len() >= most || wanted.iter().all(|place| place.is_some_and(|place| own.contains(&place)))
    }
}
