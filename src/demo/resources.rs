//! What the Kubernetes API would say of the simulated mesh: namespaces, service accounts, services, deployments.
//!
//! In: the tables of [`super::topology`]. Out: one YAML text, for the audit to resolve hosts, subsets and selectors in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::topology::{Behind, Protocol, SERVICES, Service, WORKLOADS, Workload};

/// Every object as YAML documents.
pub(super) fn kubernetes() -> String {
    let mut text = String::from("# Generated from the simulated mesh.\n");
    let namespaces: BTreeSet<&str> = WORKLOADS.iter().map(|workload| workload.namespace).collect();
    // Writing to a String cannot fail, so the results of `write!` carry nothing.
    for namespace in namespaces {
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    istio-injection: enabled\n---\n"
        );
    }
    // Where the caller without a proxy lives: no injection.
    text.push_str("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: legacy\n---\n");
    let accounts: BTreeMap<(&str, &str), ()> =
        WORKLOADS.iter().map(|workload| ((workload.namespace, workload.service_account), ())).collect();
    for (namespace, account) in accounts.into_keys() {
        let _ = write!(
            text,
            "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {account}\n  namespace: {namespace}\n---\n"
        );
    }
    for service in SERVICES {
        if matches!(service.behind, Behind::Mesh(_)) {
            push_service(&mut text, service);
        }
    }
    for workload in WORKLOADS {
        if workload.is_gateway() {
            let Workload { app, namespace, .. } = workload;
            let _ = write!(
                text,
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: {app}\n  namespace: {namespace}\nspec:\n  type: LoadBalancer\n  \
                 selector:\n    app: {app}\n  ports:\n  - name: http2\n    port: 80\n    targetPort: 8080\n---\n"
            );
        }
        push_deployment(&mut text, workload);
    }
    text
}

fn push_service(text: &mut String, service: &Service) {
    let Service { name, namespace, port, protocol, .. } = service;
    let prefix = match protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    };
    let _ = write!(
        text,
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  selector:\n    app: {name}\n  ports:\n  - name: {prefix}-main\n    port: {port}\n    targetPort: {port}\n---\n"
    );
}

fn push_deployment(text: &mut String, workload: &Workload) {
    let Workload { name, namespace, app, version, service_account, pods, statistics, .. } = workload;
    let mut labels = format!("        app: {app}\n");
    if workload.is_gateway() {
        labels.push_str("        istio: ingressgateway\n");
    }
    if let Some(version) = version {
        let _ = writeln!(labels, "        version: {version}");
    }
    let annotations = if *statistics {
        "      annotations:\n        sidecar.istio.io/statsInclusionRegexps: \".*(circuit_breakers|outlier_detection|upstream_rq_retry|upstream_rq_pending).*\"\n"
    } else {
        ""
    };
    let selector = version.map(|version| format!("      version: {version}\n")).unwrap_or_default();
    let _ = write!(
        text,
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  replicas: {pods}\n  selector:\n    matchLabels:\n      app: {app}\n{selector}  template:\n    metadata:\n{annotations}      labels:\n{labels}    spec:\n      serviceAccountName: {service_account}\n      containers:\n      - name: {app}\n        image: registry.example.com/{app}:1.0\n---\n"
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Documents by kind, each as JSON.
    fn documents() -> Vec<serde_json::Value> {
        kubernetes()
            .split("---\n")
            .filter(|document| !document.trim().is_empty())
            .map(|document| serde_saphyr::from_str(document).unwrap())
            .collect()
    }

    #[test]
    fn every_workload_is_a_deployment_and_every_service_selects_one() {
        let documents = documents();
        let of = |kind: &str| documents.iter().filter(|document| document["kind"] == kind).collect::<Vec<_>>();
        let deployments = of("Deployment");
        assert_eq!(deployments.len(), WORKLOADS.len());
        for service in of("Service") {
            assert!(
                deployments.iter().any(|deployment| {
                    deployment["metadata"]["namespace"] == service["metadata"]["namespace"]
                        && deployment["spec"]["template"]["metadata"]["labels"]["app"]
                            == service["spec"]["selector"]["app"]
                }),
                "{service}"
            );
        }
        let reviews = deployments.iter().find(|deployment| deployment["metadata"]["name"] == "reviews-v2").unwrap();
        assert_eq!(reviews["spec"]["template"]["metadata"]["labels"]["version"], "v2");
        assert_eq!(reviews["spec"]["selector"]["matchLabels"]["version"], "v2");
        assert_eq!(of("Namespace").len(), 6);
    }

    #[test]
    fn declared_mesh_resources_are_whole_yaml() {
        for text in [include_str!("mesh.yaml"), super::super::configuration::FAULT] {
            for document in text.split("---\n") {
                let object: serde_json::Value = serde_saphyr::from_str(document).unwrap();
                assert!(object["metadata"]["namespace"].is_string(), "{document}");
                assert!(object["spec"].is_object(), "{document}");
            }
        }
    }
}
