//! What all kinds of log-in do alike for one request: sessions and log-ins under way in cookies, and what is remembered.

use std::sync::Arc;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq;
use time::Duration;

use super::super::super::run::Run;
use super::exchange::shown;
use super::flaw::{Flaw, Wrong};
use super::flow::{LOG_IN_PATH, LOG_OUT_PATH};
use super::result::person;
use super::settings::Binding;
use super::visit::Visit;
use crate::login::attempt::{self, Attempt};
use crate::login::cookies;
use crate::login::return_path::return_path;
use crate::login::saml::session_name;
use crate::login::session::{Lifetime, Session};
use crate::login::store::Noted;
use crate::login::term::Term;
use crate::login::{COOKIES_MAX, LogIns};

/// What a request comes with, and what sessions are bound to.
pub(super) struct Reception<'f> {
    pub(super) log_ins: Arc<LogIns>,
    /// The account that the endpoint belongs to.
    pub(super) account: Arc<str>,
    pub(super) visit: Visit,
    pub(super) binding: Binding,
    pub(super) lifetime: Lifetime,
    pub(super) auth_id: &'f str,
    /// In seconds since 1970.
    pub(super) now: i64,
}

/// From where a browser has to bring the cookie of a log-in back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ComesBack {
    /// By a redirect.
    ByRedirect,
    /// With a form of the provider's page.
    WithForm,
}

/// What a visitor wants of the log-in itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To log in anew, and to go there.
    LogIn(String),
    LogOut,
}

impl Reception<'_> {
    /// What the visitor wants of this log-in itself, and of none with another `auth_id`.
    pub(super) fn wish(&self) -> Option<Wish> {
        let auth_id = self.visit.parameter("auth_id").unwrap_or_default();
        if auth_id.is_some_and(|id| id != self.auth_id) {
            return None;
        }
        match self.visit.path.as_str() {
            LOG_IN_PATH => {
                let asked = self.visit.parameter("redirect_path").unwrap_or_default().unwrap_or_default();
                Some(Wish::LogIn(return_path(&asked).to_owned()))
            }
            LOG_OUT_PATH => Some(Wish::LogOut),
            _ => None,
        }
    }

    /// Where a visitor can try again.
    pub(super) fn log_in_path(&self) -> String {
        log_in_path(self.auth_id)
    }

    /// Refuses what cannot be sent to a provider.
    pub(super) fn check_is_page(&self) -> Result<(), Flaw> {
        if self.visit.is_page {
            return Ok(());
        }
        Err(Flaw::new(Wrong::Anonymous, "not logged in, and not a page that could be sent to the provider"))
    }

    /// The session that the visitor's cookie holds, if it was not ended.
    pub(super) fn session(&self, run: &Run<'_, '_, '_>) -> Option<Session> {
        let given = cookies::values(&run.state.own_cookies, &self.binding.session);
        self.log_ins.session(given, &self.binding.session_purpose)
    }

    /// Lets the request through, until `ends` at the latest.
    pub(super) fn admit(&self, run: &Run<'_, '_, '_>, session: &Session, ends: i64) {
        run.state.passage.admit(Term::new(&self.log_ins, session, self.lifetime, (ends, self.now)));
    }

    /// The line that writes the session's cookie.
    pub(super) fn session_line(&self, session: &Session) -> Result<HeaderValue, Flaw> {
        let sealed = session.seal(&self.log_ins.keys, &self.binding.session_purpose);
        let sealed = sealed.map_err(|_| Flaw::new(Wrong::Large, "the session does not fit into a cookie"))?;
        let rest = Duration::seconds(session.ends(self.lifetime).saturating_sub(self.now)).min(self.lifetime.idle);
        let line = cookies::set(&self.binding.session, &sealed, &self.binding.cookies, rest);
        line.ok_or_else(|| Flaw::new(Wrong::Own, "the cookie cannot be written"))
    }

    /// Writes the cookie of a log-in that begins, and takes the oldest ones away: somebody who opens twenty tabs must not
    /// end up with more cookies than a server takes.
    pub(super) fn keep_attempt(
        &self,
        run: &Run<'_, '_, '_>,
        attempt: &Attempt,
        comes_back: ComesBack,
        headers: &mut HeaderMap,
    ) -> Result<(), Flaw> {
        let sealed = attempt.seal(&self.log_ins.keys, &self.binding.attempt_purpose).map_err(|_| Flaw::no_random())?;
        let name = format!("{}{}", self.binding.attempt, attempt.label());
        let set = match comes_back {
            ComesBack::ByRedirect => cookies::set,
            ComesBack::WithForm => cookies::set_across_sites,
        };
        append(headers, set(&name, &sealed, &self.binding.cookies, Duration::seconds(attempt::TIME_SECS)));
        let others = cookies::names_beginning(&run.state.own_cookies, &self.binding.attempt, attempt::LABEL_LEN);
        let others: Vec<&str> = others.take(COOKIES_MAX).collect();
        // Browsers send the oldest first.
        for old in others.iter().take(others.len().saturating_sub(ATTEMPTS_MAX - 1)) {
            append(headers, cookies::clear(old, &self.binding.cookies));
        }
        Ok(())
    }

    /// Whether this browser has begun any log-in.
    pub(super) fn has_attempts(&self, run: &Run<'_, '_, '_>) -> bool {
        cookies::names_beginning(&run.state.own_cookies, &self.binding.attempt, attempt::LABEL_LEN).next().is_some()
    }

    /// The log-in of this id that this browser has begun.
    pub(super) fn attempt(&self, run: &Run<'_, '_, '_>, id: &str) -> Option<Attempt> {
        let name = format!("{}{}", self.binding.attempt, attempt::label(id));
        let mut given = cookies::values(&run.state.own_cookies, &name).take(COOKIES_MAX);
        let open = |text| Attempt::open(&self.log_ins.keys, &self.binding.attempt_purpose, text);
        let attempt = given.find_map(open)?;
        bool::from(attempt.id.as_bytes().ct_eq(id.as_bytes())).then_some(attempt)
    }

    /// Begins a session: notes it for whoever runs the gateway, and writes its cookie in the place of the log-in's. `circle`
    /// tells the people of the provider apart from all others.
    pub(super) async fn settle(
        &self,
        run: &Run<'_, '_, '_>,
        (session, circle): (&Session, &str),
        attempt: Option<&Attempt>,
        headers: &mut HeaderMap,
    ) -> Result<(), Flaw> {
        append(headers, Some(self.session_line(session)?));
        if let Some(attempt) = attempt {
            let name = format!("{}{}", self.binding.attempt, attempt.label());
            append(headers, cookies::clear(&name, &self.binding.cookies));
        }
        let noted = Noted {
            id: session.id.clone(),
            account: self.account.to_string(),
            host: self.visit.host.clone(),
            subject: session.identity.subject.clone(),
            email: session.identity.email.clone(),
            begun: session.begun,
            ends: session.ends,
            person: person(circle, &session.identity.subject),
            provider_session: self.provider_session(circle, &session.identity.provider_session),
        };
        let written = self.log_ins.note(noted, self.now).await;
        written.map_err(|error| Flaw::new(Wrong::Own, format!("the session cannot be written down: {error}")))?;
        let (endpoint, visitor) = (run.connection().endpoint, run.connection().peer);
        tracing::info!(%endpoint, %visitor, subject = %shown(&session.identity.subject), "logged in");
        Ok(())
    }

    /// Ends a session: its cookie, wherever there is a copy of it, counts no more. Who is told to be logged out has to be.
    pub(super) async fn end(&self, id: &str, ends: i64) -> Result<(), Flaw> {
        self.log_ins.end(&self.account, id, ends, self.now).await.map_err(own)
    }

    /// What tells a session at the provider apart, for notes; empty if it has no name.
    pub(super) fn provider_session(&self, circle: &str, name: &str) -> String {
        if name.is_empty() { String::new() } else { person(circle, &format!("session {}", session_name::kept(name))) }
    }

    /// Takes the cookie of the session away.
    pub(super) fn clear_session(&self, headers: &mut HeaderMap) {
        append(headers, cookies::clear(&self.binding.session, &self.binding.cookies));
    }

    /// Spends what counts once.
    pub(super) async fn spend(&self, what: String, until: i64) -> Result<(), Flaw> {
        match self.log_ins.spend(&self.account, what, until, self.now).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Flaw::new(Wrong::Reused, "the log-in was used before")),
            Err(error) => Err(own(error)),
        }
    }
}

/// Where a visitor can try again.
pub(super) fn log_in_path(auth_id: &str) -> String {
    match auth_id {
        "" => LOG_IN_PATH.into(),
        id => format!("{LOG_IN_PATH}?auth_id={id}"),
    }
}

fn own(error: impl ToString) -> Flaw {
    Flaw::new(Wrong::Own, error.to_string())
}

fn append(headers: &mut HeaderMap, line: Option<HeaderValue>) {
    if let Some(line) = line {
        headers.append(SET_COOKIE, line);
    }
}

/// Log-ins of one browser that may be under way at the same time.
pub(super) const ATTEMPTS_MAX: usize = 4;
