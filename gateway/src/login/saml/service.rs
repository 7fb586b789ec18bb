//! Ourselves as a service provider: the key that signs requests and opens assertions, and how we describe ourselves.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bergshamra::keys::{Key, loader};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::request::escaped;
use super::{BINDING_POST, BINDING_REDIRECT, DSIG, METADATA, PROTOCOL, XMLENC};
use crate::pem;

/// Our own key, of RSA: it signs requests and opens assertions.
pub struct OwnKey {
    signing: RsaKeyPair,
    /// The same, for XML.
    pub(super) xml: Key,
    certificate: Vec<u8>,
}

/// The operating system gave no random bytes, or the library cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignError;

impl OwnKey {
    /// Reads a private key (PKCS #8, RSA, 2048 bits or more) and its certificate, both as PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with which of them, in words that continue its name and show nothing of the key.
    pub fn read(key: &[u8], certificate: &[u8]) -> Result<Self, (Part, String)> {
        let wrong_key = |message: &str| (Part::Key, message.to_owned());
        let der = pem::private_key(key).map_err(|message| (Part::Key, message))?;
        let PrivateKeyDer::Pkcs8(der) = der else {
            return Err(wrong_key("must be in PKCS #8 form (BEGIN PRIVATE KEY), as `openssl genpkey` writes it"));
        };
        let signing = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der());
        let signing = signing.map_err(|_| wrong_key("must be an RSA key of 2048 to 4096 bits"))?;
        let xml = loader::load_rsa_private_pem(key).map_err(|_| wrong_key("must be one RSA key and nothing else"))?;
        let chain = pem::certificates(certificate).map_err(|message| (Part::Certificate, message))?;
        let certificate = chain.first().map(|der| der.to_vec()).unwrap_or_default();
        let wrong = |message: &str| (Part::Certificate, message.to_owned());
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| wrong("is no certificate"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != signing.public_key().as_ref() {
            return Err(wrong("is not the certificate of private_key"));
        }
        Ok(Self { signing, xml, certificate })
    }

    /// The key that opens assertions.
    #[must_use]
    pub fn xml(&self) -> &Key {
        &self.xml
    }

    /// RSA with SHA-256.
    ///
    /// # Errors
    ///
    /// [`SignError`]
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut signature = vec![0; self.signing.public().modulus_len()];
        self.signing.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).map_err(|_| SignError)?;
        Ok(signature)
    }

    pub(super) fn certificate(&self) -> String {
        STANDARD.encode(&self.certificate)
    }
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnKey")
    }
}

/// Which part of a pair is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The private key.
    Key,
    /// The certificate.
    Certificate,
}

/// Where we are and what we want, for one name of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Service<'s> {
    /// Our name at the provider.
    pub entity_id: &'s str,
    /// Where responses go.
    pub acs: &'s str,
    /// Where log-outs of the provider, and its answers to ours, go.
    pub log_out: &'s str,
    /// What kind of name of people we ask for.
    pub name_format: &'s str,
    /// Whether requests are signed.
    pub signs: bool,
    /// Our key, if there is one.
    pub key: Option<&'s OwnKey>,
}

impl Service<'_> {
    /// Our description (SAML Metadata, 2.4.4).
    #[must_use]
    pub fn metadata(&self) -> String {
        let certificate = self.key.map(OwnKey::certificate);
        let key = |usage: &str, methods: &str| {
            certificate.as_ref().map_or_else(String::new, |certificate| {
                format!(
                    "<md:KeyDescriptor use=\"{usage}\"><ds:KeyInfo xmlns:ds=\"{DSIG}\"><ds:X509Data><ds:X509Certificate>\
                     {certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>{methods}</md:KeyDescriptor>"
                )
            })
        };
        let methods = format!(
            "<md:EncryptionMethod Algorithm=\"http://www.w3.org/2009/xmlenc11#aes256-gcm\"/>\
             <md:EncryptionMethod Algorithm=\"http://www.w3.org/2009/xmlenc11#aes128-gcm\"/>\
             <md:EncryptionMethod Algorithm=\"{XMLENC}rsa-oaep-mgf1p\"/>"
        );
        let (entity_id, acs) = (escaped(self.entity_id), escaped(self.acs));
        let log_out = [BINDING_REDIRECT, BINDING_POST].map(|binding| {
            format!("<md:SingleLogoutService Binding=\"{binding}\" Location=\"{}\"/>", escaped(self.log_out))
        });
        let log_out = log_out.concat();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <md:EntityDescriptor xmlns:md=\"{METADATA}\" entityID=\"{entity_id}\">\
             <md:SPSSODescriptor AuthnRequestsSigned=\"{signs}\" WantAssertionsSigned=\"true\" \
             protocolSupportEnumeration=\"{PROTOCOL}\">{signing}{encryption}\
             {log_out}<md:NameIDFormat>{format}</md:NameIDFormat>\
             <md:AssertionConsumerService Binding=\"{BINDING_POST}\" Location=\"{acs}\" index=\"0\" isDefault=\"true\"/>\
             </md:SPSSODescriptor></md:EntityDescriptor>\n",
            signs = self.signs,
            signing = key("signing", ""),
            encryption = key("encryption", &methods),
            format = escaped(self.name_format),
        )
    }
}
