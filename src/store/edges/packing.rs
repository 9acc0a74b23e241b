//! Packs of edges: made from rows that are complete, and added up for any range.
//!
//! In: rows of minutes and hours. Out: packs of a minute, five minutes, an hour, a day; [`EdgeSums`]. Invariant: every
//! minute of a range is counted from one pack or one row, never from two; without any pack the sums are the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::super::chunks::set_progress;
use super::super::{Store, StoreError, values};
use super::pack::{FastMap, FastSet, Sum, Sums};
use super::rows::edge_from;
use super::{HOUR, RollupTier};
use crate::model::workload::{LatencyHistogram, Outcome, Texts};
use crate::model::{EdgeKey, EdgeMinute, Timestamp};

/// Packs that are decoded together while the next ones arrive.
const BATCH_BYTES: usize = 4 << 20;
/// Most edges whose names are remembered; past it all are forgotten and read again.
const KEYS_MAX: usize = 500_000;

/// What edges did in windows of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeSums {
    /// One sum for each edge and window, under the start of its window as its minute.
    pub edges: Vec<EdgeMinute>,
    /// The first minute in which any edge did something.
    pub first: Option<Timestamp>,
}

/// Names of edges by their ids. An id is a hash of the names, so what is remembered never changes.
#[derive(Default)]
pub(in super::super) struct EdgeKeys(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    by_id: FastMap<i64, Arc<EdgeKey>>,
    texts: Texts,
}

/// One size of packs.
struct Level {
    seconds: i32,
    /// Its place in `progress`.
    progress: &'static str,
    source: Source,
}

enum Source {
    Rows(RollupTier),
    Packs(i32),
}

const LEVELS: [Level; 4] = [
    Level { seconds: 60, progress: "edges_packed_1m", source: Source::Rows(RollupTier::Minutes) },
    Level { seconds: 300, progress: "edges_packed_5m", source: Source::Packs(60) },
    Level { seconds: 3600, progress: "edges_packed_1h", source: Source::Rows(RollupTier::Hours) },
    Level { seconds: 86_400, progress: "edges_packed_1d", source: Source::Packs(3600) },
];

fn length(seconds: i32) -> Duration {
    Duration::from_secs(u64::from(seconds.unsigned_abs()))
}

/// Full hours that begin in or end a range.
fn next_hour(at: Timestamp) -> Timestamp {
    if at.floor_to(HOUR) == at { at } else { at.floor_to(HOUR) + HOUR }
}

impl Store {
    /// Makes the packs of what is complete and not packed, at most `limit`, the oldest first; returns how many.
    ///
    /// # Errors
    /// When the server is away; the next call goes on from there.
    pub async fn pack_edges(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut made = 0;
        for level in &LEVELS {
            let long = length(level.seconds);
            let complete = match level.source {
                Source::Rows(RollupTier::Minutes) => self.edges_complete_until().await?,
                Source::Rows(RollupTier::Hours) => self.rolled_hours_until().await?,
                Source::Packs(seconds) => self.progress(of(seconds).progress).await?,
            };
            let (Some(complete), Some(first)) = (complete, self.first_to_pack(level).await?) else { continue };
            // A boundary in the future is of a clock that was wrong: everything is packed again.
            let packed = self.progress(level.progress).await?.filter(|until| *until <= now);
            let mut at = packed.map_or(first, |packed| packed.max(first));
            let end = complete.min(now).floor_to(long);
            while at < end && made < limit {
                self.make_pack(level, at).await?;
                (at, made) = (at + long, made + 1);
            }
        }
        Ok(made)
    }

    /// The first slot that is there whole, by what it is made of.
    async fn first_to_pack(&self, level: &Level) -> Result<Option<Timestamp>, StoreError> {
        let sql = match level.source {
            Source::Rows(tier) => format!("SELECT min({}) FROM {}", tier.time_column(), tier.table()),
            Source::Packs(seconds) => format!("SELECT min(start) FROM edge_pack WHERE seconds = {seconds}"),
        };
        let first: Option<DateTime<Utc>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(self.pool())
            .await
            .map_err(StoreError::doing("find the first edges to pack"))?;
        let long = length(level.seconds);
        Ok(first.map(Timestamp::from).map(|first| match first.floor_to(long) {
            whole if whole == first => first,
            before => before + long,
        }))
    }

    async fn make_pack(&self, level: &Level, at: Timestamp) -> Result<(), StoreError> {
        let until = at + length(level.seconds);
        let mut sums = Sums::default();
        match level.source {
            Source::Rows(tier) => self.sum_rows(tier, (at, until), &mut sums).await?,
            Source::Packs(seconds) => {
                let wanted = level.seconds / seconds;
                let starts: Vec<Timestamp> = (0..wanted).map(|n| at + length(seconds * n)).collect();
                let picks: Vec<Pick> = starts.iter().map(|start| Pick { window: 0, seconds, start: *start }).collect();
                let (mut added, missing) = self.sum_packs(vec![sums], &picks).await?;
                if !missing.is_empty() {
                    // Some minute was written again after it was packed: its rows will be read.
                    return self.packed_until(level, until).await;
                }
                sums = added.pop().unwrap_or_default();
            }
        }
        let pack =
            tokio::task::spawn_blocking(move || sums.pack()).await.map_err(|error| damaged(error.to_string()))?;
        let mut transaction = self.begin_write("pack edges").await?;
        let upsert = "INSERT INTO edge_pack (seconds, start, edges) VALUES ($1, $2, $3)
                      ON CONFLICT (seconds, start) DO UPDATE SET edges = excluded.edges";
        let done = sqlx::query(upsert).bind(level.seconds).bind(values::time(at)).bind(pack);
        done.execute(&mut *transaction).await.map_err(StoreError::doing("pack edges"))?;
        set_progress(&mut transaction, level.progress, until).await?;
        transaction.commit().await.map_err(StoreError::doing("pack edges"))
    }

    async fn packed_until(&self, level: &Level, until: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.begin_write("pack edges").await?;
        set_progress(&mut transaction, level.progress, until).await?;
        transaction.commit().await.map_err(StoreError::doing("pack edges"))
    }

    /// The sum of each edge over each of the windows, which begin and end with minutes, rise and do not overlap.
    /// `minutes_from` is the start of the first full hour whose minutes are kept; windows before it begin and end with
    /// hours. The first minute is that of any edge, wanted or not.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn edge_sums(
        &self,
        windows: &[(Timestamp, Timestamp)],
        minutes_from: Timestamp,
        wanted: &(dyn Fn(&EdgeKey) -> bool + Send + Sync),
    ) -> Result<EdgeSums, StoreError> {
        let (Some((from, _)), Some((_, to))) = (windows.first(), windows.last()) else {
            return Ok(EdgeSums::default());
        };
        let packs = self.packs_between(*from, *to, minutes_from).await?;
        let unwanted = Arc::new(self.unwanted(wanted));
        let sums = match self.sum_windows(windows, (&packs, &unwanted), minutes_from).await {
            Err(StoreError::Damaged { what, reason }) if !packs.is_empty() => {
                tracing::warn!("{what}: {reason}; the rows are read instead");
                self.sum_windows(windows, (&BTreeMap::new(), &unwanted), minutes_from).await?
            }
            other => other?,
        };
        self.named(windows, sums, wanted).await
    }

    /// Ids of edges that are known and not wanted: of these nothing needs to be added.
    fn unwanted(&self, wanted: &(dyn Fn(&EdgeKey) -> bool + Send + Sync)) -> FastSet<i64> {
        let known = self.0.edge_keys.0.lock();
        known.by_id.iter().filter(|(_, key)| !wanted(key)).map(|(id, _)| *id).collect()
    }

    /// Which packs there are: their lengths by their start.
    async fn packs_between(
        &self,
        from: Timestamp,
        to: Timestamp,
        minutes_from: Timestamp,
    ) -> Result<BTreeMap<Timestamp, Vec<i32>>, StoreError> {
        let query = "SELECT seconds, start FROM edge_pack
                     WHERE start >= $1 AND start < $2 AND (seconds >= 3600 OR start >= $3)";
        let query = sqlx::query_as(query).bind(values::time(from)).bind(values::time(to));
        let rows: Vec<(i32, DateTime<Utc>)> = query
            .bind(values::time(minutes_from))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::doing("list packs of edges"))?;
        let mut packs: BTreeMap<Timestamp, Vec<i32>> = BTreeMap::new();
        rows.into_iter().for_each(|(seconds, start)| packs.entry(start.into()).or_default().push(seconds));
        Ok(packs)
    }

    async fn sum_windows(
        &self,
        windows: &[(Timestamp, Timestamp)],
        (packs, unwanted): (&BTreeMap<Timestamp, Vec<i32>>, &Arc<FastSet<i64>>),
        minutes_from: Timestamp,
    ) -> Result<Vec<Sums>, StoreError> {
        let (mut picks, mut gaps) = (Vec::new(), Vec::new());
        for (window, range) in windows.iter().enumerate() {
            for piece in cover(*range, packs) {
                match piece {
                    Piece::Pack(seconds, start) => picks.push(Pick { window, seconds, start }),
                    Piece::Rows(from, to) => gaps.push((window, (from, to))),
                }
            }
        }
        let (mut sums, missing) = self.sum_packs(vec![Sums::without(unwanted); windows.len()], &picks).await?;
        gaps.extend(missing.iter().map(|pick| (pick.window, (pick.start, pick.start + length(pick.seconds)))));
        if gaps.is_empty() {
            return Ok(sums);
        }
        let rolled = self.rolled_hours_until().await?.unwrap_or(Timestamp::MIN);
        for (window, range) in gaps {
            let Hourly { before, hours, after } = hourly(range, rolled, minutes_from);
            for (tier, range) in
                [(RollupTier::Minutes, before), (RollupTier::Hours, hours), (RollupTier::Minutes, after)]
            {
                if range.0 < range.1 {
                    self.sum_rows(tier, range, &mut sums[window]).await?;
                }
            }
        }
        Ok(sums)
    }

    /// Adds packs to the sums of their windows; gives back those that are there no more.
    async fn sum_packs(&self, sums: Vec<Sums>, picks: &[Pick]) -> Result<(Vec<Sums>, Vec<Pick>), StoreError> {
        if picks.is_empty() {
            return Ok((sums, Vec::new()));
        }
        let query = "SELECT w.place, p.edges
                     FROM unnest($1::integer[], $2::timestamptz[]) WITH ORDINALITY AS w (seconds, start, place)
                     JOIN edge_pack p ON p.seconds = w.seconds AND p.start = w.start";
        let seconds: Vec<i32> = picks.iter().map(|pick| pick.seconds).collect();
        let starts: Vec<DateTime<Utc>> = picks.iter().map(|pick| values::time(pick.start)).collect();
        let mut rows = sqlx::query(query).bind(seconds).bind(starts).fetch(self.pool());
        let mut missing: HashSet<usize> = (0..picks.len()).collect();
        let mut adding = Adding { sums: Some(sums), work: None };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await.map_err(StoreError::doing("read packs of edges"))? {
            let at = usize::try_from(row.get::<i64, _>("place") - 1).unwrap_or_default();
            let pack: Vec<u8> = row.get("edges");
            missing.remove(&at);
            bytes += pack.len();
            batch.push((picks[at].window, pack));
            if bytes > BATCH_BYTES {
                adding.add(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        adding.add(batch).await?;
        let sums = adding.finish().await?;
        let missing = picks.iter().enumerate().filter(|(at, _)| missing.contains(at)).map(|(_, pick)| *pick).collect();
        Ok((sums, missing))
    }

    /// Adds the rows of a range.
    async fn sum_rows(
        &self,
        tier: RollupTier,
        (from, to): (Timestamp, Timestamp),
        sums: &mut Sums,
    ) -> Result<(), StoreError> {
        let (table, at) = (tier.table(), tier.time_column());
        let sql = format!(
            "SELECT {at} AS at, edge_id, outcome_ids, outcome_counts, layout_id, latency_counts, latency_sum_ms,
                    request_bytes, response_bytes, request_messages, response_messages, connections_closed
             FROM {table} WHERE {at} >= $1 AND {at} < $2"
        );
        let mut rows =
            sqlx::query(AssertSqlSafe(sql)).bind(values::time(from)).bind(values::time(to)).fetch(self.pool());
        while let Some(row) = rows.try_next().await.map_err(StoreError::doing("read edges"))? {
            let outcomes: Vec<i64> = row.get("outcome_ids");
            let counts: Vec<f64> = row.get("outcome_counts");
            let outcomes: Vec<(i64, f64)> = outcomes.into_iter().zip(counts).collect();
            let (layout, latency): (Option<i64>, Vec<f64>) = (row.get("layout_id"), row.get("latency_counts"));
            let numbers = [
                "latency_sum_ms",
                "request_bytes",
                "response_bytes",
                "request_messages",
                "response_messages",
                "connections_closed",
            ];
            let sum = sums.edge(row.get("edge_id"));
            sum.add(&outcomes, layout.map(|layout| (layout, &*latency)), &numbers.map(|name| row.get(name)));
            sums.seen(row.get::<DateTime<Utc>, _>("at").into());
        }
        Ok(())
    }

    // === names for ids ===

    async fn named(
        &self,
        windows: &[(Timestamp, Timestamp)],
        sums: Vec<Sums>,
        wanted: &(dyn Fn(&EdgeKey) -> bool + Send + Sync),
    ) -> Result<EdgeSums, StoreError> {
        let keys = self.edge_keys(&sums).await?;
        let (outcomes, layouts) = (self.read_outcomes().await?, self.read_layouts().await?);
        let first = sums.iter().filter_map(|sums| sums.first).min();
        let mut edges = Vec::with_capacity(sums.iter().map(|sums| sums.edges.len()).sum());
        for (((from, _), sums), keys) in windows.iter().zip(sums).zip(keys) {
            for ((_, sum), key) in sums.edges.into_iter().zip(keys) {
                // A row without its edge would be half of a transaction, which there is not.
                let Some(key) = key.filter(|key| wanted(key)) else { continue };
                edges.push(named(*from, key, sum, (&outcomes, &layouts))?);
            }
        }
        Ok(EdgeSums { edges, first })
    }

    /// The names of the edges of each of some sums, in their order.
    async fn edge_keys(&self, sums: &[Sums]) -> Result<Vec<Vec<Option<Arc<EdgeKey>>>>, StoreError> {
        let mut unknown: HashSet<i64> = HashSet::new();
        let mut found: Vec<Vec<Option<Arc<EdgeKey>>>> = {
            let known = self.0.edge_keys.0.lock();
            let mut key = |(id, _): &(i64, Sum)| {
                let key = known.by_id.get(id).cloned();
                if key.is_none() {
                    unknown.insert(*id);
                }
                key
            };
            sums.iter().map(|sums| sums.edges.iter().map(&mut key).collect()).collect()
        };
        if unknown.is_empty() {
            return Ok(found);
        }
        let ids: Vec<i64> = unknown.into_iter().collect();
        let rows = sqlx::query("SELECT * FROM edge WHERE edge_id = ANY ($1)").bind(ids).fetch_all(self.pool());
        let rows = rows.await.map_err(StoreError::doing("read edges"))?;
        let read = rows.iter().map(|row| Ok((row.get::<i64, _>("edge_id"), edge_from(row)?)));
        let read: Vec<(i64, EdgeKey)> = read.collect::<Result<_, StoreError>>()?;
        let read: FastMap<i64, Arc<EdgeKey>> = self.0.edge_keys.0.lock().remember(read);
        for (sums, keys) in sums.iter().zip(&mut found) {
            for ((id, _), key) in sums.edges.iter().zip(keys).filter(|(_, key)| key.is_none()) {
                *key = read.get(id).cloned();
            }
        }
        Ok(found)
    }
}

impl Keys {
    /// Takes in edges that were read, with texts that are shared: a mesh has few names and many edges.
    fn remember(&mut self, read: Vec<(i64, EdgeKey)>) -> FastMap<i64, Arc<EdgeKey>> {
        if self.by_id.len() + read.len() > KEYS_MAX {
            *self = Self::default();
        }
        let shared = read.into_iter().map(|(id, key)| (id, Arc::new(self.texts.share_all(key))));
        let shared: FastMap<i64, Arc<EdgeKey>> = shared.collect();
        self.by_id.extend(shared.iter().map(|(id, key)| (*id, Arc::clone(key))));
        shared
    }
}

/// Deletes the packs of minutes or hours whose rows are written or deleted.
pub(super) async fn delete_packs(
    connection: &mut PgConnection,
    tier: RollupTier,
    slots: impl Iterator<Item = Timestamp>,
) -> Result<(), StoreError> {
    let lengths = match tier {
        RollupTier::Minutes => [60, 300],
        RollupTier::Hours => [3600, 86_400],
    };
    let slots: HashSet<Timestamp> = slots.collect();
    let packs: HashSet<(i32, Timestamp)> =
        slots.iter().flat_map(|slot| lengths.map(|seconds| (seconds, slot.floor_to(length(seconds))))).collect();
    if packs.is_empty() {
        return Ok(());
    }
    let (seconds, starts): (Vec<i32>, Vec<DateTime<Utc>>) =
        packs.into_iter().map(|(seconds, start)| (seconds, values::time(start))).unzip();
    let delete = "DELETE FROM edge_pack p USING unnest($1::integer[], $2::timestamptz[]) AS d (seconds, start)
                  WHERE p.seconds = d.seconds AND p.start = d.start";
    let done = sqlx::query(delete).bind(seconds).bind(starts).execute(connection).await;
    done.map(drop).map_err(StoreError::doing("delete packs of edges"))
}

fn of(seconds: i32) -> &'static Level {
    LEVELS.iter().find(|level| level.seconds == seconds).expect("invariant: packs are made of packs of a level")
}

fn damaged(reason: String) -> StoreError {
    StoreError::Damaged { what: "pack of edges", reason }
}

/// Bounds of histograms by their id.
type Layouts = HashMap<i64, Arc<[f64]>>;

fn named(
    minute: Timestamp,
    edge: Arc<EdgeKey>,
    sum: Sum,
    (outcomes, layouts): (&HashMap<i64, Outcome>, &Layouts),
) -> Result<EdgeMinute, StoreError> {
    let damaged = |reason: &str| StoreError::Damaged { what: "edge minute", reason: reason.to_owned() };
    let requests = sum.outcomes.iter().map(|(id, count)| Some((outcomes.get(id)?.clone(), *count)));
    let requests = requests.collect::<Option<_>>().ok_or_else(|| damaged("an outcome of it is missing"))?;
    let mut latency = LatencyHistogram::default();
    for (layout, counts) in sum.histograms {
        let bounds_ms = layouts.get(&layout).cloned().ok_or_else(|| damaged("its histogram layout is missing"))?;
        let more = LatencyHistogram { bounds_ms, counts, sum_ms: 0.0 };
        if latency.counts.is_empty() { latency = more } else { latency.merge(&more) }
    }
    let [sum_ms, request_bytes, response_bytes, request_messages, response_messages, connections_closed] = sum.numbers;
    latency.sum_ms = sum_ms;
    Ok(EdgeMinute {
        minute,
        edge,
        requests,
        latency,
        request_bytes,
        response_bytes,
        request_messages,
        response_messages,
        connections_closed,
    })
}

/// Decodes packs on a blocking thread while the next ones arrive.
struct Adding {
    sums: Option<Vec<Sums>>,
    work: Option<tokio::task::JoinHandle<Result<Vec<Sums>, String>>>,
}

impl Adding {
    async fn add(&mut self, batch: Vec<(usize, Vec<u8>)>) -> Result<(), StoreError> {
        let mut sums = self.wait().await?;
        self.work = Some(tokio::task::spawn_blocking(move || {
            batch.iter().try_for_each(|(window, pack)| sums[*window].add_pack(pack))?;
            Ok(sums)
        }));
        Ok(())
    }

    async fn wait(&mut self) -> Result<Vec<Sums>, StoreError> {
        match self.work.take() {
            Some(work) => work.await.map_err(|error| damaged(error.to_string()))?.map_err(damaged),
            None => Ok(self.sums.take().unwrap_or_default()),
        }
    }

    async fn finish(mut self) -> Result<Vec<Sums>, StoreError> {
        self.wait().await
    }
}

// === which packs and rows make up a range ===

/// One pack to be read, for the window of that number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pick {
    window: usize,
    seconds: i32,
    start: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Pack(i32, Timestamp),
    Rows(Timestamp, Timestamp),
}

/// The range in packs, the longest that fit, and rows where there are none. The pieces follow each other.
fn cover((from, to): (Timestamp, Timestamp), packs: &BTreeMap<Timestamp, Vec<i32>>) -> Vec<Piece> {
    let fits = |start: Timestamp, seconds: &i32| start + length(*seconds) <= to;
    let (mut pieces, mut at) = (Vec::new(), from);
    while at < to {
        let longest = packs.get(&at).into_iter().flatten().filter(|seconds| fits(at, seconds)).max();
        match longest {
            Some(seconds) => {
                pieces.push(Piece::Pack(*seconds, at));
                at = at + length(*seconds);
            }
            None => {
                let after = at + Duration::from_millis(1);
                let mut later = packs.range(after..to.max(after));
                let next = later.find(|(start, all)| all.iter().any(|seconds| fits(**start, seconds)));
                let next = next.map_or(to, |(start, _)| *start);
                pieces.push(Piece::Rows(at, next));
                at = next;
            }
        }
    }
    pieces
}

/// A range in three parts that follow each other.
#[derive(Debug, PartialEq)]
struct Hourly {
    before: (Timestamp, Timestamp),
    hours: (Timestamp, Timestamp),
    after: (Timestamp, Timestamp),
}

/// Hours are summed until `rolled`, minutes are there since `minutes_from`.
fn hourly((from, to): (Timestamp, Timestamp), rolled: Timestamp, minutes_from: Timestamp) -> Hourly {
    let first = if from >= minutes_from { next_hour(from) } else { from.floor_to(HOUR) };
    let end = if to.floor_to(HOUR) >= minutes_from { to.floor_to(HOUR) } else { next_hour(to) };
    let first = first.min(to);
    let last = end.min(rolled).max(first);
    Hourly { before: (from, first), hours: (first, last), after: (last, to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in minutes.
    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    #[test]
    fn a_long_range_is_cut_at_full_hours_without_gap_or_overlap() {
        let cut = |from, to, rolled, minutes_from| {
            let Hourly { before, hours, after } = hourly((at(from), at(to)), at(rolled), at(minutes_from));
            [before, hours, after].map(|(from, to)| (from.as_millis() / 60_000, to.as_millis() / 60_000))
        };
        let day = 24 * 60;
        // All in minutes still kept; the last full hour is summed, or not yet.
        assert_eq!(cut(90, day + 65, day + 60, 0), [(90, 120), (120, day + 60), (day + 60, day + 65)]);
        assert_eq!(cut(90, day + 65, day, 0), [(90, 120), (120, day), (day, day + 65)]);
        assert_eq!(cut(60, day, day, 0), [(60, 60), (60, day), (day, day)]);
        // Nothing is summed yet.
        assert_eq!(cut(90, day, 0, 0), [(90, 120), (120, 120), (120, day)]);
        // Minutes before the second day are gone: the range begins, or ends, with a full hour.
        assert_eq!(cut(90, 2 * day + 5, 2 * day, day), [(90, 60), (60, 2 * day), (2 * day, 2 * day + 5)]);
        assert_eq!(cut(90, day - 30, 2 * day, 2 * day), [(90, 60), (60, day), (day, day - 30)]);
    }

    #[test]
    fn a_range_is_covered_once_by_the_longest_packs_and_rows_between_them() {
        let mut packs: BTreeMap<Timestamp, Vec<i32>> = BTreeMap::new();
        for minute in (0..170).filter(|minute| *minute != 7) {
            packs.entry(at(minute)).or_default().push(60);
        }
        for minute in (0..170).step_by(5).filter(|minute| *minute != 5) {
            packs.entry(at(minute)).or_default().push(300);
        }
        packs.entry(at(60)).or_default().push(3600);
        let check = |from: i64, to: i64, expect: &[(i32, i64)]| {
            let pieces = cover((at(from), at(to)), &packs);
            let mut end = at(from);
            let found: Vec<(i32, i64)> = pieces
                .iter()
                .map(|piece| {
                    let (seconds, start, stop) = match piece {
                        Piece::Pack(seconds, start) => (*seconds, *start, *start + length(*seconds)),
                        Piece::Rows(start, stop) => (0, *start, *stop),
                    };
                    assert_eq!(start, end, "no gap and no overlap");
                    end = stop;
                    (seconds, start.as_millis() / 60_000)
                })
                .collect();
            assert_eq!((end, &*found), (at(to).max(at(from)), expect), "{from}..{to}");
        };
        check(4, 11, &[(60, 4), (60, 5), (60, 6), (0, 7), (60, 8), (60, 9), (60, 10)]);
        check(55, 125, &[(300, 55), (3600, 60), (300, 120)]);
        check(168, 175, &[(60, 168), (60, 169), (0, 170)]);
        check(-3, 1, &[(0, -3), (60, 0)]);
        check(400, 460, &[(0, 400)]);
        check(7, 7, &[]);
    }
}
