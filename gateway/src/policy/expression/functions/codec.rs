//! Encodings and digests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::digest;

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
    Function::method("escapeUrl", 1..=1, |arguments, evaluation| {
        Ok(Value::text(&utf8_percent_encode(seen(arguments, evaluation)?, ESCAPED).to_string()))
    }),
    Function::method("unescapeUrl", 1..=1, |arguments, evaluation| {
        Ok(Value::text(&percent_decode_str(seen(arguments, evaluation)?).decode_utf8_lossy()))
    }),
    Function::method("isURL", 1..=1, |arguments, evaluation| {
        Ok(Value::Bool(parse_url(seen(arguments, evaluation)?).is_some()))
    }),
    Function::method("parseUrl", 1..=1, |arguments, evaluation| {
        parse_url(seen(arguments, evaluation)?).ok_or_else(|| Fault::Invalid("a string is no URL".into()))
    }),
    Function::global("hash.sha1", 1..=2, sha1),
    Function::method("sha1", 1..=2, sha1),
    Function::global("hash.sha256", 1..=2, sha256),
    Function::method("sha256", 1..=2, sha256),
    Function::global("hash.sha512", 1..=2, sha512),
    Function::method("sha512", 1..=2, sha512),
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

fn sha1(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(&digest::SHA1_FOR_LEGACY_USE_ONLY, arguments, evaluation)
}

fn sha256(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(&digest::SHA256, arguments, evaluation)
}

fn sha512(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(&digest::SHA512, arguments, evaluation)
}

fn hashed(
    algorithm: &'static digest::Algorithm,
    arguments: &[Value],
    evaluation: &mut Evaluation<'_, '_>,
) -> Result<Value, Fault> {
    let digest = digest::digest(algorithm, seen(arguments, evaluation)?.as_bytes());
    match arguments.get(1) {
        None => Ok(Value::text(&hex(digest.as_ref()))),
        Some(Value::Text(format)) if **format == *"hex" => Ok(Value::text(&hex(digest.as_ref()))),
        Some(Value::Text(format)) if **format == *"base64" => Ok(Value::text(&STANDARD.encode(digest))),
        Some(_) => Err(Fault::Invalid("the format of a digest is 'hex' or 'base64'".into())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing into a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// All but what RFC 3986 calls unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
