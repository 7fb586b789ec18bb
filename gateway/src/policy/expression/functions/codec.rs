//! Encodings.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::evaluate::{Evaluation, Fault};
use super::super::operators;
use super::super::value::{TEXT_BYTES_PER_STEP, Value};
use super::super::variables::{query_pairs, split_port};
use super::{Function, argument, text_argument};

pub(super) const TABLE: &[Function] = &[
    Function::global("base64.encode", 1..=1, encode_base64),
    Function::method("encodeBase64", 1..=1, encode_base64),
    Function::global("base64.decode", 1..=1, |arguments, evaluation| {
        decode_base64(arguments, evaluation).map(|bytes| Value::Bytes(bytes.into()))
    }),
    Function::method("decodeBase64", 1..=1, |arguments, evaluation| {
        let bytes = decode_base64(arguments, evaluation)?;
        Ok(Value::text(&String::from_utf8_lossy(&bytes)))
    }),
    Function::global("basic_auth.encode", 2..=2, |arguments, _| {
        let pair = format!("{}:{}", text_argument(arguments, 0)?, text_argument(arguments, 1)?);
        Ok(Value::text(&format!("Basic {}", STANDARD.encode(pair))))
    }),
    Function::global("json.decode", 1..=1, decode_json),
    Function::method("decodeJson", 1..=1, decode_json),
    Function::global("json.encode", 1..=1, encode_json),
    Function::method("encodeJson", 1..=1, encode_json),
    Function::method("isJson", 1..=1, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        Ok(Value::Bool(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()))
    }),
    Function::global("queryString.decode", 1..=1, decode_query),
    Function::method("decodeQueryString", 1..=1, decode_query),
    Function::global("queryString.encode", 1..=1, encode_query),
    Function::method("encodeQueryString", 1..=1, encode_query),
    Function::method("isQueryString", 1..=1, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        Ok(Value::Bool(text.contains('=') && !text.contains([' ', ';', '#', '?'])))
    }),
    Function::method("escapeUrl", 1..=1, escape),
    Function::method("unescapeUrl", 1..=1, unescape),
    Function::method("isURL", 1..=1, |arguments, evaluation| {
        Ok(Value::Bool(parse_url(seen(arguments, evaluation)?).is_some()))
    }),
    Function::method("parseUrl", 1..=1, parse),
    Function::global("url.escape", 1..=1, escape),
    Function::global("url.unescape", 1..=1, unescape),
    Function::global("url.parse", 1..=1, parse),
    Function::global("strings.quote", 1..=1, quote),
];

fn seen<'v>(arguments: &'v [Value], evaluation: &mut Evaluation<'_, '_>) -> Result<&'v str, Fault> {
    evaluation.budget.spend(argument(arguments, 0).weight())?;
    text_argument(arguments, 0)
}

fn encode_base64(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    evaluation.budget.spend(argument(arguments, 0).weight())?;
    match argument(arguments, 0) {
        Value::Bytes(bytes) => Ok(Value::text(&STANDARD.encode(bytes))),
        other => Ok(Value::text(&STANDARD.encode(operators::text(other)?))),
    }
}

fn decode_base64(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Vec<u8>, Fault> {
    let text = seen(arguments, evaluation)?;
    STANDARD.decode(text).map_err(|_| Fault::Invalid("a string is not base64".into()))
}

fn decode_json(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    let text = seen(arguments, evaluation)?;
    // Its nodes are no more than its bytes.
    evaluation.budget.spend(text.len())?;
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|_| Fault::Invalid("a string is not JSON".into()))?;
    Ok(Value::from_json(&json))
}

fn encode_json(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    let value = argument(arguments, 0);
    value.charge(evaluation.budget)?;
    Ok(Value::text(&value.to_json().to_string()))
}

/// A name that comes once has a text, one that comes more often a list.
fn decode_query(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    let text = seen(arguments, evaluation)?;
    let mut groups: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
    for (name, value) in query_pairs(text) {
        evaluation.budget.spend(1)?;
        groups.entry(name.into()).or_default().push(Value::text(&value));
    }
    let groups = groups.into_iter().map(|(name, mut group)| match (group.pop(), group.is_empty()) {
        (Some(only), true) => (name, only),
        (last, _) => (name, Value::list(group.into_iter().chain(last))),
    });
    Ok(Value::Map(Arc::new(groups.collect())))
}

fn encode_query(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    let value = argument(arguments, 0);
    value.charge(evaluation.budget)?;
    let Value::Map(entries) = value else {
        return Err(Fault::Type(format!("{} is no map", value.kind())));
    };
    let mut out = String::new();
    for (name, value) in entries.iter() {
        let values = match value {
            Value::List(values) => values.as_ref(),
            single => std::slice::from_ref(single),
        };
        for value in values {
            evaluation.budget.spend(name.len() / TEXT_BYTES_PER_STEP)?;
            let separator = if out.is_empty() { "" } else { "&" };
            let (name, value) = (utf8_percent_encode(name, ESCAPED), value.shown());
            // Writing into a string cannot fail.
            let _ = write!(out, "{separator}{name}={}", utf8_percent_encode(&value, ESCAPED));
        }
    }
    Ok(Value::text(&out))
}

fn parse_url(text: &str) -> Option<Value> {
    let uri: http::Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
    let mut members = vec![
        ("scheme", Value::text(scheme)),
        ("host", Value::text(authority.rsplit_once('@').map_or(authority, |(_, host)| host))),
        ("path", Value::text(uri.path())),
        ("query", Value::text(uri.query().unwrap_or_default())),
    ];
    if let (_, Some(port)) = split_port(authority) {
        members.push(("port", Value::text(port)));
    }
    Some(Value::map(members))
}

fn parse(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    parse_url(seen(arguments, evaluation)?).ok_or_else(|| Fault::Invalid("a string is no URL".into()))
}

fn escape(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    Ok(Value::text(&utf8_percent_encode(seen(arguments, evaluation)?, ESCAPED).to_string()))
}

fn unescape(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    Ok(Value::text(&percent_decode_str(seen(arguments, evaluation)?).decode_utf8_lossy()))
}

/// In quotes, with CEL's escapes for what would not be seen as it is.
fn quote(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    let text = seen(arguments, evaluation)?;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    Ok(Value::text(&quoted))
}

/// All but what RFC 3986 calls unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
