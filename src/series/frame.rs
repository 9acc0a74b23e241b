//! Up to sixteen consecutive appends of one group of series, packed: one time column, one tiny run per series that moved.
//!
//! In: rows of values, one row per time, one place (slot) per series. Out: the column of a slot. A series whose value did
//! not change in the whole frame costs two bits. Frames are chained: a column starts from the value that the previous
//! frame ended with; every [`KEY_EVERY`]th frame holds those values itself, so that reading can start there.

use std::ops::Range;

use super::bits::{Reader, put_signed};
use super::column::{FREE_HEADERS, decode_run, encode_run, end_of_run};
use crate::model::STALE_NAN_BITS;

/// Most rows of a frame.
pub(super) const ROWS: usize = 16;
/// One frame in so many can be read without those before it.
pub(super) const KEY_EVERY: usize = 8;
/// Stands for "no sample" in a row: a signalling NaN with a payload of our own. A sample with these very bits is stored
/// as an ordinary NaN.
pub(super) const ABSENT: u64 = 0x7ff4_6162_7365_6e74;

/// Header of a run that is preceded by two masks: which rows have no sample, which a stale marker.
const MASKED: u8 = *FREE_HEADERS.end();
/// Header, after masks, when all other rows repeat the value before.
const UNCHANGED: u8 = *FREE_HEADERS.start();

/// A row that is not packed yet: the values of one time, by slot. Slots past its end are absent.
pub(super) struct Row {
    /// Milliseconds since the epoch.
    pub(super) at: i64,
    /// Bit patterns by slot, [`ABSENT`] where there is no sample.
    pub(super) values: Vec<u64>,
}

/// What is known of 64 slots.
struct Word {
    /// Slots with a run in the payload.
    moved: u64,
    /// Slots without any sample, of those that have not moved.
    gone: u64,
    /// How many runs precede this word's.
    runs_before: u32,
    /// Where in the payload this word's runs start.
    payload_at: u32,
}

/// A packed frame.
pub(super) struct Frame {
    first: i64,
    last: i64,
    rows: u8,
    samples: u32,
    base: Option<Box<[u64]>>,
    words: Box<[Word]>,
    /// Lengths of the runs, the runs, the times.
    data: Box<[u8]>,
    payload_at: u32,
    times_at: u32,
}

impl Frame {
    /// Packs rows, oldest first, and leaves in `previous` the last value of each slot.
    pub(super) fn pack(rows: &[Row], previous: &mut [u64], is_key: bool) -> Self {
        debug_assert!((1..=ROWS).contains(&rows.len()));
        let base = is_key.then(|| previous.to_vec().into_boxed_slice());
        let (mut words, mut lengths, mut payload) = (Vec::new(), Vec::new(), Vec::new());
        let mut samples = 0;
        for (w, slots) in previous.chunks_mut(64).enumerate() {
            let mut word =
                Word { moved: 0, gone: 0, runs_before: lengths.len() as u32, payload_at: payload.len() as u32 };
            for (s, before) in slots.iter_mut().enumerate() {
                let start = payload.len();
                let present = pack_column(rows, w * 64 + s, before, &mut payload);
                samples += present;
                if payload.len() > start {
                    word.moved |= 1 << s;
                    lengths.push((payload.len() - start) as u8);
                } else if present == 0 {
                    word.gone |= 1 << s;
                }
            }
            if slots.len() < 64 {
                word.gone |= u64::MAX << slots.len(); // slots that join later were not here yet
            }
            words.push(word);
        }
        let mut data = lengths;
        let payload_at = data.len() as u32;
        data.append(&mut payload);
        let times_at = data.len() as u32;
        for pair in rows.windows(2) {
            put_signed(&mut data, pair[1].at - pair[0].at);
        }
        Self {
            first: rows[0].at,
            last: rows[rows.len() - 1].at,
            rows: rows.len() as u8,
            samples,
            base,
            words: words.into_boxed_slice(),
            data: data.into_boxed_slice(),
            payload_at,
            times_at,
        }
    }

    /// Time of the first row.
    pub(super) fn first(&self) -> i64 {
        self.first
    }

    /// Time of the last row.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// How many rows.
    pub(super) fn rows(&self) -> usize {
        self.rows.into()
    }

    /// How many samples in all slots.
    pub(super) fn samples(&self) -> u64 {
        self.samples.into()
    }

    /// Whether reading can start here.
    pub(super) fn is_key(&self) -> bool {
        self.base.is_some()
    }

    /// Bytes of memory.
    pub(super) fn size_bytes(&self) -> usize {
        let base = self.base.as_ref().map_or(0, |base| base.len() * 8);
        size_of::<Self>() + base + self.words.len() * size_of::<Word>() + self.data.len()
    }

    /// In a key frame, the value that `slot` had before it.
    pub(super) fn base(&self, slot: usize) -> u64 {
        self.base.as_ref().and_then(|base| base.get(slot)).copied().unwrap_or(0)
    }

    /// The times of the rows.
    pub(super) fn times(&self) -> impl Iterator<Item = i64> + '_ {
        let mut reader = Reader::new(&self.data[self.times_at as usize..]);
        let mut at = self.first;
        (0..self.rows).map(move |row| {
            if row > 0 {
                at += reader.signed().expect("invariant: the frame wrote its own times");
            }
            at
        })
    }

    /// Which rows have times in `[from, to]`.
    pub(super) fn rows_in(&self, from: i64, to: i64) -> Range<usize> {
        if self.first >= from && self.last <= to {
            return 0..self.rows();
        }
        let start = self.times().take_while(|at| *at < from).count();
        start..start.max(self.times().take_while(|at| *at <= to).count())
    }

    /// Bit by bit, the rows in which `slot` has a sample.
    pub(super) fn presence(&self, slot: usize) -> u16 {
        match self.run(slot) {
            Run::Gone => 0,
            Run::Still => self.all_rows(),
            Run::Packed(bytes) if bytes[0] == MASKED => self.all_rows() & !u16::from_le_bytes([bytes[1], bytes[2]]),
            Run::Packed(_) => self.all_rows(),
        }
    }

    /// Whether `slot` has any sample.
    pub(super) fn is_present(&self, slot: usize) -> bool {
        !matches!(self.run(slot), Run::Gone)
    }

    /// Reads the column of `slot`, [`ABSENT`] where there is no sample, and moves `previous` on to the end of the frame.
    pub(super) fn column(&self, slot: usize, previous: &mut u64, values: &mut [u64; ROWS]) {
        let rows = self.rows();
        match self.run(slot) {
            Run::Gone => values[..rows].fill(ABSENT),
            Run::Still => values[..rows].fill(*previous),
            Run::Packed(bytes) => self.packed_column(bytes, previous, values),
        }
    }

    /// Reads `wanted` rows of many slots, which rise: of the `i`th into `values` from `i * stride` on. Moves `previous`,
    /// by place in `slots`, on to the end of the frame.
    pub(super) fn columns(
        &self,
        (slots, previous): (&[u32], &mut [u64]),
        wanted: Range<usize>,
        values: &mut [u64],
        stride: usize,
    ) {
        let (mut walk, mut column) = (Walk::default(), [0; ROWS]);
        for (i, (slot, previous)) in slots.iter().zip(previous).enumerate() {
            let slot = *slot as usize;
            if self.is_key() {
                *previous = self.base(slot);
            }
            let run = self.next_run(slot, &mut walk);
            if wanted.is_empty() {
                match run {
                    Run::Gone | Run::Still => {}
                    Run::Packed(bytes) if bytes[0] == MASKED => self.masked_column(bytes, previous, &mut column),
                    Run::Packed(bytes) => {
                        *previous = end_of_run(&mut Reader::new(bytes), *previous, self.rows())
                            .expect("invariant: the frame wrote its own runs");
                    }
                }
                continue;
            }
            let out = &mut values[i * stride..i * stride + wanted.len()];
            match run {
                Run::Gone => out.fill(ABSENT),
                Run::Still => out.fill(*previous),
                Run::Packed(bytes) => {
                    self.packed_column(bytes, previous, &mut column);
                    out.copy_from_slice(&column[wanted.clone()]);
                }
            }
        }
    }

    fn packed_column(&self, bytes: &[u8], previous: &mut u64, values: &mut [u64; ROWS]) {
        if bytes[0] == MASKED {
            return self.masked_column(bytes, previous, values);
        }
        let rows = self.rows();
        decode_run(&mut Reader::new(bytes), *previous, rows, values).expect("invariant: the frame wrote its own runs");
        *previous = values[rows - 1];
    }

    fn masked_column(&self, bytes: &[u8], previous: &mut u64, values: &mut [u64; ROWS]) {
        let absent = u16::from_le_bytes([bytes[1], bytes[2]]);
        let stale = u16::from_le_bytes([bytes[3], bytes[4]]);
        let count = (self.all_rows() & !absent & !stale).count_ones() as usize;
        let mut run = [*previous; ROWS];
        if bytes[5] != UNCHANGED {
            decode_run(&mut Reader::new(&bytes[5..]), *previous, count, &mut run)
                .expect("invariant: the frame wrote its own runs");
            *previous = run[count - 1];
        }
        let mut run = run.into_iter();
        for (row, value) in values[..self.rows()].iter_mut().enumerate() {
            *value = match (absent >> row & 1, stale >> row & 1) {
                (1, _) => ABSENT,
                (_, 1) => STALE_NAN_BITS,
                _ => run.next().unwrap_or(ABSENT),
            };
        }
    }

    fn all_rows(&self) -> u16 {
        u16::MAX >> (ROWS - self.rows())
    }

    /// As [`Frame::run`], for slots that rise from call to call.
    fn next_run(&self, slot: usize, walk: &mut Walk) -> Run<'_> {
        let Some(word) = self.words.get(slot / 64) else { return Run::Gone };
        let bit = 1_u64 << (slot % 64);
        if word.moved & bit == 0 {
            return if word.gone & bit != 0 { Run::Gone } else { Run::Still };
        }
        if walk.word != slot / 64 + 1 {
            *walk = Walk { word: slot / 64 + 1, ..Walk::default() };
        }
        let lengths = &self.data[word.runs_before as usize..];
        let before = (word.moved & (bit - 1)).count_ones() as usize;
        walk.bytes += lengths[walk.passed..before].iter().map(|length| usize::from(*length)).sum::<usize>();
        walk.passed = before;
        let at = self.payload_at as usize + word.payload_at as usize + walk.bytes;
        Run::Packed(&self.data[at..at + usize::from(lengths[before])])
    }

    fn run(&self, slot: usize) -> Run<'_> {
        let Some(word) = self.words.get(slot / 64) else { return Run::Gone };
        let bit = 1_u64 << (slot % 64);
        if word.moved & bit == 0 {
            return if word.gone & bit != 0 { Run::Gone } else { Run::Still };
        }
        let lengths = &self.data[word.runs_before as usize..];
        let before = (word.moved & (bit - 1)).count_ones() as usize;
        let skipped: usize = lengths[..before].iter().map(|length| usize::from(*length)).sum();
        let at = self.payload_at as usize + word.payload_at as usize + skipped;
        Run::Packed(&self.data[at..at + usize::from(lengths[before])])
    }
}

/// Where the last slot's run stood, so that the next one's is found from there.
#[derive(Default)]
struct Walk {
    /// One more than the place of the word among its frame's; 0 before the first.
    word: usize,
    /// Runs of the word before the last slot, as bits, and their bytes.
    passed: usize,
    bytes: usize,
}

enum Run<'a> {
    Gone,
    Still,
    Packed(&'a [u8]),
}

/// Appends the run of one slot, nothing when it is wholly absent or unchanged; how many samples it has.
fn pack_column(rows: &[Row], slot: usize, before: &mut u64, payload: &mut Vec<u8>) -> u32 {
    let (mut absent, mut stale) = (0_u16, 0_u16);
    let (mut values, mut count, mut moved) = ([0_u64; ROWS], 0, false);
    for (r, row) in rows.iter().enumerate() {
        match row.values.get(slot).copied().unwrap_or(ABSENT) {
            ABSENT => absent |= 1 << r,
            STALE_NAN_BITS => stale |= 1 << r,
            value => {
                moved |= value != *before;
                values[count] = value;
                count += 1;
            }
        }
    }
    let present = rows.len() as u32 - absent.count_ones();
    if present == 0 || (absent | stale == 0 && !moved) {
        return present;
    }
    if absent | stale != 0 {
        payload.push(MASKED);
        payload.extend(absent.to_le_bytes());
        payload.extend(stale.to_le_bytes());
    }
    if moved {
        encode_run(*before, &values[..count], payload);
        *before = values[count - 1];
    } else {
        payload.push(UNCHANGED);
    }
    present
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            3 => Just(7_f64.to_bits()),
            3 => (0..100_u32).prop_map(|v| f64::from(v).to_bits()),
            2 => Just(ABSENT),
            1 => Just(STALE_NAN_BITS),
            1 => any::<u64>(),
        ]
    }

    proptest! {
        #[test]
        fn chained_frames_give_every_column_back(
            cells in prop::collection::vec(prop::collection::vec(value(), 0..150), 1..60),
            rows_per_frame in 1..=ROWS,
        ) {
            let rows: Vec<Row> = cells.iter().enumerate()
                .map(|(i, values)| Row { at: 1000 + 15 * i as i64, values: values.clone() }).collect();
            let mut previous = vec![0; 70];
            let mut frames = Vec::new();
            for (i, rows) in rows.chunks(rows_per_frame).enumerate() {
                previous.resize(previous.len().max(rows.iter().map(|r| r.values.len()).max().unwrap()), 0);
                frames.push(Frame::pack(rows, &mut previous, i % 3 == 0));
            }
            for slot in 0..200 {
                let (mut before, mut column, mut back) = (0, [0; ROWS], Vec::new());
                for frame in &frames {
                    if frame.is_key() {
                        before = frame.base(slot);
                    }
                    frame.column(slot, &mut before, &mut column);
                    for (row, value) in column[..frame.rows()].iter().enumerate() {
                        prop_assert_eq!(frame.presence(slot) >> row & 1 == 1, *value != ABSENT);
                    }
                    back.extend_from_slice(&column[..frame.rows()]);
                }
                let wanted: Vec<u64> = cells.iter().map(|row| row.get(slot).copied().unwrap_or(ABSENT)).collect();
                prop_assert_eq!(back, wanted);
            }
            for (every, from, to) in [(1, 0, ROWS), (3, 0, ROWS), (1, 2, 5), (7, 1, 3), (1, 3, 3)] {
                let slots: Vec<u32> = (0..200).step_by(every).collect();
                let mut before = vec![0; slots.len()];
                for frame in &frames {
                    let wanted = from.min(frame.rows())..to.min(frame.rows());
                    let mut found = vec![1; slots.len() * ROWS];
                    frame.columns((&slots, &mut before), wanted.clone(), &mut found, ROWS);
                    let first = frame.times().next().unwrap();
                    let row = rows.iter().position(|row| row.at == first).unwrap();
                    for (slot, found) in slots.iter().zip(found.chunks(ROWS)) {
                        for (at, value) in wanted.clone().zip(found) {
                            let stored = cells[row + at].get(*slot as usize).copied().unwrap_or(ABSENT);
                            prop_assert_eq!(*value, stored);
                        }
                    }
                }
            }
            let times: Vec<i64> = frames.iter().flat_map(Frame::times).collect();
            prop_assert_eq!(times, rows.iter().map(|r| r.at).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_idle_series_costs_two_bits() {
        let rows =
            |value: f64| (0..16).map(|i| Row { at: i * 5000, values: vec![value.to_bits(); 6400] }).collect::<Vec<_>>();
        let mut previous = vec![0; 6400];
        Frame::pack(&rows(3.0), &mut previous, true);
        let idle = Frame::pack(&rows(3.0), &mut previous, false);
        assert!(idle.size_bytes() < 6400 / 64 * 24 + 200, "{} bytes", idle.size_bytes());
        assert_eq!(idle.samples(), 16 * 6400);
    }
}
