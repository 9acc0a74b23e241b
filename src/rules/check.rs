//! `rules check`: says of each rule file whether it is sound, as promtool does.
//!
//! In: file paths. Out: [`CheckReport`], which prints like `promtool check rules`. Reads files, nothing else.

use super::definition::{Pairs, RuleGroup};
use super::file::{self, ReadOptions, pairs_text};
use super::load;
use std::fmt;
use std::path::{Path, PathBuf};

/// What became of all files.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// In the order given.
    pub files: Vec<FileCheck>,
}

/// What became of one file.
#[derive(Debug)]
pub struct FileCheck {
    /// Its path.
    pub file: String,
    /// How many rules it holds, when it is sound.
    pub rules: usize,
    /// Faults; the file would be refused.
    pub faults: Vec<String>,
    /// Doubts: the file would be taken (rules given twice).
    pub lints: Vec<String>,
    /// What was left out without harm (a second document, an object that holds no rules).
    pub warnings: Vec<String>,
}

impl CheckReport {
    /// Whether some file would be refused.
    pub fn has_faults(&self) -> bool {
        self.files.iter().any(|file| !file.faults.is_empty())
    }

    /// Whether there are doubts about some file.
    pub fn has_lints(&self) -> bool {
        self.files.iter().any(|file| !file.lints.is_empty())
    }
}

/// As promtool prints it.
impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for FileCheck { file, rules, faults, lints, warnings } in &self.files {
            writeln!(f, "Checking {file}")?;
            match faults.is_empty() && lints.is_empty() {
                true => writeln!(f, "  SUCCESS: {rules} rules found")?,
                false => writeln!(f, "  FAILED:")?,
            }
            for line in faults.iter().chain(lints) {
                writeln!(f, "{line}")?;
            }
            for line in warnings {
                writeln!(f, "  WARNING: {line}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// How files are checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckOptions {
    /// How they are read.
    pub read: ReadOptions,
    /// Whether rules given twice are looked for. Default true.
    pub duplicates: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { read: ReadOptions::default(), duplicates: true }
    }
}

/// Checks each file by itself.
pub fn check(files: &[PathBuf], options: CheckOptions) -> CheckReport {
    CheckReport { files: files.iter().map(|path| check_file(path, options)).collect() }
}

fn check_file(path: &Path, options: CheckOptions) -> FileCheck {
    let name = path.display().to_string();
    match load::read(path) {
        Ok(text) => check_text(&name, &text, options),
        Err(message) => {
            let faults = vec![format!("{name}: {message}")];
            FileCheck { file: name, rules: 0, faults, lints: Vec::new(), warnings: Vec::new() }
        }
    }
}

/// Checks the text of a file called `name`.
pub fn check_text(name: &str, text: &str, options: CheckOptions) -> FileCheck {
    let parsed = file::parse(name, text, options.read);
    FileCheck {
        file: name.to_owned(),
        rules: parsed.groups.iter().map(|group| group.rules.len()).sum(),
        faults: parsed.problems.iter().map(ToString::to_string).collect(),
        lints: if options.duplicates { duplicates(&parsed.groups).into_iter().collect() } else { Vec::new() },
        warnings: parsed.warnings.iter().map(ToString::to_string).collect(),
    }
}

/// Rules of the same name and labels, which would write the same series or raise the same alert.
fn duplicates(groups: &[RuleGroup]) -> Option<String> {
    let mut rules: Vec<(String, Pairs)> =
        groups.iter().flat_map(|group| &group.rules).map(|rule| rule.identity()).collect();
    rules.sort();
    let mut twice: Vec<&(String, Pairs)> =
        rules.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
    twice.dedup();
    if twice.is_empty() {
        return None;
    }
    let mut text = format!("lint error {} duplicate rule(s) found.\n", twice.len());
    for (name, labels) in twice {
        text.push_str(&format!("Metric: {name}\nLabel(s):\n{}", pairs_text(labels)));
    }
    Some(text + "Might cause inconsistency while recording expressions")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> CheckReport {
        CheckReport { files: vec![check_text("r.yml", text, CheckOptions::default())] }
    }

    #[test]
    fn prints_as_promtool_does() {
        let good = "groups: [{name: g, rules: [{record: a, expr: 1}, {alert: b, expr: 1}]}]";
        assert_eq!(report(good).to_string(), "Checking r.yml\n  SUCCESS: 2 rules found\n\n");
        let bad = report("groups: [{name: g, rules: [{record: a}]}]");
        let text =
            "Checking r.yml\n  FAILED:\nr.yml: 1:28: group \"g\", rule 1, \"a\": field 'expr' must be set in rule\n\n";
        assert_eq!((bad.to_string().as_str(), bad.has_faults(), bad.has_lints()), (text, true, false));
    }

    #[test]
    fn finds_rules_given_twice() {
        let rule = "{record: a, expr: 1, labels: {b: c}}";
        let twice =
            report(&format!("groups: [{{name: g, rules: [{rule}, {rule}, {rule}]}}, {{name: h, rules: [{rule}]}}]"));
        let text = "Checking r.yml\n  FAILED:\nlint error 1 duplicate rule(s) found.\nMetric: a\nLabel(s):\n\tb: c\n\
                    Might cause inconsistency while recording expressions\n\n";
        assert_eq!((twice.to_string().as_str(), twice.has_faults(), twice.has_lints()), (text, false, true));
    }

    #[test]
    fn names_a_file_that_cannot_be_read() {
        let report = check(&[PathBuf::from("/nowhere/r.yml")], CheckOptions::default());
        assert!(report.to_string().contains("/nowhere/r.yml: cannot be read: "), "{report}");
    }
}
