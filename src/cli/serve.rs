//! `meshscope serve`: the service itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::app;
use crate::config::Config;
use crate::discovery::Shard;
use crate::telemetry::{LogFormat, Telemetry};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "meshscope.yaml", env = "MESHSCOPE_CONFIG")]
    config: PathBuf,
    /// Host name or address under which the other replicas reach this one, when `replica.host` does not say.
    #[arg(long, value_name = "HOST", env = "MESHSCOPE_REPLICA_HOST")]
    replica_host: Option<String>,
    /// Scrape a share of the targets only: 0/3, 1/3, 2/3. The processes of 0/3 do all else as well; those of the other
    /// shares send them what they scrape (`shard.url`).
    #[arg(long, value_name = "INDEX/COUNT", env = "MESHSCOPE_SHARD")]
    shard: Option<Shard>,
}

pub(super) async fn run(arguments: Arguments, format: LogFormat) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        arguments.config.exists(),
        "there is no configuration file {}: write one, name another with --config, or look around with `meshscope demo`",
        arguments.config.display()
    );
    let mut config = Config::read(&arguments.config)?.sharing(arguments.shard)?;
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
    let outcome = match config.shard {
        Some(shard) if shard.index > 0 => match app::ShardApp::build(config, shard, file.to_owned()).await {
            Ok(app) => {
                ready();
                app.run(shutdown).await
            }
            Err(error) => Err(error.context("cannot start")),
        },
        _ => match app::build(config, Some(file.to_owned())).await {
            Ok(app) => {
                ready();
                app.run(shutdown).await
            }
            Err(error) => Err(error.context("cannot start")),
        },
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
