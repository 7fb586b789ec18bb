//! Reads the fields of one action's `config`, noting what is wrong with them and which of them nobody asked for.

mod lists;

use std::ops::RangeInclusive;
use std::path::Path as FilePath;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};

use super::error::{CONFIG, CONFIG_VALUE, EXPRESSION, Findings, RANGE, TEMPLATE};
use super::expression::{Expression, Scope};
use super::own::Lent;
use super::path::Path;
use super::template::Template;

/// The fields of one action's `config`.
///
/// A field that is wrong is noted and read as absent: the document is refused anyway, and the other mistakes are found in
/// the same pass. [`Fields::finish`] must be called last; it refuses the fields that were not asked for.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    map: Option<&'a Map<String, Value>>,
    path: Path<'a>,
    asked: Vec<&'static str>,
    scope: Scope<'a>,
    /// Numbers, true and false stand for their texts.
    takes_scalars: bool,
    /// Fields whose values must not be shown.
    secrets: Vec<&'static str>,
    /// Where relative paths begin; `None` in a document that may not name files.
    files: Option<&'a FilePath>,
    findings: &'a mut Findings,
}

impl<'a> Fields<'a> {
    /// Takes the value of `config`; absent and null mean no fields.
    pub(super) fn new(config: Option<&'a Value>, path: Path<'a>, scope: Scope<'a>, findings: &'a mut Findings) -> Self {
        let map = match config {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                findings.add(path, other, CONFIG, "must be an object with the action's fields");
                None
            }
        };
        Self { map, path, asked: Vec::new(), scope, takes_scalars: false, secrets: Vec::new(), files: None, findings }
    }

    /// Lets the fields name files; relative paths begin in this directory.
    pub(super) fn allow_files(&mut self, directory: Option<&'a FilePath>) {
        self.files = directory;
    }

    /// The directory in which relative paths begin, if the document may name files.
    pub(super) fn files(&self) -> Option<&'a FilePath> {
        self.files
    }

    /// As [`Fields::text`], and no error shows it.
    pub(super) fn secret_text(&mut self, name: &'static str) -> Option<&'a str> {
        self.secrets.push(name);
        match self.value(name)? {
            Value::String(text) if !text.contains("${") => Some(text),
            Value::String(_) => {
                self.wrong(name, TEMPLATE, "cannot have a ${…} here: write the text as it shall be");
                None
            }
            _ => {
                self.wrong(name, CONFIG, MUST_BE_TEXT);
                None
            }
        }
    }

    /// What the operator lends to the policy.
    pub(super) fn lent(&self) -> Lent<'a> {
        self.scope.lent
    }

    /// The raw value of a field; null is the same as absent.
    pub(super) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// A text that is the same for all requests.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        match self.value(name)? {
            Value::String(text) if text.contains("${") => {
                self.wrong(name, TEMPLATE, "cannot have a ${…} here: write the text as it shall be");
                None
            }
            Value::String(text) => Some(text),
            other => {
                self.findings.add(self.path.key(name), other, CONFIG, MUST_BE_TEXT);
                None
            }
        }
    }

    /// As [`Fields::text`], and its absence is a mistake.
    pub(super) fn required_text(&mut self, name: &'static str, example: &str) -> Option<&'a str> {
        self.require(name, example);
        self.text(name)
    }

    /// One of a few texts.
    pub(super) fn choice(&mut self, name: &'static str, choices: &[&'static str]) -> Option<&'static str> {
        let text = self.text(name)?;
        let chosen = choices.iter().copied().find(|choice| *choice == text);
        if chosen.is_none() {
            self.wrong(name, CONFIG_VALUE, format!("must be {}", choices.join(" or ")));
        }
        chosen
    }

    /// A text that may have `${…}` in it.
    pub(super) fn template(&mut self, name: &'static str) -> Option<Template> {
        let value = self.value(name)?;
        let path = self.path;
        self.compile(path.key(name), value, true)
    }

    /// As [`Fields::template`], and its absence is a mistake.
    pub(super) fn required_template(&mut self, name: &'static str, example: &str) -> Option<Template> {
        self.require(name, example);
        self.template(name)
    }

    /// As [`Fields::required_template`], of a text that no error may show.
    pub(super) fn required_secret(&mut self, name: &'static str, example: &str) -> Option<Template> {
        self.require(name, example);
        self.secrets.push(name);
        let value = self.value(name)?;
        let path = self.path;
        self.compile(path.key(name), value, false)
    }

    /// A condition that may use these names of its own; `true` and `false` without quotes will do.
    pub(super) fn condition(&mut self, name: &'static str, names: &[&str]) -> Option<Expression> {
        let source = match self.value(name)? {
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            Value::String(text) => {
                let inner = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
                inner.unwrap_or(text)
            }
            other => {
                self.findings.add(self.path.key(name), other, CONFIG, "must be an expression in quotes");
                return None;
            }
        };
        match Expression::condition(source, self.scope, names) {
            Ok(expression) => Some(expression),
            Err(mistake) => {
                self.wrong(name, EXPRESSION, mistake);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn bool(&mut self, name: &'static str, default: bool) -> bool {
        match self.value(name) {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                self.findings.add(self.path.key(name), other, CONFIG, "must be true or false, without quotes");
                default
            }
        }
    }

    /// A whole number within `range`, whose absence is a mistake.
    pub(super) fn required_int(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        example: &str,
    ) -> Option<u64> {
        self.require(name, example);
        let value = self.value(name)?;
        if !value.is_i64() && !value.is_u64() {
            self.wrong(name, CONFIG, "must be a whole number, without quotes");
            return None;
        }
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(name, RANGE, format!("must be from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A whole number within `range`; `default` when absent or wrong.
    pub(super) fn int(&mut self, name: &'static str, range: RangeInclusive<u64>, default: u64) -> u64 {
        if self.value(name).is_none() {
            return default;
        }
        self.required_int(name, range, "").unwrap_or(default)
    }

    /// A number within `range`; `default` when absent or wrong.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<f64>, default: f64) -> f64 {
        let Some(value) = self.value(name) else {
            return default;
        };
        let Value::Number(number) = value else {
            self.findings.add(self.path.key(name), value, CONFIG, "must be a number, without quotes");
            return default;
        };
        let Some(number) = number.as_f64().filter(|number| range.contains(number)) else {
            self.wrong(name, RANGE, format!("must be from {} to {}", range.start(), range.end()));
            return default;
        };
        number
    }

    /// A duration such as `60s` within `range`; without a default its absence is a mistake.
    pub(super) fn duration(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        if default.is_none() {
            self.require(name, "60s");
        }
        let Some(text) = self.text(name) else { return default };
        let Ok(duration) = adit::config::duration::parse_duration(text) else {
            self.wrong(name, CONFIG_VALUE, "must be a duration such as 60s, 10m or 1h");
            return default;
        };
        if !range.contains(&duration) {
            let (least, most) = (range.start().as_secs(), range.end().as_secs());
            self.wrong(name, RANGE, format!("must be from {least}s to {most}s"));
            return default;
        }
        Some(duration)
    }

    /// As [`Fields::duration`], and nothing when it is absent.
    pub(super) fn optional_duration(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.value(name)?;
        self.duration(name, range, None)
    }

    /// An HTTP status within `range`; `default` when absent or wrong.
    pub(super) fn status(&mut self, name: &'static str, range: RangeInclusive<u16>, default: StatusCode) -> StatusCode {
        let Some(value) = self.value(name) else {
            return default;
        };
        let Some(number) = value.as_i64() else {
            self.findings.add(self.path.key(name), value, CONFIG, "must be a whole number, without quotes");
            return default;
        };
        let status = u16::try_from(number).ok().filter(|number| range.contains(number));
        let Some(status) = status.and_then(|number| StatusCode::from_u16(number).ok()) else {
            let message = format!("must be a status from {} to {}", range.start(), range.end());
            self.findings.add(self.path.key(name), value, RANGE, message);
            return default;
        };
        status
    }

    /// Notes that a field was read but its value is wrong.
    pub(super) fn wrong(&mut self, name: &'static str, code: u32, message: impl Into<String>) {
        let value = self.map.and_then(|map| map.get(name)).unwrap_or(&Value::Null);
        if self.secrets.contains(&name) {
            self.findings.add_bare(self.path.key(name), code, message);
        } else {
            self.findings.add(self.path.key(name), value, code, message);
        }
    }

    /// Notes that an item of a list field is wrong.
    pub(super) fn wrong_item(&mut self, name: &'static str, index: usize, code: u32, message: impl Into<String>) {
        let list = self.map.and_then(|map| map.get(name)).and_then(Value::as_array);
        let value = list.and_then(|list| list.get(index)).filter(|_| !self.secrets.contains(&name));
        let path = self.path.key(name);
        match value {
            Some(value) => self.findings.add(path.index(index), value, code, message),
            None => self.findings.add_bare(path.index(index), code, message),
        }
    }

    /// Notes that an entry of an object field is wrong.
    pub(super) fn wrong_entry(&mut self, name: &'static str, key: &str, code: u32, message: impl Into<String>) {
        let path = self.path.key(name);
        let value = self.map.and_then(|map| map.get(name)).filter(|_| !self.secrets.contains(&name));
        match value.and_then(|entries| entries.get(key)) {
            Some(value) => self.findings.add(path.key(key), value, code, message),
            None => self.findings.add_bare(path.key(key), code, message),
        }
    }

    /// Notes a mistake deep inside a field; `[1]` in the path is a place in a list.
    pub(super) fn wrong_at(&mut self, name: &'static str, path: &[&str], code: u32, message: impl Into<String>) {
        let base = self.path;
        let value = self.map.and_then(|map| map.get(name)).filter(|_| !self.secrets.contains(&name));
        note_at(self.findings, base.key(name), (path, value), code, message.into());
    }

    /// Compiles a text with `${…}` deep inside a field; a mistake is noted there.
    pub(super) fn template_at(&mut self, name: &'static str, path: &[&str], text: &str) -> Option<Template> {
        match Template::compile(text, self.scope) {
            Ok(template) => Some(template),
            Err(mistake) => {
                self.wrong_at(name, path, TEMPLATE, mistake);
                None
            }
        }
    }

    /// Notes a mistake of the action as a whole.
    pub(super) fn wrong_action(&mut self, code: u32, message: impl Into<String>) {
        self.findings.add_bare(self.path, code, message);
    }

    /// Refuses every field that was not asked for.
    pub(super) fn finish(self) {
        let Some(map) = self.map else {
            return;
        };
        for key in map.keys().filter(|key| !self.asked.contains(&key.as_str())) {
            let message = match self.asked.as_slice() {
                [] => "is not a field of this action: it has none here".to_owned(),
                asked => format!("is not a field of this action: it has {}", asked.join(", ")),
            };
            self.findings.add_bare(self.path.key(key), CONFIG_VALUE, message);
        }
    }

    fn require(&mut self, name: &'static str, example: &str) {
        if self.map.and_then(|map| map.get(name)).is_none_or(Value::is_null) {
            self.findings.add_bare(self.path.key(name), CONFIG, format!("is missing: write for example {example}"));
        }
    }

    fn compile(&mut self, path: Path<'_>, value: &Value, is_shown: bool) -> Option<Template> {
        let mistake = match value {
            Value::String(text) => match Template::compile(text, self.scope) {
                Ok(template) => return Some(template),
                Err(mistake) => (TEMPLATE, mistake),
            },
            Value::Bool(_) | Value::Number(_) if self.takes_scalars => {
                return Template::compile(&value.to_string(), self.scope).ok();
            }
            _ => (CONFIG, MUST_BE_TEXT.into()),
        };
        match mistake {
            (code, message) if is_shown => self.findings.add(path, value, code, message),
            (TEMPLATE, _) => self.findings.add_bare(path, TEMPLATE, "has a ${…} with a mistake; it may be a secret"),
            (code, message) => self.findings.add_bare(path, code, message),
        }
        None
    }
}

/// Goes down to the place, in the path and in the value; the reference has lists of one where its examples have none.
fn note_at(
    findings: &mut Findings,
    path: Path<'_>,
    (rest, value): (&[&str], Option<&Value>),
    code: u32,
    message: String,
) {
    let Some((first, rest)) = rest.split_first() else {
        return match value {
            Some(value) => findings.add(path, value, code, message),
            None => findings.add_bare(path, code, message),
        };
    };
    let index = first.strip_prefix('[').and_then(|text| text.strip_suffix(']')).and_then(|text| text.parse().ok());
    match index {
        Some(index) => {
            let inner = value.and_then(|value| value.get::<usize>(index));
            note_at(findings, path.index(index), (rest, inner), code, message);
        }
        None => {
            let object = value.map(|value| value.as_array().and_then(|list| list.first()).unwrap_or(value));
            note_at(findings, path.key(first), (rest, object.and_then(|value| value.get(*first))), code, message);
        }
    }
}

const MUST_BE_TEXT: &str = "must be a text: put it into quotes";
