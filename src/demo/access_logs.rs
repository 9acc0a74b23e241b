//! Sends the sampled requests' access logs over OTLP gRPC, as Istio's provider `envoyOtelAls` does: a line in Istio's text
//! format each, with the labels that docs/ingest.md names, linked to its span.
//!
//! In: [`Hop`]s. Out: one export for each step of the simulation. A full queue or an unreachable receiver drops the records
//! and counts them; the mesh goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use super::spans::{Counters, request_id};
use super::topology::{CLUSTER, Pod, Protocol};
use super::traffic::Hop;

/// One export may take this long.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(8);
/// What Envoy calls the log.
const LOG_NAME: &str = "otel_envoy_accesslog";

/// Sends records, one export at a time.
#[derive(Debug)]
pub struct Sender {
    client: LogsServiceClient<Channel>,
    counters: Arc<Counters>,
}

impl Sender {
    /// Prepares sending to `endpoint` (`http://host:port`); connects at the first export.
    ///
    /// # Errors
    /// When `endpoint` is not a URL.
    pub fn new(endpoint: &str, counters: Arc<Counters>) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?.timeout(EXPORT_TIMEOUT).connect_lazy();
        Ok(Self { client: LogsServiceClient::new(channel), counters })
    }

    /// Sends what arrives until the channel closes.
    pub async fn run(mut self, mut requests: mpsc::Receiver<ExportLogsServiceRequest>) {
        while let Some(request) = requests.recv().await {
            let count = records(&request);
            let counter = match self.client.export(request).await {
                Ok(_) => &self.counters.sent,
                Err(error) => {
                    tracing::debug!(%error, "the demo's access logs were not taken");
                    &self.counters.dropped
                }
            };
            counter.fetch_add(count, Relaxed);
        }
    }
}

/// How many records are in a request.
pub fn records(request: &ExportLogsServiceRequest) -> u64 {
    let scopes = request.resource_logs.iter().flat_map(|group| &group.scope_logs);
    scopes.map(|scope| scope.log_records.len() as u64).sum()
}

/// The records of `hops`, each side of a call by its own proxy; `epoch` is when the simulation began.
pub fn of_hops(hops: &[Hop], pods: &[Pod], epoch: SystemTime) -> ExportLogsServiceRequest {
    let log_records = hops.iter().map(|hop| record(hop, pods, epoch)).collect();
    let resource = Resource { attributes: vec![label("log_name", LOG_NAME)], ..Resource::default() };
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }],
    }
}

fn record(hop: &Hop, pods: &[Pod], epoch: SystemTime) -> LogRecord {
    let (pod, peer) = (&pods[hop.pod], hop.peer.map(|peer| &pods[peer]));
    let at = epoch + Duration::from_micros(hop.start_us);
    let mut attributes = vec![
        label("pod", &pod.name),
        label("namespace", pod.workload.namespace),
        label("istio.workload", pod.workload.name),
        label("cluster", CLUSTER),
    ];
    if let Some(caller) = peer.filter(|_| !hop.client) {
        attributes.push(label("downstream_peer", &caller.workload.principal()));
    }
    LogRecord {
        time_unix_nano: nanos(at),
        observed_time_unix_nano: nanos(epoch + Duration::from_micros(hop.end_us)),
        body: Some(text(&line(hop, (pod, peer), at))),
        attributes,
        trace_id: hop.trace.to_be_bytes().to_vec(),
        span_id: hop.span.to_be_bytes().to_vec(),
        ..LogRecord::default()
    }
}

/// As `meshConfig.accessLogFormat` is by default (istio `pilot/pkg/model/telemetry_logging.go`).
fn line(hop: &Hop, (pod, peer): (&Pod, Option<&Pod>), at: SystemTime) -> String {
    let service = hop.call.to;
    let (start, path) = (chrono::DateTime::<chrono::Utc>::from(at), hop.call.path.replace("{id}", &hop.id.to_string()));
    let protocol = if service.protocol == Protocol::Grpc { "HTTP/2" } else { "HTTP/1.1" };
    let agent = if service.protocol == Protocol::Grpc { "grpc-go/1.71.0" } else { "Go-http-client/1.1" };
    let took_ms = hop.end_us.saturating_sub(hop.start_us) / 1000;
    let (upstream, cluster) = match hop.client {
        true => (peer, service.cluster(hop.subset)),
        false => (Some(pod), format!("inbound|{}||", service.port)),
    };
    let details = details(hop);
    let answered = details == "via_upstream";
    let host = upstream.map_or_else(|| "-".to_owned(), |pod| format!("{}:{}", pod.ip, service.port));
    let caller = if hop.client { Some(pod) } else { peer };
    format!(
        "[{}] \"{} {path} {protocol}\" {} {} {details} - \"-\" {} {} {took_ms} {} \"-\" \"{agent}\" \"{}\" \"{}:{}\" \"{host}\" \
         {cluster} - {}:{} {}:{} - default\n",
        start.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
        hop.call.method,
        hop.code,
        hop.flags,
        hop.bytes.0,
        hop.bytes.1,
        if answered { took_ms.to_string() } else { "-".to_owned() },
        request_id(hop),
        service.host,
        service.port,
        pod.ip,
        service.port,
        caller.map_or("10.42.0.99", |pod| &pod.ip),
        30_000 + hop.span % 20_000,
    )
}

/// Why the response has its code, as Envoy's filters write it.
fn details(hop: &Hop) -> &'static str {
    let has = |flag: &str| hop.flags.split(',').any(|one| one == flag);
    match () {
        () if has("FI") => "fault_filter_abort",
        () if has("UO") => "upstream_reset_before_response_started{overflow}",
        () if has("UH") => "no_healthy_upstream",
        () if has("UT") => "upstream_response_timeout",
        () if has("DC") => "downstream_remote_disconnect",
        () => "via_upstream",
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn label(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(text(value)), ..KeyValue::default() }
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use prost::Message as _;

    use super::*;
    use crate::access_logs::{AccessRecord, Reader, Reason};
    use crate::demo::traffic::Simulation;
    use crate::model::workload::Reporter;
    use crate::otlp::{Limits, decode_logs_protobuf};

    #[test]
    fn every_record_is_read_as_an_access_log_of_its_span() {
        let mut simulation = Simulation::new(3);
        // The first incident begins after 45 s: catalog answers 500.
        simulation.step(Duration::from_secs(90));
        simulation.drain();
        let hops = simulation.take_hops();
        let now = SystemTime::now();
        let body = of_hops(&hops, simulation.pods(), now - Duration::from_secs(90)).encode_to_vec();
        let reader = Reader::new(&[]);
        let decoded = decode_logs_protobuf(&body, &reader, &Limits::default(), chrono::Utc::now().into()).unwrap();
        assert_eq!((decoded.records.len(), decoded.tally.total_rejected()), (hops.len(), 0), "{:?}", decoded.tally);
        for (record, hop) in decoded.records.iter().zip(&hops) {
            let AccessRecord { trace_id, span_id, code, reporter, source, destination, service, .. } = record;
            assert_eq!((*trace_id, *span_id), (Some(hop.trace.to_be_bytes()), Some(hop.span.to_be_bytes())));
            assert_eq!((*code, *reporter == Reporter::Source), (hop.code, hop.client));
            let own = if hop.client { source } else { destination };
            assert_eq!(own.name.as_deref(), Some(simulation.pods()[hop.pod].workload.name));
            assert!(service.host.is_some() || service.name.is_some() || !hop.client, "{record:?}");
            assert_ne!(record.reason, Reason::Other, "{record:?}");
        }
        assert!(decoded.records.iter().any(|record| record.reason == Reason::Upstream5xx));
    }

    #[tokio::test]
    async fn an_unreachable_receiver_drops_and_counts() {
        let counters = Arc::new(Counters::default());
        let sender = Sender::new("http://127.0.0.1:1", Arc::clone(&counters)).unwrap();
        let mut simulation = Simulation::new(3);
        simulation.step(Duration::from_secs(3));
        simulation.drain();
        let request = of_hops(&simulation.take_hops(), simulation.pods(), SystemTime::UNIX_EPOCH);
        let count = records(&request);
        let (requests, waiting) = mpsc::channel(1);
        requests.send(request).await.unwrap();
        drop(requests);
        sender.run(waiting).await;
        assert_eq!((count > 0, counters.dropped.load(Relaxed)), (true, count));
        assert!(Sender::new("no address", counters).is_err());
    }
}
