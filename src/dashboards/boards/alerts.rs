//! Alerts: what fires, since when, how often, and whether rules and notifications work.

use super::super::{
    frame::{Board, any_of},
    grafana::{Dashboard, Panel},
    panel::{bad_above, blue, lines, stat, states, table},
};

const CHOSEN: &str = r#"alertname=~"$alertname", severity=~"$severity""#;

/// See the module.
pub(in super::super) fn alerts() -> Dashboard {
    Board {
        uid: "meshscope-alerts",
        title: "Alerts",
        description: "What fires, since when and how often, and whether people are told.",
        tag: "alerts",
        page: "/alerts",
        variables: vec![
            any_of(("alertname", "Alert"), "Names of alerts", "label_values(ALERTS, alertname)"),
            any_of(("severity", "Severity"), "Severities", "label_values(ALERTS, severity)"),
        ],
    }
    .with(panels())
}

fn in_state(state: &str) -> String {
    format!(r#"ALERTS{{alertstate="{state}", {CHOSEN}}}"#)
}

fn panels() -> Vec<Panel> {
    let (firing, pending) = (in_state("firing"), in_state("pending"));
    let none = "nothing fires";
    let told = "no meshscope is scraped, or it told nobody yet";
    vec![
        stat(("Firing", "Alerts that fire now."), "none", bad_above(1.0, 5.0)).query(format!("count({firing}) or vector(0)"), ""),
        stat(("Critical", "Of these the critical ones."), "none", bad_above(1.0, 1.0))
            .query(r#"count(ALERTS{alertstate="firing", severity="critical", alertname=~"$alertname"}) or vector(0)"#, ""),
        stat(("Pending", "Alerts that wait for their `for`."), "none", blue()).query(format!("count({pending}) or vector(0)"), ""),
        stat(("Notifications that failed", "Notifications that failed for good in the last hour."), "none", bad_above(1.0, 5.0))
            .query(r#"sum(increase(meshscope_notifications_total{outcome="failed"}[1h])) or vector(0)"#, ""),
        states(("States", "Each alert over time: orange is pending, red fires."))
            .query(
                format!("2 * max by (alertname) ({firing}) or max by (alertname) ({pending})"),
                "{{alertname}}",
            )
            .when_empty(none),
        lines(("Firing by alert", "How many alerts of each name fire: many at once have one cause."), "none")
            .query(format!("count by (alertname) ({firing})"), "{{alertname}}")
            .when_empty(none),
        lines(("Firing by severity", "How many alerts fire, by severity."), "none")
            .query(format!("count by (severity) ({firing})"), "{{severity}}")
            .when_empty(none),
        table(("Firing now", "What fires, with its place in the mesh and for how long."))
            .row(format!(
                "time() - min by (alertname, severity, destination_service_name, destination_service_namespace, source_workload) (ALERTS_FOR_STATE{{alertname=~\"$alertname\"}} and ignoring(alertstate) {firing})"
            ))
            .column("Value", "For", "s")
            .column("alertname", "Alert", "string")
            .column("severity", "Severity", "string")
            .column("destination_service_name", "Service", "string")
            .column("destination_service_namespace", "Namespace", "string")
            .column("source_workload", "Caller", "string")
            .when_empty(none),
        lines(("Notifications", "Notifications a second, by how they ended."), "ops")
            .query("sum by (outcome) (rate(meshscope_notifications_total[$__rate_interval]))", "{{outcome}}")
            .when_empty(told),
        lines(("Rule evaluations that failed", "A rule that fails does not alert."), "ops")
            .query("sum(rate(meshscope_rule_evaluation_failures_total[$__rate_interval])) or sum(rate(prometheus_rule_evaluation_failures_total[$__rate_interval]))", "failed")
            .query("sum(rate(meshscope_rule_group_iterations_missed_total[$__rate_interval])) or sum(rate(prometheus_rule_group_iterations_missed_total[$__rate_interval]))", "missed rounds")
            .when_empty("neither meshscope nor Prometheus is scraped"),
    ]
}
