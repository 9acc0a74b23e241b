//! The folder of a private server: protected, locked, with its socket and log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::identity::User;
use super::{PrivateError, io_error};

/// A unix socket's address holds 107 bytes of path.
const SOCKET_PATH_MAX: usize = 107;
/// A fresh log is begun at start once the old one is larger.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// Makes the folder, for its user alone.
pub(super) fn make_private_dir(path: &Path, user: Option<User>) -> Result<(), PrivateError> {
    fs::create_dir_all(path).map_err(io_error("make the folder", path))?;
    if let Some(User { uid, gid }) = user {
        chown(path, Some(uid), Some(gid)).map_err(io_error("give to the server's user the folder", path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io_error("protect the folder", path))
}

pub(super) fn take_lock(path: &Path) -> Result<File, PrivateError> {
    let file = path.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let lock = lock.map_err(io_error("open the lock", &file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(PrivateError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(io_error("lock", &file)(source)),
    }
}

pub(super) fn data_major(data: &Path) -> Result<Option<u32>, PrivateError> {
    let file = data.join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(text) => {
            let number = text.trim().parse().map_err(|_| io::Error::other(format!("not a version: {text:?}")));
            number.map(Some).map_err(io_error("read", &file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", &file)(error)),
    }
}

/// `<folder>/s`, or a private folder under the temporary one when the path is too long or has characters that
/// `unix_socket_directories` gives a meaning.
pub(super) fn socket_dir(path: &Path, user: Option<User>) -> Result<PathBuf, PrivateError> {
    let inside = path.join("s");
    let odd = path.as_os_str().as_bytes().iter().any(|b| b",\"@ ".contains(b));
    let dir = if !odd && inside.as_os_str().len() + "/.s.PGSQL.5432".len() <= SOCKET_PATH_MAX {
        inside
    } else {
        let unique = format!("meshscope-{:x}-{}", foldhash_of(path), std::process::id());
        let dir = std::env::temp_dir().join(unique);
        // Made by us and by nobody before us: a folder that exists may be someone else's trap.
        let _ = fs::remove_dir_all(&dir);
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(io_error("make the folder", &dir))?;
        dir
    };
    make_private_dir(&dir, user)?;
    Ok(dir)
}

fn foldhash_of(path: &Path) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::default().hash_one(path)
}

/// Sets a large log aside, unless a server is writing to it; returns where this start's lines begin.
pub(super) fn rotate_log(log: &Path, is_open: bool) -> Result<u64, PrivateError> {
    let length = fs::metadata(log).map(|m| m.len()).unwrap_or(0);
    if length > LOG_BYTES_MAX && !is_open {
        fs::rename(log, log.with_extension("log.old")).map_err(io_error("set aside", log))?;
        return Ok(0);
    }
    Ok(length)
}

/// The last lines after `start`.
pub(super) fn log_tail(log: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(8192))))?;
        let mut bytes = Vec::new();
        file.take(8192).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
