//! Reads journal batches back into the memory tier at start.
//!
//! In: the bytes of [`super::JournalBatch`]es, oldest first. Out: samples in memory. What is there already is skipped, so
//! a batch may be read twice; nothing is journaled again. A damaged batch, or one whose epoch did not start here, is
//! refused as a whole and harms no later epoch.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::bits::{Malformed, Reader};
use super::frame::ABSENT;
use super::head::{Head, SeriesRef};
use super::index::SharedLabels;
use super::journal::{BITS, BLOCK, MAGIC, MEMBER, MISSING, RAW_LIMIT_BYTES, ROW, SAME, WHOLE};
use crate::model::{Labels, Timestamp};

/// Most slots of one row; the writer keeps well below it.
const WIDTH_LIMIT: usize = 1 << 20;

/// Why a journal batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Not a journal batch, or of another version.
    #[error("not a journal batch of this version of meshscope (it starts with {0:02x?}, not `MSJ1`)")]
    Unknown(Vec<u8>),
    /// Cut short or overwritten. Samples before the damage may have been restored.
    #[error("the journal batch is damaged")]
    Damaged,
    /// A batch before it, back to the one that starts its epoch, was not read.
    #[error("journal batch {sequence} of epoch {epoch} continues a batch that is missing")]
    Gap {
        /// Which epoch.
        epoch: u64,
        /// Which batch of the epoch, from 0.
        sequence: u64,
    },
}

impl From<Malformed> for ReplayError {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

/// The part of a journal's samples that is read again: bounded in memory, however long the journal is.
#[derive(Clone, Copy, Debug)]
pub struct JournalPart {
    /// First time of a sample.
    pub from: Timestamp,
    /// Samples are before it.
    pub until: Timestamp,
    /// Which of `shards` parts of all label sets, from 0.
    pub shard: u64,
    /// How many parts; at least 1.
    pub shards: u64,
}

impl JournalPart {
    const ALL: Self = Self { from: Timestamp::MIN, until: Timestamp::MAX, shard: 0, shards: 1 };

    fn has_labels(&self, block: &Labels) -> bool {
        self.shards <= 1 || block.fingerprint() % self.shards == self.shard
    }

    fn has_time(&self, at: i64) -> bool {
        at >= self.from.as_millis() && (at < self.until.as_millis() || self.until == Timestamp::MAX)
    }
}

/// Reads journal batches in order, knowing what those of the epoch so far have said.
///
/// `B` is what the reader keeps of a label block, `S` what it keeps of a series.
pub struct JournalReader<B, S> {
    /// Journal, epoch and sequence of the last batch.
    position: Option<(u64, u64, u64)>,
    blocks: HashMap<u64, B>,
    groups: HashMap<u32, Members<S>>,
}

/// What [`Head::reread`] remembers between two batches.
#[derive(Default)]
pub struct Rereading(JournalReader<SharedLabels, SeriesRef>);

/// Takes samples of one time.
type TakeRow<'a, S> = &'a mut dyn FnMut(Timestamp, &[(S, f64)]);

/// What a batch tells, in the order in which it was written.
pub struct Told<'a, B, S> {
    /// A set of labels that series share.
    pub block: &'a mut dyn FnMut(Labels) -> B,
    /// A series: its block, its metric name, its `le` (empty without one). `None`: its samples are passed over.
    pub member: &'a mut dyn FnMut(&mut B, &str, &str) -> Option<S>,
    /// Samples of one time.
    pub row: TakeRow<'a, S>,
}

struct Members<S> {
    series: Vec<Option<S>>,
    previous: Vec<u64>,
}

impl Head {
    /// Restores the samples of one journal batch; how many were not in memory yet.
    ///
    /// Give the batches in the order in which they were drained, before anything else is appended. Series past the limit
    /// are left out.
    ///
    /// # Errors
    /// When the bytes are damaged or continue a batch that was not read: skip to the next with `starts_epoch`.
    pub fn replay(&self, bytes: &[u8]) -> Result<usize, ReplayError> {
        self.replay_to(bytes, false, |_, _| {})
    }

    /// As [`Head::replay`]. `is_past_stored` says that its samples for closed windows are in chunks, so that they need not
    /// be merged into them again; `on_row` gets each time and its samples, in the order in which they were accepted.
    ///
    /// # Errors
    /// As [`Head::replay`]. Rows before the damage have been given.
    pub fn replay_to(
        &self,
        bytes: &[u8],
        is_past_stored: bool,
        on_row: impl FnMut(Timestamp, &[(SeriesRef, f64)]),
    ) -> Result<usize, ReplayError> {
        self.replay_batch(bytes, (JournalPart::ALL, is_past_stored), on_row)
    }

    /// As [`Head::replay`], of a part of the samples only.
    ///
    /// # Errors
    /// As [`Head::replay`].
    pub fn replay_part(&self, bytes: &[u8], part: JournalPart) -> Result<usize, ReplayError> {
        self.replay_batch(bytes, (part, true), |_, _| {})
    }

    fn replay_batch(
        &self,
        bytes: &[u8],
        (part, is_past_stored): (JournalPart, bool),
        mut on_row: impl FnMut(Timestamp, &[(SeriesRef, f64)]),
    ) -> Result<usize, ReplayError> {
        let mut restored = 0;
        let told = Told {
            block: &mut SharedLabels::new,
            member: &mut |block: &mut SharedLabels, metric, bucket| {
                if !part.has_labels(&block.labels) {
                    return None;
                }
                self.intern_member(block, (metric, bucket))
            },
            row: &mut |at, batch| {
                if !part.has_time(at.as_millis()) {
                    return;
                }
                restored += self.0.append_restored(at.as_millis(), batch).accepted;
                on_row(at, batch);
                if !is_past_stored {
                    self.mark_past(at.as_millis(), batch);
                }
            },
        };
        self.0.replayer.lock().read(bytes, told)?;
        Ok(restored)
    }

    /// As [`Head::intern`], of a series whose block is known.
    fn intern_member(&self, block: &mut SharedLabels, member: (&str, &str)) -> Option<SeriesRef> {
        let counters = &self.0.counters;
        let interned = self.0.index.write().intern_member(block, member, self.0.config.series_limit);
        match interned {
            Some((_, is_new)) => counters.series_created.fetch_add(u64::from(is_new), Relaxed),
            None => counters.series_refused.fetch_add(1, Relaxed),
        };
        interned.map(|(reference, _)| SeriesRef(reference))
    }

    /// Reads a batch that is in memory already: `on_row` gets each time and its samples. `again` remembers what the batches
    /// before it said.
    ///
    /// # Errors
    /// As [`Head::replay`]. Rows before the damage have been given.
    pub fn reread(
        &self,
        again: &mut Rereading,
        bytes: &[u8],
        mut on_row: impl FnMut(Timestamp, &[(SeriesRef, f64)]),
    ) -> Result<(), ReplayError> {
        let told = Told {
            block: &mut SharedLabels::new,
            member: &mut |block: &mut SharedLabels, metric, bucket| self.intern_member(block, (metric, bucket)),
            row: &mut |at, batch| on_row(at, batch),
        };
        again.0.read(bytes, told)
    }

    /// Frees what replaying had to remember. Call it after the last batch.
    pub fn finish_replay(&self) {
        *self.0.replayer.lock() = JournalReader::default();
    }
}

impl<B, S> Default for JournalReader<B, S> {
    fn default() -> Self {
        Self { position: None, blocks: HashMap::new(), groups: HashMap::new() }
    }
}

impl<B, S: Clone> JournalReader<B, S> {
    /// Reads one batch; one that was read last is passed over.
    ///
    /// # Errors
    /// When the bytes are damaged or continue a batch that was not read.
    pub fn read(&mut self, bytes: &[u8], told: Told<'_, B, S>) -> Result<(), ReplayError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.take(MAGIC.len()).map_err(|_| ReplayError::Unknown(bytes.to_vec()))?;
        if magic != MAGIC {
            return Err(ReplayError::Unknown(magic.to_vec()));
        }
        let (journal, epoch, sequence) = (reader.word()?, reader.varint()?, reader.varint()?);
        match self.position {
            _ if sequence == 0 => *self = Self::default(),
            Some(last) if last == (journal, epoch, sequence) => return Ok(()),
            Some(last) if (last.0, last.1, last.2 + 1) == (journal, epoch, sequence) => {}
            _ => return Err(ReplayError::Gap { epoch, sequence }),
        }
        self.position = None; // until all of it is read: what follows a damaged batch cannot be read
        let raw_length = reader.count(RAW_LIMIT_BYTES)?;
        let raw = zstd::bulk::decompress(reader.rest(), raw_length).map_err(|_| ReplayError::Damaged)?;
        if raw.len() != raw_length {
            return Err(ReplayError::Damaged);
        }
        self.read_records(&raw, told)?;
        self.position = Some((journal, epoch, sequence));
        Ok(())
    }

    fn read_records(&mut self, raw: &[u8], told: Told<'_, B, S>) -> Result<(), ReplayError> {
        let (mut reader, mut at) = (Reader::new(raw), 0_i64);
        let mut batch = Vec::new();
        while !reader.is_empty() {
            match reader.byte()? {
                BLOCK => {
                    let (serial, labels) = read_block(&mut reader)?;
                    self.blocks.insert(serial, (told.block)(labels));
                }
                MEMBER => self.read_member(&mut reader, told.member)?,
                ROW => {
                    at = self.read_row(&mut reader, at, &mut batch)?;
                    (told.row)(Timestamp::from_millis(at), &batch);
                }
                _ => return Err(ReplayError::Damaged),
            }
        }
        Ok(())
    }

    fn read_member(
        &mut self,
        reader: &mut Reader<'_>,
        member: &mut dyn FnMut(&mut B, &str, &str) -> Option<S>,
    ) -> Result<(), Malformed> {
        let group = u32::try_from(reader.varint()?).map_err(|_| Malformed)?;
        let slot = reader.count(WIDTH_LIMIT)?;
        let block = self.blocks.get_mut(&reader.varint()?).ok_or(Malformed)?;
        let (metric, bucket) = (reader.text()?, reader.text()?);
        let series = member(block, metric, bucket);
        let members = self.groups.entry(group).or_default();
        members.resize(slot + 1);
        members.series[slot] = series;
        members.previous[slot] = 0;
        Ok(())
    }

    /// Reads one row into `batch`; its time.
    fn read_row(&mut self, reader: &mut Reader<'_>, last_at: i64, batch: &mut Vec<(S, f64)>) -> Result<i64, Malformed> {
        batch.clear();
        let group = u32::try_from(reader.varint()?).map_err(|_| Malformed)?;
        let members = self.groups.get_mut(&group).ok_or(Malformed)?;
        let at = last_at.checked_add(reader.signed()?).ok_or(Malformed)?;
        if at < Timestamp::MIN.as_millis() || at > Timestamp::MAX.as_millis() {
            return Err(Malformed);
        }
        let width = reader.count(WIDTH_LIMIT)?;
        members.resize(width);
        let mut slot = 0;
        while slot < width {
            let head = reader.varint()?;
            let length = usize::try_from(head >> 2).ok().filter(|n| *n < width - slot).ok_or(Malformed)? + 1;
            for slot in slot..slot + length {
                let previous = members.previous[slot];
                let bits = match head & 3 {
                    SAME => previous,
                    MISSING => ABSENT,
                    WHOLE => ((f64::from_bits(previous) as i64).wrapping_add(reader.signed()?) as f64).to_bits(),
                    BITS => previous ^ reader.word()?,
                    _ => return Err(Malformed),
                };
                if bits != ABSENT {
                    members.previous[slot] = bits;
                    batch.extend(members.series[slot].clone().map(|series| (series, f64::from_bits(bits))));
                }
            }
            slot += length;
        }
        Ok(at)
    }
}

fn read_block(reader: &mut Reader<'_>) -> Result<(u64, Labels), Malformed> {
    let serial = reader.varint()?;
    let count = reader.count(reader.rest().len())?;
    let pairs: Result<Vec<(&str, &str)>, Malformed> =
        (0..count).map(|_| Ok((reader.text()?, reader.text()?))).collect();
    Ok((serial, Labels::from_pairs(pairs?)))
}

impl<S> Default for Members<S> {
    fn default() -> Self {
        Self { series: Vec::new(), previous: Vec::new() }
    }
}

impl<S: Clone> Members<S> {
    fn resize(&mut self, width: usize) {
        if self.series.len() < width {
            self.series.resize(width, None);
            self.previous.resize(width, 0);
        }
    }
}
