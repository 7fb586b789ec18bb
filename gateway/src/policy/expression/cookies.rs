//! The cookies of requests and responses as values.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

use super::operators;
use super::value::Value;

/// The cookies of a request in their order.
pub(super) fn request_cookies(headers: &HeaderMap) -> Vec<(String, Value)> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs
        .map(|(name, value)| {
            // A request says nothing of the attributes, which the reference's examples ask for all the same.
            let cookie = Value::map([
                ("name", Value::text(name)),
                ("value", Value::text(value.trim_matches('"'))),
                ("secure", Value::Bool(false)),
                ("http_only", Value::Bool(false)),
            ]);
            (name.to_owned(), cookie)
        })
        .collect()
}

/// The cookies that a response sets, with their attributes, those with the longest path first.
pub(super) fn response_cookies(headers: &HeaderMap) -> Vec<(String, Value)> {
    let lines = headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies: Vec<_> = lines.filter_map(response_cookie).collect();
    cookies.sort_by_key(|(_, cookie)| std::cmp::Reverse(path_len(cookie)));
    cookies
}

fn path_len(cookie: &Value) -> usize {
    match cookie {
        Value::Map(members) => members.get("path").map_or(0, |path| operators::text(path).map_or(0, str::len)),
        _ => 0,
    }
}

fn response_cookie(line: &str) -> Option<(String, Value)> {
    let mut parts = line.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let (mut secure, mut http_only, mut others) = (false, false, Vec::new());
    let mut members = vec![("name", Value::text(name)), ("value", Value::text(value.trim_matches('"')))];
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let member = match key.to_ascii_lowercase().as_str() {
            "secure" => {
                secure = true;
                continue;
            }
            "httponly" => {
                http_only = true;
                continue;
            }
            "domain" => ("domain", Value::text(value)),
            "path" => ("path", Value::text(value)),
            "samesite" => ("same_site", Value::text(value)),
            "expires" => match OffsetDateTime::parse(value, &Rfc2822) {
                Ok(time) => ("expires", Value::Time(time)),
                Err(_) => continue,
            },
            "max-age" => match value.parse() {
                Ok(seconds) => ("max_age", Value::Span(Duration::seconds(seconds))),
                Err(_) => continue,
            },
            _ => {
                others.push((key, Value::text(value)));
                continue;
            }
        };
        members.push(member);
    }
    members.extend([
        ("secure", Value::Bool(secure)),
        ("http_only", Value::Bool(http_only)),
        ("unparsed_attributes", Value::map(others)),
    ]);
    Some((name.to_owned(), Value::map(members)))
}

/// From a name to all cookies of that name.
pub(super) fn grouped(cookies: Vec<(String, Value)>) -> Value {
    let mut groups: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
    for (name, cookie) in cookies {
        groups.entry(name.into()).or_default().push(cookie);
    }
    Value::Map(Arc::new(groups.into_iter().map(|(name, group)| (name, Value::list(group))).collect()))
}
