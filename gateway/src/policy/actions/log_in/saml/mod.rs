//! `saml`: people log in at an identity provider that speaks SAML 2.0.

mod configuration;
mod description;
mod flaw;
mod flow;
mod identity;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;

use super::super::super::phase::{Phase, Step};
use super::super::super::run::{Run, Subject};
use super::super::{Action, Kind, Outcome};
use super::settings::{Binding, realm};
use super::visit::Visit;
use configuration::Configuration;
use flaw::{Flaw, Wrong};
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

    fn asks(&self) -> Option<String> {
        self.0.provider.url().map(|url| format!("the metadata of an identity provider at {url}"))
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::Later(Box::pin(async move {
            match self.answer(run).await {
                Ok(step) => step,
                Err(flaw) => flaw.into_step(&self.0.log_in_path()),
            }
        }))
    }
}

impl Saml {
    async fn answer(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let now = run.now.unix_timestamp();
        let visit = Visit::of(run).ok_or_else(|| Flaw::new(Wrong::Own, "the request has no host"))?;
        let log_ins = run.log_ins().ok_or_else(|| Flaw::new(Wrong::Own, "log-ins are not possible here"))?;
        if run.state.is_log_in_taken.swap(true, Ordering::Relaxed) {
            let reason = "another endpoint that the request came through has a log-in already: one is possible";
            return Err(Flaw::new(Wrong::Own, reason));
        }
        if visit.is_preflight && self.0.allows_preflight {
            identity::publish(run, None, None, "");
            return Ok(Step::Next);
        }
        if !visit.is_encrypted {
            return Err(Flaw::new(Wrong::Plain, "the visitor's connection is not encrypted"));
        }
        let places = self.0.places(&visit.authority);
        let groups = self.0.authorized_groups.join("\n");
        let attribute = self.0.groups_attribute.as_deref().unwrap_or_default();
        let provider = self.0.provider.identity();
        let realm = realm(&[&run.state.account, "saml", &provider, &places.entity_id, &groups, attribute]);
        let binding = Binding::of(&visit.host, &self.0.cookies, &self.0.auth_id, realm).ok_or_else(|| {
            Flaw::new(Wrong::Own, format!("{} is not of the domain in auth_cookie_domain", visit.host))
        })?;
        let is_post = matches!(&run.subject, Subject::Request(request) if request.head.method == Method::POST);
        let account = Arc::clone(&run.state.account);
        let flow = Flow { configuration: &self.0, log_ins: &log_ins, account, visit, is_post, places, binding, now };
        flow.answer(run).await
    }
}
