//! Which edge an alert concerns, read from its labels.
//!
//! In: labels as rules over Istio's, Linkerd's, span or SLO series leave them, or plain ones. Out: a [`Subject`]. Facts:
//! reference/mesh.md §3.1 (Istio), §3.10 (Linkerd). Istio's `unknown` says nothing.

use crate::model::Labels;
use crate::traces;

/// A workload, app or service by its name and namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `None` means all of the namespace.
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
}

/// The edges meant: those that satisfy every part that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// The caller.
    pub(super) source: Option<Place>,
    /// The workload or app called.
    pub(super) destination: Option<Place>,
    /// The service called.
    pub(super) service: Option<Place>,
    /// A workload at one of the two ends; the called one first.
    pub(super) either: Option<Place>,
}

/// Labels that name a caller, with that of its namespace.
const SOURCES: [(&str, &str); 4] = [
    ("source_workload", "source_workload_namespace"),
    ("source_canonical_service", "source_workload_namespace"),
    ("source_app", "source_workload_namespace"),
    ("client", "client_namespace"),
];
/// Labels that name the called workload. Linkerd's outbound series have the second half.
const DESTINATIONS: [(&str, &str); 8] = [
    ("destination_workload", "destination_workload_namespace"),
    ("destination_canonical_service", "destination_workload_namespace"),
    ("destination_app", "destination_workload_namespace"),
    ("dst_deployment", "dst_namespace"),
    ("dst_statefulset", "dst_namespace"),
    ("dst_daemonset", "dst_namespace"),
    ("dst_workload", "dst_namespace"),
    ("server", "server_namespace"),
];
/// Labels that name the called service.
const SERVICES: [(&str, &str); 8] = [
    ("destination_service_name", "destination_service_namespace"),
    ("destination_service", "destination_service_namespace"),
    ("dst_service", "dst_namespace"),
    ("backend_name", "backend_namespace"),
    ("parent_name", "parent_namespace"),
    ("authority", "dst_namespace"),
    ("service", "namespace"),
    ("service_name", "service_namespace"),
];
/// Labels that name the workload a series is from.
const OWN: [(&str, &str); 9] = [
    ("deployment", "namespace"),
    ("statefulset", "namespace"),
    ("daemonset", "namespace"),
    ("k8s_job", "namespace"),
    ("workload", "workload_namespace"),
    ("workload", "namespace"),
    ("app", "namespace"),
    ("pod", "namespace"),
    ("exported_pod", "exported_namespace"),
];

impl Subject {
    /// `None` when the labels name nobody.
    pub(super) fn of(labels: &Labels) -> Option<Self> {
        let said = |name: &str| Some(labels.value(name)).filter(|value| !matches!(*value, "" | "unknown" | "-"));
        let first = |pairs: &[(&str, &str)]| {
            let found = pairs.iter().find_map(|(name, namespace)| Some((*name, said(name)?, said(namespace))));
            found.map(|(label, name, namespace)| Place::read(label, name, namespace))
        };
        let mut subject = Self {
            source: first(&SOURCES),
            destination: first(&DESTINATIONS),
            service: first(&SERVICES),
            either: None,
        };
        // A series of one workload: its direction says which end that is.
        let own = first(&OWN);
        let calls_others = labels.value("direction") == "outbound" || subject.has_linkerd_destination(labels);
        match own {
            Some(own) if subject.source.is_none() && calls_others => subject.source = Some(own),
            Some(own) if subject.destination.is_none() && labels.value("direction") == "inbound" => {
                subject.destination = Some(own);
            }
            Some(own) if subject.is_empty() => subject.either = Some(own),
            _ => {}
        }
        let namespaces = ["destination_service_namespace", "destination_workload_namespace", "dst_namespace"];
        if subject.is_empty()
            && let Some(namespace) = namespaces.into_iter().find_map(said)
        {
            subject.destination = Some(Place { name: None, namespace: Some(namespace.to_owned()) });
        }
        let caller = said("source_workload_namespace").filter(|_| subject.source.is_none());
        if let Some(namespace) = caller {
            subject.source = Some(Place { name: None, namespace: Some(namespace.to_owned()) });
        }
        (!subject.is_empty()).then_some(subject)
    }

    fn has_linkerd_destination(&self, labels: &Labels) -> bool {
        (self.destination.is_some() || self.service.is_some())
            && labels.iter().any(|(name, _)| name.starts_with("dst_"))
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A namespace that all edges meant touch, for links.
    pub(super) fn namespace(&self) -> Option<&str> {
        let places = [&self.destination, &self.service, &self.either, &self.source];
        places.into_iter().flatten().find_map(|place| place.namespace.as_deref())
    }
}

impl Place {
    /// What a label says: a host names service and namespace, a pod its workload.
    fn read(label: &str, value: &str, namespace: Option<&str>) -> Self {
        let (mut name, mut namespace) = (value, namespace);
        if matches!(label, "pod" | "exported_pod") {
            name = traces::workload_of_pod(value);
        } else if matches!(label, "destination_service" | "authority" | "service" | "service_name") {
            let host = value.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
            let host = host.map_or(value, |(host, _)| host);
            let mut parts = host.split('.');
            name = match (parts.next(), parts.next(), parts.next()) {
                (Some(first), Some(second), None | Some("svc")) => {
                    namespace = namespace.or(Some(second));
                    first
                }
                _ => host,
            };
        }
        Self { name: Some(name.to_owned()), namespace: namespace.map(str::to_owned) }
    }

    /// Whether this is it. What one of the two does not say of the namespace is no difference.
    pub(super) fn is(&self, name: &str, app: Option<&str>, namespace: Option<&str>) -> bool {
        let wanted = self.name.as_deref();
        let named = wanted.is_none_or(|wanted| wanted == name || Some(wanted) == app);
        let placed = match (self.namespace.as_deref(), namespace) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (Some(_), None) => wanted.is_some(),
            (None, _) => true,
        };
        named && placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<Place> {
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (name, namespace) = text.split_once('/')?;
        Some(Place { name: said(name), namespace: said(namespace) })
    }

    #[test]
    fn labels_of_every_mesh_name_an_edge() {
        let check = |labels: &[(&str, &str)], expect: [&str; 4]| {
            let [source, destination, service, either] = expect.map(place);
            let expect = Subject { source, destination, service, either };
            let found = Subject::of(&Labels::from_pairs(labels.iter().copied()));
            assert_eq!(found.unwrap_or_default(), expect, "{labels:?}");
        };
        let reviews = [("destination_service_name", "reviews"), ("destination_service_namespace", "shop")];
        check(&reviews, ["", "", "reviews/shop", ""]);
        check(
            &[("source_workload", "web"), ("source_workload_namespace", "shop"), reviews[0], reviews[1]],
            ["web/shop", "", "reviews/shop", ""],
        );
        check(&[("destination_service", "reviews.shop.svc.cluster.local")], ["", "", "reviews/shop", ""]);
        check(&[("destination_service", "api.example.org")], ["", "", "api.example.org/", ""]);
        check(
            &[("destination_workload", "unknown"), ("destination_service", "cart:8080"), ("source_app", "web")],
            ["web/", "", "cart/", ""],
        );
        check(
            &[("destination_workload", "cart-v1"), ("destination_workload_namespace", "shop")],
            ["", "cart-v1/shop", "", ""],
        );
        check(&[("dst_namespace", "emojivoto"), ("dst_service", "voting")], ["", "", "voting/emojivoto", ""]);
        check(
            &[("deployment", "web"), ("namespace", "emojivoto"), ("dst_deployment", "voting"), ("dst_namespace", "e")],
            ["web/emojivoto", "voting/e", "", ""],
        );
        check(&[("deployment", "web"), ("namespace", "e"), ("direction", "inbound")], ["", "web/e", "", ""]);
        check(&[("deployment", "web"), ("namespace", "e"), ("direction", "outbound")], ["web/e", "", "", ""]);
        check(&[("deployment", "web"), ("namespace", "e")], ["", "", "", "web/e"]);
        check(&[("service", "cart"), ("namespace", "shop"), ("slo", "cart")], ["", "", "cart/shop", ""]);
        check(&[("service", "cart.shop.svc.cluster.local:80")], ["", "", "cart/shop", ""]);
        check(&[("client", "web"), ("server", "cart")], ["web/", "cart/", "", ""]);
        check(&[("pod", "cart-v1-6f89b6c557-sg2bc"), ("namespace", "shop")], ["", "", "", "cart-v1/shop"]);
        check(&[("destination_workload_namespace", "shop")], ["", "/shop", "", ""]);
        check(&[("alertname", "X"), ("severity", "page"), ("job", "istiod")], ["", "", "", ""]);
        check(&[("destination_service_name", ""), ("source_workload", "unknown")], ["", "", "", ""]);
    }

    #[test]
    fn a_place_is_found_by_name_or_app_within_its_namespace() {
        let cart = place("cart/shop").unwrap_or_else(|| unreachable!("a place"));
        assert!(cart.is("cart", None, Some("shop")));
        assert!(cart.is("cart-v1", Some("cart"), Some("shop")));
        assert!(cart.is("cart", None, None));
        assert!(!cart.is("cart", None, Some("other")));
        assert!(!cart.is("web", Some("web"), Some("shop")));
        let all = Place { name: None, namespace: Some("shop".into()) };
        assert!(all.is("anything", None, Some("shop")));
        assert!(!all.is("anything", None, None));
    }
}
