//! Rules of the source tree that the compiler does not keep: who may import whom, what each file opens with, sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Importable by every module, and importing nothing but what stands beside them.
const LEAVES: [(&str, &[&str]); 12] = [
    ("model", &[]),
    ("batching", &[]),
    ("units", &[]),
    ("wire", &[]),
    ("yaml", &[]),
    ("clock", &["model"]),
    ("http_client", &["units"]),
    ("kubernetes", &["http_client", "units", "yaml"]),
    ("gotemplate", &["model", "units"]),
    ("traceql", &["model"]),
    ("web_config", &["units", "yaml"]),
    ("access", &["units", "web_config"]),
];

/// Who may import whom, besides the leaves. `ARCHITECTURE.md` shows the same table.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("discovery", &[]),
    ("scrape", &["discovery", "series", "rollup"]),
    ("mesh", &[]),
    ("declared", &["mesh"]),
    ("otlp", &["push", "access_logs"]),
    ("push", &["scrape", "series", "rollup"]),
    ("series", &[]),
    ("rollup", &["series"]),
    ("traces", &["series", "rollup"]),
    ("access_logs", &["series", "traces"]),
    ("upstream", &["series", "rollup"]),
    ("promql", &["series"]),
    ("rules", &["series", "promql"]),
    ("slo", &["series", "promql", "rules"]),
    ("graph", &["rollup", "traces"]),
    ("audit", &["series", "promql", "mesh", "graph", "rules"]),
    ("changes", &["declared", "mesh", "audit", "graph", "traces"]),
    ("context", &["series", "rollup", "traces", "graph", "changes"]),
    ("forward", &["discovery", "scrape", "series"]),
    ("notify", &["discovery"]),
    ("dashboards", &[]),
    ("store", &[]),
    (
        "persist",
        &["series", "rollup", "traces", "access_logs", "rules", "mesh", "declared", "changes", "notify", "store"],
    ),
    ("api", ALL_BUT_THE_FACE),
    ("web", ALL_BUT_THE_FACE),
    ("config", ALL_AND_THE_FACE),
    ("telemetry", ALL_AND_THE_FACE),
    ("app", &["*"]),
    ("demo", &["*"]),
    ("cli", &["*"]),
];

#[rustfmt::skip]
const ALL_BUT_THE_FACE: &[&str] = &[
    "discovery", "mesh", "declared", "changes", "audit", "scrape", "otlp", "push", "series", "rollup", "traces", "promql", "rules", "slo", "graph",
    "access_logs", "context", "notify", "dashboards", "forward", "store", "persist", "telemetry", "upstream",
];
#[rustfmt::skip]
const ALL_AND_THE_FACE: &[&str] = &[
    "discovery", "mesh", "declared", "changes", "audit", "scrape", "otlp", "push", "series", "rollup", "traces", "promql", "rules", "slo", "graph",
    "access_logs", "context", "notify", "dashboards", "forward", "store", "persist", "telemetry", "upstream", "api", "web",
];

/// Longest file, tests not counted. Aim at 400.
const FILE_LINES_MAX: usize = 600;
/// Longest function. Aim at 35, think again at 70.
const FUNCTION_LINES_MAX: usize = 100;
/// Straight lines that would be harder to follow in pieces: this one makes each part once and spawns it.
const LONG_FUNCTIONS: [(&str, &str); 1] = [("app.rs", "wire")];
/// Crates whose library has another name than the package.
const RENAMED: [(&str, &str); 1] = [("md-5", "md5")];

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
            LEAVES.iter().chain(MAY_IMPORT).find(|(name, _)| *name == source.module).map(|(_, allowed)| *allowed);
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
fn the_table_names_only_modules_that_exist() {
    let modules: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    let named =
        LEAVES.iter().chain(MAY_IMPORT).flat_map(|(name, allowed)| [*name].into_iter().chain(allowed.iter().copied()));
    let gone: BTreeSet<&str> = named.filter(|name| *name != "*" && !modules.contains(*name)).collect();
    assert!(gone.is_empty(), "not below src: {gone:?}");
}

/// `security.outgoing` holds for all that runs by itself; commands that people run, and the simulated world, are free.
#[test]
fn every_client_of_what_runs_by_itself_is_limited_in_where_it_leads() {
    let free = ["cli", "demo", "http_client"];
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !free.contains(&source.module.as_str())) {
        let lines = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let open = |line: &&str| line.contains("reqwest::Client::") || line.contains("http_client::build(");
        let unlimited = |line: &&str| line.contains("Client::new(") && !line.contains(".reaching(");
        wrong.extend(lines.filter(|line| open(line) || unlimited(line)).map(|line| format!("{}: {line}", source.path)));
    }
    assert!(wrong.is_empty(), "use Client::reaching with the limits of security.outgoing:\n{}", wrong.join("\n"));
}

/// Takes away modules that import nothing that is left, until none is left; what cannot go imports itself in a ring.
#[test]
fn no_module_imports_itself_through_others() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().into_iter().filter(|source| !["lib", "main"].contains(&source.module.as_str())) {
        let mut imported = imports(&source.text);
        imported.remove(&source.module);
        graph.entry(source.module).or_default().extend(imported);
    }
    loop {
        let left: BTreeSet<String> = graph.keys().cloned().collect();
        graph.retain(|_, imported| !imported.is_disjoint(&left));
        if graph.len() == left.len() {
            break;
        }
    }
    assert!(graph.is_empty(), "a ring of imports among, or below: {graph:#?}");
}

#[test]
fn no_function_is_too_long_to_read() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, first, lines) in functions(&source.text) {
            if lines > FUNCTION_LINES_MAX && !LONG_FUNCTIONS.contains(&(&source.path, &name)) {
                wrong
                    .push(format!("{}:{first}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Name, first line and count of lines of each function, going by the indentation that rustfmt gives.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.contains('"')).collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let Some(signature) = words.get(at + 1).filter(|_| !line.trim_start().starts_with("//")) else { continue };
        let end = lines[first..]
            .iter()
            .position(|l| l.len() > indent && l[indent..].starts_with('}') && l[..indent].trim().is_empty());
        if let Some(end) = end.filter(|_| !line.trim_end().ends_with([';', '}'])) {
            found.push((first_name(signature), first + 1, end + 1));
        }
    }
    found
}

#[test]
fn the_reader_of_functions_counts_lines() {
    let text = "impl A {\n    pub async fn b(\n        c: D,\n    ) {\n        if c {\n        }\n    }\n}\nfn e() {}\nfn f() {\n}\n";
    assert_eq!(functions(text), [("b".to_owned(), 2, 6), ("f".to_owned(), 10, 2)]);
}

#[test]
fn each_dependency_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    let mut files = vec![root.join("build.rs")];
    ["src", "tests", "benches"].iter().for_each(|folder| collect(&root.join(folder), &mut files));
    let code: String = files.iter().map(|file| fs::read_to_string(file).expect("readable source")).collect();
    let mut section = "";
    let mut unused = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let Some((package, _)) = line.split_once(" = ").filter(|_| section.ends_with("dependencies]")) else {
            continue;
        };
        let renamed = RENAMED.iter().find(|(from, _)| *from == package).map(|(_, to)| (*to).to_owned());
        let library = renamed.unwrap_or_else(|| package.replace('-', "_"));
        if !names_crate(&code, &library) {
            unused.push(package.to_owned());
        }
    }
    assert!(unused.is_empty(), "in Cargo.toml, but no source names it: {unused:?}");
}

/// Whether `library::` stands somewhere as a whole word, or `use library as`.
fn names_crate(code: &str, library: &str) -> bool {
    let path = format!("{library}::");
    let whole =
        |at: usize| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':');
    code.match_indices(&path).any(|(at, _)| whole(at)) || code.contains(&format!("use {library} as "))
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let marks = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let mut wrong = Vec::new();
    for path in texts(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (i, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("{}:{}: {}", path.display(), i + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All files of the repository but what a build or an editor leaves behind.
fn texts(folder: &Path) -> Vec<PathBuf> {
    let left_out = ["target", "node_modules", ".git", ".e2e", ".vscode", ".idea"];
    let mut found = Vec::new();
    for path in fs::read_dir(folder).expect("readable folder").flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if left_out.contains(&name.as_str()) {
            continue;
        }
        match path.is_dir() {
            true => found.extend(texts(&path)),
            false => found.push(path),
        }
    }
    found
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
