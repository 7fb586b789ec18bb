//! Where in a document something stands, written as `on_http_request[0].actions[1].config.url`.

use std::fmt;

/// A place in a document. It borrows its parents, so going down costs nothing and is put into words only for an error.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'a> {
    /// The whole document.
    Root,
    /// A member of an object.
    Key(&'a Self, &'a str),
    /// An element of a list.
    Index(&'a Self, usize),
}

impl<'a> Path<'a> {
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    pub(super) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(&shown_key(key)),
            Self::Key(parent, key) => write!(f, "{parent}.{}", shown_key(key)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Keys come from the document: long or unprintable ones are cut and escaped before they reach a log.
fn shown_key(key: &str) -> String {
    let mut shown: String = key.chars().take(KEY_CHARS_MAX).flat_map(char::escape_debug).collect();
    if key.chars().nth(KEY_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Enough for every key that a document may rightly have (the longest header names), and short enough for a log line.
const KEY_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_place_is_written_like_a_javascript_expression() {
        let root = Path::Root;
        let phase = root.key("on_http_request");
        let rule = phase.index(0);
        let actions = rule.key("actions");
        let action = actions.index(1);
        let config = action.key("config");
        assert_eq!(config.key("url").to_string(), "on_http_request[0].actions[1].config.url");
        assert_eq!(root.to_string(), "");
    }

    #[test]
    fn long_or_unprintable_key_is_cut_and_escaped() {
        let key = format!("\n{}", "k".repeat(500));
        let shown = Path::Root.key(&key).to_string();
        assert!(shown.starts_with("\\nkkk") && shown.ends_with("k…"), "{shown}");
        assert_eq!(shown.chars().count(), KEY_CHARS_MAX + 2);
    }
}
