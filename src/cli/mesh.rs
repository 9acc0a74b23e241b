//! `meshscope mesh`: checks what is declared for a mesh.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::audit::{self, Colour, Options, Report};
use crate::mesh;
use crate::model::Severity;

/// Exit code when the gravest finding is a warning.
const WARNINGS: u8 = 3;
/// Exit code when the gravest finding is a note, and notes fail.
const NOTES: u8 = 4;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Find what declared objects break, lose or leave open.
    ///
    /// Exit code: 0 when nothing is as grave as --fail-on, else by the gravest finding: 1 for errors and documents that
    /// cannot be read, 3 for warnings, 4 for notes. 2: the command line or a file of suppressions is wrong.
    Audit(Box<Audit>),
}

#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    /// Files, folders, or - for standard input: YAML or JSON.
    #[arg(required_unless_present = "explain", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Namespace of the control plane, whose objects hold for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    /// How to print findings.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// Least gravity that makes the command fail.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "warning")]
    fail_on: Gravity,
    /// Least gravity that is told.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "info")]
    min_severity: Gravity,
    /// Tell only findings of these codes: MS0101, or MS02* for a group.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    only: Vec<String>,
    /// File of findings that nobody wants to hear of: a YAML list of code, subject and reason.
    #[arg(long, value_name = "FILE")]
    suppress: Vec<PathBuf>,
    /// Say what a code means, with a bad and a good example, and exit.
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people; coloured on a terminal.
    Table,
    /// For programs.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for CI systems.
    Junit,
}

/// A gravity, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Gravity {
    /// Worth knowing.
    Info,
    /// Probably wrong.
    Warning,
    /// Wrong.
    Error,
}

impl From<Gravity> for Severity {
    fn from(gravity: Gravity) -> Self {
        match gravity {
            Gravity::Info => Self::Info,
            Gravity::Warning => Self::Warning,
            Gravity::Error => Self::Error,
        }
    }
}

pub(super) fn run(command: Command) -> ExitCode {
    let Command::Audit(arguments) = command;
    match audit(*arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn audit(arguments: Audit) -> anyhow::Result<ExitCode> {
    let Audit { paths, namespace, root_namespace, output, fail_on, min_severity, only, suppress, explain } = arguments;
    if let Some(code) = explain {
        let Some(text) = audit::explain(&code) else { bail!("there is no check {code}; docs/audit.md lists them all") };
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut suppressions = Vec::new();
    for file in &suppress {
        suppressions.extend(suppressions_of(file)?);
    }
    let options = Options { root_namespace, suppressions, ..Options::default() };
    let mut report = audit::audit(&mesh::read_paths(&paths, &namespace), &options);
    report.keep(min_severity.into(), &only);
    show(&report, output);
    Ok(match report.gravest().filter(|gravest| *gravest >= fail_on.into()) {
        Some(Severity::Error) => ExitCode::FAILURE,
        Some(Severity::Warning) => ExitCode::from(WARNINGS),
        Some(Severity::Info) => ExitCode::from(NOTES),
        None => ExitCode::SUCCESS,
    })
}

fn suppressions_of(file: &Path) -> anyhow::Result<Vec<audit::Suppression>> {
    let text = fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    match audit::Config::parse(&text) {
        Ok(config) => Ok(config.suppress.iter().map(Into::into).collect()),
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(|one| format!("{}:{one}", file.display())).collect();
            bail!("{}", lines.join("\n"))
        }
    }
}

fn show(report: &Report, output: Format) {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match output {
        Format::Table => print!("{}", report.table(if colour { Colour::On } else { Colour::Off })),
        Format::Json => println!("{:#}", report.json()),
        Format::Sarif => println!("{:#}", report.sarif()),
        Format::Junit => print!("{}", report.junit()),
    }
}
