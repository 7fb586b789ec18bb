//! `saml`: people log in at an identity provider that speaks SAML 2.0.

mod configuration;
mod description;
mod flow;
mod identity;
mod log_out;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;

use http::{HeaderName, Method};

use super::super::super::phase::{Phase, Step};
use super::super::super::run::{Run, Subject};
use super::super::{Action, Kind, Outcome};
use super::flaw::{Family, Flaw, Wrong};
use super::reception::{Reception, log_in_path};
use super::settings::{Binding, realm};
use super::{arrive, check_encrypted};
use configuration::Configuration;
use flow::Flow;

pub(in super::super) const KIND: Kind =
    Kind { name: "saml", phases: &[Phase::HttpRequest], compile: configuration::compile };

#[derive(Debug)]
struct Saml(Configuration);

impl Action for Saml {
    fn protects(&self) -> bool {
        true
    }

    fn logs_in(&self) -> bool {
        true
    }

    fn tells_upstream_in(&self) -> Vec<HeaderName> {
        self.0.identity_headers.names()
    }

    fn asks(&self) -> Option<String> {
        self.0.provider.url().map(|url| format!("the metadata of an identity provider at {url}"))
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::Later(Box::pin(async move {
            match self.answer(run).await {
                Ok(step) => step,
                Err(flaw) => flaw.into_step(Family::Saml, &log_in_path(&self.0.auth_id)),
            }
        }))
    }
}

impl Saml {
    async fn answer(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let (visit, log_ins) = arrive(run)?;
        if visit.is_preflight && self.0.allows_preflight {
            identity::publish(run, None, None, "");
            return Ok(Step::Next);
        }
        check_encrypted(&visit)?;
        let callback_host = log_ins.callback_host.as_ref();
        let places = self.0.places(&visit.authority, &run.state.account, callback_host);
        let groups = self.0.authorized_groups.join("\n");
        let attribute = self.0.groups_attribute.as_deref().unwrap_or_default();
        let provider = self.0.provider.identity();
        let realm = realm(&[&run.state.account, "saml", &provider, &places.entity_id, &groups, attribute]);
        let binding = Binding::of(&visit.host, &self.0.cookies, &self.0.auth_id, realm).ok_or_else(|| {
            Flaw::new(Wrong::Own, format!("{} is not of the domain in auth_cookie_domain", visit.host))
        })?;
        let is_post = matches!(&run.subject, Subject::Request(request) if request.head.method == Method::POST);
        let at = Reception {
            log_ins,
            account: Arc::clone(&run.state.account),
            visit,
            binding,
            lifetime: self.0.lifetime,
            auth_id: &self.0.auth_id,
            now: run.now.unix_timestamp(),
        };
        Flow { configuration: &self.0, at, is_post, places }.answer(run).await
    }
}
