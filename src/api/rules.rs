//! `rules` and `alerts`.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::State;
use super::encode::{go_time, label_map, success};
use super::error::ApiError;
use super::params::{Params, go_error};
use crate::model::{Alert, AlertState, Labels, Matcher};
use crate::rules::{AlertingStatus, GroupStatus, RuleStatus};

#[derive(Serialize)]
struct Groups {
    groups: Vec<Group>,
    #[serde(rename = "groupNextToken", skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    file: String,
    rules: Vec<Rule>,
    interval: f64,
    limit: usize,
    evaluation_time: f64,
    last_evaluation: String,
}

/// Fields in Prometheus' order; those of one kind of rule are left out of the other.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    name: String,
    query: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_for: Option<f64>,
    #[serde(rename = "labels", serialize_with = "label_map", skip_serializing_if = "Labels::is_empty")]
    recorded_labels: Labels,
    #[serde(flatten)]
    alerting: Option<AlertingFields>,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    evaluation_time: f64,
    last_evaluation: String,
    r#type: &'static str,
}

#[derive(Serialize)]
struct AlertingFields {
    #[serde(serialize_with = "label_map")]
    labels: Labels,
    #[serde(serialize_with = "label_map")]
    annotations: Labels,
    /// `null` when the asker excludes them.
    alerts: Option<Vec<ActiveAlert>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveAlert {
    #[serde(serialize_with = "label_map")]
    labels: Labels,
    #[serde(serialize_with = "label_map")]
    annotations: Labels,
    state: &'static str,
    active_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<String>,
    value: String,
}

#[derive(Serialize)]
struct Alerts {
    alerts: Vec<ActiveAlert>,
}

struct Wanted<'a> {
    kind: Option<&'a str>,
    names: Vec<&'a str>,
    groups: Vec<&'a str>,
    files: Vec<&'a str>,
    matchers: Vec<Vec<Matcher>>,
    with_alerts: bool,
}

/// All groups with the rules that pass the filters; groups without such a rule are left out.
pub(super) async fn rules(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let kind = params.get("type").map(str::to_ascii_lowercase);
    if let Some(kind) = kind.as_deref().filter(|kind| !["alert", "record"].contains(kind)) {
        return Err(ApiError::parameter("type", format!("not supported value {kind:?}")));
    }
    let wanted = Wanted {
        with_alerts: !boolean(&params, "exclude_alerts")?,
        kind: kind.as_deref(),
        names: params.all("rule_name[]"),
        groups: params.all("rule_group[]"),
        files: params.all("file[]"),
        matchers: params.matchers()?,
    };
    let page = Page::of(&params)?;
    let statuses = state.rules.groups();
    let groups: Vec<Group> = (statuses.iter())
        .filter(|group| wanted.groups.is_empty() || wanted.groups.contains(&group.name.as_str()))
        .filter(|group| wanted.files.is_empty() || wanted.files.contains(&group.file.as_str()))
        .map(|group| group_of(group, &wanted))
        .filter(|group| !group.rules.is_empty())
        .collect();
    Ok(success(page.cut(groups)?))
}

/// Go's `strconv.ParseBool`; false when absent.
fn boolean(params: &Params, name: &str) -> Result<bool, ApiError> {
    match params.get(name) {
        None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some(other) => {
            let reason = format!("error converting {name}: strconv.ParseBool: parsing {other:?}: invalid syntax");
            Err(ApiError::parameter(name, reason))
        }
    }
}

impl Wanted<'_> {
    fn takes(&self, rule: &RuleStatus) -> bool {
        let kind = if rule.alerting.is_some() { "alert" } else { "record" };
        let labels = || rule.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Labels>();
        self.kind.is_none_or(|wanted| wanted == kind)
            && (self.names.is_empty() || self.names.contains(&rule.name.as_str()))
            && (self.matchers.is_empty() || {
                let labels = labels();
                self.matchers.iter().any(|all| all.iter().all(|matcher| matcher.matches_labels(&labels)))
            })
    }
}

/// Which groups of those that pass the filters: all, or `group_limit` of them from `group_next_token` on.
struct Page<'a> {
    limit: Option<usize>,
    token: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn of(params: &'a Params) -> Result<Self, ApiError> {
        let wrong = |reason: String| ApiError::parameter("group_limit", reason);
        let parse = |text: &str| match text.parse::<i64>().map(usize::try_from) {
            Ok(Ok(limit)) if limit > 0 => Ok(limit),
            Ok(_) => Err(wrong("group_limit needs to be greater than 0".to_owned())),
            Err(error) => {
                Err(wrong(format!("group_limit needs to be a valid number: {}", go_error("ParseInt", text, &error))))
            }
        };
        let limit = params.get("group_limit").map(parse).transpose()?;
        let token = params.get("group_next_token");
        if token.is_some() && limit.is_none() {
            let reason = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::parameter("group_next_token", reason));
        }
        Ok(Self { limit, token })
    }

    fn cut(&self, groups: Vec<Group>) -> Result<Groups, ApiError> {
        let Some(limit) = self.limit else { return Ok(Groups { groups, next_token: None }) };
        let token = |group: &Group| {
            let labels = Labels::from_pairs([("file", group.file.as_str()), ("name", group.name.as_str())]);
            format!("{:016x}", labels.fingerprint())
        };
        let first = match self.token {
            None => 0,
            Some(asked) => groups.iter().position(|group| token(group) == asked).ok_or_else(|| {
                let reason = format!("invalid group_next_token '{asked}'. were rule groups changed?");
                ApiError::parameter("group_next_token", reason)
            })?,
        };
        let next_token = groups.get(first.saturating_add(limit)).map(token);
        Ok(Groups { groups: groups.into_iter().skip(first).take(limit).collect(), next_token })
    }
}

fn group_of(status: &GroupStatus, wanted: &Wanted<'_>) -> Group {
    Group {
        name: status.name.clone(),
        file: status.file.clone(),
        rules: status.rules.iter().filter(|rule| wanted.takes(rule)).map(|rule| rule_of(rule, wanted)).collect(),
        interval: status.interval.as_secs_f64(),
        limit: status.limit,
        evaluation_time: status.evaluation_time.as_secs_f64(),
        last_evaluation: go_time(status.last_evaluation),
    }
}

fn rule_of(status: &RuleStatus, wanted: &Wanted<'_>) -> Rule {
    let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Labels>();
    let labels = pairs(&status.labels);
    let alerting = status.alerting.as_ref();
    Rule {
        state: alerting.map(|alerting| alerting.state.as_str()),
        name: status.name.clone(),
        query: status.query.clone(),
        duration: alerting.map(|alerting| alerting.hold.as_secs_f64()),
        keep_firing_for: alerting.map(|alerting| alerting.keep_firing_for.as_secs_f64()),
        recorded_labels: if alerting.is_some() { Labels::empty() } else { labels.clone() },
        alerting: alerting.map(|alerting| AlertingFields {
            labels: labels.clone(),
            annotations: pairs(&alerting.annotations),
            alerts: wanted.with_alerts.then(|| active(alerting).collect()),
        }),
        health: status.health.as_str(),
        last_error: status.last_error.clone(),
        evaluation_time: status.evaluation_time.as_secs_f64(),
        last_evaluation: go_time(status.last_evaluation),
        r#type: if alerting.is_some() { "alerting" } else { "recording" },
    }
}

fn active(alerting: &AlertingStatus) -> impl Iterator<Item = ActiveAlert> + '_ {
    alerting.alerts.iter().filter(|alert| alert.state != AlertState::Inactive).map(alert_of)
}

fn alert_of(alert: &Alert) -> ActiveAlert {
    ActiveAlert {
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        state: alert.state.as_str(),
        active_at: go_time(Some(alert.active_at)),
        keep_firing_since: alert.keep_firing_since.map(|at| go_time(Some(at))),
        value: exponent(alert.value),
    }
}

pub(super) async fn alerts(Shared(state): Shared<State>) -> Response {
    let groups = state.rules.groups();
    let alerting = groups.iter().flat_map(|group| &group.rules).filter_map(|rule| rule.alerting.as_ref());
    success(Alerts { alerts: alerting.flat_map(active).collect() })
}

/// A number as Go's `FormatFloat(v, 'e', -1, 64)` prints it: `1e+00`, `2.5e-01`.
fn exponent(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alert_values_are_written_with_an_exponent() {
        let texts: Vec<String> = [1.0, 0.25, 1234.5, 0.0, -1e-7, 1e100, f64::INFINITY].map(exponent).into();
        assert_eq!(texts, ["1e+00", "2.5e-01", "1.2345e+03", "0e+00", "-1e-07", "1e+100", "+Inf"]);
    }
}
