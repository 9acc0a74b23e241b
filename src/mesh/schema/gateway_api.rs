//! Fields of the Gateway API (`gateway.networking.k8s.io`), those of its experimental channel too.

use super::Type::{Any, Enum, Integer, List, Object, Text};
use super::{FILLED, PORT, Shape, TEXT, TEXT_MAP, TEXTS, Type, field, istio, text};
use crate::mesh::Kind;

const REFERENCE: Shape = Shape::of(&[
    field("group", Text(text::group)),
    field("kind", FILLED),
    field("name", FILLED),
    field("namespace", FILLED),
])
.required(&["name"]);
const PARENTS: Type = List(
    &Object(
        &Shape::of(&[
            field("group", Text(text::group)),
            field("kind", FILLED),
            field("name", FILLED),
            field("namespace", FILLED),
            field("sectionName", FILLED),
            field("port", PORT),
        ])
        .required(&["name"]),
    ),
    0,
);
const HOSTNAMES: Type = List(&Text(text::route_host), 0);
const MATCH_VALUE: Type = List(
    &Object(
        &Shape::of(&[
            field("type", Enum(&["Exact", "RegularExpression"])),
            field("name", FILLED),
            field("value", FILLED),
        ])
        .required(&["name", "value"]),
    ),
    0,
);
const HEADER_VALUES: Type = List(
    &Object(&Shape::of(&[field("name", Text(text::header_name)), field("value", FILLED)]).required(&["name", "value"])),
    0,
);
const HEADER_FILTER: Shape =
    Shape::of(&[field("set", HEADER_VALUES), field("add", HEADER_VALUES), field("remove", TEXTS)]);
const BACKEND_OBJECT: Type = Object(
    &Shape::of(&[
        field("group", Text(text::group)),
        field("kind", FILLED),
        field("name", FILLED),
        field("namespace", FILLED),
        field("port", PORT),
    ])
    .required(&["name"]),
);
const PATH_CHANGE: Shape = Shape::of(&[
    field("type", Enum(&["ReplaceFullPath", "ReplacePrefixMatch"])),
    field("replaceFullPath", TEXT),
    field("replacePrefixMatch", TEXT),
])
.required(&["type"])
.one_of(&[&["replaceFullPath", "replacePrefixMatch"]]);
const FILTER: Shape = Shape::of(&[
    field(
        "type",
        Enum(&[
            "RequestHeaderModifier",
            "ResponseHeaderModifier",
            "RequestMirror",
            "RequestRedirect",
            "URLRewrite",
            "ExtensionRef",
            "CORS",
            "ExternalAuth",
        ]),
    ),
    field("requestHeaderModifier", Object(&HEADER_FILTER)),
    field("responseHeaderModifier", Object(&HEADER_FILTER)),
    field(
        "requestMirror",
        Object(
            &Shape::of(&[
                field("backendRef", BACKEND_OBJECT),
                field("percent", Integer(0, 100)),
                field("fraction", Any),
            ])
            .required(&["backendRef"])
            .one_of(&[&["percent", "fraction"]]),
        ),
    ),
    field(
        "requestRedirect",
        Object(&Shape::of(&[
            field("scheme", Enum(&["http", "https"])),
            field("hostname", Text(text::host)),
            field("path", Object(&PATH_CHANGE)),
            field("port", PORT),
            field("statusCode", Integer(300, 399)),
        ])),
    ),
    field(
        "urlRewrite",
        Object(&Shape::of(&[field("hostname", Text(text::host)), field("path", Object(&PATH_CHANGE))])),
    ),
    field("extensionRef", Object(&REFERENCE)),
    field("cors", Any),
    field("externalAuth", Any),
])
.required(&["type"]);
const FILTERS: Type = List(&Object(&FILTER), 0);
const BACKENDS: Type = List(
    &Object(
        &Shape::of(&[
            field("group", Text(text::group)),
            field("kind", FILLED),
            field("name", FILLED),
            field("namespace", FILLED),
            field("port", PORT),
            field("weight", Integer(0, 1_000_000)),
            field("filters", FILTERS),
        ])
        .required(&["name"]),
    ),
    0,
);
const TIMEOUTS: Shape = Shape::of(&[field("request", Type::Duration(0)), field("backendRequest", Type::Duration(0))]);
const HTTP_MATCH: Shape = Shape::of(&[
    field(
        "path",
        Object(&Shape::of(&[
            field("type", Enum(&["Exact", "PathPrefix", "RegularExpression"])),
            field("value", Text(text::slashed)),
        ])),
    ),
    field("headers", MATCH_VALUE),
    field("queryParams", MATCH_VALUE),
    field("method", Enum(text::METHODS)),
]);
const GRPC_MATCH: Shape = Shape::of(&[
    field(
        "method",
        Object(&Shape::of(&[
            field("type", Enum(&["Exact", "RegularExpression"])),
            field("service", FILLED),
            field("method", FILLED),
        ])),
    ),
    field("headers", MATCH_VALUE),
]);
/// The rules of an HTTPRoute.
pub(super) const HTTP_RULE: Shape = Shape::of(&[
    field("name", TEXT),
    field("matches", List(&Object(&HTTP_MATCH), 0)),
    field("filters", FILTERS),
    field("backendRefs", BACKENDS),
    field("timeouts", Object(&TIMEOUTS)),
    field("retry", Any),
    field("sessionPersistence", Any),
]);
/// An HTTPRoute, which Linkerd copied.
pub(super) const HTTP_ROUTE: Shape = Shape::of(&[
    field("parentRefs", PARENTS),
    field("hostnames", HOSTNAMES),
    field("rules", List(&Object(&HTTP_RULE), 0)),
    field("useDefaultGateways", TEXT),
]);
const GRPC_ROUTE: Shape = Shape::of(&[
    field("parentRefs", PARENTS),
    field("hostnames", HOSTNAMES),
    field(
        "rules",
        List(
            &Object(&Shape::of(&[
                field("name", TEXT),
                field("matches", List(&Object(&GRPC_MATCH), 0)),
                field("filters", FILTERS),
                field("backendRefs", BACKENDS),
                field("sessionPersistence", Any),
            ])),
            0,
        ),
    ),
    field("useDefaultGateways", TEXT),
]);
const STREAM_RULES: Type = List(&Object(&Shape::of(&[field("name", TEXT), field("backendRefs", BACKENDS)])), 1);
const TCP_ROUTE: Shape =
    Shape::of(&[field("parentRefs", PARENTS), field("rules", STREAM_RULES), field("useDefaultGateways", TEXT)])
        .required(&["rules"]);
const TLS_ROUTE: Shape = Shape::of(&[
    field("parentRefs", PARENTS),
    field("hostnames", HOSTNAMES),
    field("rules", STREAM_RULES),
    field("useDefaultGateways", TEXT),
])
.required(&["rules"]);
const LABEL_SELECTOR: Type =
    Object(&Shape::of(&[field("matchLabels", TEXT_MAP), field("matchExpressions", List(&Any, 0))]));
const LISTENER: Shape = Shape::of(&[
    field("name", FILLED),
    field("hostname", Text(text::route_host)),
    field("port", PORT),
    field("protocol", FILLED),
    field(
        "tls",
        Object(&Shape::of(&[
            field("mode", Enum(&["Terminate", "Passthrough"])),
            field("certificateRefs", List(&Object(&REFERENCE), 0)),
            field("frontendValidation", Any),
            field("options", TEXT_MAP),
        ])),
    ),
    field(
        "allowedRoutes",
        Object(&Shape::of(&[
            field(
                "namespaces",
                Object(&Shape::of(&[
                    field("from", Enum(&["All", "Selector", "Same", "None"])),
                    field("selector", LABEL_SELECTOR),
                ])),
            ),
            field(
                "kinds",
                List(
                    &Object(
                        &Shape::of(&[field("group", Text(text::group)), field("kind", FILLED)]).required(&["kind"]),
                    ),
                    0,
                ),
            ),
        ])),
    ),
])
.required(&["name", "port", "protocol"]);
const GATEWAY: Shape = Shape::of(&[
    field("gatewayClassName", FILLED),
    field("listeners", List(&Object(&LISTENER), 1)),
    field("addresses", List(&Object(&Shape::of(&[field("type", TEXT), field("value", TEXT)])), 0)),
    field("infrastructure", Any),
    field("backendTLS", Any),
    field("tls", Any),
    field("allowedListeners", Any),
    field("defaultScope", TEXT),
])
.required(&["gatewayClassName", "listeners"]);
const GATEWAY_CLASS: Shape =
    Shape::of(&[field("controllerName", FILLED), field("parametersRef", Any), field("description", TEXT)])
        .required(&["controllerName"]);
const GRANT: Shape = Shape::of(&[
    field(
        "from",
        List(
            &Object(
                &Shape::of(&[field("group", Text(text::group)), field("kind", FILLED), field("namespace", FILLED)])
                    .required(&["group", "kind", "namespace"]),
            ),
            1,
        ),
    ),
    field(
        "to",
        List(
            &Object(
                &Shape::of(&[field("group", Text(text::group)), field("kind", FILLED), field("name", FILLED)])
                    .required(&["group", "kind"]),
            ),
            1,
        ),
    ),
])
.required(&["from", "to"]);

/// The object of a kind of the Gateway API.
pub(super) fn shape(kind: Kind) -> Option<Shape> {
    let spec = match kind {
        Kind::HttpRoute => &HTTP_ROUTE,
        Kind::GrpcRoute => &GRPC_ROUTE,
        Kind::TcpRoute => &TCP_ROUTE,
        Kind::TlsRoute => &TLS_ROUTE,
        Kind::KubernetesGateway => &GATEWAY,
        Kind::GatewayClass => &GATEWAY_CLASS,
        Kind::ReferenceGrant => &GRANT,
        _ => return None,
    };
    Some(istio::top(spec, true))
}
