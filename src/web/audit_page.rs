//! The audit: the scorecard with its history, and the findings with their evidence and mends.
//!
//! In: the latest audit, the series of its scores, what to show. Out: HTML that is whole without scripts.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, given, link};
use super::findings::{self, Row};
use super::frame::{Frame, render};
use super::{State, error, format, range};
use crate::audit::{Latest, Score};
use crate::mesh::Snapshot;
use crate::model::{Finding, Severity, Timestamp};
use crate::promql::{self, QueryOptions, Value};

/// Findings of one page.
const PAGE_SIZE: usize = 50;
/// Points of a history.
const POINTS: u32 = 60;
/// The size of a history's drawing.
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 28.0;
/// How long the histories may take: the page is worth more without them than late.
const PATIENCE: Duration = Duration::from_secs(3);
/// Codes that the summary names.
const CODES_SHOWN: usize = 12;
/// Namespaces that the table names.
const NAMESPACES_SHOWN: usize = 40;
const RANGES: [&str; 4] = ["24h", "7d", "30d", "90d"];
const SEVERITIES: [Severity; 3] = [Severity::Error, Severity::Warning, Severity::Info];

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    severity: Option<String>,
    namespace: Option<String>,
    code: Option<String>,
    q: Option<String>,
    show: Option<String>,
    range: Option<String>,
    page: Option<String>,
}

/// Which findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Open,
    Suppressed,
    All,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    /// Why there is no audit; none: there is one.
    without: Option<&'static str>,
    about: String,
    at: (String, String),
    no_traffic: Option<String>,
    gaps: Vec<String>,
    tiles: Vec<(&'static str, &'static str, usize, String)>,
    ranges: Vec<(&'static str, String, bool)>,
    place: String,
    /// Checklist and pitfalls: title, what 100 stands for, items.
    cards: Vec<(&'static str, &'static str, Vec<Item>)>,
    exports: [(&'static str, String); 3],
    namespaces: Vec<Namespace>,
    namespaces_left: usize,
    codes: Vec<(&'static str, &'static str, usize, String)>,
    form: Form,
    total: usize,
    suppressed: usize,
    rows: Vec<Row>,
    shown: String,
    previous: Option<String>,
    next: Option<String>,
}

/// The texts of the form, and its choices.
#[derive(Default)]
struct Form {
    text: String,
    code: String,
    range: String,
    severities: Vec<(&'static str, bool)>,
    namespaces: Vec<(String, bool)>,
    shows: Vec<(&'static str, &'static str, bool)>,
    is_filtered: bool,
}

/// One item of the scorecard.
struct Item {
    title: &'static str,
    score: Option<u8>,
    class: &'static str,
    evidence: Vec<String>,
    next: String,
    next_href: Option<String>,
    trend: Option<Trend>,
    explore: String,
}

/// A score over time: lines of a drawing, and what they say.
struct Trend {
    lines: Vec<String>,
    words: String,
    class: &'static str,
}

/// One namespace in the table.
struct Namespace {
    name: String,
    href: String,
    mean: Option<u8>,
    class: &'static str,
    worst: String,
    counts: [usize; 3],
}

impl Address {
    /// The address of the page with one parameter changed.
    fn with(&self, name: &str, value: &str) -> String {
        let of = |own: &str, kept: &Option<String>| match own == name {
            true => value.to_owned(),
            false => kept.clone().unwrap_or_default(),
        };
        // Another filter begins at the first page.
        let page = if name == "page" { value } else { "" };
        let pairs = [
            ("severity", of("severity", &self.severity)),
            ("namespace", of("namespace", &self.namespace)),
            ("code", of("code", &self.code)),
            ("q", of("q", &self.q)),
            ("show", of("show", &self.show)),
            ("range", of("range", &self.range)),
            ("page", page.to_owned()),
        ];
        link("audit", &pairs.each_ref().map(|(name, value)| (*name, value.as_str())))
    }
}

/// What the address asks for, read.
struct Wanted {
    least: Option<Severity>,
    show: Show,
    page: usize,
    range: range::Range,
}

fn wanted(address: &Address, now: Timestamp) -> Result<Wanted, String> {
    let least = match given(address.severity.as_deref()) {
        None => None,
        Some(text) => Some(
            SEVERITIES
                .into_iter()
                .find(|one| one.as_str() == text)
                .ok_or(format!("severity: {text:?} is none; they are error, warning, info"))?,
        ),
    };
    let show = match given(address.show.as_deref()).unwrap_or("open") {
        "open" => Show::Open,
        "suppressed" => Show::Suppressed,
        "all" => Show::All,
        other => return Err(format!("show: {other:?} is none of open, suppressed, all")),
    };
    let page = given(address.page.as_deref()).unwrap_or("1");
    let page = page.parse().ok().filter(|page| (1..=100_000).contains(page));
    let page = page.ok_or("page: use a whole number from 1".to_owned())?;
    let range = range::Query { range: address.range.clone(), at: None }.read("7d", now)?;
    Ok(Wanted { least, show, page, range })
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(address): Asked<Address>) -> Response {
    let now = state.clock.now();
    let wanted = match wanted(&address, now) {
        Ok(wanted) => wanted,
        Err(reason) => return error::bad_request(&state, "audit", reason),
    };
    let frame = Frame::new(&state, "audit");
    let Some(latest) = state.audit.latest() else {
        let without = if state.audit.is_on() { "waiting" } else { "off" };
        return render(&Page { without: Some(without), ..Page::empty(frame) });
    };
    let place = given(address.namespace.as_deref()).map(str::to_owned);
    let known = latest.scorecard.scores.iter().any(|one| one.namespace == place);
    let (history, warning) = match known {
        true => history(&state, place.as_deref(), &wanted.range).await,
        false => (History::new(), None),
    };
    let snapshot = state.declared.current();
    render(&page_of(frame.warn(warning), &latest, &snapshot, (&address, &wanted), &history))
}

/// Scores over time, by item.
type History = HashMap<String, Vec<(Timestamp, f64)>>;

async fn history(state: &State, namespace: Option<&str>, range: &range::Range) -> (History, Option<String>) {
    let namespace = serde_json::Value::from(namespace.unwrap_or_default());
    let query = format!("meshscope_audit_score{{namespace={namespace}}}");
    let step = (range.to.since(range.from) / POINTS).max(Duration::from_secs(60));
    let read = async {
        let expr = promql::parse(&query).map_err(|error| error.to_string())?;
        let options = QueryOptions {
            timeout: Some(PATIENCE),
            // Between two points the last score holds: it is written each minute, and history is thinned.
            lookback_delta: Some(step.max(Duration::from_secs(300))),
            ..QueryOptions::default()
        };
        let asked = state.engine.range(&*state.series, &expr, range.from, range.to, step, &options);
        asked.await.map_err(|error| error.to_string())
    };
    match read.await {
        Ok(answer) => {
            let Value::Matrix(series) = answer.value else { return (History::new(), None) };
            let points = series.into_iter().map(|one| {
                let points = one.times.iter().zip(&one.values).filter(|(_, value)| value.is_finite());
                (one.labels.value("item").to_owned(), points.map(|(at, value)| (*at, *value)).collect())
            });
            (points.collect(), None)
        }
        Err(reason) => (History::new(), Some(format!("The scores over time are not shown: {reason}."))),
    }
}

impl Page {
    fn empty(frame: Frame) -> Self {
        Self {
            frame,
            without: None,
            about: String::new(),
            at: Default::default(),
            no_traffic: None,
            gaps: Vec::new(),
            tiles: Vec::new(),
            ranges: Vec::new(),
            place: String::new(),
            cards: Vec::new(),
            exports: Default::default(),
            namespaces: Vec::new(),
            namespaces_left: 0,
            codes: Vec::new(),
            form: Form::default(),
            total: 0,
            suppressed: 0,
            rows: Vec::new(),
            shown: String::new(),
            previous: None,
            next: None,
        }
    }
}

fn page_of(
    frame: Frame,
    latest: &Latest,
    snapshot: &Snapshot,
    (address, wanted): (&Address, &Wanted),
    history: &History,
) -> Page {
    let now = wanted.range.now;
    let place = given(address.namespace.as_deref());
    let chosen = chosen(latest, address, wanted);
    let open = || latest.report.findings.iter().filter(|one| one.suppressed.is_none());
    let here = |one: &&Finding| place.is_none_or(|place| one.namespace() == place);
    let suppressed = latest.report.findings.iter().filter(here).filter(|one| one.suppressed.is_some()).count();
    let tile = |name: &'static str, severity: Severity| {
        let count = open().filter(here).filter(|one| one.severity == severity).count();
        (name, findings::class(severity), count, address.with("severity", severity.as_str()))
    };
    let scores: Vec<&Score> = latest.scorecard.scores.iter().filter(|one| one.namespace.as_deref() == place).collect();
    let items = |is_pitfall: bool| -> Vec<Item> {
        let own = scores.iter().filter(|one| one.item.is_pitfall == is_pitfall);
        own.map(|one| item(one, history.get(one.item.name), &wanted.range)).collect()
    };
    let pages = chosen.len().div_ceil(PAGE_SIZE).max(1);
    let at = wanted.page.min(pages);
    let first = (at - 1) * PAGE_SIZE;
    let rows: Vec<Row> = chosen.iter().skip(first).take(PAGE_SIZE).map(|one| findings::row(one, snapshot)).collect();
    let export = |page: &str, format: &str| link(page, &[("format", format), ("namespace", place.unwrap_or_default())]);
    let (namespaces, namespaces_left) = namespaces(latest, address);
    Page {
        about: about(latest),
        at: (format::ago(Some(latest.at), now), latest.at.to_string()),
        no_traffic: latest.no_traffic.as_deref().map(|reason| format::visible(reason, 300)),
        gaps: latest.scorecard.gaps.iter().take(10).map(|gap| format::visible(gap, 300)).collect(),
        tiles: vec![
            tile("Errors", Severity::Error),
            tile("Warnings", Severity::Warning),
            tile("Notes", Severity::Info),
            ("Suppressed", "idle", suppressed, address.with("show", "suppressed")),
        ],
        ranges: RANGES.map(|text| (text, address.with("range", text), text == wanted.range.text)).into(),
        place: place.map(|place| format::visible(place, 100)).unwrap_or_default(),
        cards: vec![("Checklist", "100 is done", items(false)), ("Pitfalls", "100 is avoided", items(true))],
        exports: [
            ("Markdown", export("api/mesh/v1/audit/scorecard", "markdown")),
            ("JSON", export("api/mesh/v1/audit/scorecard", "json")),
            ("Findings as JSON", link("api/mesh/v1/audit", &[("namespace", place.unwrap_or_default())])),
        ],
        namespaces,
        namespaces_left,
        codes: codes(&chosen, address),
        form: form(latest, address, wanted),
        total: chosen.len(),
        suppressed,
        shown: match rows.is_empty() {
            true => String::new(),
            false => format!("{} to {} of {}", first + 1, first + rows.len(), chosen.len()),
        },
        previous: (at > 1).then(|| address.with("page", &(at - 1).to_string())),
        next: (at < pages).then(|| address.with("page", &(at + 1).to_string())),
        rows,
        ..Page::empty(frame)
    }
}

/// `1,234 objects, an hour of traffic, in 0.4 s`.
fn about(latest: &Latest) -> String {
    let traffic = match latest.scorecard.window {
        Some(window) => format!("the traffic of {}", format::span(window)),
        None => "no traffic".to_owned(),
    };
    format!("{} objects against {traffic}, in {:.1} s", latest.report.objects, latest.took.as_secs_f64())
}

/// The findings that the address asks for, the gravest first.
fn chosen<'a>(latest: &'a Latest, address: &Address, wanted: &Wanted) -> Vec<&'a Finding> {
    let (place, code) = (given(address.namespace.as_deref()), given(address.code.as_deref()));
    let text = given(address.q.as_deref()).unwrap_or_default().to_lowercase();
    let holds = |one: &Finding| {
        let mut texts = [one.code, &one.subject, &one.message, &one.field].into_iter();
        text.is_empty()
            || texts.any(|field| field.to_lowercase().contains(&text))
            || one.file.as_deref().is_some_and(|file| file.to_lowercase().contains(&text))
    };
    let fits = |one: &&Finding| {
        let is_shown = match wanted.show {
            Show::Open => one.suppressed.is_none(),
            Show::Suppressed => one.suppressed.is_some(),
            Show::All => true,
        };
        let coded = |code: &str| match code.strip_suffix('*') {
            Some(start) => one.code.starts_with(start),
            None => one.code.eq_ignore_ascii_case(code),
        };
        is_shown
            && wanted.least.is_none_or(|least| one.severity >= least)
            && place.is_none_or(|place| one.namespace() == place)
            && code.is_none_or(coded)
            && holds(one)
    };
    let mut all: Vec<&Finding> = latest.report.findings.iter().filter(fits).collect();
    // Findings of one gravity stay in the order of files and lines.
    all.sort_by_key(|one| std::cmp::Reverse(one.severity));
    all
}

fn score_class(score: Option<u8>) -> &'static str {
    match score {
        None => "idle",
        Some(80..) => "healthy",
        Some(50..) => "degraded",
        Some(_) => "failure",
    }
}

fn item(one: &Score, points: Option<&Vec<(Timestamp, f64)>>, range: &range::Range) -> Item {
    let namespace = serde_json::Value::from(one.namespace.as_deref().unwrap_or_default());
    let code = one.next.split(' ').next().filter(|code| !findings::title(code).is_empty());
    Item {
        title: one.item.title,
        score: one.score,
        class: score_class(one.score),
        evidence: one.evidence.iter().take(8).map(|line| format::visible(line, 300)).collect(),
        next: format::visible(&one.next, 400),
        next_href: code
            .map(|code| link("audit", &[("code", code), ("namespace", one.namespace.as_deref().unwrap_or_default())])),
        trend: points.and_then(|points| trend(points, range)),
        explore: link(
            "explore",
            &[
                ("query", &format!("meshscope_audit_score{{item=\"{}\",namespace={namespace}}}", one.item.name)),
                ("range", &range.text),
            ],
        ),
    }
}

/// The drawing of a score over time; none of less than two points.
fn trend(points: &[(Timestamp, f64)], range: &range::Range) -> Option<Trend> {
    let (first, last) = (points.first()?, points.last()?);
    let length = range.to.since(range.from).as_secs_f64();
    if points.len() < 2 || length <= 0.0 {
        return None;
    }
    let gap = length / f64::from(POINTS) * 3.0;
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut before: Option<Timestamp> = None;
    for (at, value) in points {
        if before.is_none_or(|before| at.since(before).as_secs_f64() > gap) {
            lines.push(Vec::new());
        }
        before = Some(*at);
        let x = (at.since(range.from).as_secs_f64() / length * WIDTH).clamp(0.0, WIDTH);
        let y = HEIGHT - 2.0 - value.clamp(0.0, 100.0) / 100.0 * (HEIGHT - 4.0);
        if let Some(line) = lines.last_mut() {
            line.push(format!("{x:.1},{y:.1}"));
        }
    }
    let moved = last.1 - first.1;
    let since = format::span(Duration::from_secs(range.now.since(first.0.min(range.now)).as_secs().max(1)));
    let (words, class) = match moved {
        moved if moved >= 0.5 => (format!("up {moved:.0} in {since}"), "healthy"),
        moved if moved <= -0.5 => (format!("down {:.0} in {since}", -moved), "failure"),
        _ => (format!("as {since} ago"), "idle"),
    };
    Some(Trend { lines: lines.into_iter().map(|line| line.join(" ")).collect(), words, class })
}

/// Namespaces, those with the gravest findings first, and how many are not named.
fn namespaces(latest: &Latest, address: &Address) -> (Vec<Namespace>, usize) {
    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for one in latest.report.findings.iter().filter(|one| one.suppressed.is_none()) {
        let at = SEVERITIES.iter().position(|severity| *severity == one.severity).unwrap_or(2);
        counts.entry(one.namespace()).or_default()[at] += 1;
    }
    let mut scores: BTreeMap<&str, Vec<&Score>> = BTreeMap::new();
    for one in &latest.scorecard.scores {
        if let Some(namespace) = &one.namespace {
            scores.entry(namespace).or_default().push(one);
        }
    }
    let mut all: Vec<Namespace> = scores
        .into_iter()
        .map(|(name, scores)| {
            let known: Vec<u64> = scores.iter().filter_map(|one| one.score.map(u64::from)).collect();
            let mean = (!known.is_empty()).then(|| known.iter().sum::<u64>() / known.len() as u64);
            let mean = mean.and_then(|mean| u8::try_from(mean).ok());
            let worst = scores.iter().filter(|one| one.score.is_some()).min_by_key(|one| one.score);
            Namespace {
                name: format::visible(name, 100),
                href: address.with("namespace", name),
                mean,
                class: score_class(mean),
                worst: worst
                    .map_or(String::new(), |one| format!("{}: {}", one.item.title, one.score.unwrap_or_default())),
                counts: counts.get(name).copied().unwrap_or_default(),
            }
        })
        .collect();
    all.sort_by(|a, b| b.counts.cmp(&a.counts).then_with(|| a.mean.cmp(&b.mean)).then_with(|| a.name.cmp(&b.name)));
    let left = all.len().saturating_sub(NAMESPACES_SHOWN);
    all.truncate(NAMESPACES_SHOWN);
    (all, left)
}

/// The codes of the chosen findings, the most frequent first.
fn codes(chosen: &[&Finding], address: &Address) -> Vec<(&'static str, &'static str, usize, String)> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    chosen.iter().for_each(|one| *counts.entry(one.code).or_default() += 1);
    let mut all: Vec<(&'static str, usize)> = counts.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let shown = all.into_iter().take(CODES_SHOWN);
    shown.map(|(code, count)| (code, findings::title(code), count, address.with("code", code))).collect()
}

fn form(latest: &Latest, address: &Address, wanted: &Wanted) -> Form {
    let place = given(address.namespace.as_deref());
    let of_findings = latest.report.findings.iter().map(|one| one.namespace());
    let of_scores = latest.scorecard.scores.iter().filter_map(|one| one.namespace.as_deref());
    let names: BTreeSet<&str> = of_findings.chain(of_scores).chain(place).filter(|name| !name.is_empty()).collect();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Form {
        text: text(&address.q),
        code: text(&address.code),
        range: text(&address.range),
        severities: SEVERITIES.map(|one| (one.as_str(), wanted.least == Some(one))).into(),
        namespaces: names.into_iter().take(1_000).map(|name| (name.to_owned(), place == Some(name))).collect(),
        shows: vec![
            ("open", "open", wanted.show == Show::Open),
            ("suppressed", "suppressed, with reasons", wanted.show == Show::Suppressed),
            ("all", "all", wanted.show == Show::All),
        ],
        is_filtered: [&address.severity, &address.namespace, &address.code, &address.q, &address.show]
            .into_iter()
            .any(|one| given(one.as_deref()).is_some()),
    }
}
