//! The variables below `conn.tls`: how the visitor's TLS ended here, and what the certificates of both sides say.
//!
//! Where the client showed no certificate, texts are empty and lists have nothing in them, so that a condition is false
//! rather than without a value.

use time::OffsetDateTime;

use super::super::Tls;
use super::evaluate::Fault;
use super::value::Value;
use crate::tls::{CertificateFacts, DistinguishedName, Session};

/// A variable below `conn.tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsVariable {
    Sni,
    Version,
    CipherSuite,
    Protocol,
    IsResumed,
    /// The client's certificate is there and verified.
    IsVerified,
    /// Why it is not.
    Doubt,
    Client(Field),
    Server(Field),
}

/// A part of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Pem,
    Subject,
    SubjectName,
    /// An attribute of the subject, by its object identifier.
    SubjectPart(&'static str),
    Issuer,
    IssuerName,
    IssuerPart(&'static str),
    Names,
    DnsNames,
    EmailAddresses,
    IpAddresses,
    Uris,
    SerialNumber,
    SignatureAlgorithm,
    Begin,
    End,
    Extensions,
}

impl TlsVariable {
    /// True for those that are true or false.
    pub(super) fn is_bool(self) -> bool {
        matches!(self, Self::IsResumed | Self::IsVerified)
    }
}

/// Finds a variable by its whole name.
pub(super) fn find(name: &str) -> Option<TlsVariable> {
    let name = name.strip_prefix(PREFIX)?;
    if let Some((_, variable)) = PLAIN.iter().find(|(known, _)| *known == name) {
        return Some(*variable);
    }
    match name.split_once('.')? {
        ("client", rest) => field(rest).map(TlsVariable::Client),
        ("server", rest) => field(rest).map(TlsVariable::Server),
        _ => None,
    }
}

/// The whole name of a variable.
pub(super) fn name(variable: TlsVariable) -> String {
    let plain = PLAIN.iter().map(|(name, _)| (*name).to_owned());
    let parts = ["subject", "issuer"]
        .into_iter()
        .flat_map(|whose| PARTS.iter().map(move |(part, _)| format!("{whose}.{part}")));
    let fields: Vec<String> = FIELDS.iter().map(|(name, _)| (*name).to_owned()).chain(parts).collect();
    let sides =
        ["client", "server"].into_iter().flat_map(|side| fields.iter().map(move |field| format!("{side}.{field}")));
    let mut names = plain.chain(sides).map(|name| format!("{PREFIX}{name}"));
    names.find(|name| find(name) == Some(variable)).unwrap_or_default()
}

/// The names beside one that is not known; nothing when it is not below `conn.tls`.
pub(super) fn beside(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(PREFIX)?;
    let Some((side @ ("client" | "server"), rest)) = rest.split_once('.') else {
        let plain = PLAIN.iter().map(|(name, _)| format!("{PREFIX}{name}"));
        return Some(plain.chain(["conn.tls.client.…".to_owned(), "conn.tls.server.…".to_owned()]).collect());
    };
    let part = rest.split_once('.').filter(|(part, _)| matches!(*part, "subject" | "issuer")).map(|(part, _)| part);
    Some(match part {
        Some(part) => PARTS.iter().map(|(name, _)| format!("{PREFIX}{side}.{part}.{name}")).collect(),
        None => FIELDS.iter().map(|(name, _)| format!("{PREFIX}{side}.{name}")).collect(),
    })
}

fn field(name: &str) -> Option<Field> {
    if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
        return Some(*field);
    }
    let (whose, part) = name.split_once('.')?;
    let id = PARTS.iter().find(|(known, _)| *known == part).map(|(_, id)| *id);
    match (whose, part, id) {
        ("subject", "common_name", _) => Some(Field::SubjectName),
        ("issuer", "common_name", _) => Some(Field::IssuerName),
        ("subject", _, Some(id)) => Some(Field::SubjectPart(id)),
        ("issuer", _, Some(id)) => Some(Field::IssuerPart(id)),
        _ => None,
    }
}

/// The value of a variable. Before TLS has ended, only the name that the client asks for is known.
pub(super) fn resolve(variable: TlsVariable, tls: Tls<'_>) -> Result<Value, Fault> {
    let session = match (tls, variable) {
        (Tls::Ended(session), _) => session,
        (Tls::Begun(name), TlsVariable::Sni) => return Ok(Value::text(name.unwrap_or_default())),
        (Tls::Begun(_) | Tls::Unknown, _) => return Err(Fault::Missing("TLS that has ended here".into())),
    };
    let doubt = || session.client().and_then(|client| client.doubt());
    Ok(match variable {
        TlsVariable::Sni => Value::text(session.name().unwrap_or_default()),
        TlsVariable::Version => Value::text(session.version().as_str()),
        TlsVariable::CipherSuite => Value::text(&session.cipher_suite()),
        TlsVariable::Protocol => Value::text(&session.protocol().map(String::from_utf8_lossy).unwrap_or_default()),
        TlsVariable::IsResumed => Value::Bool(session.is_resumed()),
        TlsVariable::IsVerified => Value::Bool(session.client().is_some() && doubt().is_none()),
        TlsVariable::Doubt => Value::text(doubt().unwrap_or_default()),
        TlsVariable::Client(field) => of_client(field, session)?,
        TlsVariable::Server(field) => value(field, session.server_facts()),
    })
}

fn of_client(field: Field, session: &Session) -> Result<Value, Fault> {
    match session.client() {
        None => Ok(value(field, None)),
        Some(client) => match client.facts() {
            Some(facts) => Ok(value(field, Some(facts))),
            None => Err(Fault::Invalid("the client's certificate cannot be read".into())),
        },
    }
}

fn value(field: Field, facts: Option<&CertificateFacts>) -> Value {
    let text = |of: fn(&CertificateFacts) -> &str| Value::text(facts.map_or("", of));
    let list = |of: fn(&CertificateFacts) -> &Vec<String>| {
        Value::list(facts.into_iter().flat_map(of).map(|name| Value::text(name)))
    };
    let part = |of: fn(&CertificateFacts) -> &DistinguishedName, id| {
        Value::list(facts.into_iter().flat_map(|facts| of(facts).values(id)).map(Value::text))
    };
    let time = |of: fn(&CertificateFacts) -> i64| {
        let time = facts.and_then(|facts| OffsetDateTime::from_unix_timestamp(of(facts)).ok());
        time.map_or(Value::Null, Value::Time)
    };
    match field {
        Field::Pem => text(|facts| &facts.pem),
        Field::Subject => text(|facts| &facts.subject.text),
        Field::SubjectName => text(|facts| facts.subject.common_name()),
        Field::SubjectPart(id) => part(|facts| &facts.subject, id),
        Field::Issuer => text(|facts| &facts.issuer.text),
        Field::IssuerName => text(|facts| facts.issuer.common_name()),
        Field::IssuerPart(id) => part(|facts| &facts.issuer, id),
        Field::Names => Value::text(&facts.map(CertificateFacts::alternative_names).unwrap_or_default()),
        Field::DnsNames => list(|facts| &facts.dns_names),
        Field::EmailAddresses => list(|facts| &facts.email_addresses),
        Field::IpAddresses => list(|facts| &facts.ip_addresses),
        Field::Uris => list(|facts| &facts.uris),
        Field::SerialNumber => text(|facts| &facts.serial_number),
        Field::SignatureAlgorithm => text(|facts| &facts.signature_algorithm),
        Field::Begin => time(|facts| facts.begins_at_unix),
        Field::End => time(|facts| facts.ends_at_unix),
        Field::Extensions => Value::list(facts.into_iter().flat_map(|facts| &facts.extensions).map(|extension| {
            Value::map([
                ("id", Value::text(&extension.id)),
                ("critical", Value::Bool(extension.critical)),
                ("value", Value::Bytes(extension.value.clone().into())),
            ])
        })),
    }
}

const PREFIX: &str = "conn.tls.";

const PLAIN: [(&str, TlsVariable); 7] = [
    ("sni", TlsVariable::Sni),
    ("version", TlsVariable::Version),
    ("cipher_suite", TlsVariable::CipherSuite),
    ("negotiated_alpn", TlsVariable::Protocol),
    ("session_resumed", TlsVariable::IsResumed),
    ("client.verified", TlsVariable::IsVerified),
    ("client.verification_error", TlsVariable::Doubt),
];

const FIELDS: [(&str, Field); 13] = [
    ("pem", Field::Pem),
    ("subject", Field::Subject),
    ("issuer", Field::Issuer),
    ("san", Field::Names),
    ("san.dns_names", Field::DnsNames),
    ("san.email_addresses", Field::EmailAddresses),
    ("san.ip_addresses", Field::IpAddresses),
    ("san.uris", Field::Uris),
    ("serial_number", Field::SerialNumber),
    ("signature_algorithm", Field::SignatureAlgorithm),
    ("validity.not_before", Field::Begin),
    ("validity.not_after", Field::End),
    ("extensions", Field::Extensions),
];

/// Attributes of names with their object identifiers (RFC 4519).
const PARTS: [(&str, &str); 8] = [
    ("common_name", "2.5.4.3"),
    ("country", "2.5.4.6"),
    ("locality", "2.5.4.7"),
    ("organization", "2.5.4.10"),
    ("organizational_unit", "2.5.4.11"),
    ("postal_code", "2.5.4.17"),
    ("province", "2.5.4.8"),
    ("street_address", "2.5.4.9"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_others_are_answered_with_those_beside_them() {
        assert_eq!(find("conn.tls.sni"), Some(TlsVariable::Sni));
        assert_eq!(find("conn.tls.client.verified"), Some(TlsVariable::IsVerified));
        assert_eq!(find("conn.tls.client.subject"), Some(TlsVariable::Client(Field::Subject)));
        assert_eq!(find("conn.tls.server.issuer.common_name"), Some(TlsVariable::Server(Field::IssuerName)));
        let organization = Field::SubjectPart("2.5.4.10");
        assert_eq!(find("conn.tls.client.subject.organization"), Some(TlsVariable::Client(organization)));
        for name in ["conn.tls", "conn.tls.ja4_fingerprint", "conn.tls.client", "conn.tls.server.verified", "conn.tlsx"]
        {
            assert_eq!(find(name), None, "{name}");
        }
        let has = |name: &str, expected: &str| beside(name).unwrap().contains(&expected.to_owned());
        assert!(has("conn.tls.client.subject.cn", "conn.tls.client.subject.common_name"));
        assert!(has("conn.tls.client.cn", "conn.tls.client.subject"));
        assert!(has("conn.tls.alpn", "conn.tls.negotiated_alpn"));
        assert_eq!(beside("conn.client_ip"), None);
    }

    #[test]
    fn name_is_known_before_tls_has_ended_and_the_rest_is_not() {
        let sni = resolve(TlsVariable::Sni, Tls::Begun(Some("a.example.com")));
        assert_eq!(sni, Ok(Value::text("a.example.com")));
        assert!(matches!(resolve(TlsVariable::Version, Tls::Begun(None)), Err(Fault::Missing(_))));
        assert!(matches!(resolve(TlsVariable::Sni, Tls::Unknown), Err(Fault::Missing(_))));
    }
}
