#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn verdict_of(facts: &Facts, about: &str) -> Option<Verdict> {
    judge(facts).into_iter().find(|finding| finding.about == about).map(|finding| finding.verdict)
}

fn healthy_database() -> Database {
    Database {
        place: "db:5432/mesh".into(),
        version: "16.2".into(),
        version_number: 160_002,
        connections: 12.0,
        connections_max: 100.0,
        schema: (Some(23), 23),
        ..Database::default()
    }
}

#[test]
fn what_is_unknown_is_not_judged() {
    assert_eq!(judge(&Facts::default()), []);
}

#[test]
fn each_fact_has_its_verdict() {
    let metrics = |page: &str| Facts { metrics: Some(Metrics::of(page)), ..Facts::default() };
    let ours = env!("CARGO_PKG_VERSION").to_owned();
    let server = |told: Result<String, String>| Facts { server: Some(told), ..Facts::default() };
    let targets = |all, down| Facts { targets: Some((all, down, vec!["x".into()])), ..Facts::default() };
    let process = |used, limit| Facts {
        process: Some(Process { open_files: Some(used), open_files_max: Some(limit) }),
        ..Facts::default()
    };
    let config = |told: Result<Vec<String>, String>| Facts { config: Some(told), ..Facts::default() };
    for (facts, about, expect) in [
        (server(Ok(ours)), "server", Verdict::Ok),
        (server(Ok("0.0.0".into())), "server", Verdict::Warn),
        (server(Err("refused".into())), "server", Verdict::Bad),
        (Facts { ready: Some(Err("restoring".into())), ..Facts::default() }, "readiness", Verdict::Bad),
        (Facts { is_open_to_others: Some(true), ..Facts::default() }, "access", Verdict::Warn),
        (Facts { clock_ahead_of_us_seconds: Some(-1.5), ..Facts::default() }, "clock of the server", Verdict::Ok),
        (Facts { clock_ahead_of_us_seconds: Some(-9.0), ..Facts::default() }, "clock of the server", Verdict::Warn),
        (Facts { clock_ahead_of_us_seconds: Some(90.0), ..Facts::default() }, "clock of the server", Verdict::Bad),
        (config(Ok(vec![])), "configuration", Verdict::Ok),
        (config(Ok(vec!["w".into()])), "configuration", Verdict::Warn),
        (config(Err("line 1".into())), "configuration", Verdict::Bad),
        (targets(0, 0), "targets", Verdict::Warn),
        (targets(20, 0), "targets", Verdict::Ok),
        (targets(20, 2), "targets", Verdict::Warn),
        (targets(20, 3), "targets", Verdict::Bad),
        (Facts { failing_rules: Some(vec![]), ..Facts::default() }, "rules", Verdict::Ok),
        (Facts { failing_rules: Some(vec!["A".into()]), ..Facts::default() }, "rules", Verdict::Bad),
        (metrics("meshscope_safe_mode 1\n"), "memory", Verdict::Bad),
        (metrics("meshscope_memory_used_bytes 90\nmeshscope_memory_limit_bytes 100\n"), "memory", Verdict::Warn),
        (metrics("meshscope_memory_used_bytes 50\nmeshscope_memory_limit_bytes 100\n"), "memory", Verdict::Ok),
        (metrics("meshscope_notifications_total{outcome=\"failed\"} 2\n"), "notifications", Verdict::Bad),
        (metrics("meshscope_journal_dropped_samples_total 3\n"), "losses", Verdict::Warn),
        (metrics("meshscope_journal_dropped_samples_total 0\n"), "losses", Verdict::Ok),
        (metrics("meshscope_database_available 0\n"), "PostgreSQL", Verdict::Bad),
        (Facts { database: Some(Err("refused".into())), ..Facts::default() }, "PostgreSQL", Verdict::Warn),
        (Facts { memory_available_ratio: Some(0.05), ..Facts::default() }, "machine's memory", Verdict::Warn),
        (process(10, 65536), "files", Verdict::Ok),
        (process(10, 1024), "files", Verdict::Warn),
        (process(60000, 65536), "files", Verdict::Bad),
        (Facts { disk_free_ratio: Some(0.5), ..Facts::default() }, "disk", Verdict::Ok),
        (Facts { disk_free_ratio: Some(0.1), ..Facts::default() }, "disk", Verdict::Warn),
        (Facts { disk_free_ratio: Some(0.01), ..Facts::default() }, "disk", Verdict::Bad),
        (Facts { logged: Some(0), ..Facts::default() }, "log", Verdict::Ok),
        (Facts { logged: Some(7), ..Facts::default() }, "log", Verdict::Warn),
    ] {
        assert_eq!(verdict_of(&facts, about), Some(expect), "{about}: {facts:?}");
    }
}

#[test]
fn each_fault_of_the_database_is_found() {
    let gravest = |change: fn(&mut Database)| {
        let mut database = healthy_database();
        change(&mut database);
        opened(&database).iter().map(|finding| finding.verdict).max().unwrap()
    };
    assert_eq!(gravest(|_| {}), Verdict::Ok);
    assert_eq!(gravest(|d| d.version_number = 140_011), Verdict::Bad);
    assert_eq!(gravest(|d| d.is_replica = true), Verdict::Bad);
    assert_eq!(gravest(|d| d.schema = (None, 23)), Verdict::Warn);
    assert_eq!(gravest(|d| d.schema = (Some(21), 23)), Verdict::Warn);
    assert_eq!(gravest(|d| d.schema = (Some(24), 23)), Verdict::Bad);
    assert_eq!(gravest(|d| d.unsafe_settings = vec!["fsync"]), Verdict::Bad);
    assert_eq!(gravest(|d| d.connections = 90.0), Verdict::Warn);
    assert_eq!(gravest(|d| d.longest_transaction_seconds = 3600.0), Verdict::Warn);
    assert_eq!(gravest(|d| d.blocked = 1), Verdict::Warn);
    assert_eq!(gravest(|d| d.transaction_age = 1.5e9), Verdict::Bad);
    assert_eq!(gravest(|d| d.clock_ahead_seconds = 5.0), Verdict::Warn);
}

#[test]
fn the_version_is_read_from_the_page_of_metrics() {
    let page = "# TYPE meshscope_build_info gauge\nmeshscope_build_info{version=\"1.2.3\"} 1\n";
    assert_eq!(Metrics::of(page).version().as_deref(), Some("1.2.3"));
    assert_eq!(Metrics::of("go_goroutines 1\n").version(), None);
}

#[test]
fn a_file_that_is_not_what_runs_is_told() {
    let facts = |running: &str| Facts {
        config: Some(Ok(vec![])),
        config_text: Some("a: 1\n".into()),
        running_config: Some(running.into()),
        ..Facts::default()
    };
    let count = |running: &str| judge(&facts(running)).iter().filter(|f| f.verdict == Verdict::Warn).count();
    assert_eq!((count("a: 1\n"), count("a: 2\n")), (0, 1));
}

#[test]
fn the_gravest_comes_first_and_the_summary_counts() {
    let facts =
        Facts { server: Some(Err("refused".into())), disk_free_ratio: Some(0.5), logged: Some(1), ..Facts::default() };
    let text = table(&judge(&facts));
    assert!(
        text.starts_with("BAD   server: refused; all that only it knows is missing here\n        do: start it"),
        "{text}"
    );
    assert!(text.ends_with("1 bad, 1 to look at, 1 well\n"), "{text}");
    assert_eq!(json(&judge(&facts))[0]["verdict"], "bad");
}
