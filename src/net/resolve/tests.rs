//! Tests of the resolver.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::{Events, Poll, Token};

use super::*;

/// A resolver whose look-ups end when the test says so.
struct Bench {
    poll: Poll,
    resolver: Resolver,
    calls: Receiver<(String, Sender<io::Result<Vec<SocketAddr>>>)>,
    /// Look-ups that have begun and wait for an answer.
    begun: HashMap<String, Sender<io::Result<Vec<SocketAddr>>>>,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (call, calls) = channel();
        let call = Mutex::new(call);
        let resolver = Resolver::with_look_up(waker, move |name, _| {
            let (answer, answers) = channel();
            call.lock().unwrap().send((name.to_owned(), answer)).unwrap();
            answers.recv().unwrap_or_else(|_| Err(io::Error::other("the test is over")))
        });
        Self { poll, resolver, calls, begun: HashMap::new(), start: Instant::now() }
    }

    fn upstream(&mut self, host: &str) -> Lookup {
        self.resolver.lookup(host, 80, Purpose::Upstream, self.start)
    }

    fn connect(&mut self, host: &str) -> Lookup {
        self.resolver.lookup(host, 443, Purpose::Connect, self.start)
    }

    /// Waits until a look-up of exactly this name is under way in a thread.
    fn expect_begun(&mut self, name: &str) {
        while !self.begun.contains_key(name) {
            let (begun, answer) = self.calls.recv().unwrap();
            assert!(self.begun.insert(begun, answer).is_none(), "looked up twice at a time");
        }
    }

    fn begun_names(&mut self) -> Vec<String> {
        self.begun.extend(self.calls.try_iter());
        self.begun.keys().cloned().collect()
    }

    /// Ends a look-up and waits for the waker.
    fn answer(&mut self, name: &str, result: io::Result<Vec<SocketAddr>>) {
        self.expect_begun(name);
        self.begun.remove(name).unwrap().send(result).unwrap();
        let mut events = Events::with_capacity(4);
        while events.is_empty() {
            self.poll.poll(&mut events, None).unwrap();
        }
    }

    fn results(&mut self, now: Instant) -> Vec<(LookupId, Result<Vec<SocketAddr>, ResolveError>)> {
        std::iter::from_fn(|| self.resolver.poll(now)).collect()
    }
}

fn address(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], port))
}

fn pending(lookup: Lookup) -> LookupId {
    let Lookup::Pending(id) = lookup else { panic!("{lookup:?}") };
    id
}

#[test]
fn literal_and_localhost_need_no_look_up() {
    let mut bench = Bench::new();
    assert_eq!(bench.upstream("192.0.2.9"), Lookup::Ready(vec![address(9, 80)]));
    assert_eq!(bench.connect("2001:db8::1"), Lookup::Ready(vec!["[2001:db8::1]:443".parse().unwrap()]));
    let loopback = vec!["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()];
    assert_eq!(bench.upstream("localhost"), Lookup::Ready(loopback));
    assert!(bench.begun_names().is_empty());
    assert_eq!(bench.resolver.next_deadline(), None);
}

#[test]
fn look_ups_of_one_name_are_merged_and_the_result_is_kept_for_upstreams() {
    let mut bench = Bench::new();
    let first = pending(bench.upstream("db.lan"));
    bench.expect_begun("db.lan");
    let second = pending(bench.resolver.lookup("db.lan", 81, Purpose::Upstream, bench.start));
    bench.answer("db.lan", Ok(vec![address(1, 0), address(1, 0), address(2, 0)]));
    let expected =
        [(first, Ok(vec![address(1, 80), address(2, 80)])), (second, Ok(vec![address(1, 81), address(2, 81)]))];
    assert_eq!(bench.results(bench.start), expected);
    assert_eq!(bench.upstream("db.lan"), Lookup::Ready(vec![address(1, 80), address(2, 80)]));
    pending(bench.connect("db.lan"));
    bench.expect_begun("db.lan");
}

#[test]
fn failure_reaches_every_waiter_and_is_remembered_briefly() {
    let mut bench = Bench::new();
    let id = pending(bench.upstream("gone.lan"));
    bench.answer("gone.lan", Err(io::Error::other("no such name")));
    let error = ResolveError::Failed("no such name".into());
    assert_eq!(bench.results(bench.start), [(id, Err(error.clone()))]);
    assert_eq!(bench.upstream("gone.lan"), Lookup::Refused(error));
    let id = pending(bench.resolver.lookup("gone.lan", 80, Purpose::Upstream, bench.start + Duration::from_secs(2)));
    bench.answer("gone.lan", Ok(Vec::new()));
    assert_eq!(bench.results(bench.start), [(id, Err(ResolveError::NoAddresses))]);
}

#[test]
fn connect_url_does_not_wait_behind_upstreams() {
    let mut bench = Bench::new();
    pending(bench.upstream("slow.lan"));
    bench.expect_begun("slow.lan");
    pending(bench.upstream("next.lan"));
    let id = pending(bench.connect("connect.example.com"));
    bench.answer("connect.example.com", Ok(vec![address(7, 0)]));
    assert_eq!(bench.results(bench.start), [(id, Ok(vec![address(7, 443)]))]);
    // The free lane is the one that upstreams never use.
    assert_eq!(bench.begun_names(), ["slow.lan"]);
}

#[test]
fn connect_look_up_that_hangs_is_followed_by_one_on_the_other_lane() {
    let mut bench = Bench::new();
    let id = pending(bench.connect("connect.example.com"));
    bench.expect_begun("connect.example.com");
    let hung = bench.begun.remove("connect.example.com").unwrap();
    let late = bench.start + LOOKUP_TIMEOUT;
    assert_eq!(bench.resolver.next_deadline(), Some(late));
    assert_eq!(bench.results(late), [(id, Err(ResolveError::TimedOut))]);
    assert_eq!(bench.resolver.next_deadline(), None);
    let again = pending(bench.resolver.lookup("connect.example.com", 443, Purpose::Connect, late));
    bench.answer("connect.example.com", Ok(vec![address(7, 0)]));
    assert_eq!(bench.results(late), [(again, Ok(vec![address(7, 443)]))]);
    drop(hung);
}

#[test]
fn lost_thread_counts_until_it_returns() {
    let mut bench = Bench::new();
    let first = pending(bench.upstream("hung.lan"));
    bench.expect_begun("hung.lan");
    let late = bench.start + LOOKUP_TIMEOUT;
    assert_eq!(bench.results(late), [(first, Err(ResolveError::TimedOut))]);
    let second = pending(bench.resolver.lookup("next.lan", 80, Purpose::Upstream, late));
    assert_eq!(bench.results(late), []);
    assert_eq!(bench.begun_names(), ["hung.lan"]);
    bench.answer("hung.lan", Ok(vec![address(1, 0)]));
    assert_eq!(bench.results(late), []);
    bench.answer("next.lan", Ok(vec![address(2, 0)]));
    assert_eq!(bench.results(late), [(second, Ok(vec![address(2, 80)]))]);
    // What came late is as good as any other answer.
    assert_eq!(bench.resolver.lookup("hung.lan", 80, Purpose::Upstream, late), Lookup::Ready(vec![address(1, 80)]));
}

#[test]
fn queued_look_up_is_given_up_at_its_own_deadline() {
    let mut bench = Bench::new();
    pending(bench.upstream("slow.lan"));
    bench.expect_begun("slow.lan");
    let later = bench.start + Duration::from_secs(3);
    let queued = pending(bench.resolver.lookup("next.lan", 80, Purpose::Upstream, later));
    assert_eq!(bench.results(bench.start + LOOKUP_TIMEOUT).len(), 1);
    assert_eq!(bench.results(later + LOOKUP_TIMEOUT), [(queued, Err(ResolveError::TimedOut))]);
}

#[test]
fn queue_of_names_is_bounded_and_the_connect_url_still_gets_in() {
    let mut bench = Bench::new();
    pending(bench.upstream("running.lan"));
    bench.expect_begun("running.lan");
    for index in 0..NAMES_MAX {
        pending(bench.upstream(&format!("n{index}.lan")));
    }
    assert_eq!(bench.upstream("one-more.lan"), Lookup::Refused(ResolveError::QueueFull));
    pending(bench.upstream("n0.lan"));
    pending(bench.connect("connect.example.com"));
    bench.expect_begun("connect.example.com");
}

#[test]
fn waiters_are_bounded_and_cancelling_makes_room() {
    let mut bench = Bench::new();
    let first = pending(bench.upstream("db.lan"));
    for _ in 1..UPSTREAM_WAITERS_MAX {
        pending(bench.upstream("db.lan"));
    }
    assert_eq!(bench.upstream("db.lan"), Lookup::Refused(ResolveError::QueueFull));
    bench.resolver.cancel(first);
    pending(bench.upstream("db.lan"));
    for _ in 0..CONNECT_WAITERS_MAX {
        pending(bench.connect("connect.example.com"));
    }
    assert_eq!(bench.connect("connect.example.com"), Lookup::Refused(ResolveError::QueueFull));
    for name in ["db.lan", "connect.example.com"] {
        bench.answer(name, Ok(vec![address(1, 0)]));
    }
    let results = bench.results(bench.start);
    assert_eq!(results.len(), UPSTREAM_WAITERS_MAX + CONNECT_WAITERS_MAX);
    assert!(results.iter().all(|(id, _)| *id != first));
}

#[test]
fn addresses_of_a_name_are_bounded() {
    let mut bench = Bench::new();
    pending(bench.upstream("many.lan"));
    bench.answer("many.lan", Ok((0..100).map(|last| address(last, 0)).collect()));
    let results = bench.results(bench.start);
    assert_eq!(results[0].1.as_ref().map(Vec::len), Ok(ADDRESSES_MAX));
}

#[test]
fn no_family_is_crowded_out() {
    let mut bench = Bench::new();
    pending(bench.connect("many.example"));
    let six = (0..20).map(|last| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 0)));
    bench.answer("many.example", Ok(six.chain([address(1, 0)]).collect()));
    let results = bench.results(bench.start);
    assert_eq!(results[0].1.as_ref().unwrap()[1], address(1, 443));
}

#[test]
fn one_name_of_the_connect_url_and_of_an_upstream_is_looked_up_apart() {
    let mut bench = Bench::new();
    let upstream = pending(bench.upstream("shared.example.com"));
    bench.answer("shared.example.com", Ok(vec![address(1, 0)]));
    let connect = pending(bench.connect("shared.example.com"));
    bench.answer("shared.example.com", Ok(vec![address(2, 0)]));
    let results = bench.results(bench.start);
    assert_eq!(results, [(upstream, Ok(vec![address(1, 80)])), (connect, Ok(vec![address(2, 443)]))]);
    assert_eq!(bench.upstream("shared.example.com"), Lookup::Ready(vec![address(1, 80)]));
}

#[test]
fn abandoned_look_up_is_not_joined_by_the_next() {
    let mut bench = Bench::new();
    let first = pending(bench.connect("connect.example.com"));
    bench.expect_begun("connect.example.com");
    let hung = bench.begun.remove("connect.example.com").unwrap();
    bench.resolver.abandon(first);
    let second = pending(bench.connect("connect.example.com"));
    bench.answer("connect.example.com", Ok(vec![address(2, 0)]));
    assert_eq!(bench.results(bench.start), [(second, Ok(vec![address(2, 443)]))]);
    // One that was only cancelled is, for it still may find something.
    let third = pending(bench.connect("slow.example.com"));
    bench.resolver.cancel(third);
    let fourth = pending(bench.connect("slow.example.com"));
    bench.answer("slow.example.com", Ok(vec![address(3, 0)]));
    assert!(bench.results(bench.start).contains(&(fourth, Ok(vec![address(3, 443)]))));
    drop(hung);
}
