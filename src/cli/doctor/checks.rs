//! What is wrong, in plain words: from facts to findings. Pure.
//!
//! In: [`Facts`], each of which may be unknown. Out: [`Finding`]s, the gravest first, with why it matters and what to do.
//! Invariant: what is not known is never judged; that it is not known is itself said where it matters.

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

/// How grave a finding is; the gravest sorts last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Ok,
    Warn,
    Bad,
}

/// One sentence on one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) about: &'static str,
    pub(super) verdict: Verdict,
    /// What was seen, and why that matters.
    pub(super) what: String,
    /// What to do; empty when all is well.
    pub(super) mend: String,
}

impl Finding {
    /// The same with other texts.
    pub(super) fn map(self, change: impl Fn(&str) -> String) -> Self {
        Self { what: change(&self.what), mend: change(&self.mend), ..self }
    }
}

/// What was found out; `None` is what could not be.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) url: String,
    /// The server's version, or why it does not tell.
    pub(super) server: Option<Result<String, String>>,
    pub(super) ready: Option<Result<(), String>>,
    pub(super) metrics: Option<Metrics>,
    /// All, those that are down, some of these with their errors.
    pub(super) targets: Option<(usize, usize, Vec<String>)>,
    pub(super) failing_rules: Option<Vec<String>>,
    /// Warnings of the file, or what is wrong with it.
    pub(super) config: Option<Result<Vec<String>, String>>,
    /// The file, redacted.
    pub(super) config_text: Option<String>,
    /// What runs, redacted.
    pub(super) running_config: Option<String>,
    pub(super) is_open_to_others: Option<bool>,
    pub(super) clock_ahead_of_us_seconds: Option<f64>,
    pub(super) database: Option<Result<Database, String>>,
    pub(super) process: Option<Process>,
    pub(super) memory_available_ratio: Option<f64>,
    pub(super) disk_free_ratio: Option<f64>,
    /// Warnings at the end of the log.
    pub(super) logged: Option<usize>,
}

/// What matters of PostgreSQL.
#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    pub(super) place: String,
    pub(super) version: String,
    pub(super) version_number: u32,
    pub(super) bytes: f64,
    pub(super) connections: f64,
    pub(super) connections_max: f64,
    pub(super) longest_transaction_seconds: f64,
    pub(super) transaction_age: f64,
    pub(super) is_replica: bool,
    /// Sessions that wait for another's lock.
    pub(super) blocked: usize,
    /// That of the database, if it has one, and the newest that this binary knows.
    pub(super) schema: (Option<i64>, i64),
    pub(super) clock_ahead_seconds: f64,
    /// Settings that are off and should be on.
    pub(super) unsafe_settings: Vec<&'static str>,
}

/// The server's process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) open_files: Option<usize>,
    pub(super) open_files_max: Option<usize>,
}

/// A page of metrics.
#[derive(Debug, Default)]
pub(super) struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// Our own page: no timestamps, no exemplars.
    pub(super) fn of(page: &str) -> Self {
        let samples = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.strip_prefix("meshscope_")?.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The server's own version.
    pub(super) fn version(&self) -> Option<String> {
        let (series, _) = self.0.iter().find(|(series, _)| series.starts_with("build_info{"))?;
        Some(series.split_once("version=\"")?.1.split('"').next()?.to_owned())
    }

    /// The sum of a family, or one series of it when the label is written out; `None` when it is not on the page.
    fn sum(&self, name: &str) -> Option<f64> {
        let is_it = |series: &str| series == name || series.split('{').next() == Some(name);
        let values: Vec<f64> = self.0.iter().filter(|(series, _)| is_it(series)).map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Families whose name says that something was lost, and how much.
    fn losses(&self) -> Vec<(&str, f64)> {
        const LOSSES: [&str; 11] = [
            "journal_dropped_samples_total",
            "safe_mode_dropped_samples_total",
            "head_refused_series_total",
            "traces_lost_batches_total",
            "rollup_unwritten_dropped_total",
            "rule_transitions_dropped_total",
            "rule_alerts_not_taken_total",
            "persist_dropped_items_total",
            "remote_write_dropped_samples_total",
            "alertmanager_dropped_alerts_total",
            "unreadable_chunks_total",
        ];
        LOSSES.into_iter().filter_map(|name| Some((name, self.sum(name).filter(|lost| *lost > 0.0)?))).collect()
    }
}

/// All findings, the gravest first.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(server(facts));
    findings.extend(configuration(facts));
    findings.extend(work(facts));
    findings.extend(memory(facts));
    findings.extend(database(facts));
    findings.extend(machine(facts));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    findings
}

fn ok(about: &'static str, what: impl Into<String>) -> Finding {
    Finding { about, verdict: Verdict::Ok, what: what.into(), mend: String::new() }
}

fn warn(about: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { about, verdict: Verdict::Warn, what: what.into(), mend: mend.into() }
}

fn bad(about: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { about, verdict: Verdict::Bad, what: what.into(), mend: mend.into() }
}

fn server(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let ours = env!("CARGO_PKG_VERSION");
    match &facts.server {
        Some(Ok(version)) if version != ours => found.push(warn(
            "server",
            format!("{} runs version {version}, this doctor is of {ours}: what it knows may not fit", facts.url),
            "run the doctor of the server's version",
        )),
        Some(Ok(version)) => found.push(ok("server", format!("version {version} answers at {}", facts.url))),
        Some(Err(reason)) if reason.contains("401") => found.push(bad(
            "server",
            format!("it wants to know who asks: {reason}"),
            "--token-file, or --user with --password-file",
        )),
        Some(Err(reason)) => found.push(bad(
            "server",
            format!("{reason}; all that only it knows is missing here"),
            "start it, or name its address with --url; its log says why it ended",
        )),
        None => {}
    }
    if let Some(Err(reason)) = &facts.ready {
        found.push(bad(
            "readiness",
            reason.clone(),
            "while a large journal is replayed after a crash: wait. For longer than minutes: look for PostgreSQL below",
        ));
    }
    if facts.is_open_to_others == Some(true) {
        found.push(warn(
            "access",
            "web.listen is reached from other machines and nobody is asked for a password or token: whoever reaches it \
             reads everything and may change silences",
            "web.config_file or web.bearer_token_files, or a network policy before it",
        ));
    }
    found.extend(clock("clock of the server", facts.clock_ahead_of_us_seconds, 2.0));
    found
}

fn clock(about: &'static str, ahead_seconds: Option<f64>, tolerance_seconds: f64) -> Option<Finding> {
    let ahead = ahead_seconds?;
    let what = || {
        let way = if ahead > 0.0 { "ahead of" } else { "behind" };
        format!(
            "it is {:.1} s {way} this machine's: times of samples, alerts and silences do not fit together",
            ahead.abs()
        )
    };
    let mend = "run a time service (chrony, systemd-timesyncd) on both machines";
    Some(match ahead.abs() {
        skew if skew <= tolerance_seconds => ok(about, "it agrees with this machine's"),
        skew if skew <= 30.0 => warn(about, what(), mend),
        _ => bad(about, what(), mend),
    })
}

fn configuration(facts: &Facts) -> Vec<Finding> {
    let about = "configuration";
    let mut found = match &facts.config {
        None => Vec::new(),
        Some(Err(problems)) => vec![bad(
            about,
            format!("the file is refused, so a restart would fail and a reload changes nothing:\n{problems}"),
            "mend what is named; `meshscope check-config FILE` checks it",
        )],
        Some(Ok(warnings)) if warnings.is_empty() => vec![ok(about, "the file is valid")],
        Some(Ok(warnings)) => vec![warn(
            about,
            format!("the file is valid, with warnings:\n{}", warnings.join("\n")),
            "take away the keys that have no effect",
        )],
    };
    if let (Some(file), Some(running)) = (&facts.config_text, &facts.running_config)
        && file != running
    {
        found.push(warn(
            about,
            "what runs is not what the file says",
            "reload (SIGHUP, or POST /-/reload), or restart; or the doctor was given another file",
        ));
    }
    found
}

fn work(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    match &facts.targets {
        None => {}
        Some((0, ..)) => found.push(warn(
            "targets",
            "there is nothing to scrape: graph and alerts on metrics stay empty",
            "mesh.discover or scrape_configs; what was found and dropped stands on /targets",
        )),
        Some((all, 0, _)) => found.push(ok("targets", format!("all {all} are up"))),
        Some((all, down, some)) => {
            let what =
                format!("{down} of {all} cannot be scraped, and are missing from the graph:\n{}", some.join("\n"));
            let mend = "docs/troubleshooting.md explains the errors";
            let is_bad = down * 10 > *all;
            found.push(if is_bad { bad("targets", what, mend) } else { warn("targets", what, mend) });
        }
    }
    match facts.failing_rules.as_deref() {
        None => {}
        Some([]) => found.push(ok("rules", "none fails")),
        Some(failing) => found.push(bad(
            "rules",
            format!("{} fail, and alerts of them cannot fire:\n{}", failing.len(), some_of(failing)),
            "`meshscope rules check FILE`; a query that reaches its limits names the key",
        )),
    }
    let Some(metrics) = &facts.metrics else { return found };
    if let Some(failed) = metrics.sum("notifications_total{outcome=\"failed\"}").filter(|failed| *failed > 0.0) {
        found.push(bad(
            "notifications",
            format!("{failed} were given up since the start: somebody was not told"),
            "/notifications?state=failed says why and can send them again",
        ));
    }
    let losses = metrics.losses();
    if losses.is_empty() {
        found.push(ok("losses", "nothing was dropped since the start"));
    } else {
        let told: Vec<String> = losses.iter().map(|(name, lost)| format!("meshscope_{name} {lost}")).collect();
        found.push(warn(
            "losses",
            format!("something was dropped since the start:\n{}", told.join("\n")),
            "docs/operations.md says which limit or outage each of them speaks of",
        ));
    }
    found
}

fn some_of(all: &[String]) -> String {
    let (first, rest) = all.split_at(all.len().min(5));
    let more = if rest.is_empty() { String::new() } else { format!("\nand {} more", rest.len()) };
    first.join("\n") + &more
}

fn memory(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(metrics) = &facts.metrics {
        if metrics.sum("safe_mode") == Some(1.0) {
            found.push(bad(
                "memory",
                "safe mode: only samples that rules read are stored, and graphs of others have a gap",
                "more memory (storage.memory_limit), or fewer series: /status says which metrics and labels cost most",
            ));
        } else if let (Some(used), Some(limit)) = (metrics.sum("memory_used_bytes"), metrics.sum("memory_limit_bytes"))
            && limit > 0.0
        {
            let share = 100.0 * used / limit;
            let what = format!("{:.0} MiB used, {share:.0} % of the limit", used / f64::from(1 << 20));
            found.push(match share > 85.0 {
                true => warn("memory", what + ": safe mode is near", "as for safe mode: docs/operations.md"),
                false => ok("memory", what),
            });
        }
    }
    if let Some(ratio) = facts.memory_available_ratio.filter(|ratio| *ratio < 0.1) {
        let what = format!("{:.0} % of this machine's memory is left: the kernel may end processes", 100.0 * ratio);
        found.push(warn("machine's memory", what, "more memory, or fewer other programs"));
    }
    found
}

fn database(facts: &Facts) -> Vec<Finding> {
    let about = "PostgreSQL";
    let away = facts.metrics.as_ref().and_then(|metrics| metrics.sum("database_available")) == Some(0.0);
    let mut found = Vec::new();
    if away {
        found.push(bad(
            about,
            "the server cannot reach it: scraping and alerting go on, what is accepted waits in memory, and the oldest is \
             lost when storage.journal_limit_bytes is reached",
            "docs/runbooks/MeshscopeDatabaseAway.md",
        ));
    }
    match &facts.database {
        None => {}
        Some(Err(reason)) if away => found.push(bad(about, reason.clone(), "mend the database, or the way to it")),
        Some(Err(reason)) => found.push(warn(
            about,
            format!("the doctor cannot look at it: {reason}"),
            "--config with the server's file, or DATABASE_URL; a private server is seen only by root and its own user",
        )),
        Some(Ok(database)) => found.extend(opened(database)),
    }
    found
}

fn opened(database: &Database) -> Vec<Finding> {
    let about = "PostgreSQL";
    let mut found = Vec::new();
    let mut add = |is_so: bool, finding: Finding| found.extend(is_so.then_some(finding));
    let Database { place, version, bytes, connections, connections_max, .. } = database;
    let good = format!(
        "version {version} at {place}, {:.0} MiB, {connections} of {connections_max} connections",
        bytes / f64::from(1 << 20)
    );
    add(true, ok(about, good));
    let too_old = format!("version {version} is too old");
    add(database.version_number < 150_000, bad(about, too_old, "version 15 or newer"));
    add(
        database.is_replica,
        bad(about, "it is a read-only replica: nothing can be written", "the address of the primary"),
    );
    match database.schema {
        (None, _) => add(
            true,
            warn(
                about,
                "it has no tables of meshscope",
                "the server makes them at its start, `meshscope migrate` as well",
            ),
        ),
        (Some(found), known) if found > known => {
            let what = format!("its schema is {found}, this program knows up to {known}: a start would be refused");
            add(true, bad(about, what, "run the newer meshscope, or restore the backup from before the upgrade"));
        }
        (Some(found), known) => {
            let what = format!("its schema is {found}, this program's is {known}");
            add(found < known, warn(about, what, "the next start brings it up to date"));
        }
    }
    let settings = database.unsafe_settings.join(", ");
    let what = format!("{settings} is off: a crash of the machine may destroy the data, or tables grow without bound");
    add(!settings.is_empty(), bad(about, what, "turn it on"));
    let share = connections / connections_max.max(1.0);
    let what = format!("{:.0} % of its connections are taken", 100.0 * share);
    add(share > 0.8, warn(about, what, "a larger max_connections, or a smaller storage.connections_max"));
    let seconds = database.longest_transaction_seconds;
    let what = format!("a transaction is open since {:.0} min: vacuum cannot clean up what is newer", seconds / 60.0);
    add(seconds > 600.0, warn(about, what, "end it: database-sessions.json and pg_stat_activity say whose it is"));
    let what = format!("{} sessions wait for locks of others", database.blocked);
    add(database.blocked > 0, warn(about, what, "database-locks.json says for whom"));
    let what = format!(
        "{:.0} million transactions since the oldest freeze; at 2,100 it stops writing",
        database.transaction_age / 1e6
    );
    add(
        database.transaction_age > 1e9,
        bad(about, what, "VACUUM (FREEZE), and look why autovacuum does not get there"),
    );
    found.extend(clock("clock of PostgreSQL", Some(database.clock_ahead_seconds), 1.0));
    found
}

fn machine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(Process { open_files, open_files_max: Some(limit) }) = facts.process {
        let used = open_files.unwrap_or(0);
        let what = format!("{used} open files of {limit}");
        let mend = "LimitNOFILE=65536 in the unit, or ulimit -n: each target and each client takes one";
        found.push(match used {
            used if used * 10 > limit * 8 => bad("files", what + ": scrapes and clients will be refused", mend),
            _ if limit < 4096 => warn("files", what + ": with many targets that is not enough", mend),
            _ => ok("files", what),
        });
    }
    if let Some(ratio) = facts.disk_free_ratio {
        let what = format!("{:.0} % of the private server's disk is free", 100.0 * ratio);
        let mend = "a larger disk, or less of storage.retention; a full disk ends all writing";
        found.push(match ratio {
            ratio if ratio < 0.05 => bad("disk", what, mend),
            ratio if ratio < 0.15 => warn("disk", what, mend),
            _ => ok("disk", what),
        });
    }
    if let Some(count) = facts.logged {
        found.push(match count {
            0 => ok("log", "no warning at its end"),
            _ => warn("log", format!("{count} warnings at its end"), "log-warnings.txt"),
        });
    }
    found
}

/// The summary for people.
pub(super) fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { about, verdict, what, mend } in findings {
        let sign = match verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Bad => "BAD ",
        };
        text.push_str(&format!("{sign}  {about}: {}\n", what.replace('\n', "\n        ")));
        if !mend.is_empty() {
            text.push_str(&format!("        do: {mend}\n"));
        }
    }
    let count = |verdict: Verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (bad, warnings) = (count(Verdict::Bad), count(Verdict::Warn));
    text + &format!("{bad} bad, {warnings} to look at, {} well\n", count(Verdict::Ok))
}

/// The summary for programs.
pub(super) fn json(findings: &[Finding]) -> Value {
    let one = |Finding { about, verdict, what, mend }: &Finding| {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Bad => "bad",
        };
        json!({"about": about, "verdict": verdict, "what": what, "do": mend})
    };
    findings.iter().map(one).collect()
}
