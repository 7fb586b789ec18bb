//! Requests and their answers, noted on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::{Broken, ResponseBody};
use super::exchange::{Client, Closed};
use super::failure::Code;
use super::reach::Reach;
use crate::access_log::{Ending, Visit};

/// Answers a request, and notes how that goes where there is a ledger. Whoever works for the request finds its [`Visit`] among the
/// extensions of its head.
///
/// # Errors
///
/// As [`Client::answer`].
pub(super) async fn answer<R: Reach>(
    client: &Client<R>,
    request: Request<Incoming>,
) -> Result<Response<Recorded>, Closed> {
    let Some(guest) = &client.guest else {
        return client.answer(request).await.map(|response| response.map(|body| Recorded { body, visit: None }));
    };
    let (mut head, body) = request.into_parts();
    let visit = Visit::request(guest, &head);
    head.extensions.insert(Arc::clone(&visit));
    let mut response = client.answer(Request::from_parts(head, body)).await.inspect_err(|_| {
        visit.ended(Ending::Done);
    })?;
    let code = response.extensions_mut().remove::<Code>();
    visit.answered(Some(response.status()), code.map(|Code(code)| code));
    Ok(response.map(|body| {
        let recorded = Recorded { body, visit: Some(visit) };
        recorded.note_end();
        recorded
    }))
}

/// A response's body that counts itself.
#[derive(Debug)]
pub(super) struct Recorded {
    body: ResponseBody,
    visit: Option<Arc<Visit>>,
}

impl Recorded {
    /// Those who ask whether it is over do not poll again.
    fn note_end(&self) {
        if let Some(visit) = self.visit.as_ref().filter(|_| self.body.is_end_stream()) {
            visit.ended(Ending::Done);
        }
    }
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(visit) = &self.visit {
            match &frame {
                Some(Ok(frame)) => {
                    visit.sent(frame.data_ref().map_or(0, Bytes::len));
                    self.note_end();
                }
                Some(Err(_)) => visit.ended(Ending::Broken),
                None => visit.ended(Ending::Done),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
