//! The server that a killed meshscope left behind: taken over when it is as it should be, else stopped.
//!
//! In: the folder of the data, and how the server would be started now. Out: the running server, without a session of its
//! former owner. Invariant: only whoever holds the folder's lock looks here, so nobody else owns that server; what the
//! former owner had not committed never will be.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::Instant;

use super::FAST_STOP_LIMIT;
use super::process::{self, Adopted, Signal};

/// How long a left-over server may take to answer and to end its sessions. One that was told to stop never will.
const ADOPT_LIMIT: Duration = Duration::from_secs(3);

/// The running server of that folder, if it was started by the very command line that would start it now.
pub(super) async fn adopt(
    data: &Path,
    (program, arguments): (&Path, &[OsString]),
    options: &PgConnectOptions,
) -> Option<Adopted> {
    let (pid, command_line) = orphan(data)?;
    let adopted = Adopted::of(pid)?;
    let words = std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
    if command_line != words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ") {
        tracing::info!("PostgreSQL {pid}, left over on {}, has other settings", data.display());
        return None;
    }
    match tokio::time::timeout(ADOPT_LIMIT, end_sessions(options, &adopted)).await {
        Ok(Ok(ended)) => {
            tracing::info!("took over PostgreSQL {pid}, left over on {}, and ended {ended} sessions", data.display());
            Some(adopted)
        }
        Ok(Err(error)) => {
            tracing::warn!("PostgreSQL {pid}, left over on {}, cannot be taken over: {error}", data.display());
            None
        }
        Err(_) => {
            tracing::warn!("PostgreSQL {pid}, left over on {}, did not let go within {ADOPT_LIMIT:?}", data.display());
            None
        }
    }
}

/// Ends what the former owner still has under way and waits until all of it is gone; how many sessions there were.
async fn end_sessions(options: &PgConnectOptions, server: &Adopted) -> Result<usize, sqlx::Error> {
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE application_name LIKE 'meshscope%' AND pid <> pg_backend_pid()";
    let mut connection = connect(options, server).await?;
    let mut most = 0;
    loop {
        let left = sqlx::query(terminate).fetch_all(&mut connection).await?.len();
        if left == 0 {
            connection.close().await?;
            return Ok(most);
        }
        most = most.max(left);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server that is just starting refuses for a while.
async fn connect(options: &PgConnectOptions, server: &Adopted) -> Result<PgConnection, sqlx::Error> {
    loop {
        match PgConnection::connect_with(&options.clone().database("postgres")).await {
            Err(_) if server.is_alive() => tokio::time::sleep(Duration::from_millis(25)).await,
            outcome => return outcome,
        }
    }
}

/// Interrupts a server that a killed meshscope left behind. We hold the lock, so nobody else owns it.
pub(super) async fn stop_orphan(data: &Path, limit: Duration) {
    let deadline = Instant::now() + limit.min(FAST_STOP_LIMIT);
    let mut asked = false;
    while let Some((pid, _)) = orphan(data) {
        if !asked {
            tracing::warn!("stopping PostgreSQL {pid}, left over on {}", data.display());
            process::send(Signal::Interrupt, pid);
            asked = true;
        }
        if Instant::now() > deadline {
            process::send(Signal::Quit, pid);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The process of `postmaster.pid` and its command line, when it lives and names this data folder.
fn orphan(data: &Path) -> Option<(u32, String)> {
    let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: u32 = file.lines().next()?.trim().parse().ok()?;
    let command_line = match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(text) => text,
        Err(_) if Path::new("/proc/self").exists() => return None,
        Err(_) => Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]).output().ok()?.stdout,
    };
    // A NUL ends each argument, the last one too, which itself may end in a space.
    let text = String::from_utf8_lossy(command_line.strip_suffix(b"\0").unwrap_or(&command_line)).replace('\0', " ");
    (text.contains("postgres") && text.contains(data.to_string_lossy().as_ref())).then_some((pid, text))
}
