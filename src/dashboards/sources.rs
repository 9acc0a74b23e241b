//! The data sources of Grafana that meshscope answers, as a provisioning file and as objects of the Grafana operator.
//!
//! In: [`Addresses`]. Out: YAML. The fields are those of Grafana 10 to 13 (`apiVersion: 1`); the uids are stable, so that
//! boards and links between the sources hold on to them. No password is written: Grafana takes it from its environment.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Uid of the Prometheus data source.
pub(super) const METRICS: &str = "meshscope";
const ALERTS: &str = "meshscope-alertmanager";
const JAEGER: &str = "meshscope-jaeger";
const TEMPO: &str = "meshscope-tempo";
/// Uid of the PostgreSQL data source.
pub(super) const SQL: &str = "meshscope-sql";
/// Grafana's variable of its own environment that holds the password of the SQL role.
const PASSWORD: &str = "MESHSCOPE_SQL_PASSWORD";

/// Where Grafana finds things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// meshscope, as Grafana's server reaches it. Default `http://meshscope:7070`.
    pub meshscope: String,
    /// PostgreSQL as `HOST:PORT`. Default `postgres:5432`.
    pub sql: String,
    /// Its database. Default `meshscope`.
    pub database: String,
    /// The role that `meshscope migrate --grant-readonly` made. Default `grafana`.
    pub role: String,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            meshscope: "http://meshscope:7070".to_owned(),
            sql: "postgres:5432".to_owned(),
            database: "meshscope".to_owned(),
            role: "grafana".to_owned(),
        }
    }
}

/// One data source: its name, uid, type, and what its type has beside.
struct DataSource {
    name: &'static str,
    uid: &'static str,
    kind: &'static str,
    rest: Value,
}

fn all(addresses: &Addresses) -> [DataSource; 5] {
    let Addresses { meshscope, sql, database, role } = addresses;
    let meshscope = meshscope.trim_end_matches('/');
    let source = |name, uid, kind, rest| DataSource { name, uid, kind, rest };
    [
        source("meshscope", METRICS, "prometheus", json!({ "url": meshscope, "jsonData": metrics() })),
        source(
            "meshscope alerts",
            ALERTS,
            "alertmanager",
            json!({
                "url": format!("{meshscope}/alertmanager"),
                "jsonData": { "implementation": "prometheus", "handleGrafanaManagedAlerts": false },
            }),
        ),
        source(
            "meshscope traces (Jaeger)",
            JAEGER,
            "jaeger",
            json!({
                "url": format!("{meshscope}/jaeger"),
                "jsonData": { "nodeGraph": { "enabled": true }, "tracesToMetrics": to_metrics() },
            }),
        ),
        source(
            "meshscope traces",
            TEMPO,
            "tempo",
            json!({
                "url": format!("{meshscope}/tempo"),
                "jsonData": {
                    "serviceMap": { "datasourceUid": METRICS },
                    "tracesToMetrics": to_metrics(),
                    "nodeGraph": { "enabled": true },
                    "search": { "hide": false },
                    // Tempo streams over gRPC, which meshscope does not offer.
                    "streamingEnabled": { "search": false, "metrics": false },
                    "traceQuery": { "timeShiftEnabled": true, "spanStartTimeShift": "-30m", "spanEndTimeShift": "30m" },
                },
            }),
        ),
        source(
            "meshscope SQL",
            SQL,
            // Its name until Grafana 10.1, and an alias of `grafana-postgresql-datasource` since.
            "postgres",
            json!({
                "url": sql,
                "user": role,
                "jsonData": {
                    "database": database, "sslmode": "require", "postgresVersion": 1500, "timescaledb": false,
                    "maxOpenConns": 4, "maxIdleConns": 2, "connMaxLifetime": 14400,
                },
                "secureJsonData": { "password": format!("${{{PASSWORD}}}") },
            }),
        ),
    ]
}

fn metrics() -> Value {
    let traces = |label: &str| json!({ "name": label, "datasourceUid": TEMPO });
    json!({
        "httpMethod": "POST",
        "prometheusType": "Prometheus",
        "prometheusVersion": "3.5.0",
        "timeInterval": "15s",
        "manageAlerts": true,
        "alertmanagerUid": ALERTS,
        "cacheLevel": "Low",
        "exemplarTraceIdDestinations": [traces("trace_id"), traces("traceID")],
    })
}

/// From a span to how its service does; the queries read Tempo's span metrics, which meshscope derives.
fn to_metrics() -> Value {
    let calls = "rate(traces_spanmetrics_calls_total{$__tags}[5m])";
    let failed = r#"rate(traces_spanmetrics_calls_total{$__tags, status_code="STATUS_CODE_ERROR"}[5m])"#;
    let slow = "histogram_quantile(0.95, sum by (le) (rate(traces_spanmetrics_latency_bucket{$__tags}[5m])))";
    let query = |name: &str, query: String| json!({ "name": name, "query": query });
    json!({
        "datasourceUid": METRICS,
        "spanStartTimeShift": "-15m",
        "spanEndTimeShift": "15m",
        "tags": [{ "key": "service.name", "value": "service" }],
        "queries": [
            query("Calls", format!("sum({calls})")),
            query("Errors", format!("sum({failed}) / sum({calls})")),
            query("p95", slow.to_owned()),
        ],
    })
}

/// `datasources/meshscope.yaml` of Grafana's provisioning folder.
pub(super) fn provisioning(addresses: &Addresses) -> String {
    let mut text = format!(
        "# Data sources that meshscope answers. Grafana needs ${PASSWORD} in its environment: the password of the role\n# that `meshscope migrate --grant-readonly` made.\napiVersion: 1\ndatasources:\n"
    );
    for DataSource { name, uid, kind, rest } in all(addresses) {
        let _ = write!(text, "- name: {}\n  uid: {uid}\n  type: {kind}\n  access: proxy\n  orgId: 1\n", quoted(name));
        // Grafana replaces `$NAME` by its environment; a doubled one stays a dollar sign.
        text.push_str(&fields(&escaped(rest), 2));
        text.push_str("  editable: false\n");
    }
    text
}

/// A GrafanaDatasource for each source, for the Grafana operator.
pub(super) fn objects(addresses: &Addresses, head: impl Fn(&str) -> String) -> String {
    let mut documents = Vec::new();
    for DataSource { name, uid, kind, mut rest } in all(addresses) {
        let mut text = format!("apiVersion: grafana.integreatly.org/v1beta1\nkind: GrafanaDatasource\n{}", head(uid));
        if rest.get("secureJsonData").is_some() {
            // The operator puts the secret's value in the place of the variable.
            let _ = write!(
                text,
                "  valuesFrom:\n  - targetPath: secureJsonData.password\n    valueFrom:\n      secretKeyRef:\n        name: {uid}\n        key: {PASSWORD}\n"
            );
        }
        if let Some(rest) = rest.as_object_mut() {
            rest.insert("isDefault".to_owned(), false.into());
        }
        let _ = write!(
            text,
            "  datasource:\n    name: {}\n    uid: {uid}\n    type: {kind}\n    access: proxy\n",
            quoted(name)
        );
        text.push_str(&fields(&rest, 4));
        documents.push(text);
    }
    documents.join("---\n")
}

fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) if !text.contains(PASSWORD) => Value::String(text.replace('$', "$$")),
        Value::Array(items) => Value::Array(items.into_iter().map(escaped).collect()),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(key, value)| (key, escaped(value))).collect()),
        other => other,
    }
}

/// The fields of an object as YAML: blocks for objects, JSON (which YAML is) for the rest.
fn fields(object: &Value, indent: usize) -> String {
    let mut text = String::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        let pad = " ".repeat(indent);
        match value {
            Value::Object(_) => {
                let _ = write!(text, "{pad}{key}:\n{}", fields(value, indent + 2));
            }
            Value::Array(items) => {
                let _ = writeln!(text, "{pad}{key}:");
                items.iter().for_each(|item| {
                    let _ = writeln!(text, "{pad}- {item}");
                });
            }
            other => {
                let _ = writeln!(text, "{pad}{key}: {other}");
            }
        }
    }
    text
}

/// A text in quotes, as JSON and YAML both read it.
pub(super) fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}
