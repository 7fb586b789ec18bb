//! `openid-connect`: people log in at an OpenID provider.

use std::sync::Arc;

use super::super::super::error::ISSUER;
use super::super::super::fields::Fields;
use super::super::super::phase::Phase;
use super::super::super::place::Place;
use super::super::{Action, Kind};
use super::openid::OpenId;
use super::provider::Provider;
use super::settings::Settings;
use super::{LogIn, reach};

pub(in super::super) const KIND: Kind = Kind { name: "openid-connect", phases: &[Phase::HttpRequest], compile };
/// The name that some of ngrok's pages have for it.
pub(in super::super) const OIDC: Kind = Kind { name: "oidc", phases: &[Phase::HttpRequest], compile };

fn compile(fields: &mut Fields<'_>, _phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    let reach = reach(place);
    let issuer = fields.required_text("issuer_url", "https://idp.example.com");
    let provider = issuer.map(|issuer| OpenId::new(issuer, reach));
    if let Some(Err(message)) = provider {
        fields.wrong("issuer_url", ISSUER, message);
    }
    let idle = ["idle_session_duration", "idle_session_timeout"];
    let settings = Settings::read(fields, place, &idle, &["openid", "profile", "email"])?;
    if !settings.scopes.iter().any(|scope| &**scope == "openid") {
        fields.wrong("scopes", ISSUER, "must have openid among them: without it there is no ID token");
    }
    let provider = Arc::new(Provider::OpenId(Arc::new(provider?.ok()?)));
    Some(Box::new(LogIn { names: &["oidc", "openid_connect"], settings, provider }))
}
