//! Bodies on their way through: requests to the agent, responses to the visitor.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::compress::Compressor;
use super::drain::Rest;
use super::headers;
use super::io::{Activity, UnderWay};
use super::remainder::Remainder;
use super::stay::Stay;
use super::upstream::Lease;
use crate::access_log::Visit;
use crate::policy::{Compression, Withheld};
use crate::shares::Share;

/// The body of a request on its way to the agent.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// What was read before it was passed on.
    begin: Bytes,
    /// `None` when there is no more behind that.
    incoming: Option<Incoming>,
    /// Those of a body that was read whole.
    trailers: Option<HeaderMap>,
    /// The share that `begin` has of all bytes that are held.
    _share: Option<Share>,
    progress: Arc<Progress>,
    hold: Option<Hold>,
    /// Where its bytes are counted, if anywhere.
    visit: Option<Arc<Visit>>,
    remainder: Remainder,
    /// What its trailers must not say.
    withheld: Withheld,
    /// Of the visitor's connection.
    activity: Option<Arc<Activity>>,
}

impl RequestBody {
    /// A body of which some was read already.
    pub(super) fn continued(
        begin: Bytes,
        incoming: Option<Incoming>,
        trailers: Option<HeaderMap>,
        share: Option<Share>,
    ) -> Self {
        let is_complete = begin.is_empty() && incoming.is_none() && trailers.is_none();
        let (progress, remainder) = (Arc::new(Progress::new(is_complete)), Remainder::default());
        Self {
            begin,
            incoming,
            trailers,
            _share: share,
            progress,
            hold: None,
            visit: None,
            remainder,
            withheld: Withheld::default(),
            activity: None,
        }
    }

    /// No body.
    pub(super) fn none() -> Self {
        Self::continued(Bytes::new(), None, None, None)
    }

    /// The same body, whose trailers say none of these.
    pub(super) fn without(mut self, withheld: Withheld) -> Self {
        self.withheld = withheld;
        self
    }

    /// The same body, each piece of which counts as a use of the visitor's connection.
    pub(super) fn counted(mut self, activity: Arc<Activity>) -> Self {
        self.activity = Some(activity);
        self
    }

    /// A piece of it as the upstream gets it.
    fn cleaned(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match clean_trailers(frame).into_trailers() {
            Ok(mut trailers) => {
                self.withheld.strip(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }

    /// What is left of the part that was read before.
    fn next_read(&mut self) -> Option<Frame<Bytes>> {
        if !self.begin.is_empty() {
            return Some(Frame::data(std::mem::take(&mut self.begin)));
        }
        self.trailers.take().map(Frame::trailers)
    }

    /// Holds the body back until the upstream asks for it, or `limit` has passed: what `Expect: 100-continue` is for.
    /// hyper asks the visitor for the body only once it is read.
    pub(super) fn hold(&mut self, limit: Duration) -> Arc<Notify> {
        let asked = Arc::new(Notify::new());
        let waiting = Arc::clone(&asked);
        let notified = Box::pin(async move { waiting.notified().await });
        self.hold = Some(Hold { notified, limit: Box::pin(tokio::time::sleep(limit)) });
        asked
    }

    fn count(&self, frame: &Frame<Bytes>) {
        if let (Some(visit), Some(data)) = (&self.visit, frame.data_ref()) {
            visit.received(data.len());
        }
    }

    /// Counts its bytes there, as they are taken.
    pub(super) fn count_in(&mut self, visit: Arc<Visit>) {
        self.visit = Some(visit);
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Where the end of the body is left if it is not read when its last byte is.
    pub(super) fn remainder(&self) -> Remainder {
        self.remainder.clone()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        if lacks_only_its_end(&incoming) {
            self.progress.update(Stage::Complete);
            self.remainder.leave(incoming);
        } else if self.hold.is_none() {
            // An answer came before the end of it. A visitor that waits for a word sends nothing, or something else.
            drop(Rest::of(incoming));
        }
    }
}

/// Every byte that Content-Length promises was read, but not yet that there are no more: so it is in HTTP/2 alone.
fn lacks_only_its_end(incoming: &Incoming) -> bool {
    !incoming.is_end_stream() && incoming.size_hint().exact() == Some(0)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(hold) = &mut self.hold {
            ready!(hold.poll(cx));
            self.hold = None;
        }
        let this = &mut *self;
        if let Some(frame) = this.next_read() {
            this.count(&frame);
            this.progress.update(if this.is_end_stream() { Stage::Complete } else { Stage::Agent });
            return Poll::Ready(Some(Ok(this.cleaned(frame))));
        }
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
            this.progress.update(Stage::Visitor);
            return Poll::Pending;
        };
        let stage = match &frame {
            None => Stage::Complete,
            Some(Err(_)) => Stage::Broken,
            Some(Ok(_)) if incoming.is_end_stream() => Stage::Complete,
            Some(Ok(_)) => Stage::Agent,
        };
        this.progress.update(stage);
        if let Some(activity) = &this.activity {
            activity.carry();
        }
        if let Some(Ok(frame)) = &frame {
            this.count(frame);
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| this.cleaned(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.begin.is_empty() && self.trailers.is_none() && self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let begin = self.begin.len() as u64;
        let rest = self.incoming.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint);
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(rest.saturating_add(begin)),
            None => SizeHint::default(),
        }
    }
}

/// What keeps a body back.
struct Hold {
    notified: Pin<Box<dyn Future<Output = ()> + Send>>,
    limit: Pin<Box<Sleep>>,
}

impl Hold {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.notified.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.limit.as_mut().poll(cx)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

/// Where a request's body is, and since when.
#[derive(Debug)]
pub(super) struct Progress(Mutex<(Stage, Instant)>);

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The visitor has to send more.
    Visitor,
    /// The agent has to take what there is.
    Agent,
    /// All of it has been handed over: the agent has to answer.
    Complete,
    /// The visitor broke off.
    Broken,
}

impl Progress {
    fn new(is_complete: bool) -> Self {
        let stage = if is_complete { Stage::Complete } else { Stage::Agent };
        Self(Mutex::new((stage, Instant::now())))
    }

    /// Whose turn it is, and since when.
    pub(super) fn read(&self) -> (Stage, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, stage: Stage) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 != stage || stage == Stage::Agent {
            *state = (stage, Instant::now());
        }
    }
}

/// The body of a response on its way to the visitor.
#[derive(Debug)]
pub(super) struct ResponseBody {
    source: Source,
    compressor: Option<Box<Compressor>>,
    /// What is left of the request when the response has gone.
    _rest: Option<Rest<Incoming>>,
    /// The request counts as under way until its response has gone.
    under_way: UnderWay,
    limit: Option<Limit>,
}

#[derive(Debug)]
enum Source {
    Own(Full<Bytes>),
    Upstream(Relay),
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Own(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never: Infallible| match never {})))
            }
            Self::Upstream(relay) => relay.poll_frame(cx),
        }
    }

    fn break_off(&mut self) {
        if let Self::Upstream(relay) = self {
            relay.break_off();
        }
    }
}

/// The time in which a response has to end.
struct Limit(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit").finish_non_exhaustive()
    }
}

impl ResponseBody {
    /// A body of the gateway's own; empty means none.
    pub(super) fn own(bytes: Bytes, under_way: UnderWay) -> Self {
        Self { source: Source::Own(Full::new(bytes)), compressor: None, _rest: None, under_way, limit: None }
    }

    /// The upstream's body.
    pub(super) fn upstream(relay: Relay, under_way: UnderWay) -> Self {
        Self { source: Source::Upstream(relay), compressor: None, _rest: None, under_way, limit: None }
    }

    /// The same body. Once it has gone, the rest of the request is read.
    pub(super) fn with_rest(mut self, rest: Option<Rest<Incoming>>) -> Self {
        self._rest = rest;
        self
    }

    /// The same body, which breaks off when the visitor's stay is over.
    pub(super) fn within(mut self, stay: Stay) -> Self {
        if stay.is_limited() && !self.is_end_stream() {
            self.limit = Some(Limit(Box::pin(async move { stay.over().await })));
        }
        self
    }

    /// The same body, compressed.
    pub(super) fn compressed(mut self, compression: Compression) -> Self {
        self.compressor = Some(Box::new(Compressor::new(compression)));
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { source, compressor, limit, under_way, .. } = &mut *self;
        if limit.as_mut().is_some_and(|limit| limit.0.as_mut().poll(cx).is_ready()) {
            tracing::info!("a response was ended: the session that let it through is over");
            source.break_off();
            *limit = None;
            return Poll::Ready(Some(Err(Broken)));
        }
        let frame = match compressor {
            Some(compressor) => compressor.poll_frame(cx, |cx| source.poll_frame(cx)),
            None => source.poll_frame(cx),
        };
        if frame.is_ready() {
            under_way.carry();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        if let Some(compressor) = &self.compressor {
            return compressor.is_over();
        }
        match &self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Upstream(relay) => relay.incoming.is_end_stream() && relay.remainder.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.compressor.is_some() {
            return SizeHint::default();
        }
        match &self.source {
            Source::Own(body) => body.size_hint(),
            Source::Upstream(relay) => relay.incoming.size_hint(),
        }
    }
}

/// Passes an upstream's body on.
///
/// Its end gives the proxy stream back for the next request. A body that breaks off is passed on as broken, never as ended;
/// dropping the relay before the end (the visitor has gone) aborts the proxy stream.
#[derive(Debug)]
pub(super) struct Relay {
    incoming: Incoming,
    lease: Option<Lease>,
    /// Set when the body breaks off and only a reset can tell the visitor.
    cut: Option<Arc<AtomicBool>>,
    /// What the end waits for.
    remainder: Remainder,
    has_ended: bool,
}

impl Relay {
    pub(super) fn new(incoming: Incoming, lease: Lease, cut: Option<Arc<AtomicBool>>, remainder: Remainder) -> Self {
        let mut relay = Self { incoming, lease: Some(lease), cut, remainder, has_ended: false };
        relay.finish_if_ended();
        relay
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.has_ended {
            return self.remainder.poll_over(cx).map(|()| None);
        }
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => {
                self.finish();
                self.has_ended = true;
                self.remainder.poll_over(cx).map(|()| None)
            }
            Some(Ok(frame)) => {
                if let Some(lease) = &self.lease {
                    lease.touch();
                }
                // Those who ask `is_end_stream` do not poll again.
                self.finish_if_ended();
                Poll::Ready(Some(Ok(clean_trailers(frame))))
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "the upstream's response broke off");
                self.break_off();
                Poll::Ready(Some(Err(Broken)))
            }
        }
    }

    /// Ends the proxy stream, and what the visitor gets in a way that cannot be taken for the end.
    fn break_off(&mut self) {
        self.lease = None;
        if let Some(cut) = &self.cut {
            cut.store(true, Ordering::Relaxed);
        }
    }

    fn finish_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }
}

fn clean_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::prepare_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// The upstream's response broke off, or the visitor's stay is over. The server ends the visitor's response in a way that cannot be taken for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream's response broke off")
    }
}

impl Error for Broken {}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn trailers_say_nothing_that_only_the_gateway_says() {
        let named = |name: &'static str| (HeaderName::from_static(name), "ann".parse().unwrap());
        let trailers = HeaderMap::from_iter([named("x_user"), named("x-user"), named("sum")]);
        let withheld = Withheld::of(std::iter::once(HeaderName::from_static("x-user")));
        let body = RequestBody::continued(Bytes::from_static(b"hi"), None, Some(trailers), None).without(withheld);
        let whole = body.collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&HeaderMap::from_iter([named("sum")])));
        assert_eq!(whole.to_bytes(), "hi");
    }
}
