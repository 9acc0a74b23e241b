//! Role `ingress`: a target for each path of each rule, for black-box checks.

use super::objects::Ingress;
use super::texts::Texts;
use super::{Beside, Found};

pub(super) fn add(ingress: &Ingress, _: &Beside<'_>, targets: &mut Found) {
    let mut base = Texts::default();
    base.set_meta("ingress", &ingress.metadata);
    base.set("namespace", ingress.metadata.namespace.as_str());
    base.set_some("ingress_class_name", ingress.spec.ingress_class_name.as_deref());
    for rule in &ingress.spec.rules {
        let is_secure = ingress.spec.tls.iter().flat_map(|tls| &tls.hosts).any(|pattern| matches(pattern, &rule.host));
        let paths: Vec<&str> = match &rule.http {
            Some(http) => http.paths.iter().map(|path| path.path.as_str()).collect(),
            None => vec![""],
        };
        for path in paths {
            let mut labels = base.clone();
            labels.set("ingress_scheme", if is_secure { "https" } else { "http" });
            labels.set("ingress_host", rule.host.as_str());
            labels.set("ingress_path", if path.is_empty() { "/" } else { path });
            labels.add_to(targets, rule.host.clone());
        }
    }
}

/// Whether a certificate's host, perhaps with `*` for its first part, is that host.
fn matches(pattern: &str, host: &str) -> bool {
    let rest = |text: &str| text.split_once('.').map(|(_, rest)| rest.to_owned());
    pattern == host || pattern.starts_with("*.") && rest(pattern) == rest(host) && !host.is_empty()
}
