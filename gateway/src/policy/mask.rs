//! Keeps texts that must not be seen out of what is written for people.

use std::sync::Arc;

/// Texts to hide, wherever they stand in another one.
#[derive(Clone, Default)]
pub struct Mask(Arc<[Box<str>]>);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({})", self.0.len())
    }
}

impl Mask {
    /// Hides these; empty ones are left out.
    pub fn new(hidden: impl IntoIterator<Item = String>) -> Self {
        let mut hidden: Vec<Box<str>> = hidden.into_iter().filter(|text| !text.is_empty()).map(Into::into).collect();
        // The longest first: a shorter one may be a part of it, and would leave the rest of it to be seen.
        hidden.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        hidden.dedup();
        Self(hidden.into())
    }

    /// Hides what this one and another one hide.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        match (self.0.is_empty(), other.0.is_empty()) {
            (_, true) => self.clone(),
            (true, _) => other.clone(),
            _ => Self::new(self.0.iter().chain(other.0.iter()).map(|text| text.to_string())),
        }
    }

    /// The text without what is to be hidden, also where it is in capitals or as JSON and Rust write it in quotes.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for hidden in self.0.iter() {
            text = without(text, hidden);
            let escaped = hidden.escape_debug().to_string();
            if escaped != **hidden {
                text = without(text, &escaped);
            }
        }
        text
    }
}

fn without(text: String, hidden: &str) -> String {
    let (lower, sought) = (text.to_ascii_lowercase(), hidden.to_ascii_lowercase());
    if !lower.contains(&sought) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    // Lowering ASCII moves no byte.
    for (at, found) in lower.match_indices(&sought) {
        out.push_str(text.get(end..at).unwrap_or_default());
        out.push_str(HIDDEN);
        end = at + found.len();
    }
    out.push_str(text.get(end..).unwrap_or_default());
    out
}

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
}
