//! What a certificate says, read once for the variables of policies and for the log.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::x509::AttributeTypeAndValue;

/// What a certificate says about itself. Nothing in it is trusted: the one who presents it wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The certificate as PEM text.
    pub pem: String,
    /// Whom it is for.
    pub subject: DistinguishedName,
    /// Who signed it.
    pub issuer: DistinguishedName,
    /// The number that its issuer gave it, in lower-case hexadecimal digits.
    pub serial_number: String,
    /// How it is signed, as `SHA256-RSA`; an object identifier where there is no such name.
    pub signature_algorithm: String,
    /// From when on it is valid, in seconds since 1970.
    pub begins_at_unix: i64,
    /// Until when it is valid, in seconds since 1970.
    pub ends_at_unix: i64,
    /// Host names that it is for.
    pub dns_names: Vec<String>,
    /// Mail addresses that it is for.
    pub email_addresses: Vec<String>,
    /// IP addresses that it is for.
    pub ip_addresses: Vec<String>,
    /// URIs that it is for.
    pub uris: Vec<String>,
    /// All its extensions in their order.
    pub extensions: Vec<Extension>,
}

/// A distinguished name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName {
    /// The whole name as RFC 2253 writes it: the most specific part first.
    pub text: String,
    /// Its attributes with their object identifiers, in the certificate's order.
    pub attributes: Vec<(String, String)>,
}

/// An extension of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its object identifier.
    pub id: String,
    /// Whoever does not understand it must not accept the certificate.
    pub critical: bool,
    /// Its content, DER.
    pub value: Vec<u8>,
}

impl CertificateFacts {
    /// Reads a certificate; nothing if it is malformed.
    #[must_use]
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let mut facts = Self {
            pem: pem(der),
            subject: DistinguishedName::of(parsed.subject()),
            issuer: DistinguishedName::of(parsed.issuer()),
            serial_number: hex(parsed.raw_serial()),
            signature_algorithm: signature_algorithm(&parsed.signature_algorithm.algorithm.to_id_string()),
            begins_at_unix: parsed.validity().not_before.timestamp(),
            ends_at_unix: parsed.validity().not_after.timestamp(),
            dns_names: Vec::new(),
            email_addresses: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            extensions: Vec::new(),
        };
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            names.value.general_names.iter().for_each(|name| facts.take(name));
        }
        facts.extensions = parsed
            .extensions()
            .iter()
            .map(|extension| Extension {
                id: extension.oid.to_id_string(),
                critical: extension.critical,
                value: extension.value.to_vec(),
            })
            .collect();
        Some(facts)
    }

    fn take(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(address) => self.email_addresses.push((*address).to_owned()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => self.ip_addresses.extend(ip_address(bytes)),
            _ => {}
        }
    }

    /// Its alternative names in one line, as OpenSSL writes them.
    #[must_use]
    pub fn alternative_names(&self) -> String {
        let kinds = [
            ("DNS", &self.dns_names),
            ("email", &self.email_addresses),
            ("IP Address", &self.ip_addresses),
            ("URI", &self.uris),
        ];
        let names = kinds.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind}:{name}")));
        names.collect::<Vec<_>>().join(", ")
    }
}

impl DistinguishedName {
    fn of(name: &X509Name<'_>) -> Self {
        let parts = name.iter().map(|part| {
            let part = part.iter().map(|attribute| {
                let id = attribute.attr_type().to_id_string();
                let label = LABELS.iter().find(|(known, _)| *known == id).map_or(id.as_str(), |(_, label)| label);
                format!("{label}={}", escaped(&text(attribute)))
            });
            part.collect::<Vec<_>>().join("+")
        });
        let mut parts: Vec<String> = parts.collect();
        parts.reverse();
        let attributes = name.iter_attributes();
        let attributes = attributes.map(|attribute| (attribute.attr_type().to_id_string(), text(attribute)));
        Self { text: parts.join(","), attributes: attributes.collect() }
    }

    /// The values of one attribute.
    pub fn values(&self, id: &str) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(move |(known, _)| known == id).map(|(_, value)| value.as_str())
    }

    /// The last one of its common names, which is the most specific one.
    #[must_use]
    pub fn common_name(&self) -> &str {
        self.values(COMMON_NAME).last().unwrap_or_default()
    }
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> String {
    match attribute.as_str() {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(attribute.as_slice()).into_owned(),
    }
}

/// What has a meaning in the text of a name gets a backslash in front of it (RFC 2253, 2.4).
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (index, character) in value.chars().enumerate() {
        let is_special = match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => index == 0,
            ' ' => index == 0 || index == last,
            _ => false,
        };
        if is_special {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn ip_address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).to_string())
}

fn hex(bytes: &[u8]) -> String {
    // A leading zero only says that the number is not negative.
    let bytes = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        bytes => bytes,
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, character) in encoded.chars().enumerate() {
        if index > 0 && index % PEM_LINE_CHARS == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out.push_str("\n-----END CERTIFICATE-----\n");
    out
}

fn signature_algorithm(id: &str) -> String {
    let name = SIGNATURES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name);
    name.unwrap_or(id).to_owned()
}

/// The attribute by which most certificates are told apart (RFC 4519, 2.3).
const COMMON_NAME: &str = "2.5.4.3";
/// RFC 7468, 2
const PEM_LINE_CHARS: usize = 64;
/// The attributes that have short names (RFC 2253, 2.3; RFC 4519).
const LABELS: [(&str, &str); 10] = [
    (COMMON_NAME, "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.17", "POSTALCODE"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];
/// RFC 4055, RFC 5758, RFC 8410
const SIGNATURES: [(&str, &str); 8] = [
    ("1.2.840.113549.1.1.11", "SHA256-RSA"),
    ("1.2.840.113549.1.1.12", "SHA384-RSA"),
    ("1.2.840.113549.1.1.13", "SHA512-RSA"),
    ("1.2.840.113549.1.1.5", "SHA1-RSA"),
    ("1.2.840.10045.4.3.2", "ECDSA-SHA256"),
    ("1.2.840.10045.4.3.3", "ECDSA-SHA384"),
    ("1.2.840.10045.4.3.4", "ECDSA-SHA512"),
    ("1.3.101.112", "Ed25519"),
];

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber};

    use super::*;

    #[test]
    fn all_of_a_certificate_is_read() {
        let mut params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
        params.subject_alt_names.extend([
            SanType::IpAddress(IpAddr::from([192, 0, 2, 7])),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::Rfc822Name("ann@example.com".try_into().unwrap()),
            SanType::URI("spiffe://example.com/a".try_into().unwrap()),
        ]);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc");
        params.distinguished_name.push(DnType::CommonName, "ann");
        params.serial_number = Some(SerialNumber::from_slice(&[0xb5, 0x30, 0x17]));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2200, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let facts = CertificateFacts::of(certificate.der()).unwrap();
        assert_eq!(facts.subject.text, r"CN=ann,O=Example\, Inc,C=DE");
        assert_eq!((facts.subject.common_name(), &facts.issuer), ("ann", &facts.subject));
        assert_eq!(facts.subject.values("2.5.4.10").collect::<Vec<_>>(), ["Example, Inc"]);
        assert_eq!(facts.serial_number, "b53017");
        assert_eq!(facts.signature_algorithm, "ECDSA-SHA256");
        assert_eq!(facts.begins_at_unix, 1_577_836_800);
        assert_eq!(facts.ip_addresses, ["192.0.2.7", "2001:db8::1"]);
        assert_eq!(
            facts.alternative_names(),
            "DNS:a.example.com, email:ann@example.com, IP Address:192.0.2.7, IP Address:2001:db8::1, \
             URI:spiffe://example.com/a"
        );
        assert!(facts.extensions.iter().any(|extension| extension.id == "2.5.29.17" && !extension.critical));
        assert!(facts.pem.starts_with("-----BEGIN CERTIFICATE-----\n") && facts.pem.lines().all(|l| l.len() <= 64));
    }

    #[test]
    fn malformed_certificate_says_nothing() {
        assert_eq!(CertificateFacts::of(&CertificateDer::from(&b"\x30\x03abc"[..])), None);
    }

    #[test]
    fn special_characters_are_escaped() {
        for (value, expected) in [("a,b", r"a\,b"), ("#a#", r"\#a#"), (" a b ", r"\ a b\ "), ("", "")] {
            assert_eq!(escaped(value), expected);
        }
    }
}
