//! What the upstream is told of a person, in headers that nobody else can set.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;

use super::super::super::error::{CONFIG_VALUE, HEADER_NAME, HEADERS_TOO_MANY};
use super::super::super::fields::Fields;
use super::super::header::parse_changeable;
use super::flaw::Family;
use super::result::person;
use crate::login::session::Session;

/// Headers and what they say. A visitor's own are taken out of every request, also where the log-in's rule does not apply.
#[derive(Debug, Default)]
pub(super) struct IdentityHeaders(Vec<(HeaderName, Part)>);

/// A part of what is known of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Id,
    Email,
    Name,
    Subject,
    Session,
    Claim(Box<str>),
    /// Those of `saml` that its policy names.
    Groups,
}

impl IdentityHeaders {
    /// Reads the field; claims must be among those that the session keeps.
    pub(super) fn read(fields: &mut Fields<'_>, claims: &[Box<str>], family: Family) -> Self {
        let parts = match family {
            Family::OpenId => PARTS,
            Family::Saml => SAML_PARTS,
        };
        let mut headers = Vec::new();
        for (name, template) in fields.templates(FIELD, 0..=HEADERS_MAX, HEADERS_TOO_MANY) {
            let part = template.fixed().and_then(|text| Part::read(text, claims, family));
            match (parse_changeable(name, true), part) {
                (Ok(header), Some(part)) => headers.push((header, part)),
                (Err(message), _) => fields.wrong_entry(FIELD, name, HEADER_NAME, message),
                (_, None) => fields.wrong_entry(FIELD, name, CONFIG_VALUE, parts),
            }
        }
        Self(headers)
    }

    /// The headers.
    pub(super) fn names(&self) -> Vec<HeaderName> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Says who it is. What is not known, or cannot stand in a header, is left out.
    pub(super) fn say(&self, session: &Session, realm: &str, headers: &mut HeaderMap) {
        for (name, part) in &self.0 {
            let text = part.of(session, realm);
            let value = HeaderValue::from_bytes(text.as_bytes()).ok().filter(|value| !value.is_empty());
            headers.remove(name);
            if let Some(value) = value {
                headers.insert(name.clone(), value);
            }
        }
    }
}

impl Part {
    fn read(text: &str, claims: &[Box<str>], family: Family) -> Option<Self> {
        Some(match text {
            "id" => Self::Id,
            "email" => Self::Email,
            "name" => Self::Name,
            "provider_user_id" => Self::Subject,
            "current_session_id" => Self::Session,
            "groups" if family == Family::Saml => Self::Groups,
            _ => {
                let claim = text.strip_prefix("claims.")?;
                Self::Claim(claims.iter().find(|kept| &***kept == claim)?.clone())
            }
        })
    }

    fn of(&self, session: &Session, realm: &str) -> String {
        let identity = &session.identity;
        match self {
            Self::Id => person(realm, &identity.subject),
            Self::Email => identity.email.clone(),
            Self::Name => identity.name.clone(),
            Self::Subject => identity.subject.clone(),
            Self::Session => session.id.clone(),
            Self::Groups => identity.saml.as_ref().map_or_else(String::new, |saml| list(saml.groups.iter().cloned())),
            Self::Claim(name) => match identity.claims.get(&**name) {
                Some(Json::Array(entries)) => list(entries.iter().map(shown)),
                Some(value) => shown(value),
                None => String::new(),
            },
        }
    }
}

/// Entries with commas between them. One with a comma in it must not read as two: whoever may name groups at the provider would
/// be in whichever he likes.
fn list(entries: impl Iterator<Item = String>) -> String {
    entries.map(|entry| entry.replace('%', "%25").replace(',', "%2C")).collect::<Vec<_>>().join(",")
}

fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

const FIELD: &str = "identity_headers";
/// As many as `add-headers` takes.
const HEADERS_MAX: usize = 10;
const SAML_PARTS: &str = "must be id, email, name, provider_user_id, current_session_id, groups, or claims.NAME of an \
                          attribute that is among claims";
const PARTS: &str = "must be id, email, name, provider_user_id, current_session_id, or claims.NAME of a claim that is among \
                     claims";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::login::session::{Identity, SamlIdentity};

    #[test]
    fn entry_with_a_comma_is_one_entry() {
        let of = |groups: Json| {
            let claims = json!({"groups": groups}).as_object().unwrap().clone();
            let identity = Identity { claims, ..Identity::default() };
            let session = Session { id: "s".into(), begun: 0, ends: 9, used: 0, asked: 0, identity };
            Part::Claim("groups".into()).of(&session, "realm")
        };
        assert_eq!(of(json!(["a,admin", "100%", "%2C"])), "a%2Cadmin,100%25,%252C");
        assert_eq!(of(json!([["a", "b"]])), "[\"a\"%2C\"b\"]");
        assert_eq!(of(json!("Doe, Ann")), "Doe, Ann", "no list");
        let saml = Some(Box::new(SamlIdentity { groups: vec!["a,b".into(), "c".into()], ..SamlIdentity::default() }));
        let identity = Identity { saml, ..Identity::default() };
        let session = Session { id: "s".into(), begun: 0, ends: 9, used: 0, asked: 0, identity };
        assert_eq!(Part::Groups.of(&session, "realm"), "a%2Cb,c");
    }

    #[test]
    fn headers_say_what_is_known_and_nothing_else() {
        let claims = json!({"groups": ["a", "b"], "age": 7}).as_object().unwrap().clone();
        let name = "Ann\r\nx-admin: 1".to_owned();
        let identity = Identity { subject: "ann".into(), name, claims, ..Identity::default() };
        let session = Session { id: "s".into(), begun: 0, ends: 9, used: 0, asked: 0, identity };
        let kept: Vec<Box<str>> = vec!["groups".into(), "age".into()];
        let part = |text| Part::read(text, &kept, Family::OpenId).unwrap();
        let header = HeaderName::from_static;
        let headers = IdentityHeaders(vec![
            (header("x-user"), part("provider_user_id")),
            (header("x-mail"), part("email")),
            (header("x-name"), part("name")),
            (header("x-groups"), part("claims.groups")),
            (header("x-age"), part("claims.age")),
        ]);
        let mut found = HeaderMap::new();
        for name in ["x-user", "x-mail", "x-name"] {
            found.append(header(name), HeaderValue::from_static("forged"));
        }
        headers.say(&session, "realm", &mut found);
        let all: Vec<(&str, &str)> =
            found.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(all.len(), 3);
        assert!(
            all.contains(&("x-user", "ann")) && all.contains(&("x-groups", "a,b")) && all.contains(&("x-age", "7"))
        );
        assert_eq!(Part::read("claims.other", &kept, Family::OpenId), None);
        assert_eq!(Part::read("mail", &kept, Family::OpenId), None);
        assert_eq!(Part::read("groups", &kept, Family::OpenId), None);
        assert_eq!(Part::read("groups", &kept, Family::Saml), Some(Part::Groups));
    }
}
