//! The quick way over families gives what the general way gives, to the bit.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use proptest::prelude::*;

use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp, stale_marker};
use crate::promql::{Answer, Config, Engine, QueryOptions, Value, parse};
use crate::series::{Family, FamilyNames, QueryError, Queryable, Select, Selection, SeriesSamples};

/// A store with one selection, which it gives as families or series by series.
struct Store {
    families: Vec<Family>,
    alone: Vec<SeriesSamples>,
    as_families: bool,
}

impl Queryable for Store {
    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>> {
        let mut selection =
            Selection { families: self.families.clone(), series: self.alone.clone(), ..Selection::default() };
        assert!(select.hint.families, "this query was to be evaluated by family");
        if !self.as_families {
            selection = Selection { series: selection.into_series(), ..Selection::default() };
        }
        Box::pin(async move { Ok(selection) })
    }

    fn series(
        &self,
        _: Vec<Vec<Matcher>>,
        _: Timestamp,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Labels>, QueryError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

const TIMES: usize = 24;

fn column() -> impl Strategy<Value = Arc<[Timestamp]>> {
    (0..5_000_i64, prop::collection::vec(1..20_000_i64, 1..TIMES)).prop_map(|(first, steps)| {
        let times = steps.into_iter().scan(first, |at, step| {
            *at += step;
            Some(Timestamp::from_millis(*at))
        });
        times.collect()
    })
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    let odd = prop::sample::select(vec![f64::NAN, f64::INFINITY, -1.5, 0.0, -0.0, 1e300, 0.1, stale_marker()]);
    let counter = (0_u32..1000, prop::collection::vec((0_u32..40, any::<bool>()), TIMES)).prop_map(|(start, steps)| {
        let mut total = f64::from(start);
        let rise = |(step, scaled): (u32, bool)| {
            total = if step == 39 { f64::from(step) / 4.0 } else { total + f64::from(step) };
            if scaled { total } else { total.floor() }
        };
        steps.into_iter().map(rise).collect::<Vec<f64>>()
    });
    (counter, prop::collection::vec((0..TIMES, odd), 0..3)).prop_map(|(mut values, odd)| {
        odd.into_iter().for_each(|(at, value)| values[at] = value);
        values
    })
}

/// What makes a family: its edge, how many of the bounds, its metric's place, which column, and whether it is alone.
fn selection() -> impl Strategy<Value = (Vec<Family>, Vec<SeriesSamples>)> {
    let family = (0..4_usize, 0..=5_usize, 0..20_usize, 0..3_usize, prop::collection::vec(values(), 6), any::<bool>());
    (prop::array::uniform3(column()), prop::collection::vec(family, 1..12)).prop_map(|(columns, made)| {
        let bounds: [Arc<str>; 6] = ["0.5", "1", "10", "2.5e+01", "+Inf", ""].map(Arc::from);
        let lists: Vec<Arc<[Arc<str>]>> = (0..6).map(|skipped| bounds[skipped.min(4)..].into()).collect();
        let (mut families, mut alone) = (Vec::new(), Vec::new());
        for (i, (edge, list, metric, column, rows, is_alone)) in made.into_iter().enumerate() {
            let metric = if metric == 0 { "other_bucket" } else { "x_bucket" };
            let (edge, pod) = (format!("e{edge}"), format!("p{i}"));
            let labels = Labels::from_pairs([(METRIC_NAME, metric), ("edge", &edge), ("pod", &pod), ("zone", "z")]);
            let names = Arc::new(FamilyNames { labels, bounds: Arc::clone(&lists[list]) });
            let times = Arc::clone(&columns[column]);
            let values = rows.iter().take(names.bounds.len()).flat_map(|row| row[..times.len()].to_vec()).collect();
            let family = Family { names, times, values };
            if is_alone && i > 0 {
                alone.extend(family.series());
            } else {
                families.push(family);
            }
        }
        (families, alone)
    })
}

/// All that is told of an answer, numbers as bits.
fn told(answer: &Answer) -> Vec<String> {
    let mut told: Vec<String> = match &answer.value {
        Value::Vector(samples) => samples
            .iter()
            .map(|one| format!("{} {:x} {}", one.labels, one.value.to_bits(), one.at.as_millis()))
            .collect(),
        Value::Matrix(series) => (series.iter())
            .map(|one| {
                let bits: Vec<u64> = one.values.iter().map(|value| value.to_bits()).collect();
                format!("{} {bits:x?} {:?}", one.labels, one.times)
            })
            .collect(),
        other => vec![format!("{other:?}")],
    };
    told.extend(answer.warnings.iter().chain(&answer.infos).cloned());
    let stats = answer.stats;
    told.push(format!("{} {} {}", stats.samples_loaded, stats.series_loaded, stats.samples_peak));
    told
}

fn ask(store: &Store, query: &str, range: bool, config: &Config) -> Result<Vec<String>, String> {
    let (engine, options) = (Engine::new(config.clone()), QueryOptions::default());
    let (expr, at) = (parse(query).unwrap(), Timestamp::from_millis);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answer = runtime.block_on(async {
        match range {
            true => engine.range(store, &expr, at(20_000), at(170_000), Duration::from_secs(15), &options).await,
            false => engine.instant(store, &expr, at(100_000), &options).await,
        }
    });
    answer.map(|answer| told(&answer)).map_err(|error| error.to_string())
}

proptest! {
    #[test]
    fn families_give_what_their_series_give(
        (families, alone) in selection(),
        op in prop::sample::select(vec!["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]),
        by in prop::sample::select(vec![
            "", "by (le)", "by (edge, le)", "by (le, pod, zone)", "by (edge)", "by (__name__, edge)", "by (none)",
            "without (pod)", "without (le)", "without (pod, le)", "without (edge, pod, zone, le)",
        ]),
        function in prop::sample::select(vec![
            "rate", "increase", "delta", "irate", "idelta", "sum_over_time", "max_over_time", "changes", "deriv",
            "count_over_time", "stddev_over_time",
        ]),
        window in prop::sample::select(vec!["5s", "40s", "1m", "10m"]),
        offset in prop::sample::select(vec!["", " offset 30s", " offset -10s"]),
        range: bool,
        limit in prop_oneof![Just(50_000_000), 1..3_000_usize],
        delayed: bool,
    ) {
        let query = format!("{op} {by} ({function}({{__name__=~\"x_bucket|other_bucket\"}}[{window}]{offset}))");
        let config = Config { max_samples: limit, delayed_name_removal: delayed, ..Config::default() };
        let quick = Store { families, alone, as_families: true };
        let found = ask(&quick, &query, range, &config);
        let general = Store { as_families: false, ..quick };
        prop_assert_eq!(&found, &ask(&general, &query, range, &config), "{}", query);
    }
}

#[test]
fn quantiles_of_families_are_those_of_their_series() {
    let times: Arc<[Timestamp]> = (0..20).map(|i| Timestamp::from_millis(i * 5_000)).collect();
    let bounds: Arc<[Arc<str>]> = ["1", "2", "+Inf"].map(Arc::from).into();
    let family = |pod: &str, rises: [f64; 3]| {
        let labels = Labels::from_pairs([(METRIC_NAME, "x_bucket"), ("pod", pod), ("app", "a")]);
        let values = rises.iter().flat_map(|rise| (0..20).map(move |i| f64::from(i) * rise)).collect();
        let names = Arc::new(FamilyNames { labels, bounds: Arc::clone(&bounds) });
        Family { names, times: Arc::clone(&times), values }
    };
    let families = vec![family("p", [1.0, 3.0, 4.0]), family("q", [0.0, 0.0, 4.0])];
    let store = Store { families, alone: Vec::new(), as_families: true };
    let query = "histogram_quantile(0.5, sum by (app, le) (rate(x_bucket[1m])))";
    let found = ask(&store, query, false, &Config::default()).unwrap();
    // 1, 3 and 8 of 8 requests: the fourth lies past the last bound.
    assert_eq!(found[0], format!("{{app=\"a\"}} {:x} 100000", 2.0_f64.to_bits()));
}
