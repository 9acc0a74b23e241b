//! Runs test scripts in the language of Prometheus' own engine tests (`promql/promqltest/README.md`): `load`, `clear`,
//! `eval instant|range`, `expect …`.
//!
//! In: script text. Out: a [`Report`]. Each instant query is also run as a range query around its time, as upstream
//! does. Cases that touch native histograms are skipped and counted: meshscope does not store them.

mod compare;
mod series;
mod store;

use std::collections::BTreeMap;

use self::compare::{check_failure, check_notes, compare, compare_middle};
use self::series::{parse_metric, parse_values, unquoted};
use self::store::Store;
use super::ast::ValueKind;
use super::engine::{Config, Mode, run_at_once};
use super::expr::{Expr, parse};
use super::plan::Asked;
use super::table::Grid;
use super::value::Answer;
use crate::model::{Labels, METRIC_NAME};
use crate::units::PromDuration;

pub use self::series::{Point, parse_number, parse_series};

/// What became of a script.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The script's name.
    pub name: String,
    /// Cases that came out as expected.
    pub passed: usize,
    /// Cases that did not, and lines that cannot be read.
    pub failed: Vec<Failure>,
    /// Cases with native histograms.
    pub skipped: usize,
}

/// One case that did not come out as expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Line of the `eval` (from 1).
    pub line: usize,
    /// What the script says.
    pub expected: String,
    /// What came.
    pub got: String,
}

/// The settings under which engine test scripts run: 5 m lookback, 1 m subquery step, experimental functions, dropped
/// names kept until the end.
pub fn script_config() -> Config {
    Config { experimental_functions: true, duration_expressions: true, delayed_name_removal: true, ..Config::default() }
}

/// Runs a script with [`script_config`].
pub fn run_script(name: &str, text: &str) -> Report {
    run_script_with(name, text, &script_config())
}

/// Runs a script with other settings.
pub fn run_script_with(name: &str, text: &str, config: &Config) -> Report {
    let mut runner = Runner {
        store: Store::default(),
        points_left: POINT_BUDGET,
        config,
        report: Report { name: name.to_owned(), ..Report::default() },
    };
    // A comment line is an empty line, so it ends a block.
    let lines: Vec<&str> =
        text.lines().map(|line| if line.trim_start().starts_with('#') { "" } else { line.trim() }).collect();
    let mut at = 0;
    while at < lines.len() {
        let end = lines[at..].iter().position(|line| line.is_empty()).map_or(lines.len(), |length| at + length);
        if at < end {
            let body: Vec<(usize, &str)> = (at + 1..end).map(|i| (i + 1, lines[i])).collect();
            let used = runner.command(at + 1, lines[at], &body);
            at += used;
        } else {
            at += 1;
        }
    }
    runner.report
}

/// Most values that one script may write out: far more than tests need, and no memory is at the mercy of a line.
const POINT_BUDGET: usize = 2_000_000;

struct Runner<'a> {
    store: Store,
    /// Values that may still be read.
    points_left: usize,
    config: &'a Config,
    report: Report,
}

/// How a query is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Instant { at_ms: i64 },
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

impl When {
    fn asked(self) -> (Asked, Mode) {
        match self {
            Self::Instant { at_ms } => (Asked { grid: Grid::instant(at_ms), end_ms: at_ms }, Mode::Instant),
            Self::Range { start_ms, end_ms, step_ms } => {
                (Asked { grid: Grid::new(start_ms, end_ms, step_ms), end_ms }, Mode::Range)
            }
        }
    }
}

/// What a note (warning, info, error) must say.
#[derive(Clone, Debug)]
enum Wording {
    Any,
    Exactly(String),
    Like(String),
}

#[derive(Debug, Default)]
struct Expectation {
    fail: Option<Option<Wording>>,
    warn: Vec<Wording>,
    info: Vec<Wording>,
    no_warn: bool,
    no_info: bool,
    ordered: bool,
    scalar: Option<f64>,
    text: Option<String>,
    /// Start and step of an expected range vector.
    range_vector: Option<(i64, i64)>,
    series: Vec<(Labels, Vec<Point>)>,
}

impl Runner<'_> {
    /// Runs the command that begins with `head`; returns how many lines it took.
    fn command(&mut self, line: usize, head: &str, body: &[(usize, &str)]) -> usize {
        let word = head.split_whitespace().next().unwrap_or("");
        let outcome = match word {
            "clear" => {
                self.store.clear();
                return 1;
            }
            "load" | "load_with_nhcb" => self.load(head, body),
            word if word == "eval" || word.starts_with("eval_") => self.eval(head, body),
            _ => Err(("a command (load, clear, eval)".to_owned(), head.to_owned())),
        };
        if let Err((expected, got)) = outcome {
            self.report.failed.push(Failure { line, expected, got });
        }
        1 + body.len()
    }

    fn afford(&self) -> Result<(), String> {
        match self.points_left {
            0 => Err(format!("the script has more than {POINT_BUDGET} values")),
            _ => Ok(()),
        }
    }

    fn load(&mut self, head: &str, body: &[(usize, &str)]) -> Result<(), (String, String)> {
        let step = head.split_once(char::is_whitespace).map_or("", |(_, step)| step.trim());
        let step = duration_ms(step).ok_or_else(|| ("load <step>".to_owned(), head.to_owned()))?;
        // A series that is written twice in one block has the values of the last line.
        let mut block = BTreeMap::new();
        for (line, text) in body {
            let read = self.afford().and_then(|()| parse_series(text));
            let (labels, points) = read.map_err(|error| ("a series".to_owned(), format!("line {line}: {error}")))?;
            self.points_left = self.points_left.saturating_sub(points.len());
            block.insert(labels, points);
        }
        if head.starts_with("load_with_nhcb") {
            block.extend(native_twins(&block));
        }
        block.into_iter().for_each(|(labels, points)| self.store.load(labels, &points, step));
        Ok(())
    }

    fn eval(&mut self, head: &str, body: &[(usize, &str)]) -> Result<(), (String, String)> {
        let syntax = || {
            ("eval instant at <time> <query>, eval range from <a> to <b> step <c> <query>".to_owned(), head.to_owned())
        };
        let (when, query) = parse_head(head).ok_or_else(syntax)?;
        let mut expectation = Expectation::default();
        legacy_word(head, &mut expectation);
        for (line, text) in body {
            self.afford()
                .and_then(|()| expect_line(text, &mut expectation))
                .map_err(|error| ("an expectation".to_owned(), format!("line {line}: {error}")))?;
        }
        let points: usize = expectation.series.iter().map(|(_, points)| points.len()).sum();
        self.points_left = self.points_left.saturating_sub(points);
        let histograms = expectation.series.iter().any(|(_, points)| points.contains(&Point::Histogram));
        let expr = match parse(query) {
            Ok(expr) => expr,
            Err(error) => return self.settle(check_failure(&expectation, Some(error.to_string())), histograms),
        };
        self.store.take_met_histogram();
        let outcome = self.check(&expr, when, &expectation);
        let histograms = self.store.take_met_histogram() || histograms;
        self.settle(outcome, histograms)
    }

    fn settle(&mut self, outcome: Result<(), (String, String)>, histograms: bool) -> Result<(), (String, String)> {
        match outcome {
            _ if histograms => self.report.skipped += 1,
            Ok(()) => self.report.passed += 1,
            Err(difference) => return Err(difference),
        }
        Ok(())
    }

    fn run(&self, expr: &Expr, when: When) -> Result<Answer, String> {
        run_at_once(self.config, expr, when.asked(), |want| self.store.select(want)).map_err(|error| error.to_string())
    }

    fn check(&self, expr: &Expr, when: When, expectation: &Expectation) -> Result<(), (String, String)> {
        if let (When::Range { .. }, ValueKind::String | ValueKind::Matrix) = (when, expr.kind()) {
            let kind = expr.kind().documented();
            let error = format!("invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector");
            return check_failure(expectation, Some(error));
        }
        let answer = match self.run(expr, when) {
            Ok(answer) if expectation.fail.is_none() => answer,
            Ok(_) => return check_failure(expectation, None),
            Err(error) => return check_failure(expectation, Some(error)),
        };
        check_notes(expectation, &answer)?;
        compare(expectation, when, &answer.value)?;
        let When::Instant { at_ms } = when else { return Ok(()) };
        if expectation.ordered || !matches!(expr.kind(), ValueKind::Scalar | ValueKind::Vector) {
            return Ok(());
        }
        let around = When::Range { start_ms: at_ms - 60_000, end_ms: at_ms + 60_000, step_ms: 60_000 };
        let in_range = |(expected, got): (String, String)| (format!("{expected} (as a range query)"), got);
        let answer = self.run(expr, around).map_err(|error| in_range(("a result".to_owned(), error)))?;
        compare_middle(expectation, at_ms, &answer.value).map_err(in_range)
    }
}

/// Where the native histograms lie that `load_with_nhcb` makes of classic ones.
fn native_twins(block: &BTreeMap<Labels, Vec<Point>>) -> BTreeMap<Labels, Vec<Point>> {
    let mut twins: BTreeMap<Labels, Vec<Point>> = BTreeMap::new();
    for (labels, points) in block {
        let name = labels.metric_name();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let Some(base) = base else { continue };
        let twin = labels.iter().filter(|(name, _)| *name != "le" && *name != METRIC_NAME);
        let twin = twins.entry(twin.chain([(METRIC_NAME, base)]).collect()).or_default();
        twin.resize(twin.len().max(points.len()), Point::Missing);
        for (at, _) in points.iter().enumerate().filter(|(_, point)| matches!(point, Point::Value(_))) {
            twin[at] = Point::Histogram;
        }
    }
    twins
}

fn duration_ms(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let seconds = || text.parse().ok().map(|seconds: f64| (seconds * 1000.0) as i64);
    text.parse::<PromDuration>().map(PromDuration::as_millis).ok().or_else(seconds).map(|ms| sign * ms)
}

/// Splits off the first word.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).map(|(word, rest)| (word, rest.trim_start()))
}

fn parse_head(head: &str) -> Option<(When, &str)> {
    let after = |text, want: &str| word(text).filter(|(got, _)| *got == want).map(|(_, rest)| rest);
    let (_, rest) = word(head)?;
    if let Some(rest) = after(rest, "instant") {
        let Some(rest) = after(rest, "at") else { return Some((When::Instant { at_ms: 0 }, rest)) };
        let (at, query) = word(rest)?;
        return Some((When::Instant { at_ms: duration_ms(at)? }, query));
    }
    let rest = after(after(rest, "range")?, "from")?;
    let (when, query) = parse_range(rest)?;
    Some((when, query))
}

/// `<a> to <b> step <c> …`
fn parse_range(text: &str) -> Option<(When, &str)> {
    let (start, rest) = word(text)?;
    let (to, rest) = word(rest)?;
    let (end, rest) = word(rest)?;
    let (by, rest) = word(rest)?;
    let (step, rest) = word(rest).unwrap_or((rest, ""));
    if (to, by) != ("to", "step") {
        return None;
    }
    let (start_ms, end_ms, step_ms) = (duration_ms(start)?, duration_ms(end)?, duration_ms(step)?);
    Some((When::Range { start_ms, end_ms, step_ms }, rest))
}

/// `eval_fail`, `eval_warn`, `eval_info`, `eval_ordered`.
fn legacy_word(head: &str, expectation: &mut Expectation) {
    match word(head).map(|(word, _)| word) {
        Some("eval_fail") => expectation.fail = Some(None),
        Some("eval_warn") => expectation.warn.push(Wording::Any),
        Some("eval_info") => expectation.info.push(Wording::Any),
        Some("eval_ordered") => expectation.ordered = true,
        _ => {}
    }
}

fn expect_line(text: &str, expectation: &mut Expectation) -> Result<(), String> {
    if let Some(message) = text.strip_prefix("expected_fail_message") {
        expectation.fail = Some(Some(Wording::Exactly(message.trim().to_owned())));
        return Ok(());
    }
    if let Some(pattern) = text.strip_prefix("expected_fail_regexp") {
        expectation.fail = Some(Some(Wording::Like(pattern.trim().to_owned())));
        return Ok(());
    }
    if let Some(("expect", rest)) = word(text) {
        return expect_word(rest, expectation);
    }
    if let Some(number) = parse_number(text) {
        expectation.scalar = Some(number);
        return Ok(());
    }
    let (labels, rest) = parse_metric(text)?;
    expectation.series.push((labels, parse_values(rest)?));
    Ok(())
}

fn expect_word(text: &str, expectation: &mut Expectation) -> Result<(), String> {
    let (what, rest) = word(text).unwrap_or((text, ""));
    let wording = || match rest.trim() {
        "" => Ok(Wording::Any),
        rest => match (rest.strip_prefix("msg:"), rest.strip_prefix("regex:")) {
            (Some(message), _) => Ok(Wording::Exactly(message.trim().to_owned())),
            (_, Some(pattern)) => Ok(Wording::Like(pattern.trim().to_owned())),
            _ => Err(format!("`msg:` or `regex:` is needed in {text:?}")),
        },
    };
    match what {
        "fail" => expectation.fail = Some(Some(wording()?)),
        "warn" => expectation.warn.push(wording()?),
        "info" => expectation.info.push(wording()?),
        "no_warn" => expectation.no_warn = true,
        "no_info" => expectation.no_info = true,
        "ordered" => expectation.ordered = true,
        "string" => {
            expectation.text = Some(unquoted(rest.trim()).ok_or_else(|| format!("not a quoted text: {rest}"))?);
        }
        "range" => {
            let range = rest.strip_prefix("vector").and_then(|rest| rest.trim().strip_prefix("from"));
            match range.and_then(|rest| parse_range(rest.trim())) {
                Some((When::Range { start_ms, step_ms, .. }, _)) => {
                    expectation.range_vector = Some((start_ms, step_ms));
                }
                _ => return Err(format!("`range vector from <a> to <b> step <c>` is needed, not {text:?}")),
            }
        }
        _ => return Err(format!("unknown expectation {what:?}")),
    }
    Ok(())
}
