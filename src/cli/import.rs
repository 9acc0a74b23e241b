//! `meshscope import`: history from OpenMetrics files into a running server.
//!
//! Each file is read twice, a window of lines at a time: first it is checked, so that a mistake in its last line stores
//! nothing; then it is sent. Standard input is read once, and a mistake in it says what is stored already. The samples go
//! through the server's receiver of remote write, under a path that is the administrators': what is taken is decided in one place,
//! `storage.out_of_order_window`. The same file once more changes nothing; an import that broke off says at which line it
//! goes on. Invariant: memory is bounded by windows and requests, not by files.

mod bar;
mod body;
mod send;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;

use self::bar::Bar;
use self::body::Body;
use self::send::{Receiver, Sent};
use self::source::{Source, Stop, is_stdin};
use super::Output;
use super::login::Login;
use crate::model::{METRIC_NAME, Timestamp, stale_marker};
use crate::scrape::exposition::{Entry, MetricKind, ParseError, Parser, Sample, parse_labels};

/// Samples of one request.
const BATCH: usize = 10_000;
/// Requests that are made while others are under way.
const AHEAD: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// OpenMetrics files whose samples have timestamps, ending with `# EOF`: plain, gzip or zstd. `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The server. It must accept past samples: `storage.out_of_order_window`.
    #[arg(long, default_value = "http://127.0.0.1:7070", env = "MESHSCOPE_URL")]
    url: String,
    /// Send only what stands at that line of the first file and after it: where an import broke off.
    #[arg(long, value_name = "LINE", default_value_t = 1)]
    from_line: usize,
    /// Store each `NaN` as the mark that a series ended. OpenMetrics has no such mark, and Prometheus writes it as `NaN`
    /// when it dumps a database.
    #[arg(long)]
    nan_is_stale: bool,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    login: Login,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
struct Survey {
    samples: usize,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// What became of a file.
#[derive(Debug, Default)]
struct Report {
    survey: Survey,
    sent: Sent,
    took: Duration,
}

/// One request, ready to be sent.
struct Piece {
    packed: Vec<u8>,
    survey: Survey,
    /// The line after its last one.
    next_line: usize,
}

/// What is done with a file on the way.
#[derive(Clone, Copy)]
struct Reading {
    from_line: usize,
    nan_is_stale: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let receiver = Receiver::new(arguments.login.client()?, &arguments.url);
    let mut good = true;
    let mut reports = Vec::new();
    let mut reading = Reading { from_line: arguments.from_line, nan_is_stale: arguments.nan_is_stale };
    for file in &arguments.files {
        if !is_stdin(file) {
            check(file).await?;
        }
        let report = import(&receiver, file, reading).await?;
        reading.from_line = 1;
        good &= report.sent.stored == report.survey.samples;
        if arguments.output == Output::Table {
            print!("{}", table(file, &report));
        }
        reports.push((file, report));
    }
    if arguments.output == Output::Json {
        println!("{:#}", reports.iter().map(|(file, report)| json(file, report)).collect::<serde_json::Value>());
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads a file to its end and finds its first mistake.
async fn check(file: &Path) -> anyhow::Result<()> {
    let path = file.to_owned();
    let checking = move || -> Result<(), Stop> {
        let mut source = Source::open(&path)?;
        let mut bar = Bar::new("check", &path, &source.read_bytes, source.size_bytes);
        let mut samples = 0;
        source.read(|entry, parser| {
            let Entry::Sample(sample) = entry else { return Ok(()) };
            checked(&sample, parser).map_err(Stop::Mistake)?;
            samples += 1;
            if samples % BATCH == 0 {
                bar.show(samples);
            }
            Ok(())
        })?;
        bar.end(samples);
        Ok(())
    };
    let checked = tokio::task::spawn_blocking(checking).await.context("checking a file crashed")?;
    checked.map_err(|stop| anyhow::anyhow!("{}: {stop}; nothing of it was sent", file.display()))
}

/// The time of a sample that can be sent.
fn checked(sample: &Sample<'_>, parser: &Parser<'_>) -> Result<Timestamp, ParseError> {
    let wrong = |reason: String| parser.error_at(sample.key, reason);
    let labels = parse_labels(sample.key, MetricKind::Unknown).map_err(wrong)?;
    if !labels.iter().any(|(name, value)| name == METRIC_NAME && !value.is_empty()) {
        return Err(wrong("the series has no metric name".to_owned()));
    }
    if let Some(exemplar) = &sample.exemplar {
        parse_labels(exemplar.labels, MetricKind::Unknown).map_err(wrong)?;
    }
    sample.at.ok_or_else(|| wrong("the sample has no timestamp".to_owned()))
}

/// Sends a file in pieces, made on a thread while others are under way.
async fn import(receiver: &Receiver, file: &Path, reading: Reading) -> anyhow::Result<Report> {
    let began = Instant::now();
    let (mut report, mut next_line) = (Report::default(), reading.from_line);
    let mut source = Source::open(file).with_context(|| format!("read {}", file.display()))?;
    let mut bar = Bar::new("import", file, &source.read_bytes, source.size_bytes);
    let (give, mut pieces) = mpsc::channel(AHEAD);
    let making = tokio::task::spawn_blocking(move || make_pieces(&mut source, reading, &give));
    while let Some(Piece { packed, survey, next_line: after }) = pieces.recv().await {
        let sent = receiver.send(packed, &mut report.sent).await;
        sent.with_context(|| goes_on(file, next_line))?;
        next_line = after;
        report.survey.add(&survey);
        bar.show(report.survey.samples);
    }
    bar.end(report.survey.samples);
    let made = making.await.context("reading a file crashed")?;
    made.map_err(|stop| anyhow::anyhow!("{}: {stop}; {}", file.display(), goes_on(file, next_line)))?;
    report.took = began.elapsed();
    Ok(report)
}

/// What is stored of an import that broke off, and how it goes on.
fn goes_on(file: &Path, line: usize) -> String {
    let before = if line > 1 { "what stands before is sent" } else { "nothing of it was sent" };
    format!("{} broke off at line {line}, {before}: go on with --from-line {line}", file.display())
}

fn make_pieces(source: &mut Source, reading: Reading, give: &mpsc::Sender<Piece>) -> Result<(), Stop> {
    let (mut body, mut survey) = (Body::default(), Survey::default());
    let (mut next_line, mut skips) = (1, reading.from_line > 1);
    let hand_over = |body: &mut Body, survey: &mut Survey, next_line: usize| {
        let packed = snap::raw::Encoder::new().compress_vec(&body.take()).map_err(std::io::Error::other)?;
        let piece = Piece { packed, survey: std::mem::take(survey), next_line };
        give.blocking_send(piece).map_err(|_| Stop::Enough)
    };
    source
        .read(|entry, parser| {
            match entry {
                Entry::Sample(sample) => {
                    if skips {
                        skips = parser.line() < reading.from_line;
                        if skips {
                            return Ok(());
                        }
                    }
                    let at = checked(&sample, parser).map_err(Stop::Mistake)?;
                    let stale = reading.nan_is_stale && sample.value.is_nan();
                    body.sample(&sample, if stale { stale_marker() } else { sample.value });
                    survey.count(at);
                    if body.samples() >= BATCH {
                        next_line = parser.line() + 1;
                        hand_over(&mut body, &mut survey, next_line)?;
                    }
                }
                Entry::Kind { name, kind } => body.kind(name, kind),
                Entry::Help { name, text } => body.help(name, text),
                Entry::Unit { name, unit } => body.unit(name, unit),
            }
            Ok(())
        })
        // What stands before a mistake is good.
        .or_else(|stop| match (&stop, body.samples()) {
            (Stop::Mistake(error), 1..) => {
                hand_over(&mut body, &mut survey, error.line)?;
                Err(stop)
            }
            _ => Err(stop),
        })?;
    match body.samples() {
        0 => Ok(()),
        _ => hand_over(&mut body, &mut survey, next_line),
    }
}

impl Survey {
    fn count(&mut self, at: Timestamp) {
        self.add(&Survey { samples: 1, first: Some(at), last: Some(at) });
    }

    fn add(&mut self, other: &Survey) {
        self.samples += other.samples;
        self.first = self.first.into_iter().chain(other.first).min();
        self.last = self.last.max(other.last);
    }
}

impl Report {
    fn samples_per_second(&self) -> f64 {
        (self.survey.samples as f64 / self.took.as_secs_f64().max(0.001)).round()
    }
}

fn table(file: &Path, report: &Report) -> String {
    let Report { survey, sent: Sent { stored, problems }, took } = report;
    let mut text = format!("{}: {stored} of {} samples stored", file.display(), survey.samples);
    if let (Some(first), Some(last)) = (survey.first, survey.last) {
        text.push_str(&format!(", from {first} to {last}"));
    }
    text.push_str(&format!(", in {:.1} s ({} samples/s)\n", took.as_secs_f64(), report.samples_per_second()));
    for problem in problems {
        text.push_str(&format!("  {problem}\n"));
    }
    if problems.iter().any(|problem| problem.contains("out of bounds") || problem.contains("too old")) {
        text.push_str("  raise storage.out_of_order_window of the server to take samples that old\n");
    }
    text
}

fn json(file: &Path, report: &Report) -> serde_json::Value {
    let Report { survey, sent: Sent { stored, problems }, took } = report;
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    serde_json::json!({
        "file": file.display().to_string(),
        "samples": survey.samples,
        "stored": stored,
        "from": time(survey.first),
        "to": time(survey.last),
        "seconds": took.as_secs_f64(),
        "samples_per_second": report.samples_per_second(),
        "problems": problems,
    })
}

#[cfg(test)]
mod tests;
