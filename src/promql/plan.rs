//! What a query needs of the store: one window of time for each selector, joined where selectors read the same series.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use super::ast::{At, Kind, Node, VectorSelector};
use super::eval::subquery_grid;
use super::families;
use super::functions::Rule;
use super::info;
use super::table::Grid;
use super::widen;
use crate::model::{METRIC_NAME, Matcher, Timestamp};
use crate::series::{Family, Select, SelectHint, Selection, SeriesSamples};

/// One request to the store and the selectors that it serves.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub matchers: Vec<Matcher>,
    /// Both inclusive, in milliseconds.
    pub from: i64,
    pub to: i64,
    pub hint: SelectHint,
    pub selectors: Vec<usize>,
    /// How much earlier the samples must begin when they turn out to be thinned.
    pub widen_ms: i64,
}

impl Want {
    /// The same from earlier on, when thinned samples need that.
    pub fn widened(&self) -> Option<Self> {
        (self.widen_ms > 0).then(|| Self { from: self.from.saturating_sub(self.widen_ms), ..self.clone() })
    }

    pub fn select(&self, sample_limit: usize) -> Select {
        let (from, to) = (Timestamp::from_millis(self.from), Timestamp::from_millis(self.to));
        Select { matchers: self.matchers.clone(), from, to, hint: self.hint, sample_limit }
    }

    /// A text that is the same for the same request.
    pub fn cache_key(&self) -> String {
        let mut matchers: Vec<String> = self.matchers.iter().map(Matcher::to_string).collect();
        matchers.sort_unstable();
        format!("{}\u{0}{}\u{0}{}\u{0}{}", self.from, self.to, self.widen_ms, matchers.join("\u{0}"))
    }
}

/// The requests of an expression evaluated over `grid`, and how many selectors it has.
pub(super) fn wants(root: &Node, asked: Asked, lookback_ms: i64, default_step_ms: i64) -> (Vec<Want>, usize) {
    let (wants, by_matchers) = (Vec::new(), HashMap::new());
    let mut planner = Planner { asked, lookback_ms, default_step_ms, wants, by_matchers, selectors: 0 };
    planner.node(root, asked.grid, "");
    (planner.wants, planner.selectors)
}

/// The times of a query: its steps, and its end, which need not be a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub grid: Grid,
    pub end_ms: i64,
}

struct Planner {
    asked: Asked,
    lookback_ms: i64,
    default_step_ms: i64,
    wants: Vec<Want>,
    /// Places in `wants` by the text of the matchers, so that thousands of selectors are no square of work.
    by_matchers: HashMap<String, Vec<usize>>,
    selectors: usize,
}

impl Planner {
    fn at_ms(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Start => self.asked.grid.start,
            At::End => self.asked.end_ms,
            At::Millis(ms) => ms,
        })
    }

    fn node(&mut self, node: &Node, grid: Grid, function: &'static str) {
        match &node.kind {
            Kind::Number { .. } | Kind::Text(_) => {}
            Kind::Selector(selector) => self.selector(selector, grid, function, selector.matchers.to_vec()),
            Kind::Subquery(subquery) => {
                let inner = subquery_grid(subquery, self.at_ms(subquery.at), grid, self.default_step_ms);
                self.node(&subquery.inner, inner, "");
            }
            Kind::Paren(inner) => self.node(inner, grid, function),
            Kind::Unary { inner, .. } => self.node(inner, grid, ""),
            Kind::Binary(_) => {
                let (first, links) = node.chain();
                self.node(first, grid, "");
                links.iter().for_each(|(_, binary)| self.node(&binary.right, grid, ""));
            }
            Kind::Aggregate(aggregate) => {
                if let Some(param) = &aggregate.param {
                    self.node(param, grid, "");
                }
                match families::candidate(aggregate) {
                    Some(families::Candidate { selector, function, .. }) => {
                        self.select(selector, grid, (function, true), selector.matchers.to_vec());
                    }
                    None => self.node(&aggregate.inner, grid, aggregate.op.as_str()),
                }
            }
            Kind::Call { function, args } => {
                for (i, arg) in args.iter().enumerate() {
                    match &arg.kind {
                        Kind::Selector(selector) if function.rule == Rule::Info && i == 1 => {
                            let mut matchers = selector.matchers.to_vec();
                            if matchers.iter().all(|matcher| &*matcher.name != METRIC_NAME) {
                                matchers.push(Matcher::equal(METRIC_NAME, info::DEFAULT_METRIC));
                            }
                            self.selector(selector, grid, function.name, matchers);
                        }
                        _ => self.node(arg, grid, function.name),
                    }
                }
            }
        }
    }

    fn selector(&mut self, selector: &VectorSelector, grid: Grid, function: &'static str, matchers: Vec<Matcher>) {
        self.select(selector, grid, (function, false), matchers);
    }

    /// `families`: whether samples may come family by family.
    fn select(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
        (function, families): (&'static str, bool),
        matchers: Vec<Matcher>,
    ) {
        self.selectors = self.selectors.max(selector.id + 1);
        if grid.steps == 0 {
            return;
        }
        let at = self.at_ms(selector.at);
        let window_ms = selector.range_ms.unwrap_or(self.lookback_ms);
        let from = at.unwrap_or(grid.start).saturating_sub(selector.offset_ms).saturating_sub(window_ms - 1);
        let to = at.unwrap_or(grid.end()).saturating_sub(selector.offset_ms);
        let step = if grid.steps > 1 { Duration::from_millis(grid.step.unsigned_abs()) } else { Duration::ZERO };
        let range = Duration::from_millis(selector.range_ms.unwrap_or(0).unsigned_abs());
        let hint = SelectHint { step, range, function, families };
        let widen_ms = widen::missing_ms(function, selector.range_ms);
        let same = self.by_matchers.entry(matchers.iter().map(|one| format!("{one}\0")).collect()).or_default();
        let near = |want: &Want| want.from <= to && from <= want.to;
        match same.iter().copied().find(|at| near(&self.wants[*at])) {
            Some(at) => {
                let want = &mut self.wants[at];
                (want.from, want.to) = (want.from.min(from), want.to.max(to));
                if want.hint != hint {
                    // Neither hint alone is true of both readers, so the store is told only what they have in common.
                    let families = want.hint.families && hint.families;
                    want.hint = SelectHint { families, ..SelectHint::default() };
                }
                want.widen_ms = want.widen_ms.max(widen_ms);
                want.selectors.push(selector.id);
            }
            None => {
                same.push(self.wants.len());
                self.wants.push(Want { matchers, from, to, hint, selectors: vec![selector.id], widen_ms });
            }
        }
    }
}

/// The answer of the store for one request.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// Series that came one by one.
    alone: Vec<SeriesSamples>,
    pub families: Vec<Family>,
    pub warnings: Vec<String>,
    pub thinned_until: Option<Timestamp>,
    /// All series, once somebody wants them one by one although they came in families.
    apart: OnceLock<Vec<SeriesSamples>>,
}

impl Selected {
    pub fn new(selection: Selection) -> Self {
        let Selection { series, families, warnings, thinned_until } = selection;
        Self { alone: series, families, warnings, thinned_until, apart: OnceLock::new() }
    }

    /// Series that came in no family.
    pub fn alone(&self) -> &[SeriesSamples] {
        &self.alone
    }

    /// All series one by one.
    pub fn series(&self) -> &[SeriesSamples] {
        if self.families.is_empty() {
            return &self.alone;
        }
        self.apart.get_or_init(|| self.families.iter().flat_map(Family::series).chain(self.alone.clone()).collect())
    }

    /// How many series and samples.
    pub fn sizes(&self) -> (usize, usize) {
        let rows: usize = self.families.iter().map(|family| family.names.bounds.len()).sum();
        let samples: usize = self.families.iter().map(|family| family.values.len()).sum();
        (rows + self.alone.len(), samples + self.alone.iter().map(|series| series.values.len()).sum::<usize>())
    }
}
