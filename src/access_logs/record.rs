//! From the texts of a record to what it tells: who called whom, and what became of it.
//!
//! In: attributes, body, ids and time, where they stand. Out: an [`AccessRecord`], or `None` when it is no access log.
//! Pure. Invariant: no text of a record is longer than the limit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::fields::{Field, Fields};
use super::format::{self, Format};
use super::json;
use super::reasons::{self, End};
use crate::model::access_log::{AccessRecord, Detail};
use crate::model::span::{SpanId, TraceId, trace_id_from_hex};
use crate::model::workload::{Reporter, Service, Workload};
use crate::traces::{NodeId, called_service, known_text, service_of_host, workload_of_pod};

/// Texts up to this length are looked up, so that equal ones share memory.
const SHARED_TEXT_BYTES: usize = 96;
/// Longest body that is read as text.
const LINE_BYTES_MAX: usize = 64 << 10;
/// What Istio's provider calls its log.
const LOG_NAME: &str = "otel_envoy_accesslog";

/// What only a proxy's access log says: an application's log may well have a method and a status.
pub(super) const DISTINCTIVE: [Field; 6] = [
    Field::Code,
    Field::Flags,
    Field::Detail(Detail::ResponseCodeDetails),
    Field::Detail(Detail::TerminationDetails),
    Field::Detail(Detail::TransportFailure),
    Field::Detail(Detail::UpstreamCluster),
];

/// When, and in which trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// Nanoseconds since the epoch; 0 is taken from the record's own start time.
    pub at_ns: u64,
    /// Its trace, where the record names it.
    pub trace_id: Option<TraceId>,
    /// Its span.
    pub span_id: Option<SpanId>,
}

/// Reads records. Clones share the compiled formats.
#[derive(Clone, Debug)]
pub struct Reader {
    formats: Arc<[Format]>,
}

/// Reads the records of one request, whose texts share memory.
pub struct Session<'r> {
    formats: &'r [Format],
    value_bytes: usize,
    texts: HashSet<Arc<str>, foldhash::fast::RandomState>,
    services: HashMap<Arc<str>, Service, foldhash::fast::RandomState>,
    empty: Arc<str>,
    /// Texts that were longer than the limit.
    pub cut: u64,
}

/// The proxy that wrote a group of records.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    workload: Workload,
    waypoint: bool,
    gateway: bool,
    is_access_log: bool,
}

impl Reader {
    /// Reads these formats before those of Istio and Envoy.
    pub fn new(formats: &[Format]) -> Self {
        let built_in = [format::ISTIO, format::ENVOY];
        let built_in =
            built_in.map(|text| Format::compile(text).expect("invariant: a test compiles the built-in formats"));
        Self { formats: formats.iter().cloned().chain(built_in).collect() }
    }

    /// Begins with the records of a request; texts are cut at `value_bytes`.
    pub fn begin(&self, value_bytes: usize) -> Session<'_> {
        Session {
            formats: &self.formats,
            value_bytes,
            texts: HashSet::default(),
            services: HashMap::default(),
            empty: Arc::from(""),
            cut: 0,
        }
    }
}

impl Session<'_> {
    /// Who wrote the records of a resource with these attributes.
    pub fn origin(&mut self, resource: &Fields<'_>) -> Origin {
        let node = resource.get(Field::NodeId).and_then(NodeId::parse);
        let own_cluster = resource.get(Field::OwnCluster).and_then(|name| name.split_once('.'));
        let (app, of_cluster) = own_cluster.unzip();
        let pod = resource.get(Field::Pod).or(node.as_ref().map(|node| node.pod));
        let canonical = resource.get(Field::CanonicalName).or(app);
        let name = resource.get(Field::Workload).or(pod.map(workload_of_pod)).or(canonical);
        let namespace = resource.get(Field::Namespace).or(node.as_ref().map(|node| node.namespace)).or(of_cluster);
        let workload = Workload {
            cluster: self.known(resource.get(Field::ClusterId)),
            namespace: self.known(namespace),
            name: self.known(name),
            app: self.known(canonical),
            version: self.known(resource.get(Field::CanonicalRevision)),
        };
        let role = node.map_or("", |node| node.role);
        Origin {
            workload,
            waypoint: role == "waypoint",
            gateway: role == "router",
            is_access_log: resource.get(Field::LogName) == Some(LOG_NAME),
        }
    }

    /// Adds what a text body says: JSON, or a line of one of the formats. Whether it was one of them.
    pub fn read_body<'a>(&self, body: &'a str, fields: &mut Fields<'a>) -> bool {
        match body.trim_start().as_bytes().first() {
            _ if body.len() > LINE_BYTES_MAX => false,
            Some(b'{') => {
                json::read(body, fields);
                false // a JSON object may be anything: its members tell
            }
            _ => self.formats.iter().any(|format| format.read(body, fields)),
        }
    }

    /// The record, unless it is no access log. `is_line`: its body was a line of a known format.
    pub fn record(
        &mut self,
        stamp: Stamp,
        fields: &Fields<'_>,
        (origin, is_line): (&Origin, bool),
    ) -> Option<AccessRecord> {
        let tells = is_line || origin.is_access_log || fields.get(Field::LogName) == Some(LOG_NAME);
        if !(tells || fields.is_distinctive() && fields.has_size()) {
            return None;
        }
        let own;
        let origin = if fields.has_identity() {
            own = self.merged(origin, fields);
            &own
        } else {
            origin
        };
        let text = |detail| fields.detail(detail).unwrap_or_default();
        let narrow = |field| fields.number(field).and_then(|number| u16::try_from(number).ok());
        let end = End {
            code: narrow(Field::Code).unwrap_or(0),
            grpc_status: grpc_status(fields),
            flags: fields.get(Field::Flags).unwrap_or_default(),
            details: text(Detail::ResponseCodeDetails),
            termination: text(Detail::TerminationDetails),
            transport: text(Detail::TransportFailure),
        };
        let denial = reasons::denial(&end);
        let policy = denial.map(|denial| format!("{}/{}", denial.namespace, denial.policy));
        let Ends { reporter, source, destination, service } = self.ends(fields, origin, &end);
        let traced = traced(stamp, fields);
        let details = Detail::ALL.into_iter().filter_map(|detail| Some((detail, fields.detail(detail)?)));
        let details = details.map(|(detail, text)| (detail, self.share(text))).collect();
        Some(AccessRecord {
            at_ns: if stamp.at_ns > 0 { stamp.at_ns } else { start_time(fields) },
            trace_id: traced.0,
            span_id: traced.1,
            reporter,
            source,
            destination,
            service,
            code: end.code,
            grpc_status: end.grpc_status,
            flags: self.share(end.flags),
            reason: reasons::reason(&end),
            policy: policy.map(|policy| self.share(&policy)),
            rule: denial.and_then(|denial| denial.rule),
            duration_ms: fields.number(Field::Duration),
            upstream_ms: fields.number(Field::UpstreamTime),
            request_bytes: fields.number(Field::BytesReceived).unwrap_or(0),
            response_bytes: fields.number(Field::BytesSent).unwrap_or(0),
            details,
        })
    }

    /// What the record says of its proxy, and of its resource where it says nothing.
    fn merged(&mut self, of_resource: &Origin, fields: &Fields<'_>) -> Origin {
        let own = self.origin(fields);
        let Origin { workload, waypoint, gateway, is_access_log } = of_resource.clone();
        Origin {
            workload: Workload {
                cluster: own.workload.cluster.or(workload.cluster),
                namespace: own.workload.namespace.or(workload.namespace),
                name: own.workload.name.or(workload.name),
                app: own.workload.app.or(workload.app),
                version: own.workload.version.or(workload.version),
            },
            waypoint: own.waypoint || waypoint,
            gateway: own.gateway || gateway,
            is_access_log,
        }
    }

    fn ends(&mut self, fields: &Fields<'_>, origin: &Origin, end: &End<'_>) -> Ends {
        let cluster = fields.detail(Detail::UpstreamCluster);
        let called = cluster.and_then(|cluster| self.service_of(cluster));
        let peer =
            self.named(fields, [Field::SourceWorkload, Field::SourceNamespace]).or_else(|| self.principal(fields));
        let answering = self.named(fields, [Field::DestinationWorkload, Field::DestinationNamespace]);
        let asked = |session: &mut Self| session.authority(fields).unwrap_or_default();
        if origin.waypoint {
            return Ends {
                reporter: Reporter::Waypoint,
                source: peer.unwrap_or_default(),
                destination: answering.unwrap_or_default(),
                service: called.unwrap_or_else(|| asked(self)),
            };
        }
        let inbound = match cluster {
            Some(cluster) => cluster.starts_with("inbound") || cluster.starts_with("Inbound"),
            // A connection that no filter chain or policy let in never got a cluster.
            None => {
                !origin.gateway
                    && (end.details == "filter_chain_not_found"
                        || end.termination == "filter_chain_not_found"
                        || end.details.starts_with("rbac_")
                        || end.termination.starts_with("rbac_"))
            }
        };
        if inbound {
            let own = &origin.workload;
            let by_app = Service { name: own.app.clone(), namespace: own.namespace.clone(), host: None };
            return Ends {
                reporter: Reporter::Destination,
                source: peer.unwrap_or_default(),
                service: called.unwrap_or(by_app),
                destination: own.clone(),
            };
        }
        Ends {
            reporter: Reporter::Source,
            source: origin.workload.clone(),
            destination: answering.unwrap_or_default(),
            service: called.unwrap_or_else(|| asked(self)),
        }
    }

    fn service_of(&mut self, cluster: &str) -> Option<Service> {
        if let Some(known) = self.services.get(cluster) {
            return (*known != Service::default()).then(|| known.clone());
        }
        // A waypoint's own kind of cluster, with the host in the same place: `inbound-vip|80|http|cart.shop.svc.cluster.local`.
        let vip = cluster.strip_prefix("inbound-vip|").and_then(|rest| rest.split('|').nth(2)).map(service_of_host);
        let inbound = cluster.strip_prefix("inbound|").and_then(|rest| rest.split('|').nth(2));
        let inbound = inbound.filter(|host| !host.is_empty()).map(service_of_host);
        let service = called_service(cluster).or(vip).or(inbound);
        self.services.insert(Arc::from(cluster), service.clone().unwrap_or_default());
        service
    }

    /// The host that was asked for, without its port; an address is none.
    fn authority(&mut self, fields: &Fields<'_>) -> Option<Service> {
        let authority = fields.detail(Detail::Authority).or(fields.detail(Detail::ServerName))?;
        let host = authority
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .map_or(authority, |(host, _)| host);
        let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
        let host = &host[..host.floor_char_boundary(253)]; // the longest name that DNS has
        (!is_address && !host.is_empty()).then(|| service_of_host(host))
    }

    fn named(&mut self, fields: &Fields<'_>, [name, namespace]: [Field; 2]) -> Option<Workload> {
        let name = self.known(fields.get(name))?;
        Some(Workload { namespace: self.known(fields.get(namespace)), name: Some(name), ..Workload::default() })
    }

    /// The caller by its certificate: the service account stands for the workload where nothing else names it.
    fn principal(&mut self, fields: &Fields<'_>) -> Option<Workload> {
        let (_, path) = fields.detail(Detail::PeerPrincipal)?.split_once("/ns/")?;
        let (namespace, account) = path.split_once("/sa/")?;
        let account = account.split([',', '/']).next().unwrap_or_default();
        let name = self.known(Some(account))?;
        Some(Workload { namespace: self.known(Some(namespace)), name: Some(name), ..Workload::default() })
    }

    fn known(&mut self, text: Option<&str>) -> Option<Arc<str>> {
        known_text(text).map(|text| self.share(text))
    }

    fn share(&mut self, text: &str) -> Arc<str> {
        match text.len() {
            0 => return Arc::clone(&self.empty),
            length if length > self.value_bytes => {
                self.cut += 1;
                return Arc::from(&text[..text.floor_char_boundary(self.value_bytes)]);
            }
            length if length > SHARED_TEXT_BYTES => return Arc::from(text),
            _ => {}
        }
        match self.texts.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<str> = Arc::from(text);
                self.texts.insert(Arc::clone(&new));
                new
            }
        }
    }
}

/// Who called whom.
struct Ends {
    reporter: Reporter,
    source: Workload,
    destination: Workload,
    service: Service,
}

/// A number, or its name as `%GRPC_STATUS%` prints it.
fn grpc_status(fields: &Fields<'_>) -> Option<u16> {
    let text = fields.get(Field::GrpcStatus)?;
    let letters =
        |text: &str| text.bytes().filter(u8::is_ascii_alphabetic).map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
    let by_name = || {
        let wanted = letters(text);
        crate::model::GRPC_STATUSES.iter().position(|name| letters(name) == wanted)
    };
    text.parse().ok().or_else(|| u16::try_from(by_name()?).ok())
}

/// Ids of the record itself, else those of the request's headers.
fn traced(stamp: Stamp, fields: &Fields<'_>) -> (Option<TraceId>, Option<SpanId>) {
    if stamp.trace_id.is_some() {
        return (stamp.trace_id, stamp.span_id);
    }
    let non_zero = |id: TraceId| (id != TraceId::default()).then_some(id);
    // W3C Trace Context: 00-TRACE-PARENT-FLAGS.
    let parent = fields.get(Field::Traceparent).and_then(|text| {
        let mut parts = text.split('-').skip(1);
        Some((parts.next().filter(|id| id.len() == 32)?, parts.next()))
    });
    let (trace, span) = match parent {
        Some((trace, span)) => (Some(trace), span),
        None => (fields.get(Field::TraceId), fields.get(Field::SpanId)),
    };
    let trace_id = trace.and_then(trace_id_from_hex).and_then(non_zero);
    let span_id = span.filter(|text| text.len() == 16).and_then(trace_id_from_hex);
    let span_id = span_id.map(|id| std::array::from_fn(|at| id[8 + at])).filter(|id: &SpanId| *id != SpanId::default());
    (trace_id, span_id.filter(|_| trace_id.is_some()))
}

/// `%START_TIME%` as Envoy prints it; 0 when it is not there.
fn start_time(fields: &Fields<'_>) -> u64 {
    let at = fields.get(Field::StartTime).and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    at.and_then(|at| u64::try_from(at.timestamp_nanos_opt()?).ok()).unwrap_or(0)
}
