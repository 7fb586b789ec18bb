//! JSON in which no name is there twice, at any depth: readers differ about which of the two counts.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};

/// Why a text is not what a part of a token has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// No JSON, or nested deeper than serde_json reads (128 levels).
    Form,
    /// A name is there twice in one object.
    Twice,
    /// JSON, but no object.
    NoObject,
}

/// Reads an object.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Json>, JsonError> {
    match serde_json::from_slice(text) {
        Ok(Strict(Json::Object(map))) => Ok(map),
        Ok(_) => Err(JsonError::NoObject),
        Err(error) if error.is_data() => Err(JsonError::Twice),
        Err(_) => Err(JsonError::Form),
    }
}

struct Strict(Json);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = access.next_element()? {
            list.push(item);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut map = Map::new();
        while let Some((name, Strict(value))) = access.next_entry::<String, _>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Json::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_the_same_as_from_any_reader() {
        let text = r#"{"a":null,"b":[true,false,-1,1,18446744073709551615,1.5,1e400,"x\u00e9\n"],"":{"a":{}}}"#;
        let text = text.replace(",1e400", "");
        assert_eq!(Json::Object(object(text.as_bytes()).unwrap()), serde_json::from_str::<Json>(&text).unwrap());
    }

    #[test]
    fn name_twice_depth_and_other_values_are_told_apart() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(nested(100).as_bytes()).is_ok());
        for (text, error) in [
            (r#"{"a":1,"a":1}"#, JsonError::Twice),
            (r#"{"a":[{"b":{"c":1,"c":2}}]}"#, JsonError::Twice),
            (r#"{"a":1,"\u0061":1}"#, JsonError::Twice),
            ("[1]", JsonError::NoObject),
            ("null", JsonError::NoObject),
            ("", JsonError::Form),
            ("{", JsonError::Form),
            ("{}{}", JsonError::Form),
            ("{\"a\":1e400}", JsonError::Form),
            (&nested(1000), JsonError::Form),
        ] {
            assert_eq!(object(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(object(b"{\"\xff\":1}"), Err(JsonError::Form));
    }
}
