//! The question who the gateway is; it may be asked before logging in, with an empty request.

use super::error::MessageError;
use super::lookup;
use super::write::ObjectWriter;

/// The gateway's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SrvInfoReply {
    /// A name for where the gateway is.
    pub region: String,
}

impl SrvInfoReply {
    /// Reads a reply.
    ///
    /// # Errors
    ///
    /// Text that is no object, or a `Region` that is no string.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        Ok(Self { region: lookup::text(&root, "Region")? })
    }

    /// Writes the reply.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new().member("Region", &self.region).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_survives_a_round_trip() {
        let reply = SrvInfoReply { region: "local".into() };
        assert_eq!(reply.to_json(), br#"{"Region":"local"}"#);
        assert_eq!(SrvInfoReply::parse(&reply.to_json()), Ok(reply));
        assert!(SrvInfoReply::parse(br#"{"Region":[]}"#).is_err());
    }
}
