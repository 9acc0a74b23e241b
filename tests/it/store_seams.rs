//! Random histories through a real PostgreSQL: whatever was flushed, thinned, dropped, late or restarted, a query sees each
//! sample once.
//!
//! Beside the store goes a plain list of all samples. Where raw samples are kept, an answer is that list; where only
//! thinned ones are, it is what [`thin`] keeps of each day. `MESHSCOPE_SEAM_SEED` repeats one run; without it the pinned
//! seeds run, and one that the clock gives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::{Labels, Timestamp, stale_marker};
use meshscope::series::{CHUNK_WINDOW, Head, Member, Row, is_counter_name, thin};
use meshscope::store::Store;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::crash::Random;
use crate::postgres;
use crate::samples::{DAY, HOUR, Samples, chunks, everything, head, restarted, start, tiered, write_journal};

const PINNED: [u64; 3] = [1, 20_260_115, 0x5eed];
const STEPS: u64 = 40;
/// How far memory reaches back.
const MEMORY: Duration = Duration::from_secs(3 * 3600);

type Columns = BTreeMap<Labels, BTreeMap<Timestamp, u64>>;

struct World {
    seed: u64,
    random: Random,
    store: Store,
    outside: PgConnection,
    memory: Head,
    /// Every sample that was accepted.
    all: Columns,
    series: Vec<Labels>,
    now: Timestamp,
    /// Before it there are no raw chunks.
    raw_from: Timestamp,
    thinned_until: Timestamp,
    /// Label sets and days that got samples after they were thinned: their thinned samples are those of both times.
    thinned_twice: BTreeSet<(Labels, Timestamp)>,
    /// What was done, for the message of a failure.
    done: Vec<String>,
}

fn seeds() -> Vec<u64> {
    match std::env::var("MESHSCOPE_SEAM_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => vec![seed],
        None => PINNED.into_iter().chain([Clock::system().now().as_millis() as u64]).collect(),
    }
}

/// A few pods, each with a counter, a gauge and three buckets; one has no label but its name.
fn series() -> Vec<Labels> {
    let of = |name: &str, pod: &str, le: &str| Labels::from_pairs([("__name__", name), ("pod", pod), ("le", le)]);
    let of_pod = |pod: &str| {
        let buckets = ["1", "5", "+Inf"].map(|le| of("latency_bucket", pod, le));
        [of("requests_total", pod, ""), of("level", pod, "")].into_iter().chain(buckets).collect::<Vec<_>>()
    };
    ["a", "b", "c"].into_iter().flat_map(of_pod).chain([of("alone", "", "")]).collect()
}

impl World {
    async fn new(seed: u64) -> Self {
        let database = postgres::database().await;
        let (store, outside) = (postgres::connect(&database).await, postgres::connection(&database).await);
        let memory = head(MEMORY);
        // As the program does seconds after its first start: from then on it is known what comes late.
        chunks(&memory, &store).close_windows(start()).await.expect("close");
        Self {
            seed,
            random: Random(seed),
            store,
            outside,
            memory,
            all: Columns::new(),
            series: series(),
            now: start() + Duration::from_secs(17),
            raw_from: Timestamp::MIN,
            thinned_until: Timestamp::MIN,
            thinned_twice: BTreeSet::new(),
            done: Vec::new(),
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn put(&mut self, at: Timestamp, series: &Labels, value: f64) {
        let known = self.all.entry(series.clone()).or_default();
        if known.contains_key(&at) {
            return;
        }
        let reference = self.memory.intern(series).expect("under the limit");
        let appended = self.memory.append(&[Row { series: reference, at, value }]);
        assert_eq!(appended.accepted, 1, "seed {}: {series} {at} {appended:?}", self.seed);
        known.insert(at, value.to_bits());
        if at < self.thinned_until {
            self.thinned_twice.insert((series.without(&["__name__", "le"]), at.floor_to(DAY)));
        }
    }

    fn value(&mut self, series: &Labels, at: Timestamp) -> f64 {
        match self.random.below(40) {
            0 => stale_marker(),
            1 => 0.0, // a reset, of a counter
            2 => self.random.below(1000) as f64 / 7.0,
            _ if series.metric_name() == "level" => self.random.below(2000) as f64 - 1000.0,
            _ => (at.as_millis() / 10_000 % 5000) as f64,
        }
    }

    /// Time goes on: scrapes, some of them missed, some series not there.
    fn scrape(&mut self) {
        let step = Duration::from_secs([15, 30, 60, 300][self.random.below(4) as usize]);
        let rows = 1 + self.random.below(150) as u32;
        if self.chance(6) {
            self.now = self.now + Duration::from_secs(self.random.below(5 * 3600));
        }
        self.done.push(format!("scrape {rows} times each {step:?} from {}", self.now));
        for _ in 0..rows {
            self.now = self.now + step + Duration::from_millis(self.random.below(20));
            if self.chance(20) {
                continue;
            }
            for series in self.series.clone() {
                if !self.chance(15) {
                    let value = self.value(&series, self.now);
                    self.put(self.now, &series, value);
                }
            }
        }
    }

    /// Samples for the past, in memory or long out of it, where raw ones are still kept.
    fn late(&mut self) {
        let back = Duration::from_secs(1 + self.random.below(30 * 3600));
        let from = (self.now - back).max(self.raw_from).max(start() - HOUR * 5);
        let rows = 1 + self.random.below(20) as u32;
        self.done.push(format!("late: {rows} rows from {from}"));
        for row in 0..rows {
            let at = from + Duration::from_secs(47) * row + Duration::from_millis(self.random.below(1000));
            let of = self.random.below(self.series.len() as u64) as usize;
            if at < self.now {
                let series = self.series[of].clone();
                let value = self.value(&series, at);
                self.put(at, &series, value);
            }
        }
    }

    async fn step(&mut self) {
        match self.random.below(12) {
            0..=4 => self.scrape(),
            5 | 6 => self.late(),
            7 => {
                // Windows are cut long before memory lets go of them.
                let until = (self.now - Duration::from_secs(600)).floor_to(CHUNK_WINDOW);
                write_journal(&self.memory, &self.store).await;
                chunks(&self.memory, &self.store).close_windows(until).await.expect("close");
                self.done.push(format!("cut until {until}, collect garbage"));
                self.memory.collect_garbage(self.now);
            }
            8 | 9 => {
                let until = (self.now - Duration::from_secs(self.random.below(4 * 3600))).floor_to(CHUNK_WINDOW);
                self.done.push(format!("cut until {until}"));
                write_journal(&self.memory, &self.store).await;
                let persist = chunks(&self.memory, &self.store);
                persist.close_windows(until).await.expect("close");
                if !self.chance(3) {
                    persist.merge_past().await.expect("merge");
                }
            }
            10 => self.thin().await,
            _ => {
                write_journal(&self.memory, &self.store).await;
                self.done.push("restart".to_owned());
                self.memory = restarted(&self.store, MEMORY, self.now).await;
            }
        }
    }

    /// Thins whole days; now and then raw chunks of thinned windows are dropped.
    async fn thin(&mut self) {
        let persist = chunks(&self.memory, &self.store);
        let closed = self.memory.chunked_until().unwrap_or(start());
        persist.merge_past().await.expect("merge");
        persist.thin(closed).await.expect("thin");
        self.done.push(format!("thin until {closed}"));
        let Some(thinned) = self.store.thinned_until().await.expect("boundary") else { return };
        self.thinned_until = thinned;
        let border = (thinned - Duration::from_secs(self.random.below(30 * 3600))).floor_to(CHUNK_WINDOW);
        if border > self.raw_from && border > start() - HOUR * 6 && border < thinned {
            self.done.push(format!("drop raw chunks before {border}"));
            let drop_old = format!("DELETE FROM chunk_raw WHERE from_at < to_timestamp({})", border.as_millis() / 1000);
            sqlx::raw_sql(AssertSqlSafe(drop_old)).execute(&mut self.outside).await.expect("delete");
            self.raw_from = border;
        }
    }

    /// What a query of that range must give: of the thinned part what thinning keeps of each day, and what memory holds.
    /// Of days that were thinned twice `found` says what; it is held to their rule.
    async fn expected(&self, (from, to): (Timestamp, Timestamp), found: &Samples) -> Samples {
        let columns = |samples: &Samples| -> Columns {
            samples.iter().map(|(labels, samples)| (labels.clone(), samples.iter().copied().collect())).collect()
        };
        let in_memory = columns(&everything(&self.memory, (Timestamp::MIN, self.now)).await);
        let found = columns(found);
        let mut expected = Samples::new();
        for (labels, samples) in &self.all {
            let mut kept: BTreeMap<Timestamp, u64> = samples.range(self.raw_from..).map(|(at, v)| (*at, *v)).collect();
            let thinned: BTreeSet<Timestamp> = samples.range(..self.raw_from).map(|(at, _)| at.floor_to(DAY)).collect();
            for day in thinned {
                let of_day: BTreeMap<Timestamp, u64> = samples.range(day..day + DAY).map(|(at, v)| (*at, *v)).collect();
                if self.thinned_twice.contains(&(labels.without(&["__name__", "le"]), day)) {
                    let found = found.get(labels).into_iter().flatten();
                    let found: BTreeMap<Timestamp, u64> = found.map(|(at, bits)| (*at, *bits)).collect();
                    kept.extend(kept_by_rule(labels, &of_day, &found));
                    continue;
                }
                let (times, values): (Vec<Timestamp>, Vec<f64>) =
                    of_day.iter().map(|(at, bits)| (*at, f64::from_bits(*bits))).unzip();
                let stay = thin(&Member { times: times.into(), values }, is_counter_name(labels.metric_name()));
                kept.extend(stay.times.iter().zip(&stay.values).map(|(at, value)| (*at, value.to_bits())));
            }
            kept.extend(in_memory.get(labels).into_iter().flatten().map(|(at, bits)| (*at, *bits)));
            let of_range: Vec<(Timestamp, u64)> = kept.range(from..=to).map(|(at, bits)| (*at, *bits)).collect();
            if !of_range.is_empty() {
                expected.push((labels.clone(), of_range));
            }
        }
        expected.sort();
        expected
    }

    async fn check(&mut self) {
        let all = (Timestamp::MIN + DAY, self.now);
        let mut ranges = vec![all];
        for _ in 0..3 {
            let reach = self.now.since(start()).as_secs() + 6 * 3600;
            let from = self.now - Duration::from_secs(self.random.below(reach));
            ranges.push((from, from + Duration::from_secs(self.random.below(30 * 3600))));
        }
        let seams = [self.raw_from, self.memory.complete_from().min(self.now), self.now.floor_to(CHUNK_WINDOW)];
        ranges.extend(seams.map(|seam| (seam.max(start()) - HOUR, seam.max(start()) + HOUR)));
        let reader = tiered(&self.memory, &self.store);
        for range in ranges {
            let found = everything(&reader, range).await;
            let expected = self.expected(range, &found).await;
            if found != expected {
                self.fail(range, &found, &expected);
            }
        }
    }

    fn fail(&self, range: (Timestamp, Timestamp), found: &Samples, expected: &Samples) -> ! {
        let flat = |samples: &Samples| -> BTreeSet<(Labels, Timestamp, u64)> {
            samples.iter().flat_map(|(l, s)| s.iter().map(|(at, v)| (l.clone(), *at, *v))).collect()
        };
        let (found, expected) = (flat(found), flat(expected));
        let missing: Vec<_> = expected.difference(&found).take(5).collect();
        let surplus: Vec<_> = found.difference(&expected).take(5).collect();
        panic!(
            "MESHSCOPE_SEAM_SEED={}: from {} to {} (raw from {}, memory from {}): missing {missing:?}, surplus or double \
             {surplus:?}, after\n{}",
            self.seed,
            range.0,
            range.1,
            self.raw_from,
            self.memory.complete_from(),
            self.done.join("\n")
        );
    }
}

/// Of a day that was thinned twice: what was found of it, and what must be there in any case, the last sample of each five
/// minutes.
fn kept_by_rule(
    labels: &Labels,
    of_day: &BTreeMap<Timestamp, u64>,
    found: &BTreeMap<Timestamp, u64>,
) -> BTreeMap<Timestamp, u64> {
    let mut kept: BTreeMap<Timestamp, u64> =
        of_day.iter().filter(|(at, _)| found.contains_key(at)).map(|(at, bits)| (*at, *bits)).collect();
    let mut last_of_slot: BTreeMap<i64, (Timestamp, u64)> = BTreeMap::new();
    for (at, bits) in of_day {
        last_of_slot.insert((at.as_millis() - 1).div_euclid(300_000), (*at, *bits));
    }
    if is_counter_name(labels.metric_name()) {
        kept.extend(last_of_slot.into_values());
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happened_a_query_sees_every_sample_once() {
    for seed in seeds() {
        println!("MESHSCOPE_SEAM_SEED={seed}");
        let mut world = World::new(seed).await;
        world.scrape();
        for _ in 0..STEPS {
            world.step().await;
            world.check().await;
        }
        assert!(world.all.values().map(BTreeMap::len).sum::<usize>() > 5000, "seed {seed}: too few samples to tell");
        world.outside.close().await.expect("close");
    }
}
