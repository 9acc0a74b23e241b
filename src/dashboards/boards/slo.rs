//! Objectives: how much budget is left, how fast it burns, what burns it. Reads what meshscope or sloth records.

use super::super::{
    frame::{Board, any_of},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bars, blue, lines, stat, step, table},
};

const CHOSEN: &str = r#"sloth_slo=~"$slo", sloth_service=~"$service""#;
const NONE: &str = "no objective is recorded: write `slos:` in meshscope.yaml";

/// See the module.
pub(in super::super) fn slo() -> Dashboard {
    Board {
        uid: "meshscope-slo",
        title: "SLO and error budget",
        description: "How much error budget is left, how fast it burns, and who is told. Reads meshscope's records, named as sloth's.",
        tag: "slo",
        page: "/slos",
        variables: vec![
            any_of(("slo", "Objective"), "Objectives", "label_values(slo:objective:ratio, sloth_slo)"),
            any_of(
                ("service", "Service"),
                "Services or edges with the objective",
                r#"label_values(slo:objective:ratio{sloth_slo=~"$slo"}, sloth_service)"#,
            ),
        ],
    }
    .with(panels().into_iter().map(|panel| panel.when_empty(NONE)).collect())
}

fn of(record: &str) -> String {
    format!("{record}{{{CHOSEN}}}")
}

fn panels() -> Vec<Panel> {
    let id = "{{sloth_id}}";
    let (remaining, burn) = (of("slo:period_error_budget_remaining:ratio"), of("slo:current_burn_rate:ratio"));
    let gone = vec![step("red", None), step("orange", Some(0.0)), step("green", Some(0.25))];
    vec![
        stat(("Objectives", "Objectives that are measured."), "none", blue()).query(format!("count({remaining})"), ""),
        stat(("Spent", "Objectives whose budget is spent."), "none", bad_above(1.0, 2.0))
            .query(format!("count({remaining} <= 0) or vector(0)"), ""),
        stat(("Least budget", "What is left of the objective that has least."), "percentunit", gone.clone())
            .query(format!("min({remaining})"), "")
            .signed(),
        stat(
            ("Fastest burn", "1 spends the budget exactly by the end of the period; 14.4 spends it in two days."),
            "none",
            bad_above(1.0, 14.4),
        )
        .query(format!("max({burn})"), ""),
        bars(
            ("Budget left", "What is left of each budget; below nothing the objective is missed."),
            "percentunit",
            gone,
        )
        .query(remaining.clone(), id)
        .signed()
        .whole_share(),
        lines(("Budget", "The same over time: each drop is an incident."), "percentunit")
            .query(remaining.clone(), id)
            .signed(),
        lines(("Burn rate", "How fast the budget is spent, over five minutes. Above 1 it does not last."), "none")
            .query(burn.clone(), id),
        lines(("Errors by window", "The worst share of bad events over the windows of the alerts."), "percentunit")
            .query(format!("max({})", of("slo:sli_error:ratio_rate5m")), "5m")
            .query(format!("max({})", of("slo:sli_error:ratio_rate30m")), "30m")
            .query(format!("max({})", of("slo:sli_error:ratio_rate1h")), "1h")
            .query(format!("max({})", of("slo:sli_error:ratio_rate6h")), "6h")
            .query(format!("max({})", of("slo:sli_error:ratio_rate1d")), "1d")
            .query(format!("max({})", of("slo:sli_error:ratio_rate3d")), "3d"),
        lines(("Good and bad", "Events a second that count, and those of them that were bad."), "reqps")
            .query(format!("sum({})", of("slo:sli_total:rate5m")), "all")
            .query(format!("sum({})", of("slo:sli_errors:rate5m")), "bad"),
        lines(
            ("Part of the period measured", "Below 100 % the budget is judged on less than its period."),
            "percentunit",
        )
        .query(of("slo:period_covered:ratio"), id)
        .whole_share(),
        table(("Objectives and budgets", "Each objective with what is left and how fast it goes."))
            .row(of("slo:objective:ratio"))
            .row(remaining)
            .row(burn)
            .row(of("slo:period_burn_rate:ratio"))
            .row(of("slo:time_period:days"))
            .column("Value #A", "Objective", "percentunit")
            .column("Value #B", "Budget left", "percentunit")
            .column("Value #C", "Burn rate now", "none")
            .column("Value #D", "Burn rate of the period", "none")
            .column("Value #E", "Days", "none")
            .column("sloth_slo", "Name", "string")
            .column("sloth_service", "Service", "string"),
    ]
}
