//! Sums of edges by their ids, and their packed form: all edges of one slot of time as one value.
//!
//! In: rows and packs. Out: [`Sums`], packs. Invariant: numbers are exact; a pack that is cut or damaged is an error,
//! never a wrong sum.
//!
//! Layout after the magic, compressed: the first minute with data, outcome ids, layout ids, then each edge by rising id:
//! its outcomes, its histograms (mostly one), its other numbers. See [`Writer::number`] for how numbers are written.

use std::io::Read as _;
use std::sync::Arc;

use crate::model::Timestamp;

/// Of packs of this form.
const MAGIC: [u8; 4] = *b"mep1";
/// Packs are written once and read often; higher levels save little of what is mostly numbers.
const ZSTD_LEVEL: i32 = 1;
/// Most bytes of a pack before compression: two million edges.
const PLAIN_LIMIT_BYTES: u64 = 512 << 20;
/// The other numbers of an edge: sum of latencies, bytes and messages both ways, connections closed.
pub(super) const NUMBERS: usize = 6;

pub(super) type FastMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;
pub(super) type FastSet<K> = hashbrown::HashSet<K, foldhash::fast::FixedState>;

/// What one edge did.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sum {
    /// By id of the outcome.
    pub(super) outcomes: Vec<(i64, f64)>,
    /// By id of the layout: one, unless pods differ in their bounds.
    pub(super) histograms: Vec<(i64, Vec<f64>)>,
    /// Sum of latencies, request and response bytes, request and response messages, connections closed.
    pub(super) numbers: [f64; NUMBERS],
}

/// What all edges did in a slot of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    /// In the order in which they came first.
    pub(super) edges: Vec<(i64, Sum)>,
    /// Where each id stands there.
    places: FastMap<i64, usize>,
    /// Edges that are passed over.
    unwanted: Arc<FastSet<i64>>,
    /// The first minute in which any did something.
    pub(super) first: Option<Timestamp>,
}

impl Sum {
    fn add_outcome(&mut self, id: i64, count: f64) {
        match self.outcomes.iter_mut().find(|(known, _)| *known == id) {
            Some((_, sum)) => *sum += count,
            None => self.outcomes.push((id, count)),
        }
    }

    /// The counts under a layout, as many as there are buckets.
    fn histogram(&mut self, layout: i64, buckets: usize) -> &mut [f64] {
        let at = match self.histograms.iter().position(|(known, _)| *known == layout) {
            Some(at) => at,
            None => {
                self.histograms.push((layout, vec![0.0; buckets]));
                self.histograms.len() - 1
            }
        };
        let counts = &mut self.histograms[at].1;
        if counts.len() < buckets {
            counts.resize(buckets, 0.0);
        }
        counts
    }

    /// Adds what a row says.
    pub(super) fn add(&mut self, outcomes: &[(i64, f64)], histogram: Option<(i64, &[f64])>, numbers: &[f64; NUMBERS]) {
        outcomes.iter().for_each(|(id, count)| self.add_outcome(*id, *count));
        if let Some((layout, counts)) = histogram {
            self.histogram(layout, counts.len()).iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        self.numbers.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
}

impl Sums {
    /// None yet, and none ever of some edges.
    pub(super) fn without(unwanted: &Arc<FastSet<i64>>) -> Self {
        Self { unwanted: Arc::clone(unwanted), ..Self::default() }
    }

    /// The sum of an edge.
    pub(super) fn edge(&mut self, id: i64) -> &mut Sum {
        let at = self.place(id, usize::MAX);
        &mut self.edges[at].1
    }

    /// Where the sum of an edge stands. Packs of one mesh list much the same edges in the same order, so it is mostly where
    /// the reader of a pack thinks it is.
    fn place(&mut self, id: i64, guess: usize) -> usize {
        if self.edges.get(guess).is_some_and(|(known, _)| *known == id) {
            return guess;
        }
        *self.places.entry(id).or_insert_with(|| {
            self.edges.push((id, Sum::default()));
            self.edges.len() - 1
        })
    }

    /// Remembers that something was done in that minute.
    pub(super) fn seen(&mut self, minute: Timestamp) {
        self.first = Some(self.first.map_or(minute, |first| first.min(minute)));
    }

    /// The packed form.
    pub(super) fn pack(&self) -> Vec<u8> {
        let mut edges: Vec<&(i64, Sum)> = self.edges.iter().collect();
        edges.sort_unstable_by_key(|(id, _)| *id);
        let numbered = |all: &mut dyn Iterator<Item = i64>| {
            let mut ids: Vec<i64> = all.collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let outcomes = numbered(&mut self.edges.iter().flat_map(|(_, sum)| sum.outcomes.iter().map(|(id, _)| *id)));
        let layouts = numbered(&mut self.edges.iter().flat_map(|(_, sum)| sum.histograms.iter().map(|(id, _)| *id)));
        let mut writer = Writer(Vec::with_capacity(edges.len() * 96 + 64));
        writer.id(self.first.map_or(i64::MIN, Timestamp::as_millis));
        for list in [&outcomes, &layouts] {
            writer.count(list.len());
            list.iter().for_each(|id| writer.id(*id));
        }
        writer.count(edges.len());
        let place = |list: &[i64], id: i64| list.partition_point(|known| *known < id);
        for (id, Sum { outcomes: counts, histograms, numbers }) in edges {
            writer.id(*id);
            writer.count(counts.len());
            for (outcome, count) in counts {
                writer.count(place(&outcomes, *outcome));
                writer.number(*count);
            }
            writer.count(histograms.len());
            for (layout, counts) in histograms {
                writer.count(place(&layouts, *layout));
                writer.count(counts.len());
                writer.numbers(counts);
            }
            writer.numbers(numbers);
        }
        let mut pack = MAGIC.to_vec();
        let compressed = zstd::bulk::compress(&writer.0, ZSTD_LEVEL);
        pack.extend(compressed.expect("invariant: zstd compresses any bytes into memory"));
        pack
    }

    /// Adds what a pack says.
    ///
    /// # Errors
    /// Why the pack cannot be read; some of it may have been added.
    pub(super) fn add_pack(&mut self, pack: &[u8]) -> Result<(), String> {
        let compressed = pack.strip_prefix(&MAGIC).ok_or("it does not begin as packs of edges do")?;
        let mut plain = Vec::with_capacity(compressed.len() * 3);
        let decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(|error| error.to_string())?;
        decoder.take(PLAIN_LIMIT_BYTES).read_to_end(&mut plain).map_err(|error| error.to_string())?;
        let mut reader = Reader(&plain);
        self.read(&mut reader).ok_or("it is cut or damaged")?;
        if reader.0.is_empty() { Ok(()) } else { Err("something follows its end".to_owned()) }
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let first = reader.id()?;
        if first != i64::MIN {
            self.seen(Timestamp::from_millis(first));
        }
        let [outcomes, layouts] = [reader.ids()?, reader.ids()?];
        let mut next = 0;
        for _ in 0..reader.count()? {
            let id = reader.id()?;
            if !self.unwanted.is_empty() && self.unwanted.contains(&id) {
                reader.pass_edge()?;
                continue;
            }
            let at = self.place(id, next);
            next = at + 1;
            let sum = &mut self.edges[at].1;
            for _ in 0..reader.count()? {
                let outcome = *outcomes.get(reader.count()?)?;
                sum.add_outcome(outcome, reader.number()?);
            }
            for _ in 0..reader.count()? {
                let layout = *layouts.get(reader.count()?)?;
                let buckets = reader.count().filter(|buckets| *buckets <= reader.0.len() * ZEROS_MAX)?;
                reader.add_to(sum.histogram(layout, buckets).get_mut(..buckets)?)?;
            }
            reader.add_to(&mut sum.numbers)?;
        }
        Some(())
    }
}

/// Whole numbers below this are one byte.
const SMALL: u8 = 250;
const TWO_BYTES: u8 = 251;
const FOUR_BYTES: u8 = 252;
const SINGLE: u8 = 253;
const DOUBLE: u8 = 254;
const ZEROS: u8 = 255;
/// Most zeros that stand as one.
const ZEROS_MAX: usize = 255;

struct Writer(Vec<u8>);

impl Writer {
    fn id(&mut self, id: i64) {
        self.0.extend(id.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        let mut rest = count;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    /// A whole number in one, three or five bytes; any other as the shortest float that is exactly it.
    fn number(&mut self, number: f64) {
        let whole = number as u32;
        if f64::from(whole) == number && number.is_sign_positive() {
            match whole {
                0..250 => self.0.push(whole as u8),
                250..=0xffff => {
                    self.0.push(TWO_BYTES);
                    self.0.extend((whole as u16).to_le_bytes());
                }
                _ => {
                    self.0.push(FOUR_BYTES);
                    self.0.extend(whole.to_le_bytes());
                }
            }
        } else if f64::from(number as f32) == number {
            self.0.push(SINGLE);
            self.0.extend((number as f32).to_le_bytes());
        } else {
            self.0.push(DOUBLE);
            self.0.extend(number.to_le_bytes());
        }
    }

    /// Numbers in a row; two zeros or more are two bytes.
    fn numbers(&mut self, numbers: &[f64]) {
        let mut rest = numbers;
        while let Some((first, after)) = rest.split_first() {
            let zeros = rest.iter().take(ZEROS_MAX).take_while(|number| number.to_bits() == 0).count();
            if zeros >= 2 {
                self.0.extend([ZEROS, zeros as u8]);
                rest = &rest[zeros..];
            } else {
                self.number(*first);
                rest = after;
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn id(&mut self) -> Option<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn ids(&mut self) -> Option<Vec<i64>> {
        let count = self.count().filter(|count| *count <= self.0.len() / 8)?;
        (0..count).map(|_| self.id()).collect()
    }

    fn count(&mut self) -> Option<usize> {
        let mut count = 0_usize;
        for shift in (0..42).step_by(7) {
            let byte = self.byte()?;
            count |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(count);
            }
        }
        None
    }

    fn number(&mut self) -> Option<f64> {
        let tag = self.byte()?;
        self.number_of(tag)
    }

    fn number_of(&mut self, tag: u8) -> Option<f64> {
        let number = match tag {
            small if small < SMALL => f64::from(small),
            TWO_BYTES => f64::from(u16::from_le_bytes(self.bytes()?)),
            FOUR_BYTES => f64::from(u32::from_le_bytes(self.bytes()?)),
            SINGLE => f64::from(f32::from_le_bytes(self.bytes()?)),
            DOUBLE => f64::from_le_bytes(self.bytes()?),
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    /// Passes over what an edge did.
    fn pass_edge(&mut self) -> Option<()> {
        for _ in 0..self.count()? {
            self.count()?;
            self.number()?;
        }
        for _ in 0..self.count()? {
            self.count()?;
            let buckets = self.count()?;
            self.pass(buckets)?;
        }
        self.pass(NUMBERS)
    }

    /// Passes over so many numbers.
    fn pass(&mut self, numbers: usize) -> Option<()> {
        let mut at = 0;
        while at < numbers {
            at += match self.byte()? {
                ZEROS => usize::from(self.byte().filter(|zeros| *zeros > 0)?),
                tag => self.number_of(tag).map(|_| 1)?,
            };
        }
        (at == numbers).then_some(())
    }

    /// Adds as many numbers as there are sums.
    fn add_to(&mut self, sums: &mut [f64]) -> Option<()> {
        let mut at = 0;
        while at < sums.len() {
            match self.byte()? {
                ZEROS => at += usize::from(self.byte().filter(|zeros| *zeros > 0)?),
                tag => {
                    sums[at] += self.number_of(tag)?;
                    at += 1;
                }
            }
        }
        (at == sums.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> Sums {
        let mut sums = Sums::default();
        for id in [-7, 0, i64::MAX] {
            let counts = [0.0, 0.0, 1.0, 249.0, 250.0, 70_000.0, 0.1, 0.5, 5e9, 0.0];
            let numbers = [812.5, 0.0, 0.0, 0.0, 0.0, 1.0 / 3.0];
            sums.edge(id).add(&[(5, 90.25), (-1, 1e300)], Some((11, &counts)), &numbers);
        }
        sums.edge(3).add(&[], None, &[0.0; NUMBERS]);
        sums.edge(-7).add(&[], Some((12, &[4.0])), &[0.0; NUMBERS]);
        sums.seen(Timestamp::from_millis(120_000));
        sums.seen(Timestamp::from_millis(60_000));
        sums
    }

    fn sorted(sums: &Sums) -> (Vec<(i64, Sum)>, Option<Timestamp>) {
        let mut edges = sums.edges.clone();
        edges.sort_by_key(|(id, _)| *id);
        (edges, sums.first)
    }

    #[test]
    fn what_is_packed_is_added_exactly() {
        let sums = sums();
        let pack = sums.pack();
        let mut read = Sums::default();
        read.add_pack(&pack).expect("a pack");
        assert_eq!(sorted(&read), sorted(&sums));
        read.add_pack(&pack).expect("a pack");
        assert_eq!(read.edge(0).outcomes, [(5, 180.5), (-1, 2e300)]);
        assert_eq!(read.edge(0).histograms[0].1[3..7], [498.0, 500.0, 140_000.0, 0.2]);
        assert_eq!(read.first, Some(Timestamp::from_millis(60_000)));
        let mut empty = Sums::default();
        empty.add_pack(&Sums::default().pack()).expect("an empty pack");
        assert_eq!(sorted(&empty), (Vec::new(), None));
    }

    #[test]
    fn packs_of_other_edges_in_between_are_added_to_the_right_ones() {
        let pack = |ids: &[i64]| {
            let mut sums = Sums::default();
            ids.iter().for_each(|id| sums.edge(*id).add(&[(1, *id as f64)], None, &[0.0; NUMBERS]));
            sums.pack()
        };
        let mut sums = Sums::default();
        for ids in [&[3, 5, 9][..], &[1, 3, 4, 9], &[5], &[1, 3, 4, 5, 9, 11]] {
            sums.add_pack(&pack(ids)).expect("a pack");
        }
        let found: Vec<(i64, f64)> = sorted(&sums).0.iter().map(|(id, sum)| (*id, sum.outcomes[0].1)).collect();
        assert_eq!(found, [(1, 2.0), (3, 9.0), (4, 8.0), (5, 15.0), (9, 27.0), (11, 11.0)]);
        let mut some = Sums::without(&Arc::new([3, 5, 77].into_iter().collect()));
        some.add_pack(&pack(&[3, 4, 5, 9])).expect("a pack");
        let left: Vec<i64> = some.edges.iter().map(|(id, _)| *id).collect();
        assert_eq!(left, [4, 9]);
    }

    #[test]
    fn a_damaged_pack_is_refused_and_never_panics() {
        let pack = sums().pack();
        let plain = zstd::bulk::decompress(&pack[4..], 1 << 20).expect("a pack");
        for cut in 0..plain.len() {
            let mut damaged = MAGIC.to_vec();
            damaged.extend(zstd::bulk::compress(&plain[..cut], 1).expect("compress"));
            assert!(Sums::default().add_pack(&damaged).is_err(), "cut at {cut}");
        }
        for at in 0..plain.len() {
            let mut changed = plain.clone();
            changed[at] ^= 0xff;
            let mut damaged = MAGIC.to_vec();
            damaged.extend(zstd::bulk::compress(&changed, 1).expect("compress"));
            let _ = Sums::default().add_pack(&damaged);
        }
        assert!(Sums::default().add_pack(b"nonsense").is_err());
        assert!(Sums::default().add_pack(&pack[..pack.len() - 1]).is_err());
    }
}
