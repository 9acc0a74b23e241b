//! Role `endpointslice`: as `endpoints`, from the objects that replace them.

use super::endpoints::Seen;
use super::objects::{Endpoint, EndpointSlice, SlicePort};
use super::texts::{Texts, address};
use super::{Beside, Found, node, pod, service};

/// The label that names the service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(super) fn add(slice: &EndpointSlice, beside: &Beside<'_>, targets: &mut Found) {
    let mut base = Texts::default();
    let meta = &slice.metadata;
    base.set("namespace", meta.namespace.as_str());
    base.set("endpointslice_address_type", slice.address_type.as_str());
    base.set_meta("endpointslice", meta);
    let service = meta.labels.get(SERVICE_NAME).and_then(|name| beside.service(&meta.namespace, name));
    if let Some(service) = service {
        base = base.with(service::labels(service));
    }
    let mut seen = Seen::default();
    for endpoint in &slice.endpoints {
        for port in &slice.ports {
            for ip in &endpoint.addresses {
                let mut labels = base.clone();
                set_port(&mut labels, port);
                set_endpoint(&mut labels, endpoint);
                let to = endpoint.target_ref.as_ref();
                let node = to.filter(|to| to.kind == "Node").map(|to| to.name.as_str());
                if let Some(node) = beside.node(node.or(endpoint.node_name.as_deref())) {
                    node::attach(node, &mut labels);
                }
                if let Some(pod) = seen.pod(beside, to, port.port) {
                    labels = labels.with(pod::behind_service(pod, port.port));
                }
                labels.add_to(targets, port.port.map_or_else(|| ip.clone(), |port| address(ip, port)));
            }
        }
    }
    seen.add_uncovered(&base, targets);
}

fn set_port(labels: &mut Texts, port: &SlicePort) {
    labels.set_some("endpointslice_port_name", port.name.as_deref());
    labels.set_some("endpointslice_port_protocol", port.protocol.as_deref());
    labels.set_some("endpointslice_port", port.port.map(|port| port.to_string()));
    labels.set_some("endpointslice_port_app_protocol", port.app_protocol.as_deref());
}

fn set_endpoint(labels: &mut Texts, endpoint: &Endpoint) {
    let conditions = &endpoint.conditions;
    let told = [("ready", conditions.ready), ("serving", conditions.serving), ("terminating", conditions.terminating)];
    for (name, value) in told {
        labels.set_some(&format!("endpointslice_endpoint_conditions_{name}"), value.map(|value| value.to_string()));
    }
    labels.set_some("endpointslice_endpoint_hostname", endpoint.hostname.as_deref());
    labels.set_some("endpointslice_endpoint_node_name", endpoint.node_name.as_deref());
    labels.set_some("endpointslice_endpoint_zone", endpoint.zone.as_deref());
    if let Some(to) = &endpoint.target_ref {
        labels.set("endpointslice_address_target_kind", to.kind.as_str());
        labels.set("endpointslice_address_target_name", to.name.as_str());
    }
    for (key, value) in &endpoint.deprecated_topology {
        let key = super::texts::sanitized(key);
        labels.set(&format!("endpointslice_endpoint_topology_{key}"), value.as_str());
        labels.set(&format!("endpointslice_endpoint_topology_present_{key}"), "true");
    }
}
