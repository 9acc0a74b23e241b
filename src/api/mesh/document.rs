//! The OpenAPI document of our own API, made of its operations.
//!
//! In: [`Operation`]s. Out: JSON. Schemas are those of the types that are read and written, descriptions their doc comments.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::operation::{Operation, ROOT};

const ABOUT: &str = "What the traffic of a service mesh does: graph, traces, what it costs, and who was told. The other APIs are \
                     those of Prometheus (/api/v1), Alertmanager, Jaeger and Tempo.";

/// What went wrong.
#[derive(JsonSchema)]
#[schemars(rename = "Error", rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `ApiError` writes")]
struct Failure {
    /// Always error.
    #[schemars(extend("enum" = ["error"]))]
    status: String,
    /// Kind.
    #[schemars(extend("enum" = ["bad_data", "execution", "canceled", "timeout", "not_found", "unavailable", "internal"]))]
    error_type: String,
    /// Text for people.
    error: String,
}

/// The document, with a line break at its end.
pub(super) fn write(operations: &[Operation]) -> String {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut answers = settings.clone().for_serialize().into_generator();
    let mut queries = settings.with(|settings| settings.inline_subschemas = true).for_deserialize().into_generator();
    let failure = answers.subschema_for::<Failure>().to_value();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let responses = json!({
            "200": { "description": "Found.", "content": content(operation, &mut answers) },
            "default": { "description": "Refused or failed.", "content": { "application/json": { "schema": failure } } },
        });
        let described = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "parameters": parameters(operation, &mut queries),
            "responses": responses,
        });
        let path = paths.entry(format!("{ROOT}{}", operation.path)).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_lowercase()] = described;
    }
    let mut schemas = answers.take_definitions(true);
    schemas.values_mut().for_each(as_it_is_written);
    let document = json!({
        "openapi": "3.1.0",
        "info": { "title": "meshscope", "version": "1", "description": ABOUT },
        "paths": paths,
        "components": { "schemas": schemas },
    });
    format!("{document:#}\n")
}

/// Bodies of a good answer by media type; several of one type are one or the other.
fn content(operation: &Operation, answers: &mut SchemaGenerator) -> Value {
    let mut by_type: Map<String, Value> = Map::new();
    let wrapped = operation.data.map(|data| ("application/json", wrapped(data(answers).to_value())));
    let others = operation.others.iter().map(|one| (one.media_type, (one.schema)(answers).to_value()));
    for (media_type, mut schema) in wrapped.into_iter().chain(others.collect::<Vec<_>>()) {
        as_it_is_written(&mut schema);
        match by_type.get_mut(media_type) {
            Some(former) => {
                let first = former["schema"].take();
                *former = json!({ "schema": { "description": "By the format asked for.", "anyOf": [first, schema] } });
            }
            None => _ = by_type.insert(media_type.to_owned(), json!({ "schema": schema })),
        }
    }
    by_type.into()
}

fn wrapped(data: Value) -> Value {
    json!({
        "type": "object",
        "description": "Success.",
        "required": ["status", "data"],
        "properties": {
            "status": { "type": "string", "description": "Always success.", "enum": ["success"] },
            "data": data,
            "warnings": {
                "type": "array",
                "description": "What may be missing, and why.",
                "items": { "type": "string" },
            },
        },
    })
}

/// The fields of the types that the parameters are read into.
fn parameters(operation: &Operation, queries: &mut SchemaGenerator) -> Value {
    let schema = (operation.query)(queries).to_value();
    let parts = schema["prefixItems"].as_array().cloned().unwrap_or_else(|| vec![schema]);
    let mut parameters = Vec::new();
    for part in &parts {
        let required = part["required"].as_array().cloned().unwrap_or_default();
        for (name, schema) in part["properties"].as_object().into_iter().flatten() {
            let is_captured = operation.path.contains(&format!("{{{name}}}"));
            let mut schema = schema.clone();
            without_null(&mut schema);
            simpler_numbers(&mut schema);
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            parameters.push(json!({
                "name": name,
                "in": if is_captured { "path" } else { "query" },
                "required": is_captured || required.iter().any(|one| one == name),
                "description": description,
                "schema": schema,
            }));
        }
    }
    parameters.into()
}

/// Says of a schema and all in it what holds for our answers: a field that is not known is left out instead of `null`, and an
/// object has no fields beyond those named.
fn as_it_is_written(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(as_it_is_written),
        Value::Object(fields) => {
            fields.values_mut().for_each(as_it_is_written);
            let required = fields.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
                let absent = properties.iter_mut().filter(|(name, _)| required.iter().all(|one| one != name.as_str()));
                absent.for_each(|(_, property)| without_null(property));
                fields.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            simpler_numbers(schema);
        }
        _ => {}
    }
}

/// Undoes what an `Option` adds.
fn without_null(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if let Some(types) = fields.get_mut("type")
        && let [kind, Value::String(null)] = types.as_array().map(Vec::as_slice).unwrap_or_default()
        && null == "null"
    {
        *types = kind.clone();
    }
    if let Some([Value::Object(kind), null]) = fields.get("anyOf").and_then(Value::as_array).map(Vec::as_slice)
        && null["type"] == "null"
    {
        let kind = kind.clone();
        fields.remove("anyOf");
        fields.extend(kind);
    }
}

/// Leaves out formats that only Rust knows.
fn simpler_numbers(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        fields.remove("format");
    }
}
