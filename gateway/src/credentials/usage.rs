//! What all sessions of a credential use together, held to its limits.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
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
    /// When the bytes that were moved are paid for.
    bytes_free_at: Option<Instant>,
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

/// One direction of a stream, waiting for its credential to have bytes free. A direction has one task.
#[derive(Debug, Default)]
struct Pace(Option<Pin<Box<Sleep>>>);

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
        let mut counts = self.lock();
        if counts.limits.streams_max.is_some_and(|max| counts.streams >= max) {
            return Err(self.reached(counts, "credentials.limits.streams_max", now));
        }
        if let Some(per_second) = counts.limits.new_streams_per_second_max {
            // As many as in a second at once, and then one after the other.
            let free_at = counts.streams_free_at.map_or(now, |at| at.max(now));
            let step = Duration::from_secs(1) / per_second;
            if free_at.saturating_duration_since(now) + step > Duration::from_secs(1) {
                return Err(self.reached(counts, "credentials.limits.new_streams_per_second_max", now));
            }
            counts.streams_free_at = free_at.checked_add(step);
        }
        counts.streams += 1;
        drop(counts);
        Ok(Place { usage: Arc::clone(self), reader: Pace::default(), writer: Pace::default() })
    }

    /// Holds all its sessions to these limits from now on.
    pub(crate) fn set_limits(&self, limits: CredentialLimits) {
        self.bytes_per_second.store(limits.bytes_per_second_max.unwrap_or_default(), Ordering::Relaxed);
        self.lock().limits = limits;
    }

    fn rate(&self) -> Option<u64> {
        Some(self.bytes_per_second.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// Until when nothing may move, because more has moved already than may have.
    fn wait_until(&self, now: Instant) -> Option<Instant> {
        let free_at = self.lock().bytes_free_at?.checked_sub(AHEAD)?;
        Some(free_at).filter(|free_at| *free_at > now)
    }

    fn spend(&self, bytes: usize, now: Instant) {
        let Some(rate) = self.rate() else { return };
        let time = Duration::from_nanos((bytes as u64).saturating_mul(NANOSECONDS) / rate);
        let mut counts = self.lock();
        let free_at = counts.bytes_free_at.map_or(now, |at| at.max(now));
        counts.bytes_free_at = free_at.checked_add(time);
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
    /// Waits until the stream may be read from, and says how many bytes at most. `None`: as many as there are.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.reader.poll(&self.usage, cx)
    }

    /// The same for writing.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.writer.poll(&self.usage, cx)
    }

    /// Counts what was moved.
    pub(crate) fn spend(&self, bytes: usize) {
        self.usage.spend(bytes, tokio::time::Instant::now().into_std());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.usage.lock();
        counts.streams = counts.streams.saturating_sub(1);
    }
}

impl Pace {
    fn poll(&mut self, usage: &Usage, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        loop {
            if let Some(sleep) = &mut self.0 {
                ready!(sleep.as_mut().poll(cx));
                self.0 = None;
            }
            let Some(rate) = usage.rate() else { return Poll::Ready(None) };
            let Some(until) = usage.wait_until(tokio::time::Instant::now().into_std()) else {
                let step = usize::try_from(rate / STEPS_PER_SECOND).unwrap_or(usize::MAX);
                return Poll::Ready(Some(step.clamp(STEP_LEAST, STEP_MOST)));
            };
            self.0 = Some(Box::pin(sleep_until(until.into())));
        }
    }
}

const NANOSECONDS: u64 = 1_000_000_000;
/// How far the bytes of a credential may be ahead: less makes short answers wait, more makes peaks.
const AHEAD: Duration = Duration::from_millis(100);
/// No piece holds the others of its credential for longer than a sixteenth of a second.
const STEPS_PER_SECOND: u64 = 16;
/// A packet's payload, about.
const STEP_LEAST: usize = 1 << 10;
/// More at once helps nobody.
const STEP_MOST: usize = 64 << 10;
/// One line a minute and credential about limits that turn visitors away.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
