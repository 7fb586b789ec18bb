//! Reads the fields of one action's `config`, noting what is wrong with them and which of them nobody asked for.

use std::ops::RangeInclusive;

use http::StatusCode;
use serde_json::{Map, Value};

use super::error::{CONFIG, CONFIG_VALUE, Findings, RANGE, TEMPLATE};
use super::path::Path;

/// The fields of one action's `config`.
///
/// A field that is wrong is noted and read as absent: the document is refused anyway, and the other mistakes are found in
/// the same pass. [`Fields::finish`] must be called last; it refuses the fields that were not asked for.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    map: Option<&'a Map<String, Value>>,
    path: Path<'a>,
    asked: Vec<&'static str>,
    findings: &'a mut Findings,
}

impl<'a> Fields<'a> {
    /// Takes the value of `config`; absent and null mean no fields.
    pub(super) fn new(config: Option<&'a Value>, path: Path<'a>, findings: &'a mut Findings) -> Self {
        let map = match config {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                findings.add(path, other, CONFIG, "must be an object with the action's fields");
                None
            }
        };
        Self { map, path, asked: Vec::new(), findings }
    }

    /// The raw value of a field; null is the same as absent.
    pub(super) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// A text that may be a template in ngrok's language; templates are refused until they can be evaluated.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        match self.value(name)? {
            Value::String(text) if has_template(text) => {
                self.wrong_template(name, text);
                None
            }
            Value::String(text) => Some(text),
            other => {
                self.findings.add(self.path.key(name), other, CONFIG, "must be a text: put it into quotes");
                None
            }
        }
    }

    /// As [`Fields::text`], and its absence is a mistake.
    pub(super) fn required_text(&mut self, name: &'static str, example: &str) -> Option<&'a str> {
        let found = self.text(name);
        if found.is_none() && self.map.and_then(|map| map.get(name)).is_none_or(Value::is_null) {
            self.findings.add_bare(self.path.key(name), CONFIG, format!("is missing: write for example {example}"));
        }
        found
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

    /// An object of texts, none of them a template, at most `max` of them.
    pub(super) fn texts(&mut self, name: &'static str, max: usize, over_max: u32) -> Vec<(&'a str, &'a str)> {
        let map = match self.value(name) {
            None => return Vec::new(),
            Some(Value::Object(map)) => map,
            Some(other) => {
                self.findings.add(self.path.key(name), other, CONFIG, "must be an object of texts");
                return Vec::new();
            }
        };
        if map.len() > max {
            let message = format!("has {} entries: at most {max} are possible", map.len());
            self.findings.add_bare(self.path.key(name), over_max, message);
            return Vec::new();
        }
        let mut texts = Vec::new();
        for (key, value) in map {
            match value {
                Value::String(text) if has_template(text) => {
                    let path = self.path.key(name);
                    self.findings.add(path.key(key), value, TEMPLATE, TEMPLATES_UNSUPPORTED);
                }
                Value::String(text) => texts.push((key.as_str(), text.as_str())),
                other => {
                    let path = self.path.key(name);
                    self.findings.add(path.key(key), other, CONFIG, "must be a text: put it into quotes");
                }
            }
        }
        texts
    }

    /// Notes that a field was read but its value is wrong.
    pub(super) fn wrong(&mut self, name: &'static str, code: u32, message: impl Into<String>) {
        let value = self.map.and_then(|map| map.get(name)).unwrap_or(&Value::Null);
        self.findings.add(self.path.key(name), value, code, message);
    }

    /// Notes that an entry of an object field is wrong.
    pub(super) fn wrong_entry(&mut self, name: &'static str, key: &str, code: u32, message: impl Into<String>) {
        let path = self.path.key(name);
        self.findings.add_bare(path.key(key), code, message);
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

    fn wrong_template(&mut self, name: &'static str, text: &str) {
        self.findings.add(self.path.key(name), &Value::from(text), TEMPLATE, TEMPLATES_UNSUPPORTED);
    }
}

fn has_template(text: &str) -> bool {
    text.contains("${")
}

const TEMPLATES_UNSUPPORTED: &str =
    "has a ${…} template, which this gateway cannot evaluate yet: write the text as it shall be";
