use super::*;
use crate::mesh::{Input, Snapshot};

fn faults_of(text: &str) -> Vec<String> {
    let snapshot = Snapshot::read(&[Input { name: "a.yaml".into(), text: text.to_owned() }], "default");
    assert!(snapshot.unread.is_empty(), "{:?}", snapshot.unread);
    let line = |fault: Fault| format!("{}: {}", fault.path, fault.message);
    snapshot.iter().flat_map(faults).map(line).collect()
}

fn virtual_service(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  hosts: [a]\n  http: [{http}]\n"
    )
}

#[track_caller]
fn says(text: &str, expected: &str) {
    let found = faults_of(text);
    assert!(found.iter().any(|one| one.contains(expected)), "{expected:?} is not among {found:#?}");
}

#[test]
fn a_field_that_is_written_wrong_is_named_with_the_nearest() {
    says(
        &virtual_service("{route: [{destination: {host: a}, weigth: 90}]}"),
        "spec.http[0].route[0].weigth: unknown field `weigth`, did you mean `weight`?",
    );
}

#[test]
fn routes_are_judged_as_istiod_judges_them() {
    for (http, expected) in [
        ("{route: [{destination: {host: a}, weight: \"90\"}]}", "must be a whole number (without quotes)"),
        ("{route: [{destination: {host: a}, weight: -1}]}", "must be between 0 and"),
        ("{route: [{destination: {host: a}}], redirect: {uri: /}}", "both route and redirect"),
        ("{match: [{uri: {prefix: /, exact: /}}], route: [{destination: {host: a}}]}", "only one of exact, prefix"),
        ("{match: [{uri: {regex: '('}}], route: [{destination: {host: a}}]}", "no regular expression"),
        ("{timeout: 5, route: [{destination: {host: a}}]}", "duration such as \"5s\""),
        ("{timeout: 5 s, route: [{destination: {host: a}}]}", "duration such as \"5s\""),
        ("{fault: {}, route: [{destination: {host: a}}]}", "must have an abort and/or a delay"),
        ("{retries: {attempts: 3, retryOn: 5xxx}, route: [{destination: {host: a}}]}", "\"5xxx\" is neither"),
        ("{route: [{destination: {subset: v1}}]}", "route[0].destination.host: is required"),
        ("{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]}", "total destination weight = 0"),
        ("{match: [{}]}", "needs one of route, redirect"),
    ] {
        says(&virtual_service(http), expected);
    }
    let fine = "{match: [{uri: {regex: '^/a.*'}}], timeout: 0s, retries: {attempts: 2, perTryTimeout: 1.5s, \
                retryOn: 'gateway-error,503'}, fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}}, \
                route: [{destination: {host: a, port: {number: 80}}, weight: 90}, {destination: {host: b}, weight: 10}]}";
    assert_eq!(faults_of(&virtual_service(fine)), Vec::<String>::new());
}

#[test]
fn objects_of_kubernetes_need_what_a_cluster_asks_for() {
    says(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{image: a}]}\n",
        "spec.containers[0].name: is required",
    );
    says(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {v: 1}}\nspec: {ports: [{port: 80}, {port: 81}]}\n",
        "metadata.labels.v: must be text (in quotes), not the number 1",
    );
    says(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, \
         template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: b}]}}}\n",
        "does not carry the label a: b",
    );
}

#[test]
fn go_durations_are_read_as_go_reads_them() {
    for (text, least, fits) in [
        ("5s", 1, true),
        ("1h30m", 1, true),
        ("0.5ms", 1, false),
        ("0s", 0, true),
        ("5", 0, false),
        ("s", 0, false),
        ("", 0, false),
    ] {
        assert_eq!(text::duration(text, least).is_none(), fits, "{text:?}");
    }
}
