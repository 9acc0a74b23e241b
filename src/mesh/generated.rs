//! Pods that no object declares: those that istiod makes for a Gateway of the Gateway API.
//!
//! In: a [`Snapshot`]. Out: labels and service account of the pods of each such gateway, as istiod's templates write them.
//! Gateways of other makers, and those that name a Service which runs already (an address of type Hostname), have none.

use super::kind::Kind;
use super::resource::Resource;
use super::select::Labels;
use super::snapshot::Snapshot;

/// Classes that istiod serves without a GatewayClass being written down.
pub const ISTIO_CLASSES: [&str; 4] = ["istio", "istio-remote", "istio-waypoint", "istio-east-west"];

/// The pods of one gateway.
#[derive(Clone, Debug)]
pub struct Generated<'a> {
    /// Whose they are.
    pub gateway: &'a Resource,
    /// Their labels.
    pub labels: Labels,
    /// Their service account, which is of the gateway's namespace.
    pub account: String,
}

/// All gateways whose pods istiod makes.
pub fn generated(mesh: &Snapshot) -> impl Iterator<Item = Generated<'_>> {
    mesh.of_kind(Kind::KubernetesGateway).filter_map(|gateway| of(mesh, gateway))
}

fn of<'a>(mesh: &'a Snapshot, gateway: &'a Resource) -> Option<Generated<'a>> {
    let class = gateway.text("spec.gatewayClassName")?;
    let controller = || mesh.get(Kind::GatewayClass, "", class)?.text("spec.controllerName");
    let served = ISTIO_CLASSES.contains(&class) || controller().is_some_and(|name| name.starts_with("istio.io/"));
    let manual = (0..gateway.list("spec.addresses").len())
        .any(|at| gateway.text(&format!("spec.addresses[{at}].type")) == Some("Hostname"));
    if !served || manual {
        return None;
    }
    let own = &gateway.id.name;
    let given = |key: &str| gateway.annotations.get(key).cloned();
    let usual = if class == "istio-waypoint" { own.clone() } else { format!("{own}-{class}") };
    let name = given("gateway.istio.io/name-override").unwrap_or(usual);
    let mut labels = match gateway.at("spec.infrastructure") {
        Some(_) => gateway.map("spec.infrastructure.labels"),
        None => gateway.labels.clone(),
    };
    let written = [
        ("gateway.networking.k8s.io/gateway-name", own.as_str()),
        ("gateway.networking.k8s.io/gateway-class-name", class),
        ("istio.io/gateway-name", own),
        ("service.istio.io/canonical-name", &name),
        ("service.istio.io/canonical-revision", "latest"),
    ];
    labels.extend(written.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let account = given("gateway.istio.io/service-account").unwrap_or(name);
    Some(Generated { gateway, labels, account })
}

#[cfg(test)]
mod tests {
    use super::super::files::Input;
    use super::*;

    #[test]
    fn istiod_makes_pods_for_its_own_classes_and_for_no_service_that_runs_already() {
        let gateway = |name: &str, class: &str, rest: &str| {
            format!(
                "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
                 spec: {{gatewayClassName: {class}{rest}, listeners: []}}\n"
            )
        };
        let class = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: inner}\n\
            spec: {controllerName: istio.io/gateway-controller}\n";
        let text = gateway("edge", "istio", ", infrastructure: {labels: {team: a}}")
            + &gateway("waypoint", "istio-waypoint", "")
            + &gateway("own", "inner", "")
            + &gateway("other", "acme", "")
            + &gateway("manual", "istio", ", addresses: [{type: Hostname, value: ingress.istio.svc.cluster.local}]")
            + class;
        let mesh = Snapshot::read(&[Input { name: "a".into(), text }], "shop");
        let found: Vec<(String, String)> =
            generated(&mesh).map(|one| (one.gateway.id.name.clone(), one.account)).collect();
        let expected = [("edge", "edge-istio"), ("waypoint", "waypoint"), ("own", "own-inner")];
        assert_eq!(found, expected.map(|(name, account)| (name.to_owned(), account.to_owned())));
        let labels = generated(&mesh).next().map(|one| one.labels).unwrap_or_default();
        assert_eq!(labels.get("team").map(String::as_str), Some("a"));
        assert_eq!(labels.get("istio.io/gateway-name").map(String::as_str), Some("edge"));
    }
}
