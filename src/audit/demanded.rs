//! Which workloads take mutual TLS only, by what is declared.
//!
//! In: declared objects. Out: namespaces and names of workloads, as proxies report them. Pure. What is written of it as
//! series lets a rule tell plain text that a policy forbids from plain text that nobody forbids.

use std::collections::BTreeSet;

use super::Options;
use crate::mesh::effective::of_workload;
use crate::mesh::{Index, Kind, Snapshot};

/// Most workloads that are named, in the order of their names: each becomes a series.
const NAMED_MAX: usize = 20_000;

/// Namespace and name of every workload of the mesh for which STRICT holds on all ports. Pods and ReplicaSets are left
/// out: proxies report what made them.
pub(super) fn strict(mesh: &Snapshot, options: &Options) -> BTreeSet<(String, String)> {
    // Without a policy nothing is demanded, and no workload need be looked at.
    if mesh.of_kind(Kind::PeerAuthentication).next().is_none() {
        return BTreeSet::new();
    }
    let index = Index::new(mesh, &options.root_namespace, &options.cluster_domain);
    let mut found = BTreeSet::new();
    for workload in &index.workloads {
        let id = &workload.resource.id;
        if matches!(id.kind, Kind::Pod | Kind::ReplicaSet) {
            continue;
        }
        if !index.in_mesh(workload) && !index.ambient_namespace(&id.namespace) {
            continue;
        }
        let policy = of_workload(&index, &id.namespace, &workload.labels);
        let is_strict = policy.mtls.is_some_and(|mode| mode.value == "STRICT");
        // Calls do not say their port, so a port with a mode of its own leaves the whole in doubt.
        if is_strict && policy.mtls_ports.iter().all(|(_, mode)| mode.value == "STRICT") {
            found.insert((id.namespace.clone(), id.name.clone()));
        }
    }
    while found.len() > NAMED_MAX {
        found.pop_last();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Input;

    /// A Deployment whose pods have the label `app` of its own name.
    fn deployment(namespace: &str, name: &str, inject: bool) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             template: {{metadata: {{labels: {{app: {name}, sidecar.istio.io/inject: \"{inject}\"}}}}}}\n---\n"
        )
    }

    fn policy(namespace: &str, name: &str, spec: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: \
             {namespace}}}\nspec: {{{spec}}}\n---\n"
        )
    }

    fn named(text: &str) -> Vec<String> {
        let input = Input { name: "mesh.yaml".into(), text: text.to_owned() };
        let found = strict(&Snapshot::read(&[input], "default"), &Options::default());
        found.into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }

    #[test]
    fn the_narrowest_policy_decides_and_ports_with_a_mode_of_their_own_leave_doubt() {
        let workloads: String = [
            deployment("shop", "cart", true),
            deployment("shop", "open", true),
            deployment("shop", "ports", true),
            deployment("shop", "bare", false),
            deployment("other", "web", true),
            deployment("flat", "ambient", false),
        ]
        .concat()
            + "apiVersion: v1\nkind: Namespace\nmetadata: {name: flat, labels: {istio.io/dataplane-mode: ambient}}\n---\n\
               apiVersion: v1\nkind: Pod\nmetadata: {name: cart-1, namespace: shop, labels: {sidecar.istio.io/inject: \
               \"true\"}}\n---\n";
        assert_eq!(named(&workloads), [] as [&str; 0], "nothing is demanded");
        let shop = policy("shop", "default", "mtls: {mode: STRICT}")
            + &policy("shop", "open", "selector: {matchLabels: {app: open}}, mtls: {mode: PERMISSIVE}")
            + &policy(
                "shop",
                "ports",
                "selector: {matchLabels: {app: ports}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}",
            );
        assert_eq!(named(&(workloads.clone() + &shop)), ["shop/cart"]);
        let whole = workloads + &shop + &policy("istio-system", "default", "mtls: {mode: STRICT}");
        assert_eq!(named(&whole), ["flat/ambient", "other/web", "shop/cart"]);
    }
}
