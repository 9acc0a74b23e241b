//! Which inhibition rules concern given labels, and which alert mutes them now.

use super::*;

#[test]
fn rules_say_which_alert_mutes_labels_now_and_which_could() {
    let mut core = core_of(
        plan(
            "
route: {receiver: ops}
receivers: [{name: ops}]
inhibit_rules:
- {source_matchers: [severity=page], target_matchers: ['severity=~\"page|warn\"'], equal: [cluster]}
- {source_matchers: [alertname=Down], target_matchers: [severity=warn]}
- {source_matchers: [alertname=Other], target_matchers: [severity=info]}
",
        ),
        vec![],
    );
    let told = |core: &mut Core, labels: &[(&str, &str)], seconds: u64| -> Vec<String> {
        let found = core.inhibitions(&labels.iter().copied().collect(), at(seconds));
        let by = |one: &Inhibition| one.by.as_ref().map_or("none".to_owned(), |by| by.value("i").to_owned());
        found
            .iter()
            .map(|one| format!("{} {} {:?} by {}", one.rule, one.source.join(","), one.equal, by(one)))
            .collect()
    };
    let warn = [("severity", "warn"), ("cluster", "a")];
    let equal = "[(\"cluster\", \"a\")]";
    assert_eq!(
        told(&mut core, &warn, 0),
        [format!("0 severity=\"page\" {equal} by none"), "1 alertname=\"Down\" [] by none".to_owned()]
    );
    assert_eq!(told(&mut core, &[("severity", "page")], 0), [] as [&str; 0], "a source does not mute itself");
    core.accept(vec![alert(&[("alertname", "Down"), ("i", "down")], at(0))], at(0));
    core.accept(vec![alert(&[("severity", "page"), ("cluster", "b"), ("i", "b")], at(0))], at(0));
    assert_eq!(
        told(&mut core, &warn, 1),
        ["1 alertname=\"Down\" [] by down".to_owned(), format!("0 severity=\"page\" {equal} by none")]
    );
    core.accept(vec![resolved(alert(&[("alertname", "Down"), ("i", "down")], at(0)), at(2))], at(2));
    core.accept(vec![alert(&[("severity", "page"), ("cluster", "a"), ("i", "a")], at(2))], at(2));
    assert_eq!(
        told(&mut core, &warn, 3),
        [format!("0 severity=\"page\" {equal} by a"), "1 alertname=\"Down\" [] by none".to_owned()]
    );
}
