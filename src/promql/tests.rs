//! Behaviour of the whole module: what parses and what does not, what the engine keeps to.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use proptest::prelude::*;

use super::*;
use crate::model::{Labels, Matcher, Timestamp};
use crate::series::{QueryError, Queryable, Select, Selection, SeriesSamples};
use crate::units::PromDuration;

/// A store of a few series that counts how often it is asked, and can be slow.
#[derive(Default)]
struct Few {
    series: Vec<SeriesSamples>,
    asked: AtomicUsize,
    delay: Duration,
}

impl Few {
    /// Series `name{i="…"}` with one sample every 15 s for an hour, rising by one.
    fn counters(name: &str, count: usize) -> Self {
        let times: Arc<[Timestamp]> = (0..240).map(|i| Timestamp::from_millis(i * 15_000)).collect();
        let series = (0..count).map(|i| SeriesSamples {
            labels: Labels::from_pairs([("__name__", name), ("i", &i.to_string())]),
            times: Arc::clone(&times),
            values: (0..240).map(f64::from).collect(),
        });
        Self { series: series.collect(), ..Self::default() }
    }
}

impl Queryable for Few {
    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            let mut selection = Selection { warnings: vec!["tier away".to_owned()], ..Selection::default() };
            for series in &self.series {
                let low = series.times.partition_point(|t| *t < select.from);
                let high = series.times.partition_point(|t| *t <= select.to);
                if low < high && select.matchers.iter().all(|m| m.matches_labels(&series.labels)) {
                    let (times, values) = (series.times[low..high].into(), series.values[low..high].to_vec());
                    selection.series.push(SeriesSamples { labels: series.labels.clone(), times, values });
                }
            }
            Ok(selection)
        })
    }

    fn series(
        &self,
        _: Vec<Vec<Matcher>>,
        _: Timestamp,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Labels>, QueryError>> {
        Box::pin(async move { Ok(self.series.iter().map(|series| series.labels.clone()).collect()) })
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

#[test]
fn says_what_is_wrong_and_where_as_prometheus_does() {
    let check = |query: &str, expect: &str| {
        let enabled = super::parse_enabled(query, super::Features::default());
        let error = enabled.err().unwrap_or_else(|| panic!("{query} parses"));
        assert_eq!(error.to_string(), expect, "{query}");
    };
    check("", "unknown position: parse error: no expression found in input");
    check("sum(", "1:5: parse error: unclosed left parenthesis");
    check("foo bar", "1:5: parse error: unexpected identifier \"bar\"");
    check("sum(foo bar)", "1:9: parse error: unexpected identifier \"bar\" in aggregation");
    check("a +\n\n  )", "3:4: parse error: unexpected right parenthesis ')'");
    check("foo(1)", "1:1: parse error: unknown function with name \"foo\"");
    check("foo{a}", "1:6: parse error: unexpected \"}\" in label matching, expected label matching operator");
    check(
        r#"foo{a="b" or c="d"}"#,
        "1:11: parse error: unexpected identifier \"or\" in label matching, expected \",\" or \"}\"",
    );
    check(r#"foo{a=~"("}"#, "1:5: parse error: error parsing regexp: missing closing ): `(`");
    check("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check(r#"{x=~".*"}"#, "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check(r#"foo{"bar"}"#, "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"");
    check("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
    check("foo[0s]", "1:5: parse error: duration must be greater than 0");
    check("(foo)[5m]", "1:6: parse error: ranges only allowed for vector selectors");
    check("foo offset 1m [5m]", "1:15: parse error: no offset modifiers allowed before range");
    check("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    check("1 and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    check("round()", "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0");
    check("sum by (1) (foo)", "1:9: parse error: unexpected number \"1\" in grouping opts, expected label");
    check("foo[5m*2]", "1:5: parse error: experimental duration expression is not enabled");
    // A lexer's error is seen before what only the next token ends.
    check("foo[0", "1:6: parse error: unclosed left bracket");
    check("foo[-1m}", "1:8: parse error: unexpected character: '}'");
    check("count(a, b))", "1:13: parse error: unexpected right parenthesis ')'");
    check("foo[#1]", "1:5: parse error: unexpected character in duration expression: '#'");
    check("(foo{)", "1:6: parse error: unexpected character inside braces: ')'");
    check("1e", "1:1: parse error: bad number or duration syntax: \"1e\"");
    check(".5.", "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \".5.\": invalid syntax");
    check("round(a, , 1)", "1:8: parse error: trailing commas not allowed in function call args");
    check("1e + 1", "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e\": invalid syntax");
    check("1e7e7", "1:1: parse error: bad number or duration syntax: \"1e7e\"");
    check("foo[10ss]", "1:5: parse error: unknown unit \"ss\" in duration \"10ss\"");
    check("foo[5m1h]", "1:5: parse error: not a valid duration string: \"5m1h\"");
    check("foo start()", "1:5: parse error: unexpected \"start\"");
    check("a + on(x) group_right = b", "1:23: parse error: unexpected \"=\" in grouping opts, expected \"(\"");
    // What is not enabled is an error where it stands, before types are looked at.
    check("a / bool mad_over_time(b[5m])", "1:10: parse error: function \"mad_over_time\" is not enabled");
    check(
        "nofunction(limitk(1, a))",
        "1:12: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
    );
    check(
        "topk(scalar(a{__name__=\"b\"}), 1)",
        "1:31: parse error: expected type instant vector in aggregation expression, got scalar",
    );
    check(r#"foo{a=~"l[at"}"#, "1:5: parse error: error parsing regexp: missing closing ]: `[at`");
    check(r#"foo{a=~".b\xffc"}"#, "1:5: parse error: error parsing regexp: invalid UTF-8: `\u{fffd}c`");
    check("1.2.3", "1:1: parse error: bad number or duration syntax: \"1.2.\"");
}

#[test]
fn prints_as_prometheus_does() {
    let check = |query: &str, expect: &str| assert_eq!(parse(query).unwrap().to_string(), expect);
    check(r#"foo{b="1",a='2'}[300] offset 1m"#, r#"foo{a="2",b="1"}[5m] offset 1m"#);
    check("SUM(foo) BY (a,b)", "sum by (a, b) (foo)");
    check("sum without() (foo)", "sum without () (foo)");
    check("+foo + -1e3", "+foo + -1000");
    check("1_000 + 0x1f + 017 + 90s", "1000 + 31 + 15 + 1m30s");
    check("1 + on () foo", "1 + foo");
    check("a+on(x)group_left b", "a + on (x) group_left () b");
    check("foo @ 100 + foo @ end() offset -1h", "foo @ 100.000 + foo @ end() offset -1h");
    check(r#"{"foo.bar", "a.b"="x"}"#, r#"{"a.b"="x",__name__="foo.bar"}"#);
    check("info(foo)", "info(foo)");
    check("Inf * 2 > bool Inf", "+Inf * 2 > bool +Inf");
    check("Inf ^ a ^ Inf ^ 2 + 1", "Inf ^ a ^ Inf ^ 2 + 1"); // with signs it would be another expression
    let long =
        "topk(3, sum(rate(istio_requests_total{reporter=~\"source|destination\"}[5m])) by (destination_workload, x))";
    let pretty = "topk(\n  3,\n  sum by (destination_workload, x) (rate(istio_requests_total{reporter=~\"source|destination\"}[5m]))\n)";
    assert_eq!(parse(long).unwrap().pretty(), pretty);
}

#[test]
fn lists_selectors_for_those_who_check_rules() {
    let expr = parse(r#"rate(a{x="1"}[5m] offset 1m) / on () {__name__="b"}"#).unwrap();
    let selectors = expr.selectors();
    assert_eq!(selectors.len(), 2);
    assert_eq!((selectors[0].name.as_deref(), selectors[1].name.as_deref()), (Some("a"), Some("b")));
    assert_eq!((selectors[0].range, selectors[0].offset_ms), (Some(Duration::from_secs(300)), 60_000));
    assert_eq!(expr.kind(), ValueKind::Vector);
}

#[test]
fn only_the_outermost_says_whether_an_answer_has_an_order() {
    let ordered = ["sort(x)", "((sort_desc(x)))", "topk(3, x)", "bottomk by (job) (1, x)"];
    let unordered = ["resort_total", "sum(topk(3, x))", "-sort(x)", "x{topk=\"sort\"}", "limitk(1, x)", "1"];
    for query in ordered.into_iter().chain(unordered) {
        assert_eq!(parse(query).unwrap().has_order(), ordered.contains(&query), "{query}");
    }
}

#[test]
fn refuses_deep_nesting_but_evaluates_what_it_accepts_on_half_a_worker_stack() {
    const WORKER_STACK_BYTES: usize = 2 * 1024 * 1024;
    let parens = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&parens(5_000)).unwrap_err().message.contains("nested deeper"));
    assert!(parse(&vec!["1"; 5_000].join("^")).unwrap_err().message.contains("nested deeper"));
    assert!(parse(&"-".repeat(60_000)).is_err());
    let queries = [parens(186), vec!["x"; 186].join(" or "), format!("{}x{}", "abs(".repeat(186), ")".repeat(186))];
    let run = move || {
        for (query, expect) in queries.into_iter().zip(["0", "{} 0", "{} 0"]) {
            let report =
                testlang::run_script("deep", &format!("load 1m\n  x 1\n\neval instant at 0 ({query}) * 0\n  {expect}"));
            assert_eq!((report.passed, report.failed), (1, vec![]));
        }
    };
    std::thread::Builder::new().stack_size(WORKER_STACK_BYTES / 2).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_operators_may_be_as_long_as_a_query() {
    let run = || {
        for (operand, op, values) in [("x", " or ", "0"), ("1", "+", "13000"), ("x * 2 > bool 1", " or ", "1")] {
            let operands = 13_000.min(super::QUERY_LIMIT_BYTES / (operand.len() + op.len()));
            let query = vec![operand; operands].join(op);
            let expr = parse(&query).unwrap();
            assert_eq!(parse(&expr.to_string()).unwrap().to_string(), expr.to_string(), "{operand}{op}");
            assert_eq!(expr.selectors().len(), if operand == "1" { 0 } else { operands });
            assert_eq!(parse(&expr.pretty()).unwrap().to_string(), expr.to_string());
            assert!(expr.tree().unwrap_err().message.contains("too deep for a tree"));
            let expect = if operand == "1" { values.to_owned() } else { format!("{{}} {values}") };
            let script =
                format!("load 1m\n  x 1\n\neval instant at 0 ({query}) * {}\n  {expect}", i32::from(values != "0"));
            let report = testlang::run_script("long", &script);
            assert_eq!((report.passed, report.failed), (1, vec![]), "{operand}{op}");
        }
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_long_chain_has_the_shape_of_a_short_one() {
    // Operators of all strengths, so that chains are cut in the middle of operands and of each other.
    let ops = ["+", "*", "-", "^", "/", "%"];
    let query: String = (1..400).map(|i| format!("{} {} ", i % 7, ops[i * i % ops.len()])).collect::<String>() + "3";
    let grouped = |query: &str| parse(query).unwrap().to_string();
    assert_eq!(grouped(&query), query);
    let once = vec!["(1 - 2)"; 200].join(" - ");
    let report = testlang::run_script(
        "shape",
        &format!("eval instant at 0 {once}\n  198\n\neval instant at 0 {}\n  -197", vec!["1"; 199].join(" - ")),
    );
    assert_eq!((report.passed, report.failed), (2, vec![]));
}

#[test]
fn enormous_grids_are_refused_before_memory_is_asked_for() {
    let too_many = "query processing would load too many samples into memory in query execution";
    for query in [
        "sum_over_time(vector(1)[100y:1ms])",
        "sum_over_time(time()[100y:1ms])",
        "vector(1)[100y:1ms]",
        "sum_over_time((sum_over_time(vector(1)[1y:1s]))[1y:1s])",
        "max_over_time(day_of_month()[290y:1ms] @ 9000000000000000)",
        "count_over_time(vector(1)[290y:1ms] @ -9000000000000000 offset 290y)",
    ] {
        let query = query.replace("time()[", "vector(time())[");
        let script = format!("eval instant at 50y {query}\n  expect fail msg: {too_many}");
        let report = testlang::run_script("huge", &script);
        assert_eq!((report.passed, report.failed), (1, vec![]), "{query}");
    }
    let script = format!("eval range from 0 to 100y step 1ms 1\n  expect fail msg: {too_many}");
    assert_eq!(testlang::run_script("huge", &script).failed, vec![]);
    // Each level holds its left side while the right one is evaluated.
    let config = Config { max_samples: 10_000, ..testlang::script_config() };
    for (expression, expect) in [("t + t + t + t", "16000"), ("t + (t + (t + t))", "")] {
        let inner = expression.replace('t', "vector(time())");
        let expect = if expect.is_empty() { format!("expect fail msg: {too_many}") } else { format!("{{}} {expect}") };
        let script = format!("eval instant at 4000s max_over_time(({inner})[4000s:1s])\n  {expect}");
        let report = testlang::run_script_with("held", &script, &config);
        assert_eq!((report.passed, report.failed), (1, vec![]), "{expression}");
    }
}

#[test]
fn an_empty_side_is_no_error() {
    // Seen of 3.5.3: duplicates and wrong parameters are found only where there is something to match or to choose.
    let script = r#"
load 1m
  b{i="1",j="1"} 1
  b{i="1",j="2"} 1
  c{i="1"} _ 1

eval instant at 0 nothing + on (i) b

eval instant at 0 b * on (i) group_right nothing

eval range from 0 to 0 step 1m c > on (i) b

eval instant at 1m c > on (i) b
  expect fail

eval instant at 0 topk(NaN, nothing)

eval instant at 0 topk(NaN, b)
  expect fail msg: Scalar value NaN overflows int64

eval instant at 0 topk(1e30, b)
  expect fail msg: Scalar value 1e+30 overflows int64

eval instant at 0 quantile(1234567, nothing)
  expect warn msg: PromQL warning: quantile value should be between 0 and 1, got 1.234567e+06
"#;
    let report = testlang::run_script("empty", script);
    assert_eq!((report.passed, report.failed), (8, vec![]));
}

#[tokio::test]
async fn selects_the_same_series_once_in_a_query_and_in_a_round() {
    let store = Few::counters("x_total", 3);
    let engine = Engine::new(Config::default());
    let expr = parse("sum(rate(x_total[5m])) / sum(rate(x_total[5m])) + count(x_total)").unwrap();
    let options = QueryOptions { cache: Some(SelectionCache::new()), ..QueryOptions::default() };
    for _ in 0..3 {
        let answer = engine.instant(&store, &expr, at(1800), &options).await.unwrap();
        let Value::Vector(samples) = answer.value else { panic!("not a vector") };
        assert_eq!(samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), [4.0]);
        assert_eq!(answer.warnings, ["tier away"]);
    }
    assert_eq!(store.asked.load(Ordering::Relaxed), 1);
    assert_eq!(options.cache.map(|cache| cache.len()), Some(1));
}

#[tokio::test]
async fn evaluates_large_ranges_off_the_thread_with_the_same_result() {
    let store = Few::counters("x_total", 200);
    let engine = Engine::new(Config::default());
    let expr = parse("sum by (i) (rate(x_total[1m]))").unwrap();
    let step = Duration::from_secs(15);
    let answer = engine.range(&store, &expr, at(600), at(3000), step, &QueryOptions::default()).await.unwrap();
    assert!(answer.stats.samples_loaded > 20_000, "{:?}", answer.stats);
    let Value::Matrix(series) = answer.value else { panic!("not a matrix") };
    assert_eq!((series.len(), series[0].values.len()), (200, 161));
    assert!(series.iter().all(|one| one.values.iter().all(|value| (value - 1.0 / 15.0).abs() < 1e-12)));
    assert!(series.is_sorted_by(|a, b| a.labels < b.labels));
}

#[tokio::test(start_paused = true)]
async fn keeps_its_limits() {
    let run = |config: Config, store: Few, query: &'static str| async move {
        let engine = Engine::new(config);
        engine.instant(&store, &parse(query).unwrap(), at(3000), &QueryOptions::default()).await.unwrap_err()
    };
    let slow = Few { delay: Duration::from_secs(300), ..Few::counters("x", 1) };
    let error = run(Config::default(), slow, "x").await;
    assert!(matches!(error, EvalError::Timeout(_)), "{error}");
    assert_eq!(error.error_type(), "timeout");
    let small = Config { max_samples: 100, ..Config::default() };
    let error = run(small, Few::counters("x", 10), "rate(x[10m])").await;
    let text = "query processing would load too many samples into memory in query execution";
    assert_eq!((error.to_string().as_str(), error.error_type()), (text, "execution"));
    let error = run(Config::default(), Few::counters("x", 1), "mad_over_time(x[5m])").await;
    assert_eq!(error.to_string(), "1:1: parse error: function \"mad_over_time\" is not enabled");
    let error = run(Config::default(), Few::counters("x", 2), "x + on () x").await;
    assert!(error.to_string().starts_with("found duplicate series for the match group {} on the right"), "{error}");
}

#[tokio::test]
async fn refuses_senseless_ranges() {
    let engine = Engine::new(Config::default());
    let ask = |query: &'static str, end: i64, step: u64| {
        let engine = engine.clone();
        async move {
            let (expr, store) = (parse(query).unwrap(), Few::default());
            let step = Duration::from_secs(step);
            engine.range(&store, &expr, at(100), at(end), step, &QueryOptions::default()).await.unwrap_err().to_string()
        }
    };
    let expect = "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector";
    assert_eq!(ask("x[5m]", 200, 1).await, expect);
    assert!(ask("x", 200, 0).await.starts_with("zero or negative query resolution"));
    assert!(ask("x", 50, 1).await.starts_with("end timestamp must not be before"));
}

/// The scripts of tests/it run as Prometheus' own, which drop names in the end; servers drop them at once.
#[tokio::test]
async fn type_and_unit_of_a_metric_go_with_its_name() {
    let mut store = Few::counters("sent", 1);
    store.series[0].labels =
        Labels::from_pairs([("__name__", "sent"), ("__type__", "counter"), ("__unit__", "bytes"), ("pod", "a")]);
    let engine = Engine::new(Config::default());
    let named = r#"sent{__type__="counter", __unit__="bytes", pod="a"}"#;
    for (query, expect) in [
        ("last_over_time(sent[1m])", vec![named]),
        ("-sent", vec![r#"{pod="a"}"#]),
        ("sent or -sent", vec![named, r#"{pod="a"}"#]),
        ("sum by (__type__) (-sent)", vec!["{}"]),
        ("sum by (__type__) (sent)", vec![r#"{__type__="counter"}"#]),
        ("sum without (pod) (rate(sent[1m]))", vec!["{}"]),
        ("sent * on (pod) group_left (__type__) sent", vec![r#"{__type__="counter", pod="a"}"#]),
        (r#"label_replace(-sent, "__type__", "negative", "pod", "a")"#, vec![r#"{__type__="negative", pod="a"}"#]),
    ] {
        let answer = engine.instant(&store, &parse(query).unwrap(), at(1800), &QueryOptions::default()).await.unwrap();
        let Value::Vector(samples) = answer.value else { panic!("not a vector: {query}") };
        let labels: Vec<String> = samples.iter().map(|sample| sample.labels.to_string()).collect();
        assert_eq!(labels, expect, "{query}");
    }
}

#[tokio::test]
async fn looks_back_as_far_as_it_is_told() {
    let engine = Engine::new(Config::default());
    let store = Few::counters("x", 1);
    let expr = parse("x").unwrap();
    let count = |minutes: Option<u64>| {
        let options =
            QueryOptions { lookback_delta: minutes.map(|m| Duration::from_secs(m * 60)), ..QueryOptions::default() };
        let (engine, store, expr) = (&engine, &store, &expr);
        async move {
            match engine.instant(store, expr, at(3585 + 300), &options).await.unwrap().value {
                Value::Vector(samples) => samples.len(),
                _ => usize::MAX,
            }
        }
    };
    assert_eq!((count(None).await, count(Some(6)).await), (0, 1)); // exactly 5 m old: outside
}

#[test]
fn judges_scripts() {
    let report = testlang::run_script(
        "self",
        "load 1m\n  x{a=\"1\"} 1+1x5\n\neval instant at 2m x\n  x{a=\"1\"} 3\n\neval instant at 2m x\n  x{a=\"1\"} 4\n\n\
         eval instant at 2m y\n  x 1\n\neval_fail instant at 0 sum(\n\neval instant at 2m x{{}}\n\n\
         load 1m\n  h {{schema:0}}\n\neval instant at 0 h\n\nnonsense\n\n\
         eval range from 0 to 2m step 1m x\n  expect warn\n  x{a=\"1\"} 1 2 3\n",
    );
    let lines: Vec<usize> = report.failed.iter().map(|failure| failure.line).collect();
    assert_eq!((report.passed, report.skipped), (2, 1), "{report:?}");
    assert_eq!(lines, [7, 10, 15, 22, 24]);
}

#[test]
fn skips_what_needs_the_native_twins_of_classic_histograms() {
    let report = testlang::run_script(
        "twins",
        "load_with_nhcb 1m\n  h_bucket{le=\"1\"} 1 2\n  h_bucket{le=\"+Inf\"} 1 2\n  h_count 1 2\n  other 5\n\n\
         eval instant at 1m histogram_quantile(0.5, h_bucket)\n  {} 0.5\n\n\
         eval instant at 1m histogram_quantile(0.5, h)\n  {} 0.5\n\n\
         eval instant at 1m other\n\n",
    );
    assert_eq!((report.passed, report.skipped), (1, 1), "{report:?}");
    assert_eq!(report.failed.len(), 1);
}

#[test]
fn notes_are_those_that_are_expected_and_no_others() {
    let load = "load 1m\n  x{le=\"a\"} 1\n  y 1\n\n";
    let eval = "eval instant at 1m histogram_quantile(3, x)\n  expect warn regex: bucket label";
    let report = testlang::run_script("notes", &format!("{load}{eval}\n"));
    assert_eq!((report.passed, report.failed.len()), (0, 1), "the warning of the quantile is not expected");
    let report = testlang::run_script("notes", &format!("{load}{eval}\n  expect warn regex: quantile value\n"));
    assert_eq!((report.passed, report.failed), (1, vec![]));
    let report = testlang::run_script(
        "twice",
        "load 1m\n  z 1 1 1\n  z 2\n\neval instant at 2m count_over_time(z[9m])\n  {} 1\n",
    );
    assert_eq!((report.passed, report.failed), (1, vec![]), "the last line of a series holds");
}

#[test]
fn reads_its_settings() {
    let config: Config = serde_json::from_str(r#"{"lookback_delta":"1m","max_samples":5}"#).unwrap();
    assert_eq!(config.lookback_delta, PromDuration::from(Duration::from_secs(60)));
    assert_eq!((config.max_samples, config.concurrency, config.experimental_functions), (5, 20, false));
    assert!(serde_json::from_str::<Config>(r#"{"lookback":"1m"}"#).is_err());
}

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "foo",
        "bar_total",
        "{a=\"b\"}",
        "{a=~\"x.*\",c!=\"\"}",
        "[5m]",
        "[5m:1m]",
        "(",
        ")",
        "+",
        "-",
        "*",
        "^",
        "==",
        "bool",
        "and",
        "or",
        "unless",
        "on",
        "ignoring",
        "group_left",
        "(x)",
        "()",
        "sum",
        "topk",
        "by",
        "without",
        "rate",
        "abs",
        "label_replace",
        ",",
        "1",
        "1_000",
        "5m",
        "Inf",
        "\"t\\xff\"",
        "'q'",
        "offset",
        "@",
        "start()",
        "end()",
        "{",
        "}",
        "[",
        "]",
        "é",
        "\n",
        "#c\n",
        ".5",
        "atan2",
        "count_values",
        "\"",
        "`",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn never_panics_and_prints_what_parses_to_the_same(pieces in prop::collection::vec(piece(), 1..14)) {
        if let Ok(expr) = parse(&pieces.join(" ")) {
            let printed = expr.to_string();
            prop_assert_eq!(parse(&printed).unwrap().to_string(), printed);
            let pretty = parse(&expr.pretty()).unwrap().to_string();
            prop_assert_eq!(pretty, expr.to_string());
        }
    }

    #[test]
    fn never_panics_on_any_text(text in "\\PC{0,40}") {
        let _ = parse(&text);
        let _ = testlang::run_script("any", &text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_that_nobody_waits_for_stops_and_is_counted() {
    let engine = Engine::new(Config { concurrency: 1, ..Config::default() });
    let (expr, options) = (parse("sum(x)").unwrap(), QueryOptions::default());
    let canceled = || engine.counters().canceled.load(Ordering::Relaxed);
    let slow = Few { delay: Duration::from_secs(30), ..Few::counters("x", 3) };
    let asked = engine.instant(&slow, &expr, at(600), &options);
    assert!(tokio::time::timeout(Duration::from_secs(1), asked).await.is_err());
    assert_eq!((canceled(), engine.counters().ended.load(Ordering::Relaxed)), (1, 0));
    // Its turn is free again, and one that waits for its turn counts as well when it is left.
    let quick = Few::counters("x", 3);
    engine.instant(&quick, &expr, at(600), &options).await.unwrap();
    assert_eq!((canceled(), engine.counters().ended.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn an_evaluation_under_way_ends_when_its_asker_goes() {
    let engine = Engine::new(Config { concurrency: 1, ..Config::default() });
    // Minutes of work, if nobody stopped it.
    let (store, options) = (Few::counters("x", 300), QueryOptions::default());
    let long = parse("sum(quantile_over_time(0.5, x[59m]))").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let began = std::time::Instant::now();
    runtime.block_on(async {
        let asked = engine.range(&store, &long, at(3000), at(13_600), Duration::from_secs(1), &options);
        assert!(tokio::time::timeout(Duration::from_millis(500), asked).await.is_err());
    });
    assert_eq!(engine.counters().canceled.load(Ordering::Relaxed), 1);
    drop(runtime); // waits for the thread of the evaluation
    assert!(began.elapsed() < Duration::from_secs(20), "it went on for {:?}", began.elapsed());
}
