//! `meshscope rules export`: rules for other Prometheus servers.
//!
//! In: a rule file, or a configuration with its rule files and objectives. Out: a rule file or a PrometheusRule object.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::config::Config;
use crate::{dashboards, slo};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A rule file to be wrapped as it stands. Default: all rules of the configuration, those of its objectives included.
    file: Option<PathBuf>,
    /// The configuration.
    #[arg(long, short, value_name = "FILE", default_value = "meshscope.yaml", env = "MESHSCOPE_CONFIG")]
    config: PathBuf,
    /// Only the rules of objectives (`slos`).
    #[arg(long, conflicts_with = "file")]
    slo_only: bool,
    /// What to print.
    #[arg(long, short, value_enum, default_value = "prometheusrule")]
    output: Form,
    /// Name of the object. Default: the name of the file.
    #[arg(long)]
    name: Option<String>,
    /// Namespace of the object.
    #[arg(long)]
    namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// An object of the Prometheus operator.
    Prometheusrule,
    /// A plain rule file.
    Rules,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { file, config, slo_only, output, name, namespace } = arguments;
    let (text, source) = match &file {
        Some(file) => (std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?, file),
        None => (of_configuration(&config, slo_only)?, &config),
    };
    match output {
        Form::Rules => print!("{text}"),
        Form::Prometheusrule => {
            let stem = source.file_stem().unwrap_or_default().to_string_lossy().replace(['_', '.'], "-");
            let name = name.unwrap_or_else(|| if slo_only { format!("{stem}-slos") } else { stem });
            print!("{}", dashboards::prometheus_rule(&name, namespace.as_deref(), &text)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn of_configuration(file: &std::path::Path, slo_only: bool) -> anyhow::Result<String> {
    let config = Config::read(file)?;
    config.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if slo_only && config.slos.is_empty() {
        bail!("{} holds no `slos`", file.display());
    }
    let rules = config.rule_loader("")();
    if !slo_only && !rules.problems.is_empty() {
        let problems: Vec<String> = rules.problems.iter().map(ToString::to_string).collect();
        bail!("these rule files are refused, so not all rules can be exported:\n{}", problems.join("\n"));
    }
    let groups: Vec<_> = rules.groups.iter().filter(|group| !slo_only || group.file == slo::FILE).collect();
    if groups.is_empty() {
        bail!("{} holds no rules", file.display());
    }
    Ok(slo::export(groups.into_iter().map(std::convert::AsRef::as_ref)))
}
