//! The parameters of a query, as a provider's callback has them.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The value of a parameter.
///
/// # Errors
///
/// It is there more than once, or cannot be read.
pub fn parameter(query: &str, name: &str) -> Result<Option<String>, &'static str> {
    let mut found = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key).as_deref() != Some(name) {
            continue;
        }
        let value = decoded(value).ok_or("a parameter is not UTF-8")?;
        if found.replace(value).is_some() {
            return Err("a parameter is there more than once");
        }
    }
    Ok(found)
}

/// Names and values as a form or a query has them.
#[must_use]
pub fn form_text(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// A text in which nothing has a meaning of its own any more.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, &RESERVED).to_string()
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(Cow::into_owned)
}

/// All but the unreserved characters of RFC 3986, 2.3.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_holds_any_text() {
        let text = form_text(&[("a b", "c&d=é"), ("e", "")]);
        assert_eq!(text, "a%20b=c%26d%3D%C3%A9&e=");
        assert_eq!(parameter(&text, "a b"), Ok(Some("c&d=é".into())));
        assert_eq!(parameter(&text, "e"), Ok(Some(String::new())));
        assert_eq!(parameter(&text, "f"), Ok(None));
    }

    #[test]
    fn parameter_that_is_doubtful_is_refused() {
        assert!(parameter("a=1&b=2&%61=1", "a").is_err());
        assert!(parameter("a=%ff", "a").is_err());
        assert_eq!(parameter("a=x+y", "a"), Ok(Some("x y".into())));
    }
}
