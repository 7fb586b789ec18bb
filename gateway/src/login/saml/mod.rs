//! SAML 2.0, as a service provider: what goes to an identity provider, and what comes back from it. No network.
//!
//! What comes back is hostile until it is verified. A document passes [`plain_xml`] before it is parsed at all,
//! `shape` before a signature is looked at, and `signature` gives the bytes whose digest is signed: those are parsed
//! anew, and nothing else is read.

pub mod asked_log_out;
pub mod encrypted;
pub mod log_out;
pub mod metadata;
pub mod plain_xml;
#[cfg(test)]
pub(crate) mod pretend;
pub mod request;
pub mod response;
pub mod service;
pub mod session_name;
mod shape;
mod signature;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;

/// Why a message of an identity provider is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of thing is wrong.
    pub fault: Fault,
    /// For the log: in words, and never what the message says of a person.
    pub reason: String,
}

/// What kind of thing is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no SAML message, or of a form that is not taken.
    Form,
    /// What is signed cannot be verified.
    Signature,
    /// It is meant for somebody else, is out of date, or answers another question.
    Claims,
    /// Nobody asked for it.
    Unsolicited,
    /// It does not say once and only once that somebody logged in.
    Statement,
    /// The provider says that the log-in failed.
    Status,
}

impl Refusal {
    pub(crate) fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into() }
    }

    fn form(reason: impl Into<String>) -> Self {
        Self::new(Fault::Form, reason)
    }

    fn signature(reason: impl Into<String>) -> Self {
        Self::new(Fault::Signature, reason)
    }

    fn claims(reason: impl Into<String>) -> Self {
        Self::new(Fault::Claims, reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

/// How far the clocks of the gateway and of the provider may be apart.
pub const LEEWAY_SECS: i64 = 60;

const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const XMLENC: &str = "http://www.w3.org/2001/04/xmlenc#";
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
const BINDING_POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const BINDING_REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
