//! Role `service`: a target for each port of each service, for black-box checks.

use super::objects::Service;
use super::texts::{Texts, address};
use super::{Beside, Found};

pub(super) fn add(service: &Service, _: &Beside<'_>, targets: &mut Found) {
    let base = labels(service);
    let host = format!("{}.{}.svc", service.metadata.name, service.metadata.namespace);
    for port in &service.spec.ports {
        let mut labels = base.clone();
        labels.set("service_port_name", port.name.as_str());
        labels.set("service_port_number", port.port.to_string());
        labels.set("service_port_protocol", port.protocol.as_str());
        labels.set("service_type", service.spec.kind.as_str());
        if service.spec.kind == "ExternalName" {
            labels.set("service_external_name", service.spec.external_name.as_str());
        } else {
            labels.set("service_cluster_ip", service.spec.cluster_ip.as_str());
        }
        labels.add_to(targets, address(&host, port.port));
    }
}

/// The labels of a service itself, which the addresses behind it get too.
pub(super) fn labels(service: &Service) -> Texts {
    let mut labels = Texts::default();
    labels.set_meta("service", &service.metadata);
    labels.set("namespace", service.metadata.namespace.as_str());
    labels
}
