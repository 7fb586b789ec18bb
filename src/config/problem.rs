//! What is wrong with a configuration: every error names file, key path, value and what would be right.

use std::fmt;

use serde_json::Value;

/// One thing that makes a configuration unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the name of the environment variable's source (`environment`).
    pub file: String,
    /// The key path (`endpoints[1].upstream.url`); empty for the file as a whole.
    pub path: String,
    /// The value as it may be shown: short, escaped, never of a secret. `None` where there is none.
    pub value: Option<String>,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        if let Some(value) = &self.value {
            write!(f, ": {value}")?;
        }
        write!(f, ": {}", self.expected)
    }
}

/// Something that an operator should know and that does not stop the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file it is about.
    pub file: String,
    /// The key path; empty for the file as a whole.
    pub path: String,
    /// What is odd and what to do.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Everything that is wrong with a configuration, in the order of the file's sections. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
    omitted: usize,
}

impl ConfigErrors {
    /// The problems, at most [`PROBLEMS_MAX`].
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n... and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<Problem> for ConfigErrors {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem], omitted: 0 }
    }
}

/// Collects problems up to [`PROBLEMS_MAX`] and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
    omitted: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(problem);
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len().saturating_add(self.omitted)
    }

    pub(crate) fn into_errors(self) -> Option<ConfigErrors> {
        if self.found.is_empty() {
            return None;
        }
        Some(ConfigErrors { problems: self.found, omitted: self.omitted })
    }
}

/// A value as an error line may show it: scalars shortened to 80 characters, of lists and objects only what
/// they are, because a secret may be inside.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => shown_text(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A text as an error line may show it: quoted, escaped, shortened, without user information and query, which are
/// where URLs carry passwords.
#[must_use]
pub fn shown_text(text: &str) -> String {
    let text = without_credentials(text);
    let mut short: String = text.chars().take(VALUE_CHARS_SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

fn without_credentials(text: &str) -> String {
    let (before, tail) = match text.split_once('?') {
        Some((before, _)) => (before, "?[secret]"),
        None => (text, ""),
    };
    let Some((userinfo, host)) = before.rsplit_once('@') else {
        return format!("{before}{tail}");
    };
    let scheme = userinfo.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some(scheme) => format!("{scheme}://[secret]@{host}{tail}"),
        None => format!("[secret]@{host}{tail}"),
    }
}

/// Stands for every value of a key that holds a secret.
pub const SECRET_SHOWN: &str = "[secret]";

/// A screenful or two: whoever has more to mend mends these first.
pub const PROBLEMS_MAX: usize = 100;

/// Enough to recognise the value in the file, short enough for one line.
const VALUE_CHARS_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_value_carries_no_credentials_and_no_raw_control_characters() {
        assert_eq!(shown_text("http://user:pw@host/x"), "\"http://[secret]@host/x\"");
        assert_eq!(shown_text("user:pw@host"), "\"[secret]@host\"");
        assert_eq!(shown_text("https://host?token=abc"), "\"https://host?[secret]\"");
        assert_eq!(shown_text("a\nb\u{1b}"), "\"a\\nb\\u{1b}\"");
        assert_eq!(shown(&serde_json::json!({"authtoken": "abc"})), "an object");
    }

    #[test]
    fn shown_value_is_short() {
        assert!(shown_text(&"x".repeat(10_000)).chars().count() <= VALUE_CHARS_SHOWN + 3);
    }

    #[test]
    fn problems_beyond_the_limit_are_counted() {
        let mut problems = Problems::default();
        for _ in 0..PROBLEMS_MAX + 5 {
            problems.push(Problem { file: "f".into(), path: "p".into(), value: None, expected: "x".into() });
        }
        let errors = problems.into_errors().unwrap();
        assert_eq!(errors.problems().len(), PROBLEMS_MAX);
        assert!(errors.to_string().ends_with("... and 5 more"));
    }
}
