//! The command line: one file per command.

/// As in `std`, but what cannot be written ends the command without a panic: see [`write_out`].
macro_rules! print {
    ($($part:tt)*) => { $crate::cli::write_out(format_args!($($part)*)) };
}
/// As in `std`, but what cannot be written ends the command without a panic: see [`write_out`].
macro_rules! println {
    ($($part:tt)*) => { $crate::cli::write_out(format_args!("{}\n", format_args!($($part)*))) };
}

mod check_config;
mod dashboards;
mod demo;
mod doctor;
mod export;
mod import;
mod lint;
mod login;
mod mesh;
mod migrate;
mod promql;
mod rules;
mod serve;

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::telemetry::LogFormat;

/// Watches a service mesh: scrapes Istio and Linkerd proxies, takes OTLP spans, evaluates Prometheus rules, tells
/// webhooks, and draws the service graph.
#[derive(Debug, Parser)]
#[command(name = "meshscope", version, max_term_width = 110)]
pub struct Arguments {
    /// How log lines are written.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(serve::Arguments),
    /// Run the service on a simulated mesh, to look around.
    Demo(demo::Arguments),
    /// Check a configuration file and the rule files it names.
    CheckConfig(check_config::Arguments),
    /// Work with alerting and recording rules.
    #[command(subcommand)]
    Rules(rules::Command),
    /// Ask a running server, or test the query engine.
    #[command(subcommand)]
    Promql(promql::Command),
    /// Load history from OpenMetrics files into a running server.
    Import(import::Arguments),
    /// Work with the Grafana dashboards that meshscope generates.
    #[command(subcommand)]
    Dashboards(dashboards::Command),
    /// Check what is declared for a mesh.
    #[command(subcommand)]
    Mesh(mesh::Command),
    /// Say what is wrong with a running server, its database and its machine, and gather a bundle without secrets.
    Doctor(Box<doctor::Arguments>),
    /// Bring the database schema up to date, and exit.
    Migrate(migrate::Arguments),
}

/// What a shell says of a program that SIGPIPE ended.
const PIPE_ENDED: i32 = 128 + 13;

/// Writes to standard output. A reader that went away (`meshscope rules test … | head`) ends the command quietly, as it ends
/// other tools; Rust's runtime ignores the signal that does it elsewhere.
fn write_out(text: fmt::Arguments<'_>) {
    let written = std::io::stdout().write_fmt(text);
    let Err(error) = written else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(PIPE_ENDED);
    }
    eprintln!("meshscope: write to standard output: {error}");
    std::process::exit(1);
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Arguments {
    /// Runs the command. What a command finds wrong is its exit code; an error is a command that could not run.
    ///
    /// # Errors
    /// When the command could not do its work: a file missing, a port taken, a server away.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(arguments) => serve::run(arguments, self.log_format).await,
            Command::Demo(arguments) => demo::run(arguments, self.log_format).await,
            Command::CheckConfig(arguments) => check_config::run(&arguments),
            Command::Rules(command) => rules::run(command).await,
            Command::Promql(command) => promql::run(command).await,
            Command::Import(arguments) => import::run(arguments).await,
            Command::Dashboards(command) => dashboards::run(&command),
            Command::Mesh(command) => mesh::run(command).await,
            Command::Doctor(arguments) => doctor::run(*arguments).await,
            Command::Migrate(arguments) => migrate::run(&arguments).await,
        }
    }
}
