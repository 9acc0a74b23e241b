//! The rest of the PromQL of the field: what fills the variables of dashboards, and the templates of Prometheus' compliance
//! tester. `tests/it/promql.rs` has the queries of panels and tools, and Prometheus' own scripts.

use std::collections::BTreeMap;
use std::path::Path;

use meshscope::model::Timestamp;
use meshscope::promql::{Config, Engine, QueryOptions, parse};
use meshscope::series::Head;
use serde_json::Value;

use crate::api::append;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/promql");

fn fixture(name: &str) -> Option<String> {
    let path = Path::new(FIXTURES).join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("fixtures absent: {}", path.display());
    }
    text
}

fn head() -> Head {
    crate::api::empty_head()
}

async fn run(engine: &Engine, store: &Head, query: &str) -> Result<(), String> {
    let expr = parse(query).map_err(|error| error.to_string())?;
    let at = Timestamp::from_millis(1_700_000_000_000);
    engine.instant(store, &expr, at, &QueryOptions::default()).await.map(drop).map_err(|error| error.to_string())
}

/// Variables as Grafana fills them in: anything in a pattern, a word elsewhere.
fn filled_in(query: &str) -> String {
    let mut out = String::new();
    let mut rest = query;
    while let Some(at) = rest.find('$') {
        let (before, behind) = rest.split_at(at);
        out.push_str(before);
        let inner = behind[1..].trim_start_matches('{');
        let length = inner.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let skipped = behind.len() - inner.len() + length;
        let closed =
            if behind[1..].starts_with('{') { behind.find('}').map_or(skipped, |end| end + 1) } else { skipped };
        out.push_str(match (&inner[..length], out.ends_with('[')) {
            (name, true) if !name.starts_with("__range") => "5m",
            ("__range", _) => "1h",
            _ if out.trim_end_matches('"').ends_with('~') => ".*",
            _ => "x",
        });
        rest = &behind[closed..];
    }
    out + rest
}

/// What a call of Grafana's own functions for variables holds: its arguments but the last word of `label_values`.
fn inside<'a>(query: &'a str, function: &str) -> Option<&'a str> {
    query.trim().strip_prefix(function)?.trim_start().strip_prefix('(')?.trim_end().strip_suffix(')')
}

#[tokio::test]
async fn queries_that_fill_variables_are_read_and_run() {
    let Some(text) = fixture("dashboard-variable-queries.json") else { return };
    let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let (engine, store) = (Engine::new(Config::default()), head());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        let query = row["query"].as_str().expect("a query");
        let filled = filled_in(query);
        let kind = if let Some(inner) = inside(&filled, "label_values") {
            match inner.rsplit_once(',').filter(|(_, label)| !label.contains(['}', '"'])) {
                // It becomes `match[]` of the label's values.
                Some((selector, label)) => {
                    let expr = parse(selector.trim()).unwrap_or_else(|error| panic!("{query}: {error}"));
                    assert!(expr.as_selector().is_some() && !label.trim().is_empty(), "{query}");
                    "of a selector"
                }
                None => {
                    assert!(!inner.trim().is_empty(), "{query}");
                    "of a label"
                }
            }
        } else if let Some(inner) = inside(&filled, "query_result") {
            run(&engine, &store, inner).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            "query"
        } else if filled.starts_with("metrics(") || filled.starts_with("label_names(") {
            "names"
        } else if run(&engine, &store, &filled).await.is_ok() {
            "query"
        } else {
            // The names of data sources and lists of values are no PromQL.
            assert!(!filled.contains('{') && !filled.contains('('), "{query}");
            "words"
        };
        *counts.entry(kind).or_default() += 1;
    }
    println!("{counts:?}");
    assert!(counts.get("of a selector").is_some_and(|count| *count > 20) && counts.contains_key("query"), "{counts:?}");
}

/// The variants that the compliance tester puts into its templates (`comparer/template.go` of prometheus/compliance).
fn variants(name: &str) -> &'static [&'static str] {
    match name {
        "range" => &["1s", "15s", "1m", "5m", "15m", "1h"],
        "offset" => &["1m", "5m", "10m"],
        "simpleAggrOp" => &["sum", "avg", "max", "min", "count", "stddev", "stdvar"],
        "simpleTimeAggrOp" => &["sum", "avg", "max", "min", "count", "stddev", "stdvar", "absent", "last", "present"],
        "topBottomOp" => &["topk", "bottomk"],
        "quantile" => &["-0.5", "0.1", "0.5", "0.75", "0.95", "0.90", "0.99", "1", "1.5"],
        "arithBinOp" => &["+", "-", "*", "/", "%", "^"],
        "compBinOp" => &["==", "!=", "<", ">", "<=", ">="],
        "binOp" => &["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">="],
        "simpleMathFunc" => &["abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "round"],
        "extrapolatedRateFunc" => &["delta", "rate", "increase"],
        "clampFunc" => &["clamp_min", "clamp_max"],
        "instantRateFunc" => &["idelta", "irate"],
        "dateFunc" => &["day_of_month", "day_of_week", "days_in_month", "hour", "minute", "month", "year"],
        "smoothingFactor" => &["0.1", "0.5", "0.8"],
        "trendFactor" => &["0.1", "0.5", "0.8"],
        other => panic!("the tester has no variants of {other}"),
    }
}

/// Every query that a template stands for.
fn expanded(template: &str, names: &[String]) -> Vec<String> {
    let mut all = vec![template.to_owned()];
    for name in names {
        let places = [format!("{{{{.{name}}}}}"), format!("{{{{ .{name} }}}}")];
        let fill =
            |query: &String, value: &str| places.iter().fold(query.clone(), |query, place| query.replace(place, value));
        all = all.iter().flat_map(|query| variants(name).iter().map(move |value| fill(query, value))).collect();
    }
    all
}

#[tokio::test]
async fn the_queries_of_the_compliance_tester_run_and_those_that_must_fail_do() {
    let Some(text) = fixture("compliance/promql-test-queries.yml") else { return };
    let file: Value = serde_saphyr::from_str(&text).expect("YAML");
    let (engine, store) = (Engine::new(Config::default()), head());
    // Some queries must fail by what series there are.
    for instance in ["demo.promlabs.com:10000", "demo.promlabs.com:10001"] {
        let labels = [("__name__", "demo_num_cpus"), ("instance", instance), ("job", "demo")];
        append(&store, &labels, [(1_700_000_000_000, 4.0)]);
    }
    let (mut run_count, mut failed) = (0, 0);
    for case in file["test_cases"].as_array().expect("cases") {
        let template = case["query"].as_str().expect("a query");
        let words = case["variant_args"].as_array().into_iter().flatten();
        let names: Vec<String> = words.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let should_fail = case["should_fail"].as_bool().unwrap_or(false);
        for query in expanded(template, &names) {
            assert!(!query.contains("{{"), "{query} has a place left");
            let outcome = run(&engine, &store, &query).await;
            // What fails by the values of its series needs some; the store here is empty.
            match (outcome, should_fail) {
                (Ok(()), false) => run_count += 1,
                (Err(_), true) => failed += 1,
                // Since Prometheus 3 any UTF-8 text names a label.
                (Ok(()), true) if query.contains("~invalid") => {}
                (outcome, _) => panic!("{query}: {outcome:?}, should fail: {should_fail}"),
            }
        }
    }
    println!("{run_count} ran, {failed} refused");
    assert!(run_count > 300, "{run_count} ran");
}
