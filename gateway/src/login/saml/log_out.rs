//! Log-outs at the identity provider (SAML Profiles, 4.4), which begin here.

use super::plain_xml::Comments;
use super::request::{Message, escaped};
use super::response::{Subject, check_status};
use super::tree::Tree;
use super::{ASSERTION, PROTOCOL, Refusal};

/// Whose session is to end.
#[derive(Clone, Copy, Debug)]
pub struct LogOutRequest<'r> {
    /// Random.
    pub id: &'r str,
    /// Where it is going.
    pub destination: &'r str,
    /// Our name.
    pub entity_id: &'r str,
    /// The person, as the provider named it.
    pub subject: &'r Subject,
    /// The session at the provider, if it has a name.
    pub session: Option<&'r str>,
    /// In seconds since 1970.
    pub now: i64,
}

impl LogOutRequest<'_> {
    /// The message (SAML Core, 3.7.1).
    #[must_use]
    pub fn message(&self) -> Message {
        let attribute = |name: &str, value: Option<&str>| {
            value.map_or_else(String::new, |value| format!(" {name}=\"{}\"", escaped(value)))
        };
        let subject = self.subject;
        let mut inside = format!(
            "<saml:NameID{}{}{}>{}</saml:NameID>",
            attribute("Format", subject.format.as_deref()),
            attribute("NameQualifier", subject.qualifier.as_deref()),
            attribute("SPNameQualifier", subject.service_qualifier.as_deref()),
            escaped(&subject.name)
        );
        if let Some(session) = self.session {
            inside = format!("{inside}<samlp:SessionIndex>{}</samlp:SessionIndex>", escaped(session));
        }
        Message::new("LogoutRequest", self.id, (self.destination, self.entity_id, self.now), "", &inside)
    }
}

/// Reads the provider's answer. Nothing hangs on it but what the visitor is told: the session here is over already.
///
/// # Errors
///
/// [`Refusal`]: it is none, or says that others may still be logged in.
pub fn read_answer(message: &[u8], provider: &str) -> Result<(), Refusal> {
    let tree = Tree::parse(message, Comments::Refused).map_err(Refusal::form)?;
    let root = tree.root();
    if !tree.is(root, PROTOCOL, "LogoutResponse") {
        return Err(Refusal::form("the message is no LogoutResponse of SAML 2.0"));
    }
    if let Some(issuer) = tree.only(root, ASSERTION, "Issuer").map_err(Refusal::form)?
        && tree.content(issuer).as_deref() != Some(provider)
    {
        return Err(Refusal::claims("the Issuer is not the provider"));
    }
    check_status(&tree, root)
}
