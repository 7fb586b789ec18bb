//! `openid-connect` and `oauth`: lets through whoever has logged in at a provider, and sends everybody else there.

mod exchange;
mod flaw;
mod flow;
mod identity_headers;
pub(super) mod oauth;
mod oauth_provider;
mod openid;
pub(super) mod openid_connect;
mod provider;
mod refresh;
mod result;
pub(super) mod saml;
mod settings;
#[cfg(test)]
mod tests;
mod visit;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderName;

use super::super::phase::Step;
use super::super::place::Place;
use super::super::run::Run;
use super::jwt_validation::fetch::Reach;
use super::{Action, Outcome};
use flaw::{Flaw, Wrong};
use flow::Flow;
use provider::Provider;
use result::Found;
use settings::Settings;
use visit::Visit;

/// One action of either type.
#[derive(Debug)]
struct LogIn {
    /// The names under `actions.ngrok` at which later rules find what is known.
    names: &'static [&'static str],
    settings: Settings,
    provider: Arc<Provider>,
}

impl Action for LogIn {
    fn protects(&self) -> bool {
        true
    }

    fn logs_in(&self) -> bool {
        true
    }

    fn tells_upstream_in(&self) -> Vec<HeaderName> {
        self.settings.identity_headers.names()
    }

    fn asks(&self) -> Option<String> {
        Some(format!("the log-in provider {}", self.provider.name()))
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::Later(Box::pin(async move {
            let retry = &mut String::from("/");
            match self.answer(run, retry).await {
                Ok(step) => step,
                Err(flaw) => flaw.into_step(retry),
            }
        }))
    }
}

impl LogIn {
    async fn answer(&self, run: &mut Run<'_, '_, '_>, retry: &mut String) -> Result<Step, Flaw> {
        let now = run.now.unix_timestamp();
        let visit = Visit::of(run).ok_or_else(|| Flaw::new(Wrong::Own, "the request has no host"))?;
        let log_ins = run.log_ins().ok_or_else(|| Flaw::new(Wrong::Own, "log-ins are not possible here"))?;
        if run.state.is_log_in_taken.swap(true, Ordering::Relaxed) {
            let reason = "another endpoint that the request came through has a log-in already: one is possible";
            return Err(Flaw::new(Wrong::Own, reason));
        }
        if visit.is_preflight && self.settings.allows_preflight {
            self.publish(run, &Found::default(), "");
            return Ok(Step::Next);
        }
        if !visit.is_encrypted {
            return Err(Flaw::new(Wrong::Plain, "the visitor's connection is not encrypted"));
        }
        let client = Arc::new(self.settings.client(run)?);
        let binding = self.settings.binding(&visit.host, [&run.state.account, &self.provider.identity()], &client);
        let binding = binding.ok_or_else(|| {
            Flaw::new(Wrong::Own, format!("{} is not of the domain in auth_cookie_domain", visit.host))
        })?;
        let account = Arc::clone(&run.state.account);
        let flow = Flow { action: self, log_ins: &log_ins, account, visit, client, binding, now };
        *retry = flow.log_in_path();
        flow.answer(run).await
    }

    fn publish(&self, run: &mut Run<'_, '_, '_>, found: &Found, realm: &str) {
        let value = found.value(realm);
        for name in self.names {
            run.set_result(name, value.clone());
        }
    }
}

/// Which providers a policy may name. An agent's must be somewhere that everybody can reach.
fn reach(place: Place) -> Reach {
    if place.is_cloud() { Reach::Anywhere } else { Reach::Public }
}
