//! The way of a visitor: to the identity provider, back with its response, through the endpoint with a session, and out.

use std::io::Read;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flate2::read::DeflateDecoder;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};
use time::Duration;

use super::super::super::super::CustomResponse;
use super::super::super::super::expression::query_pairs;
use super::super::super::super::phase::Step;
use super::super::super::super::run::Run;
use super::super::exchange::shown;
use super::super::flow::{ATTEMPTS_MAX, LOG_IN_PATH, LOG_OUT_PATH, append, logged_out, respond, to};
use super::super::settings::Binding as Bound;
use super::super::visit::Visit;
use super::configuration::{ACS_PATH, Configuration, LOG_OUT_ANSWER_PATH, METADATA_PATH, Places};
use super::flaw::{Flaw, Wrong};
use super::identity;
use crate::login::attempt::{self, Attempt};
use crate::login::cookies;
use crate::login::return_path::return_path;
use crate::login::saml::log_out::{LogOutRequest, read_answer};
use crate::login::saml::metadata::{Address, Binding, Metadata};
use crate::login::saml::plain_xml::BYTES_MAX;
use crate::login::saml::request::{LogInRequest, Message, SCRIPT};
use crate::login::saml::response::{Expected, Vouched};
use crate::login::saml::service::{OwnKey, Service, SignError};
use crate::login::seal::random;
use crate::login::session::{Over, Session};
use crate::login::store::{LEEWAY_SECS, Noted, ended, used};
use crate::login::{COOKIES_MAX, LogIns};

/// What one request is answered with.
pub(super) struct Flow<'f> {
    pub(super) configuration: &'f Configuration,
    pub(super) log_ins: &'f LogIns,
    /// Whose the endpoint is.
    pub(super) account: Arc<str>,
    pub(super) visit: Visit,
    pub(super) is_post: bool,
    pub(super) places: Places,
    pub(super) binding: Bound,
    pub(super) now: i64,
}

impl Flow<'_> {
    pub(super) async fn answer(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let auth_id = self.visit.parameter("auth_id").unwrap_or_default();
        let is_ours = auth_id.is_none_or(|id| *id == *self.configuration.auth_id);
        match self.visit.path.as_str() {
            LOG_IN_PATH if is_ours => {
                let asked = self.visit.parameter("redirect_path").unwrap_or_default().unwrap_or_default();
                self.begin(run, return_path(&asked), true).await
            }
            LOG_OUT_PATH if is_ours => self.end(run).await,
            METADATA_PATH => Ok(self.describe()),
            ACS_PATH if self.is_post => self.finish(run).await,
            LOG_OUT_ANSWER_PATH => self.ended_there(run).await,
            _ => self.pass(run).await,
        }
    }

    /// Lets a visitor with a session through, and sends everybody else to the provider.
    async fn pass(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let lifetime = self.configuration.lifetime;
        let session = self.session(run);
        let over = session.as_ref().and_then(|session| {
            let there = session.identity.saml.as_ref().and_then(|saml| saml.ends);
            let is_over_there = there.is_some_and(|ends| self.now >= ends.saturating_add(LEEWAY_SECS));
            session.check(lifetime, self.now).err().or(is_over_there.then_some(Over::Aged))
        });
        let Some(mut session) = session.filter(|_| over.is_none()) else {
            identity::publish(run, None, over, &self.binding.realm);
            return self.begin(run, return_path(&self.visit.way_back()), false).await;
        };
        if session.touch(lifetime, self.now) {
            let line = self.session_line(&session)?;
            run.state.response_headers.push((SET_COOKIE, line));
        }
        identity::publish(run, Some(&session), None, &self.binding.realm);
        Ok(Step::Next)
    }

    /// The session that the visitor's cookie holds, if it was not ended.
    fn session(&self, run: &mut Run<'_, '_, '_>) -> Option<Session> {
        let given = cookies::values(&run.state.own_cookies, &self.binding.session);
        self.log_ins.session(given, &self.binding.session_purpose)
    }

    fn session_line(&self, session: &Session) -> Result<HeaderValue, Flaw> {
        let lifetime = self.configuration.lifetime;
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
        let metadata = self.configuration.provider.metadata(self.now).await?;
        let address = Metadata::address(&metadata.log_in, self.configuration.request_binding);
        let address = address.ok_or_else(|| Flaw::new(Wrong::Metadata, "the provider has no address to log in at"))?;
        if metadata.wants_signed_requests && self.configuration.key.is_none() {
            let reason = "the provider wants signed requests, and the policy has no private_key";
            return Err(Flaw::new(Wrong::Own, reason));
        }
        let attempt = Attempt::begin(path, self.now).map_err(|_| no_random())?;
        let request = LogInRequest {
            id: &request_id(&attempt.id),
            destination: &address.location,
            force: self.configuration.force || is_asked_for,
            now: self.now,
        };
        let key = self.signing_key(metadata.wants_signed_requests);
        let mut response = send(&request.message(&self.service()), address, &attempt.id, key)?;
        let sealed = attempt.seal(&self.log_ins.keys, &self.binding.attempt_purpose).map_err(|_| no_random())?;
        let name = format!("{}{}", self.binding.attempt, attempt.label());
        let time = Duration::seconds(attempt::TIME_SECS);
        // The response comes as a form from the provider's page.
        append(&mut response.headers, cookies::set_across_sites(&name, &sealed, &self.binding.cookies, time));
        // Somebody who opens twenty tabs must not end up with more cookies than a server takes.
        let others = cookies::names_beginning(&run.state.own_cookies, &self.binding.attempt, attempt::LABEL_LEN);
        let others: Vec<&str> = others.take(COOKIES_MAX).collect();
        for old in others.iter().take(others.len().saturating_sub(ATTEMPTS_MAX - 1)) {
            append(&mut response.headers, cookies::clear(old, &self.binding.cookies));
        }
        Ok(respond(response))
    }

    /// Takes the visitor back from the provider.
    async fn finish(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let attempts = cookies::names_beginning(&run.state.own_cookies, &self.binding.attempt, attempt::LABEL_LEN);
        let has_begun = { attempts }.next().is_some();
        if !has_begun && !self.configuration.allows_unsolicited {
            // Before any work is done for it.
            let reason = "this browser has begun no log-in, and allow_idp_initiated is false";
            return Err(Flaw::new(Wrong::Unsolicited, reason));
        }
        let form = Form::read(run).await?;
        let message = form.message.ok_or_else(|| Flaw::new(Wrong::Form, "the form has no SAMLResponse"))?;
        let metadata = self.configuration.provider.metadata(self.now).await?;
        let expected = Expected {
            entity_id: &self.places.entity_id,
            acs: &self.places.acs,
            provider: &metadata.entity_id,
            keys: &metadata.keys,
            own_key: self.configuration.key.as_ref().map(OwnKey::xml),
            now: self.now,
        };
        let vouched = Vouched::read(&decoded(&message)?, expected)?;
        let attempt = self.answered(run, vouched.in_response_to.as_deref(), &form.relay_state)?;
        self.check_anew(vouched.authenticated, attempt.as_ref())?;
        let again = format!("saml {} {}", metadata.entity_id, vouched.assertion);
        if self.log_ins.is_spent(&again) || attempt.as_ref().is_some_and(|one| self.log_ins.is_spent(&used(&one.id))) {
            return Err(reused());
        }
        let until = vouched.expires;
        let identity = identity::of(vouched, self.configuration)?;
        self.spend(again, until).await?;
        if let Some(attempt) = &attempt {
            self.spend(used(&attempt.id), attempt.ends()).await?;
        }
        let session = Session::begin(identity, self.configuration.lifetime, self.now).map_err(|_| no_random())?;
        let path = match &attempt {
            Some(attempt) => return_path(&attempt.path),
            None => self.wanted(&form.relay_state),
        };
        let mut response = to(path).map_err(|flaw| Flaw::new(Wrong::Own, flaw.reason))?;
        response.status = StatusCode::SEE_OTHER;
        append(&mut response.headers, Some(self.session_line(&session)?));
        if let Some(attempt) = &attempt {
            let name = format!("{}{}", self.binding.attempt, attempt.label());
            append(&mut response.headers, cookies::clear(&name, &self.binding.cookies));
        }
        self.note(&session).await?;
        let (endpoint, visitor) = (run.connection().endpoint, run.connection().peer);
        tracing::info!(%endpoint, %visitor, subject = %shown(&session.identity.subject), "logged in");
        Ok(respond(response))
    }

    /// With `force_authn`, the person has to have proved who it is since the log-in began: the wish for it has travelled
    /// through the browser, which could take it out.
    fn check_anew(&self, authenticated: Option<i64>, attempt: Option<&Attempt>) -> Result<(), Flaw> {
        let since = attempt.map_or(self.now, |attempt| attempt.begun).saturating_sub(LEEWAY_SECS);
        if self.configuration.force && authenticated.is_none_or(|at| at < since) {
            let reason = "the person did not log in anew (AuthnInstant), as force_authn wants";
            return Err(Flaw::new(Wrong::Claims, reason));
        }
        Ok(())
    }

    /// The log-in of this browser that the response answers. `None`: it answers none, and need not.
    fn answered(
        &self,
        run: &mut Run<'_, '_, '_>,
        in_response_to: Option<&str>,
        relay_state: &str,
    ) -> Result<Option<Attempt>, Flaw> {
        let Some(request) = in_response_to else {
            if self.configuration.allows_unsolicited {
                return Ok(None);
            }
            return Err(Flaw::new(Wrong::Unsolicited, "nobody asked for the response (allow_idp_initiated is false)"));
        };
        let none = || Flaw::new(Wrong::State, "no log-in of this browser is the one that is answered (InResponseTo)");
        let id = request.strip_prefix(REQUEST_PREFIX).ok_or_else(none)?;
        let name = format!("{}{}", self.binding.attempt, attempt::label(id));
        let mut given = cookies::values(&run.state.own_cookies, &name).take(COOKIES_MAX);
        let open = |text| Attempt::open(&self.log_ins.keys, &self.binding.attempt_purpose, text);
        let attempt = given.find_map(open).filter(|attempt| attempt.id == id).ok_or_else(none)?;
        if relay_state != attempt.id {
            return Err(Flaw::new(Wrong::State, "RelayState is not that of the log-in that is answered"));
        }
        if !attempt.is_open(self.now) {
            return Err(Flaw::new(Wrong::Late, "the log-in was begun too long ago"));
        }
        Ok(Some(attempt))
    }

    /// Where somebody wants to go who comes from the provider: an address of this very name, or a path.
    fn wanted<'p>(&self, relay_state: &'p str) -> &'p str {
        let own = format!("https://{}/", self.visit.authority);
        match relay_state.strip_prefix(own.as_str()) {
            // With the slash before it.
            Some(_) => return_path(relay_state.get(own.len().saturating_sub(1)..).unwrap_or_default()),
            None => return_path(relay_state),
        }
    }

    /// Ends the session: its cookie, wherever there is a copy of it, counts no more.
    async fn end(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let session = self.session(run);
        if let Some(session) = &session {
            let until = session.ends.saturating_add(LEEWAY_SECS);
            // Who is told to be logged out has to be.
            let spent = self.log_ins.spend(&self.account, ended(&session.id), until, self.now).await;
            spent.map_err(|error| Flaw::new(Wrong::Own, error.to_string()))?;
            tracing::info!(subject = %shown(&session.identity.subject), "logged out");
        }
        let mut response = match session.filter(|_| self.configuration.ends_provider_session) {
            Some(session) => self.end_there(&session).await?,
            None => None,
        }
        .unwrap_or_else(|| logged_out(&self.configuration.log_in_path()));
        append(&mut response.headers, cookies::clear(&self.binding.session, &self.binding.cookies));
        Ok(respond(response))
    }

    /// Sends the visitor to the provider, to end its session there. `None`: that is not possible.
    async fn end_there(&self, session: &Session) -> Result<Option<CustomResponse>, Flaw> {
        let Ok(metadata) = self.configuration.provider.metadata(self.now).await else { return Ok(None) };
        let Some(address) = Metadata::address(&metadata.log_out, Binding::Redirect) else { return Ok(None) };
        let id = random::<ID_LEN>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).map_err(|_| no_random())?;
        let session_name = Some(session.identity.provider_session.as_str()).filter(|name| !name.is_empty());
        let request = LogOutRequest {
            id: &request_id(&id),
            destination: &address.location,
            entity_id: &self.places.entity_id,
            subject: &identity::subject(&session.identity),
            session: session_name,
            now: self.now,
        };
        send(&request.message(), address, "", self.configuration.key.as_ref()).map(Some)
    }

    /// The provider has ended the session, or asks us to.
    async fn ended_there(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let message = if self.is_post {
            Form::read(run).await?.message.map(|message| decoded(&message)).transpose()?
        } else {
            let parameter = self.visit.parameter("SAMLResponse").map_err(|reason| Flaw::new(Wrong::Form, reason))?;
            parameter.map(|message| inflated(&decoded(&message)?)).transpose()?
        };
        let message = message.ok_or_else(|| {
            Flaw::new(Wrong::Form, "there is no SAMLResponse; log-outs that begin at the provider are not taken")
        })?;
        let metadata = self.configuration.provider.metadata(self.now).await?;
        if let Err(refusal) = read_answer(&message, &metadata.entity_id) {
            tracing::info!("the provider may not have ended its session: {}", refusal.reason);
        }
        Ok(respond(logged_out(&self.configuration.log_in_path())))
    }

    fn describe(&self) -> Step {
        let mut response = CustomResponse::empty(StatusCode::OK);
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/samlmetadata+xml"));
        response.body = self.service().metadata().into();
        respond(response)
    }

    fn service(&self) -> Service<'_> {
        Service {
            entity_id: &self.places.entity_id,
            acs: &self.places.acs,
            log_out: &self.places.log_out,
            name_format: &self.configuration.name_format,
            signs: self.configuration.signs,
            ends_there: self.configuration.ends_provider_session,
            key: self.configuration.key.as_ref(),
        }
    }

    fn signing_key(&self, is_wanted: bool) -> Option<&OwnKey> {
        self.configuration.key.as_ref().filter(|_| self.configuration.signs || is_wanted)
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

    async fn spend(&self, what: String, until: i64) -> Result<(), Flaw> {
        match self.log_ins.spend(&self.account, what, until, self.now).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(reused()),
            Err(error) => Err(Flaw::new(Wrong::Own, error.to_string())),
        }
    }
}

/// The fields of a form that a provider's page has posted.
#[derive(Default)]
struct Form {
    message: Option<String>,
    relay_state: String,
}

impl Form {
    async fn read(run: &Run<'_, '_, '_>) -> Result<Self, Flaw> {
        let wrong = |reason: &str| Flaw::new(Wrong::Form, reason);
        let payload = run.state.payload.clone().ok_or_else(|| wrong("the body cannot be read here"))?;
        let body = payload.read(&run.state.account).await.map_err(|fault| Flaw::new(Wrong::Form, fault.to_string()))?;
        let text = std::str::from_utf8(&body).map_err(|_| wrong("the form is not ASCII"))?;
        let (mut message, mut relay_state) = (None, None);
        for (name, value) in query_pairs(text) {
            let place = match name.as_str() {
                "SAMLResponse" => &mut message,
                "RelayState" => &mut relay_state,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(wrong("a field is there more than once"));
            }
        }
        Ok(Self { message, relay_state: relay_state.unwrap_or_default() })
    }
}

fn decoded(message: &str) -> Result<Vec<u8>, Flaw> {
    if message.len() > BASE64_BYTES_MAX {
        return Err(Flaw::new(Wrong::Form, format!("the message has more than {BYTES_MAX} bytes")));
    }
    let text: String = message.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|_| Flaw::new(Wrong::Form, "the message is not base64"))
}

fn inflated(packed: &[u8]) -> Result<Vec<u8>, Flaw> {
    let mut text = Vec::new();
    let mut deflate = DeflateDecoder::new(packed).take(BYTES_MAX as u64 + 1);
    // What is too long is refused by its reader.
    deflate.read_to_end(&mut text).map_err(|_| Flaw::new(Wrong::Form, "the message cannot be unpacked"))?;
    Ok(text)
}

/// A response that takes a message to the provider.
fn send(message: &Message, address: &Address, relay: &str, key: Option<&OwnKey>) -> Result<CustomResponse, Flaw> {
    let unsigned = |_: SignError| Flaw::new(Wrong::Own, "a message cannot be signed");
    if address.binding == Binding::Redirect {
        let url = message.redirect(&address.location, relay, key).map_err(unsigned)?;
        return to(&url).map_err(|flaw| Flaw::new(Wrong::Own, flaw.reason));
    }
    let mut response = CustomResponse::empty(StatusCode::OK);
    response.body = message.page(&address.location, relay, key).map_err(unsigned)?.into();
    let script = STANDARD.encode(digest(&SHA256, SCRIPT.as_bytes()));
    let policy = HeaderValue::from_str(&format!("default-src 'none'; script-src 'sha256-{script}'"));
    response.headers.extend(policy.ok().map(|policy| (CONTENT_SECURITY_POLICY, policy)));
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// An ID of XML cannot begin with a digit.
fn request_id(id: &str) -> String {
    format!("{REQUEST_PREFIX}{id}")
}

fn no_random() -> Flaw {
    Flaw::new(Wrong::Own, "the operating system gave no random bytes")
}

fn reused() -> Flaw {
    Flaw::new(Wrong::Reused, "the log-in was used before")
}

const REQUEST_PREFIX: &str = "_";
const ID_LEN: usize = 16;
/// With line feeds in between.
const BASE64_BYTES_MAX: usize = BYTES_MAX / 3 * 4 + BYTES_MAX / 32;
