//! Log-outs that begin at the provider, and its answers to ours.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::super::super::phase::Step;
use super::super::super::super::run::Run;
use super::super::exchange::shown;
use super::super::flaw::{Flaw, Wrong};
use super::super::flow::{logged_out, respond};
use super::super::result::person;
use super::flow::{Flow, Form, ID_LEN, request_id, send, unpacked};
use super::work::WORK;
use crate::login::LogIns;
use crate::login::saml::asked_log_out::{AskedLogOut, LogOutAnswer, Outcome, Proof};
use crate::login::saml::log_out::read_answer;
use crate::login::saml::metadata::{Address, Binding, Metadata};
use crate::login::saml::session_name;
use crate::login::seal::random;
use crate::login::session::Session;

impl Flow<'_> {
    /// The provider has ended the session, or asks us to.
    pub(super) async fn ended_there(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let form = if self.is_post { Form::read(run).await? } else { self.query()? };
        match form {
            Form { message: None, request: Some(request), relay_state } => {
                self.end_as_asked(run, request, relay_state).await
            }
            Form { message: Some(answer), request: None, .. } => self.answered_there(answer).await,
            Form { .. } => Err(Flaw::new(Wrong::Form, "there is neither a SAMLRequest nor a SAMLResponse, or both")),
        }
    }

    /// What a form has, from a query.
    fn query(&self) -> Result<Form, Flaw> {
        let get = |name: &str| self.at.visit.parameter(name).map_err(|reason| Flaw::new(Wrong::Form, reason));
        let relay_state = get("RelayState")?.unwrap_or_default();
        Ok(Form { message: get("SAMLResponse")?, request: get("SAMLRequest")?, relay_state })
    }

    /// Nothing hangs on the provider's answer but a line of the log: the session here is over already.
    async fn answered_there(&self, answer: String) -> Result<Step, Flaw> {
        let metadata = self.configuration.provider.metadata(self.at.now).await?;
        let is_post = self.is_post;
        let reading = move || Ok::<_, Flaw>(read_answer(&unpacked(&answer, is_post)?, &metadata.entity_id));
        if let Err(refusal) = WORK.run(reading).await?? {
            tracing::info!("the provider may not have ended its session: {}", refusal.reason);
        }
        Ok(respond(logged_out(&self.at.log_in_path())))
    }

    /// Ends the sessions of a person because the provider asks for it, and tells it so.
    async fn end_as_asked(&self, run: &Run<'_, '_, '_>, request: String, relay_state: String) -> Result<Step, Flaw> {
        if relay_state.len() > RELAY_BYTES_MAX {
            return Err(Flaw::new(Wrong::Form, format!("RelayState has more than {RELAY_BYTES_MAX} bytes")));
        }
        let metadata = self.configuration.provider.metadata(self.at.now).await?;
        let asked = self.asked(request, Arc::clone(&metadata)).await?;
        let own = self.at.session(run).filter(|own| is_meant(own, &asked));
        let is_own_meant = own.is_some();
        let outcome = self.end_all(own, &asked, &metadata).await?;
        let mut response = match Metadata::address(&metadata.log_out, Binding::Redirect) {
            Some(address) => {
                let id = random::<ID_LEN>().map_err(|_| Flaw::no_random())?;
                let answer = LogOutAnswer {
                    id: &request_id(&URL_SAFE_NO_PAD.encode(id)),
                    to: &asked.id,
                    destination: address.for_answers(),
                    entity_id: &self.places.entity_id,
                    outcome,
                    now: self.at.now,
                };
                let place = Address { location: address.for_answers().to_owned(), ..address.clone() };
                send(answer.message(), place, relay_state, self.configuration.key.clone()).await?
            }
            None => logged_out(&self.at.log_in_path()),
        };
        // A message about somebody else says nothing of who uses this browser.
        if is_own_meant {
            self.at.clear_session(&mut response.headers);
        }
        Ok(respond(response))
    }

    async fn asked(&self, request: String, metadata: Arc<Metadata>) -> Result<AskedLogOut, Flaw> {
        let (place, now, is_post) = (self.places.log_out.clone(), self.at.now, self.is_post);
        let query = self.at.visit.query().to_owned();
        let reading = move || {
            let proof = if is_post { Proof::InMessage } else { Proof::InQuery(&query) };
            Ok(AskedLogOut::read(&unpacked(&request, is_post)?, proof, &metadata, (&place, now))?)
        };
        WORK.run(reading).await?
    }

    /// Ends the sessions that have begun at this gateway, and the one whose cookie the browser has brought.
    async fn end_all(&self, own: Option<Session>, asked: &AskedLogOut, metadata: &Metadata) -> Result<Outcome, Flaw> {
        let circle = self.circle(metadata);
        let ending = Ending {
            log_ins: Arc::clone(&self.at.log_ins),
            account: Arc::clone(&self.at.account),
            now: self.at.now,
            message: format!("saml log-out {} {}", metadata.entity_id, asked.id),
            expires: asked.expires,
            person: person(&circle, &asked.name),
            names: asked.sessions.iter().map(|name| self.at.provider_session(&circle, name)).collect(),
            own: own.map(|own| (own.id, own.ends)),
            subject: shown(&asked.name).to_string(),
        };
        // A browser that goes away must not leave half of the sessions behind.
        let ended = tokio::spawn(ending.run()).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        ended.map_err(|error| Flaw::new(Wrong::Own, format!("sessions cannot be looked for: {error}")))
    }
}

/// Whether a log-out is about a session. One that has no name at the provider goes with any of its person.
fn is_meant(session: &Session, asked: &AskedLogOut) -> bool {
    let name = &session.identity.provider_session;
    let is_named = || asked.sessions.iter().any(|one| session_name::kept(one) == *name);
    session.identity.subject == asked.name && (asked.sessions.is_empty() || name.is_empty() || is_named())
}

/// The end of the sessions that one message is about.
struct Ending {
    log_ins: Arc<LogIns>,
    account: Arc<str>,
    /// In seconds since 1970.
    now: i64,
    /// What the message is remembered as, and until when.
    message: String,
    expires: i64,
    /// Whose sessions, as they are noted.
    person: String,
    /// Which of them; all when it is empty.
    names: Vec<String>,
    /// The browser's own, if it is meant: its id, and when it ends at the latest.
    own: Option<(String, i64)>,
    /// For the log.
    subject: String,
}

impl Ending {
    /// Ends what can be ended, and remembers the message once that is done: until then the provider may send it again. A
    /// message that comes again after that ends nothing, because what goes on now may have begun later, and is answered with
    /// what is the case.
    async fn run(self) -> io::Result<Outcome> {
        let mut meant = self.meant().await?;
        if self.log_ins.is_spent(&self.message) {
            return Ok(if meant.is_empty() { Outcome::Whole } else { Outcome::Partial });
        }
        let left_over = meant.split_off(meant.len().min(ENDED_MAX)).len();
        let mut ended = 0_usize;
        for (id, ends) in &meant {
            match self.log_ins.end(&self.account, id, *ends, self.now).await {
                Ok(()) => ended += 1,
                Err(error) => tracing::error!("a session that the provider has ended goes on: {error}"),
            }
        }
        tracing::info!(subject = %self.subject, sessions = ended, "logged out by the provider");
        if ended < meant.len() {
            return Ok(Outcome::Partial);
        }
        if let Err(error) = self.log_ins.spend(&self.account, self.message, self.expires, self.now).await {
            tracing::error!("a log-out of the provider is not remembered, and may come again: {error}");
        }
        Ok(if left_over == 0 { Outcome::Whole } else { Outcome::Partial })
    }

    /// The sessions that are meant, with the time when each ends at the latest.
    async fn meant(&self) -> io::Result<Vec<(String, i64)>> {
        let is_named = |name: &String| self.names.is_empty() || name.is_empty() || self.names.contains(name);
        let known = self.log_ins.sessions_of(self.person.clone(), self.now).await?;
        let known = known.into_iter().filter(|one| is_named(&one.provider_session)).map(|one| (one.id, one.ends));
        let known = known.filter(|(id, _)| self.own.as_ref().is_none_or(|(own, _)| own != id));
        Ok(self.own.iter().cloned().chain(known.collect::<Vec<_>>()).collect())
    }
}

/// Sessions of one person that one message ends; each is written down. The provider is told when there are more.
pub(super) const ENDED_MAX: usize = 100;
/// SAML Bindings, 3.4.3, has 80, of which not every provider knows.
const RELAY_BYTES_MAX: usize = 1024;
