//! Annotations of Istio: unknown, misplaced, deprecated, early, and with values that cannot be read.
//!
//! The conditions are those of istio's `annotations` and `maturity` analyzers; the table is that of istio/api.

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::{self, Node};

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0708",
        severity: Severity::Warning,
        title: "an annotation of Istio is on the wrong kind of object",
        also: &["IST0107"],
        run: misplaced,
    },
    Check {
        code: "MS0709",
        severity: Severity::Warning,
        title: "an annotation of Istio does not exist",
        also: &["IST0108"],
        run: unknown,
    },
    Check {
        code: "MS0710",
        severity: Severity::Warning,
        title: "an annotation of Istio has a wrong value",
        also: &["IST0125"],
        run: invalid,
    },
    Check {
        code: "MS0711",
        severity: Severity::Info,
        title: "an annotation of Istio is deprecated",
        also: &["IST0135"],
        run: deprecated,
    },
    Check {
        code: "MS0712",
        severity: Severity::Info,
        title: "an annotation of Istio is of an early feature",
        also: &["IST0136"],
        run: early,
    },
];

/// How far a feature is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Alpha,
    Stable,
    Deprecated,
}
use Status::{Alpha, Deprecated, Stable};

/// Name, kinds it belongs to (`Any` stands for all), how far its feature is.
type Known = (&'static str, &'static str, Status);

const KNOWN: &[Known] = &[
    ("alpha.istio.io/canonical-serviceaccounts", "Service", Deprecated),
    ("alpha.istio.io/identity", "Pod", Deprecated),
    ("alpha.istio.io/kubernetes-serviceaccounts", "Service", Deprecated),
    ("ambient.istio.io/bypass-inbound-capture", "Pod", Alpha),
    ("ambient.istio.io/dns-capture", "Pod", Alpha),
    ("ambient.istio.io/redirection", "Pod", Stable),
    ("ambient.istio.io/waypoint-inbound-binding", "GatewayClass", Alpha),
    ("galley.istio.io/analyze-suppress", "Any", Alpha),
    ("gateway.istio.io/controller-version", "Any", Stable),
    ("gateway.istio.io/name-override", "Gateway", Alpha),
    ("gateway.istio.io/service-account", "Gateway", Alpha),
    ("gateway.istio.io/tls-cipher-suites", "Gateway", Alpha),
    ("gateway.istio.io/tls-terminate-mode", "Gateway", Alpha),
    ("inject.istio.io/templates", "Pod", Alpha),
    ("install.operator.istio.io/chart-owner", "Any", Alpha),
    ("install.operator.istio.io/owner-generation", "Any", Alpha),
    ("install.operator.istio.io/version", "Any", Alpha),
    ("internal.istio.io/parents", "Any", Alpha),
    ("internal.istio.io/route-semantics", "Any", Alpha),
    ("internal.istio.io/service-account-name", "Any", Alpha),
    ("istio.io/autoRegistrationGroup", "WorkloadEntry", Alpha),
    ("istio.io/connectedAt", "WorkloadEntry", Alpha),
    ("istio.io/disconnectedAt", "WorkloadEntry", Alpha),
    ("istio.io/dry-run", "AuthorizationPolicy", Alpha),
    ("istio.io/for-service-account", "Secret", Alpha),
    ("istio.io/reroute-virtual-interfaces", "Pod", Alpha),
    ("istio.io/rev", "Pod", Stable),
    ("istio.io/workloadController", "WorkloadEntry", Alpha),
    ("kubernetes.io/ingress.class", "Ingress", Stable),
    ("networking.istio.io/address-type", "Gateway", Alpha),
    ("networking.istio.io/exportTo", "Service", Alpha),
    ("networking.istio.io/service-type", "Gateway", Alpha),
    ("networking.istio.io/traffic-distribution", "Service, ServiceEntry, Namespace", Alpha),
    ("prometheus.istio.io/merge-metrics", "Pod", Alpha),
    ("proxy.istio.io/config", "Pod", Stable),
    ("proxy.istio.io/overrides", "Pod", Alpha),
    ("readiness.status.sidecar.istio.io/applicationPorts", "Pod", Alpha),
    ("readiness.status.sidecar.istio.io/failureThreshold", "Pod", Alpha),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", "Pod", Alpha),
    ("readiness.status.sidecar.istio.io/periodSeconds", "Pod", Alpha),
    ("sidecar.istio.io/agentLogLevel", "Pod", Alpha),
    ("sidecar.istio.io/bootstrapOverride", "Pod", Alpha),
    ("sidecar.istio.io/componentLogLevel", "Pod", Alpha),
    ("sidecar.istio.io/controlPlaneAuthPolicy", "Pod", Deprecated),
    ("sidecar.istio.io/discoveryAddress", "Pod", Deprecated),
    ("sidecar.istio.io/enableCoreDump", "Pod", Alpha),
    ("sidecar.istio.io/extraStatTags", "Pod", Alpha),
    ("sidecar.istio.io/inject", "Pod", Stable),
    ("sidecar.istio.io/interceptionMode", "Pod", Alpha),
    ("sidecar.istio.io/logLevel", "Pod", Alpha),
    ("sidecar.istio.io/nativeSidecar", "Pod", Alpha),
    ("sidecar.istio.io/proxyCPU", "Pod", Alpha),
    ("sidecar.istio.io/proxyCPULimit", "Pod", Alpha),
    ("sidecar.istio.io/proxyImage", "Pod", Alpha),
    ("sidecar.istio.io/proxyImageType", "Pod", Alpha),
    ("sidecar.istio.io/proxyMemory", "Pod", Alpha),
    ("sidecar.istio.io/proxyMemoryLimit", "Pod", Alpha),
    ("sidecar.istio.io/rewriteAppHTTPProbers", "Pod", Alpha),
    ("sidecar.istio.io/statsCompression", "Pod", Alpha),
    ("sidecar.istio.io/statsEvictionInterval", "Pod", Alpha),
    ("sidecar.istio.io/statsFlushInterval", "Pod", Alpha),
    ("sidecar.istio.io/statsHistogramBuckets", "Pod", Alpha),
    ("sidecar.istio.io/statsInclusionPrefixes", "Pod", Deprecated),
    ("sidecar.istio.io/statsInclusionRegexps", "Pod", Deprecated),
    ("sidecar.istio.io/statsInclusionSuffixes", "Pod", Deprecated),
    ("sidecar.istio.io/status", "Pod", Stable),
    ("sidecar.istio.io/userVolume", "Pod", Alpha),
    ("sidecar.istio.io/userVolumeMount", "Pod", Alpha),
    ("status.sidecar.istio.io/port", "Pod", Alpha),
    ("topology.istio.io/controlPlaneClusters", "Namespace", Alpha),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "Pod", Alpha),
    ("traffic.sidecar.istio.io/excludeInterfaces", "Pod", Alpha),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "Pod", Alpha),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "Pod", Alpha),
    ("traffic.sidecar.istio.io/includeInboundPorts", "Pod", Alpha),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "Pod", Alpha),
    ("traffic.sidecar.istio.io/includeOutboundPorts", "Pod", Alpha),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", "Pod", Deprecated),
];

/// What the injector writes itself when the CNI plugin redirects traffic.
const WRITTEN_BY_CNI: [&str; 4] = [
    "sidecar.istio.io/interceptionMode",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
];

fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.0 == name)
}

/// Calls with every annotation of Istio on namespaces, services, pods and Deployments.
fn each(scene: &Scene<'_>, mut look: impl FnMut(&Resource, &str, &str, Option<&'static Known>)) {
    for kind in [Kind::Namespace, Kind::Service, Kind::Pod, Kind::Deployment] {
        for resource in scene.mesh.of_kind(kind) {
            for (name, value) in &resource.annotations {
                let domain = name.split_once('/').map_or("", |(domain, _)| domain);
                if domain.ends_with("istio.io") || name == "kubernetes.io/ingress.class" {
                    look(resource, name, value, known(name));
                }
            }
        }
    }
}

fn field(name: &str) -> String {
    format!("metadata.annotations[\"{name}\"]")
}

fn belongs(known: &Known, resource: &Resource) -> bool {
    known.1 == "Any" || known.1.split(", ").any(|kind| kind == resource.id.kind.info().name)
}

fn misplaced(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |resource, name, _, known| {
        let Some(known) = known.filter(|known| !belongs(known, resource)) else { return };
        let message = format!("{name} holds for {} only: here nobody reads it", known.1);
        let note = found.at(resource, &field(name), message);
        if resource.id.kind == Kind::Deployment && known.1 == "Pod" {
            note.fix(format!("spec:\n  template:\n    metadata:\n      annotations:\n        {name}: …"));
        }
    });
}

fn unknown(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |resource, name, _, known| {
        if known.is_none() {
            found.at(resource, &field(name), format!("Istio has no annotation {name}: nobody reads it"));
        }
    });
}

fn deprecated(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |resource, name, _, known| {
        if known.is_some_and(|known| known.2 == Deprecated) {
            found.at(resource, &field(name), format!("{name} is deprecated: a later Istio does not read it"));
        }
    });
}

fn early(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |resource, name, _, known| {
        let init = resource
            .list("spec.initContainers")
            .iter()
            .any(|one| one.get("name").and_then(Node::as_str) == Some("istio-init"));
        let own = resource.id.kind == Kind::Pod && !init && WRITTEN_BY_CNI.contains(&name);
        if !own && known.is_some_and(|known| known.2 != Stable) {
            found.at(resource, &field(name), format!("{name} is of an alpha feature, which may change or go"));
        }
    });
}

fn invalid(scene: &Scene<'_>, found: &mut Found<'_>) {
    each(scene, |resource, name, value, known| {
        if !known.is_some_and(|known| belongs(known, resource)) {
            return;
        }
        if let Some(wanted) = wrong(name, value) {
            found.at(resource, &field(name), format!("{value:?} is not {wanted}"));
        }
    });
}

/// What a value should be, when it is not.
fn wrong(name: &str, value: &str) -> Option<&'static str> {
    let items = || value.split(',').map(str::trim).filter(|one| !one.is_empty());
    let ports = || items().all(|one| one.parse::<u16>().is_ok());
    let ranges = || value == "*" || items().all(range);
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    let (right, wanted) = match last {
        "initialDelaySeconds" | "periodSeconds" | "failureThreshold" => {
            (value.parse::<u32>().is_ok(), "a whole number")
        }
        "port" if name.starts_with("status.") => (value.parse::<u16>().is_ok(), "a port"),
        "applicationPorts" | "excludeInboundPorts" | "excludeOutboundPorts" => (ports(), "a list of ports"),
        "includeInboundPorts" | "includeOutboundPorts" => (value == "*" || ports(), "a list of ports, or *"),
        "includeOutboundIPRanges" | "excludeOutboundIPRanges" => (ranges(), "a list of IP ranges, or *"),
        "interceptionMode" => (["REDIRECT", "TPROXY", "NONE"].contains(&value), "REDIRECT, TPROXY or NONE"),
        "rewriteAppHTTPProbers" | "enableCoreDump" | "nativeSidecar" | "merge-metrics" => (
            ["true", "false", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False"].contains(&value),
            "true or false",
        ),
        "config" if name.starts_with("proxy.") => (yaml::documents(value).is_ok(), "YAML of a ProxyConfig"),
        _ => (true, ""),
    };
    (!right).then_some(wanted)
}

/// Whether a text is an IP range, `10.0.0.0/8`.
fn range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}
