//! `meshscope doctor`: looks at a running server, its database and its machine, says in plain words what is wrong, and
//! gathers what whoever helps will ask for, without secrets.
//!
//! In: the server's address, the configuration file, a log. Out: a summary, an exit code, a bundle. Everything is asked at
//! most once and bounded in time and bytes; what cannot be had is said and left out. Invariant: nothing is changed, and
//! every text passes [`Redactor`] before it is printed or written.

mod bundle;
mod checks;
mod database;
mod machine;
mod redact;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use self::checks::{Facts, Finding, Verdict};
use self::redact::Redactor;
use super::Output;
use super::login::Login;
use crate::config::Config;
use crate::http_client;

/// Exit code when the gravest finding is a warning, as that of `mesh audit`.
const WARNINGS: u8 = 3;
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: 0 when all is well, 3 for warnings, 1 when something is bad.")]
pub(super) struct Arguments {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:7070", env = "MESHSCOPE_URL")]
    url: String,
    /// The server's configuration file; it also says where the database is. Without it `DATABASE_URL` or the private server.
    #[arg(long, short, value_name = "FILE", env = "MESHSCOPE_CONFIG")]
    config: Option<PathBuf>,
    /// The server's log, whose last warnings are taken. Without it systemd is asked for those of the unit `meshscope`.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Where the bundle is written: an archive when the name ends in .tar.gz or .tgz, else a folder.
    /// Default: meshscope-doctor-SECONDS.tar.gz.
    #[arg(long, value_name = "PATH", conflicts_with = "no_bundle")]
    bundle: Option<PathBuf>,
    /// Print the summary only.
    #[arg(long)]
    no_bundle: bool,
    /// Only ask whether the server is healthy or ready, for health checks of containers. Exit code 0 or 1.
    #[arg(long, value_enum, value_name = "WHAT")]
    probe: Option<Probe>,
    /// How to print the summary.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    login: Login,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Probe {
    /// `/-/healthy`: it answers.
    Healthy,
    /// `/-/ready`: it has restored what was there before the start.
    Ready,
}

/// One file of a bundle: its name, and its text or why there is none.
#[derive(Debug)]
struct Piece {
    name: String,
    text: Result<String, String>,
}

impl Piece {
    fn new(name: impl Into<String>, text: Result<String, String>) -> Self {
        Self { name: name.into(), text }
    }
}

/// # Errors
/// When the command line names files that cannot be read, or the bundle cannot be written.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = http_client::build(&arguments.login.http())?;
    let asking = server::Asking::new(client, arguments.login.http(), &arguments.url);
    if let Some(what) = arguments.probe {
        let path = if what == Probe::Healthy { "/-/healthy" } else { "/-/ready" };
        return Ok(match asking.get(path).await.text {
            Ok(_) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("{reason}");
                ExitCode::FAILURE
            }
        });
    }
    let mut redactor = Redactor::new();
    let (mut pieces, mut facts) = (Vec::new(), Facts::default());
    let config = arguments.read_config(&mut redactor, &mut pieces, &mut facts);
    for secret in [&arguments.login.token_file, &arguments.login.password_file].into_iter().flatten() {
        let text = std::fs::read_to_string(secret).with_context(|| format!("read {}", secret.display()))?;
        redactor.hide(text.trim());
    }
    server::gather(&asking, &mut pieces, &mut facts).await;
    let storage = match &config {
        Some(config) => config.store.clone(),
        None => crate::store::Config::default().with_environment(),
    };
    if let Some(url) = &storage.database_url {
        redactor.hide_url(url.reveal());
    }
    database::gather(&storage, &mut pieces, &mut facts).await;
    let files = machine::Files { config: arguments.config.as_deref(), log: arguments.log.as_deref() };
    machine::gather(&storage, files, &mut pieces, &mut facts).await;
    let findings: Vec<Finding> =
        checks::judge(&facts).into_iter().map(|finding| finding.map(|t| redactor.of(t))).collect();
    for piece in &mut pieces {
        piece.text = std::mem::replace(&mut piece.text, Err(String::new()))
            .map(|t| redactor.of(&t))
            .map_err(|t| redactor.of(&t));
    }
    arguments.tell(&findings, &pieces)?;
    Ok(match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Bad) => ExitCode::FAILURE,
        Some(Verdict::Warn) => ExitCode::from(WARNINGS),
        _ => ExitCode::SUCCESS,
    })
}

impl Arguments {
    /// The configuration as the service would read it; what is wrong with it is a fact, not an end.
    fn read_config(&self, redactor: &mut Redactor, pieces: &mut Vec<Piece>, facts: &mut Facts) -> Option<Config> {
        let file = self.config.as_ref()?;
        if let Ok(text) = std::fs::read_to_string(file) {
            redactor.hide_all_of(&text);
        }
        match Config::read(file) {
            Ok(config) => {
                facts.config = Some(Ok(config.warnings.clone()));
                facts.config_text = Some(config.redacted.clone());
                facts.is_open_to_others = Some(
                    !config.web.listen.ip().is_loopback()
                        && config.web.access() == crate::web_config::Settings::default(),
                );
                pieces.push(Piece::new("configuration.yaml", Ok(config.redacted.clone())));
                Some(config)
            }
            Err(error) => {
                facts.config = Some(Err(error.to_string()));
                pieces.push(Piece::new("configuration.yaml", Err(error.to_string())));
                None
            }
        }
    }

    fn tell(&self, findings: &[Finding], pieces: &[Piece]) -> anyhow::Result<()> {
        let table = checks::table(findings);
        let json = checks::json(findings);
        if self.output == Output::Json {
            println!("{json:#}");
        } else {
            print!("{table}");
        }
        if self.no_bundle {
            return Ok(());
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let path = self.bundle.clone().unwrap_or_else(|| format!("meshscope-doctor-{seconds}.tar.gz").into());
        let summary = [("summary.txt", table), ("summary.json", format!("{json:#}\n"))];
        bundle::write(&path, &summary, pieces, seconds)
            .with_context(|| format!("write the bundle {}", path.display()))?;
        eprintln!("\nThe bundle is {}. Secrets are taken out; look through it before you give it away.", shown(&path));
        Ok(())
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
