//! Rules of the source tree that the compiler does not keep: who may import whom, what each file opens with, sizes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Importable by every module, and importing nothing but what stands beside them.
const LEAVES: [(&str, &[&str]); 5] =
    [("model", &[]), ("units", &[]), ("yaml", &[]), ("clock", &["model"]), ("http_client", &["units"])];

/// Who may import whom, besides the leaves. `ARCHITECTURE.md` shows the same table.
const MAY_IMPORT: [(&str, &[&str]); 23] = [
    ("discovery", &[]),
    ("scrape", &["discovery", "series", "rollup"]),
    ("otlp", &[]),
    ("mesh", &[]),
    ("series", &[]),
    ("rollup", &["series"]),
    ("traces", &["series", "rollup"]),
    ("promql", &["series"]),
    ("rules", &["series", "promql"]),
    ("graph", &["rollup", "traces"]),
    ("audit", &["mesh", "graph"]),
    ("slo", &["rules"]),
    ("notify", &[]),
    ("dashboards", &[]),
    ("store", &[]),
    ("persist", &["series", "rollup", "traces", "rules", "notify", "audit", "mesh", "store"]),
    ("api", BELOW_THE_FACE),
    ("web", BELOW_THE_FACE),
    ("config", BELOW_THE_FACE_AND_THE_FACE),
    ("telemetry", BELOW_THE_FACE),
    ("app", &["*"]),
    ("demo", &["*"]),
    ("cli", &["*"]),
];

const BELOW_THE_FACE: &[&str] = &[
    "discovery",
    "scrape",
    "otlp",
    "mesh",
    "series",
    "rollup",
    "traces",
    "promql",
    "rules",
    "graph",
    "audit",
    "slo",
    "notify",
    "dashboards",
    "store",
    "persist",
    "telemetry",
];
const BELOW_THE_FACE_AND_THE_FACE: &[&str] = &[
    "discovery",
    "scrape",
    "otlp",
    "mesh",
    "series",
    "rollup",
    "traces",
    "promql",
    "rules",
    "graph",
    "audit",
    "slo",
    "notify",
    "dashboards",
    "store",
    "persist",
    "telemetry",
    "api",
    "web",
];

/// Longest file, tests not counted. Aim at 400.
const FILE_LINES_MAX: usize = 600;

struct Source {
    path: String,
    module: String,
    /// Without its unit tests.
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files
        .into_iter()
        .filter(|path| !path.file_stem().is_some_and(|stem| stem == "tests" || stem == "testing"))
        .map(|path| {
            let relative = path.strip_prefix(&root).expect("below src");
            let first = relative.components().next().expect("a file").as_os_str().to_string_lossy();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("readable source");
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
            Source { path: relative.display().to_string(), module, text }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => collect(&path, files),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
}

/// The top modules that a source names through `crate::`, one by one or in a braced list.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => found.extend(names_in_braces(list)),
            None => drop(found.insert(first_name(rest))),
        }
    }
    found
}

fn names_in_braces(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut at_name) = (0, Vec::new(), true);
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_name = true,
            c if at_name && !c.is_whitespace() => {
                names.push(first_name(&list[i..]));
                at_name = false;
            }
            _ => {}
        }
    }
    names
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn each_module_imports_only_what_the_table_allows() {
    let leaves: BTreeSet<&str> = LEAVES.iter().map(|(name, _)| *name).collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !["lib", "main"].contains(&s.module.as_str())) {
        let allowed =
            LEAVES.iter().chain(&MAY_IMPORT).find(|(name, _)| *name == source.module).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            wrong.push(format!("{}: module `{}` is not in the table of tests/it/tidy.rs", source.path, source.module));
            continue;
        };
        let is_leaf = leaves.contains(source.module.as_str());
        for import in imports(&source.text) {
            let fine = import == source.module
                || allowed.contains(&"*")
                || allowed.contains(&import.as_str())
                || (!is_leaf && leaves.contains(import.as_str()));
            if !fine {
                wrong.push(format!("{}: `{}` may not import `{import}`", source.path, source.module));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_file_says_what_it_is_and_stays_readable() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !source.text.lines().take(5).any(|line| line.starts_with("//!")) {
            wrong.push(format!("{}: opens without `//!`", source.path));
        }
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}: split it", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_unfinished_or_skipped() {
    let marks = ["todo!(", "unimplemented!(", "FIXME", concat!("TO", "DO"), concat!("#[ig", "nore")];
    let mut wrong = Vec::new();
    for source in sources() {
        for (i, line) in source.text.lines().enumerate() {
            wrong.extend(
                marks
                    .iter()
                    .filter(|mark| line.contains(**mark))
                    .map(|mark| format!("{}:{}: {mark}", source.path, i + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_both_forms() {
    let text =
        "use crate::{clock::Clock, model::{self, Labels}, series};\nfn f() { crate::yaml::decode() }\n// crate::web\n";
    let found: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(found, ["clock", "model", "series", "yaml"]);
}
