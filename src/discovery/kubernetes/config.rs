//! The entries of `kubernetes_sd_configs`, as prometheus.yml writes them.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::http_client::{self, with_http_client_keys};
use crate::kubernetes::ClusterConfig;

/// What the targets of an entry are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ports of the containers of pods.
    Pod,
    /// Ports of services.
    Service,
    /// Addresses behind services, from `Endpoints` objects.
    Endpoints,
    /// Addresses behind services, from `EndpointSlice` objects.
    EndpointSlice,
    /// Kubelets.
    Node,
    /// Paths of ingresses.
    Ingress,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Node => "node",
            Self::Ingress => "ingress",
        })
    }
}

with_http_client_keys! {
    /// An entry of `kubernetes_sd_configs`.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct KubernetesSdConfig {
        /// What targets are made of.
        pub role: Role,
        /// Address of the API server. Default: that of the cluster we run in.
        #[serde(default)]
        pub api_server: Option<String>,
        /// A kubeconfig file, of which the current context is used.
        #[serde(default)]
        pub kubeconfig_file: Option<PathBuf>,
        /// Where objects are looked for. Default: in all namespaces.
        #[serde(default)]
        pub namespaces: Namespaces,
        /// Only objects with these labels and fields.
        #[serde(default)]
        pub selectors: Vec<Selector>,
        /// Labels of other objects that targets get.
        #[serde(default)]
        pub attach_metadata: AttachMetadata,
    }
}

/// The block `namespaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Namespaces {
    /// Also the one we run in.
    pub own_namespace: bool,
    /// These.
    pub names: Vec<String>,
}

/// An entry of `selectors`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// Of which objects.
    pub role: Role,
    /// A label selector as `kubectl -l` takes it.
    #[serde(default)]
    pub label: String,
    /// A field selector as `kubectl --field-selector` takes it.
    #[serde(default)]
    pub field: String,
}

impl Selector {
    /// The parts that a cluster would refuse, with the key that holds them.
    fn mistakes(&self) -> Vec<(&'static str, &str)> {
        let fields = self.field.split(',').map(str::trim).filter(|part| !part.is_empty());
        let fields = fields.filter(|part| !part.contains('=')).map(|part| ("field", part));
        let labels = outside_brackets(&self.label).into_iter().map(str::trim).filter(|part| !part.is_empty());
        let labels = labels.filter(|part| !is_requirement(part)).map(|part| ("label", part));
        fields.chain(labels).collect()
    }
}

/// The parts between commas that are in no brackets.
fn outside_brackets(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    text.split(|c| {
        is_inside = (is_inside || c == '(') && c != ')';
        c == ',' && !is_inside
    })
    .collect()
}

/// One requirement of a label selector: `a`, `!a`, `a=b`, `a != b`, `a in (b, c)`, `a > 1`.
fn is_requirement(text: &str) -> bool {
    let is_word = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    let is_key = |word: &str| !word.is_empty() && is_word(word);
    if let Some(key) = text.strip_prefix('!') {
        return is_key(key.trim());
    }
    let end = text.find(|c: char| c.is_whitespace() || "=!<>(".contains(c)).unwrap_or(text.len());
    let (key, rest) = (&text[..end], text[end..].trim());
    let values = rest.strip_prefix("notin").or_else(|| rest.strip_prefix("in"));
    let is_rest = match values {
        Some(values) => {
            let values = values.trim().strip_prefix('(').and_then(|values| values.strip_suffix(')'));
            values.is_some_and(|values| values.split(',').all(|value| is_word(value.trim())))
        }
        None => ["==", "!=", "=", "<", ">"]
            .iter()
            .find_map(|sign| rest.strip_prefix(sign))
            .map_or(rest.is_empty(), |v| is_word(v.trim())),
    };
    is_key(key) && is_rest
}

/// The block `attach_metadata`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachMetadata {
    /// Name, labels and annotations of the node.
    pub node: bool,
}

impl KubernetesSdConfig {
    /// Which cluster, and how it is reached.
    pub(super) fn cluster(&self) -> ClusterConfig {
        ClusterConfig {
            api_server: self.api_server.clone(),
            kubeconfig_file: self.kubeconfig_file.clone(),
            http: self.http_client(),
            ..ClusterConfig::default()
        }
    }

    /// Whether targets get labels of their nodes.
    pub(super) fn attaches_nodes(&self) -> bool {
        self.attach_metadata.node && matches!(self.role, Role::Pod | Role::Endpoints | Role::EndpointSlice)
    }

    /// Why Prometheus would refuse it, too.
    pub(in crate::discovery) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, reason: &str| {
            if wrong {
                problems.push(format!("kubernetes_sd_configs: {reason}"));
            }
        };
        let has = (self.api_server.is_some(), self.kubeconfig_file.is_some());
        check(has == (true, true), "cannot use 'kubeconfig_file' and 'api_server' simultaneously");
        let own = self.namespaces.own_namespace;
        check(own && has.0, "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously");
        check(own && has.1, "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously");
        let custom = self.http_client() != http_client::Config::default();
        check(
            custom && !has.0,
            "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
        );
        if let Some(server) = &self.api_server {
            let url = reqwest::Url::parse(server).ok();
            let good = url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            check(!good, &format!("api_server `{server}` is not an http or https URL"));
        }
        for name in &self.namespaces.names {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            check(name.is_empty() || !name.chars().all(good), &format!("`{name}` is not the name of a namespace"));
        }
        let allowed: &[Role] = match self.role {
            Role::Endpoints => &[Role::Pod, Role::Service, Role::Endpoints],
            Role::EndpointSlice => &[Role::Pod, Role::Service, Role::EndpointSlice],
            Role::Pod | Role::Service | Role::Node | Role::Ingress => &[self.role],
        };
        for (i, selector) in self.selectors.iter().enumerate() {
            let twice = self.selectors[..i].iter().any(|before| before.role == selector.role);
            check(twice, &format!("duplicated selector role: {}", selector.role));
            for (kind, wrong) in selector.mistakes() {
                check(true, &format!("selectors: {kind}: `{wrong}` is not a {kind} selector"));
            }
            if !allowed.contains(&selector.role) {
                let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
                check(true, &format!("{} role supports only {} selectors", self.role, names.join(", ")));
            }
        }
        problems.extend(self.http_client().validate().err().map(|error| format!("kubernetes_sd_configs: {error}")));
        problems
    }
}
