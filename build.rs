//! Bundles the scripts and styles of `web/` into the binary.
//!
//! npm and esbuild run in the build's own folder, once for each change of the sources or the lock file. Without Node the
//! build goes on: pages are then served without scripts. `MESHSCOPE_WEB_DIST` names a folder with a ready-made bundle.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// Styles in the order they are joined.
const STYLES: [&str; 4] = ["base.css", "layout.css", "components.css", "pages.css"];
/// Scripts that pages load by name; each becomes one bundle.
const SCRIPTS: [&str; 2] = ["theme", "main"];
/// The good and bad case of each check, shown by `meshscope mesh audit --explain`.
const AUDIT_GRID: &str = "tests/it/audit";

fn main() {
    for watched in ["migrations", "web/scripts", "web/styles", "web/package-lock.json", AUDIT_GRID] {
        println!("cargo::rerun-if-changed={watched}");
    }
    println!("cargo::rerun-if-env-changed=MESHSCOPE_WEB_DIST");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let dist = match env::var_os("MESHSCOPE_WEB_DIST") {
        Some(ready) => PathBuf::from(ready),
        None => {
            let dist = out.join("dist");
            let _ = fs::remove_dir_all(&dist);
            fs::create_dir_all(&dist).expect("a writable OUT_DIR");
            if let Err(reason) = bundle(&out.join("web"), &dist) {
                println!("cargo::warning=pages are built without scripts: {reason}");
            }
            dist
        }
    };
    join_styles(&dist.join("styles.css")).expect("readable styles");
    write_table(&dist, &out.join("assets.rs")).expect("a writable OUT_DIR");
    write_examples(&out.join("audit_examples.rs")).expect("a writable OUT_DIR");
}

/// Writes the table that `src/audit/explain.rs` includes: code, bad case, good case, traffic. Without the grid it is empty.
fn write_examples(to: &Path) -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        fs::read_dir(AUDIT_GRID).map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    folders.sort();
    let whole = |folder: &&PathBuf| ["bad.yaml", "good.yaml"].iter().all(|name| folder.join(name).is_file());
    let mut table = String::from(
        "/// Code, bad case, good case; for a check against traffic, the traffic of both.\n\
         type Example = (&'static str, &'static str, &'static str, Option<(&'static str, &'static str)>);\n\
         /// By code.\nconst EXAMPLES: &[Example] = &[\n",
    );
    for folder in folders.iter().filter(whole) {
        let code = folder.file_name().unwrap_or_default().to_string_lossy();
        let file = |name: &str| Path::new(&root).join(folder).join(name);
        let (bad, good) = (file("bad.yaml"), file("good.yaml"));
        let traffic = [file("bad.prom"), file("good.prom")];
        let traffic = match traffic.iter().all(|one| one.is_file()) {
            true => format!("Some((include_str!({:?}), include_str!({:?})))", traffic[0], traffic[1]),
            false => "None".to_owned(),
        };
        table.push_str(&format!("    ({code:?}, include_str!({bad:?}), include_str!({good:?}), {traffic}),\n"));
    }
    table.push_str("];\n");
    fs::write(to, table)
}

/// Runs npm and esbuild in `work`, so that the source tree stays as it is.
fn bundle(work: &Path, dist: &Path) -> Result<(), String> {
    let step = |what: &str, error: io::Error| format!("{what}: {error}");
    fs::create_dir_all(work).map_err(|error| step("make the build folder", error))?;
    let _ = fs::remove_dir_all(work.join("scripts"));
    copy(Path::new("web/scripts"), &work.join("scripts")).map_err(|error| step("copy web/scripts", error))?;
    let lock = fs::read("web/package-lock.json").map_err(|error| step("read web/package-lock.json", error))?;
    let installed = work.join("installed-lock.json");
    if fs::read(&installed).ok().as_ref() != Some(&lock) {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(Path::new("web").join(file), work.join(file)).map_err(|error| step(file, error))?;
        }
        run(Command::new("npm").current_dir(work).args([
            "ci",
            "--omit=dev",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefer-offline",
            "--loglevel=error",
        ]))?;
        fs::write(&installed, lock).map_err(|error| step("remember what is installed", error))?;
    }
    let entries = SCRIPTS.map(|name| format!("scripts/{name}.ts"));
    run(Command::new(work.join("node_modules/.bin/esbuild"))
        .current_dir(work)
        .args(entries)
        .args(["--bundle", "--minify", "--format=iife", "--target=es2022", "--log-level=warning"])
        .arg(format!("--outdir={}", dist.display())))
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("run {name}: {error} (install nodejs and npm)"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} failed: {}", told.trim().replace('\n', " | ")))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name()))?,
            false => drop(fs::copy(entry.path(), to.join(entry.file_name()))?),
        }
    }
    Ok(())
}

fn join_styles(to: &Path) -> io::Result<()> {
    let mut joined = String::new();
    for file in STYLES {
        joined.push_str(&fs::read_to_string(Path::new("web/styles").join(file))?);
    }
    fs::write(to, joined)
}

/// Writes the table that `src/web/assets.rs` includes: name, content hash, bytes.
fn write_table(dist: &Path, to: &Path) -> io::Result<()> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dist)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    files.sort();
    let mut table = String::from("&[\n");
    for file in files.iter().filter(|file| file.is_file()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let hash = fs::read(file)?
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        table.push_str(&format!(
            "    Asset {{ name: {name:?}, hash: \"{hash:016x}\", bytes: include_bytes!({file:?}) }},\n"
        ));
    }
    table.push(']');
    fs::write(to, table)
}
