//! The private PostgreSQL: found, initialised, started, kept running and stopped by meshscope itself.
//!
//! In: a folder. Out: how to connect. The server listens on a unix socket in a folder that only its user can enter, and
//! has no TCP port; only because of that it trusts whoever connects.
//!
//! A server outlives a meshscope that is killed by some seconds: the next one on the folder adopts it, which spares the
//! time of a checkpoint and a start; without a next one a [`guardian`] stops it.
//!
//! Invariant: one meshscope a folder. The lock is taken before anything else is looked at, and held until the server has
//! stopped; without it a second meshscope would find the first one's server and use it.

mod adopt;
mod binaries;
mod folder;
mod guardian;
mod identity;
mod process;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use tokio::time::Instant;

use adopt::{adopt, stop_orphan};
use binaries::Binaries;
use folder::{data_major, log_tail, make_private_dir, rotate_log, socket_dir, take_lock};
use guardian::Guardian;
use identity::User;
use process::{Signal, Supervisor};

/// The database that meshscope uses in its private server.
const DATABASE: &str = "meshscope";
/// How long a fast shutdown may take before sessions are killed.
const FAST_STOP_LIMIT: Duration = Duration::from_secs(30);

/// How to run the private server.
#[derive(Clone, Debug)]
pub struct PrivateConfig {
    /// Folder of the data, the socket, the lock and the log. `None`: `/var/lib/meshscope` for root, else
    /// `$XDG_DATA_HOME/meshscope`.
    pub path: Option<PathBuf>,
    /// Folder of `initdb` and `postgres`. `None`: looked for on PATH and where packages put it.
    pub bin_dir: Option<PathBuf>,
    /// User to drop to when started as root. `None`: owner of the data, else `postgres`, else `nobody`.
    pub run_as: Option<String>,
    /// `shared_buffers` in MiB. Default 32.
    pub shared_buffers_mib: u32,
    /// `max_connections`. Default 50.
    pub connections_max: u32,
    /// How long start and recovery may take. Default 5 min: after a crash the write-ahead log is replayed.
    pub start_timeout: Duration,
    /// How long the server waits for another meshscope after this one was killed. Default 10 s; whole seconds.
    pub orphan_grace: Duration,
}

impl Default for PrivateConfig {
    fn default() -> Self {
        Self {
            path: None,
            bin_dir: None,
            run_as: None,
            shared_buffers_mib: 32,
            connections_max: 50,
            start_timeout: Duration::from_secs(300),
            orphan_grace: Duration::from_secs(10),
        }
    }
}

impl PrivateConfig {
    /// The default, with `PG_BIN_DIR` and `PG_RUN_AS` from the environment.
    pub fn from_environment() -> Self {
        Self {
            bin_dir: std::env::var_os("PG_BIN_DIR").filter(|v| !v.is_empty()).map(PathBuf::from),
            run_as: std::env::var("PG_RUN_AS").ok().filter(|v| !v.is_empty()),
            ..Self::default()
        }
    }
}

/// Why the private server does not run.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// Nothing to run.
    #[error(
        "no PostgreSQL server programs found: install the package `postgresql` (apt-get install postgresql), or set \
         DATABASE_URL (storage.database_url) to a server, or PG_BIN_DIR to the folder of `initdb` and `postgres`"
    )]
    NoServerPrograms,
    /// `PG_BIN_DIR` is wrong.
    #[error("PG_BIN_DIR: no `initdb` and `postgres` that run in {}", dir.display())]
    NotServerPrograms {
        /// The folder.
        dir: PathBuf,
    },
    /// Too old.
    #[error("PostgreSQL {major} is too old: install version {} or newer, or set DATABASE_URL", binaries::MAJOR_MIN)]
    TooOld {
        /// Newest version found.
        major: u32,
    },
    /// The data was made by another major version.
    #[error(
        "the data is of PostgreSQL {data_major}, installed is {program_major}: install `postgresql-{data_major}`, or \
         convert the data with pg_upgrade"
    )]
    DataOfOtherVersion {
        /// `PG_VERSION` of the data.
        data_major: u32,
        /// Newest version found.
        program_major: u32,
    },
    /// No passwd line.
    #[error("user id {uid} has no line in /etc/passwd, which initdb needs: add one, or set DATABASE_URL")]
    NoPasswdLine {
        /// Our user id.
        uid: u32,
    },
    /// Nobody to drop to.
    #[error("PostgreSQL does not run as root and there is no user `{name}`: set PG_RUN_AS to one")]
    NoUser {
        /// Who was looked for.
        name: String,
    },
    /// A second meshscope.
    #[error("{} is used by another meshscope (it holds the file `lock`): stop it, or set storage.path", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The file system says no.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb in {} failed: {output}", path.display())]
    Initdb {
        /// The folder.
        path: PathBuf,
        /// What it printed.
        output: String,
    },
    /// It ended or never answered.
    #[error("the server does not answer ({reason}); the end of {}:\n{tail}", log.display())]
    NotReady {
        /// What was seen.
        reason: String,
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateError {
    let path = path.to_owned();
    move |source| PrivateError::Io { doing, path, source }
}

/// A running private server. Dropping it asks the server to stop; [`PrivateServer::stop`] waits for it.
pub struct PrivateServer {
    options: PgConnectOptions,
    supervisor: Supervisor,
    path: PathBuf,
    lock: File,
    guardian: Guardian,
}

impl PrivateServer {
    /// Starts the server of that folder, which is made first when there is none.
    ///
    /// # Errors
    /// When there are no server programs, another meshscope uses the folder, or the server does not come up.
    pub async fn start(config: &PrivateConfig) -> Result<Self, PrivateError> {
        let path = config.path.clone().unwrap_or_else(identity::default_path);
        let path = std::path::absolute(&path).map_err(io_error("find the folder", &path))?;
        let data = path.join("data");
        let user = identity::choose(&data, config.run_as.as_deref())?;
        make_private_dir(&path, user)?;
        let lock = take_lock(&path)?;
        let binaries = binaries::find(config.bin_dir.as_deref(), data_major(&data)?)?;
        if !data.exists() {
            initdb(&binaries, &path, user).await?;
        }
        let guardian = Guardian::start(&path, user, config.orphan_grace)?;
        let socket_dir = socket_dir(&path, user)?;
        let options =
            PgConnectOptions::new_without_pgpass().socket(&socket_dir).username("postgres").database(DATABASE);
        let (program, arguments) = server_command_line(&binaries, config, &path, &socket_dir);
        let adopted = adopt(&data, (&program, &arguments), &options).await;
        if adopted.is_none() {
            stop_orphan(&data, config.start_timeout).await;
        }
        let log = path.join("postgres.log");
        let log_start = rotate_log(&log, adopted.is_some())?;
        let mut command = base_command(&program, &path, user);
        let (out, err) = open_log(&log)?;
        command.args(arguments).stdin(Stdio::null()).stdout(out).stderr(err);
        let supervisor = Supervisor::start(command, adopted).map_err(io_error("start a thread for", &data))?;
        let server = Self { options, supervisor, path, lock, guardian };
        match server.wait_until_ready(config.start_timeout, &log, log_start).await {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop().await;
                Err(error)
            }
        }
    }

    /// The folder of a private server for which the configuration names none.
    pub fn default_folder() -> PathBuf {
        identity::default_path()
    }

    /// How to connect to the server that a meshscope runs on that folder; nothing is started.
    ///
    /// # Errors
    /// When none runs there, or the folder may not be read.
    pub fn options_of_running(path: Option<&Path>) -> Result<PgConnectOptions, PrivateError> {
        let path = path.map_or_else(identity::default_path, Path::to_owned);
        let file = path.join("data").join("postmaster.pid");
        let text = fs::read_to_string(&file).map_err(io_error("read, to find the running private server,", &file))?;
        // Lines: process, folder, start, port, folder of the socket.
        let socket = text.lines().nth(4).filter(|socket| !socket.is_empty());
        let none = || io::Error::other("it names no socket: the server is just starting");
        let socket = socket.ok_or_else(none).map_err(io_error("read, to find the running private server,", &file))?;
        Ok(PgConnectOptions::new_without_pgpass().socket(socket).username("postgres").database(DATABASE))
    }

    /// How to connect.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The address in a form that `psql` takes.
    pub fn url(&self) -> String {
        let socket = self.options.get_socket().map(|s| s.display().to_string()).unwrap_or_default();
        format!("postgresql:///{DATABASE}?host={socket}&user=postgres")
    }

    /// The folder of its data, socket and log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Process id of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.pid()
    }

    /// Stops the server: fast, after 30 s at once, then by force. Returns when it has ended.
    pub async fn stop(&self) {
        for (signal, limit) in [
            (Signal::Interrupt, FAST_STOP_LIMIT),
            (Signal::Quit, Duration::from_secs(5)),
            (Signal::Kill, Duration::from_secs(5)),
        ] {
            self.supervisor.stop(signal);
            let deadline = Instant::now() + limit;
            while self.pid().is_some() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if self.pid().is_none() {
                self.guardian.dismiss();
                // Closing the file is not enough: a child that another thread is just spawning has a copy until its exec.
                if let Err(error) = self.lock.unlock() {
                    tracing::warn!("unlock {}: {error}", self.path.display());
                }
                return;
            }
            tracing::warn!("private PostgreSQL still runs {limit:?} after {signal:?}");
        }
    }

    async fn wait_until_ready(&self, limit: Duration, log: &Path, log_start: u64) -> Result<(), PrivateError> {
        let deadline = Instant::now() + limit;
        let not_ready =
            |reason: String| PrivateError::NotReady { reason, log: log.to_owned(), tail: log_tail(log, log_start) };
        loop {
            if let Some(error) = self.supervisor.take_spawn_error() {
                return Err(not_ready(format!("it cannot be run: {error}")));
            }
            if self.supervisor.exits() > 0 && !former_server_lingers(&log_tail(log, log_start)) {
                return Err(not_ready("it ended".to_owned()));
            }
            match self.make_database().await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(not_ready(format!("not within {limit:?}: {error}")));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
    }

    async fn make_database(&self) -> Result<(), sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.options.clone().database("postgres")).await?;
        let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut connection)
            .await?;
        if !there {
            // By files: the other way writes a thousand pages to the log, and leaves them to the next checkpoint.
            let create = format!("CREATE DATABASE {DATABASE} STRATEGY FILE_COPY");
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
        }
        connection.close().await
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        self.supervisor.stop(Signal::Interrupt);
        self.guardian.dismiss();
    }
}

/// Makes a cluster beside its final place and renames it there, so that a crash leaves no half cluster.
async fn initdb(binaries: &Binaries, path: &Path, user: Option<User>) -> Result<(), PrivateError> {
    let half = path.join("data.init");
    if half.exists() {
        fs::remove_dir_all(&half).map_err(io_error("remove the unfinished", &half))?;
    }
    let mut command = base_command(&binaries.dir.join("initdb"), path, user);
    command.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
        "--data-checksums",
        "--no-instructions",
    ]);
    // Small segments: an idle server then keeps 8 MiB of log, not 32.
    command.args(["--wal-segsize", "4"]).arg("-D").arg(&half).stdin(Stdio::null());
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await;
    let output = output.map_err(io_error("run initdb for", &half))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let output = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(PrivateError::Initdb { path: path.to_owned(), output });
    }
    fs::rename(&half, path.join("data")).map_err(io_error("rename", &half))
}

fn base_command(program: &Path, path: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir(path).process_group(0);
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// The program and its arguments. A running server is ours only if it was started with the very same.
fn server_command_line(
    binaries: &Binaries,
    config: &PrivateConfig,
    path: &Path,
    socket_dir: &Path,
) -> (PathBuf, Vec<OsString>) {
    let settings = [
        "listen_addresses=".to_owned(),
        "unix_socket_permissions=0700".to_owned(),
        format!("shared_buffers={}MB", config.shared_buffers_mib),
        format!("max_connections={}", config.connections_max),
        "max_wal_size=1GB".to_owned(),
        // Two segments: what is kept for reuse counts as disk, and making a segment of 4 MiB costs little.
        "min_wal_size=8MB".to_owned(),
        // The log since the last checkpoint lies on disk and is what a crash replays. Pages here are mostly appended
        // to, so writing them whole again after each checkpoint adds little.
        "checkpoint_timeout=5min".to_owned(),
        "max_logical_replication_workers=0".to_owned(),
        "wal_compression=on".to_owned(),
        "jit=off".to_owned(),
        "log_line_prefix=%m [%p] ".to_owned(),
    ];
    let mut arguments: Vec<OsString> = vec!["-D".into(), path.join("data").into(), "-k".into(), socket_dir.into()];
    for setting in settings {
        arguments.extend(["-c".into(), setting.into()]);
    }
    (binaries.dir.join("postgres"), arguments)
}

fn open_log(log: &Path) -> Result<(File, File), PrivateError> {
    let out = OpenOptions::new().create(true).append(true).open(log).map_err(io_error("open", log))?;
    let err = out.try_clone().map_err(io_error("open", log))?;
    Ok((out, err))
}

/// A killed postmaster's last children may hold the shared memory for a moment: worth another try.
fn former_server_lingers(log_tail: &str) -> bool {
    log_tail.contains("lock file \"postmaster.pid\" already exists")
        || log_tail.contains("pre-existing shared memory block")
        || log_tail.contains("is another postmaster")
}
