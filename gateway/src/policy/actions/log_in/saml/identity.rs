//! From what the provider says to what a session keeps, and to what later rules can know: `actions.ngrok.saml`.

use ring::digest::{SHA256, digest};
use serde_json::Value as Json;

use super::super::super::super::expression::Value;
use super::super::super::super::run::Run;
use super::super::flaw::{Flaw, Wrong};
use super::configuration::Configuration;
use crate::login::saml::response::{Attribute, Subject, Vouched};
use crate::login::session::{Identity, Over, SamlIdentity, Session};

/// Who it is, if it may pass.
pub(super) fn of(vouched: Vouched, configuration: &Configuration) -> Result<Identity, Flaw> {
    let first = |names: &[&str]| values(&vouched.attributes, names).next().cloned();
    let is_address = vouched.subject.format.as_deref() == Some(EMAIL_FORMAT);
    let email = first(EMAIL).or_else(|| is_address.then(|| vouched.subject.name.clone()));
    let name = first(NAME).unwrap_or_default();
    let own = configuration.groups_attribute.as_deref();
    let names: Vec<&str> = own.map_or_else(|| GROUPS.to_vec(), |own| vec![own]);
    let groups: Vec<String> = configuration
        .authorized_groups
        .iter()
        .filter(|group| values(&vouched.attributes, &names).any(|value| **value == ***group))
        .map(|group| group.to_string())
        .collect();
    if groups.is_empty() && !configuration.authorized_groups.is_empty() {
        return Err(Flaw::new(Wrong::Group, "the person is in none of authorized_groups"));
    }
    let claims = configuration.claims.iter().filter_map(|claim| {
        let found: Vec<Json> = values(&vouched.attributes, &[claim]).map(|value| value.clone().into()).collect();
        (!found.is_empty()).then(|| (claim.to_string(), Json::from(found)))
    });
    let claims = claims.collect();
    let Subject { name: subject, format, qualifier, service_qualifier } = vouched.subject;
    let saml = SamlIdentity { format, qualifier, service_qualifier, ends: vouched.session_ends, groups };
    Ok(Identity {
        subject,
        email: email.unwrap_or_default(),
        name,
        provider_session: vouched.session.unwrap_or_default(),
        claims,
        saml: Some(Box::new(saml)),
    })
}

/// The person's name as the provider has it.
pub(super) fn subject(identity: &Identity) -> Subject {
    let saml = identity.saml.as_deref().cloned().unwrap_or_default();
    let SamlIdentity { format, qualifier, service_qualifier, .. } = saml;
    Subject { name: identity.subject.clone(), format, qualifier, service_qualifier }
}

/// The values of the attributes with one of these names.
fn values<'v>(attributes: &'v [Attribute], names: &'v [&str]) -> impl Iterator<Item = &'v String> {
    attributes.iter().filter(move |one| names.contains(&&*one.name)).flat_map(|one| &one.values)
}

/// Publishes what is known.
pub(super) fn publish(run: &mut Run<'_, '_, '_>, session: Option<&Session>, over: Option<Over>, realm: &str) {
    let mut result = vec![
        ("session_timed_out", Value::Bool(over == Some(Over::Idle))),
        ("session_max_duration_reached", Value::Bool(over == Some(Over::Aged))),
    ];
    if let Some(session) = session {
        result.push(("identity", value(session, realm)));
    }
    run.set_result("saml", Value::map(result));
}

fn value(session: &Session, realm: &str) -> Value {
    let identity = &session.identity;
    let id = digest(&SHA256, format!("{realm} {}", identity.subject).as_bytes());
    let id: String = id.as_ref().iter().take(ID_LEN).map(|byte| format!("{byte:02x}")).collect();
    let saml = identity.saml.as_deref();
    let groups = saml.map(|saml| saml.groups.as_slice()).unwrap_or_default();
    let format = saml.and_then(|saml| saml.format.as_deref()).unwrap_or_default();
    let provider_session = Value::text(&identity.provider_session);
    Value::map([
        ("id", Value::text(&id)),
        ("email", Value::text(&identity.email)),
        ("name", Value::text(&identity.name)),
        ("provider_user_id", Value::text(&identity.subject)),
        ("nameid_format", Value::text(format)),
        ("groups", Value::list(groups.iter().map(|group| Value::text(group)))),
        ("current_session_id", Value::text(&session.id)),
        ("current_provider_session_id", provider_session),
        ("claims", Value::from_json(&Json::Object(identity.claims.clone()))),
    ])
}

const EMAIL_FORMAT: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
/// As Shibboleth, AD FS, Entra ID, Okta and Keycloak name them.
const EMAIL: &[&str] = &[
    "email",
    "mail",
    "urn:oid:0.9.2342.19200300.100.1.3",
    "urn:oid:1.2.840.113549.1.9.1",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
];
const NAME: &[&str] = &[
    "displayName",
    "urn:oid:2.16.840.1.113730.3.1.241",
    "http://schemas.microsoft.com/identity/claims/displayname",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    "name",
    "cn",
    "urn:oid:2.5.4.3",
];
const GROUPS: &[&str] = &[
    "groups",
    "group",
    "Group",
    "memberOf",
    "isMemberOf",
    "urn:oid:1.3.6.1.4.1.5923.1.5.1.1",
    "http://schemas.xmlsoap.org/claims/Group",
    "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups",
    "Role",
];
/// Enough to tell all people apart.
const ID_LEN: usize = 12;
