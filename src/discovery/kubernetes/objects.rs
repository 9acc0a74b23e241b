//! The parts of Kubernetes objects from which targets are made; nothing else of them is held.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

macro_rules! objects {
    ($($(#[$about:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$about])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub(super) struct $name {
            $(#[serde(deserialize_with = "or_default")] $(#[$field_meta])* pub(super) $field: $type,)*
        })*
    };
}

/// A null counts as nothing, as in Go.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

objects! {
    /// `metadata`.
    Meta {
        name: String,
        namespace: String,
        uid: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        owner_references: Vec<Owner>,
    }
    Owner { kind: String, name: String, controller: bool, }

    Pod { metadata: Meta, spec: PodSpec, status: PodStatus, }
    PodSpec { node_name: String, containers: Vec<Container>, init_containers: Vec<Container>, }
    Container { name: String, image: String, ports: Vec<ContainerPort>, }
    ContainerPort { name: String, container_port: i64, protocol: String, }
    PodStatus {
        #[serde(rename = "podIP")] pod_ip: String,
        #[serde(rename = "hostIP")] host_ip: String,
        phase: String,
        conditions: Vec<Condition>,
        container_statuses: Vec<ContainerStatus>,
        init_container_statuses: Vec<ContainerStatus>,
    }
    Condition { #[serde(rename = "type")] kind: String, status: String, }
    ContainerStatus { name: String, #[serde(rename = "containerID")] container_id: String, }

    Service { metadata: Meta, spec: ServiceSpec, }
    ServiceSpec {
        #[serde(rename = "type")] kind: String,
        #[serde(rename = "clusterIP")] cluster_ip: String,
        external_name: String,
        ports: Vec<ServicePort>,
    }
    ServicePort { name: String, port: i64, protocol: String, }

    Endpoints { metadata: Meta, subsets: Vec<Subset>, }
    Subset { addresses: Vec<EndpointAddress>, not_ready_addresses: Vec<EndpointAddress>, ports: Vec<EndpointPort>, }
    EndpointAddress { ip: String, hostname: String, node_name: Option<String>, target_ref: Option<Reference>, }
    EndpointPort { name: String, port: i64, protocol: String, }
    Reference { kind: String, namespace: String, name: String, }

    EndpointSlice { metadata: Meta, address_type: String, endpoints: Vec<Endpoint>, ports: Vec<SlicePort>, }
    Endpoint {
        addresses: Vec<String>,
        conditions: EndpointConditions,
        hostname: Option<String>,
        node_name: Option<String>,
        zone: Option<String>,
        target_ref: Option<Reference>,
        deprecated_topology: BTreeMap<String, String>,
    }
    EndpointConditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>, }
    SlicePort { name: Option<String>, port: Option<i64>, protocol: Option<String>, app_protocol: Option<String>, }

    Node { metadata: Meta, spec: NodeSpec, status: NodeStatus, }
    NodeSpec { #[serde(rename = "providerID")] provider_id: String, }
    NodeStatus { addresses: Vec<NodeAddress>, daemon_endpoints: DaemonEndpoints, }
    NodeAddress { #[serde(rename = "type")] kind: String, address: String, }
    DaemonEndpoints { kubelet_endpoint: KubeletEndpoint, }
    KubeletEndpoint { #[serde(rename = "Port")] port: i64, }

    Ingress { metadata: Meta, spec: IngressSpec, }
    IngressSpec { ingress_class_name: Option<String>, rules: Vec<IngressRule>, tls: Vec<IngressTls>, }
    IngressRule { host: String, http: Option<IngressHttp>, }
    IngressHttp { paths: Vec<IngressPath>, }
    IngressPath { path: String, }
    IngressTls { hosts: Vec<String>, }
}
