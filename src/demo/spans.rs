//! Sends the sampled requests' spans over OTLP gRPC, in the shape Istio's Envoy gives them.
//!
//! In: [`Hop`]s. Out: `opentelemetry-otlp` exports, one request for each `service.name`, all of a second at the same time,
//! since a request is answered when it is stored. A full queue or an unreachable receiver drops the batch and counts it; the
//! mesh goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use tokio::sync::mpsc;

use super::{
    topology::{CLUSTER, Pod, Protocol, TRUST_DOMAIN},
    traffic::Hop,
};

/// One export may take this long.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// What became of the spans.
#[derive(Debug, Default)]
pub struct Counters {
    /// Spans the receiver took.
    pub sent: AtomicU64,
    /// Spans dropped: no receiver, or it refused.
    pub dropped: AtomicU64,
}

/// Sends batches of spans, one at a time.
#[derive(Debug)]
pub struct Sender {
    endpoint: String,
    /// By `service.name`: an exporter has one resource.
    exporters: BTreeMap<String, SpanExporter>,
    counters: Arc<Counters>,
}

impl Sender {
    /// Prepares sending to `endpoint` (`http://host:port`); connects at the first batch.
    ///
    /// # Errors
    /// When `endpoint` is not a URL.
    pub fn new(endpoint: &str, counters: Arc<Counters>) -> Result<Self, opentelemetry_otlp::ExporterBuildError> {
        exporter(endpoint, "")?;
        Ok(Self { endpoint: endpoint.to_owned(), exporters: BTreeMap::new(), counters })
    }

    /// Sends what arrives until the channel closes.
    pub async fn run(mut self, mut batches: mpsc::Receiver<BTreeMap<String, Vec<SpanData>>>) {
        while let Some(batch) = batches.recv().await {
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: BTreeMap<String, Vec<SpanData>>) {
        for service in batch.keys() {
            if !self.exporters.contains_key(service)
                && let Ok(exporter) = exporter(&self.endpoint, service)
            {
                self.exporters.insert(service.clone(), exporter);
            }
        }
        let exports = batch.into_iter().map(async |(service, spans)| {
            let count = spans.len() as u64;
            let exported = match self.exporters.get(&service) {
                Some(exporter) => exporter.export(spans).await.is_ok(),
                None => false,
            };
            let counter = if exported { &self.counters.sent } else { &self.counters.dropped };
            counter.fetch_add(count, Ordering::Relaxed);
        });
        futures_util::future::join_all(exports).await;
    }
}

/// Sends the spans of one service.
fn exporter(endpoint: &str, service: &str) -> Result<SpanExporter, opentelemetry_otlp::ExporterBuildError> {
    let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
    let mut exporter = builder.build()?;
    exporter.set_resource(&Resource::builder_empty().with_service_name(service.to_owned()).build());
    Ok(exporter)
}

/// The spans of `hops` by `service.name`; `epoch` is when the simulation began.
pub fn by_service(hops: &[Hop], pods: &[Pod], epoch: SystemTime) -> BTreeMap<String, Vec<SpanData>> {
    let mut services: BTreeMap<String, Vec<SpanData>> = BTreeMap::new();
    for hop in hops {
        let workload = pods[hop.pod].workload;
        services
            .entry(format!("{}.{}", workload.app, workload.namespace))
            .or_default()
            .push(span_data(hop, pods, epoch));
    }
    services
}

fn span_data(hop: &Hop, pods: &[Pod], epoch: SystemTime) -> SpanData {
    let service = hop.call.to;
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(hop.trace.to_be_bytes()),
            SpanId::from_bytes(hop.span.to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: hop.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
        parent_span_is_remote: hop.parent.is_some(),
        span_kind: if hop.client { SpanKind::Client } else { SpanKind::Server },
        // The route decorator; a route with several destinations is named after its VirtualService.
        name: match hop.subset {
            "" => format!("{}:{}/*", service.host, service.port).into(),
            _ => format!("{}:{}/*", service.name, service.port).into(),
        },
        start_time: epoch + Duration::from_micros(hop.start_us),
        end_time: epoch + Duration::from_micros(hop.end_us),
        attributes: attributes(hop, pods),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if failed(hop) { Status::error("") } else { Status::Unset },
        instrumentation_scope: InstrumentationScope::builder("envoy").build(),
    }
}

/// ERROR from 500 on, on the client from 400 on and without response; gRPC: any but 0 on the client, the server's own
/// faults on the server.
fn failed(hop: &Hop) -> bool {
    match hop.grpc {
        Some(status) if hop.client => status != 0,
        Some(status) => matches!(status, 2 | 4 | 12 | 13 | 14 | 15),
        None => hop.code >= 500 || (hop.client && (hop.code == 0 || hop.code >= 400)),
    }
}

/// `x-request-id`, the same on all spans and access logs of a trace.
pub(super) fn request_id(hop: &Hop) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}",
        (hop.trace >> 96) as u32,
        (hop.trace >> 80) as u16,
        (hop.trace >> 68) as u16 & 0xfff,
        (hop.trace >> 56) as u16 & 0xfff,
        hop.trace as u64 & 0xffff_ffff_ffff
    )
}

/// All values are text, as Envoy sends them.
fn attributes(hop: &Hop, pods: &[Pod]) -> Vec<KeyValue> {
    let (pod, service) = (&pods[hop.pod], hop.call.to);
    let peer = hop.peer.map(|peer| &pods[peer]);
    let path = hop.call.path.replace("{id}", &hop.id.to_string());
    let grpc = service.protocol == Protocol::Grpc;
    let cluster = if hop.client { service.cluster(hop.subset) } else { format!("inbound|{}||", service.port) };
    let request_id = request_id(hop);
    // The downstream address: on the called side the caller's pod, on the calling side the application's own pod.
    let downstream = if hop.client { Some(pod) } else { peer };
    let upstream = if hop.client { peer } else { Some(pod) };
    let mut values = vec![
        ("node_id", pod.node_id()),
        ("component", "proxy".to_owned()),
        ("guid:x-request-id", request_id),
        ("http.url", format!("http://{}:{}{path}", service.host, service.port)),
        ("http.method", hop.call.method.to_owned()),
        ("http.protocol", if grpc { "HTTP/2" } else { "HTTP/1.1" }.to_owned()),
        ("http.status_code", hop.code.to_string()),
        ("response_flags", hop.flags.to_owned()),
        ("user_agent", if grpc { "grpc-go/1.71.0" } else { "Go-http-client/1.1" }.to_owned()),
        ("peer.address", downstream.map_or_else(String::new, |pod| pod.ip.clone())),
        ("downstream_cluster", "-".to_owned()),
        ("upstream_cluster", cluster.clone()),
        ("upstream_cluster.name", cluster),
        ("request_size", hop.bytes.0.to_string()),
        ("response_size", hop.bytes.1.to_string()),
        ("istio.canonical_service", pod.workload.app.to_owned()),
        ("istio.canonical_revision", pod.workload.version.unwrap_or("latest").to_owned()),
        ("istio.mesh_id", TRUST_DOMAIN.to_owned()),
        ("istio.namespace", pod.workload.namespace.to_owned()),
        ("istio.cluster_id", CLUSTER.to_owned()),
    ];
    if let Some(upstream) = upstream {
        values.push(("upstream_address", format!("{}:{}", upstream.ip, service.port)));
    }
    if grpc {
        values.push(("grpc.path", path));
        values.push(("grpc.authority", format!("{}:{}", service.host, service.port)));
        values.push(("grpc.content_type", "application/grpc".to_owned()));
    }
    if let Some(status) = hop.grpc {
        values.push(("grpc.status_code", status.to_string()));
    }
    if failed(hop) {
        values.push(("error", "true".to_owned()));
    }
    values.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opentelemetry_proto::tonic::{
        collector::trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
        common::v1::any_value::Value,
    };

    use super::*;
    use crate::demo::traffic::Simulation;

    fn attribute<'a>(span: &'a SpanData, name: &str) -> Option<std::borrow::Cow<'a, str>> {
        span.attributes.iter().find(|pair| pair.key.as_str() == name).map(|pair| pair.value.as_str())
    }

    #[test]
    fn spans_form_whole_trees_with_envoys_attributes() {
        let mut simulation = Simulation::new(3);
        simulation.step(Duration::from_secs(15));
        simulation.drain();
        let hops = simulation.take_hops();
        let spans: Vec<SpanData> =
            by_service(&hops, simulation.pods(), SystemTime::UNIX_EPOCH).into_values().flatten().collect();
        let by_id: BTreeMap<_, _> = spans.iter().map(|span| (span.span_context.span_id().to_bytes(), span)).collect();
        assert_eq!(by_id.len(), spans.len(), "span ids are unique");
        for span in &spans {
            assert_eq!(attribute(span, "component").unwrap(), "proxy");
            assert!(span.start_time <= span.end_time);
            match by_id.get(&span.parent_span_id.to_bytes()) {
                Some(parent) => {
                    assert_eq!(parent.span_context.trace_id(), span.span_context.trace_id());
                    assert_ne!(parent.span_kind, span.span_kind, "callers and called alternate");
                    assert!(parent.start_time <= span.start_time);
                }
                None => {
                    assert_eq!(span.parent_span_id, SpanId::INVALID, "every parent is there");
                    assert!(attribute(span, "node_id").unwrap().starts_with("router~"));
                    assert_eq!(span.span_kind, SpanKind::Client);
                }
            }
        }
        let traces = spans.iter().filter(|span| span.parent_span_id == SpanId::INVALID).count();
        assert!((45..160).contains(&traces), "about six traces a second, saw {traces} in 15 s");
    }

    /// An OTLP receiver that remembers `service.name` and the number of spans of each request.
    #[derive(Clone, Default)]
    struct Receiver(Arc<parking_lot::Mutex<Vec<(String, usize)>>>);

    #[tonic::async_trait]
    impl TraceService for Receiver {
        async fn export(
            &self,
            request: tonic::Request<ExportTraceServiceRequest>,
        ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
            for part in request.into_inner().resource_spans {
                let attributes = part.resource.map(|resource| resource.attributes).unwrap_or_default();
                let name = attributes.into_iter().find(|pair| pair.key == "service.name").and_then(|pair| pair.value);
                let count = part.scope_spans.iter().map(|scope| scope.spans.len()).sum();
                let Some(Value::StringValue(name)) = name.and_then(|value| value.value) else { continue };
                self.0.lock().push((name, count));
            }
            Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
        }
    }

    #[tokio::test]
    async fn spans_arrive_by_service_over_grpc() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let receiver = Receiver::default();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = TraceServiceServer::new(receiver.clone());
        let server =
            tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        let mut simulation = Simulation::new(3);
        simulation.step(Duration::from_secs(5));
        simulation.drain();
        let batch = by_service(&simulation.take_hops(), simulation.pods(), SystemTime::now());
        let expected: Vec<(String, usize)> = batch.iter().map(|(name, spans)| (name.clone(), spans.len())).collect();
        let counters = Arc::new(Counters::default());
        let (batches, waiting) = mpsc::channel(1);
        batches.send(batch).await.unwrap();
        drop(batches);
        Sender::new(&endpoint, counters.clone()).unwrap().run(waiting).await;
        assert!(expected.iter().any(|(name, _)| name == "frontend.shop"));
        let mut received = receiver.0.lock().clone();
        received.sort();
        assert_eq!(received, expected);
        let sent = expected.iter().map(|(_, count)| *count as u64).sum();
        assert_eq!((counters.sent.load(Ordering::Relaxed), counters.dropped.load(Ordering::Relaxed)), (sent, 0));
        server.abort();
    }

    #[tokio::test]
    async fn an_unreachable_receiver_drops_and_counts() {
        let counters = Arc::new(Counters::default());
        let mut sender = Sender::new("http://127.0.0.1:1", counters.clone()).unwrap();
        let mut simulation = Simulation::new(3);
        simulation.step(Duration::from_secs(3));
        simulation.drain();
        let batch = by_service(&simulation.take_hops(), simulation.pods(), SystemTime::UNIX_EPOCH);
        let count = batch.values().map(|spans| spans.len() as u64).sum::<u64>();
        sender.send(batch).await;
        assert_eq!(counters.dropped.load(Ordering::Relaxed), count);
    }
}
