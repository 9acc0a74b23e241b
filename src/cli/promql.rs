//! `meshscope promql`: ask a running server, or test the query engine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::Output;
use super::login::Login;
use crate::promql::testlang::run_script;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Evaluate an expression at one time.
    Query {
        #[command(flatten)]
        server: Server,
        /// The expression.
        expr: String,
        /// When: seconds since 1970 or RFC 3339. Default: now.
        #[arg(long)]
        time: Option<String>,
    },
    /// Evaluate an expression over a range of time.
    QueryRange {
        #[command(flatten)]
        server: Server,
        /// The expression.
        expr: String,
        /// Start: seconds since 1970 or RFC 3339.
        #[arg(long)]
        start: String,
        /// End: seconds since 1970 or RFC 3339.
        #[arg(long)]
        end: String,
        /// Distance of the points: seconds or `15s`.
        #[arg(long, default_value = "60s")]
        step: String,
    },
    /// Run scripts in the language of Prometheus' engine tests.
    Test {
        /// The scripts.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:7070", env = "MESHSCOPE_URL")]
    url: String,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    login: Login,
}

pub(super) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Query { server, expr, time } => {
            let mut form = vec![("query", expr)];
            form.extend(time.map(|time| ("time", time)));
            server.ask("query", &form).await
        }
        Command::QueryRange { server, expr, start, end, step } => {
            server.ask("query_range", &[("query", expr), ("start", start), ("end", end), ("step", step)]).await
        }
        Command::Test { files } => test(&files),
    }
}

impl Server {
    async fn ask(&self, endpoint: &str, form: &[(&str, String)]) -> anyhow::Result<ExitCode> {
        let url = format!("{}/api/v1/{endpoint}", self.url.trim_end_matches('/'));
        let client = self.login.client()?;
        let answer = client.post(&url).form(form).send().await.with_context(|| format!("ask {url}"))?;
        let status = answer.status();
        anyhow::ensure!(
            status != 401 && status != 403,
            "{url} answers {status}: see --token-file, --user and --password-file"
        );
        let answer: serde_json::Value = answer.json().await.with_context(|| format!("read the answer of {url}"))?;
        if answer["status"] != "success" {
            eprintln!(
                "{}: {}",
                answer["errorType"].as_str().unwrap_or("error"),
                answer["error"].as_str().unwrap_or("")
            );
            return Ok(ExitCode::FAILURE);
        }
        match self.output {
            Output::Json => println!("{:#}", answer["data"]),
            Output::Table => print!("{}", table(&answer["data"])),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One line for each sample, as promtool prints them.
fn table(data: &serde_json::Value) -> String {
    let point = |point: &serde_json::Value| format!("{} @[{}]", point[1].as_str().unwrap_or_default(), point[0]);
    let Some(series) =
        data["result"].as_array().filter(|_| ["vector", "matrix"].contains(&data["resultType"].as_str().unwrap_or("")))
    else {
        return format!("{}\n", point(&data["result"]));
    };
    let mut text = String::new();
    for one in series {
        let labels: crate::model::Labels = (one["metric"].as_object().into_iter().flatten())
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
            .collect();
        match one["values"].as_array() {
            None => text.push_str(&format!("{labels} => {}\n", point(&one["value"]))),
            Some(points) => {
                text.push_str(&format!("{labels} =>\n"));
                points.iter().for_each(|p| text.push_str(&format!("{}\n", point(p))));
            }
        }
    }
    text
}

fn test(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let report = run_script(&file.display().to_string(), &text);
        for failure in &report.failed {
            println!(
                "{}:{}\n  expected {}\n  got      {}",
                file.display(),
                failure.line,
                failure.expected,
                failure.got
            );
        }
        passed += report.passed;
        failed += report.failed.len();
        skipped += report.skipped;
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
