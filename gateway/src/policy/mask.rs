//! Keeps texts that must not be seen out of what is written for people.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;

/// Texts to hide, wherever they stand in another one.
#[derive(Clone, Default)]
pub struct Mask {
    /// As they are.
    hidden: Arc<[Box<str>]>,
    /// In every form in which they may be written, the longest first.
    forms: Arc<[Box<str>]>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({})", self.hidden.len())
    }
}

impl Mask {
    /// Hides these; empty ones are left out.
    pub fn new(hidden: impl IntoIterator<Item = String>) -> Self {
        let hidden: Vec<Box<str>> = hidden.into_iter().filter(|text| !text.is_empty()).map(Into::into).collect();
        // In lower case, as they are sought: lowering ASCII moves no byte.
        let mut forms: Vec<Box<str>> =
            hidden.iter().flat_map(|text| forms(text)).map(|form| form.to_ascii_lowercase().into()).collect();
        // The longest first: a shorter one may be a part of it, and would leave the rest of it to be seen.
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self { hidden: hidden.into(), forms: forms.into() }
    }

    /// Hides what this one and another one hide.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        match (self.hidden.is_empty(), other.hidden.is_empty()) {
            (_, true) => self.clone(),
            (true, _) => other.clone(),
            _ => Self::new(self.hidden.iter().chain(other.hidden.iter()).map(|text| text.to_string())),
        }
    }

    /// The text without what is to be hidden, also where it is in capitals, in quotes as JSON and Rust write it, or in
    /// a URL.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for form in self.forms.iter() {
            text = without(text, form);
        }
        text
    }
}

/// A text as it is, and as it is written into other ones.
fn forms(text: &str) -> Vec<String> {
    let inside = |quoted: String| quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned();
    let json = inside(Json::from(text).to_string());
    // What is encoded once may stand in what is shown as JSON once more.
    let twice = inside(Json::from(json.as_str()).to_string());
    let debug = inside(format!("{text:?}"));
    // Rust puts a backslash before quotes of either kind, before those that need one, or before none.
    let escaped = text.escape_debug().to_string();
    let url = utf8_percent_encode(text, IN_URL).to_string();
    let form = url.replace("%20", "+");
    let all = [text.to_owned(), inside(Json::from(debug.as_str()).to_string()), json, twice, debug, escaped, url, form];
    // What is left of a text of one quote is no form of it to look for.
    all.into_iter().filter(|form| !form.is_empty()).collect()
}

/// `sought` is in lower case.
fn without(text: String, sought: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if !lower.contains(sought) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    // Lowering ASCII moves no byte.
    for (at, found) in lower.match_indices(sought) {
        out.push_str(text.get(end..at).unwrap_or_default());
        out.push_str(HIDDEN);
        end = at + found.len();
    }
    out.push_str(text.get(end..).unwrap_or_default());
    out
}

/// What stands in a URL as it is (RFC 3986, 2.3).
const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stands in the place of a hidden text.
pub(super) const HIDDEN: &str = "(hidden)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_texts_are_in_nothing() {
        let mask = Mask::new(["s3cret".into(), String::new(), "s3cret and more".into(), "a\"b".into()]);
        for (text, shown) in [
            ("nothing", "nothing"),
            ("s3cret", "(hidden)"),
            ("<S3CRET>s3cretS3cret", "<(hidden)>(hidden)(hidden)"),
            ("s3cret and more", "(hidden)"),
            ("ä a\\\"b ö a\"b", "ä (hidden) ö (hidden)"),
        ] {
            assert_eq!(mask.hide(text), shown);
        }
        assert_eq!(Mask::default().hide("s3cret"), "s3cret");
        assert_eq!(mask.with(&Mask::new(["xyz".into()])).hide("xyz s3cret"), "(hidden) (hidden)");
        assert!(!format!("{mask:?}").contains("s3cret"));
    }
    #[test]
    fn secrets_are_hidden_however_they_are_written() {
        for secret in
            ["it's \"so\"", "a'b", "a\"b", "back\\slash", "tab\there", "new\nline", "p/q?r=s&t", "\u{1}x", "ä'\"ö"]
        {
            let mask = Mask::new([secret.to_owned()]);
            let json = Json::from(secret).to_string();
            let nested = Json::from(json.as_str()).to_string();
            for shown in [
                secret.to_owned(),
                json.clone(),
                nested,
                format!("{secret:?}"),
                secret.escape_debug().to_string(),
                Json::from(format!("fault: {secret:?}").as_str()).to_string(),
                format!("https://a.internal/?x={}", utf8_percent_encode(secret, IN_URL)),
                format!("x={}", utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string().replace("%20", "+")),
            ] {
                let hidden = mask.hide(&format!("<{shown}>"));
                assert!(hidden.contains("(hidden)"), "{shown} of {secret:?}");
                let rest = hidden.replace("(hidden)", "");
                assert!(!rest.contains('ä') && !rest.contains("slash") && !rest.contains("so"), "{rest} of {secret:?}");
            }
        }
    }
}
