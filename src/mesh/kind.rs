//! The kinds of objects that are read, with the API group and versions that a cluster serves.
//!
//! Versions are those of istio/api 1.29, gateway-api 1.6, Linkerd 2.18, Argo Rollouts 1.8, the Grafana operator 5 and Kubernetes 1.34; older ones that clusters no
//! longer serve are named so that an object of theirs can be told from one that never existed.

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They do.
    Namespaced,
    /// They stand for the whole cluster.
    Cluster,
}

/// What is known of a kind.
#[derive(Debug)]
pub struct KindInfo {
    /// Which.
    pub kind: Kind,
    /// As written under `kind:`.
    pub name: &'static str,
    /// The API group; empty: the core group.
    pub group: &'static str,
    /// Versions served today, the preferred one first.
    pub versions: &'static [&'static str],
    /// Versions that were served once.
    pub removed: &'static [&'static str],
    /// Whether its objects live in a namespace.
    pub scope: Scope,
    /// The last part of its path in the Kubernetes API.
    pub plural: &'static str,
}

macro_rules! kinds {
    ($($variant:ident $name:literal $group:literal [$($version:literal)*] [$($removed:literal)*] $scope:ident $plural:literal;)*) => {
        /// A kind of object that is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each is the kind of that name")]
        pub enum Kind { $($variant,)* }

        /// All kinds, in the order of [`Kind`].
        pub const KINDS: &[KindInfo] = &[$(KindInfo {
            kind: Kind::$variant,
            name: $name,
            group: $group,
            versions: &[$($version),*],
            removed: &[$($removed),*],
            scope: Scope::$scope,
            plural: $plural,
        },)*];
    };
}

kinds! {
    // variant, kind, group, versions served, versions no longer served, scope, plural
    VirtualService "VirtualService" "networking.istio.io" ["v1" "v1beta1" "v1alpha3"] [] Namespaced "virtualservices";
    DestinationRule "DestinationRule" "networking.istio.io" ["v1" "v1beta1" "v1alpha3"] [] Namespaced "destinationrules";
    Gateway "Gateway" "networking.istio.io" ["v1" "v1beta1" "v1alpha3"] [] Namespaced "gateways";
    ServiceEntry "ServiceEntry" "networking.istio.io" ["v1" "v1beta1" "v1alpha3"] [] Namespaced "serviceentries";
    Sidecar "Sidecar" "networking.istio.io" ["v1" "v1beta1" "v1alpha3"] [] Namespaced "sidecars";
    WorkloadEntry "WorkloadEntry" "networking.istio.io" ["v1" "v1beta1" "v1alpha3"] [] Namespaced "workloadentries";
    WorkloadGroup "WorkloadGroup" "networking.istio.io" ["v1" "v1beta1" "v1alpha3"] [] Namespaced "workloadgroups";
    EnvoyFilter "EnvoyFilter" "networking.istio.io" ["v1alpha3"] [] Namespaced "envoyfilters";
    ProxyConfig "ProxyConfig" "networking.istio.io" ["v1beta1"] [] Namespaced "proxyconfigs";
    PeerAuthentication "PeerAuthentication" "security.istio.io" ["v1" "v1beta1"] [] Namespaced "peerauthentications";
    RequestAuthentication "RequestAuthentication" "security.istio.io" ["v1" "v1beta1"] [] Namespaced "requestauthentications";
    AuthorizationPolicy "AuthorizationPolicy" "security.istio.io" ["v1" "v1beta1"] [] Namespaced "authorizationpolicies";
    Telemetry "Telemetry" "telemetry.istio.io" ["v1" "v1alpha1"] [] Namespaced "telemetries";
    WasmPlugin "WasmPlugin" "extensions.istio.io" ["v1alpha1"] [] Namespaced "wasmplugins";
    GatewayClass "GatewayClass" "gateway.networking.k8s.io" ["v1" "v1beta1"] ["v1alpha2"] Cluster "gatewayclasses";
    KubernetesGateway "Gateway" "gateway.networking.k8s.io" ["v1" "v1beta1"] ["v1alpha2" "v1alpha1"] Namespaced "gateways";
    HttpRoute "HTTPRoute" "gateway.networking.k8s.io" ["v1" "v1beta1"] ["v1alpha2" "v1alpha1"] Namespaced "httproutes";
    GrpcRoute "GRPCRoute" "gateway.networking.k8s.io" ["v1"] ["v1alpha2"] Namespaced "grpcroutes";
    TcpRoute "TCPRoute" "gateway.networking.k8s.io" ["v1" "v1alpha2"] ["v1alpha1"] Namespaced "tcproutes";
    TlsRoute "TLSRoute" "gateway.networking.k8s.io" ["v1" "v1alpha3" "v1alpha2"] ["v1alpha1"] Namespaced "tlsroutes";
    ReferenceGrant "ReferenceGrant" "gateway.networking.k8s.io" ["v1" "v1beta1"] ["v1alpha2"] Namespaced "referencegrants";
    LinkerdServer "Server" "policy.linkerd.io" ["v1beta3" "v1beta2" "v1beta1"] ["v1alpha1"] Namespaced "servers";
    LinkerdServerAuthorization "ServerAuthorization" "policy.linkerd.io" ["v1beta1"] ["v1alpha1"] Namespaced "serverauthorizations";
    LinkerdAuthorizationPolicy "AuthorizationPolicy" "policy.linkerd.io" ["v1alpha1"] [] Namespaced "authorizationpolicies";
    MeshTlsAuthentication "MeshTLSAuthentication" "policy.linkerd.io" ["v1alpha1"] [] Namespaced "meshtlsauthentications";
    NetworkAuthentication "NetworkAuthentication" "policy.linkerd.io" ["v1alpha1"] [] Namespaced "networkauthentications";
    LinkerdHttpRoute "HTTPRoute" "policy.linkerd.io" ["v1beta3" "v1beta2" "v1beta1" "v1alpha1"] [] Namespaced "httproutes";
    ServiceProfile "ServiceProfile" "linkerd.io" ["v1alpha2"] ["v1alpha1"] Namespaced "serviceprofiles";
    Service "Service" "" ["v1"] [] Namespaced "services";
    Pod "Pod" "" ["v1"] [] Namespaced "pods";
    ServiceAccount "ServiceAccount" "" ["v1"] [] Namespaced "serviceaccounts";
    Namespace "Namespace" "" ["v1"] [] Cluster "namespaces";
    Node "Node" "" ["v1"] [] Cluster "nodes";
    ConfigMap "ConfigMap" "" ["v1"] [] Namespaced "configmaps";
    Secret "Secret" "" ["v1"] [] Namespaced "secrets";
    Deployment "Deployment" "apps" ["v1"] ["v1beta1" "v1beta2"] Namespaced "deployments";
    StatefulSet "StatefulSet" "apps" ["v1"] ["v1beta1" "v1beta2"] Namespaced "statefulsets";
    DaemonSet "DaemonSet" "apps" ["v1"] ["v1beta2"] Namespaced "daemonsets";
    ReplicaSet "ReplicaSet" "apps" ["v1"] ["v1beta2"] Namespaced "replicasets";
    Job "Job" "batch" ["v1"] [] Namespaced "jobs";
    CronJob "CronJob" "batch" ["v1"] ["v1beta1" "v2alpha1"] Namespaced "cronjobs";
    Rollout "Rollout" "argoproj.io" ["v1alpha1"] [] Namespaced "rollouts";
    Ingress "Ingress" "networking.k8s.io" ["v1"] ["v1beta1"] Namespaced "ingresses";
    IngressClass "IngressClass" "networking.k8s.io" ["v1"] ["v1beta1"] Cluster "ingressclasses";
    EndpointSlice "EndpointSlice" "discovery.k8s.io" ["v1"] ["v1beta1"] Namespaced "endpointslices";
    MutatingWebhook "MutatingWebhookConfiguration" "admissionregistration.k8s.io" ["v1"] ["v1beta1"] Cluster "mutatingwebhookconfigurations";
    ValidatingWebhook "ValidatingWebhookConfiguration" "admissionregistration.k8s.io" ["v1"] ["v1beta1"] Cluster "validatingwebhookconfigurations";
    CustomResourceDefinition "CustomResourceDefinition" "apiextensions.k8s.io" ["v1"] ["v1beta1"] Cluster "customresourcedefinitions";
    PrometheusRule "PrometheusRule" "monitoring.coreos.com" ["v1"] [] Namespaced "prometheusrules";
    ServiceMonitor "ServiceMonitor" "monitoring.coreos.com" ["v1"] [] Namespaced "servicemonitors";
    PodMonitor "PodMonitor" "monitoring.coreos.com" ["v1"] [] Namespaced "podmonitors";
    GrafanaDashboard "GrafanaDashboard" "grafana.integreatly.org" ["v1beta1"] ["v1alpha1"] Namespaced "grafanadashboards";
}

impl Kind {
    /// Its row of [`KINDS`].
    pub fn info(self) -> &'static KindInfo {
        &KINDS[self as usize]
    }

    /// The kind called `name` in an API group, whatever its version.
    pub fn of(group: &str, name: &str) -> Option<Self> {
        KINDS.iter().find(|info| info.name == name && info.group == group).map(|info| info.kind)
    }

    /// Kinds that are called `name` in any group.
    pub fn named(name: &str) -> impl Iterator<Item = &'static KindInfo> {
        KINDS.iter().filter(move |info| info.name == name)
    }

    /// Whether objects of it are configuration, which is compared and kept: what comes and goes with the load is not, nor
    /// are secrets and definitions of kinds, of which a [`Snapshot`](super::Snapshot) does not hold the content.
    pub fn is_configuration(self) -> bool {
        !matches!(
            self,
            Self::Pod
                | Self::ReplicaSet
                | Self::Job
                | Self::Node
                | Self::Secret
                | Self::EndpointSlice
                | Self::CustomResourceDefinition
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_one_name_are_told_apart_by_their_group() {
        assert_eq!(Kind::of("networking.istio.io", "Gateway"), Some(Kind::Gateway));
        assert_eq!(Kind::of("gateway.networking.k8s.io", "Gateway"), Some(Kind::KubernetesGateway));
        assert_eq!(Kind::of("policy.linkerd.io", "AuthorizationPolicy"), Some(Kind::LinkerdAuthorizationPolicy));
        assert_eq!(Kind::of("", "Gateway"), None);
        assert!(KINDS.iter().all(|info| info.kind.info().kind == info.kind));
    }

    #[test]
    fn what_comes_and_goes_with_the_load_is_no_configuration() {
        let others: Vec<&str> =
            KINDS.iter().filter(|info| !info.kind.is_configuration()).map(|info| info.name).collect();
        assert_eq!(others, ["Pod", "Node", "Secret", "ReplicaSet", "Job", "EndpointSlice", "CustomResourceDefinition"]);
    }
}
