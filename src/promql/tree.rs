//! An expression as a JSON tree: what `/api/v1/parse_query` answers, for editors that explain expressions.
//!
//! Shape: P:web/api/v1/translate_ast.go. Keys come out sorted. Depth is bounded by the parser.

use serde_json::{Value, json};

use super::ast::{Aggregate, At, Binary, Group, Kind, Matching, Node, Subquery, VectorSelector};
use super::functions::Function;
use super::print::plain_number;

pub(super) fn tree(node: &Node) -> Value {
    match &node.kind {
        Kind::Number { value, .. } => json!({"type": "numberLiteral", "val": plain_number(*value)}),
        Kind::Text(text) => json!({"type": "stringLiteral", "val": text.value}),
        Kind::Selector(selector) => of_selector(selector),
        Kind::Subquery(subquery) => of_subquery(subquery),
        Kind::Paren(inner) => json!({"type": "parenExpr", "expr": tree(inner)}),
        Kind::Unary { negative, inner } => {
            json!({"type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(inner)})
        }
        Kind::Binary(binary) => of_binary(binary),
        Kind::Aggregate(aggregate) => of_aggregate(aggregate),
        Kind::Call { function, args } => of_call(function, args),
    }
}

fn of_selector(selector: &VectorSelector) -> Value {
    let matchers = selector.matchers.iter();
    let mut out = json!({
        "type": if selector.range_ms.is_some() { "matrixSelector" } else { "vectorSelector" },
        "name": selector.name.as_deref().unwrap_or_default(),
        "matchers": matchers
            .map(|one| json!({"name": &*one.name, "type": one.op.as_str(), "value": &*one.value}))
            .collect::<Vec<_>>(),
        "offset": selector.offset_ms,
        "timestamp": timestamp(selector.at),
        "startOrEnd": start_or_end(selector.at),
    });
    if let Some(range_ms) = selector.range_ms {
        out["range"] = range_ms.into();
    }
    out
}

fn of_subquery(subquery: &Subquery) -> Value {
    json!({
        "type": "subquery",
        "expr": tree(&subquery.inner),
        "range": subquery.range_ms,
        "step": subquery.step_ms.unwrap_or(0),
        "offset": subquery.offset_ms,
        "timestamp": timestamp(subquery.at),
        "startOrEnd": start_or_end(subquery.at),
    })
}

fn timestamp(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Millis(ms)) => Some(ms),
        _ => None,
    }
}

fn start_or_end(at: Option<At>) -> Option<&'static str> {
    match at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        _ => None,
    }
}

fn of_binary(binary: &Binary) -> Value {
    use super::ast::ValueKind::Vector;
    let of_vectors = binary.left.value == Vector && binary.right.value == Vector;
    json!({
        "type": "binaryExpr",
        "op": binary.op.as_str(),
        "lhs": tree(&binary.left),
        "rhs": tree(&binary.right),
        "matching": of_vectors.then(|| of_matching(&binary.matching, binary.op.is_set())),
        "bool": binary.return_bool,
    })
}

fn of_matching(matching: &Matching, is_set: bool) -> Value {
    let cardinality = match matching.group {
        _ if is_set => "many-to-many",
        Group::OneToOne => "one-to-one",
        Group::ManyToOne => "many-to-one",
        Group::OneToMany => "one-to-many",
    };
    json!({"card": cardinality, "labels": matching.labels, "on": matching.on, "include": matching.include})
}

fn of_aggregate(aggregate: &Aggregate) -> Value {
    json!({
        "type": "aggregation",
        "op": aggregate.op.as_str(),
        "expr": tree(&aggregate.inner),
        "param": aggregate.param.as_ref().map(tree),
        "grouping": aggregate.grouping,
        "without": aggregate.without,
    })
}

fn of_call(function: &Function, args: &[Node]) -> Value {
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": function.args.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
            "variadic": function.variadic,
            "returnType": function.returns.as_str(),
        },
        "args": args.iter().map(tree).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use crate::promql::parse;

    #[test]
    fn trees_are_those_of_prometheus() {
        // Answers of Prometheus 3.5.3.
        let up = r#"{"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"}"#;
        let cases = [
            ("up", up.to_owned()),
            ("1h", r#"{"type":"numberLiteral","val":"3600"}"#.to_owned()),
            ("-(up)", format!(r#"{{"expr":{{"expr":{up},"type":"parenExpr"}},"op":"-","type":"unaryExpr"}}"#)),
            (
                "topk(3, up) without (a)",
                format!(
                    r#"{{"expr":{up},"grouping":["a"],"op":"topk","param":{{"type":"numberLiteral","val":"3"}},"type":"aggregation","without":true}}"#
                ),
            ),
            (
                "up[1d:1h] @ 3.5",
                format!(
                    r#"{{"expr":{up},"offset":0,"range":86400000,"startOrEnd":null,"step":3600000,"timestamp":3500,"type":"subquery"}}"#
                ),
            ),
            (
                "rate(a[5m] @ end() offset 1m)",
                r#"{"args":[{"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":60000,"range":300000,"startOrEnd":"end","timestamp":null,"type":"matrixSelector"}],"func":{"argTypes":["matrix"],"name":"rate","returnType":"vector","variadic":0},"type":"call"}"#.to_owned(),
            ),
            (
                "up * on(x) group_left(y) up",
                format!(
                    r#"{{"bool":false,"lhs":{up},"matching":{{"card":"many-to-one","include":["y"],"labels":["x"],"on":true}},"op":"*","rhs":{up},"type":"binaryExpr"}}"#
                ),
            ),
            (
                "up or up",
                format!(
                    r#"{{"bool":false,"lhs":{up},"matching":{{"card":"many-to-many","include":[],"labels":[],"on":false}},"op":"or","rhs":{up},"type":"binaryExpr"}}"#
                ),
            ),
            (
                "1 == bool 2",
                r#"{"bool":true,"lhs":{"type":"numberLiteral","val":"1"},"matching":null,"op":"==","rhs":{"type":"numberLiteral","val":"2"},"type":"binaryExpr"}"#.to_owned(),
            ),
        ];
        for (query, expect) in cases {
            let tree = parse(query).expect("a valid query").tree().expect("a tree");
            assert_eq!(tree.to_string(), expect, "{query}");
        }
    }
}
