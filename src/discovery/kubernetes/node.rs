//! Role `node`: the kubelet of each node.

use super::objects::Node;
use super::texts::{Texts, address, sanitized};
use super::{Beside, Found};

/// Which of a node's addresses is taken: the first kind that it has.
const PREFERRED: [&str; 6] = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

pub(super) fn add(node: &Node, _: &Beside<'_>, targets: &mut Found) {
    let addresses = &node.status.addresses;
    let of_kind = |kind: &&str| addresses.iter().find(|address| address.kind == *kind);
    let Some(preferred) = PREFERRED.iter().find_map(of_kind) else { return };
    let mut labels = Texts::default();
    labels.set_meta("node", &node.metadata);
    labels.set("node_provider_id", node.spec.provider_id.as_str());
    labels.set_plain("instance", &node.metadata.name);
    // The first of each kind.
    for one in addresses.iter().rev() {
        labels.set(&format!("node_address_{}", sanitized(&one.kind)), one.address.as_str());
    }
    labels.add_to(targets, address(&preferred.address, node.status.daemon_endpoints.kubelet_endpoint.port));
}

/// What a target on the node gets: its name, labels and annotations.
pub(super) fn attach(node: &Node, labels: &mut Texts) {
    labels.set_meta("node", &node.metadata);
}
