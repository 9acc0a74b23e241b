//! Hosts as Istio reads them: short names, full names, wildcards, and what is known under a host from a namespace.
//!
//! In: a [`Snapshot`]. Out: [`Registry`], which finds the Service or ServiceEntry behind a host. Invariant: one look-up
//! costs no walk over all hosts.

use std::collections::HashMap;

use super::kind::Kind;
use super::resource::Resource;
use super::snapshot::Snapshot;
use crate::yaml::Node;

/// A host as all proxies see it: a name without a dot becomes a service of `namespace`; others stay.
pub fn full_name(host: &str, namespace: &str, domain: &str) -> String {
    if host.starts_with('*') || host.contains('.') || host.is_empty() {
        return host.to_owned();
    }
    format!("{host}.{namespace}.svc.{domain}")
}

/// The service and namespace of a full name of the cluster; none for other hosts.
pub fn service_of<'h>(host: &'h str, domain: &str) -> Option<(&'h str, &'h str)> {
    let rest = host.strip_suffix(domain)?.strip_suffix(".svc.")?;
    rest.rsplit_once('.')
}

/// Whether two hosts, each perhaps a wildcard, have a name in common.
pub fn overlap(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        (Some(a), None) => b.ends_with(a),
        (None, Some(b)) => a.ends_with(b),
        (None, None) => a == b,
    }
}

/// The namespaces that an `exportTo` names, `.` resolved; `*` stands for all, which is also what an empty list means.
pub fn export_scopes(export_to: &[Node], namespace: &str) -> Vec<String> {
    let named: Vec<&str> = export_to.iter().filter_map(Node::as_str).collect();
    if named.is_empty() || named.contains(&"*") {
        return vec!["*".to_owned()];
    }
    named.into_iter().map(|one| if one == "." { namespace.to_owned() } else { one.to_owned() }).collect()
}

/// Values under hosts, found by a host that may be, or meet, a wildcard.
#[derive(Debug)]
pub struct HostMap<T> {
    exact: HashMap<String, Vec<T>>,
    wild: HashMap<String, Vec<T>>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wild: HashMap::new() }
    }
}

impl<T> HostMap<T> {
    /// Adds a value under a host.
    pub fn insert(&mut self, host: &str, value: T) {
        match host.strip_prefix('*') {
            Some(end) => self.wild.entry(end.to_owned()).or_default().push(value),
            None => self.exact.entry(host.to_owned()).or_default().push(value),
        }
    }

    /// The values under wildcards that cover `host` (itself perhaps a wildcard), the longest wildcard first.
    pub fn covering<'m>(&'m self, host: &str) -> impl Iterator<Item = &'m T> {
        let host = host.strip_prefix('*').unwrap_or(host).to_owned();
        let mut found: Vec<&T> = Vec::new();
        if !self.wild.is_empty() {
            let cuts = host.char_indices().map(|(at, _)| at).chain([host.len()]);
            found.extend(cuts.filter_map(|at| self.wild.get(&host[at..])).flatten());
        }
        found.into_iter()
    }

    /// The values whose host has a name in common with `host`.
    pub fn meeting<'m>(&'m self, host: &str) -> Vec<&'m T> {
        let mut found: Vec<&T> = self.covering(host).collect();
        match host.strip_prefix('*') {
            None => found.extend(self.exact.get(host).into_iter().flatten()),
            Some(end) => {
                let inside = |name: &&String| name.ends_with(end);
                found.extend(self.exact.iter().filter(|(name, _)| inside(name)).flat_map(|(_, all)| all));
                let deeper = self.wild.iter().filter(|(name, _)| name.len() > end.len() && inside(name));
                found.extend(deeper.flat_map(|(_, all)| all));
            }
        }
        found
    }
}

/// What answers to a host.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The Service or ServiceEntry.
    pub resource: &'a Resource,
}

impl Target<'_> {
    /// The ports it listens on.
    pub fn ports(&self) -> Vec<u32> {
        let key = if self.resource.id.kind == Kind::Service { "port" } else { "number" };
        let number = |node: &Node| node.get(key).and_then(Node::as_str).and_then(|text| text.parse().ok());
        self.resource.list("spec.ports").iter().filter_map(number).collect()
    }
}

/// All hosts that services and service entries give, with the namespaces that may see them.
#[derive(Debug, Default)]
pub struct Registry<'a> {
    domain: String,
    exact: HashMap<(String, String), Target<'a>>,
    wild: HostMap<(String, Target<'a>)>,
}

impl<'a> Registry<'a> {
    /// The hosts of a snapshot; `domain` is that of the cluster (`cluster.local`).
    pub fn new(mesh: &'a Snapshot, domain: &str) -> Self {
        let mut all = Self { domain: domain.to_owned(), ..Self::default() };
        for entry in mesh.of_kind(Kind::ServiceEntry) {
            let scopes = export_scopes(entry.list("spec.exportTo"), &entry.id.namespace);
            for host in entry.list("spec.hosts").iter().filter_map(Node::as_str) {
                all.add(&full_name(host, &entry.id.namespace, domain), &scopes, entry);
            }
        }
        for service in mesh.of_kind(Kind::Service) {
            let written = service.annotations.get("networking.istio.io/exportTo").map_or("", String::as_str);
            let scopes: Vec<String> = match written {
                "" => vec!["*".to_owned()],
                list => list
                    .split(',')
                    .map(str::trim)
                    .map(|one| if one == "." { service.id.namespace.clone() } else { one.to_owned() })
                    .collect(),
            };
            all.add(&full_name(&service.id.name, &service.id.namespace, domain), &scopes, service);
        }
        all
    }

    fn add(&mut self, host: &str, scopes: &[String], resource: &'a Resource) {
        for scope in scopes {
            if host.starts_with('*') {
                self.wild.insert(host, (scope.clone(), Target { resource }));
            } else {
                self.exact.insert((scope.clone(), host.to_owned()), Target { resource });
            }
        }
    }

    /// What answers to `host`, written in `namespace` by an object that is exported to `export_to`.
    pub fn find(&self, host: &str, namespace: &str, export_to: &[Node]) -> Option<Target<'a>> {
        if host.is_empty() {
            return None;
        }
        let full = full_name(host, namespace, &self.domain);
        let scoped = |scope: &str| self.exact.get(&(scope.to_owned(), full.clone())).copied();
        let own = || match export_to {
            [] => scoped(namespace),
            named => {
                named.iter().filter_map(Node::as_str).find_map(|one| scoped(if one == "." { namespace } else { one }))
            }
        };
        let wild = || {
            let seen = |scope: &str| scope == "*" || scope == namespace;
            self.wild.covering(host).find(|(scope, _)| seen(scope)).map(|(_, target)| *target)
        };
        scoped("*").or_else(own).or_else(wild)
    }

    /// Whether a wildcard covers a host that somebody answers to. Walks over all hosts.
    pub fn any_under(&self, wildcard: &str) -> bool {
        let Some(end) = wildcard.strip_prefix('*') else { return false };
        self.exact.keys().any(|(_, host)| host.ends_with(end))
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Input;
    use super::*;

    #[test]
    fn hosts_are_compared_with_their_wildcards() {
        let cases = [
            ("a.org", "a.org", true),
            ("*.a.org", "x.a.org", true),
            ("*.a.org", "a.org", false),
            ("x.b.a.org", "*.a.org", true),
            ("*.a.org", "*.b.a.org", true),
            ("*.a.org", "*.c.org", false),
            ("*", "anything", true),
        ];
        for (a, b, fits) in cases {
            assert_eq!(overlap(a, b), fits, "{a} {b}");
            let mut map = HostMap::default();
            map.insert(a, 1);
            assert_eq!(map.meeting(b).len(), usize::from(fits), "{a} {b} by the map");
        }
    }

    #[test]
    fn a_host_is_looked_up_from_its_namespace() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{port: 80}, {port: 443}]}\n\
            ---\napiVersion: v1\nkind: Service\nmetadata: {name: till, namespace: shop, annotations: {networking.istio.io/exportTo: '.,pay'}}\n\
            ---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out, namespace: shop}\nspec: {hosts: ['*.example.org'], exportTo: ['.']}\n";
        let mesh = Snapshot::read(&[Input { name: "a".into(), text: text.to_owned() }], "default");
        let registry = Registry::new(&mesh, "cluster.local");
        let found = |host: &str, from: &str| registry.find(host, from, &[]).map(|one| one.resource.id.name.as_str());
        assert_eq!(found("cart", "shop"), Some("cart"));
        assert_eq!(found("cart", "web"), None);
        assert_eq!(found("cart.shop.svc.cluster.local", "web"), Some("cart"));
        assert_eq!(found("till.shop.svc.cluster.local", "pay"), Some("till"));
        assert_eq!(found("till.shop.svc.cluster.local", "web"), None, "it is not exported there");
        assert_eq!(found("api.example.org", "shop"), Some("out"));
        assert_eq!(found("api.example.org", "web"), None);
        assert_eq!(found("", "shop"), None);
        assert_eq!(registry.find("cart", "shop", &[]).map(|one| one.ports()), Some(vec![80, 443]));
        assert_eq!(service_of("cart.shop.svc.cluster.local", "cluster.local"), Some(("cart", "shop")));
        assert_eq!(service_of("example.org", "cluster.local"), None);
    }
}
