//! A walk over a parsed file that collects every error instead of stopping at the first.
//!
//! [`Reader`] collects, [`Object`] reads the members of one object. Members are absent when the key is missing or
//! null. A method that finds a wrong value records the problem and returns `None`, so that reading goes on; the
//! caller takes a default and learns from [`Reader::finish`] that the result is void.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::document::{Document, join_index, join_key};
use super::duration::{format_duration, parse_duration};
use super::nearest::nearest;
use super::problem::{ConfigErrors, Problem, Problems, SECRET_SHOWN, Warning, shown, shown_text};
use super::size::{SizeError, format_size, parse_size};

/// Collects the problems and warnings of one file.
#[derive(Debug)]
pub struct Reader {
    file: String,
    problems: RefCell<Problems>,
    warnings: RefCell<Vec<Warning>>,
}

impl Reader {
    /// A reader whose messages begin with `file`.
    #[must_use]
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// Parses JSON. A syntax error and every key that occurs twice are recorded; after a syntax error there is no value.
    #[must_use]
    pub fn parse_json(&self, text: &str) -> Option<Value> {
        // From bytes, as messages are: one parser is enough.
        match serde_json::from_slice::<Document>(text.as_bytes()) {
            Ok(document) => Some(self.accept(document)),
            Err(error) => {
                self.problem("", None, format!("is not valid JSON: {error}"));
                None
            }
        }
    }

    /// Takes a tree that another format's parser made, and records its duplicate keys.
    #[must_use]
    pub fn accept(&self, document: Document) -> Value {
        for path in &document.duplicates {
            self.problem(path, None, "this key occurs more than once: keep one of them");
        }
        document.value
    }

    /// The object at `path` (empty for the file itself); anything else is a problem.
    pub fn object<'a>(&'a self, value: &'a Value, path: impl Into<String>) -> Option<Object<'a>> {
        let path = path.into();
        let Value::Object(members) = value else {
            self.problem(&path, Some(shown(value)), "must be an object");
            return None;
        };
        Some(Object { reader: self, members, path, known: Vec::new(), rejected: Vec::new() })
    }

    /// Records a problem. `value` is shown as it is: [`shown`], [`shown_text`] or [`SECRET_SHOWN`].
    pub fn problem(&self, path: &str, value: Option<String>, expected: impl fmt::Display) {
        self.problem_in(&self.file, path, value, expected);
    }

    /// Records a problem of another source: a file that this one names, or the environment.
    pub fn problem_in(&self, file: &str, path: &str, value: Option<String>, expected: impl fmt::Display) {
        let expected = expected.to_string();
        self.problems.borrow_mut().push(Problem { file: file.to_owned(), path: path.to_owned(), value, expected });
    }

    /// Records a warning about this file.
    pub fn warn(&self, path: &str, text: impl fmt::Display) {
        self.warn_in(&self.file, path, text);
    }

    /// Records a warning about another file.
    pub fn warn_in(&self, file: &str, path: &str, text: impl fmt::Display) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < WARNINGS_MAX {
            warnings.push(Warning { file: file.to_owned(), path: path.to_owned(), text: text.to_string() });
        }
    }

    /// How many problems there are so far.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// The end of the walk.
    ///
    /// # Errors
    /// Every problem that was recorded.
    pub fn finish(self) -> Result<Vec<Warning>, ConfigErrors> {
        match self.problems.into_inner().into_errors() {
            Some(errors) => Err(errors),
            None => Ok(self.warnings.into_inner()),
        }
    }
}

/// The members of one object of the file. Every key that is asked for is known; [`Object::finish`] reports the others.
#[derive(Debug)]
#[must_use = "finish() reports unknown keys"]
pub struct Object<'a> {
    reader: &'a Reader,
    members: &'a Map<String, Value>,
    path: String,
    known: Vec<&'static str>,
    /// Keys that have a message of their own and are not worth suggesting.
    rejected: Vec<&'static str>,
}

impl<'a> Object<'a> {
    /// The path of this object.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of a member.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        join_key(&self.path, key)
    }

    /// The reader that collects this object's problems.
    #[must_use]
    pub fn reader(&self) -> &'a Reader {
        self.reader
    }

    /// A member as it stands, `None` when absent or null.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.members.get(key).filter(|value| !value.is_null())
    }

    /// Whether a member is present and not null.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// Records that a member which has to be there is missing; call it when a plain method gave `None` and
    /// [`Object::has`] is false. The `required_` methods do it themselves.
    pub fn missing(&self, key: &str, expected: impl fmt::Display) {
        self.reader.problem(&self.path_of(key), None, format!("is missing: {expected}"));
    }

    /// A string.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        let Value::String(text) = value else {
            self.problem(key, "must be a string");
            return None;
        };
        Some(text.clone())
    }

    /// A string that has to be there and not be empty.
    pub fn required_string(&mut self, key: &'static str) -> Option<String> {
        if !self.has(key) {
            self.missing(key, "a string is needed");
            return None;
        }
        let text = self.string(key)?;
        if text.is_empty() {
            self.problem(key, "must not be empty");
            return None;
        }
        Some(text)
    }

    /// A string of at most `bytes_max` bytes.
    pub fn string_up_to(&mut self, key: &'static str, bytes_max: usize) -> Option<String> {
        let text = self.string(key)?;
        if text.len() > bytes_max {
            let expected = format!("must be at most {bytes_max} bytes long, this has {}", text.len());
            self.problem(key, expected);
            return None;
        }
        Some(text)
    }

    /// A string that no message ever shows.
    pub fn secret(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        let Value::String(text) = value else {
            self.secret_problem(key, "must be a string");
            return None;
        };
        Some(text.clone())
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let Value::Bool(flag) = value else {
            self.problem(key, "must be true or false");
            return None;
        };
        Some(*flag)
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let number = self.value(key)?.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            self.problem(key, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A duration (`"10s"`, `"1m30s"`, `"500ms"`) within `range`.
    pub fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.value(key)?;
        let Value::String(text) = value else {
            self.problem(key, "must be a duration in quotes such as \"10s\", \"1m30s\" or \"500ms\"");
            return None;
        };
        let duration = match parse_duration(text) {
            Ok(duration) => duration,
            Err(error) => {
                self.problem(key, error);
                return None;
            }
        };
        if !range.contains(&duration) {
            let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
            self.problem(key, format!("must be from {least} to {most}"));
            return None;
        }
        Some(duration)
    }

    /// An amount of memory (`"8MiB"`, `"512KiB"`, a number of bytes) within `range`, in bytes.
    pub fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let size = match self.value(key)? {
            Value::String(text) => parse_size(text).ok(),
            other => other.as_u64(),
        };
        let Some(size) = size else {
            self.problem(key, SizeError);
            return None;
        };
        if !range.contains(&size) {
            let (least, most) = (format_size(*range.start()), format_size(*range.end()));
            self.problem(key, format!("must be from {least} to {most}"));
            return None;
        }
        Some(size)
    }

    /// One of some words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        if found.is_none() {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.problem(key, format!("must be {}", one_of(&words)));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A string that `parse` understands; its error says what would be right.
    pub fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.string(key)?;
        match parse(&text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.problem(key, error);
                None
            }
        }
    }

    /// As [`Object::parsed`], for a member that has to be there.
    pub fn required_parsed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key, "a string is needed");
            return None;
        }
        self.parsed(key, parse)
    }

    /// A list of at most `count_max` strings, each with its path; a lone string is a list of one. Absent: empty.
    pub fn strings(&mut self, key: &'static str, count_max: usize) -> Vec<(String, String)> {
        let mut strings = Vec::new();
        for (path, item) in self.items(key, count_max, Items::Strings) {
            match item {
                Value::String(text) => strings.push((path, text.clone())),
                _ => self.reader.problem(&path, Some(shown(item)), "must be a string"),
            }
        }
        strings
    }

    /// A list of at most `count_max` strings that `parse` understands; a lone string is a list of one. Absent: empty.
    pub fn parsed_list<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        count_max: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let mut list = Vec::new();
        for (path, text) in self.strings(key, count_max) {
            match parse(&text) {
                Ok(parsed) => list.push(parsed),
                Err(error) => self.reader.problem(&path, Some(shown_text(&text)), error),
            }
        }
        list
    }

    /// A nested object.
    pub fn object(&mut self, key: &'static str) -> Option<Self> {
        let value = self.value(key)?;
        self.reader.object(value, self.path_of(key))
    }

    /// A nested object that has to be there.
    pub fn required_object(&mut self, key: &'static str) -> Option<Self> {
        if !self.has(key) {
            self.missing(key, "an object is needed");
            return None;
        }
        self.object(key)
    }

    /// A list of at most `count_max` objects. Absent: empty.
    pub fn objects(&mut self, key: &'static str, count_max: usize) -> Vec<Self> {
        let items = self.items(key, count_max, Items::Objects);
        items.into_iter().filter_map(|(path, item)| self.reader.object(item, path)).collect()
    }

    /// Records a problem of a member and shows its value.
    pub fn problem(&self, key: &str, expected: impl fmt::Display) {
        let value = self.members.get(key).map(shown);
        self.reader.problem(&self.path_of(key), value, expected);
    }

    /// Records a problem of a member that holds a secret.
    pub fn secret_problem(&self, key: &str, expected: impl fmt::Display) {
        self.reader.problem(&self.path_of(key), Some(SECRET_SHOWN.to_owned()), expected);
    }

    /// Records a warning about a member.
    pub fn warn(&self, key: &str, text: impl fmt::Display) {
        self.reader.warn(&self.path_of(key), text);
    }

    /// Refuses a member that is known but cannot be used here, if it is present. Its value is not shown.
    pub fn refuse(&mut self, key: &'static str, why: impl fmt::Display) {
        self.rejected.push(key);
        if self.members.get(key).is_some_and(|value| !value.is_null()) {
            self.reader.problem(&self.path_of(key), None, why);
        }
    }

    /// Accepts a member that has no effect here, with a warning if it is present.
    pub fn ignore(&mut self, key: &'static str, why: impl fmt::Display) {
        self.rejected.push(key);
        if self.members.get(key).is_some_and(|value| !value.is_null()) {
            self.reader.warn(&self.path_of(key), why);
        }
    }

    /// Reports the keys that nobody asked for, each with the nearest known key. Their values are not shown: a
    /// misspelt key may hold a secret.
    pub fn finish(self) {
        for key in self.members.keys() {
            if self.known.contains(&key.as_str()) || self.rejected.contains(&key.as_str()) {
                continue;
            }
            let expected = match nearest(key, &self.known) {
                Some(known) => format!("unknown key: did you mean \"{known}\"?"),
                None => format!("unknown key: the keys here are {}", self.known.join(", ")),
            };
            self.reader.problem(&self.path_of(key), None, expected);
        }
    }

    /// The items of a list with their paths; a lone string where strings are expected is a list of one.
    fn items(&mut self, key: &'static str, count_max: usize, kind: Items) -> Vec<(String, &'a Value)> {
        let path = self.path_of(key);
        let items = match (kind, self.value(key)) {
            (_, None) => return Vec::new(),
            (_, Some(Value::Array(items))) => items,
            (Items::Strings, Some(value @ Value::String(_))) => return vec![(path, value)],
            (Items::Strings, Some(_)) => {
                self.problem(key, "must be a list of strings");
                return Vec::new();
            }
            (Items::Objects, Some(_)) => {
                self.problem(key, "must be a list of objects");
                return Vec::new();
            }
        };
        if items.len() > count_max {
            self.problem(key, format!("must have at most {count_max} entries, this has {}", items.len()));
        }
        items.iter().take(count_max).enumerate().map(|(index, item)| (join_index(&path, index), item)).collect()
    }
}

/// What a list is expected to hold.
#[derive(Clone, Copy, Debug)]
enum Items {
    Strings,
    Objects,
}

/// `"a", "b" or "c"`.
fn one_of(words: &[String]) -> String {
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// As many as problems; a warning that is lost here is lost in a crowd anyway.
const WARNINGS_MAX: usize = 100;

#[cfg(test)]
mod tests;
