//! What the gateway asks of an agent: to stop, to restart, to update itself, or to end one endpoint.

use super::error::{MessageError, WireError};
use super::lookup;
use super::reply::error_text;
use super::write::ObjectWriter;

/// A request without content: that of stop, restart and of the question who the gateway is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmptyRequest;

impl EmptyRequest {
    /// Reads a request; whatever members it has do not matter.
    ///
    /// # Errors
    ///
    /// Text that is no object.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        lookup::parse_object(bytes).map(|_| Self)
    }

    /// Writes the request.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new().finish()
    }
}

/// The request that an agent update itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The version to update to; empty for the newest.
    pub version: String,
    /// Whether the update may change the major version.
    pub permit_major: bool,
}

impl Update {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// Text that is no object, or a member of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        Ok(Self {
            version: lookup::text(&root, "Version")?,
            permit_major: lookup::optional_flag(&root, "PermitMajorVersion")?.unwrap_or_default(),
        })
    }

    /// Writes the request.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new().member("Version", &self.version).member("PermitMajorVersion", &self.permit_major).finish()
    }
}

/// The notice that the gateway has ended an endpoint. Agents do not reply to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopTunnel {
    /// The endpoint's id.
    pub id: String,
    /// Why, for people.
    pub message: String,
    /// Why, for programs: `ERR_NGROK_` and a number.
    pub error_code: Option<String>,
}

impl StopTunnel {
    /// Reads a notice.
    ///
    /// # Errors
    ///
    /// Text that is no object, a missing `Id`, or a member of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        Ok(Self {
            id: lookup::required_text(&root, "Id")?,
            message: lookup::text(&root, "Message")?,
            error_code: lookup::optional_text(&root, "ErrorCode")?,
        })
    }

    /// Writes the notice.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new()
            .member("Id", &self.id)
            .member("Message", &self.message)
            .member("ErrorCode", &self.error_code)
            .finish()
    }
}

/// An agent's reply to stop, restart and update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandReply {
    /// Why the agent did not do it; `None` when it did.
    pub error: Option<WireError>,
}

impl CommandReply {
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

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_request_is_an_object_of_any_content() {
        assert_eq!(EmptyRequest.to_json(), b"{}");
        for json in ["{}", "{}\n", r#"{"Extra":null}"#] {
            assert_eq!(EmptyRequest::parse(json.as_bytes()), Ok(EmptyRequest), "{json}");
        }
        assert!(EmptyRequest::parse(b"null").is_err());
    }

    #[test]
    fn update_always_has_both_members() {
        assert_eq!(Update::default().to_json(), br#"{"Version":"","PermitMajorVersion":false}"#);
        assert_eq!(Update::parse(b"{}"), Ok(Update::default()));
        assert!(Update::parse(br#"{"PermitMajorVersion":"yes"}"#).is_err());
    }

    #[test]
    fn stop_tunnel_always_has_id_and_message() {
        let notice = StopTunnel { id: "b1".into(), ..StopTunnel::default() };
        assert_eq!(notice.to_json(), br#"{"Id":"b1","Message":"","ErrorCode":null}"#);
        assert_eq!(StopTunnel::parse(br#"{"Id":"b1"}"#), Ok(notice));
        assert_eq!(StopTunnel::parse(b"{}"), Err(MessageError::Missing { field: "Id" }));
    }

    #[test]
    fn command_reply_tells_success_from_failure() {
        assert_eq!(CommandReply::parse(b"{}"), Ok(CommandReply::default()));
        assert_eq!(CommandReply::default().to_json(), br#"{"Error":""}"#);
        let failed = CommandReply::parse(br#"{"Error":"no callback"}"#).unwrap();
        assert_eq!(failed.error, Some(WireError { code: None, message: "no callback".into() }));
    }

    proptest! {
        #[test]
        fn commands_survive_a_round_trip(texts in prop::array::uniform3(".{0,9}"), error_code in option::of("[A-Z_0-9]{0,9}"), permit_major: bool) {
            let [id, message, version] = texts;
            let notice = StopTunnel { id, message, error_code };
            prop_assert_eq!(StopTunnel::parse(&notice.to_json()), Ok(notice));
            let update = Update { version, permit_major };
            prop_assert_eq!(Update::parse(&update.to_json()), Ok(update));
        }
    }
}
