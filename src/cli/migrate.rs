//! `meshscope migrate`: brings the database schema up to date.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Config;
use crate::store::Store;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file; without it `DATABASE_URL` or the private server.
    #[arg(long, short, value_name = "FILE", env = "MESHSCOPE_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match &arguments.config {
        Some(file) => Config::read(file)?,
        None => Config::parse("", None)?,
    };
    let store = Store::connect(&config.store).await?;
    println!("{}: the schema is up to date", store.place());
    store.close().await;
    Ok(ExitCode::SUCCESS)
}
