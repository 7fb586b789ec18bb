//! A request's body that may be read ahead: by an action of a policy first, and then, unchanged, by the agent.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::body::RequestBody;
use super::drain::Rest;
use crate::policy::{PAYLOAD_BYTES_MAX, Payload, PayloadFault, Reading};
use crate::shares::{Share, Shares};

/// The body of a request between its visitor, the policies and the agent.
#[derive(Debug)]
pub(super) struct Ahead(Mutex<Slot>);

#[derive(Debug)]
struct Slot {
    /// What has not been read; `None` when there is no more.
    incoming: Option<Incoming>,
    read: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// What was read, once it is whole; or why it is not.
    outcome: Option<Result<Bytes, PayloadFault>>,
    /// The share of all bytes that are held.
    share: Option<Share>,
    was_read: bool,
}

impl Ahead {
    pub(super) fn new(incoming: Incoming) -> Self {
        let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
        let read = Vec::new();
        Self(Mutex::new(Slot { incoming, read, trailers: None, outcome: None, share: None, was_read: false }))
    }

    /// Takes the body as it is to be passed on, and says whether any of it was asked for.
    pub(super) async fn take(&self) -> (RequestBody, bool) {
        let mut slot = self.0.lock().await;
        let slot = &mut *slot;
        let begin = match slot.outcome.take() {
            Some(Ok(whole)) => whole,
            Some(Err(_)) | None => std::mem::take(&mut slot.read).into(),
        };
        let (incoming, trailers) = (slot.incoming.take(), slot.trailers.take());
        let body = RequestBody::continued(begin, incoming, trailers, slot.share.take());
        (body, slot.was_read)
    }
}

impl Ahead {
    /// Takes what nobody has read or will read. It is not there for a visitor that `asks_first` whether to send it and has
    /// got no word: its next bytes may be another request.
    pub(super) async fn rest(&self, asks_first: bool) -> Option<Rest<Incoming>> {
        let mut slot = self.0.lock().await;
        let may_have_come = !asks_first || slot.was_read;
        slot.incoming.take().filter(|_| may_have_come).map(Rest::of)
    }
}

impl Payload for Ahead {
    fn read_at_most<'a>(&'a self, account: &'a Arc<str>, bytes_max: usize) -> Reading<'a> {
        Box::pin(async move {
            let mut slot = self.0.lock().await;
            if let Some(outcome) = &slot.outcome {
                return outcome.clone();
            }
            let reading = slot.read_all(&BUDGET, account, bytes_max.min(PAYLOAD_BYTES_MAX));
            let outcome = timeout(READ_TIME, reading).await.unwrap_or(Err(PayloadFault::Late));
            slot.outcome = Some(outcome.clone());
            outcome
        })
    }
}

impl Slot {
    async fn read_all(&mut self, budget: &Shares, account: &Arc<str>, bytes_max: usize) -> Result<Bytes, PayloadFault> {
        let Some(incoming) = &mut self.incoming else { return Ok(Bytes::new()) };
        let length = incoming.size_hint();
        // One that says how long it is need not be read to know that.
        if length.lower() > bytes_max as u64 {
            return Err(PayloadFault::TooLong);
        }
        let length_max = length.upper().and_then(|length| usize::try_from(length).ok());
        let length_max = length_max.unwrap_or(bytes_max);
        self.was_read = true;
        let share = self.share.get_or_insert_with(|| budget.begin(account));
        while let Some(frame) = incoming.frame().await {
            match frame.map_err(|_| PayloadFault::Broken)?.into_data() {
                Ok(data) => {
                    let has_room = make_room(&mut self.read, share, data.len(), length_max);
                    // Also what is too much: it is a part of the body that may have to be passed on.
                    self.read.reserve_exact(data.len());
                    self.read.extend_from_slice(&data);
                    if self.read.len() > bytes_max {
                        return Err(PayloadFault::TooLong);
                    }
                    if !has_room {
                        return Err(PayloadFault::Busy);
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        self.incoming = None;
        Ok(std::mem::take(&mut self.read).into())
    }
}

/// Makes room for so many bytes more, if the share can have what they take in memory. The room doubles, because no length
/// is believed before its bytes are there, up to the length that the body has at most.
fn make_room(read: &mut Vec<u8>, share: &mut Share, more: usize, length_max: usize) -> bool {
    let needed = read.len().saturating_add(more);
    if needed <= read.capacity() {
        return true;
    }
    let capacity = needed.max(read.capacity().saturating_mul(2).min(length_max));
    let missing = capacity.div_ceil(UNIT_BYTES).saturating_sub(share.held());
    let has_room = share.grow(missing);
    if has_room {
        read.reserve_exact(capacity.saturating_sub(read.len()));
    }
    has_room
}

/// From the first byte of a body to its last: senders of webhooks give up after 10 s or so.
const READ_TIME: Duration = Duration::from_secs(30);
/// What all bodies that are read ahead may take together.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// And those of one account: sixteen of the longest at a time.
const ACCOUNT_BYTES: usize = 16 * 1024 * 1024;
/// The budget is counted in pieces of this size.
const UNIT_BYTES: usize = 16 * 1024;

static BUDGET: LazyLock<Shares> = LazyLock::new(|| Shares::new(BUDGET_BYTES / UNIT_BYTES, ACCOUNT_BYTES / UNIT_BYTES));

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Arc<str> {
        name.into()
    }

    /// Takes so many bytes in as a body of unknown length.
    fn push(read: &mut Vec<u8>, share: &mut Share, bytes: usize) -> bool {
        let has_room = make_room(read, share, bytes, PAYLOAD_BYTES_MAX);
        if has_room {
            read.resize(read.len() + bytes, 0);
        }
        has_room
    }

    #[test]
    fn account_at_its_bound_is_refused_and_others_are_not() {
        let budget = Shares::new(5, 3);
        let (mut first, mut second) =
            ((Vec::new(), budget.begin(&account("a"))), (Vec::new(), budget.begin(&account("a"))));
        assert!(push(&mut first.0, &mut first.1, 2 * UNIT_BYTES));
        assert!(push(&mut second.0, &mut second.1, UNIT_BYTES));
        assert!(!push(&mut second.0, &mut second.1, 1), "the account has its whole part");
        let mut other = (Vec::new(), budget.begin(&account("b")));
        assert!(push(&mut other.0, &mut other.1, 2 * UNIT_BYTES));
        drop(first);
        assert!(push(&mut second.0, &mut second.1, 1));
    }

    #[test]
    fn room_counts_as_it_is_taken_and_not_as_it_is_filled() {
        let budget = Shares::new(100, 100);
        let (mut read, mut share) = (Vec::new(), budget.begin(&account("a")));
        assert!(push(&mut read, &mut share, UNIT_BYTES));
        assert!(push(&mut read, &mut share, 1));
        assert_eq!((read.len(), share.held()), (UNIT_BYTES + 1, 2));
        assert!(push(&mut read, &mut share, UNIT_BYTES));
        assert_eq!((read.len(), share.held()), (2 * UNIT_BYTES + 1, 4));
        assert!(read.capacity() <= share.held() * UNIT_BYTES, "{}", read.capacity());
    }

    #[test]
    fn room_is_not_made_beyond_the_length_of_the_body() {
        let budget = Shares::new(100, 100);
        let (mut read, mut share) = (Vec::new(), budget.begin(&account("a")));
        let length = 3 * UNIT_BYTES;
        for _ in 0..3 {
            assert!(make_room(&mut read, &mut share, UNIT_BYTES, length));
            read.resize(read.len() + UNIT_BYTES, 0);
        }
        assert_eq!((read.capacity(), share.held()), (length, 3));
    }

    #[test]
    fn parts_of_accounts_are_below_the_whole() {
        assert_eq!((BUDGET_BYTES / ACCOUNT_BYTES, ACCOUNT_BYTES / PAYLOAD_BYTES_MAX), (4, 16));
    }
}
