//! What the documents say is held against the code: configurations parse, keys, commands, metrics and links exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use meshscope::cli::Arguments;
use meshscope::config::Config;
use meshscope::context::ANNOTATIONS;
use meshscope::model::{Labels, METRIC_NAME};
use meshscope::promql;
use meshscope::rules::{self, LoadOptions};
use meshscope::scrape::exposition::{Entry, Format, MetricKind, Parser, parse_labels};

/// Structs whose fields are keys of `meshscope.yaml`: file, struct, where its keys stand.
const CONFIGURATION: &[(&str, &str, &str)] = &[
    ("src/config.rs", "File", ""),
    ("src/config.rs", "Global", "global."),
    ("src/config.rs", "StorageConfig", "storage."),
    ("src/discovery/shard.rs", "ShardConfig", "shard."),
    ("src/upstream/config.rs", "Config", "storage.query_upstream."),
    ("src/telemetry.rs", "Config", "telemetry."),
    ("src/store/partitions.rs", "RetentionConfig", "storage.retention."),
    ("src/web.rs", "Config", "web."),
    ("src/access/config.rs", "RolesConfig", "web.roles."),
    ("src/access/config.rs", "ByWhom", "web.roles.admins."),
    ("src/access/config.rs", "TrustedProxyConfig", "web.trusted_proxy."),
    ("src/access/config.rs", "RateLimitConfig", "web.rate_limit."),
    ("src/http_client/reach.rs", "SecurityConfig", "security."),
    ("src/http_client/reach.rs", "OutgoingConfig", "security.outgoing."),
    ("src/http_client/reach.rs", "ReachConfig", "security.outgoing.notifications."),
    ("src/config/mesh.rs", "Mesh", "mesh."),
    ("src/declared.rs", "Config", "mesh.declared."),
    ("src/audit/suppress.rs", "SuppressionConfig", "mesh.suppress[]."),
    ("src/audit/watch.rs", "WatchConfig", "audit."),
    ("src/otlp.rs", "Config", "otlp."),
    ("src/otlp/limits.rs", "Limits", "otlp.limits."),
    ("src/push.rs", "Config", "push."),
    ("src/traces.rs", "Config", "traces."),
    ("src/traces/batch.rs", "IndexConfig", "traces.index."),
    ("src/access_logs.rs", "Config", "access_logs."),
    ("src/scrape.rs", "Config", "scrape."),
    ("src/context.rs", "Config", "alert_context."),
    ("src/graph/types.rs", "Config", "graph."),
    ("src/graph/health.rs", "Thresholds", "graph.health."),
    ("src/graph/health.rs", "Override", "graph.overrides[]."),
    ("src/graph/health.rs", "Changed", "graph.overrides[].health."),
    ("src/graph/health.rs", "Tolerance", "graph.health.server_error."),
    ("src/slo/config.rs", "SloConfig", "slos[]."),
    ("src/slo/config.rs", "IndicatorConfig", "slos[].indicator."),
    ("src/slo/config.rs", "AvailabilityConfig", "slos[].indicator.availability."),
    ("src/slo/config.rs", "LatencyConfig", "slos[].indicator.latency."),
    ("src/slo/config.rs", "EventsConfig", "slos[].indicator.events."),
    ("src/slo/config.rs", "ErrorRatioConfig", "slos[].indicator.error_ratio."),
    ("src/slo/config.rs", "AlertingConfig", "slos[].alerting."),
    ("src/slo/config.rs", "SeverityConfig", "slos[].alerting.page."),
    ("src/rollup.rs", "Config", "rollup."),
    ("src/promql/engine.rs", "Config", "promql."),
    ("src/discovery/config.rs", "ScrapeConfig", "scrape_configs[]."),
    ("src/discovery/config.rs", "Group", "scrape_configs[].static_configs[]."),
    ("src/discovery/config.rs", "FileSdConfig", "scrape_configs[].file_sd_configs[]."),
    ("src/discovery/config.rs", "HttpSdConfig", "scrape_configs[].http_sd_configs[]."),
    ("src/discovery/kubernetes/config.rs", "KubernetesSdConfig", "scrape_configs[].kubernetes_sd_configs[]."),
    ("src/discovery/kubernetes/config.rs", "Namespaces", "scrape_configs[].kubernetes_sd_configs[].namespaces."),
    ("src/discovery/kubernetes/config.rs", "Selector", "scrape_configs[].kubernetes_sd_configs[].selectors[]."),
    (
        "src/discovery/kubernetes/config.rs",
        "AttachMetadata",
        "scrape_configs[].kubernetes_sd_configs[].attach_metadata.",
    ),
    ("src/discovery/relabel.rs", "RuleConfig", "scrape_configs[].relabel_configs[]."),
    ("src/http_client/config.rs", "Config", "scrape_configs[]."),
    ("src/http_client/config.rs", "Authorization", "scrape_configs[].authorization."),
    ("src/http_client/config.rs", "BasicAuth", "scrape_configs[].basic_auth."),
    ("src/http_client/config.rs", "TlsConfig", "scrape_configs[].tls_config."),
    ("src/http_client/config.rs", "HeaderValues", "scrape_configs[].http_headers.NAME."),
    ("src/notify/config.rs", "RouteConfig", "route."),
    ("src/notify/receivers/config.rs", "Globals", "global."),
    ("src/notify/receivers/config.rs", "ReceiverConfig", "receivers[]."),
    ("src/notify/receivers/config.rs", "WebhookConfig", "receivers[].webhook_configs[]."),
    ("src/notify/receivers/config.rs", "SignatureConfig", "receivers[].webhook_configs[].signature."),
    ("src/notify/receivers/config.rs", "SlackConfig", "receivers[].slack_configs[]."),
    ("src/notify/receivers/config.rs", "PagerdutyConfig", "receivers[].pagerduty_configs[]."),
    ("src/notify/receivers/config.rs", "EmailConfig", "receivers[].email_configs[]."),
    ("src/notify/receivers/config.rs", "ThreadingConfig", "receivers[].email_configs[].threading."),
    ("src/notify/config.rs", "InhibitRuleConfig", "inhibit_rules[]."),
    ("src/notify/alertmanagers/config.rs", "AlertingConfig", "alerting."),
    ("src/notify/alertmanagers/config.rs", "AlertmanagerConfig", "alerting.alertmanagers[]."),
    ("src/forward/config.rs", "RemoteWriteConfig", "remote_write[]."),
    ("src/forward/config.rs", "QueueConfig", "remote_write[].queue_config."),
    ("src/forward/config.rs", "MetadataConfig", "remote_write[].metadata_config."),
    ("src/notify/time_interval.rs", "TimeIntervalConfig", "time_intervals[]."),
    ("src/notify/time_interval.rs", "TimesConfig", "time_intervals[].time_intervals[]."),
    ("src/notify/time_interval.rs", "ClockRangeConfig", "time_intervals[].time_intervals[].times[]."),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// Every document, by its path from the root.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned(), "CHANGELOG.md".to_owned()];
    let folder = fs::read_dir(root().join("docs")).expect("the folder docs");
    paths.extend(folder.flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.ends_with(".md").then(|| format!("docs/{name}"))
    }));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), text(&path))).collect()
}

/// The fenced blocks whose info string is `info`, with the line they begin at.
fn blocks(document: &str, info: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, bool, String)> = None;
    for (i, line) in document.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(told)) => open = Some((i + 1, told.trim() == info, String::new())),
            (None, None) => {}
            (Some(_), Some(_)) => {
                if let Some((at, true, block)) = open.take() {
                    found.push((at, block));
                }
            }
            (Some((_, _, block)), None) => block.extend([line, "\n"]),
        }
    }
    found
}

/// What stands between backticks outside of fenced blocks.
fn quoted(document: &str) -> BTreeSet<&str> {
    let mut inside = false;
    let lines = document.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Words of a command line; quotes group, a backslash does not escape.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_configuration_shown_is_valid() {
    let mut seen = 0;
    for (path, document) in documents() {
        for (line, block) in blocks(&document, "yaml meshscope.yaml") {
            seen += 1;
            if let Err(error) = Config::parse(&block, None) {
                panic!("{path}:{line}: {error}");
            }
        }
    }
    assert!(seen >= 5, "only {seen} configurations found: is the info string still `yaml meshscope.yaml`?");
    let example = root().join("deploy/meshscope.example.yaml");
    let config = Config::read(&example).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.warnings, [] as [&str; 0]);
    let options = LoadOptions {
        evaluation_interval: config.evaluation_interval.get(),
        external_labels: config.external_labels.clone(),
        external_url: String::new(),
        features: config.promql.features(),
    };
    let rules = rules::load(&config.rule_files, &root().join("deploy"), &options);
    assert!(rules.problems.is_empty() && rules.warnings.is_empty(), "{:?} {:?}", rules.problems, rules.warnings);
    assert!(!rules.groups.is_empty());
}

/// Names of the fields of a struct as the file writes them.
fn fields(source: &str, name: &str) -> Vec<String> {
    let from = source.find(&format!("struct {name} {{")).unwrap_or_else(|| panic!("no struct {name}"));
    let indent = source[..from].lines().last().map_or(0, |line| line.len() - line.trim_start().len());
    let close = format!("\n{}}}", " ".repeat(indent));
    let body = &source[from..from + source[from..].find(&close).expect("the end of the struct")];
    let (mut names, mut renamed) = (Vec::new(), None);
    for line in body.lines().skip(1).map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[serde(rename = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        }
        let field = line.strip_prefix("pub ").unwrap_or(line);
        let Some((field, kind)) = field.split_once(": ") else { continue };
        if kind.contains("NotOffered") {
            continue; // read only to be named in a warning
        }
        if !field.is_empty() && field.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            names.push(renamed.take().unwrap_or_else(|| field.to_owned()));
        }
    }
    assert!(!names.is_empty(), "struct {name} has no fields");
    names
}

#[test]
fn every_key_of_the_configuration_is_documented() {
    let document = text("docs/configuration.md");
    let documented = quoted(&document);
    let mut missing = Vec::new();
    for &(file, name, prefix) in CONFIGURATION {
        for field in fields(&text(file), name) {
            let key = format!("{prefix}{field}");
            if !documented.contains(key.as_str()) {
                missing.push(format!("{key} ({file}, {name})"));
            }
        }
    }
    assert!(missing.is_empty(), "not in docs/configuration.md:\n{}", missing.join("\n"));
}

/// A document in which only that key is set: `a[].b.c` becomes `{"a": [{"b": {"c": …}}]}`.
fn only(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('.').collect();
    let mut value = "[]".to_owned();
    while let Some(part) = parts.pop() {
        value = match part.strip_suffix("[]") {
            Some(name) => format!("{{{name:?}: [{value}]}}"),
            None => format!("{{{part:?}: {value}}}"),
        };
    }
    value
}

#[test]
fn every_documented_key_exists() {
    let unknown = |key: &str| {
        let problems = Config::parse(&only(key), None).err().map(|error| error.to_string()).unwrap_or_default();
        problems.contains("unknown key")
    };
    assert!(
        unknown("web.listenn") && unknown("scrape_configs[].relabel_configs[].x"),
        "the check finds what is unknown"
    );
    // The first column of the tables of keys.
    let document = text("docs/configuration.md");
    let keys: Vec<&str> = (document.lines())
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        // Keys are in lower case; names in the environment are not.
        .filter(|key| key.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    assert!(keys.len() > 100, "only {} keys found", keys.len());
    let wrong: Vec<&&str> = keys.iter().filter(|key| unknown(key)).collect();
    assert!(wrong.is_empty(), "documented, but unknown to the configuration: {wrong:?}");
}

#[test]
fn every_command_shown_is_understood() {
    let mut seen = 0;
    for (path, document) in documents() {
        for (line, block) in blocks(&document, "sh") {
            for command in block.lines().map(str::trim).filter(|line| line.starts_with("meshscope ")) {
                let words =
                    words(command.split(" | ").next().unwrap_or_default().split(" > ").next().unwrap_or_default());
                seen += 1;
                if let Err(error) = Arguments::try_parse_from(words) {
                    panic!("{path}:{line}: {command}\n{error}");
                }
            }
        }
    }
    assert!(seen >= 8, "only {seen} commands found");
}

#[test]
fn every_metric_named_is_on_the_page() {
    let parts = ["sent_on", "access", "access_logs", "declared", "memory", "upstream"]
        .map(|part| text(&format!("src/app/metrics/{part}.rs")));
    // What is written into the store instead bears its whole name.
    let stored = text("src/audit/watch.rs").replace("\"meshscope_", "\"");
    let table = text("src/app/metrics.rs") + &parts.concat() + &stored;
    // Series made of records and spans stand in memory, not on the page.
    let derived = text("src/access_logs/counted.rs") + &text("src/traces/span_metrics.rs");
    for (path, document) in documents() {
        // Annotations bear the same prefix.
        let is_annotation = |word: &&str| ANNOTATIONS.contains(&word.split(':').next().unwrap_or_default());
        let words = quoted(&document).into_iter().filter(|word| !is_annotation(word));
        for name in words.filter_map(|word| word.strip_prefix("meshscope_")) {
            let bare = name.trim_end_matches("_total");
            let is_known = table.contains(&format!("\"{bare}\"")) || derived.contains(&format!("\"meshscope_{name}"));
            assert!(is_known, "{path}: there is no metric meshscope_{name}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for (path, document) in documents() {
        let folder = root().join(&path).parent().map(Path::to_owned).unwrap_or_default();
        for link in document.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            // Pictures are taken from a running demo, not kept by hand.
            let elsewhere = link.contains("://") || file.is_empty() || file.contains("images/");
            if !elsewhere && !folder.join(PathBuf::from(file)).exists() {
                wrong.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_direct_dependency_is_explained() {
    let document = text("docs/dependencies.md");
    let explained = quoted(&document);
    let manifest = text("Cargo.toml");
    let used = |name: &str| {
        // A crate that no source names is on its way out.
        let name = name.replace('-', "_");
        sources().iter().any(|source| source.contains(&format!("{name}::")) || source.contains(&format!("{name} as ")))
    };
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line == "[dev-dependencies]";
        } else if let Some((name, _)) = line.split_once(" = ")
            && inside
        {
            assert!(explained.contains(name) || !used(name), "docs/dependencies.md does not explain `{name}`");
        }
    }
}

fn sources() -> Vec<String> {
    let (mut folders, mut texts) = (vec![root().join("src"), root().join("tests")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => {
                    texts.push(fs::read_to_string(path).expect("readable source"));
                }
                false => {}
            }
        }
    }
    texts
}

#[test]
fn every_alert_of_the_pack_is_explained() {
    let document = text("docs/alerts.md");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("alerts")).expect("the folder alerts").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "yaml") && !path.to_string_lossy().ends_with("_test.yaml") {
            let pack = fs::read_to_string(&path).expect("a readable pack");
            let alerts = pack.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
            names.extend(alerts.map(str::to_owned));
        }
    }
    assert!(names.len() > 40, "{names:?}");
    for name in &names {
        assert!(document.contains(&format!("| [{name}](runbooks/{name}.md) |")), "docs/alerts.md does not list {name}");
        let runbook = text(&format!("docs/runbooks/{name}.md"));
        for part in ["What it means.", "How to see it", "Likely causes", "First three things", "When to ignore"] {
            assert!(runbook.contains(part), "docs/runbooks/{name}.md lacks {part:?}");
        }
    }
    for entry in fs::read_dir(root().join("docs/runbooks")).expect("the folder runbooks").flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".md").to_owned();
        assert!(names.contains(&name), "docs/runbooks/{name}.md explains no alert");
    }
}

/// `("scrape", &["series", "rollup"]),` of tests/it/tidy.rs is the row `| scrape | series, rollup |` here.
#[test]
fn the_table_of_imports_is_that_of_the_test() {
    let document = text("ARCHITECTURE.md");
    let mut rows = 0;
    let tidy = text("tests/it/tidy.rs");
    let (_, table) = tidy.split_once("const MAY_IMPORT").expect("the table of the test");
    for line in table.lines() {
        let Some((name, list)) = line.trim().strip_prefix("(\"").and_then(|rest| rest.split_once("\", &[")) else {
            continue;
        };
        let Some(list) = list.strip_suffix("]),") else { continue };
        let imports: Vec<&str> = list.split(", ").map(|import| import.trim_matches('"')).collect();
        let imports = match imports.as_slice() {
            [""] => "nothing".to_owned(),
            ["*"] => "everything".to_owned(),
            names => names.join(", "),
        };
        rows += 1;
        let row = format!("| `{name}` | {imports} |");
        assert!(document.contains(&row), "ARCHITECTURE.md lacks {row}");
    }
    assert!(rows > 10, "only {rows} rows found");
}

fn ours(line: &str) -> Option<(Labels, f64)> {
    match Parser::new(Format::Text, line.as_bytes()).next()?.ok()? {
        Entry::Sample(sample) => {
            Some((Labels::from_pairs(parse_labels(sample.key, MetricKind::Unknown).ok()?), sample.value))
        }
        _ => None,
    }
}

fn theirs(line: &str) -> Option<(Labels, f64)> {
    let scrape = prometheus_parse::Scrape::parse(std::iter::once(Ok(line.to_owned()))).ok()?;
    let sample = scrape.samples.first()?;
    let prometheus_parse::Value::Untyped(value) = sample.value else { return None };
    let labels = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Some((labels.chain([(METRIC_NAME, sample.metric.as_str())]).collect(), value))
}

#[test]
fn the_lines_that_prometheus_parse_is_said_to_misread_are_misread() {
    let document = text("docs/dependencies.md");
    let lines: Vec<String> = blocks(&document, "text prometheus-parse")
        .into_iter()
        .flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(lines.len() >= 4, "{lines:?}");
    for line in lines {
        let ours = ours(&line);
        assert!(ours.is_some(), "we read: {line}");
        assert_ne!(ours, theirs(&line), "prometheus-parse reads it right: {line}");
    }
}

#[test]
fn the_expressions_that_promql_parser_is_said_to_misread_are_misread() {
    let document = text("docs/dependencies.md");
    let expressions = |info: &str| -> Vec<String> {
        let lines = blocks(&document, info)
            .into_iter()
            .flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>());
        let lines: Vec<String> = lines.collect();
        assert!(!lines.is_empty(), "no block `{info}`");
        lines
    };
    for expression in expressions("promql refused") {
        assert!(promql::parse(&expression).is_ok(), "we read: {expression}");
        assert!(promql_parser::parser::parse(&expression).is_err(), "promql-parser reads: {expression}");
    }
    for expression in expressions("promql accepted") {
        assert!(promql::parse(&expression).is_err(), "we refuse: {expression}");
        assert!(promql_parser::parser::parse(&expression).is_ok(), "promql-parser refuses: {expression}");
    }
}
