//! Finds and reads rule files.
//!
//! In: `rule_files` patterns. Out: a [`RuleSet`]. Reads files, nothing else. Invariant: one bad file never stops another.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::definition::RuleSet;
use super::file::{self, FileProblem, ReadOptions};
use crate::model::Labels;
use crate::promql::Features;

/// Largest rule file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What the configuration file says besides the patterns.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// `global.evaluation_interval`: for groups that name none.
    pub evaluation_interval: Duration,
    /// `global.external_labels`.
    pub external_labels: Labels,
    /// Our own address as people reach it.
    pub external_url: String,
    /// What of the language is enabled.
    pub features: Features,
}

/// Reads all files that match `patterns`, taken relative to `folder`.
///
/// What is wrong is in [`RuleSet::problems`]; the groups of the other files are there all the same.
pub fn load(patterns: &[String], folder: &Path, options: &LoadOptions) -> RuleSet {
    let mut set = RuleSet {
        external_labels: options.external_labels.clone(),
        external_url: options.external_url.trim_end_matches('/').to_owned(),
        ..RuleSet::default()
    };
    let mut files = BTreeSet::new();
    for pattern in patterns {
        let whole = folder.join(pattern);
        match glob(&whole) {
            Ok(found) if found.is_empty() => {
                set.warnings.push(about(&whole.display().to_string(), "no file matches this pattern"));
            }
            Ok(found) => files.extend(found),
            Err(message) => set.problems.push(about(&whole.display().to_string(), &message)),
        }
    }
    let mut keys = BTreeSet::new();
    for path in files {
        let name = path.display().to_string();
        let text = match read(&path) {
            Ok(text) => text,
            Err(message) => {
                set.problems.push(about(&name, &message));
                continue;
            }
        };
        let read_options =
            ReadOptions { interval: options.evaluation_interval, features: options.features, ..ReadOptions::default() };
        let parsed = file::parse(&name, &text, read_options);
        set.problems.extend(parsed.problems);
        set.warnings.extend(parsed.warnings);
        for group in parsed.groups {
            match keys.insert((group.file.clone(), group.name.clone())) {
                true => set.groups.push(Arc::new(group)),
                false => {
                    let message =
                        format!("group {:?} of {:?} was already read from another file", group.name, group.file);
                    set.problems.push(about(&name, &message));
                }
            }
        }
    }
    set.groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
    set
}

fn about(file: &str, message: &str) -> FileProblem {
    FileProblem { file: file.to_owned(), line: 0, column: 0, message: message.to_owned() }
}

/// The text of a rule file.
///
/// # Errors
/// When it cannot be read, is too large, or is not UTF-8.
pub fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("has {size} bytes; the most that is read are {FILE_BYTES_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

/// Files that match a pattern as Go's `filepath.Glob` matches: `*`, `?`, `[a-z]` and `\` within one path segment.
///
/// # Errors
/// When a bracket is not closed.
pub fn glob(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    for segment in pattern.components() {
        let text = segment.as_os_str().to_string_lossy();
        if !text.contains(['*', '?', '[', '\\']) {
            found.iter_mut().for_each(|path| path.push(segment));
            continue;
        }
        matches(&text, "")?; // a malformed pattern is an error even when nothing is there to match
        let mut next = Vec::new();
        for folder in &found {
            let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let Ok(entries) = std::fs::read_dir(listed) else { continue };
            for entry in entries.flatten() {
                if matches(&text, &entry.file_name().to_string_lossy())? {
                    next.push(folder.join(entry.file_name()));
                }
            }
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.exists());
    Ok(found)
}

fn matches(pattern: &str, name: &str) -> Result<bool, String> {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    match_from(&pattern, &name)
}

/// The classic two-pointer match: on a mismatch the last star takes one character more.
fn match_from(pattern: &[char], name: &[char]) -> Result<bool, String> {
    let (mut p, mut n, mut star) = (0, 0, None);
    loop {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        let step = match pattern.get(p) {
            None if n == name.len() => return Ok(true),
            None => None,
            Some(_) => one(&pattern[p..], name.get(n).copied())?,
        };
        match (step, star) {
            (Some(used), _) => {
                p += used;
                n += 1;
            }
            (None, Some((after, from))) if from < name.len() => {
                star = Some((after, from + 1));
                p = after;
                n = from + 1;
            }
            _ => return Ok(false),
        }
    }
}

/// Matches one character; how much of the pattern that took.
fn one(pattern: &[char], c: Option<char>) -> Result<Option<usize>, String> {
    let fits = |yes: bool, used: usize| Ok((yes && c.is_some()).then_some(used));
    match pattern {
        ['?', ..] => fits(true, 1),
        ['\\', escaped, ..] => fits(c == Some(*escaped), 2),
        ['[', class @ ..] => {
            let negated = class.first() == Some(&'^');
            let body = &class[usize::from(negated)..];
            let end = body.iter().position(|c| *c == ']').ok_or("the pattern has a [ without a ]")?;
            let c = c.unwrap_or_default();
            let (mut inside, mut i) = (false, 0);
            while i < end {
                let (low, mut high) = (body[i], body[i]);
                if i + 2 < end && body[i + 1] == '-' {
                    high = body[i + 2];
                    i += 2;
                }
                inside |= low <= c && c <= high;
                i += 1;
            }
            fits(inside != negated, 1 + usize::from(negated) + end + 1)
        }
        [literal, ..] => fits(c == Some(*literal), 1),
        [] => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_file_stops_no_other() {
        let folder = std::env::temp_dir().join(format!("meshscope-load-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("more")).expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
        let group = |name: &str| format!("groups: [{{name: {name}, rules: [{{record: {name}, expr: 1}}]}}]");
        write("b.yml", &group("b"));
        write("a.yml", &group("a"));
        write("more/c.yml", &group("c"));
        write("bad.yml", "groups: [{name: x, rules: [{record: x}]}]");
        write("note.txt", "no rules");
        let options = LoadOptions {
            evaluation_interval: Duration::from_secs(15),
            external_labels: Labels::empty(),
            external_url: "http://x/".to_owned(),
            features: Features::default(),
        };
        let patterns = ["*.yml", "m*/?.yml", "a.yml", "none/*.yml", "[x"].map(str::to_owned);
        let set = load(&patterns, &folder, &options);
        std::fs::remove_dir_all(&folder).expect("removed");
        let names: Vec<&str> = set.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"], "each once, by file");
        assert_eq!((set.groups[0].interval.as_secs(), set.external_url.as_str()), (15, "http://x"));
        assert_eq!((set.problems.len(), set.warnings.len()), (2, 1), "{:?} {:?}", set.problems, set.warnings);
    }

    #[test]
    fn matches_file_names_as_go_does() {
        for (pattern, name, expect) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a?c", "abc", true),
            ("[a-c]*[!x]", "bq!", true),
            ("[^a]b", "ab", false),
            ("*a*b", "xxaxxb", true),
            ("*", "", true),
            (r"\*", "*", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), Ok(expect), "{pattern} {name}");
        }
        assert!(matches("[a", "a").is_err());
    }
}
