//! What a record may say, by any of the names that proxies, collectors and people give to it.
//!
//! In: names of attributes and JSON keys, Envoy's command operators. Out: [`Field`]s, and [`Fields`], which hold the texts
//! where they stand. Invariant: nothing is copied but what has an escape or is no text.

use std::borrow::Cow;

use crate::model::access_log::Detail;

/// One thing that a record may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Kept as it is.
    Detail(Detail),
    StartTime,
    Code,
    GrpcStatus,
    Flags,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamTime,
    Traceparent,
    TraceId,
    SpanId,
    NodeId,
    /// `app.namespace`: Envoy's own cluster name in Istio.
    OwnCluster,
    Workload,
    Pod,
    Namespace,
    CanonicalName,
    CanonicalRevision,
    ClusterId,
    SourceWorkload,
    SourceNamespace,
    DestinationWorkload,
    DestinationNamespace,
    LogName,
}

const DETAILS: usize = Detail::ALL.len();
/// Places of all fields.
const COUNT: usize = DETAILS + 24;

impl Field {
    fn index(self) -> usize {
        let other = match self {
            Self::Detail(detail) => return detail as usize,
            Self::StartTime => 0,
            Self::Code => 1,
            Self::GrpcStatus => 2,
            Self::Flags => 3,
            Self::BytesReceived => 4,
            Self::BytesSent => 5,
            Self::Duration => 6,
            Self::UpstreamTime => 7,
            Self::Traceparent => 8,
            Self::TraceId => 9,
            Self::SpanId => 10,
            Self::NodeId => 11,
            Self::OwnCluster => 12,
            Self::Workload => 13,
            Self::Pod => 14,
            Self::Namespace => 15,
            Self::CanonicalName => 16,
            Self::CanonicalRevision => 17,
            Self::ClusterId => 18,
            Self::SourceWorkload => 19,
            Self::SourceNamespace => 20,
            Self::DestinationWorkload => 21,
            Self::DestinationNamespace => 22,
            Self::LogName => 23,
        };
        DETAILS + other
    }

    /// Whether its text is a whole number or `-`.
    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Code | Self::BytesReceived | Self::BytesSent | Self::Duration | Self::UpstreamTime)
    }

    /// The field of an attribute or a JSON key: Istio's JSON keys, header names, OpenTelemetry's semantic conventions,
    /// what collectors add of Kubernetes.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        Some(match key {
            "method" | ":method" | "http.request.method" | "http.method" => Self::Detail(Detail::Method),
            "path" | ":path" | "url.path" | "http.target" | "x-envoy-original-path" | "x-envoy-origin-path" => {
                Self::Detail(Detail::Path)
            }
            "protocol" | "network.protocol.name" | "http.protocol" => Self::Detail(Detail::Protocol),
            "authority" | ":authority" | "http.host" | "host" => Self::Detail(Detail::Authority),
            "response_code_details" => Self::Detail(Detail::ResponseCodeDetails),
            "connection_termination_details" => Self::Detail(Detail::TerminationDetails),
            "upstream_transport_failure_reason" => Self::Detail(Detail::TransportFailure),
            "x_forwarded_for" | "x-forwarded-for" => Self::Detail(Detail::ForwardedFor),
            "user_agent" | "user-agent" | "user_agent.original" => Self::Detail(Detail::UserAgent),
            "request_id" | "x-request-id" | "guid:x-request-id" => Self::Detail(Detail::RequestId),
            "upstream_host" | "server.address" => Self::Detail(Detail::UpstreamHost),
            "upstream_cluster" | "upstream_cluster_raw" => Self::Detail(Detail::UpstreamCluster),
            "upstream_local_address" => Self::Detail(Detail::UpstreamLocal),
            "downstream_local_address" => Self::Detail(Detail::DownstreamLocal),
            "downstream_remote_address" | "client.address" => Self::Detail(Detail::DownstreamRemote),
            "requested_server_name" | "tls.server.name" => Self::Detail(Detail::ServerName),
            "route_name" => Self::Detail(Detail::RouteName),
            "downstream_peer" | "downstream_peer_uri_san" => Self::Detail(Detail::PeerPrincipal),
            "start_time" => Self::StartTime,
            "response_code" | "http.response.status_code" | "http.status_code" => Self::Code,
            "grpc_status" | "grpc-status" | "rpc.grpc.status_code" => Self::GrpcStatus,
            "response_flags" => Self::Flags,
            "bytes_received" | "http.request.body.size" => Self::BytesReceived,
            "bytes_sent" | "http.response.body.size" => Self::BytesSent,
            "duration" => Self::Duration,
            "upstream_service_time" | "x-envoy-upstream-service-time" => Self::UpstreamTime,
            "traceparent" => Self::Traceparent,
            "trace_id" | "traceid" | "x-b3-traceid" => Self::TraceId,
            "span_id" | "spanid" | "x-b3-spanid" => Self::SpanId,
            "node_id" | "node_name" => Self::NodeId,
            "cluster_name" | "node_cluster" => Self::OwnCluster,
            "k8s.deployment.name" | "k8s.statefulset.name" | "k8s.daemonset.name" | "istio.workload" => Self::Workload,
            "k8s.pod.name" | "pod" | "hostname" => Self::Pod,
            "k8s.namespace.name" | "istio.namespace" | "service.namespace" | "namespace" => Self::Namespace,
            "service.istio.io/canonical-name" | "istio.canonical_service" => Self::CanonicalName,
            "service.istio.io/canonical-revision" | "istio.canonical_revision" => Self::CanonicalRevision,
            "istio.cluster_id" | "k8s.cluster.name" | "cluster" => Self::ClusterId,
            "istio.source_workload" | "source_workload" => Self::SourceWorkload,
            "istio.source_namespace" | "source_workload_namespace" => Self::SourceNamespace,
            "istio.destination_workload" | "destination_workload" => Self::DestinationWorkload,
            "istio.destination_namespace" | "destination_workload_namespace" => Self::DestinationNamespace,
            "log_name" => Self::LogName,
            _ => return None,
        })
    }

    /// The field that a command operator of Envoy prints; `None` for one that is passed over.
    ///
    /// <https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#command-operators>
    pub(super) fn of_operator(name: &str, arguments: &str) -> Option<Self> {
        Some(match name {
            // A format of its own prints a time that nobody needs: the record has one.
            "START_TIME" if arguments.is_empty() => Self::StartTime,
            "REQ" | "REQUEST_HEADER" => return of_headers(arguments),
            "RESP" | "RESPONSE_HEADER" | "TRAILER" | "RESPONSE_TRAILER" => {
                return of_headers(arguments).filter(|field| !matches!(field, Self::Detail(_)));
            }
            "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => Self::GrpcStatus,
            "PROTOCOL" => Self::Detail(Detail::Protocol),
            "RESPONSE_CODE" => Self::Code,
            "RESPONSE_CODE_DETAILS" => Self::Detail(Detail::ResponseCodeDetails),
            "CONNECTION_TERMINATION_DETAILS" => Self::Detail(Detail::TerminationDetails),
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::Detail(Detail::TransportFailure),
            "RESPONSE_FLAGS" => Self::Flags,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "DURATION" => Self::Duration,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Self::Detail(Detail::UpstreamHost),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::Detail(Detail::UpstreamCluster),
            "UPSTREAM_LOCAL_ADDRESS" => Self::Detail(Detail::UpstreamLocal),
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::Detail(Detail::DownstreamLocal),
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
                Self::Detail(Detail::DownstreamRemote)
            }
            "DOWNSTREAM_PEER_URI_SAN" => Self::Detail(Detail::PeerPrincipal),
            "REQUESTED_SERVER_NAME" => Self::Detail(Detail::ServerName),
            "ROUTE_NAME" => Self::Detail(Detail::RouteName),
            "TRACE_ID" => Self::TraceId,
            "SPAN_ID" => Self::SpanId,
            "HOSTNAME" => Self::Pod,
            "ENVIRONMENT" => match arguments {
                "POD_NAME" | "HOSTNAME" => Self::Pod,
                "POD_NAMESPACE" => Self::Namespace,
                "ISTIO_META_WORKLOAD_NAME" => Self::Workload,
                "ISTIO_META_CLUSTER_ID" => Self::ClusterId,
                "CANONICAL_SERVICE" => Self::CanonicalName,
                "CANONICAL_REVISION" => Self::CanonicalRevision,
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// `X?Y` prints the header X, or Y where there is no X: whichever is known tells what the text is.
fn of_headers(arguments: &str) -> Option<Field> {
    arguments.split('?').find_map(|header| Field::of_key(&header.trim().to_ascii_lowercase()))
}

/// The texts of one record, or those that all records of a resource share.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    values: [Option<Cow<'a, str>>; COUNT],
    /// Whether something was named, even as unknown, that only an access log of a proxy has.
    distinctive: bool,
    /// Whether a code, or a number of bytes, was named.
    size: bool,
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Self { values: [const { None }; COUNT], distinctive: false, size: false }
    }
}

impl<'a> Fields<'a> {
    /// Takes an attribute or a member of a JSON body, when a record has a place for it. The first of equal meaning counts;
    /// what is empty or `-` says nothing.
    pub fn take(&mut self, name: &str, value: impl Into<Cow<'a, str>>) {
        if let Some(field) = Field::of_key(name) {
            self.set(field, value.into());
        }
    }

    pub(super) fn set(&mut self, field: Field, value: Cow<'a, str>) {
        self.distinctive |= field != Field::Code && super::record::DISTINCTIVE.contains(&field);
        self.size |= matches!(field, Field::Code | Field::BytesReceived | Field::BytesSent);
        let place = &mut self.values[field.index()];
        if place.is_none() && !matches!(&*value, "" | "-") {
            *place = Some(value);
        }
    }

    pub(super) fn get(&self, field: Field) -> Option<&str> {
        self.values[field.index()].as_deref()
    }

    pub(super) fn detail(&self, detail: Detail) -> Option<&str> {
        self.get(Field::Detail(detail))
    }

    /// Whether something was named that only an access log of a proxy has.
    pub(super) fn is_distinctive(&self) -> bool {
        self.distinctive
    }

    /// Whether a code or a number of bytes was named, as every access log has.
    pub(super) fn has_size(&self) -> bool {
        self.size
    }

    /// Whether the record itself says who wrote it.
    pub(super) fn has_identity(&self) -> bool {
        (Field::NodeId.index()..=Field::ClusterId.index()).any(|at| self.values[at].is_some())
    }

    pub(super) fn number(&self, field: Field) -> Option<u64> {
        self.get(field)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_a_place_of_its_own() {
        let others = [
            Field::StartTime,
            Field::Code,
            Field::GrpcStatus,
            Field::Flags,
            Field::BytesReceived,
            Field::BytesSent,
            Field::Duration,
            Field::UpstreamTime,
            Field::Traceparent,
            Field::TraceId,
            Field::SpanId,
            Field::NodeId,
            Field::OwnCluster,
            Field::Workload,
            Field::Pod,
            Field::Namespace,
            Field::CanonicalName,
            Field::CanonicalRevision,
            Field::ClusterId,
            Field::SourceWorkload,
            Field::SourceNamespace,
            Field::DestinationWorkload,
            Field::DestinationNamespace,
            Field::LogName,
        ];
        let mut places: Vec<usize> =
            Detail::ALL.map(Field::Detail).into_iter().chain(others).map(Field::index).collect();
        places.sort_unstable();
        assert_eq!(places, (0..COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn the_keys_of_istios_json_encoding_are_all_known() {
        for detail in Detail::ALL {
            assert_eq!(Field::of_key(detail.as_str()), Some(Field::Detail(detail)));
        }
        for key in ["start_time", "response_code", "response_flags", "bytes_received", "bytes_sent", "duration"] {
            assert!(Field::of_key(key).is_some(), "{key}");
        }
    }

    #[test]
    fn headers_with_a_second_choice_are_known_by_either() {
        assert_eq!(Field::of_operator("REQ", "X-ENVOY-ORIGINAL-PATH?:PATH"), Some(Field::Detail(Detail::Path)));
        assert_eq!(Field::of_operator("RESP", "X-ENVOY-UPSTREAM-SERVICE-TIME"), Some(Field::UpstreamTime));
        assert_eq!(Field::of_operator("REQ", "X-MY-OWN"), None);
        assert_eq!(Field::of_operator("RESP", ":PATH"), None);
    }
}
