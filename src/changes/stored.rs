//! Fields and effects as JSON, for the database. What cannot be read of a row is left out: it loses no other.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{Effect, FieldChange, Measure};

/// `[{"path": …, "before": …, "after": …}]`, and how many were left out.
pub fn fields_json(fields: &[FieldChange], left_out: usize) -> Json {
    let one = |field: &FieldChange| {
        let FieldChange { path, before, after } = field;
        json!({"path": path, "before": before, "after": after})
    };
    json!({"fields": fields.iter().map(one).collect::<Vec<_>>(), "left_out": left_out})
}

/// The inverse of [`fields_json`].
pub fn fields_from(value: &Json) -> (Vec<FieldChange>, usize) {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let one = |value: &Json| {
        let (before, after) = (text(&value["before"]), text(&value["after"]));
        Some(FieldChange { path: text(&value["path"])?, before, after })
    };
    let fields = value["fields"].as_array().map(|all| all.iter().filter_map(one).collect()).unwrap_or_default();
    (fields, value["left_out"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
}

/// Effects as a list.
pub fn effects_json(effects: &[Effect]) -> Json {
    let one = |effect: &Effect| {
        let Effect { measure, source, target, before, after, delay, probability, requests } = effect;
        json!({
            "measure": measure.as_str(), "source": source, "target": target, "before": before, "after": after,
            "delay_seconds": delay.as_secs(), "probability": probability, "requests": [requests.0, requests.1],
        })
    };
    effects.iter().map(one).collect()
}

/// The inverse of [`effects_json`].
pub fn effects_from(value: &Json) -> Vec<Effect> {
    let one = |value: &Json| {
        let number = |key: &str| value[key].as_f64().filter(|number| number.is_finite());
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(Effect {
            measure: Measure::from_name(value["measure"].as_str()?)?,
            source: text("source")?,
            target: text("target")?,
            before: number("before")?,
            after: number("after")?,
            delay: Duration::from_secs(value["delay_seconds"].as_u64()?),
            probability: number("probability")?,
            requests: (value["requests"][0].as_f64()?, value["requests"][1].as_f64()?),
        })
    };
    value.as_array().map(|all| all.iter().filter_map(one).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back_and_what_is_damaged_is_left_out() {
        let fields = vec![
            FieldChange { path: "spec.a".into(), before: Some("1".into()), after: None },
            FieldChange { path: "spec.b".into(), before: None, after: Some("é\"".into()) },
        ];
        assert_eq!(fields_from(&fields_json(&fields, 3)), (fields, 3));
        let effect = Effect {
            measure: Measure::ServerErrors,
            source: "web.shop".into(),
            target: "cart.shop".into(),
            before: 0.001,
            after: 0.34,
            delay: Duration::from_secs(120),
            probability: 0.97,
            requests: (1800.0, 600.5),
        };
        let mut stored = effects_json(std::slice::from_ref(&effect));
        assert_eq!(effects_from(&stored).as_slice(), std::slice::from_ref(&effect));
        if let Json::Array(all) = &mut stored {
            all.push(json!({"measure": "later", "source": 1}));
        }
        assert_eq!(effects_from(&stored), [effect]);
        assert_eq!(fields_from(&json!("x")), (vec![], 0));
        assert_eq!(effects_from(&json!({"a": 1})), []);
    }
}
