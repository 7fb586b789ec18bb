//! The way of a visitor: to the provider, back with a code, through the endpoint with a session, and out.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderValue, StatusCode};

use super::super::super::phase::Step;
use super::super::super::run::{Run, Subject};
use super::super::super::{CustomResponse, Verdict};
use super::LogIn;
use super::exchange::{NoAnswer, shown};
use super::flaw::{Flaw, Wrong};
use super::reception::{ComesBack, Reception, Wish};
use super::refresh::Refresh;
use super::result::Found;
use super::settings::Client;
use crate::login::attempt::Attempt;
use crate::login::hand_over::{self, CALLBACK_PATH, Party, Said};
use crate::login::query::form_text;
use crate::login::return_path::return_path;
use crate::login::seal::SealError;
use crate::login::session::Session;
use crate::login::store::used;
use crate::login::tokens::Tokens;

/// What one request is answered with.
pub(super) struct Flow<'f> {
    pub(super) action: &'f LogIn,
    pub(super) at: Reception<'f>,
    pub(super) client: Arc<Client>,
}

impl Flow<'_> {
    pub(super) async fn answer(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        match (self.at.wish(), self.at.visit.path.as_str()) {
            (Some(Wish::LogIn(path)), _) => self.begin(run, &path, true).await,
            (Some(Wish::LogOut), _) => self.end(run).await,
            (None, CALLBACK_PATH) => self.finish(run).await,
            (None, _) => self.pass(run).await,
        }
    }

    /// Lets a visitor with a session through, and sends everybody else to the provider.
    async fn pass(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let settings = &self.action.settings;
        let session = self.at.session(run);
        let over = session.as_ref().and_then(|session| session.check(settings.lifetime, self.at.now).err());
        let Some(mut session) = session.filter(|_| over.is_none()) else {
            self.action.publish(run, &Found { over, ..Found::default() }, &self.at.binding.realm);
            return self.begin(run, return_path(&self.at.visit.way_back()), false).await;
        };
        let mut is_changed = session.touch(settings.lifetime, self.at.now);
        let mut found = Found { over, ..Found::default() };
        let kept = self.at.log_ins.tokens().find(&session.id);
        if let Some(refresh) = self.refresh(&session) {
            match refresh.run(&mut session, kept.clone()).await {
                Ok(()) => (is_changed, found.is_refreshed) = (true, true),
                Err(NoAnswer::Flaw(flaw)) => return Err(flaw),
                Err(NoAnswer::Expired(reason)) => {
                    tracing::info!(reason, "a session could not be refreshed: log-in again");
                    // An older copy of its cookie must not pass for it either.
                    if kept.is_some() {
                        self.at.end(&session.id, session.ends).await?;
                    }
                    return self.begin(run, return_path(&self.at.visit.way_back()), false).await;
                }
            }
        }
        if let Some(kept) = &kept {
            found.tokens = kept.lock().await.tokens.clone();
        }
        if is_changed {
            let line = self.at.session_line(&session)?;
            run.state.response_headers.push((SET_COOKIE, line));
        }
        self.at.admit(run, &session, session.ends(settings.lifetime));
        if let Subject::Request(request) = &mut run.subject {
            settings.identity_headers.say(&session, &self.at.binding.realm, &mut request.head.headers);
        }
        found.session = Some(session);
        self.action.publish(run, &found, &self.at.binding.realm);
        Ok(Step::Next)
    }

    /// What it takes to ask the provider anew, if it is time to.
    fn refresh(&self, session: &Session) -> Option<Refresh> {
        let every = self.action.settings.refresh?.whole_seconds();
        if self.at.now.saturating_sub(session.asked) < every {
            return None;
        }
        let (provider, wanted) = (Arc::clone(&self.action.provider), Arc::clone(&self.action.settings.wanted));
        Some(Refresh { provider, client: Arc::clone(&self.client), wanted, now: self.at.now, every })
    }

    /// Sends the visitor to the provider.
    async fn begin(&self, run: &mut Run<'_, '_, '_>, path: &str, is_asked_for: bool) -> Result<Step, Flaw> {
        self.at.check_is_page()?;
        let attempt = Attempt::begin(path, self.at.now).map_err(|_| Flaw::no_random())?;
        let challenge = attempt.challenge();
        let (scope, redirect) = (self.action.settings.scopes.join(" "), self.redirect());
        let state = self.state(&attempt).map_err(|_| Flaw::no_random())?;
        let mut fields = vec![
            ("response_type", "code"),
            ("client_id", &*self.client.id),
            ("redirect_uri", &*redirect),
            ("scope", &*scope),
            ("state", &*state),
            ("nonce", &*attempt.nonce),
            ("code_challenge", &*challenge),
            ("code_challenge_method", "S256"),
        ];
        let parameters = self.action.settings.parameters(run)?;
        if is_asked_for && !parameters.iter().any(|(name, _)| *name == "prompt") {
            fields.push(("prompt", "login"));
        }
        fields.extend(parameters.iter().map(|(name, value)| (*name, &**value)));
        let provider = self.action.provider.authorize().await?;
        let mut response = to(&with_query(&provider.to_string(), &fields))?;
        self.at.keep_attempt(run, &attempt, ComesBack::ByRedirect, &mut response.headers)?;
        Ok(respond(response))
    }

    /// Takes the visitor back from the provider.
    async fn finish(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let (attempt, said) = self.said(run)?;
        self.action.provider.check_issuer(said.iss.as_deref()).await?;
        if let Some(error) = said.error {
            let described = said.error_description.unwrap_or_default();
            let wrong = match error.as_str() {
                "access_denied" | "login_required" | "consent_required" | "interaction_required" => Wrong::Declined,
                "server_error" | "temporarily_unavailable" => Wrong::Unreachable,
                _ => Wrong::Provider,
            };
            return Err(Flaw::new(wrong, format!("the provider says: {} {}", shown(&error), shown(&described))));
        }
        let code = said.code.filter(|code| !code.is_empty() && code.len() <= CODE_BYTES_MAX);
        let code = code.ok_or_else(|| Flaw::new(Wrong::Provider, "the callback has no code that could be used"))?;
        if self.at.log_ins.is_spent(&used(&attempt.id)) {
            return Err(Flaw::new(Wrong::Reused, "the log-in was used before"));
        }
        let (redirect, wanted) = (self.redirect(), &*self.action.settings.wanted);
        let redeemed =
            self.action.provider.redeem(&code, &attempt, (&self.client, &redirect, wanted), self.at.now).await;
        let (identity, tokens) = redeemed?;
        // Only now: whoever has no account at the provider must not fill the table.
        self.at.spend(used(&attempt.id), attempt.ends()).await?;
        let session = Session::begin(identity, self.at.lifetime, self.at.now).map_err(|_| Flaw::no_random())?;
        let mut response = to(return_path(&attempt.path))?;
        response.status = StatusCode::SEE_OTHER;
        let begun = (&session, &*self.at.binding.realm);
        self.at.settle(run, begun, Some(&attempt), &mut response.headers).await?;
        self.at.log_ins.tokens().put(&self.at.account, &session.id, tokens);
        Ok(respond(response))
    }

    /// What `state` has to be: with a callback host, it says there to which endpoint the log-in belongs.
    fn state(&self, attempt: &Attempt) -> Result<String, SealError> {
        if self.at.log_ins.callback_host.is_none() {
            return Ok(attempt.id.clone());
        }
        let home = (&*attempt.id, &*self.at.visit.authority);
        hand_over::state(&self.at.log_ins.keys, self.party(&self.mark()), home, attempt.ends())
    }

    /// The log-in that this browser has begun, and what the provider says of it.
    fn said(&self, run: &mut Run<'_, '_, '_>) -> Result<(Attempt, Said), Flaw> {
        let parameter = |name: &str| {
            self.at.visit.parameter(name).map_err(|reason| Flaw::new(Wrong::State, format!("callback: {reason}")))
        };
        let state = parameter("state")?.ok_or_else(|| Flaw::new(Wrong::State, "the callback has no state"))?;
        let none = || Flaw::new(Wrong::State, "no log-in of this browser has this state");
        let attempt = self.at.attempt(run, &state).ok_or_else(none)?;
        if !attempt.is_open(self.at.now) {
            return Err(Flaw::new(Wrong::Late, "the log-in was begun too long ago"));
        }
        if self.at.log_ins.callback_host.is_some() {
            let ticket = parameter("ticket")?;
            let ticket =
                ticket.ok_or_else(|| Flaw::new(Wrong::State, "the callback did not come by the callback host"))?;
            let home = (&*attempt.id, &*self.at.visit.authority);
            let said = hand_over::open(&self.at.log_ins.keys, self.party(&self.mark()), home, &ticket, self.at.now);
            let none = || Flaw::new(Wrong::State, "the ticket is not for this log-in at this endpoint, or too old");
            return Ok((attempt, said.ok_or_else(none)?));
        }
        let said = Said {
            code: parameter("code")?,
            error: parameter("error")?,
            error_description: parameter("error_description")?,
            iss: parameter("iss")?,
        };
        Ok((attempt, said))
    }

    /// Ends the session: its cookie, wherever there is a copy of it, counts no more.
    async fn end(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let mut hint = Tokens::default();
        if let Some(session) = self.at.session(run) {
            let kept = self.at.log_ins.tokens().find(&session.id);
            self.at.end(&session.id, session.ends).await?;
            if let Some(kept) = kept {
                hint = kept.lock().await.tokens.clone();
            }
            tracing::info!(subject = %shown(&session.identity.subject), "logged out");
        }
        let provider = match self.action.settings.ends_provider_session {
            true => self.action.provider.end_session().await,
            false => None,
        };
        let mut response = match provider {
            Some(uri) => {
                let mut fields = vec![("client_id", &*self.client.id)];
                if !hint.identity.is_empty() {
                    fields.push(("id_token_hint", &*hint.identity));
                }
                to(&with_query(&uri.to_string(), &fields))?
            }
            None => logged_out(&self.at.log_in_path()),
        };
        self.at.clear_session(&mut response.headers);
        Ok(respond(response))
    }

    fn mark(&self) -> String {
        hand_over::mark(&self.action.provider.identity(), &self.client.id)
    }

    fn party<'p>(&'p self, client: &'p str) -> Party<'p> {
        Party { account: &self.at.account, client }
    }

    /// Where the provider sends people back to.
    fn redirect(&self) -> String {
        match &self.at.log_ins.callback_host {
            Some(host) => host.redirect(self.party(&self.mark())),
            None => format!("https://{}{CALLBACK_PATH}", self.at.visit.authority),
        }
    }
}

pub(super) fn respond(response: CustomResponse) -> Step {
    Step::End(Verdict::Respond(Arc::new(response)))
}

pub(super) fn to(url: &str) -> Result<CustomResponse, Flaw> {
    let line = HeaderValue::from_str(url).map_err(|_| Flaw::new(Wrong::Own, "an address cannot be written"))?;
    let mut response = CustomResponse::empty(StatusCode::FOUND);
    response.headers.insert(LOCATION, line);
    response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn with_query(url: &str, fields: &[(&str, &str)]) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{}", form_text(fields))
}

pub(super) fn logged_out(log_in: &str) -> CustomResponse {
    let mut response = CustomResponse::empty(StatusCode::OK);
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Logged out</title>\n<h1>You are logged out</h1>\n<p>You may \
         still be logged in at the provider.</p>\n<p><a href=\"{log_in}\">Log in again</a></p>\n"
    );
    response.body = page.into();
    response
}

/// As at ngrok.
pub(super) const LOG_IN_PATH: &str = "/ngrok/login";
pub(super) const LOG_OUT_PATH: &str = "/ngrok/logout";
/// Providers' codes have up to some hundred bytes; those of Microsoft 2 KiB.
const CODE_BYTES_MAX: usize = 4096;
