//! Role `pod`: a target for each port of each container, and one without a port for a container that names none.

use super::objects::{Container, ContainerPort, Pod};
use super::texts::{Texts, address};
use super::{Beside, Found};

pub(super) fn add(pod: &Pod, beside: &Beside<'_>, targets: &mut Found) {
    let ip = pod.status.pod_ip.as_str();
    if ip.is_empty() {
        return; // it begins, or was evicted
    }
    let mut labels = labels(pod);
    labels.set("namespace", pod.metadata.namespace.as_str());
    if let Some(node) = beside.node(Some(&pod.spec.node_name)) {
        super::node::attach(node, &mut labels);
    }
    for (container, is_init) in containers(pod) {
        let mut labels = labels.clone();
        let status = if is_init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
        let id = status.iter().find(|status| status.name == container.name).map_or("", |found| &found.container_id);
        labels.set("pod_container_name", container.name.as_str());
        labels.set("pod_container_id", id);
        labels.set("pod_container_image", container.image.as_str());
        labels.set("pod_container_init", is_init.to_string());
        if container.ports.is_empty() {
            labels.add_to(targets, ip.to_owned());
        }
        for port in &container.ports {
            let mut labels = labels.clone();
            set_port(&mut labels, port);
            labels.add_to(targets, address(ip, port.container_port));
        }
    }
}

/// The labels of a pod itself.
pub(super) fn labels(pod: &Pod) -> Texts {
    let Pod { metadata, spec, status } = pod;
    let mut labels = Texts::default();
    labels.set_meta("pod", metadata);
    labels.set("pod_ip", status.pod_ip.as_str());
    let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
    labels.set("pod_ready", ready.map_or("unknown".to_owned(), |condition| condition.status.to_lowercase()));
    labels.set("pod_phase", status.phase.as_str());
    labels.set("pod_node_name", spec.node_name.as_str());
    labels.set("pod_host_ip", status.host_ip.as_str());
    labels.set("pod_uid", metadata.uid.as_str());
    if let Some(owner) = metadata.owner_references.iter().find(|owner| owner.controller) {
        labels.set("pod_controller_kind", owner.kind.as_str());
        labels.set("pod_controller_name", owner.name.as_str());
    }
    labels
}

/// Its containers, then its init containers, each with whether it is one of these.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let first = pod.spec.containers.iter().map(|container| (container, false));
    first.chain(pod.spec.init_containers.iter().map(|container| (container, true)))
}

/// The labels of a container's port.
pub(super) fn set_port(labels: &mut Texts, port: &ContainerPort) {
    labels.set("pod_container_port_name", port.name.as_str());
    labels.set("pod_container_port_number", port.container_port.to_string());
    labels.set("pod_container_port_protocol", port.protocol.as_str());
}

/// What a target behind a service gets of its pod: the pod's labels, and those of the container's port it names.
pub(super) fn behind_service(pod: &Pod, port: Option<i64>) -> Texts {
    let mut labels = labels(pod);
    for (container, is_init) in containers(pod) {
        let found = container.ports.iter().find(|named| Some(named.container_port) == port);
        if let Some(named) = found {
            set_container(&mut labels, container, is_init);
            set_port(&mut labels, named);
        }
    }
    labels
}

/// Targets for the ports of a pod's containers that no port of its service covers.
pub(super) fn add_uncovered(pod: &Pod, covered: &[i64], base: &Texts, targets: &mut Found) {
    let ip = pod.status.pod_ip.as_str();
    if ip.is_empty() {
        return;
    }
    for (container, is_init) in containers(pod) {
        for port in container.ports.iter().filter(|port| !covered.contains(&port.container_port)) {
            let mut labels = base.with(labels(pod));
            set_container(&mut labels, container, is_init);
            set_port(&mut labels, port);
            labels.add_to(targets, address(ip, port.container_port));
        }
    }
}

fn set_container(labels: &mut Texts, container: &Container, is_init: bool) {
    labels.set("pod_container_name", container.name.as_str());
    labels.set("pod_container_image", container.image.as_str());
    labels.set("pod_container_init", is_init.to_string());
}
