//! Fields of Istio's networking kinds (`networking.istio.io`).

use super::Type::{Duration, Enum, Flag, Integer, List, Map, Number, Object, Text};
use super::{COUNT, FILLED, PORT, Shape, TEXT, TEXT_MAP, TEXTS, Type, field, rules_network as rules, text};
use crate::mesh::Kind;

const SECONDS: Type = Duration(0);
const ABOVE_ZERO: Type = Duration(1);
const PERCENT: Type = Object(&Shape::of(&[field("value", Number(0.0, 100.0))]));
const EXPORT_TO: Type = List(&Text(text::export_to), 0);
const GATEWAYS: Type = List(&FILLED, 0);
pub(super) const LABELS_SELECTOR: Shape =
    Shape::of(&[field("labels", Map(text::selector_key, &Text(text::selector_value)))]);
const MATCH_LABELS: Shape = Shape::of(&[field("matchLabels", Map(text::selector_key, &Text(text::selector_value)))]);

const STRING_MATCH: Type = Object(
    &Shape::of(&[field("exact", TEXT), field("prefix", TEXT), field("regex", Text(text::pattern))])
        .one_of(&[&["exact", "prefix", "regex"]]),
);
const STRING_MATCHES: Type = Map(text::any, &STRING_MATCH);
const DESTINATION: Shape = Shape::of(&[
    field("host", FILLED),
    field("subset", TEXT),
    field("port", Object(&Shape::of(&[field("number", PORT)]))),
])
.required(&["host"]);
const HEADER_CHANGE: Shape = Shape::of(&[
    field("set", Map(text::header_or_pseudo, &TEXT)),
    field("add", Map(text::header_or_pseudo, &TEXT)),
    field("remove", TEXTS),
]);
const HEADERS: Type =
    Object(&Shape::of(&[field("request", Object(&HEADER_CHANGE)), field("response", Object(&HEADER_CHANGE))]));
const HTTP_DESTINATION: Shape = Shape::of(&[
    field("destination", Object(&DESTINATION)),
    field("weight", Integer(0, i32::MAX as i64)),
    field("headers", HEADERS),
])
.required(&["destination"]);
const HTTP_MATCH: Shape = Shape::of(&[
    field("name", TEXT),
    field("uri", STRING_MATCH),
    field("scheme", STRING_MATCH),
    field("method", STRING_MATCH),
    field("authority", STRING_MATCH),
    field("headers", STRING_MATCHES),
    field("withoutHeaders", STRING_MATCHES),
    field("queryParams", STRING_MATCHES),
    field("ignoreUriCase", Flag),
    field("port", PORT),
    field("sourceLabels", TEXT_MAP),
    field("sourceNamespace", TEXT),
    field("gateways", GATEWAYS),
    field("statPrefix", TEXT),
]);
const REDIRECT: Shape = Shape::of(&[
    field("uri", TEXT),
    field("authority", TEXT),
    field("port", PORT),
    field("derivePort", Enum(&["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])),
    field("scheme", Enum(&["http", "https"])),
    field("redirectCode", Integer(300, 399)),
])
.one_of(&[&["port", "derivePort"]]);
const REWRITE: Shape = Shape::of(&[
    field("uri", TEXT),
    field("authority", TEXT),
    field("uriRegexRewrite", Object(&Shape::of(&[field("match", Text(text::pattern)), field("rewrite", TEXT)]))),
])
.one_of(&[&["uri", "uriRegexRewrite"]])
.rules(&[rules::rewrite]);
const RETRIES: Shape = Shape::of(&[
    field("attempts", Integer(0, i32::MAX as i64)),
    field("perTryTimeout", ABOVE_ZERO),
    field("retryOn", Text(text::retry_on)),
    field("retryRemoteLocalities", Flag),
    field("retryIgnorePreviousHosts", Flag),
    field("backoff", ABOVE_ZERO),
])
.rules(&[rules::retries]);
const FAULT: Shape = Shape::of(&[
    field(
        "delay",
        Object(
            &Shape::of(&[
                field("percent", Integer(0, 100)),
                field("percentage", PERCENT),
                field("fixedDelay", ABOVE_ZERO),
                field("exponentialDelay", ABOVE_ZERO),
            ])
            .one_of(&[&["fixedDelay", "exponentialDelay"]])
            .rules(&[rules::delay]),
        ),
    ),
    field(
        "abort",
        Object(
            &Shape::of(&[
                field("percentage", PERCENT),
                field("httpStatus", Integer(200, 599)),
                field("grpcStatus", Text(text::grpc_status)),
                field("http2Error", TEXT),
            ])
            .one_of(&[&["httpStatus", "grpcStatus", "http2Error"]])
            .rules(&[rules::abort]),
        ),
    ),
])
.rules(&[rules::fault]);
const CORS: Shape = Shape::of(&[
    field("allowOrigin", TEXTS),
    field("allowOrigins", List(&STRING_MATCH, 0)),
    field("allowMethods", List(&Text(text::method_or_star), 0)),
    field("allowHeaders", TEXTS),
    field("exposeHeaders", TEXTS),
    field("maxAge", ABOVE_ZERO),
    field("allowCredentials", Flag),
    field("unmatchedPreflights", Enum(&["UNSPECIFIED", "FORWARD", "IGNORE"])),
]);
const DIRECT_RESPONSE: Shape = Shape::of(&[
    field("status", Integer(200, 599)),
    field("body", Object(&Shape::of(&[field("string", TEXT), field("bytes", TEXT)]).one_of(&[&["string", "bytes"]]))),
])
.required(&["status"]);
const MIRRORS: Shape =
    Shape::of(&[field("destination", Object(&DESTINATION)), field("percentage", PERCENT)]).required(&["destination"]);
const HTTP_ROUTE: Shape = Shape::of(&[
    field("name", TEXT),
    field("match", List(&Object(&HTTP_MATCH), 0)),
    field("route", List(&Object(&HTTP_DESTINATION), 0)),
    field("redirect", Object(&REDIRECT)),
    field("directResponse", Object(&DIRECT_RESPONSE)),
    field("delegate", Object(&Shape::of(&[field("name", TEXT), field("namespace", TEXT)]))),
    field("rewrite", Object(&REWRITE)),
    field("timeout", SECONDS),
    field("retries", Object(&RETRIES)),
    field("fault", Object(&FAULT)),
    field("mirror", Object(&DESTINATION)),
    field("mirrors", List(&Object(&MIRRORS), 0)),
    field("mirrorPercent", Integer(0, 100)),
    field("mirror_percent", Integer(0, 100)),
    field("mirrorPercentage", PERCENT),
    field("corsPolicy", Object(&CORS)),
    field("headers", HEADERS),
])
.one_of(&[&["mirror", "mirrors"], &["redirect", "directResponse", "delegate"]])
.rules(&[rules::http_route]);
const ROUTE_DESTINATION: Shape =
    Shape::of(&[field("destination", Object(&DESTINATION)), field("weight", Integer(0, i32::MAX as i64))])
        .required(&["destination"]);
const RANGES: Type = List(&Text(text::address_or_range), 0);
const TLS_MATCH: Shape = Shape::of(&[
    field("sniHosts", List(&Text(text::wildcard_host), 1)),
    field("destinationSubnets", RANGES),
    field("port", PORT),
    field("sourceLabels", TEXT_MAP),
    field("gateways", GATEWAYS),
    field("sourceNamespace", TEXT),
])
.required(&["sniHosts"]);
const TCP_MATCH: Shape = Shape::of(&[
    field("destinationSubnets", RANGES),
    field("port", PORT),
    field("sourceSubnet", TEXT),
    field("sourceLabels", TEXT_MAP),
    field("gateways", GATEWAYS),
    field("sourceNamespace", TEXT),
]);
const TLS_ROUTE: Shape =
    Shape::of(&[field("match", List(&Object(&TLS_MATCH), 1)), field("route", List(&Object(&ROUTE_DESTINATION), 1))])
        .required(&["match", "route"])
        .rules(&[rules::weights]);
const TCP_ROUTE: Shape =
    Shape::of(&[field("match", List(&Object(&TCP_MATCH), 0)), field("route", List(&Object(&ROUTE_DESTINATION), 1))])
        .required(&["route"])
        .rules(&[rules::weights]);
const VIRTUAL_SERVICE: Shape = Shape::of(&[
    field("hosts", List(&Text(text::wildcard_host), 0)),
    field("gateways", GATEWAYS),
    field("http", List(&Object(&HTTP_ROUTE), 0)),
    field("tls", List(&Object(&TLS_ROUTE), 0)),
    field("tcp", List(&Object(&TCP_ROUTE), 0)),
    field("exportTo", EXPORT_TO),
])
.rules(&[rules::virtual_service, rules::export_to]);

const CONSISTENT_HASH: Shape = Shape::of(&[
    field("httpHeaderName", TEXT),
    field(
        "httpCookie",
        Object(
            &Shape::of(&[
                field("name", FILLED),
                field("path", TEXT),
                field("ttl", SECONDS),
                field("attributes", List(&Object(&Shape::of(&[field("name", TEXT), field("value", TEXT)])), 0)),
            ])
            .required(&["name"]),
        ),
    ),
    field("useSourceIp", Flag),
    field("httpQueryParameterName", TEXT),
    field("ringHash", Object(&Shape::of(&[field("minimumRingSize", COUNT)]))),
    field("maglev", Object(&Shape::of(&[field("tableSize", COUNT)]))),
    field("minimumRingSize", COUNT),
])
.one_of(&[&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"], &["ringHash", "maglev"]]);
const LOCALITY: Shape = Shape::of(&[
    field(
        "distribute",
        List(&Object(&Shape::of(&[field("from", TEXT), field("to", Map(text::filled, &Integer(0, 100)))])), 0),
    ),
    field("failover", List(&Object(&Shape::of(&[field("from", TEXT), field("to", TEXT)])), 0)),
    field("failoverPriority", TEXTS),
    field("enabled", Flag),
])
.one_of(&[&["distribute", "failover"], &["distribute", "failoverPriority"]])
.rules(&[rules::locality]);
/// Of Istio 1.31.
const ZONE_AWARE: Shape = Shape::of(&[
    field("enabled", Flag),
    field("minClusterSize", Integer(0, u32::MAX as i64)),
    field("failover", List(&Object(&Shape::of(&[field("from", TEXT), field("to", TEXT)])), 0)),
    field("failoverPriority", TEXTS),
]);
const LOAD_BALANCER: Shape = Shape::of(&[
    field("simple", Enum(&["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"])),
    field("consistentHash", Object(&CONSISTENT_HASH)),
    field("localityLbSetting", Object(&LOCALITY)),
    field("zoneAwareLbSetting", Object(&ZONE_AWARE)),
    field("warmupDurationSecs", SECONDS),
    field(
        "warmup",
        Object(
            &Shape::of(&[
                field("duration", SECONDS),
                field("minimumPercent", Number(0.0, 100.0)),
                field("aggression", Number(1.0, f64::MAX)),
            ])
            .required(&["duration"]),
        ),
    ),
])
.one_of(&[&["simple", "consistentHash"], &["warmup", "warmupDurationSecs"]]);
pub(super) const CONNECTION_POOL: Shape = Shape::of(&[
    field(
        "tcp",
        Object(&Shape::of(&[
            field("maxConnections", Integer(0, i32::MAX as i64)),
            field("connectTimeout", ABOVE_ZERO),
            field("maxConnectionDuration", ABOVE_ZERO),
            field("idleTimeout", SECONDS),
            field(
                "tcpKeepalive",
                Object(&Shape::of(&[field("probes", COUNT), field("time", ABOVE_ZERO), field("interval", ABOVE_ZERO)])),
            ),
        ])),
    ),
    field(
        "http",
        Object(&Shape::of(&[
            field("http1MaxPendingRequests", Integer(0, i32::MAX as i64)),
            field("http2MaxRequests", Integer(0, i32::MAX as i64)),
            field("maxRequestsPerConnection", Integer(0, i32::MAX as i64)),
            field("maxRetries", Integer(0, i32::MAX as i64)),
            field("idleTimeout", SECONDS),
            field("h2UpgradePolicy", Enum(&["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"])),
            field("useClientProtocol", Flag),
            field("maxConcurrentStreams", Integer(0, i32::MAX as i64)),
        ])),
    ),
]);
const OUTLIERS: Shape = Shape::of(&[
    field("consecutiveErrors", Integer(0, i32::MAX as i64)),
    field("splitExternalLocalOriginErrors", Flag),
    field("consecutiveLocalOriginFailures", COUNT),
    field("consecutiveGatewayErrors", COUNT),
    field("consecutive5xxErrors", COUNT),
    field("interval", ABOVE_ZERO),
    field("baseEjectionTime", ABOVE_ZERO),
    field("maxEjectionPercent", Integer(0, 100)),
    field("minHealthPercent", Integer(0, 100)),
]);
const CLIENT_TLS: Shape = Shape::of(&[
    field("mode", Enum(&["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"])),
    field("clientCertificate", TEXT),
    field("privateKey", TEXT),
    field("caCertificates", TEXT),
    field("caCrl", TEXT),
    field("credentialName", TEXT),
    field("subjectAltNames", TEXTS),
    field("sni", TEXT),
    field("insecureSkipVerify", Flag),
])
.rules(&[rules::client_tls]);
/// The fields that a port may set by itself; the whole policy has more.
const PORT_POLICY: Shape = Shape::of(&[
    field("port", Object(&Shape::of(&[field("number", PORT)]))),
    field("loadBalancer", Object(&LOAD_BALANCER)),
    field("connectionPool", Object(&CONNECTION_POOL)),
    field("outlierDetection", Object(&OUTLIERS)),
    field("tls", Object(&CLIENT_TLS)),
]);
const TRAFFIC_POLICY: Shape = Shape::of(&[
    field("loadBalancer", Object(&LOAD_BALANCER)),
    field("connectionPool", Object(&CONNECTION_POOL)),
    field("outlierDetection", Object(&OUTLIERS)),
    field("tls", Object(&CLIENT_TLS)),
    field("portLevelSettings", List(&Object(&PORT_POLICY), 0)),
    field(
        "tunnel",
        Object(
            &Shape::of(&[
                field("protocol", Enum(&["CONNECT", "POST", ""])),
                field("targetHost", FILLED),
                field("targetPort", PORT),
            ])
            .required(&["targetHost", "targetPort"]),
        ),
    ),
    field("proxyProtocol", Object(&Shape::of(&[field("version", Enum(&["V1", "V2"]))]))),
    field(
        "retryBudget",
        Object(&Shape::of(&[field("percent", Number(0.0, 100.0)), field("minRetryConcurrency", COUNT)])),
    ),
]);
const SUBSET: Shape = Shape::of(&[
    field("name", Text(text::port_name)),
    field("labels", Map(text::label_key, &Text(text::label_value))),
    field("trafficPolicy", Object(&TRAFFIC_POLICY)),
])
.required(&["name"]);
const DESTINATION_RULE: Shape = Shape::of(&[
    field("host", Text(text::wildcard_host)),
    field("trafficPolicy", Object(&TRAFFIC_POLICY)),
    field("subsets", List(&Object(&SUBSET), 0)),
    field("exportTo", EXPORT_TO),
    field("workloadSelector", Object(&MATCH_LABELS)),
])
.required(&["host"])
.rules(&[rules::subsets, rules::export_to]);

const TLS_VERSION: Type = Enum(&["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]);
const SERVER_TLS: Shape = Shape::of(&[
    field("httpsRedirect", Flag),
    field("mode", Enum(&["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"])),
    field("serverCertificate", TEXT),
    field("privateKey", TEXT),
    field("caCertificates", TEXT),
    field("caCrl", TEXT),
    field("credentialName", TEXT),
    field("credentialNames", TEXTS),
    field("caCertCredentialName", TEXT),
    field(
        "tlsCertificates",
        List(
            &Object(&Shape::of(&[
                field("serverCertificate", TEXT),
                field("privateKey", TEXT),
                field("caCertificates", TEXT),
            ])),
            0,
        ),
    ),
    field("subjectAltNames", TEXTS),
    field("verifyCertificateSpki", TEXTS),
    field("verifyCertificateHash", TEXTS),
    field("minProtocolVersion", TLS_VERSION),
    field("maxProtocolVersion", TLS_VERSION),
    field("cipherSuites", TEXTS),
])
.rules(&[rules::server_tls]);
const GATEWAY_PORT: Shape = Shape::of(&[
    field("number", PORT),
    field("protocol", Text(text::protocol)),
    field("name", FILLED),
    field("targetPort", Integer(0, 65535)),
])
.required(&["number", "protocol", "name"]);
const SERVER: Shape = Shape::of(&[
    field("port", Object(&GATEWAY_PORT)),
    field("hosts", List(&Text(text::scoped_host), 1)),
    field("tls", Object(&SERVER_TLS)),
    field("bind", TEXT),
    field("defaultEndpoint", TEXT),
    field("name", TEXT),
])
.required(&["port", "hosts"])
.rules(&[rules::server]);
const GATEWAY: Shape = Shape::of(&[field("servers", List(&Object(&SERVER), 1)), field("selector", TEXT_MAP)])
    .required(&["servers"])
    .rules(&[rules::gateway]);

const ENTRY_PORT: Shape = Shape::of(&[
    field("number", PORT),
    field("name", FILLED),
    field("protocol", Text(text::protocol)),
    field("targetPort", PORT),
])
.required(&["number", "name"]);
const WORKLOAD_ENTRY: Shape = Shape::of(&[
    field("address", Text(text::workload_address)),
    field("ports", Map(text::port_name, &PORT)),
    field("labels", TEXT_MAP),
    field("network", TEXT),
    field("locality", TEXT),
    field("weight", COUNT),
    field("serviceAccount", TEXT),
])
.rules(&[rules::workload_address]);
const SERVICE_ENTRY: Shape = Shape::of(&[
    field("hosts", List(&Text(text::entry_host), 1)),
    field("addresses", List(&Text(text::loose_address), 0)),
    field("ports", List(&Object(&ENTRY_PORT), 0)),
    field("location", Enum(&["MESH_EXTERNAL", "MESH_INTERNAL"])),
    field("resolution", Enum(&["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"])),
    field("endpoints", List(&Object(&WORKLOAD_ENTRY), 0)),
    field("workloadSelector", Object(&LABELS_SELECTOR)),
    field("exportTo", EXPORT_TO),
    field("subjectAltNames", TEXTS),
])
.required(&["hosts"])
.one_of(&[&["workloadSelector", "endpoints"]])
.rules(&[rules::service_entry, rules::export_to]);
const HEADER: Shape = Shape::of(&[field("name", Text(text::plain_header)), field("value", TEXT)]).required(&["name"]);
const PROBE: Shape = Shape::of(&[
    field("initialDelaySeconds", COUNT),
    field("timeoutSeconds", COUNT),
    field("periodSeconds", COUNT),
    field("successThreshold", COUNT),
    field("failureThreshold", COUNT),
    field(
        "httpGet",
        Object(
            &Shape::of(&[
                field("path", TEXT),
                field("port", PORT),
                field("host", TEXT),
                field("scheme", Enum(&["HTTP", "HTTPS"])),
                field("httpHeaders", List(&Object(&HEADER), 0)),
            ])
            .required(&["port"]),
        ),
    ),
    field("tcpSocket", Object(&Shape::of(&[field("host", TEXT), field("port", PORT)]).required(&["port"]))),
    field("exec", Object(&Shape::of(&[field("command", List(&TEXT, 1))]).required(&["command"]))),
    field("grpc", Object(&Shape::of(&[field("port", PORT), field("service", TEXT)]))),
])
.one_of(&[&["httpGet", "tcpSocket", "exec", "grpc"]]);
const WORKLOAD_GROUP: Shape = Shape::of(&[
    field("metadata", Object(&Shape::of(&[field("labels", TEXT_MAP), field("annotations", TEXT_MAP)]))),
    field("template", Object(&WORKLOAD_ENTRY)),
    field("probe", Object(&PROBE)),
])
.required(&["template"]);
const SIDECAR_PORT: Shape = Shape::of(&[
    field("number", Integer(0, 65535)),
    field("protocol", Text(text::protocol)),
    field("name", TEXT),
    field("targetPort", Integer(0, 65535)),
]);
const CAPTURE: Type = Enum(&["DEFAULT", "IPTABLES", "NONE"]);
const SIDECAR: Shape = Shape::of(&[
    field("workloadSelector", Object(&LABELS_SELECTOR)),
    field(
        "ingress",
        List(
            &Object(
                &Shape::of(&[
                    field("port", Object(&SIDECAR_PORT)),
                    field("bind", TEXT),
                    field("captureMode", CAPTURE),
                    field("defaultEndpoint", TEXT),
                    field("tls", Object(&SERVER_TLS)),
                    field("connectionPool", Object(&CONNECTION_POOL)),
                ])
                .required(&["port"]),
            ),
            1,
        ),
    ),
    field(
        "egress",
        List(
            &Object(
                &Shape::of(&[
                    field("port", Object(&SIDECAR_PORT)),
                    field("bind", TEXT),
                    field("captureMode", CAPTURE),
                    field("hosts", List(&Text(text::sidecar_host), 1)),
                ])
                .required(&["hosts"]),
            ),
            0,
        ),
    ),
    field("inboundConnectionPool", Object(&CONNECTION_POOL)),
    field(
        "outboundTrafficPolicy",
        Object(&Shape::of(&[
            field("mode", Enum(&["REGISTRY_ONLY", "ALLOW_ANY"])),
            field("egressProxy", Object(&DESTINATION)),
        ])),
    ),
]);

/// The spec of a kind, and whether there must be one.
pub(super) fn spec(kind: Kind) -> Option<(&'static Shape, bool)> {
    Some(match kind {
        Kind::VirtualService => (&VIRTUAL_SERVICE, true),
        Kind::DestinationRule => (&DESTINATION_RULE, true),
        Kind::Gateway => (&GATEWAY, true),
        Kind::ServiceEntry => (&SERVICE_ENTRY, true),
        Kind::Sidecar => (&SIDECAR, false),
        Kind::WorkloadEntry => (&WORKLOAD_ENTRY, true),
        Kind::WorkloadGroup => (&WORKLOAD_GROUP, true),
        _ => return None,
    })
}
