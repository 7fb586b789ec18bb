//! Beats in both roles: the requester writes four opaque bytes, the responder writes the same four back.

use std::time::{Duration, Instant};

use super::random::Random;
use crate::mux::Key;

/// Length of a beat in bytes.
pub(super) const BEAT_LEN: usize = 4;

/// Collects a beat of the peer, in any chunking.
#[derive(Debug, Default)]
pub(super) struct Responder {
    beat: [u8; BEAT_LEN],
    len: usize,
}

impl Responder {
    /// Takes bytes; returns how many and, once complete, the beat to be written back.
    pub(super) fn push(&mut self, bytes: &[u8]) -> (usize, Option<[u8; BEAT_LEN]>) {
        let used = bytes.len().min(BEAT_LEN - self.len);
        self.beat[self.len..self.len + used].copy_from_slice(&bytes[..used]);
        self.len += used;
        if self.len < BEAT_LEN {
            return (used, None);
        }
        self.len = 0;
        (used, Some(self.beat))
    }
}

/// Sends beats, one outstanding at a time, and watches that they come back.
#[derive(Debug)]
pub(super) struct Requester {
    pub(super) key: Key,
    interval: Duration,
    tolerance: Duration,
    outstanding: Option<([u8; BEAT_LEN], Instant)>,
    reply: Responder,
    next_at: Instant,
    last_good: Instant,
}

impl Requester {
    /// Starts with a beat that is due at once.
    pub(super) fn new(key: Key, interval: Duration, tolerance: Duration, now: Instant) -> Self {
        Self { key, interval, tolerance, outstanding: None, reply: Responder::default(), next_at: now, last_good: now }
    }

    /// The beat to write now, if one is due.
    pub(super) fn poll(&mut self, random: &mut Random, now: Instant) -> Option<[u8; BEAT_LEN]> {
        if self.outstanding.is_some() || now < self.next_at {
            return None;
        }
        let [a, b, c, d, ..] = random.next().to_be_bytes();
        let beat = [a, b, c, d];
        self.outstanding = Some((beat, now));
        Some(beat)
    }

    /// Takes bytes that came back; returns how many and, when they are the outstanding beat, the round trip.
    pub(super) fn on_reply(&mut self, bytes: &[u8], now: Instant) -> (usize, Option<Duration>) {
        let (used, beat) = self.reply.push(bytes);
        match (beat, self.outstanding) {
            (Some(beat), Some((sent, at))) if beat == sent => {
                self.outstanding = None;
                self.last_good = now;
                self.next_at = at.checked_add(self.interval).unwrap_or(now).max(now);
                (used, Some(now.saturating_duration_since(at)))
            }
            // A wrong beat counts as none: the deadline decides.
            _ => (used, None),
        }
    }

    /// The peer has shown otherwise that it lives: its time counts from now.
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_good = self.last_good.max(now);
    }

    /// Interval and tolerance without a good reply.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// When to call next: a beat is due, or the peer counts as dead.
    pub(super) fn timeout(&self) -> Option<Instant> {
        if self.outstanding.is_some() { self.deadline() } else { Some(self.next_at) }
    }

    fn deadline(&self) -> Option<Instant> {
        self.last_good.checked_add(self.interval)?.checked_add(self.tolerance)
    }
}

/// Beats written back that may wait for the peer to read them, in bytes. Peers have one beat under way; one that sends
/// beats and reads none would fill the outboxes of all its streams.
pub(super) const ECHO_UNSENT_MAX: usize = 1024 * BEAT_LEN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::{Limits, Mux, Side};

    const INTERVAL: Duration = Duration::from_secs(10);
    const TOLERANCE: Duration = Duration::from_secs(15);

    fn requester(now: Instant) -> Requester {
        let key = Mux::new(Side::Agent, Limits::default()).open(b"type").unwrap();
        Requester::new(key, INTERVAL, TOLERANCE, now)
    }

    #[test]
    fn next_beat_is_due_one_interval_after_the_last_was_sent() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let mut requester = requester(now);
        let beat = requester.poll(&mut random, now).unwrap();
        assert_eq!(requester.poll(&mut random, now + INTERVAL * 9), None, "one is outstanding");
        let rtt = Duration::from_millis(70);
        assert_eq!(requester.on_reply(&beat[..1], now + rtt), (1, None));
        assert_eq!(requester.on_reply(&beat[1..], now + rtt), (3, Some(rtt)));
        assert_eq!(requester.timeout(), Some(now + INTERVAL));
        assert_eq!(requester.poll(&mut random, now + INTERVAL - Duration::from_millis(1)), None);
        assert!(requester.poll(&mut random, now + INTERVAL).is_some());
    }

    #[test]
    fn silence_or_a_wrong_beat_is_death_after_interval_and_tolerance() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let mut requester = requester(now);
        let beat = requester.poll(&mut random, now).unwrap();
        let wrong = beat.map(|byte| !byte);
        assert_eq!(requester.on_reply(&wrong, now), (4, None));
        assert!(!requester.is_dead(now + INTERVAL + TOLERANCE - Duration::from_millis(1)));
        assert!(requester.is_dead(now + INTERVAL + TOLERANCE));
        assert_eq!(requester.timeout(), Some(now + INTERVAL + TOLERANCE));
    }
}
