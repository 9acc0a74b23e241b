//! Both text formats: own cases, the fixtures, the differential and the no-panic properties.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Labels, METRIC_NAME};

fn samples(format: Format, page: &str) -> Vec<(Labels, f64, Option<i64>)> {
    let mut kind = MetricKind::Unknown;
    let mut found = Vec::new();
    for entry in Parser::new(format, page.as_bytes()) {
        match entry.unwrap_or_else(|error| panic!("{error}")) {
            Entry::Kind { kind: k, .. } => kind = k,
            Entry::Sample(sample) => {
                let labels = parse_labels(sample.key, kind).unwrap_or_else(|error| panic!("{error}"));
                found.push((Labels::from_pairs(labels), sample.value, sample.at.map(Timestamp::as_millis)));
            }
            Entry::Help { .. } | Entry::Unit { .. } => {}
        }
    }
    found
}

#[test]
fn reads_the_text_format() {
    let check = |page: &str, expect: &[(&str, f64, Option<i64>)]| {
        let found: Vec<(String, f64, Option<i64>)> = samples(Format::Text, page)
            .into_iter()
            .map(|(labels, value, at)| (labels.to_string(), value, at))
            .collect();
        let expect: Vec<_> = expect.iter().map(|(labels, value, at)| ((*labels).to_owned(), *value, *at)).collect();
        assert_eq!(found, expect, "{page}");
    };
    check("a 1", &[("a", 1.0, None)]); // no newline at the end
    check("a 1 1700000000123\n", &[("a", 1.0, Some(1_700_000_000_123))]);
    check("a{} 1\n", &[("a", 1.0, None)]); // as Envoy writes it
    check("a:b:c 1\n\n\t\n# a comment\n#TYPE a nonsense\n b\t2 \n", &[("a:b:c", 1.0, None), ("b", 2.0, None)]);
    check("a{b=\"c\",} 1\n", &[("a{b=\"c\"}", 1.0, None)]);
    check("a { b = \"c\" , d=\"e\" } 1\n", &[("a{b=\"c\", d=\"e\"}", 1.0, None)]);
    check("a{b=\"c\"}1\n", &[("a{b=\"c\"}", 1.0, None)]);
    check(
        r#"a{f="UF,URX",p="/p?a=b",q="}",e="x\"\\\n\t"} 1"#,
        &[(r#"a{e="x\"\\\n\\t", f="UF,URX", p="/p?a=b", q="}"}"#, 1.0, None)],
    );
    check("{\"my.metric\",a=\"b\"} 1\n", &[("my.metric{a=\"b\"}", 1.0, None)]);
    check("{\"utf8.ü\", \"l.x\"=\"b\"} 1\n", &[("utf8.ü{l.x=\"b\"}", 1.0, None)]);
    check("a{b=\"\"} -Inf\n", &[("a", f64::NEG_INFINITY, None)]);
    check("a{b=\"x\ny\"} 1\n", &[("a{b=\"x\\ny\"}", 1.0, None)]);
    check("", &[]);
    let spelled = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\n# TYPE s summary\ns{quantile=\"1\",le=\"1\"} 1\n";
    check(
        spelled,
        &[
            ("h_bucket{le=\"1.0\"}", 1.0, None),
            ("h_bucket{le=\"+Inf\"}", 1.0, None),
            ("s{le=\"1\", quantile=\"1.0\"}", 1.0, None),
        ],
    );
    assert!(samples(Format::Text, "a nan\n")[0].1.is_nan());
}

#[test]
fn reads_openmetrics() {
    let page = "# TYPE a counter\n# UNIT a_seconds seconds\n# HELP a What it is\\n.\na_total{x=\"y\"} 5 1.5 # {trace_id=\"ab}c\"} 0.7 1700000000.5\n\
                a_created{x=\"y\"} 1.7e9\n# EOF\n";
    let entries: Vec<Entry<'_>> = Parser::new(Format::OpenMetrics, page.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(entries[0], Entry::Kind { name: b"a", kind: MetricKind::Counter });
    assert_eq!(entries[1], Entry::Unit { name: b"a_seconds", unit: b"seconds" });
    assert_eq!(entries[2], Entry::Help { name: b"a", text: b"What it is\\n." });
    let Entry::Sample(sample) = entries[3] else { panic!("{:?}", entries[3]) };
    assert_eq!(
        (sample.key, sample.value, sample.at),
        (&b"a_total{x=\"y\"}"[..], 5.0, Some(Timestamp::from_millis(1500)))
    );
    let exemplar = sample.exemplar.unwrap();
    assert_eq!((exemplar.value, exemplar.at), (0.7, Some(Timestamp::from_millis(1_700_000_000_500))));
    assert_eq!(parse_labels(exemplar.labels, MetricKind::Unknown), Ok(vec![("trace_id".into(), "ab}c".into())]));
    let Entry::Sample(created) = entries[4] else { panic!("{:?}", entries[4]) };
    assert_eq!((created.value, created.exemplar), (1.7e9, None));
    assert_eq!(samples(Format::OpenMetrics, "# EOF").len(), 0);
}

#[test]
fn names_line_text_and_reason_of_the_first_mistake() {
    let check = |format: Format, page: &[u8], line: usize, reason: &str| {
        let mut kind = MetricKind::Unknown;
        let mut parser = Parser::new(format, page);
        let error = loop {
            match parser.next().unwrap_or_else(|| panic!("no error in {:?}", String::from_utf8_lossy(page))) {
                Ok(Entry::Kind { kind: k, .. }) => kind = k,
                Ok(Entry::Sample(sample)) => match parse_labels(sample.key, kind) {
                    Ok(_) => {}
                    Err(reason) => break parser.error_at(sample.key, reason),
                },
                Ok(_) => {}
                Err(error) => {
                    assert!(parser.next().is_none(), "ends after an error");
                    break error;
                }
            }
        };
        assert!(error.line == line && error.reason.contains(reason), "{error}");
    };
    let text = |page: &str, line, reason| check(Format::Text, page.as_bytes(), line, reason);
    text("ok 1\na\n", 2, "a value after the series");
    text("ok 1\n\n# c\na one\n", 4, "invalid value `one`");
    text("a 1 2.5\n", 1, "invalid timestamp `2.5`");
    text("a 1 -5\n", 1, "invalid timestamp");
    text("a 1 2 3\n", 1, "expected the end of the line");
    text("a{b=\"c\" 1\n", 1, "without closing brace");
    text("a{b=\"c} 1\n", 1, "without closing quote");
    text("a{b} 1\n", 1, "expected `=`");
    text("a{b=c} 1\n", 1, "expected a quoted text");
    text("a{1b=\"c\"} 1\n", 1, "expected a label name");
    text("a{b=\"c\",b=\"d\"} 1\n", 1, "`b` is not unique");
    text("{\"a\",\"b\"} 1\n", 1, "metric name already set");
    text("1a 1\n", 1, "begin with a digit");
    text("a-b 1\n", 1, "expected a blank");
    text("a 1\r\n", 1, "invalid value");
    text("# TYPE a histograms\n", 1, "invalid metric type `histograms`");
    text("# TYPE a counter \n", 1, "invalid metric type `counter `");
    text("# TYPE a  counter\n", 1, "invalid metric type ` counter`");
    text("# HELP 1a text\n", 1, "expected a metric name");
    check(Format::Text, b"ok 1\na{b=\"\xff\"} 1\n", 2, "invalid UTF-8");
    let om = |page: &str, line, reason| check(Format::OpenMetrics, page.as_bytes(), line, reason);
    om("a 1\n", 2, "does not end with # EOF");
    om("# EOF\na 1\n", 1, "unexpected data after # EOF");
    om("# a comment\n# EOF\n", 1, "expected `# HELP`");
    om("\na 1\n# EOF\n", 1, "expected a metric name");
    om("a  1\n# EOF\n", 1, "expected a value");
    om("a 1 NaN\n# EOF\n", 1, "invalid timestamp `NaN`");
    om("a 1 # trace\n# EOF\n", 1, "expected `{`");
    om("# UNIT a bytes\n# EOF\n", 1, "is not a suffix");
    om("# TYPE a untyped\n# EOF\n", 1, "invalid metric type");
    om("a 1 \n# EOF\n", 1, "a blank at the end of the line");
    om("a {x=\"1\"} 1\n# EOF\n", 1, "right after the metric name");
    om("a{ x=\"1\"} 1\n# EOF\n", 1, "expected a label name");
    om("a{x=\"1\", y=\"2\"} 1\n# EOF\n", 1, "expected a label name");
    om("a{x =\"1\"} 1\n# EOF\n", 1, "expected `,` or `}`");
    om("a{x= \"1\"} 1\n# EOF\n", 1, "expected a label value");
    om("a{x=\"1\"y=\"2\"} 1\n# EOF\n", 1, "expected `,` or `}`");
    om("a{x=\"1\"}1\n# EOF\n", 1, "expected a blank and a value");
    om("a 1 # {x=\"1\" } 1\n# EOF\n", 1, "expected `,` or `}`");
    om("a 1 2 \n# EOF\n", 1, "a blank at the end of the line");
    om("a_total 1 # {b=\"c\"} 1 \n# EOF\n", 1, "a blank at the end of the line");
}

#[test]
fn steps_over_keys_it_is_told() {
    let mut parser = Parser::new(Format::Text, b"a{b=\"c\"} 7\nd 8\n");
    let Some(Ok(Entry::Sample(sample))) = parser.next_entry(|rest| rest.starts_with(b"a{b=\"c\"} ").then_some(8))
    else {
        panic!("a sample")
    };
    assert_eq!((sample.key, sample.value, sample.recognised), (&b"a{b=\"c\"}"[..], 7.0, true));
    let Some(Ok(Entry::Sample(sample))) = parser.next_entry(|_| None) else { panic!("a sample") };
    assert_eq!((sample.key, sample.value, sample.recognised), (&b"d"[..], 8.0, false));
}

/// Every page of the fixtures against what the Python client reads from it.
#[test]
fn reads_the_pages_of_real_proxies() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/expositions");
    let Ok(parsed) = std::fs::read_to_string(format!("{folder}/PARSED.json")) else {
        return println!("fixtures absent: {folder}");
    };
    let parsed: serde_json::Value = serde_json::from_str(&parsed).unwrap();
    let pages = parsed.as_object().unwrap();
    assert!(pages.len() >= 16);
    // The Python client adds `_total` to the name of a counter that lacks it, and takes it off the metric's name.
    let bare = |name: &str| name.strip_suffix("_total").unwrap_or(name).to_owned();
    for (file, expect) in pages {
        let page = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        let openmetrics = expect["openmetrics"].as_bool().unwrap();
        let format = if openmetrics { Format::OpenMetrics } else { Format::Text };
        let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
        for (labels, ..) in samples(format, &page) {
            *by_name.entry(labels.value(METRIC_NAME).to_owned()).or_default() += 1;
        }
        let kinds = expect["types"].as_object().unwrap();
        for entry in Parser::new(format, page.as_bytes()) {
            let Entry::Kind { name, kind } = entry.unwrap() else { continue };
            let name = std::str::from_utf8(name).unwrap();
            let theirs = kinds.get(name).or_else(|| kinds.get(&bare(name))).and_then(|kind| kind.as_str());
            // What the Python client drops because no sample follows, or calls untyped, is as good as unknown.
            assert!(
                theirs.is_none_or(|theirs| theirs == kind.as_str() || theirs == "untyped"),
                "{file}: {name} {theirs:?}"
            );
        }
        assert_eq!(by_name.values().sum::<u64>(), expect["samples"].as_u64().unwrap(), "{file}");
        let mut ours: BTreeMap<String, u64> = BTreeMap::new();
        by_name.iter().for_each(|(name, count)| *ours.entry(bare(name)).or_default() += count);
        let mut theirs: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in expect["samples_by_name"].as_object().unwrap() {
            *theirs.entry(bare(name)).or_default() += count.as_u64().unwrap();
        }
        assert_eq!(ours, theirs, "{file}");
    }
}

fn series() -> impl Strategy<Value = (String, Vec<(String, String)>, f64)> {
    // The subset on which prometheus-parse is right: no comma, equals sign, brace, quote or backslash in a value, at least
    // one label, untyped samples.
    let name = "[a-z_][a-z0-9_]{0,12}";
    let labels = proptest::collection::btree_map("[a-z][a-z0-9]{0,6}", "[a-zA-Z0-9 ._/:é-]{1,12}", 1..6);
    let value = prop_oneof![any::<u32>().prop_map(f64::from), any::<f64>().prop_filter("finite", |v| v.is_finite())];
    (name, labels, value).prop_map(|(name, labels, value)| (name, labels.into_iter().collect(), value))
}

proptest! {
    #[test]
    fn agrees_with_prometheus_parse_where_that_is_right(lines in proptest::collection::vec(series(), 0..20)) {
        let mut page = String::new();
        for (name, labels, value) in &lines {
            let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
            page.push_str(&format!("{name}{{{}}} {value}\n", labels.join(",")));
        }
        let mut ours: Vec<(String, u64)> =
            samples(Format::Text, &page).into_iter().map(|(labels, value, _)| (labels.to_string(), value.to_bits())).collect();
        let scrape = prometheus_parse::Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let mut theirs: Vec<(String, u64)> = scrape.samples.iter().map(|sample| {
            let labels = sample.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            let labels: Labels = labels.chain([(METRIC_NAME, sample.metric.as_str())]).collect();
            let prometheus_parse::Value::Untyped(value) = sample.value else { panic!("{sample:?}") };
            (labels.to_string(), value.to_bits())
        }).collect();
        ours.sort();
        theirs.sort();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn never_panics_and_always_ends(page in proptest::collection::vec(any::<u8>(), 0..200), om in any::<bool>()) {
        let format = if om { Format::OpenMetrics } else { Format::Text };
        for entry in Parser::new(format, &page).take(300) {
            if let Ok(Entry::Sample(sample)) = entry {
                let _ = parse_labels(sample.key, MetricKind::Histogram);
            }
        }
    }

    #[test]
    fn never_panics_on_almost_pages(page in "([a-c#{}\"=,\\\\ \t\n0-9.]|# TYPE |# HELP |# EOF|a\\{b=\"c\"\\} 1){0,40}", om in any::<bool>()) {
        let format = if om { Format::OpenMetrics } else { Format::Text };
        let entries = Parser::new(format, page.as_bytes()).take(page.len() + 2).count();
        prop_assert!(entries <= page.len() + 1);
    }
}
