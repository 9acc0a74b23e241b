//! A report as JUnit XML, as CI systems show test results: a suite for each file, a case for each finding, and one that
//! passed for a report without any.

use std::collections::BTreeMap;

use crate::audit::{Report, guide};
use crate::model::{Finding, Severity};

/// The document. Notes pass; warnings and errors fail; what is suppressed is skipped with its reason.
pub(super) fn document(report: &Report) -> String {
    let mut suites: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        suites.entry(finding.file.as_deref().unwrap_or("cluster")).or_default().push(finding);
    }
    let counts = |all: &[&Finding]| {
        let failures = all.iter().filter(|one| one.suppressed.is_none() && one.severity != Severity::Info).count();
        let skipped = all.iter().filter(|one| one.suppressed.is_some()).count();
        format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\"", all.len().max(1))
    };
    let all: Vec<&Finding> = report.findings.iter().collect();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str(&format!("<testsuites name=\"meshscope mesh audit\" {}>\n", counts(&all)));
    if suites.is_empty() {
        text.push_str(&format!("  <testsuite name=\"mesh\" {}>\n", counts(&[])));
        text.push_str(&format!(
            "    <testcase classname=\"mesh\" name=\"{} objects without findings\"/>\n",
            report.objects
        ));
        text.push_str("  </testsuite>\n");
    }
    for (file, findings) in suites {
        text.push_str(&format!("  <testsuite name=\"{}\" {}>\n", escaped(file), counts(&findings)));
        findings.iter().for_each(|one| text.push_str(&case(file, one)));
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn case(file: &str, finding: &Finding) -> String {
    let Finding { code, severity, subject, line, field, message, evidence, fix, suppressed, .. } = finding;
    let name = if field.is_empty() { format!("{code} {subject}") } else { format!("{code} {subject}: {field}") };
    let mut text = format!(
        "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{line}\"",
        escaped(subject),
        escaped(&name),
        escaped(file)
    );
    let mut body = format!("{file}:{line}: {message}");
    evidence.iter().for_each(|line| body.push_str(&format!("\nseen: {line}")));
    if let Some(fix) = fix {
        body.push_str(&format!("\ninstead:\n{fix}"));
    }
    let guide = guide::item(code);
    text.push_str(&format!(">\n      <properties><property name=\"guide\" value=\"{guide}\"/></properties>\n"));
    text.push_str(&match (suppressed, severity) {
        (Some(reason), _) => format!("      <skipped message=\"{}\"/>\n    </testcase>\n", escaped(reason)),
        (None, Severity::Info) => format!("      <system-out>{}</system-out>\n    </testcase>\n", escaped(&body)),
        (None, _) => format!(
            "      <failure type=\"{severity}\" message=\"{}\">{}</failure>\n    </testcase>\n",
            escaped(message),
            escaped(&body)
        ),
    });
    text
}

/// Text of XML: marks escaped, characters that XML does not know left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            '\r' | '\u{FFFE}' | '\u{FFFF}' => {}
            c if c < ' ' => {}
            c => out.push(c),
        }
    }
    out
}
