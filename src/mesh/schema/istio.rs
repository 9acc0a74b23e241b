//! Fields of Istio's security, telemetry and extension kinds; the networking ones are in `network`.

use super::Type::{Any, Duration, Enum, Flag, Integer, List, Map, Number, Object, Text};
use super::{FILLED, Field, PORT, Shape, TEXT, TEXT_MAP, Type, field, network, rules, text};
use crate::mesh::Kind;

const SELECTOR: Type =
    Object(&Shape::of(&[field("matchLabels", Map(text::selector_key, &Text(text::match_label_value)))]));
const TARGET: Shape = Shape::of(&[
    field("group", Text(text::group)),
    field("kind", FILLED),
    field("name", FILLED),
    field("namespace", TEXT),
])
.required(&["kind", "name"]);
const TARGETS: Type = List(&Object(&TARGET), 0);
const ONE_TARGET: &[&[&str]] = &[&["selector", "targetRef", "targetRefs"]];

const MTLS: Type = Object(&Shape::of(&[field("mode", Enum(&["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]))]));
const PEER: Shape =
    Shape::of(&[field("selector", SELECTOR), field("mtls", MTLS), field("portLevelMtls", Map(text::port_key, &MTLS))])
        .rules(&[rules::peer]);

const TOKEN_PLACE: Shape = Shape::of(&[field("name", FILLED), field("prefix", TEXT)]).required(&["name"]);
const CLAIM_HEADER: Shape =
    Shape::of(&[field("header", Text(text::plain_header)), field("claim", FILLED)]).required(&["header", "claim"]);
const JWT: Shape = Shape::of(&[
    field("issuer", TEXT),
    field("audiences", List(&FILLED, 0)),
    field("jwksUri", Text(text::http_url)),
    field("jwks_uri", Text(text::http_url)),
    field("jwks", Text(text::jwks)),
    field("fromHeaders", List(&Object(&TOKEN_PLACE), 0)),
    field("fromParams", List(&FILLED, 0)),
    field("fromCookies", List(&FILLED, 0)),
    field("outputPayloadToHeader", TEXT),
    field("forwardOriginalToken", Flag),
    field("outputClaimToHeaders", List(&Object(&CLAIM_HEADER), 0)),
    field("timeout", Duration(1)),
    field("spaceDelimitedClaims", List(&FILLED, 0)),
])
.one_of(&[&["jwksUri", "jwks_uri", "jwks"]]);
const REQUEST: Shape = Shape::of(&[
    field("selector", SELECTOR),
    field("targetRef", Object(&TARGET)),
    field("targetRefs", TARGETS),
    field("jwtRules", List(&Object(&JWT), 0)),
])
.one_of(ONE_TARGET);

const WORDS: Type = List(&FILLED, 0);
const RANGES: Type = List(&Text(text::address_or_range), 0);
const PORTS: Type = List(&Text(text::port_text), 0);
const PATHS: Type = List(&Text(text::policy_path), 0);
const SOURCE: Shape = Shape::of(&[
    field("principals", WORDS),
    field("notPrincipals", WORDS),
    field("requestPrincipals", WORDS),
    field("notRequestPrincipals", WORDS),
    field("namespaces", WORDS),
    field("notNamespaces", WORDS),
    field("serviceAccounts", WORDS),
    field("notServiceAccounts", WORDS),
    field("trustDomains", WORDS),
    field("notTrustDomains", WORDS),
    field("ipBlocks", RANGES),
    field("notIpBlocks", RANGES),
    field("remoteIpBlocks", RANGES),
    field("notRemoteIpBlocks", RANGES),
])
.rules(&[rules::source]);
const OPERATION: Shape = Shape::of(&[
    field("hosts", WORDS),
    field("notHosts", WORDS),
    field("ports", PORTS),
    field("notPorts", PORTS),
    field("methods", WORDS),
    field("notMethods", WORDS),
    field("paths", PATHS),
    field("notPaths", PATHS),
])
.rules(&[rules::operation]);
const CONDITION: Shape = Shape::of(&[
    field("key", Text(text::condition_key)),
    field("values", List(&TEXT, 0)),
    field("notValues", List(&TEXT, 0)),
])
.required(&["key"])
.rules(&[rules::condition]);
const RULE: Shape = Shape::of(&[
    field("from", List(&Object(&Shape::of(&[field("source", Object(&SOURCE))])), 0)),
    field("to", List(&Object(&Shape::of(&[field("operation", Object(&OPERATION))])), 0)),
    field("when", List(&Object(&CONDITION), 0)),
])
.rules(&[rules::authorization_rule]);
const AUTHORIZATION: Shape = Shape::of(&[
    field("selector", SELECTOR),
    field("targetRef", Object(&TARGET)),
    field("targetRefs", TARGETS),
    field("rules", List(&Object(&RULE), 0)),
    field("action", Enum(&["ALLOW", "DENY", "AUDIT", "CUSTOM"])),
    field("provider", Object(&Shape::of(&[field("name", TEXT)]))),
])
.one_of(ONE_TARGET)
.rules(&[rules::authorization]);

const PROVIDERS: Type = List(&Object(&Shape::of(&[field("name", FILLED)]).required(&["name"])), 0);
const MODE: Type = Enum(&["CLIENT_AND_SERVER", "CLIENT", "SERVER"]);
const MODE_MATCH: Type = Object(&Shape::of(&[field("mode", MODE)]));
const METRIC_NAMES: &[&str] = &[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
];
const OVERRIDE: Shape = Shape::of(&[
    field(
        "match",
        Object(
            &Shape::of(&[field("metric", Enum(METRIC_NAMES)), field("customMetric", FILLED), field("mode", MODE)])
                .one_of(&[&["metric", "customMetric"]]),
        ),
    ),
    field("disabled", Flag),
    field(
        "tagOverrides",
        Map(
            text::filled,
            &Object(
                &Shape::of(&[field("operation", Enum(&["UPSERT", "REMOVE"])), field("value", TEXT)])
                    .rules(&[rules::tag_override]),
            ),
        ),
    ),
]);
const NAMED_DEFAULT: Shape = Shape::of(&[field("name", FILLED), field("defaultValue", TEXT)]).required(&["name"]);
const VALUE: Shape = Shape::of(&[field("value", FILLED)]).required(&["value"]);
const CUSTOM_TAG: Shape = Shape::of(&[
    field("literal", Object(&VALUE)),
    field("environment", Object(&NAMED_DEFAULT)),
    field("header", Object(&NAMED_DEFAULT)),
    field("formatter", Object(&VALUE)),
])
.one_of(&[&["literal", "environment", "header", "formatter"]]);
const TELEMETRY: Shape = Shape::of(&[
    field("selector", SELECTOR),
    field("targetRef", Object(&TARGET)),
    field("targetRefs", TARGETS),
    field(
        "tracing",
        List(
            &Object(&Shape::of(&[
                field("match", MODE_MATCH),
                field("providers", PROVIDERS),
                field("randomSamplingPercentage", Number(0.0, 100.0)),
                field("disableSpanReporting", Flag),
                field("useRequestIdForTraceSampling", Flag),
                field("enableIstioTags", Flag),
                field("customTags", Map(text::filled, &Object(&CUSTOM_TAG))),
            ])),
            0,
        ),
    ),
    field(
        "metrics",
        List(
            &Object(&Shape::of(&[
                field("providers", PROVIDERS),
                field("overrides", List(&Object(&OVERRIDE), 0)),
                field("reportingInterval", Duration(1)),
            ])),
            0,
        ),
    ),
    field(
        "accessLogging",
        List(
            &Object(&Shape::of(&[
                field("match", MODE_MATCH),
                field("providers", PROVIDERS),
                field("disabled", Flag),
                field("filter", Object(&Shape::of(&[field("expression", TEXT)]))),
            ])),
            0,
        ),
    ),
])
.one_of(ONE_TARGET);

const WASM_VARIABLE: Shape =
    Shape::of(&[field("name", FILLED), field("valueFrom", Enum(&["INLINE", "HOST"])), field("value", TEXT)])
        .required(&["name"])
        .rules(&[rules::wasm_variable]);
const WASM: Shape = Shape::of(&[
    field("selector", SELECTOR),
    field("targetRef", Object(&TARGET)),
    field("targetRefs", TARGETS),
    field("url", Text(text::wasm_url)),
    field("sha256", Text(text::sha256)),
    field("imagePullPolicy", Enum(&["UNSPECIFIED_POLICY", "IfNotPresent", "Always"])),
    field("imagePullSecret", FILLED),
    field("verificationKey", TEXT),
    field("pluginConfig", Any),
    field("pluginName", FILLED),
    field("phase", Enum(&["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"])),
    field("priority", Integer(i32::MIN as i64, i32::MAX as i64)),
    field("failStrategy", Enum(&["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"])),
    field("vmConfig", Object(&Shape::of(&[field("env", List(&Object(&WASM_VARIABLE), 0))]))),
    field(
        "match",
        List(
            &Object(&Shape::of(&[
                field("mode", Enum(&["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"])),
                field("ports", List(&Object(&Shape::of(&[field("number", PORT)]).required(&["number"])), 0)),
            ])),
            0,
        ),
    ),
    field("type", Enum(&["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"])),
])
.required(&["url"])
.one_of(ONE_TARGET);

const PROXY: Shape = Shape::of(&[
    field("selector", SELECTOR),
    field("concurrency", Integer(0, i32::MAX as i64)),
    field("environmentVariables", TEXT_MAP),
    field("image", Object(&Shape::of(&[field("imageType", TEXT)]))),
]);

const SUB_FILTER: Type = Object(&Shape::of(&[field("name", TEXT)]));
const FILTER: Type = Object(&Shape::of(&[field("name", TEXT), field("subFilter", SUB_FILTER)]));
const PATCH_MATCH: Shape = Shape::of(&[
    field("context", Enum(&["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"])),
    field("proxy", Object(&Shape::of(&[field("proxyVersion", Text(text::pattern)), field("metadata", TEXT_MAP)]))),
    field(
        "listener",
        Object(&Shape::of(&[
            field("portNumber", Integer(0, 65535)),
            field("portName", TEXT),
            field(
                "filterChain",
                Object(&Shape::of(&[
                    field("name", TEXT),
                    field("sni", TEXT),
                    field("transportProtocol", TEXT),
                    field("applicationProtocols", TEXT),
                    field("filter", FILTER),
                    field("destinationPort", Integer(0, 65535)),
                ])),
            ),
            field("listenerFilter", TEXT),
            field("name", TEXT),
        ])),
    ),
    field(
        "routeConfiguration",
        Object(&Shape::of(&[
            field("portNumber", Integer(0, 65535)),
            field("portName", TEXT),
            field("gateway", TEXT),
            field(
                "vhost",
                Object(&Shape::of(&[
                    field("name", TEXT),
                    field("domainName", TEXT),
                    field(
                        "route",
                        Object(&Shape::of(&[
                            field("name", TEXT),
                            field("action", Enum(&["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"])),
                        ])),
                    ),
                ])),
            ),
            field("name", TEXT),
        ])),
    ),
    field(
        "cluster",
        Object(&Shape::of(&[
            field("portNumber", Integer(0, 65535)),
            field("service", TEXT),
            field("subset", TEXT),
            field("name", TEXT),
        ])),
    ),
    field(
        "waypoint",
        Object(&Shape::of(&[
            field("portNumber", PORT),
            field("filter", FILTER),
            field("route", Object(&Shape::of(&[field("name", TEXT)]))),
        ])),
    ),
])
.one_of(&[&["listener", "routeConfiguration", "cluster", "waypoint"]])
.rules(&[rules::patch_match]);
const ENVOY_FILTER: Shape = Shape::of(&[
    field("workloadSelector", Object(&network::LABELS_SELECTOR)),
    field("targetRefs", TARGETS),
    field(
        "configPatches",
        List(
            &Object(&Shape::of(&[
                field(
                    "applyTo",
                    Enum(&[
                        "INVALID",
                        "LISTENER",
                        "FILTER_CHAIN",
                        "NETWORK_FILTER",
                        "HTTP_FILTER",
                        "ROUTE_CONFIGURATION",
                        "VIRTUAL_HOST",
                        "HTTP_ROUTE",
                        "CLUSTER",
                        "EXTENSION_CONFIG",
                        "BOOTSTRAP",
                        "LISTENER_FILTER",
                    ]),
                ),
                field("match", Object(&PATCH_MATCH)),
                field(
                    "patch",
                    Object(&Shape::of(&[
                        field(
                            "operation",
                            Enum(&[
                                "INVALID",
                                "MERGE",
                                "ADD",
                                "REMOVE",
                                "INSERT_BEFORE",
                                "INSERT_AFTER",
                                "INSERT_FIRST",
                                "REPLACE",
                                "MERGE_AND_REPLACE_LIST",
                            ]),
                        ),
                        field("value", Any),
                        field("filterClass", Enum(&["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"])),
                    ])),
                ),
            ])),
            0,
        ),
    ),
    field("priority", Integer(i32::MIN as i64, i32::MAX as i64)),
])
.one_of(&[&["workloadSelector", "targetRefs"]]);

/// The object of a kind of Istio.
pub(super) fn shape(kind: Kind) -> Option<Shape> {
    let (spec, required) = network::spec(kind).or_else(|| own_spec(kind))?;
    Some(top(spec, required))
}

fn own_spec(kind: Kind) -> Option<(&'static Shape, bool)> {
    Some(match kind {
        Kind::PeerAuthentication => (&PEER, false),
        Kind::RequestAuthentication => (&REQUEST, false),
        Kind::AuthorizationPolicy => (&AUTHORIZATION, false),
        Kind::Telemetry => (&TELEMETRY, false),
        Kind::WasmPlugin => (&WASM, true),
        Kind::ProxyConfig => (&PROXY, false),
        Kind::EnvoyFilter => (&ENVOY_FILTER, false),
        _ => return None,
    })
}

/// The four parts of every object, and its spec.
pub(super) fn top(spec: &'static Shape, required: bool) -> Shape {
    Shape { spec: Some(spec), required: if required { &["spec"] } else { &[] }, ..Shape::of(TOP) }
}

const TOP: &[Field] =
    &[field("apiVersion", Any), field("kind", Any), field("metadata", Any), field("status", Any), field("spec", Any)];
