//! Requests that policies send to internal endpoints by themselves.

use std::fmt;
use std::sync::Arc;

use adit::endpoint_url::EndpointUrl;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Front;
use super::body::RequestBody;
use super::failure::Failure;
use super::headers::{self, Framing};
use super::reach::{Reach, Target};
use super::upstream::{Key, Lease, Outgoing, Streams};
use crate::policy::{
    Asking, Bodyless, Course, CustomResponse, ERRAND_HOPS_MAX, ErrandFault, Errands, REPLY_BYTES_MAX, Tls, Tools,
    Verdict, Whole, has_body,
};
use crate::route::{self, Asked, Decision, Trail};

/// The way from one visitor's policies to the endpoints of their account.
pub(super) struct Errand<R> {
    pub(super) reach: Arc<R>,
    pub(super) front: Front,
    pub(super) streams: Arc<Streams>,
    /// How many requests of policies have led here.
    pub(super) hops: u8,
}

impl<R> fmt::Debug for Errand<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("hops", &self.hops).finish_non_exhaustive()
    }
}

impl<R: Reach> Errands for Errand<R> {
    fn inside<'a>(&'a self, account: &'a str, url: &'a EndpointUrl, request: Request<Bytes>) -> Asking<'a> {
        Box::pin(self.ask(account, url, request))
    }

    fn hops(&self) -> u8 {
        self.hops
    }

    fn may_go_outside(&self) -> bool {
        self.reach.may_go_outside()
    }
}

impl<R: Reach> Errand<R> {
    /// The same way, for a request that so many requests of policies have led to.
    pub(super) fn after(&self, hops: u8) -> Self {
        let (reach, streams) = (Arc::clone(&self.reach), Arc::clone(&self.streams));
        Self { reach, front: self.front.clone(), streams, hops }
    }

    async fn ask(
        &self,
        account: &str,
        url: &EndpointUrl,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ErrandFault> {
        if self.hops >= ERRAND_HOPS_MAX {
            return Err(ErrandFault::circle());
        }
        let (mut head, body) = request.into_parts();
        let shown = url.to_string();
        let (_, host) = shown.split_once("://").unwrap_or_default();
        let line = HeaderValue::from_str(host).map_err(|_| ErrandFault::new(INVALID, "the host is not valid"))?;
        let line = head.headers.entry(http::header::HOST).or_insert(line).clone();
        let tls = self.front.tls.as_deref().map_or(Tls::Unknown, Tls::Ended);
        let visitor = self.front.visitor;
        // Nothing of the visitor's own has been carried for what its policy asks.
        let course = Course::begin();
        let asked = Asked {
            scheme: url.scheme(),
            host: url.host(),
            port: url.port(),
            visitor,
            tls,
            course: &course,
            visit: None,
        };
        let next = self.after(self.hops.saturating_add(1));
        if body.is_empty() {
            head.extensions.insert(Bodyless);
        }
        let payload = Arc::new(Whole(body.clone()));
        let mut trail =
            Trail::with(Tools { payload: Some(payload), errands: Some(Arc::new(next)), ..Tools::default() });
        let decision = route::internal(&*self.reach, account, url, &asked, &mut head, &mut trail).await;
        let decision = decision.map_err(|refusal| {
            trail.settle(true);
            fault(&refusal.into())
        })?;
        let custom = match decision {
            Decision::Target(target) => {
                let copy = super::exchange::copy_of(&head);
                let answer = self.send(&target, head, body, &line).await;
                let has_failed = match &answer {
                    Ok(response) => Some(response.status().is_server_error()),
                    Err(failure) => failure.is_of_service().then_some(true),
                };
                has_failed.into_iter().for_each(|has_failed| trail.settle(has_failed));
                let (mut head, (incoming, lease)) = answer.map_err(|failure| fault(&failure))?.into_parts();
                headers::prepare_response(&mut head.headers);
                return match trail.respond(&asked, &copy, &mut head).await {
                    Verdict::Continue => {
                        let body = collect(incoming).await?;
                        lease.finish();
                        Ok(Response::from_parts(head, body))
                    }
                    verdict => instead(verdict),
                };
            }
            Decision::Deny { status } => return Ok(own(&CustomResponse::empty(status))),
            Decision::Refuse(refused) => return instead(Verdict::Refuse(refused)),
            Decision::Respond(custom) => custom,
            Decision::Close | Decision::TerminateTls(_) => return instead(Verdict::Close),
        };
        let (mut answer, body) = own(&custom).into_parts();
        match trail.respond(&asked, &head, &mut answer).await {
            Verdict::Continue => Ok(Response::from_parts(answer, body)),
            verdict => instead(verdict),
        }
    }

    async fn send(
        &self,
        target: &Target,
        mut head: http::request::Parts,
        body: Bytes,
        host: &HeaderValue,
    ) -> Result<Response<(Incoming, Lease)>, Failure> {
        let framing = if body.is_empty() { Framing::None } else { Framing::Length };
        if !body.is_empty() || has_body(&head.method) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let visitor = headers::Visitor { peer: self.front.visitor.peer, scheme: target.url.scheme(), host };
        headers::prepare_request(&mut head.headers, visitor, framing, None);
        headers::put_hops(&mut head.headers, self.hops.saturating_add(1));
        head.version = Version::HTTP_11;
        let name = host.to_str().unwrap_or_default().into();
        let key = Key { host: name, location: target.location.clone() };
        let body = RequestBody::continued(body, None, None, None);
        let outgoing = Outgoing { head, body, first_byte_time: self.front.limits.first_byte_time };
        let sent = self.streams.send(&*self.reach, &self.front.visitor, target, key, outgoing).await;
        let (response, lease) = sent?;
        if response.status().is_informational() {
            return Err(Failure::ResponseInvalid);
        }
        Ok(response.map(|incoming| (incoming, lease)))
    }
}

async fn collect(mut incoming: Incoming) -> Result<Bytes, ErrandFault> {
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| ErrandFault::new(INVALID, "the reply broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if body.len() + data.len() > REPLY_BYTES_MAX {
            return Err(ErrandFault::too_long());
        }
        body.extend_from_slice(&data);
    }
    Ok(body.freeze())
}

fn own(custom: &CustomResponse) -> Response<Bytes> {
    let mut response = Response::new(custom.body.clone());
    *response.status_mut() = custom.status;
    *response.headers_mut() = custom.headers.clone();
    response
}

/// What there is instead of the endpoint's answer.
fn instead(verdict: Verdict) -> Result<Response<Bytes>, ErrandFault> {
    match verdict {
        Verdict::Respond(custom) => Ok(own(&custom)),
        Verdict::Deny { status } => Ok(own(&CustomResponse::empty(status))),
        Verdict::Refuse(refused) => Ok(Failure::Policy(refused).response(super::failure::Format::Text)),
        Verdict::Close | Verdict::Continue | Verdict::Forward { .. } | Verdict::TerminateTls { .. } => {
            Err(ErrandFault::new(INVALID, "the endpoint's policy closes the connection"))
        }
    }
}

fn fault(failure: &Failure) -> ErrandFault {
    ErrandFault::new(failure.code().unwrap_or(INVALID), failure.summary())
}

/// ERR_NGROK_3210: there is no usable answer.
const INVALID: u32 = 3210;
