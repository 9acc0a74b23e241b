//! The functions that Alertmanager adds to Go's templates (`template/template.go`).
//!
//! In: evaluated arguments, the time. Out: a value or an error text. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::functions::{number, regex, text};
use super::methods::{strings, texts};
use super::numbers::humanize_duration;
use super::{Context, Function, FunctionError, Value, json, time};

const MANY: usize = usize::MAX;

/// All of them.
pub const ALERTMANAGER: [Function; 20] = [
    Function { name: "append", arity: (1, MANY), call: append },
    Function { name: "date", arity: (2, 2), call: date },
    Function { name: "dict", arity: (0, MANY), call: dict },
    Function {
        name: "humanizeDuration",
        arity: (1, 1),
        call: |_, a| Ok(Value::text(&humanize_duration(number(&a[0])?))),
    },
    Function { name: "join", arity: (2, 2), call: join },
    Function { name: "list", arity: (0, MANY), call: |_, a| Ok(Value::List(a.into())) },
    Function { name: "match", arity: (2, 2), call: |_, a| Ok(Value::Bool(regex(text(a, 0)?)?.is_match(text(a, 1)?))) },
    Function { name: "now", arity: (0, 0), call: |c, _| Ok(Value::Zoned(c.at, chrono_tz::Tz::UTC)) },
    Function {
        name: "reReplaceAll",
        arity: (3, 3),
        call: |_, a| Ok(Value::text(&regex(text(a, 0)?)?.replace_all(text(a, 2)?, text(a, 1)?))),
    },
    Function { name: "safeHtml", arity: (1, 1), call: |_, a| Ok(Value::Safe("template.HTML", text(a, 0)?.into())) },
    Function { name: "safeUrl", arity: (1, 1), call: |_, a| Ok(Value::Safe("template.URL", text(a, 0)?.into())) },
    Function { name: "since", arity: (1, 1), call: since },
    Function { name: "stringSlice", arity: (0, MANY), call: string_slice },
    Function { name: "title", arity: (1, 1), call: |_, a| Ok(Value::text(&title(text(a, 0)?))) },
    Function { name: "toJson", arity: (1, 1), call: |_, a| Ok(Value::text(&json::marshal(&a[0]))) },
    Function { name: "toLower", arity: (1, 1), call: |_, a| Ok(Value::text(&text(a, 0)?.to_lowercase())) },
    Function { name: "toUpper", arity: (1, 1), call: |_, a| Ok(Value::text(&text(a, 0)?.to_uppercase())) },
    Function { name: "trimSpace", arity: (1, 1), call: |_, a| Ok(Value::text(text(a, 0)?.trim())) },
    Function { name: "tz", arity: (2, 2), call: tz },
    Function { name: "urlUnescape", arity: (1, 1), call: url_unescape },
];

fn join(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let separator = text(args, 0)?;
    let parts = texts(&args[1]).ok_or_else(|| FunctionError::wrong_type(1, "[]string", &args[1]))?;
    Ok(Value::text(&parts.join(separator)))
}

fn string_slice(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let given = (0..args.len()).map(|i| text(args, i)).collect::<Result<Vec<_>, _>>()?;
    Ok(strings(given.into_iter()))
}

fn moment(args: &[Value], i: usize) -> Result<(crate::model::Timestamp, chrono_tz::Tz), FunctionError> {
    match &args[i] {
        Value::Zoned(at, zone) => Ok((*at, *zone)),
        Value::Time(at) => Ok((*at, chrono_tz::Tz::UTC)),
        other => Err(FunctionError::wrong_type(i, "time.Time", other)),
    }
}

fn date(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let (at, zone) = moment(args, 1)?;
    Ok(Value::text(&time::format(at, zone, text(args, 0)?)))
}

fn tz(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let name = text(args, 0)?;
    let zone = match name {
        "" | "Local" => chrono_tz::Tz::UTC,
        name => name.parse().map_err(|_| format!("unknown time zone {name}"))?,
    };
    Ok(Value::Zoned(moment(args, 1)?.0, zone))
}

fn since(context: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let (at, _) = moment(args, 0)?;
    let ms = context.at.as_millis().saturating_sub(at.as_millis());
    Ok(Value::Duration(ms.saturating_mul(1_000_000)))
}

/// Each word begins with a capital and goes on in small letters.
fn title(text: &str) -> String {
    let mut in_word = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match in_word {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        in_word = c.is_alphanumeric() || c == '_' || (in_word && (c == '\'' || c == '.'));
    }
    out
}

fn append(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    match &args[0] {
        Value::List(items) => Ok(Value::List(items.iter().chain(&args[1..]).cloned().collect())),
        other => Err(FunctionError::wrong_type(0, "[]interface {}", other)),
    }
}

fn dict(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    if !args.len().is_multiple_of(2) {
        return Err("dict requires an even number of arguments".into());
    }
    let mut map = BTreeMap::new();
    for i in (0..args.len()).step_by(2) {
        let key = text(args, i).map_err(|_| format!("dict keys must be strings, got {}", args[i].type_name()))?;
        map.insert(key.to_owned(), args[i + 1].clone());
    }
    Ok(Value::Map(Arc::new(map)))
}

fn url_unescape(_: &Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
    let given = text(args, 0)?.as_bytes();
    let mut out = Vec::with_capacity(given.len());
    let mut at = 0;
    while let Some(byte) = given.get(at) {
        at += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = given.get(at..at + 2).and_then(|two| std::str::from_utf8(two).ok());
                let code = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
                let shown = String::from_utf8_lossy(&given[at - 1..given.len().min(at + 2)]);
                out.push(code.ok_or_else(|| format!("invalid URL escape {shown:?}"))?);
                at += 2;
            }
            byte => out.push(*byte),
        }
    }
    Ok(Value::text(&String::from_utf8_lossy(&out)))
}
