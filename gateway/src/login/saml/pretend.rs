//! An identity provider of the tests: it says and signs whatever it is told.

use std::io::Write;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bergshamra::keys::{Key, KeysManager, loader};
use bergshamra::{DsigContext, EncContext};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::metadata::Metadata;
use super::service::OwnKey;
use super::{ASSERTION, DSIG, METADATA, PROTOCOL, XMLENC};
use crate::login::query::form_text;

pub(crate) const PROVIDER: &str = "https://idp.example.com/metadata";
pub(crate) const ACS: &str = "https://app.example.com/ngrok/saml/acs";
pub(crate) const ENTITY: &str = "https://app.example.com/ngrok/saml/metadata";
pub(crate) const SLO: &str = "https://app.example.com/ngrok/saml/slo";
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ECDSA: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256";
pub(crate) const RSA: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
pub(crate) const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

pub(crate) struct Provider {
    key: Key,
    method: &'static str,
    pub(crate) certificate: String,
    /// The same key, if it is of RSA.
    own: Option<OwnKey>,
}

/// What a log-out of the provider says.
#[derive(Clone)]
pub(crate) struct ToldLogOut {
    pub(crate) id: String,
    pub(crate) now: i64,
    pub(crate) destination: String,
    pub(crate) issuer: String,
    pub(crate) name: String,
    pub(crate) sessions: Vec<String>,
    /// More attributes of the message.
    pub(crate) more: String,
}

impl Default for ToldLogOut {
    fn default() -> Self {
        Self {
            id: "_l1".into(),
            now: NOW,
            destination: SLO.into(),
            issuer: PROVIDER.into(),
            name: "ann".into(),
            sessions: vec!["s1".into()],
            more: String::new(),
        }
    }
}

impl ToldLogOut {
    pub(crate) fn message(&self, signature: &str) -> String {
        let sessions = self.sessions.iter().map(|one| format!("<samlp:SessionIndex>{one}</samlp:SessionIndex>"));
        format!(
            "<samlp:LogoutRequest xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{}\" Version=\"2.0\" \
             IssueInstant=\"{}\" Destination=\"{}\"{}><saml:Issuer>{}</saml:Issuer>{signature}<saml:NameID>{}</saml:NameID>\
             {}</samlp:LogoutRequest>",
            self.id,
            instant(self.now),
            self.destination,
            self.more,
            self.issuer,
            self.name,
            sessions.collect::<String>()
        )
    }
}

/// What a response says.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) now: i64,
    pub(crate) acs: String,
    pub(crate) destination: String,
    pub(crate) audience: String,
    pub(crate) issuer: String,
    pub(crate) in_response_to: Option<String>,
    pub(crate) status: &'static str,
    /// The whole `NameID`, with what stands around the name.
    pub(crate) name: String,
    /// Behind the conditions.
    pub(crate) statements: String,
    pub(crate) condition: String,
}

impl Default for Told {
    fn default() -> Self {
        let statement = "<saml:AuthnStatement AuthnInstant=\"2027-01-15T08:00:00Z\" SessionIndex=\"s1\"><saml:AuthnContext>\
                         <saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password\
                         </saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>";
        Self {
            id: "_a1".into(),
            now: NOW,
            acs: ACS.into(),
            destination: ACS.into(),
            audience: ENTITY.into(),
            issuer: PROVIDER.into(),
            in_response_to: Some("_request".into()),
            status: super::SUCCESS,
            name: "<saml:NameID Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\">ann</saml:NameID>"
                .into(),
            statements: format!("{statement}{}", attributes(&[("mail", "ann@example.com"), ("groups", "staff")])),
            condition: String::new(),
        }
    }
}

pub(crate) fn attributes(pairs: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| {
        format!("<saml:Attribute Name=\"{name}\"><saml:AttributeValue>{value}</saml:AttributeValue></saml:Attribute>")
    };
    format!("<saml:AttributeStatement>{}</saml:AttributeStatement>", pairs.iter().map(one).collect::<String>())
}

pub(crate) fn instant(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap().format(&Rfc3339).unwrap()
}

impl Told {
    /// The assertion, with a place for a signature.
    pub(crate) fn assertion(&self, signature: &str) -> String {
        let answers = self.in_response_to.as_ref().map_or_else(String::new, |id| format!(" InResponseTo=\"{id}\""));
        let (begin, end) = (instant(self.now - 10), instant(self.now + 300));
        format!(
            "<saml:Assertion xmlns:saml=\"{ASSERTION}\" ID=\"{}\" IssueInstant=\"{begin}\" Version=\"2.0\"><saml:Issuer>{}\
             </saml:Issuer>{signature}<saml:Subject>{}<saml:SubjectConfirmation \
             Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"><saml:SubjectConfirmationData{answers} \
             NotOnOrAfter=\"{end}\" Recipient=\"{}\"/></saml:SubjectConfirmation></saml:Subject><saml:Conditions \
             NotBefore=\"{begin}\" NotOnOrAfter=\"{end}\"><saml:AudienceRestriction><saml:Audience>{}</saml:Audience>\
             </saml:AudienceRestriction>{}</saml:Conditions>{}</saml:Assertion>",
            self.id, self.issuer, self.name, self.acs, self.audience, self.condition, self.statements
        )
    }

    /// The response around an assertion.
    pub(crate) fn response(&self, signature: &str, inside: &str) -> String {
        let answers = self.in_response_to.as_ref().map_or_else(String::new, |id| format!(" InResponseTo=\"{id}\""));
        format!(
            "<samlp:Response xmlns:samlp=\"{PROTOCOL}\" Destination=\"{}\" ID=\"_r1\"{answers} IssueInstant=\"{}\" \
             Version=\"2.0\"><saml:Issuer xmlns:saml=\"{ASSERTION}\">{}</saml:Issuer>{signature}<samlp:Status>\
             <samlp:StatusCode Value=\"{}\"/></samlp:Status>{inside}</samlp:Response>",
            self.destination,
            instant(self.now),
            self.issuer,
            self.status
        )
    }
}

impl Provider {
    pub(crate) fn new() -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = loader::load_ec_p256_private_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { key, method: ECDSA, certificate: certificate(&pair).1, own: None }
    }

    pub(crate) fn rsa() -> Self {
        let (pem, pair) = rsa_pair();
        let key = loader::load_rsa_private_pem(pem.as_bytes()).unwrap();
        let (file, certificate) = certificate(&pair);
        let own = OwnKey::read(pem.as_bytes(), file.as_bytes()).ok();
        Self { key, method: RSA, certificate, own }
    }

    /// A log-out that is signed in its XML.
    pub(crate) fn log_out(&self, told: &ToldLogOut) -> String {
        self.sign(&told.message(&self.template(&told.id)))
    }

    /// The query that a message comes in, signed.
    pub(crate) fn query(&self, message: &str, relay: &str) -> String {
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(message.as_bytes()).unwrap();
        let packed = STANDARD.encode(deflate.finish().unwrap());
        let signed = form_text(&[("SAMLRequest", &packed), ("RelayState", relay), ("SigAlg", RSA)]);
        let signature = self.own.as_ref().unwrap().sign(signed.as_bytes()).unwrap();
        format!("{signed}&{}", form_text(&[("Signature", &STANDARD.encode(signature))]))
    }

    /// How it describes itself.
    pub(crate) fn metadata(&self) -> String {
        let service = |name: &str, binding: &str, path: &str| {
            format!("<md:{name} Binding=\"{binding}\" Location=\"https://idp.example.com{path}\"/>")
        };
        format!(
            "<md:EntityDescriptor xmlns:md=\"{METADATA}\" entityID=\"{PROVIDER}\"><md:IDPSSODescriptor \
             protocolSupportEnumeration=\"{PROTOCOL}\"><md:KeyDescriptor use=\"signing\"><ds:KeyInfo xmlns:ds=\"{DSIG}\">\
             <ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\
             {}{}{}</md:IDPSSODescriptor></md:EntityDescriptor>",
            self.certificate,
            service("SingleLogoutService", super::BINDING_REDIRECT, "/slo"),
            service("SingleSignOnService", super::BINDING_REDIRECT, "/sso?tenant=1"),
            service("SingleSignOnService", super::BINDING_POST, "/sso-post"),
        )
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        Metadata::read(self.metadata().as_bytes(), NOW).unwrap().keys
    }

    pub(crate) fn template(&self, id: &str) -> String {
        template(id, self.method, SHA256)
    }

    /// Fills in the first signature of a text.
    pub(crate) fn sign(&self, text: &str) -> String {
        let mut manager = KeysManager::new();
        manager.add_key(self.key.clone());
        bergshamra::sign(&DsigContext::new(manager), text).unwrap()
    }

    /// An assertion that is signed.
    pub(crate) fn assertion(&self, told: &Told) -> String {
        self.sign(&told.assertion(&self.template(&told.id)))
    }

    /// A response with a signed assertion.
    pub(crate) fn response(&self, told: &Told) -> String {
        told.response("", &self.assertion(told))
    }

    /// A response that is signed as a whole, around whatever it is.
    pub(crate) fn around(&self, told: &Told, inside: &str) -> String {
        self.sign(&told.response(&self.template("_r1"), inside))
    }
}

pub(crate) fn template(id: &str, method: &str, digest: &str) -> String {
    format!(
        "<ds:Signature xmlns:ds=\"{DSIG}\"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm=\"{EXCLUSIVE}\"/>\
         <ds:SignatureMethod Algorithm=\"{method}\"/><ds:Reference URI=\"#{id}\"><ds:Transforms><ds:Transform \
         Algorithm=\"{DSIG}enveloped-signature\"/><ds:Transform Algorithm=\"{EXCLUSIVE}\"/></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"{digest}\"/><ds:DigestValue/></ds:Reference></ds:SignedInfo><ds:SignatureValue/>\
         </ds:Signature>"
    )
}

/// Our own key, as PEM with its certificate.
pub(crate) fn own_pair() -> (String, String) {
    let (pem, pair) = rsa_pair();
    (pem, certificate(&pair).0)
}

fn rsa_pair() -> (String, rcgen::KeyPair) {
    let pair = RsaPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let body: Vec<String> =
        STANDARD.encode(der.as_ref()).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", body.join("\n"));
    let pair = rcgen::KeyPair::from_pem(&pem).unwrap();
    (pem, pair)
}

/// As PEM, and as metadata has it.
fn certificate(pair: &rcgen::KeyPair) -> (String, String) {
    let certificate = rcgen::CertificateParams::new(vec!["idp.example.com".into()]).unwrap().self_signed(pair).unwrap();
    (certificate.pem(), STANDARD.encode(certificate.der()))
}

/// Encrypts an assertion for somebody.
pub(crate) fn encrypted(assertion: &str, key: &OwnKey, cipher: &str, transport: &str) -> String {
    let template = format!(
        "<saml:EncryptedAssertion xmlns:saml=\"{ASSERTION}\"><xenc:EncryptedData xmlns:xenc=\"{XMLENC}\" \
         Type=\"{XMLENC}Element\"><xenc:EncryptionMethod Algorithm=\"{cipher}\"/><ds:KeyInfo xmlns:ds=\"{DSIG}\">\
         <xenc:EncryptedKey><xenc:EncryptionMethod Algorithm=\"{transport}\"/><xenc:CipherData><xenc:CipherValue/>\
         </xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo><xenc:CipherData><xenc:CipherValue/></xenc:CipherData>\
         </xenc:EncryptedData></saml:EncryptedAssertion>"
    );
    let mut manager = KeysManager::new();
    manager.add_key(key.xml().clone());
    bergshamra::encrypt(&EncContext::new(manager), &template, assertion.as_bytes()).unwrap()
}
