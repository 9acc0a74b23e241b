//! What PostgreSQL says of itself, as pieces of the bundle and as facts.

use serde_json::Value;

use super::Piece;
use super::checks::{Database, Facts};
use crate::store;

pub(super) async fn gather(config: &store::Config, pieces: &mut Vec<Piece>, facts: &mut Facts) {
    let diagnosis = match store::diagnose(config).await {
        Ok(diagnosis) => diagnosis,
        Err(error) => {
            let reason = error.to_string();
            pieces.push(Piece::new("database-server.json", Err(reason.clone())));
            facts.database = Some(Err(reason));
            return;
        }
    };
    let row = |name: &str| -> Vec<Value> {
        let found = diagnosis.answers.iter().find(|(question, _)| *question == name);
        found.and_then(|(_, answer)| answer.clone().ok()).unwrap_or_default()
    };
    let server = row("server").into_iter().next().unwrap_or_default();
    let number = |key: &str| server[key].as_f64();
    let schema = row("schema").iter().filter_map(|row| row["version"].as_i64()).max();
    let setting = |name: &str| {
        let found = row("settings").into_iter().find(|row| row["name"] == name);
        found.and_then(|row| Some(row["setting"].as_str()?.to_owned()))
    };
    facts.database = Some(Ok(Database {
        place: diagnosis.place.clone(),
        version: server["server_version"].as_str().unwrap_or("?").to_owned(),
        version_number: number("server_version_num").unwrap_or(0.0) as u32,
        bytes: number("database_bytes").unwrap_or(0.0),
        connections: number("connections").unwrap_or(0.0),
        connections_max: number("connections_max").unwrap_or(0.0),
        longest_transaction_seconds: number("longest_transaction_seconds").unwrap_or(0.0),
        transaction_age: number("transaction_age").unwrap_or(0.0),
        is_replica: server["is_replica"] == true,
        blocked: row("locks").len(),
        schema: (schema, diagnosis.schema_version_known),
        clock_ahead_seconds: diagnosis.clock_ahead_seconds,
        unsafe_settings: ["fsync", "full_page_writes", "autovacuum"]
            .into_iter()
            .filter(|name| setting(name).is_some_and(|value| value == "off"))
            .collect(),
    }));
    for (name, answer) in diagnosis.answers {
        let text = answer.map(|rows| format!("{:#}\n", Value::from(rows)));
        pieces.push(Piece::new(format!("database-{}.json", name.replace('_', "-")), text));
    }
}
