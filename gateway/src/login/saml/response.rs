//! The response of an identity provider: who has logged in, once everything about it is as it has to be
//! (SAML Profiles, 4.1.4).

use bergshamra::keys::Key;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uppsala::NodeId;

use super::plain_xml::Comments;
use super::shape::{self, Shape};
use super::tree::Tree;
use super::{ASSERTION, Fault, LEEWAY_SECS, PROTOCOL, Refusal, SUCCESS, encrypted, session_name, signature};

/// What a response has to fit.
#[derive(Clone, Copy)]
pub struct Expected<'e> {
    /// Our own name at the provider.
    pub entity_id: &'e str,
    /// Where responses have to go.
    pub acs: &'e str,
    /// The provider's name.
    pub provider: &'e str,
    /// The keys of its metadata.
    pub keys: &'e [Key],
    /// Our own key, for assertions that are encrypted.
    pub own_key: Option<&'e Key>,
    /// In seconds since 1970.
    pub now: i64,
}

/// A log-in that the provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The assertion's ID, which must not come again.
    pub assertion: String,
    /// The request that it answers. `None`: nobody asked.
    pub in_response_to: Option<String>,
    /// From when on the assertion counts no more, in seconds since 1970.
    pub expires: i64,
    /// When the person proved who it is, if the provider says so; in seconds since 1970.
    pub authenticated: Option<i64>,
    /// When the session at the provider ends, if it says so; in seconds since 1970.
    pub session_ends: Option<i64>,
    /// Who it is.
    pub subject: Subject,
    /// The session at the provider, if it has a name: what is kept of it.
    pub session: Option<String>,
    /// What else the provider says.
    pub attributes: Vec<Attribute>,
}

/// The name of a person (SAML Core, 2.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The name itself.
    pub name: String,
    /// What kind of name it is.
    pub format: Option<String>,
    /// Within which domain it is one.
    pub qualifier: Option<String>,
    /// For whom.
    pub service_qualifier: Option<String>,
}

/// One thing that a provider says of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name. The one for people beside it says nothing (SAML Core, 2.7.3.1).
    pub name: String,
    /// Its values; those that are no texts are left out.
    pub values: Vec<String>,
}

impl Vouched {
    /// Verifies a response and reads it.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the first thing that is wrong.
    pub fn read(message: &[u8], expected: Expected<'_>) -> Result<Self, Refusal> {
        let tree = parse(message)?;
        let shape = Shape::of(&tree)?;
        let signed = signature::verify_all(&tree, expected.keys)?;
        if !signed.contains(&shape.response) {
            check_envelope(&tree, shape.response, expected, Envelope::Loose)?;
            let answers = tree.attribute(shape.response, "InResponseTo").map(str::to_owned);
            let vouched = if shape.is_encrypted {
                let opened = encrypted::open(&tree, shape.assertion, expected.own_key, encrypted::Around::Unsigned)?;
                Self::opened(&opened, expected, encrypted::Around::Unsigned)?
            } else if signed.contains(&shape.assertion) {
                Self::assertion(&signature::signed_bytes(&tree, shape.assertion)?, expected)?
            } else {
                return Err(Refusal::signature("neither the Response nor its assertion is signed"));
            };
            return vouched.answering(answers);
        }
        // From here on only what the Response's signature is about.
        let whole = signature::signed_bytes(&tree, shape.response)?;
        let tree = parse(&whole)?;
        let response = tree.root();
        check_envelope(&tree, response, expected, Envelope::Signed)?;
        let answers = tree.attribute(response, "InResponseTo").map(str::to_owned);
        let name = if shape.is_encrypted { "EncryptedAssertion" } else { "Assertion" };
        let assertion = tree.required(response, ASSERTION, name).map_err(Refusal::form)?;
        let vouched = if shape.is_encrypted {
            let opened = encrypted::open(&tree, assertion, expected.own_key, encrypted::Around::Signed)?;
            Self::opened(&opened, expected, encrypted::Around::Signed)?
        } else {
            Self::from_node(&tree, assertion, expected)?
        };
        vouched.answering(answers)
    }

    /// Reads what was encrypted, which has to be signed by itself unless what it stood in is.
    fn opened(text: &[u8], expected: Expected<'_>, around: encrypted::Around) -> Result<Self, Refusal> {
        let tree = parse(text)?;
        let (inside, others) = (tree.all(ASSERTION, "Assertion"), tree.all(ASSERTION, "EncryptedAssertion"));
        let ([assertion], [_]) = (inside.as_slice(), others.as_slice()) else {
            return Err(Refusal::form("what was encrypted is not one assertion"));
        };
        if tree.document.parent(*assertion) != Some(tree.root()) {
            return Err(Refusal::form("what was encrypted is not one assertion"));
        }
        shape::check_ids(&tree)?;
        shape::check_signatures(&tree, &[*assertion])?;
        let signed = signature::verify_all(&tree, expected.keys)?;
        match (signed.contains(assertion), around) {
            (true, _) => Self::assertion(&signature::signed_bytes(&tree, *assertion)?, expected),
            (false, encrypted::Around::Signed) => Self::from_node(&tree, *assertion, expected),
            (false, encrypted::Around::Unsigned) => {
                Err(Refusal::signature("neither the Response nor its assertion is signed"))
            }
        }
    }

    /// Reads an assertion from its verified bytes.
    fn assertion(verified: &[u8], expected: Expected<'_>) -> Result<Self, Refusal> {
        let tree = parse(verified)?;
        Self::from_node(&tree, tree.root(), expected)
    }

    fn from_node(tree: &Tree<'_>, assertion: NodeId, expected: Expected<'_>) -> Result<Self, Refusal> {
        if !tree.is(assertion, ASSERTION, "Assertion") || tree.attribute(assertion, "Version") != Some("2.0") {
            return Err(Refusal::form("the assertion is none of SAML 2.0"));
        }
        let id = tree.attribute(assertion, "ID").filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX);
        let id = id.ok_or_else(|| Refusal::form("the assertion has no ID that could be remembered"))?;
        let issuer = tree.required(assertion, ASSERTION, "Issuer").map_err(Refusal::form)?;
        if tree.content(issuer).as_deref() != Some(expected.provider) {
            return Err(Refusal::claims("the assertion's Issuer is not the provider"));
        }
        let conditions_end = check_conditions(tree, assertion, expected)?;
        let subject = tree.required(assertion, ASSERTION, "Subject").map_err(Refusal::form)?;
        let confirmed = confirmation(tree, subject, expected)?;
        let Statement { session, ends: session_ends, authenticated } = statement(tree, assertion, expected.now)?;
        let expires = conditions_end.map_or(confirmed.expires, |end| end.min(confirmed.expires));
        Ok(Self {
            assertion: id.to_owned(),
            in_response_to: confirmed.in_response_to,
            expires: expires.saturating_add(LEEWAY_SECS),
            authenticated,
            session_ends,
            subject: name(tree, subject)?,
            session,
            attributes: attributes(tree, assertion)?,
        })
    }

    /// What the envelope says it answers has to be what the assertion says.
    fn answering(self, envelope: Option<String>) -> Result<Self, Refusal> {
        if envelope.is_some() && envelope != self.in_response_to {
            return Err(Refusal::claims("the Response and its assertion answer different requests (InResponseTo)"));
        }
        Ok(self)
    }
}

/// How much of the element around the assertion is known to be the provider's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Envelope {
    Signed,
    Loose,
}

fn check_envelope(tree: &Tree<'_>, response: NodeId, expected: Expected<'_>, kind: Envelope) -> Result<(), Refusal> {
    if tree.attribute(response, "Version") != Some("2.0") {
        return Err(Refusal::form("the Response is none of SAML 2.0"));
    }
    match tree.attribute(response, "Destination") {
        Some(destination) if destination != expected.acs => {
            return Err(Refusal::claims("the Response is for another address (Destination)"));
        }
        None if kind == Envelope::Signed => {
            return Err(Refusal::claims("the signed Response does not say for which address it is (Destination)"));
        }
        Some(_) | None => {}
    }
    if let Some(issuer) = tree.only(response, ASSERTION, "Issuer").map_err(Refusal::form)?
        && tree.content(issuer).as_deref() != Some(expected.provider)
    {
        return Err(Refusal::claims("the Response's Issuer is not the provider"));
    }
    check_status(tree, response)
}

/// Anything but success is the provider's own word, which the log gets.
pub(super) fn check_status(tree: &Tree<'_>, response: NodeId) -> Result<(), Refusal> {
    let status = tree.required(response, PROTOCOL, "Status").map_err(Refusal::form)?;
    let code = tree.required(status, PROTOCOL, "StatusCode").map_err(Refusal::form)?;
    let value = tree.attribute(code, "Value").unwrap_or_default();
    if value == SUCCESS {
        return Ok(());
    }
    let more = tree.only(code, PROTOCOL, "StatusCode").map_err(Refusal::form)?;
    let more = more.and_then(|more| tree.attribute(more, "Value")).unwrap_or_default();
    let message = tree.only(status, PROTOCOL, "StatusMessage").map_err(Refusal::form)?;
    let message = message.and_then(|message| tree.content(message)).unwrap_or_default();
    let reason = format!("the provider says: {} {} {}", shown(value), shown(more), shown(&message));
    Err(Refusal::new(Fault::Status, reason.trim_end()))
}

/// Gives the end of the time in which the assertion counts, if there is one.
fn check_conditions(tree: &Tree<'_>, assertion: NodeId, expected: Expected<'_>) -> Result<Option<i64>, Refusal> {
    let conditions = tree.required(assertion, ASSERTION, "Conditions").map_err(Refusal::claims)?;
    let ends = check_window(tree, conditions, expected.now, "the assertion")?;
    let mut has_audience = false;
    for condition in tree.children(conditions) {
        if tree.is(condition, ASSERTION, "AudienceRestriction") {
            let mut audiences = tree.named(condition, ASSERTION, "Audience");
            if !audiences.any(|one| tree.content(one).as_deref() == Some(expected.entity_id)) {
                return Err(Refusal::claims("the assertion is for others (Audience)"));
            }
            has_audience = true;
        } else if !tree.is(condition, ASSERTION, "OneTimeUse") && !tree.is(condition, ASSERTION, "ProxyRestriction") {
            return Err(Refusal::claims("the assertion has a condition that is not known here"));
        }
    }
    if has_audience { Ok(ends) } else { Err(Refusal::claims("the assertion does not say for whom it is (Audience)")) }
}

/// How a subject is confirmed.
struct Confirmed {
    in_response_to: Option<String>,
    expires: i64,
}

/// The first confirmation that is as it has to be, with the latest end of all that are: so long the assertion could come
/// again. If there is none, what is wrong with the last one.
fn confirmation(tree: &Tree<'_>, subject: NodeId, expected: Expected<'_>) -> Result<Confirmed, Refusal> {
    let mut wrong = Refusal::claims("the assertion has no SubjectConfirmation of the method bearer");
    let mut first: Option<Confirmed> = None;
    for one in tree.named(subject, ASSERTION, "SubjectConfirmation") {
        if tree.attribute(one, "Method") != Some(BEARER) {
            continue;
        }
        match bearer(tree, one, expected) {
            Ok(confirmed) => {
                let expires = confirmed.expires;
                let first = first.get_or_insert(confirmed);
                first.expires = first.expires.max(expires);
            }
            Err(refusal) => wrong = refusal,
        }
    }
    first.ok_or(wrong)
}

fn bearer(tree: &Tree<'_>, confirmation: NodeId, expected: Expected<'_>) -> Result<Confirmed, Refusal> {
    let data = tree.required(confirmation, ASSERTION, "SubjectConfirmationData").map_err(Refusal::claims)?;
    if tree.attribute(data, "Recipient") != Some(expected.acs) {
        return Err(Refusal::claims("the assertion is for another address (Recipient)"));
    }
    let ends = check_window(tree, data, expected.now, "the confirmation of the subject")?;
    let expires = ends.ok_or_else(|| Refusal::claims("the confirmation of the subject has no end (NotOnOrAfter)"))?;
    Ok(Confirmed { in_response_to: tree.attribute(data, "InResponseTo").map(str::to_owned), expires })
}

/// `NotBefore` and `NotOnOrAfter`; gives the latter.
fn check_window(tree: &Tree<'_>, node: NodeId, now: i64, what: &str) -> Result<Option<i64>, Refusal> {
    if let Some(begin) = instant(tree, node, "NotBefore")?
        && now < begin.saturating_sub(LEEWAY_SECS)
    {
        return Err(Refusal::claims(format!("{what} does not count yet (NotBefore)")));
    }
    let end = instant(tree, node, "NotOnOrAfter")?;
    if end.is_some_and(|end| now >= end.saturating_add(LEEWAY_SECS)) {
        return Err(Refusal::claims(format!("{what} has expired (NotOnOrAfter)")));
    }
    Ok(end)
}

fn instant(tree: &Tree<'_>, node: NodeId, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(text) = tree.attribute(node, name) else { return Ok(None) };
    let time = OffsetDateTime::parse(text, &Rfc3339);
    let time = time.map_err(|_| Refusal::form(format!("{name} is not a time with its zone")))?;
    Ok(Some(time.unix_timestamp()))
}

/// What the provider says of its own session.
struct Statement {
    session: Option<String>,
    ends: Option<i64>,
    authenticated: Option<i64>,
}

fn statement(tree: &Tree<'_>, assertion: NodeId, now: i64) -> Result<Statement, Refusal> {
    let statement = tree.required(assertion, ASSERTION, "AuthnStatement");
    let statement = statement.map_err(|reason| Refusal::new(Fault::Statement, reason))?;
    let ends = instant(tree, statement, "SessionNotOnOrAfter")?;
    if ends.is_some_and(|ends| now >= ends.saturating_add(LEEWAY_SECS)) {
        return Err(Refusal::claims("the session at the provider is over (SessionNotOnOrAfter)"));
    }
    let authenticated = instant(tree, statement, "AuthnInstant")?;
    let session = tree.attribute(statement, "SessionIndex").map(session_name::kept);
    Ok(Statement { session, ends, authenticated })
}

fn name(tree: &Tree<'_>, subject: NodeId) -> Result<Subject, Refusal> {
    let node = tree.required(subject, ASSERTION, "NameID").map_err(Refusal::claims)?;
    let name = tree.content(node).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Refusal::claims("the NameID is not a text"))?;
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::claims(format!("the NameID has more than {NAME_BYTES_MAX} bytes")));
    }
    let text = |name: &str| tree.attribute(node, name).map(str::to_owned);
    Ok(Subject {
        name,
        format: text("Format"),
        qualifier: text("NameQualifier"),
        service_qualifier: text("SPNameQualifier"),
    })
}

fn attributes(tree: &Tree<'_>, assertion: NodeId) -> Result<Vec<Attribute>, Refusal> {
    let mut found: Vec<Attribute> = Vec::new();
    for statement in tree.named(assertion, ASSERTION, "AttributeStatement") {
        if tree.named(statement, ASSERTION, "EncryptedAttribute").next().is_some() {
            return Err(Refusal::form("there are encrypted attributes, which are not taken: encrypt the assertion"));
        }
        for one in tree.named(statement, ASSERTION, "Attribute") {
            let Some(name) = tree.attribute(one, "Name") else { continue };
            let values = tree.named(one, ASSERTION, "AttributeValue").filter_map(|value| tree.content(value)).collect();
            found.push(Attribute { name: name.to_owned(), values });
        }
    }
    Ok(found)
}

fn parse(text: &[u8]) -> Result<Tree<'_>, Refusal> {
    Tree::parse(text, Comments::Refused).map_err(|reason| Refusal::form(format!("the message is not taken: {reason}")))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
/// It is remembered, and travels in cookies and requests.
const ID_BYTES_MAX: usize = 256;
/// SAML Core, 8.3.7, for persistent names.
const NAME_BYTES_MAX: usize = 256;
const SHOWN_CHARS_MAX: usize = 200;
