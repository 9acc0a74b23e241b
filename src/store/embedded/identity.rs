//! Which user the private server runs as: PostgreSQL refuses to run as root.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PrivateError, process};

/// A user of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The user to drop to; `None`: not root, run as ourselves.
///
/// Root drops to the owner of an existing data folder, else to `run_as`, else to `postgres`, else to `nobody`.
pub(super) fn choose(data: &Path, run_as: Option<&str>) -> Result<Option<User>, PrivateError> {
    if process::effective_uid() != 0 {
        // initdb and libpq need a passwd line; containers with an arbitrary uid have none.
        return match id(&["-un"]) {
            Some(_) => Ok(None),
            None => Err(PrivateError::NoPasswdLine { uid: process::effective_uid() }),
        };
    }
    if let Ok(metadata) = std::fs::metadata(data)
        && metadata.uid() != 0
    {
        return Ok(Some(User { uid: metadata.uid(), gid: metadata.gid() }));
    }
    match run_as {
        Some(name) => Ok(Some(by_name(name).ok_or_else(|| PrivateError::NoUser { name: name.to_owned() })?)),
        None => {
            let user = ["postgres", "nobody"].into_iter().find_map(by_name);
            Ok(Some(user.ok_or_else(|| PrivateError::NoUser { name: "postgres".to_owned() })?))
        }
    }
}

fn by_name(name: &str) -> Option<User> {
    let user = User { uid: id(&["-u", name])?.parse().ok()?, gid: id(&["-g", name])?.parse().ok()? };
    (user.uid != 0).then_some(user)
}

fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where the private server keeps its data when the configuration does not say: `/var/lib/meshscope` for root (never
/// below `/root`, which the unprivileged user cannot enter), else the user's data folder.
pub(super) fn default_path() -> PathBuf {
    if process::effective_uid() == 0 {
        return PathBuf::from("/var/lib/meshscope");
    }
    let data_home = std::env::var_os("XDG_DATA_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data_home.or_else(home).unwrap_or_else(std::env::temp_dir).join("meshscope")
}
