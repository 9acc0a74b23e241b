//! What the variables of a board ask Prometheus: `label_values(selector, label)` and `query_result(expression)`.
//!
//! In: a variable as the board has it. Out: its query as PromQL, or none where Grafana asks something else. Pure. A variable
//! that lists nothing leaves every panel below it empty, without a word.

use serde_json::Value;

use super::is_other;

/// A variable's query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed<'a> {
    /// Where it stands in the variable, `query` or `query.query`.
    pub field: &'static str,
    /// As written.
    pub raw: &'a str,
    /// The selector or expression in it.
    pub asked: &'a str,
    /// The label whose values are listed; none: samples are asked for, or only the viewer knows which label.
    pub label: Option<&'a str>,
}

/// The query of a variable; none for one of another kind, data source or form.
pub(super) fn listed(variable: &Value) -> Option<Listed<'_>> {
    if variable["type"] != "query" || is_other(&variable["datasource"]) {
        return None;
    }
    // Grafana keeps it as a text, or since version 8 as an object.
    let (field, raw) = match &variable["query"] {
        Value::String(raw) => ("query", raw.as_str()),
        Value::Object(_) => ("query.query", variable["query"]["query"].as_str()?),
        _ => return None,
    };
    if let Some(asked) = within(raw, "query_result(") {
        return Some(Listed { field, raw, asked, label: None });
    }
    let (asked, label) = within(raw, "label_values(")?.rsplit_once(',')?;
    let label = label.trim();
    if !is_word(label.trim_start_matches('$')) {
        return None; // the comma belongs to a selector: no label is named
    }
    Some(Listed { field, raw, asked: asked.trim(), label: Some(label).filter(|label| !label.starts_with('$')) })
}

/// What stands between `open` and the last bracket.
fn within<'a>(raw: &'a str, open: &str) -> Option<&'a str> {
    let inner = raw.trim().strip_prefix(open)?.strip_suffix(')')?.trim();
    (!inner.is_empty()).then_some(inner)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_selector_and_the_label_are_found_in_every_form_that_grafana_writes() {
        for (query, expect) in [
            (json!("label_values(up, job)"), Some(("up", Some("job")))),
            (json!(" label_values(up{a=\"b, c\"}, job ) "), Some(("up{a=\"b, c\"}", Some("job")))),
            (
                json!({"query": "label_values({__name__=~\"a|b\"}, x)", "refId": "V"}),
                Some(("{__name__=~\"a|b\"}", Some("x"))),
            ),
            (json!("label_values(up, $label)"), Some(("up", None))),
            (json!("query_result(topk(5, sum(up)))"), Some(("topk(5, sum(up))", None))),
            (json!("label_values(job)"), None),
            (json!("label_values(up{a=\"b, c\"})"), None),
            (json!("metrics(istio_.*)"), None),
            (json!("SELECT name FROM edges"), None),
            (json!(7), None),
        ] {
            let variable = json!({"type": "query", "query": query});
            let found = listed(&variable);
            assert_eq!(found.as_ref().map(|one| (one.asked, one.label)), expect, "{variable}");
            assert!(found.is_none_or(|one| one.field == if query.is_string() { "query" } else { "query.query" }));
        }
        let query = json!("label_values(up, job)");
        assert_eq!(listed(&json!({"type": "custom", "query": query})), None);
        assert_eq!(listed(&json!({"type": "query", "query": query, "datasource": {"type": "loki"}})), None);
    }
}
