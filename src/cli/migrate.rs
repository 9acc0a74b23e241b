//! `meshscope migrate`: brings the database schema up to date, and lets a role read the views.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Config;
use crate::store::{Granted, Store, why_no_role};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file; without it `DATABASE_URL` or the private server.
    #[arg(long, short, value_name = "FILE", env = "MESHSCOPE_CONFIG")]
    config: Option<PathBuf>,
    /// Then let this role read the views of docs/sql.md and nothing else: for Grafana. Makes the role when it is not there.
    #[arg(long, value_name = "NAME", value_parser = role)]
    grant_readonly: Option<String>,
}

fn role(name: &str) -> Result<String, String> {
    match why_no_role(name) {
        Some(reason) => Err(format!("no role can be called so: {reason}")),
        None => Ok(name.to_owned()),
    }
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match &arguments.config {
        Some(file) => Config::read(file)?,
        None => Config::parse("", None)?,
    };
    let store = Store::connect(&config.store).await?;
    println!("{}: the schema is up to date", store.place());
    let granted = match &arguments.grant_readonly {
        Some(name) => store.grant_readonly(name).await.map(|granted| tell(name, &granted)),
        None => Ok(()),
    };
    store.close().await;
    granted?;
    Ok(ExitCode::SUCCESS)
}

fn tell(name: &str, Granted { created, also_reads }: &Granted) {
    println!("the role {name} may read the views of docs/sql.md");
    if *created {
        println!("it is new and has no password: set one with \\password in psql, or let pg_hba.conf trust it");
    }
    if !also_reads.is_empty() {
        eprintln!("warning: by other grants the role {name} may also read {}", also_reads.join(", "));
    }
}
