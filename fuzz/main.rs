//! libFuzzer's entry: runs the target of [`targets::TARGETS`] that `FUZZ_TARGET` names on what libFuzzer makes up.
#![no_main]

use std::sync::OnceLock;

mod targets;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
        let names: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
        let (_, run) = found.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}: one of {names:?} is needed"));
        let _ = TARGET.set(*run);
    },
    |data: &[u8]| {
        if let Some(run) = TARGET.get() {
            run(data);
        }
    }
);
