//! Reads the configuration of the action.

use http::Method;
use serde_json::{Map, Value as Json};

use super::super::super::error::{CONFIG, CONFIG_VALUE};
use super::super::super::fields::Fields;
use super::super::super::phase::Phase;
use super::super::super::place::Place;
use super::super::super::template::Template;
use super::super::{Action, header};
use super::follow::OUTSIDE;
use super::target::{Server, Target, fixed_server};
use super::{
    HttpRequest, QUERY_KEY_CHARS_MAX, QUERY_MAX, QUERY_VALUE_CHARS_MAX, REDIRECTS, REDIRECTS_MAX, TIME, TIME_MAX,
    TIME_MIN,
};

pub(super) fn compile(fields: &mut Fields<'_>, _phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    let url = fields.required_template("url", "https://check.internal/allowed");
    let method = read_method(fields);
    let query = read_query(fields);
    let headers = header::read(fields, "headers", 0);
    let body = fields.template("body");
    let redirects_max = usize::try_from(fields.int("max_redirects", 0..=REDIRECTS_MAX, REDIRECTS)).ok()?;
    let time = fields.duration("timeout", TIME_MIN..=TIME_MAX, Some(TIME));
    let retry = fields.condition("retry_condition", &["attempts", "last_attempt"]);
    let halts = fields.choice("on_error", &["continue", "halt"]) == Some("halt");
    let url = url?;
    let endpoint = match read_server(&url, place) {
        Ok(Some(Server::Internal(endpoint))) => Some(endpoint),
        Ok(Some(Server::Outside) | None) => None,
        Err(message) => {
            fields.wrong("url", CONFIG_VALUE, message);
            return None;
        }
    };
    // Without its query, in which there may be a secret.
    let named = url.fixed().map_or_else(|| fixed_server(url.beginning()), |text| text.split(['?', '#']).next());
    let server = named.unwrap_or("the server of its URL").into();
    Some(Box::new(HttpRequest {
        url,
        server,
        endpoint,
        method,
        query,
        headers,
        body,
        redirects_max,
        time: time?,
        retry,
        halts,
        is_bound: !place.is_cloud(),
        may_go_outside: place.may_go_outside(),
    }))
}

/// The server that the URL names, if that is the same for all requests.
fn read_server(url: &Template, place: Place) -> Result<Option<Server>, String> {
    let fixed = match url.fixed() {
        Some(text) => Some(text),
        None => fixed_server(url.beginning()),
    };
    let Some(fixed) = fixed else {
        if place.is_cloud() {
            return Ok(None);
        }
        // What it becomes could not be held against the credential's rules beforehand.
        return Err(
            "must name its server without ${…} in the policy of an agent, as https://api.internal/${…} does".into()
        );
    };
    let server = Target::parse(fixed).map_err(str::to_owned)?.server;
    if server == Server::Outside && !place.may_go_outside() {
        return Err(OUTSIDE.to_owned());
    }
    Ok(Some(server))
}

fn read_method(fields: &mut Fields<'_>) -> Method {
    const NAMES: [&str; 6] = ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"];
    match fields.choice("method", &NAMES) {
        Some("PUT") => Method::PUT,
        Some("POST") => Method::POST,
        Some("PATCH") => Method::PATCH,
        Some("DELETE") => Method::DELETE,
        Some("OPTIONS") => Method::OPTIONS,
        _ => Method::GET,
    }
}

/// `[{key: …, value: …}]`
fn read_query(fields: &mut Fields<'_>) -> Vec<(Box<str>, Template)> {
    let list = match fields.value("query_params") {
        None => return Vec::new(),
        Some(Json::Array(list)) if list.len() <= QUERY_MAX => list,
        Some(Json::Array(list)) => {
            let message = format!("has {} entries: at most {QUERY_MAX} are possible", list.len());
            fields.wrong_at("query_params", &[], CONFIG, message);
            return Vec::new();
        }
        Some(_) => {
            fields.wrong("query_params", CONFIG, "must be a list such as [{key: user, value: ann}]");
            return Vec::new();
        }
    };
    let mut query = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let at = format!("[{index}]");
        let Some(map) = entry.as_object() else {
            fields.wrong_at("query_params", &[&at], CONFIG, "must be an object with key and value");
            continue;
        };
        for key in map.keys().filter(|key| !["key", "value"].contains(&key.as_str())) {
            fields.wrong_at("query_params", &[&at, key], CONFIG_VALUE, "is not a field here: there are key, value");
        }
        if let (Some(key), Some(value)) = (read_key(fields, &at, map), read_value(fields, &at, map)) {
            query.push((key, value));
        }
    }
    query
}

fn read_key(fields: &mut Fields<'_>, at: &str, map: &Map<String, Json>) -> Option<Box<str>> {
    let Some(key) = map.get("key").and_then(Json::as_str) else {
        fields.wrong_at("query_params", &[at, "key"], CONFIG, "must be a text");
        return None;
    };
    if key.is_empty() || key.chars().nth(QUERY_KEY_CHARS_MAX).is_some() {
        let message = format!("must have 1 to {QUERY_KEY_CHARS_MAX} characters");
        fields.wrong_at("query_params", &[at, "key"], CONFIG_VALUE, message);
        return None;
    }
    Some(key.into())
}

fn read_value(fields: &mut Fields<'_>, at: &str, map: &Map<String, Json>) -> Option<Template> {
    let Some(text) = map.get("value").and_then(Json::as_str) else {
        fields.wrong_at("query_params", &[at, "value"], CONFIG, "must be a text: put it into quotes");
        return None;
    };
    let value = fields.template_at("query_params", &[at, "value"], text)?;
    if value.fixed().is_some_and(|text| text.chars().nth(QUERY_VALUE_CHARS_MAX).is_some()) {
        let message = format!("must have {QUERY_VALUE_CHARS_MAX} characters at most");
        fields.wrong_at("query_params", &[at, "value"], CONFIG_VALUE, message);
        return None;
    }
    Some(value)
}
