//! The addresses of the way to the gateway as experience has them: which to fall back on when nobody can look the name
//! up, and which to try last.

use std::net::SocketAddr;

use crate::config::HostPort;
use crate::net::resolve::ADDRESSES_MAX;

/// What is known of the addresses of the gateway, or of the proxy in front of it. Lost with the process.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Whose they are.
    place: Option<HostPort>,
    /// Those of the attempt that last led to a session, the one that did first; at most [`ADDRESSES_MAX`].
    last_good: Vec<SocketAddr>,
    /// Those of the attempt under way.
    tried: Vec<SocketAddr>,
    /// Those that took the connection and then led to no session, the latest last; at most [`ADDRESSES_MAX`].
    mute: Vec<SocketAddr>,
}

impl Addresses {
    /// Before an attempt at this place: what is known of another one counts no more.
    pub(super) fn begin(&mut self, place: &HostPort) {
        if self.place.as_ref() != Some(place) {
            *self = Self { place: Some(place.clone()), ..Self::default() };
        }
    }

    /// What to dial, in its order: addresses that took a connection and came to nothing go last, so that one dead server
    /// behind a living host, or a path that swallows large packets, does not hide the others.
    pub(super) fn arrange(&mut self, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let (mut mute, mut order): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| self.mute.contains(it));
        mute.sort_by_key(|address| self.mute.iter().position(|it| it == address));
        order.append(&mut mute);
        self.tried.clone_from(&order);
        order
    }

    /// What to dial when the name cannot be looked up; empty before the first session.
    pub(super) fn last_good(&self) -> &[SocketAddr] {
        &self.last_good
    }

    /// A session is up through this address.
    pub(super) fn on_session(&mut self, address: SocketAddr) {
        self.mute.clear();
        self.last_good = vec![address];
        self.last_good.extend(self.tried.iter().copied().filter(|it| *it != address));
        self.last_good.truncate(ADDRESSES_MAX);
    }

    /// This address took the connection, and no session came of it.
    pub(super) fn on_mute(&mut self, address: SocketAddr) {
        self.mute.retain(|it| *it != address);
        self.mute.push(address);
        if self.mute.len() > ADDRESSES_MAX {
            self.mute.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, u8::try_from(last).unwrap()], 443))
    }

    fn list(lasts: &[usize]) -> Vec<SocketAddr> {
        lasts.iter().map(|last| address(*last)).collect()
    }

    #[test]
    fn addresses_of_the_last_session_are_kept_the_good_one_first() {
        let mut addresses = Addresses::default();
        assert!(addresses.last_good().is_empty());
        addresses.arrange(list(&[1, 2, 3]));
        assert!(addresses.last_good().is_empty(), "an attempt is no session");
        addresses.on_session(address(2));
        assert_eq!(addresses.last_good(), list(&[2, 1, 3]));
        addresses.arrange(list(&[4]));
        assert_eq!(addresses.last_good(), list(&[2, 1, 3]));
        addresses.on_session(address(4));
        assert_eq!(addresses.last_good(), list(&[4]));
    }

    #[test]
    fn another_place_begins_without_knowledge() {
        let place = |text| HostPort::parse_connect_url(text).unwrap();
        let mut addresses = Addresses::default();
        addresses.begin(&place("a.example"));
        addresses.arrange(list(&[1]));
        addresses.on_session(address(1));
        addresses.begin(&place("a.example"));
        assert_eq!(addresses.last_good(), list(&[1]));
        addresses.begin(&place("b.example"));
        assert!(addresses.last_good().is_empty());
    }

    #[test]
    fn mute_addresses_are_tried_last_and_in_turn() {
        let mut addresses = Addresses::default();
        let all = [1, 2, 3];
        for (mute, order) in [(1, [2, 3, 1]), (2, [3, 1, 2]), (3, [1, 2, 3]), (1, [2, 3, 1])] {
            addresses.on_mute(address(mute));
            assert_eq!(addresses.arrange(list(&all)), list(&order));
        }
        addresses.on_session(address(3));
        assert_eq!(addresses.arrange(list(&all)), list(&all));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut addresses = Addresses::default();
        for last in 0..2 * ADDRESSES_MAX {
            addresses.on_mute(address(last));
        }
        assert_eq!(addresses.mute.len(), ADDRESSES_MAX);
        addresses.arrange((0..2 * ADDRESSES_MAX).map(address).collect());
        addresses.on_session(address(0));
        assert_eq!(addresses.last_good().len(), ADDRESSES_MAX);
    }
}
