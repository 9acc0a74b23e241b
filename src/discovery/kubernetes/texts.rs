//! Labels under their names in Prometheus: what characters a name keeps, how addresses are written, what every object gives.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::super::Group;
use super::Found;
use super::objects::Meta;
use crate::model::Labels;

/// What all names begin with.
const PREFIX: &str = "__meta_kubernetes_";

/// Labels under way.
#[derive(Clone, Default)]
pub(super) struct Texts(BTreeMap<String, String>);

impl Texts {
    /// Sets `__meta_kubernetes_NAME`.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(format!("{PREFIX}{name}"), value.into());
    }

    /// Sets it where there is a value.
    pub(super) fn set_some(&mut self, name: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Sets a label of any name.
    pub(super) fn set_plain(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Name, labels and annotations of an object: `ROLE_name`, `ROLE_label_X`, `ROLE_labelpresent_X` and so on.
    pub(super) fn set_meta(&mut self, role: &str, meta: &Meta) {
        self.set(&format!("{role}_name"), meta.name.as_str());
        self.set_marked(&format!("{role}_label"), &meta.labels);
        self.set_marked(&format!("{role}_annotation"), &meta.annotations);
    }

    /// Each entry as `PREFIX_X` and `PREFIXpresent_X`.
    fn set_marked(&mut self, prefix: &str, entries: &BTreeMap<String, String>) {
        for (key, value) in entries {
            let key = sanitized(key);
            self.set(&format!("{prefix}_{key}"), value.as_str());
            self.set(&format!("{prefix}present_{key}"), "true");
        }
    }

    /// These, and others that win.
    pub(super) fn with(&self, other: Texts) -> Self {
        let mut both = self.clone();
        both.0.extend(other.0);
        both
    }

    /// Puts a target with these labels into the list.
    pub(super) fn add_to(&self, targets: &mut Found, address: String) {
        let labels: Labels = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        targets.push((Group { targets: vec![address], labels: BTreeMap::new() }, labels));
    }
}

/// The part of a label name that a key gives: what may not stand there becomes `_`.
pub(super) fn sanitized(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// `host:port`; an IPv6 address in brackets.
pub(super) fn address(host: &str, port: impl std::fmt::Display) -> String {
    if host.parse::<Ipv6Addr>().is_ok() || host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
