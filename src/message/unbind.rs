//! Taking an endpoint offline.

use super::error::MessageError;
use super::lookup;
use super::write::ObjectWriter;

/// The request to take one endpoint offline; the reply is an [`EmptyReply`](super::EmptyReply).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnbindRequest {
    /// The endpoint's id. An unknown one is no error: the endpoint is offline.
    pub id: String,
}

impl UnbindRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// Text that is no object, or an `Id` that is missing or no string.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        Ok(Self { id: lookup::required_text(&root, "Id")? })
    }

    /// Writes the request.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new().member("Id", &self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_understood() {
        let expected = UnbindRequest { id: "b2".into() };
        for json in [r#"{"Id":"b2"}"#, "{\"Id\":\"b2\",\"Extra\":null}\n"] {
            assert_eq!(UnbindRequest::parse(json.as_bytes()).as_ref(), Ok(&expected), "{json}");
        }
        // The bytes of the worked example of the protocol.
        assert_eq!(expected.to_json(), b"\x7b\x22\x49\x64\x22\x3a\x22\x62\x32\x22\x7d");
        assert!(UnbindRequest::parse(b"{}").is_err());
    }
}
