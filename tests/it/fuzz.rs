//! Every fuzz target on its checked-in examples; `make fuzz` goes on from them.

use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../../fuzz/targets.rs"]
mod targets;

#[test]
fn every_target_keeps_its_promises_on_its_examples() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, run) in targets::TARGETS {
        let folder = corpus.join(name);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no example");
        for file in files {
            let data = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            println!("{}", file.display());
            let began = Instant::now();
            run(&data);
            // And what is cut off, as a connection may be.
            (1..data.len()).step_by(data.len() / 16 + 1).for_each(|end| run(&data[..end]));
            assert!(began.elapsed() < Duration::from_secs(60), "{}: {:?}", file.display(), began.elapsed());
        }
    }
}

#[test]
fn every_folder_of_examples_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for folder in std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())).flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        assert!(targets::TARGETS.iter().any(|(target, _)| *target == name), "fuzz/corpus/{name} has no target");
    }
}
