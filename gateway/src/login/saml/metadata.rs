//! How an identity provider describes itself (SAML Metadata, 2.4.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bergshamra::keys::{Key, loader};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uppsala::NodeId;

use super::plain_xml::Comments;
use super::tree::Tree;
use super::{BINDING_POST, BINDING_REDIRECT, DSIG, METADATA};

/// An identity provider.
pub struct Metadata {
    /// Its name.
    pub entity_id: String,
    /// Where people log in.
    pub log_in: Vec<Address>,
    /// Where they log out, if that is possible.
    pub log_out: Vec<Address>,
    /// Wants to know that requests are from us.
    pub wants_signed_requests: bool,
    /// Its keys for signatures.
    pub keys: Vec<Key>,
    /// The certificates that have them, for signatures that are not in XML.
    pub certificates: Vec<Vec<u8>>,
    /// From when on it counts no more, in seconds since 1970.
    pub valid_until: Option<i64>,
}

/// An address of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// How messages get there.
    pub binding: Binding,
    /// Where they are to go.
    pub location: String,
    /// Where answers go, if it is another place.
    pub response_location: Option<String>,
}

/// How a message travels through the browser (SAML Bindings, 3.4 and 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// In the query of an address.
    Redirect,
    /// In a form that sends itself.
    Post,
}

impl Metadata {
    /// Reads a description: of one provider, or a list with one provider in it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that continue its name.
    pub fn read(text: &[u8], now: i64) -> Result<Self, String> {
        let tree = Tree::parse(text, Comments::Taken)?;
        let roles = tree.all(METADATA, "IDPSSODescriptor");
        let role = match roles.as_slice() {
            [one] => *one,
            [] => return Err("it has no IDPSSODescriptor: it is not the metadata of an identity provider".into()),
            _ => return Err("it has several identity providers: keep the one that is meant".into()),
        };
        let entity = tree.document.parent(role).filter(|node| tree.is(*node, METADATA, "EntityDescriptor"));
        let entity = entity.ok_or("its IDPSSODescriptor is not inside of an EntityDescriptor")?;
        let entity_id = tree.attribute(entity, "entityID").unwrap_or_default().trim();
        if entity_id.is_empty() || entity_id.len() > ENTITY_ID_BYTES_MAX {
            return Err(format!("it needs an entityID of 1 to {ENTITY_ID_BYTES_MAX} bytes"));
        }
        let mut valid_until = None;
        for node in [tree.root(), entity, role] {
            valid_until = earlier(valid_until, end(&tree, node)?);
        }
        if valid_until.is_some_and(|until| until <= now) {
            return Err("it is out of date (validUntil)".into());
        }
        let (keys, certificates) = keys(&tree, role)?;
        let log_in = addresses(&tree, role, "SingleSignOnService")?;
        if log_in.is_empty() {
            return Err("it has no SingleSignOnService with HTTP-Redirect or HTTP-POST".into());
        }
        let wants = tree.attribute(role, "WantAuthnRequestsSigned");
        Ok(Self {
            entity_id: entity_id.to_owned(),
            log_in,
            log_out: addresses(&tree, role, "SingleLogoutService")?,
            wants_signed_requests: matches!(wants, Some("true" | "1")),
            keys,
            certificates,
            valid_until,
        })
    }

    /// The address for a binding, or any if there is none for it.
    #[must_use]
    pub fn address(addresses: &[Address], wanted: Binding) -> Option<&Address> {
        addresses.iter().find(|one| one.binding == wanted).or(addresses.first())
    }
}

impl Address {
    /// Where answers go.
    #[must_use]
    pub fn for_answers(&self) -> &str {
        self.response_location.as_deref().unwrap_or(&self.location)
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("entity_id", &self.entity_id).field("keys", &self.keys.len()).finish()
    }
}

fn end(tree: &Tree<'_>, node: NodeId) -> Result<Option<i64>, String> {
    let Some(until) = tree.attribute(node, "validUntil") else { return Ok(None) };
    let until = OffsetDateTime::parse(until, &Rfc3339).map_err(|_| "its validUntil is not a time with its zone")?;
    Ok(Some(until.unix_timestamp()))
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The keys for signatures, and their certificates.
fn keys(tree: &Tree<'_>, role: NodeId) -> Result<(Vec<Key>, Vec<Vec<u8>>), String> {
    let mut certificates = Vec::new();
    for descriptor in tree.named(role, METADATA, "KeyDescriptor") {
        if !matches!(tree.attribute(descriptor, "use"), None | Some("signing")) {
            continue;
        }
        for info in tree.named(descriptor, DSIG, "KeyInfo") {
            for data in tree.named(info, DSIG, "X509Data") {
                // What follows the first one is its chain: whoever holds those keys does not speak for the provider.
                if let Some(node) = tree.named(data, DSIG, "X509Certificate").next() {
                    let text: String = tree.content(node).unwrap_or_default().split_ascii_whitespace().collect();
                    certificates.push(STANDARD.decode(text).map_err(|_| "one of its certificates is not base64")?);
                }
            }
        }
    }
    if certificates.is_empty() || certificates.len() > KEYS_MAX {
        return Err(format!("it needs 1 to {KEYS_MAX} certificates for signatures (KeyDescriptor)"));
    }
    let keys: Result<Vec<Key>, _> = certificates.iter().map(|der| loader::load_x509_cert_der(der)).collect();
    let keys = keys.map_err(|_| "one of its certificates cannot be read".to_owned())?;
    Ok((keys, certificates))
}

fn addresses(tree: &Tree<'_>, role: NodeId, name: &str) -> Result<Vec<Address>, String> {
    let mut found = Vec::new();
    for node in tree.named(role, METADATA, name) {
        let binding = match tree.attribute(node, "Binding") {
            Some(BINDING_REDIRECT) => Binding::Redirect,
            Some(BINDING_POST) => Binding::Post,
            Some(_) | None => continue,
        };
        let location = checked(tree.attribute(node, "Location").unwrap_or_default(), name)?;
        let response_location = tree.attribute(node, "ResponseLocation").map(|url| checked(url, name)).transpose()?;
        found.push(Address { binding, location, response_location });
    }
    Ok(found)
}

/// People are sent there: nowhere but to a web page, and not without encryption except on this machine.
fn checked(url: &str, name: &str) -> Result<String, String> {
    let uri: http::Uri = url.trim().parse().map_err(|_| format!("the address of its {name} is none"))?;
    let is_here = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let is_plain =
        url.trim().bytes().all(|byte| (b'!'..=b'~').contains(&byte) && !matches!(byte, b'"' | b'<' | b'>' | b'\''));
    match uri.scheme_str() {
        Some("https") if is_plain => Ok(url.trim().to_owned()),
        Some("http") if is_here && is_plain => Ok(url.trim().to_owned()),
        _ => Err(format!("the address of its {name} does not begin with https://")),
    }
}

/// SAML Core, 8.3.6, has 1024 characters.
const ENTITY_ID_BYTES_MAX: usize = 1024;
/// One in force, the next one, and some to spare.
const KEYS_MAX: usize = 8;
