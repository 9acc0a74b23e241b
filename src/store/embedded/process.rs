//! The running server process: spawned, watched, restarted when it dies, stopped.
//!
//! The only place with `unsafe` code: three system calls that the standard library does not offer.
//!
//! Invariant: one thread spawns the server and outlives it. The kernel's death signal (`PR_SET_PDEATHSIG`) fires when the
//! *thread* that spawned the child ends, so neither a tokio worker nor a blocking-pool thread may spawn it. The same
//! thread is the only one that reaps the child, under the lock, so a signal never reaches a reused process id.

use std::io;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How often the thread looks whether the server still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before the first restart; doubled up to [`RESTART_PAUSE_MAX`] while it keeps dying.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A signal to the server, in PostgreSQL's meaning.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    /// Fast shutdown: sessions are cut off, a checkpoint is written.
    Interrupt,
    /// Immediate shutdown: recovery at the next start.
    Quit,
    /// Kill.
    Kill,
}

/// Effective user id of this process.
pub(super) fn effective_uid() -> u32 {
    #[expect(unsafe_code, reason = "geteuid has no argument and cannot fail; std does not offer it")]
    unsafe {
        libc::geteuid()
    }
}

/// Sends a signal to a process that is known to be a PostgreSQL server of ours.
pub(super) fn send(signal: Signal, pid: u32) {
    let number = match signal {
        Signal::Interrupt => libc::SIGINT,
        Signal::Quit => libc::SIGQUIT,
        Signal::Kill => libc::SIGKILL,
    };
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    #[expect(
        unsafe_code,
        reason = "kill takes two integers; a process that is gone is an error code, which is fine here"
    )]
    unsafe {
        libc::kill(pid, number);
    }
}

/// Lets the kernel interrupt the child when the thread that spawned it ends, and so when this process is killed.
#[cfg(target_os = "linux")]
fn dies_with_us(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let set_death_signal = || {
        #[expect(unsafe_code, reason = "prctl is async-signal-safe and takes integers")]
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    #[expect(
        unsafe_code,
        reason = "the closure runs between fork and exec: it makes one system call and allocates nothing"
    )]
    unsafe {
        command.pre_exec(set_death_signal);
    }
}

/// Elsewhere an orphan is found through its `postmaster.pid` at the next start.
#[cfg(not(target_os = "linux"))]
fn dies_with_us(_command: &mut Command) {}

#[derive(Default)]
struct State {
    child: Option<Child>,
    stopping: bool,
    exits: u32,
    spawn_error: Option<io::Error>,
}

/// The server process and the thread that keeps it.
pub(super) struct Supervisor(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Supervisor {
    /// Starts the thread, which spawns the server and spawns it again whenever it ends unasked.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        dies_with_us(&mut command);
        let keeper = Arc::clone(&shared);
        std::thread::Builder::new().name("postgres".to_owned()).spawn(move || keeper.keep(command))?;
        Ok(Self(shared))
    }

    /// How often the server has ended unasked.
    pub(super) fn exits(&self) -> u32 {
        self.0.state.lock().exits
    }

    /// Why it could not be spawned at all.
    pub(super) fn take_spawn_error(&self) -> Option<io::Error> {
        self.0.state.lock().spawn_error.take()
    }

    /// Process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.0.state.lock().child.as_ref().map(Child::id)
    }

    /// Signals the server and lets it end for good.
    pub(super) fn stop(&self, signal: Signal) {
        let mut state = self.0.state.lock();
        state.stopping = true;
        if let Some(child) = &state.child {
            send(signal, child.id());
        }
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn keep(&self, mut command: Command) {
        let mut pause = RESTART_PAUSE;
        while !self.state.lock().stopping {
            let started = Instant::now();
            self.run_once(&mut command);
            if started.elapsed() > RESTART_PAUSE_MAX {
                pause = RESTART_PAUSE;
            }
            let mut state = self.state.lock();
            if !state.stopping {
                state.exits += 1;
                tracing::warn!("private PostgreSQL ended, starting it again in {pause:?}");
                self.changed.wait_for(&mut state, pause);
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
            }
        }
    }

    /// Spawns the server and returns when it has ended.
    fn run_once(&self, command: &mut Command) {
        {
            let mut state = self.state.lock();
            if state.stopping {
                return;
            }
            match command.spawn() {
                Ok(child) => state.child = Some(child),
                Err(error) => {
                    state.spawn_error = Some(error);
                    return;
                }
            }
        }
        let mut state = self.state.lock();
        loop {
            let ended = match state.child.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => false,
                Some(Ok(Some(_))) | Some(Err(_)) | None => true,
            };
            if ended {
                state.child = None;
                return;
            }
            let wait = if state.stopping { Duration::from_millis(10) } else { WATCH_INTERVAL };
            self.changed.wait_for(&mut state, wait);
        }
    }
}
