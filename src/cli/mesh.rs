//! `meshscope mesh`: checks what is declared for a mesh.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Output;
use crate::audit::{self, Options};
use crate::mesh;
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
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
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

pub(super) fn run(command: Command) -> ExitCode {
    let Command::Audit { paths, namespace, root_namespace, output } = command;
    let report = audit::audit(&mesh::read_paths(&paths, &namespace), &Options { root_namespace, ..Options::default() });
    match output {
        Output::Table => print!("{}", report.table()),
        Output::Json => println!("{:#}", report.json()),
    }
    match report.gravest() {
        Some(Severity::Error) => ExitCode::FAILURE,
        Some(Severity::Warning) => ExitCode::from(WARNINGS),
        Some(Severity::Info) | None => ExitCode::SUCCESS,
    }
}
