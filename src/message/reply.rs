//! The reply that says no more than whether a call succeeded.

use super::error::{MessageError, WireError};
use super::lookup;
use super::write::ObjectWriter;

/// The reply to an unbind or a patch request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmptyReply {
    /// Why the call failed; `None` when it succeeded.
    pub error: Option<WireError>,
}

impl EmptyReply {
    /// Reads a reply.
    ///
    /// # Errors
    ///
    /// Text that is no object, or an `Error` that is no string.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        Ok(Self { error: lookup::wire_error(&root)? })
    }

    /// Writes the reply.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new().member("Error", &error_text(self.error.as_ref())).finish()
    }
}

/// The value of a reply's `Error`: empty for success.
pub(super) fn error_text(error: Option<&WireError>) -> String {
    error.map(WireError::to_wire).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_null_and_absent_errors_mean_success() {
        for json in ["{}", r#"{"Error":""}"#, r#"{"Error":null}"#, r#"{"error":"","x":1}"#] {
            assert_eq!(EmptyReply::parse(json.as_bytes()), Ok(EmptyReply::default()), "{json}");
        }
        let failed = EmptyReply::parse(br#"{"Error":"m\n\nERR_NGROK_334\n"}"#).unwrap();
        assert_eq!(failed.error, Some(WireError::new(334, "m")));
        assert!(EmptyReply::parse(br#"{"Error":1}"#).is_err());
    }

    #[test]
    fn reply_survives_a_round_trip() {
        assert_eq!(EmptyReply::default().to_json(), br#"{"Error":""}"#);
        let failed = EmptyReply { error: Some(WireError::new(334, "m")) };
        assert_eq!(EmptyReply::parse(&failed.to_json()), Ok(failed));
    }
}
