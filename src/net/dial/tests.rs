//! Tests of the dial.

use std::net::{Ipv4Addr, TcpListener};

use mio::{Events, Poll};
use socket2::{Domain, Socket, Type};

use super::*;

const TOKEN: Token = Token(3);
const PATIENCE: Duration = Duration::from_secs(10);

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens.
fn closed() -> SocketAddr {
    listener().1
}

/// A listener whose backlog is full, so that the next connection gets no answer.
fn silent() -> (Socket, std::net::TcpStream, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let first = std::net::TcpStream::connect(address).unwrap();
    (socket, first, address)
}

/// Polls until the dial is decided by events alone.
fn decided(dial: &mut Dial, poll: &mut Poll, now: Instant) -> Progress {
    let mut events = Events::with_capacity(8);
    loop {
        match dial.poll(poll.registry(), TOKEN, now) {
            Progress::Dialing => poll.poll(&mut events, None).unwrap(),
            decided @ (Progress::Connected(..) | Progress::Failed(_)) => return decided,
        }
    }
}

#[test]
fn refused_address_is_followed_by_the_next() {
    let (_listener, open) = listener();
    let (mut poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut dial = Dial::new(vec![closed(), open], now + PATIENCE);
    let Progress::Connected(stream, address) = decided(&mut dial, &mut poll, now) else { panic!() };
    assert_eq!(address, open);
    assert!(stream.nodelay().unwrap());
}

#[test]
fn failure_names_every_address() {
    let (first, second) = (closed(), closed());
    let (mut poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut dial = Dial::new(vec![first, second], now + PATIENCE);
    let Progress::Failed(error) = decided(&mut dial, &mut poll, now) else { panic!() };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let text = error.to_string();
    assert!(text.contains(&first.to_string()) && text.contains(&second.to_string()), "{text}");
    assert_eq!(text.matches("refused").count(), 2, "{text}");
}

#[test]
fn silent_address_is_overtaken_after_the_stagger_and_goes_on() {
    let (_silent, _first, dead) = silent();
    let (_listener, open) = listener();
    let (mut poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut dial = Dial::new(vec![dead, open], now + PATIENCE);
    let early = now + STAGGER - Duration::from_millis(1);
    for at in [now, early] {
        assert!(matches!(dial.poll(poll.registry(), TOKEN, at), Progress::Dialing));
        assert_eq!(dial.next_deadline(), Some(now + STAGGER));
        assert_eq!((dial.attempts.len(), dial.waiting.len()), (1, 1));
    }
    let begun = dial.poll(poll.registry(), TOKEN, now + STAGGER);
    assert!(matches!(begun, Progress::Dialing | Progress::Connected(..)), "{begun:?}");
    let address = match begun {
        Progress::Connected(_, address) => address,
        _ => {
            assert_eq!(dial.attempts.len(), 2, "the first attempt goes on");
            let Progress::Connected(_, address) = decided(&mut dial, &mut poll, now + STAGGER) else { panic!() };
            address
        }
    };
    assert_eq!(address, open);
}

#[test]
fn address_that_answers_late_still_wins() {
    let (silent, first, slow) = silent();
    let (_other, _second, dead) = self::silent();
    let (mut poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut dial = Dial::new(vec![slow, dead], now + PATIENCE);
    for at in [now, now + STAGGER] {
        assert!(matches!(dial.poll(poll.registry(), TOKEN, at), Progress::Dialing));
    }
    // Room in the backlog: the SYN that is sent again finds it.
    silent.accept().unwrap();
    drop(first);
    let Progress::Connected(_, address) = decided(&mut dial, &mut poll, now + STAGGER) else { panic!() };
    assert_eq!(address, slow);
}

#[test]
fn attempts_in_flight_are_bounded_and_the_oldest_makes_room() {
    let (_silent, _first, dead) = silent();
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut dial = Dial::new(vec![dead; 2 * IN_FLIGHT_MAX], now + PATIENCE);
    let mut most = 0;
    for step in 0..20 {
        let progress = dial.poll(poll.registry(), TOKEN, now + STAGGER * step);
        assert!(matches!(progress, Progress::Dialing) == (STAGGER * step < PATIENCE), "{step}: {progress:?}");
        most = most.max(dial.attempts.len());
    }
    assert_eq!((most, dial.waiting.len()), (IN_FLIGHT_MAX, 0));
}

#[test]
fn families_alternate_beginning_with_the_first() {
    let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let (a, b, c) = ("[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1");
    let (x, y) = ("192.0.2.1:1", "192.0.2.2:1");
    for (given, expected) in [
        (vec![a, b, c, x, y], vec![a, x, b, y, c]),
        (vec![x, y, a], vec![x, a, y]),
        (vec![x, y], vec![x, y]),
        (vec![], vec![]),
    ] {
        assert_eq!(families_in_turn(read(&given)), read(&expected));
    }
}

#[test]
fn dial_ends_at_its_deadline_whatever_is_left() {
    let (_silent, _first, dead) = silent();
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut dial = Dial::new(vec![dead, dead, dead], now + PATIENCE);
    assert!(matches!(dial.poll(poll.registry(), TOKEN, now), Progress::Dialing));
    assert_eq!(dial.next_deadline(), Some(now + STAGGER));
    let Progress::Failed(error) = dial.poll(poll.registry(), TOKEN, now + PATIENCE) else { panic!() };
    assert_eq!(error.to_string(), format!("{dead}: timed out"));
}

#[test]
fn dial_without_addresses_fails() {
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    let mut dial = Dial::new(Vec::new(), now + PATIENCE);
    let Progress::Failed(error) = dial.poll(poll.registry(), TOKEN, now) else { panic!() };
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn attempt_gets_its_share_but_never_more_than_is_left() {
    let now = Instant::now();
    let after = |secs| now + Duration::from_secs(secs);
    assert_eq!(attempt_deadline(now, after(10), 1), after(10));
    assert_eq!(attempt_deadline(now, after(10), IN_FLIGHT_MAX), after(10));
    assert_eq!(attempt_deadline(now, after(10), IN_FLIGHT_MAX + 1), after(5));
    assert_eq!(attempt_deadline(now, after(10), 8 * IN_FLIGHT_MAX), after(2));
    assert_eq!(attempt_deadline(now, after(1), 8 * IN_FLIGHT_MAX), after(1));
}
