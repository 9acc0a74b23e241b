//! Traffic split: which version gets what share, and whether the new one is worse than the old one.

use super::super::{
    calls::Calls,
    frame::{Board, cluster, one_of, reporter},
    grafana::{Dashboard, Panel},
    panel::{bars, blue, lines},
};

const SELECTED: &str = r#"destination_cluster=~"$cluster", destination_service_namespace="$service_namespace", destination_service_name="$service", destination_workload!="unknown""#;
const CALLS: Calls = Calls::chosen(SELECTED);
const VERSION: &str = "destination_workload, destination_version";
const NAME: &str = "{{destination_workload}} {{destination_version}}";

/// See the module.
pub(in super::super) fn split() -> Dashboard {
    Board {
        uid: "meshscope-split",
        title: "Traffic split",
        description: "Canary and blue-green: which version gets what share, and whether the new one is worse than the old one.",
        tag: "istio",
        page: "/graph?range=1h&namespace=${service_namespace}",
        variables: vec![
            cluster(),
            one_of(
                ("service_namespace", "Namespace"),
                "Namespace of the service",
                "label_values(istio_requests_total, destination_service_namespace)",
            ),
            one_of(
                ("service", "Service"),
                "The service",
                r#"label_values(istio_requests_total{destination_service_namespace="$service_namespace"}, destination_service_name)"#,
            ),
            reporter(),
        ],
    }
    .with(panels())
}

fn panels() -> Vec<Panel> {
    let share = format!("{} / on() group_left() {}", CALLS.requests(VERSION), CALLS.requests(""));
    vec![
        bars(
            (
                "Share now",
                "What share of the answered requests each version gets: compare it with the weights of the route.",
            ),
            "percentunit",
            blue(),
        )
        .query(share.clone(), NAME)
        .whole_share(),
        lines(("Share", "The same over time: every step of a rollout is seen."), "percentunit")
            .query(share, NAME)
            .whole_share(),
        lines(("Requests by version", "Requests a second."), "reqps").query(CALLS.requests(VERSION), NAME),
        lines(("Errors by version", "Share of each version's requests that failed."), "percentunit")
            .query(CALLS.error_share(VERSION), NAME),
        lines(("Median by version", "Half of each version's requests are faster."), "ms")
            .query(CALLS.quantile("0.50", VERSION), NAME),
        lines(("p99 by version", "One of a hundred of each version's requests is slower."), "ms")
            .query(CALLS.quantile("0.99", VERSION), NAME)
            .exemplars(),
        lines(("Codes by version", "Requests a second by version and response code."), "reqps")
            .query(CALLS.requests("destination_version, response_code"), "{{destination_version}} {{response_code}}"),
        lines(
            ("Callers by version", "Who reaches which version: a match on a header or a caller is seen here."),
            "reqps",
        )
        .query(CALLS.requests("source_workload, destination_version"), "{{source_workload}} {{destination_version}}"),
    ]
}
