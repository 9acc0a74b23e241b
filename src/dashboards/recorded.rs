//! The heavy panels of a dashboard over the series that `alerts/recording.yaml` records, for meshes so large that the raw
//! queries are slow.
//!
//! In: a [`Dashboard`]. Out: the same with other queries. What is recorded has neither workload nor reporter, so these
//! panels follow the chosen namespaces only, and say so.

use super::grafana::{Dashboard, Panel};

const CHOSEN_NAMESPACES: &str = r#"{destination_service_namespace=~"$namespace"}"#;
const REQUESTS: &str = "service:istio_requests:rate5m";
const ERRORS: &str = "service:istio_request_errors:rate5m";
const ERROR_RATIO: &str = "service:istio_request_errors:ratio_rate5m";
const BUCKETS: &str = "service:istio_request_duration_milliseconds_bucket:rate5m";
/// Said of each panel that reads what is recorded.
const NOTE: &str = "Recorded over five minutes by alerts/recording.yaml, of all workloads and as clients see it; injected faults and callers that hung up are no errors.";

/// See the module.
pub fn recorded(mut dashboard: Dashboard) -> Dashboard {
    for panel in &mut dashboard.panels {
        if let Some(exprs) = exprs(panel) {
            for (target, expr) in panel.targets.iter_mut().zip(exprs) {
                target.expr = expr;
            }
            panel.description = NOTE;
        }
    }
    dashboard
}

/// What the queries of a panel become; `None` for one that stays.
fn exprs(panel: &Panel) -> Option<Vec<String>> {
    let chosen = CHOSEN_NAMESPACES;
    let quantile = |q: &str| format!("histogram_quantile({q}, sum by (le) ({BUCKETS}{chosen}))");
    Some(match panel.title {
        "Requests" => vec![format!("sum({REQUESTS}{chosen})")],
        "Errors" => vec![format!("sum({ERRORS}{chosen}) / sum({REQUESTS}{chosen})")],
        "Latency p95" => vec![quantile("0.95")],
        "Request Rate" => vec![format!("{REQUESTS}{chosen}")],
        "Error Rate" => vec![format!("{ERROR_RATIO}{chosen}")],
        "Latency" => ["0.50", "0.95", "0.99"].map(quantile).to_vec(),
        _ => return None,
    })
}
