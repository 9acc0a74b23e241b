//! Relabelling: rules that rewrite or drop a label set, exactly as Prometheus' `model/relabel`.
//!
//! In: [`Rule`]s of a configuration and a label set. Out: the new label set, or `None` when a rule dropped it. Pure.

use md5::{Digest, Md5};
use serde::Deserialize;

use crate::model::{Labels, RegexError, anchored_regex};

const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";
const DEFAULT_SEPARATOR: &str = ";";

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Sets `target_label` to the expanded `replacement` when `regex` matches.
    #[default]
    Replace,
    /// Drops the set unless `regex` matches.
    Keep,
    /// Drops the set when `regex` matches.
    Drop,
    /// Drops the set unless the joined sources equal `target_label`.
    KeepEqual,
    /// Drops the set when the joined sources equal `target_label`.
    DropEqual,
    /// Sets `target_label` to the MD5 of the joined sources modulo `modulus`.
    HashMod,
    /// Copies labels whose name matches to the expanded `replacement`.
    LabelMap,
    /// Removes labels whose name matches.
    LabelDrop,
    /// Removes labels whose name does not match.
    LabelKeep,
    /// Sets `target_label` to the joined sources in lower case.
    Lowercase,
    /// Sets `target_label` to the joined sources in upper case.
    Uppercase,
}

impl Action {
    const NAMES: [&str; 11] = [
        "replace",
        "keep",
        "drop",
        "keepequal",
        "dropequal",
        "hashmod",
        "labelmap",
        "labeldrop",
        "labelkeep",
        "lowercase",
        "uppercase",
    ];
    const ALL: [Self; 11] = [
        Self::Replace,
        Self::Keep,
        Self::Drop,
        Self::KeepEqual,
        Self::DropEqual,
        Self::HashMod,
        Self::LabelMap,
        Self::LabelDrop,
        Self::LabelKeep,
        Self::Lowercase,
        Self::Uppercase,
    ];
}

/// In any case (`Keep`), as Prometheus reads it.
impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at = Self::NAMES.iter().position(|name| text.eq_ignore_ascii_case(name));
        at.map(|at| Self::ALL[at]).ok_or_else(|| serde::de::Error::unknown_variant(&text, &Self::NAMES))
    }
}

/// One rule, checked and compiled.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RuleConfig")]
pub struct Rule {
    config: RuleConfig,
    regex: regex::Regex,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

/// One entry of `relabel_configs`, as written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// What stands between them. Default `;`.
    pub separator: String,
    /// What the joined values (or label names) must match, anchored. Default `(.*)`.
    pub regex: String,
    /// Divisor of `hashmod`.
    pub modulus: u64,
    /// The label to set; may hold `$1`.
    pub target_label: String,
    /// The value to set; may hold `$1`. Default `$1`.
    pub replacement: String,
    /// What to do. Default `replace`.
    pub action: Action,
}

impl Default for RuleConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: DEFAULT_SEPARATOR.to_owned(),
            regex: DEFAULT_REGEX.to_owned(),
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.to_owned(),
            action: Action::Replace,
        }
    }
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The expression does not compile.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// A key is missing, has a wrong value, or has no meaning for the action.
    #[error("relabel configuration for {action:?} action: {reason}")]
    Key {
        /// The action.
        action: Action,
        /// Which key and why.
        reason: String,
    },
}

impl TryFrom<RuleConfig> for Rule {
    type Error = RuleError;

    fn try_from(config: RuleConfig) -> Result<Self, RuleError> {
        let regex = anchored_regex(&config.regex)?;
        config.check().map_err(|reason| RuleError::Key { action: config.action, reason })?;
        Ok(Self { config, regex })
    }
}

impl RuleConfig {
    fn check(&self) -> Result<(), String> {
        use Action::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase};
        let plain = Self { action: self.action, ..Self::default() };
        let needs_target = matches!(self.action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if self.source_labels.iter().any(String::is_empty) {
            return Err("\"\" in `source_labels` is not a label name".to_owned());
        }
        if needs_target && self.target_label.is_empty() {
            return Err("requires `target_label`".to_owned());
        }
        if self.action == HashMod && self.modulus == 0 {
            return Err("requires a `modulus` greater than zero".to_owned());
        }
        if matches!(self.action, Lowercase | Uppercase) && self.replacement != DEFAULT_REPLACEMENT {
            return Err("`replacement` has no effect, remove it".to_owned());
        }
        if self.action == LabelMap && self.replacement.is_empty() {
            return Err("requires a `replacement` that is a label name".to_owned());
        }
        let only_sources = Self { source_labels: self.source_labels.clone(), ..plain.clone() };
        let only_sources = Self { target_label: self.target_label.clone(), ..only_sources };
        if matches!(self.action, KeepEqual | DropEqual) && *self != only_sources {
            return Err("takes only `source_labels` and `target_label`".to_owned());
        }
        if matches!(self.action, LabelDrop | LabelKeep) && *self != (Self { regex: self.regex.clone(), ..plain }) {
            return Err("takes only `regex`".to_owned());
        }
        Ok(())
    }
}

/// Applies the rules in order. `None`: a rule dropped the set, or nothing of it is left.
pub fn apply(rules: &[Rule], labels: Labels) -> Option<Labels> {
    if rules.is_empty() {
        return Some(labels);
    }
    let mut set = LabelSet(labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect());
    let kept = rules.iter().all(|rule| rule.apply(&mut set));
    (kept && !set.0.is_empty()).then(|| set.0.into_iter().collect())
}

/// A label set under change; label counts are small, so a list beats a map.
struct LabelSet(Vec<(String, String)>);

impl LabelSet {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    fn set(&mut self, name: &str, value: String) {
        match self.0.iter().position(|(n, _)| n == name) {
            Some(at) if value.is_empty() => drop(self.0.remove(at)),
            Some(at) => self.0[at].1 = value,
            None if value.is_empty() || name.is_empty() => {}
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl Rule {
    /// The rule as written.
    pub fn config(&self) -> &RuleConfig {
        &self.config
    }

    /// Changes the set; false drops it.
    fn apply(&self, set: &mut LabelSet) -> bool {
        let Self { config, regex } = self;
        let mut joined = String::new();
        for (i, name) in config.source_labels.iter().enumerate() {
            joined.push_str(if i > 0 { &config.separator } else { "" });
            joined.push_str(set.get(name));
        }
        let target = config.target_label.as_str();
        match config.action {
            Action::Keep => return regex.is_match(&joined),
            Action::Drop => return !regex.is_match(&joined),
            Action::KeepEqual => return set.get(target) == joined,
            Action::DropEqual => return set.get(target) != joined,
            Action::Replace => self.replace(set, &joined),
            Action::HashMod => set.set(target, hash_modulo(&joined, config.modulus).to_string()),
            Action::Lowercase => set.set(target, joined.to_lowercase()),
            Action::Uppercase => set.set(target, joined.to_uppercase()),
            Action::LabelMap => self.map_names(set),
            Action::LabelDrop => set.0.retain(|(name, _)| !regex.is_match(name)),
            Action::LabelKeep => set.0.retain(|(name, _)| regex.is_match(name)),
        }
        true
    }

    fn replace(&self, set: &mut LabelSet, joined: &str) {
        let Some(captures) = self.regex.captures(joined) else { return };
        let (mut name, mut value) = (String::new(), String::new());
        captures.expand(&self.config.target_label, &mut name);
        captures.expand(&self.config.replacement, &mut value);
        set.set(&name, value);
    }

    fn map_names(&self, set: &mut LabelSet) {
        for (name, value) in set.0.clone() {
            if let Some(captures) = self.regex.captures(&name) {
                let mut mapped = String::new();
                captures.expand(&self.config.replacement, &mut mapped);
                set.set(&mapped, value);
            }
        }
    }
}

/// The last eight bytes of the MD5, as Prometheus takes them.
fn hash_modulo(text: &str, modulus: u64) -> u64 {
    let digest = Md5::digest(text.as_bytes());
    let low = digest.iter().skip(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    low % modulus.max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn rules(yaml: &str) -> Vec<Rule> {
        let (rules, problems) = crate::yaml::decode(yaml);
        assert_eq!(problems, [], "{yaml}");
        rules.unwrap()
    }

    /// Inputs and results of upstream's `model/relabel/relabel_test.go`, in our own form.
    #[test]
    fn does_what_prometheus_does() {
        let check = |input: &[(&str, &str)], yaml: &str, expect: Option<&[(&str, &str)]>| {
            let labels = apply(&rules(yaml), Labels::from_pairs(input.iter().copied()));
            assert_eq!(labels, expect.map(|pairs| Labels::from_pairs(pairs.iter().copied())), "{yaml}");
        };
        let abc = &[("a", "foo"), ("b", "bar"), ("c", "baz")];
        let with_d = |d| [abc[0], abc[1], abc[2], ("d", d)];
        check(
            abc,
            "[{source_labels: [a], regex: 'f(.*)', target_label: d, separator: ';', replacement: 'ch${1}-ch${1}'}]",
            Some(&with_d("choo-choo")),
        );
        check(
            abc,
            "[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'},
              {source_labels: [c, a], regex: '(b).*b(.*)ba(.*)', target_label: d, replacement: '$1$2$2$3'}]",
            Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz"), ("d", "boooom")]),
        );
        check(abc, "[{source_labels: [a], regex: '.*o.*', action: drop}]", None);
        check(abc, "[{source_labels: [a], regex: 'no-match', action: drop}]", Some(abc));
        check(abc, "[{source_labels: [a], regex: 'f|o', action: drop}]", Some(abc)); // anchored
        check(abc, "[{source_labels: [a], regex: 'no-match', action: keep}]", None);
        check(abc, "[{source_labels: [a], regex: 'no-match', action: Keep}]", None);
        check(
            abc,
            "[{source_labels: [c], target_label: d, separator: ';', action: hashmod, modulus: 1000}]",
            Some(&with_d("976")),
        );
        check(
            &[("a", "foo\nbar")],
            "[{source_labels: [a], target_label: b, action: hashmod, modulus: 1000}]",
            Some(&[("a", "foo\nbar"), ("b", "734")]),
        );
        check(&[("a", "b")], "[{target_label: d, replacement: 'v'}]", Some(&[("a", "b"), ("d", "v")]));
        check(&[("a", "x")], "[{source_labels: [a], regex: x, target_label: a, replacement: ''}]", None);
        check(
            &[("__meta_my_bar", "aaa"), ("__meta_my_baz", "bbb"), ("n", "1")],
            "[{action: labelmap, regex: '__meta_(my.*)'}]",
            Some(&[
                ("__meta_my_bar", "aaa"),
                ("__meta_my_baz", "bbb"),
                ("n", "1"),
                ("my_bar", "aaa"),
                ("my_baz", "bbb"),
            ]),
        );
        check(abc, "[{action: labeldrop, regex: '[ab]'}]", Some(&[("c", "baz")]));
        check(abc, "[{action: labelkeep, regex: '[ab]'}]", Some(&abc[..2]));
        check(abc, "[{source_labels: [a], action: uppercase, target_label: d}]", Some(&with_d("FOO")));
        check(&[("a", "FoO")], "[{source_labels: [a], action: lowercase, target_label: a}]", Some(&[("a", "foo")]));
        let equal = &[("__tmp_port", "1234"), ("__port1", "1234"), ("__port2", "5678")];
        check(equal, "[{source_labels: [__tmp_port], action: keepequal, target_label: __port1}]", Some(equal));
        check(equal, "[{source_labels: [__tmp_port], action: dropequal, target_label: __port1}]", None);
        check(equal, "[{source_labels: [__tmp_port], action: dropequal, target_label: __port2}]", Some(equal));
        check(
            &[("a", "some-name-value")],
            "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', replacement: '$2', target_label: '${1}'}]",
            Some(&[("a", "some-name-value"), ("name", "value")]),
        );
        check(
            &[("a", "some-name-0")],
            "[{source_labels: [a], regex: 'x-([^-]+)', target_label: '$1'}]",
            Some(&[("a", "some-name-0")]),
        );
    }

    #[test]
    fn refuses_rules_that_cannot_work() {
        for (yaml, needle) in [
            ("[{action: hashmod, target_label: a}]", "modulus"),
            ("[{action: replace}]", "target_label"),
            ("[{regex: 'a(', target_label: b}]", "invalid regular expression"),
            ("[{action: lowercase, target_label: a, replacement: b}]", "replacement"),
            ("[{action: labeldrop, regex: a, target_label: b}]", "takes only `regex`"),
            ("[{action: keepequal, source_labels: [a], target_label: b, regex: c}]", "takes only"),
            ("[{action: remove}]", "remove"),
            ("[{targetlabel: a}]", "targetlabel"),
        ] {
            let (decoded, problems) = crate::yaml::decode::<Vec<Rule>>(yaml);
            assert!(decoded.is_none_or(|rules| rules.is_empty()), "{yaml}");
            assert!(problems.iter().any(|p| p.message.contains(needle)), "{yaml}: {problems:?}");
        }
    }
}
