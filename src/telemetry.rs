//! Our own logs, metrics and traces.
//!
//! In: [`Config`], counters that the modules keep as plain atomics. Out: log lines on stderr, the page `/metrics`, spans over OTLP.
//! Invariant: the modules know nothing of how they are observed.

mod metrics;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use metrics::{Kind, Label, Metrics};

const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The exporter's own crates make spans of their own, below info; following them would never end.
const EXPORTER_QUIET: [&str; 5] = ["h2=info", "hyper_util=info", "tonic=info", "tower=info", "opentelemetry_sdk=info"];

/// The block `telemetry`: what meshscope tells of itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// OTLP/gRPC address that our own spans go to, `http://127.0.0.1:4317`. Unset: none are made.
    pub otlp_endpoint: Option<String>,
    /// Share of our own traces that are sent, 0 to 1. Default 0.1.
    pub sampling_ratio: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { otlp_endpoint: None, sampling_ratio: 0.1 }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Keeps our own spans flowing; [`Telemetry::shutdown`] sends the last of them.
#[derive(Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logs, and spans when there is an address for them. The level comes from `RUST_LOG`, else `default_level`; it
    /// holds for spans too, which are of level info.
    ///
    /// One filter for both on purpose: with one for each layer, lines were seen to vanish from the log. sqlx asks
    /// `tracing::enabled!` for each query, and the verdict it leaves behind is the likely cause.
    ///
    /// # Errors
    /// When the OTLP address is not one, or logging was started before.
    pub fn start(format: LogFormat, default_level: &str, config: &Config) -> anyhow::Result<Self> {
        let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
        // Whatever level is chosen, who changed what is kept, unless that is turned off by its own name.
        if !filter.to_string().split(',').any(|directive| directive.starts_with("audit")) {
            filter = filter.add_directive("audit=info".parse()?);
        }
        let endpoint = config.otlp_endpoint.as_deref();
        let provider = endpoint.map(|endpoint| provider(endpoint, config.sampling_ratio)).transpose()?;
        if provider.is_some() {
            for directive in EXPORTER_QUIET {
                filter = filter.add_directive(directive.parse()?);
            }
        }
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal);
        let lines = match format {
            LogFormat::Text => lines.with_target(false).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let spans =
            provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("meshscope")));
        tracing_subscriber::registry().with(filter).with(lines).with(spans).try_init()?;
        Ok(Self { provider })
    }

    /// Sends the last spans; waits a few seconds at most.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        // The SDK blocks while it sends.
        let sent = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(EXPORT_TIMEOUT));
        if let Ok(Err(error)) = sent.await {
            tracing::debug!("the last of our own spans were not sent: {error}");
        }
    }
}

fn provider(endpoint: &str, sampling_ratio: f64) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let resource = Resource::builder().with_service_name("meshscope").build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sampling_ratio))))
        .with_resource(resource)
        .build())
}
