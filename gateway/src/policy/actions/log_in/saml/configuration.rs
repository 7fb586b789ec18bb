//! The fields of `saml`.

use std::sync::Arc;

use time::OffsetDateTime;

use super::super::super::super::error::{ACTION_PROTOCOL, CONFIG, CONFIG_VALUE};
use super::super::super::super::fields::Fields;
use super::super::super::super::phase::Phase;
use super::super::super::super::place::Place;
use super::super::super::Action;
use super::super::super::terminate_tls::content;
use super::super::flaw::Family;
use super::super::identity_headers::IdentityHeaders;
use super::super::settings::{CLAIMS_MAX, IDLE, MAX, read_auth_id, read_domain, read_span};
use super::Saml;
use super::description::Description;
use crate::login::cookies::Reach;
use crate::login::hand_over::{self, ACS_PATH, CallbackHost, Party};
use crate::login::saml::metadata::{Binding, Metadata};
use crate::login::saml::service::{OwnKey, Part};
use crate::login::session::Lifetime;
use crate::pem;

/// What the policy says.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) provider: Description,
    entity_id: Option<Box<str>>,
    pub(super) key: Option<Arc<OwnKey>>,
    pub(super) signs: bool,
    pub(super) request_binding: Binding,
    pub(super) name_format: Box<str>,
    pub(super) force: bool,
    pub(super) allows_unsolicited: bool,
    pub(super) authorized_groups: Vec<Box<str>>,
    /// `None`: the usual ones.
    pub(super) groups_attribute: Option<Box<str>>,
    pub(super) claims: Vec<Box<str>>,
    /// What the upstream is told of the person, by header.
    pub(super) identity_headers: IdentityHeaders,
    pub(super) auth_id: Box<str>,
    pub(super) cookies: Reach,
    pub(super) lifetime: Lifetime,
    pub(super) allows_preflight: bool,
    pub(super) ends_provider_session: bool,
}

/// Where we are, for one name of an endpoint.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) entity_id: String,
    pub(super) acs: String,
    pub(super) log_out: String,
}

impl Configuration {
    pub(super) fn places(&self, authority: &str, account: &str, callback_host: Option<&CallbackHost>) -> Places {
        let at = |path: &str| format!("https://{authority}{path}");
        let mark = self.mark();
        let party = Party { account, client: &mark };
        // What is the same for all names needs one name for all of them.
        let (name, acs) = match callback_host {
            Some(host) => (host.place(METADATA_PATH, party), host.acs(party)),
            None => (at(METADATA_PATH), at(ACS_PATH)),
        };
        let entity_id = self.entity_id.as_ref().map_or(name, |own| own.to_string());
        Places { entity_id, acs, log_out: at(LOG_OUT_PATH) }
    }

    /// Tells the provider, and ourselves at it, apart from all others.
    pub(super) fn mark(&self) -> String {
        hand_over::mark(&self.provider.identity(), self.entity_id.as_deref().unwrap_or_default())
    }
}

pub(super) fn compile(fields: &mut Fields<'_>, _phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    if !place.is_cloud() {
        let message = "is possible in policies of cloud endpoints only, which stand in the gateway's file: forward from one to \
                       the agent's internal endpoint";
        fields.wrong_action(ACTION_PROTOCOL, message);
    }
    let provider = read_provider(fields);
    let entity_id = fields.text("entity_id");
    if entity_id.is_some_and(|id| id.is_empty() || id.len() > ENTITY_ID_BYTES_MAX) {
        fields.wrong("entity_id", CONFIG_VALUE, format!("must have 1 to {ENTITY_ID_BYTES_MAX} bytes"));
    }
    let key = read_key(fields);
    let signs = fields.bool("sign_requests", key.is_some());
    if signs && key.is_none() {
        fields.wrong("sign_requests", CONFIG_VALUE, "needs private_key and certificate");
    }
    let request_binding = match fields.choice("request_binding", &["redirect", "post"]) {
        Some("post") => Binding::Post,
        Some(_) | None => Binding::Redirect,
    };
    let name_format = fields.text("nameid_format").unwrap_or(PERSISTENT);
    if !name_format.starts_with("urn:oasis:names:tc:SAML:") || name_format.len() > FORMAT_BYTES_MAX {
        fields.wrong("nameid_format", CONFIG_VALUE, format!("must be a format of SAML such as {PERSISTENT}"));
    }
    let groups = fields.list("authorized_groups", 0..=GROUPS_MAX, CONFIG_VALUE);
    for (index, group) in &groups {
        if group.is_empty() || group.len() > GROUP_BYTES_MAX || group.contains('\n') {
            let message = format!("must have 1 to {GROUP_BYTES_MAX} bytes, in one line");
            fields.wrong_item("authorized_groups", *index, CONFIG_VALUE, message);
        }
    }
    let claims = fields.list("claims", 0..=CLAIMS_MAX, CONFIG_VALUE);
    let claims: Vec<Box<str>> = claims.into_iter().map(|(_, claim)| claim.into()).collect();
    let identity_headers = IdentityHeaders::read(fields, &claims, Family::Saml);
    // Both names mean the same: the older one is of ngrok's module for edges.
    let (older, newer) = (fields.bool("options_passthrough", false), fields.bool("allow_cors_preflight", false));
    Some(Box::new(Saml(Configuration {
        entity_id: entity_id.map(Into::into),
        key: key.map(Arc::new),
        signs,
        request_binding,
        name_format: name_format.into(),
        force: fields.bool("force_authn", false),
        allows_unsolicited: fields.bool("allow_idp_initiated", false),
        authorized_groups: groups.into_iter().map(|(_, group)| group.into()).collect(),
        groups_attribute: fields.text("groups_attribute").map(Into::into),
        claims,
        identity_headers,
        auth_id: read_auth_id(fields),
        cookies: read_domain(fields, place),
        lifetime: Lifetime {
            idle: read_span(fields, &["idle_session_timeout", "idle_session_duration"]).unwrap_or(IDLE),
            max: read_span(fields, &["max_session_duration"]).unwrap_or(MAX),
        },
        allows_preflight: older || newer,
        ends_provider_session: fields.bool("end_provider_session", false),
        provider: provider?,
    })))
}

fn read_provider(fields: &mut Fields<'_>) -> Option<Description> {
    let inline = fields.text("idp_metadata");
    let file = fields.text("idp_metadata_file");
    let url = fields.text("idp_metadata_url");
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let fixed = |text: &[u8]| Metadata::read(text, now).map(|read| Description::Fixed(Arc::new(read)));
    let (name, read) = match (inline, file, url) {
        (Some(text), None, None) => ("idp_metadata", fixed(text.as_bytes())),
        (None, Some(file), None) => ("idp_metadata_file", file_text(fields, file).and_then(|text| fixed(&text))),
        (None, None, Some(url)) => ("idp_metadata_url", Description::at(url).map_err(str::to_owned)),
        _ => {
            let message = "needs the provider's metadata: one of idp_metadata, idp_metadata_file and idp_metadata_url";
            fields.wrong_action(CONFIG, message);
            return None;
        }
    };
    read.map_err(|message| fields.wrong(name, CONFIG_VALUE, message)).ok()
}

fn file_text(fields: &Fields<'_>, file: &str) -> Result<Vec<u8>, String> {
    let directory = fields.files().ok_or("cannot be here: only policies of the gateway's own file may name files")?;
    pem::read(&directory.join(file))
}

fn read_key(fields: &mut Fields<'_>) -> Option<OwnKey> {
    let (key, certificate) = match (fields.secret_text("private_key"), fields.text("certificate")) {
        (Some(key), Some(certificate)) => (key, certificate),
        (None, None) => return None,
        _ => {
            fields.wrong_action(CONFIG, "needs private_key and certificate, or none of them");
            return None;
        }
    };
    let key = content(key, fields.files()).map_err(|error| fields.wrong("private_key", CONFIG_VALUE, error)).ok();
    let certificate = content(certificate, fields.files());
    let certificate = certificate.map_err(|error| fields.wrong("certificate", CONFIG_VALUE, error)).ok();
    match OwnKey::read(&key?, &certificate?) {
        Ok(own) => Some(own),
        Err((Part::Key, message)) => {
            fields.wrong("private_key", CONFIG_VALUE, message);
            None
        }
        Err((Part::Certificate, message)) => {
            fields.wrong("certificate", CONFIG_VALUE, message);
            None
        }
    }
}

/// The description of ourselves, which is our name as well.
pub(super) const METADATA_PATH: &str = "/ngrok/saml/metadata";
/// Where log-outs of the provider, and its answers to ours, go.
pub(super) const LOG_OUT_PATH: &str = "/ngrok/saml/slo";
/// As at ngrok.
const PERSISTENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent";
/// SAML Core, 8.3.6.
const ENTITY_ID_BYTES_MAX: usize = 1024;
const FORMAT_BYTES_MAX: usize = 128;
const GROUPS_MAX: usize = 64;
const GROUP_BYTES_MAX: usize = 256;
