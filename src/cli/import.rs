//! `meshscope import`: history from OpenMetrics files into a running server.
//!
//! Each file is read whole and checked before any of it is sent, so that a mistake in its last line stores nothing. The
//! samples go through the server's remote write receiver ([`send`] is the one seam): what the server takes is decided in
//! one place, `storage.out_of_order_window`. The same file once more changes nothing, so an import that broke off is
//! simply started again.

mod body;

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use body::Body;

use super::Output;
use crate::http_client;
use crate::model::Timestamp;
use crate::scrape::exposition::{Entry, Format, MetricKind, Parser, parse_labels};

/// Samples of one request.
const BATCH: usize = 10_000;
/// How often a request that the server could not take for now is sent.
const TRIES: u32 = 6;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// OpenMetrics files whose samples have timestamps, ending with `# EOF`.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The server. It must accept past samples: `storage.out_of_order_window`.
    #[arg(long, default_value = "http://127.0.0.1:7070", env = "MESHSCOPE_URL")]
    url: String,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// What a file holds.
#[derive(Debug, Default)]
struct Survey {
    samples: usize,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// What became of a file.
#[derive(Debug, Default)]
struct Report {
    survey: Survey,
    stored: usize,
    /// What the server said of what it did not store.
    problems: Vec<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let url = format!("{}/api/v1/write", arguments.url.trim_end_matches('/'));
    let client = http_client::build(&http_client::Config::default())?;
    let mut good = true;
    let mut reports = Vec::new();
    for file in &arguments.files {
        let page = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let survey =
            survey(&page).map_err(|error| anyhow::anyhow!("{}: {error}; nothing of it was sent", file.display()))?;
        let mut report = Report { survey, ..Report::default() };
        import(&client, &url, (file, &page), &mut report).await?;
        good &= report.stored == report.survey.samples;
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

/// Reads all of a page and finds its first mistake.
fn survey(page: &[u8]) -> Result<Survey, String> {
    let (mut parser, mut survey) = (Parser::new(Format::OpenMetrics, page), Survey::default());
    while let Some(entry) = parser.next_entry(|_| None) {
        let Entry::Sample(sample) = entry.map_err(|error| error.to_string())? else { continue };
        let wrong = |reason: String| parser.error_at(sample.key, reason).to_string();
        let labels = parse_labels(sample.key, MetricKind::Unknown).map_err(wrong)?;
        if !labels.iter().any(|(name, value)| name == crate::model::METRIC_NAME && !value.is_empty()) {
            return Err(wrong("the series has no metric name".to_owned()));
        }
        if let Some(exemplar) = &sample.exemplar {
            parse_labels(exemplar.labels, MetricKind::Unknown).map_err(wrong)?;
        }
        let at = sample.at.ok_or_else(|| wrong("the sample has no timestamp".to_owned()))?;
        survey.samples += 1;
        survey.first = Some(survey.first.map_or(at, |first| first.min(at)));
        survey.last = Some(survey.last.map_or(at, |last| last.max(at)));
    }
    Ok(survey)
}

/// Sends a checked page in pieces.
async fn import(
    client: &reqwest::Client,
    url: &str,
    (file, page): (&Path, &[u8]),
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut parser = Parser::new(Format::OpenMetrics, page);
    let (mut body, mut bar) = (Body::default(), Bar::new(file, page.len()));
    while let Some(Ok(entry)) = parser.next_entry(|_| None) {
        match entry {
            Entry::Sample(sample) => {
                body.sample(&sample);
                if body.samples() >= BATCH {
                    let done = sample.key.as_ptr().addr() - page.as_ptr().addr();
                    send(client, url, body.take(), report).await?;
                    bar.show(done);
                }
            }
            Entry::Kind { name, kind } => body.kind(name, kind),
            Entry::Help { name, text } => body.help(name, text),
            Entry::Unit { name, unit } => body.unit(name, unit),
        }
    }
    if body.samples() > 0 {
        send(client, url, body.take(), report).await?;
    }
    bar.end();
    Ok(())
}

/// Sends one request until the server has it or refuses it for good.
async fn send(client: &reqwest::Client, url: &str, body: Vec<u8>, report: &mut Report) -> anyhow::Result<()> {
    let packed = snap::raw::Encoder::new().compress_vec(&body).context("compress samples")?;
    let mut pause = Duration::from_millis(500);
    for attempt in 1.. {
        let request = client
            .post(url)
            .header("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "2.0.0")
            .body(packed.clone());
        let failure = match request.send().await {
            Err(error) => anyhow::Error::from(error).context(format!("send samples to {url}")),
            Ok(answer) => {
                let status = answer.status();
                let written = answer.headers().get("x-prometheus-remote-write-samples-written");
                let written = written.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
                let text = answer.text().await.unwrap_or_default();
                match written {
                    Some(written) if status.is_success() || status.is_client_error() => {
                        report.stored += written;
                        let room = 10_usize.saturating_sub(report.problems.len());
                        report.problems.extend(text.lines().take(room).map(str::to_owned));
                        return Ok(());
                    }
                    _ if status.is_server_error() => anyhow::anyhow!("{url} answered {status}: {}", text.trim()),
                    _ => anyhow::bail!("{url} answered {status}: {}: is it a meshscope server?", text.trim()),
                }
            }
        };
        if attempt >= TRIES {
            return Err(failure);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

fn table(file: &Path, report: &Report) -> String {
    let Report { survey, stored, problems } = report;
    let mut text = format!("{}: {stored} of {} samples stored", file.display(), survey.samples);
    if let (Some(first), Some(last)) = (survey.first, survey.last) {
        text.push_str(&format!(", from {first} to {last}"));
    }
    text.push('\n');
    for problem in problems {
        text.push_str(&format!("  {problem}\n"));
    }
    if problems.iter().any(|problem| problem.contains("out of bounds") || problem.contains("too old")) {
        text.push_str("  raise storage.out_of_order_window of the server to take samples that old\n");
    }
    text
}

fn json(file: &Path, report: &Report) -> serde_json::Value {
    let Report { survey, stored, problems } = report;
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    serde_json::json!({
        "file": file.display().to_string(),
        "samples": survey.samples,
        "stored": stored,
        "from": time(survey.first),
        "to": time(survey.last),
        "problems": problems,
    })
}

/// A progress bar, on a terminal only.
struct Bar {
    name: String,
    total: usize,
    shown: bool,
}

impl Bar {
    fn new(file: &Path, total: usize) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, total: total.max(1), shown: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, done: usize) {
        if self.shown {
            const WIDTH: usize = 40;
            let filled = (done * WIDTH / self.total).min(WIDTH);
            let percent = (done * 100 / self.total).min(100);
            eprint!("\r{} [{}{}] {percent}%", self.name, "#".repeat(filled), " ".repeat(WIDTH - filled));
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&mut self) {
        if self.shown {
            self.show(self.total);
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let check = |page: &str, expect: &str| {
            let error = survey(page.as_bytes()).expect_err(page);
            assert!(error.contains(expect), "{page}: {error}");
        };
        check("a 1 1600000000\nb 2\n# EOF\n", "line 2: the sample has no timestamp: `b 2`");
        check("a 1 1600000000\nb x 1600000000\n# EOF\n", "line 2: invalid value `x`");
        check("a 1 1600000000\n", "data does not end with # EOF");
        check("a{x=\"1\",x=\"2\"} 1 1600000000\n# EOF\n", "line 1: label name `x` is not unique");
        check("{x=\"1\"} 1 1600000000\n# EOF\n", "line 1: the series has no metric name");
    }

    #[test]
    fn a_good_file_is_surveyed_without_being_sent() {
        let survey = survey(b"# TYPE a counter\na_total 1 1600000000\na_total 2 1600000060.5\n# EOF\n").expect("good");
        assert_eq!(survey.samples, 2);
        assert_eq!(survey.first.map(Timestamp::as_millis), Some(1_600_000_000_000));
        assert_eq!(survey.last.map(Timestamp::as_millis), Some(1_600_000_060_500));
    }
}
