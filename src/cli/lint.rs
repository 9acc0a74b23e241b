//! `meshscope rules lint`: what rules do that nobody meant.
//!
//! In: rule files, and on demand a running server (ours or Prometheus) that says what series there are. Out: findings as
//! text or JSON; the exit code is that of the gravest.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Output;
use super::login::Login;
use crate::config::Config;
use crate::rules::lint::{self, Finding, Linted, Options, Seen, Severity};
use crate::units::PromDuration;

/// promtool's exit code for lints.
const LINT_CODE: u8 = 3;
/// How long one question to a server may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Rule files and PrometheusRule objects.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Time between two samples of a series. Default: the longest of --config, else 1m.
    #[arg(long, value_name = "DURATION")]
    scrape_interval: Option<PromDuration>,
    /// How long samples are kept. Default: that of --config, else 400d.
    #[arg(long, value_name = "DURATION")]
    retention: Option<PromDuration>,
    /// The configuration of the service that is to run the rules.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask this server which labels and values there are: meshscope's address, or a Prometheus'.
    #[arg(long, value_name = "URL")]
    live: Option<String>,
    /// How to print findings.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    login: Login,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut options = options(&arguments)?;
    if let Some(url) = &arguments.live {
        options.seen = Some(ask(url.trim_end_matches('/'), &arguments).await?);
    }
    let linted: Vec<Linted> = arguments.files.iter().map(|file| lint::lint_file(file, &options)).collect();
    match arguments.output {
        Output::Json => println!("{:#}", json(&linted)),
        Output::Table => print!("{}", table(&linted)),
    }
    let gravest = linted.iter().flat_map(|one| &one.findings).map(|finding| finding.severity).max();
    let refused = linted.iter().any(|one| !one.problems.is_empty());
    Ok(match gravest {
        _ if refused => ExitCode::FAILURE,
        Some(Severity::Error) => ExitCode::FAILURE,
        Some(Severity::Warning) => ExitCode::from(LINT_CODE),
        Some(Severity::Info) | None => ExitCode::SUCCESS,
    })
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    let mut options = Options::default();
    if let Some(file) = &arguments.config {
        let config = Config::read(file)?;
        if let Some(longest) = config.jobs.iter().map(|job| job.interval).max() {
            options.scrape_interval = longest;
        }
        options.retention = config.store.retention.five_minutes.get();
    }
    if let Some(interval) = arguments.scrape_interval {
        if interval.get().is_zero() {
            bail!("--scrape-interval must be longer than 0");
        }
        options.scrape_interval = interval.get();
    }
    if let Some(retention) = arguments.retention {
        options.retention = retention.get();
    }
    Ok(options)
}

/// What a server knows of the metrics that the files name.
async fn ask(url: &str, arguments: &Arguments) -> anyhow::Result<Seen> {
    let client = arguments.login.client()?;
    let mut seen = Seen::default();
    for (metric, labels) in lint::wanted_of_files(&arguments.files) {
        let matcher = format!("{{__name__={metric:?}}}");
        let list = |path: String| {
            let asked = reqwest::Url::parse_with_params(&format!("{url}/api/v1/{path}"), [("match[]", &matcher)]);
            let client = &client;
            async move {
                let request = client.get(asked.with_context(|| format!("--live {url}"))?);
                let answer = request.timeout(PATIENCE).send().await.with_context(|| format!("ask {url} for {path}"))?;
                let answer: serde_json::Value =
                    answer.json().await.with_context(|| format!("read what {url} answers"))?;
                let Some(list) = answer["data"].as_array().filter(|_| answer["status"] == "success") else {
                    bail!("{url} answers: {}", answer["error"].as_str().unwrap_or("no list of names"));
                };
                Ok(list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect::<Vec<String>>())
            }
        };
        let names = list("labels".to_owned()).await?;
        let asked: Vec<String> = labels.into_iter().filter(|label| names.contains(label)).collect();
        seen.add(&metric, names);
        for label in asked {
            let values = list(format!("label/{label}/values")).await?;
            seen.add_values(&metric, &label, values);
        }
    }
    Ok(seen)
}

fn json(linted: &[Linted]) -> serde_json::Value {
    let findings = linted.iter().flat_map(|one| &one.findings).map(|finding| {
        let Finding { code, severity, file, line, group, rule, message, fix } = finding;
        let mut object = serde_json::json!({
            "code": code, "severity": severity.as_str(), "file": file, "line": line, "group": group, "rule": rule,
            "message": message,
        });
        if let Some(fix) = fix {
            object["fix"] = fix.as_str().into();
        }
        object
    });
    let problems = linted.iter().flat_map(|one| &one.problems).map(ToString::to_string);
    serde_json::json!({
        "rules": linted.iter().map(|one| one.rules).sum::<usize>(),
        "findings": findings.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
    })
}

fn table(linted: &[Linted]) -> String {
    let mut text = String::new();
    for one in linted {
        one.problems.iter().for_each(|problem| text.push_str(&format!("{problem}\n")));
        one.findings.iter().for_each(|finding| text.push_str(&format!("{finding}\n")));
    }
    let count = |severity: Severity| {
        linted.iter().flat_map(|one| &one.findings).filter(|finding| finding.severity == severity).count()
    };
    let rules: usize = linted.iter().map(|one| one.rules).sum();
    let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Info].map(count);
    text.push_str(&format!("{rules} rules: {errors} errors, {warnings} warnings, {notes} notes\n"));
    text
}
