//! `meshscope dashboards`: writes the generated Grafana dashboards.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::dashboards::{Export, File, Format, export};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write every dashboard.
    Export {
        /// The folder to write to.
        #[arg(long, value_name = "FOLDER", default_value = "dashboards")]
        out: PathBuf,
        /// The form; give it twice for both. Default: both.
        #[arg(long, value_enum, default_values = ["json", "configmap"])]
        format: Vec<FormatArgument>,
        /// Name of the data source that is chosen at first.
        #[arg(long)]
        datasource: Option<String>,
        /// Namespace of the ConfigMaps.
        #[arg(long)]
        namespace: Option<String>,
        /// Let the heavy panels read the series that alerts/recording.yaml records.
        #[arg(long)]
        recording_rules: bool,
        /// Write nothing; fail when the files in the folder differ from what would be written.
        #[arg(long)]
        check: bool,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum FormatArgument {
    /// Grafana JSON, one file for each dashboard.
    Json,
    /// A Kubernetes ConfigMap for each dashboard, as Grafana's sidecar picks them up.
    Configmap,
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Export { out, format, datasource, namespace, recording_rules, check } = command;
    let mut files = Vec::new();
    for format in format {
        let format = match format {
            FormatArgument::Json => Format::Json,
            FormatArgument::Configmap => Format::ConfigMap,
        };
        files.extend(export(&Export {
            format,
            datasource: datasource.clone(),
            namespace: namespace.clone(),
            recording_rules: *recording_rules,
        })?);
    }
    if *check {
        return Ok(compare(&files, out));
    }
    std::fs::create_dir_all(out).with_context(|| format!("make the folder {}", out.display()))?;
    for file in &files {
        let path = out.join(&file.path);
        // Written beside and renamed, so that nothing half written is left behind.
        let beside = path.with_extension("part");
        std::fs::write(&beside, &file.contents).with_context(|| format!("write {}", beside.display()))?;
        std::fs::rename(&beside, &path).with_context(|| format!("write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(files: &[File], folder: &Path) -> ExitCode {
    let stale: Vec<&File> = (files.iter())
        .filter(|file| std::fs::read_to_string(folder.join(&file.path)).ok().as_ref() != Some(&file.contents))
        .collect();
    for file in &stale {
        eprintln!("{} is stale: run `meshscope dashboards export`", folder.join(&file.path).display());
    }
    if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
