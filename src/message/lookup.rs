//! Reads members of JSON objects by the rules of the protocol.
//!
//! Members are named by their path, such as `Extra.Cookie`: the last part is looked up, the whole path goes into errors.

use serde_json::{Map, Value};

use super::error::{MessageError, WireError};
use super::json_scan::{JsonScan, ScanError};

/// Finds a member: the one with exactly this name, else the first one that differs only in case.
pub fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let similar = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(similar)
}

/// Parses a whole message, within the limits of [`JsonScan`]. Of members with the same name the last one counts.
pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, MessageError> {
    let end = JsonScan::new().push(bytes)?.ok_or(MessageError::Truncated)?;
    let (object, tail) = bytes.split_at_checked(end).ok_or(MessageError::Truncated)?;
    if !tail.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        return Err(MessageError::Trailing);
    }
    // The error of the parser may quote what it read, so only its place is kept.
    match serde_json::from_slice(object) {
        Ok(Value::Object(members)) => Ok(members),
        // The scan lets through what begins like an object.
        Ok(_) => Err(ScanError::NotObject.into()),
        Err(error) => Err(MessageError::Syntax { line: error.line(), column: error.column() }),
    }
}

/// A string; empty when it is absent or null.
pub(super) fn text(object: &Map<String, Value>, field: &'static str) -> Result<String, MessageError> {
    optional_text(object, field).map(Option::unwrap_or_default)
}

/// A string, or `None` when it is absent or null.
pub(super) fn optional_text(object: &Map<String, Value>, field: &'static str) -> Result<Option<String>, MessageError> {
    match present(object, field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(MessageError::Type { field, expected: "a string" }),
    }
}

/// A string that has to be there.
pub(super) fn required_text(object: &Map<String, Value>, field: &'static str) -> Result<String, MessageError> {
    optional_text(object, field)?.ok_or(MessageError::Missing { field })
}

/// A boolean, or `None` when it is absent or null.
pub(super) fn optional_flag(object: &Map<String, Value>, field: &'static str) -> Result<Option<bool>, MessageError> {
    match present(object, field) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(MessageError::Type { field, expected: "true or false" }),
    }
}

/// An integer, or `None` when it is absent or null.
pub(super) fn optional_integer(object: &Map<String, Value>, field: &'static str) -> Result<Option<i64>, MessageError> {
    let Some(value) = present(object, field) else {
        return Ok(None);
    };
    match value.as_i64() {
        Some(integer) => Ok(Some(integer)),
        None => Err(MessageError::Type { field, expected: "an integer of 64 bits" }),
    }
}

/// An integer from 0 to 2^32 - 1, or `None` when it is absent or null.
pub(super) fn optional_u32(object: &Map<String, Value>, field: &'static str) -> Result<Option<u32>, MessageError> {
    let Some(integer) = optional_integer(object, field)? else {
        return Ok(None);
    };
    match u32::try_from(integer) {
        Ok(integer) => Ok(Some(integer)),
        Err(_) => Err(MessageError::Value { field, expected: "an integer from 0 to 4294967295" }),
    }
}

/// An array of strings; empty when it is absent or null.
pub(super) fn texts(object: &Map<String, Value>, field: &'static str) -> Result<Vec<String>, MessageError> {
    let error = MessageError::Type { field, expected: "an array of strings" };
    let values = match present(object, field) {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(_) => return Err(error),
    };
    values.iter().map(|value| value.as_str().map(str::to_owned).ok_or(error)).collect()
}

/// An object, or `None` when it is absent or null.
pub(super) fn optional_object<'a>(
    object: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a Map<String, Value>>, MessageError> {
    match present(object, field) {
        None => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(MessageError::Type { field, expected: "an object" }),
    }
}

/// The `Error` of a reply; `None` when the call succeeded.
pub(super) fn wire_error(object: &Map<String, Value>) -> Result<Option<WireError>, MessageError> {
    Ok(optional_text(object, "Error")?.as_deref().and_then(WireError::parse))
}

fn present<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    let name = field.rsplit('.').next().unwrap_or(field);
    member(object, name).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json_scan::{DEPTH_MAX, MESSAGE_BYTES_MAX};
    use super::*;

    fn object(json: &str) -> Map<String, Value> {
        parse_object(json.as_bytes()).unwrap()
    }

    #[test]
    fn exact_name_is_preferred_to_a_similar_one() {
        let both = object(r#"{"AUTHTOKEN":"1","AuthToken":"2","Authtoken":"3","authtoken":"4"}"#);
        assert_eq!(member(&both, "Authtoken"), Some(&Value::from("3")));
        assert_eq!(member(&object(r#"{"AuthToken":"2"}"#), "Authtoken"), Some(&Value::from("2")));
        assert_eq!(member(&object(r#"{"Auth":"2"}"#), "Authtoken"), None);
    }

    #[test]
    fn last_of_equal_names_counts() {
        assert_eq!(text(&object(r#"{"Id":"1","Id":"2"}"#), "Id"), Ok("2".to_owned()));
    }

    #[test]
    fn null_is_like_absent_and_a_wrong_type_names_the_member() {
        let map = object(r#"{"A":null,"B":7}"#);
        assert_eq!(text(&map, "Extra.A"), Ok(String::new()));
        assert_eq!(text(&map, "Extra.C"), Ok(String::new()));
        let error = text(&map, "Extra.B").unwrap_err();
        assert_eq!(error.to_string(), "Extra.B must be a string");
        assert_eq!(required_text(&map, "A"), Err(MessageError::Missing { field: "A" }));
        assert!(optional_flag(&map, "B").is_err());
        assert!(texts(&map, "B").is_err());
        assert!(optional_object(&map, "B").is_err());
        assert_eq!(optional_u32(&map, "B"), Ok(Some(7)));
    }

    #[test]
    fn array_with_another_type_inside_is_refused() {
        assert!(texts(&object(r#"{"A":["x",1]}"#), "A").is_err());
        assert!(texts(&object(r#"{"A":[null]}"#), "A").is_err());
        assert_eq!(texts(&object(r#"{"A":["x"]}"#), "A"), Ok(vec!["x".to_owned()]));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        for json in [r#"{"A":1.5}"#, r#"{"A":9223372036854775808}"#, r#"{"A":1e300}"#, r#"{"A":"1"}"#] {
            assert!(optional_integer(&object(json), "A").is_err(), "{json}");
        }
        assert_eq!(optional_integer(&object(r#"{"A":-9223372036854775808}"#), "A"), Ok(Some(i64::MIN)));
        assert!(optional_u32(&object(r#"{"A":4294967296}"#), "A").is_err());
        assert!(optional_u32(&object(r#"{"A":-1}"#), "A").is_err());
    }

    #[test]
    fn hostile_text_gives_a_clean_error() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MESSAGE_BYTES_MAX));
        let cases: [(&[u8], MessageError); 6] = [
            (b"", MessageError::Truncated),
            (b"{", MessageError::Truncated),
            (b"[]", MessageError::Scan(ScanError::NotObject)),
            (b"{}{}", MessageError::Trailing),
            (deep.as_bytes(), MessageError::Scan(ScanError::TooDeep)),
            (long.as_bytes(), MessageError::Scan(ScanError::TooLong)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse_object(bytes), Err(expected), "{}", bytes.len());
        }
        let not_json: [&[u8]; 4] = [b"{\"a\":1e999}", b"{\"a\"}", b"{\"\xff\":1}", b"{\"\\ud800\":1}"];
        for bytes in not_json {
            let error = parse_object(bytes).unwrap_err();
            assert!(matches!(error, MessageError::Syntax { line: 1, .. }), "{error}");
        }
        assert!(parse_object(b" {}\r\n").is_ok());
    }

    #[test]
    fn the_deepest_and_the_longest_message_are_parsed() {
        let depth = DEPTH_MAX as usize;
        let deepest = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(parse_object(deepest.as_bytes()).is_ok());
        let longest = format!(r#"{{"a":"{}"}}"#, "x".repeat(MESSAGE_BYTES_MAX - 8));
        assert_eq!(parse_object(longest.as_bytes()).map(|map| map.len()), Ok(1));
    }

    proptest! {
        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_object(&bytes);
        }
    }
}
