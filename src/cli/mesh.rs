//! `meshscope mesh`: checks what is declared for a mesh.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::Output;
use crate::audit::{self, Options};
use crate::kubernetes::{Client, ClusterConfig};
use crate::mesh::{self, FromCluster};
use crate::model::Severity;

/// Exit code when the gravest finding is a warning.
const WARNINGS: u8 = 3;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Find what declared objects break, lose or leave open.
    ///
    /// Exit code: 0 when there are at most notes, 3 for warnings, 1 for errors and objects that cannot be read.
    Audit {
        /// Files, folders, or - for standard input: YAML or JSON.
        #[arg(required_unless_present = "cluster", conflicts_with = "cluster", value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Instead of files: the objects of a running cluster, by kubeconfig or, inside a pod, by its account.
        #[arg(long)]
        cluster: bool,
        /// The kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config where it is there.
        #[arg(long, value_name = "FILE", requires = "cluster")]
        kubeconfig: Option<PathBuf>,
        /// The context of the kubeconfig file. Default: its current one.
        #[arg(long, value_name = "NAME", requires = "cluster")]
        context: Option<String>,
        /// Namespace of objects that name none.
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Namespace of the control plane, whose objects hold for the whole mesh.
        #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
        root_namespace: String,
        /// How to print findings.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
}

pub(super) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let Command::Audit { paths, cluster, kubeconfig, context, namespace, root_namespace, output } = command;
    let snapshot = match cluster {
        true => declared(kubeconfig, context).await?,
        false => mesh::read_paths(&paths, &namespace),
    };
    let report = audit::audit(&snapshot, &Options { root_namespace, ..Options::default() });
    match output {
        Output::Table => print!("{}", report.table()),
        Output::Json => println!("{:#}", report.json()),
    }
    Ok(match report.gravest() {
        Some(Severity::Error) => ExitCode::FAILURE,
        Some(Severity::Warning) => ExitCode::from(WARNINGS),
        Some(Severity::Info) | None => ExitCode::SUCCESS,
    })
}

/// What the cluster declares; what of it we may not see is told beside the findings.
async fn declared(kubeconfig: Option<PathBuf>, context: Option<String>) -> anyhow::Result<mesh::Snapshot> {
    let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = || std::env::home_dir().map(|home| home.join(".kube/config")).filter(|file| file.exists());
    let is_in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let kubeconfig_file = kubeconfig.or(named).or_else(|| if is_in_pod { None } else { usual() });
    let client = Client::new(ClusterConfig { kubeconfig_file, context, ..ClusterConfig::default() });
    let FromCluster { snapshot, not_served, forbidden } =
        mesh::read_cluster(&client).await.context("read the cluster")?;
    if !not_served.is_empty() {
        eprintln!("note: the cluster does not serve {}", not_served.join(", "));
    }
    forbidden.iter().for_each(|missing| eprintln!("warning: {missing}"));
    Ok(snapshot)
}
