//! Writes dashboards in the form somebody wants them: plain JSON, or a ConfigMap as the guide shows.
//!
//! In: [`Export`]. Out: [`File`]s in memory; writing them is the caller's.

use super::{
    all,
    grafana::{Choice, Dashboard},
    recorded,
};

/// Kubernetes refuses larger ConfigMaps.
const CONFIG_MAP_LIMIT_BYTES: usize = 1024 * 1024;
/// Grafana cuts longer names of data sources.
const DATASOURCE_LIMIT: usize = 190;

/// What form the files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Grafana's JSON, for import or file provisioning.
    #[default]
    Json,
    /// A ConfigMap with the label `grafana_dashboard: "1"`, which Grafana's dashboard sidecar looks for.
    ConfigMap,
}

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct Export {
    /// Form of the files.
    pub format: Format,
    /// Uid or name of the data source chosen at first; without it Grafana takes its default Prometheus.
    pub datasource: Option<String>,
    /// Namespace of the ConfigMap; without it, that of whoever applies it.
    pub namespace: Option<String>,
    /// Whether the heavy panels read what `alerts/recording.yaml` records.
    pub recording_rules: bool,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Name, relative to the directory the user gives.
    pub path: String,
    /// Text.
    pub contents: String,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ConfigMap would be refused by Kubernetes.
    #[error("dashboard `{name}` is {bytes} bytes as a ConfigMap, over the limit of {limit_bytes}; export it as JSON")]
    TooLarge {
        /// Which.
        name: &'static str,
        /// Its size.
        bytes: usize,
        /// Kubernetes' limit.
        limit_bytes: usize,
    },
    /// No data source can have this name.
    #[error("`{datasource}` cannot name a data source: 1 to {DATASOURCE_LIMIT} characters, none a control character")]
    BadDatasource {
        /// As given.
        datasource: String,
    },
    /// Kubernetes would refuse the name.
    #[error("`{name}` cannot name a kubernetes object: lower-case letters, digits and inner hyphens, 63 at most")]
    BadName {
        /// As given.
        name: String,
    },
    /// The dashboard did not become JSON.
    #[error("dashboard `{name}` did not become json")]
    Json {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Not a rule file.
    #[error("not a rule file: it must be one YAML document that begins with a top-level `groups:`")]
    NotARuleFile,
}

/// Every dashboard in the form asked for.
///
/// # Errors
/// When a name cannot be one, or a ConfigMap would be too large.
pub fn export(export: &Export) -> Result<Vec<File>, Error> {
    let Export { format, datasource, namespace, recording_rules } = export;
    if let Some(datasource) = datasource
        && (datasource.is_empty()
            || datasource.chars().count() > DATASOURCE_LIMIT
            || datasource.chars().any(char::is_control))
    {
        return Err(Error::BadDatasource { datasource: datasource.clone() });
    }
    if let Some(namespace) = namespace
        && !is_dns_label(namespace)
    {
        return Err(Error::BadName { name: namespace.clone() });
    }
    all()
        .into_iter()
        .map(|named| {
            let dashboard = if *recording_rules { recorded(named.dashboard) } else { named.dashboard };
            let dashboard = with_datasource(dashboard, datasource.as_deref());
            let json =
                serde_json::to_string_pretty(&dashboard).map_err(|source| Error::Json { name: named.name, source })?;
            match format {
                Format::Json => Ok(File { path: format!("{}.json", named.name), contents: json + "\n" }),
                Format::ConfigMap => {
                    let contents = config_map(named.config_map, namespace.as_deref(), &json);
                    if contents.len() > CONFIG_MAP_LIMIT_BYTES {
                        let (bytes, limit_bytes) = (contents.len(), CONFIG_MAP_LIMIT_BYTES);
                        return Err(Error::TooLarge { name: named.name, bytes, limit_bytes });
                    }
                    Ok(File { path: format!("{}.yaml", named.config_map), contents })
                }
            }
        })
        .collect()
}

fn with_datasource(mut dashboard: Dashboard, datasource: Option<&str>) -> Dashboard {
    if let (Some(datasource), Some(variable)) = (datasource, dashboard.templating.list.first_mut()) {
        variable.current = Some(Choice { text: datasource.to_owned(), value: datasource.to_owned(), selected: true });
    }
    dashboard
}

/// The guide's object, name and key, with a dashboard in it that shows something.
fn config_map(name: &str, namespace: Option<&str>, json: &str) -> String {
    let namespace = namespace.map(|namespace| format!("  namespace: {namespace}\n")).unwrap_or_default();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{namespace}  labels:\n    grafana_dashboard: \"1\"\ndata:\n  dashboard.json: |\n{}",
        indented(json, "    ")
    )
}

/// A rule file as a PrometheusRule object of the Prometheus operator.
///
/// # Errors
/// When the text has no top-level `groups:` or holds several documents, or a name cannot be one.
pub fn prometheus_rule(name: &str, namespace: Option<&str>, rule_file: &str) -> Result<String, Error> {
    let documents = rule_file.lines().filter(|line| line.trim_end() == "---").count();
    if documents > 0 || !rule_file.lines().any(|line| line.trim_end() == "groups:") {
        return Err(Error::NotARuleFile);
    }
    for label in [Some(name), namespace].into_iter().flatten() {
        if !is_dns_label(label) {
            return Err(Error::BadName { name: label.to_owned() });
        }
    }
    let namespace = namespace.map(|namespace| format!("  namespace: {namespace}\n")).unwrap_or_default();
    Ok(format!(
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: {name}\n{namespace}spec:\n{}",
        indented(rule_file, "  ")
    ))
}

/// Each line further to the right; empty lines stay empty.
fn indented(text: &str, by: &str) -> String {
    let mut indented = String::with_capacity(text.len() * 5 / 4);
    for line in text.lines() {
        if !line.is_empty() {
            indented.push_str(by);
            indented.push_str(line);
        }
        indented.push('\n');
    }
    indented
}

/// RFC 1123, as Kubernetes checks names.
fn is_dns_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}
