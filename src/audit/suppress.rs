//! Findings that nobody wants to hear of, by configuration or by an annotation of the object.
//!
//! `meshscope.dev/suppress: "MS0101=known, MS02*=moved next week"`: codes, each with its reason.

use serde::Deserialize;

use super::{Check, Scene, Suppression, checks};
use crate::mesh::Resource;
use crate::model::Finding;
use crate::yaml::{self, Value};

/// The annotation.
const ANNOTATION: &str = "meshscope.dev/suppress";
/// That of `istioctl analyze`: its codes, without reasons; `*` stands for all.
const ISTIO_ANNOTATION: &str = "galley.istio.io/analyze-suppress";

/// What of the audit is configured: the block `mesh`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Findings that nobody wants to hear of, each with its reason.
    pub suppress: Vec<SuppressionConfig>,
}

/// A finding that nobody wants to hear of.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppressionConfig {
    /// The code, or a pattern with `*`.
    pub code: String,
    /// The subject (`VirtualService shop/cart`), or a pattern with `*`. Default: all.
    #[serde(default = "everything")]
    pub subject: String,
    /// Why; shown with the finding.
    pub reason: String,
}

fn everything() -> String {
    "*".to_owned()
}

impl From<&SuppressionConfig> for Suppression {
    fn from(config: &SuppressionConfig) -> Self {
        let SuppressionConfig { code, subject, reason } = config.clone();
        Self { code, subject, reason }
    }
}

impl Config {
    /// Reads a file of suppressions: a list of them, a mapping with the key `suppress`, or a whole `meshscope.yaml`, of
    /// which the block `mesh` counts.
    ///
    /// # Errors
    /// Every mistake, `line:column: path: message`.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let nodes = yaml::documents(text).map_err(|problem| vec![problem.to_string()])?;
        let Some(whole) = nodes.first() else { return Ok(Self::default()) };
        // The other keys of a configuration's block are not ours to judge.
        let block = match whole.get("mesh") {
            Some(mesh) => match mesh.get("suppress") {
                Some(listed) => listed,
                None => return Ok(Self::default()),
            },
            None => whole,
        };
        let (read, problems) = match block.value {
            Value::Sequence(_) => {
                let (read, problems) = block.decode::<Vec<SuppressionConfig>>();
                (read.map(|suppress| Self { suppress }), problems)
            }
            _ => block.decode::<Self>(),
        };
        let mut wrong: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let config = read.unwrap_or_default();
        wrong.extend(config.problems());
        if wrong.is_empty() { Ok(config) } else { Err(wrong) }
    }

    /// What is wrong besides the form.
    pub fn problems(&self) -> Vec<String> {
        let bare = self.suppress.iter().filter(|one| one.reason.trim().is_empty());
        let bare = bare.map(|one| format!("the suppression of {} on {} has no reason", one.code, one.subject));
        let strange = self.suppress.iter().filter(|one| !names_a_check(&one.code));
        let strange = strange.map(|one| format!("the suppression of {} fits the code of no check", one.code));
        bare.chain(strange).collect()
    }
}

/// Whether a code, or a pattern with `*`, is that of any check.
pub fn names_a_check(pattern: &str) -> bool {
    checks().any(|check| wildcard(pattern, check.code))
}

/// Marks what is suppressed, with the reason.
pub(super) fn apply(scene: &Scene<'_>, findings: &mut [Finding]) {
    let annotated = scene.mesh.iter().flat_map(|resource| {
        let entries = resource.annotations.get(ANNOTATION).map_or("", String::as_str).split(',');
        entries.map(str::trim).filter(|entry| !entry.is_empty()).map(|entry| {
            let (code, reason) = entry.split_once('=').unwrap_or((entry, "no reason given"));
            Suppression { code: code.to_owned(), subject: resource.id.to_string(), reason: reason.to_owned() }
        })
    });
    let annotated = annotated.chain(scene.mesh.iter().flat_map(of_istio));
    let all: Vec<Suppression> = annotated.chain(scene.options.suppressions.iter().cloned()).collect();
    for finding in findings {
        let fits = |one: &&Suppression| wildcard(&one.code, finding.code) && wildcard(&one.subject, &finding.subject);
        finding.suppressed = all.iter().find(fits).map(|one| one.reason.clone());
    }
}

/// What Istio's annotation of an object suppresses, by our codes.
fn of_istio(resource: &Resource) -> Vec<Suppression> {
    let Some(listed) = resource.annotations.get(ISTIO_ANNOTATION) else { return Vec::new() };
    let codes: Vec<&str> = listed.split(',').map(str::trim).collect();
    let named = |check: &&Check| {
        check.also.iter().any(|also| also.starts_with("IST") && (codes.contains(also) || codes.contains(&"*")))
    };
    let checks = checks().filter(named);
    let one = |check: &Check| Suppression {
        code: check.code.to_owned(),
        subject: resource.id.to_string(),
        reason: format!("{ISTIO_ANNOTATION}: {listed}"),
    };
    checks.map(one).collect()
}

/// Whether a text fits a pattern in which `*` stands for anything.
pub(super) fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let mut rest = rest;
    let middle: Vec<&str> = parts.collect();
    let (last, middle) = middle.split_last().map_or(("", &[][..]), |(last, middle)| (*last, middle));
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::wildcard;
    use crate::audit::{Options, audit};
    use crate::mesh::{Input, Snapshot};

    #[test]
    fn the_annotation_of_istioctl_holds_with_its_codes() {
        let text = |codes: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, annotations: \
                 {{galley.istio.io/analyze-suppress: '{codes}'}}}}\nspec: {{hosts: [a.org], gateways: [none]}}\n"
            )
        };
        let counted = |codes: &str| -> Vec<&'static str> {
            let snapshot = Snapshot::read(&[Input { name: "a".into(), text: text(codes) }], "default");
            let report = audit(&snapshot, None, &Options::default());
            report.findings.iter().filter(|one| one.suppressed.is_none()).map(|one| one.code).collect()
        };
        assert_eq!(counted("IST0102"), ["MS0101", "MS0202", "MS1005"]);
        assert_eq!(counted("IST0101, IST0102"), ["MS0202", "MS1005"]);
        assert!(counted("*").is_empty());
    }

    #[test]
    fn a_suppression_needs_a_code_that_is_there_and_a_reason() {
        let problems = |text: &str| super::Config::parse(text).err().unwrap_or_default();
        assert_eq!(problems("- {code: 'MS05*', reason: known}"), [] as [String; 0]);
        let said = problems("- {code: MS9999, reason: known}\n- {code: MS0507, reason: ' '}");
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("MS0507 on * has no reason") && said[1].contains("MS9999 fits"), "{said:?}");
    }

    #[test]
    fn a_star_stands_for_anything() {
        let cases = [
            ("MS0101", "MS0101", true),
            ("MS0101", "MS01012", false),
            ("MS01*", "MS0107", true),
            ("* shop/*", "VirtualService shop/cart", true),
            ("*cart", "VirtualService shop/cart", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXcYYb", false),
            ("ab*ab", "ab", false),
        ];
        for (pattern, text, fits) in cases {
            assert_eq!(wildcard(pattern, text), fits, "{pattern} {text}");
        }
    }
}
