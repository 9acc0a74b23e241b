//! Role `endpoints`: a target for each address and port behind a service, and for the other ports of the pods behind it.

use std::collections::BTreeMap;

use super::objects::{EndpointAddress, EndpointPort, Endpoints, Pod, Reference};
use super::texts::{Texts, address};
use super::{Beside, Found, node, pod, service};

/// The pods behind a service, with the ports that already have a target.
#[derive(Default)]
pub(super) struct Seen<'a>(BTreeMap<(&'a str, &'a str), (&'a Pod, Vec<i64>)>);

impl<'a> Seen<'a> {
    /// The pod that an address refers to; notes that it is behind the service at that port.
    pub(super) fn pod(&mut self, beside: &Beside<'a>, to: Option<&Reference>, port: Option<i64>) -> Option<&'a Pod> {
        let to = to.filter(|to| to.kind == "Pod")?;
        let pod: &Pod = beside.pod(&to.namespace, &to.name)?;
        let name = (pod.metadata.namespace.as_str(), pod.metadata.name.as_str());
        self.0.entry(name).or_insert_with(|| (pod, Vec::new())).1.extend(port);
        Some(pod)
    }

    /// Targets for ports of the pods that have none yet.
    pub(super) fn add_uncovered(&self, base: &Texts, targets: &mut Found) {
        self.0.values().for_each(|(pod, covered)| pod::add_uncovered(pod, covered, base, targets));
    }
}

pub(super) fn add(endpoints: &Endpoints, beside: &Beside<'_>, targets: &mut Found) {
    let mut base = Texts::default();
    let meta = &endpoints.metadata;
    base.set("namespace", meta.namespace.as_str());
    if let Some(service) = beside.service(&meta.namespace, &meta.name) {
        base = base.with(service::labels(service));
    }
    base.set_meta("endpoints", meta);
    let mut seen = Seen::default();
    for subset in &endpoints.subsets {
        let ready = subset.addresses.iter().map(|address| (address, true));
        let all: Vec<(&EndpointAddress, bool)> =
            ready.chain(subset.not_ready_addresses.iter().map(|address| (address, false))).collect();
        for port in &subset.ports {
            for &(at, is_ready) in &all {
                let mut labels = base.clone();
                set(&mut labels, at, port, is_ready);
                if let Some(node) = beside.node(at.node_name.as_deref()) {
                    node::attach(node, &mut labels);
                }
                if let Some(pod) = seen.pod(beside, at.target_ref.as_ref(), Some(port.port)) {
                    labels = labels.with(pod::behind_service(pod, Some(port.port)));
                }
                labels.add_to(targets, address(&at.ip, port.port));
            }
        }
    }
    seen.add_uncovered(&base, targets);
}

fn set(labels: &mut Texts, at: &EndpointAddress, port: &EndpointPort, is_ready: bool) {
    labels.set("endpoint_port_name", port.name.as_str());
    labels.set("endpoint_port_protocol", port.protocol.as_str());
    labels.set("endpoint_ready", is_ready.to_string());
    if let Some(to) = &at.target_ref {
        labels.set("endpoint_address_target_kind", to.kind.as_str());
        labels.set("endpoint_address_target_name", to.name.as_str());
    }
    labels.set_some("endpoint_node_name", at.node_name.as_deref());
    if !at.hostname.is_empty() {
        labels.set("endpoint_hostname", at.hostname.as_str());
    }
}
