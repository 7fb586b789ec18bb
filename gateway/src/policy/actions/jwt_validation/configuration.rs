//! Reads the configuration of `jwt-validation`.

use std::sync::Arc;

use http::HeaderName;
use serde_json::{Map, Value as Json};

use super::super::super::error::{CONFIG, CONFIG_VALUE, TEMPLATE};
use super::super::super::fields::Fields;
use super::super::super::phase::Phase;
use super::super::super::place::Place;
use super::super::super::template::Template;
use super::super::Action;
use super::claims::Expected;
use super::fetch::Reach;
use super::jws::Algorithm;
use super::keys::{Keys, Source};
use super::{JwtValidation, TokenKind, TokenPlace};
use crate::config::bounded_text;

pub(super) fn compile(fields: &mut Fields<'_>, _phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    let issuers = read_allow_list(fields, "issuer", true);
    let issuers = issuers
        .iter()
        .filter_map(|(index, text)| fields.template_at("issuer", &["allow_list", &format!("[{index}]")], text));
    let issuers = issuers.collect();
    let audiences = read_allow_list(fields, "audience", false);
    for (index, _) in audiences.iter().filter(|(_, text)| text.contains("${")) {
        let path = ["allow_list", &format!("[{index}]")];
        fields.wrong_at("audience", &path, TEMPLATE, "cannot have a ${…} here: write the audience as it shall be");
    }
    let audiences = audiences.into_iter().map(|(_, text)| text).collect();
    let tokens = read_tokens(fields);
    let (algorithms, sources, files) = read_jws(fields, place);
    let expected = Expected { issuers, audiences };
    Some(Box::new(JwtValidation { tokens, algorithms, expected, sources, files }))
}

/// `{allow_list: [{value: …}]}`; plain texts instead of the inner objects will do.
fn read_allow_list(fields: &mut Fields<'_>, name: &'static str, is_required: bool) -> Vec<(usize, String)> {
    let Some(value) = fields.value(name) else {
        if is_required {
            fields.wrong_at(
                name,
                &["allow_list"],
                CONFIG,
                "is missing: write for example [{value: https://idp.example.com}]",
            );
        }
        return Vec::new();
    };
    let Some(list) = only_member(fields, name, &[], value, "allow_list").and_then(Json::as_array) else {
        fields.wrong_at(name, &["allow_list"], CONFIG, "must be a list such as [{value: https://idp.example.com}]");
        return Vec::new();
    };
    if list.is_empty() || list.len() > LIST_MAX {
        fields.wrong_at(name, &["allow_list"], CONFIG, format!("must have 1 to {LIST_MAX} entries"));
    }
    let mut values = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let text = entry.as_str().or_else(|| {
            let entry = entry.as_object().filter(|entry| entry.len() == 1)?;
            entry.get("value")?.as_str()
        });
        match text.filter(|text| !text.is_empty()) {
            Some(text) => values.push((index, text.to_owned())),
            None => fields.wrong_at(name, &["allow_list", &format!("[{index}]")], CONFIG, "must be {value: text}"),
        }
    }
    values
}

/// The member of an object that must have no other.
fn only_member<'v>(
    fields: &mut Fields<'_>,
    name: &'static str,
    path: &[&str],
    value: &'v Json,
    member: &str,
) -> Option<&'v Json> {
    let map = object(value)?;
    for key in map.keys().filter(|key| *key != member) {
        let path: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
        fields.wrong_at(name, &path, CONFIG_VALUE, format!("is not a field here: there is {member}"));
    }
    map.get(member)
}

/// An object; the reference has lists of one in some places where its examples have none.
fn object(value: &Json) -> Option<&Map<String, Json>> {
    match value {
        Json::Object(map) => Some(map),
        Json::Array(list) => match list.as_slice() {
            [Json::Object(map)] => Some(map),
            _ => None,
        },
        _ => None,
    }
}

fn read_tokens(fields: &mut Fields<'_>) -> Vec<TokenPlace> {
    let list = fields.value("http").and_then(|http| {
        only_member(fields, "http", &[], http, "tokens").and_then(Json::as_array).filter(|list| !list.is_empty())
    });
    let Some(list) = list.filter(|list| list.len() <= TOKENS_MAX) else {
        let message = format!(
            "must be a list of 1 to {TOKENS_MAX} such as {{type: jwt, method: header, name: \
                               Authorization, prefix: \"Bearer \"}}"
        );
        fields.wrong_at("http", &["tokens"], CONFIG, message);
        return Vec::new();
    };
    let mut tokens = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let at = format!("[{index}]");
        let Some(map) = entry.as_object() else {
            fields.wrong_at("http", &["tokens", &at], CONFIG, "must be an object");
            continue;
        };
        for key in map.keys().filter(|key| !["type", "method", "name", "prefix"].contains(&key.as_str())) {
            let message = "is not a field of a token: it has type, method, name, prefix";
            fields.wrong_at("http", &["tokens", &at, key], CONFIG_VALUE, message);
        }
        let mut text = |key: &str, default: Option<&str>| match map.get(key) {
            Some(Json::String(text)) => Some(text.clone()),
            None | Some(Json::Null) if default.is_some() => default.map(str::to_owned),
            _ => {
                fields.wrong_at("http", &["tokens", &at, key], CONFIG, "must be a text");
                None
            }
        };
        let (kind, method) = (text("type", None), text("method", None));
        let (name, prefix) = (text("name", None), text("prefix", Some("")));
        let parsed = kind.as_deref().and_then(TokenKind::named);
        if kind.is_some() && parsed.is_none() {
            let message = "must be jwt, access_token, id_token, at+jwt, it+jwt or plain";
            fields.wrong_at("http", &["tokens", &at, "type"], CONFIG_VALUE, message);
        }
        let is_in_body = match method.as_deref() {
            None | Some("header") => false,
            Some("body") => true,
            Some(_) => {
                fields.wrong_at("http", &["tokens", &at, "method"], CONFIG_VALUE, "must be header or body");
                false
            }
        };
        let name = name.and_then(|name| fields.template_at("http", &["tokens", &at, "name"], &name));
        let fixed = name.as_ref().and_then(Template::fixed).filter(|_| !is_in_body);
        if fixed.is_some_and(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
            fields.wrong_at("http", &["tokens", &at, "name"], CONFIG_VALUE, "must be the name of a header");
        }
        let prefix = prefix.and_then(|prefix| fields.template_at("http", &["tokens", &at, "prefix"], &prefix));
        if let (Some(kind), Some(name), Some(prefix)) = (parsed, name, prefix) {
            tokens.push(TokenPlace { kind, is_in_body, name, prefix });
        }
    }
    tokens
}

fn read_jws(fields: &mut Fields<'_>, place: Place) -> (Vec<Algorithm>, Vec<Arc<Source>>, Vec<Keys>) {
    let Some(map) = fields.value("jws").and_then(object) else {
        fields.wrong_at("jws", &[], CONFIG, "must be an object with allowed_algorithms and keys");
        return (Vec::new(), Vec::new(), Vec::new());
    };
    for key in map.keys().filter(|key| !["allowed_algorithms", "keys"].contains(&key.as_str())) {
        fields.wrong_at("jws", &[key], CONFIG_VALUE, "is not a field of jws: it has allowed_algorithms, keys");
    }
    let mut algorithms = Vec::new();
    let list = map.get("allowed_algorithms").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        let message = "must be a list of at least one algorithm such as RS256 or ES256";
        fields.wrong_at("jws", &["allowed_algorithms"], CONFIG, message);
    }
    for (index, name) in list.iter().enumerate() {
        match name.as_str().and_then(Algorithm::named) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let path = ["allowed_algorithms", &format!("[{index}]")];
                let message = format!("must be one of {}: no others are safe with published keys", Algorithm::NAMES);
                fields.wrong_at("jws", &path, CONFIG_VALUE, message);
            }
        }
    }
    let (sources, files) = read_keys(fields, map.get("keys"), place);
    (algorithms, sources, files)
}

fn read_keys(fields: &mut Fields<'_>, keys: Option<&Json>, place: Place) -> (Vec<Arc<Source>>, Vec<Keys>) {
    let Some(map) = keys.and_then(object) else {
        fields.wrong_at("jws", &["keys"], CONFIG, "must be an object with sources");
        return (Vec::new(), Vec::new());
    };
    for key in map.keys().filter(|key| !["sources", "identification"].contains(&key.as_str())) {
        fields.wrong_at("jws", &["keys", key], CONFIG_VALUE, "is not a field of keys: it has sources, identification");
    }
    if let Some(identification) = map.get("identification") {
        let claims = only_member(fields, "jws", &["keys", "identification"], identification, "token_claims");
        if claims.and_then(Json::as_array).is_none_or(|claims| claims.iter().any(|claim| claim != "kid")) {
            let message = "must be [kid]: nothing else in a token names its key";
            fields.wrong_at("jws", &["keys", "identification", "token_claims"], CONFIG_VALUE, message);
        }
    }
    let Some(sources) = map.get("sources").and_then(object) else {
        let message = "must be an object with additional_jkus, files, or both";
        fields.wrong_at("jws", &["keys", "sources"], CONFIG, message);
        return (Vec::new(), Vec::new());
    };
    for key in sources.keys().filter(|key| !["additional_jkus", "files"].contains(&key.as_str())) {
        let message = "is not a field of sources: it has additional_jkus, files";
        fields.wrong_at("jws", &["keys", "sources", key], CONFIG_VALUE, message);
    }
    if !sources.contains_key("additional_jkus") && !sources.contains_key("files") {
        let message = "is missing: write addresses of key sets, or below files where keys are kept";
        fields.wrong_at("jws", &["keys", "sources", "additional_jkus"], CONFIG, message);
    }
    let reach = if place.is_cloud() { Reach::Anywhere } else { Reach::Public };
    let urls = read_list(fields, sources, "additional_jkus", |_, url| {
        let is_fixed = !url.contains("${");
        let fixed = Some(url).filter(|_| is_fixed).ok_or("cannot have a ${…}: no request may say whose keys count")?;
        Source::shared(fixed, reach).map_err(str::to_owned)
    });
    let files = read_list(fields, sources, "files", |fields, file| {
        let refused = "cannot be here: only policies of the gateway's own configuration may name files";
        let directory = fields.files().ok_or(refused)?;
        let text = bounded_text(&directory.join(file), FILE_BYTES_MAX)?;
        Keys::read_file(text.as_bytes()).map_err(str::to_owned)
    });
    (urls, files)
}

/// Reads the texts of a list that must not be empty if it is there.
fn read_list<T>(
    fields: &mut Fields<'_>,
    sources: &Map<String, Json>,
    name: &str,
    read: impl Fn(&Fields<'_>, &str) -> Result<T, String>,
) -> Vec<T> {
    let Some(value) = sources.get(name) else { return Vec::new() };
    let Some(list) = value.as_array().filter(|list| (1..=SOURCES_MAX).contains(&list.len())) else {
        let message = format!("must be a list of 1 to {SOURCES_MAX} texts");
        fields.wrong_at("jws", &["keys", "sources", name], CONFIG, message);
        return Vec::new();
    };
    let mut found = Vec::new();
    for (index, text) in list.iter().enumerate() {
        match text.as_str().ok_or_else(|| "must be a text".to_owned()).and_then(|text| read(fields, text)) {
            Ok(value) => found.push(value),
            Err(message) => {
                let path = ["keys", "sources", name, &format!("[{index}]")];
                fields.wrong_at("jws", &path, CONFIG_VALUE, message);
            }
        }
    }
    found
}

/// As in ngrok's reference.
const SOURCES_MAX: usize = 100;
/// Issuers, and audiences.
const LIST_MAX: usize = 100;
/// Tokens that one request has to bring.
const TOKENS_MAX: usize = 10;
/// A file of keys; sets have some kilobytes.
const FILE_BYTES_MAX: usize = 256 * 1024;
