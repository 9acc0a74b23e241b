//! `meshscope serve`: the service itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::config::Config;
use crate::telemetry::{LogFormat, Telemetry};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "meshscope.yaml", env = "MESHSCOPE_CONFIG")]
    config: PathBuf,
    /// Host name or address under which the other replicas reach this one, when `replica.host` does not say.
    #[arg(long, value_name = "HOST", env = "MESHSCOPE_REPLICA_HOST")]
    replica_host: Option<String>,
}

pub(super) async fn run(arguments: Arguments, format: LogFormat) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        arguments.config.exists(),
        "there is no configuration file {}: write one, name another with --config, or look around with `meshscope demo`",
        arguments.config.display()
    );
    let mut config = Config::read(&arguments.config)?;
    config.replica.host = config.replica.host.or(arguments.replica_host.filter(|host| !host.is_empty()));
    serve(config, &arguments.config, format, || {}).await
}

/// Runs the service until it is told to stop, or a part of it ends. `ready` is called once everything answers.
pub(super) async fn serve(
    config: Config,
    file: &Path,
    format: LogFormat,
    ready: impl FnOnce(),
) -> anyhow::Result<ExitCode> {
    let telemetry = Telemetry::start(format, "meshscope=info,warn", &config.telemetry)?;
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let built = app::build(config, Some(file.to_owned())).await.context("cannot start");
    let outcome = match built {
        Ok(app) => {
            ready();
            app.run(shutdown).await
        }
        Err(error) => Err(error),
    };
    telemetry.shutdown().await;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// The first SIGINT or SIGTERM asks for a clean end; a second one ends at once.
fn stop_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if shutdown.is_cancelled() {
                eprintln!("meshscope: stopped at once");
                std::process::exit(130);
            }
            tracing::info!("stopping: a second signal stops at once");
            shutdown.cancel();
        }
    });
    Ok(())
}
