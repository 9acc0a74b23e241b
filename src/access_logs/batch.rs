//! The stored form of a batch of records: texts once each, numbers as varints, then zstd; and its index rows.
//!
//! In: records, or bytes. Out: bytes, or records equal to those encoded. Pure. Invariant: decoding never panics and never
//! takes more memory than a small multiple of the decompressed limit of `traces::codec`, whatever the bytes.
//!
//! A change of layout gets a new magic; old batches stay readable until their retention ends.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::model::access_log::{AccessLogBatch, AccessLogPart, AccessRecord, Detail, Reason, party, trace_hash};
use crate::model::workload::{Reporter, Service, Workload};
use crate::traces::BatchError;
use crate::traces::codec::{Encoder, Reader, push_number, unpack};

const MAGIC: &[u8; 4] = b"MAL1";
const REPORTERS: [Reporter; 4] = [Reporter::Source, Reporter::Destination, Reporter::Waypoint, Reporter::Trace];
const HAS_TRACE: u8 = 1;
const HAS_SPAN: u8 = 1 << 1;
const HAS_GRPC: u8 = 1 << 2;
const HAS_RULE: u8 = 1 << 3;
const HAS_DURATION: u8 = 1 << 4;
const HAS_UPSTREAM: u8 = 1 << 5;
const REPORTER_SHIFT: u8 = 6;
/// The shortest record: flags, time, thirteen texts of its ends, code, two texts and the policy, bytes, details.
const RECORD_BYTES: usize = 1 + 1 + 13 + 1 + 3 + 2 + 1;

/// Encodes and indexes records. `None` when there are none.
pub fn encode_batch<R: Borrow<AccessRecord>>(records: &[R]) -> Option<AccessLogBatch> {
    let records: Vec<&AccessRecord> = records.iter().map(Borrow::borrow).collect();
    let from_ns = records.iter().map(|record| record.at_ns).min()?;
    let to_ns = records.iter().map(|record| record.at_ns).max()?;
    Some(AccessLogBatch {
        bytes: encode(&records),
        from_ns,
        to_ns,
        record_count: u32::try_from(records.len()).unwrap_or(u32::MAX),
        parts: parts(&records),
    })
}

/// One index row for each edge, code and reason, in order of first appearance.
fn parts(records: &[&AccessRecord]) -> Vec<AccessLogPart> {
    let mut places: HashMap<(String, String, String, u16, Reason), usize, foldhash::fast::RandomState> =
        HashMap::default();
    let mut parts: Vec<AccessLogPart> = Vec::new();
    for record in records {
        let [source, destination, service] = ends_of(record);
        let key = (source, destination, service, record.code, record.reason);
        let at = *places.entry(key).or_insert_with_key(|(source, destination, service, code, reason)| {
            parts.push(AccessLogPart {
                source: source.clone(),
                destination: destination.clone(),
                service: service.clone(),
                code: *code,
                reason: *reason,
                from_ns: record.at_ns,
                to_ns: record.at_ns,
                record_count: 0,
                trace_hashes: Vec::new(),
            });
            parts.len() - 1
        });
        let part = &mut parts[at];
        part.from_ns = part.from_ns.min(record.at_ns);
        part.to_ns = part.to_ns.max(record.at_ns);
        part.record_count = part.record_count.saturating_add(1);
        part.trace_hashes.extend(record.trace_id.as_ref().map(trace_hash));
    }
    for part in &mut parts {
        part.trace_hashes.sort_unstable();
        part.trace_hashes.dedup();
    }
    parts
}

/// Caller, called workload and called service of a record, as index rows and questions write them.
pub fn ends_of(record: &AccessRecord) -> [String; 3] {
    let workload = |workload: &Workload| party(workload.namespace.as_deref(), workload.name.as_deref());
    let Service { name, namespace, host } = &record.service;
    let service = party(namespace.as_deref(), name.as_deref().or(host.as_deref()));
    [workload(&record.source), workload(&record.destination), service]
}

fn encode(records: &[&AccessRecord]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut previous_ns = 0;
    for record in records {
        put(&mut encoder, record, previous_ns);
        previous_ns = record.at_ns;
    }
    let mut head = Vec::new();
    push_number(&mut head, records.len() as u64);
    encoder.pack(MAGIC, &head)
}

fn put<'a>(encoder: &mut Encoder<'a>, record: &'a AccessRecord, previous_ns: u64) {
    let bit = |has: bool, bit: u8| if has { bit } else { 0 };
    let reporter = REPORTERS.iter().position(|reporter| *reporter == record.reporter).unwrap_or(0) as u8;
    encoder.out.push(
        bit(record.trace_id.is_some(), HAS_TRACE)
            | bit(record.span_id.is_some(), HAS_SPAN)
            | bit(record.grpc_status.is_some(), HAS_GRPC)
            | bit(record.rule.is_some(), HAS_RULE)
            | bit(record.duration_ms.is_some(), HAS_DURATION)
            | bit(record.upstream_ms.is_some(), HAS_UPSTREAM)
            | reporter << REPORTER_SHIFT,
    );
    encoder.signed(record.at_ns.wrapping_sub(previous_ns) as i64);
    encoder.out.extend(record.trace_id.iter().flatten());
    encoder.out.extend(record.span_id.iter().flatten());
    for Workload { cluster, namespace, name, app, version } in [&record.source, &record.destination] {
        for text in [cluster, namespace, name, app, version] {
            encoder.text(text.as_deref().unwrap_or_default());
        }
    }
    let Service { name, namespace, host } = &record.service;
    for text in [name, namespace, host, &record.policy] {
        encoder.text(text.as_deref().unwrap_or_default());
    }
    encoder.text(&record.flags);
    encoder.text(record.reason.as_str());
    encoder.number(u64::from(record.code));
    let optional =
        [record.grpc_status.map(u64::from), record.rule.map(u64::from), record.duration_ms, record.upstream_ms];
    for number in optional.into_iter().flatten().chain([record.request_bytes, record.response_bytes]) {
        encoder.number(number);
    }
    encoder.number(record.details.len() as u64);
    for (detail, text) in &record.details {
        encoder.out.push(*detail as u8);
        encoder.text(text);
    }
}

/// Reads the records of a stored batch, in the order they were received.
///
/// # Errors
/// When the bytes are not a batch, or are damaged.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<AccessRecord>, BatchError> {
    let plain = unpack(bytes, MAGIC)?;
    let mut reader = Reader::begin(&plain)?;
    let count = reader.count(RECORD_BYTES)?;
    let mut records = Vec::with_capacity(count);
    let mut previous_ns = 0;
    for _ in 0..count {
        let record = get(&mut reader, previous_ns)?;
        previous_ns = record.at_ns;
        records.push(record);
    }
    Ok(records)
}

fn get(reader: &mut Reader<'_>, previous_ns: u64) -> Result<AccessRecord, BatchError> {
    let flags = reader.take::<1>()?[0];
    let has = |bit: u8| flags & bit != 0;
    let at_ns = previous_ns.wrapping_add(reader.signed()? as u64);
    let trace_id = if has(HAS_TRACE) { Some(reader.take()?) } else { None };
    let span_id = if has(HAS_SPAN) { Some(reader.take()?) } else { None };
    let (source, destination) = (workload(reader)?, workload(reader)?);
    let service = Service { name: known(reader)?, namespace: known(reader)?, host: known(reader)? };
    let (policy, texts) = (known(reader)?, [reader.text()?, reader.text()?]);
    let [flag_text, reason] = texts;
    let code = narrow(reader)?;
    let grpc_status = if has(HAS_GRPC) { Some(narrow(reader)?) } else { None };
    let rule = if has(HAS_RULE) { Some(narrow(reader)?) } else { None };
    let duration_ms = if has(HAS_DURATION) { Some(reader.number()?) } else { None };
    let upstream_ms = if has(HAS_UPSTREAM) { Some(reader.number()?) } else { None };
    let (request_bytes, response_bytes) = (reader.number()?, reader.number()?);
    let count = reader.count(2)?;
    let mut details = Vec::with_capacity(count.min(Detail::ALL.len()));
    for _ in 0..count {
        let detail = usize::from(reader.take::<1>()?[0]);
        let text = reader.text()?;
        // One that a newer meshscope has is left out.
        details.extend(Detail::ALL.get(detail).map(|detail| (*detail, text)));
    }
    Ok(AccessRecord {
        at_ns,
        trace_id,
        span_id,
        reporter: REPORTERS[usize::from(flags >> REPORTER_SHIFT)],
        source,
        destination,
        service,
        code,
        grpc_status,
        flags: flag_text,
        reason: Reason::from_name(&reason).unwrap_or(Reason::Other),
        policy,
        rule,
        duration_ms,
        upstream_ms,
        request_bytes,
        response_bytes,
        details,
    })
}

fn workload(reader: &mut Reader<'_>) -> Result<Workload, BatchError> {
    Ok(Workload {
        cluster: known(reader)?,
        namespace: known(reader)?,
        name: known(reader)?,
        app: known(reader)?,
        version: known(reader)?,
    })
}

fn known(reader: &mut Reader<'_>) -> Result<Option<Arc<str>>, BatchError> {
    Ok(Some(reader.text()?).filter(|text| !text.is_empty()))
}

fn narrow(reader: &mut Reader<'_>) -> Result<u16, BatchError> {
    u16::try_from(reader.number()?).map_err(|_| reader.damaged("a small number"))
}
