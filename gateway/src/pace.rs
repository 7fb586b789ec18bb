//! How fast agents are let in when they all come at once: their replies are spread, nobody is refused for coming.
//!
//! Pure arithmetic with `now` handed in. An agent gets its turn at once as long as there is room, then in order, at the
//! configured rate. Agents that understand it are sent away when the queue is long, each with a time of its own to come
//! back at; the official ones would take that for a failure, which costs the Rust family minutes, so they wait here.
//!
//! A credential that logs in all the time, because it has a large fleet or because one agent of it loops, gets a queue of
//! its own, and the queues share the rate: so it keeps itself waiting and nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Hands out turns.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Of all credentials that log in no more than [`FREQUENT`] times.
    usual: Queue,
    /// Credentials that have logged in of late, at most [`CREDENTIALS_MAX`].
    credentials: HashMap<Arc<str>, Share>,
}

/// Turns in their order.
#[derive(Clone, Debug, Default)]
struct Queue {
    /// When the queue will have been worked off; in the past as long as nobody waits.
    free_at: Option<Instant>,
    /// The latest time that somebody who was sent away was given.
    told_until: Option<Instant>,
}

/// What a credential has had.
#[derive(Debug)]
struct Share {
    /// Log-ins since then, and in the period before.
    since: Instant,
    count: usize,
    before: usize,
    /// Its own, while it is frequent.
    queue: Option<Queue>,
}

/// When an agent gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Then, or at once if that is over.
    At(Instant),
    /// It is to come back after so long.
    Later(Duration),
}

/// What an agent makes of having to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It comes back when it is told to.
    ComesBack,
    /// It takes every refusal for a failure, and waits for a reply for as long as it has to.
    Waits,
}

impl Pace {
    /// Gives an agent of this credential the next turn, at `per_second` turns in a second for all together, and those of
    /// [`BURST`] at once after a quiet time. Turns that were given while fewer queues were busy stay as they are.
    pub(crate) fn turn(&mut self, credential: &Arc<str>, per_second: usize, patience: Patience, now: Instant) -> Turn {
        self.add(credential, now);
        let queues = self.credentials.values().filter_map(|share| share.queue.as_ref()).chain([&self.usual]);
        let busy = queues.filter(|queue| queue.is_busy(now)).count();
        let own = self.credentials.get_mut(credential).and_then(|share| share.queue.as_mut());
        let (queue, burst) = own.map_or((&mut self.usual, BURST), |own| (own, Duration::ZERO));
        let others = busy - usize::from(queue.is_busy(now));
        let sharers = u32::try_from(others + 1).unwrap_or(u32::MAX);
        queue.turn(interval(per_second).saturating_mul(sharers), burst, patience, now)
    }

    /// Counts a log-in, and gives a credential that is frequent a queue of its own: it begins where the usual one is, which
    /// that credential has filled.
    fn add(&mut self, credential: &Arc<str>, now: Instant) {
        if let Some(share) = self.credentials.get_mut(credential) {
            if share.add(now) <= FREQUENT {
                share.queue = None;
            } else if share.queue.is_none() {
                share.queue = Some(self.usual.clone());
            }
            return;
        }
        if self.credentials.len() >= CREDENTIALS_MAX {
            self.credentials.retain(|_, share| share.is_fresh(now));
        }
        // Where there are more of them, none of them has much of the rate.
        if self.credentials.len() < CREDENTIALS_MAX {
            self.credentials.insert(Arc::clone(credential), Share { since: now, count: 1, before: 0, queue: None });
        }
    }
}

impl Share {
    /// Counts one more, and gives how many there were of late.
    fn add(&mut self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= PERIOD {
            let before = if elapsed < 2 * PERIOD { self.count } else { 0 };
            (self.since, self.count, self.before) = (now, 0, before);
        }
        self.count = self.count.saturating_add(1);
        self.count.saturating_add(self.before)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < 2 * PERIOD
    }
}

impl Queue {
    /// Somebody waits, or the time of the last turn is not over.
    fn is_busy(&self, now: Instant) -> bool {
        self.free_at.is_some_and(|at| at > now)
    }

    fn turn(&mut self, interval: Duration, burst: Duration, patience: Patience, now: Instant) -> Turn {
        let free_at = self.free_at.map_or(now, |at| at.max(now));
        let at = free_at.checked_sub(burst).map_or(now, |at| at.max(now));
        let wait = at.saturating_duration_since(now);
        let wait_max = match patience {
            Patience::ComesBack => QUEUE_MAX,
            Patience::Waits => PATIENT_QUEUE_MAX,
        };
        if wait <= wait_max {
            self.free_at = free_at.checked_add(interval);
            return Turn::At(at);
        }
        match patience {
            Patience::ComesBack => Turn::Later(self.later(interval, now)),
            // Without a place in the queue of its own: the queue must not grow by those who do not fit.
            Patience::Waits => Turn::At(now.checked_add(wait_max).unwrap_or(now)),
        }
    }

    /// A time to come back at, when the queue has been worked off and the others who were sent away have had theirs.
    fn later(&mut self, interval: Duration, now: Instant) -> Duration {
        let earliest = now.checked_add(QUEUE_MAX).unwrap_or(now);
        let at = self.told_until.map_or(earliest, |until| until.max(earliest)).checked_add(interval);
        let away = at.map_or(AWAY_MAX, |at| at.saturating_duration_since(now));
        if away > AWAY_MAX {
            // More than fit: another round over the same time.
            self.told_until = Some(earliest);
            return QUEUE_MAX;
        }
        self.told_until = at;
        away
    }
}

/// When the session with this number, counted from 0, is to come back after all have been sent away at once.
pub(crate) fn slot(number: usize, per_second: usize) -> Duration {
    let slots = AWAY_MAX.as_nanos() / interval(per_second).as_nanos().max(1);
    let number = u128::try_from(number).unwrap_or(u128::MAX) % slots.max(1);
    interval(per_second).saturating_mul(u32::try_from(number).unwrap_or(u32::MAX)).min(AWAY_MAX)
}

fn interval(per_second: usize) -> Duration {
    Duration::from_secs(1) / u32::try_from(per_second).unwrap_or(u32::MAX).max(1)
}

/// Turns that a quiet time leaves over, as the time they stand for. More of them would be the peak of a storm.
const BURST: Duration = Duration::from_millis(250);
/// Log-ins within [`PERIOD`] and the one before, from which on a credential has a queue of its own: more than agents of a
/// few boxes need, also when their line flaps, and a second and a half of the default rate.
const FREQUENT: usize = 60;
const PERIOD: Duration = Duration::from_secs(60);
/// Credentials that are counted at a time: with so many at work the rate is used up without anybody being frequent.
const CREDENTIALS_MAX: usize = 4096;
/// How long an agent that comes back when told waits for its reply: within the 10 s that its whole attempt may take.
const QUEUE_MAX: Duration = Duration::from_secs(3);
/// How long an official agent waits for its reply: a person who starts one still takes it for slow and not for broken.
const PATIENT_QUEUE_MAX: Duration = Duration::from_secs(20);
/// The longest time that agents are sent away for: what they honour.
pub(crate) const AWAY_MAX: Duration = adit::backoff::RETRY_AFTER_MAX;

#[cfg(test)]
mod tests;
