//! One request of a visitor and its response.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adit::endpoint_url::Scheme;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::Front;
use super::body::{Relay, RequestBody, ResponseBody};
use super::callback;
use super::errand::Errand;
use super::failure::{Failure, Format};
use super::headers::{self, Framing};
use super::inbound::Inbound;
use super::io::{Activity, UnderWay};
use super::limits::CONTINUE_TIME;
use super::payload::Ahead;
use super::reach::{Reach, Target};
use super::remainder::Remainder;
use super::stay::Stay;
use super::tunnel;
use super::upstream::{Key, Lease, Outgoing, Streams};
use crate::access_log::{Guest, Visit};
use crate::login::cookies;
use crate::login::term::Passage;
use crate::policy::{
    Bodyless, Compression, CustomResponse, ERRAND_HOPS_MAX, ERRAND_LOOP, Errands, NOT_LOGGED_IN, Refused, Tls, Tools,
    Verdict, Withheld,
};
use crate::route::{self, Asked, Decision, Trail};

/// One visitor's connection, as all requests on it see it.
#[derive(Debug)]
pub(super) struct Client<R> {
    pub(super) reach: Arc<R>,
    pub(super) front: Front,
    pub(super) streams: Arc<Streams>,
    pub(super) errands: Arc<Errand<R>>,
    pub(super) activity: Arc<Activity>,
    /// Who it is in what is noted of its requests, where that is done.
    pub(super) guest: Option<Arc<Guest>>,
    /// Set once the connection speaks another protocol than HTTP.
    pub(super) switched: Arc<AtomicBool>,
    /// Set when the connection has to be reset instead of closed.
    pub(super) cut: Arc<AtomicBool>,
}

/// The connection is to be closed without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the policy closes the connection")
    }
}

impl std::error::Error for Closed {}

impl<R: Reach> Client<R> {
    /// Answers one request.
    ///
    /// # Errors
    ///
    /// [`Closed`] when a policy does not want it answered.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<ResponseBody>, Closed> {
        let under_way = self.activity.begin();
        let format = Format::preferred(request.headers());
        let (mut head, body) = request.into_parts();
        let version = head.version;
        let is_bare = version == Version::HTTP_2 && head.method == Method::HEAD;
        let waiting = self.activity.wait();
        if body.is_end_stream() {
            head.extensions.insert(Bodyless);
        }
        let payload = Arc::new(Ahead::new(body));
        // Before any policy runs, and whatever it does: nobody but a log-in has a use for them.
        let own_cookies = Arc::new(cookies::take(&mut head.headers));
        let log_ins = self.reach.log_ins();
        let hops = headers::take_hops(&mut head.headers);
        let errands: Arc<dyn Errands> = match hops {
            0 => self.errands.clone(),
            _ => Arc::new(self.errands.after(hops)),
        };
        let tools =
            Tools { payload: Some(payload.clone()), errands: Some(errands), log_ins, own_cookies, ..Tools::default() };
        let mut trail = Trail::with(tools);
        let passage = trail.passage();
        let asks_first = version == Version::HTTP_11 && headers::has_token(&head.headers, &EXPECT, "100-continue");
        let outcome = self.outcome(&mut head, &payload, hops, &mut trail).await;
        drop(waiting);
        let rest = payload.rest(asks_first).await;
        match outcome {
            Ok(Outcome::Relay(mut head, upstream)) => {
                trail.complete(&mut head.headers);
                Ok(self.relay(head, upstream, under_way, version).map(|body| body.within(self.stay(passage))))
            }
            Ok(Outcome::Switch(response, lease, switch)) => {
                let stay = self.stay(passage);
                Ok(self.switch(response, lease, switch, stay, under_way, format))
            }
            Ok(Outcome::Own(mut head, body)) => {
                trail.complete(&mut head.headers);
                let body = if is_bare { without_body(&mut head, &body) } else { body };
                Ok(own(head, body, under_way).map(|body| body.with_rest(rest)))
            }
            Err(End::Failed(failure)) => {
                let (mut head, body) = failure.response(format).into_parts();
                let body = if is_bare { without_body(&mut head, &body) } else { body };
                Ok(own(head, body, under_way).map(|body| body.with_rest(rest)))
            }
            Err(End::Closed) => Err(Closed),
        }
    }

    /// Asks the policies, and the agent if they say so.
    async fn outcome(
        &self,
        head: &mut http::request::Parts,
        body: &Ahead,
        hops: u8,
        trail: &mut Trail,
    ) -> Result<Outcome, End> {
        let inbound = Inbound::take(head)?;
        if hops > ERRAND_HOPS_MAX {
            return Err(Failure::Policy(Box::new(Refused::new(StatusCode::LOOP_DETECTED, ERRAND_LOOP, CIRCLE))).into());
        }
        if let Some(proof) = self.proof(&inbound, head) {
            return Ok(Outcome::own(&proof));
        }
        if let Some(answer) = self.callback(&inbound, head, body).await {
            return answer.map(|response| Outcome::own(&response)).map_err(|refused| Failure::Policy(refused).into());
        }
        let visit = head.extensions.get::<Arc<Visit>>().cloned();
        let asked = Asked { visit: visit.as_deref(), ..self.asked(&inbound) };
        trail.came_to(&inbound.host_line);
        headers::settle_connection(&mut head.headers);
        // HTTP/2 has the name elsewhere; policies find and change it here.
        head.headers.insert(HOST, inbound.host_line.clone());
        let decision = route::request(&*self.reach, &asked, head, trail).await.map_err(|refusal| {
            tracing::debug!(host = inbound.host, %refusal, "a request has no place to go");
            trail.settle(true);
            Failure::from(refusal)
        })?;
        let custom = match decision {
            Decision::Target(target) => {
                let copy = trail.wants_response().then(|| copy_of(head));
                let (stay, withheld) = (self.stay(trail.passage()), trail.withheld());
                let answer = tokio::select! {
                    answer = self.forward(&inbound, &target, taken(head), (body, withheld), hops) => answer,
                    // An upload may take as long as it likes.
                    () = stay.session_over() => Err(session_over()),
                };
                let has_failed = match &answer {
                    Ok(answer) => Some(answer.response.status().is_server_error()),
                    Err(failure) => failure.is_of_service().then_some(true),
                };
                has_failed.into_iter().for_each(|has_failed| trail.settle(has_failed));
                return match answer? {
                    Answer { response, lease, switch: Some(switch), .. } => {
                        let (mut head, incoming) = response.into_parts();
                        // Any other verdict drops the lease, and with it the stream.
                        if let Some(request) = &copy {
                            match trail.respond(&asked, request, &mut head).await {
                                Verdict::Continue => {}
                                verdict => return instead(verdict),
                            }
                        }
                        Ok(Outcome::Switch(Response::from_parts(head, incoming), lease, switch))
                    }
                    Answer { response, lease, remainder, switch: None } => {
                        let (mut head, incoming) = response.into_parts();
                        headers::prepare_response(&mut head.headers);
                        head.version = Version::HTTP_11;
                        let upstream = Upstream { incoming, lease, remainder };
                        respond(head, upstream, &asked, trail, copy).await
                    }
                };
            }
            Decision::Deny { status } => return Ok(Outcome::own(&CustomResponse::empty(status))),
            Decision::Refuse(refused) => return Err(Failure::Policy(refused).into()),
            Decision::Respond(response) => response,
            Decision::Close | Decision::TerminateTls(_) => return Err(End::Closed),
        };
        let Outcome::Own(mut own, body) = Outcome::own(&custom) else { return Err(End::Closed) };
        match trail.respond(&asked, head, &mut own).await {
            Verdict::Continue => Ok(Outcome::Own(own, body)),
            verdict => instead(verdict),
        }
    }

    /// What an authority gets that looks whether the name is the gateway's: no policy has a say in it.
    fn proof(&self, inbound: &Inbound, head: &http::request::Parts) -> Option<CustomResponse> {
        if self.front.scheme != Scheme::Http || !matches!(head.method, Method::GET | Method::HEAD) {
            return None;
        }
        let text = self.reach.proof(&inbound.host, head.uri.path())?;
        let mut response = CustomResponse::empty(StatusCode::OK);
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        response.body = text.into();
        Some(response)
    }

    /// What somebody gets whom a provider sends to the gateway's own callback host.
    async fn callback(
        &self,
        inbound: &Inbound,
        head: &http::request::Parts,
        body: &Ahead,
    ) -> Option<Result<CustomResponse, Box<Refused>>> {
        let log_ins = self.reach.log_ins()?;
        callback::answer(&log_ins, &inbound.host, head, body).await
    }

    fn stay(&self, passage: Arc<Passage>) -> Stay {
        Stay::new(passage, Arc::clone(&self.activity))
    }

    fn asked<'i>(&'i self, inbound: &'i Inbound) -> Asked<'i> {
        let scheme = self.front.scheme;
        let local = self.front.visitor.local.port();
        let named = inbound.port.or(scheme.default_port()).unwrap_or(local);
        let port = if self.reach.listens_on(scheme, named) { local } else { named };
        let tls = self.front.tls.as_deref().map_or(Tls::Unknown, Tls::Ended);
        let course = self.activity.course();
        Asked { scheme, host: &inbound.host, port, visitor: self.front.visitor, tls, course, visit: None }
    }

    /// Sends the request to the agent and waits for the head of its response.
    async fn forward(
        &self,
        inbound: &Inbound,
        target: &Target,
        mut head: http::request::Parts,
        (body, withheld): (&Ahead, Withheld),
        hops: u8,
    ) -> Result<Answer, Failure> {
        let visitor_version = head.version;
        let (body, was_read) = body.take().await;
        let mut body = body.without(withheld).counted(Arc::clone(&self.activity));
        let remainder = body.remainder();
        let on_upgrade = head.extensions.remove::<OnUpgrade>().filter(|_| body.is_end_stream());
        let switch = on_upgrade.and_then(|on_upgrade| {
            headers::requested_upgrade(&head.headers).map(|protocol| Switch { protocol, on_upgrade })
        });
        let protocol = switch.as_ref().map(|switch| &switch.protocol);
        let framing = framing(&head.headers, &body);
        let visitor =
            headers::Visitor { peer: self.front.visitor.peer, scheme: self.front.scheme, host: &inbound.host_line };
        headers::prepare_request(&mut head.headers, visitor, framing, protocol);
        headers::put_hops(&mut head.headers, hops);
        head.version = Version::HTTP_11;
        let mut request = Request::from_parts(head, ());
        // One that was read was asked for by that.
        if visitor_version == Version::HTTP_11
            && !was_read
            && headers::has_token(request.headers(), &EXPECT, "100-continue")
        {
            let asked = body.hold(CONTINUE_TIME);
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    asked.notify_one();
                }
            });
        } else {
            request.headers_mut().remove(EXPECT);
        }
        let (head, ()) = request.into_parts();
        let key = Key { host: Arc::clone(&inbound.name), location: target.location.clone() };
        let outgoing = Outgoing { head, body, first_byte_time: self.front.limits.first_byte_time };
        let sent = self.streams.send(&*self.reach, &self.front.visitor, target, key, outgoing).await;
        let (response, lease) = sent.inspect_err(|failure| {
            tracing::debug!(endpoint = %target.url, ?failure, "a request failed");
        })?;
        let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let is_asked_for =
            switch.as_ref().is_some_and(|switch| headers::accepts_upgrade(&switch.protocol, response.headers()));
        match (is_switching, is_asked_for) {
            (true, false) => Err(Failure::ResponseInvalid),
            (true, true) => Ok(Answer { response, lease, remainder, switch }),
            (false, _) => Ok(Answer { response, lease, remainder, switch: None }),
        }
    }

    fn relay(
        &self,
        mut head: http::response::Parts,
        upstream: Upstream,
        under_way: UnderWay,
        version: Version,
    ) -> Response<ResponseBody> {
        let Upstream { incoming, lease, remainder } = upstream;
        // The head of a response to HEAD is the same, and nothing follows it.
        let compression = head.extensions.remove::<Compression>().filter(|_| !incoming.is_end_stream());
        // An HTTP/1.0 client learns the end of a body of unknown length from the end of the connection alone. HTTP/2
        // resets the one stream: resetting the connection at its end could take other responses from the visitor.
        let has_length = compression.is_none() && incoming.size_hint().exact().is_some();
        let needs_reset = version != Version::HTTP_2 && !has_length;
        let cut = needs_reset.then(|| Arc::clone(&self.cut));
        let body = ResponseBody::upstream(Relay::new(incoming, lease, cut, remainder), under_way);
        Response::from_parts(head, compressed(body, compression))
    }

    /// Passes the `101` on and lets the bytes of both sides meet.
    fn switch(
        &self,
        mut response: Response<Incoming>,
        lease: Lease,
        switch: Switch,
        stay: Stay,
        under_way: UnderWay,
        format: Format,
    ) -> Response<ResponseBody> {
        let Some(chosen) = response.headers().get(UPGRADE).cloned() else {
            return refusal(&Failure::ResponseInvalid, format, under_way);
        };
        let upstream = hyper::upgrade::on(&mut response);
        self.switched.store(true, Ordering::Relaxed);
        self.activity.switch();
        lease.upgrade();
        if let Some(visit) = lease.visit() {
            visit.carries(self.activity.course());
        }
        tunnel::spawn(switch.on_upgrade, upstream, lease, stay, Arc::clone(&self.cut));
        let (mut head, _) = response.into_parts();
        headers::prepare_response(&mut head.headers);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, chosen);
        Response::from_parts(head, ResponseBody::own(Bytes::new(), under_way))
    }
}

/// What the visitor gets.
#[derive(Debug)]
enum Outcome {
    /// The agent's response.
    Relay(http::response::Parts, Upstream),
    /// Another protocol.
    Switch(Response<Incoming>, Lease, Switch),
    /// A response of the policy's.
    Own(http::response::Parts, Bytes),
}

impl Outcome {
    fn own(custom: &CustomResponse) -> Self {
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = custom.status;
        head.headers = custom.headers.clone();
        Self::Own(head, custom.body.clone())
    }
}

/// The rest of the agent's response.
#[derive(Debug)]
struct Upstream {
    incoming: Incoming,
    lease: Lease,
    remainder: Remainder,
}

/// Why there is no outcome.
#[derive(Debug)]
enum End {
    Failed(Failure),
    /// The connection is to be closed without an answer.
    Closed,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What came back from the agent.
#[derive(Debug)]
struct Answer {
    response: Response<Incoming>,
    lease: Lease,
    remainder: Remainder,
    /// There if the protocol changes.
    switch: Option<Switch>,
}

/// A change of protocol that the visitor asked for.
#[derive(Debug)]
struct Switch {
    protocol: HeaderValue,
    on_upgrade: OnUpgrade,
}

fn framing(headers: &HeaderMap, body: &RequestBody) -> Framing {
    if body.is_end_stream() {
        Framing::None
    } else if headers.contains_key(http::header::CONTENT_LENGTH) && body.size_hint().exact().is_some() {
        Framing::Length
    } else {
        Framing::Chunked
    }
}

/// Asks the policies about a response.
async fn respond(
    mut head: http::response::Parts,
    upstream: Upstream,
    asked: &Asked<'_>,
    trail: &mut Trail,
    request: Option<http::request::Parts>,
) -> Result<Outcome, End> {
    let Some(request) = request else { return Ok(Outcome::Relay(head, upstream)) };
    match trail.respond(asked, &request, &mut head).await {
        Verdict::Continue => Ok(Outcome::Relay(head, upstream)),
        verdict => instead(verdict),
    }
}

/// What a visitor gets instead of the response that there was.
fn instead(verdict: Verdict) -> Result<Outcome, End> {
    match verdict {
        Verdict::Respond(response) => Ok(Outcome::own(&response)),
        Verdict::Deny { status } => Ok(Outcome::own(&CustomResponse::empty(status))),
        Verdict::Refuse(refused) => Err(Failure::Policy(refused).into()),
        Verdict::Close | Verdict::Continue | Verdict::Forward { .. } | Verdict::TerminateTls { .. } => Err(End::Closed),
    }
}

/// Makes the answer to a request with HEAD, and gives the body that is left: none. It says how long a body would be. With
/// HTTP/1 the connection takes care of that; with HTTP/2 a body would be an error of the protocol.
fn without_body(head: &mut http::response::Parts, body: &Bytes) -> Bytes {
    let is_compressed = head.extensions.remove::<Compression>().is_some();
    if !body.is_empty() && !is_compressed {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(body.len()));
    }
    Bytes::new()
}

/// A response of the gateway's own.
fn own(mut head: http::response::Parts, body: Bytes, under_way: UnderWay) -> Response<ResponseBody> {
    let mut compression = head.extensions.remove::<Compression>();
    if body.is_empty() && compression.take().is_some() {
        head.headers.remove(CONTENT_ENCODING);
    }
    Response::from_parts(head, compressed(ResponseBody::own(body, under_way), compression))
}

fn compressed(body: ResponseBody, compression: Option<Compression>) -> ResponseBody {
    match compression {
        Some(compression) => body.compressed(compression),
        None => body,
    }
}

/// Takes a head out of its place.
fn taken(head: &mut http::request::Parts) -> http::request::Parts {
    std::mem::replace(head, Request::new(()).into_parts().0)
}

/// A head for those who look at it later: without what belongs to the connection.
pub(super) fn copy_of(head: &http::request::Parts) -> http::request::Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = head.method.clone();
    copy.uri = head.uri.clone();
    copy.version = head.version;
    copy.headers = head.headers.clone();
    if let Some(bodyless) = head.extensions.get::<Bodyless>() {
        copy.extensions.insert(*bodyless);
    }
    copy
}

fn refusal(failure: &Failure, format: Format, under_way: UnderWay) -> Response<ResponseBody> {
    failure.response(format).map(|body| ResponseBody::own(body, under_way))
}

/// The session of the person ended before there was an answer.
fn session_over() -> Failure {
    Failure::Policy(Box::new(Refused::new(StatusCode::UNAUTHORIZED, NOT_LOGGED_IN, SESSION_OVER)))
}

const SESSION_OVER: &str = "Your session has ended. Log in again.";
const CIRCLE: &str =
    "Policies of this gateway's endpoints ask each other in a circle, and this request is a part of it.";
