//! What to write instead, for findings whose check does not make it of their own values.
//!
//! In: findings without a fix. Out: the same with one, where there is a usual mend. Invariant: a fix is YAML (or comments of
//! it); a mend that a check gives itself is never replaced. `tests/it/audit.rs` holds that every check has one or is
//! among those that cannot.

use super::Scene;
use crate::model::Finding;

/// The usual mend of a code. `$NS` and `$NAME` stand for those of the object, `$DOMAIN` for the domain of the cluster's services
/// and `$TRUST` for the mesh's trust domain.
const REMEDIES: &[(&str, &str)] = &[
    ("MS0002", "# keep one of the two documents, or give the other a name of its own:\nmetadata:\n  name: $NAME-2"),
    ("MS0101", "gateways:\n- NAMESPACE/NAME # a Gateway that is declared; mesh stands for the sidecars"),
    ("MS0102", "destination:\n  host: NAME.NAMESPACE.svc.$DOMAIN # the full name of a Service that is declared"),
    ("MS0103", "destination:\n  port:\n    number: 80 # one that the Service has"),
    ("MS0104", "source:\n  namespaces: [$NS] # those that are there; * stands at one end only"),
    ("MS0105", "selector:\n  istio: ingressgateway # the labels of the gateway's pods"),
    (
        "MS0106",
        "# kubectl create secret tls NAME -n NAMESPACE --cert=tls.crt --key=tls.key\ntls:\n  credentialName: NAME",
    ),
    ("MS0107", SELECTOR),
    ("MS0108", SELECTOR),
    ("MS0109", "workloadSelector:\n  labels:\n    app: NAME # labels that pods of namespace $NS have"),
    ("MS0150", "exportTo: [\".\"] # the own namespace; \"*\" stands for all"),
    (
        "MS0201",
        "# one VirtualService with all rules for the host, in the order in which they are to be asked; the other goes",
    ),
    ("MS0202", "servers:\n- hosts: [NAMESPACE/HOST] # of the Gateway: the host of this route too"),
    ("MS0204", "# put this rule before the one that takes its requests, or take it out"),
    ("MS0205", "# put the narrower match before the wider one, or take it out"),
    ("MS0206", "gateways: [mesh, NAMESPACE/NAME] # of the VirtualService that splits, or the same subsets here"),
    (
        "MS0207",
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata:\n  name: gateway-tokens\n  namespace: NAMESPACE # of the gateway's pods\nspec:\n  selector:\n    matchLabels: {istio: ingressgateway} # their labels\n  jwtRules:\n  - issuer: https://ISSUER\n    jwksUri: https://ISSUER/.well-known/jwks.json",
    ),
    ("MS0209", "# one Gateway for the host and port, which the routes of both name; the other goes"),
    (
        "MS0211",
        "# one Gateway with all hosts of the certificate:\nservers:\n- hosts: [\"*.example.com\"]\n  port: {number: 443, name: https, protocol: HTTPS}\n  tls: {mode: SIMPLE, credentialName: NAME}",
    ),
    ("MS0213", "ports:\n- number: 443\n  name: tls\n  protocol: TLS # the same in all of them"),
    (
        "MS0214",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: $NAME\n  namespace: $NS\nspec:\n  parentRefs:\n  - name: GATEWAY\n  rules:\n  - backendRefs:\n    - name: SERVICE\n      port: 80",
    ),
    ("MS0250", "route:\n- destination:\n    host: HOST # without a weight, or with the destination that is missing"),
    ("MS0251", "# one entry for the host and subset, with the sum of the weights"),
    ("MS0253", "# one ServiceEntry for the host; then\n# kubectl delete serviceentry $NAME -n $NS"),
    ("MS0255", "hosts:\n- \"$NS/*.example.com\" # whose routes may come here, and which hosts"),
    ("MS0303", "subsets:\n- name: NAME\n  labels:\n    version: v1 # labels that pods of the service have"),
    ("MS0304", "host: NAME.NAMESPACE.svc.$DOMAIN # the full name of a Service or ServiceEntry that is declared"),
    ("MS0350", "subsets:\n- name: NAME\n  labels:\n    version: v1"),
    ("MS0409", "# one policy for these workloads; then\n# kubectl delete peerauthentication $NAME -n $NS"),
    ("MS0410", SELECTOR),
    (
        "MS0501",
        "# of the PeerAuthentication that disables it\nspec:\n  mtls:\n    mode: PERMISSIVE # STRICT when all callers have proxies",
    ),
    (
        "MS0503",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: NAME # that of the sentence; or correct the rule\n  namespace: NAMESPACE",
    ),
    ("MS0504", "# in the ConfigMap istio of the root namespace\ntrustDomainAliases:\n- OTHER.DOMAIN"),
    ("MS0506", "operation:\n  hosts: [NAME.$NS.svc.$DOMAIN] # hosts that are served"),
    ("MS0508", "rules:\n- from:\n  - source:\n      principals: [$TRUST/ns/$NS/sa/CALLER]"),
    (
        "MS0602",
        "# in extensionProviders of the mesh's configuration\n- name: otel\n  opentelemetry:\n    service: otel-collector.observability.svc.$DOMAIN\n    port: 4317",
    ),
    ("MS0603", ONE_TELEMETRY),
    ("MS0604", ONE_TELEMETRY),
    ("MS0605", ONE_SIDECAR),
    ("MS0606", ONE_SIDECAR),
    ("MS0607", "# kubectl delete sidecar $NAME -n $NS"),
    ("MS0609", "applyTo: HTTP_FILTER # or another operation: MERGE"),
    ("MS0610", "patch:\n  operation: MERGE"),
    ("MS0611", "patch:\n  operation: MERGE"),
    ("MS0614", "# istioctl create-remote-secret --name=REGISTRY | kubectl apply -f -"),
    ("MS0650", "egress:\n- hosts: [\"./*\", \"istio-system/*\", \"NAMESPACE/HOST\"] # hosts that are there"),
    ("MS0651", "# in the namespace of the workloads instead\nmetadata:\n  name: $NAME\n  namespace: NAMESPACE"),
    ("MS0702", "# kubectl rollout restart deployment -n $NS"),
    (
        "MS0703",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: $NAME\n  labels:\n    istio-injection: enabled # and without istio.io/rev, or the other way round",
    ),
    (
        "MS0704",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: $NAME\n  labels:\n    istio-injection: disabled # when its pods are to have no proxies; enabled says that it is meant",
    ),
    ("MS0705", "# kubectl rollout restart deployment -n $NAME"),
    (
        "MS0707",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: $NS\n  labels:\n    istio-injection: enabled # then delete the pod: its owner makes it anew",
    ),
    ("MS0709", "# take the annotation out, or write the name that is meant"),
    ("MS0711", "# take the annotation out"),
    ("MS0712", "# take the annotation out unless what it does is tested with each new version of Istio"),
    ("MS0714", "ports:\n- name: https # or tcp-NAME\n  port: 443"),
    ("MS0715", "# name the port alike in all services of the pods:\nports:\n- name: http"),
    (
        "MS0716",
        "# one port for one targetPort in all services of the pods:\nports:\n- name: http\n  port: 80\n  targetPort: 8080",
    ),
    ("MS0717", "securityContext:\n  runAsUser: 1000 # any but 1337"),
    ("MS0718", "clientConfig:\n  service:\n    name: istiod\n    namespace: istio-system # a Service that is there"),
    ("MS0719", "clientConfig:\n  url: https://istiod.example.com:15017/inject"),
    ("MS0720", "clientConfig:\n  url: https://istiod.example.com:15017/inject # a name"),
    ("MS0722", "containers:\n- name: NAME\n  image: REGISTRY/NAME:VERSION"),
    ("MS0750", "ports:\n- name: http\n  appProtocol: http # http, http2, grpc, tcp, tls, mongo, mysql, redis …"),
    ("MS0751", "ports:\n- port: 80\n  targetPort: 8080 # where a container listens"),
    ("MS0752", "template:\n  labels:\n    app: $NAME # labels that no other group has"),
    ("MS0801", "parentRefs:\n- name: GATEWAY\n  namespace: NAMESPACE # one that is declared"),
    ("MS0802", "backendRefs:\n- name: SERVICE # one that is declared in namespace $NS\n  port: 80"),
    ("MS0803", "# one Gateway for the host and port, which both routes name"),
    (
        "MS0804",
        "# kubectl patch gateway $NAME -n $NS --type=json -p '[{\"op\": \"remove\", \"path\": \"/spec/addresses\"}]'",
    ),
    (
        "MS0805",
        "listeners:\n- name: NAME\n  port: 8080 # a port or hostname that no other listener has\n  protocol: HTTP",
    ),
    ("MS0806", "gatewayClassName: istio # a GatewayClass that is there; istio-waypoint for waypoints"),
    (
        "MS0807",
        "from:\n- group: gateway.networking.k8s.io\n  kind: HTTPRoute\n  namespace: NAMESPACE # one that is there",
    ),
    (
        "MS0809",
        "parentRefs:\n- name: GATEWAY\n  sectionName: LISTENER # a listener that it has, with a hostname and namespaces that take this route",
    ),
    ("MS0830", "podSelector:\n  matchLabels:\n    app: NAME # labels that pods of namespace $NS have"),
    (
        "MS0831",
        "targetRef:\n  group: policy.linkerd.io\n  kind: Server\n  name: NAME # one that is declared in namespace $NS",
    ),
    (
        "MS0832",
        "apiVersion: policy.linkerd.io/v1alpha1\nkind: MeshTLSAuthentication\nmetadata:\n  name: NAME # the one that is named\n  namespace: $NS\nspec:\n  identities: [\"CALLER.$NS.serviceaccount.identity.linkerd.$DOMAIN\"]",
    ),
    ("MS0833", "metadata:\n  name: SERVICE.$NS.svc.$DOMAIN"),
    ("MS0834", "# one Server for the port; the other goes, with what names it"),
    ("MS0853", "metadata:\n  labels:\n    istio.io/dataplane-mode: ambient"),
    (
        "MS0854",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: waypoint # the one that is named\n  namespace: NAMESPACE\n  labels: {istio.io/waypoint-for: service}\nspec:\n  gatewayClassName: istio-waypoint\n  listeners:\n  - {name: mesh, port: 15008, protocol: HBONE}",
    ),
    ("MS0855", "metadata:\n  name: $NAME\n  namespace: NAMESPACE # that of the service"),
    ("MS0907", "subsets:\n- name: ANOTHER # a name that no other rule for the host has"),
    ("MS0908", "# put the rule into the VirtualService that comes first, before its rule without a match"),
    ("MS2041", "# turn the fault off and on again, or read MS0901: another VirtualService may hold"),
    ("MS2096", "# take the subset out when nobody needs it"),
    ("MS3016", "# one side in the selector; \"source\" for what callers see\nreporter=\"destination\""),
    (
        "MS3018",
        "# keep the label of the buckets\nsum by (le, destination_service) (rate(istio_request_duration_milliseconds_bucket[5m]))",
    ),
];

const SELECTOR: &str = "selector:\n  matchLabels:\n    app: NAME # labels that pods of namespace $NS have";
const ONE_TELEMETRY: &str = "# one Telemetry with the settings of both; the other goes";
const ONE_SIDECAR: &str = "# one Sidecar with the settings of both; the other goes";

/// Gives findings that have no fix the usual one of their check.
pub(super) fn apply(scene: &Scene<'_>, findings: &mut [Finding]) {
    let (domain, trust) = (&scene.index.domain, scene.index.trust_domain());
    for one in findings.iter_mut().filter(|one| one.fix.is_none()) {
        let Some((_, text)) = REMEDIES.iter().find(|(code, _)| *code == one.code) else { continue };
        let place = one.subject.split_once(' ').map_or(one.subject.as_str(), |(_, place)| place);
        let (namespace, name) = place.split_once('/').unwrap_or(("NAMESPACE", place));
        // Longer names first: `$NS` is no part of `$NAME`.
        let fix =
            text.replace("$NAME", name).replace("$NS", namespace).replace("$DOMAIN", domain).replace("$TRUST", trust);
        one.fix = Some(fix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::checks;

    #[test]
    fn each_is_of_a_check_and_in_order() {
        assert!(REMEDIES.is_sorted_by(|a, b| a.0 < b.0));
        for (code, _) in REMEDIES {
            assert!(checks().any(|check| check.code == *code), "{code}");
        }
    }
}
