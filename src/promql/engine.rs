//! Runs queries: waits for its turn, selects everything at once, evaluates, shapes the answer.
//!
//! In: an [`Expr`], a store, times. Out: an [`Answer`]. Invariant: all selects are awaited before evaluation begins, so
//! evaluation is pure; large evaluations run on a blocking thread and stop when the asker goes away. A store that evaluates
//! by itself is given the whole query first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use super::annotate::Annotations;
use super::ast::{Node, ValueKind};
use super::error::{EvalError, ParseError};
use super::eval::{Context, Evaluator, Operand};
use super::expr::{Expr, Features};
use super::plan::{self, Asked, Selected, Want};
use super::table::{Grid, Key, Names, Table, is_absent};
use super::value::{Answer, InstantSample, Stats, Value};
use crate::model::{Labels, Timestamp};
use crate::series::{Queryable, Selection, SeriesSamples, WholeQuery};
use crate::units::PromDuration;

/// Evaluations that touch fewer samples than this run where they are; larger ones on a blocking thread.
const INLINE_SAMPLES: usize = 20_000;

/// Settings of the query engine (`promql` in the configuration).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether functions and aggregations are allowed that Prometheus has behind
    /// `--enable-feature=promql-experimental-functions`. Default false.
    pub experimental_functions: bool,
    /// Whether durations may be arithmetic, as `[5m * 2]`, which Prometheus has behind
    /// `--enable-feature=promql-duration-expr`. Default false.
    pub duration_expressions: bool,
    /// Whether dropped metric names stay visible until the end of a query, as with
    /// `--enable-feature=promql-delayed-name-removal`. Default false.
    pub delayed_name_removal: bool,
    /// How far back an instant selector looks for its newest sample. Default 5m.
    pub lookback_delta: PromDuration,
    /// Longest run of one query, waiting for its turn included. Default 2m.
    pub timeout: PromDuration,
    /// Most samples one query may load, and hold in one result. Default 50 million.
    pub max_samples: usize,
    /// Queries that run at once; others wait. Default 20.
    pub concurrency: usize,
    /// Step of subqueries that name none. Default: `global.evaluation_interval`, and 1m where there is none.
    pub default_subquery_step: Option<PromDuration>,
}

impl Default for Config {
    fn default() -> Self {
        let minutes = |m: u64| PromDuration::from(Duration::from_secs(m * 60));
        Self {
            experimental_functions: false,
            duration_expressions: false,
            delayed_name_removal: false,
            lookback_delta: minutes(5),
            timeout: minutes(2),
            max_samples: 50_000_000,
            concurrency: 20,
            default_subquery_step: None,
        }
    }
}

impl Config {
    /// What of the language is enabled.
    pub fn features(&self) -> Features {
        Features {
            experimental_functions: self.experimental_functions,
            duration_expressions: self.duration_expressions,
        }
    }

    fn subquery_step_ms(&self) -> i64 {
        self.default_subquery_step.map_or(60_000, PromDuration::as_millis).max(1)
    }
}

/// What one query may set for itself.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// Instead of [`Config::lookback_delta`].
    pub lookback_delta: Option<Duration>,
    /// May only shorten [`Config::timeout`].
    pub timeout: Option<Duration>,
    /// Shares selected samples with other queries that ask for the same series and times.
    pub cache: Option<Arc<SelectionCache>>,
}

/// Selected samples shared by the queries of one round (the rules of a group evaluated at one timestamp).
///
/// The same series and times are selected once, also when queries run at the same time. Drop it after the round.
#[derive(Debug, Default)]
pub struct SelectionCache(Mutex<HashMap<String, Arc<OnceCell<Arc<Selected>>>>>);

impl SelectionCache {
    /// An empty cache.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many different selections it holds.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Evaluates expressions. Clones share their turn-taking.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    turns: Semaphore,
    counters: Arc<Counters>,
}

/// How queries ended.
#[derive(Debug, Default)]
pub struct Counters {
    /// Evaluated to the end, with an answer or an error of the query itself.
    pub ended: AtomicU64,
    /// Nobody waited for the answer any more.
    pub canceled: AtomicU64,
    /// Longer than [`Config::timeout`], or than the asker allowed.
    pub timed_out: AtomicU64,
    /// More samples than [`Config::max_samples`].
    pub too_large: AtomicU64,
}

/// Counts a query as canceled when it is dropped before it ended.
struct Ending<'a>(Option<&'a Counters>);

impl Ending<'_> {
    fn with<T>(mut self, result: &Result<T, EvalError>) {
        let Some(counters) = self.0.take() else { return };
        let counter = match result {
            Err(EvalError::Canceled(_)) => &counters.canceled,
            Err(EvalError::Timeout(_)) => &counters.timed_out,
            Err(EvalError::TooManySamples(_)) => &counters.too_large,
            _ => &counters.ended,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.canceled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Tells a running evaluation that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How a result is shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Instant,
    Range,
}

impl Engine {
    /// An engine with these settings.
    pub fn new(config: Config) -> Self {
        let turns = Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        Self(Arc::new(Inner { config, turns, counters: Arc::default() }))
    }

    /// How its queries ended; clones of the engine share them.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.0.counters)
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Parses `query` and refuses what this server has not enabled.
    ///
    /// # Errors
    /// As [`super::parse`], and when the query uses an experimental function that is not enabled.
    pub fn parse(&self, query: &str) -> Result<Expr, ParseError> {
        super::parse_enabled(query, self.0.config.features())
    }

    /// Evaluates `expr` at one time.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub async fn instant(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        at: Timestamp,
        options: &QueryOptions,
    ) -> Result<Answer, EvalError> {
        let asked = Asked { grid: Grid::instant(at.as_millis()), end_ms: at.as_millis() };
        self.run(store, expr, (asked, Mode::Instant), options).await
    }

    /// Evaluates `expr` at `start`, `start + step` … up to `end`.
    ///
    /// # Errors
    /// See [`EvalError`]; [`EvalError::BadData`] for a step of zero, an end before the start, or a range vector.
    pub async fn range(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        options: &QueryOptions,
    ) -> Result<Answer, EvalError> {
        if !matches!(expr.kind(), ValueKind::Scalar | ValueKind::Vector) {
            return Err(EvalError::BadData(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                expr.kind().documented()
            )));
        }
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if step_ms == 0 {
            return Err(EvalError::BadData(
                "zero or negative query resolution step widths are not accepted. Try a positive integer".to_owned(),
            ));
        }
        if end < start {
            return Err(EvalError::BadData("end timestamp must not be before start time".to_owned()));
        }
        let grid = Grid::new(start.as_millis(), end.as_millis(), step_ms);
        self.run(store, expr, (Asked { grid, end_ms: end.as_millis() }, Mode::Range), options).await
    }

    async fn run(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        asked: (Asked, Mode),
        options: &QueryOptions,
    ) -> Result<Answer, EvalError> {
        let ending = Ending(Some(&*self.0.counters));
        let result = self.answer(store, expr, asked, options).await;
        ending.with(&result);
        result
    }

    async fn answer(
        &self,
        store: &dyn Queryable,
        expr: &Expr,
        (asked, mode): (Asked, Mode),
        options: &QueryOptions,
    ) -> Result<Answer, EvalError> {
        let config = &self.0.config;
        check_usable(config, expr)?;
        let timeout = options.timeout.map_or(config.timeout.get(), |timeout| timeout.min(config.timeout.get()));
        let began = Instant::now();
        let deadline = began + timeout;
        let timed_out = |place| move |_| EvalError::Timeout(place);
        let turn = tokio::time::timeout_at(deadline, self.0.turns.acquire()).await;
        let _turn = turn.map_err(timed_out("query queue"))?.map_err(|_| EvalError::Canceled("query queue"))?;

        let turned = Instant::now();
        let lookback = options.lookback_delta.unwrap_or(config.lookback_delta.get());
        let lookback_ms = i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX / 4).max(1);
        let (wants, selectors) = plan::wants(expr.root(), asked, lookback_ms, config.subquery_step_ms());
        let whole = WholeQuery {
            text: expr.query(),
            start: time(asked.grid, 0),
            end: Timestamp::from_millis(asked.end_ms),
            step: (mode == Mode::Range).then(|| Duration::from_millis(asked.grid.step.unsigned_abs())),
            lookback: options.lookback_delta,
            timeout: deadline - turned,
            reads: wants.iter().map(|want| want.select(config.max_samples)).collect(),
        };
        let passed = tokio::time::timeout_at(deadline, store.evaluate(whole)).await;
        if let Some(passed) = passed.map_err(timed_out("query execution"))?? {
            return Ok(Answer::passed_on(passed, (turned - began, turned.elapsed())));
        }
        let selecting = select_all(store, &wants, config.max_samples, options.cache.as_deref());
        let selected = tokio::time::timeout_at(deadline, selecting).await.map_err(timed_out("query execution"))??;

        let selected_at = Instant::now();
        let canceled = Arc::new(AtomicBool::new(false));
        let times = Times { asked, lookback_ms, deadline, canceled: Arc::clone(&canceled) };
        let grid = asked.grid;
        let (context, mut annotations, mut stats) = assemble(config, expr, &times, (&wants, selectors), &selected)?;
        let _cancel = CancelOnDrop(canceled);
        let cells = (stats.series_loaded + expr.nodes()).saturating_mul(grid.steps);
        let is_small = stats.samples_loaded.saturating_add(cells) < INLINE_SAMPLES;
        let (value, found, peak) = if is_small && !expr.root().has_subquery() {
            evaluate(&context, expr.root(), grid, mode)?
        } else {
            let root = expr.root_arc();
            let running = tokio::task::spawn_blocking(move || evaluate(&context, &root, grid, mode));
            running.await.map_err(|error| EvalError::Execution(format!("evaluation ended early: {error}")))??
        };
        let Annotations { mut warnings, infos, .. } = found;
        annotations.warnings.append(&mut warnings);
        stats.samples_peak = peak;
        (stats.queued, stats.selecting) = (turned - began, selected_at - turned);
        stats.evaluating = selected_at.elapsed();
        Ok(Answer { value, warnings: annotations.warnings, infos, stats })
    }
}

/// Refuses what is not enabled, and what can be read but never run.
fn check_usable(config: &Config, expr: &Expr) -> Result<(), EvalError> {
    expr.check_enabled(config.features())?;
    expr.unusable().map_or(Ok(()), |message| Err(EvalError::BadData(message.to_owned())))
}

/// When and how long an evaluation runs.
struct Times {
    asked: Asked,
    lookback_ms: i64,
    deadline: Instant,
    canceled: Arc<AtomicBool>,
}

/// Hands every selector its samples.
fn assemble(
    config: &Config,
    expr: &Expr,
    times: &Times,
    (wants, selectors): (&[Want], usize),
    selected: &[Arc<Selected>],
) -> Result<(Context, Annotations, Stats), EvalError> {
    let mut inputs: Vec<Arc<Selected>> = vec![Arc::default(); selectors];
    let mut thinned_until_ms = vec![i64::MIN; selectors];
    let mut annotations = Annotations::default();
    let mut stats = Stats::default();
    for (want, selected) in wants.iter().zip(selected) {
        let (series, samples) = selected.sizes();
        (stats.series_loaded, stats.samples_loaded) = (stats.series_loaded + series, stats.samples_loaded + samples);
        selected.warnings.iter().for_each(|warning| annotations.add_warning(warning.clone()));
        for id in &want.selectors {
            inputs[*id] = Arc::clone(selected);
            thinned_until_ms[*id] = selected.thinned_until.map_or(i64::MIN, Timestamp::as_millis);
        }
    }
    if stats.samples_loaded > config.max_samples {
        return Err(EvalError::TooManySamples("query execution"));
    }
    let context = Context {
        query: expr.query(),
        inputs,
        thinned_until_ms,
        start_ms: times.asked.grid.start,
        end_ms: times.asked.end_ms,
        lookback_ms: times.lookback_ms,
        default_step_ms: config.subquery_step_ms(),
        names: if config.delayed_name_removal { Names::DropAtEnd } else { Names::DropAtOnce },
        sample_limit: config.max_samples,
        samples_loaded: stats.samples_loaded,
        deadline: times.deadline,
        canceled: Arc::clone(&times.canceled),
    };
    Ok((context, annotations, stats))
}

/// Evaluates without waiting for anything, on a store that answers at once: for test scripts.
pub(super) fn run_at_once(
    config: &Config,
    expr: &Expr,
    (asked, mode): (Asked, Mode),
    select: impl Fn(&Want) -> Vec<SeriesSamples>,
) -> Result<Answer, EvalError> {
    check_usable(config, expr)?;
    let lookback_ms = config.lookback_delta.as_millis().max(1);
    let (wants, selectors) = plan::wants(expr.root(), asked, lookback_ms, config.subquery_step_ms());
    let selected: Vec<Arc<Selected>> = wants
        .iter()
        .map(|want| Arc::new(Selected::new(Selection { series: select(want), ..Selection::default() })))
        .collect();
    let deadline = Instant::now() + config.timeout.get();
    let times = Times { asked, lookback_ms, deadline, canceled: Arc::default() };
    let (context, _, stats) = assemble(config, expr, &times, (&wants, selectors), &selected)?;
    let (value, found, _) = evaluate(&context, expr.root(), asked.grid, mode)?;
    Ok(Answer { value, warnings: found.warnings, infos: found.infos, stats })
}

async fn select_all(
    store: &dyn Queryable,
    wants: &[Want],
    sample_limit: usize,
    cache: Option<&SelectionCache>,
) -> Result<Vec<Arc<Selected>>, EvalError> {
    let select = |want: &Want| {
        let (select, widened) = (want.select(sample_limit), want.widened().map(|want| want.select(sample_limit)));
        async move {
            let mut selection = store.select(select).await?;
            if let (Some(widened), Some(_)) = (widened, selection.thinned_until) {
                selection = store.select(widened).await?;
            }
            Ok::<_, EvalError>(Arc::new(Selected::new(selection)))
        }
    };
    try_join_all(wants.iter().map(|want| {
        let cell = cache.map(|cache| Arc::clone(cache.0.lock().entry(want.cache_key()).or_default()));
        let selecting = select(want);
        async move {
            match cell {
                Some(cell) => cell.get_or_try_init(|| selecting).await.map(Arc::clone),
                None => selecting.await,
            }
        }
    }))
    .await
}

fn evaluate(context: &Context, root: &Node, grid: Grid, mode: Mode) -> Result<(Value, Annotations, usize), EvalError> {
    let evaluator = Evaluator::new(context);
    let value = match (mode, root.value) {
        (Mode::Instant, ValueKind::Matrix) => raw_matrix(&evaluator, root, grid)?,
        _ => match (evaluator.eval(root, grid)?, mode) {
            (Operand::Scalar(values), Mode::Instant) => {
                Value::Scalar { at: time(grid, 0), value: values.first().copied().unwrap_or(f64::NAN) }
            }
            (Operand::Text(text), _) => Value::String { at: time(grid, 0), value: text.value.clone() },
            (Operand::Table(table), Mode::Instant) => Value::Vector(instant_vector(table, context.names, grid)?),
            (Operand::Table(table), Mode::Range) => Value::Matrix(matrix(table, context.names, grid)?),
            (Operand::Scalar(values), Mode::Range) => {
                Value::Matrix(vec![SeriesSamples { labels: Labels::empty(), times: times(grid), values }])
            }
        },
    };
    let peak = evaluator.peak();
    Ok((value, evaluator.annotations.into_inner(), peak))
}

fn time(grid: Grid, step: usize) -> Timestamp {
    Timestamp::from_millis(grid.time(step))
}

fn times(grid: Grid) -> Arc<[Timestamp]> {
    (0..grid.steps).map(|step| time(grid, step)).collect()
}

/// Drops the names that were only marked; from here on rows are what the asker sees.
fn finish(mut table: Table, names: Names) -> Result<Table, EvalError> {
    if names == Names::DropAtEnd && table.keys.iter().any(|key| key.drop_name) {
        table.merge_same(Names::DropAtOnce, true)?;
    }
    for key in table.keys.iter_mut().filter(|key| key.drop_name) {
        *key = Key::new(key.labels.without_metadata());
    }
    Ok(table)
}

fn instant_vector(table: Table, names: Names, grid: Grid) -> Result<Vec<InstantSample>, EvalError> {
    let Table { keys, values, .. } = finish(table, names)?;
    let samples = keys.into_iter().zip(values).filter(|(_, value)| !is_absent(*value));
    Ok(samples.map(|(key, value)| InstantSample { labels: key.labels, at: time(grid, 0), value }).collect())
}

fn matrix(table: Table, names: Names, grid: Grid) -> Result<Vec<SeriesSamples>, EvalError> {
    let table = finish(table, names)?;
    let all_times = times(grid);
    let mut series = Vec::with_capacity(table.keys.len());
    for (i, key) in table.keys.iter().enumerate() {
        let row = table.row(i);
        let values: Vec<f64> = row.iter().copied().filter(|value| !is_absent(*value)).collect();
        let times = if values.len() == row.len() {
            Arc::clone(&all_times)
        } else {
            row.iter().zip(all_times.iter()).filter(|(value, _)| !is_absent(**value)).map(|(_, time)| *time).collect()
        };
        if !values.is_empty() {
            series.push(SeriesSamples { labels: key.labels.clone(), times, values });
        }
    }
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(series)
}

/// An instant query of a range vector: the samples themselves.
fn raw_matrix<'a>(evaluator: &Evaluator<'a>, root: &'a Node, grid: Grid) -> Result<Value, EvalError> {
    let vector = evaluator.range_vector(root, grid)?;
    let (start, end) = vector.window(grid, 0);
    let mut series = Vec::with_capacity(vector.series.len());
    for one in &vector.series {
        let low = one.times.partition_point(|t| t.as_millis() <= start);
        let high = one.times.partition_point(|t| t.as_millis() <= end);
        if low < high {
            let (times, values) = (one.times[low..high].into(), one.values[low..high].to_vec());
            let labels = one.key.visible(Names::DropAtOnce);
            series.push(SeriesSamples { labels, times, values });
        }
    }
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(series))
}
