//! Puts into words what the evidence says of a subject.
//!
//! In: a [`Subject`] and the [`Evidence`]. Out: an [`Explanation`]: texts and the places that links lead to. Pure: equal
//! evidence gives equal words, in the same order.

use std::sync::Arc;

use super::evidence::{About, Evidence, Example, Hop};
use super::subject::{Place, Subject};
use crate::changes::{Change, Ends, Party};
use crate::graph::{Edge, Node, NodeKind, OutcomeShare, flags};
use crate::model::span::{TraceId, hex};

/// Edges, causes and traces that are named.
const NAMED_MAX: usize = 3;
/// Longest name of a workload or service in a text.
const NAME_CHARS_MAX: usize = 80;
/// From how many requests of the server for each of the client retries are worth a word.
const AMPLIFIED: f64 = 1.1;
/// From which share of the requests on a failing call further down is worth a word.
const DOWNSTREAM_LEAST: f64 = 0.05;

/// What is known of an alert.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Explanation {
    /// Annotations, those that say nothing left out.
    pub(super) texts: Vec<(&'static str, String)>,
    pub(super) places: Places,
}

/// Where links lead.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Places {
    /// Id of the edge that carries most of the failures, or else of the traffic.
    pub(super) edge: Option<Arc<str>>,
    /// Traces worth reading.
    pub(super) traces: Vec<TraceId>,
    /// Whether those failed.
    pub(super) traces_failed: bool,
    /// `service.name` of their spans.
    pub(super) span_service: Option<Arc<str>>,
}

/// See the module.
pub(super) fn explain(subject: &Subject, evidence: &Evidence) -> Explanation {
    let mut hops: Vec<Hop<'_>> = evidence.hops().filter(|hop| subject.means(hop)).collect();
    if hops.is_empty()
        && let Some(either) = &subject.either
    {
        hops = evidence.hops().filter(|hop| either.is_node(hop.source)).collect();
    }
    let failures = Failures::of(&hops);
    hops.sort_by(|a, b| {
        weight(b).partial_cmp(&weight(a)).unwrap_or(std::cmp::Ordering::Equal).then_with(|| a.edge.id.cmp(&b.edge.id))
    });
    let examples = examples(subject, &hops, &evidence.examples);
    let mut texts = Vec::new();
    let mut say = |name, text: Option<String>| texts.extend(text.map(|text| (name, text)));
    say("meshscope_edges", edges(&hops, &failures));
    say("meshscope_flags", causes(&failures));
    say("meshscope_fault", fault(&hops, &failures));
    say("meshscope_retries", retries(&hops, &failures));
    say("meshscope_diagnosis", hops.first().and_then(|hop| hop.edge.disagreement.clone()));
    say("meshscope_downstream", downstream(&hops, evidence));
    say("meshscope_change", change(&hops, evidence));
    say("meshscope_traces", traces(&examples));
    Explanation {
        texts,
        places: Places {
            edge: hops.first().map(|hop| Arc::clone(&hop.edge.id)),
            traces_failed: examples.first().is_some_and(|example| example.failed),
            span_service: examples.iter().find_map(|example| example.span_service.clone()),
            traces: examples.iter().map(|example| example.trace).collect(),
        },
    }
}

impl Subject {
    /// Whether this edge is one of those meant. Of a workload at either end the calls that it answers are meant.
    fn means(&self, hop: &Hop<'_>) -> bool {
        let is_service = |place: &Place| {
            let called = hop.edge.services.iter();
            called.into_iter().any(|(name, namespace)| place.is(name, None, namespace.as_deref()))
                || place.is_node(hop.target)
        };
        self.source.as_ref().is_none_or(|place| place.is_node(hop.source))
            && self.destination.as_ref().is_none_or(|place| place.is_node(hop.target))
            && self.service.as_ref().is_none_or(is_service)
            && self.either.as_ref().is_none_or(|place| place.is_node(hop.target))
    }
}

impl Place {
    fn is_node(&self, node: &Node) -> bool {
        self.is(&node.name, node.app.as_deref(), node.namespace.as_deref())
    }
}

// === how requests failed ===

/// How the failing requests of some edges ended, and how many there were.
#[derive(Default)]
struct Failures<'a> {
    /// By code and flags, most first.
    outcomes: Vec<(&'a OutcomeShare, f64)>,
    /// Those that failed, injected aborts among them.
    total: f64,
    /// Of them injected.
    injected: f64,
    /// Whether some requests reached a workload, which proves that endpoints exist.
    reached: bool,
}

impl<'a> Failures<'a> {
    fn of(hops: &[Hop<'a>]) -> Self {
        let ended = hops.iter().filter_map(|hop| hop.edge.requests.as_ref()).flat_map(|requests| &requests.outcomes);
        let reached = ended.into_iter().any(|o| o.count > 0.0 && !flags::is_never_sent(&o.outcome));
        let mut found = Self { reached, ..Self::default() };
        for outcome in hops.iter().flat_map(|hop| failing(hop.edge)) {
            found.total += outcome.count;
            if flags::is_injected(&outcome.outcome) {
                found.injected += outcome.count;
            }
            match found.outcomes.iter_mut().find(|(known, _)| known.outcome == outcome.outcome) {
                Some((_, count)) => *count += outcome.count,
                None => found.outcomes.push((outcome, outcome.count)),
            }
        }
        found.outcomes.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.outcome.cmp(&b.0.outcome)));
        found
    }

    /// The share of the failures with that flag.
    fn share_of(&self, flag: &str) -> f64 {
        let with = self.outcomes.iter().filter(|(outcome, _)| flags::split(&outcome.outcome.flags).any(|f| f == flag));
        if self.total > 0.0 { with.map(|(_, count)| count).sum::<f64>() / self.total } else { 0.0 }
    }
}

/// The outcomes of an edge that are failures, of requests and of connections.
fn failing(edge: &Edge) -> impl Iterator<Item = &OutcomeShare> {
    let requests = edge.requests.iter().flat_map(|requests| &requests.outcomes);
    let connections = edge.connections.iter().flat_map(|connections| &connections.failures);
    requests.filter(|outcome| outcome.class.is_error()).chain(connections)
}

fn failed(edge: &Edge) -> f64 {
    failing(edge).map(|outcome| outcome.count).sum()
}

/// By failures, then by traffic.
fn weight(hop: &Hop<'_>) -> (f64, f64) {
    (failed(hop.edge), volume(hop.edge))
}

fn volume(edge: &Edge) -> f64 {
    edge.requests.as_ref().map_or(0.0, |requests| requests.count)
        + edge.connections.as_ref().map_or(0.0, |connections| connections.opened)
}

// === texts ===

/// `web.shop → cart.shop: 34 % of 120 requests failed (78 % of the failures), p95 1.2 s; …`
fn edges(hops: &[Hop<'_>], failures: &Failures<'_>) -> Option<String> {
    let all: f64 = hops.iter().map(|hop| volume(hop.edge)).sum();
    let busy: Vec<&Hop<'_>> = hops.iter().filter(|hop| volume(hop.edge) > 0.0).collect();
    let mut told: Vec<String> = busy.iter().take(NAMED_MAX).map(|hop| edge(hop, failures, all)).collect();
    if busy.len() > NAMED_MAX {
        told.push(format!("and {} more", busy.len() - NAMED_MAX));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

fn edge(hop: &Hop<'_>, failures: &Failures<'_>, all: f64) -> String {
    let (failed, whole) = (failed(hop.edge), volume(hop.edge));
    let units = if hop.edge.requests.is_some() { "requests" } else { "connections" };
    let ends = format!("{} → {}", name_of(hop.source), name_of(hop.target));
    let share = match failures.total > 0.0 {
        true => format!("{} of the failures", percent(failed / failures.total)),
        false => format!("{} of the traffic", percent(whole / all.max(1.0))),
    };
    let fails = match failed > 0.0 {
        true => percent(failed / whole.max(failed)),
        false => "none".to_owned(),
    };
    let latency = hop.edge.requests.as_ref().and_then(|requests| requests.latency.p95_ms);
    let latency = latency.map(|p95| format!(", p95 {}", milliseconds(p95))).unwrap_or_default();
    format!("{ends}: {fails} of {} {units} failed ({share}){latency}", count(whole))
}

/// `no healthy upstream: all endpoints ejected (UH) 83 % of the failures; 500 from the application itself 17 % …`
fn causes(failures: &Failures<'_>) -> Option<String> {
    let mut by_cause: Vec<(String, f64)> = Vec::new();
    for (outcome, count) in &failures.outcomes {
        let text = cause(outcome, failures);
        match by_cause.iter_mut().find(|(known, _)| *known == text) {
            Some((_, sum)) => *sum += count,
            None => by_cause.push((text, *count)),
        }
    }
    by_cause.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let told = by_cause.iter().take(NAMED_MAX);
    let told: Vec<String> =
        told.map(|(text, count)| format!("{text} {} of the failures", percent(count / failures.total))).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn cause(share: &OutcomeShare, failures: &Failures<'_>) -> String {
    let outcome = &share.outcome;
    let answer = match (&*outcome.grpc_status, &*outcome.code) {
        ("" | "0", "" | "0" | "-") => "no response".to_owned(),
        ("" | "0", code) => code.to_owned(),
        (status, _) => format!("gRPC status {status}"),
    };
    let flags: Vec<&str> = flags::split(&outcome.flags).collect();
    if flags.is_empty() || matches!(flags.as_slice(), ["failure"]) {
        return format!("{answer} from the called workload itself (no flag)");
    }
    if flags == ["UH"] {
        // With none that could answer nothing would have been answered: then they are ejected.
        let why = if failures.reached { "all endpoints ejected" } else { "no endpoint is ready, or all are ejected" };
        return format!("no healthy upstream: {why} (UH)");
    }
    format!("{} ({})", flags::words(&outcome.flags).unwrap_or_default(), flags.join(","))
}

/// Whether what fails, fails on purpose.
fn fault(hops: &[Hop<'_>], failures: &Failures<'_>) -> Option<String> {
    let requests: f64 = hops.iter().filter_map(|hop| hop.edge.requests.as_ref()).map(|requests| requests.count).sum();
    let injected: f64 =
        hops.iter().filter_map(|hop| hop.edge.requests.as_ref()).map(|requests| requests.injected).sum();
    let delayed = injected - failures.injected;
    let mut told = Vec::new();
    if failures.injected > 0.0 {
        let share = failures.injected / failures.total;
        let whole = if share > 0.9 { "an injected fault explains it" } else { "an injected fault explains a part" };
        told.push(format!("{whole}: {} of the failures are injected (FI, DI)", percent(share)));
    } else if failures.total > 0.0 {
        told.push("no injected fault among the failures".to_owned());
    }
    if delayed > 0.0 {
        told.push(format!("{} of the requests are delayed on purpose (DI)", percent(delayed / requests.max(delayed))));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// Retries that multiply the load, that are used up, and calls that ran out of time.
fn retries(hops: &[Hop<'_>], failures: &Failures<'_>) -> Option<String> {
    let amplified = hops.iter().filter_map(|hop| Some((hop, hop.edge.retry_amplification?)));
    let most = amplified.filter(|(_, ratio)| *ratio >= AMPLIFIED).max_by(|a, b| a.1.total_cmp(&b.1));
    let mut told = Vec::new();
    if let Some((hop, ratio)) = most {
        let (source, target) = (name_of(hop.source), name_of(hop.target));
        told.push(format!(
            "{target} saw {ratio:.1} requests for each one that {source} made: retries multiply the load"
        ));
    }
    for (flag, words) in [("URX", "all retries used up (URX)"), ("UT", "timed out (UT)"), ("DT", "timed out (DT)")] {
        let share = failures.share_of(flag);
        if share > 0.0 {
            told.push(format!("{words} in {} of the failures", percent(share)));
        }
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// Failing calls that the called workloads make themselves: where to look next.
fn downstream(hops: &[Hop<'_>], evidence: &Evidence) -> Option<String> {
    let fails =
        |hop: &Hop<'_>| failed(hop.edge) > 0.0 && failed(hop.edge) / volume(hop.edge).max(1.0) >= DOWNSTREAM_LEAST;
    let called: std::collections::BTreeSet<&str> = hops.iter().map(|hop| &*hop.target.id).collect();
    let mine: std::collections::BTreeSet<&str> = hops.iter().map(|hop| &*hop.edge.id).collect();
    let further = |hop: &Hop<'_>| called.contains(&*hop.source.id) && !mine.contains(&*hop.edge.id);
    let mut found: Vec<Hop<'_>> = evidence.hops().filter(|hop| further(hop) && fails(hop)).collect();
    found.sort_by(|a, b| failed(b.edge).total_cmp(&failed(a.edge)).then_with(|| a.edge.id.cmp(&b.edge.id)));
    let told: Vec<String> = (found.iter().take(NAMED_MAX))
        .map(|hop| {
            let (failed, whole) = (failed(hop.edge), volume(hop.edge));
            let ends = format!("{} → {}", name_of(hop.source), name_of(hop.target));
            format!("{ends}: {} of {} failed", percent(failed / whole.max(failed)), count(whole))
        })
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// The change of what is declared that governs one of the edges: the one that is surest to have made things worse, else
/// the newest. `DestinationRule shop/cart, generation 7 changed 2 min ago (…): spec.host a → b; 5xx on … rose …`
fn change(hops: &[Hop<'_>], evidence: &Evidence) -> Option<String> {
    let concerns = |change: &&Arc<Change>| hops.iter().any(|hop| change.governs.covers(&ends(hop)));
    let found: Vec<&Arc<Change>> = evidence.changes.iter().filter(concerns).collect();
    let worse = |change: &Change| {
        let effects = change.effects.iter().flatten().filter(|effect| effect.is_worse());
        effects.map(|effect| effect.probability).fold(0.0, f64::max)
    };
    let told = found.iter().max_by(|one, other| worse(one).total_cmp(&worse(other)).then(one.at.cmp(&other.at)))?;
    let ago = milliseconds(evidence.to.since(told.at).as_millis() as f64);
    let mut text = format!("{} {} {ago} ago ({})", told.what(), told.action, told.at);
    let effect = told.effects.iter().flatten().find(|effect| effect.is_worse()).map(ToString::to_string);
    let details: Vec<String> =
        [Some(told.summary()), effect].into_iter().flatten().filter(|one| !one.is_empty()).collect();
    if !details.is_empty() {
        text = format!("{text}: {}", details.join("; "));
    }
    match found.len() - 1 {
        0 => Some(text),
        1 => Some(format!("{text}. One more change of the last hour governs these calls")),
        more => Some(format!("{text}. {more} more changes of the last hour govern these calls")),
    }
}

fn ends<'a>(hop: &Hop<'a>) -> Ends<'a> {
    let party = |node: &'a Node| Party {
        name: Some(&node.name),
        app: node.app.as_deref(),
        version: node.version.as_deref(),
        namespace: node.namespace.as_deref(),
    };
    let services = hop.edge.services.iter().map(|(name, namespace)| (&**name, namespace.as_deref())).collect();
    Ends { source: party(hop.source), destination: party(hop.target), services }
}

// === traces ===

fn examples<'a>(subject: &Subject, hops: &[Hop<'_>], all: &'a [Example]) -> Vec<&'a Example> {
    let mut found: Vec<&Example> = Vec::new();
    // They are sorted: failed ones first. Once one failed, none that did not is shown beside it.
    for example in all.iter().filter(|example| concerns(example, subject, hops)) {
        let is_new = found.iter().all(|known| known.trace != example.trace);
        if is_new && found.first().is_none_or(|first| first.failed == example.failed) {
            found.push(example);
        }
        if found.len() == NAMED_MAX {
            break;
        }
    }
    found
}

fn concerns(example: &Example, subject: &Subject, hops: &[Hop<'_>]) -> bool {
    let (workload, called) = match &example.about {
        About::Series(series) => return series_concerns(series, subject),
        About::Span { workload, called } => (workload, called),
    };
    let is = |node: &Node| {
        let of = |name: &Option<Arc<str>>| {
            let same = |name: &Arc<str>| **name == *node.name || Some(&**name) == node.app.as_deref();
            name.as_ref().is_some_and(same)
        };
        let placed = workload.namespace.is_none() || node.namespace.is_none() || workload.namespace == node.namespace;
        placed && (of(&workload.name) || of(&workload.app))
    };
    hops.iter().any(|hop| {
        let calls_it = called.as_ref().is_some_and(|called| {
            **called == *hop.target.name || hop.edge.services.iter().any(|(name, _)| name == called)
        });
        is(hop.target) || (is(hop.source) && calls_it)
    })
}

/// Whether an exemplar's series is about the same place.
fn series_concerns(series: &Subject, subject: &Subject) -> bool {
    let pairs = [
        (&subject.source, &series.source),
        (&subject.destination, &series.destination),
        (&subject.service, &series.service),
        (&subject.either, &series.either),
    ];
    let is = |wanted: &Place, given: &Place| {
        given.name.as_deref().is_some_and(|name| wanted.is(name, None, given.namespace.as_deref()))
    };
    let mut shared = 0;
    for (wanted, given) in pairs {
        match (wanted, given) {
            (Some(wanted), Some(given)) if is(wanted, given) => shared += 1,
            (Some(_), Some(_)) => return false,
            _ => {}
        }
    }
    shared > 0
}

fn traces(examples: &[&Example]) -> Option<String> {
    let ids: Vec<String> = examples.iter().map(|example| hex(&example.trace)).collect();
    (!ids.is_empty()).then(|| ids.join(", "))
}

// === numbers and names ===

fn name_of(node: &Node) -> String {
    let name: String = node.name.chars().take(NAME_CHARS_MAX).collect();
    match (&node.namespace, node.kind) {
        (_, NodeKind::Unknown) => "a caller outside the mesh".to_owned(),
        (Some(namespace), _) => format!("{name}.{namespace}"),
        (None, _) => name,
    }
}

/// `83 %`, `0.4 %`, `<0.1 %`.
fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent >= 9.95 => format!("{percent:.0} %"),
        percent if percent >= 0.05 => format!("{percent:.1} %"),
        percent if percent > 0.0 => "<0.1 %".to_owned(),
        _ => "0 %".to_owned(),
    }
}

/// Increments are fractions where a scrape interval crosses a minute: people want whole requests.
fn count(value: f64) -> String {
    if value < 1.0 { "<1".to_owned() } else { format!("{value:.0}") }
}

fn milliseconds(value: f64) -> String {
    match value {
        value if value < 1_000.0 => format!("{value:.0} ms"),
        value if value < 120_000.0 => format!("{:.1} s", value / 1_000.0),
        value => format!("{:.0} min", value / 60_000.0),
    }
}
