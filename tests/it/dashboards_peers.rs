//! What the boards that Istio and Linkerd ship show, ours show too: every metric they ask for is asked for by one of ours.

use std::collections::BTreeSet;
use std::path::Path;

use meshscope::dashboards::all;
use meshscope::promql;
use serde_json::Value;

/// Metrics of their boards that none of ours asks for, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("istio_request_duration_seconds", "Mixer's; since Istio 1.5 it is istio_request_duration_milliseconds"),
    ("process_virtual_memory_bytes", "address space is not memory; what is resident and what Go holds is shown"),
];

/// The metrics of an expression, without the endings of histograms; none when it is not PromQL even with its variables
/// filled in.
fn metrics(expr: &str) -> Option<BTreeSet<String>> {
    let filled = ["$__rate_interval", "$__interval", "$__range", "$interval"]
        .into_iter()
        .fold(expr.to_owned(), |text, variable| text.replace(variable, "5m"));
    let bare = |name: String| {
        let ending = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
        ending.map(str::to_owned).unwrap_or(name)
    };
    let read = promql::parse(&filled).ok()?;
    Some(read.selectors().into_iter().filter_map(|selector| selector.name).map(bare).collect())
}

fn expressions(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn every_metric_of_the_boards_of_istio_and_linkerd_is_asked_for() {
    let mut ours = BTreeSet::new();
    for named in all() {
        for target in named.dashboard.panels.iter().flat_map(|panel| &panel.targets) {
            if target.raw_sql.is_empty() {
                ours.extend(metrics(&target.expr).unwrap_or_else(|| panic!("{}: {}", named.name, target.expr)));
            }
        }
    }
    assert!(ours.contains("istio_requests_total") && ours.contains("response_latency_ms"), "{ours:?}");
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/dashboards"));
    if !root.exists() {
        println!("fixtures absent: {}", root.display());
        return;
    }
    let (mut missing, mut asked, mut unread) = (BTreeSet::new(), 0, Vec::new());
    for folder in ["istio", "linkerd"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder").flatten() {
            let text = std::fs::read_to_string(entry.path()).expect("readable");
            let Ok(board) = serde_json::from_str(&text) else { continue };
            let mut found = Vec::new();
            expressions(&board, &mut found);
            for expr in found {
                asked += 1;
                let Some(names) = metrics(&expr) else {
                    unread.push(expr);
                    continue;
                };
                let unknown = names
                    .into_iter()
                    .filter(|name| !ours.contains(name) && !LEFT_OUT.iter().any(|(known, _)| known == name));
                missing.extend(unknown.map(|name| format!("{}: {name}", entry.path().display())));
            }
        }
    }
    assert!(asked > 100 && unread.len() * 20 < asked, "{} of {asked}: {unread:#?}", unread.len());
    assert!(missing.is_empty(), "{missing:#?}");
}
