//! The functions that Go's `text/template` always has, but `and` and `or`, which are lazy and the executor's own.
//!
//! In: evaluated arguments. Out: a value or Go's error text. Pure.

use std::cmp::Ordering;

use super::printf::sprintf;
use super::{Context, Function, FunctionError, Value};

const MANY: usize = usize::MAX;

/// All of them. A table, so that the check of a parsed template and its execution agree.
pub const BUILTINS: [Function; 17] = [
    Function {
        name: "call",
        arity: (1, MANY),
        call: |_, a| Err(format!("non-function of type {}", a[0].type_name()).into()),
    },
    Function { name: "eq", arity: (2, MANY), call: eq },
    Function { name: "ge", arity: (2, 2), call: |_, a| ordered(a, |o| o != Ordering::Less) },
    Function { name: "gt", arity: (2, 2), call: |_, a| ordered(a, |o| o == Ordering::Greater) },
    Function { name: "html", arity: (0, MANY), call: |_, a| Ok(Value::text(&gotmpl::html_escape(&joined(a)))) },
    Function { name: "index", arity: (1, MANY), call: index },
    Function { name: "js", arity: (0, MANY), call: |_, a| Ok(Value::text(&gotmpl::js_escape(&joined(a)))) },
    Function { name: "le", arity: (2, 2), call: |_, a| ordered(a, |o| o != Ordering::Greater) },
    Function { name: "len", arity: (1, 1), call: len },
    Function { name: "lt", arity: (2, 2), call: |_, a| ordered(a, |o| o == Ordering::Less) },
    Function { name: "ne", arity: (2, 2), call: |_, a| Ok(Value::Bool(!equal(&a[0], &a[1])?)) },
    Function { name: "not", arity: (1, 1), call: |_, a| Ok(Value::Bool(!a[0].is_true())) },
    Function { name: "print", arity: (0, MANY), call: |_, a| Ok(Value::text(&printed(a))) },
    Function { name: "printf", arity: (1, MANY), call: printf },
    Function { name: "println", arity: (0, MANY), call: println },
    Function { name: "slice", arity: (1, 4), call: slice },
    Function { name: "urlquery", arity: (0, MANY), call: |_, a| Ok(Value::text(&gotmpl::url_encode(&joined(a)))) },
];

/// As `fmt.Sprint`: a space between operands when neither is a string.
fn printed(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        let texts = |value: &Value| matches!(value, Value::String(_));
        if i > 0 && !texts(arg) && !texts(&args[i - 1]) {
            out.push(' ');
        }
        out.push_str(&arg.to_string());
    }
    out
}

/// What the escaping functions escape: a nil is `<no value>`.
fn joined(args: &[Value]) -> String {
    match args {
        [Value::Nil] => "<no value>".to_owned(),
        _ => printed(args),
    }
}

fn printf(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    match &args[0] {
        Value::String(format) => Ok(Value::text(&sprintf(format, &args[1..]))),
        other => Err(FunctionError::wrong_type(0, "string", other)),
    }
}

fn println(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let texts: Vec<String> = args.iter().map(Value::to_string).collect();
    Ok(Value::text(&(texts.join(" ") + "\n")))
}

fn eq(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    for other in &args[1..] {
        if equal(&args[0], other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn equal(a: &Value, b: &Value) -> Result<bool, FunctionError> {
    match (a, b) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::String(a) | Value::Safe(_, a), Value::String(b) | Value::Safe(_, b)) => Ok(a == b),
        (Value::Duration(a), Value::Duration(b)) => Ok(a == b),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Labels(_) | Value::Kv(_) | Value::Map(_) | Value::List(_) | Value::Named(..), _) => {
            Err(format!("non-comparable type {a}: {}", a.type_name()).into())
        }
        _ => Err("incompatible types for comparison".into()),
    }
}

fn ordered(args: &[Value], holds: fn(Ordering) -> bool) -> Result<Value, FunctionError> {
    let order = match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Bool(_), Value::Bool(_)) => return Err("invalid type for comparison".into()),
        _ => return Err("incompatible types for comparison".into()),
    };
    Ok(Value::Bool(order.is_some_and(holds)))
}

fn len(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let length = match &args[0] {
        Value::String(text) => text.len(),
        Value::List(items) | Value::Named(_, items) => items.len(),
        Value::Safe(_, text) => text.len(),
        Value::Map(map) => map.len(),
        Value::Labels(labels) | Value::Kv(labels) => labels.len(),
        Value::Nil => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name()).into()),
    };
    Ok(Value::Int(length as i64))
}

fn index(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let mut item = args[0].clone();
    for key in &args[1..] {
        item = match (&item, key) {
            (Value::List(items) | Value::Named(_, items), Value::Int(i)) => items[position(*i, items.len())?].clone(),
            (Value::String(text), Value::Int(i)) => Value::Int(i64::from(text.as_bytes()[position(*i, text.len())?])),
            (Value::List(_) | Value::Named(..) | Value::String(_), other) => {
                return Err(format!("cannot index slice/array with type {}", other.type_name()).into());
            }
            (Value::Labels(labels) | Value::Kv(labels), Value::String(name)) => Value::text(labels.value(name)),
            (Value::Map(map), Value::String(name)) => map.get(&**name).cloned().unwrap_or(Value::Nil),
            (Value::Labels(_) | Value::Kv(_) | Value::Map(_), other) => {
                return Err(format!("value has type {}; should be string", other.type_name()).into());
            }
            (Value::Nil, _) => return Err("index of untyped nil".into()),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name()).into()),
        };
    }
    Ok(item)
}

fn position(i: i64, length: usize) -> Result<usize, FunctionError> {
    usize::try_from(i).ok().filter(|i| *i < length).ok_or_else(|| format!("index out of range: {i}").into())
}

fn slice(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let length = match &args[0] {
        Value::String(text) => text.len(),
        Value::List(items) | Value::Named(_, items) => items.len(),
        Value::Nil => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.type_name()).into()),
    };
    let mut bounds = [0, length, length];
    for (bound, arg) in bounds.iter_mut().zip(&args[1..]) {
        *bound = match arg {
            Value::Int(n) => {
                usize::try_from(*n).ok().filter(|n| *n <= length).ok_or_else(|| format!("index out of range: {n}"))?
            }
            other => return Err(format!("cannot index slice/array with type {}", other.type_name()).into()),
        };
    }
    let [from, to, most] = bounds;
    if from > to || to > most {
        return Err(format!("invalid slice index: {from} > {to}").into());
    }
    match &args[0] {
        // A cut inside a character: Go yields broken UTF-8 there; ours gives the replacement character.
        Value::String(text) => Ok(Value::text(&String::from_utf8_lossy(&text.as_bytes()[from..to]))),
        Value::List(items) => Ok(Value::List(items[from..to].into())),
        Value::Named(name, items) => Ok(Value::Named(name, items[from..to].into())),
        _ => Ok(Value::Nil),
    }
}
