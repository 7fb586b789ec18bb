//! Changing what an agent said about an endpoint while it is online.

use std::fmt;

use super::error::MessageError;
use super::lookup;
use super::write::ObjectWriter;

/// The request to change one endpoint; the reply is an [`EmptyReply`](super::EmptyReply).
///
/// `None` leaves a value as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PatchRequest {
    /// The `tunnel_id` of the bind reply.
    pub tunnel_id: String,
    /// The endpoint's name.
    pub name: Option<String>,
    /// A description for people.
    pub description: Option<String>,
    /// Text that the gateway only keeps.
    pub metadata: Option<String>,
    /// Whether several agents may serve the endpoint.
    pub pooling_enabled: Option<bool>,
    /// The endpoint's Traffic Policy as YAML or JSON text.
    pub traffic_policy: Option<String>,
}

impl PatchRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// Text that is no object, a missing `TunnelId`, or a member of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        Ok(Self {
            tunnel_id: lookup::required_text(&root, "TunnelId")?,
            name: lookup::optional_text(&root, "Name")?,
            description: lookup::optional_text(&root, "Description")?,
            metadata: lookup::optional_text(&root, "Metadata")?,
            pooling_enabled: lookup::optional_flag(&root, "PoolingEnabled")?,
            traffic_policy: lookup::optional_text(&root, "TrafficPolicy")?,
        })
    }

    /// Writes the request, with only those members that change something.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new()
            .member("TunnelId", &self.tunnel_id)
            .optional("Name", self.name.as_ref())
            .optional("Description", self.description.as_ref())
            .optional("Metadata", self.metadata.as_ref())
            .optional("PoolingEnabled", self.pooling_enabled.as_ref())
            .optional("TrafficPolicy", self.traffic_policy.as_ref())
            .finish()
    }
}

impl fmt::Debug for PatchRequest {
    /// Leaves out the policy's text, which can hold client secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatchRequest")
            .field("tunnel_id", &self.tunnel_id)
            .field("name", &self.name)
            .field("description", &self.description)
            .field("metadata", &self.metadata)
            .field("pooling_enabled", &self.pooling_enabled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_changed_members_are_written() {
        let request =
            PatchRequest { tunnel_id: "tn1".into(), description: Some(String::new()), ..PatchRequest::default() };
        assert_eq!(request.to_json(), br#"{"TunnelId":"tn1","Description":""}"#);
        assert_eq!(PatchRequest::parse(b"{}"), Err(MessageError::Missing { field: "TunnelId" }));
    }

    #[test]
    fn policy_is_not_printed() {
        let request = PatchRequest { traffic_policy: Some("client_secret: hunter2".into()), ..PatchRequest::default() };
        assert!(!format!("{request:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn patch_survives_a_round_trip(
            tunnel_id in ".{0,9}",
            (name, description, metadata, traffic_policy) in
                (option::of(".{0,9}"), option::of(".{0,9}"), option::of(".{0,9}"), option::of(".{0,9}")),
            pooling_enabled in any::<Option<bool>>(),
        ) {
            let request = PatchRequest { tunnel_id, name, description, metadata, pooling_enabled, traffic_policy };
            prop_assert_eq!(PatchRequest::parse(&request.to_json()), Ok(request));
        }
    }
}
