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
mod reception;
mod refresh;
mod result;
pub(super) mod saml;
mod settings;
#[cfg(test)]
mod tests;
mod visit;

use std::sync::Arc;

use http::HeaderName;

use super::super::phase::Step;
use super::super::place::Place;
use super::super::run::Run;
use super::jwt_validation::fetch::Reach;
use super::{Action, Outcome};
use flaw::{Family, Flaw, Wrong};
use flow::Flow;
use provider::Provider;
use reception::{Reception, log_in_path};
use result::Found;
use settings::Settings;
use visit::Visit;

use crate::login::LogIns;

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
            match self.answer(run).await {
                Ok(step) => step,
                Err(flaw) => flaw.into_step(Family::OpenId, &log_in_path(&self.settings.auth_id)),
            }
        }))
    }
}

impl LogIn {
    async fn answer(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let (visit, log_ins) = arrive(run)?;
        if visit.is_preflight && self.settings.allows_preflight {
            self.publish(run, &Found::default(), "");
            return Ok(Step::Next);
        }
        check_encrypted(&visit)?;
        let client = Arc::new(self.settings.client(run)?);
        let binding = self.settings.binding(&visit.host, [&run.state.account, &self.provider.identity()], &client);
        let binding = binding.ok_or_else(|| {
            Flaw::new(Wrong::Own, format!("{} is not of the domain in auth_cookie_domain", visit.host))
        })?;
        let at = Reception {
            log_ins,
            account: Arc::clone(&run.state.account),
            visit,
            binding,
            lifetime: self.settings.lifetime,
            auth_id: &self.settings.auth_id,
            now: run.now.unix_timestamp(),
        };
        Flow { action: self, at, client }.answer(run).await
    }

    fn publish(&self, run: &mut Run<'_, '_, '_>, found: &Found, realm: &str) {
        let value = found.value(realm);
        for name in self.names {
            run.set_result(name, value.clone());
        }
    }
}

/// What every log-in begins with: who comes, and that no other one has judged the request on its way here.
fn arrive(run: &Run<'_, '_, '_>) -> Result<(Visit, Arc<LogIns>), Flaw> {
    let visit = Visit::of(run).ok_or_else(|| Flaw::new(Wrong::Own, "the request has no host"))?;
    let log_ins = run.log_ins().ok_or_else(|| Flaw::new(Wrong::Own, "log-ins are not possible here"))?;
    if !run.state.passage.judge() {
        let reason = "another endpoint that the request came through has a log-in already: one is possible";
        return Err(Flaw::new(Wrong::Own, reason));
    }
    Ok((visit, log_ins))
}

fn check_encrypted(visit: &Visit) -> Result<(), Flaw> {
    if visit.is_encrypted {
        return Ok(());
    }
    Err(Flaw::new(Wrong::Plain, "the visitor's connection is not encrypted"))
}

/// Which providers a policy may name. An agent's must be somewhere that everybody can reach.
fn reach(place: Place) -> Reach {
    if place.is_cloud() { Reach::Anywhere } else { Reach::Public }
}
