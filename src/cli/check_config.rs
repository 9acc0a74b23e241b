//! `meshscope check-config`: reads a configuration and its rule files as the service would, and says what is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the configuration as it is read, secrets replaced and comments gone.
    #[arg(long)]
    print: bool,
    /// Print only `scrape_configs`, with the jobs that `mesh.discover` stands for, as Prometheus reads them.
    #[arg(long, conflicts_with = "print")]
    expand: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match Config::read(&arguments.file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    config.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let rules = config.rule_loader("")();
    rules.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    rules.problems.iter().for_each(|problem| eprintln!("{problem}"));
    if arguments.print {
        print!("{}", config.redacted);
    }
    if arguments.expand {
        print!("{}", config.expanded());
        return Ok(if rules.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if !rules.problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let rule_count: usize = rules.groups.iter().map(|group| group.rules.len()).sum();
    println!("{}: valid; {} scrape jobs, {rule_count} rules", arguments.file.display(), config.jobs.len());
    Ok(ExitCode::SUCCESS)
}
