//! Kinds of a mesh's API groups that are not read: which of them exist, and which a cluster refuses.

/// Groups of which all kinds are known: those that are read, and these.
const OTHERS: &[(&str, &[&str])] = &[
    ("networking.istio.io", &[]),
    ("security.istio.io", &[]),
    ("telemetry.istio.io", &[]),
    ("extensions.istio.io", &["TrafficExtension"]),
    ("linkerd.io", &[]),
    ("policy.linkerd.io", &["EgressNetwork", "HTTPLocalRateLimitPolicy", "GRPCRoute", "TCPRoute", "TLSRoute"]),
];

/// Groups that no version of today has, since when, and what took their place.
const GONE: &[(&str, &str)] = &[
    (
        "authentication.istio.io",
        "Istio 1.6; write a PeerAuthentication or a RequestAuthentication (security.istio.io/v1)",
    ),
    ("rbac.istio.io", "Istio 1.6; write an AuthorizationPolicy (security.istio.io/v1)"),
    (
        "config.istio.io",
        "Istio 1.8, with Mixer; write a Telemetry (telemetry.istio.io/v1), or an EnvoyFilter for rate limits",
    ),
];

/// Why a cluster refuses an object of a kind that is not read; none: it does not, or nobody knows.
pub(super) fn refusal(api_version: &str, group: &str, kind: &str) -> Option<String> {
    if let Some((_, instead)) = GONE.iter().find(|(gone, _)| *gone == group) {
        return Some(format!("{api_version} {kind} is gone since {instead}"));
    }
    let (_, others) = OTHERS.iter().find(|(known, _)| *known == group)?;
    // `VirtualServiceList` is how the API answers, and no object of its own.
    let exists = others.contains(&kind) || kind.ends_with("List");
    (!exists).then(|| format!("there is no kind {kind} in {api_version}: a cluster refuses the object"))
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn kinds_that_a_group_of_the_mesh_does_not_have_are_refused() {
        let refused = |group: &str, kind: &str| refusal(&format!("{group}/v1alpha1"), group, kind);
        for (group, kind, part) in [
            ("policy.linkerd.io", "MeshTLS", "there is no kind MeshTLS in policy.linkerd.io/v1alpha1"),
            ("networking.istio.io", "RouteRule", "there is no kind RouteRule"),
            ("rbac.istio.io", "ServiceRole", "is gone since Istio 1.6; write an AuthorizationPolicy"),
        ] {
            let told = refused(group, kind).unwrap_or_default();
            assert!(told.contains(part), "{told}");
        }
        for (group, kind) in [
            ("policy.linkerd.io", "EgressNetwork"),
            ("extensions.istio.io", "TrafficExtension"),
            ("install.istio.io", "IstioOperator"),
            ("gateway.networking.k8s.io", "BackendTLSPolicy"),
        ] {
            assert_eq!(refused(group, kind), None);
        }
    }
}
