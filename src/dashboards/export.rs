//! Writes dashboards in the form somebody wants them: plain JSON, a ConfigMap as the guide shows, a folder to provision
//! Grafana with, or objects of the Grafana operator.
//!
//! In: [`Export`]. Out: [`File`]s in memory; writing them is the caller's. Nothing comes out when anything is wrong.

use super::choice::{concerns, for_mesh, with_pages_at, without_pages};
use super::grafana::{Choice, Dashboard};
use super::sources::{self, Addresses, quoted};
use super::{Mesh, Named, Source, all, recorded};

/// Kubernetes refuses larger ConfigMaps, and etcd larger objects.
const OBJECT_LIMIT_BYTES: usize = 1024 * 1024;
/// Grafana cuts longer names of data sources and folders.
const NAME_LIMIT: usize = 189;
/// Folder of Grafana where none is named.
const FOLDER: &str = "Service mesh";
/// Where Grafana reads what provisions it.
const PROVISIONED: &str = "/etc/grafana/provisioning/dashboards/meshscope";

/// What form the files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Grafana's JSON, for import or file provisioning.
    #[default]
    Json,
    /// A ConfigMap with the label `grafana_dashboard: "1"`, which Grafana's dashboard sidecar looks for.
    ConfigMap,
    /// Grafana's folder `provisioning`: dashboards, who reads them, and data sources.
    Provisioning,
    /// GrafanaDashboard and GrafanaDatasource objects of the Grafana operator (`grafana.integreatly.org/v1beta1`).
    Operator,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::ConfigMap, Self::Provisioning, Self::Operator];

    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::ConfigMap => "configmap",
            Self::Provisioning => "provisioning",
            Self::Operator => "operator",
        }
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct Export {
    /// Form of the files.
    pub format: Format,
    /// Who answers the queries: leaves out boards that it has nothing for. Without it, all boards, for both.
    pub source: Option<Source>,
    /// Uid or name of the data source chosen at first; without it `meshscope`'s where `source` is that, else Grafana takes
    /// its default Prometheus.
    pub datasource: Option<String>,
    /// Only the boards that concern this mesh, with the reporters it has.
    pub mesh: Option<Mesh>,
    /// Grafana's folder for the boards.
    pub folder: Option<String>,
    /// Namespace of the objects; without it, that of whoever applies them.
    pub namespace: Option<String>,
    /// Whether the heavy panels read what `alerts/recording.yaml` records.
    pub recording_rules: bool,
    /// Where the data sources are; without it they are at the names of `deploy/`.
    pub addresses: Option<Addresses>,
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
    /// The object would be refused by Kubernetes.
    #[error(
        "dashboard `{name}` is {bytes} bytes as a kubernetes object, over the limit of {limit_bytes}; export it as json or provisioning"
    )]
    TooLarge {
        /// Which.
        name: &'static str,
        /// Its size.
        bytes: usize,
        /// Kubernetes' limit.
        limit_bytes: usize,
    },
    /// Nothing in Grafana can have this name.
    #[error("`{name}` cannot name a {what}: 1 to {NAME_LIMIT} characters, none a control character{more}")]
    BadLabel {
        /// A data source or a folder.
        what: &'static str,
        /// As given.
        name: String,
        /// What else is not allowed.
        more: &'static str,
    },
    /// Kubernetes would refuse the name.
    #[error("`{name}` cannot name a kubernetes object: lower-case letters, digits and inner hyphens, 63 at most")]
    BadName {
        /// As given.
        name: String,
    },
    /// Grafana could not reach anything there.
    #[error("`{address}` is no {what}")]
    BadAddress {
        /// As given.
        address: String,
        /// What it should be, with an example.
        what: &'static str,
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

/// Every dashboard that is asked for, in the form asked for, with what belongs to the form.
///
/// # Errors
/// When a name or address cannot be one, or an object would be too large.
pub fn export(export: &Export) -> Result<Vec<File>, Error> {
    let boards = chosen(export)?;
    let mut files =
        boards.iter().map(|named| file(named, export, OBJECT_LIMIT_BYTES)).collect::<Result<Vec<_>, _>>()?;
    let addresses = export.addresses.clone().unwrap_or_default();
    let has_sources = export.source != Some(Source::Prometheus);
    match export.format {
        Format::Json | Format::ConfigMap => {}
        Format::Provisioning => {
            files.push(File { path: "dashboards/meshscope.yaml".to_owned(), contents: provider(export) });
            if has_sources {
                let contents = sources::provisioning(&addresses);
                files.push(File { path: "datasources/meshscope.yaml".to_owned(), contents });
            }
        }
        Format::Operator if has_sources => {
            let contents = sources::objects(&addresses, |name| head(name, export));
            files.push(File { path: "grafanadatasources.yaml".to_owned(), contents });
        }
        Format::Operator => {}
    }
    Ok(files)
}

/// The one dashboard of that uid, in the form asked for; none when there is no such board, or it does not concern what is
/// asked for.
///
/// # Errors
/// As [`export`].
pub fn export_one(uid: &str, export: &Export) -> Result<Option<File>, Error> {
    let board = chosen(export)?.into_iter().find(|named| named.dashboard.uid == uid);
    board.map(|named| file(&named, export, OBJECT_LIMIT_BYTES)).transpose()
}

/// The boards that are asked for, fitted to mesh and data source.
///
/// # Errors
/// When a name or address cannot be one.
pub fn chosen(export: &Export) -> Result<Vec<Named>, Error> {
    check(export)?;
    let wanted = all().into_iter().filter(|named| concerns(named, export.mesh, export.source));
    Ok(wanted.map(|named| Named { dashboard: fitted(named.dashboard.clone(), export), ..named }).collect())
}

fn fitted(dashboard: Dashboard, export: &Export) -> Dashboard {
    let dashboard = if export.recording_rules { recorded(dashboard) } else { dashboard };
    let dashboard = match export.mesh {
        Some(mesh) => for_mesh(dashboard, mesh),
        None => dashboard,
    };
    let dashboard = match (export.source, &export.addresses) {
        (Some(Source::Prometheus), _) => without_pages(dashboard),
        (_, Some(addresses)) => with_pages_at(dashboard, addresses.meshscope.trim_end_matches('/')),
        _ => dashboard,
    };
    let own = (export.source == Some(Source::Meshscope)).then_some(sources::METRICS);
    with_datasource(dashboard, export.datasource.as_deref().or(own), own.is_some())
}

fn check(export: &Export) -> Result<(), Error> {
    let fits = |name: &str| (1..=NAME_LIMIT).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if let Some(name) = export.datasource.as_ref().filter(|name| !fits(name)) {
        return Err(Error::BadLabel { what: "data source", name: name.clone(), more: "" });
    }
    let is_path = |name: &str| name.contains(['/', '\\']) || name == "." || name == "..";
    if let Some(name) = export.folder.as_ref().filter(|name| !fits(name) || is_path(name) || name.trim() != *name) {
        return Err(Error::BadLabel { what: "folder", name: name.clone(), more: ", no slash, no blanks around it" });
    }
    if let Some(name) = export.namespace.as_ref().filter(|name| !is_dns_label(name)) {
        return Err(Error::BadName { name: name.clone() });
    }
    let Some(Addresses { meshscope, sql, database, role }) = &export.addresses else { return Ok(()) };
    let bad = |address: &str, what| Err(Error::BadAddress { address: address.to_owned(), what });
    let rest = meshscope.strip_prefix("http://").or_else(|| meshscope.strip_prefix("https://"));
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || c.is_control())) {
        return bad(meshscope, "address of meshscope: write http://HOST:PORT");
    }
    let port = sql.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) || sql.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return bad(sql, "address of PostgreSQL: write HOST:PORT");
    }
    match [database, role].into_iter().find(|name| !fits(name)) {
        Some(name) => bad(name, "name of a database or role"),
        None => Ok(()),
    }
}

/// A board in its form; what the whole of them needs beside comes from [`export`].
fn file(named: &Named, export: &Export, limit_bytes: usize) -> Result<File, Error> {
    let json =
        serde_json::to_string_pretty(&named.dashboard).map_err(|source| Error::Json { name: named.name, source })?;
    let (path, contents, is_object) = match export.format {
        Format::Json => {
            let folder = export.folder.as_ref().map(|folder| format!("{folder}/")).unwrap_or_default();
            (format!("{folder}{}.json", named.name), json + "\n", false)
        }
        Format::Provisioning => (format!("dashboards/meshscope/{}.json", named.name), json + "\n", false),
        Format::ConfigMap => (format!("{}.yaml", named.config_map), config_map(named, export, &json), true),
        Format::Operator => (format!("grafanadashboard-{}.yaml", named.name), operator(named, export, &json), true),
    };
    match is_object && contents.len() > limit_bytes {
        true => Err(Error::TooLarge { name: named.name, bytes: contents.len(), limit_bytes }),
        false => Ok(File { path, contents }),
    }
}

/// `own`: the sources are those that we provision, so the other one has its uid too.
fn with_datasource(mut dashboard: Dashboard, datasource: Option<&str>, own: bool) -> Dashboard {
    for variable in &mut dashboard.templating.list {
        let chosen = match variable.name {
            "datasource" => datasource,
            "sql" if own => Some(sources::SQL),
            _ => continue,
        };
        if let Some(name) = chosen {
            variable.current = Some(Choice { text: name.to_owned(), value: name.to_owned(), selected: true });
        }
    }
    dashboard
}

/// The guide's object, with a dashboard in it that shows something.
fn config_map(named: &Named, export: &Export, json: &str) -> String {
    let namespace = namespace(export);
    // What `sidecar.dashboards.folderAnnotation` of Grafana's chart is usually set to.
    let folder =
        export.folder.as_ref().map(|folder| format!("  annotations:\n    grafana_folder: {}\n", quoted(folder)));
    let Named { config_map: name, key, .. } = named;
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{namespace}  labels:\n    grafana_dashboard: \"1\"\n{}data:\n  {key}: |\n{}",
        folder.unwrap_or_default(),
        indented(json, "    ")
    )
}

fn namespace(export: &Export) -> String {
    export.namespace.as_ref().map(|namespace| format!("  namespace: {namespace}\n")).unwrap_or_default()
}

/// Metadata of an object of the operator, and the begin of its specification: for every Grafana with the label that the
/// operator's own examples bear.
fn head(name: &str, export: &Export) -> String {
    let namespace = namespace(export);
    format!(
        "metadata:\n  name: {name}\n{namespace}spec:\n  allowCrossNamespaceImport: true\n  instanceSelector:\n    matchLabels:\n      dashboards: grafana\n"
    )
}

fn operator(named: &Named, export: &Export, json: &str) -> String {
    let folder = quoted(export.folder.as_deref().unwrap_or(FOLDER));
    format!(
        "apiVersion: grafana.integreatly.org/v1beta1\nkind: GrafanaDashboard\n{}  folder: {folder}\n  json: |\n{}",
        head(named.config_map, export),
        indented(json, "    ")
    )
}

/// Who reads the boards: `dashboards/meshscope.yaml` of Grafana's provisioning folder.
fn provider(export: &Export) -> String {
    let folder = quoted(export.folder.as_deref().unwrap_or(FOLDER));
    format!(
        "apiVersion: 1\nproviders:\n- name: meshscope\n  orgId: 1\n  folder: {folder}\n  type: file\n  disableDeletion: false\n  allowUiUpdates: false\n  updateIntervalSeconds: 30\n  options:\n    path: {PROVISIONED}\n    foldersFromFilesStructure: false\n"
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_object_over_the_limit_is_refused_with_its_size_and_json_is_not() {
        let named = all().remove(0);
        for format in [Format::ConfigMap, Format::Operator] {
            let asked = Export { format, ..Export::default() };
            let size = file(&named, &asked, OBJECT_LIMIT_BYTES).unwrap().contents.len();
            let error = file(&named, &asked, size - 1).unwrap_err();
            let expect = format!(
                "dashboard `istio-mesh` is {size} bytes as a kubernetes object, over the limit of {}; export it as json or provisioning",
                size - 1
            );
            assert_eq!(error.to_string(), expect);
            assert!(file(&named, &asked, size).is_ok());
        }
        for format in [Format::Json, Format::Provisioning] {
            assert!(file(&named, &Export { format, ..Export::default() }, 1).is_ok());
        }
    }
}
