//! Whoever ends the private server when meshscope was killed and no other takes its place: a shell that waits.
//!
//! In: the end of a pipe, which the kernel closes with the last of meshscope, however it ends. Out: after a while an
//! interrupt to the server of the folder. Nothing when the file `keeper` names another meshscope by then: that one has
//! adopted the server, or started its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::identity::User;
use super::process::{Signal, send};
use super::{PrivateError, base_command, io_error};

/// How the shell is called, so that it can be told from another program under its number.
const NAME: &str = "meshscope-guardian";
/// `$1`: who keeps the server now; `$2`: seconds to wait; `$3`: the folder of the data. The process of `postmaster.pid` is
/// looked at before it gets a signal: the file may be old and its number another program's.
const SCRIPT: &str = r#"
read -r _
sleep "$2"
read -r keeper _ < keeper && [ "$keeper" = "$1" ] || exit 0
read -r pid < data/postmaster.pid || exit 0
if [ -r "/proc/$pid/cmdline" ]; then
    line=$(tr '\0' ' ' < "/proc/$pid/cmdline")
else
    line=$(ps -o args= -p "$pid")
fi
case $line in *postgres*"$3"*) kill -INT "$pid" ;; esac
"#;

/// The waiting shell.
pub(super) struct Guardian(Mutex<Option<Child>>);

impl Guardian {
    /// Makes this process the keeper of the folder's server, and starts to wait for its end.
    pub(super) fn start(path: &Path, user: Option<User>, grace: Duration) -> Result<Self, PrivateError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let keeper = format!("{}-{}", std::process::id(), since.as_nanos());
        let file = path.join("keeper");
        end_former(&file, path);
        let mut command = base_command(Path::new("/bin/sh"), path, user);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").args(["-c", SCRIPT, NAME, &keeper]);
        command.arg(grace.as_secs().max(1).to_string()).arg(path.join("data"));
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = spawned.inspect_err(|error| {
            tracing::warn!(
                "/bin/sh cannot be run ({error}): if meshscope is killed, PostgreSQL runs on until the next start"
            );
        });
        let guardian = Self(Mutex::new(child.ok()));
        let pid = guardian.0.lock().as_ref().map_or(0, Child::id);
        fs::write(&file, format!("{keeper} {pid}\n")).map_err(io_error("write", &file))?;
        // The shell runs as the server's user, and the folder is closed to all others.
        let readable = fs::set_permissions(&file, fs::Permissions::from_mode(0o644));
        readable.map_err(io_error("let the server's user read", &file))?;
        Ok(guardian)
    }

    /// The server has been told to stop: nobody needs to wait.
    pub(super) fn dismiss(&self) {
        let Some(mut child) = self.0.lock().take() else { return };
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            tracing::warn!("end the guardian of PostgreSQL: {error}");
        }
    }
}

/// Ends the shell of the meshscope before, when that was killed: it would find another keeper, but only after its wait.
fn end_former(file: &Path, path: &Path) {
    let former = fs::read_to_string(file).ok();
    let Some(pid) = former.and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok()) else { return };
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command_line = String::from_utf8_lossy(&command_line).into_owned();
    if command_line.contains(NAME) && command_line.contains(path.to_string_lossy().as_ref()) {
        send(Signal::Kill, pid);
    }
}
