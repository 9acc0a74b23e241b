//! The results of unit tests as JUnit XML, as `promtool test --junit` writes them.
//!
//! In: a [`TestReport`]. Out: a text. Pure.

use std::fmt::Write as _;

use super::{FileReport, TestReport};

impl TestReport {
    /// As JUnit XML: a suite for each file, a case for each test.
    pub fn junit(&self) -> String {
        let mut out = String::from("<testsuites>");
        for FileReport { file, cases, failures, .. } in &self.files {
            let failed: usize = cases.iter().map(|case| case.failures.len()).sum();
            // What belongs to no test kept the file from being run.
            let abort = failures.first().filter(|_| cases.is_empty());
            let _ = write!(
                out,
                r#"<testsuite name="{}" tests="{}" failures="{failed}" errors="{}" skipped="0">"#,
                escaped(file),
                cases.len().max(usize::from(abort.is_some())),
                usize::from(abort.is_some()),
            );
            for case in cases {
                let _ = write!(out, r#"<testcase name="{}">"#, escaped(&case.name));
                for failure in &case.failures {
                    let _ = write!(out, "<failure>{}</failure>", escaped(failure));
                }
                out.push_str("</testcase>");
            }
            if let Some(abort) = abort {
                let _ = write!(out, r#"<testcase name="unknown"><error>{}</error></testcase>"#, escaped(abort));
            }
            out.push_str("</testsuite>");
        }
        out.push_str("</testsuites>\n");
        out
    }
}

/// As Go's `xml.EscapeText`; what XML cannot hold becomes the replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\t' => out.push_str("&#x9;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::unittest::TestCase;

    #[test]
    fn writes_cases_and_what_kept_a_file_from_running() {
        let failed = TestCase { name: "a<b".to_owned(), failures: vec!["x\n\"y\"".to_owned()] };
        let passed = TestCase { name: "c".to_owned(), failures: Vec::new() };
        let files = vec![
            FileReport { file: "t.yml".to_owned(), cases: vec![failed, passed], ..FileReport::default() },
            FileReport { file: "u.yml".to_owned(), failures: vec!["broken".to_owned()], ..FileReport::default() },
        ];
        let expect = concat!(
            r#"<testsuites><testsuite name="t.yml" tests="2" failures="1" errors="0" skipped="0">"#,
            r#"<testcase name="a&lt;b"><failure>x&#xA;&#34;y&#34;</failure></testcase><testcase name="c"></testcase>"#,
            r#"</testsuite><testsuite name="u.yml" tests="1" failures="0" errors="1" skipped="0">"#,
            r#"<testcase name="unknown"><error>broken</error></testcase></testsuite></testsuites>"#,
            "\n"
        );
        assert_eq!(TestReport { files }.junit(), expect);
    }
}
