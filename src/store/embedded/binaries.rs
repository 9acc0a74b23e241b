//! Finds the PostgreSQL server programs on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::PrivateError;

/// Oldest major version that has what the schema uses.
pub(super) const MAJOR_MIN: u32 = 15;

/// A folder with `initdb` and `postgres` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

/// The newest server programs, or those of exactly `wanted_major` when a data folder of that version exists.
pub(super) fn find(bin_dir: Option<&Path>, wanted_major: Option<u32>) -> Result<Binaries, PrivateError> {
    let found: Vec<Binaries> = match bin_dir {
        Some(dir) => {
            let major = major_of(dir).ok_or_else(|| PrivateError::NotServerPrograms { dir: dir.to_owned() })?;
            vec![Binaries { dir: dir.to_owned(), major }]
        }
        None => usual_folders().into_iter().filter_map(|dir| Some(Binaries { major: major_of(&dir)?, dir })).collect(),
    };
    choose(found, wanted_major)
}

fn choose(mut found: Vec<Binaries>, wanted_major: Option<u32>) -> Result<Binaries, PrivateError> {
    found.sort_by_key(|b| std::cmp::Reverse(b.major)); // stable: the first of the newest
    match (wanted_major, found.first()) {
        (_, None) => Err(PrivateError::NoServerPrograms),
        (Some(wanted), Some(newest)) => {
            let newest = newest.major;
            (found.into_iter().find(|b| b.major == wanted))
                .ok_or(PrivateError::DataOfOtherVersion { data_major: wanted, program_major: newest })
        }
        (None, Some(newest)) if newest.major < MAJOR_MIN => Err(PrivateError::TooOld { major: newest.major }),
        (None, Some(newest)) => Ok(newest.clone()),
    }
}

/// Where packages put the server: on PATH (often a link, so resolved), Debian, RPM, Homebrew.
fn usual_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    for dir in std::env::split_paths(&on_path) {
        if let Ok(program) = dir.join("initdb").canonicalize() {
            folders.extend(program.parent().map(Path::to_owned));
        }
    }
    for (root, tail) in
        [("/usr/lib/postgresql", "bin"), ("/usr", "bin"), ("/opt/homebrew/opt", "bin"), ("/usr/local/opt", "bin")]
    {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if root.ends_with("postgresql") || name.starts_with("pgsql-") || name.starts_with("postgresql@") {
                folders.push(entry.path().join(tail));
            }
        }
    }
    folders
}

/// Major version of the server in `dir`, when `initdb` and `postgres` are there and run.
fn major_of(dir: &Path) -> Option<u32> {
    if !dir.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian …)`, `postgres (PostgreSQL) 18beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    number[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn programs(majors: &[u32]) -> Vec<Binaries> {
        majors.iter().map(|&major| Binaries { dir: PathBuf::from(format!("/pg/{major}")), major }).collect()
    }

    #[test]
    fn reads_the_major_version() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("something else"), None);
    }

    #[test]
    fn takes_the_newest_unless_the_data_is_of_another_version() {
        assert_eq!(choose(programs(&[15, 17, 16]), None).unwrap().major, 17);
        assert_eq!(choose(programs(&[15, 17, 16]), Some(16)).unwrap().major, 16);
        assert!(matches!(
            choose(programs(&[17]), Some(15)),
            Err(PrivateError::DataOfOtherVersion { data_major: 15, program_major: 17 })
        ));
        assert!(matches!(choose(programs(&[13]), None), Err(PrivateError::TooOld { major: 13 })));
        assert!(matches!(choose(Vec::new(), None), Err(PrivateError::NoServerPrograms)));
    }
}
