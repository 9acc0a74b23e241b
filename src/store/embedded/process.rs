//! The running server process: spawned or adopted, watched, restarted when it dies, stopped.
//!
//! The only place with `unsafe` code: two system calls that the standard library does not offer.
//!
//! Invariant: a signal never reaches a reused process id. One thread spawns the server and is the only one that reaps it,
//! under the lock; a server that another process started is known by the time of its start too.

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

/// A server that a former meshscope started: no child of ours, so its end must be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Adopted {
    pid: u32,
    /// Clock ticks after boot, as `/proc` has it.
    started: String,
}

impl Adopted {
    /// The living process of that id; `None` without one, or on a system without `/proc`.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: start_of(pid)? })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&self) -> bool {
        start_of(self.pid).is_some_and(|started| started == self.started)
    }
}

/// When a process started; `None` for one that has ended, reaped or not.
fn start_of(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18).map(str::to_owned)).flatten()
}

enum Server {
    Child(Child),
    Adopted(Adopted),
}

impl Server {
    fn pid(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Adopted(adopted) => adopted.pid(),
        }
    }

    fn has_ended(&mut self) -> bool {
        match self {
            Self::Child(child) => !matches!(child.try_wait(), Ok(None)),
            Self::Adopted(adopted) => !adopted.is_alive(),
        }
    }
}

#[derive(Default)]
struct State {
    server: Option<Server>,
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
    /// Starts the thread, which spawns the server unless one is adopted, and spawns it again whenever it ends unasked.
    pub(super) fn start(command: Command, adopted: Option<Adopted>) -> io::Result<Self> {
        let state = State { server: adopted.map(Server::Adopted), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
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
        self.0.state.lock().server.as_ref().map(Server::pid)
    }

    /// Signals the server and lets it end for good.
    pub(super) fn stop(&self, signal: Signal) {
        let mut state = self.0.state.lock();
        state.stopping = true;
        if let Some(server) = &mut state.server
            && !server.has_ended()
        {
            send(signal, server.pid());
        }
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn keep(&self, mut command: Command) {
        let mut pause = RESTART_PAUSE;
        while self.ensure_server(&mut command) {
            let started = Instant::now();
            self.wait_for_end();
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

    /// Spawns the server when there is none; `false` when there shall be none.
    fn ensure_server(&self, command: &mut Command) -> bool {
        let mut state = self.state.lock();
        if state.server.is_some() {
            return true;
        }
        if state.stopping {
            return false;
        }
        match command.spawn() {
            Ok(child) => state.server = Some(Server::Child(child)),
            Err(error) => state.spawn_error = Some(error),
        }
        true
    }

    fn wait_for_end(&self) {
        let mut state = self.state.lock();
        while let Some(server) = &mut state.server {
            if server.has_ended() {
                state.server = None;
                return;
            }
            let wait = if state.stopping { Duration::from_millis(10) } else { WATCH_INTERVAL };
            self.changed.wait_for(&mut state, wait);
        }
    }
}
