//! The functions that Prometheus 3.5 adds to Go's templates (`template/template.go`).
//!
//! In: evaluated arguments, the evaluation time, the external URL, answers of queries. Out: a value or an error text.

use std::net::IpAddr;
use std::time::Duration;

use super::numbers::{humanize, humanize_duration, humanize_percentage, humanize1024, shortest, significant};
use super::{Context, Function, FunctionError, Value};
use crate::model::Timestamp;
use crate::units::PromDuration;

/// All of them.
pub const PROMETHEUS: [Function; 26] = [
    Function { name: "args", arity: (0, usize::MAX), call: args },
    Function { name: "externalURL", arity: (0, 0), call: |c, _| Ok(Value::text(c.external_url)) },
    Function { name: "first", arity: (1, 1), call: first },
    Function { name: "graphLink", arity: (1, 1), call: |_, a| link(a, 0) },
    Function { name: "humanize", arity: (1, 1), call: |_, a| Ok(Value::text(&humanize(number(&a[0])?))) },
    Function { name: "humanize1024", arity: (1, 1), call: |_, a| Ok(Value::text(&humanize1024(number(&a[0])?))) },
    Function {
        name: "humanizeDuration",
        arity: (1, 1),
        call: |_, a| Ok(Value::text(&humanize_duration(number(&a[0])?))),
    },
    Function {
        name: "humanizePercentage",
        arity: (1, 1),
        call: |_, a| Ok(Value::text(&humanize_percentage(number(&a[0])?))),
    },
    Function { name: "humanizeTimestamp", arity: (1, 1), call: humanize_timestamp },
    Function { name: "label", arity: (2, 2), call: label },
    Function { name: "match", arity: (2, 2), call: |_, a| Ok(Value::Bool(regex(text(a, 0)?)?.is_match(text(a, 1)?))) },
    Function { name: "parseDuration", arity: (1, 1), call: parse_duration },
    Function { name: "pathPrefix", arity: (0, 0), call: |c, _| Ok(Value::text(path_of(c.external_url))) },
    Function { name: "query", arity: (1, 1), call: query },
    Function {
        name: "reReplaceAll",
        arity: (3, 3),
        call: |_, a| Ok(Value::text(&regex(text(a, 0)?)?.replace_all(text(a, 2)?, text(a, 1)?))),
    },
    Function { name: "safeHtml", arity: (1, 1), call: |_, a| Ok(Value::text(text(a, 0)?)) },
    Function { name: "sortByLabel", arity: (2, 2), call: sort_by_label },
    Function { name: "stripDomain", arity: (1, 1), call: |_, a| Ok(Value::text(&strip_domain(text(a, 0)?))) },
    Function {
        name: "stripPort",
        arity: (1, 1),
        call: |_, a| {
            let given = text(a, 0)?;
            Ok(Value::text(split_host_port(given).map_or(given, |(host, _)| host)))
        },
    },
    Function {
        name: "strvalue",
        arity: (1, 1),
        call: |_, a| sample(a, 0, "Labels")?.field("__value__").map_err(FunctionError::Failed),
    },
    Function { name: "tableLink", arity: (1, 1), call: |_, a| link(a, 1) },
    Function { name: "title", arity: (1, 1), call: |_, a| Ok(Value::text(&title(text(a, 0)?))) },
    Function { name: "toLower", arity: (1, 1), call: |_, a| Ok(Value::text(&text(a, 0)?.to_lowercase())) },
    Function { name: "toTime", arity: (1, 1), call: |_, a| Ok(Value::Time(time(number(&a[0])?)?)) },
    Function { name: "toUpper", arity: (1, 1), call: |_, a| Ok(Value::text(&text(a, 0)?.to_uppercase())) },
    Function { name: "value", arity: (1, 1), call: |_, a| sample(a, 0, "Value") },
];

/// The type of what queries return, as Go spells it.
pub const SAMPLE: &str = "*template.sample";

/// A string argument, as a function of the table takes it.
pub(super) fn text(args: &[Value], i: usize) -> Result<&str, FunctionError> {
    match &args[i] {
        Value::String(text) => Ok(text),
        other => Err(FunctionError::wrong_type(i, "string", other)),
    }
}

/// `convertToFloat`: numbers, texts of numbers, durations in seconds.
pub(super) fn number(value: &Value) -> Result<f64, FunctionError> {
    match value {
        Value::Float(v) => Ok(*v),
        Value::Int(n) => Ok(*n as f64),
        Value::Duration(ns) => Ok(*ns as f64 / 1e9),
        Value::String(given) => {
            parse_float(given).ok_or_else(|| format!("strconv.ParseFloat: parsing {given:?}: invalid syntax").into())
        }
        other => Err(format!("can't convert {} to float", other.type_name()).into()),
    }
}

fn parse_float(text: &str) -> Option<f64> {
    let digits = text.trim_start_matches(['+', '-']);
    // Rust and Go agree on numbers; Go's spellings of infinity and NaN are a subset.
    let named = ["inf", "infinity", "nan"].iter().any(|name| digits.eq_ignore_ascii_case(name));
    (named || digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')).then(|| text.parse().ok()).flatten()
}

pub(super) fn regex(pattern: &str) -> Result<regex::Regex, FunctionError> {
    regex::Regex::new(pattern).map_err(|error| {
        let cause = error.to_string();
        format!(
            "regexp: Compile(`{pattern}`): error parsing regexp: {}: `{pattern}`",
            cause.lines().last().unwrap_or_default().trim()
        )
        .into()
    })
}

fn query(context: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let query = text(args, 0)?;
    match context.answers.get(query) {
        None => Err(FunctionError::QueryNeeded(query.to_owned())),
        Some(Ok(samples)) => Ok(samples.clone()),
        Some(Err(message)) => Err(message.as_str().into()),
    }
}

fn first(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    match &args[0] {
        Value::List(items) => items.first().cloned().ok_or_else(|| "first() called on vector with no elements".into()),
        other => Err(FunctionError::wrong_type(0, "template.queryResult", other)),
    }
}

fn label(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    sample(args, 1, "Labels")?.field(text(args, 0)?).map_err(FunctionError::Failed)
}

/// A field of a sample that is an argument.
fn sample(args: &[Value], i: usize, field: &str) -> Result<Value, FunctionError> {
    match &args[i] {
        Value::Struct(of) if of.type_name == SAMPLE => args[i].field(field).map_err(FunctionError::Failed),
        other => Err(FunctionError::wrong_type(i, SAMPLE, other)),
    }
}

fn sort_by_label(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let name = text(args, 0)?;
    let Value::List(items) = &args[1] else {
        return Err(FunctionError::wrong_type(1, "template.queryResult", &args[1]));
    };
    let mut keyed = Vec::with_capacity(items.len());
    for item in items.iter() {
        let labels = sample(std::slice::from_ref(item), 0, "Labels")?;
        keyed.push((labels.field(name).map_err(FunctionError::Failed)?.to_string(), item.clone()));
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::List(keyed.into_iter().map(|(_, item)| item).collect()))
}

fn args(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let named = args.iter().enumerate().map(|(i, arg)| (format!("arg{i}"), arg.clone()));
    Ok(Value::Map(std::sync::Arc::new(named.collect())))
}

fn link(args: &[Value], tab: u8) -> Result<Value, FunctionError> {
    Ok(Value::text(&graph_path(text(args, 0)?, tab)))
}

/// The path of an expression's page: tab 0 is the graph, tab 1 the table.
pub fn graph_path(expression: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", gotmpl::url_encode(expression))
}

fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    path.split(['?', '#']).next().unwrap_or_default()
}

fn parse_duration(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let given = text(args, 0)?;
    let duration: PromDuration = given.parse().map_err(|_| match given {
        "" => "empty duration string".to_owned(),
        _ => format!("not a valid duration string: {given:?}"),
    })?;
    Ok(Value::Float(Duration::as_secs_f64(&duration.get())))
}

fn time(seconds: f64) -> Result<Timestamp, FunctionError> {
    let ns = seconds * 1e9;
    if ns.is_nan() || ns.abs() > i64::MAX as f64 {
        let message = "cannot be represented as a nanoseconds timestamp since it overflows int64";
        return Err(format!("{} {message}", shortest(seconds)).into());
    }
    Ok(Timestamp::from_millis((ns as i64).div_euclid(1_000_000)))
}

fn humanize_timestamp(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let seconds = number(&args[0])?;
    if !seconds.is_finite() {
        return Ok(Value::text(&significant(seconds, 4)));
    }
    Ok(Value::text(&Value::Time(time(seconds)?).to_string()))
}

/// As Go's `strings.Title`: the first letter of each word, the rest untouched.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        match in_word {
            true => out.push(c),
            false => out.extend(c.to_uppercase()),
        }
        in_word = if c.is_ascii() { c.is_ascii_alphanumeric() || c == '_' } else { !c.is_whitespace() };
    }
    out
}

/// As Go's `net.SplitHostPort`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').filter(|port| !port.contains([':', '[', ']']));
        return port.map(|port| (host, port));
    }
    let (host, port) = text.rsplit_once(':')?;
    (!host.contains([':', '[', ']'])).then_some((host, port))
}

fn strip_domain(given: &str) -> String {
    let (host, port) = split_host_port(given).unwrap_or((given, ""));
    if host.parse::<IpAddr>().is_ok() {
        return given.to_owned();
    }
    let name = host.split('.').next().unwrap_or_default();
    if port.is_empty() { name.to_owned() } else { format!("{name}:{port}") }
}
