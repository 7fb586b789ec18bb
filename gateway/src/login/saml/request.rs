//! Messages to an identity provider, and how they travel there through the browser (SAML Bindings, 3.4 and 3.5).

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bergshamra::DsigContext;
use bergshamra::keys::KeysManager;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::service::{OwnKey, Service, SignError};
use super::{ASSERTION, BINDING_POST, DSIG, PROTOCOL};

/// A question to the provider: who is it?
#[derive(Clone, Copy, Debug)]
pub struct LogInRequest<'r> {
    /// Random; what the response has to name.
    pub id: &'r str,
    /// Where it is going.
    pub destination: &'r str,
    /// Ask even somebody who is logged in already.
    pub force: bool,
    /// In seconds since 1970.
    pub now: i64,
}

/// A message that is ready to travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The XML, with the place for a signature behind the issuer.
    head: String,
    tail: String,
    id: String,
    /// The field of a form, or the parameter of an address, that it travels in.
    field: &'static str,
}

impl LogInRequest<'_> {
    /// The message (SAML Core, 3.4.1).
    #[must_use]
    pub fn message(&self, service: &Service<'_>) -> Message {
        let force = if self.force { " ForceAuthn=\"true\"" } else { "" };
        let attributes = format!(
            "{force} AssertionConsumerServiceURL=\"{}\" ProtocolBinding=\"{BINDING_POST}\"",
            escaped(service.acs)
        );
        let policy = format!("<samlp:NameIDPolicy AllowCreate=\"true\" Format=\"{}\"/>", escaped(service.name_format));
        Message::new("AuthnRequest", self.id, (self.destination, service.entity_id, self.now), &attributes, &policy)
    }
}

impl Message {
    pub(super) fn new(
        name: &str,
        id: &str,
        (destination, issuer, now): (&str, &str, i64),
        attributes: &str,
        inside: &str,
    ) -> Self {
        let instant = OffsetDateTime::from_unix_timestamp(now).ok().and_then(|now| now.format(&Rfc3339).ok());
        let (instant, destination) = (instant.unwrap_or_default(), escaped(destination));
        let head = format!(
            "<samlp:{name} xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{id}\" Version=\"2.0\" \
             IssueInstant=\"{instant}\" Destination=\"{destination}\"{attributes}><saml:Issuer>{}</saml:Issuer>",
            escaped(issuer)
        );
        Self { head, tail: format!("{inside}</samlp:{name}>"), id: id.to_owned(), field: "SAMLRequest" }
    }

    /// The same as an answer.
    pub(super) fn answer(self) -> Self {
        Self { field: "SAMLResponse", ..self }
    }

    /// The address at which the message arrives, signed if there is a key.
    ///
    /// # Errors
    ///
    /// [`SignError`]
    pub fn redirect(&self, location: &str, relay_state: &str, key: Option<&OwnKey>) -> Result<String, SignError> {
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        let text = format!("{}{}", self.head, self.tail);
        let packed = deflate.write_all(text.as_bytes()).and_then(|()| deflate.finish()).map_err(|_| SignError)?;
        let mut query = format!("{}={}", self.field, encoded(&STANDARD.encode(packed)));
        if !relay_state.is_empty() {
            query = format!("{query}&RelayState={}", encoded(relay_state));
        }
        if let Some(key) = key {
            query = format!("{query}&SigAlg={}", encoded(RSA_SHA256));
            let signature = key.sign(query.as_bytes())?;
            query = format!("{query}&Signature={}", encoded(&STANDARD.encode(signature)));
        }
        let separator = if location.contains('?') { '&' } else { '?' };
        Ok(format!("{location}{separator}{query}"))
    }

    /// The value of the field of a form, signed if there is a key.
    ///
    /// # Errors
    ///
    /// [`SignError`]
    pub fn field(&self, key: Option<&OwnKey>) -> Result<String, SignError> {
        let Some(key) = key else { return Ok(STANDARD.encode(format!("{}{}", self.head, self.tail))) };
        let template = format!(
            "{}<ds:Signature xmlns:ds=\"{DSIG}\"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm=\"{EXCLUSIVE}\"/>\
             <ds:SignatureMethod Algorithm=\"{RSA_SHA256}\"/><ds:Reference URI=\"#{}\"><ds:Transforms>\
             <ds:Transform Algorithm=\"{DSIG}enveloped-signature\"/><ds:Transform Algorithm=\"{EXCLUSIVE}\"/>\
             </ds:Transforms><ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/><ds:DigestValue/>\
             </ds:Reference></ds:SignedInfo><ds:SignatureValue/><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}\
             </ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>{}",
            self.head,
            self.id,
            key.certificate(),
            self.tail
        );
        let mut manager = KeysManager::new();
        manager.add_key(key.xml.clone());
        let signed = bergshamra::sign(&DsigContext::new(manager), &template).map_err(|_| SignError)?;
        Ok(STANDARD.encode(signed))
    }
}

impl Message {
    /// A page that posts the message as soon as a browser shows it.
    ///
    /// # Errors
    ///
    /// [`SignError`]
    pub fn page(&self, location: &str, relay_state: &str, key: Option<&OwnKey>) -> Result<String, SignError> {
        let field =
            |name: &str, value: &str| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n", escaped(value));
        let message = field(self.field, &self.field(key)?);
        let relay_state = if relay_state.is_empty() { String::new() } else { field("RelayState", relay_state) };
        Ok(format!(
            "<!doctype html>\n<meta charset=\"utf-8\">\n<title>On the way</title>\n<form method=\"post\" action=\"{}\">\n\
             {message}{relay_state}<p>This leads to your log-in provider. If nothing happens: \
             <button>Go on</button></p>\n</form>\n<script>{SCRIPT}</script>\n",
            escaped(location)
        ))
    }
}

/// A text in an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What XML cannot hold at all.
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, &RESERVED).to_string()
}

/// The script of [`Message::page`]; the page's `Content-Security-Policy` names its hash.
pub const SCRIPT: &str = "document.forms[0].submit()";
const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
/// All but the unreserved characters of RFC 3986, 2.3.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
