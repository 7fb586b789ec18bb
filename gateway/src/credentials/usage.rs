//! What all sessions of a credential use together, held to its limits.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};
use tracing::warn;

use crate::config::accounts::{Accounts, Credential, CredentialLimits};

/// The use of every credential that has a session or a stream.
#[derive(Debug, Default)]
pub(crate) struct Usages(Mutex<HashMap<Arc<str>, Weak<Usage>>>);

/// The use of one credential.
#[derive(Debug)]
pub(crate) struct Usage {
    credential: Arc<str>,
    counts: Mutex<Counts>,
    /// Bytes in a second; zero: as many as come. Beside the lock, because it is read for every piece of every stream.
    bytes_per_second: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    limits: CredentialLimits,
    streams: usize,
    /// When the streams that were begun are paid for.
    streams_free_at: Option<Instant>,
    /// When the bytes that were moved, and those of the slots that were given, are paid for.
    bytes_free_at: Option<Instant>,
    /// Slots given so far.
    slots: u64,
    /// Slots before this one were given at another rate, and are void.
    slots_valid_from: u64,
    /// Those who wait for the time of their slot, at most two for each stream.
    waiting: BTreeMap<u64, Waker>,
    /// When a limit was last told of.
    told_at: Option<Instant>,
}

/// The place of one stream within its credential's limits; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    usage: Arc<Usage>,
    reader: Pace,
    writer: Pace,
}

/// One direction of a stream, and the slot it waits for. A direction has one task.
#[derive(Debug, Default)]
struct Pace(Option<Wait>);

#[derive(Debug)]
struct Wait {
    slot: Slot,
    sleep: Pin<Box<Sleep>>,
}

/// The right to move some bytes from a moment on. Slots follow each other at the credential's rate, first come first served.
#[derive(Debug)]
struct Slot {
    number: u64,
    bytes: usize,
    /// At which it was given, in bytes in a second.
    rate: u64,
}

/// The limit with this key is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached(pub(crate) &'static str);

impl Usages {
    /// The use of a credential, which all its sessions share.
    pub(crate) fn of(&self, credential: &Credential) -> Arc<Usage> {
        let mut usages = self.lock();
        if let Some(usage) = usages.get(&credential.id).and_then(Weak::upgrade) {
            return usage;
        }
        if usages.len() == usages.capacity() {
            // Whoever has gone makes room before the table grows.
            usages.retain(|_, usage| usage.strong_count() > 0);
        }
        let usage = Arc::new(Usage {
            credential: Arc::clone(&credential.id),
            counts: Mutex::default(),
            bytes_per_second: AtomicU64::new(0),
        });
        usage.set_limits(credential.limits);
        usages.insert(Arc::clone(&credential.id), Arc::downgrade(&usage));
        usage
    }

    /// Holds everybody to the limits of a new configuration, from now on.
    pub(crate) fn follow(&self, accounts: &Accounts) {
        for (id, usage) in &*self.lock() {
            if let (Some(usage), Some(credential)) = (usage.upgrade(), accounts.credential(id)) {
                usage.set_limits(credential.limits);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Usage>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    /// Takes the place of a new stream.
    pub(crate) fn enter(self: &Arc<Self>, now: Instant) -> Result<Place, LimitReached> {
        let mut counts = self.with_room(now)?;
        if let Some(per_second) = counts.limits.new_streams_per_second_max {
            // As many as in a second at once, and then one after the other.
            let free_at = counts.streams_free_at.map_or(now, |at| at.max(now));
            let step = Duration::from_secs(1) / per_second;
            if free_at.saturating_duration_since(now) + step > Duration::from_secs(1) {
                return Err(self.reached(counts, "credentials.limits.new_streams_per_second_max", now));
            }
            counts.streams_free_at = free_at.checked_add(step);
        }
        Ok(self.place(counts))
    }

    /// The same for a stream in place of one that has gone before it was of any use: it is no new one.
    pub(crate) fn enter_again(self: &Arc<Self>, now: Instant) -> Result<Place, LimitReached> {
        Ok(self.place(self.with_room(now)?))
    }

    fn with_room(&self, now: Instant) -> Result<MutexGuard<'_, Counts>, LimitReached> {
        let counts = self.lock();
        if counts.limits.streams_max.is_some_and(|max| counts.streams >= max) {
            return Err(self.reached(counts, "credentials.limits.streams_max", now));
        }
        Ok(counts)
    }

    fn place(self: &Arc<Self>, mut counts: MutexGuard<'_, Counts>) -> Place {
        counts.streams += 1;
        Place { usage: Arc::clone(self), reader: Pace::default(), writer: Pace::default() }
    }

    /// Holds all its sessions to these limits from now on.
    pub(crate) fn set_limits(&self, limits: CredentialLimits) {
        let mut counts = self.lock();
        let is_new_rate = counts.limits.bytes_per_second_max != limits.bytes_per_second_max;
        counts.limits = limits;
        if !is_new_rate {
            return;
        }
        self.bytes_per_second.store(limits.bytes_per_second_max.unwrap_or_default(), Ordering::Relaxed);
        counts.bytes_free_at = None;
        counts.slots_valid_from = counts.slots;
        let waiting = mem::take(&mut counts.waiting);
        drop(counts);
        // In their order, in which they get new slots.
        waiting.into_values().for_each(Waker::wake);
    }

    fn is_paced(&self) -> bool {
        self.bytes_per_second.load(Ordering::Relaxed) > 0
    }

    /// Gives the next slot and when its time comes. `None`: nothing has to wait.
    fn reserve(&self, now: Instant) -> Option<(Slot, Instant)> {
        let mut counts = self.lock();
        let rate = counts.limits.bytes_per_second_max?;
        // The more there are, the less each moves at a time, so that all have their turn within about a second. Also those that
        // do not wait yet count: they may all come at once.
        let slots_per_second = STEPS_PER_SECOND.max(counts.streams as u64);
        let step = usize::try_from(rate / slots_per_second).unwrap_or(usize::MAX);
        let bytes = step.clamp(STEP_LEAST, STEP_MOST);
        let free_at = counts.bytes_free_at.map_or(now, |at| at.max(now));
        counts.bytes_free_at = free_at.checked_add(time_of(bytes, rate));
        let number = counts.slots;
        counts.slots = number.saturating_add(1);
        Some((Slot { number, bytes, rate }, free_at.checked_sub(AHEAD).unwrap_or(now)))
    }

    /// Has whoever waits woken when its slot is void; tells whether it still holds.
    fn keep_waiting(&self, slot: &Slot, waker: &Waker) -> bool {
        let mut counts = self.lock();
        let is_valid = slot.number >= counts.slots_valid_from;
        if is_valid {
            counts.waiting.insert(slot.number, waker.clone());
        }
        is_valid
    }

    /// The time of a slot has come; tells whether it still holds.
    fn begin(&self, slot: &Slot) -> bool {
        let mut counts = self.lock();
        counts.waiting.remove(&slot.number);
        slot.number >= counts.slots_valid_from
    }

    /// Gives back what was not moved: the next slot comes so much sooner.
    fn give_back(&self, slot: &Slot, moved: usize) {
        let unused = slot.bytes.saturating_sub(moved);
        let mut counts = self.lock();
        counts.waiting.remove(&slot.number);
        if unused == 0 || slot.number < counts.slots_valid_from {
            return;
        }
        counts.bytes_free_at = counts.bytes_free_at.and_then(|at| at.checked_sub(time_of(unused, slot.rate)));
    }

    /// Says so, once in a while.
    fn reached(&self, mut counts: MutexGuard<'_, Counts>, limit: &'static str, now: Instant) -> LimitReached {
        let is_due = counts.told_at.is_none_or(|at| now.saturating_duration_since(at) >= TELL_INTERVAL);
        if is_due {
            counts.told_at = Some(now);
            drop(counts);
            warn!(credential = %self.credential, limit, "a limit of the credential is reached: visitors are turned away");
        }
        LimitReached(limit)
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Reads from the stream once its credential has bytes free. `read` gets how many it may read at most (`None`: as many
    /// as there are), and gives how many it has read.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Context<'_>, Option<usize>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.reader.poll(&self.usage, cx, read)
    }

    /// The same for writing.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Context<'_>, Option<usize>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.writer.poll(&self.usage, cx, write)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for wait in [self.reader.0.take(), self.writer.0.take()].into_iter().flatten() {
            self.usage.give_back(&wait.slot, 0);
        }
        let mut counts = self.usage.lock();
        counts.streams = counts.streams.saturating_sub(1);
    }
}

impl Pace {
    fn poll(
        &mut self,
        usage: &Usage,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Context<'_>, Option<usize>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Some(slot) = ready!(self.poll_slot(usage, cx)) else { return act(cx, None) };
        let moved = act(cx, Some(slot.bytes));
        // Whoever has nothing to move yet keeps no slot: it would hold the others.
        let count = if let Poll::Ready(Ok(count)) = &moved { *count } else { 0 };
        usage.give_back(&slot, count);
        moved
    }

    fn poll_slot(&mut self, usage: &Usage, cx: &mut Context<'_>) -> Poll<Option<Slot>> {
        loop {
            if let Some(mut wait) = self.0.take() {
                let is_due = wait.sleep.as_mut().poll(cx).is_ready();
                if !is_due && usage.keep_waiting(&wait.slot, cx.waker()) {
                    self.0 = Some(wait);
                    return Poll::Pending;
                }
                if is_due && usage.begin(&wait.slot) {
                    return Poll::Ready(Some(wait.slot));
                }
            }
            if !usage.is_paced() {
                return Poll::Ready(None);
            }
            let now = tokio::time::Instant::now().into_std();
            let Some((slot, at)) = usage.reserve(now) else { return Poll::Ready(None) };
            if at <= now {
                return Poll::Ready(Some(slot));
            }
            self.0 = Some(Wait { slot, sleep: Box::pin(sleep_until(at.into())) });
        }
    }
}

/// How long so many bytes take. A rate is never zero: see the limits of the configuration.
fn time_of(bytes: usize, rate: u64) -> Duration {
    Duration::from_nanos((bytes as u64).saturating_mul(NANOSECONDS) / rate.max(1))
}

const NANOSECONDS: u64 = 1_000_000_000;
/// How far the bytes of a credential may be ahead: less makes short answers wait, more makes peaks.
const AHEAD: Duration = Duration::from_millis(100);
/// No slot holds the others of its credential for longer than a sixteenth of a second.
const STEPS_PER_SECOND: u64 = 16;
/// A packet's payload, about.
const STEP_LEAST: usize = 1 << 10;
/// More at once helps nobody.
const STEP_MOST: usize = 64 << 10;
/// One line a minute and credential about limits that turn visitors away.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
