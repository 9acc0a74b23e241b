//! One request or connection as the access log of a proxy tells it, and what became of it in one word.

use std::sync::Arc;

use super::span::{SpanId, TraceId};
use super::workload::{Reporter, Service, Workload};

macro_rules! reasons {
    ($($variant:ident $name:literal $words:literal,)*) => {
        /// What became of a request: a closed list, so that it can be a label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $words] $variant,)*
        }

        impl Reason {
            /// All of them, in the order of their definition. Stored as their names, so that the order may change.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Value of the label `reason`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The same for people.
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)*
                }
            }
        }
    };
}

reasons! {
    Answered "answered" "answered by the called side",
    Upstream4xx "upstream_4xx" "the called side answered 4xx: the application, or its proxy, whose own record tells",
    Upstream5xx "upstream_5xx" "the called side answered 5xx: the application, or its proxy, whose own record tells",
    GrpcError "upstream_grpc_error" "the called side answered with a gRPC error",
    RbacDenied "rbac_denied" "denied by a rule of an AuthorizationPolicy",
    RbacNotAllowed "rbac_not_allowed" "no rule of the ALLOW policies that select the workload lets it in",
    JwtDenied "jwt_denied" "the request's token is missing or not valid (RequestAuthentication)",
    ExtAuthzDenied "ext_authz_denied" "the external authorizer said no",
    ExtAuthzError "ext_authz_error" "the external authorizer did not answer",
    FilterChainNotFound "filter_chain_not_found" "nothing on this port takes such a connection: plaintext to a workload with STRICT mTLS, or a wrong server name",
    RouteNotFound "route_not_found" "no route for this host and path",
    ClusterNotFound "cluster_not_found" "the route leads to a cluster that does not exist: a subset is missing",
    NoHealthyUpstream "no_healthy_upstream" "no healthy upstream: no endpoint, or all are ejected",
    Overflow "overflow" "a connection pool or circuit breaker is full",
    TlsCertificate "tls_certificate_verify_failed" "the certificate of the other side was not accepted",
    TlsHandshake "tls_handshake_failed" "the TLS handshake with the upstream failed",
    ConnectRefused "connect_refused" "the upstream refused the connection",
    ConnectTimeout "connect_timeout" "the connection to the upstream was not made in time",
    ConnectFailed "connect_failed" "the connection to the upstream could not be made",
    UpstreamReset "upstream_reset" "the upstream broke the connection or the stream off",
    UpstreamProtocol "upstream_protocol_error" "the upstream does not speak the protocol that was expected",
    RetriesUsedUp "retries_used_up" "all retries or attempts to connect failed",
    RequestTimeout "request_timeout" "no answer within the timeout of the route",
    TryTimeout "per_try_timeout" "no answer within the timeout of one try",
    IdleTimeout "idle_timeout" "nothing moved for as long as a stream may be idle",
    DurationTimeout "duration_timeout" "the stream or connection lasted longer than it may",
    FaultAbort "fault_abort" "aborted on purpose by fault injection",
    FaultDelay "fault_delay" "answered, after a delay by fault injection",
    RateLimited "rate_limited" "rate limited",
    RateLimitError "rate_limit_error" "the rate limiter did not answer",
    DirectResponse "direct_response" "answered by the proxy, as the route says: a redirect or a direct response",
    CallerGone "caller_gone" "the caller hung up",
    BadRequest "bad_request" "the request was not well-formed",
    TooLarge "too_large" "a body or header is larger than a filter takes",
    Overload "overload" "the proxy is overloaded or told to drop",
    DnsFailure "dns_failure" "the name of the upstream could not be resolved",
    FilterConfig "filter_config_missing" "the proxy waits for the configuration of a filter",
    LocalReset "local_reset" "the proxy broke the stream off",
    Closed "connection_closed" "the connection ended",
    Other "other" "the proxy answered by itself for another reason",
}

impl Reason {
    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }

    /// Whether nothing went wrong.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Answered | Self::DirectResponse | Self::Closed)
    }
}

/// A text that a record keeps as the proxy wrote it. The names are the keys of Istio's JSON encoding
/// (istio `pilot/pkg/model/telemetry_logging.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detail {
    /// Method.
    Method,
    /// Path, the original one where it was rewritten.
    Path,
    /// `HTTP/1.1`, `HTTP/2`.
    Protocol,
    /// Host header.
    Authority,
    /// Why the response has its code.
    ResponseCodeDetails,
    /// Why a connection was ended.
    TerminationDetails,
    /// What the transport (TLS) upstream failed with.
    TransportFailure,
    /// `X-Forwarded-For`.
    ForwardedFor,
    /// `User-Agent`.
    UserAgent,
    /// `X-Request-Id`, also on Envoy's spans.
    RequestId,
    /// Address of the endpoint.
    UpstreamHost,
    /// Envoy's cluster: `outbound|8080||cart.shop.svc.cluster.local`.
    UpstreamCluster,
    /// Own address towards the upstream.
    UpstreamLocal,
    /// Own address towards the caller.
    DownstreamLocal,
    /// Address of the caller.
    DownstreamRemote,
    /// Server name (SNI).
    ServerName,
    /// Route.
    RouteName,
    /// Identity in the caller's certificate.
    PeerPrincipal,
}

impl Detail {
    /// All of them. A stored batch holds places in this list: add at the end only.
    pub const ALL: [Self; 18] = [
        Self::Method,
        Self::Path,
        Self::Protocol,
        Self::Authority,
        Self::ResponseCodeDetails,
        Self::TerminationDetails,
        Self::TransportFailure,
        Self::ForwardedFor,
        Self::UserAgent,
        Self::RequestId,
        Self::UpstreamHost,
        Self::UpstreamCluster,
        Self::UpstreamLocal,
        Self::DownstreamLocal,
        Self::DownstreamRemote,
        Self::ServerName,
        Self::RouteName,
        Self::PeerPrincipal,
    ];

    /// Name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Path => "path",
            Self::Protocol => "protocol",
            Self::Authority => "authority",
            Self::ResponseCodeDetails => "response_code_details",
            Self::TerminationDetails => "connection_termination_details",
            Self::TransportFailure => "upstream_transport_failure_reason",
            Self::ForwardedFor => "x_forwarded_for",
            Self::UserAgent => "user_agent",
            Self::RequestId => "request_id",
            Self::UpstreamHost => "upstream_host",
            Self::UpstreamCluster => "upstream_cluster",
            Self::UpstreamLocal => "upstream_local_address",
            Self::DownstreamLocal => "downstream_local_address",
            Self::DownstreamRemote => "downstream_remote_address",
            Self::ServerName => "requested_server_name",
            Self::RouteName => "route_name",
            Self::PeerPrincipal => "downstream_peer",
        }
    }
}

/// One request, or one TCP connection, as one proxy tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRecord {
    /// When it began, nanoseconds since the epoch.
    pub at_ns: u64,
    /// Its trace, where it was traced.
    pub trace_id: Option<TraceId>,
    /// The proxy's own span, where the record names it.
    pub span_id: Option<SpanId>,
    /// On which side of the call the proxy stands.
    pub reporter: Reporter,
    /// The caller.
    pub source: Workload,
    /// Who was called.
    pub destination: Workload,
    /// What was asked for.
    pub service: Service,
    /// HTTP status; 0 when there was no response, and of TCP.
    pub code: u16,
    /// gRPC status, where the record has it.
    pub grpc_status: Option<u16>,
    /// Response flags, comma-joined; empty for none.
    pub flags: Arc<str>,
    /// What became of it.
    pub reason: Reason,
    /// The AuthorizationPolicy that denied it, `namespace/name`.
    pub policy: Option<Arc<str>>,
    /// The number of its rule.
    pub rule: Option<u16>,
    /// From first to last byte, milliseconds.
    pub duration_ms: Option<u64>,
    /// What the upstream needed of that, milliseconds.
    pub upstream_ms: Option<u64>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// The other texts that the record has, in the order of [`Detail::ALL`].
    pub details: Vec<(Detail, Arc<str>)>,
}

impl AccessRecord {
    /// That text, when the record has it.
    pub fn detail(&self, wanted: Detail) -> Option<&str> {
        self.details.iter().find(|(detail, _)| *detail == wanted).map(|(_, text)| &**text)
    }

    /// About how much memory this record holds; texts shared with other records are counted in full.
    pub fn memory_bytes(&self) -> usize {
        let texts = self.details.iter().map(|(_, text)| text.len() + 16).sum::<usize>();
        size_of::<Self>() + self.details.capacity() * size_of::<(Detail, Arc<str>)>() + texts + 128
    }
}

/// What an edge is called in index rows and questions: `namespace/name`, the name alone where the namespace is not known,
/// empty where nothing is.
pub fn party(namespace: Option<&str>, name: Option<&str>) -> String {
    match (namespace, name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (_, name) => name.unwrap_or_default().to_owned(),
    }
}

/// The records of one edge that ended alike, within one stored batch: one narrow index row.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogPart {
    /// The caller, as [`party`] writes it.
    pub source: String,
    /// The called workload.
    pub destination: String,
    /// The called service, or its host.
    pub service: String,
    /// HTTP status.
    pub code: u16,
    /// What became of them.
    pub reason: Reason,
    /// Earliest start, nanoseconds since the epoch.
    pub from_ns: u64,
    /// Latest start.
    pub to_ns: u64,
    /// How many records.
    pub record_count: u32,
    /// Hashes of their trace ids, sorted, each once ([`trace_hash`]).
    pub trace_hashes: Vec<i64>,
}

/// Records on their way to the store: one compressed blob and its index rows.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogBatch {
    /// The records, as `access_logs` encodes them.
    pub bytes: Vec<u8>,
    /// Earliest start, nanoseconds since the epoch.
    pub from_ns: u64,
    /// Latest start.
    pub to_ns: u64,
    /// How many records.
    pub record_count: u32,
    /// One row for each edge, code and reason.
    pub parts: Vec<AccessLogPart>,
}

/// The hash by which the records of a trace are found. It is written to the database: it never changes.
pub fn trace_hash(id: &TraceId) -> i64 {
    // Trace ids are random in their last half (W3C Trace Context §4.3), so that is hash enough.
    i64::from_be_bytes(std::array::from_fn(|at| id[8 + at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own_that_leads_back_to_it() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
            assert!(!reason.words().is_empty());
        }
        assert_eq!(Reason::from_name("nonsense"), None);
    }

    #[test]
    fn details_stand_in_the_list_at_the_place_they_are_stored_by() {
        for (at, detail) in Detail::ALL.into_iter().enumerate() {
            assert_eq!(detail as usize, at);
        }
    }
}
