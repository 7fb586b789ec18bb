//! What actions may do to headers.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::{HeaderName, HeaderValue};

use super::super::error::{HEADER_NAME, HEADER_VALUE, HEADERS_TOO_MANY};
use super::super::expression::Fault;
use super::super::fields::Fields;
use super::super::run::Run;
use super::super::template::Template;

/// Headers to set, by name.
pub(super) type Headers = Vec<(HeaderName, Template)>;

/// Reads an object of header names and templates; `true` or `1` without quotes will do.
pub(super) fn read(fields: &mut Fields<'_>, field: &'static str, least: usize) -> Headers {
    let entries = fields.scalar_templates(field, least..=HEADERS_MAX, HEADERS_TOO_MANY);
    let mut headers = Headers::new();
    for (name, template) in entries {
        let parsed = match parse_name(name) {
            Ok(parsed) => parsed,
            Err(message) => {
                fields.wrong_entry(field, name, HEADER_NAME, message);
                continue;
            }
        };
        if template.fixed().is_some_and(|text| HeaderValue::from_str(text).is_err()) {
            let message = "is not the value of a header: visible characters and spaces are possible";
            fields.wrong_entry(field, name, HEADER_VALUE, message);
            continue;
        }
        headers.push((parsed, template));
    }
    headers
}

/// Reads the name of a header that a policy may touch.
pub(super) fn parse_name(name: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "is not the name of a header: letters, digits and - are possible")?;
    if RESERVED.contains(&name) || crate::http::is_own_header(&name) {
        return Err("is a header that only the gateway itself sets");
    }
    Ok(name)
}

/// As [`parse_name`], for the actions that change headers and must leave alone what ngrok's must.
pub(super) fn parse_changeable(name: &str, without_host: bool) -> Result<HeaderName, &'static str> {
    let name = parse_name(name)?;
    if name == USER_AGENT {
        return Err("cannot be changed by this action");
    }
    if without_host && name == HOST {
        return Err("cannot be removed: every request has one");
    }
    Ok(name)
}

/// The headers with their values.
pub(super) fn render(headers: &Headers, run: &mut Run<'_, '_, '_>) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let mut rendered = Vec::with_capacity(headers.len());
    for (name, template) in headers {
        rendered.push((name.clone(), header_value(&run.render(template)?)?));
    }
    Ok(rendered)
}

/// A value that no line break or control character can turn into something else.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::from_str(text).map_err(|_| Fault::Invalid("the value has characters that no header may have".into()))
}

/// As in ngrok's reference.
const HEADERS_MAX: usize = 10;

/// Headers that frame the message or steer the connection: the server writes them.
const RESERVED: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
