//! Evaluates a tree over a grid of steps: every node once, over all steps, on samples that were selected before.
//!
//! In: the tree, the selected samples by selector, the grid. Out: an operand. Pure and synchronous; looks at the clock
//! only to keep its deadline. Invariant: rows of a [`Table`] are distinct series under the names rule in force.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use super::aggregate;
use super::annotate::Annotations;
use super::ast::{At, Kind, Node, Span, Subquery, Text, VectorSelector};
use super::binary;
use super::call;
use super::error::EvalError;
use super::plan::Selected;
use super::table::{ABSENT, Grid, Key, Names, Table, is_absent};
use super::widen;
use crate::model::{Timestamp, is_stale};
use crate::series::SeriesSamples;

/// Work between two looks at the clock, in samples.
const SAMPLES_PER_CHECK: usize = 50_000;

/// What an evaluation knows beside the tree.
pub(super) struct Context {
    pub query: Arc<str>,
    /// Samples of each selector, by its id.
    pub inputs: Vec<Arc<Selected>>,
    /// Up to when samples of each selector are thinned, by its id.
    pub thinned_until_ms: Vec<i64>,
    pub start_ms: i64,
    pub end_ms: i64,
    pub lookback_ms: i64,
    pub default_step_ms: i64,
    pub names: Names,
    pub sample_limit: usize,
    /// Samples in `inputs`, shared ones counted once.
    pub samples_loaded: usize,
    pub deadline: Instant,
    pub canceled: Arc<AtomicBool>,
}

/// The value of a node.
pub(super) enum Operand<'a> {
    /// One number for each step.
    Scalar(Vec<f64>),
    Table(Table),
    Text(&'a Text),
}

/// One series of a range vector, stale markers taken out.
pub(super) struct RangeSeries<'a> {
    pub key: Key,
    pub times: Cow<'a, [Timestamp]>,
    pub values: Cow<'a, [f64]>,
}

/// A range vector: its series and which window belongs to a step.
pub(super) struct RangeVector<'a> {
    pub series: Vec<RangeSeries<'a>>,
    pub range_ms: i64,
    pub offset_ms: i64,
    /// The window's end is fixed by `@`.
    pub at_ms: Option<i64>,
    pub span: Span,
    /// Up to when its samples are thinned.
    pub thinned_until_ms: i64,
    /// Windows that begin before this are widened.
    pub widened_until_ms: i64,
}

pub(super) struct Evaluator<'a> {
    pub context: &'a Context,
    pub annotations: RefCell<Annotations>,
    work: Cell<usize>,
    held: Cell<usize>,
    /// Most of `held` and what was asked for beside it.
    peak: Cell<usize>,
}

type Evaluated<T> = Result<T, EvalError>;

impl<'a> Evaluator<'a> {
    pub fn new(context: &'a Context) -> Self {
        let (held, peak) = (Cell::new(context.samples_loaded), Cell::new(context.samples_loaded));
        Self { context, annotations: RefCell::default(), work: Cell::new(0), held, peak }
    }

    /// Most samples that were held at one time.
    pub fn peak(&self) -> usize {
        self.peak.get()
    }

    /// Counts work done; looks at the deadline now and then.
    pub fn spend(&self, samples: usize) -> Evaluated<()> {
        let work = self.work.get() + samples.max(1);
        if work < SAMPLES_PER_CHECK {
            self.work.set(work);
            return Ok(());
        }
        self.work.set(0);
        if self.context.canceled.load(Ordering::Relaxed) {
            return Err(EvalError::Canceled("expression evaluation"));
        }
        if Instant::now() > self.context.deadline {
            return Err(EvalError::Timeout("expression evaluation"));
        }
        Ok(())
    }

    /// Refuses a table that is larger than what may be held.
    pub fn reserve(&self, rows: usize, steps: usize) -> Evaluated<()> {
        let wanted = self.held.get().saturating_add(rows.saturating_mul(steps));
        self.peak.set(self.peak.get().max(wanted));
        if wanted > self.context.sample_limit {
            return Err(EvalError::TooManySamples("query execution"));
        }
        self.spend(rows)
    }

    /// Counts what `operand` holds while another is evaluated, until it is [released](Self::release).
    fn hold(&self, operand: &Operand<'_>) -> usize {
        let size = match operand {
            Operand::Scalar(values) => values.len(),
            Operand::Table(table) => table.values.len(),
            Operand::Text(_) => 0,
        };
        self.held.set(self.held.get().saturating_add(size));
        size
    }

    fn release(&self, size: usize) {
        self.held.set(self.held.get().saturating_sub(size));
    }

    /// Operators from the first to the last, in a loop: a chain may be longer than any stack.
    fn chain(&self, node: &'a Node, grid: Grid) -> Evaluated<Operand<'a>> {
        let (first, links) = node.chain();
        // What does not depend on the step is evaluated once, as one node.
        let inner = &links[..links.len().saturating_sub(1)];
        let fixed = inner.iter().rposition(|(link, _)| link.fixed).filter(|_| grid.steps > 1);
        let (first, rest) = fixed.map_or((first, &links[..]), |at| (links[at].0, &links[at + 1..]));
        let mut left = self.eval(first, grid)?;
        for (_, binary) in rest {
            let held = self.hold(&left);
            let right = self.eval(&binary.right, grid)?;
            left = binary::eval(self, binary, (left, right))?;
            self.release(held);
        }
        Ok(left)
    }

    pub fn warn(&self, message: impl Into<String>, span: Span) {
        self.annotations.borrow_mut().warn(&self.context.query, message.into(), span);
    }

    pub fn inform(&self, message: impl Into<String>, span: Span) {
        self.annotations.borrow_mut().inform(&self.context.query, message.into(), span);
    }

    /// Evaluates `node` at every step of `grid`; what does not depend on the step is evaluated once and repeated.
    pub fn eval(&self, node: &'a Node, grid: Grid) -> Evaluated<Operand<'a>> {
        // What is held at any time is at least one value for each step, also of what loads no sample.
        self.reserve(1, grid.steps)?;
        let literal = matches!(node.kind, Kind::Number { .. } | Kind::Text(_));
        if !node.fixed || literal || grid.steps <= 1 {
            return self.eval_steps(node, grid);
        }
        Ok(match self.eval_steps(node, Grid::instant(grid.start))? {
            Operand::Scalar(values) => Operand::Scalar(values.repeat(grid.steps)),
            Operand::Table(table) => {
                self.reserve(table.keys.len(), grid.steps)?;
                Operand::Table(table.repeated(grid.steps))
            }
            Operand::Text(text) => Operand::Text(text),
        })
    }

    fn eval_steps(&self, node: &'a Node, grid: Grid) -> Evaluated<Operand<'a>> {
        match &node.kind {
            Kind::Number { value, .. } => Ok(Operand::Scalar(vec![*value; grid.steps])),
            Kind::Text(text) => Ok(Operand::Text(text)),
            Kind::Selector(selector) => self.instant_selector(selector, grid, |_, value| value).map(Operand::Table),
            Kind::Paren(inner) => self.eval(inner, grid),
            Kind::Unary { negative, inner } => self.unary(*negative, inner, grid),
            Kind::Binary(_) => self.chain(node, grid),
            Kind::Aggregate(node) => aggregate::eval(self, node, grid).map(Operand::Table),
            Kind::Call { function, args } => call::eval(self, function, args, grid),
            Kind::Subquery(_) => Err(unreachable_kind("a subquery outside a function")),
        }
    }

    /// The value of a node that the type check knows to be a scalar.
    pub fn scalar(&self, node: &'a Node, grid: Grid) -> Evaluated<Vec<f64>> {
        match self.eval(node, grid)? {
            Operand::Scalar(values) => Ok(values),
            _ => Err(unreachable_kind("no scalar where one is needed")),
        }
    }

    /// The value of a node that the type check knows to be an instant vector.
    pub fn table(&self, node: &'a Node, grid: Grid) -> Evaluated<Table> {
        match self.eval(node, grid)? {
            Operand::Table(table) => Ok(table),
            _ => Err(unreachable_kind("no instant vector where one is needed")),
        }
    }

    /// The value of a node that the type check knows to be a text.
    pub fn text(&self, node: &'a Node) -> Evaluated<&'a Text> {
        match &node.unwrapped().kind {
            Kind::Text(text) => Ok(text),
            _ => Err(unreachable_kind("no text where one is needed")),
        }
    }

    fn unary(&self, negative: bool, inner: &'a Node, grid: Grid) -> Evaluated<Operand<'a>> {
        let operand = self.eval(inner, grid)?;
        Ok(match operand {
            operand if !negative => operand,
            Operand::Scalar(values) => Operand::Scalar(values.into_iter().map(|value| -value).collect()),
            Operand::Table(mut table) => {
                table.map(|value| -value);
                table.drop_names(self.context.names, true)?;
                Operand::Table(table)
            }
            Operand::Text(text) => Operand::Text(text),
        })
    }

    pub fn at_ms(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Start => self.context.start_ms,
            At::End => self.context.end_ms,
            At::Millis(ms) => ms,
        })
    }

    /// The newest sample of each series in `(t − lookback, t]`, as `pick` of its time and value.
    pub fn instant_selector(
        &self,
        selector: &VectorSelector,
        grid: Grid,
        pick: impl Fn(Timestamp, f64) -> f64,
    ) -> Evaluated<Table> {
        let input = self.context.inputs[selector.id].series();
        let at = self.at_ms(selector.at);
        let lookback = self.context.lookback_ms;
        let mut table = Table::with_capacity(grid.steps, input.len());
        self.reserve(input.len(), grid.steps)?;
        for series in input.iter() {
            self.spend(grid.steps)?;
            table.push_filled(Key::new(series.labels.clone()), |row| {
                let (times, values) = (&*series.times, &*series.values);
                let time = |step: usize| at.unwrap_or_else(|| grid.time(step)).saturating_sub(selector.offset_ms);
                let mut next = times.partition_point(|t| t.as_millis() <= time(0));
                let mut any = false;
                for (step, out) in row.iter_mut().enumerate() {
                    let t = time(step);
                    while times.get(next).is_some_and(|sample| sample.as_millis() <= t) {
                        next += 1;
                    }
                    let Some(last) = next.checked_sub(1) else { continue };
                    if times[last].as_millis() > t.saturating_sub(lookback) && !is_stale(values[last]) {
                        *out = pick(times[last], values[last]);
                        any = true;
                    }
                }
                Ok(any)
            })?;
        }
        Ok(table)
    }

    /// The series and windows of a range vector.
    pub fn range_vector(&self, node: &'a Node, grid: Grid) -> Evaluated<RangeVector<'a>> {
        let inner = node.unwrapped();
        match &inner.kind {
            Kind::Selector(selector) => self.range_selector(selector, inner.span),
            // Prometheus has no place for what it made of a subquery, so it says the beginning.
            Kind::Subquery(subquery) => self.subquery(subquery, Span::default(), grid),
            _ => Err(unreachable_kind("no range vector where one is needed")),
        }
    }

    fn range_selector(&self, selector: &VectorSelector, span: Span) -> Evaluated<RangeVector<'a>> {
        let input: &'a [SeriesSamples] = self.context.inputs[selector.id].series();
        let series = input
            .iter()
            .map(|series| {
                let key = Key::new(series.labels.clone());
                if !series.values.iter().any(|value| is_stale(*value)) {
                    let (times, values) = (Cow::Borrowed(&*series.times), Cow::Borrowed(&*series.values));
                    return RangeSeries { key, times, values };
                }
                RangeSeries::without_stale(key, &series.times, &series.values)
            })
            .collect();
        let (offset_ms, at_ms) = (selector.offset_ms, self.at_ms(selector.at));
        let range_ms = selector.range_ms.unwrap_or(0);
        let thinned_until_ms = self.context.thinned_until_ms[selector.id];
        Ok(RangeVector { series, range_ms, offset_ms, at_ms, span, thinned_until_ms, widened_until_ms: i64::MIN })
    }

    fn subquery(&self, subquery: &'a Subquery, span: Span, grid: Grid) -> Evaluated<RangeVector<'a>> {
        let at_ms = self.at_ms(subquery.at);
        let inner_grid = subquery_grid(subquery, at_ms, grid, self.context.default_step_ms);
        let table = match self.eval(&subquery.inner, inner_grid)? {
            Operand::Table(table) => table,
            Operand::Scalar(_) | Operand::Text(_) => return Err(unreachable_kind("no vector inside a subquery")),
        };
        let all_times: Arc<[Timestamp]> =
            (0..inner_grid.steps).map(|step| Timestamp::from_millis(inner_grid.time(step))).collect();
        let series = (0..table.keys.len())
            .map(|i| {
                let row = table.row(i);
                let present = row.iter().enumerate().filter(|(_, value)| !is_absent(**value));
                let (times, values): (Vec<Timestamp>, Vec<f64>) =
                    present.map(|(step, value)| (all_times[step], *value)).unzip();
                RangeSeries { key: table.keys[i].clone(), times: times.into(), values: values.into() }
            })
            .collect();
        let (range_ms, offset_ms) = (subquery.range_ms, subquery.offset_ms);
        let (thinned_until_ms, widened_until_ms) = (i64::MIN, i64::MIN);
        Ok(RangeVector { series, range_ms, offset_ms, at_ms, span, thinned_until_ms, widened_until_ms })
    }
}

/// The steps at which the inside of a subquery is evaluated: multiples of its step in `(first − range, last]`.
pub(super) fn subquery_grid(subquery: &Subquery, at_ms: Option<i64>, grid: Grid, default_step_ms: i64) -> Grid {
    let step = subquery.step_ms.unwrap_or(default_step_ms).max(1);
    let first = at_ms.unwrap_or(grid.start).saturating_sub(subquery.offset_ms).saturating_sub(subquery.range_ms);
    let last = at_ms.unwrap_or(grid.end()).saturating_sub(subquery.offset_ms);
    Grid::new(first.div_euclid(step).saturating_add(1).saturating_mul(step), last, step)
}

/// The first and last window of each step.
impl RangeVector<'_> {
    /// Window `(start, end]` of `step`.
    pub fn window(&self, grid: Grid, step: usize) -> (i64, i64) {
        let end = self.at_ms.unwrap_or_else(|| grid.time(step)).saturating_sub(self.offset_ms);
        let start = end.saturating_sub(self.range_ms);
        (if start < self.widened_until_ms { widen::start(end, self.range_ms) } else { start }, end)
    }
}

impl RangeSeries<'_> {
    /// Those samples that are no stale markers.
    pub fn without_stale(key: Key, times: &[Timestamp], values: &[f64]) -> Self {
        let fresh = times.iter().zip(values).filter(|(_, value)| !is_stale(**value));
        let (times, values): (Vec<Timestamp>, Vec<f64>) = fresh.unzip();
        Self { key, times: times.into(), values: values.into() }
    }

    /// Calls `each` with the samples of every step's window that holds any, and writes what it returns.
    pub fn slide(
        &self,
        vector: &RangeVector<'_>,
        grid: Grid,
        row: &mut [f64],
        mut each: impl FnMut(usize, &[Timestamp], &[f64]) -> Option<f64>,
    ) -> bool {
        let (mut low, mut high, mut any) = (0, 0, false);
        if grid.steps == 1 || vector.at_ms.is_some() {
            let (start, end) = vector.window(grid, 0);
            low = self.times.partition_point(|t| t.as_millis() <= start);
            high = self.times.partition_point(|t| t.as_millis() <= end);
        }
        for (step, out) in row.iter_mut().enumerate() {
            let (start, end) = vector.window(grid, step);
            while self.times.get(high).is_some_and(|t| t.as_millis() <= end) {
                high += 1;
            }
            while low < high && self.times[low].as_millis() <= start {
                low += 1;
            }
            if low == high {
                continue;
            }
            if let Some(value) = each(step, &self.times[low..high], &self.values[low..high]) {
                *out = value;
                any = true;
            }
        }
        any
    }
}

pub(super) fn unreachable_kind(what: &str) -> EvalError {
    debug_assert!(false, "the type check let through {what}");
    EvalError::Execution(format!("internal: {what}"))
}

/// A row of one absent value for each step.
pub(super) fn absent_row(steps: usize) -> Vec<f64> {
    vec![ABSENT; steps]
}
