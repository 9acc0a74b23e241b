//! What a code means: title, gravity, and the example of the test grid with what the audit says of it.

use super::{Options, audit, checks, rehearse};
use crate::mesh::{Input, Snapshot};

include!(concat!(env!("OUT_DIR"), "/audit_examples.rs"));

/// The page of a code; none when there is no such check.
pub async fn explain(code: &str) -> Option<String> {
    let check = checks().find(|check| check.code.eq_ignore_ascii_case(code))?;
    let mut text = format!("{} ({}): {}\n", check.code, check.severity, check.title);
    if !check.also.is_empty() {
        text.push_str(&format!("Other tools: {}\n", check.also.join(", ")));
    }
    let Some((_, bad, good, traffic)) = EXAMPLES.iter().find(|(own, ..)| *own == check.code) else { return Some(text) };
    let snapshot = Snapshot::read(&[Input { name: "bad.yaml".into(), text: (*bad).to_owned() }], "default");
    let observed = match traffic {
        Some((bad, _)) => rehearse(bad).await.ok(),
        None => None,
    };
    let report = audit(&snapshot, observed.as_ref(), &Options::default());
    text.push_str("\nWhy:\n");
    for finding in report.findings.iter().filter(|one| one.code == check.code) {
        let dot = if finding.field.is_empty() { "" } else { ": " };
        text.push_str(&format!(
            "  line {}: {}{dot}{}: {}\n",
            finding.line, finding.subject, finding.field, finding.message
        ));
        finding.evidence.iter().for_each(|line| text.push_str(&format!("    seen: {line}\n")));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("    instead: {}\n", fix.trim_end().replace('\n', "\n             ")));
        }
    }
    let mut examples = vec![("Bad", *bad), ("Good", *good)];
    if let Some((bad, good)) = traffic {
        examples.splice(1..1, [("Traffic of the bad one, as series", *bad)]);
        examples.push(("Traffic of the good one", *good));
    }
    for (name, example) in examples {
        text.push_str(&format!("\n{name}:\n"));
        example.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    Some(text)
}
