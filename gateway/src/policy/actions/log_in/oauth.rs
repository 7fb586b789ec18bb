//! `oauth`: people log in at one of the well-known providers, or at one that is given by its addresses.

use std::sync::Arc;

use super::super::super::error::CONFIG_VALUE;
use super::super::super::fields::Fields;
use super::super::super::phase::Phase;
use super::super::super::place::Place;
use super::super::{Action, Kind};
use super::oauth_provider::{self, OAuth};
use super::provider::Provider;
use super::settings::Settings;
use super::{LogIn, reach};

pub(in super::super) const KIND: Kind = Kind { name: "oauth", phases: &[Phase::HttpRequest], compile };

fn compile(fields: &mut Fields<'_>, _phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    let reach = reach(place);
    let name = fields.required_text("provider", "github");
    let known = name.and_then(oauth_provider::known);
    if name.is_some() && known.is_none() {
        fields.wrong("provider", CONFIG_VALUE, format!("must be one of {}", oauth_provider::names()));
    }
    let urls = [fields.text("authorize_url"), fields.text("token_url"), fields.text("userinfo_url")];
    let idle = ["idle_session_timeout", "idle_session_duration"];
    let settings = Settings::read(fields, place, &idle, known.map_or(&[], |known| known.scopes));
    let provider = match OAuth::new(known?, urls, reach) {
        Ok(provider) => Arc::new(Provider::OAuth(Box::new(provider))),
        Err((field, message)) => {
            fields.wrong(field, CONFIG_VALUE, message);
            return None;
        }
    };
    Some(Box::new(LogIn { names: &["oauth"], settings: settings?, provider }))
}
