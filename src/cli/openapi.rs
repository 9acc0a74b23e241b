//! `meshscope openapi`: writes the OpenAPI document of our own API, as `/api/mesh/v1/openapi.json` answers it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file to write; standard output unless told.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write nothing; fail when the file differs from what would be written.
    #[arg(long, requires = "out")]
    check: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let document = crate::api::openapi();
    let Some(path) = &arguments.out else {
        print!("{document}");
        return Ok(ExitCode::SUCCESS);
    };
    if arguments.check {
        let former = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        if former == document {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("{0} is stale: run `meshscope openapi --out {0}`", path.display());
        return Ok(ExitCode::FAILURE);
    }
    std::fs::write(path, document).with_context(|| format!("write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}
