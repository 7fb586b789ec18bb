//! How often one visitor may begin a TLS handshake, and how many steps of handshakes one turn of the loop does: a
//! signature takes a small CPU tens of milliseconds, in which nothing else moves.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The allowance of each source, and of the present turn.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    sources: Vec<Source>,
    step_taken: bool,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    prefix: Option<IpAddr>,
    /// When its allowance is whole again. The further ahead, the less is left.
    whole_at: Instant,
}

impl Handshakes {
    /// A new turn of the loop.
    pub(super) fn begin_turn(&mut self) {
        self.step_taken = false;
    }

    /// Whether a step may be done in this turn; the first who asks gets it.
    pub(super) fn take_step(&mut self) -> bool {
        !std::mem::replace(&mut self.step_taken, true)
    }

    /// Whether a visitor from `source` may begin one. Those whose address nobody knows share an allowance.
    pub(super) fn admit(&mut self, source: Option<IpAddr>, now: Instant) -> bool {
        let prefix = source.map(prefix_of);
        self.sources.retain(|other| other.whole_at > now);
        let known = self.sources.iter_mut().find(|other| other.prefix == prefix);
        let Some(source) = known else {
            if self.sources.len() >= SOURCES_MAX {
                self.forget_one();
            }
            self.sources.push(Source { prefix, whole_at: now + INTERVAL });
            return true;
        };
        if source.whole_at.saturating_duration_since(now) > INTERVAL * (BURST - 1) {
            return false;
        }
        source.whole_at += INTERVAL;
        true
    }

    /// The one that has used least of its allowance.
    fn forget_one(&mut self) {
        let least = self.sources.iter().enumerate().min_by_key(|(_, source)| source.whole_at);
        if let Some((index, _)) = least {
            self.sources.swap_remove(index);
        }
    }
}

/// One customer's IPv6 network counts as one source.
fn prefix_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// Handshakes of one source in the long run: one in this time.
const INTERVAL: Duration = Duration::from_millis(200);

/// Handshakes of one source at once: a browser opens six connections, a pool of a database ten to twenty.
const BURST: u32 = 20;

/// Sources remembered; each has at most 32 bytes.
const SOURCES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn source_gets_its_burst_then_its_rate_and_spares_the_others() {
        let (mut handshakes, start) = (Handshakes::default(), Instant::now());
        let one = ip("192.0.2.1");
        for _ in 0..BURST {
            assert!(handshakes.admit(one, start));
        }
        assert!(!handshakes.admit(one, start));
        assert!(handshakes.admit(ip("192.0.2.2"), start));
        assert!(handshakes.admit(None, start));
        assert!(handshakes.admit(one, start + INTERVAL));
        assert!(!handshakes.admit(one, start + INTERVAL));
        for _ in 0..BURST {
            assert!(handshakes.admit(one, start + INTERVAL * 100));
        }
    }

    #[test]
    fn network_of_ipv6_is_one_source_and_a_mapped_address_is_ipv4() {
        let (mut handshakes, now) = (Handshakes::default(), Instant::now());
        for number in 0..BURST {
            assert!(handshakes.admit(ip(&format!("2001:db8::{number:x}")), now));
        }
        assert!(!handshakes.admit(ip("2001:db8::ffff:1"), now));
        assert!(handshakes.admit(ip("2001:db8:0:1::1"), now));
        for _ in 0..BURST {
            assert!(handshakes.admit(ip("::ffff:192.0.2.1"), now));
        }
        assert!(!handshakes.admit(ip("192.0.2.1"), now));
    }

    #[test]
    fn table_is_bounded_and_keeps_those_who_ask_most() {
        let (mut handshakes, now) = (Handshakes::default(), Instant::now());
        let busy = ip("198.51.100.1");
        while handshakes.admit(busy, now) {}
        for number in 0..u32::try_from(SOURCES_MAX).unwrap() * 2 {
            assert!(handshakes.admit(Some(IpAddr::V4(number.into())), now));
            assert!(handshakes.sources.len() <= SOURCES_MAX);
        }
        assert!(!handshakes.admit(busy, now));
    }

    #[test]
    fn one_step_a_turn() {
        let mut handshakes = Handshakes::default();
        assert!(handshakes.take_step());
        assert!(!handshakes.take_step());
        handshakes.begin_turn();
        assert!(handshakes.take_step());
    }
}
