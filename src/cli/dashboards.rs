//! `meshscope dashboards`: writes the generated Grafana dashboards.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::dashboards::{Addresses, Export, File, Format, Mesh, Source, export};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write every dashboard.
    Export(Box<Arguments>),
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder to write to.
    #[arg(long, value_name = "FOLDER", default_value = "dashboards")]
    out: PathBuf,
    /// The form; may be given several times. Default: json and configmap.
    #[arg(long, value_enum, default_values = ["json", "configmap"])]
    format: Vec<FormatArgument>,
    /// Who answers the queries: chooses that data source at first, and leaves out boards that it has nothing for.
    /// Default: all boards, with Grafana's default Prometheus chosen.
    #[arg(long, value_enum)]
    datasource: Option<SourceArgument>,
    /// Name or uid of the data source that is chosen at first, when it is called otherwise.
    #[arg(long, value_name = "NAME")]
    datasource_name: Option<String>,
    /// Only the boards that concern this mesh, with the reporters it has. Default: all.
    #[arg(long, value_enum)]
    mesh: Option<MeshArgument>,
    /// Grafana's folder for the boards.
    #[arg(long, value_name = "NAME")]
    folder: Option<String>,
    /// Namespace of the Kubernetes objects.
    #[arg(long)]
    namespace: Option<String>,
    /// Let the heavy panels read the series that alerts/recording.yaml records.
    #[arg(long)]
    recording_rules: bool,
    /// Address of meshscope as Grafana reaches it, for data sources and links. Default: http://meshscope:7070.
    #[arg(long, value_name = "URL")]
    meshscope_url: Option<String>,
    /// PostgreSQL as Grafana reaches it, for the data source of the SQL views. Default: postgres:5432.
    #[arg(long, value_name = "HOST:PORT")]
    sql_address: Option<String>,
    /// Its database. Default: meshscope.
    #[arg(long, value_name = "NAME")]
    sql_database: Option<String>,
    /// The role that `meshscope migrate --grant-readonly` made. Default: grafana.
    #[arg(long, value_name = "NAME")]
    sql_role: Option<String>,
    /// Write nothing; fail when the files in the folder differ from what would be written.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum FormatArgument {
    /// Grafana JSON, one file for each dashboard.
    Json,
    /// A Kubernetes ConfigMap for each dashboard, as Grafana's sidecar picks them up.
    Configmap,
    /// What lies in Grafana's folder `provisioning`: dashboards, and the data sources that meshscope answers.
    Provisioning,
    /// GrafanaDashboard and GrafanaDatasource objects of the Grafana operator.
    Operator,
}

impl From<FormatArgument> for Format {
    fn from(format: FormatArgument) -> Self {
        match format {
            FormatArgument::Json => Self::Json,
            FormatArgument::Configmap => Self::ConfigMap,
            FormatArgument::Provisioning => Self::Provisioning,
            FormatArgument::Operator => Self::Operator,
        }
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum SourceArgument {
    /// meshscope.
    Meshscope,
    /// A Prometheus that scrapes the mesh; boards that only meshscope can fill are left out, and links to its pages.
    Prometheus,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum MeshArgument {
    /// Istio with sidecars.
    Istio,
    /// Istio's ambient mode.
    Ambient,
    /// Linkerd.
    Linkerd,
}

impl Arguments {
    fn addresses(&self) -> Option<Addresses> {
        let usual = Addresses::default();
        let given = [&self.meshscope_url, &self.sql_address, &self.sql_database, &self.sql_role];
        given.into_iter().any(Option::is_some).then(|| Addresses {
            meshscope: self.meshscope_url.clone().unwrap_or(usual.meshscope),
            sql: self.sql_address.clone().unwrap_or(usual.sql),
            database: self.sql_database.clone().unwrap_or(usual.database),
            role: self.sql_role.clone().unwrap_or(usual.role),
        })
    }

    fn export(&self, format: Format) -> Export {
        Export {
            format,
            source: self.datasource.map(|source| match source {
                SourceArgument::Meshscope => Source::Meshscope,
                SourceArgument::Prometheus => Source::Prometheus,
            }),
            datasource: self.datasource_name.clone(),
            mesh: self.mesh.map(|mesh| match mesh {
                MeshArgument::Istio => Mesh::Istio,
                MeshArgument::Ambient => Mesh::Ambient,
                MeshArgument::Linkerd => Mesh::Linkerd,
            }),
            folder: self.folder.clone(),
            namespace: self.namespace.clone(),
            recording_rules: self.recording_rules,
            addresses: self.addresses(),
        }
    }
}

pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Export(arguments) = command;
    let mut files: Vec<File> = Vec::new();
    for format in &arguments.format {
        let more = export(&arguments.export((*format).into()))?;
        // A format may be given twice.
        files.extend(
            more.into_iter().filter(|file| !files.iter().any(|other| other.path == file.path)).collect::<Vec<_>>(),
        );
    }
    if arguments.check {
        return Ok(compare(&files, &arguments.out));
    }
    write(&files, &arguments.out)?;
    files.iter().for_each(|file| println!("{}", arguments.out.join(&file.path).display()));
    Ok(ExitCode::SUCCESS)
}

/// Writes all files beside their places first and only then renames them, so that what cannot be written leaves the folder
/// as it was.
fn write(files: &[File], folder: &Path) -> anyhow::Result<()> {
    let mut made = Made::default();
    let outcome = prepare(files, folder, &mut made).and_then(|()| {
        for (beside, path) in &made.files {
            std::fs::rename(beside, path).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    });
    if outcome.is_err() {
        made.undo();
    }
    outcome
}

/// What was made so far.
#[derive(Default)]
struct Made {
    folders: Vec<PathBuf>,
    /// The file beside, and its place.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Made {
    /// Removes what is not in its place yet, and folders that are empty again. What cannot be removed is not worth a second
    /// error.
    fn undo(&self) {
        self.files.iter().for_each(|(beside, _)| drop(std::fs::remove_file(beside)));
        self.folders.iter().rev().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
}

fn prepare(files: &[File], folder: &Path, made: &mut Made) -> anyhow::Result<()> {
    for file in files {
        let path = folder.join(&file.path);
        if path.is_dir() {
            bail!("write {}: it is a folder", path.display());
        }
        let above = path.parent().unwrap_or(folder);
        let missing: Vec<&Path> =
            above.ancestors().take_while(|one| !one.as_os_str().is_empty() && !one.exists()).collect();
        for one in missing.into_iter().rev() {
            std::fs::create_dir(one).with_context(|| format!("make the folder {}", one.display()))?;
            made.folders.push(one.to_owned());
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let beside = path.with_file_name(name);
        made.files.push((beside.clone(), path));
        std::fs::write(&beside, &file.contents).with_context(|| format!("write {}", beside.display()))?;
    }
    Ok(())
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
