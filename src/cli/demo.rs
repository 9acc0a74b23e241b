//! `meshscope demo`: the service on a simulated mesh, each in its own place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::serve::serve;
use crate::config::Config;
use crate::demo::{self, World};
use crate::telemetry::LogFormat;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Address of pages and APIs.
    #[arg(long, default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// Address of OTLP over gRPC, where the simulated mesh sends its spans.
    #[arg(long, default_value = "127.0.0.1:4317")]
    otlp_grpc: SocketAddr,
    /// Address of OTLP over HTTP.
    #[arg(long, default_value = "127.0.0.1:4318")]
    otlp_http: SocketAddr,
    /// Folder of the demo's files and database. Default: a new one, removed at the end.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Seed of all chance in the simulated mesh.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

pub(super) async fn run(arguments: Arguments, format: LogFormat) -> anyhow::Result<ExitCode> {
    let temporary = arguments.folder.is_none();
    let folder =
        arguments.folder.unwrap_or_else(|| std::env::temp_dir().join(format!("meshscope-demo-{}", std::process::id())));
    let world = World::start(demo::Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        otlp_grpc_endpoint: format!("http://{}", arguments.otlp_grpc),
        directory: folder.clone(),
        seed: arguments.seed,
    })
    .await?;
    let file = folder.join("meshscope.yaml");
    let text = format!(
        "{}\nweb:\n  listen: {}\notlp:\n  grpc_listen: {}\n  http_listen: {}\nstorage:\n  path: {}\n",
        demo::configuration(&world),
        arguments.listen,
        arguments.otlp_grpc,
        arguments.otlp_http,
        serde_json::Value::from(folder.join("database").to_string_lossy()),
    );
    std::fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
    let config = Config::parse(&text, Some(&file))?;
    let stop = CancellationToken::new();
    let simulated = tokio::spawn(world.run(stop.clone()));
    let listen = arguments.listen;
    let outcome = serve(config, &file, format, || {
        demo::say(&format!("\n  The dashboard is at http://{listen}/ and the service graph at http://{listen}/graph"));
        demo::say(&format!("  Files and database are in {}; Ctrl+C stops.\n", folder.display()));
    })
    .await;
    stop.cancel();
    let simulated = simulated.await.context("the simulated mesh crashed");
    if temporary {
        // Nothing in it is wanted, and the next demo makes its own.
        let _ = std::fs::remove_dir_all(&folder);
    }
    let code = outcome?;
    simulated??;
    Ok(code)
}
