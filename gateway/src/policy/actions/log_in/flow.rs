//! The way of a visitor: to the provider, back with a code, through the endpoint with a session, and out.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use subtle::ConstantTimeEq;
use time::Duration;

use super::super::super::phase::Step;
use super::super::super::run::{Run, Subject};
use super::super::super::{CustomResponse, Verdict};
use super::LogIn;
use super::exchange::{NoAnswer, shown};
use super::flaw::{Flaw, Wrong};
use super::refresh::Refresh;
use super::result::Found;
use super::settings::{Binding, Client};
use super::visit::Visit;
use crate::login::attempt::{self, Attempt};
use crate::login::cookies;
use crate::login::hand_over::{self, CALLBACK_PATH, Party, Said};
use crate::login::query::form_text;
use crate::login::return_path::return_path;
use crate::login::seal::SealError;
use crate::login::session::Session;
use crate::login::store::{LEEWAY_SECS, Noted, ended, used};
use crate::login::tokens::Tokens;
use crate::login::{COOKIES_MAX, LogIns};

/// What one request is answered with.
pub(super) struct Flow<'f> {
    pub(super) action: &'f LogIn,
    pub(super) log_ins: &'f LogIns,
    /// The account that the endpoint belongs to.
    pub(super) account: Arc<str>,
    pub(super) visit: Visit,
    pub(super) client: Arc<Client>,
    pub(super) binding: Binding,
    pub(super) now: i64,
}

impl Flow<'_> {
    pub(super) async fn answer(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let auth_id = self.visit.parameter("auth_id").unwrap_or_default();
        let is_ours = auth_id.is_none_or(|id| *id == *self.action.settings.auth_id);
        match self.visit.path.as_str() {
            LOG_IN_PATH if is_ours => {
                let asked = self.visit.parameter("redirect_path").unwrap_or_default().unwrap_or_default();
                self.begin(run, return_path(&asked), true).await
            }
            LOG_OUT_PATH if is_ours => self.end(run).await,
            CALLBACK_PATH => self.finish(run).await,
            _ => self.pass(run).await,
        }
    }

    /// Lets a visitor with a session through, and sends everybody else to the provider.
    async fn pass(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let settings = &self.action.settings;
        let session = self.session(run);
        let over = session.as_ref().and_then(|session| session.check(settings.lifetime, self.now).err());
        let Some(mut session) = session.filter(|_| over.is_none()) else {
            self.action.publish(run, &Found { over, ..Found::default() }, &self.binding.realm);
            return self.begin(run, return_path(&self.visit.way_back()), false).await;
        };
        let mut is_changed = session.touch(settings.lifetime, self.now);
        let mut found = Found { over, ..Found::default() };
        let kept = self.log_ins.tokens().find(&session.id);
        if let Some(refresh) = self.refresh(&session) {
            match refresh.run(&mut session, kept.clone()).await {
                Ok(()) => (is_changed, found.is_refreshed) = (true, true),
                Err(NoAnswer::Flaw(flaw)) => return Err(flaw),
                Err(NoAnswer::Expired(reason)) => {
                    tracing::info!(reason, "a session could not be refreshed: log-in again");
                    // An older copy of its cookie must not pass for it either.
                    if kept.is_some() {
                        self.spend(ended(&session.id), session.ends.saturating_add(LEEWAY_SECS), Wrong::Own).await?;
                        self.log_ins.tokens().remove(&session.id);
                    }
                    return self.begin(run, return_path(&self.visit.way_back()), false).await;
                }
            }
        }
        if let Some(kept) = &kept {
            found.tokens = kept.lock().await.tokens.clone();
        }
        if is_changed {
            self.keep(run, &session)?;
        }
        if let Subject::Request(request) = &mut run.subject {
            settings.identity_headers.say(&session, &self.binding.realm, &mut request.head.headers);
        }
        found.session = Some(session);
        self.action.publish(run, &found, &self.binding.realm);
        Ok(Step::Next)
    }

    /// What it takes to ask the provider anew, if it is time to.
    fn refresh(&self, session: &Session) -> Option<Refresh> {
        let every = self.action.settings.refresh?.whole_seconds();
        if self.now.saturating_sub(session.asked) < every {
            return None;
        }
        let (provider, wanted) = (Arc::clone(&self.action.provider), Arc::clone(&self.action.settings.wanted));
        Some(Refresh { provider, client: Arc::clone(&self.client), wanted, now: self.now, every })
    }

    /// The session that the visitor's cookie holds, if it was not ended.
    fn session(&self, run: &mut Run<'_, '_, '_>) -> Option<Session> {
        let given = cookies::values(&run.state.own_cookies, &self.binding.session);
        self.log_ins.session(given, &self.binding.session_purpose)
    }

    /// Writes the session's cookie with the response.
    fn keep(&self, run: &mut Run<'_, '_, '_>, session: &Session) -> Result<(), Flaw> {
        let line = self.session_line(session)?;
        run.state.response_headers.push((SET_COOKIE, line));
        Ok(())
    }

    fn session_line(&self, session: &Session) -> Result<HeaderValue, Flaw> {
        let lifetime = self.action.settings.lifetime;
        let sealed = session.seal(&self.log_ins.keys, &self.binding.session_purpose);
        let sealed = sealed.map_err(|_| Flaw::new(Wrong::Large, "the session does not fit into a cookie"))?;
        let rest = Duration::seconds(session.ends(lifetime).saturating_sub(self.now)).min(lifetime.idle);
        let line = cookies::set(&self.binding.session, &sealed, &self.binding.cookies, rest);
        line.ok_or_else(|| Flaw::new(Wrong::Own, "the cookie cannot be written"))
    }

    /// Sends the visitor to the provider.
    async fn begin(&self, run: &mut Run<'_, '_, '_>, path: &str, is_asked_for: bool) -> Result<Step, Flaw> {
        if !self.visit.is_page {
            return Err(Flaw::new(
                Wrong::Anonymous,
                "not logged in, and not a page that could be sent to the provider",
            ));
        }
        let own = |_| Flaw::new(Wrong::Own, "the operating system gave no random bytes");
        let attempt = Attempt::begin(path, self.now).map_err(own)?;
        let challenge = attempt.challenge();
        let (scope, redirect) = (self.action.settings.scopes.join(" "), self.redirect());
        let state = self.state(&attempt).map_err(own)?;
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
        let sealed = attempt.seal(&self.log_ins.keys, &self.binding.attempt_purpose).map_err(own)?;
        let name = format!("{}{}", self.binding.attempt, attempt.label());
        let time = Duration::seconds(attempt::TIME_SECS);
        append(&mut response.headers, cookies::set(&name, &sealed, &self.binding.cookies, time));
        // Somebody who opens twenty tabs must not end up with more cookies than a server takes.
        let others = cookies::names_beginning(&run.state.own_cookies, &self.binding.attempt, attempt::LABEL_LEN);
        let others: Vec<&str> = others.take(COOKIES_MAX).collect();
        // Browsers send the oldest first.
        for old in others.iter().take(others.len().saturating_sub(ATTEMPTS_MAX - 1)) {
            append(&mut response.headers, cookies::clear(old, &self.binding.cookies));
        }
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
        if self.log_ins.is_spent(&used(&attempt.id)) {
            return Err(Flaw::new(Wrong::Reused, "the log-in was used before"));
        }
        let (redirect, wanted) = (self.redirect(), &*self.action.settings.wanted);
        let redeemed = self.action.provider.redeem(&code, &attempt, (&self.client, &redirect, wanted), self.now).await;
        let (identity, tokens) = redeemed?;
        // Only now: whoever has no account at the provider must not fill the table.
        self.spend(used(&attempt.id), attempt.ends(), Wrong::Reused).await?;
        let session = Session::begin(identity, self.action.settings.lifetime, self.now);
        let session = session.map_err(|_| Flaw::new(Wrong::Own, "the operating system gave no random bytes"))?;
        let mut response = to(return_path(&attempt.path))?;
        response.status = StatusCode::SEE_OTHER;
        append(&mut response.headers, Some(self.session_line(&session)?));
        let name = format!("{}{}", self.binding.attempt, attempt.label());
        append(&mut response.headers, cookies::clear(&name, &self.binding.cookies));
        self.note(&session).await?;
        self.log_ins.tokens().put(&self.account, &session.id, tokens);
        let (endpoint, visitor) = (run.connection().endpoint, run.connection().peer);
        tracing::info!(%endpoint, %visitor, subject = %shown(&session.identity.subject), "logged in");
        Ok(respond(response))
    }

    /// What `state` has to be: with a callback host, it says there to which endpoint the log-in belongs.
    fn state(&self, attempt: &Attempt) -> Result<String, SealError> {
        if self.log_ins.callback_host.is_none() {
            return Ok(attempt.id.clone());
        }
        let home = (&*attempt.id, &*self.visit.authority);
        hand_over::state(&self.log_ins.keys, self.party(&self.mark()), home, attempt.ends())
    }

    /// The log-in that this browser has begun, and what the provider says of it.
    fn said(&self, run: &mut Run<'_, '_, '_>) -> Result<(Attempt, Said), Flaw> {
        let parameter = |name: &str| {
            self.visit.parameter(name).map_err(|reason| Flaw::new(Wrong::State, format!("callback: {reason}")))
        };
        let state = parameter("state")?.ok_or_else(|| Flaw::new(Wrong::State, "the callback has no state"))?;
        let attempt = self.attempt(run, &state)?;
        if !attempt.is_open(self.now) {
            return Err(Flaw::new(Wrong::Late, "the log-in was begun too long ago"));
        }
        if self.log_ins.callback_host.is_some() {
            let ticket = parameter("ticket")?;
            let ticket =
                ticket.ok_or_else(|| Flaw::new(Wrong::State, "the callback did not come by the callback host"))?;
            let home = (&*attempt.id, &*self.visit.authority);
            let said = hand_over::open(&self.log_ins.keys, self.party(&self.mark()), home, &ticket, self.now);
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

    /// Notes the session for whoever runs the gateway.
    async fn note(&self, session: &Session) -> Result<(), Flaw> {
        let noted = Noted {
            id: session.id.clone(),
            account: self.account.to_string(),
            host: self.visit.host.clone(),
            subject: session.identity.subject.clone(),
            email: session.identity.email.clone(),
            begun: session.begun,
            ends: session.ends,
        };
        let written = self.log_ins.note(noted, self.now).await;
        written.map_err(|error| Flaw::new(Wrong::Own, format!("the session cannot be written down: {error}")))
    }

    /// The log-in that this browser has begun, if it is the one that the callback is about.
    fn attempt(&self, run: &mut Run<'_, '_, '_>, state: &str) -> Result<Attempt, Flaw> {
        let name = format!("{}{}", self.binding.attempt, attempt::label(state));
        let none = || Flaw::new(Wrong::State, "no log-in of this browser has this state");
        let mut given = cookies::values(&run.state.own_cookies, &name).take(COOKIES_MAX);
        let open = |text| Attempt::open(&self.log_ins.keys, &self.binding.attempt_purpose, text);
        let attempt = given.find_map(open).ok_or_else(none)?;
        if bool::from(attempt.id.as_bytes().ct_eq(state.as_bytes())) { Ok(attempt) } else { Err(none()) }
    }

    /// Ends the session: its cookie, wherever there is a copy of it, counts no more.
    async fn end(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let mut hint = Tokens::default();
        if let Some(session) = self.session(run) {
            let until = session.ends.saturating_add(LEEWAY_SECS);
            // Who is told to be logged out has to be.
            self.spend(ended(&session.id), until, Wrong::Own).await?;
            let kept = self.log_ins.tokens().find(&session.id);
            if let Some(kept) = kept {
                hint = kept.lock().await.tokens.clone();
            }
            self.log_ins.tokens().remove(&session.id);
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
            None => logged_out(&self.log_in_path()),
        };
        append(&mut response.headers, cookies::clear(&self.binding.session, &self.binding.cookies));
        Ok(respond(response))
    }

    async fn spend(&self, what: String, until: i64, again: Wrong) -> Result<(), Flaw> {
        match self.log_ins.spend(&self.account, what, until, self.now).await {
            Ok(true) => Ok(()),
            // A log-out that came twice.
            Ok(false) if again == Wrong::Own => Ok(()),
            Ok(false) => Err(Flaw::new(again, "the log-in was used before")),
            Err(error) => Err(Flaw::new(Wrong::Own, error.to_string())),
        }
    }

    fn mark(&self) -> String {
        hand_over::mark(&self.action.provider.identity(), &self.client.id)
    }

    fn party<'p>(&'p self, client: &'p str) -> Party<'p> {
        Party { account: &self.account, client }
    }

    /// Where the provider sends people back to.
    fn redirect(&self) -> String {
        match &self.log_ins.callback_host {
            Some(host) => host.redirect(self.party(&self.mark())),
            None => format!("https://{}{CALLBACK_PATH}", self.visit.authority),
        }
    }

    /// Where a visitor can try again.
    pub(super) fn log_in_path(&self) -> String {
        match &*self.action.settings.auth_id {
            "" => LOG_IN_PATH.into(),
            id => format!("{LOG_IN_PATH}?auth_id={id}"),
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

pub(super) fn append(headers: &mut HeaderMap, line: Option<HeaderValue>) {
    if let Some(line) = line {
        headers.append(SET_COOKIE, line);
    }
}

/// As at ngrok.
pub(super) const LOG_IN_PATH: &str = "/ngrok/login";
pub(super) const LOG_OUT_PATH: &str = "/ngrok/logout";
/// Log-ins of one browser that may be under way at the same time.
pub(super) const ATTEMPTS_MAX: usize = 4;
/// Providers' codes have up to some hundred bytes; those of Microsoft 2 KiB.
const CODE_BYTES_MAX: usize = 4096;
