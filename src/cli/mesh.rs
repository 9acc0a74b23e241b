//! `meshscope mesh`: checks what is declared for a mesh, alone or against the traffic that a server saw.

use std::collections::BTreeSet;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::login::Login;
use crate::audit::{self, Colour, Options, Report};
use crate::kubernetes::{Client, ClusterConfig};
use crate::mesh::{self, FromCluster};
use crate::model::Severity;
use crate::units::PromDuration;

/// Exit code when the gravest finding is a warning.
const WARNINGS: u8 = 3;
/// Exit code when the gravest finding is a note, and notes fail.
const NOTES: u8 = 4;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Find what declared objects break, lose or leave open; with --live, what traffic shows of them.
    ///
    /// Exit code: 0 when nothing is as grave as --fail-on, else by the gravest finding: 1 for errors and documents that
    /// cannot be read, 3 for warnings, 4 for notes. 2: the command line or a file of suppressions is wrong, or
    /// the server of --live does not answer.
    Audit(Box<Audit>),
}

#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    /// Files, folders, or - for standard input: YAML or JSON.
    #[arg(required_unless_present_any = ["cluster", "explain"], value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The objects of a running cluster, by kubeconfig or, inside a pod, by its account. With files: the cluster's objects,
    /// those of the files that it does not hold, and how the two differ (MS0910 to MS0912).
    #[arg(long)]
    cluster: bool,
    /// The kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config where it is there.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig file. Default: its current one.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    context: Option<String>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Namespace of the control plane, whose objects hold for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    /// Domain of the cluster's services.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Compare with the traffic that this server saw: a running meshscope, or any with Prometheus' API.
    #[arg(long, value_name = "URL")]
    live: Option<String>,
    /// How much traffic to look at, up to now.
    #[arg(long, value_name = "DURATION", default_value = "1h", requires = "live")]
    window: PromDuration,
    /// How long nobody must have used a rule, a subset or a grant before it is called unused; not longer than --window: that.
    #[arg(long, value_name = "DURATION", default_value = "7d", requires = "live")]
    dead_after: PromDuration,
    /// Instead of findings: scores of the guide's checklist and pitfalls, for the mesh and each namespace.
    #[arg(long)]
    scorecard: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// Least gravity that makes the command fail.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "warning")]
    fail_on: Gravity,
    /// Least gravity that is told.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "info")]
    min_severity: Gravity,
    /// Tell only findings of these codes: MS0101, or MS02* for a group.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    only: Vec<String>,
    /// File of findings that nobody wants to hear of: a YAML list of code, subject and reason.
    #[arg(long, value_name = "FILE")]
    suppress: Vec<PathBuf>,
    /// Say what a code means, with a bad and a good example, and exit.
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
    #[command(flatten)]
    login: Login,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people; coloured on a terminal.
    Table,
    /// For programs.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for CI systems.
    Junit,
    /// A document; only with --scorecard.
    Markdown,
}

/// A gravity, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Gravity {
    /// Worth knowing.
    Info,
    /// Probably wrong.
    Warning,
    /// Wrong.
    Error,
}

impl From<Gravity> for Severity {
    fn from(gravity: Gravity) -> Self {
        match gravity {
            Gravity::Info => Self::Info,
            Gravity::Warning => Self::Warning,
            Gravity::Error => Self::Error,
        }
    }
}

/// # Errors
/// The cluster cannot be read.
pub(super) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let Command::Audit(arguments) = command;
    match (arguments.scorecard, arguments.output) {
        (false, Format::Markdown) => return Ok(wrong("-o markdown is for --scorecard")),
        (true, Format::Sarif | Format::Junit) => return Ok(wrong("--scorecard is printed as table, json or markdown")),
        _ => {}
    }
    if let Some(code) = &arguments.explain {
        let Some(text) = audit::explain(code).await else {
            return Ok(wrong(&format!("there is no check {code}; docs/audit.md lists them all")));
        };
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(code) = arguments.only.iter().find(|code| !audit::names_a_check(code)) {
        return Ok(wrong(&format!("--only: no check has the code {code}; docs/audit.md lists them all")));
    }
    let mut suppressions = Vec::new();
    for file in &arguments.suppress {
        match suppressions_of(file) {
            Ok(read) => suppressions.extend(read),
            Err(error) => return Ok(wrong(&format!("{error:#}"))),
        }
    }
    audit(*arguments, suppressions).await
}

/// The command itself is at fault, not what it looks at.
fn wrong(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(2)
}

async fn audit(arguments: Audit, suppressions: Vec<audit::Suppression>) -> anyhow::Result<ExitCode> {
    let Audit { paths, cluster, kubeconfig, context, namespace, root_namespace, cluster_domain, output, live, .. } =
        arguments;
    let times = (arguments.window, arguments.dead_after);
    let of_files = (!paths.is_empty()).then(|| mesh::read_paths(&paths, &namespace));
    let (snapshot, files) = match (cluster, of_files) {
        (true, None) => (declared(kubeconfig, context).await?.snapshot, None),
        (true, Some(of_files)) => beside(of_files, declared(kubeconfig, context).await?),
        (false, of_files) => (of_files.unwrap_or_default(), None),
    };
    let options = Options { root_namespace, cluster_domain, suppressions };
    let observed = match live {
        None => None,
        Some(url) => match seen(&url, times, &arguments.login, &audit::overridden(&snapshot)).await {
            Ok(mut observed) => {
                observed.in_domain(&options.cluster_domain);
                Some(observed)
            }
            Err(error) => return Ok(wrong(&format!("--live: {error:#}"))),
        },
    };
    let looked_at = audit::Beside { observed: observed.as_ref(), files: files.as_ref() };
    let mut report = audit::audit_beside(&snapshot, looked_at, &options);
    if arguments.scorecard {
        let card = audit::score(&snapshot, observed.as_ref(), &report, &options);
        match output {
            Format::Json => println!("{:#}", card.json()),
            Format::Markdown => print!("{}", card.markdown()),
            Format::Table | Format::Sarif | Format::Junit => print!("{}", card.table()),
        }
        return Ok(ExitCode::SUCCESS);
    }
    report.keep(arguments.min_severity.into(), &arguments.only);
    show(&report, output);
    Ok(match report.gravest().filter(|gravest| *gravest >= arguments.fail_on.into()) {
        Some(Severity::Error) => ExitCode::FAILURE,
        Some(Severity::Warning) => ExitCode::from(WARNINGS),
        Some(Severity::Info) => ExitCode::from(NOTES),
        None => ExitCode::SUCCESS,
    })
}

/// What a server saw in the window and in the longer time; what it could not be asked is told beside the findings.
async fn seen(
    url: &str,
    (window, dead_after): (PromDuration, PromDuration),
    login: &Login,
    labels: &BTreeSet<String>,
) -> anyhow::Result<audit::Observed> {
    let client = login.client().with_context(|| format!("make a client for {url}"))?;
    let source = audit::Source::server(client, url);
    let mut observed = audit::gather_with(&source, window.get(), labels).await?;
    if dead_after.get() > window.get() {
        let span = dead_after.get();
        let past = audit::gather_past(&source, span).await;
        if let Err(reason) = &past {
            observed.gaps.push(format!("who was called in the last {}: {reason}", audit::words(span)));
        }
        // What could not be read is unknown, not silent.
        observed.past = Some(past.unwrap_or_else(|_| audit::Past::unknown(span)));
    }
    observed.gaps.iter().for_each(|gap| eprintln!("warning: not asked: {gap}"));
    if observed.calls.is_empty() {
        let span = observed.span();
        eprintln!(
            "warning: {url} has no requests of Istio or Linkerd of the last {span}: only what is declared is checked"
        );
    }
    Ok(observed)
}

fn suppressions_of(file: &Path) -> anyhow::Result<Vec<audit::Suppression>> {
    let text = fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    match audit::Config::parse(&text) {
        Ok(config) => Ok(config.suppress.iter().map(Into::into).collect()),
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(|one| format!("{}:{one}", file.display())).collect();
            bail!("{}", lines.join("\n"))
        }
    }
}

fn show(report: &Report, output: Format) {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match output {
        Format::Table | Format::Markdown => {
            print!("{}", report.table(if colour { Colour::On } else { Colour::Off }));
        }
        Format::Json => println!("{:#}", report.json()),
        Format::Sarif => println!("{:#}", report.sarif()),
        Format::Junit => print!("{}", report.junit()),
    }
}

/// What the cluster declares; what of it we may not see is told beside the findings.
async fn declared(kubeconfig: Option<PathBuf>, context: Option<String>) -> anyhow::Result<FromCluster> {
    let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = || std::env::home_dir().map(|home| home.join(".kube/config")).filter(|file| file.exists());
    let is_in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let kubeconfig_file = kubeconfig.or(named).or_else(|| if is_in_pod { None } else { usual() });
    let client = Client::new(ClusterConfig { kubeconfig_file, context, ..ClusterConfig::default() });
    let read = mesh::read_cluster(&client).await.context("read the cluster")?;
    if !read.not_served.is_empty() {
        eprintln!("note: the cluster does not serve {}", read.not_served.join(", "));
    }
    read.forbidden.iter().for_each(|missing| eprintln!("warning: {missing}"));
    Ok(read)
}

/// The cluster's objects and, of the files, those that it does not hold; and all that the files say, to be compared.
fn beside(of_files: mesh::Snapshot, cluster: FromCluster) -> (mesh::Snapshot, Option<audit::Files>) {
    let FromCluster { snapshot: held, known, .. } = cluster;
    let is_new = |one: &&Arc<mesh::Resource>| held.get(one.id.kind, &one.id.namespace, &one.id.name).is_none();
    let unread = of_files.unread.iter().chain(&held.unread).cloned().collect();
    let mut all = mesh::Snapshot::new(of_files.shared().filter(is_new).chain(held.shared()).map(Arc::clone), unread);
    all.repeated.clone_from(&of_files.repeated);
    (all, Some(audit::Files { snapshot: Arc::new(of_files), known }))
}
