//! Bringing a tunnel with labels online, the predecessor of endpoints; only the Rust family of agents asks for it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::{MessageError, WireError};
use super::lookup;
use super::reply::error_text;
use super::write::ObjectWriter;

/// The request for a tunnel with labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindLabeledRequest {
    /// The labels by name.
    pub labels: BTreeMap<String, String>,
    /// What is behind the tunnel, for people.
    pub forwards_to: String,
    /// The HTTP version that the upstream wants, or nothing.
    pub forwards_proto: String,
    /// Text that the gateway only keeps.
    pub metadata: String,
}

impl BindLabeledRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// Text that is no object, or a member of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        let mut labels = BTreeMap::new();
        for (name, value) in lookup::optional_object(&root, "Labels")?.into_iter().flatten() {
            let Value::String(value) = value else {
                return Err(MessageError::Type { field: "Labels", expected: "an object of strings" });
            };
            labels.insert(name.clone(), value.clone());
        }
        Ok(Self {
            labels,
            forwards_to: lookup::text(&root, "ForwardsTo")?,
            forwards_proto: lookup::text(&root, "ForwardsProto")?,
            metadata: lookup::text(&root, "Metadata")?,
        })
    }

    /// Writes the request.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new()
            .member("Labels", &self.labels)
            .member("ForwardsTo", &self.forwards_to)
            .member("ForwardsProto", &self.forwards_proto)
            .member("Metadata", &self.metadata)
            .finish()
    }
}

/// The reply to a [`BindLabeledRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindLabeledReply {
    /// The tunnel's id.
    pub id: String,
    /// Why the call failed; `None` when it succeeded.
    pub error: Option<WireError>,
}

impl BindLabeledReply {
    /// Reads a reply.
    ///
    /// # Errors
    ///
    /// Text that is no object, a member of the wrong type, or success without an `Id`.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        if let Some(error) = lookup::wire_error(&root)? {
            return Ok(Self { id: String::new(), error: Some(error) });
        }
        Ok(Self { id: lookup::required_text(&root, "Id")?, error: None })
    }

    /// Writes the reply.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new().member("Id", &self.id).member("Error", &error_text(self.error.as_ref())).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_have_to_be_strings() {
        assert!(BindLabeledRequest::parse(br#"{"Labels":{"a":1}}"#).is_err());
        assert!(BindLabeledRequest::parse(br#"{"Labels":["a"]}"#).is_err());
        assert_eq!(BindLabeledRequest::parse(b"{}"), Ok(BindLabeledRequest::default()));
    }

    #[test]
    fn refusal_survives_a_round_trip_and_success_needs_an_id() {
        let refused = BindLabeledReply { id: String::new(), error: Some(WireError::new(332, "no")) };
        assert_eq!(BindLabeledReply::parse(&refused.to_json()), Ok(refused));
        assert_eq!(BindLabeledReply::parse(b"{}"), Err(MessageError::Missing { field: "Id" }));
        let bound = BindLabeledReply { id: "l1".into(), error: None };
        assert_eq!(BindLabeledReply::parse(&bound.to_json()), Ok(bound));
    }

    proptest! {
        #[test]
        fn request_survives_a_round_trip(labels in btree_map(".{0,5}", ".{0,5}", 0..4), texts in prop::array::uniform3(".{0,9}")) {
            let [forwards_to, forwards_proto, metadata] = texts;
            let request = BindLabeledRequest { labels, forwards_to, forwards_proto, metadata };
            prop_assert_eq!(BindLabeledRequest::parse(&request.to_json()), Ok(request));
        }
    }
}
