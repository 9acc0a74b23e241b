//! Which item of the guide's checklist, or which of its pitfalls, a check speaks of: the names are those of the scorecard.

/// Codes and the item they belong to; the longest beginning of a code holds.
const BY_CODE: &[(&str, &str)] = &[
    ("MS00", "configuration_drift"),
    ("MS01", "traffic_management"),
    ("MS0104", "security_policies"),
    ("MS0106", "mtls"),
    ("MS0107", "observability"),
    ("MS0108", "security_policies"),
    ("MS02", "traffic_management"),
    ("MS0207", "security_policies"),
    ("MS0208", "updates"),
    ("MS0215", "mtls"),
    ("MS0255", "missing_security"),
    ("MS0256", "missing_security"),
    ("MS03", "traffic_management"),
    ("MS0301", "missing_security"),
    ("MS0302", "missing_security"),
    ("MS04", "mtls"),
    ("MS0407", "security_policies"),
    ("MS0480", "missing_security"),
    ("MS05", "security_policies"),
    ("MS060", "observability"),
    ("MS0605", "traffic_management"),
    ("MS0606", "traffic_management"),
    ("MS0607", "traffic_management"),
    ("MS0608", "over_complexity"),
    ("MS0609", "over_complexity"),
    ("MS061", "over_complexity"),
    ("MS0613", "security_policies"),
    ("MS0614", "traffic_management"),
    ("MS0616", "traffic_management"),
    ("MS065", "traffic_management"),
    ("MS07", "mesh_health"),
    ("MS0701", "missing_security"),
    ("MS0702", "missing_security"),
    ("MS0705", "updates"),
    ("MS0711", "updates"),
    ("MS0712", "updates"),
    ("MS0713", "traffic_management"),
    ("MS0714", "traffic_management"),
    ("MS0715", "traffic_management"),
    ("MS0716", "traffic_management"),
    ("MS0717", "missing_security"),
    ("MS075", "traffic_management"),
    ("MS0753", "missing_security"),
    ("MS08", "traffic_management"),
    ("MS0830", "security_policies"),
    ("MS0831", "security_policies"),
    ("MS0832", "security_policies"),
    ("MS0834", "security_policies"),
    ("MS0851", "security_policies"),
    ("MS09", "over_complexity"),
    ("MS0903", "observability"),
    ("MS0904", "mtls"),
    ("MS0906", "resource_overhead"),
    ("MS091", "configuration_drift"),
    ("MS10", "configuration_drift"),
    ("MS200", "traffic_management"),
    ("MS201", "mtls"),
    ("MS202", "security_policies"),
    ("MS203", "circuit_breakers"),
    ("MS204", "traffic_management"),
    ("MS205", "performance"),
    ("MS206", "mesh_health"),
    ("MS207", "tracing"),
    ("MS2075", "metrics"),
    ("MS2076", "metrics"),
    ("MS208", "resource_overhead"),
    ("MS2090", "updates"),
    ("MS2091", "mtls"),
    ("MS2095", "over_complexity"),
    ("MS2096", "over_complexity"),
    ("MS30", "poor_monitoring"),
];

/// The item of a code; empty for what is no code.
pub fn item(code: &str) -> &'static str {
    let longest = BY_CODE.iter().filter(|(begin, _)| code.starts_with(begin)).max_by_key(|(begin, _)| begin.len());
    longest.map_or("", |(_, item)| item)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::audit::{ITEMS, checks};

    #[test]
    fn every_check_belongs_to_an_item_of_the_scorecard_and_every_item_has_a_check() {
        let scored: BTreeSet<&str> = ITEMS.iter().map(|one| one.name).collect();
        let told: BTreeSet<&str> = checks().map(|check| item(check.code)).collect();
        assert_eq!(told, scored);
        for (begin, _) in BY_CODE {
            assert!(checks().any(|check| check.code.starts_with(begin)), "{begin} is of no check");
        }
    }
}
