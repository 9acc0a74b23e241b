//! `meshscope rules`: check, lint and test rule files, and wrap them for Kubernetes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::{export, lint};
use crate::rules;

/// promtool's exit code for lints that were to be fatal.
const LINT_FATAL: u8 = 3;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check rule files and PrometheusRule objects, as `promtool check rules`.
    Check {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Fail for lints too (exit code 3).
        #[arg(long)]
        lint_fatal: bool,
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
    },
    /// Print rules for other Prometheus servers: a rule file, or all of the configuration and its objectives.
    Export(export::Arguments),
}

pub(super) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check { files, lint_fatal } => {
            let report = rules::check(&files);
            print!("{report}");
            Ok(match (report.has_faults(), report.has_lints() && lint_fatal) {
                (true, _) => ExitCode::FAILURE,
                (false, true) => ExitCode::from(LINT_FATAL),
                (false, false) => ExitCode::SUCCESS,
            })
        }
        Command::Lint(arguments) => lint::run(arguments).await,
        Command::Test { files, run, diff: _ } => {
            let only = (!run.is_empty()).then(|| regex::Regex::new(&run.join("|"))).transpose().context("--run")?;
            let report = rules::unittest::run_matching(&files, only.as_ref()).await;
            print!("{report}");
            Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Export(arguments) => export::run(arguments),
    }
}
