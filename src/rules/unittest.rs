//! `rules test`: unit tests of rules in promtool's file format, with promtool's verdicts.
//!
//! In: test files. Out: [`TestReport`]. Reads files, nothing else: each test has a memory tier of its own, and its groups
//! are evaluated by the very code that evaluates them in service. Knows no native histograms: such series are left out,
//! expressions about them are skipped, and a warning says how many.

mod compare;
mod document;
mod input;
mod junit;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::document::{AlertCase, ExprCase, InputSeries, Test, TestFile};
use self::input::{Loader, parse_metric};
use super::definition::RuleGroup;
use super::group::{External, Group, Surroundings};
use super::query::Querier;
use super::{Config, Counters, Status, file, load};
use crate::clock::Clock;
use crate::gotemplate::go_duration;
use crate::model::{Labels, Timestamp};
use crate::promql;
use crate::series::{self, Head};
use crate::units::PromDuration;
use crate::yaml;

/// Most evaluations of all groups in one test: a year of minutes.
const EVALUATIONS_MAX: u64 = 530_000;

/// What became of all test files.
#[derive(Debug, Default)]
pub struct TestReport {
    /// In the order given.
    pub files: Vec<FileReport>,
}

/// How tests are run.
#[derive(Clone, Debug, Default)]
pub struct TestOptions {
    /// Only the tests whose name matches. Default: all.
    pub only: Option<regex::Regex>,
    /// What of the language is enabled. Default: nothing of what Prometheus has behind flags.
    pub features: promql::Features,
    /// Whether fields of rule files that nobody knows are no faults. Default false.
    pub ignore_unknown_fields: bool,
    /// Whether each report tells how long its tests took, and all the data of the end. Default false.
    pub debug: bool,
}

/// What became of one test.
#[derive(Debug, Default)]
pub struct TestCase {
    /// Its name, `unnamed#3` where it has none.
    pub name: String,
    /// What did not come out as expected.
    pub failures: Vec<String>,
}

/// What became of one test file.
#[derive(Debug, Default)]
pub struct FileReport {
    /// Its path.
    pub file: String,
    /// The tests that were run.
    pub cases: Vec<TestCase>,
    /// What was asked to be told beside: times and data.
    pub notes: Vec<String>,
    /// Why no test could be run, and what did not come out as expected; empty when all is well.
    pub failures: Vec<String>,
    /// What is odd about the file itself.
    pub warnings: Vec<String>,
}

impl TestReport {
    /// Whether every test came out as expected.
    pub fn passed(&self) -> bool {
        self.files.iter().all(|file| file.failures.is_empty())
    }
}

/// As promtool prints it.
impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for FileReport { file, failures, warnings, notes, .. } in &self.files {
            writeln!(f, "Unit Testing:  {file}")?;
            for warning in warnings {
                writeln!(f, "  WARNING: {warning}")?;
            }
            for note in notes {
                writeln!(f, "DEBUG: {note}")?;
            }
            match failures.is_empty() {
                true => writeln!(f, "  SUCCESS")?,
                false => writeln!(f, "  FAILED:")?,
            }
            for failure in failures {
                writeln!(f, "{failure}\n")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Runs each test file.
pub async fn run(files: &[PathBuf]) -> TestReport {
    run_with(files, &TestOptions::default()).await
}

/// Runs the tests that `options` choose.
pub async fn run_with(files: &[PathBuf], options: &TestOptions) -> TestReport {
    let mut report = TestReport::default();
    for path in files {
        report.files.push(run_file(path, options).await);
    }
    report
}

async fn run_file(path: &Path, options: &TestOptions) -> FileReport {
    let mut report = FileReport { file: path.display().to_string(), ..FileReport::default() };
    let text = match load::read(path) {
        Ok(text) => text,
        Err(message) => {
            report.failures.push(format!("{}: {message}", report.file));
            return report;
        }
    };
    let (file, problems) = yaml::decode::<TestFile>(&text);
    report.failures.extend(problems.iter().map(|problem| format!("{}: {problem}", report.file)));
    let Some(mut file) = file.filter(|_| problems.is_empty()) else { return report };
    if file.evaluation_interval.is_zero() {
        file.evaluation_interval = Duration::from_secs(60).into();
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = file.group_eval_order.iter().find(|name| !seen.insert(name.as_str())) {
        report.failures.push(format!("group name repeated in evaluation order: {twice}"));
        return report;
    }
    let files = rule_files(&file, path.parent().unwrap_or(Path::new("")), &mut report);
    let chosen = |test: &&Test| options.only.as_ref().is_none_or(|only| only.is_match(&test.name));
    // As in promtool, rule files are read for the tests that need them.
    if !report.failures.is_empty() || !file.tests.iter().any(|test| chosen(&test)) {
        return report;
    }
    let groups = match rule_groups(&file, &files, options) {
        Ok(groups) => groups,
        Err(faults) => {
            report.failures.extend(faults);
            return report;
        }
    };
    for (i, test) in file.tests.iter().enumerate().filter(|(_, test)| chosen(test)) {
        let name = if test.name.is_empty() { format!("unnamed#{i}") } else { test.name.clone() };
        let began = std::time::Instant::now();
        let failures = run_test(&file, (test, options), &groups, &mut report).await;
        if options.debug {
            report.notes.push(format!("Test {name} finished, took {:?}", began.elapsed()));
        }
        report.failures.extend(failures.iter().cloned());
        report.cases.push(TestCase { name, failures });
    }
    report
}

async fn run_test(
    file: &TestFile,
    (test, options): (&Test, &TestOptions),
    groups: &[Arc<RuleGroup>],
    report: &mut FileReport,
) -> Vec<String> {
    let mut bench = match Bench::new(file, (test, options.features), groups) {
        Ok(bench) => bench,
        Err(message) => return vec![message],
    };
    let failures = match bench.run_rules().await {
        Ok(mut failures) => {
            let (wrong, skipped) = bench.run_expressions().await;
            failures.extend(wrong);
            if skipped > 0 {
                report.warnings.push(format!(
                    "{skipped} expressions were skipped: they are about native histograms, which meshscope does not keep"
                ));
            }
            failures
        }
        Err(failures) => return failures,
    };
    if options.debug {
        report.notes.extend(bench.all_data().await);
    }
    failures
}

/// The files that the patterns match.
fn rule_files(file: &TestFile, folder: &Path, report: &mut FileReport) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for pattern in &file.rule_files {
        let whole = if pattern.is_empty() { PathBuf::new() } else { folder.join(pattern) };
        // An empty pattern is not the folder.
        let found = if pattern.is_empty() { Ok(Vec::new()) } else { load::glob(&whole) };
        match found {
            Ok(found) => {
                if found.is_empty() {
                    report.warnings.push(format!("no file match pattern {}", whole.display()));
                }
                files.extend(found);
            }
            Err(error) => report.failures.push(format!("{}: {error}", whole.display())),
        }
    }
    files
}

/// The groups of all rule files, those named in `group_eval_order` in that order.
fn rule_groups(file: &TestFile, files: &[PathBuf], options: &TestOptions) -> Result<Vec<Arc<RuleGroup>>, Vec<String>> {
    let (mut groups, mut faults, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    let read = file::ReadOptions {
        interval: file.evaluation_interval.get(),
        features: options.features,
        ignore_unknown_fields: options.ignore_unknown_fields,
    };
    // A file that two patterns match is one file.
    for path in files.iter().filter(|path| seen.insert(*path)) {
        let name = path.display().to_string();
        match load::read(path) {
            Err(message) => faults.push(format!("{name}: {message}")),
            Ok(text) => {
                let parsed = file::parse(&name, &text, read);
                faults.extend(parsed.problems.iter().map(ToString::to_string));
                groups.extend(parsed.groups.into_iter().map(Arc::new));
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let order = |group: &Arc<RuleGroup>| file.group_eval_order.iter().position(|name| *name == group.name).unwrap_or(0);
    groups.sort_by_key(order);
    Ok(groups)
}

/// One test with its own series, groups and clock.
struct Bench<'a> {
    file: &'a TestFile,
    test: &'a Test,
    start: Timestamp,
    loader: Loader,
    groups: Vec<Group>,
    surroundings: Surroundings,
}

impl<'a> Bench<'a> {
    fn new(
        file: &'a TestFile,
        (test, features): (&'a Test, promql::Features),
        groups: &[Arc<RuleGroup>],
    ) -> Result<Self, String> {
        let start = start_of(&test.start_timestamp)?;
        let interval = if test.interval.is_zero() { file.evaluation_interval } else { test.interval };
        let mut loader = Loader::default();
        for InputSeries { series, values } in &test.input_series {
            loader.add(series, values, start, interval.get())?;
        }
        if let Some(case) = test.alert_rule_test.iter().find(|case| case.alertname.is_empty()) {
            let within = if test.name.is_empty() { String::new() } else { format!(" (in TestGroup {})", test.name) };
            let at = case.eval_time;
            return Err(format!(
                "an item under alert_rule_test misses required attribute alertname at eval_time {at}{within}"
            ));
        }
        let evaluations = last_time(test).as_millis() / file.evaluation_interval.get().as_millis().max(1);
        if evaluations > u128::from(EVALUATIONS_MAX) {
            return Err(format!("the test takes {evaluations} evaluations; the most are {EVALUATIONS_MAX}"));
        }
        let external = External { labels: Labels::from_pairs(&test.external_labels), url: test.external_url.clone() };
        let groups = groups.iter().map(|group| Group::new(group.clone(), external.clone(), false)).collect();
        let surroundings = surroundings(file.evaluation_interval.get(), features);
        Ok(Self { file, test, start, loader, groups, surroundings })
    }

    /// Evaluates the groups from the start to the last time that is asked about, and checks the alerts on the way.
    async fn run_rules(&mut self) -> Result<Vec<String>, Vec<String>> {
        let interval = self.file.evaluation_interval.get();
        let end = self.start + last_time(self.test);
        let mut failures = Vec::new();
        let mut at = self.start;
        while at <= end {
            self.loader.append_until(&self.surroundings.head, at).map_err(|error| vec![error])?;
            for group in &mut self.groups {
                group.evaluate(&self.surroundings, at).await;
            }
            let errors: Vec<String> = (self.groups.iter())
                .flat_map(Group::errors)
                .map(|(rule, error)| format!("    rule: {rule}, time: {}, err: {error}", since_epoch(at)))
                .collect();
            if !errors.is_empty() {
                failures.extend(errors);
                return Err(failures);
            }
            for case in &self.test.alert_rule_test {
                let asked = self.start + case.eval_time.get();
                if asked >= at && asked < at + interval {
                    failures.extend(self.check_alerts(case));
                }
            }
            at = at + interval;
        }
        Ok(failures)
    }

    fn check_alerts(&self, case: &AlertCase) -> Option<String> {
        let got: Vec<compare::Told> = (self.groups.iter())
            .flat_map(|group| group.firing(&case.alertname))
            .map(|(alert, annotations)| compare::Told {
                labels: compare::Pairs::of(&alert.labels),
                // A text that came out empty is an annotation all the same.
                annotations: compare::Pairs::named(&annotations, &alert.annotations),
            })
            .collect();
        let expected = case.exp_alerts.iter().map(|alert| compare::Told {
            labels: compare::Pairs::from(&alert.exp_labels).with(super::alerting::ALERT_NAME, &case.alertname),
            annotations: compare::Pairs::from(&alert.exp_annotations),
        });
        let difference = compare::alerts(expected.collect(), got)?;
        let name = if self.test.name.is_empty() { String::new() } else { format!("    name: {},\n", self.test.name) };
        Some(format!("{name}    alertname: {}, time: {},\n{difference}", case.alertname, case.eval_time))
    }

    /// Every series at the end, what rules wrote among them, one a line.
    async fn all_data(&self) -> Vec<String> {
        let Surroundings { engine, store, options, .. } = &self.surroundings;
        // A time between two seconds cannot be asked for.
        let seconds = last_time(self.test).as_secs() + 1;
        let expr = promql::parse(&format!(r#"{{__name__=~".+"}}[{seconds}s]"#));
        let Ok(expr) = expr else { return Vec::new() };
        let at = self.start + Duration::from_secs(seconds);
        match engine.instant(&**store, &expr, at, options).await.map(|answer| answer.value) {
            Ok(promql::Value::Matrix(series)) => {
                let mut lines = vec![format!("Dump of all data (input_series and rules) at {seconds}s:")];
                for one in series {
                    let points = one.times.iter().zip(&one.values);
                    let points =
                        points.map(|(at, value)| format!("{} @[{}]", promql::format_value(*value), at.as_millis()));
                    lines.push(format!("{} =>\n{}", one.labels, points.collect::<Vec<_>>().join("\n")));
                }
                lines
            }
            Ok(_) => Vec::new(),
            Err(error) => vec![format!("the data cannot be read: {error}")],
        }
    }

    /// What did not come out as expected, and how many cases were skipped.
    async fn run_expressions(&self) -> (Vec<String>, usize) {
        let Surroundings { engine, store, options, .. } = &self.surroundings;
        let querier = Querier { engine, store: &**store, options };
        let (mut failures, mut skipped) = (Vec::new(), 0);
        for case in &self.test.promql_expr_test {
            if self.is_about_histograms(case) {
                skipped += 1;
                continue;
            }
            let place = format!("    expr: {:?}, time: {},", case.expr, case.eval_time);
            let result = querier.text(&case.expr, self.start + case.eval_time.get()).await;
            let difference = result.map(|samples| {
                let got = samples.into_iter().map(|sample| (sample.labels, sample.value)).collect();
                expected_samples(case).map(|expected| compare::samples(expected, got, self.file.fuzzy_compare))
            });
            match difference {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(difference))) => failures.push(format!("{place}\n{difference}")),
                Ok(Err(error)) | Err(error) => failures.push(format!("{place} err: {error}")),
            }
        }
        (failures, skipped)
    }

    /// Whether a case expects a native histogram, or its expression selects one of those left out.
    fn is_about_histograms(&self, case: &ExprCase) -> bool {
        let selects = |expr: promql::Expr| {
            let selectors = expr.selectors();
            let mut chosen = self.loader.histograms.iter();
            chosen.any(|labels| {
                let fits = |selector: &promql::Selector| selector.matchers.iter().all(|one| one.matches_labels(labels));
                selectors.iter().any(fits)
            })
        };
        case.exp_samples.iter().any(|sample| !sample.histogram.is_empty())
            || promql::parse(&case.expr).is_ok_and(selects)
    }
}

fn expected_samples(case: &ExprCase) -> Result<Vec<(Labels, f64)>, String> {
    case.exp_samples
        .iter()
        .map(|sample| {
            let labels =
                parse_metric(&sample.labels).map_err(|error| format!("labels {:?}: {error}", sample.labels))?;
            Ok((labels, sample.value.0))
        })
        .collect()
}

/// The last time that any case asks about, from the start.
fn last_time(test: &Test) -> Duration {
    let alerts = test.alert_rule_test.iter().map(|case| case.eval_time);
    let expressions = test.promql_expr_test.iter().map(|case| case.eval_time);
    alerts.chain(expressions).max().unwrap_or_default().get()
}

fn since_epoch(at: Timestamp) -> String {
    go_duration(at.as_millis().saturating_mul(1_000_000))
}

/// RFC 3339, or seconds since the epoch; nothing is the epoch.
fn start_of(text: &str) -> Result<Timestamp, String> {
    if text.is_empty() {
        return Ok(Timestamp::default());
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok(Timestamp::from_secs_f64(seconds));
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp::from(at.with_timezone(&chrono::Utc)))
        .map_err(|error| format!("start_timestamp {text:?}: {error}; write RFC 3339 or seconds since the epoch"))
}

/// A memory tier that keeps everything, and nobody who is told.
fn surroundings(evaluation_interval: Duration, features: promql::Features) -> Surroundings {
    let forever = PromDuration::from(Duration::from_secs(100 * 365 * 86_400));
    let head = Head::new(series::Config { memory_window: forever, ..series::Config::default() });
    let (alerts, _) = mpsc::channel(1);
    let (alertmanagers, _) = mpsc::channel(1);
    let (transitions, _) = mpsc::channel(1);
    Surroundings {
        config: Config::default(),
        store: Arc::new(head.clone()),
        own: Arc::new(head.clone()),
        head,
        engine: Arc::new(engine(evaluation_interval, features)),
        options: promql::QueryOptions::default(),
        clock: Clock::starting_at(Timestamp::default()),
        alerts,
        alertmanagers,
        transitions,
        status: Status::default(),
        counters: Arc::new(Counters::default()),
    }
}

/// Subqueries without a step take the evaluation interval.
fn engine(evaluation_interval: Duration, features: promql::Features) -> promql::Engine {
    let promql::Features { experimental_functions, duration_expressions } = features;
    promql::Engine::new(promql::Config {
        default_subquery_step: Some(evaluation_interval.into()),
        experimental_functions,
        duration_expressions,
        ..promql::Config::default()
    })
}

#[cfg(test)]
mod tests;
