//! The parameters by which alerts are chosen: `filter`, `receiver`, and the flags.

use super::fault::Fault;
use crate::api::params::Params;
use crate::model::{MatchOp, Matcher, anchored_regex};
use crate::notify::{AlertStatus, parse_one_matcher};

/// Which alerts are asked for.
pub(super) struct Filter {
    matchers: Vec<Matcher>,
    receiver: Option<regex::Regex>,
    active: bool,
    silenced: bool,
    inhibited: bool,
    /// Whether groups that a time interval mutes are asked for.
    pub(super) muted: bool,
}

impl Filter {
    /// Reads the parameters.
    pub(super) fn read(params: &Params) -> Result<Self, Fault> {
        let receiver = (params.get("receiver"))
            .map(|pattern| {
                anchored_regex(pattern).map_err(|error| {
                    Fault::bad(format!("failed to parse receiver param: {}", error.go_text_anchored()))
                })
            })
            .transpose();
        let matchers = matchers(params)?;
        Ok(Self {
            matchers,
            receiver: receiver?,
            active: flag(params, "active"),
            silenced: flag(params, "silenced"),
            inhibited: flag(params, "inhibited"),
            muted: flag(params, "muted"),
        })
    }

    /// Whether this receiver is asked for.
    pub(super) fn takes_receiver(&self, name: &str) -> bool {
        self.receiver.as_ref().is_none_or(|regex| regex.is_match(name))
    }

    /// Whether this alert is asked for, whoever receives it.
    pub(super) fn takes(&self, status: &AlertStatus) -> bool {
        let is_active = status.silenced_by.is_empty() && status.inhibited_by.is_empty();
        (self.active || !is_active)
            && (self.silenced || status.silenced_by.is_empty())
            && (self.inhibited || status.inhibited_by.is_empty())
            && self.matchers.iter().all(|matcher| matches(matcher, status))
    }
}

/// A matcher with an empty value asks whether the label is there at all.
fn matches(matcher: &Matcher, status: &AlertStatus) -> bool {
    let value = status.alert.labels.get(&matcher.name);
    let is_negative = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
    (matcher.value.is_empty() && is_negative == value.is_some()) || matcher.matches(value.unwrap_or_default())
}

/// The parameters `filter`, one matcher each.
pub(super) fn matchers(params: &Params) -> Result<Vec<Matcher>, Fault> {
    params.all("filter").into_iter().map(|text| parse_one_matcher(text).map_err(Fault::bad)).collect()
}

/// A flag, true unless told; what go-openapi does not know as a yes is a no (`swag.ConvertBool`).
fn flag(params: &Params, name: &str) -> bool {
    let yes = ["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"];
    params.get(name).is_none_or(|value| yes.contains(&value.to_lowercase().as_str()))
}
