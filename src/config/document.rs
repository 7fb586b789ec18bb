//! A configuration file as a tree, with the keys that occur twice: `serde_json::Value` keeps the last one silently.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A parsed file. Works with every self-describing serde format, so the gateway reads YAML into the same type.
#[derive(Debug, Default)]
pub struct Document {
    /// The tree; of a key that occurs twice it holds the first value.
    pub value: Value,
    /// Paths of keys that occur more than once, at most [`DUPLICATES_MAX`] of them.
    pub duplicates: Vec<String>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut duplicates = Vec::new();
        let value = Tree { path: String::new(), duplicates: &mut duplicates }.deserialize(deserializer)?;
        Ok(Self { value, duplicates })
    }
}

/// Appends a key to a path: `agent.log_level`, or `["odd key"]` where a bare key would mislead.
#[must_use]
pub fn join_key(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !plain {
        let short: String = key.chars().take(KEY_CHARS_SHOWN).collect();
        return format!("{path}[{short:?}]");
    }
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Appends an index to a path: `endpoints[1]`.
#[must_use]
pub fn join_index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

struct Tree<'a> {
    path: String,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let seed = Tree { path: join_index(&self.path, items.len()), duplicates: &mut *self.duplicates };
            let Some(item) = seq.next_element_seed(seed)? else {
                return Ok(Value::Array(items));
            };
            items.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = join_key(&self.path, &key);
            let value = map.next_value_seed(Tree { path: path.clone(), duplicates: &mut *self.duplicates })?;
            if !members.contains_key(&key) {
                members.insert(key, value);
            } else if self.duplicates.len() < DUPLICATES_MAX {
                self.duplicates.push(path);
            }
        }
        Ok(Value::Object(members))
    }
}

/// More than this is a file that was not written by hand; the rest appears after the first ones are mended.
pub const DUPLICATES_MAX: usize = 50;

/// Enough to recognise an odd key, short enough for one line.
const KEY_CHARS_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_keys_are_found_at_every_depth() {
        let text = r#"{"a": 1, "b": [{"c": 1, "c": 2}], "a": {"x y": 1, "x y": 2}}"#;
        let document: Document = serde_json::from_str(text).unwrap();
        assert_eq!(document.duplicates, ["b[0].c", "a[\"x y\"]", "a"]);
        assert_eq!(document.value["a"], 1);
    }

    #[test]
    fn document_equals_what_serde_json_reads() {
        let text = r#"{"s": "x", "n": null, "f": 1.5, "i": -3, "u": 18446744073709551615, "b": true, "l": [[], {}]}"#;
        let document: Document = serde_json::from_str(text).unwrap();
        assert_eq!(document.value, serde_json::from_str::<Value>(text).unwrap());
        assert!(document.duplicates.is_empty());
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        let text = "[".repeat(100_000);
        assert!(serde_json::from_str::<Document>(&text).is_err());
    }

    #[test]
    fn duplicates_are_reported_up_to_the_limit() {
        let members = vec!["\"k\": 1"; DUPLICATES_MAX + 10].join(",");
        let document: Document = serde_json::from_str(&format!("{{{members}}}")).unwrap();
        assert_eq!(document.duplicates.len(), DUPLICATES_MAX);
    }
}
