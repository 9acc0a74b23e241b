//! The story of one alert as pages tell it: where it is, since when, who was told with what result, what keeps it quiet.
//!
//! In: alerts of the board, what the dispatcher and the history know of them. Out: [`Row`]s of bounded texts.

use std::collections::HashMap;

use super::super::ask::link;
use super::super::{State, format};
use crate::context::{ALERT_URL, ANNOTATIONS, OPT_IN};
use crate::model::{Alert, AlertState, Labels, Timestamp};
use crate::notify::{Attempt, Path, Silence, UnderWay};
use crate::persist::BoardAlert;

/// Labels that say where an alert is, the most telling first.
const TELLING: [&str; 12] = [
    "source_workload",
    "destination_workload",
    "destination_service_name",
    "response_code",
    "response_flags",
    "severity",
    "workload",
    "service",
    "namespace",
    "destination_workload_namespace",
    "pod",
    "instance",
];
/// Labels that a row shows at once; the others unfold.
const TELLING_MAX: usize = 5;
/// Labels that unfold; the page of the alert has all.
const OTHERS_MAX: usize = 60;
/// Longest value of a label that is shown.
const VALUE_CHARS: usize = 300;
/// Longest text of an annotation that is shown.
const TEXT_CHARS: usize = 600;
/// Longest expression that is shown and drawn.
const QUERY_CHARS: usize = 4000;
/// Receivers of one alert that are named.
const TOLD_MAX: usize = 8;

/// One alert as a row.
pub(in crate::web) struct Row {
    pub(in crate::web) name: String,
    pub(in crate::web) href: String,
    pub(in crate::web) state: &'static str,
    pub(in crate::web) class: &'static str,
    pub(in crate::web) summary: String,
    pub(in crate::web) description: String,
    /// The labels that say where it is, a few.
    pub(in crate::web) telling: Pairs,
    /// The other labels.
    pub(in crate::web) others: Pairs,
    /// `None` when nobody told it.
    pub(in crate::web) value: Option<String>,
    /// The value when it entered its state, when that is another.
    pub(in crate::web) value_then: Option<String>,
    pub(in crate::web) since: String,
    pub(in crate::web) since_shown: String,
    pub(in crate::web) since_exact: String,
    /// How long it must still wait before it fires.
    pub(in crate::web) fires: Option<String>,
    pub(in crate::web) rule: String,
    pub(in crate::web) rule_href: Option<String>,
    pub(in crate::web) query: String,
    pub(in crate::web) explore: Option<String>,
    pub(in crate::web) runbook: Option<Runbook>,
    pub(in crate::web) silence: String,
    pub(in crate::web) quiet: Vec<Quiet>,
    pub(in crate::web) told: Vec<Told>,
    /// What the mesh says of it.
    pub(in crate::web) context: Vec<Said>,
}

/// One thing that the mesh says of an alert.
pub(in crate::web) struct Said {
    pub(in crate::web) what: String,
    pub(in crate::web) text: String,
    /// `None` when it is no address.
    pub(in crate::web) href: Option<String>,
}

/// Names and values of labels.
pub(in crate::web) type Pairs = Vec<(String, String)>;

/// Where to read what to do.
pub(in crate::web) struct Runbook {
    pub(in crate::web) text: String,
    /// `None` when it is not an address of the web.
    pub(in crate::web) href: Option<String>,
}

/// What keeps an alert quiet, and why.
pub(in crate::web) struct Quiet {
    pub(in crate::web) what: &'static str,
    pub(in crate::web) why: String,
    pub(in crate::web) href: Option<String>,
}

/// What one receiver knows.
pub(in crate::web) struct Told {
    pub(in crate::web) receiver: String,
    pub(in crate::web) class: &'static str,
    pub(in crate::web) text: String,
    pub(in crate::web) at: Option<Timestamp>,
    pub(in crate::web) error: Option<String>,
}

/// What is known of the alerts of one page.
pub(in crate::web) struct Stories {
    now: Timestamp,
    /// By fingerprint as told.
    paths: HashMap<u64, Vec<Path>>,
    silences: HashMap<String, Silence>,
    /// Names and addresses of alerts that mute others, by fingerprint as told.
    muting: HashMap<u64, (String, String)>,
    values: HashMap<(Timestamp, u64), f64>,
    attempts: Vec<Attempt>,
    under_way: Vec<UnderWay>,
    /// When named times begin or stop to hold.
    times: HashMap<String, Option<Timestamp>>,
    /// What the mesh says, by fingerprint as told.
    context: HashMap<u64, Labels>,
}

impl Stories {
    /// Nothing but the alerts themselves.
    pub(in crate::web) fn none(now: Timestamp) -> Self {
        Self {
            now,
            paths: HashMap::new(),
            silences: HashMap::new(),
            muting: HashMap::new(),
            values: HashMap::new(),
            attempts: Vec::new(),
            under_way: Vec::new(),
            times: HashMap::new(),
            context: HashMap::new(),
        }
    }

    /// Asks what is known of `shown`, which are some of `all`.
    pub(in crate::web) async fn read(state: &State, shown: &[&BoardAlert], all: &[BoardAlert], now: Timestamp) -> Self {
        let paths = state.notify.explain(shown.iter().map(|alert| &alert.told));
        let paths: HashMap<u64, Vec<Path>> = shown.iter().map(|alert| alert.told_id).zip(paths).collect();
        let held = state.notify.silences();
        let silences = shown.iter().flat_map(|alert| &alert.silenced_by);
        let silences = silences.filter_map(|id| Some((id.clone(), held.get(id)?))).collect();
        let wanted: std::collections::HashSet<u64> =
            shown.iter().flat_map(|a| a.inhibited_by.iter().copied()).collect();
        let named = |alert: &BoardAlert| (alert.told_id, (alert.told.value("alertname").to_owned(), href(alert.id)));
        let muting = all.iter().filter(|alert| wanted.contains(&alert.told_id)).map(named).collect();
        let plan = state.notify.plan();
        let names = paths.values().flatten().flat_map(|path| &path.muted_by);
        let times = names.map(|name| (name.clone(), plan.time_changes(name, now))).collect();
        Self {
            now,
            paths,
            silences,
            muting,
            times,
            values: state.archive.values_at_start(shown).await,
            attempts: state.notify.attempts(),
            under_way: state.notify.under_way(),
            context: context(state, shown, now).await,
        }
    }

    /// The row of one alert.
    pub(in crate::web) fn row(&self, one: &BoardAlert) -> Row {
        let alert = &one.alert;
        let (telling, others) = told_apart(&one.told);
        let said = |name: &str| format::visible(alert.annotations.value(name), TEXT_CHARS);
        let value_then = self.values.get(&(one.since(), one.id)).copied();
        let rule = one.rule.as_ref();
        let query = rule.map(|rule| rule.rule().query.clone()).unwrap_or_default();
        let fires = rule.and_then(|rule| rule.rule().alerting.as_ref()).filter(|_| alert.state == AlertState::Pending);
        Row {
            name: format::visible(one.told.value("alertname"), VALUE_CHARS),
            href: href(one.id),
            state: alert.state.as_str(),
            class: class_of(alert.state),
            summary: said("summary"),
            description: said("description"),
            telling,
            others,
            // Others post no value.
            value: rule.map(|_| format::count(alert.value)),
            value_then: value_then.map(format::count).filter(|then| *then != format::count(alert.value)),
            since: format::ago(Some(one.since()), self.now),
            since_shown: format::moment(one.since()),
            since_exact: one.since().to_string(),
            fires: fires.map(|alerting| format::ahead(alert.active_at + alerting.hold, self.now)),
            rule: match rule {
                Some(rule) => format!("{} › {}", rule.group.name, rule.rule().name),
                None => "not of a rule that runs here".to_owned(),
            },
            rule_href: rule.map(|rule| link("rules", &[("q", &rule.rule().name)])),
            explore: match rule {
                Some(_) => Some(link("explore", &[("query", &query), ("range", "1h")])),
                None => web_address(&alert.generator_url),
            },
            query: format::shortened(&query, QUERY_CHARS),
            runbook: runbook(&alert.annotations),
            silence: link("silences/new", &[("alert", &format!("{:016x}", one.id))]),
            quiet: self.quiet(one),
            told: self.told(one),
            context: self.context.get(&one.told_id).map(context_of).unwrap_or_default(),
        }
    }

    fn quiet(&self, one: &BoardAlert) -> Vec<Quiet> {
        let silenced = one.silenced_by.iter().map(|id| {
            let why = self.silences.get(id).map(|silence| {
                let (by, comment) = (format::visible(&silence.created_by, 80), format::visible(&silence.comment, 300));
                let until = format::moment(silence.ends_at);
                format!("by {by} until {until} ({}): {comment}", format::ahead(silence.ends_at, self.now))
            });
            Quiet { what: "Silenced", why: why.unwrap_or_default(), href: Some(format!("/silences/{id}")) }
        });
        let inhibited = one.inhibited_by.iter().map(|id| {
            let known = self.muting.get(id);
            let name = known.map_or_else(|| format!("{id:016x}"), |(name, _)| format::visible(name, VALUE_CHARS));
            Quiet {
                what: "Inhibited",
                why: format!("while the alert {name} fires"),
                href: known.map(|(_, href)| href.clone()),
            }
        });
        let muted = one.muted_by.iter().map(|name| {
            let until = self.times.get(name).copied().flatten();
            let until = until.map(|at| format!(" until {} ({})", format::moment(at), format::ahead(at, self.now)));
            Quiet {
                what: "Muted",
                why: format!("by the times of its route: {name}{}", until.unwrap_or_default()),
                href: Some("/routes".to_owned()),
            }
        });
        silenced.chain(inhibited).chain(muted).collect()
    }

    fn told(&self, one: &BoardAlert) -> Vec<Told> {
        let Some(paths) = self.paths.get(&one.told_id).filter(|_| one.alert.state == AlertState::Firing) else {
            return Vec::new();
        };
        paths.iter().take(TOLD_MAX).map(|path| self.told_on(path, one.is_quiet())).collect()
    }

    fn told_on(&self, path: &Path, is_quiet: bool) -> Told {
        let at = path.integrations.iter().filter_map(|knows| knows.firing_at).max();
        let of = |key: &str, receiver: &str| key == path.group_key && receiver == path.receiver;
        let sending = self.under_way.iter().find(|one| of(&one.group_key, &one.receiver));
        let failed = self.attempts.iter().find(|attempt| of(&attempt.group_key, &attempt.receiver));
        let failed = failed.and_then(|attempt| Some((attempt, attempt.error.clone()?)));
        let error = sending.and_then(|one| one.last_error.clone()).or_else(|| failed.map(|(_, error)| error));
        let (class, text) = match (at, sending) {
            (Some(at), _) if error.is_none() => ("healthy", format!("told {}", format::ago(Some(at), self.now))),
            (_, Some(one)) if one.tries > 0 => ("failure", format!("{} tries failed, tried on", one.tries)),
            (_, Some(_)) => ("degraded", "being told".to_owned()),
            (Some(at), None) => {
                ("failure", format!("told {}, the last delivery failed", format::ago(Some(at), self.now)))
            }
            (None, None) if error.is_some() => ("failure", "the delivery failed".to_owned()),
            (None, None) if path.integrations.is_empty() => ("idle", "tells nobody: it has no integrations".to_owned()),
            (None, None) if is_quiet || !path.muted_by.is_empty() => ("idle", "not told".to_owned()),
            (None, None) => match path.next_flush {
                Some(next) => ("degraded", format!("to be told {}", format::ahead(next, self.now))),
                None => ("degraded", "to be told".to_owned()),
            },
        };
        Told {
            receiver: format::visible(&path.receiver, 100),
            class,
            text,
            at,
            error: error.map(|error| format::visible(&error, 400)),
        }
    }
}

/// What the mesh says of the firing ones, as their receivers are told it.
async fn context(state: &State, shown: &[&BoardAlert], now: Timestamp) -> HashMap<u64, Labels> {
    let mut all = HashMap::new();
    for one in shown.iter().filter(|one| one.alert.state == AlertState::Firing) {
        let told = Alert { labels: one.told.clone(), ..one.alert.clone() };
        if let Some(added) = state.context.of(&told, true, now).await {
            all.insert(one.told_id, added);
        }
    }
    all
}

/// The annotations of [`crate::context`], in its order; the address of the alert itself is left out.
fn context_of(added: &Labels) -> Vec<Said> {
    let names = ANNOTATIONS.into_iter().filter(|name| *name != OPT_IN && *name != ALERT_URL);
    let texts = names.filter_map(|name| Some((name, added.get(name).filter(|text| !text.is_empty())?)));
    texts
        .map(|(name, text)| {
            let what = name.trim_start_matches("meshscope_");
            let href = what.ends_with("_url").then(|| web_address(text)).flatten();
            let what = what.trim_end_matches("_url").replace('_', " ");
            Said { what, text: format::visible(text, TEXT_CHARS), href }
        })
        .collect()
}

/// The page of one alert.
pub(in crate::web) fn href(id: u64) -> String {
    format!("/alerts/{id:016x}")
}

/// An address that a link may lead to: of the web, and no script.
pub(in crate::web) fn web_address(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    Some(url.into())
}

/// Where an alert's annotations say what to do.
pub(in crate::web) fn runbook(annotations: &Labels) -> Option<Runbook> {
    let text = ["runbook_url", "runbook"].iter().find_map(|name| annotations.get(name))?;
    Some(Runbook { text: format::visible(text, VALUE_CHARS), href: web_address(text) })
}

/// The labels that say where an alert is, at most [`TELLING_MAX`], and the others. The name is in neither.
pub(in crate::web) fn told_apart(labels: &Labels) -> (Pairs, Pairs) {
    let named = labels.iter().filter(|(name, value)| *name != "alertname" && !value.is_empty());
    let mut pairs: Vec<(usize, (String, String))> = named
        .map(|(name, value)| {
            let rank = TELLING.iter().position(|one| *one == name).unwrap_or(TELLING.len());
            (rank, (format::visible(name, 100), format::visible(value, VALUE_CHARS)))
        })
        .collect();
    pairs.sort_by_key(|(rank, _)| *rank);
    let mut others = pairs.split_off(pairs.len().min(TELLING_MAX));
    others.truncate(OTHERS_MAX);
    let bare = |pairs: Vec<(usize, (String, String))>| pairs.into_iter().map(|(_, pair)| pair).collect();
    (bare(pairs), bare(others))
}

/// The colour of a state.
pub(in crate::web) fn class_of(state: AlertState) -> &'static str {
    match state {
        AlertState::Firing => "failure",
        AlertState::Pending => "degraded",
        AlertState::Inactive => "healthy",
    }
}
