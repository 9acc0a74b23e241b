//! `meshscope rules`: check, lint and test rule files, and wrap them for Kubernetes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::{export, lint};
use crate::{promql, rules};

/// promtool's exit code for lints that were to be fatal.
const LINT_FATAL: u8 = 3;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check rule files and PrometheusRule objects, as `promtool check rules`.
    Check {
        /// The files. Default: the standard input.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// What to look for beside faults: all, duplicate-rules or none, separated by commas.
        #[arg(long, value_name = "LINTS", default_value = "duplicate-rules")]
        lint: String,
        /// Fail for lints too (exit code 3).
        #[arg(long)]
        lint_fatal: bool,
        #[command(flatten)]
        reading: Reading,
    },
    /// Find what rules do that nobody meant: alerts that fire forever or never, calls counted twice, and more.
    ///
    /// Exit code: 0 when there are at most notes, 3 for warnings, 1 for errors and files that cannot be read.
    Lint(lint::Arguments),
    /// Run unit tests of rules, as `promtool test rules`.
    Test {
        /// The test files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Only the tests whose name matches this expression; may be given more than once.
        #[arg(long, value_name = "REGEX")]
        run: Vec<String>,
        /// As promtool's flag of this name; differences are always shown.
        #[arg(long)]
        diff: bool,
        /// Tell how long each test took, and all series at its end.
        #[arg(long)]
        debug: bool,
        /// Write the results as JUnit XML to this file.
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        #[command(flatten)]
        reading: Reading,
    },
    /// Print rules for other Prometheus servers: a rule file, or all of the configuration and its objectives.
    Export(export::Arguments),
}

/// How rule files are read.
#[derive(Debug, clap::Args)]
pub(super) struct Reading {
    /// Take fields that nobody knows for remarks.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Parts of the language to enable, separated by commas: promql-experimental-functions, promql-duration-expr.
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    enable_feature: Vec<String>,
}

impl Reading {
    /// As promtool, which says of an unknown feature that it is one and goes on.
    fn features(&self) -> promql::Features {
        let mut features = promql::Features::default();
        for name in &self.enable_feature {
            match name.as_str() {
                "promql-experimental-functions" => features.experimental_functions = true,
                "promql-duration-expr" => features.duration_expressions = true,
                _ => eprintln!("WARNING: unknown feature: {name:?}"),
            }
        }
        features
    }
}

pub(super) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check { files, lint, lint_fatal, reading } => {
            let read = rules::ReadOptions {
                features: reading.features(),
                ignore_unknown_fields: reading.ignore_unknown_fields,
                ..rules::ReadOptions::default()
            };
            let report = check(&files, rules::CheckOptions { read, duplicates: wants_duplicates(&lint) })?;
            print!("{report}");
            Ok(match (report.has_faults(), report.has_lints() && lint_fatal) {
                (true, _) => ExitCode::FAILURE,
                (false, true) => ExitCode::from(LINT_FATAL),
                (false, false) => ExitCode::SUCCESS,
            })
        }
        Command::Lint(arguments) => lint::run(arguments).await,
        Command::Test { files, run, diff: _, debug, junit, reading } => {
            let options = rules::unittest::TestOptions {
                only: (!run.is_empty()).then(|| regex::Regex::new(&run.join("|"))).transpose().context("--run")?,
                features: reading.features(),
                ignore_unknown_fields: reading.ignore_unknown_fields,
                debug,
            };
            let report = rules::unittest::run_with(&files, &options).await;
            print!("{report}");
            if let Some(path) = junit {
                std::fs::write(&path, report.junit()).with_context(|| format!("write {}", path.display()))?;
            }
            Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Export(arguments) => export::run(arguments),
    }
}

/// Whether rules given twice are to be found. What is no lint is named and passed over, as promtool does.
fn wants_duplicates(lints: &str) -> bool {
    let mut wanted = false;
    for lint in lints.split(',') {
        match lint {
            "all" | "duplicate-rules" => wanted = true,
            "none" => {}
            _ => println!("WARNING: unknown lint option: {lint:?}"),
        }
    }
    wanted
}

fn check(files: &[PathBuf], options: rules::CheckOptions) -> anyhow::Result<rules::CheckReport> {
    if !files.is_empty() {
        return Ok(rules::check(files, options));
    }
    let text = std::io::read_to_string(std::io::stdin()).context("read the standard input")?;
    Ok(rules::CheckReport { files: vec![rules::check::check_text("standard input", &text, options)] })
}
