//! Fields of Linkerd's kinds (`policy.linkerd.io`, `linkerd.io`).

use super::Type::{Any, Duration, Enum, Flag, IntegerOrText, List, Number, Object, Text};
use super::{COUNT, FILLED, Shape, TEXT, TEXT_MAP, TEXTS, Type, field, gateway_api, istio, text};
use crate::mesh::Kind;

const SELECTOR: Type = Object(&Shape::of(&[field("matchLabels", TEXT_MAP), field("matchExpressions", List(&Any, 0))]));
const REFERENCE: Type = Object(
    &Shape::of(&[
        field("group", Text(text::group)),
        field("kind", FILLED),
        field("name", FILLED),
        field("namespace", FILLED),
    ])
    .required(&["kind", "name"]),
);
const SERVER: Shape = Shape::of(&[
    field("podSelector", SELECTOR),
    field("externalWorkloadSelector", SELECTOR),
    field("port", IntegerOrText),
    field("proxyProtocol", Enum(&["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"])),
    field(
        "accessPolicy",
        Enum(&[
            "all-authenticated",
            "all-unauthenticated",
            "audit",
            "cluster-authenticated",
            "cluster-unauthenticated",
            "deny",
        ]),
    ),
])
.required(&["port"])
.one_of(&[&["podSelector", "externalWorkloadSelector"]]);
const NETWORKS: Type = List(
    &Object(
        &Shape::of(&[
            field("cidr", Text(text::address_or_range)),
            field("except", List(&Text(text::address_or_range), 0)),
        ])
        .required(&["cidr"]),
    ),
    0,
);
const SERVER_AUTHORIZATION: Shape = Shape::of(&[
    field(
        "server",
        Object(&Shape::of(&[field("name", FILLED), field("selector", SELECTOR)]).one_of(&[&["name", "selector"]])),
    ),
    field(
        "client",
        Object(&Shape::of(&[
            field("networks", NETWORKS),
            field("unauthenticated", Flag),
            field(
                "meshTLS",
                Object(&Shape::of(&[
                    field("unauthenticatedTLS", Flag),
                    field("identities", TEXTS),
                    field(
                        "serviceAccounts",
                        List(
                            &Object(&Shape::of(&[field("name", FILLED), field("namespace", TEXT)]).required(&["name"])),
                            0,
                        ),
                    ),
                ])),
            ),
        ])),
    ),
])
.required(&["server", "client"]);
const AUTHORIZATION: Shape =
    Shape::of(&[field("targetRef", REFERENCE), field("requiredAuthenticationRefs", List(&REFERENCE, 0))])
        .required(&["targetRef", "requiredAuthenticationRefs"]);
const MESH_TLS: Shape = Shape::of(&[field("identities", List(&FILLED, 1)), field("identityRefs", List(&REFERENCE, 1))]);
const NETWORK: Shape = Shape::of(&[field("networks", NETWORKS)]).required(&["networks"]);
const PROFILE: Shape = Shape::of(&[
    field(
        "routes",
        List(
            &Object(
                &Shape::of(&[
                    field("name", FILLED),
                    field("condition", Any),
                    field("responseClasses", List(&Any, 0)),
                    field("isRetryable", Flag),
                    field("timeout", TEXT),
                ])
                .required(&["name", "condition"]),
            ),
            0,
        ),
    ),
    field(
        "retryBudget",
        Object(
            &Shape::of(&[
                field("retryRatio", Number(0.0, 1000.0)),
                field("minRetriesPerSecond", COUNT),
                field("ttl", Duration(0)),
            ])
            .required(&["retryRatio", "minRetriesPerSecond", "ttl"]),
        ),
    ),
    field(
        "dstOverrides",
        List(
            &Object(
                &Shape::of(&[field("authority", FILLED), field("weight", IntegerOrText)])
                    .required(&["authority", "weight"]),
            ),
            0,
        ),
    ),
    field("opaquePorts", Type::List(&TEXT, 0)),
]);

/// The object of a kind of Linkerd.
pub(super) fn shape(kind: Kind) -> Option<Shape> {
    let (spec, required) = match kind {
        Kind::LinkerdServer => (&SERVER, true),
        Kind::LinkerdServerAuthorization => (&SERVER_AUTHORIZATION, true),
        Kind::LinkerdAuthorizationPolicy => (&AUTHORIZATION, true),
        Kind::MeshTlsAuthentication => (&MESH_TLS, true),
        Kind::NetworkAuthentication => (&NETWORK, true),
        Kind::LinkerdHttpRoute => (&gateway_api::HTTP_ROUTE, true),
        Kind::ServiceProfile => (&PROFILE, false),
        _ => return None,
    };
    Some(istio::top(spec, required))
}
