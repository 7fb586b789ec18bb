//! The way of a visitor: to the identity provider, back with its response, through the endpoint with a session, and out.

use std::io::Read;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flate2::read::DeflateDecoder;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};

use super::super::super::super::CustomResponse;
use super::super::super::super::expression::query_pairs;
use super::super::super::super::phase::Step;
use super::super::super::super::run::{Run, Subject};
use super::super::exchange::shown;
use super::super::flaw::{Flaw, Wrong};
use super::super::flow::{logged_out, respond, to};
use super::super::reception::{ComesBack, Reception, Wish};
use super::super::settings::realm;
use super::configuration::{Configuration, LOG_OUT_PATH as LOG_OUT_PLACE, METADATA_PATH, Places};
use super::identity;
use super::work::WORK;
use crate::login::attempt::Attempt;
use crate::login::hand_over::{self, ACS_PATH, Party};
use crate::login::return_path::return_path;
use crate::login::saml::log_out::LogOutRequest;
use crate::login::saml::metadata::{Address, Binding, Metadata};
use crate::login::saml::plain_xml::BYTES_MAX;
use crate::login::saml::request::{LogInRequest, Message, SCRIPT};
use crate::login::saml::response::{Expected, Vouched};
use crate::login::saml::service::{OwnKey, Service};
use crate::login::saml::session_name;
use crate::login::seal::random;
use crate::login::session::{Over, Session};
use crate::login::store::{LEEWAY_SECS, used};

/// What one request is answered with.
pub(super) struct Flow<'f> {
    pub(super) configuration: &'f Configuration,
    pub(super) at: Reception<'f>,
    pub(super) is_post: bool,
    pub(super) places: Places,
}

impl Flow<'_> {
    pub(super) async fn answer(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        match (self.at.wish(), self.at.visit.path.as_str()) {
            (Some(Wish::LogIn(path)), _) => self.begin(run, &path, true).await,
            (Some(Wish::LogOut), _) => self.end(run).await,
            (None, METADATA_PATH) => Ok(self.describe()),
            (None, ACS_PATH) if self.is_post => self.finish(run).await,
            (None, LOG_OUT_PLACE) => self.ended_there(run).await,
            (None, _) => self.pass(run).await,
        }
    }

    /// Lets a visitor with a session through, and sends everybody else to the provider.
    async fn pass(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let lifetime = self.at.lifetime;
        let session = self.at.session(run);
        let over = session.as_ref().and_then(|session| {
            let is_over_there = ends_there(session).is_some_and(|ends| self.at.now >= ends);
            session.check(lifetime, self.at.now).err().or(is_over_there.then_some(Over::Aged))
        });
        let Some(mut session) = session.filter(|_| over.is_none()) else {
            identity::publish(run, None, over, &self.at.binding.realm);
            return self.begin(run, return_path(&self.at.visit.way_back()), false).await;
        };
        if session.touch(lifetime, self.at.now) {
            let line = self.at.session_line(&session)?;
            run.state.response_headers.push((SET_COOKIE, line));
        }
        let ends = session.ends(lifetime);
        self.at.admit(run, &session, ends_there(&session).map_or(ends, |there| there.min(ends)));
        if let Subject::Request(request) = &mut run.subject {
            let headers = &mut request.head.headers;
            self.configuration.identity_headers.say(&session, &self.at.binding.realm, headers);
        }
        identity::publish(run, Some(&session), None, &self.at.binding.realm);
        Ok(Step::Next)
    }

    /// Sends the visitor to the provider.
    async fn begin(&self, run: &mut Run<'_, '_, '_>, path: &str, is_asked_for: bool) -> Result<Step, Flaw> {
        self.at.check_is_page()?;
        let metadata = self.configuration.provider.metadata(self.at.now).await?;
        let address = Metadata::address(&metadata.log_in, self.configuration.request_binding);
        let address = address.ok_or_else(|| Flaw::new(Wrong::Metadata, "the provider has no address to log in at"))?;
        if metadata.wants_signed_requests && self.configuration.key.is_none() {
            let reason = "the provider wants signed requests, and the policy has no private_key";
            return Err(Flaw::new(Wrong::Own, reason));
        }
        let attempt = Attempt::begin(path, self.at.now).map_err(|_| Flaw::no_random())?;
        let request = LogInRequest {
            id: &request_id(&attempt.id),
            destination: &address.location,
            force: self.configuration.force || is_asked_for,
            now: self.at.now,
        };
        let key = self.signing_key(metadata.wants_signed_requests);
        let message = request.message(&self.service());
        let mut response = send(message, address.clone(), self.relay_state(&attempt)?, key).await?;
        self.at.keep_attempt(run, &attempt, ComesBack::WithForm, &mut response.headers)?;
        Ok(respond(response))
    }

    /// Whether log-ins may begin at the provider. With a callback host they cannot: nothing would say at which endpoint.
    fn allows_unsolicited(&self) -> bool {
        self.configuration.allows_unsolicited && self.at.log_ins.callback_host.is_none()
    }

    /// Takes the visitor back from the provider.
    async fn finish(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        if !self.at.has_attempts(run) && !self.allows_unsolicited() {
            // Before any work is done for it.
            let reason = "this browser has begun no log-in, and allow_idp_initiated is false";
            return Err(Flaw::new(Wrong::Unsolicited, reason));
        }
        let form = Form::read(run).await?;
        let message = form.message.ok_or_else(|| Flaw::new(Wrong::Form, "the form has no SAMLResponse"))?;
        let metadata = self.configuration.provider.metadata(self.at.now).await?;
        let vouched = self.vouched(message, Arc::clone(&metadata)).await?;
        let attempt = self.answered(run, vouched.in_response_to.as_deref(), &form.relay_state)?;
        self.check_anew(vouched.authenticated, attempt.as_ref())?;
        let again = format!("saml {} {}", metadata.entity_id, vouched.assertion);
        let log_ins = &self.at.log_ins;
        if log_ins.is_spent(&again) || attempt.as_ref().is_some_and(|one| log_ins.is_spent(&used(&one.id))) {
            return Err(Flaw::new(Wrong::Reused, "the log-in was used before"));
        }
        let until = vouched.expires;
        let identity = identity::of(vouched, self.configuration)?;
        self.at.spend(again, until).await?;
        if let Some(attempt) = &attempt {
            self.at.spend(used(&attempt.id), attempt.ends()).await?;
        }
        let session = Session::begin(identity, self.at.lifetime, self.at.now).map_err(|_| Flaw::no_random())?;
        let path = match &attempt {
            Some(attempt) => return_path(&attempt.path),
            None => self.wanted(&form.relay_state),
        };
        let mut response = to(path)?;
        response.status = StatusCode::SEE_OTHER;
        let circle = self.circle(&metadata);
        self.at.settle(run, (&session, &circle), attempt.as_ref(), &mut response.headers).await?;
        Ok(respond(response))
    }

    async fn vouched(&self, message: String, metadata: Arc<Metadata>) -> Result<Vouched, Flaw> {
        let Places { entity_id, acs, .. } = self.places.clone();
        let (own_key, now) = (self.configuration.key.clone(), self.at.now);
        let reading = move || {
            let expected = Expected {
                entity_id: &entity_id,
                acs: &acs,
                provider: &metadata.entity_id,
                keys: &metadata.keys,
                own_key: own_key.as_deref().map(OwnKey::xml),
                now,
            };
            Ok(Vouched::read(&decoded(&message)?, expected)?)
        };
        WORK.run(reading).await?
    }

    /// With `force_authn`, the person has to have proved who it is since the log-in began: the wish for it has travelled
    /// through the browser, which could take it out.
    fn check_anew(&self, authenticated: Option<i64>, attempt: Option<&Attempt>) -> Result<(), Flaw> {
        let since = attempt.map_or(self.at.now, |attempt| attempt.begun).saturating_sub(LEEWAY_SECS);
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
            if self.allows_unsolicited() {
                return Ok(None);
            }
            return Err(Flaw::new(Wrong::Unsolicited, "nobody asked for the response (allow_idp_initiated is false)"));
        };
        let none = || Flaw::new(Wrong::State, "no log-in of this browser is the one that is answered (InResponseTo)");
        let id = request.strip_prefix(REQUEST_PREFIX).ok_or_else(none)?;
        let attempt = self.at.attempt(run, id).ok_or_else(none)?;
        if !self.is_relay_state_of(&attempt, relay_state) {
            return Err(Flaw::new(Wrong::State, "RelayState is not that of the log-in that is answered"));
        }
        if !attempt.is_open(self.at.now) {
            return Err(Flaw::new(Wrong::Late, "the log-in was begun too long ago"));
        }
        Ok(Some(attempt))
    }

    /// What the provider brings back with its response. With a callback host, it says there to which endpoint that belongs.
    fn relay_state(&self, attempt: &Attempt) -> Result<String, Flaw> {
        if self.at.log_ins.callback_host.is_none() {
            return Ok(attempt.id.clone());
        }
        let mark = self.configuration.mark();
        let (party, home) = (self.party(&mark), (&*attempt.id, &*self.at.visit.authority));
        hand_over::state(&self.at.log_ins.keys, party, home, attempt.ends()).map_err(|_| Flaw::no_random())
    }

    fn is_relay_state_of(&self, attempt: &Attempt, relay_state: &str) -> bool {
        if self.at.log_ins.callback_host.is_none() {
            return relay_state == attempt.id;
        }
        let mark = self.configuration.mark();
        let (party, home) = (self.party(&mark), (&*attempt.id, &*self.at.visit.authority));
        // A log-in that is late has a reason of its own, so the clock counts there.
        hand_over::is_state_of(&self.at.log_ins.keys, party, home, relay_state, attempt.begun)
    }

    fn party<'p>(&'p self, client: &'p str) -> Party<'p> {
        Party { account: &self.at.account, client }
    }

    /// Where somebody wants to go who comes from the provider: an address of this very name, or a path.
    fn wanted<'p>(&self, relay_state: &'p str) -> &'p str {
        let own = format!("https://{}/", self.at.visit.authority);
        match relay_state.strip_prefix(own.as_str()) {
            // With the slash before it.
            Some(_) => return_path(relay_state.get(own.len().saturating_sub(1)..).unwrap_or_default()),
            None => return_path(relay_state),
        }
    }

    /// Ends the session: its cookie, wherever there is a copy of it, counts no more.
    async fn end(&self, run: &mut Run<'_, '_, '_>) -> Result<Step, Flaw> {
        let session = self.at.session(run);
        if let Some(session) = &session {
            self.at.end(&session.id, session.ends).await?;
            tracing::info!(subject = %shown(&session.identity.subject), "logged out");
        }
        let mut response = match session.filter(|_| self.configuration.ends_provider_session) {
            Some(session) => self.end_there(&session).await?,
            None => None,
        }
        .unwrap_or_else(|| logged_out(&self.at.log_in_path()));
        self.at.clear_session(&mut response.headers);
        Ok(respond(response))
    }

    /// Sends the visitor to the provider, to end its session there. `None`: that is not possible.
    async fn end_there(&self, session: &Session) -> Result<Option<CustomResponse>, Flaw> {
        let Ok(metadata) = self.configuration.provider.metadata(self.at.now).await else { return Ok(None) };
        let Some(address) = Metadata::address(&metadata.log_out, Binding::Redirect) else { return Ok(None) };
        let id = random::<ID_LEN>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).map_err(|_| Flaw::no_random())?;
        let request = LogOutRequest {
            id: &request_id(&id),
            destination: &address.location,
            entity_id: &self.places.entity_id,
            subject: &identity::subject(&session.identity),
            session: session_name::sent(&session.identity.provider_session),
            now: self.at.now,
        };
        send(request.message(), address.clone(), String::new(), self.configuration.key.clone()).await.map(Some)
    }

    /// Tells the people of this provider apart, at all names of the account that have our name in common. The groups that a
    /// policy asks for and the way in which it names the metadata do not matter to a log-out of the provider.
    pub(super) fn circle(&self, metadata: &Metadata) -> String {
        realm(&["saml people", &self.at.account, &metadata.entity_id, &self.places.entity_id])
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
            key: self.configuration.key.as_deref(),
        }
    }

    fn signing_key(&self, is_wanted: bool) -> Option<Arc<OwnKey>> {
        self.configuration.key.clone().filter(|_| self.configuration.signs || is_wanted)
    }
}

/// The fields of a form that a provider's page has posted.
#[derive(Default)]
pub(super) struct Form {
    /// `SAMLResponse`.
    pub(super) message: Option<String>,
    /// `SAMLRequest`.
    pub(super) request: Option<String>,
    pub(super) relay_state: String,
}

impl Form {
    pub(super) async fn read(run: &Run<'_, '_, '_>) -> Result<Self, Flaw> {
        let wrong = |reason: &str| Flaw::new(Wrong::Form, reason);
        let payload = run.state.payload.clone().ok_or_else(|| wrong("the body cannot be read here"))?;
        let body = payload.read(&run.state.account).await.map_err(|fault| Flaw::new(Wrong::Form, fault.to_string()))?;
        let text = std::str::from_utf8(&body).map_err(|_| wrong("the form is not ASCII"))?;
        let (mut message, mut request, mut relay_state) = (None, None, None);
        for (name, value) in query_pairs(text) {
            let place = match name.as_str() {
                "SAMLResponse" => &mut message,
                "SAMLRequest" => &mut request,
                "RelayState" => &mut relay_state,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(wrong("a field is there more than once"));
            }
        }
        Ok(Self { message, request, relay_state: relay_state.unwrap_or_default() })
    }
}

fn decoded(message: &str) -> Result<Vec<u8>, Flaw> {
    if message.len() > BASE64_BYTES_MAX {
        return Err(Flaw::new(Wrong::Form, format!("the message has more than {BYTES_MAX} bytes")));
    }
    let text: String = message.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|_| Flaw::new(Wrong::Form, "the message is not base64"))
}

/// The XML of a message that came with a form, or in a query.
pub(super) fn unpacked(message: &str, is_post: bool) -> Result<Vec<u8>, Flaw> {
    let bytes = decoded(message)?;
    if is_post { Ok(bytes) } else { inflated(&bytes) }
}

fn inflated(packed: &[u8]) -> Result<Vec<u8>, Flaw> {
    let mut text = Vec::new();
    let mut deflate = DeflateDecoder::new(packed).take(BYTES_MAX as u64 + 1);
    // What is too long is refused by its reader.
    deflate.read_to_end(&mut text).map_err(|_| Flaw::new(Wrong::Form, "the message cannot be unpacked"))?;
    Ok(text)
}

/// A response that takes a message to the provider.
pub(super) async fn send(
    message: Message,
    address: Address,
    relay: String,
    key: Option<Arc<OwnKey>>,
) -> Result<CustomResponse, Flaw> {
    let binding = address.binding;
    let signing = move || match binding {
        Binding::Redirect => message.redirect(&address.location, &relay, key.as_deref()),
        Binding::Post => message.page(&address.location, &relay, key.as_deref()),
    };
    let signed = WORK.run(signing).await?.map_err(|_| Flaw::new(Wrong::Own, "a message cannot be signed"))?;
    if binding == Binding::Redirect {
        return to(&signed);
    }
    let mut response = CustomResponse::empty(StatusCode::OK);
    response.body = signed.into();
    let script = STANDARD.encode(digest(&SHA256, SCRIPT.as_bytes()));
    let policy = HeaderValue::from_str(&format!("default-src 'none'; script-src 'sha256-{script}'"));
    response.headers.extend(policy.ok().map(|policy| (CONTENT_SECURITY_POLICY, policy)));
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// An ID of XML cannot begin with a digit.
pub(super) fn request_id(id: &str) -> String {
    format!("{REQUEST_PREFIX}{id}")
}

/// When the session at the provider is over, if it says so.
fn ends_there(session: &Session) -> Option<i64> {
    let ends = session.identity.saml.as_ref().and_then(|saml| saml.ends);
    ends.map(|ends| ends.saturating_add(LEEWAY_SECS))
}

const REQUEST_PREFIX: &str = "_";
pub(super) const ID_LEN: usize = 16;
/// With line feeds in between.
const BASE64_BYTES_MAX: usize = BYTES_MAX / 3 * 4 + BYTES_MAX / 32;
