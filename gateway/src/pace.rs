//! How fast agents are let in when they all come at once: their replies are spread, nobody is refused for coming.
//!
//! Pure arithmetic with `now` handed in. An agent gets its turn at once as long as there is room, then in order, at the
//! configured rate. Agents that understand it are sent away when the queue is long, each with a time of its own to come
//! back at; the official ones would take that for a failure, which costs the Rust family minutes, so they wait here.

use std::time::{Duration, Instant};

/// Hands out turns.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the queue will have been worked off; in the past as long as nobody waits.
    free_at: Option<Instant>,
    /// The latest time that somebody who was sent away was given.
    told_until: Option<Instant>,
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
    /// Gives the next turn, at `per_second` turns in a second, and those of [`BURST`] at once after a quiet time.
    pub(crate) fn turn(&mut self, per_second: usize, patience: Patience, now: Instant) -> Turn {
        let interval = interval(per_second);
        let free_at = self.free_at.map_or(now, |at| at.max(now));
        let at = free_at.checked_sub(BURST).map_or(now, |at| at.max(now));
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
/// How long an agent that comes back when told waits for its reply: within the 10 s that its whole attempt may take.
const QUEUE_MAX: Duration = Duration::from_secs(3);
/// How long an official agent waits for its reply: a person who starts one still takes it for slow and not for broken.
const PATIENT_QUEUE_MAX: Duration = Duration::from_secs(20);
/// The longest time that agents are sent away for: what they honour.
pub(crate) const AWAY_MAX: Duration = adit::backoff::RETRY_AFTER_MAX;

#[cfg(test)]
mod tests;
