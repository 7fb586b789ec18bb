//! One attempt: the request, and the redirects that it is led through.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::super::super::errand::{
    ERRAND_FAILED, ERRAND_HOPS, ERRAND_HOPS_MAX, ErrandFault, Errands, REPLY_BYTES_MAX, has_body,
};
use super::super::super::lookup::Payer;
use super::super::super::outside::{self, OutsideFault, Reach};
use super::target::{Server, Target};

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) response: Response<Bytes>,
    /// The address of a server outside.
    pub(super) address: Option<IpAddr>,
}

impl Reply {
    /// The server's address; an internal endpoint has none.
    pub(super) fn server(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// Carries messages.
#[derive(Debug)]
pub(super) struct Courier<'a> {
    pub(super) errands: Option<&'a dyn Errands>,
    pub(super) account: &'a Arc<str>,
    pub(super) redirects_max: usize,
    /// Redirects to other servers are not followed.
    pub(super) is_bound: bool,
    pub(super) may_go_outside: bool,
}

impl Courier<'_> {
    /// Sends a message, and follows redirects.
    pub(super) async fn follow(&self, message: &Message, target: &Target) -> Result<Reply, ErrandFault> {
        let (mut message, mut target) = (message.clone(), target.clone());
        let mut redirects = 0;
        loop {
            let reply = self.send(&message, &target).await?;
            // With none to follow, a redirect is a reply like any other.
            let Some(location) = location(&reply.response).filter(|_| self.redirects_max > 0) else { return Ok(reply) };
            redirects += 1;
            if redirects > self.redirects_max {
                return Err(failed(format!("the server redirects more than {} times", self.redirects_max)));
            }
            let next = location.to_str().map_err(|_| "is not ASCII").and_then(|location| target.follow(location));
            let next = next.map_err(|reason| failed(format!("the server redirects to an address that {reason}")))?;
            self.check(&target, &next)?;
            if !next.is_beside(&target) {
                // What one server may know is not for the next one.
                message.headers.clear();
                message.body = Bytes::new();
            }
            become_get(&mut message, reply.response.status());
            target = next;
        }
    }

    /// Whether a redirect may lead from one server to another.
    fn check(&self, from: &Target, to: &Target) -> Result<(), ErrandFault> {
        if to.is_beside(from) {
            return Ok(());
        }
        if self.is_bound {
            return Err(failed("the server redirects to another one, which an agent's policy cannot".into()));
        }
        if from.server == Server::Outside && to.server != Server::Outside {
            return Err(failed("a server outside redirects to an endpoint of the account, which it must not".into()));
        }
        Ok(())
    }

    async fn send(&self, message: &Message, target: &Target) -> Result<Reply, ErrandFault> {
        let Some(errands) = self.errands else { return Err(failed("there is no way to other endpoints here".into())) };
        let mut request = Request::new(message.body.clone());
        *request.method_mut() = message.method.clone();
        *request.uri_mut() = target.path().parse().map_err(|_| failed("the path is not valid".into()))?;
        *request.headers_mut() = message.headers.clone();
        match &target.server {
            Server::Internal(endpoint) => {
                let response = errands.inside(self.account, endpoint, request).await?;
                Ok(Reply { response, address: None })
            }
            Server::Outside if self.may_go_outside && errands.may_go_outside() => {
                if errands.hops() >= ERRAND_HOPS_MAX {
                    return Err(ErrandFault::circle());
                }
                let hops = HeaderValue::from(u16::from(errands.hops().saturating_add(1)));
                request.headers_mut().insert(ERRAND_HOPS, hops);
                if message.body.is_empty() && has_body(&message.method) {
                    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
                }
                let authority = target.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
                let host = HeaderValue::from_str(authority).map_err(|_| failed("the host is not valid".into()))?;
                request.headers_mut().entry(HOST).or_insert(host);
                let request = request.map(Full::new);
                let payer = Payer::Account(self.account);
                let asked = outside::ask(&target.uri, Reach::Public, payer, request, REPLY_BYTES_MAX).await;
                let (response, address) = asked.map_err(|fault| match fault {
                    OutsideFault::TooLong => ErrandFault::too_long(),
                    OutsideFault::Failed(reason) => failed(reason),
                })?;
                Ok(Reply { response, address: Some(address) })
            }
            Server::Outside => Err(failed(format!("the server {OUTSIDE}"))),
        }
    }
}

fn location(response: &Response<Bytes>) -> Option<HeaderValue> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    response.headers().get(LOCATION).filter(|_| is_redirect).cloned()
}

/// What clients do with all but 307 and 308 (RFC 9110, 15.4).
fn become_get(message: &mut Message, status: StatusCode) {
    let keeps = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
        || (message.method != Method::POST && status != StatusCode::SEE_OTHER);
    if keeps {
        return;
    }
    message.method = Method::GET;
    message.body = Bytes::new();
    message.headers.remove(CONTENT_TYPE);
    message.headers.remove(CONTENT_LENGTH);
}

fn failed(reason: String) -> ErrandFault {
    ErrandFault::new(ERRAND_FAILED, reason)
}

/// What is wrong with a server that is none of the account's endpoints.
pub(super) const OUTSIDE: &str = "is not an internal endpoint; the gateway's configuration has to allow others with \
                                  policies.outside_requests";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_from_outside_never_leads_to_an_endpoint_of_the_account() {
        let account: Arc<str> = "main".into();
        let courier =
            Courier { errands: None, account: &account, redirects_max: 9, is_bound: false, may_go_outside: true };
        let target = |url| Target::parse(url).unwrap();
        let outside = target("https://example.com/a/b");
        for location in [
            "https://api.internal/",
            "//api.internal/x",
            "HTTPS://API.INTERNAL/",
            "http://api.internal:8080/?q",
            "https://deep.api.internal",
        ] {
            let next = outside.follow(location).unwrap();
            let fault = courier.check(&outside, &next).unwrap_err();
            assert_eq!(fault.code, ERRAND_FAILED);
            assert!(fault.reason.contains("endpoint of the account"), "{location}: {}", fault.reason);
        }
        // A name with a dot behind it is none of an endpoint, and is not asked of the internet either.
        assert!(outside.follow("https://api.internal./").is_err());
        for location in ["/x", "https://example.org/", "https://internal.example.org/"] {
            assert_eq!(courier.check(&outside, &outside.follow(location).unwrap()), Ok(()), "{location}");
        }
        assert_eq!(courier.check(&target("https://a.internal/"), &target("https://b.internal/")), Ok(()));
    }
}
