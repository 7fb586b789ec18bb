//! A request's body that may be read ahead: by an action of a policy first, and then, unchanged, by the agent.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::body::RequestBody;
use crate::policy::{PAYLOAD_BYTES_MAX, Payload, PayloadFault};

/// The body of a request between its visitor, the policies and the agent.
#[derive(Debug)]
pub(super) struct Ahead(Mutex<Slot>);

#[derive(Debug)]
struct Slot {
    /// What has not been read; `None` when there is no more.
    incoming: Option<Incoming>,
    read: BytesMut,
    trailers: Option<HeaderMap>,
    /// What was read, once it is whole; or why it is not.
    outcome: Option<Result<Bytes, PayloadFault>>,
    /// The share of all bytes that are held.
    share: Option<OwnedSemaphorePermit>,
    was_read: bool,
}

impl Ahead {
    pub(super) fn new(incoming: Incoming) -> Self {
        let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
        let read = BytesMut::new();
        Self(Mutex::new(Slot { incoming, read, trailers: None, outcome: None, share: None, was_read: false }))
    }

    /// Takes the body as it is to be passed on, and says whether any of it was asked for.
    pub(super) async fn take(&self) -> (RequestBody, bool) {
        let mut slot = self.0.lock().await;
        let slot = &mut *slot;
        let begin = match slot.outcome.take() {
            Some(Ok(whole)) => whole,
            Some(Err(_)) | None => std::mem::take(&mut slot.read).freeze(),
        };
        let (incoming, trailers) = (slot.incoming.take(), slot.trailers.take());
        let body = RequestBody::continued(begin, incoming, trailers, slot.share.take());
        (body, slot.was_read)
    }
}

impl Payload for Ahead {
    fn read(&self) -> Pin<Box<dyn Future<Output = Result<Bytes, PayloadFault>> + Send + '_>> {
        Box::pin(async move {
            let mut slot = self.0.lock().await;
            if let Some(outcome) = &slot.outcome {
                return outcome.clone();
            }
            let outcome = timeout(READ_TIME, slot.read_all(&BUDGET)).await.unwrap_or(Err(PayloadFault::Late));
            slot.outcome = Some(outcome.clone());
            outcome
        })
    }
}

impl Slot {
    async fn read_all(&mut self, budget: &Arc<Semaphore>) -> Result<Bytes, PayloadFault> {
        let Some(incoming) = &mut self.incoming else { return Ok(Bytes::new()) };
        // One that says how long it is need not be read to know that.
        if incoming.size_hint().lower() > PAYLOAD_BYTES_MAX as u64 {
            return Err(PayloadFault::TooLong);
        }
        self.was_read = true;
        while let Some(frame) = incoming.frame().await {
            match frame.map_err(|_| PayloadFault::Broken)?.into_data() {
                Ok(data) => {
                    // Also what is too much: it is a part of the body that may have to be passed on.
                    self.read.extend_from_slice(&data);
                    if self.read.len() > PAYLOAD_BYTES_MAX {
                        return Err(PayloadFault::TooLong);
                    }
                    grow(&mut self.share, self.read.len(), budget)?;
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        self.incoming = None;
        Ok(std::mem::take(&mut self.read).freeze())
    }
}

/// Takes as much of the budget as so many bytes need.
fn grow(share: &mut Option<OwnedSemaphorePermit>, bytes: usize, budget: &Arc<Semaphore>) -> Result<(), PayloadFault> {
    let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let missing = bytes.div_ceil(UNIT_BYTES).saturating_sub(held);
    let missing = u32::try_from(missing).map_err(|_| PayloadFault::Busy)?;
    if missing == 0 {
        return Ok(());
    }
    let more = Arc::clone(budget).try_acquire_many_owned(missing).map_err(|_| PayloadFault::Busy)?;
    match share {
        Some(share) => share.merge(more),
        None => *share = Some(more),
    }
    Ok(())
}

/// From the first byte of a body to its last: senders of webhooks give up after 10 s or so.
const READ_TIME: Duration = Duration::from_secs(30);
/// What all bodies that are read ahead may take together.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// The budget is counted in pieces of this size.
const UNIT_BYTES: usize = 16 * 1024;

static BUDGET: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(BUDGET_BYTES / UNIT_BYTES)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_budget() {
        let budget = Arc::new(Semaphore::new(3));
        let (mut first, mut second) = (None, None);
        assert_eq!(grow(&mut first, 1, &budget), Ok(()));
        assert_eq!(grow(&mut first, UNIT_BYTES, &budget), Ok(()));
        assert_eq!(grow(&mut first, UNIT_BYTES + 1, &budget), Ok(()));
        assert_eq!(grow(&mut second, 1, &budget), Ok(()));
        assert_eq!(grow(&mut second, UNIT_BYTES + 1, &budget), Err(PayloadFault::Busy));
        drop(first);
        assert_eq!(grow(&mut second, UNIT_BYTES + 1, &budget), Ok(()));
        drop(second);
        assert_eq!(budget.available_permits(), 3);
    }
}
